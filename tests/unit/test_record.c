/* SPDX-License-Identifier: MIT */
#include "store/record.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "test.h"

static struct record inline_record(const char *data)
{
    return (struct record){
        .kind = RECORD_INLINE,
        .flags = 0x0102,
        .tokens = 16,
        .mod = 0x1112131415161718,
        .created_ms = 1700000000000,
        .expire_ms = 1700000060000,
        .length = strlen(data),
        .digest = 0x2122232425262728,
        .model = slice_str("llama"),
        .seq = slice_str("7"),
        .data = slice_str(data),
    };
}

static struct record slab_record(void)
{
    return (struct record){
        .kind = RECORD_SLAB,
        .mod = 5,
        .length = 2 << 20,
        .digest = 1,
        .place = {.volume = 3, .generation = 9, .offset = 8192},
        .payload = {.node = 1, .boot = 0x65000000, .seq = 77},
        .nholders = 2,
        .holders = {1, 4},
    };
}

static void check_equal(const struct record *a, const struct record *b)
{
    CHECK_EQ_INT(a->kind, b->kind);
    CHECK_EQ_INT(a->flags, b->flags);
    CHECK_EQ_INT(a->tokens, b->tokens);
    CHECK_EQ_U64(a->mod, b->mod);
    CHECK_EQ_U64(a->created_ms, b->created_ms);
    CHECK_EQ_U64(a->expire_ms, b->expire_ms);
    CHECK_EQ_U64(a->length, b->length);
    CHECK_EQ_U64(a->digest, b->digest);
    CHECK(slice_eq(a->model, b->model));
    CHECK(slice_eq(a->seq, b->seq));
    CHECK(slice_eq(a->data, b->data));
    CHECK(place_eq(a->place, b->place));
    CHECK(payload_id_eq(a->payload, b->payload));
    CHECK_EQ_INT(a->nholders, b->nholders);
    for (unsigned i = 0; i < a->nholders; i++)
        CHECK_EQ_INT(a->holders[i], b->holders[i]);
}

static void round_trip(const struct record *r, struct slice key)
{
    size_t size = record_size(r);
    uint8_t *bytes = malloc(size); /* exact: a write beyond it is seen by the sanitizer */
    struct record back;

    record_encode(r, key, bytes);
    CHECK_EQ_INT(record_decode(key, slice_of(bytes, size), &back), 0);
    check_equal(&back, r);
    CHECK_EQ_U64(record_expire_of(slice_of(bytes, size)), r->expire_ms);
    free(bytes);
}

/* Replaces the check, so that a test gets past it. */
static void seal(struct slice key, uint8_t *bytes, size_t size)
{
    codec_put64(bytes + size - 8, hash64_pair(key, slice_of(bytes, size - 8)));
}

TEST(golden_inline)
{
    static const uint8_t golden[] = {
        0x01, 0x01, 0x02, 0x01, 0x10, 0x00, 0x00, 0x00,      /* version … tokens */
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,      /* mod */
        0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00,      /* created */
        0x60, 0x52, 0xe6, 0xcf, 0x8b, 0x01, 0x00, 0x00,      /* expire */
        0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,      /* length */
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,      /* digest */
        0x05, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,      /* lengths, zero */
        'l',  'l',  'a',  'm',  'a',  '7',  'a',  'b',  'c', /* model, seq, data */
        0xde, 0x63, 0x73, 0xb5, 0x36, 0xe5, 0xbd, 0x28,      /* check */
    };
    struct record r = inline_record("abc");
    uint8_t out[sizeof(golden)];

    CHECK_EQ_INT(record_size(&r), sizeof(golden));
    record_encode(&r, slice_str("key"), out);
    CHECK_EQ_MEM(out, golden, sizeof(golden));
}

