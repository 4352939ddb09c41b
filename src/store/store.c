/* SPDX-License-Identifier: MIT */
/* The facade: what the state machine and the readers call.
 *
 * A key is looked up in the active table, the frozen table and index.mdb, in that order; the first
 * that knows it decides. FLUSHALL leaves an active table that hides what is below.
 *
 * A change goes into the active table only. It also moves references: the slot of the new record
 * is counted, then that of the old one no longer, so that an unchanged place never looks empty in
 * between. Counts of keys and bytes are exact, because the checkpoint stores them and the next
 * start compares them. Nothing here can fail for want of anything but memory: a record that names
 * a slot which is not there is kept, and is a counted miss when it is read.
 */
#include "store/store.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/logger.h"
#include "store/datadir.h"
#include "store/presence.h"
#include "store/slab.h"
#include "store/store_int.h"

#define LOG_EVERY_MS 1000u
#define SWEEP_BUDGET 200u /* keys a loop turn, ≤ 1 ms */
#define DISK_ASK_US 1000000u
#define ROW_OVERHEAD 16u /* LMDB's, for each row of a page */
#define PAGE_BYTES 4096u
#define PAGE_ABOVE 2040u /* LMDB gives pages of their own to rows of half a page */
#define STEP_IDLE_US 1000000u

/* --- look-up ------------------------------------------------------------------------------- */

static int lookup_into(struct store *s, struct slice key, struct index_buf *buf,
                       struct slice *value)
{
    const struct table *layers[2] = {s->active, s->frozen};

    for (int i = 0; i < 2 && layers[i] != NULL; i++) {
        enum table_hit hit = table_get(layers[i], key, value);

        if (hit == TABLE_RECORD)
            return 0;
        if (hit == TABLE_DELETED || table_hides_below(layers[i]))
            return ERR_NOTFOUND;
    }
    int err = index_get(s->index, key, buf);

    if (err == 0)
        *value = slice_of(buf->mem, buf->len);
    return err;
}

int store_lookup(struct store *s, struct slice key, struct slice *value)
{
    return lookup_into(s, key, &s->get_buf, value);
}

size_t store_record_size(struct store *s, struct slice key)
{
    struct slice value;

    return store_lookup(s, key, &value) == 0 ? value.len : 0;
}

static void count_corrupt(struct store *s, struct slice key, const char *what)
{
    static uint64_t last_ms;

    s->counts.corrupt++;
    if (logger_allow(&last_ms, LOG_EVERY_MS))
        LOG_WARNING("store damaged %s, the key is a miss; key_len=%zu key_hash=%016" PRIx64
                    " corrupt=%" PRIu64 " action=\"run sldmkv-check on %s\"",
                    what, key.len, hash64(key.ptr, key.len), s->counts.corrupt, s->config.dir);
}

int store_get(struct store *s, struct slice key, struct record *out)
{
    struct slice value;
    int err;

    ASSERT(key.len > 0 && key.len <= RECORD_KEY_MAX);
    err = lookup_into(s, key, &s->get_buf, &value);
    if (err == ERR_NOTFOUND)
        return err;
    if (err == 0)
        err = record_decode(key, value, out);
    if (err == 0)
        return 0;
    count_corrupt(s, key, "key record");
    return ERR_CORRUPT;
}

void store_corrupt(struct store *s, struct slice key)
{
    count_corrupt(s, key, "payload");
}

/* --- changes ------------------------------------------------------------------------------- */

uint64_t store_now_us(const struct store *s)
{
    return clock_mono_us(s->config.clock);
}

void store_changed(struct store *s)
{
    if (s->changed_us == 0) {
        uint64_t now_us = store_now_us(s);

        s->changed_us = now_us == 0 ? 1 : now_us;
    }
}

