/* SPDX-License-Identifier: MIT */
/* The log of tests: entries wait until the test commits or fails them.
 *
 * Pending entries form a list, oldest first. log_mem_commit takes from its head, as a commit index
 * that advances does; log_mem_fail takes from its tail, as a new leader that overwrites the end of
 * the log does. Both go through the inbox, so a test sees the same order of callbacks as with
 * raft. An index is given when an entry commits: a failed one leaves no gap. Limits for
 * on_need_snapshot count as in raft, and a snapshot is taken when its marker commits.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "log/log_int.h"

enum { TERM = 1 };

struct pending {
    struct pending *next, *prev;
    uint64_t token;
    bool marker;
    size_t len;
    uint8_t *bytes; /* behind the struct, in the same allocation */
};

struct mem {
    struct log log;      /* first; everything here is owned by the loop */
    struct pending list; /* ring: next = oldest, prev = newest */
    size_t count;
    uint64_t index;
    bool asked; /* on_need_snapshot came and log_snapshot has not answered it */
    bool taking;
    struct log_stats stats;
};

static struct mem *mem_of(struct log *log)
{
    return (struct mem *)(void *)log;
}

static const struct mem *mem_of_const(const struct log *log)
{
    return (const struct mem *)(const void *)log;
}

static int mem_start(struct log *log)
{
    log_post_role(log, LOG_ROLE_LEADER, TERM);
    log_post_started(log, 0, "");
    return 0;
}

static int append(struct mem *m, struct slice entry, uint64_t token, bool marker)
{
    struct pending *p = malloc(sizeof(*p) + entry.len);

    if (p == NULL)
        return ERR_NOMEM;
    p->token = token;
    p->marker = marker;
    p->len = entry.len;
    p->bytes = (uint8_t *)(p + 1);
    memcpy(p->bytes, entry.ptr, entry.len);
    p->next = &m->list;
    p->prev = m->list.prev;
    p->prev->next = p;
    m->list.prev = p;
    m->count++;
    return 0;
}

static void drop(struct mem *m, struct pending *p)
{
    p->prev->next = p->next;
    p->next->prev = p->prev;
    m->count--;
    free(p);
}

static int mem_propose(struct log *log, struct slice entry, uint64_t token)
{
    return append(mem_of(log), entry, token, false);
}

static int mem_snapshot(struct log *log, const struct log_descriptor *d, struct slice marker)
{
    struct mem *m = mem_of(log);
    int rc;

    (void)d;
    if (m->taking)
        return ERR_AGAIN;
    rc = append(m, marker, 0, true);
    m->taking = rc == 0;
    return rc;
}

static void ask_for_snapshot(struct mem *m)
{
    struct log *log = &m->log;

    if (m->asked || m->taking)
        return;
    m->asked = m->stats.bytes_since_snapshot >= log->snapshot_bytes ||
               m->stats.groups_since_snapshot >= log->snapshot_groups;
    if (m->asked)
        log_post_need_snapshot(log);
}

static void commit_one(struct mem *m, struct pending *p)
{
    log_post_committed(&m->log, ++m->index, TERM, slice_of(p->bytes, p->len), true);
    m->stats.bytes_since_snapshot += p->len;
    m->stats.groups_since_snapshot++;
    if (p->marker) {
        m->taking = m->asked = false;
        m->stats.snapshots++;
        m->stats.snapshot_index = m->index;
        m->stats.bytes_since_snapshot = m->stats.groups_since_snapshot = 0;
    }
    drop(m, p);
    ask_for_snapshot(m);
}

static void fail_one(struct mem *m, struct pending *p, int err)
{
    if (p->marker) {
        m->taking = m->asked = false;
        m->stats.snapshot_failures++;
        log_post_marker_failed(&m->log);
    } else {
        log_post_failed(&m->log, p->token, err);
    }
    drop(m, p);
}

size_t log_mem_pending(const struct log *log)
{
    ASSERT(log->kind == LOG_MEM);
    return mem_of_const(log)->count;
}

void log_mem_commit(struct log *log, size_t count)
{
    struct mem *m = mem_of(log);

    ASSERT(log->kind == LOG_MEM && count <= m->count);
    for (; count > 0; count--)
        commit_one(m, m->list.next);
}

void log_mem_fail(struct log *log, size_t count, int err)
{
    struct mem *m = mem_of(log);

    ASSERT(log->kind == LOG_MEM && count <= m->count && err < 0);
    for (; count > 0; count--)
        fail_one(m, m->list.prev, err);
}

static void mem_stats(const struct log *log, struct log_stats *out)
{
    const struct mem *m = mem_of_const(log);

    *out = m->stats;
    out->role = log->phase == LOG_RUNNING ? LOG_ROLE_LEADER : LOG_ROLE_STARTING;
    if (log->phase == LOG_STOPPED)
        out->role = LOG_ROLE_STOPPED;
    out->term = TERM;
    out->last_index = m->index + m->count;
    out->commit_index = out->applied_index = m->index;
}

static void mem_stop(struct log *log)
{
    struct mem *m = mem_of(log);

    while (m->count > 0)
        fail_one(m, m->list.next, ERR_UNKNOWN);
    log_post_stopped(log, TERM);
}

static void mem_free(struct log *log)
{
    ASSERT(mem_of(log)->count == 0);
    free(mem_of(log));
}

static const struct log_ops mem_ops = {.start = mem_start,
                                       .propose = mem_propose,
                                       .snapshot = mem_snapshot,
                                       .stats = mem_stats,
                                       .stop = mem_stop,
                                       .free = mem_free};

int log_mem_open(const struct log_config *config, struct log **out)
{
    struct mem *m = calloc(1, sizeof(*m));

    if (m == NULL)
        return ERR_NOMEM;
    log_init(&m->log, &mem_ops, config);
    m->list.next = m->list.prev = &m->list;
    m->index = config->must_have > config->base ? config->must_have : config->base;
    *out = &m->log;
    return 0;
}
