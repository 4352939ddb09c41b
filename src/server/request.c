/* SPDX-License-Identifier: MIT */
/* A request is counted down, not scheduled: whoever makes it wait takes a hold (the write path, a
 * load, a stage) and releases it when the thing has come. At zero it is done; its connection (or
 * its EXEC parent) then sends every finished reply from the head of its order.
 *
 * The reply goes into the connection's own output when the request is at the head of the order at
 * its first byte, else into an evbuffer of its own that is moved (not copied) when its turn comes.
 * A reply in many parts asks for its turn (request_turn) before each.
 */
#include "server/request.h"

#include <event2/buffer.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "server/command.h"
#include "server/conn_int.h"
#include "server/rebuild.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/stats.h"
#include "server/tx.h"
#include "server/value.h"
#include "server/write.h"

#define ERROR_TEXT_MAX 1024

#define SLICE_US 500 /* a listing or match holds the loop no longer than this */

struct upload *upload_new(struct buf *buf)
{
    struct upload *u = malloc(sizeof(*u));

    if (u == NULL)
        return NULL;
    u->buf = buf;
    u->received = 0;
    payload_digest_begin(&u->digest, buf->len);
    return u;
}

void upload_free(void *upload)
{
    struct upload *u = upload;

    if (u == NULL)
        return;
    buf_unref(u->buf);
    free(u);
}

struct request *request_new(struct server *s, struct conn *conn, const struct command *cmd)
{
    struct request *rq = calloc(1, sizeof(*rq));

    if (rq == NULL)
        PANIC("out of memory for a request");
    rq->server = s;
    rq->conn = conn;
    rq->cmd = cmd;
    rq->cmd_name = cmd != NULL ? cmd->name : "";
    rq->holds = 1;
    rq->proto = conn != NULL ? conn->proto : 2;
    rq->now_ms = clock_now_ms(&s->clock);
    rq->start_us = s->turn_us;
    rq->children_tail = &rq->children;
    return rq;
}

static void free_staged(struct request *rq)
{
    while (rq->staged != NULL) {
        struct staged *st = rq->staged;

        rq->staged = st->next;
        if (st->placed)
            stage_release(store_stage(rq->server->store), st->req.place);
        upload_free(st->upload);
        free(st);
    }
}

void request_free(struct request *rq)
{
    ASSERT(rq->holds == 0);
    if (rq->state_free != NULL)
        rq->state_free(rq->state);
    value_drop_all(rq);
    while (rq->children != NULL) {
        struct request *child = rq->children;

        rq->children = child->next;
        child->holds = 0;
        request_free(child);
    }
    free_staged(rq);
    rebuild_end(rq);
    for (int i = 0; rq->uploads != NULL && i < rq->argc; i++)
        upload_free(rq->uploads[i]);
    if (rq->out != NULL && (rq->conn == NULL || rq->out != rq->conn->out))
        reply_buffer_free(rq->server, rq->out);
    free(rq->uploads);
    free(rq->arg_mem);
    free(rq);
}

static size_t args_size(const struct request *rq)
{
    size_t bytes = (size_t)rq->argc * sizeof(struct slice);

    for (int i = 0; i < rq->argc; i++)
        bytes += rq->argv[i].len <= PARSE_DIRECT_MIN ? rq->argv[i].len : 0;
    return bytes;
}

static bool keep_args(struct request *rq)
{
    struct slice *argv;
    uint8_t *at;

    if (rq->arg_mem != NULL)
        return true;
    argv = malloc(args_size(rq));
    if (argv == NULL)
        return false;
    at = (uint8_t *)(argv + rq->argc);
    for (int i = 0; i < rq->argc; i++) {
        argv[i] = rq->argv[i];
        if (argv[i].len > PARSE_DIRECT_MIN || argv[i].len == 0)
            continue; /* it lives in an upload, which the request owns */
        memcpy(at, argv[i].ptr, argv[i].len);
        argv[i].ptr = at;
        at += argv[i].len;
    }
    rq->argv = argv;
    rq->arg_mem = argv;
    return true;
}

