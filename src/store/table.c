/* SPDX-License-Identifier: MIT */
/* A chained hash table over an arena. Nodes and values come from blocks of BLOCK_SIZE that are
 * freed together, so throwing away 65,536 entries after a checkpoint costs a few dozen free().
 * A key is never taken out: deleting it leaves a node that says so, because it must hide what is
 * below. Nodes are also listed in the order they came, which gives every key a number; a sorted
 * view can therefore be kept up to date by looking at the numbers that are new.
 *
 * Overwriting a key reuses its space. When the new value is larger than any before it, the space
 * is replaced by half as much again: a value that grows byte by byte (APPEND) leaves at most twice
 * its final size behind. What is left behind counts in table_bytes() until the table is freed, so
 * a checkpoint comes earlier, never later.
 *
 * Look-ups change nothing, hence the loop and the checkpoint worker may both read a frozen table.
 * Memory: apply cannot fail, so whoever lets a write in asks for its room first (table_reserve):
 * blocks are set aside for it. What is applied without (deletes, the replay of a log) ends the
 * process when there is no memory.
 */
#include "store/table.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

#define BLOCK_SIZE ((size_t)1 << 20)
#define BUCKETS_MIN 1024u
#define ALIGN 8u
#define SPARE_MORE (8 * BLOCK_SIZE) /* than what is asked for, at most */

struct node {
    struct node *next; /* chain */
    uint64_t hash;
    uint8_t *value; /* NULL: no space yet */
    uint32_t len, space;
    uint16_t key_len;
    bool deleted;
    uint8_t key[];
};

struct block {
    struct block *next;
    size_t used, size; /* of mem */
    uint8_t mem[];
};

struct table {
    uint64_t seed;
    struct node **buckets;
    size_t nbuckets;     /* a power of two */
    struct node **nodes; /* by number */
    size_t count, nodes_space;
    struct block *blocks; /* the first one is filled */
    struct block *spare;  /* set aside */
    size_t spare_bytes;
    size_t block_bytes; /* handed out of blocks */
    uint64_t epoch;
    bool hides_below;
};

static void *must(void *mem)
{
    if (mem == NULL)
        PANIC("out of memory for the memory table");
    return mem;
}

static void init_empty(struct table *t)
{
    t->nbuckets = BUCKETS_MIN;
    t->buckets = must(calloc(t->nbuckets, sizeof(*t->buckets)));
    t->nodes_space = BUCKETS_MIN;
    t->nodes = must(malloc(t->nodes_space * sizeof(*t->nodes)));
    t->count = 0;
    t->blocks = t->spare = NULL;
    t->block_bytes = t->spare_bytes = 0;
}

static void free_blocks(struct block *b)
{
    while (b != NULL) {
        struct block *next = b->next;

        free(b);
        b = next;
    }
}

static void fini(struct table *t)
{
    free_blocks(t->blocks);
    free_blocks(t->spare);
    free(t->nodes);
    free(t->buckets);
}

struct table *table_new(void)
{
    struct table *t = must(calloc(1, sizeof(*t)));

    hash_random(&t->seed, sizeof(t->seed));
    init_empty(t);
    return t;
}

void table_free(struct table *t)
{
    if (t == NULL)
        return;
    fini(t);
    free(t);
}

/* NULL: no memory. */
static struct block *new_block(size_t size)
{
    struct block *b = malloc(sizeof(*b) + size);

    if (b == NULL)
        return NULL;
    b->next = NULL;
    b->used = 0;
    b->size = size;
    return b;
}

static struct block *take_block(struct table *t)
{
    struct block *b = t->spare;

    if (b == NULL)
        return must(new_block(BLOCK_SIZE));
    t->spare = b->next;
    t->spare_bytes -= b->size;
    b->next = NULL;
    return b;
}

static bool set_aside(struct table *t, size_t bytes)
{
    while (t->spare_bytes > bytes + SPARE_MORE)
        free(take_block(t));
    while (t->spare_bytes < bytes) {
        struct block *b = new_block(BLOCK_SIZE);

        if (b == NULL)
            return false;
        b->next = t->spare;
        t->spare = b;
        t->spare_bytes += b->size;
    }
    return true;
}

static bool number_ahead(struct table *t, size_t keys)
{
    size_t space = t->nodes_space;
    struct node **nodes;

    while (space - t->count < keys)
        space *= 2;
    nodes = space == t->nodes_space ? t->nodes : realloc(t->nodes, space * sizeof(*nodes));
    if (nodes == NULL)
        return false;
    t->nodes = nodes;
    t->nodes_space = space;
    return true;
}

/* The end of a block may be too short for the next record, hence one more. */
bool table_reserve(struct table *t, size_t keys, size_t bytes)
{
    return set_aside(t, bytes + keys * sizeof(struct node) + BLOCK_SIZE) && number_ahead(t, keys);
}

void table_inherit(struct table *t, struct table *from)
{
    ASSERT(t->spare == NULL);
    t->spare = from->spare;
    t->spare_bytes = from->spare_bytes;
    from->spare = NULL;
    from->spare_bytes = 0;
}

