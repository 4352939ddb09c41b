/* SPDX-License-Identifier: MIT */
/* Keeps live bytes and volumes within their limits. Two things that need each other only through
 * the volume table:
 *
 * EVICT, logical, the leader's, through the log: live bytes near the limit. A hand goes around the
 * volumes, oldest first, and within one in the order written (the header chain); a volume it has
 * passed is the youngest, the one that writes fill is not visited. Keys that are leased stay. Keys
 * hit since they were written, or since the hand passed, stay once more and lose the mark, but for
 * each byte evicted only SPARED_PER_EVICTED are saved that way: no write waits until the hand has
 * been everywhere. Others are proposed for eviction until what is left would be below the goal.
 * This is FIFO with re-insertion (CLOCK), equal to LRU on real traces (DESIGN §6). A key is
 * condemned from its proposal on: nobody is told any more that it is there to stay (lease.h).
 *
 * MOVE, physical, every node's own: FREE volumes are short and no file may be added. compact.c
 * empties the volume with the least in it; what the hand spared comes to lie in a new one. If MOVE
 * would win nothing (all volumes are full of live bytes), EVICT makes the holes first.
 *
 * What has expired goes before anything is evicted: the hand starts when every key whose time was
 * over by then has been swept, with a checkpoint ahead of it if such keys are still in a table.
 *
 * Proposals under way are remembered (≤ PROPOSALS_MAX): their bytes count as gone, so the hand does
 * not take too much. One that has not taken effect after EVICT_RETRY_US was dropped or its key had
 * changed; the hand comes around again. Goals are amounts of live bytes, not differences: asking
 * twice does not evict twice.
 *
 * Progress. CIRCLES_MAX times around without any effect (only leases can do that) and eviction is
 * hopeless for a while: evict_want_live and evict_want_slot say so, and writes that wait are told.
 * All of it is bounded per step: EVICT_STEP_KEYS looked at, one chain job, MOVER_MAX moves.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/logger.h"
#include "store/evict_int.h"
#include "store/slab.h"

#define PROPOSALS_MAX 1024u
#define FREE_WANTED 2u        /* one for writes, one for MOVE */
#define SPARED_PER_EVICTED 8u /* bytes at most, where everything is hit all the time */
#define CIRCLES_MAX 3u
#define HELD_MAX_US ((uint64_t)10 * 1000000) /* as long as one GET holds its volume */

struct proposal {
    uint8_t *key; /* malloc */
    size_t key_len;
    uint64_t mod, bytes, at_us;
};

struct evict {
    struct store *s;
    struct compact *compact;
    struct evict_index *index;
    /* the hand */
    bool active;
    uint64_t goal;    /* of live bytes, proposals taken off */
    uint64_t sparing; /* bytes that hits may still save */
    struct chain chain;
    struct volume_row row; /* the volume it is in; number 0: between two */
    size_t next;           /* of the chain's entries */
    unsigned circles;      /* times around since the last effect */
    uint64_t circle_turn;  /* volumes with a later turn were passed this time around */
    uint64_t began_us, hopeless_until_us;
    uint64_t sweep_ms;      /* what expired up to here goes first; 0: it is gone */
    bool slot_wanted;       /* since the last step a write found no room in a volume */
    uint64_t held_since_us; /* only readers are in the way of room; 0: no */
    /* writes wait for live bytes to fall below this; 0: none */
    uint64_t waited_live;
    /* proposals under way, a ring */
    struct proposal ring[PROPOSALS_MAX];
    unsigned ring_at, ring_count;
    uint64_t ring_bytes;
};

/* --- shared with the parts ------------------------------------------------------------------ */

int evict_find(struct store *s, struct slice key, struct record *out)
{
    struct slice value;
    int err = store_lookup(s, key, &value);

    return err != 0 ? err : record_decode(key, value, out);
}

bool evict_expired(struct store *s, struct slice key, const struct record *r)
{
    if (!record_expired(r, s->stamp_ms))
        return false;
    store_del(s, key);
    s->counts.expired++;
    return true;
}

