/* SPDX-License-Identifier: MIT */
/* evict_rig_base: a store that evicts, with a log that the test holds back or lets go.
 *
 * Purpose   proposals are remembered and take effect as the state machine would have them: void
 *           when the key has another mod by then. Each turn of the rig is one millisecond
 * Lifetime  evict_start() … stop()
 */
#ifndef TESTS_UNIT_EVICT_RIG_BASE_H
#define TESTS_UNIT_EVICT_RIG_BASE_H

#include "store_rig.h"

#define KIB ((uint64_t)1 << 10)
#define PENDING_MAX 8192

struct pending {
    char key[64];
    uint64_t mod;
};

static struct {
    enum { LOG_RUNS, LOG_HELD, LOG_DROPS, LOG_FULL } mode;
    struct pending pending[PENDING_MAX];
    size_t count;
    uint64_t proposed, evicted, dropped;
} evict_log;

static inline bool on_propose(void *ctx, struct slice key, uint64_t mod)
{
    struct pending *p = &evict_log.pending[evict_log.count];

    (void)ctx;
    evict_log.proposed++;
    if (evict_log.mode == LOG_DROPS) {
        evict_log.dropped++;
        return true;
    }
    if (evict_log.mode == LOG_FULL)
        return false;
    CHECK_LT_U64(evict_log.count, PENDING_MAX);
    CHECK_LT_U64(key.len, sizeof(p->key));
    memcpy(p->key, key.ptr, key.len);
    p->key[key.len] = '\0';
    p->mod = mod;
    evict_log.count++;
    return true;
}

static inline void apply_evicts(void)
{
    struct record r;

    for (size_t i = 0; i < evict_log.count; i++) {
        const struct pending *p = &evict_log.pending[i];

        if (store_get(node.store, slice_str(p->key), &r) == 0 && r.mod == p->mod) {
            store_del(node.store, slice_str(p->key));
            store_count_evicted(node.store);
            evict_log.evicted++;
        }
        applied();
    }
    evict_log.count = 0;
}

static inline void after_turn(void)
{
    if (evict_log.mode != LOG_HELD)
        apply_evicts();
    advance_ms(1);
}

static inline void evict_start_as(bool leader)
{
    memset(&evict_log, 0, sizeof(evict_log));
    rig_propose_evict = on_propose;
    rig_after_turn = after_turn;
    start();
    store_set_evicting(node.store, leader);
}

static inline void evict_start(void)
{
    evict_start_as(true);
}

static inline void turns(unsigned n)
{
    while (n-- > 0)
        turn();
}

static inline struct volumes_stats volumes(void)
{
    struct volumes_stats v;

    volumes_get_stats(store_volumes(node.store), &v);
    return v;
}

#endif
