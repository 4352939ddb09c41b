/* SPDX-License-Identifier: MIT */
/* The raft back end on real files: what was acknowledged is there after a restart, after kill -9,
 * after a snapshot; stop never hangs; a store that is ahead of its log is refused. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/err.h"
#include "log/log_int.h"
#include "log_harness.h"
#include "test.h"
#include "tmpdir.h"

static void start(struct harness *h, const char *dir)
{
    harness_init(h, LOG_RAFT, dir);
    CHECK_EQ_INT(harness_start(h), 0);
    CHECK_EQ_INT(h->role, LOG_ROLE_LEADER);
}

static void restart(struct harness *h)
{
    harness_stop(h);
    harness_forget(h);
    CHECK_EQ_INT(harness_start(h), 0);
}

TEST(empty_log_starts_and_stops)
{
    struct harness h;
    struct log_stats s;

    start(&h, tmpdir());
    CHECK_EQ_U64(h.count, 0);
    log_stats(h.log, &s);
    CHECK_EQ_INT(s.role, LOG_ROLE_LEADER);
    CHECK_EQ_U64(s.last_index, 1); /* the configuration */
    CHECK_EQ_U64(s.snapshot_index, 0);
    restart(&h);
    CHECK_EQ_U64(h.count, 0);
    CHECK_EQ_U64(h.restored, 0);
    harness_fini(&h);
}

TEST(makes_its_folder)
{
    struct harness h;
    char dir[PATH_MAX];
    struct stat st;

    start(&h, tmpdir_path(dir, tmpdir(), "raft"));
    CHECK_EQ_INT(stat(dir, &st), 0);
    CHECK_EQ_INT(st.st_mode & 0777, 0700);
    harness_fini(&h);
}

/* Several segments, every length, all of it again after a restart, with the same indexes. */
TEST(replay_equals_what_was_committed)
{
    enum { COUNT = 3000 };
    struct harness h;
    uint64_t first, hashes[COUNT], terms[COUNT];

    start(&h, tmpdir());
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK_EQ_INT(harness_propose(&h, i, 8 + 8 * (i % 300)), 0);
        CHECK(i < 2 || harness_until(&h, i - 1));
    }
    CHECK(harness_until(&h, COUNT));
    first = h.entries[0].index;
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(harness_is(&h, i, i, 8 + 8 * (i % 300)));
        CHECK_EQ_U64(h.entries[i].index, first + i);
        hashes[i] = h.entries[i].hash;
        terms[i] = h.entries[i].term;
    }
    for (int again = 0; again < 2; again++) {
        restart(&h);
        CHECK_EQ_U64(h.count, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_EQ_U64(h.entries[i].index, first + i);
            CHECK_EQ_U64(h.entries[i].hash, hashes[i]);
            CHECK_EQ_U64(h.entries[i].term, terms[i]);
        }
    }
    CHECK_EQ_U64(h.failed, 0);
    harness_fini(&h);
}

TEST(base_is_added_everywhere)
{
    struct harness h;
    struct log_stats s;

    harness_init(&h, LOG_RAFT, tmpdir());
    h.config.base = h.config.must_have = 1000000;
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK(harness_propose_all(&h, 0, 10, 64, 2));
    CHECK_EQ_U64(h.entries[0].index, 1000002);
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.last_index, 1000011);
    CHECK_EQ_U64(s.applied_index, 1000011);
    h.config.must_have = 1000011;
    restart(&h);
    CHECK_EQ_U64(h.count, 10);
    CHECK_EQ_U64(h.entries[0].index, 1000002);
    harness_fini(&h);
}

TEST(largest_entries)
{
    struct harness h;

    harness_init(&h, LOG_RAFT, tmpdir());
    h.config.segment_bytes = 0;
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_INT(harness_propose(&h, 0, LOG_ENTRY_MAX + 8), ERR_TOOBIG);
    CHECK(harness_propose_all(&h, 0, 4, LOG_ENTRY_MAX, 4));
    for (size_t i = 0; i < 4; i++)
        CHECK(harness_is(&h, i, i, LOG_ENTRY_MAX));
    restart(&h); /* 32 MiB to replay, 16 may be untaken */
    CHECK_EQ_U64(h.count, 4);
    CHECK(harness_is(&h, 3, 3, LOG_ENTRY_MAX));
    harness_fini(&h);
}

