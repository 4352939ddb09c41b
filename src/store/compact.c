/* SPDX-License-Identifier: MIT */
/* Empties one volume: its header chain is walked, every key that still lives there MOVEs, expired
 * ones are deleted; then a checkpoint makes it FREE. Victim: the SEALED volume with the least live
 * bytes, and only if all of them fit in what MOVE may use now: a compaction that runs out of room
 * halfway would have taken the last FREE volume and given none back.
 *
 *   idle → reading (chain job) → moving (its entries) → reading … → draining (last MOVEs) → idle
 *
 * Failure modes: what stays behind (an unreadable payload, a damaged header whose key nobody knows)
 * keeps the volume from being FREE; it is shunned until one of its records goes.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/logger.h"
#include "store/evict_int.h"

#define BLOCKED_US 10000u /* no memory or table room just now */

enum phase { PHASE_IDLE, PHASE_READING, PHASE_MOVING, PHASE_DRAINING };

struct compact {
    struct store *s;
    struct mover *mover;
    struct chain chain;
    enum phase phase;
    struct volume_row victim;
    size_t next; /* of the chain's entries */
};

static void on_entries(struct chain *chain)
{
    struct compact *c = (struct compact *)((char *)chain - offsetof(struct compact, chain));

    c->phase = PHASE_MOVING;
    c->next = 0;
}

struct compact *compact_new(struct store *s)
{
    struct compact *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->s = s;
    c->mover = mover_new(s);
    if (c->mover == NULL || chain_init(&c->chain, s->volumes) != 0) {
        compact_free(c);
        return NULL;
    }
    c->chain.done = on_entries;
    return c;
}

void compact_free(struct compact *c)
{
    if (c == NULL)
        return;
    chain_fini(&c->chain);
    mover_free(c->mover);
    free(c);
}

static bool choose(const struct compact *c, struct volume_row *row)
{
    return volumes_emptiest(c->s->volumes, row) &&
           row->live_bytes <= volumes_move_room(c->s->volumes);
}

bool compact_possible(const struct compact *c)
{
    struct volume_row row;

    return choose(c, &row);
}

bool compact_running(const struct compact *c)
{
    return c->phase != PHASE_IDLE;
}

bool compact_in_flight(const struct compact *c)
{
    return c->chain.busy || mover_active(c->mover) > 0;
}

static void read_on(struct compact *c)
{
    if (c->chain.at < c->chain.end && chain_start(&c->chain, c->s->readers, &c->victim) == 0)
        c->phase = PHASE_READING;
    else
        c->phase = PHASE_DRAINING;
}

bool compact_start(struct compact *c)
{
    ASSERT(c->phase == PHASE_IDLE && !compact_in_flight(c));
    if (!choose(c, &c->victim))
        return false;
    LOG_DEBUG("compact volume=%u live_bytes=%llu records=%llu", c->victim.number,
              (unsigned long long)c->victim.live_bytes, (unsigned long long)c->victim.live_records);
    c->chain.at = 0;
    c->chain.end = c->victim.cursor;
    read_on(c);
    return true;
}

/* ERR_AGAIN: later. */
static int move_entry(struct compact *c, const struct chain_entry *e)
{
    struct place here = {c->victim.number, c->victim.generation, e->offset};
    struct slice key = slice_of(e->key, e->key_len);
    struct record r;

    if (evict_find(c->s, key, &r) != 0 || r.kind != RECORD_SLAB || !place_eq(r.place, here) ||
        evict_expired(c->s, key, &r))
        return 0;
    return mover_start(c->mover, key, &r);
}

static uint64_t move_entries(struct compact *c)
{
    unsigned budget = EVICT_STEP_KEYS;

    for (; c->next < c->chain.count && budget > 0; c->next++, budget--) {
        if (store_table_full(c->s))
            return BLOCKED_US;
        if (move_entry(c, &c->chain.entries[c->next]) == ERR_AGAIN)
            return mover_active(c->mover) > 0 ? EVICT_WAIT_US : BLOCKED_US;
    }
    if (c->next == c->chain.count)
        read_on(c);
    return 0;
}

static void finish(struct compact *c)
{
    struct volume_row now;

    c->phase = PHASE_IDLE;
    if (!volumes_get(c->s->volumes, c->victim.number, &now) ||
        now.generation != c->victim.generation || now.live_records == 0) {
        checkpoint_start(c->s, false); /* if one runs already, the next is due soon */
        return;
    }
    LOG_VERBOSE("compact volume=%u keeps records=%llu", now.number,
                (unsigned long long)now.live_records);
    volumes_shun(c->s->volumes, now.number);
}

uint64_t compact_step(struct compact *c)
{
    mover_step(c->mover);
    switch (c->phase) {
    case PHASE_MOVING:
        return move_entries(c);
    case PHASE_DRAINING:
        if (mover_active(c->mover) > 0)
            return EVICT_WAIT_US;
        finish(c);
        return 0;
    case PHASE_IDLE:
    case PHASE_READING:
        break;
    }
    return EVICT_WAIT_US;
}
