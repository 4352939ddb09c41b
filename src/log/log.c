/* SPDX-License-Identifier: MIT */
/* What all back ends have in common: the phases, the checks at the door, the messages.
 *
 * A back end never calls back by itself. Whatever it has to say goes through the inbox as a
 * struct note, so callbacks run on the loop, in the order sent, and never from inside log_propose.
 * The note of a committed entry carries the copy of its bytes; when it has run, ops->taken gives
 * the bytes back to the back end's budget. log_post_stopped sends the last note: with it the log
 * is STOPPED and nothing of ours is left in the inbox, so log_close may free the object.
 */
#include "log/log.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "log/log_int.h"

enum note_type {
    NOTE_COMMITTED,
    NOTE_FAILED,
    NOTE_MARKER_FAILED,
    NOTE_ROLE,
    NOTE_NEED_SNAPSHOT,
    NOTE_STARTED,
    NOTE_STOPPED
};

struct news {
    enum note_type type;
    int err;
    bool own;
    uint64_t a, b; /* index and term, or token, or role and term */
};

struct note {
    struct msg msg; /* first: the inbox hands it back */
    struct log *log;
    struct news news;
    size_t len;
    uint8_t bytes[]; /* entry, or detail with its NUL */
};

int log_open(const struct log_config *config, struct log **out, char *detail)
{
    ASSERT(config->inbox != NULL && config->cb.on_committed != NULL);
    ASSERT(config->cb.on_failed != NULL && config->cb.on_started != NULL);
    detail[0] = '\0';
    switch (config->kind) {
    case LOG_RAFT:
        ASSERT(config->dir != NULL && config->node_id >= 1);
        return log_raft_open(config, out, detail);
    case LOG_NONE:
        return log_none_open(config, out);
    case LOG_MEM:
        return log_mem_open(config, out, detail);
    }
    PANIC("log_open: kind %d", (int)config->kind);
}

void log_init(struct log *log, const struct log_ops *ops, const struct log_config *config)
{
    log->ops = ops;
    log->inbox = config->inbox;
    log->cb = config->cb;
    log->kind = config->kind;
    log->base = config->base;
    log->snapshot_bytes = config->snapshot_bytes ? config->snapshot_bytes : LOG_SNAPSHOT_BYTES;
    log->snapshot_groups = config->snapshot_groups ? config->snapshot_groups : LOG_SNAPSHOT_GROUPS;
    log->phase = LOG_OPENED;
}

int log_start(struct log *log)
{
    int rc;

    ASSERT(log->phase == LOG_OPENED);
    log->phase = LOG_STARTING;
    rc = log->ops->start(log);
    if (rc != 0)
        log->phase = LOG_OPENED;
    return rc;
}

static int admit(const struct log *log, struct slice entry, size_t max)
{
    ASSERT(entry.len > 0 && entry.len % 8 == 0);
    if (log->phase == LOG_OPENED || log->phase == LOG_STARTING)
        return ERR_LOADING;
    if (log->phase != LOG_RUNNING)
        return ERR_CANCELED;
    return entry.len > max ? ERR_TOOBIG : 0;
}

int log_propose(struct log *log, struct slice entry, uint64_t token)
{
    int rc = admit(log, entry, LOG_ENTRY_MAX);

    if (rc == 0)
        rc = log->ops->propose(log, entry, token);
    if (rc == 0)
        log->unanswered++;
    return rc;
}

/* A descriptor that says less than what was applied would make a restart skip the difference, so
 * both halves of the caller's promise are checked here. An entry of unknown outcome may still come
 * before the marker: the back ends look at the marker's index. */
int log_snapshot(struct log *log, const struct log_descriptor *d, struct slice marker)
{
    int rc = admit(log, marker, LOG_MARKER_MAX);

    if (rc != 0)
        return rc;
    ASSERT(log->unanswered == 0);
    ASSERT(d->applied >= log->last_taken);
    rc = log->ops->snapshot(log, d, marker);
    if (rc == 0)
        log->unanswered++;
    return rc;
}

void log_stats(const struct log *log, struct log_stats *out)
{
    memset(out, 0, sizeof(*out));
    log->ops->stats(log, out);
}

void log_stop(struct log *log)
{
    if (log->phase == LOG_OPENED) {
        log->phase = LOG_STOPPED;
    } else if (log->phase == LOG_STARTING || log->phase == LOG_RUNNING) {
        log->phase = LOG_STOPPING;
        log->ops->stop(log);
    }
}

