/* SPDX-License-Identifier: MIT */
/* index.mdb past max-index-bytes: the inline keys written longest ago go, through the log.
 *
 * How much is too much. LMDB counts pages, and a page stays when some of its rows go: deleting old
 * keys here and there makes room inside the pages, not free pages. So once the pages in use come
 * near the limit, the bytes of all rows at that moment are the reference: that much the index may
 * hold, and the store knows at every moment how much it holds. Pages above the limit lower it, to
 * half when they are a quarter too many: LMDB joins pages that are a quarter full, so there they
 * end. Far below the limit there is no reference, and a new one is taken the next time.
 *
 * Which keys. There is no list of keys by age. So a cursor goes around the keys in their order and
 * proposes those whose mod is among the oldest quarter; where that quarter ends is estimated from
 * a sample of the keys met the last time around, at first of keys at random. After a batch it
 * waits until the last proposal is decided. A time around that finds nothing makes the next one
 * take any key; nothing again, and there is no hope for a while: writes that wait are refused.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "store/evict_int.h"

#define SAMPLE 1024u
#define FIRST_RUNS 64u /* places at which the first sample is taken */
#define FIRST_KEYS (SAMPLE / FIRST_RUNS)
#define BATCH_MAX 4096u
#define MARGIN_MAX ((uint64_t)8 << 20)
#define PAGE_FILL 2u /* pages that rows take: they are half full, or better */
#define EXCESS_MAX 0.25
#define HOPELESS_TIMES 8 /* as long as the search took */

struct evict_index {
    struct store *s;
    uint64_t reference; /* bytes of rows when the pages came near the limit; 0: they are not */
    uint64_t wanted;    /* room that a write waits for */
    uint64_t hopeless_until_us;
    /* mods of inline keys: a picture of the last time around */
    uint64_t sample[SAMPLE];
    size_t known;
    /* the cursor: behind this key */
    uint8_t at[RECORD_KEY_MAX];
    size_t at_len;
    /* this batch */
    enum { PHASE_IDLE, PHASE_WALKING, PHASE_APPLYING } phase;
    uint64_t oldest; /* mods up to this one are proposed */
    uint64_t need, bytes;
    unsigned proposed, ends; /* ends: times that the last key was passed */
    uint64_t began_us, until_us;
    /* its last proposal */
    uint8_t last[RECORD_KEY_MAX];
    size_t last_len;
    uint64_t last_mod;
};

struct evict_index *evict_index_new(struct store *s)
{
    struct evict_index *x = calloc(1, sizeof(*x));

    if (x != NULL)
        x->s = s;
    return x;
}

void evict_index_free(struct evict_index *x)
{
    free(x);
}

/* --- limits ------------------------------------------------------------------------------- */

/* Writes should seldom have to wait: work begins this much below the limit. */
static uint64_t room(const struct evict_index *x)
{
    uint64_t part = x->s->config.max_index_bytes / 16;

    if (part > MARGIN_MAX)
        part = MARGIN_MAX;
    return part > x->wanted ? part : x->wanted;
}

/* Bytes of rows the index may hold. */
static uint64_t capacity(const struct evict_index *x)
{
    uint64_t max = x->s->config.max_index_bytes, used = x->s->index_stats.used_bytes;
    double excess = used > max ? (double)(used - max) / (double)max : 0;

    return (uint64_t)((double)x->reference * (1 - 2 * (excess < EXCESS_MAX ? excess : EXCESS_MAX)));
}

void evict_index_measured(struct evict_index *x)
{
    uint64_t max = x->s->config.max_index_bytes, used = x->s->index_stats.used_bytes;

    if (used < max - max / 8)
        x->reference = 0;
    else if (x->reference == 0 && used + room(x) > max)
        x->reference = x->s->indexed_row_bytes;
}

/* Pages that the index may have once what is in the tables and `bytes` more are in it. */
static uint64_t expected(const struct evict_index *x, uint64_t bytes)
{
    const struct store *s = x->s;
    uint64_t rows = s->row_bytes + bytes, indexed = s->indexed_row_bytes;

    return s->index_stats.used_bytes + (rows > indexed ? (rows - indexed) * PAGE_FILL : 0);
}

static bool is_over(const struct evict_index *x)
{
    return x->reference > 0 && x->s->row_bytes + room(x) > capacity(x);
}

static bool is_hopeful(const struct evict_index *x)
{
    return x->s->leading && x->s->counts.keys > 0 && store_now_us(x->s) >= x->hopeless_until_us;
}

int evict_index_admits(struct evict_index *x, uint64_t bytes)
{
    uint64_t max = x->s->config.max_index_bytes;

    if (expected(x, bytes) <= max)
        return 0;
    if (x->reference == 0 && x->s->row_bytes > x->s->indexed_row_bytes)
        return ERR_NOTFOUND; /* the next checkpoint tells */
    if (x->reference > 0 && x->s->row_bytes + bytes <= capacity(x))
        return 0;
    if (!is_hopeful(x) || bytes > x->s->row_bytes)
        return ERR_FULL;
    if (bytes > x->wanted)
        x->wanted = bytes;
    if (x->reference == 0)
        x->reference =
            x->s->indexed_row_bytes; /* so large that it comes near the limit by itself */
    return ERR_AGAIN;
}

static void give_up(struct evict_index *x)
{
    uint64_t now_us = store_now_us(x->s), pause_us = (now_us - x->began_us) * HOPELESS_TIMES;

    x->phase = PHASE_IDLE;
    x->hopeless_until_us = now_us + (pause_us > EVICT_RETRY_US ? pause_us : EVICT_RETRY_US);
    evict_tell_waiters(x->s);
}

