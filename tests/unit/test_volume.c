/* SPDX-License-Identifier: MIT */
#include "store/volume.h"

#include <sys/stat.h>

#include "base/hash.h"
#include "rig_slots.h"
#include "test.h"

static uint8_t foreign; /* changes the uuid of the headers written */

static void write_header(struct rig *g, struct place p, uint64_t len, uint64_t applied)
{
    uint64_t digests[PAYLOAD_CHUNKS_MAX] = {0};
    struct payload_header h = {.place = p, .length = len, .applied = applied, .digests = digests};
    struct slab s;
    uint8_t *page;

    h.chunk = payload_chunk_size(len);
    h.chunks = (uint32_t)((len + h.chunk - 1) / h.chunk);
    h.key = slice_str("k");
    memcpy(h.uuid, g->uuid, sizeof(h.uuid));
    h.uuid[0] ^= foreign;
    CHECK_EQ_INT(posix_memalign((void **)&page, 4096, 4096), 0);
    payload_header_encode(&h, page);
    CHECK_EQ_INT(slab_open(g->dir, p.volume, g->uuid, &s), 0);
    CHECK_EQ_INT(pwrite(s.fd, page, 4096, (off_t)(s.base + p.offset)), 4096);
    slab_close(&s);
    free(page);
}

TEST(formats_ahead_and_hands_out_neighbours)
{
    struct place a, b;
    struct rig g;

    rig_init(&g, 8);
    CHECK_EQ_INT(rig_try_open(&g, NULL, 0), 0);
    CHECK_EQ_INT(volumes_recover(g.volumes, &g.max_applied), 0);
    CHECK_EQ_INT(volumes_alloc(g.volumes, 1, false, 1, &a), ERR_AGAIN); /* nothing formatted yet */
    rig_run(&g);
    CHECK_EQ_U64(rig_stats(&g).free, 2);
    CHECK_EQ_INT(g.spaces, 2);
    CHECK_EQ_U64(volumes_max_value(g.volumes), slab_capacity(RIG_SIZE) - 4096);

    a = alloc_one(&g, 5000, false);
    CHECK_EQ_U64(a.offset, 0);
    CHECK_EQ_U64(a.generation, 1);
    b = (struct place){a.volume, a.generation, 12288};
    CHECK(volumes_continues(g.volumes, b, 4096, false));
    CHECK(!volumes_continues(g.volumes, b, 4096, true));
    CHECK(!volumes_continues(g.volumes, b, volumes_max_value(g.volumes), false));
    CHECK(place_eq(alloc_one(&g, 0, false), b));
    CHECK(!volumes_continues(g.volumes, b, 1, false));
    CHECK_EQ_INT(volumes_alloc(g.volumes, volumes_max_value(g.volumes) + 1, false, 1, &b),
                 ERR_TOOBIG);
    rig_run(&g);
    CHECK_EQ_U64(rig_stats(&g).free, 2); /* one more, ahead */
    CHECK_EQ_U64(rig_stats(&g).pinned, 2);
    volumes_check(g.volumes);
    volumes_release(g.volumes, a.volume);
    volumes_release(g.volumes, a.volume);
    rig_fini(&g);
}

TEST(the_largest_value_fills_a_volume)
{
    struct rig g;
    struct place p;

    rig_init(&g, 8);
    rig_start(&g, NULL, 0);
    p = put_one(&g, volumes_max_value(g.volumes));
    CHECK_EQ_U64(rig_row(&g, p.volume).cursor, slab_capacity(RIG_SIZE));
    CHECK_NE_INT(put_one(&g, 1).volume, p.volume);
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_SEALED);
    rig_fini(&g);
}

TEST(writes_leave_the_last_free_volume_to_move)
{
    struct place places[64], p;
    struct rig g;
    size_t n;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    n = fill_up(&g, places, 64);
    CHECK_EQ_U64(n, 3 * PER_VOLUME);
    CHECK_EQ_U64(rig_stats(&g).count, 4);
    CHECK_EQ_U64(rig_stats(&g).free, 1);
    p = alloc_one(&g, 2 * MB, true);
    CHECK_EQ_U64(rig_stats(&g).free, 0);
    CHECK_EQ_INT(volumes_alloc(g.volumes, 1, false, 1, &places[63]), ERR_AGAIN);
    volumes_check(g.volumes);
    volumes_release(g.volumes, p.volume);
    rig_fini(&g);
}