bool log_stopped(const struct log *log)
{
    return log->phase == LOG_STOPPED;
}

void log_close(struct log *log)
{
    if (log == NULL)
        return;
    ASSERT(log->phase == LOG_OPENED || log->phase == LOG_STOPPED);
    log->ops->free(log);
}

/* ---- notes ------------------------------------------------------------------------------ */

static void deliver_committed(struct log *log, const struct note *n)
{
    ASSERT(n->news.a > log->last_taken);
    log->last_taken = n->news.a;
    if (n->news.own) {
        ASSERT(log->unanswered > 0);
        log->unanswered--;
    }
    log->cb.on_committed(log->cb.ctx, n->news.a, n->news.b, slice_of(n->bytes, n->len));
    if (log->ops->taken != NULL)
        log->ops->taken(log, n->len);
}

static void deliver_started(struct log *log, const struct note *n)
{
    if (log->phase == LOG_STARTING)
        log->phase = n->news.err == 0 ? LOG_RUNNING : LOG_FAILED;
    log->cb.on_started(log->cb.ctx, n->news.err, (const char *)n->bytes);
}

static void deliver_role(struct log *log, enum log_role role, uint64_t term)
{
    if (log->cb.on_role != NULL)
        log->cb.on_role(log->cb.ctx, role, term);
}

static void deliver(struct msg *m)
{
    struct note *n = (struct note *)(void *)m;
    struct log *log = n->log;

    ASSERT(log->phase != LOG_STOPPED);
    switch (n->news.type) {
    case NOTE_COMMITTED:
        deliver_committed(log, n);
        break;
    case NOTE_FAILED:
        ASSERT(log->unanswered > 0);
        log->unanswered--;
        log->cb.on_failed(log->cb.ctx, n->news.a, n->news.err);
        break;
    case NOTE_MARKER_FAILED:
        ASSERT(log->unanswered > 0);
        log->unanswered--;
        break;
    case NOTE_ROLE:
        deliver_role(log, (enum log_role)n->news.a, n->news.b);
        break;
    case NOTE_NEED_SNAPSHOT:
        if (log->phase == LOG_RUNNING && log->cb.on_need_snapshot != NULL)
            log->cb.on_need_snapshot(log->cb.ctx);
        break;
    case NOTE_STARTED:
        deliver_started(log, n);
        break;
    case NOTE_STOPPED:
        log->phase = LOG_STOPPED;
        deliver_role(log, LOG_ROLE_STOPPED, n->news.b);
        break;
    }
    free(n);
}

static void post(struct log *log, struct news news, struct slice bytes)
{
    struct note *n = malloc(sizeof(*n) + bytes.len);

    if (n == NULL)
        PANIC("log: no memory for a message of %zu bytes", bytes.len);
    n->msg.run = deliver;
    n->log = log;
    n->news = news;
    n->len = bytes.len;
    if (bytes.len > 0)
        memcpy(n->bytes, bytes.ptr, bytes.len);
    inbox_send(log->inbox, &n->msg);
}

void log_post_committed(struct log *log, uint64_t index, uint64_t term, struct slice entry,
                        bool own)
{
    post(log, (struct news){.type = NOTE_COMMITTED, .a = index, .b = term, .own = own}, entry);
}

void log_post_failed(struct log *log, uint64_t token, int err)
{
    post(log, (struct news){.type = NOTE_FAILED, .a = token, .err = err}, slice_of(NULL, 0));
}

void log_post_marker_failed(struct log *log)
{
    post(log, (struct news){.type = NOTE_MARKER_FAILED}, slice_of(NULL, 0));
}

void log_post_role(struct log *log, enum log_role role, uint64_t term)
{
    post(log, (struct news){.type = NOTE_ROLE, .a = role, .b = term}, slice_of(NULL, 0));
}

void log_post_need_snapshot(struct log *log)
{
    post(log, (struct news){.type = NOTE_NEED_SNAPSHOT}, slice_of(NULL, 0));
}

void log_post_started(struct log *log, int err, const char *detail)
{
    post(log, (struct news){.type = NOTE_STARTED, .err = err},
         slice_of(detail, strlen(detail) + 1));
}

void log_post_stopped(struct log *log, uint64_t term)
{
    post(log, (struct news){.type = NOTE_STOPPED, .b = term}, slice_of(NULL, 0));
}