TEST(golden_slab)
{
    static const uint8_t golden_tail[] = {
        0x03, 0x00, 0x00, 0x00, 0x09, 0x00, 0x00, 0x00, /* volume, generation */
        0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* offset */
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x65, /* node, boot */
        0x4d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* seq */
        0x01, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, /* holders */
    };
    struct record r = slab_record();
    uint8_t out[RECORD_FIXED + sizeof(golden_tail) + RECORD_CHECK];

    CHECK_EQ_INT(record_size(&r), sizeof(out));
    record_encode(&r, slice_str("key"), out);
    CHECK_EQ_INT(out[1], 2);
    CHECK_EQ_INT(out[50], 2);
    CHECK_EQ_MEM(out + RECORD_FIXED, golden_tail, sizeof(golden_tail));
}

TEST(round_trips)
{
    uint8_t big[RECORD_META_MAX];
    uint8_t key[RECORD_KEY_MAX];
    struct record r = inline_record("");

    memset(big, 0xff, sizeof(big));
    memset(key, 0, sizeof(key));
    round_trip(&r, slice_str("k"));
    r.model = slice_of(big, sizeof(big));
    r.seq = slice_of(big, sizeof(big));
    round_trip(&r, slice_of(key, sizeof(key)));
    r = slab_record();
    round_trip(&r, slice_str("k"));
    r.nholders = RECORD_HOLDERS_MAX;
    round_trip(&r, slice_str("k"));
    r.kind = RECORD_REMOTE;
    r.place = (struct place){0};
    round_trip(&r, slice_str("k"));
    r.nholders = 0;
    round_trip(&r, slice_str("k"));
}

TEST(every_bit_is_covered)
{
    struct record r = slab_record(), back;
    uint8_t bytes[128];
    size_t size = record_size(&r);
    struct slice key = slice_str("some key");

    record_encode(&r, key, bytes);
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ_INT(record_decode(key, slice_of(bytes, size), &back), ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_EQ_INT(record_decode(slice_str("other key"), slice_of(bytes, size), &back), ERR_CORRUPT);
    for (size_t len = 0; len < size; len++)
        CHECK_EQ_INT(record_decode(key, slice_of(bytes, len), &back), ERR_CORRUPT);
    CHECK_EQ_INT(record_decode(key, slice_of(bytes, size), &back), 0);
}

TEST(sealed_nonsense_is_refused)
{
    struct record r = inline_record("abc"), back = {0};
    uint8_t bytes[128];
    size_t size = record_size(&r);
    struct slice key = slice_str("k"), value = slice_of(bytes, size);

    record_encode(&r, key, bytes);
    bytes[0] = RECORD_VERSION + 1;
    seal(key, bytes, size);
    CHECK_EQ_INT(record_decode(key, value, &back), ERR_VERSION);

    for (int kind = 0; kind < 256; kind++) {
        record_encode(&r, key, bytes);
        bytes[1] = (uint8_t)kind;
        seal(key, bytes, size);
        CHECK_EQ_INT(record_decode(key, value, &back), kind == 1 ? 0 : ERR_CORRUPT);
    }
    record_encode(&r, key, bytes);
    codec_put64(bytes + 32, UINT64_MAX); /* length */
    seal(key, bytes, size);
    CHECK_EQ_INT(record_decode(key, value, &back), ERR_CORRUPT);

    record_encode(&r, key, bytes);
    bytes[48] = 255; /* model_len beyond the record */
    seal(key, bytes, size);
    CHECK_EQ_INT(record_decode(key, value, &back), ERR_CORRUPT);

    record_encode(&r, key, bytes);
    codec_put16(bytes + 50, 1); /* holders of an inline value */
    seal(key, bytes, size);
    CHECK_EQ_INT(record_decode(key, value, &back), ERR_CORRUPT);
}

TEST(output_untouched_on_failure)
{
    struct record back = {.mod = 42};
    uint8_t bytes[70] = {0};

    CHECK_EQ_INT(record_decode(slice_str("k"), slice_of(bytes, sizeof(bytes)), &back), ERR_CORRUPT);
    CHECK_EQ_U64(back.mod, 42);
}

TEST(expiry)
{
    struct record r = {.expire_ms = 0};

    CHECK(!record_expired(&r, UINT64_MAX));
    r.expire_ms = 100;
    CHECK(!record_expired(&r, 99));
    CHECK(record_expired(&r, 100));
}

TEST_MAIN
