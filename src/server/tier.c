/* SPDX-License-Identifier: MIT */
/* Two hash maps by payload id: kept buffers (CLOCK ring) and loads under way (whole payloads only).
 *
 * A whole-value read first looks for a kept buffer, then joins a load of the same payload that is
 * under way, then starts one. A range read is served from a kept buffer, else it reads just the
 * covering chunks into a buffer of its own that is not kept. A load that finds no room in the
 * budget waits in a FIFO; tier_on_space starts them again, ahead of uploads (loads before stores).
 * From its first moment a load pins its volume, so the payload it was asked for cannot go.
 */
#include "server/tier.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/map.h"

struct item { /* a kept buffer */
    struct map_node node;
    struct payload_id id;
    struct buf *buf;
    bool referenced;
    struct item *prev, *next; /* the ring */
};

struct tier_wait {
    struct tier_wait *next;
    tier_cb cb;
    void *ctx;
};

struct load {
    struct map_node node; /* in loads when whole */
    struct payload_id id;
    struct tier *tier;
    struct payload_read read;
    bool whole, pinned;
    struct tier_wait *waits, **waits_tail;
    struct load *queue_next; /* waits for memory */
};

struct tier {
    struct store *store;
    struct buf_pool *pool;
    struct map items, loads;
    struct item *hand;
    struct load *queue, **queue_tail;
    unsigned under_way;
    struct tier_stats stats;
};

static struct slice item_key(const struct map_node *n)
{
    const struct item *it = (const struct item *)(const void *)n;

    return slice_of(&it->id, sizeof(it->id));
}

static struct slice load_key(const struct map_node *n)
{
    const struct load *l = (const struct load *)(const void *)n;

    return slice_of(&l->id, sizeof(l->id));
}

struct tier *tier_new(struct store *store, struct buf_pool *pool)
{
    struct tier *t = calloc(1, sizeof(*t));

    _Static_assert(sizeof(struct payload_id) == 16, "the key of the maps has no padding");
    if (t == NULL)
        return NULL;
    t->store = store;
    t->pool = pool;
    t->queue_tail = &t->queue;
    map_init(&t->items, item_key);
    map_init(&t->loads, load_key);
    return t;
}

static void drop(struct tier *t, struct item *it)
{
    map_remove(&t->items, slice_of(&it->id, sizeof(it->id)));
    if (it->next == it) {
        t->hand = NULL;
    } else {
        it->prev->next = it->next;
        it->next->prev = it->prev;
        if (t->hand == it)
            t->hand = it->next;
    }
    t->stats.items--;
    t->stats.bytes -= it->buf->space;
    buf_unref(it->buf);
    free(it);
}

void tier_free(struct tier *t)
{
    if (t == NULL)
        return;
    ASSERT(t->under_way == 0);
    while (t->hand != NULL)
        drop(t, t->hand);
    map_fini(&t->items, NULL, NULL);
    map_fini(&t->loads, NULL, NULL);
    free(t);
}

struct buf *tier_find(struct tier *t, struct payload_id id)
{
    struct item *it = (struct item *)(void *)map_get(&t->items, slice_of(&id, sizeof(id)));

    if (it == NULL)
        return NULL;
    it->referenced = true;
    return it->buf;
}

void tier_keep(struct tier *t, struct payload_id id, struct buf *buf)
{
    struct item *it;

    if (map_get(&t->items, slice_of(&id, sizeof(id))) != NULL)
        return;
    it = calloc(1, sizeof(*it));
    if (it == NULL)
        return; /* a cache may forget */
    it->id = id;
    it->buf = buf_ref(buf);
    map_put(&t->items, &it->node);
    if (t->hand == NULL) {
        it->prev = it->next = it;
        t->hand = it;
    } else { /* behind the hand: looked at last */
        it->next = t->hand;
        it->prev = t->hand->prev;
        it->prev->next = it;
        t->hand->prev = it;
    }
    t->stats.items++;
    t->stats.bytes += buf->space;
}

/* A buffer that a reply or a stage still uses frees nothing by being forgotten: it is passed over,
 * and so is, once, one that was used since the hand came by. */
bool tier_reclaim(struct tier *t)
{
    for (uint64_t tries = 2 * t->stats.items; tries > 0; tries--) {
        struct item *it = t->hand;

        if (it->buf->refs == 1 && !it->referenced) {
            drop(t, it);
            return true;
        }
        if (it->buf->refs == 1)
            it->referenced = false;
        t->hand = it->next;
    }
    return false;
}

/* ---- loads ------------------------------------------------------------------------------- */

