/* SPDX-License-Identifier: MIT */
/* What seeds have found, each as short as it goes. Inline values are up to 4096 bytes here. */
#include <stdio.h>

#include "disk.h"
#include "node.h"
#include "scene.h"
#include "server/server.h"
#include "server/write.h"

enum { LARGE = 100000, MEDIUM = 16384, SMALL = 5000 }; /* MEDIUM is copied by the parser, too */

/* A value that is only on the disk. */
static struct sock *with_large_on_disk(void)
{
    struct sock *s;

    scene_quiet();
    scene_start();
    s = scene_open();
    scene_send_value(s, "SET big *", 'a', LARGE);
    scene_finish();
    scene_expect(s, "+OK");
    scene_restart();
    return scene_open();
}

/* A stop with a log that answers nothing: every buffer and every slot must come back. */
static void stop_without_the_log(void)
{
    struct server *server = node_server();
    char detail[LOG_DETAIL_MAX];

    server_request_stop(server, false);
    node_pass((uint64_t)server->config->shutdown_timeout_s * 1000000);
    while (server_step(server))
        ;
    server_end(server, detail);
    server_free(server);
}

static void exec_ends_with_the_server(void)
{
    struct sock *s;

    scene_quiet();
    scene_start();
    s = scene_open();
    for (int i = 0; i < WRITE_GROUPS; i++) {
        scene_send(scene_open(), "SET a %d", i);
        scene_turn();
    }
    scene_send(s, "MULTI");
    scene_send_value(s, "SET big *", 'a', LARGE);
    scene_send(s, "GET big");
    scene_send(s, "EXEC");
    scene_work(); /* its group waits for those in the log */
    stop_without_the_log();
}

static void exec_ends_while_it_waits_to_build(void)
{
    struct sock *s, *other;

    scene_quiet();
    scene_start();
    s = scene_open();
    other = scene_open();
    scene_send_value(s, "SET big *", 'a', LARGE);
    scene_finish();
    scene_send(s, "APPEND big x");
    scene_work(); /* the new value is in the log */
    scene_send(other, "MULTI");
    scene_send_value(other, "SET other *", 'a', LARGE);
    scene_send(other, "APPEND big y");
    scene_send(other, "EXEC");
    scene_work(); /* this one has a slot, and waits for the first to end */
    if (node_server()->rebuild_waiters == NULL)
        sim_fail("nobody waits");
    stop_without_the_log();
}

static void exec_ends_while_it_waits_for_memory(void)
{
    struct sock *s = with_large_on_disk();
    struct buf_pool *pool = node_server()->pool;
    char words[40];

    scene_send(s, "MULTI");
    scene_send_value(s, "SET other *", 'a', LARGE);
    scene_send(s, "APPEND big y");
    scene_turn();
    for (int i = 0; buf_pool_limit(pool) - buf_pool_used(pool) > LARGE; i++) {
        snprintf(words, sizeof(words), "SET g%d *", i);
        scene_send_value(scene_open(), words, 'g', LARGE);
        scene_work(); /* it is in the log, and holds its memory */
    }
    scene_send(s, "EXEC");
    scene_work(); /* it has a slot, and waits for room to build */
    if (node_server()->memory_waiters == NULL)
        sim_fail("nobody waits");
    stop_without_the_log();
}

static void exec_ends_with_values_that_were_not_read(void)
{
    struct sock *s;

    scene_quiet();
    sim.profile.raft = false;
    scene_start();
    s = scene_open();
    scene_send_value(s, "SET big *", 'a', LARGE);
    scene_finish();
    scene_restart();
    s = scene_open();
    scene_send(s, "MULTI");
    scene_send(s, "SET a 1");
    scene_send(s, "GET big");
    scene_send(s, "GETRANGE big 1 -1");
    scene_send(s, "EXEC");
    scene_turn(); /* applied, and it waits for a checkpoint that will not be */
    node_crash("before the checkpoint");
    scene_finish();
}