/* Large pieces get a block of their own, put behind the one being filled. */
static void *allocate(struct table *t, size_t size)
{
    struct block *b = t->blocks;
    void *mem;

    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (b == NULL || b->size - b->used < size) {
        b = size > BLOCK_SIZE / 4 ? must(new_block(size)) : take_block(t);
        if (t->blocks != NULL && b->size != BLOCK_SIZE) {
            b->next = t->blocks->next;
            t->blocks->next = b;
        } else {
            b->next = t->blocks;
            t->blocks = b;
        }
    }
    mem = b->mem + b->used;
    b->used += size;
    t->block_bytes += size;
    return mem;
}

static struct node *find(const struct table *t, struct slice key, uint64_t hash)
{
    struct node *n = t->buckets[hash & (t->nbuckets - 1)];

    while (n != NULL && (n->hash != hash || !slice_eq(slice_of(n->key, n->key_len), key)))
        n = n->next;
    return n;
}

static void link_node(struct table *t, struct node *n)
{
    struct node **bucket = &t->buckets[n->hash & (t->nbuckets - 1)];

    n->next = *bucket;
    *bucket = n;
}

/* Without memory for it chains get longer. */
static bool grow_buckets(struct table *t)
{
    struct node **grown = calloc(2 * t->nbuckets, sizeof(*grown));

    if (grown == NULL)
        return false;
    free(t->buckets);
    t->buckets = grown;
    t->nbuckets *= 2;
    for (size_t i = 0; i < t->count; i++)
        link_node(t, t->nodes[i]);
    return true;
}

static struct node *add(struct table *t, struct slice key, uint64_t hash)
{
    struct node *n = allocate(t, sizeof(*n) + key.len);

    *n = (struct node){.hash = hash, .key_len = (uint16_t)key.len};
    memcpy(n->key, key.ptr, key.len);
    if (t->count == t->nodes_space) {
        t->nodes_space *= 2;
        t->nodes = must(realloc(t->nodes, t->nodes_space * sizeof(*t->nodes)));
    }
    t->nodes[t->count++] = n;
    if (t->count <= t->nbuckets || !grow_buckets(t)) /* which links n as well */
        link_node(t, n);
    return n;
}

static struct node *find_or_add(struct table *t, struct slice key)
{
    uint64_t hash;
    struct node *n;

    ASSERT(key.len > 0 && key.len <= UINT16_MAX);
    hash = hash64_seed(key.ptr, key.len, t->seed);
    n = find(t, key, hash);
    return n != NULL ? n : add(t, key, hash);
}

enum table_hit table_get(const struct table *t, struct slice key, struct slice *value)
{
    const struct node *n = find(t, key, hash64_seed(key.ptr, key.len, t->seed));

    if (n == NULL)
        return TABLE_ABSENT;
    if (n->deleted)
        return TABLE_DELETED;
    *value = slice_of(n->value, n->len);
    return TABLE_RECORD;
}

uint8_t *table_put(struct table *t, struct slice key, size_t size)
{
    struct node *n = find_or_add(t, key);

    ASSERT(size > 0 && size <= UINT32_MAX / 2);
    if (n->value == NULL || n->space < size) {
        size_t space = n->value == NULL ? size : size + size / 2;

        n->value = allocate(t, space);
        n->space = (uint32_t)space;
    }
    n->len = (uint32_t)size;
    n->deleted = false;
    return n->value;
}

void table_del(struct table *t, struct slice key)
{
    struct node *n = find_or_add(t, key);

    n->deleted = true;
    n->len = 0;
}

size_t table_count(const struct table *t)
{
    return t->count;
}

size_t table_bytes(const struct table *t)
{
    return t->block_bytes + t->nbuckets * sizeof(*t->buckets) + t->nodes_space * sizeof(*t->nodes);
}

void table_drop_all(struct table *t)
{
    fini(t);
    init_empty(t);
    t->hides_below = true;
    t->epoch++;
}

bool table_hides_below(const struct table *t)
{
    return t->hides_below;
}

uint64_t table_epoch(const struct table *t)
{
    return t->epoch;
}

struct table_entry table_at(const struct table *t, size_t i)
{
    const struct node *n;

    ASSERT(i < t->count);
    n = t->nodes[i];
    return (struct table_entry){
        .key = slice_of(n->key, n->key_len),
        .value = n->deleted ? slice_of(NULL, 0) : slice_of(n->value, n->len),
    };
}

static int compare_entries(const void *a, const void *b)
{
    const struct table_entry *x = a, *y = b;

    return slice_cmp(x->key, y->key);
}

size_t table_sorted(const struct table *t, struct table_entry **entries)
{
    *entries = NULL;
    if (t->count == 0)
        return 0;
    *entries = must(malloc(t->count * sizeof(**entries)));
    for (size_t i = 0; i < t->count; i++)
        (*entries)[i] = table_at(t, i);
    qsort(*entries, t->count, sizeof(**entries), compare_entries);
    return t->count;
}

void table_check(const struct table *t)
{
    size_t linked = 0;

    ASSERT((t->nbuckets & (t->nbuckets - 1)) == 0);
    ASSERT(t->count <= t->nodes_space);
    for (size_t i = 0; i < t->nbuckets; i++) {
        for (const struct node *n = t->buckets[i]; n != NULL; n = n->next, linked++) {
            ASSERT((n->hash & (t->nbuckets - 1)) == i);
            ASSERT(n->deleted || (n->value != NULL && n->len > 0 && n->len <= n->space));
        }
    }
    ASSERT(linked == t->count);
}
