/* SPDX-License-Identifier: MIT */
#include "fsm/entry.h"
#include "test.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"

enum { MUTATIONS = 200000, OPS_IN_RANDOM_ENTRY = 12, COPY_MAX = 1 << 16 };

static struct slice str(const char *s)
{
    return slice_str(s);
}

static void check_slice(struct slice got, const char *want)
{
    test_check_mem(got.ptr, got.len, want, strlen(want), "slice", __FILE__, __LINE__);
}

static uint64_t random_state = 1;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

/* Makes the check of changed bytes right again, as somebody who forges an entry would. */
static void seal(uint8_t *entry, size_t len)
{
    codec_put64(entry + 40, hash64_pair(slice_of(entry, 40), slice_of(entry + 48, len - 48)));
}

/* Reads everything; the error that ends it, or the number of ops. Touches every byte named. */
static int read_all(struct slice bytes)
{
    struct entry_header h;
    struct entry_reader r;
    struct entry_op op;
    struct op_put put;
    uint64_t sum = 0;
    int n = 0, err = entry_open(bytes, &h, &r);

    if (err != 0)
        return err;
    while ((err = entry_next(&r, &op)) == 1) {
        n++;
        sum += hash64(op.key.ptr, op.key.len) + hash64(op.body.ptr, op.body.len);
        CHECK(op.key.ptr >= bytes.ptr && op.body.ptr + op.body.len <= bytes.ptr + bytes.len);
        if (op.op != OP_PUT && op.op != OP_PUT_SLAB)
            continue;
        err = entry_decode_put(&op, &put);
        if (err != 0)
            return err;
        sum += hash64(put.model.ptr, put.model.len) + hash64(put.seq.ptr, put.seq.len);
        sum += hash64(put.data.ptr, put.data.len);
        CHECK_LE_U64(put.nholders, RECORD_HOLDERS_MAX);
        CHECK(put.data.ptr + put.data.len <= bytes.ptr + bytes.len);
    }
    CHECK(err < 0 || h.count == (uint32_t)n);
    return err < 0 ? err : n + (sum == 0);
}

static struct slice finish(struct entry_writer *w)
{
    return entry_finish(w, ENTRY_GROUP, 1, 2, 3, 4);
}

TEST(bytes_are_those_of_the_format)
{
    static const uint8_t want[48 + 16 + 8 + 8] = {
        1,    1,    0,    0,    1,    0,    0, 0,
        32,   0,    0,    0,    0,    0,    0, 0, /* version … zero */
        0x44, 0x33, 0x22, 0x11, 7,    0,    0, 0, /* node, boot */
        9,    0,    0,    0,    0,    0,    0, 0,
        0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0, 0, /* group, stamp */
        0,    0,    0,    0,    0,    0,    0, 0, /* check, below */
        4,    1,    2,    0,    3,    0,    0, 0,
        8,    0,    0,    0,    0,    0,    0, 0, /* EXPIRE, NX */
        'k',  'e',  'y',  0,    0,    0,    0, 0,
        0xff, 0xee, 0,    0,    0,    0,    0, 0x80};
    struct entry_writer w = {0};
    struct slice e;

    entry_begin(&w);
    entry_u64(&w, OP_EXPIRE, OPF_NX, str("key"), 0x800000000000eeffu);
    e = entry_finish(&w, ENTRY_GROUP, 0x11223344, 7, 9, 0xba9876543210);
    CHECK_EQ_U64(e.len, sizeof(want));
    CHECK_EQ_MEM(e.ptr, want, 40);
    CHECK_EQ_MEM(e.ptr + 48, want + 48, sizeof(want) - 48);
    CHECK_EQ_HEX(codec_get64(e.ptr + 40), 0x9b3f3f04e2c1d3cfu);
    entry_fini(&w);
}

