/* SPDX-License-Identifier: MIT */
/* From a record to the bytes of a reply.
 *
 * Small values are in the record. A payload that the RAM tier holds is sent from there. Otherwise a
 * value is read whole, if there is room for it now: concurrent readers share the read, and the
 * buffer is kept for the next one. What is larger than VALUE_WHOLE_MAX is streamed when it is read
 * for the first time since it was written, and whole when it is read again: most large blocks are
 * read once or often, and one pass over cold ones should not push the hot ones out of memory.
 *
 *   cold GET, medians      whole: first byte / all    streamed: first byte / all
 *    2 MiB, 1 connection        2.9 /   3.4 ms              2.9 /   3.8 ms
 *    4 MiB, 1 connection        6.0 /   7.2 ms              2.6 /   5.7 ms
 *    4 MiB, 4 connections      13.4 /  17.2 ms              7.8 /  16.7 ms
 *    8 MiB, 1 connection        9.8 /  15.6 ms              3.5 /  11.0 ms
 *    8 MiB, 4 connections      21.6 /  40.5 ms              8.8 /  24.9 ms
 *   16 MiB, 1 connection       14.3 /  36.0 ms              3.2 /  19.6 ms
 *   32 MiB, 1 connection       21.1 /  71.4 ms              5.0 /  48.4 ms
 * (Interleaved rounds on a busy machine of two cores: only the relations mean something. From
 * memory 8 to 32 MiB come at two to three times the bytes a second of streaming.)
 *
 * Memory. A slow client holds what its reply refers to: whole buffers up to half of the budget,
 * tier hits included, and a few small groups of a stream. A whole read never waits for room, a
 * stream waits for one group at a time (stream.c). So a value that is larger than the free budget
 * is served, slow readers leave room for writes, and replies that wait for their turn cannot starve
 * the one whose turn it is. Commands behind CONN_VALUES_MAX bytes of values start later
 * (conn_io.c).
 *
 * Damage in the first group is answered in the value's place. Behind $len there is only one honest
 * answer: the connection is closed, logged and counted. The same when the value was deleted and its
 * volume recycled while a slow client was still reading it.
 */
#include "server/value.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/logger.h"
#include "server/conn_int.h"
#include "server/server.h"

struct value {
    struct value *next;  /* the next that waits in this request */
    struct request *rq;  /* whose command asked */
    struct request *top; /* whose reply it goes into: its EXEC, or itself */
    size_t at;           /* waiting: bytes of rq's reply between the value before and this one */
    struct value_part part;
    struct buf *buf;       /* read whole: lent, */
    int err;               /* or why not */
    struct stream *stream; /* else */
    bool waits, started, begun;
    size_t key_len;
    uint8_t key[RECORD_KEY_MAX];
};

static struct request *top_of(struct request *rq)
{
    return rq->parent != NULL ? rq->parent : rq;
}

static void free_value(struct value *v)
{
    buf_return(v->buf);
    stream_close(v->stream);
    free(v);
}

static void count_corrupt(struct server *s, int err, struct slice key)
{
    if (err != ERR_CORRUPT)
        return;
    metric_add(&s->metrics, METRIC_CORRUPT, 1);
    store_corrupt(s->store, key);
}

/* ---- replies ------------------------------------------------------------------------------ */

static void on_sent(const void *data, size_t len, void *buf)
{
    (void)data;
    (void)len;
    buf_return(buf);
}

static void emit_payload(struct emit *e, struct buf *buf, const struct value_part *part)
{
    emit_bulk_begin(e, part->count);
    if (evbuffer_add_reference(e->out, buf_payload(buf) + part->offset, part->count, on_sent,
                               buf_lend(buf)) != 0)
        PANIC("out of memory for a reply");
    emit_bulk_end(e);
}

/* What a child replies goes where its EXEC's reply has got to. */
static void begin(struct value *v, int err)
{
    struct request *rq = v->rq;
    struct evbuffer *own = rq->out;

    v->begun = true;
    count_corrupt(rq->server, err, slice_of(v->key, v->key_len));
    if (rq == v->top) {
        v->part.begin(rq, err);
        return;
    }
    rq->out = rq->emit_state.out = request_emit(v->top)->out;
    rq->emit_state.proto = rq->proto;
    v->part.begin(rq, err);
    rq->out = rq->emit_state.out = own;
}

static void emit_whole(struct value *v)
{
    begin(v, v->err);
    if (v->err == 0)
        emit_payload(request_emit(v->top), v->buf, &v->part);
}

/* ---- read whole --------------------------------------------------------------------------- */

static void on_whole(void *ctx, int err, struct buf *buf)
{
    struct value *v = ctx;
    struct request *rq = v->rq;

    v->err = err;
    v->buf = err == 0 ? buf_lend(buf) : NULL;
    if (!v->waits) {
        void (*end)(struct request *) = v->part.end;

        emit_whole(v);
        free_value(v);
        if (end != NULL)
            end(rq);
    }
    request_release(rq);
}

