/* SPDX-License-Identifier: MIT */
/* volume_int: struct volumes, for volume.c (service), volume_drop.c and volume_recover.c (start).
 * Nobody else includes this.
 */
#ifndef STORE_VOLUME_INT_H
#define STORE_VOLUME_INT_H

#include "store/slab.h"
#include "store/volume.h"

#define VOLUME_FREE_AHEAD 2 /* one for writes, one kept back for MOVE */

struct volume {
    uint32_t number, generation;
    enum volume_state state;
    struct slab slab; /* fd < 0: no usable file (then FAILED) */
    uint64_t cursor, live_bytes, live_records, opened_ms;
    uint64_t turn;            /* opened_ms, or when the hand of eviction passed it */
    uint32_t pins, unsettled; /* unsettled: pins of slots handed out and not yet released */
    uint64_t *hits;           /* one bit per 4 KiB slot; NULL until the first is marked */
    bool shunned;             /* could not be emptied; until a record of it goes */
    /* the picture a running checkpoint writes */
    bool frozen_empty;
    uint32_t frozen_generation;
};

struct volume_format {
    struct job job;
    struct volumes *volumes;
    uint32_t number;
    struct slab slab;
    int err;
};

struct volume_totals { /* of all volumes, kept up to date; only numbers, compared bytewise */
    uint64_t state[VOLUME_FAILED + 1], files, empty, held;
    uint64_t live_bytes, live_records, pinned, capacity_bytes;
};

struct volumes {
    struct volumes_config config;
    struct volume **list; /* by number, ascending */
    size_t count, room;
    struct volume **by_number; /* [number], NULL where there is none */
    size_t numbers;
    struct volume *open[2]; /* [0] writes, [1] MOVE: what MOVE needs, writes cannot take */
    struct volume_totals totals;
    uint64_t value_max;
    uint64_t last_opened_ms, now_ms; /* now: of the last volumes_alloc */
    bool recovered, frozen;
    /* one format at a time */
    struct volume_format format;
    bool formatting;
    int format_err; /* of the last one; 0 = it succeeded */
    uint64_t format_retry_ms;
    unsigned format_failures; /* in a row */
    uint64_t recycled, format_errors;
};

/* takes slab (its fd); appended: at the start the caller sorts. */
struct volume *volumes_add(struct volumes *v, uint32_t number, const struct slab *slab);
struct volume *volumes_find(const struct volumes *v, uint32_t number);
/* The only ways to change these: they keep the totals (and the OPEN pointers) in step. */
void volumes_set_state(struct volumes *v, struct volume *vol, enum volume_state state);
void volumes_set_live(struct volumes *v, struct volume *vol, uint64_t bytes, uint64_t records);
/* The volume was reopened after the last checkpoint under this generation. */
void volumes_adopt(struct volumes *v, struct volume *vol, uint32_t generation);
void volumes_format_ahead(struct volumes *v);
/* Takes list[at] out of the table and closes it: no reference, no pin. */
void volumes_remove(struct volumes *v, size_t at);
void volumes_drop_failed(struct volumes *v); /* volume_drop.c */

static inline bool volume_has_file(const struct volume *vol)
{
    return vol->slab.fd >= 0;
}

#endif
