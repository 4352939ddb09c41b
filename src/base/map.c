/* SPDX-License-Identifier: MIT */
/* Two tables, as Redis's dict: a resize allocates the new one and every later put or remove moves
 * MOVE_BUCKETS buckets over, so no call ever walks the whole map. A node is in table[1] when its
 * bucket of table[0] has been moved, else in table[0]; new nodes follow the same rule, so a look-up
 * needs one chain only. Doubling at load 1 is done moving long before load 1 is met again.
 */
#include "base/map.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"

#define SIZE_MIN ((size_t)16)
#define MOVE_BUCKETS 4
#define MOVE_EMPTY 64 /* empty buckets of a sparse table passed over per call */
#define SHRINK_LOAD 8 /* shrink below one node per this many buckets */

void map_init(struct map *m, map_key_fn key_of)
{
    ASSERT(key_of != NULL);
    *m = (struct map){.key_of = key_of};
    m->table[0] = (struct map_table){&m->inline_bucket, 1};
    hash_random(&m->seed, sizeof(m->seed));
}

static void free_table(struct map *m, int t)
{
    if (m->table[t].buckets != &m->inline_bucket)
        free(m->table[t].buckets);
    m->table[t] = (struct map_table){NULL, 0};
}

void map_fini(struct map *m, map_free_fn drop, void *ctx)
{
    map_clear(m, drop, ctx);
    free_table(m, 0);
}

static bool resizing(const struct map *m)
{
    return m->table[1].size != 0;
}

/* The head of the one chain where a node of this hash is or belongs. */
static struct map_node **chain_of(const struct map *m, uint64_t hash)
{
    size_t b = hash & (m->table[0].size - 1);

    if (resizing(m) && b < m->moved)
        return &m->table[1].buckets[hash & (m->table[1].size - 1)];
    return &m->table[0].buckets[b];
}

/* The link that points to the node of this key, or the one that ends the chain. */
static struct map_node **find(const struct map *m, struct slice key, uint64_t hash)
{
    struct map_node **link = chain_of(m, hash);

    while (*link != NULL && ((*link)->hash != hash || !slice_eq(m->key_of(*link), key)))
        link = &(*link)->next;
    return link;
}

struct map_node *map_get(const struct map *m, struct slice key)
{
    if (m->count == 0)
        return NULL;
    return *find(m, key, hash64_seed(key.ptr, key.len, m->seed));
}

static void move_bucket(struct map *m)
{
    struct map_node *n = m->table[0].buckets[m->moved];

    m->table[0].buckets[m->moved++] = NULL;
    while (n != NULL) {
        struct map_node *next = n->next;
        struct map_node **to = &m->table[1].buckets[n->hash & (m->table[1].size - 1)];

        n->next = *to;
        *to = n;
        n = next;
    }
}

static void move_some(struct map *m)
{
    unsigned full = 0, empty = 0;

    while (m->moved < m->table[0].size && full < MOVE_BUCKETS && empty < MOVE_EMPTY) {
        if (m->table[0].buckets[m->moved] != NULL)
            full++;
        else
            empty++;
        move_bucket(m);
    }
    if (m->moved == m->table[0].size) {
        free_table(m, 0);
        m->table[0] = m->table[1];
        m->table[1] = (struct map_table){NULL, 0};
    }
}

static size_t size_for(size_t count)
{
    size_t size = SIZE_MIN;

    while (size <= count)
        size *= 2;
    return size;
}

/* Called on every change: goes on with a resize, or starts one when it is time. */
static void step(struct map *m)
{
    size_t size = m->table[0].size, want;

    if (m->iterators > 0)
        return;
    if (resizing(m)) {
        move_some(m);
        return;
    }
    if (m->count < size && (size <= SIZE_MIN || m->count >= size / SHRINK_LOAD))
        return;
    want = size_for(m->count);
    if (want == size)
        return;
    m->table[1].buckets = calloc(want, sizeof(*m->table[1].buckets));
    if (m->table[1].buckets == NULL)
        return;
    m->table[1].size = want;
    m->moved = 0;
    move_some(m);
}

struct map_node *map_put(struct map *m, struct map_node *n)
{
    struct slice key = m->key_of(n);
    struct map_node **link, *old;

    step(m);
    n->hash = hash64_seed(key.ptr, key.len, m->seed);
    link = find(m, key, n->hash);
    old = *link;
    ASSERT(old != n);
    n->next = old != NULL ? old->next : NULL;
    *link = n;
    if (old == NULL)
        m->count++;
    else
        old->next = NULL;
    return old;
}

static struct map_node *unlink_node(struct map *m, struct map_node **link)
{
    struct map_node *n = *link;

    *link = n->next;
    n->next = NULL;
    ASSERT(m->count > 0);
    m->count--;
    step(m);
    return n;
}

struct map_node *map_remove(struct map *m, struct slice key)
{
    struct map_node **link;

    if (m->count == 0)
        return NULL;
    link = find(m, key, hash64_seed(key.ptr, key.len, m->seed));
    return *link != NULL ? unlink_node(m, link) : NULL;
}

void map_remove_node(struct map *m, struct map_node *n)
{
    struct map_node **link = chain_of(m, n->hash);

    while (*link != n) {
        ASSERT(*link != NULL);
        link = &(*link)->next;
    }
    unlink_node(m, link);
}

void map_clear(struct map *m, map_free_fn drop, void *ctx)
{
    ASSERT(m->iterators == 0);
    for (int t = 0; t < 2; t++) {
        for (size_t b = 0; b < m->table[t].size; b++) {
            struct map_node *n = m->table[t].buckets[b];

            while (n != NULL) {
                struct map_node *next = n->next;

                n->next = NULL;
                if (drop != NULL)
                    drop(n, ctx);
                n = next;
            }
        }
        free_table(m, t);
    }
    m->count = 0;
    m->moved = 0;
    m->inline_bucket = NULL;
    m->table[0] = (struct map_table){&m->inline_bucket, 1};
}

struct map_node *map_first(struct map_iter *it, struct map *m)
{
    *it = (struct map_iter){.map = m};
    m->iterators++;
    return map_next(it);
}

/* Holds the node after the one it returns, so that the latter may be removed. */
struct map_node *map_next(struct map_iter *it)
{
    struct map_node *n = it->next;

    while (n == NULL) {
        const struct map_table *t = &it->map->table[it->table];

        if (it->bucket < t->size) {
            n = t->buckets[it->bucket++];
        } else if (it->table == 0) {
            it->table = 1;
            it->bucket = 0;
        } else {
            map_stop(it);
            return NULL;
        }
    }
    it->next = n->next;
    return n;
}

void map_stop(struct map_iter *it)
{
    ASSERT(it->map != NULL && it->map->iterators > 0);
    it->map->iterators--;
    it->map = NULL;
}