void request_keep_args(struct request *rq)
{
    if (!keep_args(rq))
        PANIC("out of memory for a request");
}

bool request_keep_large_args(struct request *rq, size_t large)
{
    return args_size(rq) < large || keep_args(rq);
}

/* What is in the connection's output may leave at any moment: a reply that must not, because its
 * write is applied and not yet durable, is kept apart. */
static bool may_go_out(const struct request *rq)
{
    const struct conn *c = rq->conn;

    return c != NULL && rq->parent == NULL && c->head == rq && !rq->discard &&
           !(rq->write && write_acks_late(rq->server->write));
}

struct emit *request_emit(struct request *rq)
{
    if (rq->out == NULL) {
        if (may_go_out(rq)) {
            rq->out = rq->conn->out;
        } else {
            rq->out = reply_buffer_new(rq->server);
        }
        rq->emit_state.out = rq->out;
        rq->emit_state.proto = rq->proto;
    }
    return &rq->emit_state;
}

void request_error(struct request *rq, const char *text)
{
    rq->failed = true;
    stats_error(rq->server, text);
    emit_error(request_emit(rq), text);
}

void request_errorf(struct request *rq, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    request_error(rq, text);
}

void request_error_code(struct request *rq, int err)
{
    request_errorf(rq, "%s %s", err_resp(err), err_text(err));
}

void request_hold(struct request *rq)
{
    ASSERT(!rq->done);
    rq->holds++;
}

/* False: a value is still being sent, and holds it. */
static bool reply_complete(struct request *rq)
{
    if (rq->parent != NULL)
        return true;
    return rq->cmd != NULL && rq->cmd->before_op != NULL ? tx_join(rq) : value_join(rq, rq);
}

void request_release(struct request *rq)
{
    ASSERT(rq->holds > 0 && !rq->done);
    if (--rq->holds > 0 || !reply_complete(rq))
        return;
    rq->done = true;
    command_finished(rq); /* while its arguments are there: SLOWLOG shows them */
    /* What was staged is referenced by a record now, or given up. */
    free_staged(rq);
    if (rq->parent != NULL)
        request_release(rq->parent);
    else if (rq->conn != NULL)
        conn_on_request_done(rq->conn, rq);
    else
        request_free(rq);
}

/* ---- taking turns ------------------------------------------------------------------------- */

/* Its turn has come: what it has said so far leaves, and so does what it says from now on. */
static void take_output(struct request *rq)
{
    struct conn *c = rq->conn;

    if (rq->discard) {
        if (rq->out != NULL)
            evbuffer_drain(rq->out, evbuffer_get_length(rq->out));
        return;
    }
    if (rq->out != NULL && rq->out != c->out) {
        evbuffer_add_buffer(c->out, rq->out);
        reply_buffer_free(rq->server, rq->out);
    }
    rq->out = rq->emit_state.out = c->out;
    rq->emit_state.proto = rq->proto;
    conn_mark_dirty(c);
}

static void wait_for_turn(struct request *rq, void (*next)(struct request *rq))
{
    ASSERT(rq->pace == NULL);
    request_hold(rq);
    rq->pace = next;
}

bool request_turn(struct request *rq, void (*next)(struct request *rq))
{
    struct conn *c = rq->conn;

    ASSERT(rq->parent == NULL);
    if (c == NULL)
        return false;
    if (c->head == rq) {
        take_output(rq);
        if (evbuffer_get_length(c->out) < CONN_OUT_HIGH)
            return false;
    }
    wait_for_turn(rq, next);
    return true;
}

bool request_pace(struct request *rq, void (*next)(struct request *rq))
{
    struct conn *c = rq->conn;

    if (c == NULL || rq->parent != NULL)
        return false;
    if (c->head == rq)
        return request_turn(rq, next);
    if (rq->out == NULL || evbuffer_get_length(rq->out) < CONN_OUT_HIGH)
        return false;
    wait_for_turn(rq, next);
    return true;
}

void request_paced(struct request *rq)
{
    void (*next)(struct request * rq) = rq->pace;

    rq->pace = NULL;
    next(rq);
    request_release(rq);
}

