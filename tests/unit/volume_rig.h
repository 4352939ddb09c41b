/* SPDX-License-Identifier: MIT */
/* volume_rig: volumes, workers and a buffer pool over a temporary folder, all stepped by the test.
 *
 * Purpose   what the tests of volume, payload, stage and evict share, with faults on demand
 * Threads   the test's: workers have no threads, rig_run() executes jobs and their done()
 */
#ifndef TESTS_UNIT_VOLUME_RIG_H
#define TESTS_UNIT_VOLUME_RIG_H

#include "base/err.h"
#include "rig_faults.h"
#include "store/slab.h"
#include "store/stage.h"
#include "test.h"
#include "tmpdir.h"

#define RIG_SIZE SLAB_SIZE_MIN

struct rig {
    const char *dir;
    uint8_t uuid[16];
    struct io_ops io;
    struct rig_faults fault;
    struct inbox *inbox;
    struct worker *writer, *readers, *maint;
    struct buf_pool *pool;
    struct volumes *volumes;
    struct stage *stage;
    uint64_t now_ms, max_applied, volume_size;
    uint32_t target;
    unsigned spaces, asked; /* on_space and need_space calls */
    bool evictable;
    uint64_t term, applied;
    char detail[512];
};

static inline void rig_on_space(void *ctx)
{
    struct rig *r = ctx;

    r->spaces++;
    if (r->stage != NULL)
        stage_pump(r->stage);
}

static inline bool rig_need_space(void *ctx)
{
    ((struct rig *)ctx)->asked++;
    return ((struct rig *)ctx)->evictable;
}

static inline void rig_tags(void *ctx, uint64_t *term, uint64_t *applied)
{
    *term = ((struct rig *)ctx)->term;
    *applied = ((struct rig *)ctx)->applied;
}

static inline uint64_t rig_now(void *ctx)
{
    return ((struct rig *)ctx)->now_ms;
}

/* Runs jobs and their done() until nothing is left. */
static inline void rig_run(struct rig *r)
{
    bool more = true;

    while (more) {
        more = worker_step(r->maint);
        more = worker_step(r->writer) || more;
        more = worker_step(r->readers) || more;
        more = inbox_drain(r->inbox, 1000) > 0 || more;
    }
}

/* A fresh folder, fixed names; nothing is opened yet. */
static inline void rig_init(struct rig *r, uint32_t target)
{
    *r = (struct rig){.dir = tmpdir(), .target = target, .volume_size = RIG_SIZE, .now_ms = 1000};
    memset(r->uuid, 0x5a, sizeof(r->uuid));
    r->io = rig_faults_io(&r->fault);
    r->inbox = inbox_new();
    r->writer = worker_new("write", 0, r->inbox);
    r->readers = worker_new("read", 0, r->inbox);
    r->maint = worker_new("maint", 0, r->inbox);
    r->pool = buf_pool_new((size_t)128 << 20);
}

static inline int rig_try_open(struct rig *r, const struct volume_row *rows, size_t count)
{
    struct volumes_config c = {.dir = r->dir,
                               .io = &r->io,
                               .volume_size = r->volume_size,
                               .target = r->target,
                               .maint = r->maint,
                               .on_space = rig_on_space,
                               .ctx = r};

    memcpy(c.uuid, r->uuid, sizeof(c.uuid));
    return volumes_open(&c, rows, count, &r->volumes, r->detail);
}

static inline void rig_open_stage(struct rig *r)
{
    struct stage_config c = {.volumes = r->volumes,
                             .writer = r->writer,
                             .node = 1,
                             .boot = 77,
                             .need_space = rig_need_space,
                             .tags = rig_tags,
                             .now_ms = rig_now,
                             .ctx = r};

    memcpy(c.uuid, r->uuid, sizeof(c.uuid));
    r->stage = stage_new(&c);
}

/* From the rows of a checkpoint (none: 0) to service: format ahead has run. */
static inline void rig_start(struct rig *r, const struct volume_row *rows, size_t count)
{
    CHECK_EQ_INT(rig_try_open(r, rows, count), 0);
    CHECK_EQ_INT(volumes_recover(r->volumes, &r->max_applied), 0);
    rig_open_stage(r);
    rig_run(r);
    volumes_check(r->volumes);
}

/* As a crash leaves it: memory gone, files as they are. */
static inline void rig_stop(struct rig *r)
{
    rig_run(r); /* a format under way ends: the files would be the same */
    stage_free(r->stage);
    r->stage = NULL;
    volumes_close(r->volumes);
    r->volumes = NULL;
}

static inline void rig_fini(struct rig *r)
{
    rig_run(r);
    rig_stop(r);
    worker_free(r->writer);
    worker_free(r->readers);
    worker_free(r->maint);
    inbox_free(r->inbox);
    buf_pool_free(r->pool);
}

#endif
