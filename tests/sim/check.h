/* SPDX-License-Identifier: MIT */
/* check: is there an order of the operations that explains every reply?
 *
 * Purpose   linearizability of each group of keys, by search (Wing and Gong, with a memory of the
 *           states seen). Operations are collected into a segment while any of them is under way;
 *           when none is, the segment is searched from the states the last one could end in
 * Life      check_begin at the invocation; then exactly one of check_done (it was answered),
 *           check_unknown (it never will be), check_drop (it had no effect and says nothing)
 * Errors    no order: sim_fail with the history of the group
 */
#ifndef TESTS_SIM_CHECK_H
#define TESTS_SIM_CHECK_H

#include "model.h"

struct answer { /* replies are shared by the operations of one command */
    unsigned refs;
    struct reply reply;
};

struct check_op {
    struct operation op;
    int group;
    uint64_t conn; /* its operations take effect in order; 0: none */
    bool slices;   /* it looks in pieces: reads sent behind it may look before it */
    struct answer *answer;
    /* private */
    struct check_op *next;
    uint64_t number, began, ended; /* moments */
    struct window w;
    enum { CHECK_OPEN, CHECK_DONE, CHECK_UNKNOWN } state;
};

void check_init(void);
void check_free(void);
struct check_op *check_begin(const struct operation *op, int group, uint64_t conn);
void check_done(struct check_op *c);
void check_unknown(struct check_op *c);
void check_drop(struct check_op *c);
/* An operation that begins and ends here. */
void check_now(const struct operation *op, int group, uint64_t conn);

/* The server is idle, or restarted: what is unknown has taken effect by now, or never will. */
void check_close_out(void);

/* `raft no`, after a crash: what was applied was seen by reads, and is gone where no checkpoint had
 * it. Such a read says nothing; writes were answered behind a checkpoint and must hold. */
void check_excuse_looks(void);

/* One of the states the group may be in, for the generator to aim with. */
const struct group_state *check_guess(int group);
size_t check_load(int group); /* operations in the segment */
size_t check_unknowns(void);  /* of all groups */
void check_mark_blobs(void);  /* of all groups */
void check_mark_operation(const struct operation *op);
size_t check_searches(void);
size_t check_widest(void); /* most states in one search */

struct answer *answer_ref(struct answer *a);
void answer_unref(struct answer *a);

#endif
