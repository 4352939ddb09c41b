/* SPDX-License-Identifier: MIT */
/* store_rig_payload: large values, staged and read back; see store_rig.h. */
#ifndef TESTS_UNIT_STORE_RIG_PAYLOAD_H
#define TESTS_UNIT_STORE_RIG_PAYLOAD_H

#include "store_rig_base.h"

struct staged {
    struct stage_req req;
    struct payload_digest digest;
    bool over;
};

static inline void on_staged(struct stage_req *r)
{
    ((struct staged *)(void *)r)->over = true;
}

#define STAGE_TURNS 1000

/* The eight bytes from `at` on, a multiple of 8, of a large value. */
static inline uint64_t large_word(size_t at, unsigned seed)
{
    return (at + 8) * 0x9e3779b97f4a7c15u + seed * 0xff51afd7ed558ccdu;
}

static inline uint8_t large_byte(size_t at, unsigned seed)
{
    return (uint8_t)(large_word(at / 8 * 8, seed) >> at % 8 * 8);
}

/* By words: byte by byte it was most of a program's time under ThreadSanitizer. */
static inline void fill_large(void *out, size_t len, unsigned seed)
{
    uint64_t *words = out, rest = large_word(len / 8 * 8, seed);

    for (size_t i = 0; i < len / 8; i++)
        words[i] = large_word(8 * i, seed);
    memcpy(words + len / 8, &rest, len % 8);
}

static inline void check_large(const void *data, size_t len, unsigned seed)
{
    const uint64_t *words = data;
    uint64_t rest = large_word(len / 8 * 8, seed);

    for (size_t i = 0; i < len / 8; i++)
        CHECK_EQ_U64(words[i], large_word(8 * i, seed));
    CHECK_EQ_MEM(words + len / 8, &rest, len % 8);
}

/* A value of `len` bytes that depend on `seed`, as its client would send it. Its digest. */
static inline uint64_t submit_large(struct staged *st, const char *key, size_t len, unsigned seed)
{
    struct buf *b;
    uint64_t digest;

    memset(st, 0, sizeof(*st));
    CHECK_EQ_INT(buf_get(node.pool, len, &b), 0);
    fill_large(buf_payload(b), len, seed);
    payload_digest_begin(&st->digest, len);
    payload_digest_update(&st->digest, buf_payload(b), len);
    digest = payload_digest_end(&st->digest, buf_payload(b));
    st->req.buf = b;
    st->req.digest = &st->digest;
    st->req.key_len = strlen(key);
    memcpy(st->req.key, key, st->req.key_len);
    st->req.done = on_staged;
    stage_submit(store_stage(node.store), &st->req);
    buf_unref(b); /* the stage has its own reference */
    return digest;
}

/* 0 or the stage's error. */
static inline int try_large(const char *key, size_t len, unsigned seed, uint64_t expire_ms)
{
    struct staged *st = calloc(1, sizeof(*st));
    struct record r = {.kind = RECORD_SLAB, .length = len, .expire_ms = expire_ms};
    int err;

    r.digest = submit_large(st, key, len, seed);
    for (int i = 0; i < STAGE_TURNS && !st->over; i++)
        turn();
    CHECK(st->over);
    err = st->req.err;
    if (err == 0) {
        r.place = st->req.place;
        r.payload = st->req.id;
        r.mod = node.index + 1; /* turns may have applied others */
        store_put(node.store, slice_str(key), &r);
        applied();
        stage_release(store_stage(node.store), r.place);
    }
    free(st);
    return err;
}

static inline void set_large(const char *key, size_t len, unsigned seed)
{
    CHECK_EQ_INT(try_large(key, len, seed, 0), 0);
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
    if (err == 0)
        check_large(buf_payload(p->buf), len, seed);
    buf_unref(p->buf);
    free(p);
    return err;
}

#endif