bool evict_propose(struct store *s, struct slice key, uint64_t mod)
{
    if (!s->config.propose_evict(s->config.ctx, key, mod))
        return false;
    lease_condemn(s->lease, key, clock_now_ms(s->config.clock));
    return true;
}

void evict_tell_waiters(struct store *s)
{
    stage_pump(s->stage);
    if (s->config.on_space != NULL)
        s->config.on_space(s->config.ctx);
}

/* --- life --------------------------------------------------------------------------------- */

static void on_entries(struct chain *chain)
{
    struct evict *e = (struct evict *)((char *)chain - offsetof(struct evict, chain));

    e->next = 0;
}

struct evict *evict_new(struct store *s)
{
    struct evict *e = calloc(1, sizeof(*e));

    if (e == NULL)
        return NULL;
    e->s = s;
    e->compact = compact_new(s);
    e->index = evict_index_new(s);
    if (e->compact == NULL || e->index == NULL || chain_init(&e->chain, s->volumes) != 0) {
        evict_free(e);
        return NULL;
    }
    e->chain.done = on_entries;
    return e;
}

static void pop_proposal(struct evict *e)
{
    struct proposal *p = &e->ring[e->ring_at];

    ASSERT(e->ring_count > 0 && e->ring_bytes >= p->bytes);
    e->ring_bytes -= p->bytes;
    free(p->key);
    e->ring_at = (e->ring_at + 1) % PROPOSALS_MAX;
    e->ring_count--;
}

void evict_free(struct evict *e)
{
    if (e == NULL)
        return;
    while (e->ring_count > 0)
        pop_proposal(e);
    chain_fini(&e->chain);
    compact_free(e->compact);
    evict_index_free(e->index);
    free(e);
}

bool evict_busy(const struct evict *e)
{
    return e->chain.busy || compact_in_flight(e->compact);
}

/* --- limits ------------------------------------------------------------------------------- */

/* Work begins this much below the limit, so that writes seldom have to wait for it. */
static uint64_t margin(const struct store *s)
{
    uint64_t part = store_live_limit(s) / 16, half = s->config.volume_size / 2;

    return part < half ? part : half;
}

static uint64_t live_bytes(const struct evict *e)
{
    struct volumes_stats v;

    volumes_get_stats(e->s->volumes, &v);
    return v.live_bytes;
}

static uint64_t projected(const struct evict *e)
{
    uint64_t live = live_bytes(e);

    return live > e->ring_bytes ? live - e->ring_bytes : 0;
}

static bool is_short(const struct volumes_stats *v)
{
    return v->can_grow == 0 && v->free < FREE_WANTED;
}

static bool is_hopeful(const struct evict *e)
{
    return e->s->leading && store_now_us(e->s) >= e->hopeless_until_us;
}

static void aim(struct evict *e, uint64_t goal)
{
    if (!e->active || goal < e->goal)
        e->goal = goal;
    if (!e->active) {
        e->active = true;
        e->circles = 0;
        e->sparing = 2 * margin(e->s) * SPARED_PER_EVICTED;
        e->circle_turn = volumes_last_turn(e->s->volumes);
        e->began_us = store_now_us(e->s);
        e->sweep_ms = e->s->stamp_ms;
    }
}

/* Room for `bytes` below the limit, and no less than what a pause between two rounds is worth. */
static void aim_below_limit(struct evict *e, uint64_t bytes)
{
    uint64_t limit = store_live_limit(e->s), room = 2 * margin(e->s);

    ASSERT(bytes <= limit);
    aim(e, limit - (bytes > room ? bytes : room));
}

/* What has expired before the hand was started is still there. */
static bool sweeps_first(struct evict *e)
{
    struct store *s = e->s;

    if (e->sweep_ms == 0)
        return false;
    if (store_expires_by(s, e->sweep_ms) && !checkpoint_is_failing(s)) {
        checkpoint_start(s, false); /* the sweep looks into the index only */
        return true;
    }
    if (sweep_is_behind(s->sweep, e->sweep_ms))
        return true;
    e->sweep_ms = 0;
    return false;
}

/* --- proposals ---------------------------------------------------------------------------- */

