/* SPDX-License-Identifier: MIT */
/* Happy path: a file is formatted ahead and FREE; the first allocation that does not fit elsewhere
 * opens it under the next generation; slots are handed out front to back; when one no longer fits,
 * the volume is SEALED; deletes, expiry, eviction and MOVE take its records away; a checkpoint
 * whose rows show it empty makes it FREE again.
 *
 * Writes and MOVE fill different OPEN volumes, and writes always leave one FREE volume: eviction,
 * which needs room before it makes room, can always go on.
 *
 * Why the one rule (SEALED → FREE in volumes_checkpointed) is enough. Let E be the log index the
 * durable checkpoint covers. A record naming the volume is either in the durable index (then live
 * was not 0 in its rows) or would come from replaying entries behind E. Such an entry either had
 * been applied already — then its record is gone again (live is 0 now), and so is it after replay
 * of the same entries — or it has not, and then its payload is staged and pinned.
 *
 * Generations. FREE → OPEN happens in memory; its generation becomes durable with the next
 * checkpoint. After a crash in between, the entries replayed name the higher generation, or, if
 * none was committed, the header at offset 0 carries it: both adopt it (volume_recover.c). Two
 * lives under one number are possible only when neither was ever seen; their payload ids differ,
 * and every read compares the id.
 *
 * Failure modes. A doubtful write or sync, a damaged or missing file: FAILED, for ever: no slots,
 * no recycling; what was durable there is still read and verified; when nothing of it is left the
 * file goes (volume_drop.c). A format that fails is counted, remembered (volumes_alloc answers with
 * its error while nothing is FREE) and tried again after FORMAT_RETRY_MS.
 */
#include "store/volume.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/logger.h"
#include "store/volume_int.h"

#define FORMAT_RETRY_MS 1000
#define FORMAT_TRIES 3u
#define SLOT_UNIT 4096u

/* --- table -------------------------------------------------------------------------------- */

static void *grown(void *mem, size_t *room, size_t want, size_t unit)
{
    size_t to = *room < 16 ? 16 : *room;
    uint8_t *out;

    while (to < want)
        to *= 2;
    out = realloc(mem, to * unit);
    if (out == NULL)
        PANIC("out of memory for the volume table");
    memset(out + *room * unit, 0, (to - *room) * unit);
    *room = to;
    return out;
}

struct volume *volumes_find(const struct volumes *v, uint32_t number)
{
    return number < v->numbers ? v->by_number[number] : NULL;
}

/* Totals are kept, not summed: every write asks for them. A change of a volume stands between
 * count_out and count_in. */
static bool is_given_back(const struct volume *vol)
{
    return vol->live_records == 0 &&
           (vol->state == VOLUME_SEALED ||
            (vol->state == VOLUME_FAILED && volume_has_file(vol))); /* volume_drop.c */
}

static bool is_empty(const struct volume *vol)
{
    return is_given_back(vol) && vol->pins == 0;
}

static bool is_held(const struct volume *vol)
{
    return is_given_back(vol) && vol->pins > 0;
}

static uint64_t usable(const struct volume *vol)
{
    return vol->state == VOLUME_FAILED ? 0 : vol->slab.capacity;
}

static void count_out(struct volumes *v, const struct volume *vol)
{
    struct volume_totals *t = &v->totals;

    ASSERT(t->state[vol->state] > 0 && t->live_bytes >= vol->live_bytes);
    t->state[vol->state]--;
    t->live_bytes -= vol->live_bytes;
    t->live_records -= vol->live_records;
    t->pinned -= vol->pins;
    t->capacity_bytes -= usable(vol);
    t->empty -= is_empty(vol);
    t->held -= is_held(vol);
}

static void count_in(struct volumes *v, const struct volume *vol)
{
    struct volume_totals *t = &v->totals;

    t->state[vol->state]++;
    t->live_bytes += vol->live_bytes;
    t->live_records += vol->live_records;
    t->pinned += vol->pins;
    t->capacity_bytes += usable(vol);
    t->empty += is_empty(vol);
    t->held += is_held(vol);
}

struct volume *volumes_add(struct volumes *v, uint32_t number, const struct slab *slab)
{
    struct volume *vol = calloc(1, sizeof(*vol));