TEST(a_volume_is_recycled_only_when_durable_rows_show_it_empty)
{
    struct place places[64], p;
    struct volume_row *rows;
    struct volume_io io;
    struct rig g;
    size_t n;

    rig_init(&g, 3);
    rig_start(&g, NULL, 0);
    n = fill_up(&g, places, 64);
    CHECK_EQ_U64(n, 2 * PER_VOLUME);
    p = places[0];

    volumes_freeze(g.volumes, &rows); /* the rows still show records */
    free(rows);
    for (size_t i = 0; i < PER_VOLUME; i++)
        volumes_unref(g.volumes, places[i], 2 * MB);
    CHECK_EQ_U64(rig_stats(&g).empty, 1);
    volumes_checkpointed(g.volumes);
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_SEALED);

    CHECK_EQ_INT(volumes_pin(g.volumes, p.volume, p.generation, &io), 0); /* a slow reader */
    CHECK_EQ_U64(rig_stats(&g).empty, 0);
    rig_checkpoint(&g);
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_SEALED);

    volumes_unpin(g.volumes, p.volume);
    volumes_freeze(g.volumes, &rows);
    free(rows);
    volumes_checkpoint_failed(g.volumes); /* nothing became durable */
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_SEALED);

    g.spaces = 0;
    rig_checkpoint(&g);
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_FREE);
    CHECK_EQ_INT(g.spaces, 1);
    CHECK_EQ_U64(rig_stats(&g).recycled, 1);
    CHECK_EQ_INT(volumes_pin(g.volumes, p.volume, p.generation, &io), ERR_NOTFOUND);
    CHECK_EQ_INT(volumes_ref(g.volumes, p, 2 * MB), ERR_CORRUPT);
    volumes_unref(g.volumes, p, 2 * MB); /* a stale record: counts nowhere */

    p = alloc_one(&g, 100, false); /* its next life */
    CHECK_EQ_U64(p.volume, places[0].volume);
    CHECK_EQ_U64(p.generation, 2);
    CHECK_EQ_U64(p.offset, 0);
    CHECK_EQ_INT(volumes_pin(g.volumes, p.volume, 1, &io), ERR_NOTFOUND);
    volumes_unref(g.volumes, places[0], 2 * MB);
    volumes_release(g.volumes, p.volume);
    volumes_check(g.volumes);
    rig_fini(&g);
}

/* Reopened between the freeze and the end of a checkpoint: the picture is of the life before. */
TEST(a_record_that_came_after_the_freeze_keeps_the_volume)
{
    struct place places[64], p;
    struct volume_row *rows;
    struct rig g;

    rig_init(&g, 3);
    rig_start(&g, NULL, 0);
    fill_up(&g, places, 64);
    for (size_t i = 0; i < PER_VOLUME; i++)
        volumes_unref(g.volumes, places[i], 2 * MB);
    p = places[1];
    volumes_freeze(g.volumes, &rows);
    free(rows);
    CHECK_EQ_INT(volumes_ref(g.volumes, p, 2 * MB), 0);
    volumes_checkpointed(g.volumes);
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_SEALED);
    rig_fini(&g);
}

