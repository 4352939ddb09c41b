/* SPDX-License-Identifier: MIT */
/* payload: the slab record: header, chunk digests, reading and verifying.
 *
 * Purpose   the bytes of one value on disk (DESIGN "slab record header") and the job that reads
 *           them back; every byte that leaves was compared with its digest
 * Threads   digest and header functions: any. payload_read: loop; the work runs on a read worker
 * Owner     payload_read takes one reference on buf until done; the volume is pinned meanwhile
 * Errors    done(err): 0, ERR_CORRUPT (a counted miss), ERR_IO, ERR_CANCELED
 * Limits    ≤ PAYLOAD_CHUNKS_MAX chunks; chunk = max(256 KiB, length / 256 rounded up to 64 KiB)
 */
#ifndef STORE_PAYLOAD_H
#define STORE_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/worker.h"
#include "store/record.h"
#include "store/volume.h"

#define PAYLOAD_HEADER 4096u
#define PAYLOAD_CHUNKS_MAX 256u
#define PAYLOAD_CHUNK_MIN ((uint64_t)256 << 10)

/* Filled while the value arrives: feed in order, any cuts. */
struct payload_digest {
    uint64_t length, chunk, seen;
    uint32_t chunks;
    uint64_t digests[PAYLOAD_CHUNKS_MAX];
    uint64_t total; /* after payload_digest_end */
};

uint64_t payload_chunk_size(uint64_t length);
void payload_digest_begin(struct payload_digest *d, uint64_t length);
/* data: all bytes so far (contiguous from the start), have: how many. Digests whole chunks. */
void payload_digest_update(struct payload_digest *d, const uint8_t *data, uint64_t have);
uint64_t payload_digest_end(struct payload_digest *d, const uint8_t *data);
/* The digest of a value from those of its chunks. */
uint64_t payload_digest_total(const uint64_t *digests, uint32_t chunks);
uint64_t payload_digest_of(const uint8_t *data, uint64_t length); /* small values at once */

struct payload_header {
    uint8_t uuid[16];
    struct place place;
    struct payload_id id;
    uint64_t term, applied, length, digest, created_ms, expire_ms;
    uint32_t tokens;
    struct slice key, model, seq; /* decode: borrowed from the encoded page */
    uint64_t chunk;
    uint32_t chunks;
    const uint64_t *digests; /* encode: chunks of them; decode: use payload_header_digest */
};

void payload_header_encode(const struct payload_header *h, uint8_t out[PAYLOAD_HEADER]);
/* ERR_NOTFOUND: no magic (never written); ERR_CORRUPT; ERR_VERSION. */
int payload_header_decode(const uint8_t page[PAYLOAD_HEADER], struct payload_header *out);
uint64_t payload_header_digest(const uint8_t page[PAYLOAD_HEADER], uint32_t chunk);

struct payload_read {
    struct job job; /* private */
    /* in */
    struct volume_io vio;
    struct place place;
    struct payload_id id;
    uint64_t length, digest;
    uint64_t offset, count; /* the wanted range; whole value: 0, length */
    uint8_t key[RECORD_KEY_MAX];
    size_t key_len;
    struct buf *buf; /* whole chunks that cover the range land here */
    /* NULL: the header is read with the range and checked. Else the chunk digests of a payload with
     * this id and digest, from a header that was: only chunks are read. Valid until done. */
    const uint64_t *digests;
    /* out */
    uint64_t first; /* value offset of buf_payload()[0] */
    uint64_t have;  /* verified bytes there */
    int err;
    void (*done)(struct payload_read *r);
    struct volumes *volumes; /* private: unpinned at done */
};

/* Buffer length needed for a range: the covering chunks (cut at the end of the value). */
uint64_t payload_read_size(uint64_t length, uint64_t offset, uint64_t count);
/* After a done(0) that read the header: its list, for the reads that follow. */
void payload_read_digests(const struct payload_read *r, uint64_t out[PAYLOAD_CHUNKS_MAX]);

/* Pins and submits. r->place … r->buf, r->done set by the caller. 0: done comes exactly once.
 * ERR_CORRUPT: the volume is gone: no done. */
int payload_read(struct payload_read *r, struct volumes *v, struct worker *readers);

#endif
