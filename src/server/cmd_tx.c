/* SPDX-License-Identifier: MIT */
/* Transactions: MULTI EXEC DISCARD WATCH UNWATCH.
 *
 * Between MULTI and EXEC commands become children of the EXEC request. EXEC is a write like any
 * other: plan() looks at the watched keys and puts conditions and the children's ops into one unit,
 * so all of it is one entry, or nothing.
 *
 * Reads run on this node at their place among the ops: before_op() runs the reads that stand ahead
 * of the op's child, the end of the unit the rest. Each child has a reply of its own; they are
 * joined when the last one is complete (a read may wait for the disk). Values too large to be read
 * whole by then are read while the joined reply is sent; which ones was settled at their place.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "server/conn_int.h"
#include "server/rebuild.h"
#include "server/server.h"
#include "server/tx.h"
#include "server/value.h"

uint64_t tx_mod_of(struct server *s, struct slice key)
{
    struct record r;

    if (key.len == 0 || key.len > RECORD_KEY_MAX || store_get(s->store, key, &r) != 0 ||
        record_expired(&r, command_now_ms(s)))
        return 0;
    return r.mod;
}

void tx_free_watches(struct server *s, struct conn_watch **list)
{
    while (*list != NULL) {
        struct conn_watch *w = *list;

        *list = w->next;
        if (w->prev_all != NULL)
            w->prev_all->next_all = w->next_all;
        else
            s->watches = w->next_all;
        if (w->next_all != NULL)
            w->next_all->prev_all = w->prev_all;
        free(w);
    }
}

void tx_touch(struct server *s, struct slice key)
{
    for (struct conn_watch *w = s->watches; w != NULL; w = w->next_all)
        if (key.len == 0 ? w->mod != 0 : slice_eq(slice_of(w->key, w->key_len), key))
            w->touched = true;
}

static void multi_run(struct request *rq)
{
    struct conn *c = rq->conn;

    if (c->in_multi) {
        request_error(rq, "ERR MULTI calls can not be nested");
        return;
    }
    c->in_multi = true;
    c->multi_failed = false;
    c->multi = request_new(rq->server, c, NULL);
    emit_status(request_emit(rq), "OK");
}

void tx_drop_queue(struct conn *c)
{
    if (c->multi == NULL)
        return;
    c->multi->holds = 0;
    request_free(c->multi);
    c->multi = NULL;
    c->server->multi_bytes -= c->multi_bytes;
    c->multi_bytes = 0;
}

void tx_empty_queue(struct conn *c)
{
    tx_drop_queue(c);
    c->multi = request_new(c->server, c, NULL);
    c->multi_failed = true;
}

void tx_discard(struct conn *c)
{
    tx_drop_queue(c);
    c->in_multi = c->multi_failed = false;
    conn_unwatch(c);
}

static void discard_run(struct request *rq)
{
    if (!rq->conn->in_multi) {
        request_error(rq, "ERR DISCARD without MULTI");
        return;
    }
    tx_discard(rq->conn);
    emit_status(request_emit(rq), "OK");
}

static bool watched(const struct conn *c, struct slice key)
{
    for (const struct conn_watch *w = c->watch; w != NULL; w = w->next)
        if (slice_eq(slice_of(w->key, w->key_len), key))
            return true;
    return false;
}

static void watch_run(struct request *rq)
{
    struct conn *c = rq->conn;

    if (c->in_multi) {
        request_error(rq, "ERR WATCH inside MULTI is not allowed");
        return;
    }
    for (int i = 1; i < rq->argc; i++)
        if (!command_check_key(rq, rq->argv[i]))
            return;
    for (int i = 1; i < rq->argc; i++) {
        struct slice key = rq->argv[i];
        struct conn_watch *w;

        if (watched(c, key))
            continue;
        w = calloc(1, sizeof(*w) + key.len);
        if (w == NULL)
            PANIC("out of memory for WATCH");
        w->mod = tx_mod_of(rq->server, key);
        w->key_len = key.len;
        memcpy(w->key, key.ptr, key.len);
        w->next = c->watch;
        c->watch = w;
        w->next_all = rq->server->watches;
        if (w->next_all != NULL)
            w->next_all->prev_all = w;
        rq->server->watches = w;
    }
    emit_status(request_emit(rq), "OK");
}

static void unwatch_run(struct request *rq)
{
    conn_unwatch(rq->conn);
    emit_status(request_emit(rq), "OK");
}

/* ---- EXEC -------------------------------------------------------------------------------- */

