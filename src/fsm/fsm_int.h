/* SPDX-License-Identifier: MIT */
/* fsm_int: one entry being applied, for the files of src/fsm that share it.
 *
 * An op reads with apply_get, decides, and writes with apply_put or apply_del; it never sees
 * whether that is the store or a trial (fsm.c). A record that apply_get filled borrows from the
 * store until the next apply_get, apply_put, apply_del; that may be an apply_put of the record
 * itself. apply_hold copies what must live longer.
 */
#ifndef FSM_FSM_INT_H
#define FSM_FSM_INT_H

#include "fsm/fsm.h"

struct trial; /* changes of a unit that are tried out and thrown away */

struct apply_buf {
    uint8_t *mem;
    size_t size;
};

struct apply {
    struct fsm *f;
    uint64_t index, stamp_ms;
    struct trial *trial;          /* NULL: for real */
    struct apply_buf held, built; /* of the op in hand */
};

void apply_fini(struct apply *a);
void apply_trial_begin(struct apply *a);
void apply_trial_end(struct apply *a); /* forgets what was tried */

/* False: absent or expired at the entry's stamp, *out untouched. */
bool apply_get(struct apply *a, struct slice key, struct record *out);
/* Sets record.mod. A record that is expired already deletes the key. Returns the key's mod now. */
uint64_t apply_put(struct apply *a, struct slice key, struct record *r);
void apply_del(struct apply *a, struct slice key);
void apply_flush(struct apply *a);

/* Copies model, seq and data, so that the record survives a write. Once per op. */
void apply_hold(struct apply *a, struct record *r);
/* Room for a new value, until the next op. */
uint8_t *apply_build(struct apply *a, size_t len);

typedef void (*op_fn)(struct apply *a, const struct entry_op *op, struct fsm_result *r);

/* Each gets a result that says FSM_OK, value 0, mod 0. */
void op_put(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_incrby(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_incrbyfloat(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_append(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_setrange(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_getdel(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_getex(struct apply *a, const struct entry_op *op, struct fsm_result *r);

void op_del(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_expire(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_persist(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_rename(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_copy(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_flush(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_evict(struct apply *a, const struct entry_op *op, struct fsm_result *r);
void op_unless(struct apply *a, const struct entry_op *op, struct fsm_result *r);

#endif
