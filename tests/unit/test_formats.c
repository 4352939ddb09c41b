/* SPDX-License-Identifier: MIT */
/* Every encoding of format 1 against the bytes on file: what an encoder writes today is what it
 * wrote when the format was made, and what it wrote then can be read. */
#include <dirent.h>
#include <fcntl.h>

#include "base/err.h"
#include "fsm/entry.h"
#include "golden.h"
#include "log/log_int.h"
#include "log_harness.h"
#include "store/datadir.h"
#include "store/index_int.h"
#include "store/payload.h"
#include "store/slab.h"
#include "tmpdir.h"

static const uint8_t uuid[16] = {0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0x1f};
static const struct payload_id id = {.node = 7, .boot = 0x65543210, .seq = 0x0102030405060708};
static const struct place place = {.volume = 3, .generation = 9, .offset = 0x123000};

/* ---- key records -------------------------------------------------------------------------- */

static struct record some_record(enum record_kind kind)
{
    struct record r = {.kind = kind,
                       .flags = RECORD_RAW,
                       .tokens = 256,
                       .mod = 0x1112131415161718,
                       .created_ms = 1700000000123,
                       .expire_ms = 1800000000456,
                       .length = 5,
                       .digest = 0x2122232425262728,
                       .model = slice_str("llama-3"),
                       .seq = slice_str("request-17")};

    if (kind == RECORD_INLINE) {
        r.data = slice_str("hello");
        return r;
    }
    r.length = 3000000;
    r.payload = id;
    r.nholders = 2;
    r.holders[0] = 7;
    r.holders[1] = 8;
    if (kind == RECORD_SLAB)
        r.place = place;
    return r;
}

static void check_record(const char *name, enum record_kind kind)
{
    struct record want = some_record(kind), got;
    uint8_t bytes[512];
    struct slice key = slice_str("a key");

    CHECK_LE_U64(record_size(&want), sizeof(bytes));
    record_encode(&want, key, bytes);
    CHECK_EQ_INT(record_decode(key, golden_is(name, slice_of(bytes, record_size(&want))), &got), 0);
    CHECK(got.kind == kind && got.flags == want.flags && got.tokens == want.tokens);
    CHECK(got.mod == want.mod && got.created_ms == want.created_ms);
    CHECK(got.expire_ms == want.expire_ms && got.length == want.length);
    CHECK(got.digest == want.digest && got.nholders == want.nholders);
    CHECK(slice_eq(got.model, want.model) && slice_eq(got.seq, want.seq));
    CHECK(slice_eq(got.data, want.data) && place_eq(got.place, want.place));
    CHECK(payload_id_eq(got.payload, want.payload));
    for (unsigned i = 0; i < want.nholders; i++)
        CHECK_EQ_U64(got.holders[i], want.holders[i]);
}

TEST(key_records)
{
    check_record("record-inline", RECORD_INLINE);
    check_record("record-slab", RECORD_SLAB);
    check_record("record-remote", RECORD_REMOTE);
}

/* ---- other rows of index.mdb -------------------------------------------------------------- */

TEST(state_row)
{
    struct index_state want = {.flags = INDEX_CLEAN,
                               .node = 7,
                               .boot = 0x65543210,
                               .applied = 0x3132333435363738,
                               .term = 4,
                               .clock_ms = 1700000000789,
                               .keys = 1000,
                               .bytes = 5000000000},
                       got;
    uint8_t bytes[STATE_SIZE];

    memcpy(want.uuid, uuid, sizeof(uuid));
    memcpy(want.cluster, "cluster 16 bytes", sizeof(want.cluster));
    index_state_encode(&want, bytes);
    CHECK_EQ_INT(index_state_decode(golden_is("index-state", slice_of(bytes, STATE_SIZE)), &got),
                 0);
    CHECK(got.flags == want.flags && got.node == want.node && got.boot == want.boot);
    CHECK(got.applied == want.applied && got.term == want.term && got.clock_ms == want.clock_ms);
    CHECK(got.keys == want.keys && got.bytes == want.bytes);
    CHECK_EQ_MEM(got.uuid, want.uuid, sizeof(uuid));
    CHECK_EQ_MEM(got.cluster, want.cluster, sizeof(got.cluster));
}