TEST(every_op_comes_back)
{
    struct entry_writer w = {0};
    struct entry_header h;
    struct entry_reader r;
    struct entry_op op;
    struct slice e;

    entry_begin(&w);
    entry_key(&w, OP_DEL, ENTRY_MORE, str("a"));
    entry_u64(&w, OP_INCRBY, ENTRY_MORE, str("counter8"), (uint64_t)-5);
    entry_bytes(&w, OP_APPEND, ENTRY_MORE, str("k"), slice_of(NULL, 0));
    entry_setrange(&w, ENTRY_MORE, str("k"), 1ull << 40, str("xyz"));
    entry_bytes(&w, OP_COPY, OPF_REPLACE, str("from"), str("to"));
    entry_key(&w, OP_FLUSH, 0, slice_of(NULL, 0));
    e = entry_finish(&w, ENTRY_GROUP, 11, 12, 13, 14);
    CHECK_EQ_INT(entry_open(e, &h, &r), 0);
    CHECK(h.kind == ENTRY_GROUP && h.count == 6 && h.node == 11 && h.boot == 12);
    CHECK(h.group == 13 && h.stamp_ms == 14);

    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK(op.op == OP_DEL && op.flags == ENTRY_MORE && op.body.len == 0);
    check_slice(op.key, "a");
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK_EQ_INT((int64_t)entry_arg_u64(&op), -5);
    check_slice(op.key, "counter8");
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK(op.op == OP_APPEND && op.body.len == 0);
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK_EQ_U64(entry_arg_u64(&op), 1ull << 40);
    check_slice(entry_setrange_bytes(&op), "xyz");
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK(op.op == OP_COPY && op.flags == OPF_REPLACE);
    check_slice(op.body, "to");
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK(op.op == OP_FLUSH && op.key.len == 0);
    CHECK_EQ_INT(entry_next(&r, &op), 0);
    CHECK_EQ_INT(entry_next(&r, &op), 0);
    entry_fini(&w);
}

static struct op_put slab_put(unsigned nholders)
{
    struct op_put put = {.tokens = 16,
                         .created_ms = 1000,
                         .expire_ms = 2000,
                         .model = str("llama"),
                         .seq = str("s-1"),
                         .payload = {1, 2, 3},
                         .length = 1 << 21,
                         .digest = 0xfeedface,
                         .nholders = nholders};

    for (unsigned i = 0; i < nholders; i++)
        put.holders[i] = (struct op_holder){i + 1, {i + 10, i + 20, (i + 1) * 4096ull}};
    return put;
}

TEST(put_with_data)
{
    struct op_put put = {.tokens = 7, .created_ms = 1, .model = str("m"), .data = str("value")};
    struct entry_writer w = {0};
    struct entry_header h;
    struct entry_reader r;
    struct entry_op op;
    struct op_put got;

    entry_begin(&w);
    entry_put(&w, false, PUT_NX | PUT_GET, str("k"), &put);
    put.data = slice_of(NULL, 0);
    put.model = slice_of(NULL, 0);
    entry_put(&w, false, 0, str("k"), &put);
    CHECK_EQ_INT(entry_open(finish(&w), &h, &r), 0);
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK(op.flags == (PUT_NX | PUT_GET));
    CHECK_EQ_INT(entry_decode_put(&op, &got), 0);
    check_slice(got.data, "value");
    check_slice(got.model, "m");
    CHECK(got.seq.len == 0 && got.length == 5 && got.tokens == 7 && got.created_ms == 1);
    CHECK_EQ_U64(got.expire_ms, 0);
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK_EQ_INT(entry_decode_put(&op, &got), 0);
    CHECK(got.data.len == 0 && got.length == 0);
    entry_fini(&w);
}

TEST(put_of_a_payload)
{
    for (unsigned n = 0; n <= RECORD_HOLDERS_MAX; n++) {
        struct op_put put = slab_put(n), got;
        struct entry_writer w = {0};
        struct entry_header h;
        struct entry_reader r;
        struct entry_op op;

        entry_begin(&w);
        entry_put(&w, true, PUT_XX, str("key"), &put);
        CHECK_EQ_INT(entry_open(finish(&w), &h, &r), 0);
        CHECK_EQ_INT(entry_next(&r, &op), 1);
        CHECK_EQ_INT(entry_decode_put(&op, &got), 0);
        check_slice(got.model, "llama");
        check_slice(got.seq, "s-1");
        CHECK(got.length == put.length && got.digest == put.digest && got.tokens == 16);
        CHECK(payload_id_eq(got.payload, put.payload) && got.nholders == n);
        for (unsigned i = 0; i < n; i++)
            CHECK(got.holders[i].node == i + 1 &&
                  place_eq(got.holders[i].place, put.holders[i].place));
        entry_fini(&w);
    }
}