/* The loop does not drain: the raft thread must stop at the limit, and go on later. */
TEST(untaken_bytes_are_bounded)
{
    enum { COUNT = 40, LEN = 1 << 20 };
    struct harness h;
    struct log_stats s;

    harness_init(&h, LOG_RAFT, tmpdir());
    h.config.segment_bytes = 0;
    CHECK_EQ_INT(harness_start(&h), 0);
    for (uint64_t i = 0; i < COUNT; i++)
        CHECK_EQ_INT(harness_propose(&h, i, LEN), 0);
    do
        log_stats(h.log, &s);
    while (s.untaken_bytes < LOG_UNTAKEN_MAX);
    CHECK_EQ_U64(s.untaken_bytes, LOG_UNTAKEN_MAX);
    usleep(20000); /* time to pass the limit, were it not held */
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.untaken_bytes, LOG_UNTAKEN_MAX);
    CHECK(harness_until(&h, COUNT));
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.untaken_bytes, 0);
    /* Replay waits at the same limit, and log_stop ends the wait. */
    harness_stop(&h);
    harness_forget(&h);
    CHECK_EQ_INT(harness_open(&h), 0);
    CHECK_EQ_INT(log_start(h.log), 0);
    do
        log_stats(h.log, &s);
    while (s.untaken_bytes < LOG_UNTAKEN_MAX);
    harness_stop(&h);
    CHECK_EQ_U64(h.count, LOG_UNTAKEN_MAX / LEN); /* a prefix, nothing after the stop */
    CHECK_EQ_INT(h.started_err, ERR_CANCELED);
    harness_forget(&h);
    CHECK_EQ_INT(harness_start(&h), 0); /* and nothing was lost by it */
    CHECK_EQ_U64(h.count, COUNT);
    harness_fini(&h);
}

TEST(stop_at_every_stage)
{
    struct harness h;
    const char *dir = tmpdir();

    harness_init(&h, LOG_RAFT, dir);
    CHECK_EQ_INT(harness_open(&h), 0);
    log_close(h.log); /* neither started nor stopped */
    h.log = NULL;
    CHECK_EQ_INT(harness_open(&h), 0);
    log_stop(h.log);
    CHECK(log_stopped(h.log));
    harness_stop(&h);
    for (int i = 0; i < 20; i++) { /* at once after start */
        harness_forget(&h);
        CHECK_EQ_INT(harness_open(&h), 0);
        CHECK_EQ_INT(log_start(h.log), 0);
        harness_stop(&h);
        CHECK_EQ_U64(h.started, 1);
    }
    harness_fini(&h);
}

/* What was under way at the stop has exactly one outcome: committed, or unknown. */
TEST(stop_with_proposals_under_way)
{
    enum { COUNT = 200 };
    struct harness h;
    size_t before;

    start(&h, tmpdir());
    for (uint64_t i = 0; i < COUNT; i++)
        CHECK_EQ_INT(harness_propose(&h, i, 4096), 0);
    harness_stop(&h);
    CHECK_EQ_U64(h.count + h.failed, COUNT);
    CHECK(h.failed == 0 || h.failed_err == ERR_UNKNOWN);
    before = h.count;
    harness_forget(&h);
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_GE_INT(h.count, before); /* unknown may have come, acknowledged must be there */
    for (size_t i = 0; i < h.count; i++)
        CHECK(harness_is(&h, i, i, 4096));
    harness_fini(&h);
}

TEST(refuses_a_store_that_is_ahead)
{
    struct harness h;

    start(&h, tmpdir());
    CHECK(harness_propose_all(&h, 0, 10, 64, 2));
    harness_stop(&h);
    h.config.must_have = 11;
    CHECK_EQ_INT(harness_start(&h), 0);
    harness_stop(&h);
    h.config.must_have = 12;
    CHECK_EQ_INT(harness_start(&h), ERR_CORRUPT);
    CHECK(strstr(h.detail, "11") != NULL && strstr(h.detail, "12") != NULL);
    CHECK(strstr(h.detail, "--salvage") != NULL);
    harness_fini(&h);
    harness_init(&h, LOG_RAFT, tmpdir()); /* a log that is gone */
    h.config.must_have = 1;
    CHECK_EQ_INT(harness_start(&h), ERR_CORRUPT);
    CHECK(strstr(h.detail, "gone") != NULL);
    harness_fini(&h);
}

