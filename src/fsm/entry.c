/* SPDX-License-Identifier: MIT */
/* An entry is a header and `count` ops. All fields are little-endian; every structure starts at a
 * multiple of 8, so that each field is naturally aligned. Bytes without a name are zero.
 *
 *   entry header        offset  size  field
 *                            0     1  version      ENTRY_VERSION
 *                            1     1  kind         enum entry_kind
 *                            2     2  flags        0
 *                            4     4  count        ops
 *                            8     4  length       bytes behind the header
 *                           12     4  zero
 *                           16     4  node         that proposed it
 *                           20     4  boot         of that node
 *                           24     8  group        number of the group in that boot
 *                           32     8  stamp ms
 *                           40     8  check        XXH3-64 of every other byte of the entry
 *                           48        ops
 *
 *   op                       0     1  op           enum op
 *                            1     1  op version   ENTRY_OP_VERSION
 *                            2     2  flags        ENTRY_MORE, PUT_*, OPF_*
 *                            4     2  key_len
 *                            6     2  zero
 *                            8     4  body_len
 *                           12     4  zero
 *                           16        key, zeros to a multiple of 8
 *                                     body, zeros to a multiple of 8
 *
 *   body of PUT, PUT_SLAB    0     4  tokens
 *                            4     1  model_len
 *                            5     1  seq_len
 *                            6     2  holders      PUT: 0
 *                            8     8  created ms
 *                           16     8  expire ms    0 = none
 *            PUT_SLAB       24     8  length       of the value
 *                           32     8  digest
 *                           40    16  payload id   node 4, boot 4, seq 8
 *                           56        holders × {node 4, volume 4, generation 4, zero 4, offset 8}
 *                                     model, seq; PUT: then the value
 *
 *   body of SETRANGE         0     8  offset
 *                            8        bytes
 *   of an op with a number   0     8  it
 *   of the others                     bytes, or nothing
 *
 * A reader trusts nothing: the check finds damage, and every length and zero is looked at as well,
 * because an entry may come from another node's program. The check is compared before the version,
 * so that a newer format is told from damage. What one op may carry is in the table `rules`; an op,
 * flag or kind that is not known here is ERR_VERSION, because a newer node wrote it.
 */
#include "fsm/entry.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"

#define OFF_VERSION 0
#define OFF_KIND 1
#define OFF_FLAGS 2
#define OFF_COUNT 4
#define OFF_LENGTH 8
#define OFF_ZERO 12
#define OFF_NODE 16
#define OFF_BOOT 20
#define OFF_GROUP 24
#define OFF_STAMP 32
#define OFF_CHECK 40

#define OP_OFF_VERSION 1
#define OP_OFF_FLAGS 2
#define OP_OFF_KEY_LEN 4
#define OP_OFF_ZERO1 6
#define OP_OFF_BODY_LEN 8
#define OP_OFF_ZERO2 12

#define PUT_OFF_MODEL_LEN 4
#define PUT_OFF_SEQ_LEN 5
#define PUT_OFF_HOLDERS 6
#define PUT_OFF_CREATED 8
#define PUT_OFF_EXPIRE 16
#define PUT_FIXED 24u
#define SLAB_OFF_LENGTH 24
#define SLAB_OFF_DIGEST 32
#define SLAB_OFF_PAYLOAD 40
#define SLAB_FIXED 56u
#define HOLDER_SIZE 24u
#define PLACE_ALIGN 4096u

#define WRITER_MIN ((size_t)4096)
#define PUT_FLAGS (PUT_NX | PUT_XX | PUT_KEEPTTL | PUT_GET | PUT_KEEPMETA)

/* What an op may carry. */
static const struct rule {
    uint16_t flags; /* besides ENTRY_MORE */
    uint32_t body_min, body_max;
} rules[OP_MAX_] = {
    [OP_PUT] = {PUT_FLAGS, PUT_FIXED, ENTRY_MAX},
    [OP_PUT_SLAB] = {PUT_FLAGS, SLAB_FIXED, ENTRY_MAX},
    [OP_DEL] = {0, 0, 0},
    [OP_EXPIRE] = {OPF_NX | OPF_XX | OPF_GT | OPF_LT, 8, 8},
    [OP_PERSIST] = {0, 0, 0},
    [OP_INCRBY] = {0, 8, 8},
    [OP_INCRBYFLOAT] = {0, 0, ENTRY_MAX},
    [OP_APPEND] = {0, 0, ENTRY_MAX},
    [OP_SETRANGE] = {0, 8, ENTRY_MAX},
    [OP_GETDEL] = {0, 0, 0},
    [OP_GETEX] = {OPF_PERSIST, 8, 8},
    [OP_RENAME] = {OPF_NX, 1, RECORD_KEY_MAX},
    [OP_COPY] = {OPF_REPLACE, 1, RECORD_KEY_MAX},
    [OP_FLUSH] = {0, 0, 0},
    [OP_EVICT] = {0, 8, 8},
    [OP_IF_MOD] = {0, 8, 8},
    [OP_UNLESS] = {0, 8, 8},
};

