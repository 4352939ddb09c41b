/* SPDX-License-Identifier: MIT */
/* The raft back end: a thread of its own that runs libuv and libraft, and the queues between it
 * and the loop.
 *
 * Start. log_open checks the files (check.c) and the file system, log_start makes the thread.
 * There raft_start reads the log and, with one voter, replays all of it through fsm_apply before
 * it returns; the loop drains meanwhile. Then on_role, on_started, and on_need_snapshot when
 * replay found a long log. A start that fails ends the thread by itself: on_started(err), then
 * the last note.
 *
 * Propose. The loop allocates the entry with its trailer, queues it under the lock and wakes the
 * thread. pump() hands libraft one entry at a time, the next when nothing is uncommitted. libraft
 * would write several waiting entries as one write of several batches; with one batch per write a
 * torn write leaves no valid batch behind an invalid one, and that is what lets log_check tell a
 * torn tail from damage. It costs nothing: libraft encodes a waiting entry only when the write
 * before it is done. The loop groups commands, and its second group waits here meanwhile.
 *
 * Outcome. Success is fsm_apply's note; the raft_apply callback only frees the request, or fails
 * it. A status from libraft means the outcome is unknown; only NOTLEADER and NOSPACE returned by
 * raft_apply itself mean that it was not taken, and only then the buffer is still ours.
 *
 * Disk errors. A segment that cannot be made is tried again by libraft for ever; an entry under way
 * longer than STALL_MS is said in the log once per STALL_REPEAT_MS, with libraft's last message,
 * and from then on what libraft has not got is refused. What it has got may be written at any time,
 * so whoever waits for that goes on waiting. A write that fails would be tried again, too, but
 * 0.22.1 does that on the wrong timer and dies in it (SIGSEGV a disk_retry later): only its message
 * tells us in time, and the process ends with that. A write that cannot even begin (no descriptor
 * for it) is refused and yet stays in libraft's own list, never written and in the way of all that
 * follows: the process ends, and a restart continues from the files. Two more are known from
 * libraft's trace alone. A full segment that cannot be cut and renamed is passed over, and the next
 * one would get its final name: a gap that no start accepts, so the process ends before. A segment
 * made but not synced into the folder stays, in the way of every further attempt to make it: it is
 * removed before the next one.
 *
 * Stop. The flag `stopping` also ends every wait of the raft thread. raft_close cancels what is
 * under way (ERR_UNKNOWN); when libraft is done our handles close, uv_run returns, the last note
 * goes out, log_close joins.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/logger.h"
#include "log/raft_int.h"

enum {
    ELECTION_MS = 600,
    HEARTBEAT_MS = 60,
    MAX_INFLIGHT = 256,
    TRAILING = 64,
    STALL_MS = 5000,
    STALL_REPEAT_MS = 10000,
    DISK_EVERY_MS = 5000,
    SECOND_MS = 1000
};

static void pump(struct raft_log *l);

/* ---- loop side: queue ------------------------------------------------------------------- */

static struct proposal *proposal_new(struct raft_log *l, struct slice entry)
{
    struct proposal *p = calloc(1, sizeof(*p));

    if (p == NULL)
        return NULL;
    p->buf.len = entry.len + RAFT_TRAILER;
    p->buf.base = raft_malloc(p->buf.len);
    if (p->buf.base == NULL) {
        free(p);
        return NULL;
    }
    memcpy(p->buf.base, entry.ptr, entry.len);
    p->log = l;
    return p;
}

static void proposal_free(struct proposal *p)
{
    if (p->buf.base != NULL)
        raft_free(p->buf.base);
    free(p);
}

/* Before libuv 1.53 uv_async_send is no fence by itself: the lock is. */
static void wake_locked(struct raft_log *l)
{
    if (l->wake_open)
        uv_async_send(&l->wake);
}

static void enqueue(struct raft_log *l, struct proposal *p)
{
    pthread_mutex_lock(&l->lock);
    *l->queue_tail = p;
    l->queue_tail = &p->next;
    wake_locked(l);
    pthread_mutex_unlock(&l->lock);
}

static int raft_back_propose(struct log *log, struct slice entry, uint64_t token)
{
    struct proposal *p = proposal_new(raft_log_of(log), entry);

    if (p == NULL)
        return ERR_NOMEM;
    p->token = token;
    enqueue(p->log, p);
    return 0;
}