    ASSERT(number >= 1 && number <= VOLUMES_MAX);
    if (vol == NULL)
        PANIC("out of memory for the volume table");
    if (v->count == v->room)
        v->list = grown(v->list, &v->room, v->count + 1, sizeof(*v->list));
    if (number >= v->numbers)
        v->by_number = grown(v->by_number, &v->numbers, (size_t)number + 1, sizeof(*v->by_number));
    ASSERT(v->by_number[number] == NULL);
    vol->number = number;
    vol->slab = *slab;
    vol->state = VOLUME_FAILED;
    count_in(v, vol);
    v->totals.files += volume_has_file(vol);
    v->list[v->count++] = vol;
    v->by_number[number] = vol;
    if (volume_has_file(vol) && slab->capacity - VOLUME_HEADER < v->value_max)
        v->value_max = slab->capacity - VOLUME_HEADER;
    return vol;
}

void volumes_set_state(struct volumes *v, struct volume *vol, enum volume_state state)
{
    count_out(v, vol);
    for (int i = 0; i < 2; i++)
        if (v->open[i] == vol && state != VOLUME_OPEN)
            v->open[i] = NULL;
    vol->state = state;
    vol->shunned = false;
    count_in(v, vol);
}

void volumes_set_live(struct volumes *v, struct volume *vol, uint64_t bytes, uint64_t records)
{
    count_out(v, vol);
    if (records < vol->live_records)
        vol->shunned = false; /* what was in the way may be gone */
    vol->live_bytes = bytes;
    vol->live_records = records;
    count_in(v, vol);
}

static void add_pins(struct volumes *v, struct volume *vol, int n)
{
    count_out(v, vol);
    ASSERT(n > 0 ? vol->pins < UINT32_MAX : vol->pins > 0);
    vol->pins += (uint32_t)n;
    count_in(v, vol);
}

void volumes_remove(struct volumes *v, size_t at)
{
    struct volume *vol = v->list[at];

    ASSERT(vol->live_records == 0 && vol->pins == 0);
    ASSERT(vol != v->open[0] && vol != v->open[1]);
    count_out(v, vol);
    v->totals.files -= volume_has_file(vol);
    v->by_number[vol->number] = NULL;
    v->count--;
    memmove(v->list + at, v->list + at + 1, (v->count - at) * sizeof(*v->list));
    slab_close(&vol->slab);
    free(vol->hits);
    free(vol);
}

void volumes_close(struct volumes *v)
{
    if (v == NULL)
        return;
    ASSERT(!v->formatting);
    for (size_t i = 0; i < v->count; i++) {
        ASSERT(v->list[i]->pins == 0);
        slab_close(&v->list[i]->slab);
        free(v->list[i]->hits);
        free(v->list[i]);
    }
    free(v->list);
    free(v->by_number);
    free(v);
}

uint64_t volumes_max_value(const struct volumes *v)
{
    return v->value_max;
}

/* --- format ahead ------------------------------------------------------------------------- */

static void format_work(struct job *job)
{
    struct volume_format *f = (struct volume_format *)(void *)job;
    const struct volumes_config *c = &f->volumes->config; /* fixed after open */

    /* ERR_EXISTS: the attempt before this one made it whole and could then not open it. */
    f->err = slab_format(c->io, c->dir, f->number, c->volume_size, c->uuid);
    if (f->err == 0 || f->err == ERR_EXISTS)
        f->err = slab_open(c->dir, f->number, c->uuid, &f->slab);
}

static void format_done(struct job *job)
{
    struct volume_format *f = (struct volume_format *)(void *)job;
    struct volumes *v = f->volumes;

    v->formatting = false;
    v->format_err = f->err;
    if (f->err != 0) {
        v->format_errors++;
        v->format_failures++;
        v->format_retry_ms = v->now_ms + FORMAT_RETRY_MS;
        LOG_WARNING("volume: cannot format volume=%" PRIu32 " bytes=%" PRIu64 ": %s", f->number,
                    v->config.volume_size, err_text(f->err));
    } else {
        v->format_failures = 0;
        volumes_set_state(v, volumes_add(v, f->number, &f->slab), VOLUME_FREE);
        LOG_VERBOSE("volume: formatted volume=%" PRIu32 " direct=%d", f->number, f->slab.direct);
        volumes_format_ahead(v);
    }
    if (v->config.on_space != NULL)
        v->config.on_space(v->config.ctx);
}

