/* SPDX-License-Identifier: MIT */
/* Happy path: requests wait in their lane in the order of submit; stage_pump gives the first ones
 * neighbouring slots in one volume, fills their header pages, and sends them to the write worker
 * as one job: one pwritev over header and payload of each, one fdatasync. When it is done they are
 * answered in order. No timer: what arrives while a job runs makes up the next one, which grows
 * until the worker begins it.
 *
 * Two lanes, writes and MOVEs: a write that waits for space must not stand in front of the MOVE
 * that makes it. Order is kept within a lane. STAGE_JOBS are under way over both lanes, so the
 * disk is never idle between a job and its successor; they execute one after another on the one
 * thread.
 *
 * Failure modes.
 *   A write or sync fails: the volume is FAILED, nothing of the job was acknowledged. A job
 *   behind it in the same volume fails unwritten (the worker remembers the volume), so a torn job
 *   is the last of its volume. The requests are written once more, to another volume; failing
 *   again is ERR_IO. Answers of later jobs wait for them: order holds.
 *   The write meets a full disk (only where fallocate could reserve nothing): ERR_NOSPC, no second
 *   attempt, the volume stays in service; its slots are dead space until it is recycled. A sync
 *   that says so is doubtful like any other sync error.
 *   No slot: the head of the lane waits while a volume is being formatted or need_space() says
 *   that eviction works on it, else it is answered ERR_FULL (or the error of the failed format).
 *
 *   request   entered by            leaves to
 *   QUEUED    stage_submit, retry   WRITING, DONE (no slot, canceled)
 *   WRITING   stage_pump            DONE, QUEUED
 *   DONE      job done              answered when all before it in the lane are
 */
#include "store/stage.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"

#define JOB_REQS IOV_MAX
#define TRIES_MAX 2

enum req_state { REQ_QUEUED = 1, REQ_WRITING, REQ_DONE };

struct lane {
    struct stage_req *head, **tail;
    bool answering;
    unsigned writing;       /* its jobs under way */
    struct write_job *last; /* the newest of them */
};

struct write_job {
    struct job job;
    struct stage *stage;
    bool busy;
    struct volume_io vio; /* under the pins of its slots */
    uint64_t offset, bytes;
    size_t count;
    struct stage_req *reqs[JOB_REQS];
    struct iovec iov[JOB_REQS];
    int err;
    bool doubtful; /* err leaves the volume in doubt */
};

struct stage {
    struct stage_config config;
    /* owned by the loop */
    struct lane lanes[2]; /* [moving] */
    struct write_job jobs[STAGE_JOBS];
    uint64_t seq;
    bool pumping;
    struct stage_stats stats;
    /* owned by the write worker: where its last failure was */
    struct {
        uint32_t number, generation;
    } failed;
};

struct stage *stage_new(const struct stage_config *c)
{
    struct stage *s = calloc(1, sizeof(*s));

    ASSERT(c->volumes != NULL && c->writer != NULL);
    ASSERT(c->need_space != NULL && c->tags != NULL && c->now_ms != NULL);
    if (s == NULL)
        PANIC("out of memory for the stage");
    s->config = *c;
    for (int i = 0; i < 2; i++)
        s->lanes[i].tail = &s->lanes[i].head;
    return s;
}

/* --- answers ------------------------------------------------------------------------------ */

/* done() may free the request and may submit, pump and release. */
static void answer(struct stage *s, struct lane *lane)
{
    if (lane->answering)
        return;
    lane->answering = true;
    while (lane->head != NULL && lane->head->state == REQ_DONE) {
        struct stage_req *r = lane->head;
        struct buf *buf = r->buf;

        lane->head = r->next;
        if (lane->head == NULL)
            lane->tail = &lane->head;
        s->stats.queued--;
        s->stats.queued_bytes -= r->digest->length;
        r->done(r);
        buf_unref(buf);
    }
    lane->answering = false;
}

static void finish(struct stage_req *r, int err)
{
    r->state = REQ_DONE;
    r->err = err;
}

/* --- worker ------------------------------------------------------------------------------- */

static int write_run(struct write_job *j)
{
    int err = err_from_errno(FAIL("slab.write"));

    if (err == 0)
        err = io_write_all(j->vio.io, j->vio.fd, j->iov, (int)j->count,
                           (off_t)(j->vio.base + j->offset));
    if (err != 0) {
        j->doubtful = err != ERR_NOSPC;
        return err;
    }
    /* After a failed sync the kernel may have dropped the pages: no second attempt can be
     * believed. */
    j->doubtful = true;
    if (j->vio.io->fdatasync(j->vio.io->ctx, j->vio.fd) != 0)
        return ERR_IO;
    return err_from_errno(FAIL("slab.synced"));
}