static bool propose(struct evict *e, struct slice key, uint64_t mod, uint64_t bytes)
{
    struct proposal *p = &e->ring[(e->ring_at + e->ring_count) % PROPOSALS_MAX];
    uint8_t *copy;

    ASSERT(e->ring_count < PROPOSALS_MAX);
    if (!evict_propose(e->s, key, mod))
        return false;
    copy = malloc(key.len);
    if (copy == NULL)
        PANIC("out of memory");
    memcpy(copy, key.ptr, key.len);
    *p = (struct proposal){copy, key.len, mod, bytes, store_now_us(e->s)};
    e->ring_count++;
    e->ring_bytes += bytes;
    return true;
}

static bool took_effect(struct evict *e, const struct proposal *p)
{
    struct record r;

    return evict_find(e->s, slice_of(p->key, p->key_len), &r) != 0 || r.mod != p->mod;
}

/* They take effect in the order proposed. */
static void reap(struct evict *e)
{
    uint64_t now_us = store_now_us(e->s);

    while (e->ring_count > 0) {
        const struct proposal *p = &e->ring[e->ring_at];

        if (took_effect(e, p))
            e->circles = 0;
        else if (e->s->leading && now_us - p->at_us < EVICT_RETRY_US)
            return;
        pop_proposal(e);
    }
}

/* --- the hand ----------------------------------------------------------------------------- */

/* False: to be visited again, the log takes no more. */
static bool visit(struct evict *e, const struct chain_entry *entry)
{
    struct store *s = e->s;
    struct place here = {e->row.number, e->row.generation, entry->offset};
    struct slice key = slice_of(entry->key, entry->key_len);
    struct record r;
    uint64_t slot;

    if (evict_find(s, key, &r) != 0 || r.kind != RECORD_SLAB || !place_eq(r.place, here))
        return true;
    if (evict_expired(s, key, &r)) {
        e->circles = 0;
        return true;
    }
    if (lease_held(s->lease, key, clock_now_ms(s->config.clock)))
        return true;
    slot = volume_slot(r.length);
    if (volumes_was_hit(s->volumes, here) && slot <= e->sparing) {
        volumes_clear_hit(s->volumes, here);
        e->sparing -= slot;
        return true;
    }
    if (!propose(e, key, r.mod, slot))
        return false;
    e->sparing += slot * SPARED_PER_EVICTED;
    return true;
}

static void give_up(struct evict *e)
{
    struct store *s = e->s;
    uint64_t now_us = store_now_us(s), took_us = now_us - e->began_us;

    e->active = false;
    e->hopeless_until_us = now_us + (took_us > EVICT_RETRY_US ? took_us : EVICT_RETRY_US);
    LOG_VERBOSE("evict nothing to evict live_bytes=%llu limit=%llu leases=%zu",
                (unsigned long long)live_bytes(e), (unsigned long long)store_live_limit(s),
                lease_count(s->lease, clock_now_ms(s->config.clock)));
    evict_tell_waiters(s);
}

/* On to the next volume. false: nothing to do for now. */
static bool next_volume(struct evict *e)
{
    struct volumes *v = e->s->volumes;
    uint64_t turn;

    if (e->row.number != 0)
        volumes_pass(v, e->row.number);
    e->row.number = 0;
    if (!volumes_oldest(v, &e->row, &turn) || turn > e->circle_turn) {
        if (e->ring_count > 0)
            return false; /* what they bring is known before the next time around */
        e->circle_turn = volumes_last_turn(v);
        e->row.number = 0;
        if (++e->circles >= CIRCLES_MAX)
            give_up(e);
        return e->active;
    }
    e->chain.at = 0;
    e->chain.end = e->row.cursor;
    return true;
}

static bool read_on(struct evict *e)
{
    e->chain.count = e->next = 0;
    if (e->chain.at >= e->chain.end)
        return next_volume(e);
    if (chain_start(&e->chain, e->s->readers, &e->row) == 0)
        return false;
    e->chain.at = e->chain.end; /* recycled meanwhile */
    return true;
}

