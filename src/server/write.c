/* SPDX-License-Identifier: MIT */
/* Happy path: write_start asks the store for room, the command is planned into a unit of ops
 * (values are staged or built first, see rebuild.h, and then it is planned again), the unit joins
 * the open group, write_turn proposes the group, the log commits it, fsm_apply runs every op and
 * the command's result() replies.
 *
 * Order. Requests of one connection are admitted in order (one FIFO of those that wait for room),
 * staged in order (the stage keeps the order of submit) and join groups in that order. A write
 * that is not staged waits in the connection until earlier ones have joined (must_wait in
 * command.c).
 *
 * Failure. Certainly not applied (no leader, no space): an error. Unknown outcome: -UNKNOWN. An
 * aborted unit (a key changed under a rebuild, a WATCH failed) is planned again.
 *
 * Snapshots. libraft keeps its log in memory since the last snapshot, so the log asks for one now
 * and then. A snapshot must say what is durable: a first checkpoint runs while groups still flow,
 * then new groups are held, those in flight finish, a second, small checkpoint runs, and the log
 * takes the snapshot behind a marker entry that carries nothing but a stamp.
 */
#include "server/write.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/hash.h"
#include "base/logger.h"
#include "server/admit.h"
#include "server/command.h"
#include "server/conn.h"
#include "server/rebuild.h"
#include "server/server.h"
#include "server/tx.h"

#define FREE_GROUPS_MAX 4
#define OOM_TEXT "OOM command not allowed when used memory > 'maxmemory'."
#define TICK_INTERVAL_US 1000000
#define SNAPSHOT_RETRY_US 1000000

struct unit {
    struct request *rq; /* NULL: nobody waits (EVICT) */
    uint32_t first, count;
    enum fsm_status aborted; /* FSM_OK: not */
};

struct group {
    struct group *next;
    uint64_t id, stamp_ms;
    uint64_t index; /* `raft no`: applied, waits for the checkpoint that covers it */
    struct entry_writer w;
    struct unit *units;
    size_t nunits, size;
    size_t queued; /* bytes of its ops, counted in write.queued_bytes */
    struct write *write;
    size_t at; /* unit that the op being applied belongs to */
};

enum snapshot_phase { SNAP_NONE, SNAP_FIRST, SNAP_HOLD, SNAP_SECOND, SNAP_RETRY };

struct write {
    struct server *server;
    struct entry_writer scratch;     /* one unit being planned */
    struct group *open, **open_tail; /* not yet proposed; the last one still grows */
    struct group *flight, **flight_tail;
    struct group *undurable, **undurable_tail; /* `raft no` */
    struct group *spare;
    unsigned in_flight, spares;
    size_t queued_bytes;
    size_t ahead_ops, ahead_bytes; /* joined and not yet applied: the table's room for them */
    struct request *waiting, **waiting_tail; /* for room; linked by ->cursor (unused by writes) */
    uint64_t next_group, last_stamp_ms, last_tick_us, retry_us;
    uint64_t plain; /* id of the TICK or INIT under way; 0: none */
    enum snapshot_phase snapshot;
    bool checkpoint_asked;
    struct write_stats stats;
};

struct write *write_new(struct server *s)
{
    struct write *w = calloc(1, sizeof(*w));

    if (w == NULL)
        return NULL;
    w->server = s;
    w->open_tail = &w->open;
    w->flight_tail = &w->flight;
    w->undurable_tail = &w->undurable;
    w->waiting_tail = &w->waiting;
    w->next_group = 1;
    return w;
}

static void free_group(struct group *g)
{
    entry_fini(&g->w);
    free(g->units);
    free(g);
}

void write_free(struct write *w)
{
    if (w == NULL)
        return;
    ASSERT(w->flight == NULL && w->waiting == NULL);
    while (w->open != NULL) { /* only EVICT proposals can be left */
        struct group *g = w->open;

        w->open = g->next;
        free_group(g);
    }
    while (w->spare != NULL) {
        struct group *g = w->spare;

        w->spare = g->next;
        free_group(g);
    }
    entry_fini(&w->scratch);
    free(w);
}

