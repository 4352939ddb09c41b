/* SPDX-License-Identifier: MIT */
/* fsm: the state machine: entries in, results out, the store changed.
 *
 * Purpose   evaluates every op at apply against the store and the entry's stamp, never against a
 *           clock, so that every node and every replay comes to the same state
 * Threads   loop
 * Owner     results borrow from the store and the entry: valid during the callback
 * Order     entries in index order; ≤ the store's applied index are skipped
 * Mod       the index of the entry, for every key it wrote. Units of one entry share it, so a mod
 *           serves as a condition (OP_IF_MOD, OP_EVICT) only if it was read between entries: never
 *           one from result(), before_op() or a look-up during them
 * Errors    FSM_REBUILD: the unit had no effect because a new value must be built from a payload
 *           first (APPEND, SETRANGE, RENAME, COPY of slab values, results over
 *           FSM_INLINE_APPEND_MAX): the proposer reads, stages and proposes PUT with OP_IF_MOD.
 *           Damage in an entry is a PANIC: the log was checked before
 * Source    DESIGN §4 "Evaluation is at apply"
 */
#ifndef FSM_FSM_H
#define FSM_FSM_H

#include "fsm/entry.h"
#include "store/store.h"

#define FSM_INLINE_APPEND_MAX ((size_t)16 << 10) /* a longer value is never built at apply */

enum fsm_status {
    FSM_OK,       /* done; value and old as the op defines */
    FSM_NIL,      /* refused by NX/XX or key absent: no effect */
    FSM_ABORTED,  /* a condition of the unit failed: no effect */
    FSM_REBUILD,  /* no effect, for every op of the unit; value 1 = the first that needs it */
    FSM_NOINT,    /* ERR value is not an integer or out of range */
    FSM_NOFLOAT,  /* ERR value is not a valid float */
    FSM_OVERFLOW, /* ERR increment or decrement would overflow */
    FSM_NANINF,   /* ERR increment would produce NaN or Infinity */
    FSM_NOKEY     /* ERR no such key (RENAME) */
};

/*  op                  status: value
 *  PUT, PUT_SLAB       OK: 1; NIL (NX, XX refused): 0; has_old with PUT_GET, refused or not
 *  DEL, PERSIST, EVICT OK: 1; NIL (absent, no TTL, other mod): 0
 *  EXPIRE              OK: 1; NIL (absent, refused by its flags): 0
 *  INCRBY              OK: the sum; NOINT, OVERFLOW
 *  INCRBYFLOAT         OK: text; NOFLOAT, NANINF
 *  APPEND, SETRANGE    OK: the new length
 *  GETDEL, GETEX       OK: 1, has_old; NIL (absent): 0
 *  RENAME              OK: 1; NIL (NX refused): 0; NOKEY
 *  COPY                OK: 1; NIL (source absent, destination exists, both the same): 0
 *  FLUSH               OK: 1
 *  IF_MOD              OK: 1; ABORTED
 *  UNLESS              OK: 1; NIL (the key exists): 0
 *  any that UNLESS skipped: NIL: 0 */
struct fsm_result {
    enum op op;
    enum fsm_status status;
    int64_t value;     /* counts, lengths, sums: table above */
    struct slice text; /* INCRBYFLOAT */
    bool has_old;      /* GETDEL, GETEX, PUT_GET: the record before the op */
    struct record old;
    uint64_t mod; /* of the key after the op, 0 = absent */
    bool last;    /* the last op of its unit */
};

struct fsm {
    struct store *store;
    uint32_t node; /* whose holder entries are ours */
    /* keys that changed: WATCH and the RAM tier (place of the replaced payload). May be NULL. An
     * empty key: all of them (FLUSH). */
    void (*on_change)(void *ctx, struct slice key);
    void *ctx;
};

/* For each op of an own group, in order: result. Ahead of it, when its unit takes effect, it is no
 * condition and UNLESS does not skip it, before_op: reads of a MULTI run there and see what the ops
 * before did. Either may be NULL. */
struct fsm_observer {
    void (*before_op)(void *ctx, uint32_t op_index);
    void (*result)(void *ctx, uint32_t op_index, const struct fsm_result *r);
    void *ctx;
};

/* observer: NULL for entries of others and on replay. h: decoded header, for the caller. */
void fsm_apply(struct fsm *f, uint64_t index, uint64_t term, struct slice entry,
               const struct fsm_observer *observer, struct entry_header *h);

/* What a unit, planned but not proposed, would come to now; nothing changes. FSM_OK: apply can do
 * all of it. FSM_ABORTED: a condition does not hold. FSM_REBUILD: need() was called once, with the
 * op's number in the unit and the record that its key has there (NULL: absent; borrowed during the
 * call). It is a forecast: apply decides by the state it meets. */
typedef void (*fsm_need_fn)(void *ctx, uint32_t op_index, const struct record *old);
enum fsm_status fsm_try(struct fsm *f, const struct entry_writer *unit, uint64_t stamp_ms,
                        fsm_need_fn need, void *ctx);

/* Bytes of memory table that the ops of a unit may take: values that change (APPEND, EXPIRE) are
 * written there as a whole. Looks every key up. */
uint64_t fsm_growth(struct fsm *f, const struct entry_writer *unit);

/* Logical digest over all keys present at the applied stamp, without the places of their payloads
 * (DEBUG DIGEST, cluster tests). */
int fsm_digest(struct fsm *f, uint64_t *out);

#endif
