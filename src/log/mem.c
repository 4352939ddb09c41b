/* SPDX-License-Identifier: MIT */
/* The log of tests: entries wait until the test commits or fails them.
 *
 * Pending entries form a list, oldest first. log_mem_commit takes from its head, as a commit index
 * that advances does; log_mem_fail takes from its tail, as a new leader that overwrites the end of
 * the log does; log_mem_doubt answers its head with "unknown" and leaves it there to be committed.
 * All go through the inbox, so a test sees the same order of callbacks as with raft. An index is
 * given when an entry commits: a failed one leaves no gap. Limits for on_need_snapshot count as in
 * raft, and a snapshot is taken when its marker commits.
 *
 * A log_medium is the disk of such a log. What commits is on it; log_mem_crash says how much of
 * what was pending is on it, too, and cuts the log off from it. The next log on the same medium
 * refuses an index ahead of it, restores the snapshot and replays what follows, entry by entry as
 * log_mem_commit says; then it has started. Each start takes a term and an index, as an election
 * does.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "log/log_int.h"

struct pending { /* and, once committed, kept on the medium */
    struct pending *next, *prev;
    uint64_t token, index, term;
    bool marker, answered;   /* answered: with on_failed, it may still commit */
    struct log_descriptor d; /* marker */
    size_t len;
    uint8_t *bytes; /* behind the struct, in the same allocation */
};

struct log_medium {
    struct pending list; /* committed, behind the snapshot; ring as below */
    size_t count;
    uint64_t index, term; /* the last ones used */
    bool has_snapshot;
    struct log_descriptor snapshot;
    uint64_t snapshot_index;
};

struct mem {
    struct log log;            /* first; everything here is owned by the loop */
    struct log_medium *medium; /* NULL: what commits is kept nowhere */
    struct pending *replay;    /* the next to be replayed; NULL: started, or stopped before */
    size_t replays;            /* from it on */
    struct pending list;       /* ring: next = oldest, prev = newest */
    size_t count;
    uint64_t index, term;
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

/* ---- lists ------------------------------------------------------------------------------ */

static void link_last(struct pending *list, struct pending *p)
{
    p->next = list;
    p->prev = list->prev;
    p->prev->next = p;
    list->prev = p;
}

static void unlink_one(struct pending *p)
{
    p->prev->next = p->next;
    p->next->prev = p->prev;
}

struct log_medium *log_medium_new(void)
{
    struct log_medium *d = calloc(1, sizeof(*d));

    if (d == NULL)
        PANIC("out of memory for a log");
    d->list.next = d->list.prev = &d->list;
    return d;
}

static void medium_forget(struct log_medium *d, uint64_t index)
{
    while (d->list.next != &d->list && d->list.next->index <= index) {
        struct pending *p = d->list.next;

        unlink_one(p);
        d->count--;
        free(p);
    }
}

void log_medium_free(struct log_medium *d)
{
    if (d == NULL)
        return;
    medium_forget(d, UINT64_MAX);
    free(d);
}

/* Takes p, which has its index. */
static void keep(struct mem *m, struct pending *p)
{
    struct log_medium *d = m->medium;

    if (d == NULL) {
        free(p);
        return;
    }
    d->index = p->index;
    link_last(&d->list, p);
    d->count++;
    if (!p->marker)
        return;
    d->has_snapshot = true;
    d->snapshot = p->d;
    d->snapshot_index = p->index;
    medium_forget(d, p->index);
}

/* ---- start ------------------------------------------------------------------------------ */

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

static void started(struct mem *m)
{
    m->replay = NULL;
    if (m->medium != NULL) {
        m->medium->index = ++m->index;
        m->medium->term = m->term;
    }
    log_post_role(&m->log, LOG_ROLE_LEADER, m->term);
    log_post_started(&m->log, 0, "");
    ask_for_snapshot(m);
}

static void replay_one(struct mem *m)
{
    struct pending *p = m->replay;

    log_post_committed(&m->log, p->index, p->term, slice_of(p->bytes, p->len), false);
    m->stats.bytes_since_snapshot += p->len;
    m->stats.groups_since_snapshot++;
    m->replay = p->next;
    if (--m->replays == 0)
        started(m);
}

static int mem_start(struct log *log)
{
    struct mem *m = mem_of(log);
    struct log_medium *d = m->medium;

    if (d != NULL && d->has_snapshot && log->cb.on_restored != NULL &&
        !log->cb.on_restored(log->cb.ctx, &d->snapshot)) {
        log_post_started(log, ERR_CORRUPT, "the snapshot is ahead of the store");
        log_post_stopped(log, m->term);
        return 0;
    }
    if (d != NULL)
        m->stats.snapshot_index = d->snapshot_index;
    if (d == NULL || d->count == 0)
        started(m);
    else
        m->replay = d->list.next;
    m->replays = d != NULL ? d->count : 0;
    return 0;
}

/* ---- service ---------------------------------------------------------------------------- */

static struct pending *append(struct mem *m, struct slice entry, uint64_t token)
{
    struct pending *p = calloc(1, sizeof(*p) + entry.len);

