/* SPDX-License-Identifier: MIT */
/* Keeps live bytes and volumes within their limits, one victim volume at a time.
 *
 * Logical pressure (live bytes near the limit): the oldest volume's keys are evicted through the
 * log, but for those that were hit since they were written or are leased: they MOVE to the front,
 * up to half of the volume (oldest first with re-insertion equals LRU on real traces; DESIGN §6).
 * Physical pressure (few FREE volumes, but room in live bytes: deletes have left holes): everything
 * of the emptiest volume MOVEs. Either way the volume is empty in the end and the next checkpoint
 * makes it FREE.
 *
 * The victim is found by walking its header chain; a header that cannot be read is passed over in
 * 4 KiB steps. MOVE reads the payload (verified), stages it into the volume of MOVEs and swaps the
 * place if the key still has its mod. EVICT is proposed and takes effect when the log says so.
 *
 * Failure. No memory or no slot for a MOVE: tried again later. A pass that freed nothing (all is
 * leased) blocks eviction for BLOCKED_US: writes that wait are answered ERR_FULL meanwhile.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/hash.h"
#include "base/logger.h"
#include "store/store_int.h"

#define STEP_US 1000
#define IDLE_US 100000
#define SETTLE_US 2000000
#define BLOCKED_US 1000000
#define INDEX_LOOK_US 200000
#define MOVES_MAX 2
#define SAMPLE_RUNS 16
#define SAMPLE_KEYS 64

enum phase { PHASE_IDLE, PHASE_READING, PHASE_RECORD, PHASE_SETTLE };

struct move {
    struct evict *evict;
    struct payload_read read;
    struct stage_req stage;
    struct payload_digest digest;
    uint64_t mod;
    uint8_t model[RECORD_META_MAX], seq[RECORD_META_MAX];
    bool used;
};

struct evict {
    struct store *store;
    enum phase phase;
    bool wanted, logical;
    /* victim */
    struct volume_row victim;
    struct volume_io vio;
    uint64_t offset;
    uint64_t moved_bytes, evicted_bytes; /* in this volume */
    uint64_t settle_until_us, blocked_until_us, index_look_us;
    /* the header being read */
    struct job job;
    uint8_t *page;
    int page_err;
    struct move moves[MOVES_MAX];
    unsigned moving;
};

struct evict *evict_new(struct store *s)
{
    struct evict *e = calloc(1, sizeof(*e));

    if (e == NULL)
        return NULL;
    e->store = s;
    e->page = aligned_alloc(PAYLOAD_HEADER, PAYLOAD_HEADER);
    if (e->page == NULL) {
        free(e);
        return NULL;
    }
    for (unsigned i = 0; i < MOVES_MAX; i++)
        e->moves[i].evict = e;
    return e;
}

void evict_free(struct evict *e)
{
    if (e == NULL)
        return;
    ASSERT(!evict_busy(e));
    if (e->phase != PHASE_IDLE)
        volumes_unpin(e->store->volumes, e->victim.number);
    free(e->page);
    free(e);
}

bool evict_busy(const struct evict *e)
{
    return e->moving > 0 || e->phase == PHASE_READING;
}

bool evict_wanted(struct evict *e)
{
    struct store *s = e->store;

    e->wanted = true;
    return s->leading && store_now_us(s) >= e->blocked_until_us;
}

/* ---- victims ----------------------------------------------------------------------------- */

static bool pick(struct evict *e)
{
    struct store *s = e->store;
    struct volumes_stats v;
    bool full, tight, found;

    volumes_get_stats(s->volumes, &v);
    full = v.live_bytes + s->config.volume_size / 2 > store_live_limit(s) ||
           (e->wanted && v.can_grow == 0 && v.live_bytes > store_live_limit(s) / 2);
    tight = v.can_grow == 0 && v.free < 2;
    if (!full && !tight)
        return false;
    if (v.empty > 0 && v.free + v.empty >= 2 && !full) {
        (void)checkpoint_start(s, false); /* it frees what is empty already */
        return false;
    }
    found = volumes_emptiest(s->volumes, &e->victim);
    e->logical = full || !found || e->victim.live_bytes * 10 > s->config.volume_size * 9;
    if (e->logical) {
        uint64_t after = 0;

        do {
            found = volumes_after(s->volumes, after, &e->victim);
            after = e->victim.opened_ms;
        } while (found && e->victim.state != VOLUME_SEALED);
    }
    return found && volumes_pin(s->volumes, e->victim.number, e->victim.generation, &e->vio) == 0;
}

static void begin(struct evict *e)
{
    e->phase = PHASE_RECORD;
    e->offset = 0;
    e->moved_bytes = e->evicted_bytes = 0;
}

/* ---- MOVE -------------------------------------------------------------------------------- */

static void end_move(struct move *m)
{
    m->used = false;
    m->evict->moving--;
    buf_unref(m->read.buf);
    m->read.buf = NULL;
}