void volumes_stop(struct volumes *v)
{
    v->config.maint = NULL;
}

static bool may_grow(const struct volumes *v)
{
    return v->config.maint != NULL && v->totals.files < v->config.target &&
           (v->count == 0 || v->list[v->count - 1]->number < VOLUMES_MAX);
}

/* Again and again, so that it is not to be hoped for. */
static bool cannot_format(const struct volumes *v)
{
    return v->format_failures >= FORMAT_TRIES;
}

static bool wants_format(const struct volumes *v)
{
    return v->totals.state[VOLUME_FREE] < VOLUME_FREE_AHEAD && may_grow(v);
}

void volumes_format_ahead(struct volumes *v)
{
    if (v->formatting || (v->format_err != 0 && v->now_ms < v->format_retry_ms) || !wants_format(v))
        return;
    v->formatting = true;
    v->format.volumes = v;
    v->format.number = v->count == 0 ? 1 : v->list[v->count - 1]->number + 1;
    v->format.job.work = format_work;
    v->format.job.done = format_done;
    worker_submit(v->config.maint, &v->format.job);
}

/* --- allocation --------------------------------------------------------------------------- */

static uint64_t next_opened_ms(struct volumes *v, uint64_t now_ms)
{
    v->last_opened_ms = now_ms > v->last_opened_ms ? now_ms : v->last_opened_ms + 1;
    return v->last_opened_ms;
}

static struct volume *find_free(struct volumes *v, uint64_t need)
{
    for (size_t i = 0; i < v->count; i++) {
        struct volume *vol = v->list[i];

        if (vol->state != VOLUME_FREE || vol->slab.capacity < need)
            continue;
        if (vol->generation < UINT32_MAX)
            return vol;
        volumes_fail(v, vol->number, "generations used up");
    }
    return NULL;
}

static int open_next(struct volumes *v, bool moving, uint64_t need)
{
    size_t kept_back = !moving && v->config.target > 1 ? 1 : 0;
    struct volume *vol;

    if (v->open[moving] != NULL)
        volumes_set_state(v, v->open[moving], VOLUME_SEALED);
    volumes_format_ahead(v);
    vol = v->totals.state[VOLUME_FREE] > kept_back ? find_free(v, need) : NULL;
    if (vol == NULL)
        return !v->formatting && v->format_err != 0 && wants_format(v) ? v->format_err : ERR_AGAIN;
    ASSERT(vol->live_records == 0 && vol->pins == 0);
    (void)FAIL("volume.reuse");
    volumes_set_state(v, vol, VOLUME_OPEN);
    vol->generation++;
    vol->cursor = 0;
    vol->opened_ms = vol->turn = next_opened_ms(v, v->now_ms);
    vol->frozen_empty = false;
    free(vol->hits);
    vol->hits = NULL;
    v->open[moving] = vol;
    volumes_format_ahead(v);
    return 0;
}

int volumes_alloc(struct volumes *v, uint64_t length, bool moving, uint64_t now_ms,
                  struct place *out)
{
    uint64_t need = volume_slot(length);
    struct volume *vol = v->open[moving];

    ASSERT(v->recovered && out != NULL);
    v->now_ms = now_ms;
    if (length > v->value_max)
        return ERR_TOOBIG;
    if (vol == NULL || vol->slab.capacity - vol->cursor < need) {
        int err = open_next(v, moving, need);

        if (err != 0)
            return err;
        vol = v->open[moving];
    }
    *out = (struct place){vol->number, vol->generation, vol->cursor};
    vol->cursor += need;
    vol->unsettled++;
    add_pins(v, vol, 1);
    DASSERT(vol->cursor <= vol->slab.capacity);
    return 0;
}

void volumes_release(struct volumes *v, uint32_t number)
{
    struct volume *vol = volumes_find(v, number);

    ASSERT(vol != NULL && vol->unsettled > 0);
    vol->unsettled--;
    add_pins(v, vol, -1);
}

bool volumes_continues(const struct volumes *v, struct place next, uint64_t length, bool moving)
{
    const struct volume *vol = v->open[moving];

    return vol != NULL && vol->number == next.volume && vol->generation == next.generation &&
           vol->cursor == next.offset && vol->slab.capacity - vol->cursor >= volume_slot(length);
}

