/* SPDX-License-Identifier: MIT */
#include "store/lease.h"

#include "test.h"

#define NOW 1000000u

static struct slice numbered(char *buf, unsigned i)
{
    return slice_of(buf, (size_t)sprintf(buf, "key:%u", i));
}

TEST(a_lease_is_held_until_it_ends)
{
    struct lease *l = lease_new();

    CHECK(!lease_held(l, slice_str("a"), NOW));
    lease_take(l, slice_str("a"), NOW, NOW + 10);
    CHECK(lease_held(l, slice_str("a"), NOW));
    CHECK(lease_held(l, slice_str("a"), NOW + 9));
    CHECK(!lease_held(l, slice_str("a"), NOW + 10));
    CHECK(!lease_held(l, slice_str("b"), NOW));
    CHECK(!lease_held(l, slice_of(NULL, 0), NOW));
    CHECK_EQ_U64(lease_count(l, NOW), 1);
    CHECK_EQ_U64(lease_count(l, NOW + 10), 0);
    lease_free(l);
}

TEST(the_longer_of_two_counts_and_there_is_only_one_slot)
{
    struct lease *l = lease_new();

    lease_take(l, slice_str("a"), NOW, NOW + 100);
    lease_take(l, slice_str("a"), NOW, NOW + 10);
    CHECK(lease_held(l, slice_str("a"), NOW + 99));
    lease_take(l, slice_str("a"), NOW, NOW + 200);
    CHECK(lease_held(l, slice_str("a"), NOW + 199));
    CHECK_EQ_U64(lease_count(l, NOW), 1);
    lease_take(l, slice_str("a"), NOW + 300, NOW + 301); /* again, after its end */
    CHECK(lease_held(l, slice_str("a"), NOW + 300));
    CHECK_EQ_U64(lease_count(l, NOW + 300), 1);
    lease_free(l);
}

TEST(absurd_times_are_bounded)
{
    struct lease *l = lease_new();

    lease_take(l, slice_str("past"), NOW, NOW);
    lease_take(l, slice_str("past"), NOW, 0);
    CHECK(!lease_held(l, slice_str("past"), NOW - 1));
    lease_take(l, slice_str("far"), NOW, UINT64_MAX);
    CHECK(lease_held(l, slice_str("far"), NOW + LEASE_MS_MAX - 1));
    CHECK(!lease_held(l, slice_str("far"), NOW + LEASE_MS_MAX));
    lease_free(l);
}

TEST(many_leases_are_all_held)
{
    struct lease *l = lease_new();
    char key[32];

    for (unsigned i = 0; i < 100000; i++)
        lease_take(l, numbered(key, i), NOW, NOW + 1000 + i % 7);
    CHECK_EQ_U64(lease_count(l, NOW), 100000);
    for (unsigned i = 0; i < 100000; i++)
        CHECK(lease_held(l, numbered(key, i), NOW + 999));
    for (unsigned i = 100000; i < 110000; i++)
        CHECK(!lease_held(l, numbered(key, i), NOW));
    lease_free(l);
}

/* Turn over: what ended makes room, the table does not grow for ever. */
TEST(ended_leases_make_room)
{
    struct lease *l = lease_new();
    char key[32];

    for (unsigned round = 0; round < 200; round++) {
        uint64_t now = NOW + round * 1000;

        for (unsigned i = 0; i < 500; i++)
            lease_take(l, numbered(key, round * 500 + i), now, now + 900);
        for (unsigned i = 0; i < 500; i++)
            CHECK(lease_held(l, numbered(key, round * 500 + i), now + 899));
        CHECK_EQ_U64(lease_count(l, now), 500);
    }
    lease_free(l);
}

TEST(when_full_the_newest_and_longest_stay)
{
    struct lease *l = lease_new();
    char key[32];
    unsigned held = 0;

    for (unsigned i = 0; i < LEASE_MAX + LEASE_MAX / 2; i++)
        lease_take(l, numbered(key, i), NOW, NOW + 1000 + i);
    CHECK_LE_INT((int64_t)lease_count(l, NOW), LEASE_MAX);
    CHECK_GT_INT((int64_t)lease_count(l, NOW), LEASE_MAX / 10 * 9);
    CHECK(lease_held(l, numbered(key, LEASE_MAX + LEASE_MAX / 2 - 1), NOW));
    for (unsigned i = LEASE_MAX; i < LEASE_MAX + LEASE_MAX / 2; i++)
        held += lease_held(l, numbered(key, i), NOW);
    CHECK_GT_INT(held, (int)(LEASE_MAX / 2 / 100 * 97));
    lease_free(l);
}

TEST(a_condemned_key_cannot_be_leased)
{
    struct lease *l = lease_new();

    CHECK(lease_take(l, slice_str("other"), NOW, NOW + 10));
    CHECK(!lease_condemns(l, NOW));
    lease_condemn(l, slice_str("a"), NOW);
    CHECK(lease_condemns(l, NOW));
    CHECK(!lease_held(l, slice_str("a"), NOW));
    CHECK(!lease_take(l, slice_str("a"), NOW, NOW + 10));
    CHECK(!lease_held(l, slice_str("a"), NOW));
    CHECK(lease_take(l, slice_str("a"), NOW, NOW)); /* no promise is asked for */
    CHECK(lease_take(l, slice_str("b"), NOW, NOW + 10));
    CHECK_EQ_U64(lease_count(l, NOW), 2);

    lease_pardon(l, lease_hash(l, slice_str("a")));
    lease_pardon(l, lease_hash(l, slice_str("b"))); /* a lease is none of its business */
    lease_pardon(l, lease_hash(l, slice_str("c")));
    CHECK(lease_held(l, slice_str("b"), NOW));
    CHECK(lease_take(l, slice_str("a"), NOW, NOW + 10));
    CHECK(lease_held(l, slice_str("a"), NOW));

    lease_condemn(l, slice_str("d"), NOW); /* the eviction never came */
    CHECK(!lease_take(l, slice_str("d"), NOW + LEASE_CONDEMNED_MS - 1, NOW + 1000000));
    CHECK(lease_take(l, slice_str("d"), NOW + LEASE_CONDEMNED_MS, NOW + 1000000));
    CHECK(!lease_condemns(l, NOW + LEASE_CONDEMNED_MS));
    lease_free(l);
}

TEST(condemned_keys_stay_so_when_the_table_grows)
{
    struct lease *l = lease_new();
    char key[32];

    for (unsigned i = 0; i < 10000; i++) {
        lease_condemn(l, numbered(key, 2 * i), NOW);
        CHECK(lease_take(l, numbered(key, 2 * i + 1), NOW, NOW + 1000));
    }
    for (unsigned i = 0; i < 10000; i++) {
        CHECK(!lease_take(l, numbered(key, 2 * i), NOW, NOW + 1000));
        CHECK(lease_held(l, numbered(key, 2 * i + 1), NOW));
    }
    CHECK_EQ_U64(lease_count(l, NOW), 10000);
    lease_free(l);
}

TEST_MAIN