TEST(volume_row)
{
    struct volume_row want = {.number = 0x0a0b0c0d,
                              .generation = 9,
                              .state = VOLUME_SEALED,
                              .cursor = 0xff000,
                              .live_bytes = 0x80000,
                              .live_records = 17,
                              .opened_ms = 1700000000001},
                      got;
    uint8_t key[4], golden_key[4], bytes[VOLUME_ROW_SIZE];

    index_volume_encode(&want, key, bytes);
    memcpy(golden_key, golden_is("index-volume-key", slice_of(key, sizeof(key))).ptr, sizeof(key));
    CHECK_EQ_INT(index_volume_decode(slice_of(golden_key, sizeof(golden_key)),
                                     golden_is("index-volume", slice_of(bytes, sizeof(bytes))),
                                     &got),
                 0);
    CHECK(got.number == want.number && got.generation == want.generation);
    CHECK(got.state == want.state && got.cursor == want.cursor);
    CHECK(got.live_bytes == want.live_bytes && got.live_records == want.live_records);
    CHECK_EQ_U64(got.opened_ms, want.opened_ms);
}

TEST(expiry_key)
{
    uint8_t bytes[EXPIRY_KEY_MAX];
    size_t len = index_expiry_key(1800000000456, slice_str("a key"), bytes);

    golden_is("index-expiry-key", slice_of(bytes, len));
}

/* ---- volumes ------------------------------------------------------------------------------ */

TEST(volume_header)
{
    const char *dir = tmpdir();
    struct slab s;
    uint8_t page[VOLUME_HEADER];
    struct slice golden;
    char path[4096];
    int fd;

    CHECK_EQ_INT(slab_format(&io_system, dir, 3, SLAB_SIZE_MIN, uuid), 0);
    CHECK_EQ_INT(slab_open(dir, 3, uuid, &s), 0);
    slab_path(dir, 3, path, sizeof(path));
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_EQ_INT(pread(fd, page, sizeof(page), (off_t)(s.base - sizeof(page))), sizeof(page));
    golden = golden_is("volume-header", slice_of(page, sizeof(page)));
    CHECK_EQ_INT(pwrite(fd, golden.ptr, golden.len, (off_t)(s.base - golden.len)), golden.len);
    close(fd);
    slab_close(&s);
    CHECK_EQ_INT(slab_open(dir, 3, NULL, &s), 0);
    CHECK_EQ_MEM(s.uuid, uuid, sizeof(uuid));
    CHECK_EQ_U64(s.number, 3);
    CHECK_EQ_U64(s.capacity, slab_capacity(SLAB_SIZE_MIN));
    slab_close(&s);
}

