/* SPDX-License-Identifier: MIT */
/* The pair of keys of one chunk: each names the other, and nothing else is taken for one. */
#include "server/lmcache.h"

#include "test.h"

static struct lmcache_key mem;

static const char *text(struct slice s)
{
    static char shown[RECORD_KEY_MAX + 1];

    if (s.len > 0)
        memcpy(shown, s.ptr, s.len);
    shown[s.len] = '\0';
    return shown;
}

TEST(each_key_names_the_other)
{
    CHECK_EQ_STR(text(lmcache_metadata_of(slice_str("m@1@0@-5@bfloat16kv_bytes"), &mem)),
                 "m@1@0@-5@bfloat16metadata");
    CHECK_EQ_STR(text(lmcache_kv_bytes_of(slice_str("m@1@0@-5@bfloat16metadata"), &mem)),
                 "m@1@0@-5@bfloat16kv_bytes");
}

TEST(other_keys_have_none)
{
    static const char *const names[] = {"", "a", "kv_bytes", "metadata", "a-kv_byte", "akv_bytesb"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        CHECK_EQ_INT(lmcache_metadata_of(slice_str(names[i]), &mem).len, 0);
        CHECK_EQ_INT(lmcache_kv_bytes_of(slice_str(names[i]), &mem).len, 0);
    }
    CHECK_EQ_INT(lmcache_metadata_of(slice_str("ametadata"), &mem).len, 0);
    CHECK_EQ_INT(lmcache_kv_bytes_of(slice_str("akv_bytes"), &mem).len, 0);
}

TEST(the_longest_key)
{
    char key[RECORD_KEY_MAX + 1];
    struct slice other;

    memset(key, 'x', sizeof(key));
    memcpy(key + RECORD_KEY_MAX - 8, "kv_bytes", 8);
    other = lmcache_metadata_of(slice_of(key, RECORD_KEY_MAX), &mem);
    CHECK_EQ_INT(other.len, RECORD_KEY_MAX);
    CHECK_EQ_INT(memcmp(other.ptr, key, RECORD_KEY_MAX - 8), 0);
    CHECK_EQ_INT(memcmp(other.ptr + RECORD_KEY_MAX - 8, "metadata", 8), 0);
    memcpy(key + RECORD_KEY_MAX + 1 - 8, "kv_bytes", 8);
    CHECK_EQ_INT(lmcache_metadata_of(slice_of(key, RECORD_KEY_MAX + 1), &mem).len, 0);
}

TEST_MAIN