TEST(refuses_another_nodes_log)
{
    struct harness h;

    start(&h, tmpdir());
    harness_stop(&h);
    h.config.node_id = 2;
    harness_forget(&h);
    CHECK_EQ_INT(harness_start(&h), ERR_CORRUPT);
    CHECK(strstr(h.detail, "node 2") != NULL);
    harness_fini(&h);
}

TEST(refuses_a_folder_it_cannot_use)
{
    struct harness h;

    harness_init(&h, LOG_RAFT, "/proc/self");
    CHECK_LT_INT(harness_start(&h), 0);
    CHECK(strstr(h.detail, "/proc/self") != NULL);
    harness_fini(&h);
    harness_init(&h, LOG_RAFT, "/nonexistent/raft");
    CHECK_LT_INT(harness_start(&h), 0);
    CHECK(strstr(h.detail, "/nonexistent/raft") != NULL);
    harness_fini(&h);
}

/* ---- snapshots -------------------------------------------------------------------------- */

static unsigned files(const char *dir, const char *prefix, uint64_t *bytes)
{
    DIR *d = opendir(dir);
    unsigned n = 0;
    struct stat st;

    *bytes = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 &&
            fstatat(dirfd(d), e->d_name, &st, 0) == 0) {
            n++;
            *bytes += (uint64_t)st.st_size;
        }
    closedir(d);
    return n;
}

TEST(snapshot_shortens_the_log)
{
    struct harness h;
    struct log_stats s;
    uint64_t bytes, applied;

    harness_init(&h, LOG_RAFT, tmpdir());
    h.config.base = 500;
    h.config.snapshot_groups = 1000;
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK(harness_propose_all(&h, 0, 999, 4096, 2));
    harness_drain(&h);
    CHECK_EQ_U64(h.need, 0);
    CHECK(harness_propose_all(&h, 999, 501, 4096, 2));
    CHECK_EQ_U64(h.need, 1); /* once */
    applied = h.entries[h.count - 1].index;
    CHECK_GE_INT(files(h.config.dir, "0", &bytes), 5);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    CHECK(harness_until(&h, 1501)); /* the marker comes like any entry */
    CHECK_EQ_U64(h.entries[1500].index, applied + 1);
    CHECK(harness_until_snapshots(&h, 1));
    CHECK_LE_INT(files(h.config.dir, "0", &bytes), 2);
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshot_index, applied + 1);
    CHECK_EQ_U64(s.groups_since_snapshot, 0);
    CHECK_EQ_U64(s.bytes_since_snapshot, 0);
    CHECK_EQ_U64(s.snapshot_failures, 0);
    CHECK(harness_propose_all(&h, 2000, 20, 100 * 8, 2));
    h.config.must_have = applied + 21;
    restart(&h);
    CHECK_EQ_U64(h.restored, 1);
    CHECK_EQ_U64(h.entries_at_restore, 0); /* before the first entry */
    CHECK_EQ_U64(h.descriptor.applied, applied);
    CHECK_EQ_U64(h.descriptor.clock_ms, 7);
    CHECK_EQ_U64(h.descriptor.keys, 8);
    CHECK_EQ_U64(h.descriptor.bytes, 9);
    CHECK_EQ_MEM(h.descriptor.cluster, "0123456789abcde", 16);
    CHECK_EQ_U64(h.count, 20); /* only what is above the snapshot */
    for (size_t i = 0; i < 20; i++) {
        CHECK(harness_is(&h, i, 2000 + i, 800));
        CHECK_EQ_U64(h.entries[i].index, applied + 2 + i);
    }
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshot_index, applied + 1);
    CHECK_EQ_U64(s.groups_since_snapshot, 20);
    harness_fini(&h);
}

/* What stands between the descriptor and the marker would be lost at the next start. */
TEST(no_snapshot_where_an_entry_came_between)
{
    struct harness h;
    struct log_stats s;

    harness_init(&h, LOG_RAFT, tmpdir());
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK(harness_propose_all(&h, 0, 9, 4096, 1));
    CHECK_EQ_INT(harness_propose(&h, 9, 4096), 0);
    h.log->unanswered--; /* as when its outcome was said to be unknown */
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    h.log->unanswered++;
    CHECK(harness_until(&h, 11));
    CHECK(harness_propose_all(&h, 11, 3, 4096, 1));
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshots, 0);
    CHECK_EQ_U64(s.snapshot_failures, 1);
    restart(&h);
    CHECK_EQ_U64(h.restored, 0);
    CHECK_EQ_U64(h.count, 14);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    CHECK(harness_until_snapshots(&h, 1));
    harness_fini(&h);
}