void volumes_fail(struct volumes *v, uint32_t number, const char *why)
{
    struct volume *vol = volumes_find(v, number);

    ASSERT(vol != NULL);
    if (vol->state == VOLUME_FAILED)
        return;
    LOG_WARNING("volume: volume=%" PRIu32 " generation=%" PRIu32
                " is not written any more: %s; its records=%" PRIu64 " stay readable",
                number, vol->generation, why, vol->live_records);
    volumes_set_state(v, vol, VOLUME_FAILED);
}

/* --- references and pins ------------------------------------------------------------------ */

void volumes_adopt(struct volumes *v, struct volume *vol, uint32_t generation)
{
    ASSERT(!v->recovered && generation > vol->generation && vol->pins == 0);
    if (vol->live_records != 0)
        LOG_WARNING("volume: volume=%" PRIu32 " was reopened as generation=%" PRIu32
                    ", records=%" PRIu64 " of the one before are misses",
                    vol->number, generation, vol->live_records);
    volumes_set_state(v, vol, VOLUME_OPEN);
    vol->generation = generation;
    vol->cursor = 0;
    volumes_set_live(v, vol, 0, 0);
    vol->opened_ms = vol->turn = next_opened_ms(v, 0);
}

int volumes_ref(struct volumes *v, struct place p, uint64_t length)
{
    struct volume *vol = volumes_find(v, p.volume);
    uint64_t end = p.offset + volume_slot(length);

    if (vol == NULL || p.offset % SLOT_UNIT != 0 || length > SLAB_SIZE_MAX ||
        p.offset > SLAB_SIZE_MAX || (volume_has_file(vol) && end > vol->slab.capacity))
        return ERR_CORRUPT;
    if (p.generation > vol->generation && !v->recovered && vol->state != VOLUME_FAILED)
        volumes_adopt(v, vol, p.generation);
    if (p.generation != vol->generation || vol->state == VOLUME_FREE)
        return ERR_CORRUPT;
    if (end > vol->cursor) {
        DASSERT(!v->recovered || vol->state == VOLUME_FAILED);
        vol->cursor = end;
    }
    volumes_set_live(v, vol, vol->live_bytes + volume_slot(length), vol->live_records + 1);
    return 0;
}

void volumes_unref(struct volumes *v, struct place p, uint64_t length)
{
    struct volume *vol = volumes_find(v, p.volume);
    uint64_t slot = volume_slot(length);

    /* A record whose volume is gone or was reopened: it was a miss, it counted nowhere. */
    if (vol == NULL || vol->generation != p.generation || vol->state == VOLUME_FREE)
        return;
    if (vol->live_records == 0 || vol->live_bytes < slot) {
        static uint64_t last_ms;

        if (logger_allow(&last_ms, 60000))
            LOG_WARNING("volume: volume=%" PRIu32 " counts fewer records than its keys name",
                        p.volume);
        return;
    }
    volumes_set_live(v, vol, vol->live_bytes - slot, vol->live_records - 1);
}

void volumes_unref_all(struct volumes *v)
{
    for (size_t i = 0; i < v->count; i++)
        volumes_set_live(v, v->list[i], 0, 0);
}

int volumes_pin(struct volumes *v, uint32_t number, uint32_t generation, struct volume_io *out)
{
    struct volume *vol = volumes_find(v, number);

    if (vol == NULL || vol->generation != generation || vol->state == VOLUME_FREE ||
        !volume_has_file(vol))
        return ERR_NOTFOUND;
    add_pins(v, vol, 1);
    *out = (struct volume_io){.io = v->config.io,
                              .fd = vol->slab.fd,
                              .base = vol->slab.base,
                              .number = number,
                              .generation = generation};
    memcpy(out->uuid, v->config.uuid, sizeof(out->uuid));
    return 0;
}

void volumes_unpin(struct volumes *v, uint32_t number)
{
    struct volume *vol = volumes_find(v, number);

    ASSERT(vol != NULL);
    add_pins(v, vol, -1);
}

static size_t hit_words(const struct volume *vol)
{
    return (size_t)(vol->slab.capacity / SLOT_UNIT + 63) / 64;
}