static void exec_waits_for_a_read(void)
{
    struct sock *s = with_large_on_disk();

    scene_send(s, "MULTI");
    scene_send(s, "GET big");
    scene_send(s, "SET other x");
    scene_send(s, "EXEC");
    scene_commit(); /* applied; GET waits for the disk */
    scene_expect(s, "+OK\r\n+QUEUED\r\n+QUEUED");
    scene_expect_nothing(s);
    scene_send(s, "MULTI");
    scene_send(s, "EXEC");
    scene_finish();
    scene_expect(s, "*2");
    scene_expect_value(s, 'a', LARGE);
    scene_expect(s, "+OK\r\n+OK\r\n*0");
}

static void no_reply_before_the_checkpoint(void)
{
    struct sock *s;

    scene_quiet();
    sim.profile.raft = false;
    scene_start();
    s = scene_open();
    scene_send_value(s, "SET big *", 'a', LARGE);
    scene_finish();
    scene_expect(s, "+OK");
    s->room = LARGE / 2; /* what follows the value waits with its rest */
    scene_send(s, "GET big");
    scene_send(s, "SET a 1");
    scene_turn(); /* applied */
    socket_drain(s, LARGE);
    scene_turn();
    scene_expect_value(s, 'a', LARGE);
    scene_expect_nothing(s);
    scene_finish();
    scene_expect(s, "+OK");
}

static void a_write_stays_behind_a_read(void)
{
    struct sock *s = with_large_on_disk();

    scene_send(s, "MGET big a");
    scene_send(s, "SET a 1");
    scene_commit();
    scene_finish();
    scene_expect(s, "*2");
    scene_expect_value(s, 'a', LARGE);
    scene_expect(s, "$-1\r\n+OK");
}

static void a_delete_stays_behind_a_staged_write(void)
{
    static const char key[] =
        "a-key-that-is-longer-than-a-value-that-is-kept-inline-with-its-record";
    struct sock *s;
    char words[200];

    scene_quiet();
    sim.profile.inline_max = 64;
    scene_start();
    s = scene_open();
    snprintf(words, sizeof(words), "SET %s *", key);
    scene_send_value(s, words, 'a', SMALL);
    scene_send(s, "DEL other %s", key);
    scene_finish();
    scene_expect(s, "+OK\r\n:1");
}

/* Clients that have begun to send a value, until there is no room for another small one. */
static int take_memory(struct sock *greedy[], int most)
{
    struct buf_pool *pool = node_server()->pool;
    size_t left;
    int n = 0;

    while ((left = buf_pool_limit(pool) - buf_pool_used(pool)) > MEDIUM + 4096 && n < most) {
        size_t len = left / 2 > MIB ? MIB : (left - 4096) / 9 * 8;

        greedy[n] = scene_open();
        scene_send(greedy[n++], "*3\r\n$3\r\nSET\r\n$1\r\ng\r\n$%zu", len);
        scene_turn();
    }
    return n;
}

static void a_write_without_memory_stays_behind(void)
{
    struct sock *s, *greedy[40];
    int n;

    scene_quiet();
    scene_start();
    s = scene_open();
    scene_send_value(s, "SET a *", 'a', LARGE);
    scene_turn(); /* being staged */
    n = take_memory(greedy, 40);
    scene_send_value(s, "SET a *", 'b', MEDIUM);
    scene_commit(); /* it could be applied at once, ahead of the first */
    while (n > 0)
        socket_leave(greedy[--n], true);
    scene_finish();
    scene_expect(s, "+OK\r\n+OK");
    scene_send(s, "GET a");
    scene_finish();
    scene_expect_value(s, 'b', MEDIUM);
}

static void one_moment_for_a_transaction(void)
{
    struct sock *s, *other;

    scene_quiet();
    scene_start();
    s = scene_open();
    other = scene_open();
    scene_send(s, "SET a v PX 100");
    scene_finish();
    scene_send(s, "MULTI");
    scene_send(s, "GET a");
    scene_send(s, "APPEND a w");
    scene_send(s, "GET a");
    scene_send(s, "EXEC");
    scene_turn(); /* its entry has its time */
    node_pass(200000);
    scene_send(other, "GET a");
    scene_turn(); /* a read before it sees what it will find */
    scene_commit();
    scene_expect(other, "$1\r\nv");
    scene_expect(s, "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED");
    scene_expect(s, "*3\r\n$1\r\nv\r\n:2\r\n$2\r\nvw");
    scene_send(other, "GET a");
    scene_finish();
    scene_expect(other, "$-1");
}

