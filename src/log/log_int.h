/* SPDX-License-Identifier: MIT */
/* log_int: what the back ends of the log share.
 *
 * Purpose   the table a back end fills in, the life of a log as the loop sees it, and the
 *           messages that carry news into the loop
 * Threads   log_post_*: any thread, they only send to the inbox. Everything else: loop
 * Owner     a back end embeds struct log as its first member; log_close calls ops->free
 * Errors    log_post_* cannot fail: a message that finds no memory ends the process (PANIC), for
 *           a committed entry that reached nobody would be lost
 * Limits    a committed entry counts as untaken until its message ran: see LOG_UNTAKEN_MAX
 */
#ifndef LOG_LOG_INT_H
#define LOG_LOG_INT_H

#include "log/log.h"

/* state      entered by             guaranteed here                    leaves to
 * OPENED     log_open               files checked, no thread           STARTING, STOPPED
 * STARTING   log_start              on_committed may come (replay)     RUNNING, FAILED, STOPPING
 * RUNNING    on_started(0)          log_propose is taken               STOPPING
 * FAILED     on_started(err)        nothing comes any more             STOPPED
 * STOPPING   log_stop               no new proposal                    STOPPED
 * STOPPED    the last message       no callback, no thread waits       —
 */
enum log_phase { LOG_OPENED, LOG_STARTING, LOG_RUNNING, LOG_FAILED, LOG_STOPPING, LOG_STOPPED };

struct log_ops {
    int (*start)(struct log *log);
    int (*propose)(struct log *log, struct slice entry, uint64_t token);
    int (*snapshot)(struct log *log, const struct log_descriptor *d, struct slice marker);
    void (*stats)(const struct log *log, struct log_stats *out);
    void (*stop)(struct log *log);
    void (*free)(struct log *log);
    /* `len` bytes were taken by the loop; NULL where nobody waits for it. */
    void (*taken)(struct log *log, size_t len);
};

struct log {
    /* fixed after open */
    const struct log_ops *ops;
    struct inbox *inbox;
    struct log_callbacks cb;
    enum log_kind kind;
    uint64_t base;
    uint64_t snapshot_bytes, snapshot_groups;
    /* owned by the loop */
    enum log_phase phase;
    uint64_t last_taken; /* index of the last on_committed */
    uint64_t unanswered; /* own proposals and markers without an outcome yet */
};

int log_raft_open(const struct log_config *config, struct log **out, char *detail);
int log_none_open(const struct log_config *config, struct log **out);
int log_mem_open(const struct log_config *config, struct log **out, char *detail);

/* The part every back end has; config was checked by log_open. */
void log_init(struct log *log, const struct log_ops *ops, const struct log_config *config);

/* Calls of struct log_callbacks, made on the loop in the order sent. own: this node proposed it.
 * entry is copied. */
void log_post_committed(struct log *log, uint64_t index, uint64_t term, struct slice entry,
                        bool own);
void log_post_failed(struct log *log, uint64_t token, int err);
void log_post_marker_failed(struct log *log);
void log_post_role(struct log *log, enum log_role role, uint64_t term);
void log_post_need_snapshot(struct log *log);
void log_post_started(struct log *log, int err, const char *detail);
void log_post_stopped(struct log *log, uint64_t term); /* the last one: none may follow */

/* The descriptor on disk: see descriptor.c for its offsets. */
#define LOG_DESCRIPTOR_SIZE 64
void log_descriptor_encode(const struct log_descriptor *d, uint8_t out[LOG_DESCRIPTOR_SIZE]);
/* 0, ERR_VERSION (written by a newer version) or ERR_CORRUPT. */
int log_descriptor_decode(struct slice bytes, struct log_descriptor *out);

#endif
