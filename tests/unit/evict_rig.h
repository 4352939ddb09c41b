/* SPDX-License-Identifier: MIT */
/* evict_rig: values put through admission, looked for, hit, leased and damaged; see
 * evict_rig_base.h.
 */
#ifndef TESTS_UNIT_EVICT_RIG_H
#define TESTS_UNIT_EVICT_RIG_H

#include "evict_rig_base.h"

/* A large value as the server would take it: admitted, staged, applied; 0, or why it was not. */
static inline int put_ex(const char *name, size_t len, unsigned seed, uint64_t expire_ms)
{
    char key[64]; /* a turn may ask for other names */
    int err = ERR_AGAIN;

    snprintf(key, sizeof(key), "%s", name);
    for (int i = 0; i < STAGE_TURNS && err == ERR_AGAIN; i++) {
        err = store_may_add(node.store, 0, volume_slot(len));
        if (err == ERR_AGAIN)
            turn();
    }
    return err != 0 ? err : try_large(key, len, seed, expire_ms);
}

static inline int put(const char *key, size_t len, unsigned seed)
{
    return put_ex(key, len, seed, 0);
}

static inline const char *name_of(const char *prefix, unsigned n)
{
    static char names[4][64];
    static unsigned at;

    at = (at + 1) % 4;
    snprintf(names[at], sizeof(names[at]), "%s%u", prefix, n);
    return names[at];
}

/* prefix0 … prefix(n − 1), all of one size, each with its number as seed. */
static inline void put_many(const char *prefix, unsigned from, unsigned to, size_t len)
{
    for (unsigned n = from; n < to; n++)
        CHECK_EQ_INT(put(name_of(prefix, n), len, n), 0);
}

static inline bool is_there(const char *prefix, unsigned n)
{
    return get_err(name_of(prefix, n)) == 0;
}

static inline unsigned count_there(const char *prefix, unsigned from, unsigned to)
{
    unsigned there = 0;

    for (unsigned n = from; n < to; n++)
        there += is_there(prefix, n);
    return there;
}

/* A client has read it. */
static inline void hit(const char *key)
{
    struct record r;

    CHECK_EQ_INT(store_get(node.store, slice_str(key), &r), 0);
    store_hit(node.store, &r);
}

static inline void lease_for(const char *key, uint64_t ms)
{
    lease_take(store_lease(node.store), slice_str(key), node.wall_ms, node.wall_ms + ms);
}

static inline struct place place_of(const char *key)
{
    struct record r;

    CHECK_EQ_INT(store_get(node.store, slice_str(key), &r), 0);
    CHECK_EQ_INT(r.kind, RECORD_SLAB);
    return r.place;
}

/* Flips a bit in the page of the slot that `offset` lies in. */
static inline void flip_at(struct place p, uint64_t offset)
{
    struct volume_io vio;
    struct iovec iov;
    uint8_t *page;

    CHECK_EQ_INT(posix_memalign((void **)&page, 4096, 4096), 0);
    CHECK_EQ_INT(volumes_pin(store_volumes(node.store), p.volume, p.generation, &vio), 0);
    iov = (struct iovec){page, 4096};
    offset = p.offset + offset / 4096 * 4096;
    CHECK_EQ_INT(io_read_all(vio.io, vio.fd, &iov, 1, (off_t)(vio.base + offset)), 0);
    page[7] ^= 16;
    iov = (struct iovec){page, 4096};
    CHECK_EQ_INT(io_write_all(vio.io, vio.fd, &iov, 1, (off_t)(vio.base + offset)), 0);
    volumes_unpin(store_volumes(node.store), p.volume);
    free(page);
}

#endif