static void reads_of_a_transaction_that_is_planned_again(void)
{
    struct sock *s, *other;

    scene_quiet();
    scene_start();
    s = scene_open();
    other = scene_open();
    scene_send(s, "MSET k small c 1");
    scene_finish();
    scene_send_value(other, "SET k *", 'a', LARGE);
    scene_work(); /* in the log: EXEC does not see it yet */
    scene_send(s, "MULTI");
    scene_send(s, "GET c");
    scene_send(s, "COPY k d");
    scene_send(s, "GET c");
    scene_send(s, "EXEC");
    scene_turn();
    scene_send(other, "SET c 2");
    scene_turn();
    scene_finish(); /* EXEC finds a value that must be copied first, and comes behind SET c */
    scene_expect(s, "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED");
    scene_expect(s, "*3\r\n$1\r\n2\r\n:1\r\n$1\r\n2");
}

static void no_ttl_ends_early_after_a_crash(void)
{
    struct sock *s;

    scene_quiet();
    scene_start();
    s = scene_open();
    node_pass(100000000);
    scene_send(s, "SET a v");
    scene_commit(); /* later than any checkpoint */
    scene_expect(s, "+OK");
    sim.wall_ms -= 50000;
    node_crash("and the system's clock went back");
    scene_finish();
    s = scene_open();
    scene_send(s, "SET b v PX 10000");
    scene_finish();
    scene_send(s, "GET b");
    scene_finish();
    scene_expect(s, "+OK\r\n$1\r\nv");
}

static void snapshot_behind_a_tick(void)
{
    struct sock *s;

    scene_quiet();
    sim.profile.snapshot_groups = 2;
    scene_start();
    s = scene_open();
    scene_send(s, "SET a v PX 1000");
    scene_restart(); /* it is in the index */
    s = scene_open();
    scene_send(s, "SET b v");
    scene_commit();
    scene_send(s, "SET c v");
    scene_commit(); /* a snapshot is due: its first checkpoint waits for a worker */
    node_pass(3000000);
    scene_turn(); /* a has expired: there is a TICK in the log */
    if (log_mem_pending(node_server()->log) != 1)
        sim_fail("no TICK");
    scene_work();
    scene_finish();
    scene_expect(s, "+OK\r\n+OK");
}

/* A snapshot is due, and SET c "may have been applied": it is in the log. */
static struct sock *with_a_doubtful_write(void)
{
    struct sock *s;

    scene_quiet();
    sim.profile.snapshot_groups = 2;
    scene_start();
    s = scene_open();
    scene_send(s, "SET a v");
    scene_commit();
    scene_send(s, "SET b v");
    scene_commit();
    scene_send(s, "SET c v");
    scene_turn();
    log_mem_doubt(node_server()->log, 1);
    return s;
}

static void snapshot_behind_a_doubtful_write(void)
{
    struct sock *s = with_a_doubtful_write();

    scene_turn();
    node_work();    /* the first checkpoint */
    scene_turn();   /* nothing seems to be under way: the second begins */
    scene_commit(); /* but it was */
    scene_finish();
    scene_expect(s, "+OK\r\n+OK\r\n-UNKNOWN the outcome of this write is unknown: it may or may "
                    "not take effect");
}

static void no_snapshot_behind_what_no_checkpoint_has(void)
{
    struct sock *s = with_a_doubtful_write();

    scene_work();
    scene_work(); /* both checkpoints: the marker stands behind it */
    if (log_mem_pending(node_server()->log) != 2)
        sim_fail("no marker");
    log_mem_commit(node_server()->log, 2);
    scene_turn();
    node_crash("before the next checkpoint");
    scene_finish();
    s = scene_open();
    scene_send(s, "GET c");
    scene_finish();
    scene_expect(s, "$1\r\nv");
}

