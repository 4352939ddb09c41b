/* SPDX-License-Identifier: MIT */
/* Happy path: stream_new pins the volume, stream_start finds a buffer and reads the first group and
 * the record's header; its digests prove all later chunks, so from then on up to STREAM_GROUPS
 * groups are under way: one is being sent, the others are read or wait. A group that the client has
 * taken gives its buffer back (on_sent, called by the evbuffer) and streams_run reads on.
 *
 * Memory. The first buffer in a stream's hand it waits for, in one FIFO with all the others; the
 * rest is read-ahead and taken only when nobody waits. So a stream that sends always comes back to
 * the FIFO with empty hands, and a full budget turns streams into a round-robin of single groups.
 * One buffer is kept beside the budget (spare) and lent to the first in the FIFO whose reply is
 * next on its connection: the budget may be full of replies that stand behind such ones.
 *
 * A slow client must not pin a volume (it could never be recycled), and a quick one must not lose
 * the value that it was promised. So a pin is held for STREAM_PIN_US from the look-up; later each
 * group pins for its read alone, which also says whether the slot still is what it was. Overwritten
 * or deleted values stay readable until their volume is recycled. Most readers never notice; one
 * that does gets ERR_NOTFOUND, and its connection is closed by value.c because $len has been sent.
 *
 * Failure: a group that cannot be read or verified is FAILED at its place in the order; the groups
 * before it can still be taken.
 */
#include "server/stream.h"

#include <event2/buffer.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"

enum group_state { GROUP_EMPTY, GROUP_READING, GROUP_READY, GROUP_SENDING, GROUP_FAILED };

struct group {
    struct payload_read read; /* .buf: one reference, or the spare, from READING until EMPTY */
    struct stream *stream;
    enum group_state state;
    int err; /* FAILED */
};

struct stream {
    struct streams *all;
    struct stream *prev, *next;             /* in the list of all */
    struct stream *queue_prev, *queue_next; /* in the queue for room */
    struct stream *due_next;                /* in the list of those that streams_run looks at */
    /* fixed after new */
    struct payload_id id;
    uint64_t length, digest, end; /* end: of the wanted range, in the value */
    size_t key_len;
    uint8_t key[RECORD_KEY_MAX];
    /* reading */
    struct place place;
    uint64_t read_at; /* value offset: from here nothing was asked for */
    uint64_t take_at; /* from here nothing was taken */
    uint64_t pin_until_us;
    bool pinned, queued, urgent, due, failed, closed;
    bool have_digests;
    unsigned in_hand; /* groups that hold a buffer */
    /* from stream_start on */
    void (*ready)(void *ctx);
    void *ctx;
    struct group *groups; /* STREAM_GROUPS; NULL: not started */
    uint64_t *digests;    /* of all chunks */
};

struct streams {
    struct store *store;
    struct buf_pool *pool;
    void (*wake)(void *ctx);
    void *ctx;
    struct stream *list;
    struct stream *queue_head, *queue_tail; /* wait for room, FIFO */
    struct stream *due;
    struct buf_pool *spare_pool; /* of the spare alone */
    struct buf *spare;
    bool lent;
    unsigned reading, sending; /* groups */
    uint64_t space;            /* bytes of the budget in groups, without the spare */
    struct stream_stats stats;
};

static uint64_t group_bytes(uint64_t length)
{
    uint64_t chunk = payload_chunk_size(length);

    return chunk > STREAM_GROUP_BYTES ? chunk : STREAM_GROUP_BYTES / chunk * chunk;
}

/* Chunks do not always divide STREAM_GROUP_BYTES: a longer value may have smaller groups. */
static uint64_t largest_group(uint64_t value_max)
{
    uint64_t last = group_bytes(value_max);

    return last > STREAM_GROUP_BYTES ? last : STREAM_GROUP_BYTES;
}

static uint64_t now_us(const struct streams *a)
{
    return clock_mono_us(store_config(a->store)->clock);
}

struct streams *streams_new(struct store *store, struct buf_pool *pool, uint64_t value_max,
                            void (*wake)(void *ctx), void *ctx)
{
    struct streams *a = calloc(1, sizeof(*a));
    uint64_t most = largest_group(value_max);

    if (a == NULL)
        return NULL;
    a->store = store;
    a->pool = pool;
    a->wake = wake;
    a->ctx = ctx;
    a->spare_pool = buf_pool_new(4 * buf_pool_space(most)); /* a value is at most half a pool */
    if (a->spare_pool == NULL || buf_get(a->spare_pool, most, &a->spare) != 0) {
        streams_free(a);
        return NULL;
    }
    return a;
}