/* Entries proposed right behind the marker must not end up below the snapshot. */
TEST(entries_behind_the_marker_are_replayed)
{
    struct harness h;
    uint64_t number = 0, snapshots = 0;

    start(&h, tmpdir());
    for (int round = 0; round < 20; round++) {
        size_t mark, extra = (size_t)round % 5;

        CHECK(harness_propose_all(&h, number, 30, 512, 8));
        number += 30;
        mark = h.count;
        CHECK_EQ_INT(harness_snapshot(&h), 0);
        for (size_t i = 0; i < extra; i++)
            CHECK_EQ_INT(harness_propose(&h, number + i, 512), 0);
        CHECK(harness_until(&h, mark + 1 + extra));
        CHECK(harness_until_snapshots(&h, ++snapshots));
        if (round % 4 == 3) {
            restart(&h);
            snapshots = 0;
            CHECK_EQ_U64(h.count, extra);
            for (size_t i = 0; i < extra; i++)
                CHECK(harness_is(&h, i, number + i, 512));
        }
        number += extra;
    }
    harness_fini(&h);
}

TEST(a_second_snapshot_waits)
{
    struct harness h;
    struct log_stats s;

    start(&h, tmpdir());
    CHECK(harness_propose_all(&h, 0, 10, 64, 2));
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    CHECK(harness_until(&h, 11));
    if (harness_snapshot(&h) == 0) /* only when the first is on disk already */
        CHECK(harness_until_snapshots(&h, 2));
    else
        CHECK(harness_until_snapshots(&h, 1));
    log_stats(h.log, &s);
    CHECK_EQ_U64(s.snapshot_failures, 0);
    harness_fini(&h);
}

TEST(long_replay_asks_for_a_snapshot)
{
    struct harness h;

    start(&h, tmpdir());
    CHECK(harness_propose_all(&h, 0, 100, 64, 2));
    CHECK_EQ_U64(h.need, 0);
    h.config.snapshot_groups = 100;
    restart(&h);
    while (h.need == 0 && inbox_wait(h.inbox, 5000))
        harness_drain(&h);
    CHECK_EQ_U64(h.need, 1);
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    CHECK(harness_until_snapshots(&h, 1));
    harness_fini(&h);
}

TEST(refused_restore_fails_the_start)
{
    struct harness h;

    start(&h, tmpdir());
    CHECK(harness_propose_all(&h, 0, 100, 64, 2));
    CHECK_EQ_INT(harness_snapshot(&h), 0);
    CHECK(harness_until_snapshots(&h, 1));
    harness_stop(&h);
    harness_forget(&h);
    h.accept = false;
    CHECK_EQ_INT(harness_start(&h), ERR_CORRUPT);
    CHECK_EQ_U64(h.count, 0);
    CHECK(strstr(h.detail, "101") != NULL);
    harness_stop(&h);
    harness_forget(&h);
    h.accept = true;
    CHECK_EQ_INT(harness_start(&h), 0);
    harness_fini(&h);
}

/* ---- kill -9 ---------------------------------------------------------------------------- */

/* A program of its own: threads of the tests before do not survive a fork. */
static void become_child(const char *dir, int fd, uint64_t from)
{
    char fd_text[24], from_text[24];

    snprintf(fd_text, sizeof(fd_text), "%d", fd);
    snprintf(from_text, sizeof(from_text), "%" PRIu64, from);
    execl("/proc/self/exe", "test_log_raft", "--child", dir, fd_text, from_text, (char *)NULL);
    _exit(4);
}

/* Writes one byte per committed entry until it is killed. */
static void child(const char *dir, int fd, uint64_t from)
{
    struct harness h;
    size_t acked = 0;

    harness_init(&h, LOG_RAFT, dir);
    if (harness_start(&h) != 0)
        _exit(1);
    acked = h.count;
    for (uint64_t i = from;; i++) {
        if (harness_propose(&h, i, 8 + 8 * (i % 200)) != 0)
            _exit(2);
        if (i % 2 == 1 && !harness_until(&h, acked + 1)) /* two under way */
            _exit(5);
        for (; acked < h.count; acked++)
            if (write(fd, "x", 1) != 1)
                _exit(3);
    }
}

