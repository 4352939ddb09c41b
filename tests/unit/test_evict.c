/* SPDX-License-Identifier: MIT */
/* Which keys are evicted, and what a writer hears. Where their bytes lie: test_compact.c. */
#include "evict_rig.h"

#define LIMIT (64 * MIB) /* store_rig's max_store_bytes */
#define MARGIN (LIMIT / 16)
#define LEASE_MS 100000u

/* Turns until nothing has changed for a while; retries of a second are waited for. */
static void settle(void)
{
    turns(1500);
}

/* --- which ------------------------------------------------------------------------------- */

TEST(the_oldest_go_first)
{
    evict_start();
    for (unsigned n = 0; n < 150; n++) {
        unsigned first = 0;

        CHECK_EQ_INT(put(name_of("k", n), MIB, n), 0);
        turn();
        while (!is_there("k", first))
            first++;
        CHECK_EQ_U64(count_there("k", first, n + 1), n + 1 - first);
        CHECK_LE_U64(volumes().live_bytes, LIMIT);
        store_check(node.store);
    }
    settle();
    CHECK_LE_U64(volumes().live_bytes, LIMIT - MARGIN);
    CHECK_GE_U64(volumes().live_bytes, LIMIT - 4 * MARGIN); /* no more than is needed */
    CHECK_EQ_U64(counts().evicted, evict_log.evicted);
    CHECK_EQ_INT(read_large("k149", MIB, 149), 0);
    stop();
}

TEST(below_the_limit_nothing_is_evicted)
{
    evict_start();
    put_many("k", 0, 57, MIB);
    settle();
    CHECK_EQ_U64(evict_log.proposed, 0);
    CHECK_EQ_U64(count_there("k", 0, 57), 57);
    stop();
}

TEST(a_key_that_is_hit_stays)
{
    evict_start();
    put_many("hot", 0, 5, MIB);
    for (unsigned n = 0; n < 300; n++) {
        CHECK_EQ_INT(put(name_of("cold", n), MIB, n), 0);
        hit(name_of("hot", n % 5));
    }
    CHECK_EQ_U64(count_there("hot", 0, 5), 5);
    for (unsigned n = 0; n < 5; n++)
        CHECK_EQ_INT(read_large(name_of("hot", n), MIB, n), 0);
    settle();
    store_check(node.store);
    stop();
}

TEST(a_hit_counts_once)
{
    evict_start();
    put_many("k", 0, 5, MIB);
    for (unsigned n = 0; n < 5; n++)
        hit(name_of("k", n));
    put_many("cold", 0, 80, MIB);
    CHECK_EQ_U64(count_there("k", 0, 5), 5); /* the hand has passed, younger ones went */
    CHECK(!is_there("cold", 0));
    put_many("more", 0, 120, MIB);
    CHECK_EQ_U64(count_there("k", 0, 5), 0);
    stop();
}

#define HITS 100u

static void hit_all_after_turn(void)
{
    after_turn();
    for (unsigned n = 0; n < HITS; n++)
        if (is_there("k", n))
            hit(name_of("k", n));
}

TEST(hits_do_not_hold_eviction_up)
{
    evict_start();
    rig_after_turn = hit_all_after_turn; /* faster than the hand goes around */
    put_many("k", 0, HITS, MIB);
    CHECK_GE_U64(evict_log.evicted, HITS - 64);
    stop();
}

/* --- leases ------------------------------------------------------------------------------ */

TEST(a_lease_holds)
{
    evict_start();
    put_many("held", 0, 20, MIB);
    for (unsigned n = 0; n < 20; n++)
        lease_for(name_of("held", n), LEASE_MS);
    put_many("k", 0, 200, MIB);
    CHECK_EQ_U64(count_there("held", 0, 20), 20);
    advance_ms(LEASE_MS);
    put_many("more", 0, 60, MIB);
    CHECK_EQ_U64(count_there("held", 0, 20), 0);
    stop();
}

static unsigned fill_leased(size_t len)
{
    unsigned n = 0;
    int err;

    while ((err = put(name_of("k", n), len, n)) == 0) {
        lease_for(name_of("k", n), LEASE_MS);
        n++;
        CHECK_LT_U64(n, 1000);
    }
    CHECK_EQ_INT(err, ERR_FULL);
    return n;
}

TEST(everything_leased_is_refused_until_a_lease_ends)
{
    unsigned n;

    evict_start();
    n = fill_leased(MIB);
    CHECK_GE_U64(n, 60);
    CHECK_EQ_U64(count_there("k", 0, n), n);
    CHECK_EQ_INT(put("more", MIB, 1), ERR_FULL);
    CHECK_EQ_U64(evict_log.proposed, 0);
    store_check(node.store);
    advance_ms(LEASE_MS);
    CHECK_EQ_INT(put("more", MIB, 1), 0);
    CHECK_LT_U64(count_there("k", 0, n), n);
    CHECK_GE_U64(count_there("k", 0, n), n - 8); /* twice the margin */
    stop();
}