static void write_work(struct job *job)
{
    struct write_job *j = (struct write_job *)(void *)job;
    struct stage *s = j->stage;

    j->doubtful = true;
    if (s->failed.number == j->vio.number && s->failed.generation == j->vio.generation) {
        j->err = ERR_IO;
        return;
    }
    j->err = write_run(j);
    if (j->err != 0 && j->doubtful) {
        s->failed.number = j->vio.number;
        s->failed.generation = j->vio.generation;
    }
}

/* --- jobs --------------------------------------------------------------------------------- */

static void settle(struct stage *s, struct write_job *j, struct stage_req *r)
{
    if (j->err == 0) {
        finish(r, 0); /* its pin is the caller's now */
        return;
    }
    volumes_release(s->config.volumes, r->place.volume);
    if (j->doubtful && r->tries < TRIES_MAX)
        r->state = REQ_QUEUED;
    else
        finish(r, j->doubtful ? ERR_IO : j->err);
}

static void write_done(struct job *job)
{
    struct write_job *j = (struct write_job *)(void *)job;
    struct stage *s = j->stage;
    struct lane *lane = &s->lanes[j->reqs[0]->moving];

    ASSERT(j->busy && j->count > 0);
    if (j->err == 0) {
        s->stats.payloads += j->count;
        s->stats.bytes += j->bytes;
    } else {
        s->stats.failures++;
        if (j->doubtful)
            volumes_fail(s->config.volumes, j->vio.number, "a write or sync failed");
    }
    for (size_t i = 0; i < j->count; i++)
        settle(s, j, j->reqs[i]);
    j->busy = false;
    lane->writing--;
    if (lane->last == j)
        lane->last = NULL;
    answer(s, lane);
    stage_pump(s);
}

static void fill_header(struct stage *s, struct stage_req *r)
{
    const struct payload_digest *d = r->digest;
    struct payload_header h = {.place = r->place,
                               .length = d->length,
                               .digest = d->total,
                               .created_ms = r->created_ms,
                               .expire_ms = r->expire_ms,
                               .tokens = r->tokens,
                               .key = slice_of(r->key, r->key_len),
                               .model = r->model,
                               .seq = r->seq,
                               .chunk = d->chunk,
                               .chunks = d->chunks,
                               .digests = d->digests};

    if (r->id.seq == 0)
        r->id = (struct payload_id){s->config.node, s->config.boot, ++s->seq};
    h.id = r->id;
    memcpy(h.uuid, s->config.uuid, sizeof(h.uuid));
    s->config.tags(s->config.ctx, &h.term, &h.applied);
    payload_header_encode(&h, r->buf->mem);
    /* The slot ends with zeros whatever the buffer held before. */
    memset(buf_payload(r->buf) + d->length, 0, buf_padded(d->length) - d->length);
}

static void add(struct stage *s, struct write_job *j, struct stage_req *r, struct place p)
{
    uint64_t slot = volume_slot(r->digest->length);

    if (j->count == 0) {
        j->offset = p.offset;
        j->bytes = 0;
        /* The slot's pin keeps the volume; this one only fetches the descriptor. */
        if (volumes_pin(s->config.volumes, p.volume, p.generation, &j->vio) != 0)
            PANIC("stage: no volume behind a fresh slot");
        volumes_unpin(s->config.volumes, p.volume);
    }
    ASSERT(j->count < JOB_REQS && p.offset == j->offset + j->bytes);
    r->place = p;
    r->state = REQ_WRITING;
    r->tries++;
    fill_header(s, r);
    j->reqs[j->count] = r;
    j->iov[j->count] = (struct iovec){r->buf->mem, slot};
    j->count++;
    j->bytes += slot;
}

/* A slot for r, or an error; ERR_AGAIN: r waits. A MOVE never waits for space: it makes it. */
static int place_for(struct stage *s, const struct stage_req *r, struct place *out)
{
    struct volumes_stats st;
    int err;

    err = volumes_alloc(s->config.volumes, r->digest->length, r->moving,
                        s->config.now_ms(s->config.ctx), out);
    if (err == 0 || err == ERR_TOOBIG)
        return err;
    volumes_get_stats(s->config.volumes, &st);
    if (st.formatting > 0 || (!r->moving && s->config.need_space(s->config.ctx)))
        return ERR_AGAIN;
    return err == ERR_AGAIN ? ERR_FULL : err;
}