static int raft_back_snapshot(struct log *log, const struct log_descriptor *d, struct slice marker)
{
    struct raft_log *l = raft_log_of(log);
    struct proposal *p;
    bool busy;

    pthread_mutex_lock(&l->lock);
    busy = l->snapshot_busy;
    pthread_mutex_unlock(&l->lock);
    if (busy)
        return ERR_AGAIN;
    p = proposal_new(l, marker);
    if (p == NULL)
        return ERR_NOMEM;
    p->marker = true;
    p->d = *d;
    pthread_mutex_lock(&l->lock);
    l->snapshot_busy = true; /* only this thread sets it */
    pthread_mutex_unlock(&l->lock);
    enqueue(l, p);
    return 0;
}

static void raft_back_taken(struct log *log, size_t len)
{
    struct raft_log *l = raft_log_of(log);

    pthread_mutex_lock(&l->lock);
    ASSERT(l->untaken >= len);
    l->untaken -= len;
    pthread_cond_signal(&l->room);
    pthread_mutex_unlock(&l->lock);
}

static void raft_back_stats(const struct log *log, struct log_stats *out)
{
    /* The lock is not part of what const promises. */
    struct raft_log *l = (struct raft_log *)(uintptr_t)log;

    pthread_mutex_lock(&l->lock);
    *out = l->stats;
    out->untaken_bytes = l->untaken;
    pthread_mutex_unlock(&l->lock);
}

/* ---- raft thread: proposals ------------------------------------------------------------- */

static void settle(struct proposal *p, int err)
{
    struct raft_log *l = p->log;

    if (err != 0 && p->marker) {
        raft_fsm_marker_failed(l);
        log_post_marker_failed(&l->log);
    } else if (err != 0) {
        log_post_failed(&l->log, p->token, err);
    }
    proposal_free(p);
}

static void on_applied(struct raft_apply *req, int status, void *result)
{
    struct proposal *p = (struct proposal *)(void *)req;
    struct raft_log *l = p->log;

    (void)result;
    ASSERT(l->inflight == p);
    l->inflight = NULL;
    if (l->stalled && status == 0)
        LOG_NOTICE("log: writing again after %llu ms",
                   (unsigned long long)(uv_now(&l->loop) - p->submitted_ms));
    l->stalled = false;
    settle(p, status == 0 ? 0 : ERR_UNKNOWN);
    if (status == 0)
        pump(l);
}

/* What raft_apply refused: with other codes libraft may have freed the buffer already. */
static void refused(struct proposal *p, int rv, raft_index last)
{
    struct raft_log *l = p->log;
    int err = ERR_UNKNOWN;

    if (raft_last_index(&l->raft) != last)
        PANIC("log: %s cannot be written: %s; restart, the log has everything", l->dir,
              raft_errmsg(&l->raft));

    l->inflight = NULL;
    if (rv == RAFT_NOTLEADER)
        err = ERR_NOTLEADER;
    else if (rv == RAFT_NOSPACE)
        err = ERR_NOSPC;
    else
        p->buf.base = NULL;
    LOG_WARNING("log: libraft refused an entry: code=%d text=\"%s\"", rv, raft_errmsg(&l->raft));
    settle(p, err);
}

static void submit(struct raft_log *l, struct proposal *p)
{
    uint8_t *trailer = (uint8_t *)p->buf.base + p->buf.len - RAFT_TRAILER;
    struct raft_buffer bufs[1] = {p->buf};
    raft_index last = raft_last_index(&l->raft);
    int rv;

    rv = FAIL("group.proposed");
    if (rv != 0) {
        settle(p, rv == ENOSPC ? ERR_NOSPC : ERR_NOTLEADER);
        return;
    }
    codec_put64(trailer, last + 1);
    codec_put64(trailer + 8, raft_current_term(&l->raft));
    p->submitted_ms = uv_now(&l->loop);
    if (p->marker) {
        ASSERT(l->snap.state == SNAP_IDLE);
        l->snap.state = SNAP_ASKED;
    }
    l->inflight = p;
    rv = raft_apply(&l->raft, &p->req, bufs, 1, on_applied);
    if (rv != 0)
        refused(p, rv, last);
    else
        p->buf.base = NULL;
}

static void take_queue(struct raft_log *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->queue != NULL) {
        *l->todo_tail = l->queue;
        l->todo_tail = l->queue_tail;
        l->queue = NULL;
        l->queue_tail = &l->queue;
    }
    pthread_mutex_unlock(&l->lock);
}

static struct proposal *next_todo(struct raft_log *l)
{
    struct proposal *p = l->todo;

    if (p == NULL)
        return NULL;
    l->todo = p->next;
    if (l->todo == NULL)
        l->todo_tail = &l->todo;
    p->next = NULL;
    return p;
}

