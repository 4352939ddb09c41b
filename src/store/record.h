/* SPDX-License-Identifier: MIT */
/* record: what the store knows of one key, and its encoding in the index.
 *
 * Purpose   struct record ↔ the value of index.mdb's `key` rows (DESIGN §5 "Formats"; the memory
 *           table holds the same bytes)
 * Threads   pure functions: any
 * Owner     a decoded record borrows model, seq and data from the encoded bytes
 * Errors    record_decode: ERR_CORRUPT (check, lengths), ERR_VERSION (newer)
 * Limits    RECORD_KEY_MAX: LMDB keys are ≤ 511 bytes and an expiry row adds 8
 */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define RECORD_VERSION 1
#define RECORD_KEY_MAX 480
#define RECORD_META_MAX 255 /* model, seq */
#define RECORD_HOLDERS_MAX 7
#define RECORD_FIXED 56       /* bytes before model */
#define RECORD_SLAB_TAIL 32   /* place + payload id, before holders */
#define RECORD_REMOTE_TAIL 16 /* payload id, before holders */
#define RECORD_CHECK 8

enum { /* record flags: how the value came about, which OBJECT ENCODING tells */
       RECORD_RAW = 1u << 0,  /* changed in place: APPEND, SETRANGE */
       RECORD_TEXT = 1u << 1, /* made by INCRBYFLOAT: never "int" */
};

enum record_kind { RECORD_INLINE = 1, RECORD_SLAB = 2, RECORD_REMOTE = 3 };

/* Never used twice by any node: boot is durable before its first use. */
struct payload_id {
    uint32_t node, boot;
    uint64_t seq;
};

#define PLACE_UNIT 4096u

/* Where a payload's header starts in this node's volumes. */
struct place {
    uint32_t volume, generation;
    uint64_t offset; /* in the value area of the volume, a multiple of PLACE_UNIT */
};

struct record {
    enum record_kind kind;
    uint16_t flags; /* RECORD_RAW, RECORD_TEXT */
    uint32_t tokens;
    uint64_t mod;        /* raft index of the last write */
    uint64_t created_ms; /* of the value */
    uint64_t expire_ms;  /* 0 = none */
    uint64_t length;     /* of the value */
    uint64_t digest;     /* XXH3-64 of the chunk digests, payload.h */
    struct slice model, seq;
    struct slice data;  /* RECORD_INLINE */
    struct place place; /* RECORD_SLAB */
    struct payload_id payload;
    unsigned nholders;
    uint32_t holders[RECORD_HOLDERS_MAX];
};

static inline bool payload_id_eq(struct payload_id a, struct payload_id b)
{
    return a.node == b.node && a.boot == b.boot && a.seq == b.seq;
}

static inline bool place_eq(struct place a, struct place b)
{
    return a.volume == b.volume && a.generation == b.generation && a.offset == b.offset;
}

static inline bool record_expired(const struct record *r, uint64_t now_ms)
{
    return r->expire_ms != 0 && now_ms >= r->expire_ms;
}

size_t record_size(const struct record *r);
/* out: record_size() bytes. The check covers key and value. */
void record_encode(const struct record *r, struct slice key, uint8_t *out);
int record_decode(struct slice key, struct slice value, struct record *out);
/* The deadline of an encoded record without looking at its check: which expiry row it has. */
uint64_t record_expire_of(struct slice value);

#endif