/* Whether r's slot would lie right behind those of the job. */
static bool joins(const struct stage *s, const struct write_job *j, const struct stage_req *r)
{
    struct place next = {j->vio.number, j->vio.generation, j->offset + j->bytes};

    return j->count == 0 ||
           (j->count < JOB_REQS && j->bytes + volume_slot(r->digest->length) <= STAGE_JOB_BYTES &&
            volumes_continues(s->config.volumes, next, r->digest->length, r->moving));
}

static struct stage_req *first_queued(const struct lane *lane)
{
    struct stage_req *r = lane->head;

    while (r != NULL && r->state != REQ_QUEUED)
        r = r->next;
    return r;
}

/* Fills j from the lane. Requests without a slot to come are finished on the way. */
static void collect(struct stage *s, struct lane *lane, struct write_job *j)
{
    struct stage_req *r = first_queued(lane);
    struct place p;

    for (; r != NULL && r->state == REQ_QUEUED; r = r->next) {
        int err;

        if (!joins(s, j, r))
            return;
        err = place_for(s, r, &p);
        if (err == ERR_AGAIN)
            return;
        if (err != 0)
            finish(r, err);
        else
            add(s, j, r, p);
    }
}

static struct write_job *idle_job(struct stage *s)
{
    for (int i = 0; i < STAGE_JOBS; i++)
        if (!s->jobs[i].busy)
            return &s->jobs[i];
    return NULL;
}

static void begin_job(struct stage *s, struct lane *lane, struct write_job *j)
{
    j->stage = s;
    j->busy = true;
    j->err = 0;
    j->job.work = write_work;
    j->job.done = write_done;
    lane->last = j;
    lane->writing++;
    s->stats.jobs++;
}

/* The lane's last job, when it has room for r and waits for the worker. */
static struct write_job *waiting_job(struct stage *s, struct lane *lane, const struct stage_req *r)
{
    struct write_job *j = lane->last;

    if (j == NULL || !joins(s, j, r) || !worker_recall(s->config.writer, &j->job))
        return NULL;
    return j;
}

static bool pump_lane(struct stage *s, struct lane *lane)
{
    struct stage_req *r = first_queued(lane);
    struct write_job *j;
    size_t before = 0;

    if (r == NULL)
        return false;
    j = waiting_job(s, lane, r);
    if (j != NULL)
        before = j->count;
    else if ((j = idle_job(s)) == NULL)
        return false;
    else
        j->count = 0;
    collect(s, lane, j);
    if (j->count == 0)
        return false;
    if (before == 0)
        begin_job(s, lane, j);
    worker_submit(s->config.writer, &j->job);
    return j->count > before;
}

/* --- public ------------------------------------------------------------------------------- */

void stage_submit(struct stage *s, struct stage_req *r)
{
    struct lane *lane = &s->lanes[r->moving];

    ASSERT(r->buf != NULL && r->digest != NULL && r->done != NULL);
    ASSERT(r->key_len <= RECORD_KEY_MAX && r->digest->seen == r->digest->length);
    ASSERT(BUF_HEADER + buf_padded(r->digest->length) <= r->buf->space);
    buf_ref(r->buf);
    r->next = NULL;
    r->state = REQ_QUEUED;
    r->tries = 0;
    *lane->tail = r;
    lane->tail = &r->next;
    s->stats.queued++;
    s->stats.queued_bytes += r->digest->length;
}

/* MOVE first, as writes may be waiting for what it frees, but one job at most: writes go on. */
void stage_pump(struct stage *s)
{
    bool moved, wrote;

    if (s->pumping)
        return;
    s->pumping = true;
    do {
        moved = s->lanes[1].writing == 0 && pump_lane(s, &s->lanes[1]);
        wrote = pump_lane(s, &s->lanes[0]);
    } while (moved || wrote);
    s->pumping = false;
    answer(s, &s->lanes[1]);
    answer(s, &s->lanes[0]);
}

void stage_release(struct stage *s, struct place p)
{
    volumes_release(s->config.volumes, p.volume);
}

bool stage_idle(const struct stage *s)
{
    return s->lanes[0].head == NULL && s->lanes[1].head == NULL;
}

void stage_get_stats(const struct stage *s, struct stage_stats *out)
{
    *out = s->stats;
}

void stage_free(struct stage *s)
{
    if (s == NULL)
        return;
    s->pumping = true; /* nothing starts any more */
    for (int i = 0; i < STAGE_JOBS; i++)
        ASSERT(!s->jobs[i].busy);
    for (int i = 0; i < 2; i++) {
        struct lane *lane = &s->lanes[i];

        for (struct stage_req *r = lane->head; r != NULL; r = r->next)
            finish(r, ERR_CANCELED);
        answer(s, lane);
        ASSERT(lane->head == NULL);
    }
    free(s);
}
