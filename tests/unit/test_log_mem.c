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

TEST_MAIN