TEST(kill_9_keeps_what_was_acknowledged)
{
    enum { ROUNDS = 8 };
    const char *dir = tmpdir();
    uint64_t next = 0;

    for (int round = 0; round < ROUNDS; round++) {
        int p[2];
        uint64_t acked = 0;
        char buf[256];
        struct harness h;
        ssize_t n;
        pid_t pid;

        CHECK_EQ_INT(pipe(p), 0);
        pid = fork();
        if (pid == 0)
            become_child(dir, p[1], next);
        close(p[1]);
        while (acked < 150u + 211u * (unsigned)round && (n = read(p[0], buf, sizeof(buf))) > 0)
            acked += (uint64_t)n;
        kill(pid, SIGKILL);
        while ((n = read(p[0], buf, sizeof(buf))) > 0)
            acked += (uint64_t)n;
        close(p[0]);
        waitpid(pid, NULL, 0);
        CHECK_GT_INT(acked, 100);

        harness_init(&h, LOG_RAFT, dir);
        CHECK_EQ_INT(harness_start(&h), 0);
        CHECK_GE_INT(h.count, next + acked);
        for (size_t i = 0; i < h.count; i++)
            CHECK(harness_is(&h, i, i, 8 + 8 * (i % 200)));
        next = h.count;
        harness_fini(&h);
    }
}

#ifdef SLDMKV_FAIL
/* Entry n stands at index n; every 40 of them a snapshot. Says each acknowledged index. */
static void snapshot_child(const char *dir, int fd)
{
    struct harness h;
    uint64_t last, snapshots = 0;

    harness_init(&h, LOG_RAFT, dir);
    if (harness_start(&h) != 0)
        _exit(1);
    last = h.count > 0 ? h.entries[h.count - 1].index : 1;
    for (int i = 1;; i++, last++) {
        if (i % 40 == 0 && harness_snapshot(&h) == 0) {
            if (!harness_until(&h, h.count + 1) || !harness_until_snapshots(&h, ++snapshots))
                _exit(2);
        } else if (!harness_propose_all(&h, last + 1, 1, 512, 1)) {
            _exit(3);
        }
        if (write(fd, &last, sizeof(last)) != sizeof(last))
            _exit(4);
    }
}

static uint64_t run_until_killed(const char *dir, const char *point)
{
    uint64_t last = 0, got;
    char fd_text[24];
    int p[2], status;
    pid_t pid;

    CHECK_EQ_INT(pipe(p), 0);
    snprintf(fd_text, sizeof(fd_text), "%d", p[1]);
    pid = fork();
    if (pid == 0) {
        setenv("SLDMKV_FAILPOINTS", point, 1);
        execl("/proc/self/exe", "test_log_raft", "--snapshot-child", dir, fd_text, (char *)NULL);
        _exit(4);
    }
    close(p[1]);
    while (read(p[0], &got, sizeof(got)) == sizeof(got))
        last = got;
    close(p[0]);
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return last + 1; /* the index that was acknowledged */
}

TEST(killed_at_named_points)
{
    static const char *const points[] = {"group.proposed=abort@70", "log.appended=abort@70",
                                         "snap.taken=abort@1", "snap.taken=abort@3"};
    const char *dir = tmpdir();

    for (int i = 0; i < 4; i++) {
        uint64_t acked = run_until_killed(dir, points[i]), last;
        struct harness h;

        harness_init(&h, LOG_RAFT, dir);
        h.config.must_have = acked;
        CHECK_EQ_INT(harness_start(&h), 0);
        last = h.count > 0 ? h.entries[h.count - 1].index : h.descriptor.applied + 1;
        CHECK_GE_INT(last, acked);
        for (size_t j = 0; j < h.count; j++)
            CHECK(harness_is(&h, j, h.entries[j].index, 512) || h.entries[j].len == 64);
        if (h.restored > 0 && h.count > 0)
            CHECK_EQ_U64(h.entries[0].index, h.descriptor.applied + 2);
        if (h.count == 0) /* a snapshot at the very end: something to count from */
            CHECK(harness_propose_all(&h, last + 1, 1, 512, 1));
        harness_fini(&h);
    }
}

