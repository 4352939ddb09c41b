/* SPDX-License-Identifier: MIT */
/* tier: payloads in memory: the RAM tier and the loads under way.
 *
 * Purpose   keeps recently written and read payload buffers inside the payload budget (CLOCK; gives
 *           way first), and makes concurrent readers of one payload share one disk read
 * Threads   loop
 * Owner     the tier holds one reference on each buffer it keeps; callers take their own
 * Limits    the buffer pool's budget: nothing of its own; TIER_WAITING_MAX loads wait for room
 */
#ifndef SERVER_TIER_H
#define SERVER_TIER_H

#include "store/store.h"

struct tier;
struct tier_wait; /* one waiting reader */

struct tier_stats {
    uint64_t items, bytes, hits, misses, loads, load_bytes, load_errors, waiting;
};

struct tier *tier_new(struct store *store, struct buf_pool *pool);
void tier_free(struct tier *t); /* loads must be finished */

/* A whole payload in memory, or NULL. No reference is taken. */
struct buf *tier_find(struct tier *t, struct payload_id id);
void tier_keep(struct tier *t, struct payload_id id, struct buf *buf);
/* CLOCK gives up one buffer; false = none to give (hook of the pool). */
bool tier_reclaim(struct tier *t);

/* Reads bytes [offset, offset+count) of a slab record. cb exactly once (maybe at once from the
 * tier); first: value offset of buf's payload. The buffer is borrowed during cb. */
typedef void (*tier_cb)(void *ctx, int err, struct buf *buf, uint64_t first);
void tier_load(struct tier *t, struct slice key, const struct record *r, uint64_t offset,
               uint64_t count, tier_cb cb, void *ctx);
void tier_on_space(struct tier *t);    /* loads that waited for memory */
bool tier_waits(const struct tier *t); /* some do; t may be NULL */
bool tier_idle(const struct tier *t);
void tier_get_stats(const struct tier *t, struct tier_stats *out);

#endif