/* Where everything else is leased, the newest key is the only one to take; not before its client
 * could look at it. */
TEST(what_was_stored_a_moment_ago_is_there)
{
    unsigned n = 0;
    int err;

    evict_start();
    while ((err = put(name_of("k", n), MIB, n)) == 0) {
        turns(50);
        CHECK(is_there("k", n));
        lease_for(name_of("k", n), LEASE_MS);
        n++;
    }
    CHECK_EQ_INT(err, ERR_FULL);
    CHECK_EQ_U64(count_there("k", 0, n), n);
    stop();
}

TEST(a_full_store_can_always_shrink)
{
    unsigned n;

    evict_start();
    n = fill_leased(MIB);
    for (unsigned i = 0; i < n; i += 2)
        del(name_of("k", i));
    put_many("more", 0, n / 2 - 2, MIB); /* at once, into the holes */
    CHECK_EQ_U64(evict_log.proposed, 0);
    for (unsigned i = 1; i < n; i += 2)
        CHECK_EQ_INT(read_large(name_of("k", i), MIB, i), 0);
    store_check(node.store);
    stop();
}

TEST(expiry_goes_on_in_a_full_store)
{
    unsigned n;

    evict_start();
    CHECK_EQ_INT(put_ex("due", 8 * MIB, 1, node.wall_ms + 50000), 0);
    lease_for("due", LEASE_MS);
    n = fill_leased(MIB);
    CHECK_EQ_INT(put("more", 4 * MIB, 1), ERR_FULL);
    advance_ms(60000);
    applied(); /* a TICK carries the time into the log */
    settle();
    CHECK_EQ_INT(get_err("due"), ERR_NOTFOUND);
    CHECK_EQ_INT(put("more", 4 * MIB, 1), 0);
    CHECK_EQ_U64(count_there("k", 0, n), n);
    stop();
}

/* --- what has expired -------------------------------------------------------------------- */

TEST(what_has_expired_goes_before_anything_is_evicted)
{
    evict_start();
    CHECK_EQ_INT(put("stays", MIB, 7), 0); /* the oldest */
    for (unsigned n = 0; n < 300; n++) {
        CHECK_EQ_INT(put_ex(name_of("k", n), MIB, n, node.wall_ms + 5), 0);
        turns(2);
    }
    CHECK_EQ_U64(evict_log.proposed, 0);
    CHECK_EQ_INT(read_large("stays", MIB, 7), 0);
    store_check(node.store);
    stop();
}

static void set_short_after_turn(void)
{
    after_turn();
    set_ex(name_of("short", (unsigned)node.index), "x", node.wall_ms);
}

TEST(keys_that_expire_all_the_time_do_not_hold_eviction_up)
{
    evict_start();
    rig_after_turn = set_short_after_turn;
    put_many("k", 0, 100, MIB);
    CHECK_LE_U64(volumes().live_bytes, LIMIT);
    CHECK(is_there("k", 99));
    stop();
}

/* --- the log ----------------------------------------------------------------------------- */

TEST(asking_again_does_not_evict_again)
{
    evict_start();
    put_many("k", 0, 58, MIB);
    evict_log.mode = LOG_HELD;
    for (unsigned i = 0; i < 300; i++) { /* the log is slow, but not lost */
        CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), ERR_AGAIN);
        turn();
    }
    CHECK_GE_U64(evict_log.proposed, 2);
    CHECK_LE_U64(evict_log.proposed, 4); /* 8 MiB below the limit, the rest is there already */
    evict_log.mode = LOG_RUNS;
    turns(5);
    CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), 0);
    stop();
}

TEST(dropped_proposals_are_made_again)
{
    evict_start();
    put_many("k", 0, 58, MIB);
    evict_log.mode = LOG_DROPS;
    for (unsigned i = 0; i < 300; i++) {
        CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), ERR_AGAIN);
        turn();
    }
    CHECK_GT_U64(evict_log.dropped, 0);
    evict_log.mode = LOG_RUNS;
    CHECK_EQ_INT(put("more", 8 * MIB, 1), 0);
    stop();
}