/* ---- groups ------------------------------------------------------------------------------ */

static struct group *take_group(struct write *w)
{
    struct group *g = w->spare;

    if (g != NULL) {
        w->spare = g->next;
        w->spares--;
    } else {
        g = calloc(1, sizeof(*g));
        if (g == NULL)
            PANIC("out of memory for a group");
        g->write = w;
    }
    entry_begin(&g->w);
    g->next = NULL;
    g->nunits = g->at = 0;
    return g;
}

static void open_group(struct write *w, struct group *g)
{
    g->id = w->next_group++;
    *w->open_tail = g;
    w->open_tail = &g->next;
}

static void recycle_group(struct write *w, struct group *g)
{
    if (w->spares >= FREE_GROUPS_MAX || g->w.size > 2 * WRITE_GROUP_BYTES) {
        free_group(g);
        return;
    }
    g->next = w->spare;
    w->spare = g;
    w->spares++;
}

static struct group *last_open(struct write *w)
{
    return w->open == NULL ? NULL
                           : (struct group *)((char *)w->open_tail - offsetof(struct group, next));
}

/* The group that takes another unit of `bytes`; NULL: there is no memory for it. */
static struct group *group_for(struct write *w, size_t bytes)
{
    struct group *g = last_open(w);
    bool fresh = g == NULL || g->w.count >= WRITE_GROUP_UNITS || g->w.len >= WRITE_GROUP_BYTES ||
                 g->w.len + bytes > ENTRY_MAX;

    if (fresh)
        g = take_group(w);
    if (!entry_room(&g->w, bytes)) {
        if (fresh)
            recycle_group(w, g);
        return NULL;
    }
    if (fresh)
        open_group(w, g);
    return g;
}

/* False: there is no memory for it. */
static bool join(struct write *w, struct request *rq, struct entry_writer *unit)
{
    struct group *g = group_for(w, unit->len);
    size_t before;

    if (g == NULL)
        return false;
    if (g->nunits == g->size) {
        size_t size = g->size == 0 ? 64 : g->size * 2;
        struct unit *units = realloc(g->units, size * sizeof(*units));

        if (units == NULL)
            PANIC("out of memory for a group");
        g->units = units;
        g->size = size;
    }
    g->units[g->nunits++] = (struct unit){rq, g->w.count, unit->count, FSM_OK};
    before = g->w.len;
    entry_append_ops(&g->w, unit);
    g->queued += g->w.len - before;
    w->queued_bytes += g->w.len - before;
    w->ahead_bytes += g->w.len - before;
    w->ahead_ops += unit->count;
    w->stats.units++;
    server_wake(w->server);
    return true;
}

bool write_evict(struct write *w, struct slice key, uint64_t mod)
{
    if (w->queued_bytes > LOG_ENTRY_MAX)
        return false; /* the store asks again */
    entry_begin(&w->scratch);
    entry_u64(&w->scratch, OP_EVICT, 0, key, mod);
    return join(w, NULL, &w->scratch);
}

bool write_backlogged(const struct write *w)
{
    return w->queued_bytes > 2 * LOG_ENTRY_MAX;
}

/* ---- one request ------------------------------------------------------------------------- */

/* Later writes of its connection may join behind it. One that may come back for a rebuild would
 * fall behind them, so it counts only when it is finished. */
static void proposed(struct request *rq)
{
    if (rq->proposed)
        return;
    rq->proposed = true;
    if (rq->conn != NULL)
        conn_on_proposed(rq->conn);
}

static void finish(struct request *rq)
{
    proposed(rq);
    rebuild_end(rq);
    tx_end(rq);
    request_release(rq);
}

static void refuse(struct request *rq, int err)
{
    request_error_code(rq, err);
    finish(rq);
}

