/* SPDX-License-Identifier: MIT */
/* Steps that write. Semantics are Redis 7's, as in src/fsm, said a second time. */
#include "model_int.h"

#include <stdio.h>
#include <string.h>

#include "base/number.h"

static const char too_large[] = "ERR value is too large"; /* to be built */

static void remove_key(struct trial *t, int key)
{
    if (t->g->keys[key].value == NULL)
        return;
    t->g->keys[key] = (struct key_state){0};
    model_wrote(t, key);
}

/* A new value: everything the command does not say is gone. */
static void put(struct trial *t, int key, const struct blob *value, struct window expire)
{
    t->g->keys[key] = (struct key_state){.value = value,
                                         .expire_lo = expire.lo,
                                         .expire_hi = expire.hi,
                                         .made_lo = t->w->lo,
                                         .made_hi = t->w->hi};
    model_wrote(t, key);
}

/* A changed value: deadline and metadata stay. */
static void change(struct trial *t, int key, const struct blob *value)
{
    struct key_state *k = &t->g->keys[key];

    k->value = value;
    k->made_lo = t->w->lo;
    k->made_hi = t->w->hi;
    model_wrote(t, key);
}

/* ---- whole values ------------------------------------------------------------------------- */

static bool set_step(struct trial *t, const struct step *s)
{
    struct key_state old = *model_key(t, s->key);
    bool exists = old.value != NULL;
    bool refused = s->flags & (exists ? STEP_NX : STEP_XX);
    bool answered = refused ? answers_nil(s) : answers_ok(s);
    struct window expire = model_deadline(t, s);

    if (s->flags & STEP_GETOLD)
        answered = exists ? answers_value(t, s, old.value) : answers_nil(s);
    if (refused)
        return answered;
    if ((s->flags & STEP_KEEPTTL) && exists)
        expire = (struct window){old.expire_lo, old.expire_hi};
    put(t, s->key, s->args[0], expire);
    if (s->kind == STEP_KVSTORE) {
        t->g->keys[s->key].tokens = s->tokens;
        t->g->keys[s->key].model = s->model;
        t->g->keys[s->key].seq = s->seq;
    }
    return answered;
}

static bool setnx_step(struct trial *t, const struct step *s)
{
    if (model_key(t, s->key)->value != NULL)
        return answers_int(s, 0);
    put(t, s->key, s->args[0], (struct window){0, 0});
    return answers_int(s, 1);
}

static bool mset_step(struct trial *t, const struct step *s)
{
    bool any = false;

    for (int key = 0; key < GROUP_KEYS; key++)
        if ((s->mask >> key & 1) && s->kind == STEP_MSETNX)
            any = model_key(t, key)->value != NULL || any;
    if (any)
        return answers_int(s, 0);
    for (int key = 0; key < GROUP_KEYS; key++) {
        if (s->mask >> key & 1) {
            model_key(t, key);
            put(t, key, s->args[key], (struct window){0, 0});
        }
    }
    return s->kind == STEP_MSETNX ? answers_int(s, 1) : answers_ok(s);
}

static bool getdel_step(struct trial *t, const struct step *s)
{
    const struct blob *old = model_key(t, s->key)->value;

    remove_key(t, s->key);
    return old == NULL ? answers_nil(s) : answers_value(t, s, old);
}

static bool getex_step(struct trial *t, const struct step *s)
{
    struct key_state *k = model_key(t, s->key);
    const struct blob *old = k->value;
    struct window expire = model_deadline(t, s);

    if (old == NULL)
        return answers_nil(s);
    if (s->ttl != TTL_NONE || ((s->flags & STEP_PERSIST_FLAG) && k->expire_hi != 0)) {
        k->expire_lo = expire.lo;
        k->expire_hi = expire.hi;
        model_wrote(t, s->key);
    }
    return answers_value(t, s, old);
}

/* ---- parts of values ---------------------------------------------------------------------- */

static const struct blob *spliced(const struct blob *old, uint64_t at, const struct blob *part)
{
    uint64_t have = old == NULL ? 0 : old->len;
    uint64_t len = at + part->len > have ? at + part->len : have;
    struct blob *b = blob_new(len);

    memset(b->bytes, 0, len);
    if (have > 0)
        memcpy(b->bytes, old->bytes, have);
    if (part->len > 0)
        memcpy(b->bytes + at, part->bytes, part->len);
    return blob_intern(b);
}

static bool splice_step(struct trial *t, const struct step *s)
{
    struct key_state *k = model_key(t, s->key);
    uint64_t have = k->value == NULL ? 0 : k->value->len;
    uint64_t at = s->kind == STEP_APPEND ? have : (uint64_t)s->a;
    const struct blob *part = s->args[0];

    if (part->len == 0 && (s->kind == STEP_SETRANGE || k->value != NULL)) {
        if (s->kind == STEP_APPEND && model_choose(t)) /* of an inline value: a write */
            change(t, s->key, k->value);
        return answers_int(s, (int64_t)have);
    }
    if (at + part->len > model_value_max())
        return answers_error(s, too_large);
    change(t, s->key, spliced(k->value, at, part));
    return answers_int(s, (int64_t)k->value->len);
}

static bool incrby_step(struct trial *t, const struct step *s)
{
    const struct blob *old = model_key(t, s->key)->value;
    int64_t value = 0;
    char text[32];

    if (old != NULL && !number_parse_i64(slice_of(old->bytes, old->len), &value))
        return answers_error(s, "ERR value is not an integer or out of range");
    if (__builtin_add_overflow(value, s->a, &value))
        return answers_error(s, "ERR increment or decrement would overflow");
    snprintf(text, sizeof(text), "%" PRId64, value);
    change(t, s->key, blob_of(text, strlen(text)));
    return answers_int(s, value);
}

