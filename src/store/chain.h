/* SPDX-License-Identifier: MIT */
/* chain: the records of one volume, in the order written, some at a time.
 *
 * Purpose   eviction asks a volume which keys were stored in it; the headers tell (the index is
 *           sorted by key and cannot). What a header says is a hint: the key record decides
 * Threads   chain_start: loop. The reading runs on a read worker, done() on the loop
 * Owner     a struct chain belongs to the worker from chain_start until done(); the volume is
 *           pinned meanwhile
 * Errors    a damaged header is passed over in steps of 4 KiB; a page that cannot be read ends the
 *           walk: `at` jumps to `end`, err is ERR_IO
 * Limits    CHAIN_BATCH entries or CHAIN_GAP_BYTES without one per job
 */
#ifndef STORE_CHAIN_H
#define STORE_CHAIN_H

#include "store/payload.h"

#define CHAIN_BATCH 32
#define CHAIN_GAP_BYTES ((uint64_t)16 << 20)

struct chain_entry {
    uint64_t offset, length;
    size_t key_len;
    uint8_t key[RECORD_KEY_MAX];
};

struct chain {
    struct job job; /* private */
    struct volumes *volumes;
    struct volume_io vio;
    uint8_t *window;
    uint64_t window_at, window_len;
    bool growing; /* the volume is OPEN: the first page that is no header ends the walk */
    bool busy;
    /* in and out: where to go on, and where to stop */
    uint64_t at, end;
    /* out */
    struct chain_entry entries[CHAIN_BATCH];
    size_t count;
    int err;
    void (*done)(struct chain *c); /* set by the owner */
};

int chain_init(struct chain *c, struct volumes *v);
void chain_fini(struct chain *c); /* not busy */
/* Reads on from at. ERR_NOTFOUND: this life of the volume is over; no done. */
int chain_start(struct chain *c, struct worker *readers, const struct volume_row *row);

#endif