/* Refused before libraft saw it: certainly not applied, and the next one goes on. */
static int refused_child(const char *dir)
{
    struct harness h;

    harness_init(&h, LOG_RAFT, dir);
    if (harness_start(&h) != 0)
        return 10;
    for (uint64_t i = 0; i < 3; i++)
        harness_propose(&h, i, 64);
    if (!harness_until(&h, 2) || h.failed != 1)
        return 11;
    if (h.failed_token != 1 || h.failed_err != ERR_NOSPC)
        return 12;
    if (!harness_is(&h, 0, 0, 64) || !harness_is(&h, 1, 2, 64))
        return 13;
    harness_fini(&h);
    return 0;
}

TEST(a_refused_proposal_fails_alone)
{
    const char *dir = tmpdir();
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        setenv("SLDMKV_FAILPOINTS", "group.proposed=errno:28@2", 1);
        execl("/proc/self/exe", "test_log_raft", "--refused-child", dir, (char *)NULL);
        _exit(4);
    }
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK_EQ_INT(WEXITSTATUS(status), 0);
}
#endif

/* libraft opens what it writes with at the first entry. */
static int starved_child(const char *dir)
{
    struct rlimit limit = {0};
    struct harness h;
    int lowest;

    harness_init(&h, LOG_RAFT, dir);
    if (harness_start(&h) != 0)
        return 10;
    lowest = dup(0);
    close(lowest);
    limit.rlim_cur = limit.rlim_max = (rlim_t)lowest;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 11;
    harness_propose(&h, 0, 64);
    harness_until(&h, 1);
    return 12;
}

/* A folder stands where the next segment is to be. The entry that libraft has got waits for it, all
 * others are refused when that is known. */
TEST(without_a_segment_proposals_are_refused)
{
    struct harness h;
    char path[4096];

    harness_init(&h, LOG_RAFT, tmpdir());
    CHECK_EQ_INT(harness_start(&h), 0);
    tmpdir_path(path, h.config.dir, "open-4");
    CHECK_EQ_INT(mkdir(path, 0700), 0);
    for (uint64_t n = 0; n < 40; n++)
        CHECK_EQ_INT(harness_propose(&h, n, 256 << 10), 0);
    for (int i = 0; i < 3000 && h.count + h.failed < 39; i++) { /* they are told one by one */
        usleep(10000);
        harness_drain(&h);
    }
    CHECK_GT_INT(h.failed, 20);
    CHECK_EQ_INT(h.count + h.failed, 39);
    CHECK_EQ_INT(h.failed_err, ERR_IO);
    h.failed = 0;
    CHECK_EQ_INT(harness_propose(&h, 99, 64), 0);
    for (int i = 0; i < 200 && h.failed == 0; i++) {
        usleep(10000);
        harness_drain(&h);
    }
    CHECK_EQ_INT(h.failed, 1);
    CHECK_EQ_INT(rmdir(path), 0);
    CHECK(harness_until(&h, h.count + 1)); /* the one that waited */
    CHECK(harness_is(&h, h.count - 1, h.count - 1, 256 << 10));
    CHECK(harness_propose_all(&h, 100, 20, 256 << 10, 2));
    harness_fini(&h);
}

TEST(a_write_that_cannot_begin_ends_the_process)
{
    const char *dir = tmpdir();
    struct harness h;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        execl("/proc/self/exe", "test_log_raft", "--starved-child", dir, (char *)NULL);
        _exit(4);
    }
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    start(&h, dir);
    CHECK_EQ_U64(h.count, 0); /* it was never acknowledged */
    CHECK(harness_propose_all(&h, 0, 3, 64, 1));
    harness_fini(&h);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--starved-child") == 0)
        return starved_child(argv[2]);
    if (argc == 5 && strcmp(argv[1], "--child") == 0)
        child(argv[2], atoi(argv[3]), strtoull(argv[4], NULL, 10));
#ifdef SLDMKV_FAIL
    if (argc == 4 && strcmp(argv[1], "--snapshot-child") == 0)
        snapshot_child(argv[2], atoi(argv[3]));
    if (argc == 3 && strcmp(argv[1], "--refused-child") == 0)
        return refused_child(argv[2]);
#endif
    return test_main(argc, argv);
}
