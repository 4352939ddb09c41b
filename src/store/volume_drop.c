/* SPDX-License-Identifier: MIT */
/* A FAILED volume that has become empty goes, file and row, so that another may be made in its
 * place: a disk that was ill for some seconds must not cost a volume for each write that it
 * refused.
 *
 * When: in volumes_checkpointed, under the same rule that frees a SEALED one. The row and the
 * descriptor go at once, the file on the maint worker, because unlinking gigabytes takes a second;
 * the worker has one thread, so no file of the same number can be made before. A crash in between
 * leaves a row without references or a file without a row: the first has its file still, and goes
 * after the next checkpoint; the second is a FREE volume.
 *
 * A file that cannot be read as a volume of this store is left alone: it may be somebody's.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/logger.h"
#include "store/volume_int.h"

#define PATH_BYTES 4400

struct drop {
    struct job job;
    uint32_t number;
    char path[PATH_BYTES];
};

static void unlink_work(struct job *job)
{
    struct drop *d = (struct drop *)(void *)job;

    if (unlink(d->path) != 0)
        d->number = 0;
}

static void unlink_done(struct job *job)
{
    struct drop *d = (struct drop *)(void *)job;

    if (d->number == 0)
        LOG_WARNING("volume: cannot remove file=%s action=\"remove it\"", d->path);
    free(d);
}

static bool may_drop(const struct volume *vol)
{
    return vol->state == VOLUME_FAILED && volume_has_file(vol) && vol->frozen_empty &&
           vol->frozen_generation == vol->generation && vol->live_records == 0 && vol->pins == 0;
}

static void drop(struct volumes *v, size_t at)
{
    struct volume *vol = v->list[at];
    struct drop *d = calloc(1, sizeof(*d));

    if (d == NULL)
        PANIC("out of memory for the volume table");
    LOG_NOTICE("volume: volume=%" PRIu32 " had failed and is empty, its file is removed",
               vol->number);
    d->number = vol->number;
    slab_path(v->config.dir, vol->number, d->path, sizeof(d->path));
    volumes_remove(v, at);
    d->job.work = unlink_work;
    d->job.done = unlink_done;
    worker_submit(v->config.maint, &d->job);
}

void volumes_drop_failed(struct volumes *v)
{
    if (v->config.maint == NULL)
        return; /* the store is closing: after the next start */
    for (size_t i = v->count; i-- > 0;)
        if (may_drop(v->list[i]))
            drop(v, i);
}
