/* SPDX-License-Identifier: MIT */
#include "base/map.h"
#include "test.h"

#include <stdio.h>

struct item {
    struct map_node node;
    char key[24];
    size_t len;
    unsigned seen;
    bool in;
};

static struct slice item_key(const struct map_node *n)
{
    const struct item *i = (const struct item *)(const void *)n;

    return slice_of(i->key, i->len);
}

static struct item *items_new(size_t n)
{
    struct item *items = calloc(n, sizeof(*items));

    for (size_t i = 0; i < n; i++)
        items[i].len = (size_t)snprintf(items[i].key, sizeof(items[i].key), "key:%zu", i);
    return items;
}

static void count_drop(struct map_node *n, void *ctx)
{
    CHECK_EQ_PTR(n->next, NULL);
    ++*(size_t *)ctx;
}

TEST(empty_map)
{
    struct map m;
    struct map_iter it;

    map_init(&m, item_key);
    CHECK_EQ_U64(map_count(&m), 0);
    CHECK_EQ_PTR(map_get(&m, slice_str("x")), NULL);
    CHECK_EQ_PTR(map_remove(&m, slice_str("x")), NULL);
    CHECK_EQ_PTR(map_first(&it, &m), NULL);
    map_fini(&m, NULL, NULL);
}

TEST(replacing_returns_the_old_node)
{
    struct item a = {.key = "k", .len = 1}, b = {.key = "k", .len = 1}, c = {.key = "", .len = 0};
    struct map m;

    map_init(&m, item_key);
    CHECK_EQ_PTR(map_put(&m, &a.node), NULL);
    CHECK_EQ_PTR(map_put(&m, &c.node), NULL);
    CHECK_EQ_PTR(map_put(&m, &b.node), &a.node);
    CHECK_EQ_U64(map_count(&m), 2);
    CHECK_EQ_PTR(map_get(&m, slice_str("k")), &b.node);
    CHECK_EQ_PTR(map_get(&m, slice_str("")), &c.node);
    CHECK_EQ_PTR(map_remove(&m, slice_str("k")), &b.node);
    CHECK_EQ_PTR(map_get(&m, slice_str("k")), NULL);
    map_fini(&m, NULL, NULL);
}

/* Against a plain flag per item, through growth and shrinking. */
TEST(random_changes_match_a_model)
{
    enum { N = 3000, STEPS = 200000 };
    struct item *items = items_new(N);
    uint64_t rnd = 12345;
    size_t count = 0;
    struct map m;

    map_init(&m, item_key);
    for (unsigned s = 0; s < STEPS; s++) {
        struct item *i;
        bool putting;

        rnd = rnd * 6364136223846793005u + 1442695040888963407u;
        i = &items[(rnd >> 33) % N];
        putting = ((rnd >> 20) % 100) < ((s / 20000) % 2 == 0 ? 80u : 3u);
        if (putting && !i->in) {
            CHECK_EQ_PTR(map_put(&m, &i->node), NULL);
            i->in = true;
            count++;
        } else if (!putting && i->in && (rnd >> 10) % 2 == 0) {
            map_remove_node(&m, &i->node);
            i->in = false;
            count--;
        } else if (!putting) {
            CHECK_EQ_PTR(map_remove(&m, item_key(&i->node)), i->in ? &i->node : NULL);
            count -= i->in;
            i->in = false;
        }
        CHECK_EQ_PTR(map_get(&m, item_key(&i->node)), i->in ? &i->node : NULL);
        CHECK_EQ_U64(map_count(&m), count);
    }
    for (unsigned i = 0; i < N; i++)
        CHECK_EQ_PTR(map_get(&m, item_key(&items[i].node)), items[i].in ? &items[i].node : NULL);
    map_fini(&m, NULL, NULL);
    free(items);
}

/* At every stage of a resize an iteration meets each node once. */
TEST(iteration_sees_each_node_once)
{
    enum { N = 600 };
    struct item *items = items_new(N);
    struct map m;

    map_init(&m, item_key);
    for (unsigned i = 0; i < N; i++) {
        struct map_iter it;
        unsigned seen = 0;

        map_put(&m, &items[i].node);
        for (struct map_node *n = map_first(&it, &m); n != NULL; n = map_next(&it)) {
            struct item *one = (struct item *)(void *)n;

            CHECK_EQ_INT(one->seen++, i - (one - items)); /* once per earlier round */
            seen++;
        }
        CHECK_EQ_INT(seen, i + 1);
    }
    map_fini(&m, NULL, NULL);
    free(items);
}