struct exec {
    struct server *server;
    struct conn_watch *watch; /* taken over from the connection */
    uint32_t conditions;      /* ops ahead of the children's */
    bool joining;             /* the reply; rq->cursor says how far */
};

static void free_exec(void *state)
{
    struct exec *x = state;

    tx_free_watches(x->server, &x->watch);
    free(x);
}

bool tx_begin(struct request *rq)
{
    struct conn *c = rq->conn;
    struct exec *x;

    if (!c->in_multi) {
        request_error(rq, "ERR EXEC without MULTI");
        return false;
    }
    if (c->multi_failed) {
        tx_discard(c);
        request_error(rq, "EXECABORT Transaction discarded because of previous errors.");
        return false;
    }
    x = calloc(1, sizeof(*x));
    if (x == NULL)
        PANIC("out of memory for EXEC");
    rq->state = x;
    rq->state_free = free_exec;
    x->server = rq->server;
    x->watch = c->watch;
    c->watch = NULL;
    rq->children = c->multi->children;
    rq->child_count = c->multi->child_count;
    c->multi->children = NULL;
    for (struct request *child = rq->children; child != NULL; child = child->next) {
        child->parent = rq;
        child->now_ms = rq->now_ms;
        child->start_us = rq->start_us;
        request_hold(rq); /* until the child is done */
    }
    tx_discard(c);
    return true;
}

void tx_end(struct request *rq)
{
    if (rq->children_ended)
        return;
    rq->children_ended = true;
    for (struct request *child = rq->children; child != NULL; child = child->next)
        if (!child->done && !child->ran)
            request_release(child);
}

static bool watch_broken(struct request *rq)
{
    const struct exec *x = rq->state;

    for (const struct conn_watch *w = x->watch; w != NULL; w = w->next)
        if (w->touched || tx_mod_of(rq->server, slice_of(w->key, w->key_len)) != w->mod)
            return true;
    return false;
}

static void run_reads(struct request *rq, const struct request *until)
{
    while (rq->cursor != NULL && rq->cursor != until) {
        struct request *child = rq->cursor;

        rq->cursor = child->next;
        if (child->cmd->plan != NULL || child->done)
            continue;
        child->ran = true;
        child->cmd->run(child);
        request_release(child);
    }
}

/* Nothing to log: the reads run now, in order. */
static enum plan reads_only(struct request *rq)
{
    rq->cursor = rq->children;
    run_reads(rq, NULL);
    tx_end(rq);
    return PLAN_REPLIED;
}

static void plan_children(struct request *rq, struct entry_writer *unit)
{
    for (struct request *child = rq->children; child != NULL; child = child->next) {
        uint32_t before = unit->count;

        child->ops = child->ops_seen = 0;
        if (child->cmd->plan == NULL || child->failed)
            continue;
        if (child->cmd->plan(child, unit) == PLAN_REPLIED)
            child->failed = true; /* its reply is complete; the others go on, as in Redis */
        else
            child->ops = unit->count - before;
    }
}

static enum plan exec_plan(struct request *rq, struct entry_writer *unit)
{
    struct exec *x = rq->state;

