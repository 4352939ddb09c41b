/* SPDX-License-Identifier: MIT */
#include "store/stage.h"

#include <sys/stat.h>

#include "rig_look.h"
#include "test.h"

#define KB ((uint64_t)1 << 10)
#define MB ((uint64_t)1 << 20)
#define MANY 1100

struct item {
    struct stage_req req;
    struct payload_digest digest;
    struct buf *buf;
    unsigned done, order; /* order: the how-manieth answer of the test this was */
};

static unsigned answers;

static void on_done(struct stage_req *r)
{
    struct item *it = (struct item *)(void *)r;

    it->done++;
    it->order = ++answers;
}

static void submit(struct rig *g, struct item *it, uint64_t len, bool moving)
{
    *it = (struct item){.req = {.digest = &it->digest,
                                .done = on_done,
                                .key = "key",
                                .key_len = 3,
                                .model = slice_str("m"),
                                .tokens = 16,
                                .moving = moving}};
    CHECK_EQ_INT(buf_get(g->pool, len, &it->buf), 0);
    memset(it->buf->mem, 0xff, it->buf->space); /* as after another value */
    rig_fill(buf_payload(it->buf), len, len + 7);
    payload_digest_begin(&it->digest, len);
    payload_digest_end(&it->digest, buf_payload(it->buf));
    it->req.buf = it->buf;
    stage_submit(g->stage, &it->req);
    buf_unref(it->buf); /* the stage has its own */
}

static void start(struct rig *g, uint32_t target)
{
    answers = 0;
    rig_init(g, target);
    rig_start(g, NULL, 0);
}

static void finish(struct rig *g)
{
    CHECK(stage_idle(g->stage));
    CHECK_EQ_U64(buf_pool_used(g->pool), 0);
    volumes_check(g->volumes);
    rig_fini(g);
}

static struct stage_stats stats(const struct rig *g)
{
    struct stage_stats st;

    stage_get_stats(g->stage, &st);
    return st;
}

/* What the file holds at the place: header of this request, payload, zeros. */
static void check_on_disk(struct rig *g, const struct item *it)
{
    struct payload_header h;
    uint64_t slot = volume_slot(it->digest.length);
    uint8_t *page = malloc(slot);
    char path[PATH_MAX];
    struct slab s;
    int fd;

    CHECK_EQ_INT(slab_open(g->dir, it->req.place.volume, g->uuid, &s), 0);
    slab_path(g->dir, s.number, path, sizeof(path));
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    CHECK_EQ_INT(pread(fd, page, slot, (off_t)(s.base + it->req.place.offset)), (int64_t)slot);
    close(fd);
    CHECK_EQ_INT(payload_header_decode(page, &h), 0);
    CHECK(place_eq(h.place, it->req.place) && payload_id_eq(h.id, it->req.id));
    CHECK(slice_eq(h.key, slice_str("key")) && slice_eq(h.model, slice_str("m")));
    CHECK_EQ_U64(h.length, it->digest.length);
    CHECK_EQ_HEX(h.digest, payload_digest_of(page + PAYLOAD_HEADER, h.length));
    for (uint64_t at = PAYLOAD_HEADER + h.length; at < slot; at++)
        CHECK_EQ_INT(page[at], 0);
    slab_close(&s);
    free(page);
}

static void release(struct rig *g, const struct item *it)
{
    stage_release(g->stage, it->req.place);
}

