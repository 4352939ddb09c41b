/* SPDX-License-Identifier: MIT */
/* log: the ordered, durable sequence of entries that every write goes through.
 *
 * Purpose   carries opaque bytes; knows nothing of commands or keys. Back ends: raft (libraft on
 *           its own thread), none (`raft no`: commits at once, not durable by itself), mem (tests)
 * Threads   every function here: loop. Callbacks run on the loop, from inbox_drain or, for none
 *           and mem, never from inside log_propose. The raft thread never touches our state
 * Owner     log_propose copies the bytes. In on_committed they are valid during the call only
 * Lifetime  log_open → log_start → … → log_stop → (drain the inbox until log_stopped) → log_close
 * Order     on_committed comes in index order, each index once; indexes of the log's own entries
 *           (configuration, barrier) are skipped, so numbers have gaps
 * Limits    LOG_ENTRY_MAX bytes an entry, a multiple of 8; LOG_UNTAKEN_MAX bytes committed and not
 *           yet taken by the loop, then the raft thread waits
 * Errors    log_open: see log_check in the back end: damage is refused with file and remedy in
 *           detail. log_propose: 0, or an error and the entry was certainly not taken.
 *           on_failed: ERR_NOTLEADER and ERR_NOSPC = certainly not applied; ERR_UNKNOWN = may
 *           still come
 * Source    facts of libraft 0.22.1: entry length % 8, one buffer per raft_apply, the log since
 *           the last snapshot lives in RAM, so snapshots go by bytes. On disk each entry ends in
 *           16 bytes of the log's own, its index and term: see check.h
 */
#ifndef LOG_LOG_H
#define LOG_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/inbox.h"
#include "base/slice.h"

#define LOG_ENTRY_MAX ((size_t)8 << 20)
#define LOG_UNTAKEN_MAX ((size_t)16 << 20)
#define LOG_SNAPSHOT_BYTES ((uint64_t)64 << 20)
#define LOG_SNAPSHOT_GROUPS 8192
#define LOG_SEGMENT_BYTES ((size_t)16 << 20)
#define LOG_MARKER_MAX 4096
#define LOG_DETAIL_MAX 512

enum log_kind { LOG_RAFT, LOG_NONE, LOG_MEM };

enum log_role { LOG_ROLE_STARTING, LOG_ROLE_FOLLOWER, LOG_ROLE_LEADER, LOG_ROLE_STOPPED };

/* What a snapshot holds: never data, only where the store must be. */
struct log_descriptor {
    uint64_t applied;     /* every entry ≤ this is durable in the index */
    uint64_t clock_ms;    /* largest stamp applied */
    uint64_t keys, bytes; /* for people reading it */
    uint8_t cluster[16];
};

struct log_callbacks {
    void (*on_committed)(void *ctx, uint64_t index, uint64_t term, struct slice entry);
    void (*on_failed)(void *ctx, uint64_t token, int err);
    void (*on_role)(void *ctx, enum log_role role, uint64_t term);
    /* The log is long: checkpoint, let nothing be in flight, then call log_snapshot(). */
    void (*on_need_snapshot)(void *ctx);
    /* A snapshot was read at start; the loop refuses it (false) if its index is behind. */
    bool (*on_restored)(void *ctx, const struct log_descriptor *d);
    /* Replay is over: everything in the log has been committed to the loop. */
    void (*on_started)(void *ctx, int err, const char *detail);
    void *ctx;
};

struct log_config {
    enum log_kind kind;
    const char *dir;    /* LOG_RAFT: its own directory, made if absent */
    uint32_t node_id;   /* ≥ 1 */
    uint64_t base;      /* added to every index: a restored or converted store goes on
                              counting where its index stands, in a new log */
    uint64_t must_have; /* applied index of the store: a shorter log is refused */
    struct inbox *inbox;
    struct log_callbacks cb;
    /* Limits of LOG_RAFT and LOG_MEM, 0 = the constant: tests reach them sooner. */
    uint64_t snapshot_bytes, snapshot_groups; /* LOG_SNAPSHOT_… */
    size_t segment_bytes;                     /* LOG_SEGMENT_BYTES; a multiple of 4096 */
    struct log_medium *medium;                /* LOG_MEM: its disk; NULL = it has none */
};

struct log_stats {
    enum log_role role;
    uint64_t term, last_index, commit_index, applied_index, snapshot_index;
    uint64_t bytes_since_snapshot, groups_since_snapshot, snapshots, snapshot_failures;
    uint64_t untaken_bytes, disk_bytes;
};

struct log;

/* Checks the files (raft: log_check, O_TMPFILE probe). detail: LOG_DETAIL_MAX bytes, one line
 * that names the file and the remedy when the result is not 0. */
int log_open(const struct log_config *config, struct log **out, char *detail);

/* Starts replay; returns at once. The loop must drain its inbox until on_started. */
int log_start(struct log *log);

/* token: returned in on_failed; success is on_committed with the same bytes. ERR_TOOBIG,
 * ERR_LOADING (replay is not over), ERR_CANCELED (stopping). */
int log_propose(struct log *log, struct slice entry, uint64_t token);

/* Everything ≤ d->applied is durable in the index and nothing is in flight (asserted): writes a
 * marker entry (`marker`, ≤ LOG_MARKER_MAX, applied as any other) and takes the snapshot right
 * behind it; none if another entry comes between (one that on_failed said ERR_UNKNOWN of): that
 * counts as a failure, and on_need_snapshot comes again. ERR_AGAIN: the last one is still being
 * written. */
int log_snapshot(struct log *log, const struct log_descriptor *d, struct slice marker);

void log_stats(const struct log *log, struct log_stats *out);

/* Pending proposals fail with ERR_UNKNOWN; log_stopped() becomes true on the loop, also after a
 * start that failed. Before log_start and a second time: nothing to do. */
void log_stop(struct log *log);
bool log_stopped(const struct log *log);
void log_close(struct log *log);

/* LOG_MEM only: how tests drive it. While it starts, what is pending is what will be replayed. */
size_t log_mem_pending(const struct log *log);
void log_mem_commit(struct log *log, size_t count);        /* the oldest `count` */
void log_mem_fail(struct log *log, size_t count, int err); /* the newest `count` */
void log_mem_doubt(struct log *log, size_t count); /* the oldest: on_failed(ERR_UNKNOWN) now, and
                                                      on_committed, as another's, when committed */
/* The process is about to be gone: the oldest `count` are on the medium, the others are not, and
 * whatever is done with this log from now on is not. */
void log_mem_crash(struct log *log, size_t count);

/* What a LOG_MEM keeps between two lives. The test owns it; it outlives the logs on it. */
struct log_medium *log_medium_new(void);
void log_medium_free(struct log_medium *m);

#endif
