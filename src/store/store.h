/* SPDX-License-Identifier: MIT */
/* store: one node's keys: memory tables over index.mdb over volumes.
 *
 * Purpose   what the state machine applies to and what reads look into. Puts together table,
 *           index, checkpoint, volumes, stage, sweep, evict
 * Threads   loop; workers run the jobs it submits
 * Lifetime  a record from store_get borrows memory that is valid until the next store_ call; that
 *           call may itself be a store_put of the record, under this or another key
 * Order     store_put/del/flush are called while an entry is applied, then store_applied(); a
 *           checkpoint covers whole entries
 * Errors    apply cannot fail: it writes memory. What comes from disk: ERR_CORRUPT is a counted
 *           miss; ERR_IO of a checkpoint is a PANIC (the log has everything)
 * Limits    two tables of TABLE_BYTES_MAX, beyond it what one group brings: store_may_apply() says
 *           when groups must wait, store_may_add() when writes that add must
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/clock.h"
#include "store/index.h"
#include "store/lease.h"
#include "store/payload.h"
#include "store/stage.h"
#include "store/table.h"

struct store;

struct store_config {
    const char *dir;
    uint32_t node;
    uint8_t uuid[16];
    const struct io_ops *io;
    struct inbox *inbox;
    struct clock *clock;
    struct buf_pool *pool;
    uint64_t max_store_bytes, max_index_bytes, volume_size;
    unsigned read_threads;
    bool stepped; /* workers with 0 threads: tests run them with store_step_workers() */
    /* Upward: eviction wants this key gone if its mod is still `mod` (through the log). False: not
     * now. */
    bool (*propose_evict)(void *ctx, struct slice key, uint64_t mod);
    void (*on_space)(void *ctx); /* writes that waited may try again */
    void (*tags)(void *ctx, uint64_t *term, uint64_t *applied);
    void *ctx;
};

struct store_counts {
    uint64_t keys, bytes; /* logical: keys present (expired and not yet swept included) */
    uint64_t expires;
    uint64_t expired, evicted, moved, moved_bytes, corrupt; /* since start */
    uint64_t checkpoints, checkpoint_failures, checkpoint_last_us, last_checkpoint_ms;
    uint64_t table_keys, table_bytes;
};

/* 1. store_open: index, boot + 1 durable, volumes. state: where the log must go on.
 * 2. the log replays: store_put/del…, store_applied for indexes above state.applied
 * 3. store_recover: cursors; sweep and eviction may run from here on. */
int store_open(const struct store_config *c, struct store **out, struct index_state *state,
               char *detail);
int store_recover(struct store *s, uint64_t *max_applied, char *detail);
/* Before the last turns without store_step: no payload waits for room or is moved any more. */
void store_stop(struct store *s);
/* Final checkpoint with the clean flag (waits, draining the inbox), workers joined. */
void store_close(struct store *s, bool clean);

/* How many volume files a store of these limits comes to have, a descriptor each. */
uint32_t store_volumes_wanted(uint64_t max_store_bytes, uint64_t volume_size);

uint32_t store_boot(const struct store *s);

/* --- state machine side ------------------------------------------------------------------- */
/* 0, ERR_NOTFOUND, ERR_CORRUPT (counted, logged; treat as absent). Expired keys are found: the
 * caller compares with its stamp. */
int store_get(struct store *s, struct slice key, struct record *out);
size_t store_record_size(struct store *s, struct slice key); /* encoded; 0: absent */
void store_put(struct store *s, struct slice key, const struct record *r);
void store_del(struct store *s, struct slice key); /* absent keys are fine */
void store_flush(struct store *s);
void store_applied(struct store *s, uint64_t index, uint64_t term, uint64_t stamp_ms);
uint64_t store_applied_index(const struct store *s);
uint64_t store_applied_stamp(const struct store *s);
void store_set_cluster(struct store *s, const uint8_t cluster[16]);
void store_get_cluster(const struct store *s, uint8_t cluster[16]);
void store_count_evicted(struct store *s); /* an EVICT took effect */

