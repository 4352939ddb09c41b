/* SPDX-License-Identifier: MIT */
/* index_int: struct index and its row formats, for index.c, index_rows.c and index_write.c. */
#ifndef STORE_INDEX_INT_H
#define STORE_INDEX_INT_H

#include <lmdb.h>
#include <stdatomic.h>

#include "store/damage.h"
#include "store/index.h"

#define EXPIRY_KEY_MAX (8 + RECORD_KEY_MAX)
#define STATE_SIZE 96
#define VOLUME_ROW_SIZE 48

enum index_dbi { DBI_STATE, DBI_KEY, DBI_EXPIRY, DBI_VOLUME, DBI_COUNT };

struct index {
    /* fixed after open */
    MDB_env *env;
    MDB_dbi dbi[DBI_COUNT];
    int fd; /* LMDB's own */
    uint32_t page_size;
    char path[4096];
    char mark[4096]; /* damage.h */
    atomic_bool marked;
    /* owned by the loop */
    MDB_txn *read;
    bool read_live;
    /* owned by the checkpoint worker */
    MDB_txn *write;
    uint64_t reserved_end; /* the file is allocated up to here, as far as this process asked */
    bool no_fallocate;
};

/* A call that follows pages: a crash in it is marked. */
#define INDEX_INSIDE(ix, call)                                                                     \
    ({                                                                                             \
        damage_enter((ix)->mark);                                                                  \
        int inside_rc_ = (call);                                                                   \
        damage_leave();                                                                            \
        inside_rc_;                                                                                \
    })

/* LMDB and errno codes → ERR_. */
int index_err(int rc);

/* Key of an expiry row; returns its length. out: EXPIRY_KEY_MAX bytes. */
size_t index_expiry_key(uint64_t expire_ms, struct slice key, uint8_t *out);

void index_state_encode(const struct index_state *s, uint8_t out[STATE_SIZE]);
int index_state_decode(struct slice bytes, struct index_state *out);
void index_volume_encode(const struct volume_row *r, uint8_t key[4], uint8_t out[VOLUME_ROW_SIZE]);
int index_volume_decode(struct slice key, struct slice bytes, struct volume_row *out);

static inline MDB_val index_val(struct slice s)
{
    return (MDB_val){s.len, (void *)(uintptr_t)s.ptr};
}

static inline struct slice index_slice(MDB_val v)
{
    return slice_of(v.mv_data, v.mv_size);
}

#endif