TEST(units_join_a_group)
{
    struct entry_writer unit = {0}, group = {0}, none = {0};
    struct entry_header h;
    struct entry_reader r;
    struct entry_op op;

    entry_begin(&group);
    entry_begin(&none);
    for (int i = 0; i < 100; i++) {
        entry_begin(&unit);
        entry_u64(&unit, OP_IF_MOD, ENTRY_MORE, str("watched"), 5);
        entry_key(&unit, OP_DEL, 0, str("a"));
        entry_mark_more(&unit, true);
        entry_bytes(&unit, OP_APPEND, 0, str("b"), str("tail"));
        entry_append_ops(&group, &unit);
        entry_append_ops(&group, &none);
    }
    CHECK_EQ_U64(group.count, 300);
    CHECK_EQ_INT(entry_open(finish(&group), &h, &r), 0);
    for (int i = 0; i < 300; i++) {
        CHECK_EQ_INT(entry_next(&r, &op), 1);
        CHECK_EQ_INT(op.flags, i % 3 == 2 ? 0 : ENTRY_MORE);
        CHECK(op.op == (i % 3 == 0 ? OP_IF_MOD : i % 3 == 1 ? OP_DEL : OP_APPEND));
    }
    CHECK_EQ_INT(entry_next(&r, &op), 0);
    entry_mark_more(&group, true);
    entry_mark_more(&group, false);
    CHECK_EQ_INT(read_all(finish(&group)), 300);
    entry_fini(&unit);
    entry_fini(&group);
    entry_fini(&none);
}

/* The writer keeps its memory, and what an earlier entry left there does not show. */
TEST(padding_is_zero_in_used_memory)
{
    uint8_t noise[64];
    struct entry_writer w = {0};

    memset(noise, 0xff, sizeof(noise));
    for (size_t key = 1; key <= 17; key++) {
        for (size_t body = 0; body <= 17; body++) {
            entry_begin(&w);
            memset(w.mem + ENTRY_HEADER, 0xff, w.size - ENTRY_HEADER);
            entry_bytes(&w, OP_APPEND, 0, slice_of(noise, key), slice_of(noise, body));
            CHECK_EQ_U64(w.len % 8, 0);
            CHECK_EQ_INT(read_all(finish(&w)), 1);
        }
    }
    entry_fini(&w);
}

TEST(ticks_hold_nothing)
{
    struct entry_writer w = {0};
    struct entry_header h;
    struct entry_reader r;
    struct entry_op op;
    struct slice e;

    entry_begin(&w);
    e = entry_finish(&w, ENTRY_TICK, 1, 2, 0, 77);
    CHECK_EQ_U64(e.len, ENTRY_HEADER);
    CHECK_EQ_INT(entry_open(e, &h, &r), 0);
    CHECK(h.kind == ENTRY_TICK && h.count == 0 && h.stamp_ms == 77);
    CHECK_EQ_INT(entry_next(&r, &op), 0);
    entry_begin(&w);
    e = entry_finish(&w, ENTRY_INIT, 1, 2, 0, 78);
    CHECK_EQ_INT(entry_open(e, &h, &r), 0);
    CHECK(h.kind == ENTRY_INIT);
    entry_fini(&w);
}

TEST(every_damaged_bit_is_found)
{
    struct op_put put = slab_put(2);
    struct entry_writer w = {0};
    struct slice e;
    uint8_t *copy;

    entry_begin(&w);
    entry_put(&w, true, 0, str("key"), &put);
    e = finish(&w);
    copy = malloc(e.len);
    memcpy(copy, e.ptr, e.len);
    for (size_t bit = 0; bit < e.len * 8; bit++) {
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ_INT(read_all(slice_of(copy, e.len)), ERR_CORRUPT);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = 0; len < e.len; len++)
        CHECK_EQ_INT(read_all(slice_of(copy, len)), ERR_CORRUPT);
    CHECK_EQ_INT(read_all(slice_of(copy, e.len)), 1);
    free(copy);
    entry_fini(&w);
}

/* One op, one byte or field changed, the check made right: what must a reader say? */
static int changed(size_t at, unsigned size, uint64_t value)
{
    struct entry_writer w = {0};
    uint8_t copy[256];
    struct slice e;
    int got;

    entry_begin(&w);
    entry_u64(&w, OP_EXPIRE, 0, str("key"), 1);
    e = finish(&w);
    memcpy(copy, e.ptr, e.len);
    for (unsigned i = 0; i < size; i++)
        copy[at + i] = (uint8_t)(value >> 8 * i);
    seal(copy, e.len);
    got = read_all(slice_of(copy, e.len));
    entry_fini(&w);
    return got;
}