/* --- the sample --------------------------------------------------------------------------- */

static uint64_t random_below(uint64_t bound)
{
    uint64_t r;

    hash_random(&r, sizeof(r));
    return r % bound;
}

/* Each key met takes a place with such a chance that the sample is renewed once a time around. */
static void learn(struct evict_index *x, uint64_t mod)
{
    if (x->known < SAMPLE)
        x->sample[x->known++] = mod;
    else if (random_below(x->s->counts.keys) < SAMPLE)
        x->sample[random_below(SAMPLE)] = mod;
}

struct run {
    struct evict_index *x;
    unsigned left;
    bool blocked; /* the log takes no more for now */
};

static bool on_first(void *ctx, struct slice key, const struct record *r)
{
    struct run *run = ctx;

    (void)key;
    if (r->kind == RECORD_INLINE)
        learn(run->x, r->mod);
    return --run->left > 0;
}

static void take_first_sample(struct evict_index *x)
{
    uint8_t from[RECORD_KEY_MAX];
    size_t len;

    for (unsigned i = 0; i < FIRST_RUNS; i++) {
        struct run run = {x, FIRST_KEYS, false};

        if (store_random_key(x->s, 0, from, &len) == 0)
            (void)store_scan(x->s, slice_of(from, len), false, on_first, &run);
    }
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The order within the sample means nothing. */
static uint64_t oldest_quarter(struct evict_index *x)
{
    if (x->known == 0)
        return UINT64_MAX;
    qsort(x->sample, x->known, sizeof(x->sample[0]), by_size);
    return x->sample[x->known / 4];
}

/* --- walking ------------------------------------------------------------------------------ */

static bool propose(struct evict_index *x, struct slice key, const struct record *r)
{
    if (!evict_propose(x->s, key, r->mod))
        return false;
    x->bytes += store_row_bytes(key, r);
    x->proposed++;
    memcpy(x->last, key.ptr, key.len);
    x->last_len = key.len;
    x->last_mod = r->mod;
    return true;
}

static bool is_enough(const struct evict_index *x)
{
    return x->proposed == BATCH_MAX || x->bytes >= x->need;
}

/* False: to be visited again, the log takes no more. */
static bool visit(struct evict_index *x, struct slice key, const struct record *r)
{
    learn(x, r->mod);
    if (r->mod > x->oldest || lease_held(x->s->lease, key, clock_now_ms(x->s->config.clock)))
        return true;
    return propose(x, key, r);
}

static bool on_key(void *ctx, struct slice key, const struct record *r)
{
    struct run *run = ctx;
    struct evict_index *x = run->x;

    if (r->kind == RECORD_INLINE && !visit(x, key, r)) {
        run->blocked = true;
        return false;
    }
    memcpy(x->at, key.ptr, key.len);
    x->at_len = key.len;
    return --run->left > 0 && !is_enough(x);
}

static void begin(struct evict_index *x)
{
    if (x->known < SAMPLE)
        take_first_sample(x);
    x->phase = PHASE_WALKING;
    x->began_us = store_now_us(x->s);
    x->oldest = oldest_quarter(x);
    x->need = x->s->row_bytes + room(x) + x->reference / 32 - capacity(x);
    x->bytes = x->proposed = x->ends = 0;
}

static void finish_batch(struct evict_index *x)
{
    x->phase = PHASE_APPLYING;
    x->until_us = store_now_us(x->s) + EVICT_RETRY_US;
}

/* The second end closes the first whole time around, as the walk may have begun anywhere. */
static void on_end(struct evict_index *x)
{
    x->at_len = 0;
    x->ends++;
    if (x->ends >= 2 && x->proposed > 0)
        finish_batch(x); /* less than wanted; the next one has another idea of old */
    else if (x->ends == 2)
        x->oldest = UINT64_MAX;
    else if (x->ends == 4)
        give_up(x);
}

static uint64_t walk(struct evict_index *x)
{
    struct run run = {x, EVICT_STEP_KEYS, false};

    if (store_scan(x->s, slice_of(x->at, x->at_len), x->at_len > 0, on_key, &run) != 0)
        give_up(x); /* damage in the tree: the audit names it */
    else if (is_enough(x))
        finish_batch(x);
    else if (run.left > 0 && !run.blocked)
        on_end(x);
    return run.blocked ? EVICT_WAIT_US : 0;
}

/* Proposals take effect in their order, or were dropped. */
static bool is_decided(const struct evict_index *x)
{
    struct record r;

    return store_now_us(x->s) >= x->until_us ||
           evict_find(x->s, slice_of(x->last, x->last_len), &r) != 0 || r.mod != x->last_mod;
}

uint64_t evict_index_step(struct evict_index *x)
{
    if (x->phase == PHASE_APPLYING && is_decided(x)) {
        x->phase = PHASE_IDLE;
        evict_tell_waiters(x->s);
    }
    if (!is_over(x))
        x->wanted = 0;
    if (!is_over(x) || !x->s->leading) {
        if (x->phase == PHASE_WALKING)
            x->phase = PHASE_IDLE;
        return EVICT_WAIT_US;
    }
    if (x->phase == PHASE_IDLE && is_hopeful(x) && !store_table_full(x->s))
        begin(x);
    return x->phase == PHASE_WALKING ? walk(x) : EVICT_WAIT_US;
}
