/* SPDX-License-Identifier: MIT */
#include "base/err.h"
#include "log_harness.h"
#include "test.h"

static void start(struct harness *h)
{
    harness_init(h, LOG_MEM, NULL);
    CHECK_EQ_INT(harness_start(h), 0);
}

TEST(commits_only_on_command)
{
    struct harness h;

    start(&h);
    for (uint64_t i = 0; i < 5; i++)
        CHECK_EQ_INT(harness_propose(&h, i, 16), 0);
    harness_drain(&h);
    CHECK_EQ_U64(h.count, 0);
    CHECK_EQ_U64(log_mem_pending(h.log), 5);
    log_mem_commit(h.log, 2);
    CHECK_EQ_U64(h.count, 0); /* through the inbox, not from inside */
    CHECK_EQ_U64(log_mem_pending(h.log), 3);
    harness_drain(&h);
    CHECK_EQ_U64(h.count, 2);
    CHECK(harness_is(&h, 0, 0, 16));
    CHECK(harness_is(&h, 1, 1, 16));
    CHECK_EQ_U64(h.entries[1].index, 2);
    log_mem_commit(h.log, 0);
    log_mem_commit(h.log, 3);
    harness_drain(&h);
    CHECK(harness_is(&h, 4, 4, 16));
    harness_fini(&h);
}

TEST(fails_the_newest)
{
    struct harness h;

    start(&h);
    for (uint64_t i = 0; i < 3; i++)
        CHECK_EQ_INT(harness_propose(&h, i, 16), 0);
    log_mem_fail(h.log, 2, ERR_NOTLEADER);
    harness_drain(&h);
    CHECK_EQ_U64(h.failed, 2);
    CHECK_EQ_INT(h.failed_err, ERR_NOTLEADER);
    CHECK_EQ_U64(h.failed_token, 1); /* newest first */
    log_mem_commit(h.log, 1);
    CHECK_EQ_INT(harness_propose(&h, 7, 16), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    CHECK_EQ_U64(h.count, 2);
    CHECK(harness_is(&h, 1, 7, 16));
    CHECK_EQ_U64(h.entries[1].index, 2); /* a failed entry leaves no gap */
    harness_fini(&h);
}

TEST(stop_fails_what_waits)
{
    struct harness h;

    start(&h);
    CHECK_EQ_INT(harness_propose(&h, 5, 16), 0);
    CHECK_EQ_INT(harness_propose(&h, 6, 16), 0);
    log_stop(h.log);
    harness_drain(&h);
    CHECK(log_stopped(h.log));
    CHECK_EQ_U64(h.failed, 2);
    CHECK_EQ_U64(h.failed_token, 6);
    CHECK_EQ_INT(h.failed_err, ERR_UNKNOWN);
    harness_fini(&h);
}

TEST(asks_for_a_snapshot_once)
{
    struct harness h;
    struct log_stats s;

    harness_init(&h, LOG_MEM, NULL);
    h.config.snapshot_groups = 4;
    CHECK_EQ_INT(harness_start(&h), 0);
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_EQ_INT(harness_propose(&h, i, 16), 0);
        log_mem_commit(h.log, 1);
        harness_drain(&h);
        CHECK_EQ_U64(h.need, i >= 3 ? 1 : 0);
    }
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    CHECK_EQ_U64(log_mem_pending(h.log), 1);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshots, 1);
    CHECK_EQ_U64(s.snapshot_index, 11);
    CHECK_EQ_U64(s.groups_since_snapshot, 0);
    CHECK_EQ_U64(s.bytes_since_snapshot, 0);
    CHECK_EQ_U64(h.need, 1);
    harness_fini(&h);
}

