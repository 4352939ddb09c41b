/* SPDX-License-Identifier: MIT */
/* MOVE: volumes are emptied, whatever is in the way; nothing readable is lost. */
#include "evict_rig.h"

static void check_readable(const char *prefix, unsigned from, unsigned to, unsigned step)
{
    for (unsigned n = from; n < to; n += step)
        CHECK_EQ_INT(read_large(name_of(prefix, n), MIB, n), 0);
}

static void check_others_readable(unsigned but, unsigned n)
{
    for (unsigned i = 0; i < n; i += 2)
        if (i != but)
            CHECK_EQ_INT(read_large(name_of("k", i), MIB, i), 0);
}

/* Every volume half full of holes, no file to be added, one FREE: as deletes leave it, and emptying
 * is about to begin. Returns the number of keys; those with an even number are there. */
static unsigned make_holes(void)
{
    unsigned n = 0;

    while (volumes().free >= 2 || volumes().can_grow > 0) {
        CHECK_EQ_INT(put(name_of("k", n), MIB, n), 0);
        if (n % 2 == 1)
            del(name_of("k", n));
        n++;
        CHECK_LT_U64(n, 200);
    }
    return n;
}

/* The first of these keys in the volume that will be emptied first. */
static unsigned first_victim(unsigned n)
{
    struct volume_row row;
    unsigned i = 0;

    CHECK(volumes_emptiest(store_volumes(node.store), &row));
    while (!is_there("k", i) || place_of(name_of("k", i)).volume != row.number)
        CHECK_LT_U64(++i, n);
    return i;
}

/* One job only: what follows from it waits for the next turn. */
static void turn_slowly(void)
{
    store_step(node.store);
    store_step_workers(node.store);
    inbox_drain(node.inbox, 64);
}

/* --- holes ------------------------------------------------------------------------------- */

TEST(deleted_space_is_used_again_without_eviction)
{
    evict_start();
    for (unsigned n = 0; n < 400; n++) {
        CHECK_EQ_INT(put(name_of("k", n), MIB, n), 0);
        if (n >= 20 && n % 10 != 0)
            del(name_of("k", n - 20));
        else if (n >= 40)
            del(name_of("k", n - 20)); /* one in ten lives longer */
        store_check(node.store);
    }
    CHECK_EQ_U64(evict_log.proposed, 0);
    CHECK_LE_U64(volumes().count, 8);
    CHECK_GT_U64(volumes().recycled, 10);
    stop();
}

TEST(survivors_move_together)
{
    unsigned n;

    evict_start();
    n = make_holes();
    for (unsigned i = 0; i < 30; i++) {
        CHECK_EQ_INT(put(name_of("more", i), MIB, i), 0);
        del(name_of("more", i));
    }
    turns(50);
    CHECK_GT_U64(counts().moved, 5);
    CHECK_EQ_U64(evict_log.proposed, 0);
    CHECK_EQ_U64(counts().corrupt, 0);
    check_readable("k", 0, n, 2);
    store_check(node.store);
    store_close(node.store, true);
    reopen();
    check_readable("k", 0, n, 2);
    stop();
}

TEST(a_crash_after_a_move_and_before_its_checkpoint_loses_nothing)
{
    unsigned n, moved = 0;

    evict_start();
    n = make_holes();
    checkpoint();
    for (unsigned i = 0; i < 200 && moved == 0; i++) { /* a MOVE is done, its checkpoint is not */
        turn_slowly();
        moved = (unsigned)counts().moved;
    }
    CHECK_GT_U64(moved, 0);
    store_close(node.store, false);
    reopen();
    store_set_evicting(node.store, true);
    store_check(node.store);
    check_readable("k", 0, n, 2);
    put_many("more", 0, 10, MIB);
    check_readable("k", 0, n, 2);
    check_readable("more", 0, 10, 1);
    stop();
}

TEST(a_key_that_changes_while_it_moves)
{
    unsigned n;
    struct volumes_stats v;

    evict_start();
    n = make_holes();
    for (unsigned i = 0; i < 400; i++) { /* every survivor is replaced while some are under way */
        turn_slowly();
        if (i % 8 == 0 && i / 4 < n)
            set(name_of("k", i / 4), "new");
    }
    turns(50);
    for (unsigned i = 0; i < n && i < 100; i += 2)
        check_get(name_of("k", i), "new");
    store_check(node.store);
    v = volumes();
    CHECK_EQ_U64(v.pinned, 0);
    stop();
}

