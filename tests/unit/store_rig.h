/* SPDX-License-Identifier: MIT */
/* store_rig: one node's store, stepped by hand on a clock that the test moves.
 *
 * Purpose   start(), set(), del(), turn(), checkpoint(), reopen(), stop(): what the tests of the
 *           store have in common. No threads unless rig_threads is set before start()
 * Lifetime  one store at a time, in the static `node`
 */
#ifndef TESTS_UNIT_STORE_RIG_H
#define TESTS_UNIT_STORE_RIG_H

#include <inttypes.h>
#include <sys/stat.h>

#include "base/err.h"
#include "store/store_int.h"
#include "test.h"
#include "tmpdir.h"

#define MIB ((uint64_t)1 << 20)
#define VOLUME_SIZE (16 * MIB)

/* --- a node that is stepped by hand -------------------------------------------------------- */

static unsigned rig_threads; /* 0: stepped */

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
        .io = &io_system,
        .inbox = node.inbox,
        .clock = &node.clock,
        .pool = node.pool,
        .max_store_bytes = 64 * MIB,
        .max_index_bytes = 64 * MIB,
        .volume_size = VOLUME_SIZE,
        .read_threads = 1,
        .stepped = rig_threads == 0,
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
}

static inline void applied(void)
{
    node.index++;
    store_applied(node.store, node.index, 1, node.wall_ms);
}

static inline struct record inline_record(const char *data, uint64_t expire_ms)
{
    return (struct record){.kind = RECORD_INLINE,
                           .mod = node.index + 1,
                           .expire_ms = expire_ms,
                           .length = strlen(data),
                           .data = slice_str(data)};
}

static inline void set_ex(const char *key, const char *data, uint64_t expire_ms)
{
    struct record r = inline_record(data, expire_ms);

    store_put(node.store, slice_str(key), &r);
    applied();
}

static inline void set(const char *key, const char *data)
{
    set_ex(key, data, 0);
}

static inline void del(const char *key)
{
    store_del(node.store, slice_str(key));
    applied();
}

static inline int get_err(const char *key)
{
    struct record r;

    return store_get(node.store, slice_str(key), &r);
}

static inline void check_get(const char *key, const char *data)
{
    struct record r;

    CHECK_EQ_INT(store_get(node.store, slice_str(key), &r), 0);
    CHECK_EQ_INT(r.kind, RECORD_INLINE);
    CHECK_EQ_INT(r.data.len, strlen(data));
    CHECK_EQ_MEM(r.data.ptr, data, strlen(data));
}

static int waited; /* how often on_waited was called */
static int waited_err;

static inline void on_waited(void *ctx, int err)
{
    (void)ctx;
    waited++;
    waited_err = err;
}

static inline void checkpoint(void)
{
    waited = 0;
    store_checkpoint(node.store, on_waited, NULL);
    for (int i = 0; i < 10 && waited == 0; i++)
        turn();
    CHECK_EQ_INT(waited, 1);
    CHECK_EQ_INT(waited_err, 0);
}

static inline bool add_key(void *ctx, struct slice key, const struct record *r)
{
    char *text = ctx;
    size_t len = strlen(text);

    snprintf(text + len, 256 - len, "%.*s=%.*s ", (int)key.len, (const char *)key.ptr,
             (int)r->data.len, (const char *)r->data.ptr);
    return true;
}

static inline const char *scan(const char *from, bool after)
{
    static char text[256];

    text[0] = '\0';
    CHECK_EQ_INT(store_scan(node.store, slice_str(from), after, add_key, text), 0);
    return text;
}

static inline struct store_counts counts(void)
{
    struct store_counts c;

    store_get_counts(node.store, &c);
    return c;
}

/* --- payloads ------------------------------------------------------------------------------ */

struct staged {
    struct stage_req req;
    struct payload_digest digest;
    bool over;
};

static inline void on_staged(struct stage_req *r)
{
    ((struct staged *)(void *)r)->over = true;
}

/* A value of `len` bytes that depend on `seed`, as its client would send it. */
static inline void set_large(const char *key, size_t len, unsigned seed)
{
    struct staged *st = calloc(1, sizeof(*st));
    struct record r = {.kind = RECORD_SLAB, .length = len, .mod = node.index + 1};
    struct buf *b;

    CHECK_EQ_INT(buf_get(node.pool, len, &b), 0);
    for (size_t i = 0; i < len; i++)
        buf_payload(b)[i] = (uint8_t)((i * 31 + seed) >> (i % 5));
    payload_digest_begin(&st->digest, len);
    payload_digest_update(&st->digest, buf_payload(b), len);
    r.digest = payload_digest_end(&st->digest, buf_payload(b));
    st->req.buf = b;
    st->req.digest = &st->digest;
    st->req.key_len = strlen(key);
    memcpy(st->req.key, key, st->req.key_len);
    st->req.done = on_staged;
    stage_submit(store_stage(node.store), &st->req);
    for (int i = 0; i < 100 && !st->over; i++)
        turn();
    CHECK(st->over);
    CHECK_EQ_INT(st->req.err, 0);
    r.place = st->req.place;
    r.payload = st->req.id;
    store_put(node.store, slice_str(key), &r);
    applied();
    stage_release(store_stage(node.store), r.place);
    buf_unref(b);
    free(st);
}

static inline void on_read(struct payload_read *r)
{
    r->key_len = 0; /* tells the loop below */
}

static inline int read_large(const char *key, size_t len, unsigned seed)
{
    struct payload_read *p = calloc(1, sizeof(*p));
    struct record r;
    int err;

    CHECK_EQ_INT(store_get(node.store, slice_str(key), &r), 0);
    CHECK_EQ_INT(r.kind, RECORD_SLAB);
    CHECK_EQ_U64(r.length, len);
    p->place = r.place;
    p->id = r.payload;
    p->length = p->count = r.length;
    p->digest = r.digest;
    p->key_len = strlen(key);
    memcpy(p->key, key, p->key_len);
    CHECK_EQ_INT(buf_get(node.pool, payload_read_size(len, 0, len), &p->buf), 0);
    p->done = on_read;
    err = store_read(node.store, p);
    for (int i = 0; i < 100 && err == 0 && p->key_len != 0; i++)
        run();
    if (err == 0)
        err = p->err;
    for (size_t i = 0; err == 0 && i < len; i++)
        CHECK_EQ_INT(buf_payload(p->buf)[i], (uint8_t)((i * 31 + seed) >> (i % 5)));
    buf_unref(p->buf);
    free(p);
    return err;
}

#endif