TEST(a_group_leaves_as_one_write_and_one_sync)
{
    struct item it[3];
    struct rig g;

    start(&g, 4);
    g.term = 3, g.applied = 44;
    submit(&g, &it[0], 100 * KB, false);
    submit(&g, &it[1], 0, false);
    submit(&g, &it[2], 2 * MB + 1, false);
    CHECK(!stage_idle(g.stage));
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(g.fault.writes, 1);
    CHECK_EQ_INT(g.fault.syncs, 1);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ_INT(it[i].done, 1);
        CHECK_EQ_INT(it[i].req.err, 0);
        CHECK_EQ_INT(it[i].order, i + 1);
        CHECK_EQ_U64(it[i].req.id.seq, i + 1);
        CHECK_EQ_U64(it[i].req.id.boot, 77);
        check_on_disk(&g, &it[i]);
    }
    CHECK_EQ_U64(it[1].req.place.offset, volume_slot(100 * KB));
    CHECK_EQ_U64(stats(&g).payloads, 3);
    CHECK_EQ_U64(stats(&g).jobs, 1);
    CHECK_EQ_U64(stats(&g).queued, 0);
    CHECK_EQ_U64(stats(&g).queued_bytes, 0);
    CHECK_EQ_U64(rig_stats(&g).pinned, 3); /* until each is released */
    for (unsigned i = 0; i < 3; i++)
        release(&g, &it[i]);
    CHECK_EQ_U64(rig_stats(&g).pinned, 0);
    finish(&g);
}

TEST(the_headers_carry_term_and_applied_index_for_recovery)
{
    struct item it;
    struct rig g;

    start(&g, 4);
    g.term = 3, g.applied = 44;
    submit(&g, &it, 5000, false);
    stage_pump(g.stage);
    rig_run(&g);
    release(&g, &it);
    rig_stop(&g);
    rig_start(&g, NULL, 0); /* no checkpoint ever: the chain alone tells */
    CHECK_EQ_U64(g.max_applied, 44);
    finish(&g);
}

TEST(a_moved_payload_keeps_its_id)
{
    struct item it;
    struct rig g;

    start(&g, 4);
    submit(&g, &it, 5000, true);
    it.req.id = (struct payload_id){9, 8, 7};
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it.req.err, 0);
    CHECK_EQ_U64(it.req.id.seq, 7);
    CHECK_EQ_U64(it.req.id.node, 9);
    check_on_disk(&g, &it);
    release(&g, &it);
    finish(&g);
}

TEST(what_arrives_joins_the_job_that_waits)
{
    struct item it[4];
    struct rig g;

    start(&g, 4);
    for (int i = 0; i < 4; i++) {
        submit(&g, &it[i], MB, false);
        stage_pump(g.stage);
        if (i == 0)
            CHECK(worker_step(g.writer)); /* written; its answer is not in yet */
    }
    CHECK_EQ_U64(stats(&g).jobs, 2);
    CHECK_EQ_INT(g.fault.writes, 1);
    rig_run(&g);
    CHECK_EQ_INT(g.fault.writes, 2);
    CHECK_EQ_INT(g.fault.syncs, 2);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ_INT(it[i].req.err, 0);
        CHECK_EQ_INT(it[i].order, i + 1);
        check_on_disk(&g, &it[i]);
        release(&g, &it[i]);
    }
    finish(&g);
}

/* A job that waits takes no more than a fresh one would. */
TEST(a_waiting_job_keeps_its_limit)
{
    struct item it[5];
    struct rig g;

    answers = 0;
    rig_init(&g, 8);
    g.volume_size = 48 * MB;
    rig_start(&g, NULL, 0);
    for (int i = 0; i < 5; i++) {
        submit(&g, &it[i], 6 * MB, false);
        stage_pump(g.stage);
    }
    CHECK_EQ_U64(stats(&g).jobs, STAGE_JOBS); /* of two each; the fifth waits */
    rig_run(&g);
    CHECK_EQ_U64(stats(&g).jobs, 3);
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ_INT(it[i].order, i + 1);
        check_on_disk(&g, &it[i]);
        release(&g, &it[i]);
    }
    finish(&g);
}

TEST(jobs_are_cut_at_their_byte_limit_and_two_are_under_way)
{
    struct item it[6];
    struct rig g;

    answers = 0;
    rig_init(&g, 8);
    g.volume_size = 48 * MB;
    rig_start(&g, NULL, 0);
    for (int i = 0; i < 6; i++)
        submit(&g, &it[i], 6 * MB, false);
    stage_pump(g.stage);
    CHECK_EQ_U64(stats(&g).jobs, STAGE_JOBS);
    rig_run(&g);
    for (unsigned i = 0; i < 6; i++) {
        CHECK_EQ_INT(it[i].req.err, 0);
        CHECK_EQ_INT(it[i].order, i + 1);
        check_on_disk(&g, &it[i]);
        release(&g, &it[i]);
    }
    CHECK_EQ_U64(stats(&g).jobs, 3);
    CHECK_EQ_INT(g.fault.writes, 3);
    finish(&g);
}

