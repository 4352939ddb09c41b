/* SPDX-License-Identifier: MIT */
/* store_rig_base: the node, its clock, start and stop; see store_rig.h. */
#ifndef TESTS_UNIT_STORE_RIG_BASE_H
#define TESTS_UNIT_STORE_RIG_BASE_H

#include <inttypes.h>
#include <sys/stat.h>

#include "base/err.h"
#include "store/store_int.h"
#include "test.h"
#include "tmpdir.h"

#define MIB ((uint64_t)1 << 20)
#define VOLUME_SIZE (16 * MIB)

static unsigned rig_threads; /* 0: stepped */
static uint64_t rig_max_store = 64 * MIB, rig_volume_size = VOLUME_SIZE;
static bool (*rig_propose_evict)(void *ctx, struct slice key, uint64_t mod);
static void (*rig_after_turn)(void); /* what else a loop turn does */
static const struct io_ops *rig_io = &io_system;

static struct {
    const char *dir;
    struct inbox *inbox;
    struct clock clock;
    struct buf_pool *pool;
    struct store *store;
    struct index_state state; /* as store_open found it */
    uint64_t wall_ms, mono_us;
    uint64_t index; /* last applied */
    char detail[INDEX_DETAIL_MAX];
} node;

static inline uint64_t wall_ms(void *ctx)
{
    (void)ctx;
    return node.wall_ms;
}

static inline uint64_t mono_us(void *ctx)
{
    (void)ctx;
    return node.mono_us;
}

static inline void advance_ms(uint64_t ms)
{
    node.wall_ms += ms;
    node.mono_us += ms * 1000;
    clock_update(&node.clock);
}

static inline int try_open(void)
{
    struct store_config c = {
        .dir = node.dir,
        .node = 1,
        .uuid = "fixed store uuid",
        .io = rig_io,
        .inbox = node.inbox,
        .clock = &node.clock,
        .pool = node.pool,
        .max_store_bytes = rig_max_store,
        .max_index_bytes = 64 * MIB,
        .volume_size = rig_volume_size,
        .read_threads = 1,
        .stepped = rig_threads == 0,
        .propose_evict = rig_propose_evict,
    };

    return store_open(&c, &node.store, &node.state, node.detail);
}

/* Until the workers have nothing to do; with threads until nothing was heard for 20 ms. */
static inline void run(void)
{
    bool more;

    do {
        more = rig_threads == 0 ? store_step_workers(node.store) : inbox_wait(node.inbox, 20);
        more |= inbox_drain(node.inbox, 64) > 0;
    } while (more);
}

static inline void reopen(void)
{
    uint64_t max_applied = 0;

    CHECK_EQ_INT(try_open(), 0);
    node.index = node.state.applied;
    CHECK_EQ_INT(store_recover(node.store, &max_applied, node.detail), 0);
    run();
}

static inline void start_in(const char *dir)
{
    node.dir = dir;
    node.wall_ms = 1700000000000;
    node.mono_us = 1000;
    node.index = 0;
    node.inbox = inbox_new();
    node.pool = buf_pool_new(64 * MIB);
    clock_init(&node.clock, (struct clock_source){wall_ms, mono_us, NULL}, 0);
    reopen();
}

static inline void start(void)
{
    start_in(tmpdir());
}

static inline void stop(void)
{
    store_check(node.store);
    store_close(node.store, true);
    buf_pool_free(node.pool);
    inbox_free(node.inbox);
}

static inline void turn(void)
{
    store_step(node.store);
    run();
    if (rig_after_turn != NULL)
        rig_after_turn();
}

static inline void applied(void)
{
    node.index++;
    store_applied(node.store, node.index, 1, node.wall_ms);
}

#endif
