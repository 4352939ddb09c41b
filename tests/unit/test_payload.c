/* SPDX-License-Identifier: MIT */
#include "store/payload.h"

#include <sys/stat.h>

#include "base/hash.h"
#include "rig_look.h"
#include "test.h"

#define KB ((uint64_t)1 << 10)
#define MB ((uint64_t)1 << 20)

TEST(chunk_size_keeps_to_256_chunks)
{
    const uint64_t lengths[] = {0,           1,        256 * KB,      64 * MB - 1, 64 * MB,
                                64 * MB + 1, 512 * MB, 1024 * MB + 7, UINT32_MAX};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint64_t chunk = payload_chunk_size(lengths[i]);

        CHECK_GE_INT((int64_t)chunk, (int64_t)PAYLOAD_CHUNK_MIN);
        CHECK_EQ_U64(chunk % (64 * KB), 0);
        CHECK_LE_INT((int64_t)((lengths[i] + chunk - 1) / chunk), PAYLOAD_CHUNKS_MAX);
    }
    CHECK_EQ_U64(payload_chunk_size(64 * MB), 256 * KB);
    CHECK_EQ_U64(payload_chunk_size(64 * MB + 1), 320 * KB);
    CHECK_EQ_U64(payload_chunk_size(512 * MB), 2 * MB);
}

/* However the bytes arrive, the digests are the same, and they are those of the chunks. */
TEST(digest_does_not_depend_on_the_cuts)
{
    uint64_t len = 700 * KB + 3, list[3];
    uint8_t *data = malloc(len);
    struct payload_digest d;

    rig_fill(data, len, 5);
    list[0] = hash64(data, 256 * KB);
    list[1] = hash64(data + 256 * KB, 256 * KB);
    list[2] = hash64(data + 512 * KB, len - 512 * KB);
    for (uint64_t step = 1000; step < len; step = step * 3 + 1) {
        payload_digest_begin(&d, len);
        for (uint64_t at = 0; at < len; at += step)
            payload_digest_update(&d, data, at);
        CHECK_EQ_HEX(payload_digest_end(&d, data), payload_digest_of(data, len));
        CHECK_EQ_U64(d.chunks, 3);
        CHECK_EQ_MEM(d.digests, list, sizeof(list));
    }
    CHECK_EQ_HEX(d.total, hash64(list, sizeof(list))); /* little-endian host */
    free(data);
}

TEST(digest_of_nothing_and_of_one_byte)
{
    struct payload_digest d;

    payload_digest_begin(&d, 0);
    CHECK_EQ_HEX(payload_digest_end(&d, NULL), hash64("", 0));
    CHECK_EQ_U64(d.chunks, 0);
    CHECK_NE_INT((int64_t)payload_digest_of((const uint8_t *)"a", 1),
                 (int64_t)payload_digest_of((const uint8_t *)"b", 1));
}

static struct payload_header sample(const uint64_t *digests)
{
    return (struct payload_header){.uuid = {1, 2, 3},
                                   .place = {7, 8, 4096 * 9},
                                   .id = {10, 11, 12},
                                   .term = 13,
                                   .applied = 14,
                                   .length = 600 * KB,
                                   .digest = 15,
                                   .created_ms = 16,
                                   .expire_ms = 17,
                                   .tokens = 18,
                                   .key = slice_str("the key"),
                                   .model = slice_str("llama"),
                                   .seq = slice_str("s"),
                                   .chunk = 256 * KB,
                                   .chunks = 3,
                                   .digests = digests};
}