/* May a reply hold this much more? */
static bool may_lend(const struct server *s, size_t space)
{
    return buf_pool_lent(s->pool) + tier_loading(s->tier) + space <=
           buf_pool_limit(s->pool) / VALUE_LENT_SHARE;
}

/* False: it is to be streamed. hot: it has been read before. */
static bool try_whole(struct value *v, struct slice key, const struct record *r, bool hot)
{
    struct server *s = v->rq->server;
    size_t limit = buf_pool_limit(s->pool);

    if (v->part.count != r->length || !may_lend(s, buf_pool_space(r->length)))
        return false;
    if (r->length > VALUE_WHOLE_MAX && !(hot && r->length <= limit / VALUE_HOT_SHARE))
        return false;
    if (v->waits && v->top->value_bytes > limit / VALUE_EXEC_SHARE)
        return false;
    if (tier_load(s->tier, key, r, on_whole, v) != 0)
        return false;
    request_hold(v->rq);
    return true;
}

/* ---- streams ------------------------------------------------------------------------------ */

/* $len is out and the rest cannot follow. */
static void cut(struct value *v, int err)
{
    struct request *top = v->top;
    bool gone = err == ERR_NOTFOUND;

    metric_add(&top->server->metrics, gone ? METRIC_CUT_GONE : METRIC_CUT_DAMAGED, 1);
    count_corrupt(top->server, err, slice_of(v->key, v->key_len));
    LOG_WARNING("client closed addr=%s reason=\"%s, in the middle of a reply\" sent=%" PRIu64
                " of=%" PRIu64,
                top->conn->peer,
                gone ? "the value was deleted and its place used again" : err_text(err),
                v->part.count - stream_left(v->stream), v->part.count);
    top->sending = NULL; /* nothing to cancel: we are on the way out */
    conn_close(top->conn, gone ? "value gone" : "value damaged");
}

/* The next group into the output. 0 or an error of stream_peek. */
static int take(struct value *v)
{
    int err = stream_peek(v->stream);
    struct emit *e;

    if (err != 0)
        return err;
    if (!v->begun) {
        begin(v, 0);
        emit_bulk_begin(request_emit(v->top), v->part.count);
    }
    e = request_emit(v->top);
    stream_take(v->stream, e->out);
    if (stream_left(v->stream) == 0)
        emit_bulk_end(e);
    return 0;
}

static void pump(struct request *top);

/* Hands over groups as the client takes them. True: the value has left, or never will. */
static bool advance(struct value *v)
{
    struct request *top = v->top;

    while (top->conn != NULL && stream_left(v->stream) > 0) {
        int err;

        if (request_turn(top, pump))
            return false;
        err = take(v);
        if (err == ERR_AGAIN) {
            stream_urge(v->stream);
            return false;
        }
        if (err != 0 && !v->begun) {
            begin(v, err);
            return true;
        }
        if (err != 0)
            cut(v, err);
    }
    return true;
}

static void pump(struct request *top)
{
    struct value *v = top->sending;
    struct request *rq = v->rq;
    void (*end)(struct request *) = v->waits ? NULL : v->part.end;

    if (!advance(v))
        return;
    top->sending = NULL;
    if (v->waits)
        rq->values = v->next;
    free_value(v);
    if (end != NULL)
        end(rq);
    request_release(top);
}

static void on_ready(void *ctx)
{
    struct request *top = ((struct value *)ctx)->top;

    if (top->sending == ctx && top->pace == NULL) /* else its turn has not come */
        pump(top);
}

static void start(struct value *v)
{
    if (!v->started)
        stream_start(v->stream, on_ready, v);
    v->started = true;
}

void value_cancel(struct request *top)
{
    if (top->sending != NULL && top->pace == NULL)
        pump(top);
}

/* ---- replies of writes -------------------------------------------------------------------- */

static void wait_in_request(struct value *v)
{
    struct request *rq = v->rq;
    size_t len = rq->out != NULL && rq != v->top ? evbuffer_get_length(rq->out) : 0;

    if (rq->values == NULL) {
        rq->values_tail = &rq->values;
        rq->values_at = 0;
    }
    v->at = len - rq->values_at;
    rq->values_at = len;
    *rq->values_tail = v;
    rq->values_tail = &v->next;
}

static void move_reply(struct request *rq, struct request *top, size_t len)
{
    if (rq != top && rq->out != NULL && len > 0)
        evbuffer_remove_buffer(rq->out, request_emit(top)->out, len);
}

bool value_join(struct request *rq, struct request *top)
{
    while (rq->values != NULL && top->conn != NULL) {
        struct value *v = rq->values;

        move_reply(rq, top, v->at);
        v->at = 0;
        if (v->stream != NULL) {
            top->sending = v;
            start(v);
            if (!advance(v)) {
                request_hold(top);
                return false;
            }
            top->sending = NULL;
        } else {
            emit_whole(v);
        }
        rq->values = v->next;
        free_value(v);
    }
    move_reply(rq, top, rq->out != NULL ? evbuffer_get_length(rq->out) : 0);
    return true;
}

