/* SPDX-License-Identifier: MIT */
/* check: is the folder of libraft's log whole?
 *
 * Purpose   libraft 0.22.1 drops everything behind a damaged batch of an open segment without a
 *           word, and dies on a segment that ends inside one. This reads all its files first:
 *           damage is refused with file, offset and remedy, what a crash may leave is mended
 * Threads   loop, before the raft thread exists; the folder must not be in use
 * Owner     nothing is kept
 * Errors    ERR_CORRUPT damage or a log shorter than must_have; ERR_VERSION a newer format;
 *           ERR_IO, ERR_ACCESS, ERR_NOMEM as they say. detail names the file; no file was changed
 * Limits    LOG_CHECK_FILE_MAX a file; cannot see: a flip in the very last batch (it looks like a
 *           torn write: must_have decides), in `metadata1|2` where they carry no checksum (only
 *           what contradicts the log), a last closed segment removed together with all open ones
 * Source    format: libraft's uv_segment.c, uv_snapshot.c, uv_metadata.c; the
 *           checksums are CRC-32, see segment.h
 */
#ifndef LOG_CHECK_H
#define LOG_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_CHECK_FILE_MAX ((uint64_t)1 << 30)
#define LOG_CHECK_TRAILER 16

struct log_check_options {
    const char *dir;
    uint64_t base;
    uint64_t must_have; /* last index + base below it is refused */
    bool mend;          /* false: only look */
};

struct log_check_report {
    bool fresh; /* nothing of a log is there: bootstrap */
    uint64_t first_index, last_index, last_term, snapshot_index, term;
    uint64_t entries, bytes; /* bytes read */
    unsigned segments, mended;
};

/* detail: LOG_DETAIL_MAX bytes. */
int log_check(const struct log_check_options *o, struct log_check_report *out, char *detail);

#endif