void streams_free(struct streams *a)
{
    if (a == NULL)
        return;
    ASSERT(a->list == NULL && a->reading == 0 && a->sending == 0 && !a->lent);
    buf_unref(a->spare);
    buf_pool_free(a->spare_pool);
    free(a);
}

/* ---- life --------------------------------------------------------------------------------- */

struct stream *stream_new(struct streams *a, struct slice key, const struct record *r,
                          uint64_t offset, uint64_t count)
{
    struct stream *s = calloc(1, sizeof(*s));
    struct volume_io vio;

    ASSERT(r->kind == RECORD_SLAB && key.len <= RECORD_KEY_MAX);
    ASSERT(count > 0 && offset < r->length && count <= r->length - offset);
    if (s == NULL)
        PANIC("out of memory for a reply");
    s->all = a;
    s->id = r->payload;
    s->place = r->place;
    s->length = r->length;
    s->digest = r->digest;
    s->read_at = s->take_at = offset;
    s->end = offset + count;
    s->key_len = key.len;
    memcpy(s->key, key.ptr, key.len);
    s->pinned =
        volumes_pin(store_volumes(a->store), s->place.volume, s->place.generation, &vio) == 0;
    s->pin_until_us = now_us(a) + STREAM_PIN_US;
    s->next = a->list;
    if (a->list != NULL)
        a->list->prev = s;
    a->list = s;
    a->stats.open++;
    a->stats.opened++;
    return s;
}

static void unpin(struct stream *s)
{
    if (s->pinned)
        volumes_unpin(store_volumes(s->all->store), s->place.volume);
    s->pinned = false;
}

static void leave_queue(struct stream *s)
{
    struct streams *a = s->all;

    if (!s->queued)
        return;
    s->queued = false;
    if (s->queue_prev != NULL)
        s->queue_prev->queue_next = s->queue_next;
    else
        a->queue_head = s->queue_next;
    if (s->queue_next != NULL)
        s->queue_next->queue_prev = s->queue_prev;
    else
        a->queue_tail = s->queue_prev;
    a->stats.waiting--;
}

static void join_queue(struct stream *s)
{
    struct streams *a = s->all;

    s->queued = true;
    s->queue_next = NULL;
    s->queue_prev = a->queue_tail;
    if (a->queue_tail != NULL)
        a->queue_tail->queue_next = s;
    else
        a->queue_head = s;
    a->queue_tail = s;
    a->stats.waiting++;
    if (s->urgent)
        a->wake(a->ctx); /* for the spare */
}

static void make_due(struct stream *s)
{
    struct streams *a = s->all;

    if (!s->due) {
        s->due = true;
        s->due_next = a->due;
        a->due = s;
    }
    a->wake(a->ctx);
}

/* The group's buffer goes back; streams_run reads on, or frees the stream. */
static void empty(struct group *g)
{
    struct stream *s = g->stream;
    struct streams *a = s->all;
    struct buf *buf = g->read.buf;

    g->state = GROUP_EMPTY;
    g->read.buf = NULL;
    s->in_hand--;
    if (buf == a->spare) {
        a->lent = false;
    } else {
        a->space -= buf->space;
        buf_unref(buf);
    }
    make_due(s);
}

void stream_close(struct stream *s)
{
    if (s == NULL)
        return;
    ASSERT(!s->closed);
    s->closed = true;
    unpin(s);
    leave_queue(s);
    s->all->stats.open--;
    for (unsigned i = 0; s->groups != NULL && i < STREAM_GROUPS; i++)
        if (s->groups[i].state == GROUP_READY)
            empty(&s->groups[i]);
    make_due(s);
}

static void free_stream(struct stream *s)
{
    ASSERT(s->closed && s->in_hand == 0 && !s->queued && !s->due && !s->pinned);
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        s->all->list = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    free(s->groups);
    free(s->digests);
    free(s);
}

/* ---- reading ------------------------------------------------------------------------------ */

static void fill(struct stream *s);