/* One entry under way, ours or libraft's own (it writes a barrier after an election). */
static bool may_submit(struct raft_log *l)
{
    return l->started && !l->closing && l->inflight == NULL &&
           (raft_state(&l->raft) != RAFT_LEADER ||
            raft_commit_index(&l->raft) == raft_last_index(&l->raft));
}

/* libraft does not always say it. */
static bool disk_is_full(const struct raft_log *l)
{
    struct statvfs st;

    return strcasestr(raft_said(l), "space") != NULL ||
           (statvfs(l->dir, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize < l->segment_bytes);
}

/* An entry is under way and does not get done. */
static void refuse_waiting(struct raft_log *l)
{
    int err = disk_is_full(l) ? ERR_NOSPC : ERR_IO;

    for (struct proposal *p = next_todo(l); p != NULL; p = next_todo(l))
        settle(p, err);
}

static void pump(struct raft_log *l)
{
    take_queue(l);
    if (l->stalled)
        refuse_waiting(l);
    while (l->todo != NULL && may_submit(l))
        submit(l, next_todo(l));
}

/* ---- raft thread: turns ----------------------------------------------------------------- */

static void fail_waiting(struct raft_log *l)
{
    take_queue(l);
    for (struct proposal *p = next_todo(l); p != NULL; p = next_todo(l))
        settle(p, ERR_UNKNOWN);
}

static enum log_role role_of(struct raft_log *l)
{
    return raft_state(&l->raft) == RAFT_LEADER ? LOG_ROLE_LEADER : LOG_ROLE_FOLLOWER;
}

static void post_role(struct raft_log *l)
{
    enum log_role role = role_of(l);
    uint64_t term = raft_current_term(&l->raft);

    if (l->closing || (role == l->role && term == l->term))
        return;
    l->role = role;
    l->term = term;
    log_post_role(&l->log, role, term);
}

static uint64_t dir_bytes(const char *dir)
{
    DIR *d = opendir(dir);
    uint64_t sum = 0;
    struct stat st;

    if (d == NULL)
        return 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            sum += (uint64_t)st.st_blocks * 512;
    closedir(d);
    return sum;
}

/* fsm_apply publishes before its note goes out, so a loop that has an entry finds it counted. */
void raft_publish(struct raft_log *l)
{
    raft_index applied = raft_last_applied(&l->raft);
    struct log_stats s = {.role = l->role, .term = l->term};
    uint64_t base = l->log.base;

    s.last_index = raft_last_index(&l->raft) + base;
    s.commit_index = raft_commit_index(&l->raft) + base;
    s.applied_index = (applied > l->applied ? applied : l->applied) + base;
    s.snapshot_index = l->snapshot_index == 0 ? 0 : l->snapshot_index + base;
    s.bytes_since_snapshot = l->bytes_since;
    s.groups_since_snapshot = l->groups_since;
    s.snapshots = l->snapshots;
    s.snapshot_failures = l->snapshot_failures;
    s.disk_bytes = l->disk_bytes;
    pthread_mutex_lock(&l->lock);
    l->stats = s;
    pthread_mutex_unlock(&l->lock);
}

/* The words are those of libraft's writer alone; a snapshot that fails says other ones. A write is
 * begun in io_submit, by this thread or by one of libuv's: then there is no result to speak of. */
static bool write_failed(const char *said)
{
    return strncmp(said, "write failed", 12) == 0 || strstr(said, "io_submit: ") != NULL ||
           (strncmp(said, "short write", 11) == 0 && strstr(said, "instead of") != NULL);
}

/* Runs in the turn in which a write ended, ahead of any timer. */
static void on_turn(uv_check_t *handle)
{
    struct raft_log *l = handle->data;

    if (write_failed(l->io.errmsg))
        PANIC("log: a write to %s failed (%s): is the disk full or failing? What was acknowledged "
              "is in the files; restart when it is well",
              l->dir, l->io.errmsg);
    if (l->closing)
        return;
    post_role(l);
    pump(l);
    raft_fsm_ask(l);
    raft_publish(l);
}

/* libraft keeps its last message only for some calls. */
const char *raft_said(const struct raft_log *l)
{
    return l->io.errmsg[0] != '\0' ? l->io.errmsg : "libraft gave no reason";
}

static void on_second(uv_timer_t *handle)
{
    struct raft_log *l = handle->data;
    static uint64_t last_warned;
    uint64_t now = uv_now(&l->loop);

    if (l->closing)
        return;
    raft_fsm_watch(l);
    if (l->disk_ms == 0 || now >= l->disk_ms + DISK_EVERY_MS) {
        l->disk_bytes = dir_bytes(l->dir);
        l->disk_ms = now;
    }
    if (l->inflight == NULL || now < l->inflight->submitted_ms + STALL_MS)
        return;
    l->stalled = true;
    pump(l);
    if (logger_allow(&last_warned, STALL_REPEAT_MS))
        LOG_WARNING("log: a write is not getting done, writes wait: is the disk full or failing? "
                    "ms=%llu dir=%s why=\"%s\"",
                    (unsigned long long)(now - l->inflight->submitted_ms), l->dir, raft_said(l));
}

/* ---- raft thread: stop ------------------------------------------------------------------ */

static void close_handles(struct raft_log *l)
{
    pthread_mutex_lock(&l->lock);
    l->wake_open = false;
    pthread_mutex_unlock(&l->lock);
    uv_close((uv_handle_t *)&l->wake, NULL);
    uv_close((uv_handle_t *)&l->turn, NULL);
    uv_close((uv_handle_t *)&l->second, NULL);
}

static void on_closed(struct raft *r)
{
    close_handles(r->data);
}

static void begin_close(struct raft_log *l)
{
    if (l->closing)
        return;
    l->closing = true;
    fail_waiting(l);
    if (l->raft_open)
        raft_close(&l->raft, on_closed);
    else
        close_handles(l);
}

static void on_wake(uv_async_t *handle)
{
    struct raft_log *l = handle->data;
    bool stopping;

    pthread_mutex_lock(&l->lock);
    stopping = l->stopping;
    pthread_mutex_unlock(&l->lock);
    if (stopping)
        begin_close(l);
    else if (!l->closing)
        pump(l);
}

static void raft_back_stop(struct log *log)
{
    struct raft_log *l = raft_log_of(log);

    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_signal(&l->room);
    wake_locked(l);
    pthread_mutex_unlock(&l->lock);
}

/* ---- raft thread: start ----------------------------------------------------------------- */

static int failed(struct raft_log *l, const char *what, int rv, const char *text)
{
    if (l->replay_err != 0)
        return l->replay_err; /* detail says more than libraft knows */
    snprintf(l->detail, sizeof(l->detail), "%s: %s: %s (libraft code %d)", l->dir, what, text, rv);
    return rv == RAFT_NOMEM ? ERR_NOMEM : rv == RAFT_NOSPACE ? ERR_NOSPC : ERR_IO;
}

static int bootstrap(struct raft_log *l)
{
    struct raft_configuration conf;
    int rv;

    raft_configuration_init(&conf);
    rv = raft_configuration_add(&conf, l->node_id, l->address, RAFT_VOTER);
    if (rv == 0)
        rv = raft_bootstrap(&l->raft, &conf);
    raft_configuration_close(&conf);
    return rv == 0 ? 0 : failed(l, "bootstrap", rv, l->io.errmsg);
}

/* In any thread of libraft's; of the many messages two matter. */
static void on_trace(struct raft_tracer *tracer, int type, const void *info)
{
    static const char lost[] = "truncate segment ", retry[] = "retry creating segment ";
    const struct raft_log *l = tracer->impl;
    const char *said;
    char path[PATH_MAX];

    if (type != RAFT_TRACER_DIAGNOSTIC)
        return;
    said = ((const struct raft_tracer_info *)info)->diagnostic.message;
    if (strncmp(said, lost, sizeof(lost) - 1) == 0)
        PANIC("log: a full segment in %s cannot get its final name (%s): is the disk full or "
              "failing? What was acknowledged is in the files; restart when it is well",
              l->dir, said);
    if (strncmp(said, retry, sizeof(retry) - 1) != 0)
        return;
    snprintf(path, sizeof(path), "%s/%s", l->dir, said + sizeof(retry) - 1);
    (void)unlink(path);
}

static int set_up(struct raft_log *l)
{
    int rv;

    log_transport_none(&l->transport);
    raft_fsm_init(l);
    rv = raft_uv_init(&l->io, &l->loop, l->dir, &l->transport);
    if (rv != 0)
        return failed(l, "open the log", rv, l->io.errmsg);
    l->io_open = true;
    raft_uv_set_auto_recovery(&l->io, false);
    l->tracer = (struct raft_tracer){.impl = l, .version = 2, .emit = on_trace};
    raft_uv_set_tracer(&l->io, &l->tracer);
    raft_uv_set_segment_size(&l->io, l->segment_bytes);
    rv = raft_init(&l->raft, &l->io, &l->fsm, l->node_id, l->address);
    if (rv != 0)
        return failed(l, "open the log", rv, raft_errmsg(&l->raft));
    l->raft_open = true;
    l->raft.data = l;
    raft_set_election_timeout(&l->raft, ELECTION_MS);
    raft_set_heartbeat_timeout(&l->raft, HEARTBEAT_MS);
    raft_set_pre_vote(&l->raft, true);
    raft_set_max_inflight_entries(&l->raft, MAX_INFLIGHT);
    raft_set_snapshot_threshold(&l->raft, UINT_MAX);
    raft_set_snapshot_trailing(&l->raft, TRAILING);
    raft_set_capacity_threshold(&l->raft, 0); /* 16-bit KiB there: it wraps */
    return l->report.fresh ? bootstrap(l) : 0;
}

static int check_started(struct raft_log *l)
{
    uint64_t last = raft_last_index(&l->raft) + l->log.base;
    bool stopping;

    pthread_mutex_lock(&l->lock);
    stopping = l->stopping;
    pthread_mutex_unlock(&l->lock);
    if (l->replay_err != 0)
        return l->replay_err;
    if (stopping || l->discard)
        return ERR_CANCELED;
    if (last < l->must_have) {
        snprintf(l->detail, sizeof(l->detail),
                 "%s: the log ends at index %llu, the store has applied %llu: acknowledged "
                 "writes are missing; repair: sldmkv-check --salvage",
                 l->dir, (unsigned long long)last, (unsigned long long)l->must_have);
        return ERR_CORRUPT;
    }
    if (raft_state(&l->raft) != RAFT_LEADER) {
        snprintf(l->detail, sizeof(l->detail),
                 "%s: node %u is not the only voter in this log: it is another node's", l->dir,
                 (unsigned)l->node_id);
        return ERR_CORRUPT;
    }
    return 0;
}

static int bring_up(struct raft_log *l)
{
    int rc = set_up(l), rv;

    if (rc != 0)
        return rc;
    l->snapshot_index = l->report.snapshot_index;
    rv = raft_start(&l->raft);
    if (rv != 0)
        return failed(l, "start", rv, raft_errmsg(&l->raft));
    return check_started(l);
}

static void *thread_main(void *arg)
{
    struct raft_log *l = arg;
    int rc;

    pthread_setname_np(pthread_self(), "raft");
    rc = bring_up(l);
    if (rc == 0) {
        post_role(l);
        l->disk_bytes = dir_bytes(l->dir);
        l->disk_ms = uv_now(&l->loop);
        raft_publish(l);
    }
    log_post_started(&l->log, rc, l->detail);
    l->started = rc == 0;
    if (rc == 0)
        raft_fsm_ask(l);
    else
        begin_close(l);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    ASSERT(l->inflight == NULL && l->todo == NULL);
    if (l->io_open)
        raft_uv_close(&l->io);
    if (uv_loop_close(&l->loop) != 0)
        PANIC("log: libuv still has handles after raft_close");
    fail_waiting(l);
    pthread_mutex_lock(&l->lock);
    l->stats.role = LOG_ROLE_STOPPED;
    pthread_mutex_unlock(&l->lock);
    log_post_stopped(&l->log, l->term);
    return NULL;
}

static void open_handles(struct raft_log *l)
{
    uv_async_init(&l->loop, &l->wake, on_wake);
    uv_check_init(&l->loop, &l->turn);
    uv_timer_init(&l->loop, &l->second);
    l->wake.data = l->turn.data = l->second.data = l;
    uv_check_start(&l->turn, on_turn);
    uv_timer_start(&l->second, on_second, SECOND_MS, SECOND_MS);
    l->wake_open = true;
}

/* The handles are made here, so that log_stop finds something to wake from the first moment. */
static int raft_back_start(struct log *log)
{
    struct raft_log *l = raft_log_of(log);
    sigset_t all, old;
    int rc;

    if (uv_loop_init(&l->loop) != 0)
        return ERR_NOMEM;
    open_handles(l);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&l->thread, NULL, thread_main, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) {
        l->thread_made = true;
        return 0;
    }
    close_handles(l);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    uv_loop_close(&l->loop);
    return ERR_NOMEM;
}

static void raft_back_free(struct log *log)
{
    struct raft_log *l = raft_log_of(log);

    if (l->thread_made)
        pthread_join(l->thread, NULL);
    ASSERT(l->queue == NULL);
    pthread_cond_destroy(&l->room);
    pthread_mutex_destroy(&l->lock);
    free(l->dir);
    free(l);
}

const struct log_ops log_raft_ops = {.start = raft_back_start,
                                     .propose = raft_back_propose,
                                     .snapshot = raft_back_snapshot,
                                     .stats = raft_back_stats,
                                     .stop = raft_back_stop,
                                     .free = raft_back_free,
                                     .taken = raft_back_taken};
