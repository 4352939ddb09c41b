/* SPDX-License-Identifier: MIT */
/* Digests and the slab record header.
 *
 * A payload is cut into chunks so that a range can be verified without reading the rest; the digest
 * in the key record is the digest of the chunk digests, so it binds the header's list to the key.
 *
 * Header page, little-endian, every field at its natural alignment, unnamed bytes zero:
 *   offset  bytes  field
 *        0      4  magic "SLDP"
 *        4      2  format, 1
 *        6      2  flags, 0
 *        8     16  store uuid
 *       24      4  volume
 *       28      4  generation
 *       32      8  own offset in the value area
 *       40     16  payload id: node 4, boot 4, seq 8
 *       56      8  term            } of the state machine when the payload was staged
 *       64      8  applied index   }
 *       72      8  length
 *       80      8  digest
 *       88      4  chunk size
 *       92      2  chunks
 *       94      2  key_len
 *       96      1  model_len
 *       97      1  seq_len
 *       98      2  0
 *      100      4  tokens
 *      104      8  created, wall ms
 *      112      8  expire, wall ms, 0 = none
 *      120      8  0
 *      128    990  key, model, seq, one behind the other
 *    2,040  2,048  chunk digests, 256 × 8
 *    4,088      8  check: XXH3-64 of the bytes before it
 */
#include "store/payload.h"

#include <stddef.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"

#define MAGIC 0x50444c53u /* "SLDP" */
#define FORMAT 1
#define CHUNK_STEP ((uint64_t)64 << 10)
#define TEXT_AT 128u
#define DIGESTS_AT 2040u
#define CHECK_AT 4088u

_Static_assert(TEXT_AT + RECORD_KEY_MAX + 2 * RECORD_META_MAX <= DIGESTS_AT, "texts fit");
_Static_assert(DIGESTS_AT + 8 * PAYLOAD_CHUNKS_MAX == CHECK_AT, "digests end at the check");
_Static_assert(CHECK_AT + 8 == PAYLOAD_HEADER, "the check ends the page");

/* --- digests ------------------------------------------------------------------------------ */

uint64_t payload_chunk_size(uint64_t length)
{
    uint64_t part = (length + PAYLOAD_CHUNKS_MAX - 1) / PAYLOAD_CHUNKS_MAX;
    uint64_t chunk = (part + CHUNK_STEP - 1) / CHUNK_STEP * CHUNK_STEP;

    return chunk > PAYLOAD_CHUNK_MIN ? chunk : PAYLOAD_CHUNK_MIN;
}

static uint32_t chunks_of(uint64_t length, uint64_t chunk)
{
    return (uint32_t)((length + chunk - 1) / chunk);
}

uint64_t payload_digest_total(const uint64_t *digests, uint32_t chunks)
{
    uint8_t list[8 * PAYLOAD_CHUNKS_MAX];

    ASSERT(chunks <= PAYLOAD_CHUNKS_MAX);
    for (uint32_t i = 0; i < chunks; i++)
        codec_put64(list + 8 * (size_t)i, digests[i]);
    return hash64(list, 8 * (size_t)chunks);
}

void payload_digest_begin(struct payload_digest *d, uint64_t length)
{
    ASSERT(d != NULL);
    d->length = length;
    d->chunk = payload_chunk_size(length);
    d->seen = 0;
    d->chunks = 0;
    d->total = 0;
}

void payload_digest_update(struct payload_digest *d, const uint8_t *data, uint64_t have)
{
    ASSERT(have >= d->seen && have <= d->length);
    while (have - d->seen >= d->chunk) {
        d->digests[d->chunks++] = hash64(data + d->seen, d->chunk);
        d->seen += d->chunk;
    }
}

uint64_t payload_digest_end(struct payload_digest *d, const uint8_t *data)
{
    payload_digest_update(d, data, d->length);
    if (d->seen < d->length) {
        d->digests[d->chunks++] = hash64(data + d->seen, d->length - d->seen);
        d->seen = d->length;
    }
    ASSERT(d->chunks == chunks_of(d->length, d->chunk));
    d->total = payload_digest_total(d->digests, d->chunks);
    return d->total;
}

uint64_t payload_digest_of(const uint8_t *data, uint64_t length)
{
    struct payload_digest d;

    payload_digest_begin(&d, length);
    return payload_digest_end(&d, data);
}

/* --- header ------------------------------------------------------------------------------- */

