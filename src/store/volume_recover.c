/* SPDX-License-Identifier: MIT */
/* volume_recover: from rows and files to a volume table, and the end of what was written.
 *
 * Order at start: volumes_open (rows of the last checkpoint meet the files), replay (volumes_ref
 * and volumes_unref repeat what was applied since), volumes_recover (what was durable but not
 * replayed).
 *
 * What volumes_recover must find. Slots behind the last checkpoint were handed out, written and
 * synced; some are named by replayed entries (volumes_ref moved the cursor behind them), others
 * are not: staged, perhaps acknowledged to a leader, never applied here. Nothing durable may be
 * overwritten, so the cursor goes behind all of them:
 *   - every slot starts with a header, jobs are written one after another and a torn job is the
 *     last of its volume, so what is durable is an unbroken chain of valid headers. The row's
 *     cursor is durable with its checkpoint: the walk starts there and ends at the first page that
 *     is no header of this store, volume, generation and offset
 *   - a volume may have been reopened since the checkpoint with none of its entries replayed. Its
 *     row then shows no live record (the rule of recycling), and the page at offset 0 carries the
 *     higher generation: it is adopted and walked from 0
 * Stale headers of a torn job, or of an earlier life under the same generation, can only make the
 * cursor too large: space lost until the volume is recycled, never data.
 *
 * The newest two OPEN volumes go on being filled, others are SEALED. A SEALED volume found empty
 * becomes FREE with the next checkpoint, as in service: one rule, one place.
 *
 * Failure modes: no file for a row, a damaged header, an unreadable page: that volume is FAILED,
 * its records are misses or still readable, the store starts. A file of a newer format, or one
 * that cannot be opened for want of rights or descriptors: start is refused, the disk is not to
 * blame.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/logger.h"
#include "store/payload.h"
#include "store/volume_int.h"

#define DETAIL_MAX 512
#define PATH_BYTES 4400

/* --- open --------------------------------------------------------------------------------- */

/* A file that is there but of no use leaves fd −1. ERR_: start must be refused. */
static int open_slab(const struct volumes *v, uint32_t number, struct slab *out, char *detail)
{
    int err = slab_open(v->config.dir, number, v->config.uuid, out);

    if (err == 0)
        return 0;
    *out = (struct slab){.fd = -1, .number = number};
    if (err == ERR_NOTFOUND || err == ERR_CORRUPT) {
        LOG_WARNING("volume: volume=%" PRIu32 " %s: its payloads are misses", number,
                    err == ERR_NOTFOUND ? "has no file" : "has a damaged header or is cut short");
        return 0;
    }
    snprintf(detail, DETAIL_MAX, "%s/vol-%04" PRIu32 ".mdb: %s", v->config.dir, number,
             err_text(err));
    return err;
}

static int add_row(struct volumes *v, const struct volume_row *row, char *detail)
{
    struct slab slab;
    struct volume *vol;
    int err;

    if (row->number < 1 || row->number > VOLUMES_MAX || volumes_find(v, row->number) != NULL) {
        snprintf(detail, DETAIL_MAX, "index.mdb: bad volume row number=%" PRIu32, row->number);
        return ERR_CORRUPT;
    }
    err = open_slab(v, row->number, &slab, detail);
    if (err != 0)
        return err;
    vol = volumes_add(v, row->number, &slab);
    vol->generation = row->generation;
    vol->cursor = row->cursor;
    volumes_set_live(v, vol, row->live_bytes, row->live_records);
    vol->opened_ms = vol->turn = row->opened_ms;
    if (row->opened_ms > v->last_opened_ms)
        v->last_opened_ms = row->opened_ms;
    if (!volume_has_file(vol))
        return 0;
    if (row->cursor > slab.capacity) {
        LOG_WARNING("volume: volume=%" PRIu32 " is smaller than its row says", row->number);
        return 0;
    }
    if (row->state >= VOLUME_FREE && row->state <= VOLUME_SEALED)
        volumes_set_state(v, vol, row->state);
    return 0;
}

/* "vol-NNNN.mdb" as slab_path writes it, nothing else. */
static bool parse_name(const char *name, uint32_t *number)
{
    char again[32];
    unsigned long n;

    if (strncmp(name, "vol-", 4) != 0)
        return false;
    n = strtoul(name + 4, NULL, 10);
    if (n < 1 || n > VOLUMES_MAX)
        return false;
    snprintf(again, sizeof(again), "vol-%04lu.mdb", n);
    *number = (uint32_t)n;
    return strcmp(again, name) == 0;
}

/* What a format left behind when it was interrupted: "vol-NNNN.mdb.tmp". */
static bool is_leftover(const char *name)
{
    size_t len = strlen(name), end = sizeof(SLAB_TEMP_SUFFIX) - 1;
    char stem[32];
    uint32_t number;

    if (len <= end || len - end >= sizeof(stem) || strcmp(name + len - end, SLAB_TEMP_SUFFIX) != 0)
        return false;
    memcpy(stem, name, len - end);
    stem[len - end] = '\0';
    return parse_name(stem, &number);
}

/* Formatted after the last checkpoint: FREE, unless replay or its first header say more. */
static int add_file(struct volumes *v, uint32_t number, char *detail)
{
    struct slab slab;
    struct volume *vol;
    int err = open_slab(v, number, &slab, detail);

    if (err != 0)
        return err;
    vol = volumes_add(v, number, &slab);
    if (volume_has_file(vol))
        volumes_set_state(v, vol, VOLUME_FREE);
    return 0;
}