    if (p == NULL)
        return NULL;
    p->token = token;
    p->len = entry.len;
    p->bytes = (uint8_t *)(p + 1);
    memcpy(p->bytes, entry.ptr, entry.len);
    link_last(&m->list, p);
    m->count++;
    return p;
}

static struct pending *take(struct mem *m, struct pending *p)
{
    unlink_one(p);
    m->count--;
    return p;
}

static int mem_propose(struct log *log, struct slice entry, uint64_t token)
{
    return append(mem_of(log), entry, token) != NULL ? 0 : ERR_NOMEM;
}

static int mem_snapshot(struct log *log, const struct log_descriptor *d, struct slice marker)
{
    struct mem *m = mem_of(log);
    struct pending *p;

    if (m->taking)
        return ERR_AGAIN;
    p = append(m, marker, 0);
    if (p == NULL)
        return ERR_NOMEM;
    p->marker = true;
    p->d = *d;
    m->taking = true;
    return 0;
}

static void commit_one(struct mem *m, struct pending *p)
{
    take(m, p);
    p->index = ++m->index;
    p->term = m->term;
    log_post_committed(&m->log, p->index, p->term, slice_of(p->bytes, p->len), !p->answered);
    m->stats.bytes_since_snapshot += p->len;
    m->stats.groups_since_snapshot++;
    if (p->marker && p->index != p->d.applied + 1) { /* something came between: not covered */
        p->marker = m->taking = m->asked = false;
        m->stats.snapshot_failures++;
    }
    if (p->marker) {
        m->taking = m->asked = false;
        m->stats.snapshots++;
        m->stats.snapshot_index = m->index;
        m->stats.bytes_since_snapshot = m->stats.groups_since_snapshot = 0;
    }
    keep(m, p);
    ask_for_snapshot(m);
}

static void fail_one(struct mem *m, struct pending *p, int err)
{
    if (p->marker) {
        m->taking = m->asked = false;
        m->stats.snapshot_failures++;
        log_post_marker_failed(&m->log);
    } else if (!p->answered) {
        log_post_failed(&m->log, p->token, err);
    }
    free(take(m, p));
}

size_t log_mem_pending(const struct log *log)
{
    const struct mem *m = mem_of_const(log);

    ASSERT(log->kind == LOG_MEM);
    return m->replay != NULL ? m->replays : m->count;
}

void log_mem_commit(struct log *log, size_t count)
{
    struct mem *m = mem_of(log);

    ASSERT(log->kind == LOG_MEM && count <= log_mem_pending(log));
    for (; count > 0; count--) {
        if (m->replay != NULL)
            replay_one(m);
        else
            commit_one(m, m->list.next);
    }
}

void log_mem_fail(struct log *log, size_t count, int err)
{
    struct mem *m = mem_of(log);

    ASSERT(log->kind == LOG_MEM && count <= m->count && err < 0);
    for (; count > 0; count--)
        fail_one(m, m->list.prev, err);
}

/* A marker is never in doubt: it is taken, or the process is gone. */
void log_mem_doubt(struct log *log, size_t count)
{
    struct mem *m = mem_of(log);
    struct pending *p = m->list.next;

    ASSERT(log->kind == LOG_MEM && count <= m->count);
    for (; count > 0; count--, p = p->next) {
        if (p->marker || p->answered)
            continue;
        p->answered = true;
        log_post_failed(log, p->token, ERR_UNKNOWN);
    }
}

void log_mem_crash(struct log *log, size_t count)
{
    struct mem *m = mem_of(log);

    ASSERT(log->kind == LOG_MEM && m->medium != NULL && count <= m->count);
    for (; count > 0; count--) {
        struct pending *p = take(m, m->list.next);

        p->index = ++m->index;
        p->term = m->term;
        keep(m, p);
    }
    m->medium = NULL;
    m->replay = NULL;
}

static void mem_stats(const struct log *log, struct log_stats *out)
{
    const struct mem *m = mem_of_const(log);

    *out = m->stats;
    out->role = log->phase == LOG_RUNNING ? LOG_ROLE_LEADER : LOG_ROLE_STARTING;
    if (log->phase == LOG_STOPPED)
        out->role = LOG_ROLE_STOPPED;
    out->term = m->term;
    out->last_index = m->index + m->count;
    out->commit_index = out->applied_index = m->index;
}

static void mem_stop(struct log *log)
{
    struct mem *m = mem_of(log);

    m->replay = NULL;
    while (m->count > 0)
        fail_one(m, m->list.next, ERR_UNKNOWN);
    log_post_stopped(log, m->term);
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

static uint64_t last_index(const struct log_config *config)
{
    uint64_t last = config->must_have > config->base ? config->must_have : config->base;

    if (config->medium != NULL && config->medium->index > config->base)
        return config->medium->index;
    return config->medium != NULL ? config->base : last;
}

int log_mem_open(const struct log_config *config, struct log **out, char *detail)
{
    struct mem *m;

    if (last_index(config) < config->must_have) {
        snprintf(detail, LOG_DETAIL_MAX, "the log ends at index %llu, the store has applied %llu",
                 (unsigned long long)last_index(config), (unsigned long long)config->must_have);
        return ERR_CORRUPT;
    }
    m = calloc(1, sizeof(*m));
    if (m == NULL)
        return ERR_NOMEM;
    log_init(&m->log, &mem_ops, config);
    m->list.next = m->list.prev = &m->list;
    m->medium = config->medium;
    m->index = last_index(config);
    m->term = config->medium != NULL ? config->medium->term + 1 : 1;
    *out = &m->log;
    return 0;
}
