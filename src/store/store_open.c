/* SPDX-License-Identifier: MIT */
/* Life of a store.
 *
 * Start: index.mdb (refused when it is missing under volumes, damaged, of another node, or when its
 * number of keys is not what its state row says); the boot number, durable before anything can use
 * it; workers; volumes. Then the caller replays its log, then store_recover(). After an unclean
 * stop the audit walks the index while the store serves.
 *
 * Stop: what is in flight ends (the inbox is drained here), the last checkpoint carries
 * INDEX_CLEAN, workers are joined, their last results are drained, and everything is freed in
 * reverse order. A stop that cannot finish its checkpoint is an unclean one: the log has the rest.
 */
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/logger.h"
#include "store/damage.h"
#include "store/presence.h"
#include "store/slab.h"
#include "store/store_int.h"

#define VOLUMES_MIN 8u
#define CLOSE_WAIT_US ((uint64_t)30 * 1000000)
#define CLOSE_POLL_MS 20
#define DRAIN_BATCH 256u

static int explain(char *detail, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int explain(char *detail, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(detail, INDEX_DETAIL_MAX, format, args);
    va_end(args);
    return err;
}

static bool has_volumes(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    bool found = false;

    if (d == NULL)
        return false;
    while (!found && (e = readdir(d)) != NULL)
        found = fnmatch("vol-*.mdb", e->d_name, 0) == 0;
    closedir(d);
    return found;
}

static int open_index(struct store *s, struct index_state *state, char *detail)
{
    char path[4096 + 16];
    uint64_t keys;
    int err;

    snprintf(path, sizeof(path), "%s/index.mdb", s->config.dir);
    err = damage_refuse(s->config.dir, detail);
    if (err != 0)
        return err;
    if (access(path, F_OK) != 0 && errno == ENOENT && has_volumes(s->config.dir))
        return explain(detail, ERR_CORRUPT,
                       "%.300s is missing but volumes are there: restore it from a backup, or run "
                       "sldmkv-check --salvage into a new directory",
                       path);
    err = index_open(path, &s->index, detail);
    if (err != 0)
        return err;
    err = index_load_state(s->index, state);
    if (err != 0)
        return explain(detail, err, "%.300s: its state row: %s: run sldmkv-check", path,
                       err_text(err));
    if (state->node != 0 && state->node != s->config.node)
        return explain(detail, ERR_INVAL,
                       "%.300s belongs to node %" PRIu32 ", this is node %" PRIu32, path,
                       state->node, s->config.node);
    if (state->node != 0 && memcmp(state->uuid, s->config.uuid, sizeof(state->uuid)) != 0)
        return explain(detail, ERR_INVAL,
                       "%.300s belongs to another store than FORMAT and the volumes: restore the "
                       "one of this store from a backup, or run sldmkv-check --salvage into a new "
                       "directory",
                       path);
    keys = index_count(s->index);
    if (keys != state->keys)
        return explain(detail, ERR_CORRUPT,
                       "%.300s holds %" PRIu64 " keys, its state row says %" PRIu64
                       ": run sldmkv-check",
                       path, keys, state->keys);
    return 0;
}

/* The number goes into every payload id and raft group of this run: never used twice. */
static int take_boot(struct store *s, struct index_state *state, char *detail)
{
    const struct clock_source *src = &s->config.clock->source;
    uint64_t now_s = src->wall_ms(src->ctx) / 1000;
    struct index_state next = *state;
    int err;

    next.node = s->config.node;
    memcpy(next.uuid, s->config.uuid, sizeof(next.uuid));
    next.flags &= ~INDEX_CLEAN;
    next.boot = state->boot + 1;
    if (now_s > next.boot && now_s <= UINT32_MAX)
        next.boot = (uint32_t)now_s;
    err = index_write_begin(s->index, 0);
    if (err == 0) {
        err = index_write_state(s->index, &next);
        if (err == 0)
            err = index_write_commit(s->index);
        else
            index_write_abort(s->index);
    }
    (void)FAIL("boot.durable");
    if (err == 0)
        err = index_renew(s->index);
    if (err != 0)
        return explain(detail, err, "%.300s/index.mdb: cannot write: %s%s", s->config.dir,
                       err_text(err), err == ERR_CORRUPT ? ": run sldmkv-check" : "");
    s->boot = next.boot;
    state->node = next.node;
    state->boot = next.boot; /* flags stay as found: how the last run ended */
    return 0;
}

static int start_workers(struct store *s, char *detail)
{
    unsigned one = s->config.stepped ? 0 : 1;

    s->writer = worker_new("write", one, s->config.inbox);
    s->readers =
        worker_new("read", s->config.stepped ? 0 : s->config.read_threads, s->config.inbox);
    s->checkpointer = worker_new("checkpoint", one, s->config.inbox);
    s->maint = worker_new("maint", one, s->config.inbox);
    if (s->writer == NULL || s->readers == NULL || s->checkpointer == NULL || s->maint == NULL)
        return explain(detail, ERR_NOMEM, "cannot start worker threads");
    return 0;
}

/* Enough volumes that max_store_bytes of records are at most 85 % of them and leave three. */
uint32_t store_volumes_wanted(uint64_t max_store_bytes, uint64_t volume_size)
{
    uint64_t each = slab_capacity(volume_size), n;

    n = max_store_bytes / 85 * 100 / each + 1;
    if (n < max_store_bytes / each + 4)
        n = max_store_bytes / each + 4;
    if (n < VOLUMES_MIN)
        n = VOLUMES_MIN;
    return n > VOLUMES_MAX ? VOLUMES_MAX : (uint32_t)n;
}

static void on_volume_space(void *ctx)
{
    struct store *s = ctx;

    if (s->closing)
        return;
    if (s->stage != NULL && s->recovered)
        stage_pump(s->stage);
    if (s->config.on_space != NULL)
        s->config.on_space(s->config.ctx);
}

static int open_volumes(struct store *s, char *detail)
{
    struct volumes_config vc = {
        .dir = s->config.dir,
        .io = s->config.io,
        .volume_size = s->config.volume_size,
        .target = s->volumes_target,
        .maint = s->maint,
        .on_space = on_volume_space,
        .ctx = s,
    };
    struct volume_row *rows = NULL;
    size_t n = 0;
    int err = index_load_volumes(s->index, &rows, &n);

    if (err != 0)
        return explain(detail, err, "%.300s/index.mdb: its volume rows: %s: run sldmkv-check",
                       s->config.dir, err_text(err));
    memcpy(vc.uuid, s->config.uuid, sizeof(vc.uuid));
    err = volumes_open(&vc, rows, n, &s->volumes, detail);
    free(rows);
    return err;
}

static bool need_space(void *ctx)
{
    struct store *s = ctx;

    return !s->closing && evict_want_slot(s->evict);
}

static uint64_t now_ms(void *ctx)
{
    struct store *s = ctx;

    return clock_now_ms(s->config.clock);
}

static void tags(void *ctx, uint64_t *term, uint64_t *applied)
{
    struct store *s = ctx;

    if (s->config.tags != NULL) {
        s->config.tags(s->config.ctx, term, applied);
    } else {
        *term = s->term;
        *applied = s->applied;
    }
}

static int make_parts(struct store *s, char *detail)
{
    struct stage_config sc = {
        .volumes = s->volumes,
        .writer = s->writer,
        .node = s->config.node,
        .boot = s->boot,
        .need_space = need_space,
        .tags = tags,
        .now_ms = now_ms,
        .ctx = s,
    };

    memcpy(sc.uuid, s->config.uuid, sizeof(sc.uuid));
    s->active = table_new();
    s->active_expire_ms = UINT64_MAX;
    s->checkpoint = checkpoint_new(s, s->applied);
    s->sweep = sweep_new(s);
    s->scan = scan_new(s);
    s->lease = lease_new();
    s->presence = presence_new();
    s->stage = stage_new(&sc);
    s->evict = evict_new(s);
    if (s->checkpoint == NULL || s->sweep == NULL || s->scan == NULL || s->lease == NULL ||
        s->stage == NULL || s->evict == NULL)
        return explain(detail, ERR_NOMEM, "out of memory");
    return 0;
}

static void adopt_state(struct store *s, const struct index_state *state)
{
    memcpy(s->cluster, state->cluster, sizeof(s->cluster));
    s->inexact = state->flags & INDEX_INEXACT;
    s->applied = state->applied;
    s->term = state->term;
    s->stamp_ms = state->clock_ms;
    s->counts.keys = state->keys;
    s->counts.bytes = state->bytes;
    s->counts.expires = index_count_expiry(s->index);
    if (index_get_stats(s->index, &s->index_stats) == 0)
        s->indexed_row_bytes = s->index_stats.used_bytes / 3 * 2; /* as full as pages usually are */
    s->row_bytes = s->indexed_row_bytes;
}

/* Accepts half-built stores. */
static void free_parts(struct store *s)
{
    ASSERT(s->audit == NULL && s->backup == NULL);
    if (s->stage != NULL)
        stage_free(s->stage); /* MOVEs that wait in it end here */
    evict_free(s->evict);
    sweep_free(s->sweep);
    lease_free(s->lease);
    presence_free(s->presence);
    checkpoint_free(s->checkpoint);
    scan_free(s->scan);
    if (s->volumes != NULL)
        volumes_close(s->volumes);
    table_free(s->frozen);
    table_free(s->active);
    index_close(s->index);
    index_buf_fini(&s->get_buf);
    index_buf_fini(&s->old_buf);
    free(s->scratch);
    free(s);
    damage_unwatch();
}

static void stop_workers(struct store *s)
{
    if (s->volumes != NULL)
        volumes_stop(s->volumes); /* a format that ends below must not start the next */
    worker_free(s->writer);
    worker_free(s->readers);
    worker_free(s->checkpointer);
    worker_free(s->maint);
    while (inbox_drain(s->config.inbox, DRAIN_BATCH) > 0)
        ;
}

int store_open(const struct store_config *c, struct store **out, struct index_state *state,
               char *detail)
{
    struct index_state found = {0};
    struct store *s = calloc(1, sizeof(*s));
    int err;

    ASSERT(c->node >= 1 && c->io != NULL && c->inbox != NULL && c->clock != NULL);
    ASSERT(c->stepped || c->read_threads >= 1);
    detail[0] = '\0';
    if (s == NULL)
        return ERR_NOMEM;
    s->config = *c;
    damage_watch();
    s->volumes_target = store_volumes_wanted(c->max_store_bytes, c->volume_size);
    err = open_index(s, &found, detail);
    if (err == 0)
        err = take_boot(s, &found, detail);
    if (err == 0)
        err = start_workers(s, detail);
    if (err == 0) {
        adopt_state(s, &found);
        err = open_volumes(s, detail);
    }
    if (err == 0)
        err = make_parts(s, detail);
    if (err != 0) {
        stop_workers(s);
        free_parts(s);
        return err;
    }
    evict_measured(s->evict);
    LOG_NOTICE("store opened keys=%" PRIu64 " applied=%" PRIu64 " boot=%" PRIu32 " last_stop=%s",
               found.keys, found.applied, s->boot,
               found.applied == 0 && found.keys == 0 ? "none"
               : found.flags & INDEX_CLEAN           ? "clean"
                                                     : "unclean");
    if (!(found.flags & INDEX_CLEAN) && found.keys > 0)
        audit_start(s);
    *state = found;
    *out = s;
    return 0;
}

int store_recover(struct store *s, uint64_t *max_applied, char *detail)
{
    int err;

    ASSERT(!s->recovered);
    err = volumes_recover(s->volumes, max_applied);
    if (err != 0)
        return explain(detail, err, "%.300s: scanning the volumes: %s", s->config.dir,
                       err_text(err));
    s->recovered = true;
    return 0;
}

/* --- stop ---------------------------------------------------------------------------------- */

static void pass_time(struct store *s)
{
    bool worked = s->config.stepped && store_step_workers(s);

    if (inbox_drain(s->config.inbox, DRAIN_BATCH) == 0 && !worked)
        inbox_wait(s->config.inbox, s->config.stepped ? 0 : CLOSE_POLL_MS);
}

static bool is_busy(const struct store *s)
{
    return s->backup != NULL || !stage_idle(s->stage) || evict_busy(s->evict) ||
           checkpoint_is_running(s);
}

void store_stop(struct store *s)
{
    s->closing = true;
}

static void settle(struct store *s)
{
    uint64_t until_us = store_now_us(s) + CLOSE_WAIT_US;

    backup_cancel(s);
    audit_cancel(s);
    while (is_busy(s) && store_now_us(s) < until_us) {
        stage_pump(s->stage);
        checkpoint_step(s);
        pass_time(s);
    }
}

static bool checkpoint_now(struct store *s, bool clean)
{
    checkpoint_start(s, clean);
    while (checkpoint_is_running(s))
        pass_time(s);
    return s->frozen == NULL;
}

void store_close(struct store *s, bool clean)
{
    bool durable = false;

    if (s == NULL)
        return;
    store_stop(s);
    settle(s);
    if (clean) {
        durable = s->frozen == NULL || checkpoint_now(s, false);
        durable = durable && checkpoint_now(s, true);
        if (!durable)
            LOG_WARNING("store the last checkpoint found no space, the next start replays the log");
    }
    stop_workers(s);
    LOG_NOTICE("store closed applied=%" PRIu64 " durable=%" PRIu64 " stop=%s", s->applied,
               checkpoint_durable_index(s), durable ? "clean" : "unclean");
    free_parts(s);
}
