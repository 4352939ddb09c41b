/* SPDX-License-Identifier: MIT */
/* Ops that make or change a value.
 *
 * The semantics are Redis 7's. What a change keeps: PUT replaces everything, KEEPTTL and KEEPMETA
 * excepted; a change of an existing value (INCRBY, INCRBYFLOAT, APPEND, SETRANGE) keeps TTL and
 * metadata, and its creation time is the entry's stamp.
 *
 * The new value of an op must follow from the entry and the table alone, because apply never waits
 * for a disk: where the old value is in a volume, or the new one would be longer than
 * FSM_INLINE_APPEND_MAX, the op is FSM_REBUILD. A number is never that long, so INCRBY and
 * INCRBYFLOAT of such a value are plain errors. Sums of INCRBYFLOAT are long double, as in Redis:
 * the nodes of a cluster share one architecture.
 */
#include <math.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/number.h"
#include "fsm/fsm_int.h"
#include "store/payload.h"

#define INTEGER_TEXT_MAX 24

static void decode(const struct apply *a, const struct entry_op *op, struct op_put *put)
{
    int err = entry_decode_put(op, put);

    if (err != 0)
        PANIC("entry %llu: %s", (unsigned long long)a->index, err_text(err));
}

static void set_inline(struct record *r, struct slice data)
{
    r->kind = RECORD_INLINE;
    r->data = data;
    r->length = data.len;
    r->digest = payload_digest_of(data.ptr, data.len);
}

/* In a volume of ours if we are among the holders, else known and elsewhere. */
static void set_slab(struct record *r, const struct op_put *put, uint32_t node)
{
    r->kind = RECORD_REMOTE;
    r->length = put->length;
    r->digest = put->digest;
    r->payload = put->payload;
    r->nholders = put->nholders;
    for (unsigned i = 0; i < put->nholders; i++) {
        r->holders[i] = put->holders[i].node;
        if (put->holders[i].node == node) {
            r->kind = RECORD_SLAB;
            r->place = put->holders[i].place;
        }
    }
}

/* Asks for the key only if something depends on it. */
void op_put(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    unsigned asking = PUT_NX | PUT_XX | PUT_KEEPTTL | PUT_GET | PUT_KEEPMETA;
    struct record now = {0}, old;
    struct op_put put;
    bool exists = (op->flags & asking) && apply_get(a, op->key, &old);

    decode(a, op, &put);
    if (exists) {
        if (op->flags & (PUT_GET | PUT_KEEPMETA))
            apply_hold(a, &old);
        r->mod = old.mod;
        r->has_old = op->flags & PUT_GET;
        if (r->has_old)
            r->old = old;
    }
    if (exists ? op->flags & PUT_NX : op->flags & PUT_XX) {
        r->status = FSM_NIL;
        return;
    }
    now.tokens = put.tokens;
    now.created_ms = put.created_ms;
    now.expire_ms = put.expire_ms;
    now.model = put.model;
    now.seq = put.seq;
    if (exists && op->flags & (PUT_KEEPTTL | PUT_KEEPMETA))
        now.expire_ms = old.expire_ms;
    if (exists && op->flags & PUT_KEEPMETA) {
        now.tokens = old.tokens;
        now.model = old.model;
        now.seq = old.seq;
    }
    if (op->op == OP_PUT)
        set_inline(&now, put.data);
    else
        set_slab(&now, &put, a->f->node);
    r->mod = apply_put(a, op->key, &now);
    r->value = 1;
}

/* old: the held record, or zeroes where the key was absent. */
static void put_value(struct apply *a, const struct entry_op *op, const struct record *old,
                      unsigned flags, struct slice data, struct fsm_result *r)
{
    struct record now = {
        .flags = (uint16_t)flags,
        .tokens = old->tokens,
        .created_ms = a->stamp_ms,
        .expire_ms = old->expire_ms,
        .model = old->model,
        .seq = old->seq,
    };

    ASSERT(data.len <= FSM_INLINE_APPEND_MAX);
    set_inline(&now, data);
    r->mod = apply_put(a, op->key, &now);
}