static struct group *empty_group(struct stream *s)
{
    for (unsigned i = 0; i < STREAM_GROUPS; i++)
        if (s->groups[i].state == GROUP_EMPTY)
            return &s->groups[i];
    return NULL;
}

/* Nothing behind it will be read. */
static void fail(struct group *g, int err)
{
    if (g->read.buf != NULL)
        empty(g);
    g->state = GROUP_FAILED;
    g->err = err;
    g->stream->failed = true;
    g->stream->all->stats.errors++;
}

static void on_read(struct payload_read *r)
{
    struct group *g = (struct group *)((char *)r - offsetof(struct group, read));
    struct stream *s = g->stream;
    struct streams *a = s->all;

    ASSERT(g->state == GROUP_READING && a->reading > 0);
    a->reading--;
    a->stats.bytes += r->have;
    if (s->closed) {
        empty(g);
        return;
    }
    if (r->err != 0) {
        fail(g, r->err);
    } else {
        g->state = GROUP_READY;
        if (!s->have_digests)
            payload_read_digests(r, s->digests);
        s->have_digests = true;
        fill(s);
    }
    s->ready(s->ctx);
}

/* The slot is no longer what it was. 0: the payload was moved; ERR_NOTFOUND: it was deleted or
 * replaced; ERR_CORRUPT: its volume cannot be used. */
static int relocate(struct stream *s)
{
    struct streams *a = s->all;
    struct record r;

    if (store_get(a->store, slice_of(s->key, s->key_len), &r) != 0 || r.kind != RECORD_SLAB ||
        !payload_id_eq(r.payload, s->id)) {
        a->stats.gone++;
        return ERR_NOTFOUND;
    }
    if (place_eq(r.place, s->place))
        return ERR_CORRUPT;
    s->place = r.place;
    a->stats.moved++;
    return 0;
}

static uint64_t next_count(const struct stream *s)
{
    uint64_t chunk = payload_chunk_size(s->length);
    uint64_t stop = s->read_at / chunk * chunk + group_bytes(s->length);

    return (stop < s->end ? stop : s->end) - s->read_at;
}

static int submit(struct stream *s, struct payload_read *r)
{
    int err = store_read(s->all->store, r);

    if (err == 0 || s->pinned)
        return err;
    err = relocate(s);
    r->place = s->place;
    return err == 0 ? store_read(s->all->store, r) : err;
}

/* Into buf: one reference that is taken over, or the spare. */
static void read_group(struct stream *s, struct buf *buf)
{
    struct streams *a = s->all;
    struct group *g = empty_group(s);
    struct payload_read *r = &g->read;
    int err;

    r->place = s->place;
    r->id = s->id;
    r->length = s->length;
    r->digest = s->digest;
    r->offset = s->read_at;
    r->count = next_count(s);
    r->key_len = s->key_len;
    memcpy(r->key, s->key, s->key_len);
    r->buf = buf;
    r->digests = s->have_digests ? s->digests : NULL;
    r->done = on_read;
    s->in_hand++;
    if (buf == a->spare)
        a->lent = true;
    else
        a->space += buf->space;
    err = submit(s, r);
    if (err != 0) {
        fail(g, err);
        return;
    }
    g->state = GROUP_READING;
    a->reading++;
    a->stats.groups++;
    s->read_at += r->count;
    if (s->read_at == s->end)
        unpin(s); /* every read has a pin of its own */
}

static int get_room(struct stream *s, struct buf **out)
{
    struct streams *a = s->all;
    size_t size = payload_read_size(s->length, s->read_at, next_count(s));
    uint64_t most = buf_pool_limit(a->pool) / STREAM_AHEAD_SHARE;

    if (s->in_hand > 0 && a->space + buf_pool_space(size) > most)
        return ERR_AGAIN;
    return buf_get(a->pool, size, out);
}

static void fail_next(struct stream *s, int err)
{
    struct group *g = empty_group(s);

    g->read.offset = s->read_at;
    fail(g, err);
}

/* Reads what there is room for. Only the first group reads the header, so it goes alone. */
static void fill(struct stream *s)
{
    while (!s->failed && !s->queued && s->read_at < s->end && empty_group(s) != NULL &&
           (s->have_digests || s->in_hand == 0)) {
        struct buf *buf;
        int err = s->all->queue_head != NULL ? ERR_AGAIN : get_room(s, &buf);

        if (err == 0)
            read_group(s, buf);
        else if (err != ERR_AGAIN)
            fail_next(s, err);
        else if (s->in_hand == 0)
            join_queue(s);
        else
            return; /* read-ahead can wait */
    }
}