/* Who is told that a key is there, and leases it, finds it: also if its eviction was on its way. */
TEST(no_lease_is_had_once_eviction_is_proposed)
{
    struct lease *l;
    unsigned leased = 0;

    evict_start();
    l = store_lease(node.store);
    put_many("k", 0, 58, MIB);
    evict_log.mode = LOG_HELD;
    CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), ERR_AGAIN);
    turns(20);
    CHECK_GT_U64(evict_log.count, 1);
    for (unsigned n = 0; n < 58; n++)
        leased += lease_take(l, slice_str(name_of("k", n)), node.wall_ms, node.wall_ms + LEASE_MS);
    CHECK_EQ_U64(leased, 58 - evict_log.count);
    set("k0", "new"); /* another value is not concerned */
    CHECK(lease_take(l, slice_str("k0"), node.wall_ms, node.wall_ms + LEASE_MS));
    evict_log.mode = LOG_RUNS;
    turns(5);
    check_get("k0", "new");
    for (unsigned n = 1; n < 58; n++)
        CHECK_EQ_INT(is_there("k", n), lease_held(l, slice_str(name_of("k", n)), node.wall_ms));
    stop();
}

TEST(a_log_that_takes_nothing_loses_no_proposal)
{
    evict_start();
    put_many("k", 0, 58, MIB);
    evict_log.mode = LOG_FULL;
    for (unsigned i = 0; i < 300; i++) {
        CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), ERR_AGAIN);
        turn();
    }
    evict_log.mode = LOG_RUNS;
    turns(5);
    CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), 0);
    CHECK(!is_there("k", 0)); /* the hand stood where it was */
    CHECK(lease_take(store_lease(node.store), slice_str("k30"), node.wall_ms, node.wall_ms + 1));
    stop();
}

/* Values that are read and overwritten quickly: their volumes come free when the readers go. */
TEST(nobody_is_evicted_for_room_that_readers_hold)
{
    struct staged *st = calloc(1, sizeof(*st));
    struct volumes *v;
    struct volume_io vio;
    struct place held[200];
    unsigned n = 0;

    evict_start();
    v = store_volumes(node.store);
    put_many("k", 0, 15, MIB);
    while (volumes().can_grow > 0 || volumes().free >= 2) {
        CHECK_EQ_INT(put("often", MIB, n), 0);
        CHECK_LT_U64(n, 200);
        held[n] = place_of("often");
        CHECK_EQ_INT(volumes_pin(v, held[n].volume, held[n].generation, &vio), 0);
        n++;
    }
    for (unsigned i = 0; i < 64; i++) {
        submit_large(st, "more", 4 * MIB, 1);
        turns(20);
        if (!st->over)
            break;
        stage_release(store_stage(node.store), st->req.place);
    }
    CHECK(!st->over);
    CHECK_GT_U64(volumes().held, 0);
    turns(100);
    CHECK_EQ_U64(evict_log.proposed, 0);
    while (n > 0)
        volumes_unpin(v, held[--n].volume);
    turns(20);
    CHECK(st->over);
    CHECK_EQ_INT(st->req.err, 0);
    CHECK_EQ_U64(evict_log.proposed, 0);
    CHECK_EQ_U64(count_there("k", 0, 15), 15);
    stage_release(store_stage(node.store), st->req.place);
    stop();
    free(st);
}

TEST(what_waits_for_room_is_answered_at_a_stop)
{
    struct staged *st = calloc(1, sizeof(*st));
    struct place filled[64];
    unsigned n = 0;

    evict_start();
    put_many("k", 0, 58, MIB);
    evict_log.mode = LOG_HELD;
    for (;;) {
        submit_large(st, "more", 4 * MIB, 1);
        turns(20);
        if (!st->over)
            break;
        CHECK_LT_U64(n, 64);
        filled[n++] = st->req.place; /* its record would still be in the log */
    }
    store_stop(node.store);
    for (int i = 0; i < 20 && !st->over; i++) { /* as the server's last turns */
        stage_pump(store_stage(node.store));
        run();
    }
    CHECK(st->over);
    CHECK_EQ_INT(st->req.err, ERR_FULL);
    while (n > 0)
        stage_release(store_stage(node.store), filled[--n]);
    stop();
    free(st);
}

TEST(a_key_that_changed_meanwhile_is_not_evicted)
{
    evict_start();
    put_many("k", 0, 58, MIB);
    evict_log.mode = LOG_HELD;
    CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), ERR_AGAIN);
    turns(20);
    CHECK_GT_U64(evict_log.count, 0);
    CHECK_EQ_STR(evict_log.pending[0].key, "k0");
    set("k0", "new");
    evict_log.mode = LOG_RUNS;
    settle();
    check_get("k0", "new");
    stop();
}