static void on_staged(struct stage_req *r)
{
    struct move *m = (struct move *)((char *)r - offsetof(struct move, stage));
    struct store *s = m->evict->store;

    if (r->err == 0) {
        bool moved = store_move(s, slice_of(r->key, r->key_len), m->mod, m->read.place, r->place);

        stage_release(s->stage, r->place);
        if (moved) {
            s->counts.moved++;
            s->counts.moved_bytes += m->read.length;
        }
        (void)FAIL("move.done");
    }
    end_move(m);
}

static void on_read(struct payload_read *r)
{
    struct move *m = (struct move *)((char *)r - offsetof(struct move, read));
    struct store *s = m->evict->store;

    if (r->err != 0 || s->closing) {
        if (r->err == ERR_CORRUPT) {
            struct slice value;

            /* A damaged payload cannot move; the key is a miss already and goes with it. */
            if (store_lookup(s, slice_of(r->key, r->key_len), &value) == 0)
                store_corrupt(s, slice_of(r->key, r->key_len));
            store_del(s, slice_of(r->key, r->key_len));
        }
        end_move(m);
        return;
    }
    payload_digest_begin(&m->digest, r->length);
    payload_digest_update(&m->digest, buf_payload(r->buf), r->length);
    payload_digest_end(&m->digest, buf_payload(r->buf));
    m->stage.buf = r->buf;
    m->stage.digest = &m->digest;
    m->stage.done = on_staged;
    m->stage.moving = true;
    stage_submit(s->stage, &m->stage);
}

static void remember(struct move *m, struct slice key, const struct record *r)
{
    m->mod = r->mod;
    memset(&m->read, 0, sizeof(m->read));
    memset(&m->stage, 0, sizeof(m->stage));
    m->read.place = r->place;
    m->read.id = m->stage.id = r->payload;
    m->read.length = m->read.count = r->length;
    m->read.digest = r->digest;
    m->read.key_len = m->stage.key_len = key.len;
    memcpy(m->read.key, key.ptr, key.len);
    memcpy(m->stage.key, key.ptr, key.len);
    if (r->model.len > 0)
        memcpy(m->model, r->model.ptr, r->model.len);
    if (r->seq.len > 0)
        memcpy(m->seq, r->seq.ptr, r->seq.len);
    m->stage.model = slice_of(m->model, r->model.len);
    m->stage.seq = slice_of(m->seq, r->seq.len);
    m->stage.tokens = r->tokens;
    m->stage.created_ms = r->created_ms;
    m->stage.expire_ms = r->expire_ms;
    m->read.done = on_read;
}

/* false: no memory or no free move now. */
static bool start_move(struct evict *e, struct slice key, const struct record *r)
{
    struct store *s = e->store;
    struct move *m = NULL;

    for (unsigned i = 0; i < MOVES_MAX && m == NULL; i++)
        if (!e->moves[i].used)
            m = &e->moves[i];
    if (m == NULL)
        return false;
    remember(m, key, r);
    if (buf_get(s->config.pool, r->length, &m->read.buf) != 0)
        return false;
    m->used = true;
    e->moving++;
    if (store_read(s, &m->read) != 0)
        end_move(m);
    return true;
}

/* ---- the walk ---------------------------------------------------------------------------- */

static void work_page(struct job *job)
{
    struct evict *e = (struct evict *)((char *)job - offsetof(struct evict, job));
    struct iovec iov = {e->page, PAYLOAD_HEADER};

    e->page_err = io_read_all(e->vio.io, e->vio.fd, &iov, 1, (off_t)(e->vio.base + e->offset));
}

/* What happens to one living record of the victim. false: try again later. */
static bool settle_record(struct evict *e, struct slice key, const struct record *r)
{
    struct store *s = e->store;
    uint64_t slot = volume_slot(r->length);
    bool leased = lease_held(s->lease, key, clock_now_ms(s->config.clock));
    bool spared = leased || (volumes_was_hit(s->volumes, r->place) &&
                             e->moved_bytes + slot <= s->config.volume_size / 2);

    if (record_expired(r, s->stamp_ms)) {
        store_del(s, key);
        s->counts.expired++;
        e->evicted_bytes += slot;
        return true;
    }
    if (e->logical && !spared) {
        s->config.propose_evict(s->config.ctx, key, r->mod);
        e->evicted_bytes += slot;
        return true;
    }
    if (volumes_move_room(s->volumes) < slot || !start_move(e, key, r))
        return false;
    volumes_clear_hit(s->volumes, r->place); /* the next life begins without it */
    e->moved_bytes += slot;
    return true;
}

static void on_page(struct job *job)
{
    struct evict *e = (struct evict *)((char *)job - offsetof(struct evict, job));

    e->phase = PHASE_RECORD;
}