static void free_load(struct load *l)
{
    if (l->whole)
        map_remove(&l->tier->loads, slice_of(&l->id, sizeof(l->id)));
    free(l);
}

static void answer(struct load *l, int err)
{
    struct tier_wait *w = l->waits;

    while (w != NULL) {
        struct tier_wait *next = w->next;

        w->cb(w->ctx, err, l->read.buf, l->read.first);
        free(w);
        w = next;
    }
    l->waits = NULL;
}

static void on_read(struct payload_read *r)
{
    struct load *l = (struct load *)((char *)r - offsetof(struct load, read));
    struct tier *t = l->tier;
    struct buf *buf = r->buf;

    ASSERT(t->under_way > 0);
    t->under_way--;
    if (r->err != 0)
        t->stats.load_errors++;
    else if (l->whole)
        tier_keep(t, l->id, buf);
    t->stats.load_bytes += r->err == 0 ? r->have : 0;
    answer(l, r->err);
    free_load(l);
    buf_unref(buf);
}

static void unpin(struct tier *t, struct load *l)
{
    if (l->pinned)
        volumes_unpin(store_volumes(t->store), l->read.place.volume);
    l->pinned = false;
}

/* false: no room yet. */
static bool try_start(struct tier *t, struct load *l)
{
    struct payload_read *r = &l->read;
    size_t size = payload_read_size(r->length, r->offset, r->count);
    int err = l->pinned ? buf_get(t->pool, size, &r->buf) : ERR_CORRUPT;

    if (err == ERR_AGAIN)
        return false;
    if (err == 0) {
        r->done = on_read;
        err = store_read(t->store, r); /* takes a pin of its own */
        if (err == 0) {
            unpin(t, l);
            t->under_way++;
            t->stats.loads++;
            return true;
        }
        buf_unref(r->buf);
        r->buf = NULL;
    }
    t->stats.load_errors++;
    unpin(t, l);
    answer(l, err);
    free_load(l);
    return true;
}

void tier_on_space(struct tier *t)
{
    while (t->queue != NULL) {
        struct load *l = t->queue;
        struct load *next = l->queue_next;

        if (!try_start(t, l))
            return;
        t->queue = next;
        t->stats.waiting--;
        if (next == NULL)
            t->queue_tail = &t->queue;
    }
}

static struct load *new_load(struct tier *t, struct slice key, const struct record *r,
                             uint64_t offset, uint64_t count)
{
    struct load *l = calloc(1, sizeof(*l));

    if (l == NULL)
        return NULL;
    l->tier = t;
    l->id = r->payload;
    l->whole = offset == 0 && count == r->length;
    l->waits_tail = &l->waits;
    l->read.place = r->place;
    l->read.id = r->payload;
    l->read.length = r->length;
    l->read.digest = r->digest;
    l->read.offset = offset;
    l->read.count = count;
    memcpy(l->read.key, key.ptr, key.len);
    l->read.key_len = key.len;
    l->pinned = volumes_pin(store_volumes(t->store), r->place.volume, r->place.generation,
                            &l->read.vio) == 0;
    return l;
}

void tier_load(struct tier *t, struct slice key, const struct record *r, uint64_t offset,
               uint64_t count, tier_cb cb, void *ctx)
{
    struct buf *kept = tier_find(t, r->payload);
    struct tier_wait *w;
    struct load *l = NULL;

    if (kept != NULL) {
        t->stats.hits++;
        cb(ctx, 0, kept, 0);
        return;
    }
    t->stats.misses++;
    w = calloc(1, sizeof(*w));
    if (w != NULL && offset == 0 && count == r->length)
        l = (struct load *)(void *)map_get(&t->loads, slice_of(&r->payload, sizeof(r->payload)));
    if (w != NULL && l == NULL) {
        l = new_load(t, key, r, offset, count);
        if (l != NULL) {
            if (l->whole)
                map_put(&t->loads, &l->node);
            l->queue_next = NULL;
            *t->queue_tail = l;
            t->queue_tail = &l->queue_next;
            t->stats.waiting++;
        }
    }
    if (w == NULL || l == NULL) {
        free(w);
        cb(ctx, ERR_NOMEM, NULL, 0);
        return;
    }
    w->cb = cb;
    w->ctx = ctx;
    *l->waits_tail = w;
    l->waits_tail = &w->next;
    tier_on_space(t);
}

bool tier_waits(const struct tier *t)
{
    return t != NULL && t->queue != NULL;
}

bool tier_idle(const struct tier *t)
{
    return t->under_way == 0 && t->queue == NULL;
}

void tier_get_stats(const struct tier *t, struct tier_stats *out)
{
    *out = t->stats;
}
