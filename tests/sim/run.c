/* SPDX-License-Identifier: MIT */
/* What happens next. A tick is one small thing: a client acts, the loop turns, a worker runs one
 * job, the log moves; rarely something breaks. Every few hundred commands the run settles: no more
 * faults, and everything that was begun must come to an end; then every key is read. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "disk.h"
#include "keys.h"
#include "loop.h"
#include "node.h"

enum { SETTLE_COMMANDS = 500, SETTLE_STEPS = 100000, FULL_TICKS = 3000, IDLE_TICKS = 30000 };

static unsigned full_ticks;
static uint64_t settles;

/* ---- profiles ----------------------------------------------------------------------------- */

static uint64_t one_of(const uint64_t *list, size_t n)
{
    return list[sim_random(n)];
}

#define ONE_OF(...)                                                                                \
    one_of((const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

static void draw_faults(struct profile *p)
{
    if (sim_chance(3300)) {
        p->read_eio = 20;
        p->write_eio = p->sync_eio = 20;
        p->write_nospc = 20;
    }
    if (sim_chance(5000))
        p->short_io = 300;
    if (sim_chance(2500))
        p->disk_full = 2;
    if (sim_chance(2500))
        p->log_fail = p->log_doubt = 60;
    if (sim_chance(2500))
        p->wall_jump = 5;
    if (sim_chance(1500))
        p->panic = 200;
    if (sim_chance(3300))
        p->backup = 4;
}

static void draw_profile(void)
{
    struct profile *p = &sim.profile;

    p->raft = sim_chance(8000);
    p->max_store = ONE_OF(40, 48, 64) * MIB; /* 2 volumes may be open: a third can be a victim */
    p->max_index = sim_chance(2500) ? 9 * MIB + 256 * KIB : 256 * MIB;
    p->max_memory = ONE_OF(8, 16, 32) * MIB;
    p->snapshot_groups = ONE_OF(30, 200, 1000);
    p->inline_max = ONE_OF(64, 1024, 4096, 16384);
    p->lease_ms = ONE_OF(0, 500, 10000);
    p->heavy = sim_chance(3300);
    p->value_scale = p->heavy ? 2048 * KIB : ONE_OF(64 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB);
    p->lazy = (unsigned)sim_random(5);
    p->crash = sim_chance(8500) ? (unsigned)sim_between(1, 4) : 0;
    p->clean_stop = sim_chance(5000) ? 1 : 0;
    p->crash_point = sim_chance(6000) ? (unsigned)sim_between(1, 4) : 0;
    draw_faults(p);
    sim_say("raft=%d store=%" PRIu64 "M index=%" PRIu64 "M memory=%" PRIu64 "M snapshot=%" PRIu64
            " inline=%" PRIu64 " lease=%" PRIu64 " scale=%" PRIu64
            "K crash=%u stop=%u point=%u eio=%u short=%u full=%u log=%u wall=%u panic=%u backup=%u",
            p->raft, p->max_store / MIB, p->max_index / MIB, p->max_memory / MIB,
            p->snapshot_groups, p->inline_max, p->lease_ms, p->value_scale / KIB, p->crash,
            p->clean_stop, p->crash_point, p->read_eio, p->short_io, p->disk_full, p->log_fail,
            p->wall_jump, p->panic, p->backup);
}

/* ---- settling ----------------------------------------------------------------------------- */

/* Until nobody waits for anything. */
static void quieten(void)
{
    int steps = 0;

    while (client_outstanding() > 0 || !node_is_quiet()) {
        if (++steps > SETTLE_STEPS) {
            node_describe();
            sim_fail("something never ends: %zu commands are not answered", client_outstanding());
        }
        client_push();
        node_turn();
        while (node_work() || node_log())
            ;
        node_pass(loop_is_ready() ? 50 : 1000);
    }
}

static void read_all(void)
{
    for (int i = 0; i < KEYS; i++) {
        while (!client_send(gen_get(i / GROUP_KEYS, i % GROUP_KEYS, -1)))
            quieten();
    }
    quieten();
}

static void collect_blobs(void)
{
    check_mark_blobs();
    socket_mark_blobs();
    blob_collect();
}

static void settle(bool reading)
{
    settles++;
    sim.calm = true;
    full_ticks = 0;
    disk_set_full(false);
    quieten();
    client_settled();
    check_close_out();
    node_check();
    if (reading)
        read_all();
    collect_blobs();
    sim.calm = false;
    sim_say("settled, %" PRIu64 " commands", sim.ops_done);
}

/* ---- ticks -------------------------------------------------------------------------------- */

static void jump(void)
{
    int64_t ms = (int64_t)(sim_chance(5000) ? sim_random(60000) : sim_random(6 * 3600000));

    if (sim_random(2) == 0)
        ms = -ms;
    sim.wall_ms = (uint64_t)((int64_t)sim.wall_ms + ms);
    sim_say("the wall clock jumps by %" PRId64 " ms", ms);
}

static void break_something(void)
{
    const struct profile *p = &sim.profile;

    if (sim_chance(p->wall_jump))
        jump();
    if (full_ticks > 0 && --full_ticks == 0) {
        disk_set_full(false);
        sim_say("the disk has room again");
    } else if (full_ticks == 0 && sim_chance(p->disk_full)) {
        full_ticks = (unsigned)sim_between(1, FULL_TICKS);
        disk_set_full(true);
        sim_say("the disk is full");
    }
    if (sim_chance(p->crash)) {
        node_crash("between two steps");
        if (sim_chance(5000))
            settle(true);
    } else if (node_is_ready() && sim_chance(p->clean_stop)) {
        settle(false);
        node_stop();
        node_start();
    }
}

static void pass_long(void)
{
    uint64_t us = sim_chance(200) ? sim_between(1000000, 900000000) : sim_between(1000, 60000);

    node_pass(us);
}

static void tick(void)
{
    uint64_t what = sim_random(100);

    node_pass(sim_random(300));
    if (what < 30)
        client_act();
    else if (what < 68)
        node_turn();
    else if (what < 86)
        node_work();
    else if (what < 96)
        node_log();
    else if (what < 99)
        pass_long();
    else
        node_check();
    break_something();
}

void run_seed(void)
{
    uint64_t next_settle = SETTLE_COMMANDS, seen = 0;
    unsigned idle = 0;

    draw_profile();
    keys_init();
    check_init();
    client_init();
    node_init();
    node_start();
    while (sim.ops_done < sim.ops) {
        tick();
        idle = sim.ops_done == seen ? idle + 1 : 0;
        seen = sim.ops_done;
        if (sim.ops_done >= next_settle || idle > IDLE_TICKS) {
            settle(sim_chance(5000));
            next_settle = sim.ops_done + SETTLE_COMMANDS;
            idle = 0;
        }
    }
    settle(true);
    node_stop();
    node_start();
    settle(true);
    node_stop();
    node_free();
    socket_lose_all();
    disk_free_all();
    check_free();
    blob_free_all();
}

void run_report(char *out, size_t size)
{
    struct client_stats c;
    struct node_stats n;
    struct disk_stats d;

    client_get_stats(&c);
    node_get_stats(&n);
    disk_get_stats(&d);
    snprintf(out, size,
             "commands=%" PRIu64 " refused=%" PRIu64 "(oom=%" PRIu64 " nospc=%" PRIu64
             " io=%" PRIu64 ") unknown=%" PRIu64 " tx=%" PRIu64 "/%" PRIu64 " backups=%" PRIu64
             " crashes=%" PRIu64 "(points=%" PRIu64 " panics=%" PRIu64 ") stops=%" PRIu64
             " checkpoints=%" PRIu64 " snapshots=%" PRIu64 " evicted=%" PRIu64 " moved=%" PRIu64
             " recycled=%" PRIu64 " failed=%" PRIu64 " expired=%" PRIu64 " written=%" PRIu64
             "M read=%" PRIu64 "M torn=%" PRIu64 " dropped=%" PRIu64
             " searches=%zu widest=%zu simulated=%.0fs",
             c.commands, c.refused, c.oom, c.nospc, c.io_errors, c.unknown, c.tx_refused, c.tx,
             c.backups, n.crashes, n.points, n.panics, n.stops, n.checkpoints, n.snapshots,
             n.sure_evicts, n.moved, n.recycled, n.failed_volumes, n.expired, d.write_bytes / MIB,
             d.read_bytes / MIB, d.torn_pages, d.dropped_pages, check_searches(), check_widest(),
             (double)sim.mono_us / 1e6);
}
