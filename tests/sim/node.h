/* SPDX-License-Identifier: MIT */
/* node: the server and its lives: start, crash, clean stop, start again.
 *
 * A crash leaves a folder with the index as it was last committed, the volumes less what was not
 * synced (disk.c), and the log (a log_medium). The next life starts on that. What is left of the
 * old process is taken apart behind it, cut off from disk, log and clients.
 */
#ifndef TESTS_SIM_NODE_H
#define TESTS_SIM_NODE_H

#include "model.h"

struct server;

void node_init(void);
void node_start(void);
void node_crash(const char *why);
void node_stop(void); /* SHUTDOWN, and everything it waits for */
void node_free(void);

struct server *node_server(void); /* NULL while there is none */
bool node_is_ready(void);
/* Nobody waits for anything: what is not answered never will be. */
bool node_is_quiet(void);
/* What has expired is decided by a time between these two. */
uint64_t node_look_ms(void);
uint64_t node_now_ms(void);

/* One turn of the loop; one job of a worker (false: there was none); the log moves. Each may end
 * in a crash, which they carry out. */
void node_turn(void);
bool node_work(void);
bool node_log(void);

/* A place where the process may die: nothing that follows it has an effect. */
void node_point(const char *name);

void node_check(void);    /* invariants of the store */
void node_describe(void); /* for a report: what it may be waiting for */
/* The time of the machine goes on; the wall clock may jump. */
void node_pass(uint64_t us);

struct node_stats {
    uint64_t crashes, stops, panics, points, evicts, sure_evicts, recycled, moved, checkpoints;
    uint64_t snapshots, expired, replayed, failed_volumes;
    uint64_t abandoned; /* processes whose memory is lost: leaks are no faults then */
};
void node_get_stats(struct node_stats *out);

void node_remove_dir(const char *dir);
/* What a BACKUP holds, read by a store of its own. damaged: payloads that the disk may have refused
 * to the BACKUP, which is no fault of its own; NULL: there can be none. */
void backup_read(const char *dir, struct key_state records[], bool damaged[]);

#endif
