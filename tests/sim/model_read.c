/* SPDX-License-Identifier: MIT */
/* Steps that read: they constrain the state by what was answered. */
#include "model_int.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"

static bool within(int64_t n, int64_t lo, int64_t hi)
{
    return n >= lo && n <= hi;
}

static int64_t positive(int64_t n)
{
    return n < 0 ? 0 : n;
}

/* What is left of the time to live, ms. */
static struct window left(const struct trial *t, const struct key_state *k)
{
    return (struct window){(uint64_t)positive((int64_t)(k->expire_lo - t->w->hi)),
                           (uint64_t)positive((int64_t)(k->expire_hi - t->w->lo))};
}

static bool ttl_step(struct trial *t, const struct step *s)
{
    struct key_state *k = model_key(t, s->key);
    struct window v;

    if (s->reply == NULL)
        return true;
    if (k->value == NULL)
        return answers_int(s, -2);
    if (k->expire_hi == 0)
        return answers_int(s, -1);
    if (s->reply->type != REPLY_INT)
        return false;
    v = (struct window){k->expire_lo, k->expire_hi};
    if (s->unit == UNIT_PTTL || s->unit == UNIT_TTL)
        v = left(t, k);
    if (s->unit == UNIT_TTL || s->unit == UNIT_EXPIRETIME)
        v = (struct window){(v.lo + 500) / 1000, (v.hi + 500) / 1000};
    if (!within(s->reply->number, (int64_t)v.lo, (int64_t)v.hi))
        return false;
    if (s->unit == UNIT_PEXPIRETIME)
        k->expire_lo = k->expire_hi = (uint64_t)s->reply->number;
    return true;
}

/* ---- metadata ----------------------------------------------------------------------------- */

static const struct reply *field(const struct reply *map, const char *name)
{
    for (size_t i = 0; i + 1 < map->len; i += 2)
        if (map->elements[i].text != NULL && strcmp(map->elements[i].text, name) == 0)
            return &map->elements[i + 1];
    return NULL;
}

static bool text_is(const struct reply *r, const char *want)
{
    return r != NULL && r->type == REPLY_BULK && r->text != NULL && strcmp(r->text, want) == 0;
}

static bool int_within(const struct reply *r, uint64_t lo, uint64_t hi)
{
    return r != NULL && r->type == REPLY_INT && within(r->number, (int64_t)lo, (int64_t)hi);
}

static bool meta_is(struct trial *t, const struct reply *map, struct key_state *k)
{
    const struct reply *made = field(map, "created"), *ttl = field(map, "ttl");
    char text[32], digest[32];
    struct window v = left(t, k);

    snprintf(digest, sizeof(digest), "%016" PRIx64, blob_digest(k->value));
    if (!text_is(field(map, "model"), meta_text(k->model, text)) ||
        !text_is(field(map, "seq"), meta_text(k->seq, text)) ||
        !text_is(field(map, "digest"), digest) ||
        !int_within(field(map, "tokens"), k->tokens, k->tokens) ||
        !int_within(field(map, "length"), k->value->len, k->value->len) ||
        !int_within(made, k->made_lo, k->made_hi))
        return false;
    k->made_lo = k->made_hi = (uint64_t)made->number;
    if (k->expire_hi == 0)
        return ttl != NULL && ttl->type == REPLY_INT && ttl->number == -1;
    return int_within(ttl, v.lo, v.hi);
}

static bool meta_step(struct trial *t, const struct step *s)
{
    struct key_state *k = model_key(t, s->key);
    struct step value = *s;

    if (s->reply == NULL)
        return true;
    if (k->value == NULL)
        return s->reply->type == REPLY_NIL;
    if (s->reply->type == REPLY_NIL)
        return s->kind == STEP_KVGET_META && t->op->read_faults;
    if (s->reply->type != REPLY_ARRAY || !meta_is(t, s->reply, k))
        return false;
    value.reply = field(s->reply, "value");
    if (s->kind == STEP_KVINFO)
        return value.reply == NULL;
    return value.reply != NULL && answers_value(t, &value, k->value);
}

/* ---- parts -------------------------------------------------------------------------------- */

