/* SPDX-License-Identifier: MIT */
/* A record is written by one function and read by one; both follow this table. All fields are
 * little-endian and naturally aligned up to the model; what follows it has odd lengths and is
 * copied, never cast.
 *
 *   offset  size  field
 *        0     1  version            RECORD_VERSION
 *        1     1  kind               enum record_kind
 *        2     2  flags              RECORD_RAW, RECORD_TEXT
 *        4     4  tokens
 *        8     8  mod
 *       16     8  created ms
 *       24     8  expire ms          0 = none
 *       32     8  length             of the value
 *       40     8  digest
 *       48     1  model_len
 *       49     1  seq_len
 *       50     2  holders
 *       52     4  zero
 *       56        model, seq
 *                 INLINE: the value
 *                 SLAB:   volume 4, generation 4, offset 8, payload id 16, holders × 4
 *                 REMOTE: payload id 16, holders × 4
 *     last     8  check              XXH3-64 of key and everything before it
 *
 * Bytes that fail the check, or lengths that do not add up, are ERR_CORRUPT: the caller counts a
 * miss. The check is compared before the version, so a newer format is told from damage.
 */
#include "store/record.h"

#include <string.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"

#define OFF_VERSION 0
#define OFF_KIND 1
#define OFF_FLAGS 2
#define OFF_TOKENS 4
#define OFF_MOD 8
#define OFF_CREATED 16
#define OFF_EXPIRE 24
#define OFF_LENGTH 32
#define OFF_DIGEST 40
#define OFF_MODEL_LEN 48
#define OFF_SEQ_LEN 49
#define OFF_HOLDERS 50
#define OFF_ZERO 52

static size_t tail_size(enum record_kind kind, size_t data_len, unsigned nholders)
{
    switch (kind) {
    case RECORD_INLINE:
        return data_len;
    case RECORD_SLAB:
        return RECORD_SLAB_TAIL + (size_t)nholders * 4;
    case RECORD_REMOTE:
        return RECORD_REMOTE_TAIL + (size_t)nholders * 4;
    }
    return 0;
}

size_t record_size(const struct record *r)
{
    ASSERT(r->kind >= RECORD_INLINE && r->kind <= RECORD_REMOTE);
    return RECORD_FIXED + r->model.len + r->seq.len + tail_size(r->kind, r->data.len, r->nholders) +
           RECORD_CHECK;
}

static uint8_t *put_bytes(uint8_t *p, struct slice s)
{
    if (s.len > 0)
        memcpy(p, s.ptr, s.len);
    return p + s.len;
}

static uint8_t *put_payload_id(uint8_t *p, struct payload_id id)
{
    codec_put32(p, id.node);
    codec_put32(p + 4, id.boot);
    codec_put64(p + 8, id.seq);
    return p + RECORD_REMOTE_TAIL;
}

static uint8_t *put_tail(uint8_t *p, const struct record *r)
{
    if (r->kind == RECORD_INLINE)
        return put_bytes(p, r->data);
    if (r->kind == RECORD_SLAB) {
        codec_put32(p, r->place.volume);
        codec_put32(p + 4, r->place.generation);
        codec_put64(p + 8, r->place.offset);
        p += RECORD_SLAB_TAIL - RECORD_REMOTE_TAIL;
    }
    p = put_payload_id(p, r->payload);
    for (unsigned i = 0; i < r->nholders; i++, p += 4)
        codec_put32(p, r->holders[i]);
    return p;
}

