/* SPDX-License-Identifier: MIT */
/* map: a hash table of nodes that live inside the caller's structs.
 *
 * Purpose   look-up by bytes (keys, digests, ids) with no allocation per entry and no long stop:
 *           it grows and shrinks a few buckets per change, so the millionth map_put costs what the
 *           first did
 * Threads   one owner; map_get changes nothing
 * Owner     the caller owns nodes and keys; a node is in at most one map, and its key does not
 *           change while it is there. A struct map is not moved after map_init
 * Lifetime  map_clear or map_fini forget every node; the callback may free it
 * Limits    chains: an attacker who cannot see the random seed cannot choose collisions. A map_get
 *           sees one node per chain on average, while a resize is under way two
 * Errors    none: a table that cannot be allocated leaves longer chains, and the next map_put asks
 *           again
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct map_node {
    struct map_node *next; /* private */
    uint64_t hash;         /* private: of the key, under the seed of the map */
};

typedef struct slice (*map_key_fn)(const struct map_node *n);
typedef void (*map_free_fn)(struct map_node *n, void *ctx);

struct map_table {
    struct map_node **buckets;
    size_t size; /* a power of two; 0 = not there */
};

struct map {
    struct map_table table[2]; /* [1]: the new table while a resize is under way */
    size_t moved;              /* buckets of table[0] already moved to table[1] */
    size_t count;
    unsigned iterators; /* no bucket moves while one is open */
    map_key_fn key_of;
    uint64_t seed;
    struct map_node *inline_bucket; /* table[0] until the first resize */
};

struct map_iter {
    struct map *map;
    int table;
    size_t bucket;
    struct map_node *next;
};

void map_init(struct map *m, map_key_fn key_of);
void map_fini(struct map *m, map_free_fn drop, void *ctx); /* drop may be NULL, as in map_clear */

struct map_node *map_get(const struct map *m, struct slice key); /* NULL: not there */

/* Puts n in; returns the node of an equal key that it replaced, or NULL. */
struct map_node *map_put(struct map *m, struct map_node *n);

/* Takes the node with this key out and returns it, or NULL. */
struct map_node *map_remove(struct map *m, struct slice key);
void map_remove_node(struct map *m, struct map_node *n); /* n is in m */

/* drop must not use the map. */
void map_clear(struct map *m, map_free_fn drop, void *ctx);

static inline size_t map_count(const struct map *m)
{
    return m->count;
}

/* Every node once, in no order:
 *
 *     for (n = map_first(&it, m); n != NULL; n = map_next(&it))
 *
 * The body may remove and free n, no other node, and may look up. It may put; a node put in
 * meanwhile is seen or not. A loop left before NULL came ends with map_stop. */
struct map_node *map_first(struct map_iter *it, struct map *m);
struct map_node *map_next(struct map_iter *it);
void map_stop(struct map_iter *it);

#endif