TEST(ref_refuses_places_that_cannot_be)
{
    struct rig g;
    struct place p, bad;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    p = put_one(&g, 5000);
    bad = p, bad.volume = 77;
    CHECK_EQ_INT(volumes_ref(g.volumes, bad, 5000), ERR_CORRUPT);
    bad = p, bad.volume = UINT32_MAX;
    CHECK_EQ_INT(volumes_ref(g.volumes, bad, 5000), ERR_CORRUPT);
    bad = p, bad.generation = 9; /* in service nobody is ahead of us */
    CHECK_EQ_INT(volumes_ref(g.volumes, bad, 5000), ERR_CORRUPT);
    bad = p, bad.generation = 0;
    CHECK_EQ_INT(volumes_ref(g.volumes, bad, 5000), ERR_CORRUPT);
    bad = p, bad.offset = 17;
    CHECK_EQ_INT(volumes_ref(g.volumes, bad, 5000), ERR_CORRUPT);
    bad = p, bad.offset = slab_capacity(RIG_SIZE) - 4096;
    CHECK_EQ_INT(volumes_ref(g.volumes, bad, 5000), ERR_CORRUPT);
    bad = p, bad.offset = UINT64_MAX & ~(uint64_t)4095;
    CHECK_EQ_INT(volumes_ref(g.volumes, bad, 5000), ERR_CORRUPT);
    CHECK_EQ_INT(volumes_ref(g.volumes, p, UINT64_MAX), ERR_CORRUPT);
    CHECK_EQ_U64(rig_stats(&g).live_records, 1);
    volumes_unref(g.volumes, p, 5000);
    volumes_unref(g.volumes, p, 5000); /* once too often: reported, not believed */
    CHECK_EQ_U64(rig_stats(&g).live_bytes, 0);
    volumes_check(g.volumes);
    rig_fini(&g);
}

TEST(a_failed_volume_is_left_alone_and_stays_readable)
{
    struct volume_io io;
    struct place p, q;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    p = put_one(&g, 5000);
    volumes_fail(g.volumes, p.volume, "test");
    volumes_fail(g.volumes, p.volume, "twice");
    q = put_one(&g, 5000);
    CHECK_NE_INT(q.volume, p.volume);
    CHECK_EQ_INT(volumes_pin(g.volumes, p.volume, p.generation, &io), 0);
    volumes_unpin(g.volumes, p.volume);
    rig_checkpoint(&g);
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_FAILED);
    rig_fini(&g);
}

TEST(a_failed_volume_goes_when_it_is_empty)
{
    struct volumes_stats s;
    struct volume_row row;
    char path[512];
    struct place p;
    struct rig g;

    rig_init(&g, 2); /* both its volumes would soon be lost */
    rig_start(&g, NULL, 0);
    for (int i = 0; i < 5; i++) {
        p = put_one(&g, 5000);
        volumes_fail(g.volumes, p.volume, "test");
        rig_checkpoint(&g);
        CHECK(volumes_get(g.volumes, p.volume, &row)); /* its record can still be read */
        volumes_unref(g.volumes, p, 5000);
        rig_checkpoint(&g);
        rig_run(&g);
        slab_path(g.dir, p.volume, path, sizeof(path));
        CHECK(access(path, F_OK) != 0);
        g.now_ms += 2000;
    }
    volumes_get_stats(g.volumes, &s);
    CHECK_EQ_U64(s.failed, 0);
    rig_fini(&g);
}

TEST(a_file_that_could_not_be_opened_is_opened_next_time)
{
    struct volumes_stats s;
    char path[PATH_MAX];
    struct rig g;

    rig_init(&g, 4);
    CHECK_EQ_INT(slab_format(&g.io, g.dir, 1, g.volume_size, g.uuid), 0); /* that far it came */
    CHECK_EQ_INT(rig_try_open(&g, NULL, 0), 0);
    volumes_get_stats(g.volumes, &s);
    CHECK_EQ_U64(s.free, 1); /* found at a start */
    volumes_close(g.volumes);
    CHECK_EQ_INT(unlink(tmpdir_path(path, g.dir, "vol-0001.mdb")), 0);
    rig_start(&g, NULL, 0);
    CHECK_EQ_INT(slab_format(&g.io, g.dir, 3, g.volume_size, g.uuid), 0);
    put_one(&g, 5000); /* opens 1; 3 is formatted ahead, and there already */
    rig_run(&g);
    volumes_get_stats(g.volumes, &s);
    CHECK_EQ_U64(s.format_errors, 0);
    CHECK_EQ_U64(s.free, 2);
    rig_fini(&g);
}

