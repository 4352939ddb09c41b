/* SPDX-License-Identifier: MIT */
/* fsm_model: what the ops do, a second time, on plain arrays.
 *
 * Purpose   a step is one op; model_unit (fsm_model_unit.h) runs the steps of a unit and says what
 *           each must answer. Nothing here knows records, entries or the store
 * Threads   the test's
 * Limits    MODEL_KEYS keys, values built by ops up to MODEL_INLINE bytes; a value in a volume has
 *           a length and no bytes
 */
#ifndef TESTS_UNIT_FSM_MODEL_H
#define TESTS_UNIT_FSM_MODEL_H

#include "fsm/fsm.h"

enum { MODEL_KEYS = 6, MODEL_INLINE = 16384, MODEL_UNIT = 8 };

struct model_key {
    bool there, slab;
    uint64_t mod, expire_ms, created_ms, len;
    uint32_t tokens;
    uint8_t data[MODEL_INLINE];
};

struct model {
    struct model_key keys[MODEL_KEYS];
    uint64_t index, now_ms; /* of the entry */
};

struct step {
    enum op op;
    unsigned flags;
    int key, to;  /* to: RENAME, COPY */
    uint64_t arg; /* numbers, SETRANGE's offset */
    const uint8_t *body;
    size_t body_len;
    uint64_t expire_ms, created_ms; /* PUT, as what follows */
    uint32_t tokens;
    /* what it must answer */
    enum fsm_status status;
    int64_t value;
    char text[64];
    bool has_old;
    struct model_key old;
};

static inline void model_drop_expired(struct model *m)
{
    for (int i = 0; i < MODEL_KEYS; i++)
        if (m->keys[i].there && m->keys[i].expire_ms != 0 && m->keys[i].expire_ms <= m->now_ms)
            m->keys[i].there = false;
}

/* A written key; one that expires at once is gone. */
static inline void model_written(struct model *m, struct model_key *k)
{
    k->there = true;
    k->mod = m->index;
    model_drop_expired(m);
}

static inline void model_set_data(struct model_key *k, const uint8_t *data, size_t len)
{
    k->slab = false;
    k->len = len;
    memcpy(k->data, data, len);
}

static inline void model_put(struct model *m, struct model_key *k, struct step *s)
{
    struct model_key before = *k;
    bool keep_ttl = s->flags & (PUT_KEEPTTL | PUT_KEEPMETA);

    if (s->flags & PUT_GET && k->there) {
        s->has_old = true;
        s->old = *k;
    }
    if ((s->flags & PUT_NX && k->there) || (s->flags & PUT_XX && !k->there)) {
        s->status = FSM_NIL;
        return;
    }
    s->value = 1;
    k->tokens = s->flags & PUT_KEEPMETA && before.there ? before.tokens : s->tokens;
    k->expire_ms = keep_ttl && before.there ? before.expire_ms : s->expire_ms;
    k->created_ms = s->created_ms;
    if (s->op == OP_PUT) {
        model_set_data(k, s->body, s->body_len);
    } else {
        k->slab = true;
        k->len = s->arg;
    }
    model_written(m, k);
}

#endif