    if (watch_broken(rq)) {
        emit_nil_array(request_emit(rq));
        rq->children_dropped = true;
        tx_end(rq);
        return PLAN_REPLIED;
    }
    for (const struct conn_watch *w = x->watch; w != NULL; w = w->next)
        entry_u64(unit, OP_IF_MOD, ENTRY_MORE, slice_of(w->key, w->key_len), w->mod);
    x->conditions = unit->count;
    plan_children(rq, unit);
    if (rq->staging > 0)
        return PLAN_READY; /* values are being staged: planned again */
    if (unit->count == x->conditions)
        return reads_only(rq);
    rq->cursor = rq->children;
    return PLAN_READY;
}

struct request *tx_command_at(struct request *rq, uint32_t op)
{
    const struct exec *x = rq->state;

    if (rq->cmd->before_op == NULL)
        return rq;
    ASSERT(op >= x->conditions);
    op -= x->conditions;
    for (struct request *child = rq->children; child != NULL; child = child->next) {
        if (op < child->ops)
            return child;
        op -= child->ops;
    }
    PANIC("EXEC: an op without a command");
}

static void exec_before_op(struct request *rq, uint32_t op)
{
    const struct exec *x = rq->state;

    if (op >= x->conditions)
        run_reads(rq, tx_command_at(rq, op));
}

static void exec_result(struct request *rq, const struct fsm_result *r)
{
    struct request *child;
    struct fsm_result mine = *r;

    child = tx_command_at(rq, rq->ops_seen - 1);
    child->ops_seen++;
    mine.last = child->ops_seen == child->ops;
    child->cmd->result(child, &mine);
    if (r->last) {
        run_reads(rq, NULL);
        tx_end(rq);
    }
}

/* EXEC is done and so are all children: their replies become the elements of one array. */
bool tx_join(struct request *rq)
{
    struct exec *x = rq->state;

    if (x == NULL || rq->children_dropped || rq->failed)
        return true; /* EXEC itself was refused or failed: its reply is there */
    if (!x->joining) {
        x->joining = true;
        emit_array(request_emit(rq), rq->child_count);
        rq->cursor = rq->children;
    }
    for (; rq->cursor != NULL; rq->cursor = rq->cursor->next) {
        if (rq->cursor->next != NULL)
            value_join_ahead(rq->cursor->next);
        if (!value_join(rq->cursor, rq))
            return false;
    }
    return true;
}

#define TX (CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_IMMEDIATE | CMD_ALLOW_BUSY)
const struct command commands_tx[] = {
    {.name = "multi",
     .arity = 1,
     .flags = TX,
     .categories = CAT_TRANSACTION,
     .run = multi_run,
     .group = "transactions",
     .since = "1.2.0",
     .syntax = "",
     .summary = "Begins to queue commands for EXEC."},
    {.name = "exec",
     .arity = 1,
     .flags = (TX & ~(CMD_FAST | CMD_ALLOW_BUSY)) | CMD_SKIP_SLOWLOG,
     .categories = CAT_TRANSACTION,
     .plan = exec_plan,
     .result = exec_result,
     .before_op = exec_before_op,
     .group = "transactions",
     .since = "1.2.0",
     .syntax = "",
     .summary = "Runs the queued commands, all of them or none."},
    {.name = "discard",
     .arity = 1,
     .flags = TX,
     .categories = CAT_TRANSACTION,
     .run = discard_run,
     .group = "transactions",
     .since = "2.0.0",
     .syntax = "",
     .summary = "Forgets the queued commands."},
    {.name = "watch",
     .arity = -2,
     .flags = TX,
     .categories = CAT_TRANSACTION,
     .first_key = 1,
     .last_key = -1,
     .key_step = 1,
     .keys = "RO",
     .run = watch_run,
     .group = "transactions",
     .since = "2.2.0",
     .syntax = "key [key ...]",
     .summary = "Has EXEC do nothing if one of the keys changes."},
    {.name = "unwatch",
     .arity = 1,
     .flags = TX & ~CMD_IMMEDIATE,
     .categories = CAT_TRANSACTION,
     .run = unwatch_run,
     .group = "transactions",
     .since = "2.2.0",
     .syntax = "",
     .summary = "Forgets the watched keys."},
    {.name = NULL},
};
