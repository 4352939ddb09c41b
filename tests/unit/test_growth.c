/* SPDX-License-Identifier: MIT */
/* fsm_growth says about what the memory table then takes. */
#include "fsm_rig.h"
#include "test.h"

#define KEYS 200u
#define VALUE 12000u

static struct rig *rig;

static struct slice key_of(unsigned n)
{
    static char names[2][32];
    static unsigned at;

    at = (at + 1) % 2;
    snprintf(names[at], sizeof(names[at]), "key%u", n);
    return slice_str(names[at]);
}

static uint64_t table_now(void)
{
    struct store_counts c;

    store_get_counts(rig->store, &c);
    return c.table_bytes;
}

static void put_all(void)
{
    static uint8_t data[VALUE];

    for (unsigned n = 0; n < KEYS; n++) {
        struct op_put put = {.data = slice_of(data, VALUE)};

        entry_put(&rig->w, false, 0, key_of(n), &put);
    }
}

static void no_more_than_grown(uint64_t least, uint64_t most)
{
    uint64_t growth = fsm_growth(&rig->fsm, &rig->w), before = table_now();

    rig_commit(rig);
    CHECK_LE_U64(table_now() - before, growth);
    CHECK_GE_U64(growth, least);
    CHECK_LE_U64(growth, most);
}

/* Each op, on keys that the index holds and the table does not. */
static void with_each(void (*op)(unsigned n))
{
    rig_checkpoint(rig);
    for (unsigned n = 0; n < KEYS; n++)
        op(n);
}

static void expire(unsigned n)
{
    entry_u64(&rig->w, OP_EXPIRE, 0, key_of(n), rig->stamp_ms + 1000000);
}

static void persist(unsigned n)
{
    entry_key(&rig->w, OP_PERSIST, 0, key_of(n));
}

static void append(unsigned n)
{
    entry_bytes(&rig->w, OP_APPEND, 0, key_of(n), slice_str("x"));
}

static void move_away(unsigned n)
{
    entry_bytes(&rig->w, OP_RENAME, 0, key_of(n), key_of(n + KEYS));
}

static void del(unsigned n)
{
    entry_key(&rig->w, OP_DEL, 0, key_of(n + KEYS));
}

TEST(ops_that_rewrite_count_as_what_they_rewrite)
{
    uint64_t all = (uint64_t)KEYS * VALUE;

    rig = rig_open(tmpdir(), 1);
    put_all();
    no_more_than_grown(all, all + all / 50);
    with_each(expire);
    no_more_than_grown(all, all + all / 50);
    with_each(persist);
    no_more_than_grown(all, all + all / 50);
    with_each(append);
    no_more_than_grown(all, all + all / 50);
    with_each(move_away);
    no_more_than_grown(all, all + all / 25);
    with_each(del);
    no_more_than_grown(0, all / 50);
    rig_close(rig, true);
}

TEST(one_key_many_times_counts_once)
{
    rig = rig_open(tmpdir(), 1);
    put_all();
    rig_commit(rig);
    for (unsigned n = 0; n < 10 * KEYS; n++)
        append(7);
    CHECK_LE_U64(fsm_growth(&rig->fsm, &rig->w), 2 * VALUE);
    entry_begin(&rig->w);
    entry_key(&rig->w, OP_FLUSH, 0, slice_of(NULL, 0));
    CHECK_EQ_U64(fsm_growth(&rig->fsm, &rig->w), 0);
    rig_commit(rig);
    rig_close(rig, true);
}

TEST_MAIN