TEST(payload_header)
{
    static const uint64_t digests[] = {
        0x4142434445464748, 0x5152535455565758, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct payload_header want = {.place = place,
                                  .id = id,
                                  .term = 4,
                                  .applied = 0x3132333435363738,
                                  .length = 3000000,
                                  .digest = 0x2122232425262728,
                                  .created_ms = 1700000000123,
                                  .expire_ms = 1800000000456,
                                  .tokens = 256,
                                  .key = slice_str("a key"),
                                  .model = slice_str("llama-3"),
                                  .seq = slice_str("request-17"),
                                  .chunk = payload_chunk_size(3000000),
                                  .chunks = 12,
                                  .digests = digests},
                          got;
    uint8_t page[PAYLOAD_HEADER];
    struct slice golden;

    memcpy(want.uuid, uuid, sizeof(uuid));
    payload_header_encode(&want, page);
    golden = golden_is("payload-header", slice_of(page, sizeof(page)));
    CHECK_EQ_INT(payload_header_decode(golden.ptr, &got), 0);
    CHECK_EQ_MEM(got.uuid, uuid, sizeof(uuid));
    CHECK(place_eq(got.place, place) && payload_id_eq(got.id, id));
    CHECK(got.term == want.term && got.applied == want.applied && got.length == want.length);
    CHECK(got.digest == want.digest && got.created_ms == want.created_ms);
    CHECK(got.expire_ms == want.expire_ms && got.tokens == want.tokens);
    CHECK(slice_eq(got.key, want.key) && slice_eq(got.model, want.model));
    CHECK(slice_eq(got.seq, want.seq) && got.chunk == want.chunk && got.chunks == want.chunks);
    for (uint32_t i = 0; i < want.chunks; i++)
        CHECK_EQ_U64(payload_header_digest(golden.ptr, i), digests[i]);
}

/* Of a value of two chunks, whose bytes a reader in any language can make again. */
TEST(payload_digest)
{
    uint64_t len = PAYLOAD_CHUNK_MIN + 1000, total;
    uint8_t *value = malloc(len), bytes[8];

    for (uint64_t i = 0; i < len; i++)
        value[i] = (uint8_t)(i * 7);
    total = payload_digest_of(value, len);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(total >> (8 * i));
    golden_is("payload-digest", slice_of(bytes, sizeof(bytes)));
    free(value);
}

/* ---- log entries -------------------------------------------------------------------------- */

static struct op_put some_put(bool slab)
{
    struct op_put p = {.tokens = 256,
                       .created_ms = 1700000000123,
                       .expire_ms = 1800000000456,
                       .model = slice_str("llama-3"),
                       .seq = slice_str("request-17")};

    if (!slab) {
        p.data = slice_str("hello");
        return p;
    }
    p.payload = id;
    p.length = 3000000;
    p.digest = 0x2122232425262728;
    p.nholders = 2;
    p.holders[0] = (struct op_holder){7, place};
    p.holders[1] = (struct op_holder){8, {1, 2, 0x4000}};
    return p;
}

static void write_ops(struct entry_writer *w)
{
    struct slice k = slice_str("a key"), other = slice_str("another");
    struct op_put in_line = some_put(false), slab = some_put(true);

    entry_u64(w, OP_IF_MOD, ENTRY_MORE, k, 0x1112131415161718);
    entry_u64(w, OP_UNLESS, ENTRY_MORE, other, 1);
    entry_put(w, false, ENTRY_MORE | PUT_NX, k, &in_line);
    entry_put(w, true, PUT_XX | PUT_KEEPTTL | PUT_GET | PUT_KEEPMETA, k, &slab);
    entry_key(w, OP_DEL, 0, k);
    entry_u64(w, OP_EXPIRE, OPF_NX | OPF_XX | OPF_GT | OPF_LT, k, 1800000000456);
    entry_key(w, OP_PERSIST, 0, k);
    entry_u64(w, OP_INCRBY, 0, k, (uint64_t)-5);
    entry_bytes(w, OP_INCRBYFLOAT, 0, k, slice_str("0.25"));
    entry_bytes(w, OP_APPEND, 0, k, slice_str("tail"));
    entry_setrange(w, 0, k, 1000, slice_str("middle"));
    entry_key(w, OP_GETDEL, 0, k);
    entry_u64(w, OP_GETEX, OPF_PERSIST, k, 0);
    entry_bytes(w, OP_RENAME, OPF_NX, k, other);
    entry_bytes(w, OP_COPY, OPF_REPLACE, k, other);
    entry_key(w, OP_FLUSH, 0, slice_of(NULL, 0));
    entry_u64(w, OP_EVICT, 0, k, 0x1112131415161718);
}

static void check_put(const struct entry_op *op)
{
    bool slab = op->op == OP_PUT_SLAB;
    struct op_put want = some_put(slab), got;

    CHECK_EQ_INT(entry_decode_put(op, &got), 0);
    CHECK(got.tokens == want.tokens && got.created_ms == want.created_ms);
    CHECK(got.expire_ms == want.expire_ms && slice_eq(got.data, want.data));
    CHECK(slice_eq(got.model, want.model) && slice_eq(got.seq, want.seq));
    if (!slab)
        return;
    CHECK(payload_id_eq(got.payload, id) && got.length == want.length);
    CHECK(got.digest == want.digest && got.nholders == 2);
    for (unsigned i = 0; i < 2; i++)
        CHECK(got.holders[i].node == want.holders[i].node &&
              place_eq(got.holders[i].place, want.holders[i].place));
}

/* A golden entry is decoded next to a new one, which says what must come. */
static unsigned check_ops(struct slice golden, struct slice fresh)
{
    struct entry_header h, want_h;
    struct entry_reader r, want_r;
    struct entry_op op, want;
    unsigned seen = 0;

    CHECK_EQ_INT(entry_open(golden, &h, &r), 0);
    CHECK_EQ_INT(entry_open(fresh, &want_h, &want_r), 0);
    CHECK(h.kind == want_h.kind && h.node == 7 && h.boot == 0x65543210 && h.group == 0x61626364);
    CHECK_EQ_U64(h.stamp_ms, 1700000000999);
    while (entry_next(&want_r, &want) == 1) {
        CHECK_EQ_INT(entry_next(&r, &op), 1);
        CHECK(op.op == want.op && op.flags == want.flags && slice_eq(op.key, want.key));
        CHECK(slice_eq(op.body, want.body));
        seen |= 1u << op.op;
        if (op.op == OP_PUT || op.op == OP_PUT_SLAB)
            check_put(&op);
    }
    CHECK_EQ_INT(entry_next(&r, &op), 0);
    return seen;
}

static unsigned check_entry(const char *name, struct entry_writer *w, enum entry_kind kind)
{
    struct slice e = entry_finish(w, kind, 7, 0x65543210, 0x61626364, 1700000000999);

    return check_ops(golden_is(name, e), e);
}

TEST(log_entries)
{
    struct entry_writer w = {0};

    entry_begin(&w);
    write_ops(&w);
    /* A new op needs bytes on file, too. */
    CHECK_EQ_U64(check_entry("entry-group", &w, ENTRY_GROUP), (1u << OP_MAX_) - 2);
    entry_begin(&w);
    check_entry("entry-tick", &w, ENTRY_TICK);
    entry_begin(&w);
    check_entry("entry-init", &w, ENTRY_INIT);
    entry_fini(&w);
}

TEST(log_descriptor)
{
    struct log_descriptor want = {.applied = 0x3132333435363738,
                                  .clock_ms = 1700000000789,
                                  .keys = 1000,
                                  .bytes = 5000000000,
                                  .cluster = "cluster 16 byte"},
                          got;
    uint8_t bytes[LOG_DESCRIPTOR_SIZE];

    log_descriptor_encode(&want, bytes);
    CHECK_EQ_INT(log_descriptor_decode(golden_is("log-descriptor", slice_of(bytes, sizeof(bytes))),
                                       &got),
                 0);
    CHECK(got.applied == want.applied && got.clock_ms == want.clock_ms);
    CHECK(got.keys == want.keys && got.bytes == want.bytes);
    CHECK_EQ_MEM(got.cluster, want.cluster, sizeof(got.cluster));
}

/* ---- files of the log --------------------------------------------------------------------- */

static struct slice read_file(const char *dir, const char *name)
{
    static uint8_t bytes[GOLDEN_MAX];
    char path[4096];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_GE_INT(fd, 0);
    n = read(fd, bytes, sizeof(bytes));
    close(fd);
    CHECK(n > 0 && n < GOLDEN_MAX);
    return slice_of(bytes, (size_t)n);
}

static void write_file(const char *dir, const char *name, struct slice bytes)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK_EQ_INT(write(fd, bytes.ptr, bytes.len), bytes.len);
    close(fd);
}