TEST(newer_is_told_from_damaged)
{
    CHECK_EQ_INT(changed(0, 1, 1), 1); /* nothing changed */
    CHECK_EQ_INT(changed(0, 1, 2), ERR_VERSION);
    CHECK_EQ_INT(changed(0, 1, 0), ERR_CORRUPT);
    CHECK_EQ_INT(changed(1, 1, ENTRY_INIT + 1), ERR_VERSION);
    CHECK_EQ_INT(changed(1, 1, 0), ERR_CORRUPT);
    CHECK_EQ_INT(changed(1, 1, ENTRY_TICK), ERR_CORRUPT); /* with ops */
    CHECK_EQ_INT(changed(2, 2, 1), ERR_VERSION);
    CHECK_EQ_INT(changed(4, 4, 0), ERR_CORRUPT);
    CHECK_EQ_INT(changed(4, 4, 2), ERR_CORRUPT);
    CHECK_EQ_INT(changed(8, 4, 24), ERR_CORRUPT);
    CHECK_EQ_INT(changed(12, 4, 1), ERR_CORRUPT);
    CHECK_EQ_INT(changed(48, 1, OP_MAX_), ERR_VERSION);
    CHECK_EQ_INT(changed(48, 1, 255), ERR_VERSION);
    CHECK_EQ_INT(changed(48, 1, 0), ERR_CORRUPT);
    CHECK_EQ_INT(changed(49, 1, 2), ERR_VERSION);
    CHECK_EQ_INT(changed(49, 1, 0), ERR_CORRUPT);
    CHECK_EQ_INT(changed(50, 2, OPF_REPLACE), ERR_VERSION); /* no flag of EXPIRE */
    CHECK_EQ_INT(changed(50, 2, 1u << 15), ERR_VERSION);
    CHECK_EQ_INT(changed(50, 2, ENTRY_MORE), ERR_CORRUPT); /* of the last op */
    CHECK_EQ_INT(changed(52, 2, 0), ERR_CORRUPT);
    CHECK_EQ_INT(changed(52, 2, 2), ERR_CORRUPT); /* then "y" stands in the padding */
    CHECK_EQ_INT(changed(52, 2, 9), ERR_CORRUPT);
    CHECK_EQ_INT(changed(52, 2, 481), ERR_CORRUPT);
    CHECK_EQ_INT(changed(54, 2, 1), ERR_CORRUPT);
    CHECK_EQ_INT(changed(56, 4, 7), ERR_CORRUPT);
    CHECK_EQ_INT(changed(56, 4, 0xffffffff), ERR_CORRUPT);
    CHECK_EQ_INT(changed(60, 4, 1), ERR_CORRUPT);
    CHECK_EQ_INT(changed(64 + 5, 1, 1), ERR_CORRUPT);    /* padding of the key */
    CHECK_EQ_INT(changed(48, 1, OP_FLUSH), ERR_CORRUPT); /* with a key */
}

/* The same for the body of PUT_SLAB with one holder; it starts at 72. */
static int changed_put(size_t at, unsigned size, uint64_t value)
{
    struct op_put put = slab_put(1);
    struct entry_writer w = {0};
    uint8_t copy[512];
    struct slice e;
    int got;

    entry_begin(&w);
    entry_put(&w, true, 0, str("key"), &put);
    e = finish(&w);
    memcpy(copy, e.ptr, e.len);
    for (unsigned i = 0; i < size; i++)
        copy[72 + at + i] = (uint8_t)(value >> 8 * i);
    seal(copy, e.len);
    got = read_all(slice_of(copy, e.len));
    entry_fini(&w);
    return got;
}

TEST(lengths_of_a_put_must_add_up)
{
    CHECK_EQ_INT(changed_put(0, 4, 99), 1);
    CHECK_EQ_INT(changed_put(4, 1, 4), ERR_CORRUPT); /* model */
    CHECK_EQ_INT(changed_put(4, 1, 6), ERR_CORRUPT);
    CHECK_EQ_INT(changed_put(4, 1, 255), ERR_CORRUPT);
    CHECK_EQ_INT(changed_put(5, 1, 2), ERR_CORRUPT); /* seq */
    CHECK_EQ_INT(changed_put(6, 2, 0), ERR_CORRUPT); /* holders */
    CHECK_EQ_INT(changed_put(6, 2, 2), ERR_CORRUPT);
    CHECK_EQ_INT(changed_put(6, 2, 8), ERR_CORRUPT);
    CHECK_EQ_INT(changed_put(6, 2, 65535), ERR_CORRUPT);
    CHECK_EQ_INT(changed_put(56 + 12, 4, 1), ERR_CORRUPT); /* zero in the holder */
    CHECK_EQ_INT(changed_put(56 + 16, 8, 4097), ERR_CORRUPT);
    CHECK_EQ_INT(changed_put(56 + 16, 8, 8192), 1);
}

