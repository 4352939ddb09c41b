/* SPDX-License-Identifier: MIT */
/* fsm_model_unit: the other ops of the model, and units; see fsm_model.h. */
#ifndef TESTS_UNIT_FSM_MODEL_UNIT_H
#define TESTS_UNIT_FSM_MODEL_UNIT_H

#include "fsm_model_value.h"

static inline void model_expire(struct model *m, struct model_key *k, struct step *s)
{
    uint64_t infinite = k->expire_ms == 0 ? UINT64_MAX : k->expire_ms;

    s->status = FSM_NIL;
    if (!k->there || (s->flags & OPF_NX && k->expire_ms != 0) ||
        (s->flags & OPF_XX && k->expire_ms == 0) || (s->flags & OPF_GT && s->arg <= infinite) ||
        (s->flags & OPF_LT && s->arg >= infinite))
        return;
    s->status = FSM_OK;
    s->value = 1;
    k->expire_ms = s->arg == 0 ? 1 : s->arg;
    model_written(m, k);
}

static inline void model_read(struct model *m, struct model_key *k, struct step *s)
{
    s->status = k->there ? FSM_OK : FSM_NIL;
    s->value = s->has_old = k->there;
    s->old = *k;
    if (!k->there)
        return;
    if (s->op == OP_GETDEL) {
        k->there = false;
    } else if (s->flags & OPF_PERSIST ? k->expire_ms != 0 : s->arg != 0) {
        k->expire_ms = s->flags & OPF_PERSIST ? 0 : s->arg;
        model_written(m, k);
    }
}

static inline void model_move(struct model *m, struct model_key *k, struct step *s)
{
    struct model_key *to = &m->keys[s->to];
    bool rename = s->op == OP_RENAME, replace = s->flags & OPF_REPLACE;

    if (!k->there) {
        s->status = rename ? FSM_NOKEY : FSM_NIL;
    } else if (k == to) {
        s->status = rename && !(s->flags & OPF_NX) ? FSM_OK : FSM_NIL;
        s->value = s->status == FSM_OK;
    } else if (to->there && (rename ? s->flags & OPF_NX : !replace)) {
        s->status = FSM_NIL;
    } else if (k->slab) {
        s->status = FSM_REBUILD;
    } else {
        s->value = 1;
        *to = *k;
        model_written(m, to);
        if (rename)
            k->there = false;
    }
}

static inline void model_small(struct model *m, struct model_key *k, struct step *s)
{
    bool done = k->there;

    if (s->op == OP_PERSIST)
        done = k->there && k->expire_ms != 0;
    if (s->op == OP_EVICT)
        done = k->there && k->mod == s->arg;
    if (s->op == OP_UNLESS)
        done = !k->there;
    s->status = done ? FSM_OK : FSM_NIL;
    s->value = done;
    if (done && s->op == OP_PERSIST) {
        k->expire_ms = 0;
        model_written(m, k);
    } else if (done && s->op != OP_UNLESS) {
        k->there = false;
    }
}

static inline void model_step(struct model *m, struct step *s)
{
    struct model_key *k = &m->keys[s->key];

    if (s->op == OP_PUT || s->op == OP_PUT_SLAB) {
        model_put(m, k, s);
    } else if (s->op == OP_INCRBY) {
        model_incrby(m, k, s);
    } else if (s->op == OP_INCRBYFLOAT) {
        model_incrbyfloat(m, k, s);
    } else if (s->op == OP_APPEND || s->op == OP_SETRANGE) {
        model_write_at(m, k, s);
    } else if (s->op == OP_EXPIRE) {
        model_expire(m, k, s);
    } else if (s->op == OP_GETDEL || s->op == OP_GETEX) {
        model_read(m, k, s);
    } else if (s->op == OP_RENAME || s->op == OP_COPY) {
        model_move(m, k, s);
    } else if (s->op == OP_FLUSH) {
        s->value = 1;
        for (int i = 0; i < MODEL_KEYS; i++)
            m->keys[i].there = false;
    } else if (s->op == OP_DEL || s->op == OP_PERSIST || s->op == OP_EVICT || s->op == OP_UNLESS) {
        model_small(m, k, s);
    } else { /* a condition that held */
        s->value = 1;
    }
}

static inline bool model_holds(const struct model *m, const struct step *s)
{
    return s->op != OP_IF_MOD || s->arg == (m->keys[s->key].there ? m->keys[s->key].mod : 0);
}

static inline void model_unit(struct model *m, struct step *steps, int count)
{
    static struct model before;
    enum fsm_status none = FSM_OK;
    int first = -1, resume = 0;

    before = *m;
    for (int i = 0; i < count; i++)
        if (!model_holds(m, &steps[i]))
            none = FSM_ABORTED;
    for (int i = 0; i < count && none == FSM_OK; i++) {
        if (i < resume) {
            steps[i].status = FSM_NIL;
            continue;
        }
        model_step(m, &steps[i]);
        if (steps[i].op == OP_UNLESS && steps[i].status == FSM_NIL)
            resume = i + 1 + (int)steps[i].arg;
        if (steps[i].status == FSM_REBUILD) {
            none = FSM_REBUILD;
            first = i;
        }
    }
    if (none == FSM_OK)
        return;
    *m = before;
    for (int i = 0; i < count; i++) {
        steps[i].status = none;
        steps[i].value = i == first;
        steps[i].has_old = false;
        steps[i].text[0] = '\0';
    }
}

#endif