TEST(hits_belong_to_one_life)
{
    struct place places[64], p;
    struct rig g;

    rig_init(&g, 3);
    rig_start(&g, NULL, 0);
    fill_up(&g, places, 64);
    p = places[3];
    CHECK(!volumes_was_hit(g.volumes, p));
    volumes_mark_hit(g.volumes, p);
    CHECK(volumes_was_hit(g.volumes, p));
    CHECK(!volumes_was_hit(g.volumes, places[2]) && !volumes_was_hit(g.volumes, places[4]));
    volumes_mark_hit(g.volumes, (struct place){p.volume, p.generation, RIG_SIZE * 9});
    volumes_mark_hit(g.volumes, (struct place){99, 1, 0});
    CHECK(!volumes_was_hit(g.volumes, (struct place){p.volume, p.generation, RIG_SIZE * 9}));
    volumes_clear_hit(g.volumes, p);
    CHECK(!volumes_was_hit(g.volumes, p));
    volumes_clear_hit(g.volumes, p);
    volumes_mark_hit(g.volumes, p);
    for (size_t i = 0; i < PER_VOLUME; i++)
        volumes_unref(g.volumes, places[i], 2 * MB);
    rig_checkpoint(&g);
    CHECK_EQ_U64(put_one(&g, 2 * MB).volume, p.volume);
    p.generation++;
    CHECK(!volumes_was_hit(g.volumes, p));
    rig_fini(&g);
}

/* --- formats that fail ---------------------------------------------------------------------- */

TEST(a_full_disk_is_reported_and_tried_again)
{
    struct place p;
    struct rig g;

    rig_init(&g, 4);
    g.fault.allocate = (struct rig_fault){1, ENOSPC, true};
    rig_start(&g, NULL, 0);
    CHECK_EQ_INT(volumes_alloc(g.volumes, 1, false, g.now_ms, &p), ERR_AGAIN);
    rig_run(&g);
    CHECK_EQ_INT(volumes_alloc(g.volumes, 1, false, g.now_ms, &p), ERR_NOSPC);
    CHECK_EQ_INT(volumes_alloc(g.volumes, 1, false, g.now_ms + 999, &p), ERR_NOSPC);
    rig_run(&g);
    CHECK_EQ_U64(rig_stats(&g).format_errors, 2); /* no attempt per allocation */
    g.fault.allocate.countdown = 0;
    CHECK_EQ_INT(volumes_alloc(g.volumes, 1, false, g.now_ms + 1000, &p), ERR_AGAIN);
    rig_run(&g);
    p = put_one(&g, 1);
    CHECK_EQ_U64(p.offset, 0);
    rig_fini(&g);
}

TEST(a_full_disk_does_not_stop_recycling)
{
    struct place places[64];
    struct rig g;
    size_t n;

    rig_init(&g, 3);
    rig_start(&g, NULL, 0);
    n = fill_up(&g, places, 64);
    g.fault.allocate = (struct rig_fault){1, ENOSPC, true};
    for (size_t i = 0; i < n; i++)
        volumes_unref(g.volumes, places[i], 2 * MB);
    rig_checkpoint(&g);
    CHECK_EQ_U64(put_one(&g, 2 * MB).generation, 2);
    rig_fini(&g);
}

/* --- start -------------------------------------------------------------------------------- */

struct saved { /* what a checkpoint made durable */
    struct volume_row *rows;
    size_t count;
};

static struct saved save(struct rig *g)
{
    struct saved s;

    s.count = volumes_freeze(g->volumes, &s.rows);
    volumes_checkpointed(g->volumes);
    return s;
}

static void crash_and_open(struct rig *g, const struct saved *s)
{
    rig_stop(g);
    CHECK_EQ_INT(rig_try_open(g, s->rows, s->count), 0);
}

static void recover(struct rig *g)
{
    CHECK_EQ_INT(volumes_recover(g->volumes, &g->max_applied), 0);
    rig_open_stage(g);
    rig_run(g);
    volumes_check(g->volumes);
}