static int scan_dir(struct volumes *v, char *detail)
{
    DIR *dir = opendir(v->config.dir);
    struct dirent *e;
    uint32_t number;
    int err = 0;

    if (dir == NULL) {
        err = err_from_errno(errno);
        snprintf(detail, DETAIL_MAX, "%s: %s", v->config.dir, err_text(err));
        return err;
    }
    while (err == 0 && (e = readdir(dir)) != NULL) {
        if (is_leftover(e->d_name)) {
            LOG_NOTICE("volume: removing %s, an interrupted format", e->d_name);
            unlinkat(dirfd(dir), e->d_name, 0);
        } else if (parse_name(e->d_name, &number) && volumes_find(v, number) == NULL) {
            err = add_file(v, number, detail);
        }
    }
    closedir(dir);
    return err;
}

static int by_number(const void *a, const void *b)
{
    const struct volume *x = *(struct volume *const *)a, *y = *(struct volume *const *)b;

    return (x->number > y->number) - (x->number < y->number);
}

int volumes_open(const struct volumes_config *c, const struct volume_row *rows, size_t count,
                 struct volumes **out, char *detail)
{
    struct volumes *v = calloc(1, sizeof(*v));
    int err = 0;

    ASSERT(c->dir != NULL && c->io != NULL && c->target >= 1 && c->target <= VOLUMES_MAX);
    if (v == NULL)
        return ERR_NOMEM;
    v->config = *c;
    v->value_max = slab_capacity(c->volume_size) - VOLUME_HEADER;
    for (size_t i = 0; i < count && err == 0; i++)
        err = add_row(v, &rows[i], detail);
    if (err == 0)
        err = scan_dir(v, detail);
    if (err != 0) {
        volumes_close(v);
        return err;
    }
    if (v->count > 0)
        qsort(v->list, v->count, sizeof(*v->list), by_number);
    *out = v;
    return 0;
}

/* --- recover ------------------------------------------------------------------------------ */

/* The header at this offset, if it is one of this volume (any generation). ERR_NOTFOUND: none;
 * ERR_IO: the page cannot be read. */
static int read_header(const struct volumes *v, const struct volume *vol, uint64_t offset,
                       uint8_t *page, struct payload_header *h)
{
    struct iovec iov = {page, PAYLOAD_HEADER};
    int err;

    if (offset + PAYLOAD_HEADER > vol->slab.capacity)
        return ERR_NOTFOUND;
    err = io_read_all(v->config.io, vol->slab.fd, &iov, 1, (off_t)(vol->slab.base + offset));
    if (err != 0)
        return err;
    if (payload_header_decode(page, h) != 0 ||
        memcmp(h->uuid, v->config.uuid, sizeof(h->uuid)) != 0 || h->place.volume != vol->number ||
        h->place.offset != offset || offset + volume_slot(h->length) > vol->slab.capacity)
        return ERR_NOTFOUND;
    return 0;
}

static void recover_one(struct volumes *v, struct volume *vol, uint8_t *page, uint64_t *max_applied)
{
    struct payload_header h;
    int err = 0;

    if (vol->live_records == 0) {
        err = read_header(v, vol, 0, page, &h);
        if (err == 0 && h.place.generation > vol->generation)
            volumes_adopt(v, vol, h.place.generation);
    }
    while (vol->state == VOLUME_OPEN && (err == 0 || err == ERR_NOTFOUND)) {
        err = read_header(v, vol, vol->cursor, page, &h);
        if (err != 0 || h.place.generation != vol->generation)
            break;
        vol->cursor += volume_slot(h.length);
        if (h.applied > *max_applied)
            *max_applied = h.applied;
    }
    if (err != 0 && err != ERR_NOTFOUND)
        volumes_fail(v, vol->number, "a header cannot be read");
}

/* The newest OPEN volume goes on taking writes, the next one MOVEs, more of them nothing. */
static void choose_open(struct volumes *v)
{
    for (size_t i = 0; i < v->count; i++) {
        struct volume *vol = v->list[i];

        if (vol->state != VOLUME_OPEN)
            continue;
        if (v->open[0] == NULL || vol->opened_ms > v->open[0]->opened_ms) {
            struct volume *older = v->open[0];

            v->open[0] = vol;
            vol = older;
        }
        if (vol != NULL && (v->open[1] == NULL || vol->opened_ms > v->open[1]->opened_ms)) {
            struct volume *older = v->open[1];

            v->open[1] = vol;
            vol = older;
        }
        if (vol != NULL)
            volumes_set_state(v, vol, VOLUME_SEALED);
    }
}

int volumes_recover(struct volumes *v, uint64_t *max_applied)
{
    uint8_t *page;

    ASSERT(!v->recovered && max_applied != NULL);
    *max_applied = 0;
    if (posix_memalign((void **)&page, PAYLOAD_HEADER, PAYLOAD_HEADER) != 0)
        return ERR_NOMEM;
    for (size_t i = 0; i < v->count; i++)
        if (v->list[i]->state != VOLUME_FAILED)
            recover_one(v, v->list[i], page, max_applied);
    free(page);
    choose_open(v);
    v->recovered = true;
    volumes_format_ahead(v);
    DASSERT((volumes_check(v), true));
    return 0;
}
