/* SPDX-License-Identifier: MIT */
/* entry: a log entry, a group of operations, and its bytes.
 *
 * Purpose   encode (the proposer fills a group) and decode (apply reads it); formats in DESIGN
 *           "Raft entry"
 * Threads   pure: any
 * Owner     an entry_writer owns its memory; a decoded op borrows from the entry
 * Units     every op and body padded to 8, so an entry's length is a multiple of 8 as libraft wants
 * Atomic    ops of one command, or of one MULTI, follow one another; all but the last carry
 *           ENTRY_MORE. Conditions (OP_IF_MOD) come first in such a unit; if one fails the rest has
 *           no effect. OP_UNLESS guards some ops of a unit, at their place (MSETNX in a MULTI)
 * Errors    entry_open, entry_next, entry_decode_put: ERR_CORRUPT, ERR_VERSION (newer: also an
 *           unknown op, flag or kind; the node stops), outputs untouched. A writer that cannot
 *           grow is `failed` and takes nothing more until the next entry_begin
 * Limits    ENTRY_MAX bytes, which a caller must keep before entry_finish: group and unit lengths
 *           are in len, a unit's ENTRY_HEADER bytes included
 */
#ifndef FSM_ENTRY_H
#define FSM_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "store/record.h"

#define ENTRY_VERSION 1
#define ENTRY_HEADER 48u
#define ENTRY_OP_VERSION 1
#define ENTRY_OP_HEADER 16u
#define ENTRY_MAX ((size_t)8 << 20)
#define ENTRY_MORE 1u /* op flag: the next op belongs to the same command */

enum entry_kind { ENTRY_GROUP = 1, ENTRY_TICK = 2, ENTRY_INIT = 3 };

enum op {
    OP_PUT = 1,         /* body: struct op_put with inline data; results: see fsm.h */
    OP_PUT_SLAB = 2,    /* the same with payload id, length, digest, holders */
    OP_DEL = 3,         /* key */
    OP_EXPIRE = 4,      /* u64 expire_ms, ≤ the stamp deletes; OPF_NX, XX, GT, LT */
    OP_PERSIST = 5,     /* key */
    OP_INCRBY = 6,      /* u64: an i64 in two's complement */
    OP_INCRBYFLOAT = 7, /* bytes: text of the increment */
    OP_APPEND = 8,      /* bytes */
    OP_SETRANGE = 9,    /* setrange: offset, bytes */
    OP_GETDEL = 10,     /* key */
    OP_GETEX = 11,      /* u64 expire_ms, 0 = as it is; OPF_PERSIST */
    OP_RENAME = 12,     /* bytes: destination key; OPF_NX */
    OP_COPY = 13,       /* bytes: destination key; OPF_REPLACE */
    OP_FLUSH = 14,      /* key, empty */
    OP_EVICT = 15,      /* u64 mod: void if the key changed */
    OP_IF_MOD = 16,     /* u64, condition: the key's mod is this (0 = absent) */
    OP_UNLESS = 17,     /* u64 n: if the key exists, the next n ops of the unit have no effect */
    OP_MAX_
};

enum { /* put flags */
       PUT_NX = 1u << 1,
       PUT_XX = 1u << 2,
       PUT_KEEPTTL = 1u << 3,
       PUT_GET = 1u << 4,     /* the result carries the old record */
       PUT_KEEPMETA = 1u << 5 /* rebuild of an existing value: metadata and TTL stay */
};

enum { /* OP_EXPIRE, OP_RENAME, OP_COPY, OP_GETEX flags share the op's flags field */
       OPF_NX = 1u << 1,
       OPF_XX = 1u << 2,
       OPF_GT = 1u << 3,
       OPF_LT = 1u << 4,
       OPF_REPLACE = 1u << 5,
       OPF_PERSIST = 1u << 6
};

/* A key that a holder has: filled from stage_req.place. */
struct op_holder {
    uint32_t node;
    struct place place;
};

struct op_put {
    uint32_t tokens;
    uint64_t created_ms, expire_ms;
    struct slice model, seq;
    struct slice data;         /* OP_PUT; decoded, length says the same and digest is 0 */
    struct payload_id payload; /* OP_PUT_SLAB, as everything below */
    uint64_t length, digest;
    unsigned nholders;
    struct op_holder holders[RECORD_HOLDERS_MAX];
};

struct entry_op { /* decoded */
    enum op op;
    uint16_t flags;
    struct slice key, body;
};

struct entry_header {
    enum entry_kind kind;
    uint32_t count, node, boot;
    uint64_t group, stamp_ms;
};

struct entry_writer { /* starts zeroed */
    uint8_t *mem;
    size_t len, size;
    size_t last; /* private: offset of the last op */
    uint32_t count;
    bool failed;
};

void entry_begin(struct entry_writer *w); /* keeps the memory */
void entry_fini(struct entry_writer *w);
void entry_put(struct entry_writer *w, bool slab, unsigned flags, struct slice key,
               const struct op_put *put);
void entry_key(struct entry_writer *w, enum op op, unsigned flags, struct slice key);
void entry_u64(struct entry_writer *w, enum op op, unsigned flags, struct slice key, uint64_t arg);
void entry_bytes(struct entry_writer *w, enum op op, unsigned flags, struct slice key,
                 struct slice body);
void entry_setrange(struct entry_writer *w, unsigned flags, struct slice key, uint64_t offset,
                    struct slice bytes);
/* Makes room for `len` more bytes; false: there is no memory, and nothing has changed. */
bool entry_room(struct entry_writer *w, size_t len);
/* Copies the ops of a finished unit (an entry_writer of its own) behind those of a group. */
void entry_append_ops(struct entry_writer *group, const struct entry_writer *unit);
/* Sets or clears ENTRY_MORE of the last op, so that units are built op by op. */
void entry_mark_more(struct entry_writer *w, bool more);
/* Header and digest; the bytes are valid until the writer is used again. Groups hold ops, the other
 * kinds none. */
struct slice entry_finish(struct entry_writer *w, enum entry_kind kind, uint32_t node,
                          uint32_t boot, uint64_t group, uint64_t stamp_ms);

struct entry_reader {
    const uint8_t *pos, *end;
    uint32_t left;
    bool partial; /* the last op may say ENTRY_MORE */
};
/* A copy of a reader goes on from the same place. */
int entry_open(struct slice bytes, struct entry_header *h, struct entry_reader *r);
int entry_next(struct entry_reader *r, struct entry_op *op); /* 1, 0 = end, ERR_ */
/* The ops of a writer that is not finished; gone with the next change of it. */
struct entry_reader entry_read_back(const struct entry_writer *w);
int entry_decode_put(const struct entry_op *op, struct op_put *out);
uint64_t entry_arg_u64(const struct entry_op *op); /* of u64 ops and the offset of SETRANGE */
struct slice entry_setrange_bytes(const struct entry_op *op);

#endif
