/* SPDX-License-Identifier: MIT */
/* rig_look: looking into a volume_rig, and damaging its files. */
#ifndef TESTS_UNIT_RIG_LOOK_H
#define TESTS_UNIT_RIG_LOOK_H

#include <fcntl.h>

#include "volume_rig.h"

static inline struct volumes_stats rig_stats(const struct rig *r)
{
    struct volumes_stats st;

    volumes_get_stats(r->volumes, &st);
    return st;
}

static inline struct volume_row rig_row(const struct rig *r, uint32_t number)
{
    struct volume_row *rows, out = {0};
    size_t n = volumes_rows(r->volumes, &rows);

    for (size_t i = 0; i < n; i++)
        if (rows[i].number == number)
            out = rows[i];
    free(rows);
    return out;
}

static inline void rig_checkpoint(struct rig *r)
{
    struct volume_row *rows;

    volumes_freeze(r->volumes, &rows);
    free(rows);
    volumes_checkpointed(r->volumes);
    volumes_check(r->volumes);
}

/* Bytes that differ at every place and between seeds. */
static inline void rig_fill(uint8_t *p, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = (seed + 1) * 0x9e3779b97f4a7c15u + i;

        memcpy(p + i, &v, len - i < 8 ? len - i : 8);
    }
}

/* Flips one bit of a volume's value area in the file. */
static inline void rig_flip(const struct rig *r, uint32_t number, uint64_t offset)
{
    char path[PATH_MAX];
    struct slab s;
    uint8_t byte;
    int fd;

    CHECK_EQ_INT(slab_open(r->dir, number, r->uuid, &s), 0);
    slab_path(r->dir, number, path, sizeof(path));
    fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    CHECK_EQ_INT(pread(fd, &byte, 1, (off_t)(s.base + offset)), 1);
    byte ^= 4;
    CHECK_EQ_INT(pwrite(fd, &byte, 1, (off_t)(s.base + offset)), 1);
    CHECK_EQ_INT(fsync(fd), 0);
    close(fd);
    slab_close(&s);
}

#endif