TEST(header_round_trip)
{
    uint64_t digests[3] = {100, 200, UINT64_MAX};
    struct payload_header in = sample(digests), out;
    uint8_t page[PAYLOAD_HEADER];

    payload_header_encode(&in, page);
    CHECK_EQ_INT(payload_header_decode(page, &out), 0);
    CHECK_EQ_MEM(out.uuid, in.uuid, 16);
    CHECK(place_eq(out.place, in.place) && payload_id_eq(out.id, in.id));
    CHECK(slice_eq(out.key, in.key) && slice_eq(out.model, in.model) && slice_eq(out.seq, in.seq));
    CHECK_EQ_U64(out.term, 13);
    CHECK_EQ_U64(out.applied, 14);
    CHECK_EQ_U64(out.length, in.length);
    CHECK_EQ_U64(out.digest, 15);
    CHECK_EQ_U64(out.created_ms, 16);
    CHECK_EQ_U64(out.expire_ms, 17);
    CHECK_EQ_U64(out.tokens, 18);
    CHECK_EQ_U64(out.chunk, in.chunk);
    CHECK_EQ_U64(out.chunks, 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ_U64(payload_header_digest(page, i), digests[i]);
}

/* The bytes of format 1, field by field, against the table above the codec. */
TEST(header_layout_is_fixed)
{
    uint64_t digests[3] = {0x1122334455667788, 2, 3};
    struct payload_header in = sample(digests);
    uint8_t page[PAYLOAD_HEADER];

    payload_header_encode(&in, page);
    CHECK_EQ_LIT(page, 8, "SLDP\x01\0\0\0");
    CHECK_EQ_LIT(page + 24, 16, "\x07\0\0\0\x08\0\0\0\0\x90\0\0\0\0\0\0");
    CHECK_EQ_LIT(page + 40, 16, "\x0a\0\0\0\x0b\0\0\0\x0c\0\0\0\0\0\0\0");
    CHECK_EQ_LIT(page + 56, 16, "\x0d\0\0\0\0\0\0\0\x0e\0\0\0\0\0\0\0");
    CHECK_EQ_LIT(page + 72, 16, "\0\x60\x09\0\0\0\0\0\x0f\0\0\0\0\0\0\0");
    CHECK_EQ_LIT(page + 88, 16, "\0\0\x04\0\x03\0\x07\0\x05\x01\0\0\x12\0\0\0");
    CHECK_EQ_LIT(page + 104, 24, "\x10\0\0\0\0\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    CHECK_EQ_LIT(page + 128, 14, "the keyllamas\0");
    CHECK_EQ_LIT(page + 2040, 9, "\x88\x77\x66\x55\x44\x33\x22\x11\x02");
    CHECK_EQ_HEX(*(uint64_t *)(void *)(page + 4088), hash64(page, 4088));
}

TEST(header_of_the_largest_texts_and_the_longest_value)
{
    static uint64_t digests[PAYLOAD_CHUNKS_MAX];
    struct payload_header in = sample(digests), out;
    uint8_t page[PAYLOAD_HEADER], text[RECORD_KEY_MAX];

    memset(text, 'k', sizeof(text));
    in.key = slice_of(text, RECORD_KEY_MAX);
    in.model = in.seq = slice_of(text, RECORD_META_MAX);
    in.length = UINT32_MAX;
    in.chunk = payload_chunk_size(in.length);
    in.chunks = (uint32_t)((in.length + in.chunk - 1) / in.chunk);
    memset(digests, 0xff, sizeof(digests));
    payload_header_encode(&in, page);
    CHECK_EQ_INT(payload_header_decode(page, &out), 0);
    CHECK(slice_eq(out.key, in.key) && slice_eq(out.seq, in.seq));
}

static void seal(uint8_t *page)
{
    uint64_t check = hash64(page, 4088);

    memcpy(page + 4088, &check, 8);
}

TEST(header_decode_refuses_damage_and_nonsense)
{
    uint64_t digests[3] = {1, 2, 3};
    struct payload_header in = sample(digests), out;
    uint8_t good[PAYLOAD_HEADER], page[PAYLOAD_HEADER];

    payload_header_encode(&in, good);
    for (size_t at = 0; at < PAYLOAD_HEADER; at++) { /* one bit each */
        memcpy(page, good, sizeof(page));
        page[at] ^= (uint8_t)(1u << (at % 8));
        CHECK_EQ_INT(payload_header_decode(page, &out), at < 4 ? ERR_NOTFOUND : ERR_CORRUPT);
    }
    memset(page, 0, sizeof(page));
    CHECK_EQ_INT(payload_header_decode(page, &out), ERR_NOTFOUND);

    memcpy(page, good, sizeof(page));
    page[4] = 2;
    seal(page);
    CHECK_EQ_INT(payload_header_decode(page, &out), ERR_VERSION);
    /* checks that hold over contents no encoder writes */
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{95, 2}, {76, 1}, {88, 1}, {92, 4}, {32, 1}};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(page, good, sizeof(page));
        page[bad[i].at] = bad[i].value;
        seal(page);
        CHECK_EQ_INT(payload_header_decode(page, &out), ERR_CORRUPT);
    }
}

TEST(read_size_covers_whole_chunks)
{
    CHECK_EQ_U64(payload_read_size(700 * KB, 0, 700 * KB), 700 * KB);
    CHECK_EQ_U64(payload_read_size(700 * KB, 0, 1), 256 * KB);
    CHECK_EQ_U64(payload_read_size(700 * KB, 256 * KB - 1, 2), 512 * KB);
    CHECK_EQ_U64(payload_read_size(700 * KB, 699 * KB, 1), 188 * KB);
    CHECK_EQ_U64(payload_read_size(700 * KB, 10, 0), 0);
    CHECK_EQ_U64(payload_read_size(700 * KB, 700 * KB, 0), 0);
    CHECK_EQ_U64(payload_read_size(0, 0, 0), 0);
}

