/* SPDX-License-Identifier: MIT */
/* model: what a command does to a group of keys, and whether a reply can be the answer to it.
 *
 * Keys come in groups; commands on several keys at once (MULTI, RENAME, MSET) stay within one, or
 * count as one operation a group. So a group is the object that must be linearizable.
 *
 * A deadline that the server computed from its clock is known as an interval: it lies between the
 * clock at the invocation and that at the response. Where that leaves a choice, the model makes
 * both (struct choice).
 */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "blob.h"
#include "reply.h"

enum { GROUPS = 48, GROUP_KEYS = 4, CLIENTS = 6, STEPS_MAX = 8, NEXT_MAX = 128 };

struct key_state {                 /* no padding: states are compared by their bytes */
    const struct blob *value;      /* NULL: absent, everything else 0 */
    uint64_t expire_lo, expire_hi; /* ms; 0: none */
    uint64_t made_lo, made_hi;     /* created, ms */
    uint32_t tokens;
    uint16_t model, seq; /* numbers of meta_text(), 0: empty */
};

struct group_state {
    struct key_state keys[GROUP_KEYS];
    uint8_t watching[CLIENTS]; /* bits of keys */
    uint8_t absent[CLIENTS];   /* those that were not there then */
    uint8_t touched[CLIENTS];  /* those written since */
    uint8_t zero[6];
};

struct window { /* of server time, ms */
    uint64_t lo, hi;
};

enum step_kind {
    STEP_GET, /* GET, KVGET */
    STEP_STRLEN,
    STEP_GETRANGE,
    STEP_EXISTS, /* of the keys in mask; also TOUCH */
    STEP_TTL,    /* unit: PTTL, TTL, PEXPIRETIME, EXPIRETIME */
    STEP_KVGET_META,
    STEP_KVINFO,
    STEP_KVRANGE,
    STEP_PRESENT, /* expect: a listing named it, or did not */
    STEP_SET,
    STEP_KVSTORE,
    STEP_SETNX,
    STEP_GETDEL,
    STEP_GETEX,
    STEP_APPEND,
    STEP_SETRANGE,
    STEP_INCRBY,
    STEP_INCRBYFLOAT,
    STEP_DEL, /* of the keys in mask */
    STEP_EXPIRE,
    STEP_PERSIST,
    STEP_RENAME,
    STEP_COPY,
    STEP_MSET, /* of the keys in mask, args[] */
    STEP_MSETNX,
    STEP_FLUSH,
    STEP_EVICT,
    STEP_WATCH, /* of the keys in mask */
    STEP_UNWATCH,
    STEP_SNAPSHOT, /* a BACKUP's record of the key: value, deadline, metadata */
    STEP_COUNT
};

enum step_flag {
    STEP_NX = 1,
    STEP_XX = 2,
    STEP_GETOLD = 4,
    STEP_KEEPTTL = 8,
    STEP_GT = 16,
    STEP_LT = 32,
    STEP_REPLACE = 64,
    STEP_PERSIST_FLAG = 128, /* GETEX PERSIST */
    STEP_SURE = 256          /* EVICT: seen to take effect */
};

enum ttl_kind { TTL_NONE, TTL_RELATIVE, TTL_ABSOLUTE };
enum ttl_unit { UNIT_PTTL, UNIT_TTL, UNIT_PEXPIRETIME, UNIT_EXPIRETIME };

struct step {
    enum step_kind kind;
    unsigned flags;
    int key, to;
    unsigned mask;
    const struct blob *args[GROUP_KEYS]; /* [0] but for MSET */
    int64_t a, b;                        /* numbers: range, increment, offset */
    int64_t ranges[3][2];                /* KVRANGE: offset, length */
    int nranges;
    enum ttl_kind ttl;
    int64_t ttl_ms;
    enum ttl_unit unit;
    uint32_t tokens;
    uint16_t model, seq;
    bool expect;
    int element;               /* of the command's reply that answers this step; -1: the whole */
    struct key_state record;   /* SNAPSHOT; value NULL: absent */
    const struct reply *reply; /* NULL: no reply is known */
};

/* An operation on one group: its steps happen at one moment. */
struct operation {
    struct step steps[STEPS_MAX];
    int nsteps;
    int client;                     /* -1: the store's own */
    bool exec;                      /* the steps of a MULTI: nothing if a watched key was touched */
    bool read_faults;               /* reads of the disk failed meanwhile: a value may be a miss */
    bool alone;                     /* no other operation overlapped */
    const struct reply *exec_reply; /* nil when it was refused by WATCH; NULL: not known */
};

const char *meta_text(uint16_t number, char out[32]);

void model_set_value_max(uint64_t value_max);
/* All states that `op` can lead to, given what is known of its replies. 0: it cannot be. */
int model_apply(const struct operation *op, const struct window *w, const struct group_state *in,
                struct group_state out[NEXT_MAX]);
void model_describe(const struct operation *op, char *out, size_t size);
void model_describe_state(const struct group_state *g, char *out, size_t size);
bool model_is_read(const struct operation *op);    /* no effect, whatever the state */
bool model_only_looks(const struct operation *op); /* … or an EXEC of nothing else */

#endif
