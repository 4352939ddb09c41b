/* SPDX-License-Identifier: MIT */
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/words.h"
#include "test.h"

#include <errno.h>
#include <limits.h>

/* Values of the frozen XXH3 format: files written today must verify for ever. */
TEST(xxh3_known_values)
{
    uint8_t data[1000];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    CHECK_EQ_HEX(hash64("", 0), 0x2d06800538d394c2u);
    CHECK_EQ_HEX(hash64("abc", 3), 0x78af5f94892f3950u);
    CHECK_EQ_HEX(hash64_seed("abc", 3, 7), 0x48ff56f569e39912u);
    CHECK_EQ_HEX(hash64(data, 200), 0xf42a8864feaf0703u);
    CHECK_EQ_HEX(hash64(data, 1000), 0xd33dd80b46f60e50u);
    CHECK_EQ_HEX(hash64("", 0), hash64(NULL, 0));
    CHECK_EQ_HEX(hash64_seed("", 0, 0), hash64("", 0));
}

/* Every path of XXH3 (to 16, 128, 240 bytes, beyond) on its own, and any alignment. */
TEST(hashes_tell_lengths_bytes_and_seeds_apart)
{
    static uint8_t data[5000], moved[5008];
    static const size_t lens[] = {1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 4999};

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31 + i / 256);
    for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
        size_t len = lens[l];
        uint64_t h = hash64(data, len);

        CHECK_NE_U64(h, hash64(data, len - 1));
        CHECK_NE_U64(h, hash64_seed(data, len, 1));
        CHECK_EQ_HEX(h, hash64_seed(data, len, 0));
        for (size_t shift = 0; shift < 8; shift++) {
            memcpy(moved + shift, data, len);
            CHECK_EQ_HEX(hash64(moved + shift, len), h);
        }
        data[len / 2] ^= 0x10;
        CHECK_NE_U64(h, hash64(data, len));
        data[len / 2] ^= 0x10;
    }
}

TEST(pairs_bind_both_parts)
{
    uint64_t h = hash64_pair(slice_str("key"), slice_str("value"));

    CHECK_EQ_HEX(h, hash64_pair(slice_str("key"), slice_str("value")));
    CHECK_EQ_HEX(h, hash64_seed("value", 5, hash64("key", 3)));
    CHECK_NE_U64(h, hash64_pair(slice_str("keyv"), slice_str("alue")));
    CHECK_NE_U64(h, hash64_pair(slice_str("value"), slice_str("key")));
    CHECK_NE_U64(h, hash64_pair(slice_str("kez"), slice_str("value")));
    CHECK_NE_U64(hash64_pair(slice_str(""), slice_str("a")),
                 hash64_pair(slice_str("a"), slice_str("")));
}

TEST(random_bytes)
{
    uint8_t a[256] = {0}, b[256] = {0};
    unsigned seen = 0;
    bool found[256] = {false};

    hash_random(a, sizeof(a));
    hash_random(b, sizeof(b));
    CHECK(memcmp(a, b, sizeof(a)) != 0);
    for (int i = 0; i < 256; i++) {
        seen += !found[a[i]];
        found[a[i]] = true;
    }
    CHECK_GT_INT(seen, 100);
    hash_random(a, 0);
}

TEST(little_endian_fields)
{
    uint8_t b[16];

    memset(b, 0xee, sizeof(b));
    codec_put16(b + 1, 0x0102);
    CHECK_EQ_LIT(b, 4, "\xee\x02\x01\xee");
    codec_put32(b + 1, 0x01020304);
    CHECK_EQ_LIT(b, 6, "\xee\x04\x03\x02\x01\xee");
    codec_put64(b + 1, 0x0102030405060708);
    CHECK_EQ_LIT(b, 10, "\xee\x08\x07\x06\x05\x04\x03\x02\x01\xee");
    CHECK_EQ_HEX(codec_get64(b + 1), 0x0102030405060708);
    CHECK_EQ_HEX(codec_get32(b + 1), 0x05060708);
    CHECK_EQ_HEX(codec_get16(b + 1), 0x0708);
}

