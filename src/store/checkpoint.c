/* SPDX-License-Identifier: MIT */
/* checkpoint: from the memory table into index.mdb.
 *
 * The loop freezes: the active table becomes the frozen one, volume rows, counts, clock and
 * applied index are copied at the same moment, so they describe one state. The worker merges the
 * frozen table in key order in one LMDB transaction with one full sync. Then, on the loop: the
 * snapshot is renewed, the frozen table thrown away, volumes recycled, waiters answered.
 *
 *   state      frozen   job      leaves to
 *   idle       NULL     —        running (freeze)
 *   running    table    yes      idle (durable), waiting (ERR_NOSPC), PANIC (anything else)
 *   waiting    table    —        running (the same table and state again, after RETRY_US)
 *
 * A full disk is met before LMDB writes and leaves everything as it was; the table, which is still
 * what reads see, is merged when there is space. Any other failure is doubtful: the process stops,
 * and the log brings everything back.
 *
 * Waiters want a checkpoint that covers what is applied now: one that already runs does not, so
 * they are served by the next. While the disk is full they hear ERR_NOSPC after each attempt.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/logger.h"
#include "store/damage.h"
#include "store/store_int.h"

#define INTERVAL_US 1000000u
#define RETRY_US 1000000u
#define IDLE_US 1000000u
#define LOG_EVERY_MS 10000u
#define APPLIED_LAG_MAX 65536 /* entries without a change (TICK) before the index is written */

struct waiter {
    struct waiter *next;
    void (*cb)(void *ctx, int err);
    void *ctx;
};

struct waiters {
    struct waiter *head, **tail;
};

struct checkpoint {
    struct store *s;
    struct job job;
    /* the frozen picture, fixed until it is durable; the job reads it */
    struct index_state state;
    struct volume_row *rows;
    size_t nrows;
    uint64_t changed_rows, row_bytes;
    struct stale_row *stale;
    size_t nstale;
    /* out of the job */
    int err;
    struct index_stats stats;
    bool have_stats;
    /* loop */
    bool running, waiting;
    uint64_t started_us, retry_us, ended_us;
    uint64_t durable;
    struct waiters covered, next;
    uint64_t logged_ms;
};

static void waiters_init(struct waiters *w)
{
    w->head = NULL;
    w->tail = &w->head;
}

static void waiters_add(struct waiters *w, void (*cb)(void *ctx, int err), void *ctx)
{
    struct waiter *one = malloc(sizeof(*one));

    if (one == NULL)
        PANIC("out of memory");
    *one = (struct waiter){.cb = cb, .ctx = ctx};
    *w->tail = one;
    w->tail = &one->next;
}

static void waiters_move(struct waiters *to, struct waiters *from)
{
    ASSERT(to->head == NULL);
    if (from->head != NULL)
        *to = *from;
    waiters_init(from);
}

/* A callback may wait again: it lands in a list that this call does not walk. */
static void waiters_answer(struct waiters *w, int err)
{
    struct waiter *list = w->head;

    waiters_init(w);
    while (list != NULL) {
        struct waiter *one = list;

        list = one->next;
        one->cb(one->ctx, err);
        free(one);
    }
}

struct checkpoint *checkpoint_new(struct store *s, uint64_t durable_index)
{
    struct checkpoint *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->s = s;
    c->durable = durable_index;
    c->ended_us = store_now_us(s);
    waiters_init(&c->covered);
    waiters_init(&c->next);
    return c;
}

static void drop_picture(struct checkpoint *c)
{
    free(c->rows);
    free(c->stale);
    c->rows = NULL;
    c->stale = NULL;
    c->nrows = c->nstale = 0;
}

void checkpoint_free(struct checkpoint *c)
{
    if (c == NULL)
        return;
    ASSERT(!c->running);
    waiters_answer(&c->covered, ERR_CANCELED);
    waiters_answer(&c->next, ERR_CANCELED);
    drop_picture(c);
    free(c);
}

/* --- on the worker ------------------------------------------------------------------------- */