void write_unit(struct request *rq, struct entry_writer *unit)
{
    struct write *w = rq->server->write;

    if (unit->len > ENTRY_MAX - ENTRY_HEADER ||
        (unit->count > WRITE_GROUP_UNITS &&
         fsm_growth(&rq->server->fsm, unit) > WRITE_UNIT_GROWTH_MAX)) {
        request_error(rq, "ERR transaction too large");
        finish(rq);
        return;
    }
    entry_mark_more(unit, false); /* commands mark every op; the last ends the unit */
    rq->ops = unit->count;
    rq->ops_seen = 0;
    if (!join(w, rq, unit))
        refuse(rq, ERR_NOMEM);
    else if (!rebuild_possible(rq))
        proposed(rq);
}

static void advance(struct request *rq)
{
    struct write *w = rq->server->write;
    struct entry_writer *unit = &w->scratch;
    enum rebuild_next next;

    do {
        entry_begin(unit);
        rebuild_conditions(rq, unit);
        if (rq->cmd->plan(rq, unit) == PLAN_REPLIED) {
            ASSERT(rq->staging == 0);
            finish(rq);
            return;
        }
        if (rq->staging > 0)
            return; /* write_resume plans again */
        if (unit->failed) {
            refuse(rq, ERR_NOMEM);
            return;
        }
        ASSERT(unit->count > 0);
        next = rebuild_unit(rq, unit);
    } while (next == REBUILD_AGAIN);
    if (next == REBUILD_REPLIED)
        finish(rq);
    else if (next == REBUILD_NONE)
        write_unit(rq, unit);
}

void write_resume(struct request *rq)
{
    if (rq->stage_err != 0)
        refuse(rq, rq->stage_err);
    else
        advance(rq);
}

bool write_acks_late(const struct write *w)
{
    return !w->server->config->raft;
}

/* 0, ERR_AGAIN = queued by the caller, or an error that was replied. */
static int let_in(struct request *rq)
{
    struct write *w = rq->server->write;
    int err = admit(rq, w->ahead_ops, w->ahead_bytes);

    if (err == 0 || err == ERR_AGAIN)
        return err;
    if (err == ERR_FULL && rq->cmd->before_op != NULL)
        request_error(rq, "EXECABORT Transaction discarded because of: " OOM_TEXT);
    else if (err == ERR_FULL)
        request_error(rq, OOM_TEXT);
    else
        request_error_code(rq, err);
    finish(rq);
    return err;
}

static void wait_for_room(struct write *w, struct request *rq)
{
    rq->cursor = NULL;
    *w->waiting_tail = rq;
    w->waiting_tail = &rq->cursor;
    w->stats.waiting++;
}

/* What only deletes or changes passes those that wait for room: it may be what makes it. */
void write_start(struct request *rq)
{
    struct write *w = rq->server->write;
    int err = w->waiting != NULL && admit_adds(rq) ? ERR_AGAIN : let_in(rq);

    if (err == ERR_AGAIN)
        wait_for_room(w, rq);
    else if (err == 0)
        advance(rq);
}

/* A refused request is gone when admit returns, and its connection may have started the next. */
void write_on_space(struct write *w)
{
    while (w->waiting != NULL) {
        struct request *rq = w->waiting;
        int err;

        w->waiting = rq->cursor;
        if (w->waiting == NULL)
            w->waiting_tail = &w->waiting;
        rq->cursor = NULL;
        w->stats.waiting--;
        err = let_in(rq);
        if (err == ERR_AGAIN) {
            rq->cursor = w->waiting;
            if (w->waiting == NULL)
                w->waiting_tail = &rq->cursor;
            w->waiting = rq;
            w->stats.waiting++;
            return;
        }
        if (err == 0)
            advance(rq);
    }
}

/* ---- apply ------------------------------------------------------------------------------- */

static void try_again(struct request *rq)
{
    if (rq->attempts++ < WRITE_REBUILDS_MAX) {
        rebuild_drop(rq);
        advance(rq);
        return;
    }
    request_error(rq, "ERR the key kept changing while its new value was built, try again");
    finish(rq);
}

static struct unit *unit_at(struct group *g, uint32_t op)
{
    while (op >= g->units[g->at].first + g->units[g->at].count) {
        g->at++;
        ASSERT(g->at < g->nunits);
    }
    return &g->units[g->at];
}

