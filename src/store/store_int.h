/* SPDX-License-Identifier: MIT */
/* store_int: struct store, for the files of src/store that share it (store, checkpoint, sweep,
 * evict, backup). Nobody else includes this.
 */
#ifndef STORE_STORE_INT_H
#define STORE_STORE_INT_H

#include "store/store.h"

struct evict;
struct checkpoint;
struct sweep;
struct backup;

struct store {
    struct store_config config; /* fixed after open, limits excepted */
    uint32_t boot;
    uint8_t cluster[16];
    /* parts, owned */
    struct index *index;
    struct volumes *volumes;
    struct stage *stage;
    struct lease *lease;
    struct worker *writer, *readers, *checkpointer, *maint;
    struct checkpoint *checkpoint;
    struct sweep *sweep;
    struct evict *evict;
    struct backup *backup; /* NULL when none runs */
    /* loop state */
    struct table *active, *frozen; /* frozen: NULL unless a checkpoint runs */
    uint64_t applied, term, stamp_ms;
    bool recovered, leading;
    struct store_counts counts;
    struct index_buf get_buf;
};

/* Look-up below the facade: where the record was found. */
int store_lookup(struct store *s, struct slice key, struct slice *value);
/* Compare-and-set of a MOVE: false = the key changed meanwhile, `to` is not referenced. */
bool store_move(struct store *s, struct slice key, uint64_t mod, struct place from,
                struct place to);

/* checkpoint.c */
struct checkpoint *checkpoint_new(struct store *s);
void checkpoint_free(struct checkpoint *c);
bool checkpoint_start(struct store *s, bool clean); /* freezes; false = one runs */
bool checkpoint_due(const struct store *s);
void checkpoint_wait(struct store *s, void (*cb)(void *ctx, int err), void *ctx);
bool checkpoint_is_running(const struct store *s);
uint64_t checkpoint_durable_index(const struct store *s);

/* sweep.c: physical removal of expired keys, up to the applied stamp. Returns µs to the next. */
struct sweep *sweep_new(struct store *s);
void sweep_free(struct sweep *w);
uint64_t sweep_step(struct sweep *w, uint64_t stamp_ms, unsigned budget);
bool sweep_due(struct sweep *w, uint64_t now_ms); /* the earliest deadline has passed */

/* evict.c: keeps live bytes and volumes within their limits. */
struct evict *evict_new(struct store *s);
void evict_free(struct evict *e);
uint64_t evict_step(struct evict *e);
/* A slot or table room is wanted; false = nothing can be evicted. */
bool evict_wanted(struct evict *e);
bool evict_busy(const struct evict *e);

#endif