static int merge_entries(struct checkpoint *c)
{
    struct index *ix = c->s->index;
    struct table_entry *entries;
    size_t n = table_sorted(c->s->frozen, &entries);
    int err = 0;

    for (size_t i = 0; err == 0 && i < n; i++) {
        err = err_from_errno(FAIL("ckpt.put"));
        if (err != 0)
            break;
        err = entries[i].value.ptr == NULL ? index_write_del(ix, entries[i].key)
                                           : index_write_put(ix, entries[i].key, entries[i].value);
    }
    free(entries);
    return err;
}

static int merge(struct checkpoint *c)
{
    struct index *ix = c->s->index;
    int err = 0;

    if (table_hides_below(c->s->frozen))
        err = index_write_drop_keys(ix);
    for (size_t i = 0; err == 0 && i < c->nstale; i++)
        err = index_write_del_expiry(ix, c->stale[i].expire_ms,
                                     slice_of(c->stale[i].key, c->stale[i].key_len));
    if (err == 0)
        err = merge_entries(c);
    if (err == 0)
        err = index_write_volumes(ix, c->rows, c->nrows);
    if (err == 0)
        err = index_write_state(ix, &c->state);
    return err;
}

static void work(struct job *job)
{
    struct checkpoint *c = (struct checkpoint *)((char *)job - offsetof(struct checkpoint, job));
    struct index *ix = c->s->index;
    uint64_t estimate =
        index_write_estimate(ix, c->changed_rows + c->nrows, table_bytes(c->s->frozen));

    c->err = index_write_begin(ix, estimate);
    if (c->err != 0)
        return;
    c->err = merge(c);
    if (c->err == 0)
        c->err = index_write_commit(ix);
    else
        index_write_abort(ix);
    c->have_stats = c->err == 0 && index_get_stats(ix, &c->stats) == 0;
}

/* --- on the loop --------------------------------------------------------------------------- */

static void become_durable(struct checkpoint *c)
{
    struct store *s = c->s;
    uint64_t now_us = store_now_us(s);

    c->waiting = false;
    c->durable = c->state.applied;
    c->ended_us = now_us;
    if (index_renew(s->index) != 0)
        PANIC("index.mdb: no read transaction after a checkpoint");
    scan_table_freed(s->scan);
    table_free(s->frozen);
    s->frozen = NULL;
    sweep_restart(s->sweep);
    drop_picture(c);
    if (c->have_stats) {
        s->index_stats = c->stats;
        s->indexed_row_bytes = c->row_bytes;
        evict_measured(s->evict);
    }
    if (s->counts.checkpoints++ == 0)
        damage_disproved(s->config.dir);
    s->counts.checkpoint_last_us = now_us - c->started_us;
    s->counts.last_checkpoint_ms = clock_now_ms(s->config.clock);
    volumes_checkpointed(s->volumes);
}

static void wait_for_space(struct checkpoint *c)
{
    c->waiting = true;
    c->retry_us = store_now_us(c->s) + RETRY_US;
    c->s->counts.checkpoint_failures++;
    if (logger_allow(&c->logged_ms, LOG_EVERY_MS))
        LOG_WARNING("checkpoint no space for index.mdb, tried again every second; dir=%s "
                    "action=\"free disk space, writes that add are refused until then\"",
                    c->s->config.dir);
}

/* Damage is met again after every restart, so the next one is refused. */
__attribute__((noreturn)) static void fail(struct checkpoint *c, int err)
{
    const char *dir = c->s->config.dir;

    if (err == ERR_CORRUPT) {
        index_mark_damaged(c->s->index, "a checkpoint cannot follow its pages");
        PANIC("index.mdb in %s is damaged: run sldmkv-check", dir);
    }
    if (damage_suspect(dir))
        index_mark_damaged(c->s->index, "checkpoints fail before and after a restart");
    PANIC("index.mdb in %s: the checkpoint failed (%s); restart, the log has everything", dir,
          err_text(err));
}

static void done(struct job *job)
{
    struct checkpoint *c = (struct checkpoint *)((char *)job - offsetof(struct checkpoint, job));
    struct store *s = c->s;
    int err = c->err;

    ASSERT(c->running && s->frozen != NULL);
    c->running = false;
    if (err == 0)
        become_durable(c);
    else if (err == ERR_NOSPC)
        wait_for_space(c);
    else
        fail(c, err);
    waiters_answer(&c->covered, err);
    if (err != 0)
        waiters_answer(&c->next, err); /* they come behind the table that cannot be merged */
    if (err == 0 && s->config.on_space != NULL)
        s->config.on_space(s->config.ctx);
}

