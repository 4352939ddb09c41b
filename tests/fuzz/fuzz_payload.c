/* SPDX-License-Identifier: MIT */
/* fuzz_payload: header pages of payloads from bytes that no writer made.
 *
 * An input shorter than a page is followed by zeros. It is read as it is and with its check made
 * right. What can be read lies inside the page, fits the lengths a buffer is made from, and is
 * written again as the same fields.
 */
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "fuzz.h"
#include "store/payload.h"

enum { CHECK_AT = PAYLOAD_HEADER - 8, DIGESTS_AT = CHECK_AT - 8 * (int)PAYLOAD_CHUNKS_MAX };

static void inside(struct slice s, const uint8_t *page)
{
    ASSERT(s.ptr >= page && s.ptr + s.len <= page + DIGESTS_AT);
}

static void write_again(struct payload_header *h, const uint8_t *page)
{
    uint64_t digests[PAYLOAD_CHUNKS_MAX];
    uint8_t again[PAYLOAD_HEADER];
    struct payload_header same;

    for (uint32_t i = 0; i < h->chunks; i++)
        digests[i] = payload_header_digest(page, i);
    h->digests = digests;
    payload_header_encode(h, again);
    ASSERT(memcmp(again + 8, page + 8, 90) == 0); /* uuid … seq_len */
    ASSERT(memcmp(again + 100, page + 100, 20) == 0);
    ASSERT(memcmp(again + DIGESTS_AT, page + DIGESTS_AT, 8 * (size_t)h->chunks) == 0);
    ASSERT(payload_header_decode(again, &same) == 0);
    ASSERT(slice_eq(same.key, h->key) && slice_eq(same.model, h->model));
    ASSERT(slice_eq(same.seq, h->seq));
}

static void read_page(const uint8_t *page)
{
    struct payload_header h;
    int err = payload_header_decode(page, &h);

    ASSERT(err == 0 || err == ERR_NOTFOUND || err == ERR_CORRUPT || err == ERR_VERSION);
    if (err != 0)
        return;
    inside(h.key, page);
    inside(h.model, page);
    inside(h.seq, page);
    ASSERT(h.chunks <= PAYLOAD_CHUNKS_MAX && h.chunk * h.chunks >= h.length);
    ASSERT(payload_read_size(h.length, 0, h.length) >= h.length);
    write_again(&h, page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *page = calloc(1, PAYLOAD_HEADER);

    ASSERT(page != NULL);
    memcpy(page, data, size < PAYLOAD_HEADER ? size : PAYLOAD_HEADER);
    read_page(page);
    codec_put64(page + CHECK_AT, hash64(page, CHECK_AT));
    read_page(page);
    free(page);
    return 0;
}
