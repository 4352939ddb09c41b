/* SPDX-License-Identifier: MIT */
/* sweep: removes expired keys from the disk. Absence is decided by stamps when a key is looked at;
 * this only gives the space back, on each node for itself, up to the largest applied stamp.
 *
 * It walks the expiry rows of index.mdb. What it removes leaves the index with the next
 * checkpoint, so between checkpoints the walk goes on behind `position`, and starts again at the
 * front when there is a new snapshot. Keys that so far live in a table only are met after their
 * checkpoint, a second later.
 *
 * A row is a hint: the key is removed only if its record, wherever it is now, says the same. A row
 * that the record in the index does not agree with is damage or a fault; it would stand at the
 * front for ever, so the next checkpoint drops it.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "store/store_int.h"

#define LOOK_US 100000u /* nothing was due: look again */
#define AGAIN_US 1000u  /* the budget ended before the rows did: others first */
#define STALE_MAX 1024u

struct sweep {
    struct store *s;
    uint64_t position_ms;
    uint8_t position[RECORD_KEY_MAX];
    size_t position_len;
    uint64_t empty_upto_ms; /* no row behind the position has a deadline up to this */
    bool blind;             /* the rows cannot be read */
    struct stale_row *stale;
    size_t nstale, stale_space;
};

struct step {
    struct sweep *w;
    unsigned left;
};

struct sweep *sweep_new(struct store *s)
{
    struct sweep *w = calloc(1, sizeof(*w));

    if (w == NULL)
        return NULL;
    w->s = s;
    sweep_restart(w);
    return w;
}

void sweep_free(struct sweep *w)
{
    if (w == NULL)
        return;
    free(w->stale);
    free(w);
}

void sweep_restart(struct sweep *w)
{
    w->position_ms = 0;
    w->position_len = 0;
    w->empty_upto_ms = 0;
}

size_t sweep_take_stale(struct sweep *w, struct stale_row **rows)
{
    size_t n = w->nstale;

    *rows = w->stale;
    w->stale = NULL;
    w->nstale = w->stale_space = 0;
    return n;
}

static void note_stale(struct sweep *w, uint64_t expire_ms, struct slice key)
{
    struct stale_row *r;

    if (w->nstale == STALE_MAX)
        return; /* met again after the next checkpoint */
    if (w->nstale == w->stale_space) {
        w->stale_space = w->stale_space == 0 ? 16 : w->stale_space * 2;
        w->stale = realloc(w->stale, w->stale_space * sizeof(*w->stale));
        if (w->stale == NULL)
            PANIC("out of memory");
    }
    r = &w->stale[w->nstale++];
    r->expire_ms = expire_ms;
    r->key_len = (uint16_t)key.len;
    memcpy(r->key, key.ptr, key.len);
    store_changed(w->s);
}

static bool in_table(const struct table *t, struct slice key)
{
    struct slice value;

    return t != NULL && (table_hides_below(t) || table_get(t, key, &value) != TABLE_ABSENT);
}

static bool on_row(void *ctx, uint64_t expire_ms, struct slice row_key)
{
    struct step *step = ctx;
    struct sweep *w = step->w;
    struct slice key, value;
    struct record r;

    ASSERT(row_key.len <= sizeof(w->position));
    memcpy(w->position, row_key.ptr, row_key.len);
    w->position_len = row_key.len;
    w->position_ms = expire_ms;
    key = slice_of(w->position, w->position_len);

    /* What a table says is already decided; the checkpoint will bring the row into step. */
    if (!in_table(w->s->active, key) && !in_table(w->s->frozen, key)) {
        int err = store_lookup(w->s, key, &value);

        if (err == 0)
            err = record_decode(key, value, &r);
        if (err == 0 && r.expire_ms == expire_ms) {
            store_del(w->s, key);
            w->s->counts.expired++;
        } else {
            note_stale(w, expire_ms, key);
        }
    }
    return --step->left > 0;
}

uint64_t sweep_step(struct sweep *w, uint64_t stamp_ms, unsigned budget)
{
    struct step step = {.w = w, .left = budget};
    struct slice from = slice_of(w->position, w->position_len);

    ASSERT(budget > 0);
    if (stamp_ms <= w->empty_upto_ms || store_table_full(w->s))
        return LOOK_US;
    w->blind = index_scan_expiry(w->s->index, w->position_ms, from, stamp_ms, on_row, &step) != 0;
    if (w->blind)
        return LOOK_US; /* damage in the tree: the audit names it */
    if (step.left == 0)
        return AGAIN_US;
    w->empty_upto_ms = stamp_ms;
    return LOOK_US;
}

bool sweep_is_behind(const struct sweep *w, uint64_t stamp_ms)
{
    return stamp_ms > w->empty_upto_ms && !w->blind;
}

static bool found(void *ctx, uint64_t expire_ms, struct slice key)
{
    (void)expire_ms;
    (void)key;
    *(bool *)ctx = true;
    return false;
}

/* Deadlines up to the applied stamp need no TICK: the sweep may take them already. */
bool sweep_due(struct sweep *w, uint64_t now_ms)
{
    bool due = false;

    if (now_ms <= w->s->stamp_ms || w->s->stamp_ms == UINT64_MAX)
        return false;
    (void)index_scan_expiry(w->s->index, w->s->stamp_ms + 1, slice_of(NULL, 0), now_ms, found,
                            &due);
    return due;
}