void value_join_ahead(struct request *rq)
{
    if (rq->values != NULL && rq->values->stream != NULL && rq->values->top->conn != NULL)
        start(rq->values);
}

void value_drop_all(struct request *rq)
{
    while (rq->values != NULL) {
        struct value *v = rq->values;

        rq->values = v->next;
        free_value(v);
    }
}

/* ---- what commands call ------------------------------------------------------------------- */

/* True: it has been read before. */
static bool touch(struct request *rq, const struct record *r)
{
    struct store *store = rq->server->store;
    bool hot = volumes_was_hit(store_volumes(store), r->place);

    if (rq->conn == NULL || !rq->conn->no_touch)
        store_hit(store, r);
    return hot;
}

/* In memory, and may be lent. */
static struct buf *find_kept(struct server *s, const struct record *r)
{
    struct buf *kept = tier_find(s->tier, r->payload);

    return kept != NULL && (kept->lent > 0 || may_lend(s, kept->space)) ? kept : NULL;
}

/* Bytes that are there, of a record or a buffer. */
static void send_now(struct request *rq, const struct record *r, struct buf *buf,
                     const struct value_part *part)
{
    part->begin(rq, 0);
    if (buf != NULL)
        emit_payload(request_emit(rq), buf, part);
    else if (r->kind == RECORD_INLINE)
        emit_bulk(request_emit(rq), slice_of(r->data.ptr + part->offset, part->count));
    else
        emit_bulk(request_emit(rq), slice_of(NULL, 0));
    if (part->end != NULL)
        part->end(rq);
}

static struct value *new_value(struct request *rq, struct slice key, const struct value_part *part)
{
    struct value *v = calloc(1, sizeof(*v));

    ASSERT(key.len <= RECORD_KEY_MAX);
    if (v == NULL)
        PANIC("out of memory for a reply");
    v->rq = rq;
    v->top = top_of(rq);
    v->part = *part;
    v->waits = v->top->write;
    v->key_len = key.len;
    memcpy(v->key, key.ptr, key.len);
    return v;
}

void value_send(struct request *rq, struct slice key, const struct record *r,
                const struct value_part *part)
{
    struct server *s = rq->server;
    struct request *top = top_of(rq);
    bool nobody = top->conn == NULL || top->discard, hot = false;
    struct buf *kept = NULL;
    struct value *v;

    ASSERT(part->offset <= r->length && part->count <= r->length - part->offset);
    if (r->kind == RECORD_SLAB) {
        hot = touch(rq, r);
        request_count_value(top, part->count);
        kept = nobody || part->count == 0 ? NULL : find_kept(s, r);
    }
    if (r->kind == RECORD_INLINE || nobody || part->count == 0 || kept != NULL) {
        send_now(rq, r, kept, part);
        return;
    }
    v = new_value(rq, key, part);
    if (!try_whole(v, key, r, hot))
        v->stream = stream_new(s->streams, key, r, part->offset, part->count);
    if (v->waits) {
        wait_in_request(v);
        if (part->end != NULL)
            part->end(rq);
    } else if (v->stream != NULL) {
        request_hold(top);
        top->sending = v;
        start(v);
        pump(top);
    }
}

void value_begin(struct request *rq, int err)
{
    if (err == ERR_CORRUPT || err == ERR_NOTFOUND)
        emit_nil(request_emit(rq));
    else if (err != 0)
        request_error_code(rq, err);
}

void value_reply(struct request *rq, struct slice key, const struct record *r)
{
    const struct value_part part = {0, r->length, value_begin, NULL};

    value_send(rq, key, r, &part);
}

/* ---- commands that compute ---------------------------------------------------------------- */

struct load {
    struct request *rq;
    value_cb cb;
    uint64_t length;
    size_t key_len;
    uint8_t key[RECORD_KEY_MAX];
};

static void on_loaded(void *ctx, int err, struct buf *buf)
{
    struct load *l = ctx;
    struct request *rq = l->rq;

    count_corrupt(rq->server, err, slice_of(l->key, l->key_len));
    l->cb(rq, err, err == 0 ? slice_of(buf_payload(buf), l->length) : slice_of(NULL, 0));
    free(l);
    request_release(rq);
}

int value_load(struct request *rq, struct slice key, const struct record *r, value_cb cb)
{
    struct buf *kept;
    struct load *l;
    int err;

    if (r->kind == RECORD_INLINE) {
        cb(rq, 0, r->data);
        return 0;
    }
    touch(rq, r);
    kept = tier_find(rq->server->tier, r->payload);
    if (kept != NULL) {
        cb(rq, 0, slice_of(buf_payload(kept), r->length));
        return 0;
    }
    l = malloc(sizeof(*l));
    if (l == NULL)
        return ERR_NOMEM;
    *l = (struct load){.rq = rq, .cb = cb, .length = r->length, .key_len = key.len};
    memcpy(l->key, key.ptr, key.len);
    err = tier_load(rq->server->tier, key, r, on_loaded, l);
    if (err != 0) {
        free(l);
        return err;
    }
    request_hold(rq);
    return 0;
}