/* --- reading ------------------------------------------------------------------------------- */

struct stored {
    struct stage_req req;
    struct payload_digest digest;
    struct buf *buf;
    unsigned done;
};

static void on_stored(struct stage_req *r)
{
    ((struct stored *)(void *)r)->done++;
}

static void store(struct rig *g, struct stored *s, const char *key, uint64_t len)
{
    *s = (struct stored){.req = {.digest = &s->digest, .done = on_stored}};
    CHECK_EQ_INT(buf_get(g->pool, len, &s->buf), 0);
    rig_fill(buf_payload(s->buf), len, len);
    payload_digest_begin(&s->digest, len);
    payload_digest_end(&s->digest, buf_payload(s->buf));
    s->req.buf = s->buf;
    s->req.key_len = strlen(key);
    memcpy(s->req.key, key, s->req.key_len);
    stage_submit(g->stage, &s->req);
    stage_pump(g->stage);
    rig_run(g);
    CHECK_EQ_INT(s->done, 1);
    CHECK_EQ_INT(s->req.err, 0);
}

struct reading {
    struct payload_read r;
    unsigned done;
};

static void on_read(struct payload_read *r)
{
    ((struct reading *)(void *)r)->done++;
}

static void prepare(struct rig *g, const struct stored *s, uint64_t offset, uint64_t count,
                    struct reading *out)
{
    uint64_t size = payload_read_size(s->digest.length, offset, count);

    *out = (struct reading){.r = {.place = s->req.place,
                                  .id = s->req.id,
                                  .length = s->digest.length,
                                  .digest = s->digest.total,
                                  .offset = offset,
                                  .count = count,
                                  .key_len = s->req.key_len,
                                  .done = on_read}};
    memcpy(out->r.key, s->req.key, s->req.key_len);
    CHECK_EQ_INT(buf_get(g->pool, size, &out->r.buf), 0);
    memset(out->r.buf->mem, 0xee, out->r.buf->space); /* whatever it held before */
}

static int read_prepared(struct rig *g, struct reading *rd)
{
    int err = payload_read(&rd->r, g->volumes, g->readers);

    if (err == 0) {
        CHECK_GT_INT((int64_t)rig_stats(g).pinned, 0);
        rig_run(g);
        CHECK_EQ_INT(rd->done, 1);
        err = rd->r.err;
    }
    if (err != 0)
        CHECK_EQ_U64(rd->r.have, 0);
    return err;
}

static int read_range(struct rig *g, const struct stored *s, uint64_t offset, uint64_t count)
{
    struct reading rd;
    uint8_t *want = malloc(s->digest.length + 8);
    int err;

    prepare(g, s, offset, count, &rd);
    err = read_prepared(g, &rd);
    if (err == 0) {
        rig_fill(want, s->digest.length, s->digest.length);
        if (count == 0)
            CHECK_EQ_U64(rd.r.have, 0);
        else
            CHECK_LE_INT((int64_t)rd.r.first, (int64_t)offset);
        CHECK(count == 0 || rd.r.first + rd.r.have >= offset + count);
        CHECK_EQ_MEM(buf_payload(rd.r.buf), want + rd.r.first, rd.r.have);
    }
    buf_unref(rd.r.buf);
    free(want);
    return err;
}

TEST(values_of_every_edge_size_come_back)
{
    const uint64_t lengths[] = {0,           1,        4095,      4096,
                                4097,        100 * KB, 256 * KB,  256 * KB + 1,
                                2 * MB - 16, 2 * MB,   2 * MB + 1};
    struct stored s;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        store(&g, &s, "k", lengths[i]);
        CHECK_EQ_INT(read_range(&g, &s, 0, lengths[i]), 0);
        stage_release(g.stage, s.req.place);
        buf_unref(s.buf);
    }
    CHECK_EQ_U64(rig_stats(&g).pinned, 0);
    rig_fini(&g);
}

TEST(ranges_read_only_their_chunks)
{
    struct stored s;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    store(&g, &s, "a key", 700 * KB + 5);
    CHECK_EQ_INT(read_range(&g, &s, 0, 1), 0);
    CHECK_EQ_INT(read_range(&g, &s, 256 * KB - 1, 2), 0);
    CHECK_EQ_INT(read_range(&g, &s, 300 * KB, 100), 0);
    CHECK_EQ_INT(read_range(&g, &s, 700 * KB, 5), 0);
    CHECK_EQ_INT(read_range(&g, &s, 700 * KB + 5, 0), 0);
    /* damage in the first chunk does not concern the others */
    rig_flip(&g, s.req.place.volume, s.req.place.offset + PAYLOAD_HEADER + 1000);
    CHECK_EQ_INT(read_range(&g, &s, 0, 1), ERR_CORRUPT);
    CHECK_EQ_INT(read_range(&g, &s, 0, 700 * KB), ERR_CORRUPT);
    CHECK_EQ_INT(read_range(&g, &s, 300 * KB, 100), 0);
    stage_release(g.stage, s.req.place);
    buf_unref(s.buf);
    rig_fini(&g);
}