static uint64_t padded(uint64_t len)
{
    return (len + 7) & ~(uint64_t)7;
}

/* ---- writing ----------------------------------------------------------------------------- */

bool entry_room(struct entry_writer *w, size_t len)
{
    size_t size = w->size < WRITER_MIN ? WRITER_MIN : w->size;
    uint8_t *mem;

    if (w->size - w->len >= len)
        return true;
    while (size - w->len < len)
        size *= 2;
    mem = realloc(w->mem, size);
    if (mem == NULL)
        return false;
    w->mem = mem;
    w->size = size;
    return true;
}

void entry_begin(struct entry_writer *w)
{
    w->len = 0;
    w->count = 0;
    w->last = 0;
    w->failed = false;
    if (!entry_room(w, ENTRY_HEADER))
        PANIC("out of memory for an entry");
    w->len = ENTRY_HEADER;
}

void entry_fini(struct entry_writer *w)
{
    free(w->mem);
    *w = (struct entry_writer){0};
}

static uint8_t *put_bytes(uint8_t *p, struct slice s)
{
    if (s.len > 0)
        memcpy(p, s.ptr, s.len);
    return p + s.len;
}

/* Room for `len` more bytes; NULL: the writer has failed. */
static uint8_t *reserve(struct entry_writer *w, size_t len)
{
    w->failed = w->failed || !entry_room(w, len);
    return w->failed ? NULL : w->mem + w->len;
}

/* Op header and key; returns the body, `body_len` bytes to be filled at once, or NULL. */
static uint8_t *add_op(struct entry_writer *w, enum op op, unsigned flags, struct slice key,
                       size_t body_len)
{
    size_t size = ENTRY_OP_HEADER + (size_t)padded(key.len) + (size_t)padded(body_len);
    uint8_t *p = reserve(w, size), *body;

    ASSERT(w->len >= ENTRY_HEADER);
    ASSERT(op > 0 && op < OP_MAX_ && (flags & ~(rules[op].flags | ENTRY_MORE)) == 0);
    ASSERT(key.len <= RECORD_KEY_MAX && (key.len == 0) == (op == OP_FLUSH));
    ASSERT(body_len >= rules[op].body_min && body_len <= INT32_MAX);
    ASSERT(body_len <= rules[op].body_max || rules[op].body_max == ENTRY_MAX);
    if (p == NULL)
        return NULL;
    body = p + ENTRY_OP_HEADER + padded(key.len);
    p[0] = (uint8_t)op;
    p[OP_OFF_VERSION] = ENTRY_OP_VERSION;
    codec_put16(p + OP_OFF_FLAGS, (uint16_t)flags);
    codec_put16(p + OP_OFF_KEY_LEN, (uint16_t)key.len);
    codec_put16(p + OP_OFF_ZERO1, 0);
    codec_put32(p + OP_OFF_BODY_LEN, (uint32_t)body_len);
    codec_put32(p + OP_OFF_ZERO2, 0);
    if (key.len > 0)
        memset(body - 8, 0, 8); /* the padding; the key overwrites the rest */
    put_bytes(p + ENTRY_OP_HEADER, key);
    if (body_len > 0)
        memset(body + padded(body_len) - 8, 0, 8);
    w->last = w->len;
    w->len += size;
    w->count++;
    return body;
}