/* number.h has tests of its own against redis-server. */
static bool incrbyfloat_step(struct trial *t, const struct step *s)
{
    const struct blob *old = model_key(t, s->key)->value;
    char text[NUMBER_TEXT_MAX];
    long double value = 0, by;
    struct key_state *k = &t->g->keys[s->key];

    if ((old != NULL && !number_parse_ld(slice_of(old->bytes, old->len), &value)) ||
        !number_parse_ld(slice_of(s->args[0]->bytes, s->args[0]->len), &by))
        return answers_error(s, "ERR value is not a valid float");
    change(t, s->key, blob_of(text, number_format_ld(value + by, text, sizeof(text))));
    return answers_value(t, s, k->value);
}

/* ---- keys --------------------------------------------------------------------------------- */

static bool del_step(struct trial *t, const struct step *s)
{
    int64_t gone = 0;

    for (int key = 0; key < GROUP_KEYS; key++) {
        if (s->mask >> key & 1) {
            gone += model_key(t, key)->value != NULL;
            remove_key(t, key);
        }
    }
    return answers_int(s, gone);
}

/* A key without a deadline counts as one whose deadline is infinitely far. */
static bool expire_refused(struct trial *t, const struct step *s, const struct key_state *k,
                           struct window new)
{
    bool has = k->expire_hi != 0;

    if ((s->flags & STEP_NX) && has)
        return true;
    if ((s->flags & STEP_XX) && !has)
        return true;
    if (s->flags & STEP_GT) {
        if (!has || new.hi <= k->expire_lo)
            return true;
        return new.lo <= k->expire_hi &&model_choose(t);
    }
    if ((s->flags & STEP_LT) && has) {
        if (new.lo >= k->expire_hi)
            return true;
        return new.hi >= k->expire_lo &&model_choose(t);
    }
    return false;
}

static bool expire_step(struct trial *t, const struct step *s)
{
    struct key_state *k = model_key(t, s->key);
    struct window new = model_deadline(t, s);

    if (k->value == NULL || expire_refused(t, s, k, new))
        return answers_int(s, 0);
    k->expire_lo = new.lo;
    k->expire_hi = new.hi;
    model_wrote(t, s->key);
    return answers_int(s, 1);
}

static bool persist_step(struct trial *t, const struct step *s)
{
    struct key_state *k = model_key(t, s->key);

    if (k->value == NULL || k->expire_hi == 0)
        return answers_int(s, 0);
    k->expire_lo = k->expire_hi = 0;
    model_wrote(t, s->key);
    return answers_int(s, 1);
}

static bool rename_step(struct trial *t, const struct step *s)
{
    struct key_state from = *model_key(t, s->key), to;

    if (from.value == NULL)
        return answers_error(s, "ERR no such key");
    if (s->key == s->to)
        return s->flags & STEP_NX ? answers_int(s, 0) : answers_ok(s);
    to = *model_key(t, s->to);
    if ((s->flags & STEP_NX) && to.value != NULL)
        return answers_int(s, 0);
    t->g->keys[s->to] = from;
    model_wrote(t, s->to);
    remove_key(t, s->key);
    return s->flags & STEP_NX ? answers_int(s, 1) : answers_ok(s);
}

static bool copy_step(struct trial *t, const struct step *s)
{
    struct key_state from = *model_key(t, s->key);

    if (from.value == NULL)
        return answers_int(s, 0);
    if (model_key(t, s->to)->value != NULL && !(s->flags & STEP_REPLACE))
        return answers_int(s, 0);
    t->g->keys[s->to] = from;
    model_wrote(t, s->to);
    return answers_int(s, 1);
}

static bool flush_step(struct trial *t, const struct step *s)
{
    for (int key = 0; key < GROUP_KEYS; key++) {
        if (model_key(t, key)->value != NULL)
            remove_key(t, key);
        else
            model_maybe_wrote(t, key);
    }
    return answers_ok(s);
}

static bool evict_step(struct trial *t, const struct step *s)
{
    const struct key_state *k = model_key(t, s->key);

    if (s->flags & STEP_SURE) {
        if (k->value == NULL)
            return false;
        remove_key(t, s->key);
    } else if (k->value != NULL && model_choose(t)) {
        remove_key(t, s->key);
    }
    return true;
}

bool model_write_step(struct trial *t, const struct step *s)
{
    switch (s->kind) {
    case STEP_SET:
    case STEP_KVSTORE:
        return set_step(t, s);
    case STEP_SETNX:
        return setnx_step(t, s);
    case STEP_GETDEL:
        return getdel_step(t, s);
    case STEP_GETEX:
        return getex_step(t, s);
    case STEP_APPEND:
    case STEP_SETRANGE:
        return splice_step(t, s);
    case STEP_INCRBY:
        return incrby_step(t, s);
    case STEP_INCRBYFLOAT:
        return incrbyfloat_step(t, s);
    case STEP_DEL:
        return del_step(t, s);
    case STEP_EXPIRE:
        return expire_step(t, s);
    case STEP_PERSIST:
        return persist_step(t, s);
    case STEP_RENAME:
        return rename_step(t, s);
    case STEP_COPY:
        return copy_step(t, s);
    case STEP_MSET:
    case STEP_MSETNX:
        return mset_step(t, s);
    case STEP_FLUSH:
        return flush_step(t, s);
    case STEP_EVICT:
        return evict_step(t, s);
    default:
        sim_fail("step %d is no write", s->kind);
    }
}