static size_t format_i64(int64_t v, uint8_t *out)
{
    uint8_t digits[INTEGER_TEXT_MAX];
    uint64_t rest = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    size_t n = 0, len = 0;

    do {
        digits[n++] = (uint8_t)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (v < 0)
        out[len++] = '-';
    while (n > 0)
        out[len++] = digits[--n];
    return len;
}

void op_incrby(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct record old = {0};
    int64_t value = 0;
    uint8_t *text;

    if (apply_get(a, op->key, &old)) {
        r->mod = old.mod;
        if (old.kind != RECORD_INLINE || !number_parse_i64(old.data, &value)) {
            r->status = FSM_NOINT;
            return;
        }
        apply_hold(a, &old);
    }
    if (__builtin_add_overflow(value, (int64_t)entry_arg_u64(op), &value)) {
        r->status = FSM_OVERFLOW;
        return;
    }
    text = apply_build(a, INTEGER_TEXT_MAX);
    put_value(a, op, &old, 0, slice_of(text, format_i64(value, text)), r);
    r->value = value;
}

void op_incrbyfloat(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct record old = {0};
    long double value = 0, by;
    uint8_t *text;

    if (apply_get(a, op->key, &old)) {
        r->mod = old.mod;
        if (old.kind != RECORD_INLINE || !number_parse_ld(old.data, &value)) {
            r->status = FSM_NOFLOAT;
            return;
        }
        apply_hold(a, &old);
    }
    if (!number_parse_ld(op->body, &by)) {
        r->status = FSM_NOFLOAT;
        return;
    }
    value += by;
    if (isnan(value) || isinf(value)) {
        r->status = FSM_NANINF;
        return;
    }
    text = apply_build(a, NUMBER_TEXT_MAX);
    r->text = slice_of(text, number_format_ld(value, (char *)text, NUMBER_TEXT_MAX));
    put_value(a, op, &old, RECORD_TEXT, r->text, r);
}

/* False: a value of this length cannot be built here. */
static bool can_build(const struct record *old, uint64_t length, struct fsm_result *r)
{
    if (length > FSM_INLINE_APPEND_MAX || (old != NULL && old->kind != RECORD_INLINE))
        r->status = FSM_REBUILD;
    return r->status == FSM_OK;
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* An empty tail changes nothing of a value in a volume, so there is nothing to rebuild. */
void op_append(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct record old = {0};
    bool exists = apply_get(a, op->key, &old);
    uint64_t length = add_saturated(old.length, op->body.len);
    uint8_t *value;

    r->mod = old.mod;
    if (exists && op->body.len == 0 && old.kind != RECORD_INLINE) {
        r->value = (int64_t)length;
        return;
    }
    if (!can_build(exists ? &old : NULL, length, r))
        return;
    value = apply_build(a, length);
    if (old.data.len > 0)
        memcpy(value, old.data.ptr, old.data.len);
    if (op->body.len > 0)
        memcpy(value + old.data.len, op->body.ptr, op->body.len);
    apply_hold(a, &old);
    put_value(a, op, &old, exists ? RECORD_RAW : 0, slice_of(value, length), r);
    r->value = (int64_t)length;
}

void op_setrange(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    struct slice bytes = entry_setrange_bytes(op);
    uint64_t offset = entry_arg_u64(op);
    uint64_t end = add_saturated(offset, bytes.len);
    struct record old = {0};
    bool exists = apply_get(a, op->key, &old);
    uint64_t length = end > old.length ? end : old.length;
    uint8_t *value;

    r->mod = old.mod;
    if (bytes.len == 0) {
        r->value = (int64_t)old.length;
        return;
    }
    if (!can_build(exists ? &old : NULL, length, r))
        return;
    value = apply_build(a, length);
    memset(value, 0, length);
    if (old.data.len > 0)
        memcpy(value, old.data.ptr, old.data.len);
    memcpy(value + offset, bytes.ptr, bytes.len);
    apply_hold(a, &old);
    put_value(a, op, &old, RECORD_RAW, slice_of(value, length), r);
    r->value = (int64_t)length;
}

void op_getdel(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    if (!apply_get(a, op->key, &r->old)) {
        r->status = FSM_NIL;
        return;
    }
    apply_hold(a, &r->old);
    r->has_old = true;
    apply_del(a, op->key);
    r->value = 1;
}

void op_getex(struct apply *a, const struct entry_op *op, struct fsm_result *r)
{
    bool persist = op->flags & OPF_PERSIST;
    uint64_t expire_ms = persist ? 0 : entry_arg_u64(op);
    struct record now;

    if (!apply_get(a, op->key, &r->old)) {
        r->status = FSM_NIL;
        return;
    }
    apply_hold(a, &r->old);
    r->has_old = true;
    r->value = 1;
    r->mod = r->old.mod;
    if (persist ? r->old.expire_ms == 0 : expire_ms == 0)
        return; /* a read */
    now = r->old;
    now.expire_ms = expire_ms;
    r->mod = apply_put(a, op->key, &now);
}