static uint8_t *put_text(uint8_t *at, struct slice s)
{
    if (s.len > 0)
        memcpy(at, s.ptr, s.len);
    return at + s.len;
}

void payload_header_encode(const struct payload_header *h, uint8_t out[PAYLOAD_HEADER])
{
    uint8_t *at;

    ASSERT(h->key.len <= RECORD_KEY_MAX);
    ASSERT(h->model.len <= RECORD_META_MAX && h->seq.len <= RECORD_META_MAX);
    ASSERT(h->chunk == payload_chunk_size(h->length));
    ASSERT(h->chunks == chunks_of(h->length, h->chunk));
    memset(out, 0, PAYLOAD_HEADER);
    codec_put32(out, MAGIC);
    codec_put16(out + 4, FORMAT);
    memcpy(out + 8, h->uuid, 16);
    codec_put32(out + 24, h->place.volume);
    codec_put32(out + 28, h->place.generation);
    codec_put64(out + 32, h->place.offset);
    codec_put32(out + 40, h->id.node);
    codec_put32(out + 44, h->id.boot);
    codec_put64(out + 48, h->id.seq);
    codec_put64(out + 56, h->term);
    codec_put64(out + 64, h->applied);
    codec_put64(out + 72, h->length);
    codec_put64(out + 80, h->digest);
    codec_put32(out + 88, (uint32_t)h->chunk);
    codec_put16(out + 92, (uint16_t)h->chunks);
    codec_put16(out + 94, (uint16_t)h->key.len);
    out[96] = (uint8_t)h->model.len;
    out[97] = (uint8_t)h->seq.len;
    codec_put32(out + 100, h->tokens);
    codec_put64(out + 104, h->created_ms);
    codec_put64(out + 112, h->expire_ms);
    at = put_text(out + TEXT_AT, h->key);
    at = put_text(at, h->model);
    put_text(at, h->seq);
    for (uint32_t i = 0; i < h->chunks; i++)
        codec_put64(out + DIGESTS_AT + 8 * (size_t)i, h->digests[i]);
    codec_put64(out + CHECK_AT, hash64(out, CHECK_AT));
}

static void read_fields(const uint8_t *page, struct payload_header *out)
{
    size_t key_len = codec_get16(page + 94);

    memcpy(out->uuid, page + 8, 16);
    out->place =
        (struct place){codec_get32(page + 24), codec_get32(page + 28), codec_get64(page + 32)};
    out->id =
        (struct payload_id){codec_get32(page + 40), codec_get32(page + 44), codec_get64(page + 48)};
    out->term = codec_get64(page + 56);
    out->applied = codec_get64(page + 64);
    out->length = codec_get64(page + 72);
    out->digest = codec_get64(page + 80);
    out->chunk = codec_get32(page + 88);
    out->chunks = codec_get16(page + 92);
    out->tokens = codec_get32(page + 100);
    out->created_ms = codec_get64(page + 104);
    out->expire_ms = codec_get64(page + 112);
    out->key = slice_of(page + TEXT_AT, key_len);
    out->model = slice_of(page + TEXT_AT + key_len, page[96]);
    out->seq = slice_of(page + TEXT_AT + key_len + page[96], page[97]);
    out->digests = NULL;
}

int payload_header_decode(const uint8_t page[PAYLOAD_HEADER], struct payload_header *out)
{
    struct payload_header h;

    if (codec_get32(page) != MAGIC)
        return ERR_NOTFOUND;
    if (codec_get64(page + CHECK_AT) != hash64(page, CHECK_AT))
        return ERR_CORRUPT;
    if (codec_get16(page + 4) > FORMAT)
        return ERR_VERSION;
    /* Lengths are bounded before slices are made of them. */
    if (codec_get16(page + 94) > RECORD_KEY_MAX || codec_get64(page + 72) > UINT32_MAX)
        return ERR_CORRUPT;
    read_fields(page, &h);
    if (h.chunk != payload_chunk_size(h.length) || h.chunks != chunks_of(h.length, h.chunk) ||
        h.place.offset % PAYLOAD_HEADER != 0)
        return ERR_CORRUPT;
    *out = h;
    return 0;
}

uint64_t payload_header_digest(const uint8_t page[PAYLOAD_HEADER], uint32_t chunk)
{
    ASSERT(chunk < PAYLOAD_CHUNKS_MAX);
    return codec_get64(page + DIGESTS_AT + 8 * (size_t)chunk);
}
