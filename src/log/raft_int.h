/* SPDX-License-Identifier: MIT */
/* raft_int: what raft.c, raft_open.c, raft_fsm.c and the transport share.
 *
 * Purpose   the object of the raft back end. Only files that include this one see raft.h and uv.h
 * Threads   fields are grouped by owner; libraft has no lock: every raft_* and uv_* call is made
 *           on the raft thread, uv_async_send excepted
 * Owner     a proposal belongs to the shared queue, then to the raft thread until its outcome
 * Units     times are ms of uv_now()
 */
#ifndef LOG_RAFT_INT_H
#define LOG_RAFT_INT_H

#include <pthread.h>
#include <raft.h>
#include <raft/uv.h>
#include <uv.h>

#include "log/check.h"
#include "log/log_int.h"

struct raft_log;

struct proposal {
    struct raft_apply req; /* first */
    struct raft_log *log;
    struct proposal *next;
    struct raft_buffer buf; /* entry and trailer, raft_malloc'ed; NULL once libraft has it */
    uint64_t token;
    uint64_t submitted_ms;
    bool marker; /* the entry a snapshot is taken behind; d is its descriptor */
    struct log_descriptor d;
};

/* state    entered by                      leaves to
 * IDLE     snapshot finalized or failed    ASKED
 * ASKED    log_snapshot, marker proposed   ARMED, IDLE (the marker failed)
 * ARMED    marker applied, threshold 1     TAKEN, IDLE (not taken in time)
 * TAKEN    fsm snapshot(): descriptor out  IDLE
 */
enum snap_state { SNAP_IDLE, SNAP_ASKED, SNAP_ARMED, SNAP_TAKEN };

struct raft_snap {
    enum snap_state state;
    raft_index index; /* of the marker */
    struct log_descriptor d;
    uint64_t since_ms;      /* ARMED or TAKEN since */
    uint64_t retry_ms;      /* after a failure: ask the loop not before */
    bool asked;             /* on_need_snapshot was sent and not answered */
    bool alarmed;           /* this one was counted as a failure already */
    uint64_t bytes, groups; /* what the counters stood at when the marker was applied */
};

struct raft_log {
    struct log log; /* first */
    /* fixed after open */
    char *dir;
    char address[32];
    uint32_t node_id;
    uint64_t must_have;
    size_t segment_bytes;
    struct log_check_report report;
    pthread_t thread;
    bool thread_made;
    /* owned by the raft thread from log_start on */
    struct uv_loop_s loop;
    uv_async_t wake;
    uv_check_t turn;
    uv_timer_t second;
    struct raft_uv_transport transport;
    struct raft_tracer tracer;
    struct raft_io io;
    struct raft_fsm fsm;
    struct raft raft;
    bool io_open, raft_open, started, closing, stalled, discard;
    struct proposal *todo, **todo_tail; /* taken from the queue, not yet given to libraft */
    struct proposal *inflight;          /* at most one: one write holds one batch */
    struct raft_snap snap;
    uint64_t bytes_since, groups_since, snapshots, snapshot_failures;
    raft_index snapshot_index, applied; /* applied: the last entry seen by fsm_apply */
    uint64_t disk_bytes, disk_ms;
    enum log_role role;
    uint64_t term;
    int replay_err;
    char detail[LOG_DETAIL_MAX];
    /* shared under lock */
    pthread_mutex_t lock;
    pthread_cond_t room; /* untaken shrank, the restore was answered, or stopping */
    struct proposal *queue, **queue_tail;
    bool stopping, wake_open, snapshot_busy, restore_answered, restore_accepted;
    size_t untaken;
    struct log_stats stats;
    /* the question whether a snapshot may be restored; runs on the loop */
    struct {
        struct msg msg; /* first */
        struct raft_log *log;
        struct log_descriptor d;
    } restore;
};

static inline struct raft_log *raft_log_of(struct log *log)
{
    return (struct raft_log *)(void *)log;
}

void log_transport_none(struct raft_uv_transport *t);

extern const struct log_ops log_raft_ops; /* raft.c, for raft_open.c */

void raft_publish(struct raft_log *l);           /* raft thread: what log_stats answers */
const char *raft_said(const struct raft_log *l); /* raft thread: libraft's last message */

/* raft_fsm.c; all on the raft thread. */
void raft_fsm_init(struct raft_log *l);
void raft_fsm_marker_failed(struct raft_log *l); /* it will not be applied: no snapshot */
void raft_fsm_watch(struct raft_log *l);         /* once a second: a snapshot that hangs */
void raft_fsm_ask(struct raft_log *l);           /* on_need_snapshot, when it is due */

/* Every entry ends in its own index and term, so that a log with a file missing or out of place
 * is noticed, and the term is known at replay. 16 bytes: index 8, term 8. */
#define RAFT_TRAILER LOG_CHECK_TRAILER

#endif