TEST(without_leadership_moves_go_on)
{
    unsigned n;

    evict_start_as(false);
    n = make_holes();
    put_many("more", 0, 10, MIB);
    turns(50);
    CHECK_GT_U64(counts().moved, 0);
    CHECK_EQ_U64(evict_log.proposed, 0);
    check_readable("k", 0, n, 2);
    check_readable("more", 0, 10, 1);
    stop();
}

/* --- in the way -------------------------------------------------------------------------- */

TEST(moves_go_on_when_waiting_writes_hold_all_memory)
{
    struct buf *held[64];
    unsigned n, count = 0;

    evict_start();
    n = make_holes();
    while (buf_get(node.pool, MIB, &held[count]) == 0)
        CHECK_LT_U64(++count, 64);
    turns(100);
    CHECK_GT_U64(counts().moved, 0);
    CHECK_GE_U64(volumes().free, 2);
    while (count > 0)
        buf_unref(held[--count]);
    check_readable("k", 0, n, 2);
    stop();
}

TEST(a_damaged_payload_is_counted_and_evicted)
{
    unsigned n, bad;

    evict_start();
    n = make_holes();
    bad = first_victim(n);
    flip_at(place_of(name_of("k", bad)), 4096 + 300000);
    turns(100);
    CHECK_EQ_U64(counts().corrupt, 1);
    CHECK_EQ_U64(evict_log.evicted, 1);
    CHECK_EQ_INT(get_err(name_of("k", bad)), ERR_NOTFOUND);
    CHECK_GT_U64(counts().moved, 0);
    check_others_readable(bad, n);
    put_many("more", 0, 20, MIB);
    stop();
}

TEST(a_damaged_payload_without_leadership_blocks_one_volume)
{
    uint64_t corrupt;
    unsigned n, bad;

    evict_start_as(false);
    n = make_holes();
    bad = first_victim(n);
    flip_at(place_of(name_of("k", bad)), 4096 + 300000);
    turns(200);
    corrupt = counts().corrupt;
    CHECK_GE_U64(corrupt, 1);
    turns(2000);
    CHECK_EQ_U64(counts().corrupt, corrupt); /* not tried again and again */
    CHECK_EQ_U64(evict_log.proposed, 0);
    CHECK_GE_U64(volumes().free, 2);
    check_others_readable(bad, n);
    del(name_of("k", bad)); /* its volume comes back */
    turns(50);
    put_many("more", 0, 10, MIB);
    check_others_readable(bad, n);
    stop();
}

TEST(a_damaged_header_hides_one_record_from_the_walk)
{
    uint64_t moved;
    unsigned n, bad;

    evict_start();
    n = make_holes();
    bad = first_victim(n);
    flip_at(place_of(name_of("k", bad)), 0);
    turns(200);
    moved = counts().moved;
    CHECK_GE_U64(moved, 6); /* those behind it in the volume were found */
    CHECK_EQ_INT(get_err(name_of("k", bad)), 0);
    CHECK_GE_U64(volumes().free, 2);
    turns(2000);
    CHECK_EQ_U64(counts().moved, moved);
    check_others_readable(bad, n);
    del(name_of("k", bad));
    turns(50);
    store_check(node.store);
    stop();
}

TEST(eviction_walks_over_a_damaged_header)
{
    evict_start();
    put_many("k", 0, 40, MIB);
    flip_at(place_of("k0"), 0);
    flip_at(place_of("k5"), 0);
    put_many("more", 0, 80, MIB);
    CHECK(is_there("k", 0)); /* nobody knows whose bytes these are, but for the index */
    CHECK(is_there("k", 5));
    CHECK_EQ_U64(count_there("k", 1, 5), 0);
    CHECK_EQ_U64(count_there("k", 6, 20), 0);
    CHECK_EQ_INT(read_large("more79", MIB, 79), 0);
    stop();
}

