/* SPDX-License-Identifier: MIT */
/* Open addressing without chains: a key is in one of the WINDOW slots that start at its hash. The
 * hashes lie apart from the rest, so that a window is two or three cache lines and only the slot
 * that matches costs another. A slot is empty when its hash is 0 (a key whose hash is 0 is never
 * known). A full window loses the slot that the high bits of the new hash choose.
 *
 * When more than three quarters are used the table doubles up to PRESENCE_MAX, and forgets: what
 * is asked for again comes back, and nothing ever walks it.
 */
#include "store/presence.h"

#include <stdlib.h>

#include "base/assert.h"

#define SIZE_MIN 4096u
#define WINDOW 16u
#define LINE 64u
#define EXPIRE_BITS 44 /* up to the year 2527 */
#define PAGE_BITS 20   /* a volume is below 4 GiB */
#define NOWHERE UINT32_MAX

struct detail {
    uint64_t expire_ms : EXPIRE_BITS, page : PAGE_BITS;
    uint32_t volume, generation; /* NOWHERE: not in a volume */
};

struct presence {
    uint64_t *hashes; /* NULL: nobody asked yet */
    struct detail *details;
    size_t size, used; /* size: a power of two */
};

struct presence *presence_new(void)
{
    struct presence *p = calloc(1, sizeof(*p));

    _Static_assert(sizeof(struct detail) + sizeof(uint64_t) == PRESENCE_SLOT, "as documented");
    if (p == NULL)
        PANIC("out of memory for the store");
    return p;
}

void presence_free(struct presence *p)
{
    if (p == NULL)
        return;
    free(p->hashes);
    free(p->details);
    free(p);
}

static size_t slot_at(const struct presence *p, uint64_t hash, size_t i)
{
    return (hash + i) & (p->size - 1);
}

/* Of the key's slot; SIZE_MAX: it has none. */
static size_t find(const struct presence *p, uint64_t hash)
{
    if (p->hashes == NULL || hash == 0)
        return SIZE_MAX;
    for (size_t i = 0; i < WINDOW; i++)
        if (p->hashes[slot_at(p, hash, i)] == hash)
            return slot_at(p, hash, i);
    return SIZE_MAX;
}

void presence_ahead(const struct presence *p, uint64_t hash)
{
    size_t first;

    if (p->hashes == NULL)
        return;
    first = slot_at(p, hash, 0);
    __builtin_prefetch(&p->hashes[first]);
    __builtin_prefetch(&p->hashes[slot_at(p, hash, LINE / sizeof(hash))]);
    __builtin_prefetch(&p->details[first]); /* most keys are near their first slot */
}

bool presence_find(const struct presence *p, uint64_t hash, uint64_t *expire_ms,
                   struct place *place)
{
    size_t slot = find(p, hash);
    const struct detail *d;

    if (slot == SIZE_MAX)
        return false;
    d = &p->details[slot];
    *expire_ms = d->expire_ms;
    *place = (struct place){d->volume, d->generation, (uint64_t)d->page * PLACE_UNIT};
    return true;
}

/* An empty table of twice the size; without memory it stays as it is. */
static void grow(struct presence *p)
{
    struct presence next = {.size = p->size == 0 ? SIZE_MIN : p->size * 2};

    if (next.size > PRESENCE_MAX)
        return;
    next.hashes = calloc(next.size, sizeof(*next.hashes));
    next.details = malloc(next.size * sizeof(*next.details));
    if (next.hashes == NULL || next.details == NULL) {
        free(next.hashes);
        free(next.details);
        return;
    }
    free(p->hashes);
    free(p->details);
    *p = next;
}

static size_t slot_for(struct presence *p, uint64_t hash)
{
    for (size_t i = 0; i < WINDOW; i++) {
        size_t slot = slot_at(p, hash, i);

        if (p->hashes[slot] == 0) {
            p->used++;
            return slot;
        }
    }
    return slot_at(p, hash, (hash >> 32) % WINDOW);
}

static void forget(struct presence *p, uint64_t hash)
{
    size_t slot = find(p, hash);

    if (slot == SIZE_MAX)
        return;
    p->hashes[slot] = 0;
    p->used--;
}

void presence_add(struct presence *p, uint64_t hash, const struct record *r)
{
    bool slab = r->kind == RECORD_SLAB;
    size_t slot = find(p, hash);

    if (hash == 0)
        return;
    if (r->expire_ms >> EXPIRE_BITS != 0 || r->place.offset / PLACE_UNIT >> PAGE_BITS != 0) {
        forget(p, hash);
        return;
    }
    if (slot == SIZE_MAX && p->used >= p->size / 4 * 3)
        grow(p);
    if (p->hashes == NULL)
        return;
    if (slot == SIZE_MAX)
        slot = slot_for(p, hash);
    p->hashes[slot] = hash;
    p->details[slot] = (struct detail){.expire_ms = r->expire_ms,
                                       .page = slab ? r->place.offset / PLACE_UNIT : 0,
                                       .volume = slab ? r->place.volume : NOWHERE,
                                       .generation = slab ? r->place.generation : 0};
}

void presence_change(struct presence *p, uint64_t hash, const struct record *r)
{
    if (p->hashes == NULL)
        return;
    if (r != NULL)
        presence_add(p, hash, r);
    else
        forget(p, hash);
}

void presence_clear(struct presence *p)
{
    free(p->hashes);
    free(p->details);
    *p = (struct presence){0};
}

size_t presence_bytes(const struct presence *p)
{
    return p->size * PRESENCE_SLOT;
}