static int is_log_file(const struct dirent *e)
{
    return strncmp(e->d_name, "00000", 5) == 0 || strncmp(e->d_name, "metadata", 8) == 0;
}

/* Libraft writes them, with entries that end in their index and term. */
TEST(log_files)
{
    const char *dir = tmpdir(), *old = tmpdir();
    struct harness h;
    struct dirent **files;
    int n;

    harness_init(&h, LOG_RAFT, dir);
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK(harness_propose_all(&h, 0, 3, 64, 1));
    harness_stop(&h);
    harness_fini(&h);
    n = scandir(dir, &files, is_log_file, alphasort);
    CHECK_EQ_INT(n, 3); /* the configuration, the entries, the term */
    for (int i = 0; i < n; i++) {
        char name[300];

        snprintf(name, sizeof(name), "log-%s", files[i]->d_name);
        write_file(old, files[i]->d_name, golden_is(name, read_file(dir, files[i]->d_name)));
        free(files[i]);
    }
    free(files);
    harness_init(&h, LOG_RAFT, old);
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_U64(h.count, 3);
    for (size_t i = 0; i < 3; i++)
        CHECK(harness_is(&h, i, i, 64));
    harness_fini(&h);
}

/* ---- FORMAT ------------------------------------------------------------------------------- */

TEST(format_file)
{
    const char *dir = tmpdir(), *old = tmpdir();
    struct datadir want = {.node = 7, .raft = true, .log_base = 12345}, got;
    char detail[DATADIR_DETAIL_MAX];

    memcpy(want.uuid, uuid, sizeof(uuid));
    CHECK_EQ_INT(datadir_write_format(dir, &want), 0);
    write_file(old, "FORMAT", golden_is("FORMAT", read_file(dir, "FORMAT")));
    CHECK_EQ_INT(datadir_read_format(old, &got, detail), 0);
    CHECK(got.node == 7 && got.raft && got.log_base == 12345);
    CHECK_EQ_MEM(got.uuid, uuid, sizeof(uuid));
}

TEST_MAIN