/* --- admission ---------------------------------------------------------------------------- */
/* May a write that adds `bytes` (slab_bytes: of slot space) be proposed now? 0; ERR_AGAIN: wait
 * for on_space (table full, eviction or format running); ERR_FULL, ERR_NOSPC: refuse. */
int store_may_add(struct store *s, uint64_t inline_bytes, uint64_t slab_bytes);
/* Memory in the table for that many records with so many bytes of keys, values and metadata: 0, or
 * ERR_NOMEM. */
int store_reserve(struct store *s, size_t records, size_t bytes);
/* One that deletes or changes what is there: 0, or ERR_NOSPC when the checkpoint finds no space and
 * the tables have used up their reserve. */
int store_may_change(struct store *s);
/* May a group be applied: 0; ERR_AGAIN: the table is full and waits for a checkpoint (on_space). */
int store_may_apply(struct store *s);

/* --- reading ------------------------------------------------------------------------------ */
/* Keys present in order, tables merged over the index; cb false = stop. Slices die after cb. */
typedef bool (*store_scan_cb)(void *ctx, struct slice key, const struct record *r);
int store_scan(struct store *s, struct slice from, bool after, store_scan_cb cb, void *ctx);
/* Some present key, roughly uniform; 0 or ERR_NOTFOUND. out: RECORD_KEY_MAX bytes. */
int store_random_key(struct store *s, uint64_t now_ms, uint8_t *out, size_t *len);
int store_read(struct store *s, struct payload_read *r); /* payload_read with our volumes */
void store_hit(struct store *s, const struct record *r); /* spares it from the next eviction */
/* For who asks only whether many keys are there: store_ahead fetches what store_present of this key
 * will look at, a few keys later. Its result is the key's hash, for lease_take_hash, too. A key
 * that is there counts as hit. */
uint64_t store_ahead(struct store *s, struct slice key);
bool store_present(struct store *s, struct slice key, uint64_t hash, uint64_t now_ms);
void store_corrupt(struct store *s, struct slice key); /* a payload failed its digest: count */

/* --- parts --------------------------------------------------------------------------------- */
struct stage *store_stage(struct store *s);
struct lease *store_lease(struct store *s);
struct volumes *store_volumes(struct store *s);
struct index *store_index(struct store *s);
const struct store_config *store_config(const struct store *s);

/* --- background ---------------------------------------------------------------------------- */
/* Once per loop turn and on a timer: renews the read snapshot, pumps stage, starts checkpoints,
 * sweeps up to the applied stamp, evicts. Returns µs until it wants to run again (0 = at once). */
uint64_t store_step(struct store *s);
/* A checkpoint that covers everything applied now; cb (may be NULL) when durable or failed. */
void store_checkpoint(struct store *s, void (*cb)(void *ctx, int err), void *ctx);
bool store_checkpoint_running(const struct store *s);
bool store_checkpoint_failing(const struct store *s); /* no space; tried again every second */
uint64_t store_durable_index(const struct store *s);  /* applied index of the last checkpoint */
bool store_tick_due(struct store *s,
                    uint64_t now_ms); /* a key is due: an idle leader logs a TICK */
void store_set_evicting(struct store *s, bool leader); /* only the leader proposes EVICT */
void store_set_limits(struct store *s, uint64_t max_store, uint64_t max_index);

/* BACKUP into an empty or absent directory under load; cb on the loop. ERR_AGAIN: one runs. */
int store_backup(struct store *s, const char *dir,
                 void (*cb)(void *ctx, int err, const char *detail), void *ctx);
bool store_backup_progress(const struct store *s, uint64_t *done, uint64_t *total);

void store_get_counts(const struct store *s, struct store_counts *out);
void store_get_index_stats(const struct store *s, struct index_stats *out); /* last checkpoint's */
bool store_step_workers(struct store *s); /* stepped only: runs one job of any worker */
void store_check(struct store *s);        /* invariants; tests */

#endif