static uint8_t *put_slab(uint8_t *p, const struct op_put *put)
{
    codec_put64(p + SLAB_OFF_LENGTH, put->length);
    codec_put64(p + SLAB_OFF_DIGEST, put->digest);
    codec_put32(p + SLAB_OFF_PAYLOAD, put->payload.node);
    codec_put32(p + SLAB_OFF_PAYLOAD + 4, put->payload.boot);
    codec_put64(p + SLAB_OFF_PAYLOAD + 8, put->payload.seq);
    p += SLAB_FIXED;
    for (unsigned i = 0; i < put->nholders; i++, p += HOLDER_SIZE) {
        const struct op_holder *h = &put->holders[i];

        codec_put32(p, h->node);
        codec_put32(p + 4, h->place.volume);
        codec_put32(p + 8, h->place.generation);
        codec_put32(p + 12, 0);
        codec_put64(p + 16, h->place.offset);
    }
    return p;
}

void entry_put(struct entry_writer *w, bool slab, unsigned flags, struct slice key,
               const struct op_put *put)
{
    size_t fixed = slab ? SLAB_FIXED + put->nholders * HOLDER_SIZE : PUT_FIXED;
    size_t len = fixed + put->model.len + put->seq.len + (slab ? 0 : put->data.len);
    uint8_t *p;

    ASSERT(put->model.len <= RECORD_META_MAX && put->seq.len <= RECORD_META_MAX);
    ASSERT(put->nholders <= (slab ? RECORD_HOLDERS_MAX : 0));
    p = add_op(w, slab ? OP_PUT_SLAB : OP_PUT, flags, key, len);
    if (p == NULL)
        return;
    codec_put32(p, put->tokens);
    p[PUT_OFF_MODEL_LEN] = (uint8_t)put->model.len;
    p[PUT_OFF_SEQ_LEN] = (uint8_t)put->seq.len;
    codec_put16(p + PUT_OFF_HOLDERS, (uint16_t)put->nholders);
    codec_put64(p + PUT_OFF_CREATED, put->created_ms);
    codec_put64(p + PUT_OFF_EXPIRE, put->expire_ms);
    p = slab ? put_slab(p, put) : p + PUT_FIXED;
    p = put_bytes(p, put->model);
    p = put_bytes(p, put->seq);
    if (!slab)
        put_bytes(p, put->data);
}

void entry_key(struct entry_writer *w, enum op op, unsigned flags, struct slice key)
{
    add_op(w, op, flags, key, 0);
}

void entry_u64(struct entry_writer *w, enum op op, unsigned flags, struct slice key, uint64_t arg)
{
    uint8_t *p = add_op(w, op, flags, key, 8);

    if (p != NULL)
        codec_put64(p, arg);
}

void entry_bytes(struct entry_writer *w, enum op op, unsigned flags, struct slice key,
                 struct slice body)
{
    uint8_t *p = add_op(w, op, flags, key, body.len);

    if (p != NULL)
        put_bytes(p, body);
}

void entry_setrange(struct entry_writer *w, unsigned flags, struct slice key, uint64_t offset,
                    struct slice bytes)
{
    uint8_t *p = add_op(w, OP_SETRANGE, flags, key, 8 + bytes.len);

    if (p == NULL)
        return;
    codec_put64(p, offset);
    put_bytes(p + 8, bytes);
}

void entry_append_ops(struct entry_writer *group, const struct entry_writer *unit)
{
    size_t len = unit->len - ENTRY_HEADER;
    uint8_t *p;

    ASSERT(group != unit && group->len >= ENTRY_HEADER && unit->len >= ENTRY_HEADER);
    if (unit->count == 0)
        return;
    p = reserve(group, len);
    if (p == NULL)
        return;
    memcpy(p, unit->mem + ENTRY_HEADER, len);
    group->last = group->len + unit->last - ENTRY_HEADER;
    group->len += len;
    group->count += unit->count;
}

void entry_mark_more(struct entry_writer *w, bool more)
{
    uint8_t *p = w->mem + w->last + OP_OFF_FLAGS;
    unsigned flags;

    ASSERT(w->count > 0 && w->last >= ENTRY_HEADER);
    flags = codec_get16(p);
    codec_put16(p, (uint16_t)(more ? flags | ENTRY_MORE : flags & ~ENTRY_MORE));
}

static uint64_t check_of(const uint8_t *entry, size_t len)
{
    return hash64_pair(slice_of(entry, OFF_CHECK),
                       slice_of(entry + ENTRY_HEADER, len - ENTRY_HEADER));
}