TEST(iteration_may_remove_and_free_the_current_node)
{
    enum { N = 1000 };
    struct map_iter it;
    struct map m;
    size_t left = 0;

    map_init(&m, item_key);
    for (unsigned i = 0; i < N; i++) {
        struct item *one = calloc(1, sizeof(*one));

        one->len = (size_t)snprintf(one->key, sizeof(one->key), "%u", i);
        one->seen = i;
        map_put(&m, &one->node);
    }
    for (struct map_node *n = map_first(&it, &m); n != NULL; n = map_next(&it)) {
        if (((struct item *)(void *)n)->seen % 3 != 0) {
            map_remove_node(&m, n);
            free(n);
        }
    }
    CHECK_EQ_U64(map_count(&m), (N + 2) / 3);
    for (struct map_node *n = map_first(&it, &m); n != NULL; n = map_next(&it)) {
        CHECK_EQ_INT(((struct item *)(void *)n)->seen % 3, 0);
        map_remove(&m, item_key(n));
        free(n);
    }
    CHECK_EQ_U64(map_count(&m), 0);
    map_clear(&m, count_drop, &left);
    CHECK_EQ_U64(left, 0);
    map_fini(&m, NULL, NULL);
}

TEST(a_left_iteration_lets_the_map_grow_again)
{
    enum { N = 5000 };
    struct item *items = items_new(N);
    struct map_iter it;
    struct map m;

    map_init(&m, item_key);
    map_put(&m, &items[0].node);
    CHECK_EQ_PTR(map_first(&it, &m), &items[0].node);
    for (unsigned i = 1; i < 500; i++) /* puts under an open iteration: no bucket moves */
        map_put(&m, &items[i].node);
    CHECK_EQ_U64(m.table[0].size, 1);
    map_stop(&it);
    for (unsigned i = 500; i < N; i++)
        map_put(&m, &items[i].node);
    CHECK_GE_U64(m.table[0].size + m.table[1].size, N);
    for (unsigned i = 0; i < N; i++)
        CHECK_EQ_PTR(map_get(&m, item_key(&items[i].node)), &items[i].node);
    map_fini(&m, NULL, NULL);
    free(items);
}

TEST(clear_drops_every_node_and_the_map_is_usable_again)
{
    enum { N = 777 };
    struct item *items = items_new(N);
    size_t dropped = 0;
    struct map m;

    map_init(&m, item_key);
    for (unsigned i = 0; i < N; i++)
        map_put(&m, &items[i].node);
    map_clear(&m, count_drop, &dropped);
    CHECK_EQ_U64(dropped, N);
    CHECK_EQ_U64(map_count(&m), 0);
    CHECK_EQ_PTR(map_put(&m, &items[5].node), NULL);
    CHECK_EQ_PTR(map_get(&m, slice_str("key:5")), &items[5].node);
    dropped = 0;
    map_fini(&m, count_drop, &dropped);
    CHECK_EQ_U64(dropped, 1);
    free(items);
}

/* No put moves more than a few nodes, and the table follows the count both ways. */
TEST(resizing_is_spread_over_the_changes)
{
    enum { N = 100000 };
    struct item *items = items_new(N);
    struct map m;

    map_init(&m, item_key);
    for (unsigned i = 0; i < N; i++) {
        size_t moved = m.moved, size = m.table[1].size;

        map_put(&m, &items[i].node);
        if (size != 0 && m.table[1].size == size)
            CHECK_LE_U64(m.moved - moved, 4 + 64);
    }
    CHECK_LE_U64(m.table[0].size, 2 * (size_t)N);
    for (unsigned i = 0; i < N; i++)
        map_remove_node(&m, &items[i].node);
    CHECK_EQ_U64(map_count(&m), 0);
    CHECK_LE_U64(m.table[0].size, 64);
    map_fini(&m, NULL, NULL);
    free(items);
}

TEST(two_maps_hash_with_different_seeds)
{
    struct map a, b;

    map_init(&a, item_key);
    map_init(&b, item_key);
    CHECK_NE_INT((int64_t)a.seed, (int64_t)b.seed);
    map_fini(&a, NULL, NULL);
    map_fini(&b, NULL, NULL);
}

TEST_MAIN
