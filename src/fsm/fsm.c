/* SPDX-License-Identifier: MIT */
/* Applying an entry: unit after unit, in each op after op.
 *
 * A unit (the ops of one command) takes effect whole or not at all.
 * 1. It is scanned: its conditions are compared with the state that the units before left. One that
 *    fails aborts the unit.
 * 2. An op may find that its value cannot be built here (FSM_REBUILD). Ops before it have changed
 *    keys by then, and reads of a MULTI have been answered, so a unit with such ops is tried first:
 *    the same code runs against an overlay (apply.c). If any op needs a rebuild, every op reports
 *    FSM_REBUILD and the store was never touched.
 * 3. It runs for real, reporting to the observer. Errors such as FSM_NOINT are results like others
 *    and stop nothing, as in Redis.
 * The proposer uses the same trial ahead of time (fsm_try) to learn which values it has to build.
 *
 * The same state on every node and every replay: an op depends on the entry, on records, and on the
 * stamp, which never goes back.
 *
 * mod. All keys an entry writes get its index, also when two of its units write one key: to someone
 * who read the key between them, the second write would be invisible. Only the observer runs there,
 * and what it reads goes into replies (MULTI), never into conditions. WATCH, EVICT and rebuilds
 * take their mods between entries, and then: equal mod = no entry since has written the key. A key
 * deleted and made again has another mod; one made and deleted again is absent as before, which a
 * WATCH finds by on_change.
 *
 * Damage (a check, an unknown op) stops the node before the entry counts as applied: the next start
 * meets the same entry, which a newer program may know.
 */
#include "fsm/fsm.h"

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/hash.h"
#include "fsm/fsm_int.h"

static const op_fn ops[OP_MAX_] = {
    [OP_PUT] = op_put,
    [OP_PUT_SLAB] = op_put,
    [OP_DEL] = op_del,
    [OP_EXPIRE] = op_expire,
    [OP_PERSIST] = op_persist,
    [OP_INCRBY] = op_incrby,
    [OP_INCRBYFLOAT] = op_incrbyfloat,
    [OP_APPEND] = op_append,
    [OP_SETRANGE] = op_setrange,
    [OP_GETDEL] = op_getdel,
    [OP_GETEX] = op_getex,
    [OP_RENAME] = op_rename,
    [OP_COPY] = op_copy,
    [OP_FLUSH] = op_flush,
    [OP_EVICT] = op_evict,
    [OP_UNLESS] = op_unless,
};

struct unit {
    struct entry_reader reader; /* at its first op */
    uint32_t first, count;      /* op numbers within the entry */
    bool may_rebuild;
    enum fsm_status verdict; /* FSM_OK: run it */
    uint32_t needs;          /* FSM_REBUILD: the op that cannot be done here */
};

/* The ops of a unit, one after another. */
struct run {
    struct entry_reader reader;
    uint64_t skip; /* so many have no effect */
};

static void check(const struct apply *a, int err)
{
    if (err < 0)
        PANIC("entry %llu of the log: %s: stopping before it is applied",
              (unsigned long long)a->index, err_text(err));
}

static void next_op(const struct apply *a, struct entry_reader *r, struct entry_op *op)
{
    int got = entry_next(r, op);

    check(a, got);
    ASSERT(got == 1); /* the reader counts, and says ERR_CORRUPT when the last op wants more */
}

static bool is_condition(const struct entry_op *op)
{
    return op->op == OP_IF_MOD;
}

static bool condition_holds(struct apply *a, const struct entry_op *op)
{
    struct record r;
    bool exists = apply_get(a, op->key, &r);

    return entry_arg_u64(op) == (exists ? r.mod : 0);
}

/* Reads the ops of one unit and leaves `r` behind it. */
static void scan_unit(struct apply *a, struct entry_reader *r, uint32_t first, struct unit *u)
{
    uint64_t skip_end = 0;
    struct entry_op op;

    *u = (struct unit){.reader = *r, .first = first, .verdict = FSM_OK};
    do {
        next_op(a, r, &op);
        u->count++;
        if (is_condition(&op) && !condition_holds(a, &op))
            u->verdict = FSM_ABORTED;
        if (op.op == OP_APPEND || op.op == OP_SETRANGE || op.op == OP_RENAME || op.op == OP_COPY)
            u->may_rebuild = true;
        if (op.op == OP_UNLESS && entry_arg_u64(&op) > UINT32_MAX)
            check(a, ERR_CORRUPT);
        if (op.op == OP_UNLESS && u->count + entry_arg_u64(&op) > skip_end)
            skip_end = u->count + entry_arg_u64(&op);
    } while (op.flags & ENTRY_MORE);
    if (skip_end > u->count)
        check(a, ERR_CORRUPT); /* it would skip another command's ops */
}

/* The next op and a result to fill; false: it is skipped, which is its result. */
static bool next_to_run(struct apply *a, struct run *run, struct entry_op *op,
                        struct fsm_result *result)
{
    next_op(a, &run->reader, op);
    *result =
        (struct fsm_result){.op = op->op, .status = FSM_OK, .last = !(op->flags & ENTRY_MORE)};
    if (run->skip == 0)
        return true;
    run->skip--;
    result->status = FSM_NIL;
    return false;
}

static void run_op(struct apply *a, struct run *run, const struct entry_op *op,
                   struct fsm_result *result)
{
    ops[op->op](a, op, result);
    if (op->op == OP_UNLESS && result->status == FSM_NIL)
        run->skip = entry_arg_u64(op);
}