bool store_table_full(const struct store *s)
{
    return table_bytes(s->active) >= TABLE_BYTES_MAX || s->active_rows >= TABLE_KEYS_MAX;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool store_expires_by(const struct store *s, uint64_t stamp_ms)
{
    return s->active_expire_ms <= stamp_ms ||
           (s->frozen != NULL && s->frozen_expire_ms <= stamp_ms);
}

static void take_from(uint64_t *count, uint64_t n)
{
    *count -= n < *count ? n : *count;
}

uint64_t store_row_bytes(struct slice key, const struct record *r)
{
    uint64_t bytes = key.len + record_size(r) + ROW_OVERHEAD;

    if (bytes > PAGE_ABOVE)
        bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    return r->expire_ms == 0 ? bytes : bytes + key.len + sizeof(uint64_t) + ROW_OVERHEAD;
}

/* What the key counts for now goes; a damaged record counts as a key of unknown size. */
static bool uncount_old(struct store *s, struct slice key, struct record *old, bool *decoded)
{
    struct slice value;
    int err = lookup_into(s, key, &s->old_buf, &value);

    *decoded = false;
    if (err == ERR_NOTFOUND)
        return false;
    take_from(&s->counts.keys, 1);
    if (err != 0 || record_decode(key, value, old) != 0) {
        count_corrupt(s, key, "key record");
        s->inexact = true;
        return true;
    }
    *decoded = true;
    take_from(&s->counts.bytes, old->length);
    take_from(&s->row_bytes, store_row_bytes(key, old));
    if (old->expire_ms != 0)
        take_from(&s->counts.expires, 1);
    return true;
}

static void unref_place(struct store *s, const struct record *r)
{
    if (r->kind == RECORD_SLAB)
        volumes_unref(s->volumes, r->place, r->length);
}

static void ref_place(struct store *s, struct slice key, const struct record *r)
{
    static uint64_t last_ms;

    if (r->kind != RECORD_SLAB || volumes_ref(s->volumes, r->place, r->length) == 0)
        return;
    s->counts.corrupt++;
    if (logger_allow(&last_ms, LOG_EVERY_MS))
        LOG_WARNING(
            "store a payload is not where its record says, the key is a miss; volume=%" PRIu32
            " generation=%" PRIu32 " key_len=%zu",
            r->place.volume, r->place.generation, key.len);
}

static uint8_t *scratch_of(struct store *s, size_t size)
{
    if (s->scratch_size < size) {
        size_t room = size + size / 2;

        free(s->scratch);
        s->scratch = malloc(room);
        s->scratch_size = room;
        if (s->scratch == NULL)
            PANIC("out of memory");
    }
    return s->scratch;
}

/* The record may borrow from the very bytes that it replaces, so it is encoded beside them. */
static void write_record(struct store *s, struct slice key, const struct record *r)
{
    size_t size = record_size(r);
    uint8_t *bytes = scratch_of(s, size);

    record_encode(r, key, bytes);
    memcpy(table_put(s->active, key, size), bytes, size);
    if (r->expire_ms != 0)
        s->active_expire_ms = earlier(s->active_expire_ms, r->expire_ms);
    store_changed(s);
}

/* What a look-up by hash may believe: called at every change. An eviction under way concerns the
 * old value only. */
static void note_change(struct store *s, struct slice key, const struct record *r)
{
    bool condemns = lease_condemns(s->lease, clock_now_ms(s->config.clock));
    uint64_t hash;

    if (presence_bytes(s->presence) == 0 && !condemns)
        return;
    hash = lease_hash(s->lease, key);
    presence_change(s->presence, hash, r);
    if (condemns)
        lease_pardon(s->lease, hash);
}

/* The same value at another place. */
static void note_move(struct store *s, struct slice key, const struct record *r)
{
    if (presence_bytes(s->presence) > 0)
        presence_change(s->presence, lease_hash(s->lease, key), r);
}

static void count_rows(struct store *s, size_t table_keys_before, bool expires)
{
    if (table_count(s->active) != table_keys_before)
        s->active_rows += expires ? 2 : 1;
}

void store_put(struct store *s, struct slice key, const struct record *r)
{
    size_t before = table_count(s->active);
    struct record old = {0};
    bool decoded;

    ASSERT(key.len > 0 && key.len <= RECORD_KEY_MAX);
    uncount_old(s, key, &old, &decoded);
    ref_place(s, key, r);
    if (decoded)
        unref_place(s, &old);
    s->counts.keys++;
    s->counts.bytes += r->length;
    s->row_bytes += store_row_bytes(key, r);
    s->counts.expires += r->expire_ms != 0;
    bool expires = r->expire_ms != 0 || old.expire_ms != 0;

    write_record(s, key, r); /* from here on `old` may be gone */
    note_change(s, key, r);
    count_rows(s, before, expires);
}

void store_del(struct store *s, struct slice key)
{
    size_t before = table_count(s->active);
    struct record old = {0};
    bool decoded;

    ASSERT(key.len > 0 && key.len <= RECORD_KEY_MAX);
    if (!uncount_old(s, key, &old, &decoded))
        return;
    if (decoded)
        unref_place(s, &old);
    table_del(s->active, key);
    note_change(s, key, NULL);
    store_changed(s);
    count_rows(s, before, old.expire_ms != 0);
}

void store_flush(struct store *s)
{
    table_drop_all(s->active);
    presence_clear(s->presence);
    volumes_unref_all(s->volumes);
    s->counts.keys = s->counts.bytes = s->counts.expires = 0;
    s->active_rows = s->row_bytes = 0;
    s->active_expire_ms = UINT64_MAX;
    store_changed(s);
}

bool store_move(struct store *s, struct slice key, uint64_t mod, struct place from, struct place to)
{
    size_t before = table_count(s->active);
    struct slice value;
    struct record r;

    if (lookup_into(s, key, &s->get_buf, &value) != 0 || record_decode(key, value, &r) != 0)
        return false;
    if (r.kind != RECORD_SLAB || r.mod != mod || !place_eq(r.place, from))
        return false;
    r.place = to;
    if (volumes_ref(s->volumes, to, r.length) != 0)
        return false;
    volumes_unref(s->volumes, from, r.length);
    s->counts.moved++;
    s->counts.moved_bytes += r.length;
    write_record(s, key, &r);
    note_move(s, key, &r);
    count_rows(s, before, r.expire_ms != 0);
    return true;
}

void store_applied(struct store *s, uint64_t index, uint64_t term, uint64_t stamp_ms)
{
    ASSERT(index >= s->applied);
    s->applied = index;
    s->term = term;
    if (stamp_ms > s->stamp_ms)
        s->stamp_ms = stamp_ms;
}

uint64_t store_applied_index(const struct store *s)
{
    return s->applied;
}

uint64_t store_applied_stamp(const struct store *s)
{
    return s->stamp_ms;
}

void store_set_cluster(struct store *s, const uint8_t cluster[16])
{
    memcpy(s->cluster, cluster, sizeof(s->cluster));
    store_changed(s);
}

void store_get_cluster(const struct store *s, uint8_t cluster[16])
{
    memcpy(cluster, s->cluster, sizeof(s->cluster));
}

void store_count_evicted(struct store *s)
{
    s->counts.evicted++;
}

uint32_t store_boot(const struct store *s)
{
    return s->boot;
}

/* --- admission ----------------------------------------------------------------------------- */

uint64_t store_live_limit(const struct store *s)
{
    struct volumes_stats v;
    uint64_t n = s->volumes_target, each, by_volumes;

    volumes_get_stats(s->volumes, &v);
    each = slab_capacity(s->config.volume_size);
    by_volumes = n * each * 85 / 100;
    if ((n - 3) * each < by_volumes)
        by_volumes = (n - 3) * each;
    return s->config.max_store_bytes < by_volumes ? s->config.max_store_bytes : by_volumes;
}

static bool disk_is_short(struct store *s)
{
    uint64_t now_us = store_now_us(s), total;

    if (s->disk_asked_us == 0 || now_us - s->disk_asked_us >= DISK_ASK_US) {
        s->disk_asked_us = now_us == 0 ? 1 : now_us;
        if (datadir_space(s->config.dir, &total, &s->disk_free) != 0)
            s->disk_free = UINT64_MAX; /* the write itself will tell */
    }
    return s->disk_free < STORE_DISK_RESERVE;
}

static int table_admits(struct store *s, uint64_t bytes)
{
    bool full = store_table_full(s) || table_bytes(s->active) + bytes > TABLE_BYTES_MAX;

    if (!full)
        return 0;
    if (checkpoint_is_failing(s))
        return ERR_NOSPC; /* the frozen table cannot leave, so this one cannot be frozen */
    return checkpoint_start(s, false) ? 0 : ERR_AGAIN;
}

static int index_admits(struct store *s, uint64_t bytes)
{
    int err = evict_admits_row(s->evict, bytes);

    if (err != ERR_NOTFOUND)
        return err;
    if (checkpoint_is_failing(s))
        return ERR_NOSPC;
    checkpoint_start(s, false);
    return ERR_AGAIN;
}

int store_reserve(struct store *s, size_t records, size_t bytes)
{
    size_t each = RECORD_FIXED + RECORD_SLAB_TAIL + RECORD_CHECK;

    if (records > TABLE_KEYS_MAX)
        records = TABLE_KEYS_MAX; /* more will be refused, or come after a checkpoint */
    bytes += records * each;
    bytes += bytes / 2; /* of a value that grows */
    return table_reserve(s->active, records, bytes < TABLE_BYTES_MAX ? bytes : TABLE_BYTES_MAX)
               ? 0
               : ERR_NOMEM;
}

int store_may_change(struct store *s)
{
    bool stuck = checkpoint_is_failing(s) && s->frozen != NULL;

    return stuck && table_bytes(s->active) >= TABLE_BYTES_MAX + TABLE_BYTES_RESERVE ? ERR_NOSPC : 0;
}

int store_may_apply(struct store *s)
{
    if (!store_table_full(s) || checkpoint_is_failing(s)) /* then store_may_change is the limit */
        return 0;
    return checkpoint_start(s, false) ? 0 : ERR_AGAIN;
}

int store_may_add(struct store *s, uint64_t inline_bytes, uint64_t slab_bytes)
{
    struct volumes_stats v;
    int err;

    if (disk_is_short(s))
        return ERR_NOSPC;
    err = table_admits(s, inline_bytes);
    if (err != 0)
        return err;
    err = index_admits(s, inline_bytes);
    if (err != 0)
        return err;
    if (slab_bytes == 0)
        return 0;
    volumes_get_stats(s->volumes, &v);
    if (v.live_bytes + slab_bytes > store_live_limit(s))
        return evict_want_live(s->evict, slab_bytes) ? ERR_AGAIN : ERR_FULL;
    return 0;
}

/* --- reading ------------------------------------------------------------------------------- */

int store_read(struct store *s, struct payload_read *r)
{
    return payload_read(r, s->volumes, s->readers);
}

void store_hit(struct store *s, const struct record *r)
{
    if (r->kind == RECORD_SLAB)
        volumes_mark_hit(s->volumes, r->place);
}

uint64_t store_ahead(struct store *s, struct slice key)
{
    uint64_t hash = lease_hash(s->lease, key);

    presence_ahead(s->presence, hash);
    lease_ahead(s->lease, hash);
    return hash;
}

bool store_present(struct store *s, struct slice key, uint64_t hash, uint64_t now_ms)
{
    struct place place;
    uint64_t expire_ms;
    struct record r;

    if (presence_find(s->presence, hash, &expire_ms, &place)) {
        if (expire_ms != 0 && now_ms >= expire_ms)
            return false;
        volumes_mark_hit(s->volumes, place);
        return true;
    }
    if (key.len == 0 || key.len > RECORD_KEY_MAX || store_get(s, key, &r) != 0 ||
        record_expired(&r, now_ms))
        return false;
    presence_add(s->presence, hash, &r);
    store_hit(s, &r);
    return true;
}

/* --- parts --------------------------------------------------------------------------------- */

struct stage *store_stage(struct store *s)
{
    return s->stage;
}

struct lease *store_lease(struct store *s)
{
    return s->lease;
}

struct volumes *store_volumes(struct store *s)
{
    return s->volumes;
}

struct index *store_index(struct store *s)
{
    return s->index;
}

const struct store_config *store_config(const struct store *s)
{
    return &s->config;
}

/* --- background ---------------------------------------------------------------------------- */

uint64_t store_step(struct store *s)
{
    uint64_t next_us = STEP_IDLE_US;

    backup_step(s);
    if (s->recovered) {
        next_us = earlier(next_us, sweep_step(s->sweep, s->stamp_ms, SWEEP_BUDGET));
        next_us = earlier(next_us, evict_step(s->evict));
        stage_pump(s->stage);
    }
    return earlier(next_us, checkpoint_step(s));
}

void store_checkpoint(struct store *s, void (*cb)(void *ctx, int err), void *ctx)
{
    checkpoint_wait(s, cb, ctx);
}

bool store_checkpoint_running(const struct store *s)
{
    return checkpoint_is_running(s);
}

bool store_checkpoint_failing(const struct store *s)
{
    return checkpoint_is_failing(s);
}

uint64_t store_durable_index(const struct store *s)
{
    return checkpoint_durable_index(s);
}

bool store_tick_due(struct store *s, uint64_t now_ms)
{
    return s->recovered && sweep_due(s->sweep, now_ms);
}

void store_set_evicting(struct store *s, bool leader)
{
    s->leading = leader;
}

void store_set_limits(struct store *s, uint64_t max_store, uint64_t max_index)
{
    s->config.max_store_bytes = max_store;
    s->config.max_index_bytes = max_index;
    evict_measured(s->evict);
}

void store_get_counts(const struct store *s, struct store_counts *out)
{
    *out = s->counts;
    out->table_keys = table_count(s->active) + (s->frozen != NULL ? table_count(s->frozen) : 0);
    out->table_bytes = table_bytes(s->active) + (s->frozen != NULL ? table_bytes(s->frozen) : 0);
}

void store_get_index_stats(const struct store *s, struct index_stats *out)
{
    *out = s->index_stats;
}

bool store_step_workers(struct store *s)
{
    struct worker *workers[] = {s->writer, s->readers, s->checkpointer, s->maint};

    ASSERT(s->config.stepped);
    for (size_t i = 0; i < sizeof(workers) / sizeof(workers[0]); i++) {
        if (worker_step(workers[i]))
            return true;
    }
    return false;
}

struct tally {
    uint64_t keys, bytes, expires, slab_bytes, slab_records;
};

static bool tally_one(void *ctx, struct slice key, const struct record *r)
{
    struct tally *t = ctx;

    (void)key;
    t->keys++;
    t->bytes += r->length;
    t->expires += r->expire_ms != 0;
    if (r->kind == RECORD_SLAB) {
        t->slab_records++;
        t->slab_bytes += volume_slot(r->length);
    }
    return true;
}

void store_check(struct store *s)
{
    struct volumes_stats v;
    struct tally t = {0};

    ASSERT(s->frozen == NULL || checkpoint_is_running(s) || checkpoint_is_failing(s));
    table_check(s->active);
    if (s->frozen != NULL)
        table_check(s->frozen);
    volumes_check(s->volumes);
    ASSERT(store_scan(s, slice_of(NULL, 0), false, tally_one, &t) == 0);
    volumes_get_stats(s->volumes, &v);
    ASSERT(t.keys <= s->counts.keys && t.bytes <= s->counts.bytes);
    ASSERT(t.slab_records <= v.live_records && t.slab_bytes <= v.live_bytes);
    if (s->inexact || s->counts.corrupt > 0)
        return; /* what is damaged was counted, and is not seen by the scan */
    ASSERT(t.keys == s->counts.keys && t.bytes == s->counts.bytes);
    ASSERT(t.expires == s->counts.expires);
    ASSERT(t.slab_records == v.live_records && t.slab_bytes == v.live_bytes);
}
