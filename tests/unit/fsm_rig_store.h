/* SPDX-License-Identifier: MIT */
/* fsm_rig_store: the life of the store in a struct rig; see fsm_rig.h. */
#ifndef TESTS_UNIT_FSM_RIG_STORE_H
#define TESTS_UNIT_FSM_RIG_STORE_H

#include "fsm_rig_base.h"

static inline void open_store(struct rig *r)
{
    struct store_config c = {.dir = r->dir,
                             .node = r->node,
                             .io = &io_system,
                             .inbox = r->inbox,
                             .clock = &r->clock,
                             .pool = r->pool,
                             .max_store_bytes = 8 * ((uint64_t)16 << 20),
                             .max_index_bytes = (uint64_t)1 << 30,
                             .volume_size = (uint64_t)16 << 20,
                             .read_threads = 1,
                             .stepped = true,
                             .propose_evict = on_evict,
                             .on_space = on_space,
                             .tags = tags,
                             .ctx = r};
    struct index_state state = {0};
    char detail[512] = "";

    memset(c.uuid, (int)r->node, sizeof(c.uuid));
    if (store_open(&c, &r->store, &state, detail) != 0) {
        fprintf(stderr, "# store_open: %s\n", detail);
        CHECK(!"store_open");
    }
    r->index = state.applied;
}

/* Once, when the log is replayed. */
static inline void recover(struct rig *r)
{
    char detail[512] = "";
    uint64_t max_applied;

    if (r->recovered)
        return;
    r->recovered = true;
    CHECK_EQ_INT(store_recover(r->store, &max_applied, detail), 0);
    CHECK_LE_U64(max_applied, r->index);
}

/* dir NULL: a fresh folder. rig_replay may follow; the first rig_commit, rig_stage or rig_settle
 * ends the replay (store_recover). */
static inline struct rig *rig_open(const char *dir, uint32_t node)
{
    struct rig *r = calloc(1, sizeof(*r));

    CHECK(r != NULL);
    logger_set_level(LOGGER_WARNING);
    r->log = calloc(RIG_LOG_MAX, sizeof(*r->log));
    CHECK(r->log != NULL);
    snprintf(r->dir, sizeof(r->dir), "%s", dir != NULL ? dir : tmpdir());
    r->node = node;
    r->wall_ms = r->stamp_ms = RIG_START_MS;
    r->inbox = inbox_new();
    r->pool = buf_pool_new((size_t)32 << 20);
    clock_init(&r->clock, (struct clock_source){wall_ms, mono_us, r}, 0);
    open_store(r);
    r->fsm = (struct fsm){.store = r->store, .node = node, .on_change = on_change, .ctx = r};
    entry_begin(&r->w);
    return r;
}

static inline void drop_copies(struct rig *r)
{
    while (r->ncopies > 0)
        free(r->copies[--r->ncopies]);
}

static inline void rig_close(struct rig *r, bool clean)
{
    store_check(r->store);
    store_close(r->store, clean);
    drop_copies(r);
    for (size_t i = 0; i < r->entries; i++)
        free(r->log[i].bytes);
    free(r->log);
    entry_fini(&r->w);
    inbox_free(r->inbox);
    buf_pool_free(r->pool);
    free(r);
}

/* Until nothing is left to do for store and workers. */
static inline void rig_settle(struct rig *r)
{
    recover(r);
    for (bool more = true; more;) {
        store_step(r->store);
        more = store_step_workers(r->store);
        more = inbox_drain(r->inbox, 1000) > 0 || more;
    }
}

static inline void on_checkpoint(void *ctx, int err)
{
    CHECK_EQ_INT(err, 0);
    *(bool *)ctx = true;
}

static inline void rig_checkpoint(struct rig *r)
{
    bool done = false;

    store_checkpoint(r->store, on_checkpoint, &done);
    rig_settle(r);
    CHECK(done);
    CHECK_EQ_U64(store_durable_index(r->store), r->index);
}

#endif