static void on_before_op(void *ctx, uint32_t op)
{
    struct unit *u = unit_at(ctx, op);

    if (u->rq != NULL && u->rq->cmd->before_op != NULL && u->aborted == FSM_OK)
        u->rq->cmd->before_op(u->rq, op - u->first);
}

static void on_result(void *ctx, uint32_t op, const struct fsm_result *r)
{
    struct unit *u = unit_at(ctx, op);
    struct request *rq = u->rq;

    if (rq == NULL)
        return;
    rq->ops_seen++;
    if (r->status == FSM_ABORTED || r->status == FSM_REBUILD)
        u->aborted = r->status;
    else if (u->aborted == FSM_OK && r->op != OP_IF_MOD)
        rq->cmd->result(rq, r);
}

/* When the whole entry is applied: a rebuild must not see, nor start anything, in the middle of
 * one. An aborted unit leaves the group; others have had their effect, so what comes behind them
 * may. */
static void settle_units(struct group *g)
{
    for (size_t i = 0; i < g->nunits; i++) {
        struct request *rq = g->units[i].rq;

        if (rq == NULL)
            continue;
        if (g->units[i].aborted == FSM_OK) {
            proposed(rq);
            rebuild_end(rq);
        } else {
            g->units[i].rq = NULL;
            try_again(rq);
        }
    }
}

static void finish_units(struct group *g)
{
    for (size_t i = 0; i < g->nunits; i++)
        if (g->units[i].rq != NULL)
            finish(g->units[i].rq);
}

static void checkpoint_done(void *ctx, int err)
{
    struct write *w = ctx;
    uint64_t durable = store_durable_index(w->server->store);

    w->checkpoint_asked = false;
    if (err != 0)
        LOG_WARNING("checkpoint failed err=\"%s\" action=\"writes wait for it\"", err_text(err));
    while (w->undurable != NULL && w->undurable->index <= durable) {
        struct group *g = w->undurable;

        w->undurable = g->next;
        if (w->undurable == NULL)
            w->undurable_tail = &w->undurable;
        finish_units(g);
        recycle_group(w, g);
    }
}

static void leave_flight(struct write *w, const struct group *g)
{
    w->in_flight--;
    w->ahead_bytes -= g->w.len - ENTRY_HEADER;
    w->ahead_ops -= g->w.count;
}

static struct group *pop_flight(struct write *w)
{
    struct group *g = w->flight;

    w->flight = g->next;
    if (w->flight == NULL)
        w->flight_tail = &w->flight;
    g->next = NULL;
    leave_flight(w, g);
    return g;
}

/* The first entry of a log names the cluster. */
static void note_cluster(struct write *w, struct slice entry)
{
    uint8_t cluster[16];
    uint64_t parts[2] = {hash64_seed(entry.ptr, entry.len, 1),
                         hash64_seed(entry.ptr, entry.len, 2)};

    memcpy(cluster, parts, sizeof(cluster));
    server_note_cluster(w->server, cluster);
}

/* The one TICK or INIT has an outcome. */
static bool end_plain(struct write *w, uint64_t id)
{
    bool mine = w->plain != 0 && w->plain == id;

    if (mine)
        w->plain = 0;
    return mine;
}

void write_on_committed(void *ctx, uint64_t index, uint64_t term, struct slice entry)
{
    struct write *w = ctx;
    struct server *s = w->server;
    struct group *g = w->flight;
    struct fsm_observer observer = {on_before_op, on_result, g};
    struct entry_header h;
    struct entry_reader r;
    bool mine, own;

    if (entry_open(entry, &h, &r) != 0)
        PANIC("entry %" PRIu64 " cannot be read", index);
    mine = h.node == s->fsm.node && h.boot == store_boot(s->store);
    own = mine && g != NULL && h.group == g->id;
    if (own)
        pop_flight(w);
    else if (mine)
        end_plain(w, h.group);
    s->entry_stamp_ms = h.stamp_ms;
    clock_raise(&s->clock, h.stamp_ms);
    fsm_apply(&s->fsm, index, term, entry, own ? &observer : NULL, &h);
    s->entry_stamp_ms = 0;
    if (h.kind == ENTRY_INIT)
        note_cluster(w, entry);
    if (!own)
        return;
    settle_units(g);
    if (write_acks_late(w)) {
        g->index = index;
        *w->undurable_tail = g;
        w->undurable_tail = &g->next;
        return;
    }
    (void)FAIL("reply.queued");
    finish_units(g);
    recycle_group(w, g);
}

