/* SPDX-License-Identifier: MIT */
/* libraft's view of our state machine: it has none. Applying an entry copies it into the loop's
 * inbox; the loop applies it to the store.
 *
 * Apply. The raft thread may wait for the loop (LOG_UNTAKEN_MAX), the loop never for it. During a
 * stop nothing waits, so log_stop cannot deadlock: what replay still brings is then dropped, and
 * an entry of the running log is delivered without counting. The entry's index is
 * raft_last_applied()+1, which the trailer must confirm: if not, a segment is missing, and
 * nothing more is delivered.
 *
 * Snapshot. The loop finishes all it has in flight, checkpoints through N and hands us the
 * descriptor {applied N} and a marker entry. When the marker (N+1) is applied the threshold goes
 * to 1, so libraft takes a snapshot at its next event: the next submission or the next tick. It
 * is taken at the index last applied, which is still the marker's, because raft.c submits one
 * entry at a time. So the descriptor is exact: between N and the snapshot lies only the marker,
 * whose content is a time stamp. Then the threshold is UINT_MAX again. The raft thread never waits
 * for a checkpoint, and there is no window in which the descriptor could be behind the snapshot.
 * A snapshot at any other index would lose what lies between at the next start: it is refused. So
 * is one whose marker is not N+1: an entry whose outcome was told as unknown came before it.
 *
 * A snapshot that libraft took and never finalizes (a file system without O_TMPFILE, a full disk:
 * it retries for ever and says nothing) counts as a failure after SNAP_LATE_MS and is logged. When
 * it is finalized we look for the file itself: libraft also calls finalize on its way out of an
 * error. After a failure the loop is asked again after SNAP_RETRY_MS.
 *
 * Restore happens only inside raft_start. The loop decides whether its index agrees; a refusal or
 * a bad descriptor makes raft_start fail, with the reason in detail.
 */
#include <dirent.h>
#include <limits.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/logger.h"
#include "log/raft_int.h"

enum { SNAP_LATE_MS = 10000, SNAP_RETRY_MS = 30000 };

static struct raft_log *log_of(struct raft_fsm *fsm)
{
    return fsm->data;
}

/* ---- apply ------------------------------------------------------------------------------ */

/* Waits for room; false = stopping, drop what replay brings. */
static bool reserve(struct raft_log *l, size_t len)
{
    bool go;

    pthread_mutex_lock(&l->lock);
    while (!l->stopping && l->untaken > 0 && l->untaken + len > LOG_UNTAKEN_MAX)
        pthread_cond_wait(&l->room, &l->lock);
    go = l->started || !l->stopping;
    if (go)
        l->untaken += len;
    pthread_mutex_unlock(&l->lock);
    return go;
}

static void finish(struct raft_log *l)
{
    l->snap.state = SNAP_IDLE;
    l->snap.asked = false;
    raft_set_snapshot_threshold(&l->raft, UINT_MAX);
    pthread_mutex_lock(&l->lock);
    l->snapshot_busy = false;
    pthread_mutex_unlock(&l->lock);
}

static void fail(struct raft_log *l, const char *why)
{
    if (!l->snap.alarmed)
        l->snapshot_failures++;
    l->snap.retry_ms = uv_now(&l->loop) + SNAP_RETRY_MS;
    LOG_WARNING("log: snapshot failed, the log keeps growing: why=\"%s\" index=%llu dir=%s", why,
                l->snap.index + (raft_index)l->log.base, l->dir);
    finish(l);
}

static void arm(struct raft_log *l, const struct proposal *marker, raft_index index)
{
    ASSERT(l->snap.state == SNAP_ASKED);
    l->snap.state = SNAP_ARMED;
    l->snap.index = index;
    l->snap.d = marker->d;
    l->snap.since_ms = uv_now(&l->loop);
    l->snap.alarmed = false;
    l->snap.bytes = l->bytes_since;
    l->snap.groups = l->groups_since;
    raft_set_snapshot_threshold(&l->raft, 1);
}