TEST(a_job_never_spans_volumes)
{
    struct item it[4];
    struct rig g;

    start(&g, 8);
    for (int i = 0; i < 4; i++)
        submit(&g, &it[i], i == 3 ? 7 * MB : 4 * MB, false);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_U64(stats(&g).jobs, 2);
    CHECK_EQ_U64(it[0].req.place.volume, it[2].req.place.volume);
    CHECK_NE_INT(it[2].req.place.volume, it[3].req.place.volume);
    for (unsigned i = 0; i < 4; i++) {
        check_on_disk(&g, &it[i]);
        release(&g, &it[i]);
    }
    finish(&g);
}

TEST(a_job_of_one_may_be_over_the_limit)
{
    struct item it;
    struct rig g;

    answers = 0;
    rig_init(&g, 8);
    g.volume_size = 48 * MB;
    rig_start(&g, NULL, 0);
    submit(&g, &it, STAGE_JOB_BYTES + MB, false);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it.req.err, 0);
    check_on_disk(&g, &it);
    release(&g, &it);
    finish(&g);
}

TEST(jobs_are_cut_at_the_vector_limit)
{
    static struct item it[MANY];
    struct rig g;

    start(&g, 4);
    for (int i = 0; i < MANY; i++)
        submit(&g, &it[i], 1, false);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_U64(stats(&g).jobs, 2);
    CHECK_EQ_INT(g.fault.writes, 2);
    for (unsigned i = 0; i < MANY; i++) {
        CHECK_EQ_INT(it[i].req.err, 0);
        CHECK_EQ_INT(it[i].order, i + 1);
        release(&g, &it[i]);
    }
    finish(&g);
}

TEST(a_value_over_the_volume_is_refused_and_the_next_is_not)
{
    struct item it[2];
    struct rig g;

    start(&g, 4);
    submit(&g, &it[0], RIG_SIZE, false);
    submit(&g, &it[1], 10, false);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it[0].req.err, ERR_TOOBIG);
    CHECK_EQ_INT(it[1].req.err, 0);
    release(&g, &it[1]);
    finish(&g);
}

/* --- errors of the disk ----------------------------------------------------------------------- */

/* A failed write or sync: the volume is given up, the group written elsewhere, in order. */
static void fail_once(bool at_sync)
{
    struct rig_fault once = {1, EIO, false};
    struct item it[4];
    struct rig g;

    start(&g, 8);
    for (int i = 0; i < 4; i++)
        submit(&g, &it[i], 7 * MB, false); /* two jobs, each its own volume */
    *(at_sync ? &g.fault.sync : &g.fault.write) = once;
    stage_pump(g.stage);
    rig_run(&g);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ_INT(it[i].done, 1);
        CHECK_EQ_INT(it[i].req.err, 0);
        CHECK_EQ_INT(it[i].order, i + 1);
        check_on_disk(&g, &it[i]);
        release(&g, &it[i]);
    }
    CHECK_EQ_U64(rig_stats(&g).failed, 1);
    CHECK_EQ_U64(stats(&g).failures, 1);
    CHECK_EQ_INT(rig_row(&g, it[0].req.place.volume).state == VOLUME_FAILED, false);
    CHECK_EQ_U64(rig_stats(&g).pinned, 0);
    finish(&g);
}

TEST(a_failed_write_goes_to_another_volume)
{
    fail_once(false);
}

TEST(a_failed_sync_goes_to_another_volume)
{
    fail_once(true);
}

