/* SPDX-License-Identifier: MIT */
/* Reads a BACKUP as its owner would: a store opens it, every record and every payload is read. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "keys.h"
#include "node.h"
#include "store/datadir.h"
#include "store/store.h"

struct reading {
    struct store *store;
    struct inbox *inbox;
    struct clock clock;
    struct buf_pool *pool;
    struct key_state *records;
    bool *damaged;             /* NULL: no payload may be */
    struct record slabs[KEYS]; /* to be read when the scan is over; kind 0: none */
};

static uint64_t backup_wall_ms(void *ctx)
{
    (void)ctx;
    return node_now_ms();
}

static uint64_t backup_mono_us(void *ctx)
{
    (void)ctx;
    return sim.mono_us;
}

static uint16_t meta_number(struct slice s)
{
    char text[32] = "", want[32];
    unsigned n = 0;

    if (s.len == 0)
        return 0;
    if (s.len < sizeof(text))
        memcpy(text, s.ptr, s.len);
    if (sscanf(text, "meta-%u", &n) != 1 || strcmp(meta_text((uint16_t)n, want), text) != 0)
        sim_fail("a BACKUP holds metadata that nobody wrote");
    return (uint16_t)n;
}

static bool on_record(void *ctx, struct slice key, const struct record *r)
{
    struct reading *b = ctx;
    int i = key_find(key);

    if (i < 0)
        sim_fail("a BACKUP holds a key that never was");
    b->records[i] = (struct key_state){.expire_lo = r->expire_ms,
                                       .expire_hi = r->expire_ms,
                                       .made_lo = r->created_ms,
                                       .made_hi = r->created_ms,
                                       .tokens = r->tokens,
                                       .model = meta_number(r->model),
                                       .seq = meta_number(r->seq)};
    if (r->kind == RECORD_INLINE)
        b->records[i].value = blob_of(r->data.ptr, r->data.len);
    else
        b->slabs[i] = *r;
    return true;
}

static void on_payload(struct payload_read *r)
{
    r->key_len = 0; /* tells read_payload */
}

static void read_payload(struct reading *b, int i)
{
    const struct record *r = &b->slabs[i];
    struct slice key = key_name(i / GROUP_KEYS, i % GROUP_KEYS);
    struct payload_read p = {.place = r->place,
                             .id = r->payload,
                             .length = r->length,
                             .count = r->length,
                             .digest = r->digest,
                             .key_len = key.len,
                             .done = on_payload};
    int err = buf_get(b->pool, r->length, &p.buf);

    memcpy(p.key, key.ptr, key.len);
    if (err == 0)
        err = store_read(b->store, &p);
    while (err == 0 && p.key_len != 0) {
        store_step_workers(b->store);
        inbox_drain(b->inbox, 64);
    }
    if (err == 0)
        err = p.err;
    if (err == ERR_CORRUPT && b->damaged != NULL) {
        b->damaged[i] = true;
        buf_unref(p.buf);
        return;
    }
    if (err != 0)
        sim_fail("a payload of a BACKUP cannot be read: %s", err_text(err));
    b->records[i].value = blob_of(buf_payload(p.buf), r->length);
    buf_unref(p.buf);
}

static void open_backup(struct reading *b, const char *dir)
{
    struct store_config c = {.dir = dir,
                             .node = 1,
                             .io = &io_system,
                             .inbox = b->inbox,
                             .clock = &b->clock,
                             .pool = b->pool,
                             .max_store_bytes = 64 * MIB,
                             .max_index_bytes = 1024 * MIB,
                             .volume_size = 16 * MIB,
                             .stepped = true};
    struct index_state state;
    struct datadir d;
    char detail[512] = "";
    uint64_t applied;

    if (datadir_read_format(dir, &d, detail) != 0)
        sim_fail("a BACKUP cannot be opened: %s", detail);
    memcpy(c.uuid, d.uuid, sizeof(c.uuid));
    if (store_open(&c, &b->store, &state, detail) != 0 ||
        store_recover(b->store, &applied, detail) != 0)
        sim_fail("a BACKUP cannot be opened: %s", detail);
    if (!(state.flags & INDEX_CLEAN) || d.log_base != state.applied || applied > state.applied)
        sim_fail("a BACKUP is no clean copy: log-base %" PRIu64 ", applied %" PRIu64
                 ", headers up to %" PRIu64,
                 d.log_base, state.applied, applied);
}

void backup_read(const char *dir, struct key_state records[], bool damaged[])
{
    static struct reading b;
    bool calm = sim.calm;

    sim.calm = true; /* this store is no part of the play */
    memset(records, 0, KEYS * sizeof(*records));
    b = (struct reading){.records = records, .damaged = damaged};
    b.inbox = inbox_new();
    b.pool = buf_pool_new(64 * MIB);
    clock_init(&b.clock, (struct clock_source){backup_wall_ms, backup_mono_us, NULL}, 0);
    open_backup(&b, dir);
    if (store_scan(b.store, slice_of(NULL, 0), false, on_record, &b) != 0)
        sim_fail("a BACKUP cannot be listed");
    for (int i = 0; i < KEYS; i++)
        if (b.slabs[i].kind != 0)
            read_payload(&b, i);
    store_close(b.store, false);
    buf_pool_free(b.pool);
    inbox_free(b.inbox);
    node_remove_dir(dir);
    sim.calm = calm;
}
