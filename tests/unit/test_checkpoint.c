/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <sys/wait.h>

#include "store_rig.h"

#ifdef SLDMKV_FAIL

/* --- failures: each in a child, because failpoints are read from the environment once; the
 * tests that need none come last, so that the parent has not read it ------------------------ */

/* Returns the wait status. */
static int in_child(const char *points, void (*scenario)(void))
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        tmpdir_count = 0; /* the parent removes them */
        setenv("SLDMKV_FAILPOINTS", points, 1);
        if (setjmp(test_state.leave) != 0)
            _exit(1);
        scenario();
        fflush(NULL);
        _exit(0);
    }
    CHECK_EQ_INT(waitpid(pid, &status, 0), pid);
    return status;
}

static const char *shared_dir;

static void fill_then_meet_a_full_disk(void)
{
    start_in(shared_dir);
    set("a", "1");
    waited = 0;
    store_checkpoint(node.store, on_waited, NULL);
    turn();
    CHECK_EQ_INT(waited, 1);
    CHECK_EQ_INT(waited_err, ERR_NOSPC);
    CHECK_EQ_U64(counts().checkpoint_failures, 1);
    CHECK_EQ_U64(store_durable_index(node.store), 0);
    check_get("a", "1"); /* the frozen table stays */
    set("b", "2");
    CHECK_EQ_STR(scan("", false), "a=1 b=2 ");
    turn(); /* not before a second has passed */
    CHECK_EQ_U64(counts().checkpoints, 0);
    waited = 0;
    store_checkpoint(node.store, on_waited, NULL);
    advance_ms(1000);
    turn(); /* the same table again, with success */
    CHECK_EQ_U64(store_durable_index(node.store), 1);
    CHECK_EQ_INT(waited, 0);
    turn();
    CHECK_EQ_U64(store_durable_index(node.store), 2);
    CHECK_EQ_INT(waited, 1);
    CHECK_EQ_INT(waited_err, 0);
    store_close(node.store, true);
    reopen();
    CHECK_EQ_STR(scan("", false), "a=1 b=2 ");
    stop();
}

TEST(full_disk_is_met_before_the_merge_and_waited_for)
{
    shared_dir = tmpdir();
    /* 1 is the boot number; a merge asks three times, for less each time */
    CHECK_EQ_INT(in_child("ckpt.reserve=errno:28@2,ckpt.reserve=errno:28@3,"
                          "ckpt.reserve=errno:28@4",
                          fill_then_meet_a_full_disk),
                 0);
}

TEST(full_disk_at_the_commit)
{
    shared_dir = tmpdir();
    CHECK_EQ_INT(in_child("ckpt.commit=errno:28@2", fill_then_meet_a_full_disk), 0);
}

static void fill_on_a_disk_that_stays_full(void)
{
    char key[16];

    start_in(shared_dir);
    set("a", "1");
    CHECK(checkpoint_start(node.store, false));
    run();
    for (int i = 0; i < TABLE_KEYS_MAX; i++) {
        snprintf(key, sizeof(key), "%d", i);
        set(key, "x");
    }
    CHECK_EQ_INT(store_may_add(node.store, 100, 0), ERR_NOSPC);
    del("0"); /* deletes go on */
    waited = 0;
    store_checkpoint(node.store, on_waited, NULL);
    for (int i = 0; i < 3; i++) {
        advance_ms(1000);
        turn();
    }
    CHECK_EQ_INT(waited, 1); /* said so, once, and waits no more */
    CHECK_EQ_INT(waited_err, ERR_NOSPC);
    store_close(node.store, true); /* cannot be clean */
}

static void only_the_boot_number_is_there(void)
{
    start_in(shared_dir);
    CHECK_EQ_INT(node.state.flags & INDEX_CLEAN, 0);
    CHECK_EQ_U64(node.state.applied, 0);
    CHECK_EQ_STR(scan("", false), "");
    stop();
}

TEST(full_disk_for_good_ends_in_an_unclean_stop)
{
    shared_dir = tmpdir();
    CHECK_EQ_INT(in_child("ckpt.reserve=errno:28@2+", fill_on_a_disk_that_stays_full), 0);
    CHECK_EQ_INT(in_child("", only_the_boot_number_is_there), 0);
}

static void one_good_checkpoint_and_another(void)
{
    start_in(shared_dir);
    set("a", "1");
    set("b", "1");
    checkpoint();
    set("a", "2");
    del("b");
    set_ex("c", "2", node.wall_ms + 1000);
    checkpoint();
    store_close(node.store, false);
}

static void first_checkpoint_is_there(void)
{
    start_in(shared_dir);
    CHECK_EQ_U64(node.state.applied, 2);
    CHECK_EQ_STR(scan("", false), "a=1 b=1 ");
    CHECK_EQ_U64(index_count_expiry(store_index(node.store)), 0);
    stop();
}

static void second_checkpoint_is_there(void)
{
    start_in(shared_dir);
    CHECK_EQ_U64(node.state.applied, 5);
    CHECK_EQ_STR(scan("", false), "a=2 c=2 ");
    CHECK_EQ_U64(index_count_expiry(store_index(node.store)), 1);
    stop();
}

TEST(any_other_failure_ends_the_process)
{
    static const char *const points[] = {"ckpt.put=errno:5@4", "ckpt.commit=errno:5@3",
                                         "ckpt.reserve=errno:5@3"};

    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        int status;

        shared_dir = tmpdir();
        status = in_child(points[i], one_good_checkpoint_and_another);
        CHECK(WIFSIGNALED(status));
        CHECK_EQ_INT(WTERMSIG(status), SIGABRT);
        CHECK_EQ_INT(in_child("", first_checkpoint_is_there), 0);
    }
}