TEST(restart_goes_on_behind_the_header_chain)
{
    struct place a, b, c, d;
    struct saved s;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    a = put_one(&g, 5000);
    write_header(&g, a, 5000, 11);
    s = save(&g);
    b = put_one(&g, 100);             /* named by an entry to be replayed */
    c = alloc_one(&g, 300000, false); /* durable, never named */
    volumes_release(g.volumes, c.volume);
    write_header(&g, b, 100, 12);
    write_header(&g, c, 300000, 15);

    crash_and_open(&g, &s);
    CHECK_EQ_INT(volumes_ref(g.volumes, b, 100), 0);
    recover(&g);
    CHECK_EQ_U64(g.max_applied, 15);
    CHECK_EQ_U64(rig_row(&g, c.volume).live_records, 2);
    d = put_one(&g, 1);
    CHECK(place_eq(d, (struct place){c.volume, c.generation, c.offset + volume_slot(300000)}));
    free(s.rows);
    rig_fini(&g);
}

TEST(the_chain_ends_at_foreign_stale_and_torn_headers)
{
    struct place a, b;
    struct saved s;
    struct rig g;

    for (int kind = 0; kind < 4; kind++) {
        rig_init(&g, 4);
        rig_start(&g, NULL, 0);
        a = put_one(&g, 5000);
        write_header(&g, a, 5000, 1);
        s = save(&g);
        b = alloc_one(&g, 5000, false);
        volumes_release(g.volumes, b.volume);
        if (kind == 0) /* another life */
            write_header(&g, (struct place){b.volume, b.generation - 1, b.offset}, 5000, 99);
        if (kind == 1) { /* another store */
            foreign = 1;
            write_header(&g, b, 5000, 99);
            foreign = 0;
        }
        if (kind == 2) { /* a torn page */
            write_header(&g, b, 5000, 99);
            rig_flip(&g, b.volume, b.offset + 3000);
        }
        if (kind == 3) /* it would not fit: no stage wrote that */
            write_header(&g, b, RIG_SIZE, 99);
        crash_and_open(&g, &s);
        recover(&g);
        CHECK_EQ_U64(g.max_applied, 0);
        CHECK(place_eq(put_one(&g, 1), b));
        free(s.rows);
        rig_fini(&g);
    }
}

TEST(replay_adopts_a_volume_reopened_after_the_checkpoint)
{
    struct place places[64], p, q;
    struct saved s;
    struct rig g;

    rig_init(&g, 3);
    rig_start(&g, NULL, 0);
    fill_up(&g, places, 64);
    for (size_t i = 0; i < PER_VOLUME; i++)
        volumes_unref(g.volumes, places[i], 2 * MB);
    s = save(&g); /* the row still says SEALED, empty; in memory it is FREE now */
    p = put_one(&g, 5000);
    CHECK_EQ_U64(p.generation, 2);
    CHECK_EQ_U64(p.volume, places[0].volume);
    q = put_one(&g, 6000);

    crash_and_open(&g, &s);
    CHECK_EQ_INT(volumes_ref(g.volumes, p, 5000), 0);
    CHECK_EQ_INT(volumes_ref(g.volumes, q, 6000), 0);
    CHECK_EQ_INT(volumes_ref(g.volumes, places[0], 2 * MB), ERR_CORRUPT);
    recover(&g);
    CHECK_EQ_U64(rig_row(&g, p.volume).live_records, 2);
    q.offset += volume_slot(6000);
    CHECK(place_eq(put_one(&g, 1), q));
    free(s.rows);
    rig_fini(&g);
}

/* Nothing of the new life was committed, but its payloads are durable: not to be overwritten. */
TEST(the_first_header_tells_of_a_life_no_entry_names)
{
    struct place places[64], p, q;
    struct saved s;
    struct rig g;

    rig_init(&g, 3);
    rig_start(&g, NULL, 0);
    fill_up(&g, places, 64);
    for (size_t i = 0; i < PER_VOLUME; i++) {
        write_header(&g, places[i], 2 * MB, i);
        volumes_unref(g.volumes, places[i], 2 * MB);
    }
    s = save(&g);
    p = put_one(&g, 5000);
    q = put_one(&g, 6000);
    write_header(&g, p, 5000, 70);
    write_header(&g, q, 6000, 71);
    crash_and_open(&g, &s);
    recover(&g);
    CHECK_EQ_U64(g.max_applied, 71);
    CHECK_EQ_U64(rig_row(&g, p.volume).generation, 2);
    q.offset += volume_slot(6000);
    CHECK(place_eq(put_one(&g, 1), q));
    free(s.rows);
    rig_fini(&g);
}