/* µs to the next step. */
static uint64_t turn_hand(struct evict *e)
{
    for (unsigned budget = EVICT_STEP_KEYS; budget > 0; budget--) {
        if (projected(e) <= e->goal) {
            e->active = false;
            return EVICT_WAIT_US;
        }
        if (e->chain.busy || e->ring_count == PROPOSALS_MAX || store_table_full(e->s) ||
            sweeps_first(e))
            return EVICT_WAIT_US;
        if (e->next == e->chain.count) {
            if (!read_on(e))
                return EVICT_WAIT_US;
        } else if (visit(e, &e->chain.entries[e->next])) {
            e->next++;
        } else {
            return EVICT_WAIT_US;
        }
    }
    return 0;
}

/* --- what to do --------------------------------------------------------------------------- */

/* Where volumes wait for their readers alone nobody's key has to go, but not for ever. */
static bool is_held(struct evict *e, const struct volumes_stats *v)
{
    uint64_t now_us = store_now_us(e->s);

    if (v->held == 0)
        return false;
    if (e->held_since_us == 0)
        e->held_since_us = now_us;
    return now_us - e->held_since_us < HELD_MAX_US;
}

/* FREE volumes are short: recycle what is empty, else empty one, else make holes, and see what the
 * last ones have brought before more are made. While files are missing only because they cannot be
 * made, nobody's key goes ahead of a write that needs its room. */
static void make_free(struct evict *e, const struct volumes_stats *v)
{
    struct store *s = e->s;

    if (v->empty > 0) {
        if (!checkpoint_is_failing(s))
            checkpoint_start(s, false);
        return;
    }
    if (compact_start(e->compact) || is_held(e, v) || (v->cannot_format && !e->slot_wanted))
        return;
    if (is_hopeful(e) && !e->active && e->ring_count == 0 && v->live_records > 0) {
        uint64_t live = live_bytes(e), part = margin(s);

        aim(e, live > part ? live - part : 0);
    }
}

static void tell_who_waits(struct evict *e)
{
    if (e->waited_live > 0 && live_bytes(e) < e->waited_live) {
        e->waited_live = 0;
        evict_tell_waiters(e->s);
    }
}

uint64_t evict_step(struct evict *e)
{
    struct store *s = e->s;
    uint64_t next_us = EVICT_WAIT_US, us;
    struct volumes_stats v;

    if (s->closing)
        return EVICT_WAIT_US;
    reap(e);
    tell_who_waits(e);
    volumes_get_stats(s->volumes, &v);
    if (is_hopeful(e) && !e->active && projected(e) + margin(s) > store_live_limit(s))
        aim_below_limit(e, 0);
    if (!s->leading)
        e->active = false;
    if (!is_short(&v) || v.empty > 0)
        e->held_since_us = 0;
    if (!compact_running(e->compact) && is_short(&v))
        make_free(e, &v);
    e->slot_wanted = false; /* it asks again */
    if (compact_running(e->compact))
        next_us = compact_step(e->compact);
    if (e->active) {
        us = turn_hand(e);
        next_us = us < next_us ? us : next_us;
    }
    us = evict_index_step(e->index);
    return us < next_us ? us : next_us;
}

/* --- what is wanted ----------------------------------------------------------------------- */

bool evict_want_live(struct evict *e, uint64_t bytes)
{
    struct volumes_stats v;

    volumes_get_stats(e->s->volumes, &v);
    if (!is_hopeful(e) || v.live_records == 0 || bytes > store_live_limit(e->s))
        return false;
    aim_below_limit(e, bytes);
    e->waited_live = v.live_bytes;
    return true;
}

/* evict_step does what is answered here. */
bool evict_want_slot(struct evict *e)
{
    struct volumes_stats v;

    volumes_get_stats(e->s->volumes, &v);
    if (v.empty > 0)
        return !checkpoint_is_failing(e->s);
    if (v.held > 0 || compact_running(e->compact) || compact_possible(e->compact))
        return true;
    e->slot_wanted = is_hopeful(e) && v.live_records > 0;
    return e->slot_wanted;
}

int evict_admits_row(struct evict *e, uint64_t bytes)
{
    return evict_index_admits(e->index, bytes);
}

void evict_measured(struct evict *e)
{
    evict_index_measured(e->index);
}