/* The record in e->page, which begins at e->offset. false: try it again later. */
static bool visit(struct evict *e)
{
    struct place here = {e->victim.number, e->victim.generation, e->offset};
    struct payload_header h;
    struct record r;

    if (e->page_err != 0 || payload_header_decode(e->page, &h) != 0 || !place_eq(h.place, here) ||
        memcmp(h.uuid, e->vio.uuid, sizeof(h.uuid)) != 0) {
        e->offset += VOLUME_HEADER;
        return true;
    }
    if (store_get(e->store, h.key, &r) == 0 && r.kind == RECORD_SLAB && place_eq(r.place, here) &&
        !settle_record(e, h.key, &r))
        return false;
    e->offset += volume_slot(h.length);
    return true;
}

static void finish_victim(struct evict *e)
{
    struct store *s = e->store;
    struct volume_row now;
    bool empty = volumes_get(s->volumes, e->victim.number, &now) && now.live_records == 0;

    volumes_unpin(s->volumes, e->victim.number);
    e->phase = PHASE_IDLE;
    e->wanted = false;
    if (empty)
        (void)checkpoint_start(s, false);
    else
        volumes_shun(s->volumes, e->victim.number);
    if (!empty && e->evicted_bytes == 0 && e->moved_bytes == 0) {
        e->blocked_until_us = store_now_us(s) + BLOCKED_US;
        s->config.on_space(s->config.ctx); /* those that wait learn that the store is full */
    }
}

static bool is_empty(struct evict *e)
{
    struct volume_row now;

    return !volumes_get(e->store->volumes, e->victim.number, &now) || now.live_records == 0;
}

/* ---- index pressure ---------------------------------------------------------------------- */

struct sample {
    struct store *store;
    unsigned run, count;
    struct {
        uint64_t mod;
        size_t len;
        uint8_t key[RECORD_KEY_MAX];
    } keys[SAMPLE_RUNS * SAMPLE_KEYS];
};

static bool take_sample(void *ctx, struct slice key, const struct record *r)
{
    struct sample *p = ctx;

    p->run++;
    if (r->kind == RECORD_INLINE &&
        !lease_held(p->store->lease, key, clock_now_ms(p->store->config.clock))) {
        p->keys[p->count].mod = r->mod;
        p->keys[p->count].len = key.len;
        memcpy(p->keys[p->count].key, key.ptr, key.len);
        p->count++;
    }
    return p->run < SAMPLE_KEYS;
}

static int by_mod(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

/* Past max-index-bytes: of a sample of inline keys the quarter written longest ago goes. */
static void relieve_index(struct evict *e)
{
    struct store *s = e->store;
    struct sample *p;

    if (s->index_stats.used_bytes + TABLE_BYTES_RESERVE < s->config.max_index_bytes ||
        store_now_us(s) < e->index_look_us)
        return;
    e->index_look_us = store_now_us(s) + INDEX_LOOK_US;
    p = calloc(1, sizeof(*p));
    if (p == NULL)
        return;
    p->store = s;
    for (unsigned i = 0; i < SAMPLE_RUNS; i++) {
        uint8_t from[RECORD_KEY_MAX];
        size_t len;

        if (store_random_key(s, 0, from, &len) != 0)
            break;
        p->run = 0;
        store_scan(s, slice_of(from, len), false, take_sample, p);
    }
    qsort(p->keys, p->count, sizeof(p->keys[0]), by_mod);
    for (unsigned i = 0; i < (p->count + 3) / 4; i++)
        s->config.propose_evict(s->config.ctx, slice_of(p->keys[i].key, p->keys[i].len),
                                p->keys[i].mod);
    if (p->count == 0)
        e->blocked_until_us = store_now_us(s) + BLOCKED_US;
    free(p);
}

/* ---- step -------------------------------------------------------------------------------- */

static uint64_t step_record(struct evict *e)
{
    struct store *s = e->store;

    if (e->page_err == ERR_AGAIN) { /* nothing read at this offset yet */
        e->phase = PHASE_READING;
        e->job.work = work_page;
        e->job.done = on_page;
        worker_submit(s->readers, &e->job);
        return STEP_US;
    }
    if (!visit(e))
        return STEP_US;
    e->page_err = ERR_AGAIN;
    if (e->offset + VOLUME_HEADER > e->victim.cursor || is_empty(e)) {
        e->phase = PHASE_SETTLE;
        e->settle_until_us = store_now_us(s) + SETTLE_US;
    }
    return 0;
}

uint64_t evict_step(struct evict *e)
{
    struct store *s = e->store;

    if (!s->leading || s->closing)
        return IDLE_US;
    relieve_index(e);
    switch (e->phase) {
    case PHASE_IDLE:
        if (store_now_us(s) < e->blocked_until_us || !pick(e))
            return IDLE_US;
        begin(e);
        e->page_err = ERR_AGAIN;
        return 0;
    case PHASE_READING:
        return IDLE_US; /* its done() is an event */
    case PHASE_RECORD:
        return step_record(e);
    case PHASE_SETTLE:
        if (e->moving > 0 || (!is_empty(e) && store_now_us(s) < e->settle_until_us))
            return STEP_US;
        finish_victim(e);
        return 0;
    }
    return IDLE_US;
}
