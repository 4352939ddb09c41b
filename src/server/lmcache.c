/* SPDX-License-Identifier: MIT */
/* The two endings have one length, so a key becomes the other by overwriting its end. A key of
 * somebody else that happens to end like this is treated alike: where its sibling is missing,
 * nothing happens; where both are there, they are evicted and leased together.
 */
#include "server/lmcache.h"

#include <string.h>

#define ENDING_LEN 8u

static const char kv_bytes[ENDING_LEN + 1] = "kv_bytes";
static const char metadata[ENDING_LEN + 1] = "metadata";

static struct slice exchange(struct slice key, const char *from, const char *to,
                             struct lmcache_key *out)
{
    size_t stem;

    if (key.len <= ENDING_LEN || key.len > sizeof(out->bytes))
        return slice_of(NULL, 0);
    stem = key.len - ENDING_LEN;
    if (memcmp(key.ptr + stem, from, ENDING_LEN) != 0)
        return slice_of(NULL, 0);
    memcpy(out->bytes, key.ptr, stem);
    memcpy(out->bytes + stem, to, ENDING_LEN);
    return slice_of(out->bytes, key.len);
}

struct slice lmcache_metadata_of(struct slice key, struct lmcache_key *out)
{
    return exchange(key, kv_bytes, metadata, out);
}

struct slice lmcache_kv_bytes_of(struct slice key, struct lmcache_key *out)
{
    return exchange(key, metadata, kv_bytes, out);
}
