/* SPDX-License-Identifier: MIT */
/* volume: the volume table: which slab files exist, what lives in them, when one is free again.
 *
 * Purpose   hands out slots, counts references, recycles. Knows descriptors and numbers, not LMDB
 *           (slab.h) and not keys
 * Threads   loop; a worker uses the struct volume_io that its job carries
 * States
 *   state     entered by              guaranteed here                       leaves to
 *   FREE      format done, checkpoint  nothing refers to it, refs = pins = 0  OPEN
 *   OPEN      volumes_alloc            slots below cursor are handed out      SEALED, FAILED
 *   SEALED    full or replaced         no new slots                           FREE, FAILED
 *   FAILED    doubtful I/O, bad file   never written or acknowledged again    (removed when empty)
 * Rule      SEALED → FREE only in volumes_checkpointed(): live was 0 in the rows that are now
 *           durable, is 0 now, and no pin is held. This one rule covers crash, move, delete, replay
 * Units     bytes include the 4 KiB header and padding (volume_slot)
 * Limits    at most VOLUMES_MAX files; volume size < 4 GiB (LMDB's value limit)
 */
#ifndef STORE_VOLUME_H
#define STORE_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "base/worker.h"
#include "store/record.h"

#define VOLUMES_MAX 65536
#define VOLUME_HEADER 4096u
#define VOLUME_GAIN_PART 16u

enum volume_state { VOLUME_FREE = 1, VOLUME_OPEN = 2, VOLUME_SEALED = 3, VOLUME_FAILED = 4 };

struct volume_row { /* as stored in index.mdb */
    uint32_t number, generation;
    enum volume_state state;
    uint64_t cursor, live_bytes, live_records, opened_ms;
};

struct volume_io { /* what a job needs; valid while the job's pin is held */
    const struct io_ops *io;
    int fd;
    uint64_t base; /* file offset of the value area */
    uint32_t number, generation;
    uint8_t uuid[16]; /* store uuid */
};

struct volumes_config {
    const char *dir;
    const struct io_ops *io;
    uint64_t volume_size; /* of new files */
    uint32_t target;      /* number of volumes this store may have */
    uint8_t uuid[16];
    struct worker *maint;        /* formats one volume ahead */
    void (*on_space)(void *ctx); /* a volume became FREE or was formatted: allocate again */
    void *ctx;
};

struct volumes_stats {
    uint64_t count, free, open, sealed, failed, formatting;
    uint64_t can_grow;      /* another file may be formatted, or is, or is tried again */
    uint64_t cannot_format; /* files are missing, and it has failed a few times in a row */
    uint64_t empty; /* SEALED, FAILED without record or pin: room with the next checkpoint */
    uint64_t held;  /* the same, but pinned: empty when its readers are done */
    uint64_t capacity_bytes, live_bytes, live_records, pinned, recycled, format_errors;
};

struct volumes;

/* rows: from the index; files without a row are FREE (formatted after the last checkpoint). */
int volumes_open(const struct volumes_config *c, const struct volume_row *rows, size_t count,
                 struct volumes **out, char *detail);
void volumes_stop(struct volumes *v); /* the maint worker ends: no more format ahead */
void volumes_close(struct volumes *v);

static inline uint64_t volume_slot(uint64_t length)
{
    return VOLUME_HEADER + ((length + 4095) & ~(uint64_t)4095);
}
uint64_t volumes_max_value(const struct volumes *v);

/* A slot in the OPEN volume, pinned until volumes_release. Opens the next FREE volume when it does
 * not fit and asks for a format ahead. moving: MOVEs fill a volume of their own and may open the
 * last FREE one.
 * ERR_AGAIN: none is free yet, wait for on_space; ERR_NOSPC or another code of the last format that
 * failed (tried again after a second); ERR_TOOBIG. Evictable space is the caller's affair. */
int volumes_alloc(struct volumes *v, uint64_t length, bool moving, uint64_t now_ms,
                  struct place *out);
/* The slot is referred to now, or given up. */
void volumes_release(struct volumes *v, uint32_t number);
/* volumes_alloc would give exactly this place. */
bool volumes_continues(const struct volumes *v, struct place next, uint64_t length, bool moving);

/* A key record refers to the slot (apply, replay, MOVE) or no longer does. On replay a generation
 * above the known one means the volume was reopened after the checkpoint. ERR_CORRUPT: no such
 * volume or an older generation: the record is a miss. */
int volumes_ref(struct volumes *v, struct place p, uint64_t length);
void volumes_unref(struct volumes *v, struct place p, uint64_t length);
void volumes_unref_all(struct volumes *v); /* FLUSHALL: no key record is left */

/* A staged payload, a reader, a scan: the volume stays. */
int volumes_pin(struct volumes *v, uint32_t number, uint32_t generation, struct volume_io *out);
void volumes_unpin(struct volumes *v, uint32_t number);

/* Hits since written, for eviction: one bit per 4 KiB slot, memory only. */
void volumes_mark_hit(struct volumes *v, struct place p);
bool volumes_was_hit(const struct volumes *v, struct place p);
void volumes_clear_hit(struct volumes *v, struct place p);

void volumes_fail(struct volumes *v, uint32_t number, const char *why); /* sticky */

/* Rows as they are now, for the checkpoint being frozen (malloc). */
size_t volumes_freeze(struct volumes *v, struct volume_row **rows);
/* Those rows are durable: recycles what the rule allows, forgets the frozen picture. */
void volumes_checkpointed(struct volumes *v);
void volumes_checkpoint_failed(struct volumes *v);

/* After replay: the header chain behind the cursor of OPEN volumes is walked so that nothing
 * durable is overwritten; *max_applied: largest applied index in a header. Blocking (start). */
int volumes_recover(struct volumes *v, uint64_t *max_applied);

/* For eviction.
 * emptiest: the one with the least live bytes of those that MOVE would win something from: SEALED,
 *   none of its slots still being filled, half empty or with holes of 1/VOLUME_GAIN_PART, and not
 *   shunned. shun: it could not be emptied; forgotten when one of its records goes
 * oldest: with live records and a file, the one that was opened or passed first; never the one that
 *   writes fill: what was stored a moment ago is there. pass: if it is there, it is the youngest
 *   now. Volumes opened or passed later have a later turn
 * volumes_move_room: bytes that MOVEs can surely be given now */
bool volumes_emptiest(const struct volumes *v, struct volume_row *out);
void volumes_shun(struct volumes *v, uint32_t number);
bool volumes_oldest(const struct volumes *v, struct volume_row *out, uint64_t *turn);
void volumes_pass(struct volumes *v, uint32_t number);
uint64_t volumes_last_turn(const struct volumes *v); /* no volume has a later one */
bool volumes_get(const struct volumes *v, uint32_t number, struct volume_row *out);
uint64_t volumes_move_room(const struct volumes *v);

size_t volumes_rows(struct volumes *v, struct volume_row **rows); /* malloc; INFO, BACKUP */
void volumes_get_stats(const struct volumes *v, struct volumes_stats *out);
void volumes_check(const struct volumes *v); /* invariants, DASSERT builds and tests */

#endif