static void a_read_that_fails_says_so(void)
{
    struct sock *s = with_large_on_disk();

    sim.calm = false;
    sim.profile.read_eio = 10000;
    scene_send(s, "GETRANGE big 0 9");
    scene_work();
    scene_expect(s, "-IOERR input/output error on the data directory, see the server log");
    scene_send(s, "KVGET big META");
    scene_work();
    scene_expect(s, "-IOERR input/output error on the data directory, see the server log");
}

static void a_write_that_took_effect_does_not_seem_to_fail(void)
{
    struct sock *s = with_large_on_disk();

    sim.calm = false;
    sim.profile.read_eio = 10000;
    scene_send(s, "SET big v XX GET");
    scene_finish();
    scene_expect(s, "-UNKNOWN the write took effect, but the value before it cannot be read, see "
                    "the server log");
    scene_send(s, "GET big");
    scene_finish();
    scene_expect(s, "$1\r\nv");
}

static void a_staged_header_keeps_its_texts(void)
{
    struct sock *s;

    scene_quiet();
    scene_start();
    s = scene_open();
    scene_send_value(s, "KVSTORE a * MODEL the-model SEQ the-sequence", 'a', SMALL);
    scene_send_value(s, "KVSTORE b * MODEL ------------- SEQ ------------", 'b', SMALL);
    scene_finish(); /* the second command came before the first one's header was made */
    scene_expect(s, "+OK\r\n+OK");
    if (!disk_has("the-modelthe-sequence"))
        sim_fail("the header has other texts");
}

static void a_snapshot_covers_its_marker(void)
{
    struct sock *s;

    scene_quiet();
    sim.profile.snapshot_groups = 2;
    scene_start();
    s = scene_open();
    scene_send(s, "SET a v");
    scene_commit();
    scene_send(s, "SET b v");
    scene_finish(); /* a snapshot is taken: its marker is the last entry */
    scene_expect(s, "+OK\r\n+OK");
    scene_send_value(s, "SET big *", 'a', LARGE);
    scene_turn();
    while (node_work()) /* its header names the marker's index */
        ;
    node_crash("in the middle of a write");
    scene_finish();
    s = scene_open();
    scene_send(s, "GET b");
    scene_turn();
    scene_expect(s, "$1\r\nv");
}

const struct scene scenes[] = {
    {"an EXEC under way ends with the server", exec_ends_with_the_server},
    {"an EXEC that waits to build ends with the server", exec_ends_while_it_waits_to_build},
    {"an EXEC that waits for memory ends with the server", exec_ends_while_it_waits_for_memory},
    {"an EXEC ends with values that were not read", exec_ends_with_values_that_were_not_read},
    {"an EXEC waits for a read of the disk", exec_waits_for_a_read},
    {"with raft no there is no reply before the checkpoint", no_reply_before_the_checkpoint},
    {"a write stays behind a read that looks in pieces", a_write_stays_behind_a_read},
    {"a delete stays behind a staged write", a_delete_stays_behind_a_staged_write},
    {"a write without memory stays behind a staged one", a_write_without_memory_stays_behind},
    {"a transaction and reads before it see one moment", one_moment_for_a_transaction},
    {"a transaction that is planned again reads again",
     reads_of_a_transaction_that_is_planned_again},
    {"no TTL ends early after a crash", no_ttl_ends_early_after_a_crash},
    {"a snapshot waits for a TICK", snapshot_behind_a_tick},
    {"a snapshot waits for a write that was answered unknown", snapshot_behind_a_doubtful_write},
    {"no snapshot behind what no checkpoint has", no_snapshot_behind_what_no_checkpoint_has},
    {"a read that fails says so", a_read_that_fails_says_so},
    {"a write that took effect does not seem to fail",
     a_write_that_took_effect_does_not_seem_to_fail},
    {"a staged header keeps its texts", a_staged_header_keeps_its_texts},
    {"a snapshot covers its marker", a_snapshot_covers_its_marker},
    {NULL, NULL},
};