TEST(big_endian_fields_sort_as_numbers)
{
    static const uint64_t values[] = {0,        1,          255,        256,       65535,
                                      1u << 31, UINT32_MAX, 1ull << 40, UINT64_MAX};
    uint8_t a[9], b[9];

    codec_put32be(a + 1, 0x01020304);
    CHECK_EQ_LIT(a + 1, 4, "\x01\x02\x03\x04");
    CHECK_EQ_HEX(codec_get32be(a + 1), 0x01020304);
    for (size_t i = 1; i < sizeof(values) / sizeof(values[0]); i++) {
        codec_put64be(a + 1, values[i - 1]);
        codec_put64be(b + 1, values[i]);
        CHECK_LT_INT(slice_cmp(slice_of(a + 1, 8), slice_of(b + 1, 8)), 0);
        CHECK_EQ_HEX(codec_get64be(b + 1), values[i]);
    }
}

TEST(slices)
{
    struct slice nothing = slice_of(NULL, 0), a = slice_str("a"), ab = slice_str("ab");

    CHECK(slice_eq(nothing, slice_str("")));
    CHECK(!slice_eq(a, ab));
    CHECK(slice_eq(a, slice_of("ab", 1)));
    CHECK_EQ_INT(slice_cmp(nothing, nothing), 0);
    CHECK_LT_INT(slice_cmp(nothing, a), 0);
    CHECK_LT_INT(slice_cmp(a, ab), 0);
    CHECK_GT_INT(slice_cmp(slice_str("\xff"), ab), 0); /* unsigned */
    CHECK_EQ_INT(slice_cmp(ab, slice_str("ab")), 0);
    CHECK(slice_has_prefix(ab, a) && slice_has_prefix(ab, ab) && slice_has_prefix(ab, nothing));
    CHECK(slice_has_prefix(nothing, nothing));
    CHECK(!slice_has_prefix(a, ab) && !slice_has_prefix(ab, slice_str("b")));
}

TEST(error_table)
{
    for (int err = 0; err > -ERR_COUNT_; err--) {
        CHECK(err_text(err)[0] != '\0');
        CHECK(err_resp(err)[0] != '\0' && strchr(err_resp(err), ' ') == NULL);
    }
    CHECK_EQ_INT(ERR_NOMEM, -1);
    CHECK_EQ_STR(err_resp(ERR_NOSPC), "MISCONF");
    CHECK_EQ_STR(err_text(0), "success");
    /* What is no code gets a text too. */
    CHECK_EQ_STR(err_text(-ERR_COUNT_), err_text(ERR_INVAL));
    CHECK_EQ_STR(err_text(5), err_text(ERR_INVAL));
    CHECK_EQ_STR(err_text(INT_MIN), err_text(ERR_INVAL));
    CHECK_EQ_STR(err_text(INT_MAX), err_text(ERR_INVAL));
}

TEST(errors_of_the_system)
{
    CHECK_EQ_INT(err_from_errno(0), 0);
    CHECK_EQ_INT(err_from_errno(ENOSPC), ERR_NOSPC);
    CHECK_EQ_INT(err_from_errno(ENOMEM), ERR_NOMEM);
    CHECK_EQ_INT(err_from_errno(EROFS), ERR_ACCESS);
    CHECK_EQ_INT(err_from_errno(ENOENT), ERR_NOTFOUND);
    CHECK_EQ_INT(err_from_errno(EIO), ERR_IO);
    CHECK_EQ_INT(err_from_errno(12345), ERR_IO);
}

/* More of the quoting is tested through inline commands, with the texts of Redis. */
TEST(words_of_a_line)
{
    char line[] = " save  '' \"a\\x20b\"\tlast";
    struct slice rest = slice_str(line);
    uint8_t *out = (uint8_t *)line; /* in place */
    size_t len;

    CHECK_EQ_INT(words_next(&rest, out, &len), WORDS_ONE);
    CHECK_EQ_LIT(out, len, "save");
    CHECK_EQ_INT(words_next(&rest, out, &len), WORDS_ONE);
    CHECK_EQ_U64(len, 0);
    CHECK_EQ_INT(words_next(&rest, out, &len), WORDS_ONE);
    CHECK_EQ_LIT(out, len, "a b");
    CHECK_EQ_INT(words_next(&rest, out, &len), WORDS_ONE);
    CHECK_EQ_LIT(out, len, "last");
    CHECK_EQ_INT(words_next(&rest, out, &len), WORDS_END);
    CHECK_EQ_INT(words_next(&rest, out, &len), WORDS_END);
    rest = slice_str("a \"b");
    CHECK_EQ_INT(words_next(&rest, out, &len), WORDS_ONE);
    CHECK_EQ_INT(words_next(&rest, out, &len), WORDS_UNBALANCED);
}

TEST_MAIN
