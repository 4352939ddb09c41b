/* SPDX-License-Identifier: MIT */
/* fsm_rig_base: struct rig and what the store calls back; see fsm_rig.h. */
#ifndef TESTS_UNIT_FSM_RIG_BASE_H
#define TESTS_UNIT_FSM_RIG_BASE_H

#include <limits.h>

#include "base/logger.h"
#include "fsm/fsm.h"
#include "test.h"
#include "tmpdir.h"

enum { RIG_RESULTS_MAX = 512, RIG_LOG_MAX = 16384, RIG_TERM = 3 };
#define RIG_START_MS 1700000000000u /* the first stamp */

struct rig_entry {
    uint64_t index;
    size_t len;
    uint8_t *bytes;
};

struct rig {
    char dir[PATH_MAX];
    uint32_t node;
    struct store *store;
    struct fsm fsm;
    struct inbox *inbox;
    struct clock clock;
    struct buf_pool *pool;
    uint64_t wall_ms, index, stamp_ms; /* index: of the last entry; stamp_ms: of the next */
    bool recovered;
    struct entry_writer w;
    struct rig_entry *log;
    size_t entries;
    /* of the last entry */
    struct fsm_result res[RIG_RESULTS_MAX];
    uint32_t nres, nbefore;
    char story[8 * RIG_RESULTS_MAX]; /* "b0 r0 r1 …": the order of the calls */
    void *copies[3 * RIG_RESULTS_MAX];
    size_t ncopies;
    void (*before)(struct rig *r, uint32_t op); /* may be NULL */
    unsigned changes, flushes;
    char changed[256]; /* keys of on_change, each followed by a space */
};

static inline uint64_t wall_ms(void *ctx)
{
    return ((struct rig *)ctx)->wall_ms;
}

static inline uint64_t mono_us(void *ctx)
{
    return ((struct rig *)ctx)->wall_ms * 1000;
}

static inline bool on_evict(void *ctx, struct slice key, uint64_t mod)
{
    (void)ctx, (void)key, (void)mod;
    return true;
}

static inline void on_space(void *ctx)
{
    (void)ctx;
}

static inline void tags(void *ctx, uint64_t *term, uint64_t *applied)
{
    *term = RIG_TERM;
    *applied = ((struct rig *)ctx)->index;
}

static inline void on_change(void *ctx, struct slice key)
{
    struct rig *r = ctx;
    size_t have = strlen(r->changed);

    r->changes++;
    r->flushes += key.len == 0;
    if (have + key.len + 2 <= sizeof(r->changed)) {
        if (key.len > 0)
            memcpy(r->changed + have, key.ptr, key.len);
        strcpy(r->changed + have + key.len, " ");
    }
}

#endif
