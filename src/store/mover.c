/* SPDX-License-Identifier: MIT */
/* MOVE of one key: read and verify its payload, stage it under the same id into the volume of
 * MOVEs, exchange the place in the key record if key and mod are still the same. Physical and
 * local: no log entry, no change that a client could see. A crash before the next checkpoint leaves
 * the record at its old slot, which no rule has freed by then.
 *
 * Memory comes from the payload pool. When that is used up by writes which themselves wait for the
 * space that this MOVE would make, one MOVE goes on with memory of its own, given back at once.
 *
 * Failure modes: the payload is damaged: it is counted, and the leader evicts the key through the
 * log unless another node holds a copy. It cannot be read, or not be written: nothing has changed,
 * compact.c sees that the volume did not become empty.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"
#include "store/evict_int.h"

struct move {
    struct payload_read read;
    struct stage_req stage;
    struct mover *mover;
    bool used;
    bool only_here; /* no other node holds this payload */
    uint64_t mod;
    struct payload_digest digest;
    uint8_t model[RECORD_META_MAX], seq[RECORD_META_MAX];
};

struct mover {
    struct store *s;
    struct move moves[MOVER_MAX];
    unsigned active;
    uint64_t bytes;
    struct buf_pool *own; /* NULL but in need */
};

struct mover *mover_new(struct store *s)
{
    struct mover *m = calloc(1, sizeof(*m));

    if (m != NULL)
        m->s = s;
    return m;
}

void mover_step(struct mover *m)
{
    if (m->own != NULL && buf_pool_used(m->own) == 0) {
        buf_pool_free(m->own);
        m->own = NULL;
    }
}

void mover_free(struct mover *m)
{
    if (m == NULL)
        return;
    ASSERT(m->active == 0);
    mover_step(m);
    ASSERT(m->own == NULL);
    free(m);
}

unsigned mover_active(const struct mover *m)
{
    return m->active;
}

static struct slice key_of(const struct move *mv)
{
    return slice_of(mv->read.key, mv->read.key_len);
}

/* The worker or the stage drop their own reference of the buffer behind this. */
static void end(struct move *mv)
{
    struct mover *m = mv->mover;

    ASSERT(mv->used && m->active > 0 && m->bytes >= mv->read.length);
    m->active--;
    m->bytes -= mv->read.length;
    mv->used = false;
    buf_unref(mv->read.buf);
}

static void on_staged(struct stage_req *q)
{
    struct move *mv = (struct move *)((char *)q - offsetof(struct move, stage));
    struct store *s = mv->mover->s;

    if (q->err == 0) {
        (void)FAIL("move.done");
        store_move(s, key_of(mv), mv->mod, mv->read.place, q->place);
        stage_release(s->stage, q->place);
    }
    end(mv);
}

/* The header page beside the payload was verified with it: no digest is taken twice. */
static void take_digests(struct move *mv)
{
    struct payload_digest *d = &mv->digest;

    payload_digest_begin(d, mv->read.length);
    d->chunks = (uint32_t)((d->length + d->chunk - 1) / d->chunk);
    for (uint32_t i = 0; i < d->chunks; i++)
        d->digests[i] = payload_header_digest(mv->read.buf->mem, i);
    d->seen = d->length;
    d->total = mv->read.digest;
}

static void on_damaged(struct move *mv)
{
    struct store *s = mv->mover->s;
    struct record r;

    if (evict_find(s, key_of(mv), &r) != 0 || r.mod != mv->mod)
        return; /* replaced meanwhile: nothing was lost */
    store_corrupt(s, key_of(mv));
    if (s->leading && mv->only_here)
        evict_propose(s, key_of(mv), mv->mod); /* not taken: found again by who comes next */
}

static void on_read(struct payload_read *r)
{
    struct move *mv = (struct move *)(void *)r;
    struct store *s = mv->mover->s;

    if (r->err == 0 && !s->closing) {
        take_digests(mv);
        mv->stage.buf = r->buf;
        stage_submit(s->stage, &mv->stage);
        return;
    }
    if (r->err == ERR_CORRUPT)
        on_damaged(mv);
    end(mv);
}

static void fill(struct move *mv, struct slice key, const struct record *r)
{
    mv->mod = r->mod;
    mv->only_here = r->nholders <= 1;
    memcpy(mv->model, r->model.ptr, r->model.len);
    memcpy(mv->seq, r->seq.ptr, r->seq.len);
    mv->read = (struct payload_read){.place = r->place,
                                     .id = r->payload,
                                     .length = r->length,
                                     .digest = r->digest,
                                     .count = r->length,
                                     .key_len = key.len,
                                     .done = on_read};
    mv->stage = (struct stage_req){.digest = &mv->digest,
                                   .key_len = key.len,
                                   .model = slice_of(mv->model, r->model.len),
                                   .seq = slice_of(mv->seq, r->seq.len),
                                   .tokens = r->tokens,
                                   .created_ms = r->created_ms,
                                   .expire_ms = r->expire_ms,
                                   .id = r->payload,
                                   .moving = true,
                                   .done = on_staged};
    memcpy(mv->read.key, key.ptr, key.len);
    memcpy(mv->stage.key, key.ptr, key.len);
}

static int get_buf(struct mover *m, uint64_t length, struct buf **out)
{
    int err = buf_get(m->s->config.pool, length, out);

    if (err == 0 || m->active > 0)
        return err == 0 ? 0 : ERR_AGAIN;
    if (m->own == NULL)
        m->own = buf_pool_new((length + 64 * (size_t)BUF_ALIGN) * 5 / 2);
    if (m->own == NULL || buf_get(m->own, length, out) != 0)
        return ERR_AGAIN;
    return 0;
}

/* Clients need the pool, too. */
static uint64_t bytes_max(const struct mover *m)
{
    uint64_t part = buf_pool_limit(m->s->config.pool) / 8;

    return part < MOVER_BYTES ? part : MOVER_BYTES;
}

int mover_start(struct mover *m, struct slice key, const struct record *r)
{
    struct move *mv = NULL;
    int err;

    ASSERT(r->kind == RECORD_SLAB);
    mover_step(m);
    for (unsigned i = 0; i < MOVER_MAX && mv == NULL; i++)
        if (!m->moves[i].used)
            mv = &m->moves[i];
    if (mv == NULL || (m->active > 0 && m->bytes + r->length > bytes_max(m)))
        return ERR_AGAIN;
    fill(mv, key, r);
    err = get_buf(m, r->length, &mv->read.buf);
    if (err != 0)
        return err;
    mv->mover = m;
    mv->used = true;
    m->active++;
    m->bytes += r->length;
    err = store_read(m->s, &mv->read);
    if (err != 0)
        end(mv);
    return err;
}
