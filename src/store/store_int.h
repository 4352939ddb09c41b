/* SPDX-License-Identifier: MIT */
/* store_int: struct store, for the files of src/store that share it (store, checkpoint, scan,
 * sweep, audit, backup, and eviction by evict_int.h). Nobody else includes this.
 */
#ifndef STORE_STORE_INT_H
#define STORE_STORE_INT_H

#include "store/store.h"

#define STORE_DISK_RESERVE (((uint64_t)64 << 20) + 2 * ((uint64_t)16 << 20)) /* + 2 log segments */

struct evict;
struct checkpoint;
struct sweep;
struct scan;
struct audit;
struct backup;
struct presence;

struct store {
    struct store_config config; /* fixed after open, limits excepted */
    uint32_t boot;
    uint8_t cluster[16];
    /* parts, owned */
    struct index *index;
    struct volumes *volumes;
    struct stage *stage;
    struct lease *lease;
    struct presence *presence;
    struct worker *writer, *readers, *checkpointer, *maint;
    struct checkpoint *checkpoint;
    struct sweep *sweep;
    struct evict *evict;
    struct scan *scan;
    struct audit *audit;   /* NULL when none runs */
    struct backup *backup; /* NULL when none runs */
    /* loop state */
    struct table *active, *frozen; /* frozen: NULL unless a checkpoint runs */
    uint64_t applied, term, stamp_ms;
    bool recovered, leading, closing;
    bool inexact; /* INDEX_INEXACT */
    struct store_counts counts;
    struct index_buf get_buf;
    struct index_buf old_buf; /* the record that a put or del replaces */
    uint8_t *scratch;         /* encoding: the new record may borrow from the old one */
    size_t scratch_size;
    uint64_t row_bytes;         /* of all rows; what was there at start is estimated */
    uint64_t indexed_row_bytes; /* row_bytes when index_stats were taken */
    uint64_t active_rows;       /* index rows the active table changes, expiry rows too */
    uint64_t active_expire_ms;  /* no deadline in it is earlier; UINT64_MAX: there is none */
    uint64_t frozen_expire_ms;
    uint64_t changed_us;            /* first change since the last freeze; 0 = none */
    struct index_stats index_stats; /* after the last checkpoint */
    uint64_t disk_free, disk_asked_us;
    uint32_t volumes_target;
};

/* Look-up below the facade: where the record was found. */
int store_lookup(struct store *s, struct slice key, struct slice *value);
/* Compare-and-set of a MOVE: false = the key changed meanwhile, `to` is not referenced. */
bool store_move(struct store *s, struct slice key, uint64_t mod, struct place from,
                struct place to);

/* Bytes of live slots this store may hold: max-store-bytes, and what its volumes leave when one is
 * open, one is filled by MOVE and one is free. */
uint64_t store_live_limit(const struct store *s);
uint64_t store_now_us(const struct store *s); /* monotonic */
void store_changed(struct store *s);          /* a checkpoint has something to write */
bool store_table_full(const struct store *s); /* the active one has reached its limits */
uint64_t store_row_bytes(struct slice key, const struct record *r); /* that it takes in the index */
bool store_expires_by(const struct store *s, uint64_t stamp_ms);    /* a key that is in a table */

/* checkpoint.c */
struct checkpoint *checkpoint_new(struct store *s, uint64_t durable_index);
void checkpoint_free(struct checkpoint *c);
bool checkpoint_start(struct store *s, bool clean); /* freezes; false = one runs */
bool checkpoint_due(const struct store *s);
uint64_t checkpoint_step(struct store *s);         /* starts what is due; µs to the next look */
bool checkpoint_is_failing(const struct store *s); /* waits for disk space */
void checkpoint_wait(struct store *s, void (*cb)(void *ctx, int err), void *ctx);
bool checkpoint_is_running(const struct store *s);
uint64_t checkpoint_durable_index(const struct store *s);

/* sweep.c: physical removal of expired keys, up to the applied stamp. Returns µs to the next. */
struct sweep *sweep_new(struct store *s);
void sweep_free(struct sweep *w);
uint64_t sweep_step(struct sweep *w, uint64_t stamp_ms, unsigned budget);
bool sweep_due(struct sweep *w, uint64_t now_ms); /* a deadline is behind now, not yet swept */
void sweep_restart(struct sweep *w);              /* the index has a new snapshot */
/* Rows that were due at stamp_ms have still to be looked at. */
bool sweep_is_behind(const struct sweep *w, uint64_t stamp_ms);
/* Expiry rows that no record agrees with, for the next checkpoint to drop. */
struct stale_row {
    uint64_t expire_ms;
    uint16_t key_len;
    uint8_t key[RECORD_KEY_MAX];
};
size_t sweep_take_stale(struct sweep *w, struct stale_row **rows); /* malloc */

/* scan.c: sorted views of the tables, made when a scan needs them. */
struct scan *scan_new(struct store *s);
void scan_free(struct scan *c);
void scan_table_frozen(struct scan *c); /* the active table's view goes with it */
void scan_table_freed(struct scan *c);

/* audit.c: the walk over the index after an unclean stop. */
void audit_start(struct store *s);
void audit_cancel(struct store *s); /* at close: ends soon */

/* backup.c */
void backup_step(struct store *s);   /* before a checkpoint may start: pins what it will need */
void backup_cancel(struct store *s); /* at close: ends soon, with ERR_CANCELED */

/* evict.c: keeps live bytes and volumes within their limits. */
struct evict *evict_new(struct store *s);
void evict_free(struct evict *e);
uint64_t evict_step(struct evict *e);
/* Room is wanted: for so many live bytes, for a slot. False: it cannot be made for now. */
bool evict_want_live(struct evict *e, uint64_t bytes);
bool evict_want_slot(struct evict *e);
/* Room in index.mdb. 0; ERR_AGAIN: it is being made; ERR_FULL; ERR_NOTFOUND: what is in the tables
 * may come near the limit, nobody knows before it is in the index. */
int evict_admits_row(struct evict *e, uint64_t bytes);
void evict_measured(struct evict *e); /* index_stats or the limit are new */
bool evict_busy(const struct evict *e);

#endif