void volumes_mark_hit(struct volumes *v, struct place p)
{
    struct volume *vol = volumes_find(v, p.volume);
    uint64_t bit = p.offset / SLOT_UNIT;

    if (vol == NULL || vol->generation != p.generation || !volume_has_file(vol) ||
        p.offset >= vol->slab.capacity)
        return;
    if (vol->hits == NULL)
        vol->hits = calloc(hit_words(vol), sizeof(*vol->hits));
    if (vol->hits != NULL) /* else the hit is forgotten: no harm but a poorer choice */
        vol->hits[bit / 64] |= (uint64_t)1 << (bit % 64);
}

void volumes_clear_hit(struct volumes *v, struct place p)
{
    struct volume *vol = volumes_find(v, p.volume);
    uint64_t bit = p.offset / SLOT_UNIT;

    if (volumes_was_hit(v, p))
        vol->hits[bit / 64] &= ~((uint64_t)1 << (bit % 64));
}

bool volumes_was_hit(const struct volumes *v, struct place p)
{
    const struct volume *vol = volumes_find(v, p.volume);
    uint64_t bit = p.offset / SLOT_UNIT;

    if (vol == NULL || vol->generation != p.generation || vol->hits == NULL ||
        p.offset >= vol->slab.capacity)
        return false;
    return (vol->hits[bit / 64] >> (bit % 64) & 1) != 0;
}

/* --- checkpoint --------------------------------------------------------------------------- */

static struct volume_row row_of(const struct volume *vol)
{
    return (struct volume_row){vol->number,     vol->generation,   vol->state,    vol->cursor,
                               vol->live_bytes, vol->live_records, vol->opened_ms};
}

size_t volumes_rows(struct volumes *v, struct volume_row **rows)
{
    struct volume_row *r = calloc(v->count + 1, sizeof(*r));

    if (r == NULL)
        PANIC("out of memory for the volume table");
    for (size_t i = 0; i < v->count; i++)
        r[i] = row_of(v->list[i]);
    *rows = r;
    return v->count;
}

size_t volumes_freeze(struct volumes *v, struct volume_row **rows)
{
    ASSERT(!v->frozen);
    v->frozen = true;
    for (size_t i = 0; i < v->count; i++) {
        v->list[i]->frozen_empty = v->list[i]->live_records == 0;
        v->list[i]->frozen_generation = v->list[i]->generation;
    }
    return volumes_rows(v, rows);
}

static bool may_recycle(const struct volume *vol)
{
    return vol->state == VOLUME_SEALED && vol->frozen_empty &&
           vol->frozen_generation == vol->generation && vol->live_records == 0 && vol->pins == 0;
}

void volumes_checkpointed(struct volumes *v)
{
    bool any = false;

    ASSERT(v->frozen);
    v->frozen = false;
    volumes_drop_failed(v);
    for (size_t i = 0; i < v->count; i++) {
        struct volume *vol = v->list[i];

        if (may_recycle(vol)) {
            (void)FAIL("volume.free");
            volumes_set_state(v, vol, VOLUME_FREE);
            v->recycled++;
            any = true;
        }
        vol->frozen_empty = false;
    }
    if (any && v->config.on_space != NULL)
        v->config.on_space(v->config.ctx);
}

void volumes_checkpoint_failed(struct volumes *v)
{
    ASSERT(v->frozen);
    v->frozen = false;
    for (size_t i = 0; i < v->count; i++)
        v->list[i]->frozen_empty = false;
}

/* --- choosing victims, report, check ------------------------------------------------------- */

/* What is left unused behind the cursor is not won: the values moved out may leave as much behind
 * theirs, unless two such volumes fit into one. */
static bool is_victim(const struct volume *vol)
{
    uint64_t holes = vol->cursor - vol->live_bytes;

    return vol->state == VOLUME_SEALED && vol->live_records > 0 && vol->unsettled == 0 &&
           !vol->shunned &&
           (vol->live_bytes <= vol->slab.capacity / 2 ||
            holes >= vol->slab.capacity / VOLUME_GAIN_PART);
}

