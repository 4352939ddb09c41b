/* SPDX-License-Identifier: MIT */
/* write: how a write request gets into the log and back.
 *
 * Purpose   admission → plan → stage, rebuild → group → log → apply → result; waiting lists for
 *           room; group commit
 * Threads   loop
 * Life of a write: write_start; [waits for room]; plan into a unit, again after each [stage] and
 *           [rebuild]; the unit joins the open group; the group is proposed; on commit fsm applies
 *           each op and result() replies; with `raft no` the reply waits for the checkpoint
 * Limits    WRITE_GROUPS in flight, WRITE_GROUP_UNITS ops or WRITE_GROUP_BYTES aimed at; ENTRY_MAX
 *           and WRITE_UNIT_GROWTH_MAX for one command ("ERR transaction too large"). So the memory
 *           tables grow by what WRITE_GROUPS may bring at most when they are full
 * Source    DESIGN §4.4: 256-byte entries in groups of 64: 170 k op/s
 */
#ifndef SERVER_WRITE_H
#define SERVER_WRITE_H

#include "log/log.h"
#include "server/request.h"

#define WRITE_GROUPS 2
#define WRITE_GROUP_UNITS 1024
#define WRITE_GROUP_BYTES ((size_t)256 << 10)
#define WRITE_UNIT_GROWTH_MAX ((uint64_t)32 << 20) /* of the memory table, by one command */
#define WRITE_REBUILDS_MAX 100 /* attempts against a key that others keep changing */

struct write;

struct write_stats {
    uint64_t groups, units, bytes, waiting, in_flight, failed;
};

struct write *write_new(struct server *s);
void write_free(struct write *w); /* nothing in flight */

void write_start(struct request *rq);
void write_resume(struct request *rq); /* a stage or a rebuild has finished */
/* A unit that is already built (EXEC). conds may be empty. */
void write_unit(struct request *rq, struct entry_writer *unit);
/* Proposals without a request: EVICT of the store. */
bool write_evict(struct write *w, struct slice key, uint64_t mod);

/* Once per loop turn, after the events: sends the open group if the window allows. */
void write_turn(struct write *w);
void write_on_space(struct write *w); /* those that waited for room try again */
void write_cancel(struct write *w);   /* stop: what still waits is dropped; its clients are gone */
void write_init_cluster(struct write *w);     /* the entry that names it, in a new log */
bool write_backlogged(const struct write *w); /* new writes wait in their connections */
bool write_idle(const struct write *w);
uint64_t write_stamp_under_way(const struct write *w); /* of the oldest group; 0: there is none */
bool write_acks_late(const struct write *w);           /* `raft no`: applied is not yet durable */
void write_get_stats(const struct write *w, struct write_stats *out);

/* log callbacks (ctx = struct write) */
void write_on_committed(void *ctx, uint64_t index, uint64_t term, struct slice entry);
void write_on_failed(void *ctx, uint64_t token, int err);
void write_on_need_snapshot(void *ctx);

#endif