/* need: NULL, or told of the op that needs a rebuild. */
static void try_unit(struct apply *a, struct unit *u, fsm_need_fn need, void *ctx)
{
    struct run run = {u->reader, 0};
    struct fsm_result result;
    struct entry_op op;
    struct record old;

    apply_trial_begin(a);
    for (uint32_t i = 0; i < u->count && u->verdict == FSM_OK; i++) {
        if (!next_to_run(a, &run, &op, &result) || is_condition(&op))
            continue;
        run_op(a, &run, &op, &result);
        if (result.status != FSM_REBUILD)
            continue;
        u->verdict = FSM_REBUILD;
        u->needs = i;
        if (need != NULL)
            need(ctx, i, apply_get(a, op.key, &old) ? &old : NULL);
    }
    apply_trial_end(a);
}

static void report(const struct fsm_observer *o, uint32_t op_index, const struct fsm_result *r)
{
    if (o != NULL && o->result != NULL)
        o->result(o->ctx, op_index, r);
}

static void run_unit(struct apply *a, const struct unit *u, const struct fsm_observer *o)
{
    struct run run = {u->reader, 0};
    struct fsm_result result;
    struct entry_op op;

    for (uint32_t i = 0; i < u->count; i++) {
        bool runs = next_to_run(a, &run, &op, &result);

        if (runs && is_condition(&op)) { /* it held */
            result.value = 1;
            result.mod = entry_arg_u64(&op);
        } else if (runs) {
            if (o != NULL && o->before_op != NULL)
                o->before_op(o->ctx, u->first + i);
            run_op(a, &run, &op, &result);
            ASSERT(result.status != FSM_REBUILD);
        }
        report(o, u->first + i, &result);
    }
}

/* Every op reports why its unit has no effect. */
static void refuse_unit(struct apply *a, const struct unit *u, const struct fsm_observer *o)
{
    struct entry_reader r = u->reader;
    struct entry_op op;

    for (uint32_t i = 0; i < u->count; i++) {
        struct fsm_result none = {.status = u->verdict, .last = i + 1 == u->count};

        next_op(a, &r, &op);
        none.op = op.op;
        none.value = u->verdict == FSM_REBUILD && u->needs == i;
        report(o, u->first + i, &none);
    }
}

static void run_group(struct apply *a, struct entry_reader r, const struct fsm_observer *o)
{
    struct entry_op op;
    struct unit u;

    for (uint32_t first = 0; r.left > 0; first += u.count) {
        scan_unit(a, &r, first, &u);
        if (u.verdict == FSM_OK && u.may_rebuild)
            try_unit(a, &u, NULL, NULL);
        if (u.verdict == FSM_OK)
            run_unit(a, &u, o);
        else
            refuse_unit(a, &u, o);
    }
    check(a, entry_next(&r, &op)); /* nothing may follow the last op */
}

void fsm_apply(struct fsm *f, uint64_t index, uint64_t term, struct slice entry,
               const struct fsm_observer *observer, struct entry_header *h)
{
    struct apply a = {.f = f, .index = index, .stamp_ms = store_applied_stamp(f->store)};
    struct entry_reader r;

    ASSERT(index > 0);
    check(&a, entry_open(entry, h, &r));
    if (index <= store_applied_index(f->store))
        return;
    (void)FAIL("apply.before");
    if (h->stamp_ms > a.stamp_ms)
        a.stamp_ms = h->stamp_ms;
    if (h->kind == ENTRY_GROUP)
        run_group(&a, r, observer);
    store_applied(f->store, index, term, a.stamp_ms);
    apply_fini(&a);
    (void)FAIL("apply.after");
}

enum fsm_status fsm_try(struct fsm *f, const struct entry_writer *unit, uint64_t stamp_ms,
                        fsm_need_fn need, void *ctx)
{
    struct apply a = {.f = f, .index = store_applied_index(f->store) + 1, .stamp_ms = stamp_ms};
    struct entry_reader r = entry_read_back(unit);
    struct unit u;

    if (a.stamp_ms < store_applied_stamp(f->store))
        a.stamp_ms = store_applied_stamp(f->store);
    scan_unit(&a, &r, 0, &u);
    ASSERT(u.count == unit->count);
    if (u.verdict == FSM_OK && u.may_rebuild)
        try_unit(&a, &u, need, ctx);
    apply_fini(&a);
    return u.verdict;
}

/* ---- digest ------------------------------------------------------------------------------ */

struct digest {
    uint64_t value, stamp_ms;
};

/* Key after key, each seeded with what came before. Kind, place and holders differ between nodes;
 * expired keys are swept at different times. */
static bool digest_key(void *ctx, struct slice key, const struct record *r)
{
    struct digest *d = ctx;
    uint64_t numbers[] = {r->flags,        r->tokens,      r->mod,       r->created_ms,
                          r->expire_ms,    r->length,      r->digest,    r->payload.node,
                          r->payload.boot, r->payload.seq, r->model.len, r->seq.len};
    uint8_t fixed[sizeof(numbers)];

    if (record_expired(r, d->stamp_ms))
        return true;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        codec_put64(fixed + 8 * i, numbers[i]);
    d->value = hash64_seed(key.ptr, key.len, d->value);
    d->value = hash64_seed(fixed, sizeof(fixed), d->value);
    d->value = hash64_seed(r->model.ptr, r->model.len, d->value);
    d->value = hash64_seed(r->seq.ptr, r->seq.len, d->value);
    return true;
}

int fsm_digest(struct fsm *f, uint64_t *out)
{
    struct digest d = {.stamp_ms = store_applied_stamp(f->store)};
    int err = store_scan(f->store, slice_of(NULL, 0), false, digest_key, &d);

    if (err == 0)
        *out = d.value;
    return err;
}
