/* SPDX-License-Identifier: MIT */
/* A table of {hash, end} without chains: a key's lease is one of the WINDOW slots that start at its
 * hash. No key is stored: two keys of one 64-bit hash share a lease, which spares one more key and
 * harms nobody. Ended leases are slots like empty ones; nothing is ever removed.
 *
 * When a window holds only leases under way, the table doubles (ended ones stay behind), up to
 * LEASE_MAX slots; then the lease in the window that ends first gives way. The hash is seeded, so
 * a client cannot aim at one window.
 *
 * A condemned key is a slot, too, with CONDEMNED set in its end.
 */
#include "store/lease.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"

#define SIZE_MIN 1024u
#define WINDOW 16u /* slots: four cache lines */
#define CONDEMNED ((uint64_t)1 << 63)

struct slot {
    uint64_t hash, until_ms; /* until_ms 0: never used */
};

struct lease {
    struct slot *slots;
    size_t size; /* a power of two */
    uint64_t seed;
    uint64_t condemned_until_ms; /* no condemned key's end is later */
};

static uint64_t end_of(const struct slot *s)
{
    return s->until_ms & ~CONDEMNED;
}

static bool is_condemned(const struct slot *s)
{
    return (s->until_ms & CONDEMNED) != 0;
}

struct lease *lease_new(void)
{
    struct lease *l = calloc(1, sizeof(*l));

    if (l != NULL)
        l->slots = calloc(SIZE_MIN, sizeof(*l->slots));
    if (l == NULL || l->slots == NULL)
        PANIC("out of memory for leases");
    l->size = SIZE_MIN;
    hash_random(&l->seed, sizeof(l->seed));
    return l;
}

void lease_free(struct lease *l)
{
    if (l == NULL)
        return;
    free(l->slots);
    free(l);
}

uint64_t lease_hash(const struct lease *l, struct slice key)
{
    return hash64_seed(key.ptr, key.len, l->seed);
}

static struct slot *at(const struct lease *l, uint64_t hash, size_t i)
{
    return &l->slots[(hash + i) & (l->size - 1)];
}

/* The key's own slot; else one that is free or ended; else the one that ends first. */
static struct slot *choose(const struct lease *l, uint64_t hash)
{
    struct slot *best = at(l, hash, 0);

    for (size_t i = 0; i < WINDOW; i++) {
        struct slot *s = at(l, hash, i);

        if (s->hash == hash && s->until_ms != 0)
            return s;
        if (end_of(s) < end_of(best))
            best = s;
    }
    return best;
}

static bool is_taken(const struct slot *s, uint64_t hash, uint64_t now_ms)
{
    return s->hash != hash && end_of(s) > now_ms;
}

/* False: no room left to grow into, or no memory: the table stays as it is. */
static bool grow(struct lease *l, uint64_t now_ms)
{
    struct lease next = *l;

    next.size *= 2;
    if (next.size > LEASE_MAX)
        return false;
    next.slots = calloc(next.size, sizeof(*next.slots));
    if (next.slots == NULL)
        return false;
    for (size_t i = 0; i < l->size; i++)
        if (end_of(&l->slots[i]) > now_ms)
            *choose(&next, l->slots[i].hash) = l->slots[i];
    free(l->slots);
    *l = next;
    return true;
}

void lease_ahead(const struct lease *l, uint64_t hash)
{
    __builtin_prefetch(at(l, hash, 0), 1);
    __builtin_prefetch(at(l, hash, 4), 1);
}

static struct slot *make_slot(struct lease *l, uint64_t hash, uint64_t now_ms)
{
    struct slot *s = choose(l, hash);

    while (is_taken(s, hash, now_ms) && grow(l, now_ms))
        s = choose(l, hash);
    return s;
}

bool lease_take(struct lease *l, struct slice key, uint64_t now_ms, uint64_t until_ms)
{
    return lease_take_hash(l, lease_hash(l, key), now_ms, until_ms);
}

bool lease_take_hash(struct lease *l, uint64_t hash, uint64_t now_ms, uint64_t until_ms)
{
    struct slot *s;

    if (until_ms > now_ms + LEASE_MS_MAX)
        until_ms = now_ms + LEASE_MS_MAX;
    if (until_ms <= now_ms)
        return true;
    s = make_slot(l, hash, now_ms);
    if (s->hash == hash && end_of(s) > now_ms && is_condemned(s))
        return false;
    if (s->hash != hash || end_of(s) < until_ms) /* else a longer one is held already */
        *s = (struct slot){hash, until_ms};
    return true;
}

void lease_condemn(struct lease *l, struct slice key, uint64_t now_ms)
{
    uint64_t hash = lease_hash(l, key);

    l->condemned_until_ms = now_ms + LEASE_CONDEMNED_MS;
    *make_slot(l, hash, now_ms) = (struct slot){hash, l->condemned_until_ms | CONDEMNED};
}

static struct slot *find(const struct lease *l, uint64_t hash)
{
    for (size_t i = 0; i < WINDOW; i++)
        if (at(l, hash, i)->hash == hash)
            return at(l, hash, i);
    return NULL;
}

void lease_pardon(struct lease *l, uint64_t hash)
{
    struct slot *s = find(l, hash);

    if (s != NULL && is_condemned(s))
        s->until_ms = 0;
}

bool lease_condemns(const struct lease *l, uint64_t now_ms)
{
    return l->condemned_until_ms > now_ms;
}

bool lease_held(const struct lease *l, struct slice key, uint64_t now_ms)
{
    const struct slot *s = find(l, lease_hash(l, key));

    return s != NULL && s->until_ms > now_ms && !is_condemned(s);
}

size_t lease_count(const struct lease *l, uint64_t now_ms)
{
    size_t n = 0;

    for (size_t i = 0; i < l->size; i++)
        n += l->slots[i].until_ms > now_ms && !is_condemned(&l->slots[i]);
    return n;
}
