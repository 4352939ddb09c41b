/* SPDX-License-Identifier: MIT */
#include "base/err.h"
#include "log_harness.h"
#include "test.h"

TEST(commits_in_order_never_from_inside)
{
    struct harness h;

    harness_init(&h, LOG_NONE, NULL);
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_INT(h.role, LOG_ROLE_LEADER);
    for (uint64_t i = 0; i < 100; i++)
        CHECK_EQ_INT(harness_propose(&h, i, 8 + 8 * i), 0);
    CHECK_EQ_U64(h.count, 0); /* nothing before the inbox is drained */
    harness_drain(&h);
    CHECK_EQ_U64(h.count, 100);
    for (uint64_t i = 0; i < 100; i++) {
        CHECK(harness_is(&h, i, i, 8 + 8 * i));
        CHECK_EQ_U64(h.entries[i].index, i + 1);
    }
    harness_fini(&h);
}

TEST(indexes_go_on_from_the_store)
{
    struct harness h;
    struct log_stats s;

    harness_init(&h, LOG_NONE, NULL);
    h.config.base = 10;
    h.config.must_have = 500;
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_U64(h.count, 0); /* nothing to replay */
    CHECK_EQ_INT(harness_propose(&h, 1, 8), 0);
    harness_drain(&h);
    CHECK_EQ_U64(h.entries[0].index, 501);
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.last_index, 501);
    CHECK_EQ_U64(s.commit_index, 501);
    CHECK_EQ_INT(s.role, LOG_ROLE_LEADER);
    harness_fini(&h);
}

TEST(marker_is_an_entry)
{
    struct harness h;
    struct log_stats s;

    harness_init(&h, LOG_NONE, NULL);
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_INT(harness_propose(&h, 1, 8), 0);
    harness_drain(&h);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    harness_drain(&h);
    CHECK_EQ_U64(h.count, 2);
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshot_index, 2);
    CHECK_EQ_U64(h.need, 0);
    harness_fini(&h);
}

TEST(refusals)
{
    struct harness h;

    harness_init(&h, LOG_NONE, NULL);
    CHECK_EQ_INT(harness_open(&h), 0);
    CHECK_EQ_INT(harness_propose(&h, 1, 8), ERR_LOADING);
    CHECK_EQ_INT(log_start(h.log), 0);
    CHECK_EQ_INT(harness_propose(&h, 1, 8), ERR_LOADING); /* on_started has not run */
    harness_drain(&h);
    CHECK_EQ_INT(harness_propose(&h, 1, LOG_ENTRY_MAX + 8), ERR_TOOBIG);
    CHECK_EQ_INT(harness_propose(&h, 1, LOG_ENTRY_MAX), 0);
    log_stop(h.log);
    CHECK_EQ_INT(harness_propose(&h, 2, 8), ERR_CANCELED);
    CHECK(!log_stopped(h.log));
    harness_drain(&h);
    CHECK(log_stopped(h.log));
    CHECK_EQ_U64(h.count, 1); /* what was proposed before the stop still came */
    CHECK_EQ_INT(h.role, LOG_ROLE_STOPPED);
    harness_fini(&h);
}

TEST(stop_without_start)
{
    struct harness h;

    harness_init(&h, LOG_NONE, NULL);
    CHECK_EQ_INT(harness_open(&h), 0);
    log_stop(h.log);
    CHECK(log_stopped(h.log));
    log_stop(h.log);
    harness_fini(&h);
    harness_init(&h, LOG_NONE, NULL);
    CHECK_EQ_INT(harness_open(&h), 0);
    log_close(h.log); /* neither */
    h.log = NULL;
    harness_fini(&h);
}

TEST_MAIN