TEST(files_without_a_row_are_free)
{
    struct saved s = {NULL, 0};
    struct place p;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    crash_and_open(&g, &s);
    recover(&g);
    CHECK_EQ_U64(rig_stats(&g).count, 2);
    CHECK_EQ_U64(rig_stats(&g).free, 2);
    p = put_one(&g, 1); /* filled after the same checkpoint, then replayed */
    crash_and_open(&g, &s);
    CHECK_EQ_INT(volumes_ref(g.volumes, p, 1), 0);
    recover(&g);
    CHECK_EQ_U64(rig_stats(&g).live_records, 1);
    rig_fini(&g);
}

TEST(missing_and_damaged_files_fail_their_volume_only)
{
    struct place places[64], p;
    char path[PATH_MAX], other[PATH_MAX];
    struct volume_io io;
    struct saved s;
    struct rig g;

    rig_init(&g, 5);
    rig_start(&g, NULL, 0);
    fill_up(&g, places, 64);
    s = save(&g);
    rig_stop(&g);
    slab_path(g.dir, places[0].volume, path, sizeof(path));
    CHECK_EQ_INT(unlink(path), 0);
    slab_path(g.dir, places[PER_VOLUME].volume, other, sizeof(other));
    CHECK_EQ_INT(truncate(other, 5 * (off_t)MB), 0);
    CHECK_EQ_INT(rig_try_open(&g, s.rows, s.count), 0);
    recover(&g);
    CHECK_EQ_U64(rig_stats(&g).failed, 2);
    CHECK_EQ_INT(volumes_pin(g.volumes, places[0].volume, 1, &io), ERR_NOTFOUND);
    CHECK_EQ_INT(volumes_pin(g.volumes, places[PER_VOLUME].volume, 1, &io), ERR_NOTFOUND);
    volumes_unref(g.volumes, places[0], 2 * MB); /* their keys can still be deleted */
    CHECK_EQ_U64(rig_row(&g, places[0].volume).live_records, PER_VOLUME - 1);
    CHECK_EQ_INT(volumes_pin(g.volumes, places[2 * PER_VOLUME].volume, 1, &io), 0);
    volumes_unpin(g.volumes, places[2 * PER_VOLUME].volume);
    rig_run(&g);
    p = put_one(&g, 2 * MB); /* a new file takes the place of the missing one */
    CHECK_NE_INT(p.volume, places[0].volume);
    CHECK(access(path, F_OK) != 0);
    free(s.rows);
    rig_fini(&g);
}

