/* SPDX-License-Identifier: MIT */
/* fsm_rig: a state machine over a real store in a temporary folder, without a log.
 *
 * Purpose   ops go into rig->w, rig_commit makes an entry of them, keeps it in rig->log and applies
 *           it; the results lie in rig->res. rig_replay applies the log of one rig to another
 * Threads   the test's: the store is stepped
 * Lifetime  what a result names is copied and lives until the next rig_commit
 */
#ifndef TESTS_UNIT_FSM_RIG_H
#define TESTS_UNIT_FSM_RIG_H

#include "fsm_rig_look.h"

static inline void tell(struct rig *r, char what, uint32_t op)
{
    size_t have = strlen(r->story);

    snprintf(r->story + have, sizeof(r->story) - have, "%s%c%u", have > 0 ? " " : "", what, op);
}

static inline void on_before(void *ctx, uint32_t op)
{
    struct rig *r = ctx;

    r->nbefore++;
    tell(r, 'b', op);
    if (r->before != NULL)
        r->before(r, op);
}

static inline struct slice keep(struct rig *r, struct slice s)
{
    uint8_t *copy = malloc(s.len + 1);

    CHECK(copy != NULL && r->ncopies < sizeof(r->copies) / sizeof(r->copies[0]));
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    r->copies[r->ncopies++] = copy;
    return slice_of(copy, s.len);
}

static inline void on_result(void *ctx, uint32_t op, const struct fsm_result *result)
{
    struct rig *r = ctx;
    struct fsm_result *mine = &r->res[r->nres];

    CHECK_EQ_U64(op, r->nres);
    CHECK_LT_INT(r->nres, RIG_RESULTS_MAX);
    tell(r, 'r', op);
    r->nres++;
    *mine = *result;
    if (result->text.len > 0)
        mine->text = keep(r, result->text);
    if (result->has_old) {
        mine->old.model = keep(r, result->old.model);
        mine->old.seq = keep(r, result->old.seq);
        mine->old.data = keep(r, result->old.data);
    }
}

/* An entry that exists; observed: as an own one. */
static inline void rig_apply(struct rig *r, uint64_t index, struct slice entry, bool observed)
{
    struct fsm_observer observer = {on_before, on_result, r};
    struct entry_header h;

    drop_copies(r);
    r->nres = r->nbefore = 0;
    r->story[0] = r->changed[0] = '\0';
    r->changes = r->flushes = 0;
    fsm_apply(&r->fsm, index, RIG_TERM, entry, observed ? &observer : NULL, &h);
    if (index > r->index)
        r->index = index;
    CHECK_EQ_U64(store_applied_index(r->store), r->index);
}

/* Applies what was put into r->w as the next entry, and begins the next. */
static inline void rig_commit(struct rig *r)
{
    enum entry_kind kind = r->w.count > 0 ? ENTRY_GROUP : ENTRY_TICK;
    uint32_t count = r->w.count;
    struct slice e = entry_finish(&r->w, kind, r->node, 1, r->index, r->stamp_ms);
    struct rig_entry *kept = &r->log[r->entries];

    recover(r);
    CHECK_LT_INT(r->entries, RIG_LOG_MAX);
    *kept = (struct rig_entry){r->index + 1, e.len, malloc(e.len)};
    memcpy(kept->bytes, e.ptr, e.len);
    r->entries++;
    rig_apply(r, kept->index, slice_of(kept->bytes, kept->len), true);
    CHECK_EQ_U64(r->nres, count);
    entry_begin(&r->w);
}

/* Every entry of `from`; those below r's applied index are skipped. */
static inline void rig_replay(struct rig *r, const struct rig *from)
{
    for (size_t i = 0; i < from->entries; i++)
        rig_apply(r, from->log[i].index, slice_of(from->log[i].bytes, from->log[i].len), false);
}

static inline uint64_t rig_digest(struct rig *r)
{
    uint64_t digest = 0;

    CHECK_EQ_INT(fsm_digest(&r->fsm, &digest), 0);
    return digest;
}

#endif
