/* SPDX-License-Identifier: MIT */
/* segment: the bytes of one of libraft's segment files, read by ourselves.
 *
 * Purpose   finds whole batches, and says what follows the last one. Knows nothing of folders
 * Threads   any: pure functions over the caller's memory
 * Owner     nothing: a struct batch points into the bytes it was read from
 * Errors    a batch is whole or not; nothing here fails
 * Limits    SEGMENT_SERVERS_MAX in a configuration
 * Source    libraft's uv_segment.c, uv_encoding.c. A file is {format 8} and batches {crc of the
 *           header 4, crc of the data 4, header, data}; a header is {n 8} and n × {term 8, type 1,
 *           0 ×3, length 4}; little-endian, every length a multiple of 8. Batches are written one
 *           at a time (raft.c), whole blocks, so a torn write spoils only the last
 */
#ifndef LOG_SEGMENT_H
#define LOG_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define SEGMENT_FORMAT 1
#define SEGMENT_BATCH_ENTRIES_MAX 1024
#define SEGMENT_SERVERS_MAX 64

enum segment_type { SEGMENT_COMMAND = 1, SEGMENT_BARRIER = 2, SEGMENT_CHANGE = 3 };

/* CRC-32 with polynomial 04C11DB7, most significant bit first, register 0 at the start and not
 * inverted at the end, as libraft has it; eight bytes at a time. */
struct crc {
    uint32_t table[8][256];
};

void crc_init(struct crc *c);
uint32_t crc_of(const struct crc *c, const void *bytes, size_t len);
/* Goes on where `crc` ended. */
uint32_t crc_more(const struct crc *c, uint32_t crc, const void *bytes, size_t len);

struct batch {
    size_t at, end;      /* in the file; end is known as soon as the header is whole */
    uint64_t n;          /* entries */
    const uint8_t *list; /* n × 16 bytes */
    const uint8_t *data;
    bool header_whole;
};

struct batch_entry {
    uint64_t term;
    enum segment_type type;
    struct slice bytes;
};

/* True: the batch at `at` is whole. False: header_whole and end say how far it can be trusted. */
bool batch_read(const struct crc *c, struct slice file, size_t at, struct batch *out);

/* Entry i < n of a whole batch; *offset walks its data, 0 for the first. */
struct batch_entry batch_entry(const struct batch *b, uint64_t i, size_t *offset);

bool segment_zero(struct slice file, size_t from);

/* The servers of a SEGMENT_CHANGE entry, or of a snapshot: {format 1 byte, n 8, n × {id 8, address
 * with its NUL, role 1}}. 0.22.1 frees the wrong memory when it meets another one at start. */
bool configuration_whole(struct slice bytes);

enum segment_tail {
    SEGMENT_CLEAN,  /* zeros or nothing */
    SEGMENT_TORN,   /* what one unfinished write can leave */
    SEGMENT_DAMAGED /* a whole batch, or bytes no single write reaches, behind a spoilt one */
};

/* What follows the last whole batch, which ended at `end`. *where: the offset that decided. */
enum segment_tail segment_tail(const struct crc *c, struct slice file, size_t end, size_t *where);

#endif
