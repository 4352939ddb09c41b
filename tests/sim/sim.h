/* SPDX-License-Identifier: MIT */
/* sim: a whole node in one thread under one seed.
 *
 * Purpose   the real server (connections, requests, groups, state machine, store, volumes, index)
 *           on a simulated machine: time, sockets, libevent's loop, disk, log and the clients are
 *           ours, every choice is a number drawn from the seed, so a seed plays the same again
 * Layers    run (what happens next) → client (connections, replies) → gen (random commands)
 *           → model (what a command does) and check (is there an order that explains the replies);
 *           node (the server's lives) → disk, loop (what it runs on)
 * Threads   one; seeds run in processes of their own (main.c)
 * Errors    whatever should not be ends in sim_fail: one report, exit status 1
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MIB ((uint64_t)1 << 20)
#define KIB ((uint64_t)1 << 10)

/* What a seed is like, drawn first. */
struct profile {
    bool raft;
    uint64_t max_store, max_index, max_memory, snapshot_groups;
    uint64_t inline_max, lease_ms;
    uint64_t value_scale; /* large values are up to this */
    bool heavy;           /* many of them are: eviction all the time */
    /* chances of 10,000 */
    unsigned crash, clean_stop;   /* each tick */
    unsigned crash_point;         /* at a failpoint or a disk operation */
    unsigned log_fail, log_doubt; /* each time the log moves */
    unsigned read_eio, write_eio, sync_eio, write_nospc, short_io;
    unsigned disk_full, wall_jump; /* each tick */
    unsigned panic;                /* a commit of the index that fails */
    unsigned backup;               /* of commands */
    unsigned lazy;                 /* a worker of node.c that is late with its jobs; 4: none */
};

struct sim {
    uint64_t seed, random;
    uint64_t ops, ops_done; /* commands answered, and those whose connection went */
    bool verbose;
    struct profile profile;
    uint64_t mono_us, wall_ms; /* of the machine; both go on through a crash */
    uint64_t moment;           /* counts invocations and responses */
    uint64_t trace;            /* of all that happened */
    bool calm;                 /* no faults, no crashes: everything must come to an end */
    char base[256];            /* folder of this seed */
};
extern struct sim sim;

uint64_t sim_random(uint64_t below); /* below > 0 */
bool sim_chance(unsigned of_ten_thousand);
uint64_t sim_between(uint64_t low, uint64_t high); /* both included */
void sim_bytes(uint8_t *out, size_t len);

void sim_trace(const void *bytes, size_t len);
void sim_trace_u64(uint64_t v);

__attribute__((format(printf, 1, 2))) void sim_say(const char *format, ...); /* with -v */
__attribute__((noreturn, format(printf, 1, 2))) void sim_fail(const char *format, ...);

/* run.c */
void run_seed(void);
/* What the seed met, in one line. */
void run_report(char *out, size_t size);

#endif
