/* SPDX-License-Identifier: MIT */
#include "store/table.h"

#include <pthread.h>

#include "test.h"

static void put(struct table *t, const char *key, const char *value)
{
    size_t len = strlen(value);

    memcpy(table_put(t, slice_str(key), len), value, len);
}

static void check_value(const struct table *t, const char *key, const char *value)
{
    struct slice v;

    CHECK_EQ_INT(table_get(t, slice_str(key), &v), TABLE_RECORD);
    CHECK_EQ_MEM(v.ptr, value, strlen(value));
    CHECK_EQ_INT(v.len, strlen(value));
}

TEST(put_get_del)
{
    struct table *t = table_new();
    struct slice v;

    CHECK_EQ_INT(table_get(t, slice_str("a"), &v), TABLE_ABSENT);
    put(t, "a", "one");
    put(t, "b", "two");
    check_value(t, "a", "one");
    check_value(t, "b", "two");
    table_del(t, slice_str("a"));
    CHECK_EQ_INT(table_get(t, slice_str("a"), &v), TABLE_DELETED);
    table_del(t, slice_str("never there"));
    CHECK_EQ_INT(table_get(t, slice_str("never there"), &v), TABLE_DELETED);
    put(t, "a", "back");
    check_value(t, "a", "back");
    CHECK_EQ_INT(table_count(t), 3);
    table_check(t);
    table_free(t);
}

/* What is set aside counts only when it is used, and goes on to the next table. */
TEST(room_is_set_aside)
{
    struct table *a = table_new(), *b = table_new();
    size_t empty = table_bytes(b);
    char key[16];

    CHECK(table_reserve(a, 1000, 3 << 20));
    table_inherit(b, a);
    table_free(a);
    CHECK_EQ_INT(table_bytes(b), empty);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        memset(table_put(b, slice_str(key), 3 << 10), i, 3 << 10);
    }
    CHECK_GT_INT(table_bytes(b) - empty, 1000 * (3 << 10));
    CHECK(table_reserve(b, 5000, 20 << 20) && table_reserve(b, 1, 1)); /* and back */
    table_check(b);
    table_free(b);
}

TEST(binary_keys)
{
    struct table *t = table_new();
    struct slice v, k1 = slice_of("\0", 1), k2 = slice_of("\0\0", 2);

    *table_put(t, k1, 1) = '1';
    *table_put(t, k2, 1) = '2';
    CHECK_EQ_INT(table_get(t, k1, &v), TABLE_RECORD);
    CHECK_EQ_INT(v.ptr[0], '1');
    CHECK_EQ_INT(table_get(t, k2, &v), TABLE_RECORD);
    CHECK_EQ_INT(v.ptr[0], '2');
    table_free(t);
}

TEST(overwriting_reuses_the_space)
{
    struct table *t = table_new();
    size_t before;

    put(t, "counter", "1000");
    before = table_bytes(t);
    for (int i = 0; i < 1000; i++)
        put(t, "counter", i % 2 ? "7" : "1234");
    CHECK_EQ_INT(table_bytes(t), before);
    check_value(t, "counter", "7");
    table_free(t);
}

TEST(a_growing_value_leaves_little_behind)
{
    enum { FINAL = 16384 };
    struct table *t = table_new();
    size_t empty = table_bytes(t);
    struct slice v;

    for (size_t size = 1; size <= FINAL; size++)
        memset(table_put(t, slice_str("log"), size), (int)(size & 0xff), size);
    CHECK_LT_INT(table_bytes(t) - empty, 5 * FINAL);
    CHECK_EQ_INT(table_get(t, slice_str("log"), &v), TABLE_RECORD);
    CHECK_EQ_INT(v.len, FINAL);
    CHECK_EQ_INT(v.ptr[FINAL - 1], FINAL & 0xff);
    table_free(t);
}

TEST(large_values_do_not_waste_a_block)
{
    struct table *t = table_new();
    size_t start;

    put(t, "small", "s");
    start = table_bytes(t);
    memset(table_put(t, slice_str("large"), 9 << 20), 'L', 9 << 20);
    put(t, "small2", "s2");
    check_value(t, "small", "s");
    check_value(t, "small2", "s2");
    CHECK_LT_INT(table_bytes(t) - start, (9 << 20) + 1024);
    table_free(t);
}

TEST(many_keys_grow_sort_and_number)
{
    enum { COUNT = 70000 };
    struct table *t = table_new();
    struct table_entry *e;
    char key[32];
    size_t n;

    for (int i = 0; i < COUNT; i++) {
        snprintf(key, sizeof(key), "key-%d", (i * 7919) % COUNT);
        if (i % 3 == 0)
            table_del(t, slice_str(key));
        else
            put(t, key, key);
    }
    table_check(t);
    n = table_sorted(t, &e);
    CHECK_EQ_INT(n, COUNT);
    for (size_t i = 1; i < n; i++)
        CHECK_LT_INT(slice_cmp(e[i - 1].key, e[i].key), 0);
    for (size_t i = 0; i < n; i++)
        CHECK(e[i].value.ptr == NULL || slice_eq(e[i].key, e[i].value));
    free(e);
    for (int i = 0; i < COUNT; i += 97) {
        struct table_entry at = table_at(t, (size_t)i);

        snprintf(key, sizeof(key), "key-%d", (i * 7919) % COUNT);
        CHECK(slice_eq(at.key, slice_str(key)));
        CHECK((at.value.ptr == NULL) == (i % 3 == 0));
    }
    table_free(t);
}

TEST(empty_table_sorts_to_nothing)
{
    struct table *t = table_new();
    struct table_entry *e = (struct table_entry *)&t;

    CHECK_EQ_INT(table_sorted(t, &e), 0);
    CHECK(e == NULL);
    CHECK(!table_hides_below(t));
    table_free(t);
}

TEST(drop_all_hides_below)
{
    struct table *t = table_new();
    size_t empty = table_bytes(t);
    uint64_t epoch = table_epoch(t);
    struct slice v;

    for (int i = 0; i < 5000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%d", i);
        put(t, key, "x");
    }
    CHECK_GT_INT(table_bytes(t), empty);
    table_drop_all(t);
    CHECK_EQ_INT(table_bytes(t), empty);
    CHECK_EQ_INT(table_count(t), 0);
    CHECK(table_hides_below(t));
    CHECK_NE_INT(table_epoch(t), epoch);
    CHECK_EQ_INT(table_get(t, slice_str("17"), &v), TABLE_ABSENT);
    put(t, "17", "new");
    check_value(t, "17", "new");
    table_check(t);
    table_free(t);
}

static void *read_all(void *arg)
{
    const struct table *t = arg;
    char key[16];
    uintptr_t found = 0;

    for (int i = 0; i < 2000; i++) {
        struct slice v;

        snprintf(key, sizeof(key), "%d", i);
        found += table_get(t, slice_str(key), &v) == TABLE_RECORD;
    }
    return (void *)found;
}

/* Under a thread sanitizer this shows that look-ups write nothing. */
TEST(frozen_table_is_read_by_two_threads)
{
    struct table *t = table_new();
    struct table_entry *e;
    pthread_t other;
    void *found;
    char key[16];

    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof(key), "%d", i);
        put(t, key, key);
    }
    CHECK_EQ_INT(pthread_create(&other, NULL, read_all, t), 0);
    CHECK_EQ_INT(table_sorted(t, &e), 2000);
    CHECK_EQ_INT((uintptr_t)read_all(t), 2000);
    pthread_join(other, &found);
    CHECK_EQ_INT((uintptr_t)found, 2000);
    free(e);
    table_free(t);
}

TEST_MAIN