TEST(damage_anywhere_in_the_slot_is_a_miss)
{
    struct stored s;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    store(&g, &s, "k", 9000);
    for (uint64_t at = 0; at < PAYLOAD_HEADER + 9000; at += 611) {
        rig_flip(&g, s.req.place.volume, s.req.place.offset + at);
        CHECK_EQ_INT(read_range(&g, &s, 0, 9000), ERR_CORRUPT);
        rig_flip(&g, s.req.place.volume, s.req.place.offset + at);
    }
    CHECK_EQ_INT(read_range(&g, &s, 0, 9000), 0);
    stage_release(g.stage, s.req.place);
    buf_unref(s.buf);
    rig_fini(&g);
}

static int read_changed(struct rig *g, const struct stored *s,
                        void (*change)(struct payload_read *r))
{
    struct reading rd;
    int err;

    prepare(g, s, 0, s->digest.length, &rd);
    change(&rd.r);
    err = read_prepared(g, &rd);
    buf_unref(rd.r.buf);
    return err;
}

static void other_key(struct payload_read *r)
{
    r->key[0] ^= 1;
}
static void longer_key(struct payload_read *r)
{
    r->key[r->key_len++] = 0;
}
static void other_id(struct payload_read *r)
{
    r->id.seq++;
}
static void other_boot(struct payload_read *r)
{
    r->id.boot++;
}
static void other_digest(struct payload_read *r)
{
    r->digest++;
}
static void other_place(struct payload_read *r)
{
    r->place.offset += 4096;
}
static void unaligned(struct payload_read *r)
{
    r->place.offset += 1;
}
static void far_away(struct payload_read *r)
{
    r->place.offset = (uint64_t)1 << 40;
}
static void older(struct payload_read *r)
{
    r->place.generation--;
}
static void newer(struct payload_read *r)
{
    r->place.generation++;
}
static void no_volume(struct payload_read *r)
{
    r->place.volume = 999;
}
static void shorter(struct payload_read *r)
{
    r->length--, r->count--;
}
static void nothing(struct payload_read *r)
{
    (void)r;
}

TEST(a_slot_is_believed_only_by_the_record_that_names_it)
{
    void (*const changes[])(struct payload_read *) = {other_key,  longer_key,   other_id,
                                                      other_boot, other_digest, other_place,
                                                      unaligned,  far_away,     older,
                                                      newer,      no_volume,    shorter};
    struct stored s;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    store(&g, &s, "some key", 5000);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
        CHECK_EQ_INT(read_changed(&g, &s, changes[i]), ERR_CORRUPT);
    CHECK_EQ_INT(read_changed(&g, &s, nothing), 0);
    CHECK_EQ_U64(rig_stats(&g).pinned, 1); /* the stage's; every failed read let go */
    stage_release(g.stage, s.req.place);
    buf_unref(s.buf);
    rig_fini(&g);
}

TEST(a_device_error_is_an_io_error)
{
    struct stored s;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    store(&g, &s, "k", 5000);
    g.fault.read = (struct rig_fault){1, EIO, false};
    CHECK_EQ_INT(read_range(&g, &s, 0, 5000), ERR_IO);
    g.fault.read = (struct rig_fault){1, EINTR, false};
    CHECK_EQ_INT(read_range(&g, &s, 0, 5000), 0);
    stage_release(g.stage, s.req.place);
    buf_unref(s.buf);
    rig_fini(&g);
}

/* The caller may let its buffer go while the read is under way. */
TEST(the_read_holds_its_own_reference)
{
    struct reading rd;
    struct stored s;
    struct rig g;

    rig_init(&g, 4);
    rig_start(&g, NULL, 0);
    store(&g, &s, "k", 5000);
    prepare(&g, &s, 0, 5000, &rd);
    CHECK_EQ_INT(payload_read(&rd.r, g.volumes, g.readers), 0);
    buf_unref(rd.r.buf);
    rig_run(&g);
    CHECK_EQ_INT(rd.done, 1);
    CHECK_EQ_INT(rd.r.err, 0);
    stage_release(g.stage, s.req.place);
    buf_unref(s.buf);
    CHECK_EQ_U64(buf_pool_used(g.pool), 0);
    rig_fini(&g);
}

TEST_MAIN