void request_count_value(struct request *rq, uint64_t bytes)
{
    rq->value_bytes += bytes;
    if (rq->conn != NULL)
        rq->conn->value_bytes += bytes;
}

static void wait_on(struct request *rq, struct request **list, void (*again)(struct request *rq))
{
    request_hold(rq);
    rq->wait = again;
    rq->wait_next = *list;
    *list = rq;
}

static void run_waiters(struct request **list)
{
    struct request *rq = *list;

    *list = NULL;
    while (rq != NULL) {
        struct request *next = rq->wait_next;

        rq->wait(rq);
        request_release(rq);
        rq = next;
    }
}

void request_wait_replies(struct request *rq, void (*again)(struct request *rq))
{
    wait_on(rq, &rq->server->reply_waiters, again);
}

void request_replies_left(struct server *s)
{
    if (s->reply_waiters != NULL && (!replies_full(s) || s->long_listing == NULL))
        run_waiters(&s->reply_waiters);
}

void request_wait_memory(struct request *rq, void (*again)(struct request *rq))
{
    wait_on(rq, &rq->server->memory_waiters, again);
}

void request_memory_available(struct server *s)
{
    run_waiters(&s->memory_waiters);
}

void request_next_turn(struct request *rq, void (*again)(struct request *rq))
{
    wait_on(rq, &rq->server->turn_waiters, again);
    rq->slice_us = 0;
    server_wake(rq->server);
}

void request_run_turn(struct server *s)
{
    run_waiters(&s->turn_waiters);
}

bool request_slice_over(struct request *rq)
{
    uint64_t now_us = server_now_us(rq->server);

    if (rq->slice_us == 0)
        rq->slice_us = now_us;
    return now_us - rq->slice_us >= SLICE_US;
}

/* ---- values of writes ------------------------------------------------------------------- */

static struct request *top_of(struct request *rq)
{
    return rq->parent != NULL ? rq->parent : rq;
}

static void on_staged(struct stage_req *req)
{
    struct staged *st = (struct staged *)((char *)req - offsetof(struct staged, req));
    struct request *rq = st->rq;
    struct request *top = top_of(rq);

    if (req->err == 0) {
        st->placed = true;
        tier_keep(rq->server->tier, req->id, req->buf);
        if (st->arg == STAGED_BUILT) { /* nobody else needs it in memory */
            buf_unref(st->upload->buf);
            st->upload->buf = NULL;
        }
    } else {
        top->stage_err = req->err;
    }
    ASSERT(top->staging > 0);
    if (--top->staging == 0)
        write_resume(top);
    request_release(rq);
}

static struct staged *find_staged(struct request *rq, int arg)
{
    for (struct staged *st = rq->staged; st != NULL; st = st->next)
        if (st->arg == arg)
            return st;
    return NULL;
}

static struct staged *add_staged(struct request *rq, int arg, struct upload *u)
{
    struct staged *st = calloc(1, sizeof(*st));

    if (st == NULL)
        PANIC("out of memory for a write");
    st->rq = rq;
    st->arg = arg;
    st->upload = u;
    st->next = rq->staged;
    rq->staged = st;
    return st;
}

void request_set_built(struct request *rq, struct upload *built)
{
    ASSERT(find_staged(rq, STAGED_BUILT) == NULL);
    add_staged(rq, STAGED_BUILT, built);
}

void request_drop_built(struct request *rq)
{
    struct staged **at = &rq->staged;

    while (*at != NULL && (*at)->arg != STAGED_BUILT)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    struct staged *st = *at;

    *at = st->next;
    if (st->placed)
        stage_release(store_stage(rq->server->store), st->req.place);
    upload_free(st->upload);
    free(st);
}

/* A value between inline-max and what the parser receives directly: it came with the small
 * arguments. Without room for a copy it stays inline, which is only a matter of speed, unless it
 * would overtake earlier writes of its connection that are being staged. */
static struct upload *upload_copy(struct request *rq, struct slice data)
{
    struct buf *buf;
    struct upload *u;

