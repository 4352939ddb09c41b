/* SPDX-License-Identifier: MIT */
/* lmcache: the two keys under which LMCache's redis:// client keeps one chunk.
 *
 * Purpose   X"kv_bytes" is the chunk, X"metadata" its 28 bytes of type and shape. The client writes
 *           them in this order and believes the second: EXISTS X"metadata" alone says that the
 *           chunk is there. So the metadata may never outlive the chunk: eviction, which looks for
 *           large values, takes it along, and a lease on it is one on the chunk too
 * Threads   any
 * Owner     the caller's memory; nothing is kept
 */
#ifndef SERVER_LMCACHE_H
#define SERVER_LMCACHE_H

#include "store/record.h"

struct lmcache_key {
    uint8_t bytes[RECORD_KEY_MAX];
};

/* The other key of a pair, in out; an empty slice when `key` is not of that kind. */
struct slice lmcache_metadata_of(struct slice kv_bytes, struct lmcache_key *out);
struct slice lmcache_kv_bytes_of(struct slice metadata, struct lmcache_key *out);

#endif
