/* SPDX-License-Identifier: MIT */
/* index: index.mdb, the durable map of keys, expiries, volumes and state (LMDB).
 *
 * Purpose   read side for the loop, write side for the checkpoint worker; the only place besides
 *           slab and backup that knows LMDB
 * Threads   index_get, scans, index_renew: loop (one NOTLS read transaction). index_write_*: the
 *           checkpoint worker. index_verify, index_copy, index_get_stats: any, with a snapshot of
 *           their own. open, close: alone
 * Lifetime  no LMDB pointer leaves: values are copied into the caller's index_buf, scan callbacks
 *           get slices valid during the call; a callback may look up, not renew
 * Errors    0, ERR_NOTFOUND, ERR_CORRUPT, ERR_NOSPC, ERR_IO, ERR_NOMEM; a doubtful commit is
 *           ERR_IO and the environment must not be written again (the process stops, the log has
 *           everything)
 * Limits    map INDEX_MAP_BYTES, fixed: address space only. Values ≤ INDEX_VALUE_MAX.
 *           INDEX_FILE_RESERVE bytes are kept allocated behind the end of the file, so that
 *           deletes find room when the disk is full
 * Source    lmdb.h 0.9.24; facts on LMDB: never WRITEMAP, never NOSYNC, one open per process.
 *           NORDAHEAD: a look-up reads one page, and host readahead may be 8 MiB
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "store/volume.h"

#ifdef __SANITIZE_THREAD__ /* it takes the address space a mapping of 1 TiB would need */
#define INDEX_MAP_BYTES ((size_t)1 << 38)
#else
#define INDEX_MAP_BYTES ((size_t)1 << 40)
#endif
#define INDEX_VALUE_MAX ((size_t)16 << 20)
#define INDEX_FILE_RESERVE ((uint64_t)64 << 20)
#define INDEX_DETAIL_MAX 512
#define INDEX_STATE_VERSION 1
/* state.flags */
#define INDEX_CLEAN 1u   /* closed by a clean stop */
#define INDEX_INEXACT 2u /* a damaged record of unknown size was replaced: bytes are too many */

struct index_state {
    uint32_t flags, node, boot;
    uint8_t cluster[16], uuid[16]; /* uuid: of the store, as in FORMAT and every slab */
    uint64_t applied, term, clock_ms, keys, bytes;
};

struct index_buf { /* reused between calls; start zeroed, index_buf_fini at the end */
    uint8_t *mem;
    size_t size, len;
};

struct index_stats {
    uint64_t file_bytes; /* length of the file */
    uint64_t used_bytes; /* pages in use: what max-index-bytes limits */
    uint64_t keys, expires, depth, free_pages;
};

struct index;

/* path: index.mdb, made if absent (then state is zeroed). detail: INDEX_DETAIL_MAX, one line. */
int index_open(const char *path, struct index **out, char *detail);
/* For reading alone, while nobody else has it open: changes nothing, leaves no mark of damage. A
 * file that was cut short is opened (detail says so, else it is empty): to read a page that is
 * missing is a SIGBUS. */
int index_open_read(const char *path, struct index **out, char *detail);
void index_close(struct index *ix);
int index_load_state(struct index *ix, struct index_state *out);
int index_load_volumes(struct index *ix, struct volume_row **rows, size_t *count); /* malloc */

/* A fresh snapshot for the loop: after each checkpoint. */
int index_renew(struct index *ix);
void index_release(struct index *ix); /* until the next use: an idle loop pins no pages */

int index_get(struct index *ix, struct slice key, struct index_buf *out);
void index_buf_fini(struct index_buf *b);

/* Keys ≥ from (or > from) in order; cb returns false to stop. */
typedef bool (*index_scan_cb)(void *ctx, struct slice key, struct slice value);
int index_scan(struct index *ix, struct slice from, bool after, index_scan_cb cb, void *ctx);
int index_last(struct index *ix, struct index_buf *key); /* the largest key; ERR_NOTFOUND: none */
/* Expiry rows behind {from_ms, from_key} with a deadline ≤ upto_ms, earliest first. An empty
 * from_key is before every row of from_ms. */
typedef bool (*index_expiry_cb)(void *ctx, uint64_t expire_ms, struct slice key);
int index_scan_expiry(struct index *ix, uint64_t from_ms, struct slice from_key, uint64_t upto_ms,
                      index_expiry_cb cb, void *ctx);
uint64_t index_count(struct index *ix);
uint64_t index_count_expiry(struct index *ix);
int index_get_stats(struct index *ix, struct index_stats *out); /* reads the free list */

/* One write transaction: begin … commit or abort. put/del keep the expiry rows in step (they look
 * at the record they replace). reserve_bytes: fallocated beyond the file's end first (KEEP_SIZE),
 * so that a full disk is ERR_NOSPC here and never a failed commit. */
int index_write_begin(struct index *ix, uint64_t reserve_bytes);
int index_write_drop_keys(struct index *ix); /* FLUSHALL: key and expiry rows */
int index_write_put(struct index *ix, struct slice key, struct slice value);
int index_write_del(struct index *ix, struct slice key);
int index_write_del_expiry(struct index *ix, uint64_t expire_ms, struct slice key);
int index_write_state(struct index *ix, const struct index_state *state);
int index_write_volumes(struct index *ix, const struct volume_row *rows, size_t count); /* all */
int index_write_commit(struct index *ix);
void index_write_abort(struct index *ix);
/* Bytes a merge may need at worst: `rows` key and expiry rows changed, `bytes` of values. */
uint64_t index_write_estimate(struct index *ix, uint64_t rows, uint64_t bytes);

/* The whole tree, every check (start after an unclean stop, sldmkv-check). ERR_CORRUPT: the tree
 * is damaged or its number of keys is not what `state` says. progress (may be NULL) is called now
 * and then; when it returns false the walk ends with ERR_CANCELED. */
int index_verify(struct index *ix, uint64_t *keys, uint64_t *bad,
                 bool (*progress)(void *ctx, uint64_t done), void *ctx);
/* The next start refuses this index, with the text as the reason (damage.h). What a read or write
 * here finds marks it without being asked. Any thread. */
void index_mark_damaged(struct index *ix, const char *text);
/* A consistent copy of the environment into a new file, synced (BACKUP). */
int index_copy(struct index *ix, const char *path);

#endif
