/* SPDX-License-Identifier: MIT */
/* Which volume eviction looks at next, and which one MOVE empties. */
#include "store/volume.h"

#include "rig_slots.h"
#include "test.h"

TEST(the_emptiest_sealed_volume_is_the_one_to_empty)
{
    struct place places[64];
    struct volume_row row;
    struct rig g;

    rig_init(&g, 5);
    rig_start(&g, NULL, 0);
    CHECK_EQ_U64(fill_up(&g, places, 64), 4 * PER_VOLUME);
    CHECK(!volumes_emptiest(g.volumes, &row)); /* all full: MOVE would win nothing */
    volumes_unref(g.volumes, places[0], 2 * MB);
    CHECK(volumes_emptiest(g.volumes, &row));
    CHECK_EQ_U64(row.number, places[0].volume);
    volumes_unref(g.volumes, places[PER_VOLUME], 2 * MB);
    volumes_unref(g.volumes, places[PER_VOLUME + 1], 2 * MB);
    CHECK(volumes_emptiest(g.volumes, &row));
    CHECK_EQ_U64(row.number, places[PER_VOLUME].volume);
    CHECK_EQ_U64(row.live_records, PER_VOLUME - 2);
    volumes_shun(g.volumes, row.number);
    CHECK(volumes_emptiest(g.volumes, &row));
    CHECK_EQ_U64(row.number, places[0].volume);
    volumes_unref(g.volumes, places[PER_VOLUME + 2], 2 * MB); /* worth another try */
    CHECK(volumes_emptiest(g.volumes, &row));
    CHECK_EQ_U64(row.number, places[PER_VOLUME].volume);
    rig_fini(&g);
}

TEST(a_volume_whose_slots_are_being_filled_is_not_emptied)
{
    struct place places[64], p;
    struct volume_row row;
    struct rig g;

    rig_init(&g, 5);
    rig_start(&g, NULL, 0);
    p = alloc_one(&g, 2 * MB, false); /* written, its entry not yet applied */
    CHECK_EQ_U64(fill_up(&g, places, 64), 4 * PER_VOLUME - 1);
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_SEALED);
    CHECK(!volumes_emptiest(g.volumes, &row));
    volumes_release(g.volumes, p.volume); /* it never came */
    CHECK(volumes_emptiest(g.volumes, &row));
    CHECK_EQ_U64(row.number, p.volume);
    rig_fini(&g);
}

TEST(unused_room_behind_the_cursor_is_no_hole)
{
    uint64_t most;
    struct place p;
    struct volume_row row;
    struct rig g;

    rig_init(&g, 5);
    rig_start(&g, NULL, 0);
    most = volumes_max_value(g.volumes);
    put_one(&g, most - 2 * MB); /* an eighth of the volume stays unused behind it */
    p = put_one(&g, most / 2 - MB);
    rig_run(&g);
    put_one(&g, most); /* seals the second, which is less than half full */
    CHECK(volumes_emptiest(g.volumes, &row));
    CHECK_EQ_U64(row.number, p.volume);
    volumes_shun(g.volumes, p.volume);
    CHECK(!volumes_emptiest(g.volumes, &row));
    rig_fini(&g);
}

TEST(volumes_have_their_turn_in_the_order_of_opening)
{
    struct place places[64];
    struct volume_row row = {0};
    uint64_t turn, begin;
    struct rig g;

    rig_init(&g, 5);
    rig_start(&g, NULL, 0);
    CHECK(!volumes_oldest(g.volumes, &row, &turn));
    fill_up(&g, places, 64);
    for (size_t i = 0; i < PER_VOLUME; i++)
        volumes_unref(g.volumes, places[i], 2 * MB); /* the first is empty: not visited */
    begin = volumes_last_turn(g.volumes);
    for (size_t i = 0; i < 6; i++) { /* twice around */
        CHECK(volumes_oldest(g.volumes, &row, &turn));
        CHECK_EQ_U64(row.number, places[(1 + i % 3) * PER_VOLUME].volume);
        CHECK_EQ_INT(turn > begin, i >= 3);
        volumes_pass(g.volumes, row.number);
    }
    rig_fini(&g);
}

TEST(move_room_counts_what_move_can_have)
{
    struct place places[64], p;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    fill_up(&g, places, 64);
    CHECK_EQ_U64(volumes_move_room(g.volumes), slab_capacity(RIG_SIZE)); /* the last FREE one */
    p = alloc_one(&g, 2 * MB, true);
    CHECK_EQ_U64(volumes_move_room(g.volumes), slab_capacity(RIG_SIZE) - volume_slot(2 * MB));
    volumes_release(g.volumes, p.volume);
    rig_fini(&g);
}

TEST_MAIN
