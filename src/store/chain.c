/* SPDX-License-Identifier: MIT */
/* Small records are read through a window of many, large ones by their header page alone: what lies
 * between two headers of 2 MiB values is of no interest here.
 */
#include "store/chain.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"

#define WINDOW ((uint64_t)128 << 10)
#define SMALL ((uint64_t)64 << 10) /* slots up to this are read by windows */

int chain_init(struct chain *c, struct volumes *v)
{
    *c = (struct chain){.volumes = v};
    return posix_memalign((void **)&c->window, PAYLOAD_HEADER, WINDOW) == 0 ? 0 : ERR_NOMEM;
}

void chain_fini(struct chain *c)
{
    ASSERT(!c->busy);
    free(c->window);
    c->window = NULL;
}

/* --- worker ------------------------------------------------------------------------------- */

/* The page at c->at; `ahead`: bytes worth reading with it. */
static int fetch(struct chain *c, uint64_t ahead, const uint8_t **page)
{
    struct iovec iov = {c->window, ahead};
    int err;

    if (c->at < c->window_at || c->at + PAYLOAD_HEADER > c->window_at + c->window_len) {
        if (ahead > c->end - c->at)
            iov.iov_len = c->end - c->at;
        c->window_at = c->at;
        c->window_len = iov.iov_len;
        err = io_read_all(c->vio.io, c->vio.fd, &iov, 1, (off_t)(c->vio.base + c->at));
        if (err != 0) {
            c->window_len = 0;
            return err;
        }
    }
    *page = c->window + (c->at - c->window_at);
    return 0;
}

static bool is_ours(const struct chain *c, const uint8_t *page, struct payload_header *h)
{
    struct place here = {c->vio.number, c->vio.generation, c->at};

    return payload_header_decode(page, h) == 0 && place_eq(h->place, here) &&
           memcmp(h->uuid, c->vio.uuid, sizeof(h->uuid)) == 0 &&
           volume_slot(h->length) <= c->end - c->at;
}

static void take(struct chain *c, const struct payload_header *h)
{
    struct chain_entry *e = &c->entries[c->count++];

    e->offset = c->at;
    e->length = h->length;
    e->key_len = h->key.len;
    memcpy(e->key, h->key.ptr, h->key.len);
}

static void work(struct job *job)
{
    struct chain *c = (struct chain *)(void *)job;
    uint64_t ahead = PAYLOAD_HEADER, gap = 0;
    struct payload_header h;
    const uint8_t *page;

    c->window_len = 0;
    while (c->err == 0 && c->count < CHAIN_BATCH && c->at < c->end && gap < CHAIN_GAP_BYTES) {
        c->err = fetch(c, ahead, &page);
        if (c->err != 0)
            break;
        if (is_ours(c, page, &h)) {
            uint64_t slot = volume_slot(h.length);

            take(c, &h);
            c->at += slot;
            ahead = slot <= SMALL ? WINDOW : PAYLOAD_HEADER;
        } else if (c->growing) {
            c->at = c->end;
        } else {
            c->at += PAYLOAD_HEADER;
            gap += PAYLOAD_HEADER;
            ahead = WINDOW;
        }
    }
    if (c->err != 0)
        c->at = c->end;
}

/* --- loop --------------------------------------------------------------------------------- */

static void finish(struct job *job)
{
    struct chain *c = (struct chain *)(void *)job;

    c->busy = false;
    volumes_unpin(c->volumes, c->vio.number);
    c->done(c);
}

int chain_start(struct chain *c, struct worker *readers, const struct volume_row *row)
{
    int err;

    ASSERT(!c->busy && c->done != NULL && c->at < c->end);
    err = volumes_pin(c->volumes, row->number, row->generation, &c->vio);
    if (err != 0)
        return err;
    c->busy = true;
    c->growing = row->state == VOLUME_OPEN;
    c->count = 0;
    c->err = 0;
    c->job.work = work;
    c->job.done = finish;
    worker_submit(readers, &c->job);
    return 0;
}