void write_on_failed(void *ctx, uint64_t token, int err)
{
    struct write *w = ctx;
    struct group **at = &w->flight;
    struct group *g;

    while (*at != NULL && (*at)->id != token)
        at = &(*at)->next;
    g = *at;
    if (g == NULL) {
        end_plain(w, token);
        return;
    }
    *at = g->next;
    if (*at == NULL)
        w->flight_tail = at;
    leave_flight(w, g);
    w->stats.failed++;
    for (size_t i = 0; i < g->nunits; i++) {
        if (g->units[i].rq != NULL) {
            request_error_code(g->units[i].rq, err);
            finish(g->units[i].rq);
        }
    }
    recycle_group(w, g);
}

/* ---- proposing --------------------------------------------------------------------------- */

static uint64_t next_stamp(struct write *w)
{
    uint64_t now = clock_now_ms(&w->server->clock);
    uint64_t applied = store_applied_stamp(w->server->store);

    if (now < applied)
        now = applied;
    if (now > w->last_stamp_ms)
        w->last_stamp_ms = now;
    return w->last_stamp_ms;
}

static struct slice finish_entry(struct write *w, struct entry_writer *e, enum entry_kind kind,
                                 uint64_t group)
{
    return entry_finish(e, kind, w->server->fsm.node, store_boot(w->server->store), group,
                        next_stamp(w));
}

static void send_group(struct write *w)
{
    struct group *g = w->open;
    struct slice entry = finish_entry(w, &g->w, ENTRY_GROUP, g->id);
    int err;

    g->stamp_ms = w->last_stamp_ms;
    w->open = g->next;
    if (w->open == NULL)
        w->open_tail = &w->open;
    g->next = NULL;
    *w->flight_tail = g;
    w->flight_tail = &g->next;
    w->in_flight++;
    w->queued_bytes -= g->queued;
    g->queued = 0;
    w->stats.groups++;
    w->stats.bytes += entry.len;
    err = log_propose(w->server->log, entry, g->id);
    if (err != 0)
        write_on_failed(w, g->id, err);
}

static void send_plain(struct write *w, enum entry_kind kind)
{
    struct slice entry;

    ASSERT(w->plain == 0);
    w->plain = w->next_group++;
    entry_begin(&w->scratch);
    entry = finish_entry(w, &w->scratch, kind, w->plain);
    if (log_propose(w->server->log, entry, w->plain) == 0)
        return;
    LOG_VERBOSE("log entry kind=%d not taken", kind);
    w->plain = 0;
}

static void snapshot_second_done(void *ctx, int err)
{
    struct write *w = ctx;
    struct server *s = w->server;
    struct log_descriptor d = {.applied = store_applied_index(s->store),
                               .clock_ms = store_applied_stamp(s->store)};
    struct store_counts counts;
    struct slice marker;

    if (err != 0) {
        w->snapshot = SNAP_RETRY;
        w->retry_us = server_now_us(s) + SNAPSHOT_RETRY_US;
        return;
    }
    if (store_durable_index(s->store) < d.applied) {
        w->snapshot = SNAP_HOLD; /* a write that was answered UNKNOWN has come after all */
        server_wake(s);
        return;
    }
    store_get_counts(s->store, &counts);
    d.keys = counts.keys;
    d.bytes = counts.bytes;
    store_get_cluster(s->store, d.cluster);
    entry_begin(&w->scratch);
    marker = finish_entry(w, &w->scratch, ENTRY_TICK, 0);
    err = log_snapshot(s->log, &d, marker);
    if (err != 0)
        LOG_WARNING("snapshot not taken err=\"%s\"", err_text(err));
    w->snapshot = SNAP_NONE;
}