struct slice entry_finish(struct entry_writer *w, enum entry_kind kind, uint32_t node,
                          uint32_t boot, uint64_t group, uint64_t stamp_ms)
{
    uint8_t *p = w->mem;

    ASSERT(!w->failed && w->len >= ENTRY_HEADER && w->len <= ENTRY_MAX && w->len % 8 == 0);
    ASSERT((kind == ENTRY_GROUP) == (w->count > 0));
    ASSERT(w->count == 0 || !(codec_get16(p + w->last + OP_OFF_FLAGS) & ENTRY_MORE));
    p[OFF_VERSION] = ENTRY_VERSION;
    p[OFF_KIND] = (uint8_t)kind;
    codec_put16(p + OFF_FLAGS, 0);
    codec_put32(p + OFF_COUNT, w->count);
    codec_put32(p + OFF_LENGTH, (uint32_t)(w->len - ENTRY_HEADER));
    codec_put32(p + OFF_ZERO, 0);
    codec_put32(p + OFF_NODE, node);
    codec_put32(p + OFF_BOOT, boot);
    codec_put64(p + OFF_GROUP, group);
    codec_put64(p + OFF_STAMP, stamp_ms);
    codec_put64(p + OFF_CHECK, check_of(p, w->len));
    return slice_of(p, w->len);
}

/* ---- reading ----------------------------------------------------------------------------- */

int entry_open(struct slice bytes, struct entry_header *h, struct entry_reader *r)
{
    const uint8_t *p = bytes.ptr;
    uint32_t count;

    if (bytes.len < ENTRY_HEADER || bytes.len > ENTRY_MAX || bytes.len % 8 != 0)
        return ERR_CORRUPT;
    if (codec_get64(p + OFF_CHECK) != check_of(p, bytes.len))
        return ERR_CORRUPT;
    if (p[OFF_VERSION] > ENTRY_VERSION)
        return ERR_VERSION;
    if (p[OFF_VERSION] == 0 || p[OFF_KIND] == 0 || codec_get32(p + OFF_ZERO) != 0 ||
        codec_get32(p + OFF_LENGTH) != bytes.len - ENTRY_HEADER)
        return ERR_CORRUPT;
    if (p[OFF_KIND] > ENTRY_INIT || codec_get16(p + OFF_FLAGS) != 0)
        return ERR_VERSION;
    count = codec_get32(p + OFF_COUNT);
    if ((p[OFF_KIND] == ENTRY_GROUP) != (count > 0) || (count == 0 && bytes.len != ENTRY_HEADER))
        return ERR_CORRUPT;
    *h = (struct entry_header){
        .kind = (enum entry_kind)p[OFF_KIND],
        .count = count,
        .node = codec_get32(p + OFF_NODE),
        .boot = codec_get32(p + OFF_BOOT),
        .group = codec_get64(p + OFF_GROUP),
        .stamp_ms = codec_get64(p + OFF_STAMP),
    };
    *r = (struct entry_reader){p + ENTRY_HEADER, p + bytes.len, count, false};
    return 0;
}

struct entry_reader entry_read_back(const struct entry_writer *w)
{
    ASSERT(w->len >= ENTRY_HEADER);
    return (struct entry_reader){w->mem + ENTRY_HEADER, w->mem + w->len, w->count, true};
}

static bool all_zero(const uint8_t *p, const uint8_t *end)
{
    for (; p < end; p++)
        if (*p != 0)
            return false;
    return true;
}

static int check_rule(const uint8_t *p, uint32_t key_len, uint32_t body_len)
{
    unsigned flags = codec_get16(p + OP_OFF_FLAGS);
    const struct rule *rule;

    if (p[0] == 0 || p[OP_OFF_VERSION] == 0)
        return ERR_CORRUPT;
    if (p[0] >= OP_MAX_ || p[OP_OFF_VERSION] > ENTRY_OP_VERSION)
        return ERR_VERSION;
    rule = &rules[p[0]];
    if ((flags & ~(rule->flags | ENTRY_MORE)) != 0)
        return ERR_VERSION;
    if (codec_get16(p + OP_OFF_ZERO1) != 0 || codec_get32(p + OP_OFF_ZERO2) != 0)
        return ERR_CORRUPT;
    if (key_len > RECORD_KEY_MAX || (key_len == 0) != (p[0] == OP_FLUSH))
        return ERR_CORRUPT;
    if (body_len < rule->body_min || body_len > rule->body_max)
        return ERR_CORRUPT;
    return 0;
}