TEST(leftovers_are_removed_and_strangers_left)
{
    const char *names[] = {"vol-0009.mdb.tmp", "vol-9.mdb",    "vol-0007.mdb.tmp2",
                           "vol-99999.mdb",    "vol-0000.mdb", "notes"};
    char path[PATH_MAX];
    struct rig g;

    rig_init(&g, 3);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        close(open(tmpdir_path(path, g.dir, names[i]), O_CREAT | O_WRONLY, 0600));
    rig_start(&g, NULL, 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        CHECK_EQ_INT(access(tmpdir_path(path, g.dir, names[i]), F_OK) == 0, i != 0);
    CHECK_EQ_U64(rig_stats(&g).count, 2);
    rig_fini(&g);
}

TEST(an_unreadable_header_fails_the_volume_at_start)
{
    struct saved s;
    struct place p;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    p = put_one(&g, 5000);
    s = save(&g);
    crash_and_open(&g, &s);
    g.fault.read = (struct rig_fault){1, EIO, false};
    recover(&g);
    CHECK_EQ_INT(rig_row(&g, p.volume).state, VOLUME_FAILED);
    CHECK_NE_INT(put_one(&g, 1).volume, p.volume);
    free(s.rows);
    rig_fini(&g);
}

TEST(bad_rows_are_refused)
{
    struct volume_row zero = {.number = 0}, twice[2] = {{.number = 1}, {.number = 1}};
    struct rig g;

    rig_init(&g, 4);
    CHECK_EQ_INT(rig_try_open(&g, &zero, 1), ERR_CORRUPT);
    CHECK_EQ_INT(rig_try_open(&g, twice, 2), ERR_CORRUPT);
    CHECK(strstr(g.detail, "number=1") != NULL);
    rig_start(&g, NULL, 0);
    rig_fini(&g);
}

TEST(two_open_volumes_go_on_and_a_third_is_sealed)
{
    struct saved s;
    struct place p[3];
    struct rig g;

    rig_init(&g, 8);
    rig_start(&g, NULL, 0);
    p[0] = put_one(&g, 100);
    p[1] = alloc_one(&g, 100, true);
    volumes_release(g.volumes, p[1].volume);
    s = save(&g);
    p[2] = put_one(&g, volumes_max_value(g.volumes) - 4096); /* seals the first, after the rows */
    CHECK_NE_INT(p[2].volume, p[0].volume);
    crash_and_open(&g, &s);
    CHECK_EQ_INT(volumes_ref(g.volumes, p[2], volumes_max_value(g.volumes) - 4096), 0);
    recover(&g);
    CHECK_EQ_U64(rig_stats(&g).open, 2);
    CHECK_EQ_INT(rig_row(&g, p[0].volume).state, VOLUME_SEALED);
    CHECK_EQ_U64(put_one(&g, 0).volume, p[2].volume);
    CHECK_EQ_U64(alloc_one(&g, 0, true).volume, p[1].volume);
    volumes_release(g.volumes, p[1].volume);
    free(s.rows);
    rig_fini(&g);
}

TEST(generations_end_in_failure_not_in_reuse)
{
    struct volume_row row = {.number = 1, .generation = UINT32_MAX, .state = VOLUME_FREE};
    struct rig g;
    struct place p;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    rig_stop(&g);
    CHECK_EQ_INT(rig_try_open(&g, &row, 1), 0);
    recover(&g);
    p = put_one(&g, 1);
    CHECK_NE_INT(p.volume, 1);
    CHECK_EQ_INT(rig_row(&g, 1).state, VOLUME_FAILED);
    rig_fini(&g);
}

/* Random life against the invariants: puts, deletes, checkpoints, crashes. */
TEST(random_operations_keep_the_invariants)
{
    enum { RECORDS = 200 };
    struct live {
        struct place p;
        uint64_t len;
        bool there;
    } live[RECORDS] = {0}, durable[RECORDS] = {0};
    struct saved s = {NULL, 0};
    uint64_t x = 12345;
    struct rig g;

    rig_init(&g, 6);
    rig_start(&g, NULL, 0);
    for (int step = 0; step < 3000; step++) {
        uint64_t roll = (x = x * 6364136223846793005u + 1442695040888963407u) >> 33;
        struct live *l = &live[roll % RECORDS];

        if (roll % 97 == 0) {
            free(s.rows);
            s = save(&g);
            memcpy(durable, live, sizeof(live));
        } else if (roll % 499 == 0 && s.rows != NULL) { /* nothing since is replayed: undo */
            crash_and_open(&g, &s);
            memcpy(live, durable, sizeof(live));
            recover(&g);
        } else if (l->there) {
            volumes_unref(g.volumes, l->p, l->len);
            l->there = false;
        } else {
            l->len = roll % 7 == 0 ? MB : roll % 50000;
            if (volumes_alloc(g.volumes, l->len, roll % 5 == 0, g.now_ms++, &l->p) == 0) {
                CHECK_EQ_INT(volumes_ref(g.volumes, l->p, l->len), 0);
                volumes_release(g.volumes, l->p.volume);
                l->there = true;
            }
        }
        rig_run(&g);
        volumes_check(g.volumes);
    }
    for (int i = 0; i < RECORDS; i++)
        for (int j = 0; j < i; j++) /* no two records share bytes */
            CHECK(!live[i].there || !live[j].there || live[i].p.volume != live[j].p.volume ||
                  live[i].p.generation != live[j].p.generation ||
                  live[i].p.offset + volume_slot(live[i].len) <= live[j].p.offset ||
                  live[j].p.offset + volume_slot(live[j].len) <= live[i].p.offset);
    CHECK_GT_INT((int64_t)rig_stats(&g).recycled, 0);
    free(s.rows);
    rig_fini(&g);
}

TEST_MAIN
