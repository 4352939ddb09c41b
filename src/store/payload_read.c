/* SPDX-License-Identifier: MIT */
/* Reading a value back.
 *
 * Happy path: the loop pins the volume and submits; a read worker reads the header page and the
 * chunks that cover the range straight into the buffer (one read when the range starts at 0, as
 * header and payload are neighbours in the slot and in the buffer), compares the header with the
 * record, each chunk with its digest, and done() runs on the loop. A value that is read part by
 * part has its header read once: the list of digests is bound to the record by its own digest, so
 * it proves every later chunk, wherever the payload lies by then.
 *
 * Failure modes: the slot was recycled, damaged or never written: ERR_CORRUPT, for the caller a
 * counted miss. The device failed: ERR_IO. Nothing else is ever handed out: buf_payload() counts
 * as filled only up to `have`, which is 0 unless every byte was verified.
 */
#include "store/payload.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"

static uint64_t first_of(uint64_t length, uint64_t offset)
{
    uint64_t chunk = payload_chunk_size(length);

    return offset / chunk * chunk;
}

uint64_t payload_read_size(uint64_t length, uint64_t offset, uint64_t count)
{
    uint64_t chunk = payload_chunk_size(length), first = first_of(length, offset);
    uint64_t end;

    ASSERT(offset <= length && count <= length - offset);
    if (count == 0)
        return 0;
    end = (offset + count + chunk - 1) / chunk * chunk;
    return (end < length ? end : length) - first;
}

static void list_digests(const struct payload_read *r, uint64_t chunks, uint64_t *out)
{
    for (uint32_t i = 0; i < chunks; i++)
        out[i] = payload_header_digest(r->buf->mem, i);
}

void payload_read_digests(const struct payload_read *r, uint64_t out[PAYLOAD_CHUNKS_MAX])
{
    uint64_t size = payload_chunk_size(r->length);

    ASSERT(r->err == 0 && r->digests == NULL);
    list_digests(r, (r->length + size - 1) / size, out);
}

/* --- worker ------------------------------------------------------------------------------- */

/* One vector: the reads here are contiguous in memory. */
static int read_run(const struct payload_read *r, uint8_t *to, uint64_t len, uint64_t offset)
{
    struct iovec iov = {to, len};

    return io_read_all(r->vio.io, r->vio.fd, &iov, 1,
                       (off_t)(r->vio.base + r->place.offset + offset));
}

static int read_bytes(const struct payload_read *r, uint64_t want)
{
    uint64_t padded = buf_padded(want);
    int err = 0;

    if (r->digests == NULL && (r->first == 0 || want == 0))
        return read_run(r, r->buf->mem, PAYLOAD_HEADER + padded, 0);
    if (r->digests == NULL)
        err = read_run(r, r->buf->mem, PAYLOAD_HEADER, 0);
    if (err == 0)
        err = read_run(r, buf_payload(r->buf), padded, PAYLOAD_HEADER + r->first);
    return err;
}

/* The header is that of the record's payload and lists digests that add up to the record's. */
static int check_header(const struct payload_read *r, uint64_t digests[PAYLOAD_CHUNKS_MAX])
{
    struct payload_header h;
    int err = payload_header_decode(r->buf->mem, &h);

    if (err != 0)
        return ERR_CORRUPT;
    if (memcmp(h.uuid, r->vio.uuid, sizeof(h.uuid)) != 0 || !place_eq(h.place, r->place) ||
        !payload_id_eq(h.id, r->id) || !slice_eq(h.key, slice_of(r->key, r->key_len)) ||
        h.length != r->length || h.digest != r->digest)
        return ERR_CORRUPT;
    list_digests(r, h.chunks, digests);
    return payload_digest_total(digests, h.chunks) == r->digest ? 0 : ERR_CORRUPT;
}

static int check_chunks(const struct payload_read *r, const uint64_t *digests, uint64_t want)
{
    uint64_t size = payload_chunk_size(r->length);
    uint64_t chunk = r->first / size;

    for (uint64_t at = 0; at < want; at += size, chunk++) {
        uint64_t len = want - at < size ? want - at : size;

        if (hash64(buf_payload(r->buf) + at, len) != digests[chunk])
            return ERR_CORRUPT;
    }
    return 0;
}

static void work(struct job *job)
{
    struct payload_read *r = (struct payload_read *)(void *)job;
    uint64_t want = payload_read_size(r->length, r->offset, r->count);
    uint64_t digests[PAYLOAD_CHUNKS_MAX];

    r->err = read_bytes(r, want);
    if (r->err == 0 && r->digests == NULL)
        r->err = check_header(r, digests);
    if (r->err == 0)
        r->err = check_chunks(r, r->digests != NULL ? r->digests : digests, want);
    r->have = r->err == 0 ? want : 0;
}

/* --- loop --------------------------------------------------------------------------------- */

/* done() may free r: what is used behind it is kept here. */
static void finish(struct job *job)
{
    struct payload_read *r = (struct payload_read *)(void *)job;
    struct buf *buf = r->buf;

    volumes_unpin(r->volumes, r->place.volume);
    r->done(r);
    buf_unref(buf);
}

int payload_read(struct payload_read *r, struct volumes *v, struct worker *readers)
{
    int err;

    ASSERT(offsetof(struct payload_read, job) == 0);
    ASSERT(r->buf != NULL && r->done != NULL && r->key_len <= RECORD_KEY_MAX);
    ASSERT(r->offset <= r->length && r->count <= r->length - r->offset);
    ASSERT(buf_padded(r->buf->len) >=
           buf_padded(payload_read_size(r->length, r->offset, r->count)));
    if (r->place.offset % PAYLOAD_HEADER != 0)
        return ERR_CORRUPT; /* a record's check passed and its place is nonsense */
    err = volumes_pin(v, r->place.volume, r->place.generation, &r->vio);
    if (err != 0)
        return ERR_CORRUPT;
    buf_fill(r->buf);
    buf_ref(r->buf);
    r->volumes = v;
    r->first = r->count == 0 ? 0 : first_of(r->length, r->offset);
    r->have = 0;
    r->job.work = work;
    r->job.done = finish;
    worker_submit(readers, &r->job);
    return 0;
}