TEST(killed_at_every_point_of_a_checkpoint)
{
    static const char *const points[] = {"table.frozen=abort@2", "ckpt.put=abort@3",
                                         "ckpt.put=abort@5", "ckpt.commit=abort@3"};

    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        int status;

        shared_dir = tmpdir();
        status = in_child(points[i], one_good_checkpoint_and_another);
        CHECK(WIFSIGNALED(status));
        CHECK_EQ_INT(WTERMSIG(status), SIGKILL);
        CHECK_EQ_INT(in_child("", first_checkpoint_is_there), 0);
    }
    shared_dir = tmpdir();
    CHECK_EQ_INT(in_child("", one_good_checkpoint_and_another), 0);
    CHECK_EQ_INT(in_child("", second_checkpoint_is_there), 0);
}

static void open_once(void)
{
    start_in(shared_dir);
    store_close(node.store, false);
}

static void boot_is_past_the_last(void)
{
    start_in(shared_dir); /* at the same second of the same clock */
    CHECK_EQ_INT(store_boot(node.store), 1700000001);
    stop();
}

TEST(boot_number_is_durable_before_its_use)
{
    int status;

    shared_dir = tmpdir();
    status = in_child("boot.durable=abort", open_once);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK_EQ_INT(in_child("", boot_is_past_the_last), 0);
}

/* The walk crashes inside LMDB: a page of the tree is gone while it is mapped. */
static void walk_into_a_hole(void)
{
    char path[PATH_MAX];

    start_in(shared_dir);
    for (int i = 0; i < 3000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%d", i);
        set(key, "some data");
    }
    checkpoint();
    store_close(node.store, false);
    rig_threads = 1;
    CHECK_EQ_INT(try_open(), 0); /* the audit has been handed to its thread … */
    node.index = node.state.applied;
    CHECK_EQ_INT(truncate(tmpdir_path(path, node.dir, "index.mdb"), 16384), 0);
    for (int i = 0; i < 1000 && node.store->audit != NULL; i++)
        inbox_wait(node.inbox, 20);
    _exit(3); /* … and must have died of it */
}

static void refused_with_the_reason(void)
{
    node.dir = shared_dir;
    node.wall_ms = 1700000000000;
    node.inbox = inbox_new();
    node.pool = buf_pool_new(64 * MIB);
    clock_init(&node.clock, (struct clock_source){wall_ms, mono_us, NULL}, 0);
    CHECK_EQ_INT(try_open(), ERR_CORRUPT);
    CHECK(strstr(node.detail, "crashed") != NULL);
    CHECK(strstr(node.detail, "sldmkv-check") != NULL);
}

TEST(crash_of_the_audit_is_a_refusal_at_the_next_start)
{
    int status;

    shared_dir = tmpdir();
    status = in_child("audit.walk=delay:300", walk_into_a_hole);
    CHECK(!WIFEXITED(status) || WEXITSTATUS(status) != 3);
    CHECK_EQ_INT(in_child("", refused_with_the_reason), 0);
}

#endif

TEST(checkpoint_a_second_after_the_first_change)
{
    start();
    set("a", "1");
    turn();
    CHECK_EQ_U64(store_durable_index(node.store), 0);
    advance_ms(600);
    set("a", "2");
    turn();
    CHECK_EQ_U64(store_durable_index(node.store), 0);
    advance_ms(400);
    turn();
    CHECK_EQ_U64(store_durable_index(node.store), 2);
    CHECK_EQ_U64(counts().checkpoints, 1);
    /* Entries that change nothing (TICK) write nothing. */
    applied();
    for (int i = 0; i < 10; i++) {
        advance_ms(1000);
        turn();
    }
    CHECK_EQ_U64(counts().checkpoints, 1);
    checkpoint(); /* asked for, it covers them */
    CHECK_EQ_U64(store_durable_index(node.store), 3);
    checkpoint(); /* nothing new: answered without writing */
    CHECK_EQ_U64(counts().checkpoints, 2);
    stop();
}

TEST(checkpoint_when_the_table_is_full)
{
    char key[16];

    start();
    for (int i = 0; i < TABLE_KEYS_MAX; i++) {
        snprintf(key, sizeof(key), "%d", i);
        set(key, "x");
    }
    CHECK_EQ_INT(store_may_add(node.store, 100, 0), 0); /* makes room itself */
    CHECK(store_checkpoint_running(node.store));
    for (int i = 0; i < TABLE_KEYS_MAX / 2; i++) { /* rows with a deadline count twice */
        snprintf(key, sizeof(key), "%d", i);
        set_ex(key, "y", node.wall_ms + 1000000);
    }
    CHECK_EQ_INT(store_may_add(node.store, 100, 0), ERR_AGAIN);
    run();
    CHECK_EQ_INT(store_may_add(node.store, 100, 0), 0);
    run();
    CHECK_EQ_U64(index_count(store_index(node.store)), TABLE_KEYS_MAX);
    CHECK_EQ_U64(index_count_expiry(store_index(node.store)), TABLE_KEYS_MAX / 2);
    stop();
}

TEST(a_waiter_is_not_served_by_a_running_checkpoint)
{
    start();
    set("a", "1");
    CHECK(checkpoint_start(node.store, false));
    set("b", "2");
    waited = 0;
    store_checkpoint(node.store, on_waited, NULL);
    run();
    CHECK_EQ_U64(store_durable_index(node.store), 1);
    CHECK_EQ_INT(waited, 0);
    turn();
    CHECK_EQ_U64(store_durable_index(node.store), 2);
    CHECK_EQ_INT(waited, 1);
    stop();
}

TEST_MAIN