void record_encode(const struct record *r, struct slice key, uint8_t *out)
{
    uint8_t *p = out + RECORD_FIXED;

    ASSERT(key.len > 0 && key.len <= RECORD_KEY_MAX);
    ASSERT(r->model.len <= RECORD_META_MAX && r->seq.len <= RECORD_META_MAX);
    ASSERT(r->nholders <= RECORD_HOLDERS_MAX);
    ASSERT(r->kind != RECORD_INLINE || (r->nholders == 0 && r->data.len == r->length));
    out[OFF_VERSION] = RECORD_VERSION;
    out[OFF_KIND] = (uint8_t)r->kind;
    codec_put16(out + OFF_FLAGS, r->flags);
    codec_put32(out + OFF_TOKENS, r->tokens);
    codec_put64(out + OFF_MOD, r->mod);
    codec_put64(out + OFF_CREATED, r->created_ms);
    codec_put64(out + OFF_EXPIRE, r->expire_ms);
    codec_put64(out + OFF_LENGTH, r->length);
    codec_put64(out + OFF_DIGEST, r->digest);
    out[OFF_MODEL_LEN] = (uint8_t)r->model.len;
    out[OFF_SEQ_LEN] = (uint8_t)r->seq.len;
    codec_put16(out + OFF_HOLDERS, (uint16_t)r->nholders);
    codec_put32(out + OFF_ZERO, 0);
    p = put_bytes(p, r->model);
    p = put_bytes(p, r->seq);
    p = put_tail(p, r);
    codec_put64(p, hash64_pair(key, slice_of(out, (size_t)(p - out))));
}

static const uint8_t *get_payload_id(const uint8_t *p, struct payload_id *id)
{
    id->node = codec_get32(p);
    id->boot = codec_get32(p + 4);
    id->seq = codec_get64(p + 8);
    return p + RECORD_REMOTE_TAIL;
}

static void get_tail(const uint8_t *p, size_t len, struct record *r)
{
    if (r->kind == RECORD_INLINE) {
        r->data = slice_of(p, len);
        return;
    }
    if (r->kind == RECORD_SLAB) {
        r->place.volume = codec_get32(p);
        r->place.generation = codec_get32(p + 4);
        r->place.offset = codec_get64(p + 8);
        p += RECORD_SLAB_TAIL - RECORD_REMOTE_TAIL;
    }
    p = get_payload_id(p, &r->payload);
    for (unsigned i = 0; i < r->nholders; i++, p += 4)
        r->holders[i] = codec_get32(p);
}

int record_decode(struct slice key, struct slice value, struct record *out)
{
    const uint8_t *v = value.ptr;
    struct record r = {0};
    size_t body, meta;

    if (value.len < RECORD_FIXED + RECORD_CHECK)
        return ERR_CORRUPT;
    body = value.len - RECORD_CHECK;
    if (codec_get64(v + body) != hash64_pair(key, slice_of(v, body)))
        return ERR_CORRUPT;
    if (v[OFF_VERSION] > RECORD_VERSION)
        return ERR_VERSION;
    if (v[OFF_VERSION] == 0 || v[OFF_KIND] < RECORD_INLINE || v[OFF_KIND] > RECORD_REMOTE)
        return ERR_CORRUPT;
    r.kind = (enum record_kind)v[OFF_KIND];
    r.flags = codec_get16(v + OFF_FLAGS);
    r.tokens = codec_get32(v + OFF_TOKENS);
    r.mod = codec_get64(v + OFF_MOD);
    r.created_ms = codec_get64(v + OFF_CREATED);
    r.expire_ms = codec_get64(v + OFF_EXPIRE);
    r.length = codec_get64(v + OFF_LENGTH);
    r.digest = codec_get64(v + OFF_DIGEST);
    r.nholders = codec_get16(v + OFF_HOLDERS);
    r.model = slice_of(v + RECORD_FIXED, v[OFF_MODEL_LEN]);
    r.seq = slice_of(v + RECORD_FIXED + r.model.len, v[OFF_SEQ_LEN]);
    meta = RECORD_FIXED + r.model.len + r.seq.len;
    if (r.nholders > RECORD_HOLDERS_MAX || (r.kind == RECORD_INLINE && r.nholders != 0))
        return ERR_CORRUPT;
    if (body < meta || body - meta != tail_size(r.kind, r.length, r.nholders))
        return ERR_CORRUPT;
    get_tail(v + meta, body - meta, &r);
    *out = r;
    return 0;
}

uint64_t record_expire_of(struct slice value)
{
    return value.len < RECORD_FIXED ? 0 : codec_get64(value.ptr + OFF_EXPIRE);
}