int entry_next(struct entry_reader *r, struct entry_op *op)
{
    size_t have = (size_t)(r->end - r->pos);
    const uint8_t *p = r->pos, *key, *body;
    uint32_t key_len, body_len;
    uint64_t size;
    int err;

    if (r->left == 0)
        return have == 0 ? 0 : ERR_CORRUPT;
    if (have < ENTRY_OP_HEADER)
        return ERR_CORRUPT;
    key_len = codec_get16(p + OP_OFF_KEY_LEN);
    body_len = codec_get32(p + OP_OFF_BODY_LEN);
    err = check_rule(p, key_len, body_len);
    if (err != 0)
        return err;
    size = ENTRY_OP_HEADER + padded(key_len) + padded(body_len);
    if (size > have)
        return ERR_CORRUPT;
    key = p + ENTRY_OP_HEADER;
    body = key + padded(key_len);
    if (!all_zero(key + key_len, body) || !all_zero(body + body_len, p + size))
        return ERR_CORRUPT;
    if (r->left == 1 && !r->partial && (codec_get16(p + OP_OFF_FLAGS) & ENTRY_MORE))
        return ERR_CORRUPT;
    *op = (struct entry_op){(enum op)p[0], codec_get16(p + OP_OFF_FLAGS), slice_of(key, key_len),
                            slice_of(body, body_len)};
    r->pos += size;
    r->left--;
    return 1;
}

static int get_slab(const uint8_t *p, struct op_put *put)
{
    put->length = codec_get64(p + SLAB_OFF_LENGTH);
    put->digest = codec_get64(p + SLAB_OFF_DIGEST);
    put->payload = (struct payload_id){codec_get32(p + SLAB_OFF_PAYLOAD),
                                       codec_get32(p + SLAB_OFF_PAYLOAD + 4),
                                       codec_get64(p + SLAB_OFF_PAYLOAD + 8)};
    p += SLAB_FIXED;
    for (unsigned i = 0; i < put->nholders; i++, p += HOLDER_SIZE) {
        struct op_holder *h = &put->holders[i];

        h->node = codec_get32(p);
        h->place = (struct place){codec_get32(p + 4), codec_get32(p + 8), codec_get64(p + 16)};
        if (codec_get32(p + 12) != 0 || h->place.offset % PLACE_ALIGN != 0)
            return ERR_CORRUPT;
    }
    return 0;
}

int entry_decode_put(const struct entry_op *op, struct op_put *out)
{
    bool slab = op->op == OP_PUT_SLAB;
    const uint8_t *p = op->body.ptr;
    struct op_put put = {0};
    size_t fixed;

    ASSERT((slab || op->op == OP_PUT) && op->body.len >= rules[op->op].body_min);
    put.tokens = codec_get32(p);
    put.model.len = p[PUT_OFF_MODEL_LEN];
    put.seq.len = p[PUT_OFF_SEQ_LEN];
    put.nholders = codec_get16(p + PUT_OFF_HOLDERS);
    put.created_ms = codec_get64(p + PUT_OFF_CREATED);
    put.expire_ms = codec_get64(p + PUT_OFF_EXPIRE);
    if (put.nholders > (slab ? RECORD_HOLDERS_MAX : 0))
        return ERR_CORRUPT;
    fixed = slab ? SLAB_FIXED + put.nholders * HOLDER_SIZE : PUT_FIXED;
    if (op->body.len < fixed + put.model.len + put.seq.len)
        return ERR_CORRUPT;
    if (slab && get_slab(p, &put) != 0)
        return ERR_CORRUPT;
    put.model.ptr = p + fixed;
    put.seq.ptr = put.model.ptr + put.model.len;
    put.data =
        slice_of(put.seq.ptr + put.seq.len, op->body.len - fixed - put.model.len - put.seq.len);
    if (slab && put.data.len != 0)
        return ERR_CORRUPT;
    if (!slab)
        put.length = put.data.len;
    *out = put;
    return 0;
}

uint64_t entry_arg_u64(const struct entry_op *op)
{
    ASSERT(op->body.len >= 8);
    return codec_get64(op->body.ptr);
}

struct slice entry_setrange_bytes(const struct entry_op *op)
{
    ASSERT(op->op == OP_SETRANGE && op->body.len >= 8);
    return slice_of(op->body.ptr + 8, op->body.len - 8);
}