static int misplaced(struct raft_log *l, raft_index index)
{
    l->discard = true;
    l->replay_err = ERR_CORRUPT;
    snprintf(l->detail, sizeof(l->detail),
             "%s: the entry at index %llu belongs elsewhere: a segment is missing or not this "
             "log's; repair: sldmkv-check --salvage",
             l->dir, index);
    return 0;
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct raft_log *l = log_of(fsm);
    raft_index index = raft_last_applied(&l->raft) + 1;
    const uint8_t *trailer = (const uint8_t *)buf->base + buf->len - RAFT_TRAILER;
    bool own = l->inflight != NULL && l->inflight->req.index == index;
    size_t len = buf->len - RAFT_TRAILER;

    *result = NULL;
    if (l->discard)
        return 0;
    if (buf->len < RAFT_TRAILER + 8 || codec_get64(trailer) != index)
        return misplaced(l, index);
    (void)FAIL("log.appended");
    if (!reserve(l, len)) {
        l->discard = true;
        return 0;
    }
    l->applied = index;
    l->bytes_since += buf->len;
    l->groups_since++;
    raft_publish(l);
    log_post_committed(&l->log, index + l->log.base, codec_get64(trailer + 8),
                       slice_of(buf->base, len), own);
    if (own && l->inflight->marker) {
        if (index + (raft_index)l->log.base == l->inflight->d.applied + 1)
            arm(l, l->inflight, index);
        else
            fail(l, "an entry came between it and what is durable");
    }
    return 0;
}

/* ---- snapshot --------------------------------------------------------------------------- */

void raft_fsm_marker_failed(struct raft_log *l)
{
    if (l->closing)
        finish(l);
    else
        fail(l, "its marker entry was not taken");
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct raft_log *l = log_of(fsm);
    struct raft_buffer *b;

    if (l->snap.state != SNAP_ARMED || raft_last_applied(&l->raft) != l->snap.index) {
        raft_set_snapshot_threshold(&l->raft, UINT_MAX);
        if (l->snap.state == SNAP_ARMED)
            fail(l, "libraft came at another index");
        return RAFT_BUSY;
    }
    b = raft_malloc(sizeof(*b));
    if (b == NULL)
        PANIC("log: no memory for a snapshot");
    b->len = LOG_DESCRIPTOR_SIZE;
    b->base = raft_malloc(b->len);
    if (b->base == NULL)
        PANIC("log: no memory for a snapshot");
    log_descriptor_encode(&l->snap.d, b->base);
    *bufs = b;
    *n_bufs = 1;
    l->snap.state = SNAP_TAKEN;
    l->snap.since_ms = uv_now(&l->loop);
    raft_set_snapshot_threshold(&l->raft, UINT_MAX);
    return 0;
}

/* True when the data file of the snapshot at `index` has its name. */
static bool snapshot_exists(const char *dir, raft_index index)
{
    DIR *d = opendir(dir);
    bool found = false;

    if (d == NULL)
        return false;
    for (struct dirent *e = readdir(d); e != NULL && !found; e = readdir(d)) {
        unsigned long long term, at, stamp;
        int end = 0;

        found = sscanf(e->d_name, "snapshot-%llu-%llu-%llu%n", &term, &at, &stamp, &end) == 3 &&
                e->d_name[end] == '\0' && at == index;
    }
    closedir(d);
    return found;
}

static int fsm_finalize(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct raft_log *l = log_of(fsm);

    (void)FAIL("snap.taken");
    if (*bufs != NULL) {
        raft_free((*bufs)[0].base);
        raft_free(*bufs);
    }
    *bufs = NULL;
    *n_bufs = 0;
    if (l->snap.state != SNAP_TAKEN)
        return 0;
    if (!snapshot_exists(l->dir, l->snap.index)) {
        if (l->closing)
            finish(l);
        else
            fail(l, raft_said(l));
        return 0;
    }
    l->snapshots++;
    l->snapshot_index = l->snap.index;
    l->bytes_since -= l->snap.bytes;
    l->groups_since -= l->snap.groups;
    l->disk_ms = 0; /* count again: segments went */
    LOG_VERBOSE("log: snapshot taken index=%llu applied=%llu ms=%llu",
                l->snap.index + (raft_index)l->log.base, (unsigned long long)l->snap.d.applied,
                (unsigned long long)(uv_now(&l->loop) - l->snap.since_ms));
    finish(l);
    return 0;
}