/* What has failed and is empty makes place for new files. */
TEST(without_a_slot_a_move_ends_and_a_write_waits_for_one)
{
    struct volume_row *rows;
    unsigned n, failed = 0;
    size_t count;

    evict_start_as(false);
    n = make_holes();
    while (!evict_busy(node.store->evict)) /* the headers of a volume are being read */
        turn_slowly();
    count = volumes_rows(store_volumes(node.store), &rows);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].state == VOLUME_FREE || rows[i].state == VOLUME_OPEN) {
            volumes_fail(store_volumes(node.store), rows[i].number, "test");
            failed++;
        }
    }
    free(rows);
    CHECK_GE_U64(failed, 2);
    turns(50);
    CHECK_EQ_U64(counts().moved, 0);
    CHECK(!evict_busy(node.store->evict));
    CHECK_EQ_INT(try_large("more", MIB, 1, 0), 0);
    CHECK_EQ_U64(volumes().pinned, 0);
    check_readable("k", 0, n, 2);
    stop();
}

TEST(nothing_is_moved_without_room_for_all_of_it)
{
    struct volumes *v;
    struct volume_row *rows, before, after;
    size_t count;

    evict_start_as(false);
    make_holes();
    v = store_volumes(node.store);
    CHECK(volumes_emptiest(v, &before));
    count = volumes_rows(v, &rows);
    for (size_t i = 0; i < count; i++)
        if (rows[i].state == VOLUME_FREE)
            volumes_fail(v, rows[i].number, "test");
    free(rows);
    turns(50);
    CHECK(volumes_emptiest(v, &after)); /* it was not tried, and given up */
    CHECK_EQ_U64(after.number, before.number);
    CHECK_EQ_U64(counts().moved, 0);
    stop();
}

TEST(a_stop_in_the_middle_of_everything)
{
    for (unsigned steps = 0; steps < 24; steps++) {
        evict_start();
        make_holes();
        for (unsigned i = 0; i < steps; i++) {
            store_step(node.store);
            if (i % 2 == 0)
                store_step_workers(node.store);
            inbox_drain(node.inbox, 2);
        }
        stop();
    }
}

/* --- churn ------------------------------------------------------------------------------- */

#define CHURN_KEYS 160u
#define CHURN_TURNS 1200u

struct churned {
    size_t len; /* 0: absent */
    unsigned seed;
};

static unsigned churn_seed = 7;

static unsigned roll(unsigned bound)
{
    churn_seed = churn_seed * 1103515245u + 12345u;
    return (churn_seed >> 8) % bound;
}

/* 128 KiB to 8 MiB, small ones more often. */
static size_t churn_size(void)
{
    return ((128 * KIB) << roll(7)) - roll(4000);
}

static void check_churned(const struct churned *c, unsigned i)
{
    int err = get_err(name_of("c", i));

    if (c->len == 0)
        CHECK_EQ_INT(err, ERR_NOTFOUND);
    else if (err == 0)
        CHECK_EQ_INT(read_large(name_of("c", i), c->len, c->seed), 0);
    else
        CHECK_EQ_INT(err, ERR_NOTFOUND); /* evicted */
}

/* The store stays as full as it may be, with every size, with hits, deletes, leases and crashes. */
TEST(churn_keeps_every_promise)
{
    struct churned keys[CHURN_KEYS] = {{0}};
    uint64_t most = 0;

    rig_volume_size = 32 * MIB;
    rig_max_store = 8 * rig_volume_size;
    evict_start();
    for (unsigned t = 0; t < CHURN_TURNS; t++) {
        unsigned i = roll(CHURN_KEYS), what = roll(20);
        struct churned next = {churn_size(), t};

        if (what == 0) {
            del(name_of("c", i));
            keys[i].len = 0;
        } else if (what < 4) {
            check_churned(&keys[i], i);
            if (get_err(name_of("c", i)) == 0)
                hit(name_of("c", i));
        } else if (what == 4) {
            lease_for(name_of("c", i), 200);
        } else {
            CHECK_EQ_INT(put(name_of("c", i), next.len, next.seed), 0);
            keys[i] = next;
        }
        CHECK_LE_U64(volumes().live_bytes, rig_max_store);
        CHECK_LE_U64(volumes().count, 12);
        if (volumes().live_bytes > most)
            most = volumes().live_bytes;
        if (t % 10 == 0)
            store_check(node.store);
    }
    for (unsigned i = 0; i < CHURN_KEYS; i++)
        check_churned(&keys[i], i);
    CHECK_GT_U64(most, rig_max_store / 100 * 90);
    CHECK_GT_U64(evict_log.evicted, 50);
    CHECK_GT_U64(counts().moved, 20);
    CHECK_EQ_U64(counts().corrupt, 0);
    stop();
    rig_volume_size = VOLUME_SIZE;
    rig_max_store = 64 * MIB;
}

TEST_MAIN