/* A unit is looked at before it is finished, and its last op may still expect another. */
TEST(a_writer_can_be_read_back)
{
    struct entry_writer w = {0};
    struct entry_reader r;
    struct entry_op op;

    entry_begin(&w);
    r = entry_read_back(&w);
    CHECK_EQ_INT(entry_next(&r, &op), 0);
    entry_u64(&w, OP_UNLESS, ENTRY_MORE, slice_str("a"), 1);
    entry_key(&w, OP_DEL, ENTRY_MORE, slice_str("bc"));
    r = entry_read_back(&w);
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK_EQ_INT(op.op, OP_UNLESS);
    CHECK_EQ_U64(entry_arg_u64(&op), 1);
    CHECK_EQ_INT(entry_next(&r, &op), 1);
    CHECK_EQ_INT(op.op, OP_DEL);
    CHECK_EQ_INT(op.flags, ENTRY_MORE);
    CHECK(slice_eq(op.key, slice_str("bc")));
    CHECK_EQ_INT(entry_next(&r, &op), 0);
    entry_fini(&w);
}

static void random_op(struct entry_writer *w)
{
    static const enum op with_key[] = {OP_DEL, OP_PERSIST, OP_GETDEL};
    static const enum op with_u64[] = {OP_EXPIRE, OP_INCRBY, OP_GETEX,
                                       OP_EVICT,  OP_IF_MOD, OP_UNLESS};
    static const enum op with_bytes[] = {OP_INCRBYFLOAT, OP_APPEND, OP_RENAME, OP_COPY};
    static uint8_t bytes[RECORD_KEY_MAX + 1];
    struct slice key = slice_of(bytes, 1 + rnd(rnd(8) ? 20 : RECORD_KEY_MAX));
    struct slice body = slice_of(bytes, 1 + rnd(rnd(8) ? 20 : RECORD_KEY_MAX));
    struct op_put put = slab_put((unsigned)rnd(RECORD_HOLDERS_MAX + 1));

    switch (rnd(6)) {
    case 0:
        put.data = body;
        put.nholders = 0;
        entry_put(w, false, PUT_NX * (unsigned)rnd(2), key, &put);
        return;
    case 1:
        put.model = slice_of(bytes, rnd(RECORD_META_MAX + 1));
        entry_put(w, true, PUT_GET * (unsigned)rnd(2), key, &put);
        return;
    case 2:
        entry_key(w, with_key[rnd(3)], 0, key);
        return;
    case 3:
        entry_u64(w, with_u64[rnd(6)], 0, key, rnd(UINT64_MAX));
        return;
    case 4:
        entry_setrange(w, 0, key, rnd(100), body);
        return;
    default:
        entry_bytes(w, with_bytes[rnd(4)], 0, key, body);
    }
}

/* Bytes that pass the check and are nonsense otherwise: an error or a meaning, nothing else. The
 * copy ends where its memory ends, so that a sanitizer sees a byte too many. */
TEST(mutated_entries_are_survived)
{
    struct entry_writer w = {0};
    unsigned good = 0, bad = 0;

    for (int i = 0; i < MUTATIONS / (getenv("TEST_SLOW") ? 10 : 1); i++) {
        uint8_t *copy;
        struct slice e;
        size_t len;
        int got;

        entry_begin(&w);
        for (uint64_t n = 1 + rnd(OPS_IN_RANDOM_ENTRY); n > 0; n--)
            random_op(&w);
        e = finish(&w);
        len = rnd(8) ? e.len : 48 + 8 * rnd((e.len - 48) / 8 + 1);
        copy = malloc(len);
        memcpy(copy, e.ptr, len);
        for (uint64_t n = rnd(4); n > 0; n--)
            copy[rnd(len)] = rnd(2) ? (uint8_t)rnd(256) : (uint8_t)(rnd(3) * 127);
        if (len != e.len)
            codec_put32(copy + 8, (uint32_t)(len - 48));
        seal(copy, len);
        got = read_all(slice_of(copy, len));
        CHECK(got >= 0 || got == ERR_CORRUPT || got == ERR_VERSION);
        good += got >= 0;
        bad += got < 0;
        free(copy);
    }
    CHECK_GT_INT(good, 1000);
    CHECK_GT_INT(bad, 1000);
    entry_fini(&w);
}

TEST_MAIN