void raft_fsm_watch(struct raft_log *l)
{
    struct raft_snap *s = &l->snap;

    if ((s->state != SNAP_ARMED && s->state != SNAP_TAKEN) ||
        uv_now(&l->loop) < s->since_ms + SNAP_LATE_MS)
        return;
    if (s->state == SNAP_ARMED) {
        fail(l, "libraft did not take it");
    } else if (!s->alarmed) {
        s->alarmed = true;
        l->snapshot_failures++;
        LOG_WARNING("log: a snapshot is not getting written, the log grows: is the disk full? "
                    "index=%llu dir=%s why=\"%s\"",
                    s->index + (raft_index)l->log.base, l->dir, raft_said(l));
    }
}

void raft_fsm_ask(struct raft_log *l)
{
    struct raft_snap *s = &l->snap;

    if (!l->started || l->closing || s->asked || s->state != SNAP_IDLE ||
        uv_now(&l->loop) < s->retry_ms)
        return;
    s->asked = l->bytes_since >= l->log.snapshot_bytes || l->groups_since >= l->log.snapshot_groups;
    if (s->asked)
        log_post_need_snapshot(&l->log);
}

/* ---- restore ---------------------------------------------------------------------------- */

static void answer_restore(struct msg *m) /* on the loop */
{
    struct raft_log *l =
        (struct raft_log *)(void *)((char *)m - offsetof(struct raft_log, restore));
    const struct log_callbacks *cb = &l->log.cb;
    bool accepted = l->log.phase == LOG_STARTING;

    if (accepted && cb->on_restored != NULL)
        accepted = cb->on_restored(cb->ctx, &l->restore.d);
    pthread_mutex_lock(&l->lock);
    l->restore_answered = true;
    l->restore_accepted = accepted;
    pthread_cond_signal(&l->room);
    pthread_mutex_unlock(&l->lock);
}

static bool ask_loop(struct raft_log *l, const struct log_descriptor *d)
{
    bool accepted;

    l->restore.d = *d;
    l->restore.msg.run = answer_restore;
    inbox_send(l->log.inbox, &l->restore.msg);
    pthread_mutex_lock(&l->lock);
    while (!l->restore_answered && !l->stopping)
        pthread_cond_wait(&l->room, &l->lock);
    accepted = l->restore_answered && l->restore_accepted;
    pthread_mutex_unlock(&l->lock);
    return accepted;
}

/* On success the buffer is ours; on failure libraft frees it. */
static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct raft_log *l = log_of(fsm);
    struct log_descriptor d;
    int rc = log_descriptor_decode(slice_of(buf->base, buf->len), &d);

    if (l->started)
        PANIC("log: a snapshot was installed into a running node");
    if (rc != 0) {
        l->replay_err = rc;
        snprintf(l->detail, sizeof(l->detail), "%s: the snapshot's descriptor: %s", l->dir,
                 err_text(rc));
        return RAFT_CORRUPT;
    }
    if (!ask_loop(l, &d)) {
        l->replay_err = ERR_CORRUPT;
        snprintf(l->detail, sizeof(l->detail),
                 "%s: the snapshot was taken at applied index %llu, which the store's index has "
                 "not reached: it is older than its log; repair: sldmkv-check --salvage",
                 l->dir, (unsigned long long)d.applied);
        return RAFT_CORRUPT;
    }
    raft_free(buf->base);
    return 0;
}

void raft_fsm_init(struct raft_log *l)
{
    l->fsm.version = 2;
    l->fsm.data = l;
    l->fsm.apply = fsm_apply;
    l->fsm.snapshot = fsm_snapshot;
    l->fsm.snapshot_finalize = fsm_finalize;
    l->fsm.restore = fsm_restore;
}
