/* SPDX-License-Identifier: MIT */
/* fsm_model_value: ops that change a value; see fsm_model.h. */
#ifndef TESTS_UNIT_FSM_MODEL_VALUE_H
#define TESTS_UNIT_FSM_MODEL_VALUE_H

#include <stdio.h>
#include <stdlib.h>

#include "base/number.h"
#include "fsm_model.h"

/* A value changed by an op: an absent key has been given no TTL and no metadata. */
static inline void model_changed(struct model *m, struct model_key *k, const void *data, size_t len)
{
    if (!k->there)
        k->expire_ms = k->tokens = 0;
    model_set_data(k, data, len);
    k->created_ms = m->now_ms;
    model_written(m, k);
}

static inline void model_incrby(struct model *m, struct model_key *k, struct step *s)
{
    char text[64] = "0", again[64];
    __int128 sum;
    long long old;

    if (k->there && (k->slab || k->len == 0 || k->len > 30)) {
        s->status = FSM_NOINT;
        return;
    }
    if (k->there) {
        memcpy(text, k->data, k->len);
        text[k->len] = '\0';
    }
    old = strtoll(text, NULL, 10);
    snprintf(again, sizeof(again), "%lld", old);
    if (strcmp(text, again) != 0 || (k->there && strlen(text) != k->len)) {
        s->status = FSM_NOINT;
        return;
    }
    sum = (__int128)old + (int64_t)s->arg;
    if (sum > INT64_MAX || sum < INT64_MIN) {
        s->status = FSM_OVERFLOW;
        return;
    }
    s->value = (int64_t)sum;
    snprintf(text, sizeof(text), "%lld", (long long)sum);
    model_changed(m, k, text, strlen(text));
}

/* number.h has tests of its own against redis-server. */
static inline void model_incrbyfloat(struct model *m, struct model_key *k, struct step *s)
{
    static char text[NUMBER_TEXT_MAX];
    long double old = 0, by = 0;
    size_t len;

    if ((k->there && (k->slab || !number_parse_ld(slice_of(k->data, k->len), &old))) ||
        !number_parse_ld(slice_of(s->body, s->body_len), &by)) {
        s->status = FSM_NOFLOAT;
        return;
    }
    len = number_format_ld(old + by, text, sizeof(text));
    snprintf(s->text, sizeof(s->text), "%.*s", (int)sizeof(s->text) - 1, text);
    model_changed(m, k, text, len);
}

/* APPEND and SETRANGE: bytes at an offset. */
static inline void model_write_at(struct model *m, struct model_key *k, struct step *s)
{
    static uint8_t value[MODEL_INLINE];
    uint64_t have = k->there ? k->len : 0;
    uint64_t at = s->op == OP_APPEND ? have : s->arg;
    uint64_t len = at + s->body_len > have ? at + s->body_len : have;

    s->value = (int64_t)have;
    if (s->body_len == 0 && (s->op == OP_SETRANGE || (k->there && k->slab)))
        return;
    if ((k->there && k->slab) || len > MODEL_INLINE) {
        s->status = FSM_REBUILD;
        return;
    }
    memset(value, 0, sizeof(value));
    memcpy(value, k->data, have);
    memcpy(value + at, s->body, s->body_len);
    s->value = (int64_t)len;
    model_changed(m, k, value, len);
}

#endif