static void freeze(struct checkpoint *c, bool clean)
{
    struct store *s = c->s;

    ASSERT(s->frozen == NULL && c->rows == NULL);
    s->frozen = s->active;
    s->active = table_new();
    table_inherit(s->active, s->frozen);
    scan_table_frozen(s->scan);
    c->changed_rows = s->active_rows;
    c->row_bytes = s->row_bytes;
    s->active_rows = 0;
    s->frozen_expire_ms = s->active_expire_ms;
    s->active_expire_ms = UINT64_MAX;
    s->changed_us = 0;
    c->nrows = volumes_freeze(s->volumes, &c->rows);
    c->nstale = sweep_take_stale(s->sweep, &c->stale);
    c->state = (struct index_state){
        .flags = (clean ? INDEX_CLEAN : 0) | (s->inexact ? INDEX_INEXACT : 0),
        .node = s->config.node,
        .boot = s->boot,
        .applied = s->applied,
        .term = s->term,
        .clock_ms = s->stamp_ms,
        .keys = s->counts.keys,
        .bytes = s->counts.bytes,
    };
    memcpy(c->state.cluster, s->cluster, sizeof(c->state.cluster));
    memcpy(c->state.uuid, s->config.uuid, sizeof(c->state.uuid));
    (void)FAIL("table.frozen");
}

bool checkpoint_start(struct store *s, bool clean)
{
    struct checkpoint *c = s->checkpoint;

    if (c->running)
        return false;
    if (!c->waiting) {
        freeze(c, clean);
        waiters_move(&c->covered, &c->next);
    }
    c->running = true;
    c->started_us = store_now_us(s);
    c->job.work = work;
    c->job.done = done;
    worker_submit(s->checkpointer, &c->job);
    return true;
}

/* An empty SEALED volume becomes FREE in a checkpoint only. */
static bool volumes_wait(const struct store *s)
{
    struct volumes_stats v;

    volumes_get_stats(s->volumes, &v);
    return v.empty > 0;
}

bool checkpoint_due(const struct store *s)
{
    const struct checkpoint *c = s->checkpoint;
    uint64_t now_us = store_now_us(s);

    if (c->running)
        return false;
    if (c->waiting)
        return now_us >= c->retry_us;
    if (c->next.head != NULL || store_table_full(s))
        return true;
    if (s->changed_us != 0)
        return now_us - s->changed_us >= INTERVAL_US;
    if (now_us - c->ended_us < INTERVAL_US)
        return false;
    return s->applied - c->durable > APPLIED_LAG_MAX || (s->recovered && volumes_wait(s));
}

/* Nothing to write: what waits is answered at once. */
static bool is_covered(const struct store *s)
{
    return s->frozen == NULL && s->changed_us == 0 && s->applied == s->checkpoint->durable &&
           !volumes_wait(s);
}

uint64_t checkpoint_step(struct store *s)
{
    struct checkpoint *c = s->checkpoint;
    uint64_t now_us = store_now_us(s), at_us;

    if (c->next.head != NULL && !c->running && is_covered(s))
        waiters_answer(&c->next, 0);
    if (checkpoint_due(s))
        checkpoint_start(s, false);
    if (c->running)
        return IDLE_US;
    if (c->next.head != NULL && !c->waiting)
        return 0;
    at_us = c->waiting ? c->retry_us : s->changed_us + INTERVAL_US;
    if (!c->waiting && s->changed_us == 0)
        return IDLE_US;
    return at_us > now_us ? at_us - now_us : 0;
}

void checkpoint_wait(struct store *s, void (*cb)(void *ctx, int err), void *ctx)
{
    struct checkpoint *c = s->checkpoint;

    ASSERT(cb != NULL);
    waiters_add(&c->next, cb, ctx);
}

bool checkpoint_is_running(const struct store *s)
{
    return s->checkpoint->running;
}

bool checkpoint_is_failing(const struct store *s)
{
    return s->checkpoint->waiting;
}

uint64_t checkpoint_durable_index(const struct store *s)
{
    return s->checkpoint->durable;
}
