/* SPDX-License-Identifier: MIT */
/* rig_slots: slots handed out and referred to, volumes filled up; see volume_rig.h. */
#ifndef TESTS_UNIT_RIG_SLOTS_H
#define TESTS_UNIT_RIG_SLOTS_H

#include "rig_look.h"

#define MB ((uint64_t)1 << 20)
#define PER_VOLUME 7 /* slots of 2 MiB values in a file of RIG_SIZE */

static inline struct place alloc_one(struct rig *g, uint64_t len, bool moving)
{
    struct place p;
    int err = volumes_alloc(g->volumes, len, moving, g->now_ms, &p);

    if (err == ERR_AGAIN && rig_stats(g).formatting > 0) {
        rig_run(g);
        err = volumes_alloc(g->volumes, len, moving, g->now_ms, &p);
    }
    CHECK_EQ_INT(err, 0);
    return p;
}

/* A slot that a record refers to. */
static inline struct place put_one(struct rig *g, uint64_t len)
{
    struct place p = alloc_one(g, len, false);

    CHECK_EQ_INT(volumes_ref(g->volumes, p, len), 0);
    volumes_release(g->volumes, p.volume);
    return p;
}

/* Fills volumes with 2 MiB values until writes get none; returns how many were placed. */
static inline size_t fill_up(struct rig *g, struct place *places, size_t room)
{
    struct place p;
    size_t n = 0;

    for (;;) {
        int err = volumes_alloc(g->volumes, 2 * MB, false, g->now_ms++, &p);

        if (err != 0) {
            CHECK_EQ_INT(err, ERR_AGAIN);
            if (rig_stats(g).formatting == 0)
                return n;
            rig_run(g);
            continue;
        }
        CHECK_LT_INT((int64_t)n, (int64_t)room);
        CHECK_EQ_INT(volumes_ref(g->volumes, p, 2 * MB), 0);
        volumes_release(g->volumes, p.volume);
        places[n++] = p;
    }
}

#endif
