/* SPDX-License-Identifier: MIT */
/* Two hash maps by payload id: kept buffers (CLOCK ring) and loads under way.
 *
 * A reader first looks for a kept buffer (tier_find), then joins a load of the same payload that is
 * under way, then starts one. A load never waits for memory: it has its buffer when it starts, or
 * tier_load says ERR_AGAIN and the reader does without (value.c streams).
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

struct wait { /* one reader */
    struct wait *next;
    tier_cb cb;
    void *ctx;
};

struct load {
    struct map_node node;
    struct payload_id id;
    struct tier *tier;
    struct payload_read read;
    struct wait *waits, **waits_tail;
};

struct tier {
    struct store *store;
    struct buf_pool *pool;
    struct map items, loads;
    struct item *hand;
    size_t loading; /* bytes */
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
    ASSERT(map_count(&t->loads) == 0);
    while (t->hand != NULL)
        drop(t, t->hand);
    map_fini(&t->items, NULL, NULL);
    map_fini(&t->loads, NULL, NULL);
    free(t);
}

struct buf *tier_find(struct tier *t, struct payload_id id)
{
    struct item *it = (struct item *)(void *)map_get(&t->items, slice_of(&id, sizeof(id)));

    if (it == NULL) {
        t->stats.misses++;
        return NULL;
    }
    it->referenced = true;
    t->stats.hits++;
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

static void on_read(struct payload_read *r)
{
    struct load *l = (struct load *)((char *)r - offsetof(struct load, read));
    struct tier *t = l->tier;
    struct wait *w = l->waits;

    map_remove(&t->loads, slice_of(&l->id, sizeof(l->id)));
    t->loading -= r->buf->space;
    if (r->err == 0)
        tier_keep(t, l->id, r->buf);
    else
        t->stats.load_errors++;
    t->stats.load_bytes += r->have;
    while (w != NULL) {
        struct wait *next = w->next;

        w->cb(w->ctx, r->err, r->buf);
        free(w);
        w = next;
    }
    buf_unref(r->buf);
    free(l);
}

static int start(struct tier *t, struct slice key, const struct record *rec, struct load **out)
{
    struct load *l = calloc(1, sizeof(*l));
    struct payload_read *r;
    int err;

    if (l == NULL)
        return ERR_NOMEM;
    r = &l->read;
    l->tier = t;
    l->id = rec->payload;
    l->waits_tail = &l->waits;
    r->place = rec->place;
    r->id = rec->payload;
    r->length = r->count = rec->length;
    r->digest = rec->digest;
    r->key_len = key.len;
    memcpy(r->key, key.ptr, key.len);
    r->done = on_read;
    err = buf_get(t->pool, r->length, &r->buf);
    if (err == 0)
        err = store_read(t->store, r);
    if (err != 0) {
        buf_unref(r->buf);
        free(l);
        return err;
    }
    map_put(&t->loads, &l->node);
    t->loading += r->buf->space;
    t->stats.loads++;
    *out = l;
    return 0;
}

int tier_load(struct tier *t, struct slice key, const struct record *r, tier_cb cb, void *ctx)
{
    struct load *l =
        (struct load *)(void *)map_get(&t->loads, slice_of(&r->payload, sizeof(r->payload)));
    struct wait *w = calloc(1, sizeof(*w));
    int err = w == NULL ? ERR_NOMEM : 0;

    ASSERT(r->kind == RECORD_SLAB && key.len <= RECORD_KEY_MAX);
    if (err == 0 && l == NULL)
        err = start(t, key, r, &l);
    if (err != 0) {
        if (err != ERR_AGAIN)
            t->stats.load_errors++;
        free(w);
        return err;
    }
    w->cb = cb;
    w->ctx = ctx;
    *l->waits_tail = w;
    l->waits_tail = &w->next;
    return 0;
}

size_t tier_loading(const struct tier *t)
{
    return t->loading;
}

bool tier_idle(const struct tier *t)
{
    return map_count(&t->loads) == 0;
}

void tier_get_stats(const struct tier *t, struct tier_stats *out)
{
    *out = t->stats;
}