TEST(only_a_leader_proposes)
{
    unsigned n = 0;

    evict_start_as(false);
    while (put(name_of("k", n), MIB, n) == 0)
        n++;
    CHECK_GE_U64(n, 60);
    CHECK_LE_U64(n, 64);
    settle();
    CHECK_EQ_U64(evict_log.proposed, 0);
    store_set_evicting(node.store, true);
    CHECK_EQ_INT(put("more", MIB, 1), 0);
    CHECK_GT_U64(evict_log.evicted, 0);
    evict_log.mode = LOG_HELD; /* what is under way when leadership goes is no longer waited for */
    CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), ERR_AGAIN);
    turns(10);
    store_set_evicting(node.store, false);
    turns(10);
    CHECK_EQ_INT(store_may_add(node.store, 0, 8 * MIB), ERR_FULL);
    stop();
}

TEST(what_is_larger_than_the_store_evicts_nothing)
{
    evict_start();
    put_many("k", 0, 50, MIB);
    CHECK_EQ_INT(store_may_add(node.store, 0, LIMIT + 4096), ERR_FULL);
    settle();
    CHECK_EQ_U64(evict_log.proposed, 0);
    stop();
}

/* --- index.mdb --------------------------------------------------------------------------- */

#define INDEX_LIMIT (16 * MIB)
#define ROW 1000u

static void set_inline(const char *key)
{
    static char data[ROW + 1];
    int err = ERR_AGAIN;

    memset(data, 'd', ROW);
    for (unsigned i = 0; i < STAGE_TURNS && err == ERR_AGAIN; i++) {
        err = store_may_add(node.store, strlen(key) + ROW, 0);
        if (err == ERR_AGAIN)
            turn();
    }
    CHECK_EQ_INT(err, 0);
    set(key, data);
}

static const char *hashed(unsigned n) /* names in an order that says nothing about their age */
{
    return name_of("k", n * 2654435761u);
}

TEST(an_index_over_its_limit_loses_its_oldest_rows)
{
    struct index_stats ix;
    unsigned young = 0, old = 0;

    evict_start();
    store_set_limits(node.store, LIMIT, INDEX_LIMIT);
    for (unsigned n = 0; n < 30000; n++) {
        set_inline(hashed(n));
        if (n % 20 == 0)
            turn();
        store_get_index_stats(node.store, &ix);
        CHECK_LE_U64(ix.used_bytes, INDEX_LIMIT + INDEX_LIMIT / 4);
    }
    settle();
    for (unsigned n = 0; n < 3000; n++) {
        old += get_err(hashed(20000 + n)) == 0;
        young += get_err(hashed(27000 + n)) == 0;
    }
    CHECK_GT_U64(counts().keys, 4000);
    CHECK_GT_U64(young, 2000);
    CHECK_LT_U64(old, young / 4);
    CHECK_EQ_U64(count_there("k", 0, 1), 0);
    store_check(node.store);
    stop();
}

TEST(leased_rows_stay_in_a_full_index)
{
    evict_start();
    store_set_limits(node.store, LIMIT, INDEX_LIMIT);
    for (unsigned n = 0; n < 10; n++) {
        set_inline(name_of("held", n));
        lease_for(name_of("held", n), LEASE_MS);
    }
    for (unsigned n = 0; n < 20000; n++) {
        set_inline(hashed(n));
        if (n % 20 == 0)
            turn();
    }
    CHECK_GT_U64(evict_log.evicted, 0);
    CHECK_EQ_U64(count_there("held", 0, 10), 10);
    stop();
}

TEST(a_full_index_refuses_and_shrinks)
{
    unsigned n = 0;

    evict_start_as(false); /* nobody evicts */
    store_set_limits(node.store, LIMIT, INDEX_LIMIT);
    for (;; n++) {
        int err = ERR_AGAIN;

        for (unsigned i = 0; i < STAGE_TURNS && err == ERR_AGAIN; i++) {
            err = store_may_add(node.store, ROW, 0);
            if (err == ERR_AGAIN)
                turn();
        }
        if (err == ERR_FULL)
            break;
        CHECK_EQ_INT(err, 0);
        set_inline(name_of("k", n));
        CHECK_LT_U64(n, 20000);
    }
    CHECK_GT_U64(n, 4000);
    for (unsigned i = 0; i < n; i += 2)
        del(name_of("k", i));
    settle();
    CHECK_EQ_INT(store_may_add(node.store, ROW, 0), 0);
    store_check(node.store);
    stop();
}

TEST(a_write_larger_than_the_index_is_refused)
{
    evict_start();
    store_set_limits(node.store, LIMIT, 4 * MIB);
    set("a", "1");
    checkpoint();
    CHECK_EQ_INT(store_may_add(node.store, 5 * MIB, 0), ERR_FULL);
    turns(10);
    CHECK_EQ_INT(get_err("a"), 0);
    CHECK_EQ_INT(store_may_add(node.store, 100, 0), 0);
    stop();
}

TEST_MAIN
