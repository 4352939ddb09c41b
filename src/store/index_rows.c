/* SPDX-License-Identifier: MIT */
/* The rows of index.mdb other than key records (record.c). Little-endian, naturally aligned; the
 * last field of a value is a check over its LMDB key and the bytes before it.
 *
 *   state, key "s"                      volume, key: number, big-endian 4
 *   offset size field                   offset size field
 *        0    4 version                      0    1 version
 *        4    4 flags                        1    1 state
 *        8   16 cluster uuid                 2    2 zero
 *       24    4 node                         4    4 generation
 *       28    4 boot                         8    8 cursor
 *       32    8 applied index               16    8 live bytes
 *       40    8 applied term                24    8 records
 *       48    8 clock ms                    32    8 opened ms
 *       56    8 keys                        40    8 check
 *       64    8 bytes
 *       72   16 store uuid              expiry, key: deadline ms big-endian 8, key; value empty
 *       88    8 check
 */
#include "store/index_int.h"

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"

#define VOLUME_ROW_VERSION 1

static void seal(struct slice key, uint8_t *bytes, size_t size)
{
    codec_put64(bytes + size - 8, hash64_pair(key, slice_of(bytes, size - 8)));
}

static bool is_sealed(struct slice key, struct slice bytes, size_t size)
{
    return bytes.len == size &&
           codec_get64(bytes.ptr + size - 8) == hash64_pair(key, slice_of(bytes.ptr, size - 8));
}

size_t index_expiry_key(uint64_t expire_ms, struct slice key, uint8_t *out)
{
    ASSERT(key.len <= RECORD_KEY_MAX);
    codec_put64be(out, expire_ms);
    if (key.len > 0)
        memcpy(out + 8, key.ptr, key.len);
    return 8 + key.len;
}

void index_state_encode(const struct index_state *s, uint8_t out[STATE_SIZE])
{
    codec_put32(out, INDEX_STATE_VERSION);
    codec_put32(out + 4, s->flags);
    memcpy(out + 8, s->cluster, 16);
    codec_put32(out + 24, s->node);
    codec_put32(out + 28, s->boot);
    codec_put64(out + 32, s->applied);
    codec_put64(out + 40, s->term);
    codec_put64(out + 48, s->clock_ms);
    codec_put64(out + 56, s->keys);
    codec_put64(out + 64, s->bytes);
    memcpy(out + 72, s->uuid, 16);
    seal(slice_str("s"), out, STATE_SIZE);
}

int index_state_decode(struct slice bytes, struct index_state *out)
{
    const uint8_t *p = bytes.ptr;

    if (!is_sealed(slice_str("s"), bytes, STATE_SIZE))
        return ERR_CORRUPT;
    if (codec_get32(p) > INDEX_STATE_VERSION)
        return ERR_VERSION;
    out->flags = codec_get32(p + 4);
    memcpy(out->cluster, p + 8, 16);
    out->node = codec_get32(p + 24);
    out->boot = codec_get32(p + 28);
    out->applied = codec_get64(p + 32);
    out->term = codec_get64(p + 40);
    out->clock_ms = codec_get64(p + 48);
    out->keys = codec_get64(p + 56);
    out->bytes = codec_get64(p + 64);
    memcpy(out->uuid, p + 72, 16);
    return 0;
}

void index_volume_encode(const struct volume_row *r, uint8_t key[4], uint8_t out[VOLUME_ROW_SIZE])
{
    codec_put32be(key, r->number);
    out[0] = VOLUME_ROW_VERSION;
    out[1] = (uint8_t)r->state;
    codec_put16(out + 2, 0);
    codec_put32(out + 4, r->generation);
    codec_put64(out + 8, r->cursor);
    codec_put64(out + 16, r->live_bytes);
    codec_put64(out + 24, r->live_records);
    codec_put64(out + 32, r->opened_ms);
    seal(slice_of(key, 4), out, VOLUME_ROW_SIZE);
}

int index_volume_decode(struct slice key, struct slice bytes, struct volume_row *out)
{
    const uint8_t *p = bytes.ptr;

    if (key.len != 4 || !is_sealed(key, bytes, VOLUME_ROW_SIZE))
        return ERR_CORRUPT;
    if (p[0] > VOLUME_ROW_VERSION)
        return ERR_VERSION;
    if (p[1] < VOLUME_FREE || p[1] > VOLUME_FAILED)
        return ERR_CORRUPT;
    *out = (struct volume_row){
        .number = codec_get32be(key.ptr),
        .generation = codec_get32(p + 4),
        .state = (enum volume_state)p[1],
        .cursor = codec_get64(p + 8),
        .live_bytes = codec_get64(p + 16),
        .live_records = codec_get64(p + 24),
        .opened_ms = codec_get64(p + 32),
    };
    return 0;
}
