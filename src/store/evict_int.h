/* SPDX-License-Identifier: MIT */
/* evict_int: the parts of eviction: mover (one key to another slot), compact (a volume emptied by
 * MOVE), evict_index (inline keys), put together by evict.c. Nobody else includes this.
 */
#ifndef STORE_EVICT_INT_H
#define STORE_EVICT_INT_H

#include "store/chain.h"
#include "store/store_int.h"

#define EVICT_STEP_KEYS 64u /* looked at per step */
#define EVICT_WAIT_US 100000u
#define EVICT_RETRY_US 1000000u

/* The record of a key, 0 or ERR_; damage is not counted: it is not a client who asks. */
int evict_find(struct store *s, struct slice key, struct record *out);
/* An expired key goes as the sweep would take it. */
bool evict_expired(struct store *s, struct slice key, const struct record *r);
/* Through the log; the key is condemned until then. False: the log takes no more for now. */
bool evict_propose(struct store *s, struct slice key, uint64_t mod);
void evict_tell_waiters(struct store *s); /* writes that wait ask again */

/* mover.c: at most MOVER_MAX keys and MOVER_BYTES (or an eighth of the pool, or one key) under way:
 * enough that a write job is full, and the next is read meanwhile. */
#define MOVER_MAX 64
#define MOVER_BYTES (2 * (uint64_t)STAGE_JOB_BYTES)
struct mover;
struct mover *mover_new(struct store *s);
void mover_free(struct mover *m);
/* 0: under way. ERR_AGAIN: as many as may be. ERR_CORRUPT: the payload is not there. */
int mover_start(struct mover *m, struct slice key, const struct record *r);
unsigned mover_active(const struct mover *m);
void mover_step(struct mover *m); /* gives memory back that is no longer needed */

/* compact.c: one volume at a time. */
struct compact;
struct compact *compact_new(struct store *s);
void compact_free(struct compact *c);
bool compact_possible(
    const struct compact *c); /* a volume is worth it and its rest fits elsewhere */
bool compact_start(struct compact *c);
bool compact_running(const struct compact *c);
bool compact_in_flight(const struct compact *c); /* jobs that will call back */
uint64_t compact_step(struct compact *c);        /* µs to the next */

/* evict_index.c */
struct evict_index;
struct evict_index *evict_index_new(struct store *s);
void evict_index_free(struct evict_index *x);
int evict_index_admits(struct evict_index *x, uint64_t bytes); /* as evict_admits_row */
void evict_index_measured(struct evict_index *x);
uint64_t evict_index_step(struct evict_index *x);

#endif