bool volumes_emptiest(const struct volumes *v, struct volume_row *out)
{
    const struct volume *best = NULL;

    for (size_t i = 0; i < v->count; i++)
        if (is_victim(v->list[i]) && (best == NULL || v->list[i]->live_bytes < best->live_bytes))
            best = v->list[i];
    if (best != NULL)
        *out = row_of(best);
    return best != NULL;
}

void volumes_shun(struct volumes *v, uint32_t number)
{
    struct volume *vol = volumes_find(v, number);

    ASSERT(vol != NULL);
    vol->shunned = true;
}

bool volumes_oldest(const struct volumes *v, struct volume_row *out, uint64_t *turn)
{
    const struct volume *best = NULL;

    for (size_t i = 0; i < v->count; i++) {
        const struct volume *vol = v->list[i];

        if (vol->live_records > 0 && volume_has_file(vol) && vol != v->open[0] &&
            (best == NULL || vol->turn < best->turn))
            best = vol;
    }
    if (best == NULL)
        return false;
    *out = row_of(best);
    *turn = best->turn;
    return true;
}

void volumes_pass(struct volumes *v, uint32_t number)
{
    struct volume *vol = volumes_find(v, number);

    if (vol != NULL)
        vol->turn = next_opened_ms(v, v->now_ms);
}

uint64_t volumes_last_turn(const struct volumes *v)
{
    return v->last_opened_ms;
}

bool volumes_get(const struct volumes *v, uint32_t number, struct volume_row *out)
{
    const struct volume *vol = volumes_find(v, number);

    if (vol != NULL)
        *out = row_of(vol);
    return vol != NULL;
}

uint64_t volumes_move_room(const struct volumes *v)
{
    const struct volume *vol = v->open[1];

    if (v->totals.state[VOLUME_FREE] > 0)
        return v->value_max + VOLUME_HEADER;
    return vol == NULL ? 0 : vol->slab.capacity - vol->cursor;
}

void volumes_get_stats(const struct volumes *v, struct volumes_stats *out)
{
    const struct volume_totals *t = &v->totals;

    *out = (struct volumes_stats){.count = v->count,
                                  .free = t->state[VOLUME_FREE],
                                  .open = t->state[VOLUME_OPEN],
                                  .sealed = t->state[VOLUME_SEALED],
                                  .failed = t->state[VOLUME_FAILED],
                                  .formatting = v->formatting,
                                  .can_grow = v->formatting || (may_grow(v) && !cannot_format(v)),
                                  .cannot_format = may_grow(v) && cannot_format(v),
                                  .empty = t->empty,
                                  .held = t->held,
                                  .capacity_bytes = t->capacity_bytes,
                                  .live_bytes = t->live_bytes,
                                  .live_records = t->live_records,
                                  .pinned = t->pinned,
                                  .recycled = v->recycled,
                                  .format_errors = v->format_errors};
}

static void check_one(const struct volumes *v, const struct volume *vol)
{
    bool is_open = vol == v->open[0] || vol == v->open[1];

    ASSERT(vol->state >= VOLUME_FREE && vol->state <= VOLUME_FAILED);
    ASSERT(volumes_find(v, vol->number) == vol);
    ASSERT((vol->live_records == 0) == (vol->live_bytes == 0));
    ASSERT(is_open == (vol->state == VOLUME_OPEN) || !v->recovered);
    ASSERT(vol->unsettled <= vol->pins);
    ASSERT(!is_open || vol->state == VOLUME_OPEN);
    ASSERT(vol->live_bytes % SLOT_UNIT == 0 && vol->live_bytes <= vol->cursor);
    ASSERT(vol->state == VOLUME_FAILED ||
           (volume_has_file(vol) && vol->cursor <= vol->slab.capacity));
    if (vol->state == VOLUME_FREE)
        ASSERT(vol->live_records == 0 && vol->pins == 0);
}

void volumes_check(const struct volumes *v)
{
    struct volumes sum = {.count = 0};

    ASSERT(v->open[0] == NULL || v->open[0] != v->open[1]);
    for (size_t i = 0; i < v->count; i++) {
        check_one(v, v->list[i]);
        ASSERT(i == 0 || v->list[i]->number > v->list[i - 1]->number);
        sum.totals.files += volume_has_file(v->list[i]);
        count_in(&sum, v->list[i]);
    }
    ASSERT(memcmp(&sum.totals, &v->totals, sizeof(sum.totals)) == 0);
}
