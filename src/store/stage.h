/* SPDX-License-Identifier: MIT */
/* stage: makes payloads durable before the entry that names them.
 *
 * Purpose   queues payloads, gives them slots, writes what is queued in one direct write and one
 *           fdatasync, answers with the place
 * Threads   loop; the write runs on the write worker (one thread, so a torn job is the last one)
 * Owner     a stage_req belongs to the stage from stage_submit until done(); it holds its own
 *           reference on buf. After a successful done() the slot stays pinned until stage_release()
 * Order     done() in the order of submit, writes and MOVEs each for themselves. done() may submit,
 *           pump and release
 * Errors    done(err): ERR_FULL nothing evictable, or no slot for a MOVE; ERR_NOSPC; ERR_IO (the
 *           volume is FAILED; the job was never acknowledged); ERR_CANCELED at close
 * Limits    STAGE_JOB_BYTES a job, STAGE_JOBS in flight; the queue is bounded by the payload budget
 */
#ifndef STORE_STAGE_H
#define STORE_STAGE_H

#include "store/payload.h"

#define STAGE_JOB_BYTES ((size_t)16 << 20)
#define STAGE_JOBS 2

struct stage_req {
    struct stage_req *next; /* private, as state and tries */
    uint8_t state, tries;
    /* in */
    struct buf *buf;                     /* payload; its header page is filled by the stage */
    const struct payload_digest *digest; /* valid until done */
    uint8_t key[RECORD_KEY_MAX];
    size_t key_len;
    struct slice model, seq; /* valid until done */
    uint32_t tokens;
    uint64_t created_ms, expire_ms;
    struct payload_id id; /* zero seq: the stage gives a new one; MOVE keeps the old */
    bool moving;
    /* out */
    struct place place;
    int err;
    void (*done)(struct stage_req *r);
};

struct stage_config {
    struct volumes *volumes;
    struct worker *writer;
    uint32_t node, boot;
    uint8_t uuid[16];
    /* No slot to be had: start evicting. Returns false when nothing can be evicted (ERR_FULL). */
    bool (*need_space)(void *ctx);
    void (*tags)(void *ctx, uint64_t *term, uint64_t *applied); /* for the headers */
    uint64_t (*now_ms)(void *ctx);
    void *ctx;
};

struct stage_stats {
    uint64_t queued, queued_bytes, jobs, payloads, bytes, failures;
};

struct stage;

struct stage *stage_new(const struct stage_config *c);
/* What is queued ends with ERR_CANCELED; nothing may be in flight (the writer is joined and the
 * inbox drained: from then on nothing starts). */
void stage_free(struct stage *s);
void stage_submit(struct stage *s, struct stage_req *r);
void stage_pump(struct stage *s); /* at the end of a loop turn, and when space came */
void stage_release(struct stage *s, struct place p); /* referenced by a record, or given up */
bool stage_idle(const struct stage *s);
void stage_get_stats(const struct stage *s, struct stage_stats *out);

#endif