void stream_start(struct stream *s, void (*ready)(void *ctx), void *ctx)
{
    ASSERT(s->groups == NULL && !s->closed);
    s->ready = ready;
    s->ctx = ctx;
    s->groups = calloc(STREAM_GROUPS, sizeof(*s->groups));
    s->digests = malloc(PAYLOAD_CHUNKS_MAX * sizeof(*s->digests));
    if (s->groups == NULL || s->digests == NULL)
        PANIC("out of memory for a reply");
    for (unsigned i = 0; i < STREAM_GROUPS; i++)
        s->groups[i].stream = s;
    fill(s);
}

/* ---- taking ------------------------------------------------------------------------------- */

static void on_sent(const void *data, size_t len, void *arg)
{
    struct group *g = arg;

    (void)data;
    (void)len;
    ASSERT(g->state == GROUP_SENDING && g->stream->all->sending > 0);
    g->stream->all->sending--;
    empty(g);
}

/* The group that is next in order; NULL: it is not there. */
static struct group *next_group(const struct stream *s)
{
    for (unsigned i = 0; i < STREAM_GROUPS; i++) {
        struct group *g = &s->groups[i];

        if ((g->state == GROUP_READY || g->state == GROUP_FAILED) && g->read.offset == s->take_at)
            return g;
    }
    return NULL;
}

int stream_peek(const struct stream *s)
{
    const struct group *g = next_group(s);

    ASSERT(s->groups != NULL && s->take_at < s->end);
    if (g == NULL)
        return ERR_AGAIN;
    return g->state == GROUP_FAILED ? g->err : 0;
}

void stream_take(struct stream *s, struct evbuffer *out)
{
    struct group *g = next_group(s);
    struct payload_read *r = &g->read;

    ASSERT(g->state == GROUP_READY);
    if (evbuffer_add_reference(out, buf_payload(r->buf) + (r->offset - r->first), r->count, on_sent,
                               g) != 0)
        PANIC("out of memory for a reply");
    g->state = GROUP_SENDING;
    s->all->sending++;
    s->take_at += r->count;
}

uint64_t stream_left(const struct stream *s)
{
    return s->end - s->take_at;
}

void stream_urge(struct stream *s)
{
    if (s->urgent)
        return;
    s->urgent = true;
    if (s->queued)
        s->all->wake(s->all->ctx);
}

/* ---- all of them -------------------------------------------------------------------------- */

static void lend_spare(struct streams *a)
{
    struct stream *s = a->queue_head;

    while (s != NULL && !s->urgent)
        s = s->queue_next;
    if (s == NULL || a->lent)
        return;
    leave_queue(s);
    read_group(s, a->spare);
    if (s->failed)
        s->ready(s->ctx);
}

static void serve_queue(struct streams *a)
{
    while (a->queue_head != NULL) {
        struct stream *s = a->queue_head;
        struct buf *buf;
        int err = get_room(s, &buf);

        if (err == ERR_AGAIN)
            return;
        leave_queue(s);
        if (err == 0)
            read_group(s, buf);
        else
            fail_next(s, err);
        if (s->failed)
            s->ready(s->ctx);
    }
}

void streams_run(struct streams *a)
{
    serve_queue(a);
    while (a->due != NULL) {
        struct stream *s = a->due;

        a->due = s->due_next;
        s->due = false;
        if (s->closed) {
            if (s->in_hand == 0)
                free_stream(s);
            continue;
        }
        fill(s);
        if (s->failed)
            s->ready(s->ctx);
    }
    lend_spare(a);
}

void streams_check(struct streams *a)
{
    uint64_t now = now_us(a);

    for (struct stream *s = a->list; s != NULL; s = s->next)
        if (s->pinned && now >= s->pin_until_us)
            unpin(s);
}

bool streams_idle(const struct streams *a)
{
    return a->reading == 0 && a->queue_head == NULL && a->due == NULL;
}

bool streams_waiting(const struct streams *a)
{
    return a->queue_head != NULL;
}

void streams_get_stats(const struct streams *a, struct stream_stats *out)
{
    *out = a->stats;
}