static bool part_is(const struct reply *r, const struct blob *b, uint64_t offset, uint64_t count)
{
    return r->type == REPLY_BULK && r->len == count && r->hash == hash64(b->bytes + offset, count);
}

static bool getrange_step(struct trial *t, const struct step *s)
{
    const struct key_state *k = model_key(t, s->key);
    int64_t start = s->a, end = s->b, length;

    if (s->reply == NULL)
        return true;
    if (s->reply->type != REPLY_BULK)
        return false;
    if (k->value == NULL || (start < 0 && end < 0 && start > end))
        return s->reply->len == 0;
    length = (int64_t)k->value->len;
    if (start < 0)
        start = positive(start + length);
    if (end < 0)
        end = positive(end + length);
    if (end >= length)
        end = length - 1;
    if (start > end || length == 0)
        return s->reply->len == 0;
    return part_is(s->reply, k->value, (uint64_t)start, (uint64_t)(end - start + 1));
}

/* The parts are looked up one after another, and are nil from a change of the key on. */
static bool kvrange_step(struct trial *t, const struct step *s)
{
    const struct key_state *k = model_key(t, s->key);

    if (s->reply == NULL)
        return true;
    if (k->value == NULL)
        return s->reply->type == REPLY_NIL;
    if (s->reply->type != REPLY_ARRAY || s->reply->len != (size_t)s->nranges)
        return false;
    for (int i = 0; i < s->nranges; i++) {
        const struct reply *r = &s->reply->elements[i];
        uint64_t offset = (uint64_t)s->ranges[i][0], count = (uint64_t)s->ranges[i][1];
        bool inside = offset <= k->value->len && count <= k->value->len - offset;
        bool may_miss = !t->op->alone || t->op->exec || k->expire_hi != 0;

        if (inside && answers_read_fault(t, r))
            continue;
        if (r->type == REPLY_NIL ? inside && !may_miss
                                 : !inside || !part_is(r, k->value, offset, count))
            return false;
    }
    return true;
}

/* ---- the rest ----------------------------------------------------------------------------- */

static bool exists_step(struct trial *t, const struct step *s)
{
    int64_t found = 0;

    for (int key = 0; key < GROUP_KEYS; key++)
        if (s->mask >> key & 1)
            found += model_key(t, key)->value != NULL;
    return answers_int(s, found);
}

static bool snapshot_step(struct trial *t, const struct step *s)
{
    const struct key_state *k = model_key(t, s->key), *r = &s->record;

    if (k->value == NULL) /* what has expired may not yet have been swept */
        return r->value == NULL || (r->expire_hi != 0 && r->expire_hi <= t->w->hi);
    if (r->value == NULL)
        return false;
    return k->value == r->value && k->tokens == r->tokens && k->model == r->model &&
           k->seq == r->seq &&
           within((int64_t)r->made_lo, (int64_t)k->made_lo, (int64_t)k->made_hi) &&
           within((int64_t)r->expire_lo, (int64_t)k->expire_lo, (int64_t)k->expire_hi);
}

static bool value_step(struct trial *t, const struct step *s)
{
    const struct key_state *k = model_key(t, s->key);

    return k->value == NULL ? answers_nil(s) : answers_value(t, s, k->value);
}

static bool strlen_step(struct trial *t, const struct step *s)
{
    const struct key_state *k = model_key(t, s->key);

    return answers_int(s, k->value == NULL ? 0 : (int64_t)k->value->len);
}

bool model_read_step(struct trial *t, const struct step *s)
{
    switch (s->kind) {
    case STEP_GET:
        return value_step(t, s);
    case STEP_STRLEN:
        return strlen_step(t, s);
    case STEP_GETRANGE:
        return getrange_step(t, s);
    case STEP_EXISTS:
        return exists_step(t, s);
    case STEP_TTL:
        return ttl_step(t, s);
    case STEP_KVGET_META:
    case STEP_KVINFO:
        return meta_step(t, s);
    case STEP_KVRANGE:
        return kvrange_step(t, s);
    case STEP_PRESENT:
        return (model_key(t, s->key)->value != NULL) == s->expect;
    case STEP_SNAPSHOT:
        return snapshot_step(t, s);
    default:
        sim_fail("step %d is no read", s->kind);
    }
}
