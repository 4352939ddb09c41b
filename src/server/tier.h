/* SPDX-License-Identifier: MIT */
/* tier: payloads in memory: the RAM tier and the whole-value loads under way.
 *
 * Purpose   keeps recently written and read payload buffers inside the payload budget (CLOCK; gives
 *           way first), and makes concurrent readers of one payload share one disk read. What is
 *           too large to be worth that is a stream (stream.h)
 * Threads   loop
 * Owner     the tier holds one reference on each buffer it keeps; callers take their own
 * Errors    tier_load: ERR_AGAIN no room now, ERR_CORRUPT the volume is gone, ERR_NOMEM: no cb
 * Limits    the buffer pool's budget: nothing of its own
 */
#ifndef SERVER_TIER_H
#define SERVER_TIER_H

#include "store/store.h"

struct tier;

struct tier_stats {
    uint64_t items, bytes, hits, misses, loads, load_bytes, load_errors;
};

struct tier *tier_new(struct store *store, struct buf_pool *pool);
void tier_free(struct tier *t); /* loads must be finished */

/* A whole payload in memory, or NULL. No reference is taken. */
struct buf *tier_find(struct tier *t, struct payload_id id);
void tier_keep(struct tier *t, struct payload_id id, struct buf *buf);
/* CLOCK gives up one buffer; false = none to give (hook of the pool). */
bool tier_reclaim(struct tier *t);

/* Reads the payload of a slab record whole; what was read is kept. 0: cb exactly once, in a later
 * turn; the buffer is borrowed during cb. A load of the same payload under way is joined. */
typedef void (*tier_cb)(void *ctx, int err, struct buf *buf);
int tier_load(struct tier *t, struct slice key, const struct record *r, tier_cb cb, void *ctx);
size_t tier_loading(const struct tier *t); /* bytes of the budget in loads under way */
bool tier_idle(const struct tier *t);
void tier_get_stats(const struct tier *t, struct tier_stats *out);

#endif