TEST(the_job_behind_a_failed_one_is_not_written)
{
    static struct item it[MANY];
    struct rig g;

    start(&g, 8);
    for (int i = 0; i < MANY; i++)
        submit(&g, &it[i], 1, false); /* two jobs in one volume */
    g.fault.sync = (struct rig_fault){1, EIO, false};
    stage_pump(g.stage);
    CHECK(worker_step(g.writer) && worker_step(g.writer));
    CHECK_EQ_INT(g.fault.writes, 1); /* the second was failed unwritten */
    rig_run(&g);
    CHECK_EQ_U64(rig_stats(&g).failed, 1);
    CHECK_EQ_U64(stats(&g).failures, 2);
    for (unsigned i = 0; i < MANY; i++) {
        CHECK_EQ_INT(it[i].req.err, 0);
        CHECK_EQ_INT(it[i].order, i + 1);
        release(&g, &it[i]);
    }
    finish(&g);
}

TEST(failing_twice_is_an_io_error)
{
    struct item it[2];
    struct rig g;

    start(&g, 8);
    g.fault.sync = (struct rig_fault){1, EIO, true};
    submit(&g, &it[0], 100, false);
    submit(&g, &it[1], 100, false);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it[0].req.err, ERR_IO);
    CHECK_EQ_INT(it[1].req.err, ERR_IO);
    CHECK_EQ_U64(rig_stats(&g).failed, 2);
    CHECK_EQ_U64(rig_stats(&g).pinned, 0);
    g.fault.sync.countdown = 0;
    submit(&g, &it[0], 100, false); /* the next write finds a sound volume */
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it[0].req.err, 0);
    release(&g, &it[0]);
    finish(&g);
}

TEST(a_full_disk_in_a_write_spares_the_volume)
{
    struct item it;
    struct rig g;

    start(&g, 4);
    g.fault.write = (struct rig_fault){1, ENOSPC, false};
    submit(&g, &it, 100, false);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it.req.err, ERR_NOSPC);
    CHECK_EQ_U64(rig_stats(&g).failed, 0);
    CHECK_EQ_U64(rig_stats(&g).pinned, 0);
    g.fault.sync = (struct rig_fault){1, ENOSPC, false}; /* here nobody knows what is on disk */
    submit(&g, &it, 100, false);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it.req.err, 0);
    CHECK_EQ_U64(rig_stats(&g).failed, 1);
    release(&g, &it);
    finish(&g);
}

TEST(short_and_interrupted_writes_are_continued)
{
    struct item it;
    struct rig g;

    start(&g, 4);
    g.fault.write = (struct rig_fault){1, EINTR, false};
    submit(&g, &it, 100 * KB, false);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it.req.err, 0);
    CHECK_EQ_INT(g.fault.writes, 2);
    check_on_disk(&g, &it);
    release(&g, &it);
    finish(&g);
}

/* --- want of space ---------------------------------------------------------------------------- */

/* Fills the store until the lane of writes blocks; every payload keeps its pin. */
static unsigned fill_until_full(struct rig *g, struct item *it, unsigned room)
{
    for (unsigned i = 0; i < room; i++) {
        submit(g, &it[i], 7 * MB, false);
        stage_pump(g->stage);
        rig_run(g);
        if (it[i].done == 0 || it[i].req.err != 0)
            return i;
    }
    CHECK(false);
    return room;
}

TEST(a_full_store_answers_when_nothing_can_be_evicted)
{
    struct item it[16];
    struct rig g;
    unsigned n;

    start(&g, 4);
    n = fill_until_full(&g, it, 16);
    CHECK_EQ_INT(n, 6);
    CHECK_EQ_INT(it[n].req.err, ERR_FULL);
    CHECK_GT_INT(g.asked, 0);
    for (unsigned i = 0; i < n; i++)
        release(&g, &it[i]);
    finish(&g);
}