    if (buf_get(rq->server->pool, data.len, &buf) != 0)
        return NULL;
    memcpy(buf_payload(buf), data.ptr, data.len);
    u = upload_new(buf);
    if (u == NULL)
        buf_unref(buf);
    return u;
}

static bool has_writes_ahead(const struct request *rq)
{
    const struct request *r = rq->conn != NULL ? rq->conn->head : NULL;

    for (; r != NULL && r != rq; r = r->next)
        if (r->write && !r->proposed)
            return true;
    return false;
}

static void plan_again(struct request *rq)
{
    struct request *top = top_of(rq);

    rq->waits_for_copy = false;
    ASSERT(top->staging > 0);
    if (--top->staging == 0)
        write_resume(top);
}

static void wait_for_copy(struct request *rq)
{
    if (rq->waits_for_copy)
        return;
    rq->waits_for_copy = true;
    top_of(rq)->staging++;
    request_wait_memory(rq, plan_again);
}

/* The stage looks at it long after the parser has taken its memory back. */
static struct slice keep_text(uint8_t *to, struct slice text)
{
    if (text.len > 0)
        memcpy(to, text.ptr, text.len);
    return slice_of(to, text.len);
}

static void submit_stage(struct request *rq, struct staged *st, struct slice key,
                         const struct op_put *put)
{
    struct stage_req *req = &st->req;

    ASSERT(key.len <= RECORD_KEY_MAX);
    payload_digest_end(&st->upload->digest, buf_payload(st->upload->buf));
    req->buf = st->upload->buf;
    req->digest = &st->upload->digest;
    memcpy(req->key, key.ptr, key.len);
    req->key_len = key.len;
    req->model = keep_text(st->model, put->model);
    req->seq = keep_text(st->seq, put->seq);
    req->tokens = put->tokens;
    req->created_ms = put->created_ms;
    req->expire_ms = put->expire_ms;
    req->done = on_staged;
    request_hold(rq);
    top_of(rq)->staging++;
    stage_submit(store_stage(rq->server->store), req);
}

/* The bytes of a value that is to be stored: from the client or from a rebuild. */
static struct upload *upload_of(struct request *rq, int arg, struct slice *data)
{
    struct staged *st = find_staged(rq, arg);

    if (arg == STAGED_BUILT) {
        ASSERT(st != NULL && !st->placed);
        *data = slice_of(buf_payload(st->upload->buf), st->upload->buf->len);
        return st->upload;
    }
    *data = rq->argv[arg];
    return rq->uploads != NULL ? rq->uploads[arg] : NULL;
}

static void put_placed(struct request *rq, struct entry_writer *unit, struct slice key,
                       unsigned flags, struct op_put *put, const struct staged *st)
{
    put->payload = st->req.id;
    put->length = st->upload->digest.length;
    put->digest = st->upload->digest.total;
    put->nholders = 1;
    put->holders[0].node = store_config(rq->server->store)->node;
    put->holders[0].place = st->req.place;
    entry_put(unit, true, flags, key, put);
}

bool request_put(struct request *rq, struct entry_writer *unit, struct slice key, int arg,
                 unsigned flags, struct op_put *put)
{
    size_t inline_max = (size_t)rq->server->config->inline_max;
    struct staged *st = find_staged(rq, arg);
    struct slice data;
    struct upload *u;

    if (st != NULL && st->placed) {
        put_placed(rq, unit, key, flags, put, st);
        return true;
    }
    u = upload_of(rq, arg, &data);
    if (data.len > inline_max && st == NULL && u == NULL)
        u = upload_copy(rq, data);
    if (data.len > inline_max && st == NULL && u == NULL && has_writes_ahead(top_of(rq))) {
        wait_for_copy(rq);
        return false;
    }
    if (data.len <= inline_max || (u == NULL && st == NULL)) {
        put->data = data;
        entry_put(unit, false, flags, key, put);
        return true;
    }
    if (st == NULL) {
        st = add_staged(rq, arg, u);
        if (rq->uploads != NULL)
            rq->uploads[arg] = NULL; /* argv still points into it; staged lives as long */
    }
    submit_stage(rq, st, key, put);
    return false;
}