static void snapshot_first_done(void *ctx, int err)
{
    struct write *w = ctx;

    w->snapshot = err == 0 ? SNAP_HOLD : SNAP_RETRY;
    w->retry_us = server_now_us(w->server) + SNAPSHOT_RETRY_US;
    server_wake(w->server);
}

void write_on_need_snapshot(void *ctx)
{
    struct write *w = ctx;

    if (w->snapshot != SNAP_NONE)
        return;
    w->snapshot = SNAP_FIRST;
    store_checkpoint(w->server->store, snapshot_first_done, w);
}

static void snapshot_turn(struct write *w)
{
    if (w->snapshot == SNAP_RETRY && server_now_us(w->server) >= w->retry_us) {
        w->snapshot = SNAP_FIRST;
        store_checkpoint(w->server->store, snapshot_first_done, w);
    } else if (w->snapshot == SNAP_HOLD && w->in_flight == 0 && w->plain == 0) {
        w->snapshot = SNAP_SECOND;
        store_checkpoint(w->server->store, snapshot_second_done, w);
    }
}

void write_turn(struct write *w)
{
    struct server *s = w->server;
    uint64_t now_us = server_now_us(s);
    bool backlogged;

    snapshot_turn(w);
    if (w->snapshot == SNAP_HOLD || w->snapshot == SNAP_SECOND || s->role != LOG_ROLE_LEADER)
        return;
    backlogged = write_backlogged(w);
    while (w->open != NULL && w->in_flight < WRITE_GROUPS && store_may_apply(s->store) == 0)
        send_group(w);
    if (backlogged && !write_backlogged(w))
        for (struct conn *c = s->conns; c != NULL; c = c->next)
            conn_resume(c);
    if (w->undurable != NULL && !w->checkpoint_asked) {
        w->checkpoint_asked = true;
        store_checkpoint(s->store, checkpoint_done, w);
    }
    if (w->in_flight == 0 && w->plain == 0 && s->state == SERVER_READY &&
        now_us - w->last_tick_us >= TICK_INTERVAL_US &&
        store_tick_due(s->store, clock_now_ms(&s->clock))) {
        w->last_tick_us = now_us;
        send_plain(w, ENTRY_TICK);
    }
}

static void cancel(struct request *rq)
{
    tx_end(rq);
    request_release(rq);
}

static void cancel_units(struct group *g)
{
    for (size_t i = 0; i < g->nunits; i++)
        if (g->units[i].rq != NULL)
            cancel(g->units[i].rq);
    free_group(g);
}

void write_cancel(struct write *w)
{
    struct group **lists[] = {&w->open, &w->flight, &w->undurable};
    struct request *rq;

    for (size_t l = 0; l < sizeof(lists) / sizeof(lists[0]); l++) {
        while (*lists[l] != NULL) {
            struct group *g = *lists[l];

            *lists[l] = g->next;
            cancel_units(g);
        }
    }
    while (w->waiting != NULL) {
        rq = w->waiting;
        w->waiting = rq->cursor;
        rq->cursor = NULL;
        cancel(rq);
    }
    while ((rq = rebuild_take_waiter(w->server)) != NULL) {
        cancel(rq);
        request_release(rq);
    }
    w->open_tail = &w->open;
    w->flight_tail = &w->flight;
    w->undurable_tail = &w->undurable;
    w->waiting_tail = &w->waiting;
    w->in_flight = 0;
    w->queued_bytes = w->ahead_ops = w->ahead_bytes = 0;
}

void write_init_cluster(struct write *w)
{
    send_plain(w, ENTRY_INIT);
}

uint64_t write_stamp_under_way(const struct write *w)
{
    return w->flight == NULL ? 0 : w->flight->stamp_ms;
}

bool write_idle(const struct write *w)
{
    return w->open == NULL && w->flight == NULL && w->waiting == NULL && w->undurable == NULL &&
           w->snapshot != SNAP_SECOND;
}

void write_get_stats(const struct write *w, struct write_stats *out)
{
    *out = w->stats;
    out->in_flight = w->in_flight;
}