TEST(a_write_waits_for_eviction_and_a_move_does_not_wait_behind_it)
{
    struct item it[16], move;
    struct rig g;
    unsigned n;

    start(&g, 4);
    g.evictable = true;
    n = fill_until_full(&g, it, 16);
    CHECK_EQ_INT(it[n].done, 0);
    submit(&g, &it[n + 1], 10, false);
    submit(&g, &move, 5000, true); /* what eviction does: it may take the last volume */
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(move.done, 1);
    CHECK_EQ_INT(move.req.err, 0);
    CHECK_EQ_INT(it[n].done, 0);
    CHECK_EQ_INT(it[n + 1].done, 0); /* small enough, but not its turn */

    release(&g, &move);
    for (unsigned i = 0; i < n; i++)
        release(&g, &it[i]); /* nothing refers to any payload */
    g.spaces = 0;
    rig_checkpoint(&g);
    CHECK_EQ_INT(g.spaces, 1);
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_INT(it[n].req.err, 0);
    CHECK_EQ_INT(it[n + 1].req.err, 0);
    CHECK_LT_INT(it[n].order, it[n + 1].order);
    CHECK_EQ_U64(it[n].req.place.generation, 2);
    release(&g, &it[n]);
    release(&g, &it[n + 1]);
    finish(&g);
}

TEST(a_full_disk_at_the_first_format_is_told)
{
    struct item it;
    struct rig g;

    answers = 0;
    rig_init(&g, 4);
    g.fault.allocate = (struct rig_fault){1, ENOSPC, true};
    rig_start(&g, NULL, 0);
    submit(&g, &it, 100, false);
    stage_pump(g.stage);
    rig_run(&g);
    stage_pump(g.stage); /* as on_space would */
    CHECK_EQ_INT(it.done, 1);
    CHECK_EQ_INT(it.req.err, ERR_NOSPC);
    finish(&g);
}

TEST(close_cancels_what_waits)
{
    struct item it[16];
    struct rig g;
    unsigned n;

    start(&g, 4);
    g.evictable = true;
    n = fill_until_full(&g, it, 16);
    for (unsigned i = 0; i < n; i++)
        release(&g, &it[i]);
    stage_free(g.stage);
    CHECK_EQ_INT(it[n].done, 1);
    CHECK_EQ_INT(it[n].req.err, ERR_CANCELED);
    rig_open_stage(&g);
    finish(&g);
}

/* --- re-entry --------------------------------------------------------------------------------- */

static struct {
    struct rig *g;
    struct item next;
    unsigned left;
} chain;

static void on_chain(struct stage_req *r)
{
    CHECK_EQ_INT(r->err, 0);
    stage_release(chain.g->stage, r->place);
    if (chain.left-- == 0)
        return;
    submit(chain.g, &chain.next, 100, false);
    chain.next.req.done = on_chain;
    stage_pump(chain.g->stage);
}

TEST(done_may_submit_pump_and_release)
{
    struct rig g;

    start(&g, 4);
    chain.g = &g;
    chain.left = 20;
    submit(&g, &chain.next, 100, false);
    chain.next.req.done = on_chain;
    stage_pump(g.stage);
    rig_run(&g);
    CHECK_EQ_U64(stats(&g).payloads, 21);
    CHECK_EQ_U64(rig_stats(&g).pinned, 0);
    finish(&g);
}

/* Sweep: whichever write or sync fails first, each payload is answered once, in order, and what is
 * acknowledged is on disk. */
TEST(every_single_fault_is_survived)
{
    for (int sync = 0; sync < 2; sync++) {
        for (int nth = 1; nth <= 7; nth++) {
            struct item it[8];
            struct rig g;

            start(&g, 8);
            *(sync ? &g.fault.sync : &g.fault.write) = (struct rig_fault){nth, EIO, false};
            for (int i = 0; i < 8; i++) {
                submit(&g, &it[i], 3 * MB, i % 4 == 3);
                if (i % 2 == 1) {
                    stage_pump(g.stage);
                    worker_step(g.writer);
                }
            }
            stage_pump(g.stage);
            rig_run(&g);
            for (unsigned i = 0; i < 8; i++) {
                CHECK_EQ_INT(it[i].done, 1);
                CHECK_EQ_INT(it[i].req.err, 0);
                check_on_disk(&g, &it[i]);
                release(&g, &it[i]);
            }
            finish(&g);
        }
    }
}

TEST_MAIN