TEST(asks_by_bytes_and_again_after_a_failure)
{
    struct harness h;
    struct log_stats s;

    harness_init(&h, LOG_MEM, NULL);
    h.config.snapshot_bytes = 100;
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_INT(harness_propose(&h, 1, 96), 0);
    CHECK_EQ_INT(harness_propose(&h, 2, 8), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    CHECK_EQ_U64(h.need, 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    CHECK_EQ_U64(h.need, 1);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    CHECK_EQ_INT(harness_propose(&h, 3, 8), 0); /* behind the marker: allowed */
    log_mem_fail(h.log, 2, ERR_UNKNOWN);
    harness_drain(&h);
    CHECK_EQ_U64(h.failed, 1); /* a marker has no token */
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshot_failures, 1);
    CHECK_EQ_INT(harness_propose(&h, 4, 8), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    CHECK_EQ_U64(h.need, 2);
    harness_fini(&h);
}

TEST(second_snapshot_waits_for_the_first)
{
    struct harness h;
    struct log_stats s;

    start(&h);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshots, 2);
    harness_fini(&h);
}

/* ---- a medium ------------------------------------------------------------------------------ */

static struct log_medium *start_on(struct harness *h, struct log_medium *medium, uint64_t must_have)
{
    harness_init(h, LOG_MEM, NULL);
    h->config.medium = medium;
    h->config.must_have = must_have;
    CHECK_EQ_INT(harness_open(h), 0);
    CHECK_EQ_INT(log_start(h->log), 0);
    harness_drain(h);
    return medium;
}

TEST(a_medium_replays_on_command)
{
    struct log_medium *medium = log_medium_new();
    struct harness h, again;

    start_on(&h, medium, 0);
    CHECK_EQ_INT(h.started, 1); /* nothing to replay */
    CHECK_EQ_U64(h.term, 1);
    for (uint64_t i = 0; i < 4; i++)
        CHECK_EQ_INT(harness_propose(&h, i, 16), 0);
    log_mem_commit(h.log, 2);
    harness_drain(&h);
    log_mem_crash(h.log, 1); /* 2 is on the medium, 3 is not */
    harness_fini(&h);        /* fails 3, which reaches nothing */

    start_on(&again, medium, 2);
    CHECK_EQ_INT(again.started, 0);
    CHECK_EQ_U64(log_mem_pending(again.log), 3);
    log_mem_commit(again.log, 2);
    harness_drain(&again);
    CHECK_EQ_INT(again.started, 0);
    log_mem_commit(again.log, 1);
    harness_drain(&again);
    CHECK_EQ_INT(again.started, 1);
    CHECK_EQ_U64(again.count, 3);
    for (uint64_t i = 0; i < 3; i++)
        CHECK(harness_is(&again, i, i, 16));
    CHECK_EQ_U64(again.term, 2);
    CHECK_EQ_U64(log_mem_pending(again.log), 0);
    CHECK_EQ_INT(harness_propose(&again, 9, 16), 0);
    log_mem_commit(again.log, 1);
    harness_drain(&again);
    CHECK_GT_U64(again.entries[3].index, again.entries[2].index + 1); /* the start took one */
    harness_fini(&again);
    log_medium_free(medium);
}

TEST(a_medium_restores_its_snapshot)
{
    struct log_medium *medium = log_medium_new();
    struct harness h, again;

    start_on(&h, medium, 0);
    CHECK_EQ_INT(harness_propose(&h, 1, 16), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    CHECK_EQ_INT(harness_propose(&h, 2, 16), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    log_mem_crash(h.log, 0);
    harness_fini(&h);

    start_on(&again, medium, 0);
    CHECK_EQ_INT(again.restored, 1);
    CHECK_EQ_U64(again.descriptor.clock_ms, 7);
    log_mem_commit(again.log, 1);
    harness_drain(&again);
    CHECK_EQ_U64(again.count, 1);
    CHECK(harness_is(&again, 0, 2, 16));
    harness_fini(&again);

    harness_init(&again, LOG_MEM, NULL);
    again.config.medium = medium;
    again.accept = false; /* the store is older than the snapshot */
    CHECK_EQ_INT(harness_start(&again), ERR_CORRUPT);
    harness_fini(&again);
    log_medium_free(medium);
}

TEST(a_medium_shorter_than_the_store_is_refused)
{
    struct log_medium *medium = log_medium_new();
    struct harness h;

    harness_init(&h, LOG_MEM, NULL);
    h.config.medium = medium;
    h.config.must_have = 5;
    CHECK_EQ_INT(harness_open(&h), ERR_CORRUPT);
    CHECK(strstr(h.detail, "has applied 5") != NULL);
    h.config.base = 5; /* a converted store: its log is new */
    CHECK_EQ_INT(harness_start(&h), 0);
    harness_fini(&h);
    log_medium_free(medium);
}

TEST(no_snapshot_where_an_entry_came_between)
{
    struct harness h;
    struct log_stats s;

    start(&h);
    CHECK_EQ_INT(harness_propose(&h, 0, 16), 0);
    log_mem_doubt(h.log, 1);
    harness_drain(&h);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    log_mem_commit(h.log, 2);
    harness_drain(&h);
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshots, 0);
    CHECK_EQ_U64(s.snapshot_failures, 1);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    log_mem_commit(h.log, 1);
    harness_drain(&h);
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshots, 1);
    harness_fini(&h);
}

TEST(what_is_in_doubt_may_still_come)
{
    struct harness h;

    start(&h);
    for (uint64_t i = 0; i < 3; i++)
        CHECK_EQ_INT(harness_propose(&h, i, 16), 0);
    log_mem_doubt(h.log, 2);
    harness_drain(&h);
    CHECK_EQ_U64(h.failed, 2);
    CHECK_EQ_INT(h.failed_err, ERR_UNKNOWN);
    CHECK_EQ_U64(log_mem_pending(h.log), 3);
    log_mem_doubt(h.log, 1); /* said already */
    log_mem_commit(h.log, 1);
    log_mem_fail(h.log, 2, ERR_NOSPC);
    harness_drain(&h);
    CHECK_EQ_U64(h.count, 1);
    CHECK_EQ_U64(h.failed, 3);
    CHECK_EQ_U64(h.failed_token, 2);
    harness_fini(&h);
}

TEST_MAIN
