/* SPDX-License-Identifier: MIT */
/* Ops on keys: deletion, deadlines, other names. Semantics are Redis 7's.
 *
 * A payload in a volume carries its key, so RENAME and COPY of one need a new payload: FSM_REBUILD.
 * Everything else about a key is in its record, and such an op copies the record, TTL and metadata
 * included.
 */
#include "fsm/fsm_int.h"

#include "base/assert.h"

void op_del(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct record old;

    if (!apply_get(a, op->key, &old)) {
        r->status = FSM_NIL;
        return;
    }
    apply_del(a, op->key);
    r->value = 1;
}

/* A key without TTL counts as one whose deadline is infinitely far. */
static bool expire_refused(unsigned flags, uint64_t old_ms, uint64_t new_ms)
{
    if ((flags & OPF_NX) && old_ms != 0)
        return true;
    if ((flags & OPF_XX) && old_ms == 0)
        return true;
    if ((flags & OPF_GT) && (old_ms == 0 || new_ms <= old_ms))
        return true;
    return (flags & OPF_LT) && old_ms != 0 && new_ms >= old_ms;
}

void op_expire(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    uint64_t expire_ms = entry_arg_u64(op);
    struct record old;
    bool exists = apply_get(a, op->key, &old);

    if (exists)
        r->mod = old.mod;
    if (!exists || expire_refused(op->flags, old.expire_ms, expire_ms)) {
        r->status = FSM_NIL;
        return;
    }
    r->value = 1;
    r->mod = 0;
    if (expire_ms <= a->stamp_ms) {
        apply_del(a, op->key);
        return;
    }
    old.expire_ms = expire_ms;
    r->mod = apply_put(a, op->key, &old);
}

void op_persist(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct record old;
    bool exists = apply_get(a, op->key, &old);

    if (exists)
        r->mod = old.mod;
    if (!exists || old.expire_ms == 0) {
        r->status = FSM_NIL;
        return;
    }
    old.expire_ms = 0;
    r->mod = apply_put(a, op->key, &old);
    r->value = 1;
}

/* Both names are the same: the key stays as it is. */
static void rename_to_itself(const struct entry_op *op, const struct record *old,
                             struct fsm_result *r)
{
    r->mod = old->mod;
    if (op->flags & OPF_NX)
        r->status = FSM_NIL;
    else
        r->value = 1;
}

void op_rename(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct slice to = op->body;
    struct record old, there;

    if (!apply_get(a, op->key, &old)) {
        r->status = FSM_NOKEY;
        return;
    }
    if (slice_eq(op->key, to)) {
        rename_to_itself(op, &old, r);
        return;
    }
    r->mod = old.mod;
    apply_hold(a, &old);
    if ((op->flags & OPF_NX) && apply_get(a, to, &there)) {
        r->status = FSM_NIL;
        return;
    }
    if (old.kind != RECORD_INLINE) {
        r->status = FSM_REBUILD;
        return;
    }
    apply_put(a, to, &old);
    apply_del(a, op->key);
    r->mod = 0;
    r->value = 1;
}

void op_copy(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct slice to = op->body;
    struct record old, there;

    if (!apply_get(a, op->key, &old)) {
        r->status = FSM_NIL;
        return;
    }
    r->mod = old.mod;
    apply_hold(a, &old);
    if (slice_eq(op->key, to) || (!(op->flags & OPF_REPLACE) && apply_get(a, to, &there))) {
        r->status = FSM_NIL;
        return;
    }
    if (old.kind != RECORD_INLINE) {
        r->status = FSM_REBUILD;
        return;
    }
    apply_put(a, to, &old);
    r->value = 1;
}

void op_flush(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    ASSERT(op->key.len == 0);
    apply_flush(a);
    r->value = 1;
}

/* Void if the key was written since the store chose it. An expired key is left to the sweep. */
void op_evict(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct record old;
    bool exists = apply_get(a, op->key, &old);

    if (exists)
        r->mod = old.mod;
    if (!exists || old.mod != entry_arg_u64(op)) {
        r->status = FSM_NIL;
        return;
    }
    apply_del(a, op->key);
    if (a->trial == NULL)
        store_count_evicted(a->f->store);
    r->mod = 0;
    r->value = 1;
}

/* The skipping is done by whoever runs the ops of the unit. */
void op_unless(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct record old;

    if (apply_get(a, op->key, &old)) {
        r->mod = old.mod;
        r->status = FSM_NIL;
        return;
    }
    r->value = 1;
}
