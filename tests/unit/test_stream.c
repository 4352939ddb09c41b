/* SPDX-License-Identifier: MIT */
#include "server/stream.h"

#include <event2/buffer.h>

#include "rig_faults.h"
#include "store_rig.h"

#define CHUNK PAYLOAD_CHUNK_MIN
#define GROUP STREAM_GROUP_BYTES

static struct streams *all;
static unsigned wakes, readies;
static struct rig_faults faults;
static struct io_ops faulty;

static void on_wake(void *ctx)
{
    (void)ctx;
    wakes++;
}

static void on_ready(void *ctx)
{
    (void)ctx;
    readies++;
}

static void begin_with(uint64_t value_max)
{
    faults = (struct rig_faults){0};
    faulty = rig_faults_io(&faults);
    rig_io = &faulty;
    start();
    all = streams_new(node.store, node.pool, value_max, on_wake, NULL);
    CHECK(all != NULL);
}

static void begin(void)
{
    begin_with(64 * MIB);
}

static uint64_t pinned(void)
{
    struct volumes_stats v;

    volumes_get_stats(store_volumes(node.store), &v);
    return v.pinned;
}

static struct stream_stats figures(void)
{
    struct stream_stats st;

    streams_get_stats(all, &st);
    return st;
}

/* Nothing may be left of any stream. */
static void end(void)
{
    run();
    streams_run(all);
    CHECK(streams_idle(all));
    CHECK_EQ_U64(figures().open, 0);
    CHECK_EQ_U64(figures().waiting, 0);
    CHECK_EQ_U64(pinned(), 0);
    streams_free(all);
    CHECK_EQ_U64(buf_pool_used(node.pool), 0);
    stop();
    rig_io = &io_system;
}

static struct record record_of(const char *key)
{
    struct record r;

    CHECK_EQ_INT(store_get(node.store, slice_str(key), &r), 0);
    CHECK_EQ_INT(r.kind, RECORD_SLAB);
    return r;
}

static struct stream *opened(const char *key, uint64_t offset, uint64_t count)
{
    struct record r = record_of(key);
    struct stream *s = stream_new(all, slice_str(key), &r, offset, count);

    stream_start(s, on_ready, NULL);
    return s;
}

static struct stream *whole(const char *key)
{
    return opened(key, 0, record_of(key).length);
}

static void jobs(void)
{
    for (int i = 0; i < 2; i++) {
        run();
        streams_run(all);
    }
    run();
}

/* The client takes what is in out: `at` is where it stands in the value. */
static uint64_t drain(struct evbuffer *out, uint64_t at, unsigned seed)
{
    size_t len = evbuffer_get_length(out);
    const uint8_t *p = evbuffer_pullup(out, -1);
    uint64_t wrong = 0;

    for (size_t i = 0; i < len; i++)
        wrong += p[i] != large_byte(at + i, seed);
    CHECK_EQ_U64(wrong, 0);
    evbuffer_drain(out, len);
    return at + len;
}

/* Takes and drains until the end or an error; at: in and out. */
static int take_all(struct stream *s, uint64_t *at, unsigned seed)
{
    struct evbuffer *out = evbuffer_new();
    int err = 0;

    for (int i = 0; i < 10000 && err == 0 && stream_left(s) > 0; i++) {
        err = stream_peek(s);
        if (err == 0)
            stream_take(s, out);
        if (err == ERR_AGAIN) {
            jobs();
            err = 0;
        }
        *at = drain(out, *at, seed);
    }
    evbuffer_free(out);
    return err;
}

static void check_range(const char *key, uint64_t offset, uint64_t count, unsigned seed)
{
    struct stream *s = opened(key, offset, count);
    uint64_t at = offset;

    CHECK_EQ_U64(stream_left(s), count);
    CHECK_EQ_INT(take_all(s, &at, seed), 0);
    CHECK_EQ_U64(at, offset + count);
    CHECK_EQ_U64(stream_left(s), 0);
    stream_close(s);
}

TEST(values_of_every_edge_size_arrive)
{
    const uint64_t lengths[] = {
        1,     4095,      4096,      CHUNK - 1, CHUNK,         CHUNK + 1,           GROUP - 1,
        GROUP, GROUP + 1, 3 * GROUP, 4 * GROUP, 5 * GROUP + 7, 15 * MIB + CHUNK + 1};

    begin();
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        set_large("k", lengths[i], i);
        check_range("k", 0, lengths[i], i);
    }
    CHECK_GT_INT(readies, 0);
    end();
}

TEST(ranges_read_only_the_chunks_that_cover_them)
{
    const struct {
        uint64_t offset, count, read;
    } ranges[] = {
        {0, 1, CHUNK},
        {CHUNK - 1, 1, CHUNK},
        {CHUNK - 1, 2, 2 * CHUNK},
        {CHUNK, CHUNK, CHUNK},
        {5 * GROUP, 3, CHUNK},
        {GROUP - 1, GROUP + 2, GROUP + 2 * CHUNK},
        {3 * CHUNK + 5, 2 * GROUP, 2 * GROUP + CHUNK},
        {6 * GROUP + 100, 23, 123}, /* the last chunk is short */
        {6 * GROUP - 1, 124, CHUNK + 123},
    };

    begin();
    set_large("k", 6 * GROUP + 123, 3);
    for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        uint64_t before = figures().bytes;

        check_range("k", ranges[i].offset, ranges[i].count, 3);
        CHECK_EQ_U64(figures().bytes - before, ranges[i].read);
    }
    end();
}

TEST(a_client_that_takes_nothing_holds_a_few_groups)
{
    struct evbuffer *out = evbuffer_new();
    struct stream *s;
    uint64_t at = 0;

    begin();
    set_large("k", 7 * GROUP, 1);
    s = whole("k");
    jobs();
    CHECK_EQ_U64(figures().groups, STREAM_GROUPS);
    while (stream_peek(s) == 0)
        stream_take(s, out);
    CHECK_EQ_INT(stream_peek(s), ERR_AGAIN);
    CHECK_EQ_U64(evbuffer_get_length(out), STREAM_GROUPS * GROUP);
    jobs(); /* what an evbuffer refers to is not used again */
    CHECK_EQ_U64(figures().groups, STREAM_GROUPS);
    CHECK_EQ_U64(buf_pool_used(node.pool), STREAM_GROUPS * buf_pool_space(GROUP));
    at = drain(out, at, 1);
    jobs();
    CHECK_EQ_U64(figures().groups, 2 * STREAM_GROUPS);
    CHECK_EQ_INT(take_all(s, &at, 1), 0);
    CHECK_EQ_U64(at, 7 * GROUP);
    stream_close(s);
    evbuffer_free(out);
    end();
}

TEST(read_ahead_of_all_is_a_share_of_the_budget)
{
    struct stream *s[16];
    uint64_t share = 64 * MIB / STREAM_AHEAD_SHARE;

    begin();
    set_large("k", 7 * GROUP, 1);
    for (unsigned i = 0; i < 16; i++)
        s[i] = whole("k");
    jobs();
    /* each has its first group; the rest of the share went to those who were first */
    CHECK_LE_INT((int64_t)buf_pool_used(node.pool), (int64_t)(share + 16 * buf_pool_space(GROUP)));
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ_INT(stream_peek(s[i]), 0);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t at = 0;

        CHECK_EQ_INT(take_all(s[i], &at, 1), 0);
        CHECK_EQ_U64(at, 7 * GROUP);
        stream_close(s[i]);
    }
    end();
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Takes what is left of the budget, but for less than one group. */
static unsigned hog(struct buf *taken[64])
{
    unsigned n = 0;

    while (n < 64 && buf_get(node.pool, GROUP, &taken[n]) == 0)
        n++;
    CHECK_LT_INT(n, 64);
    return n;
}

static void let_go(struct buf *taken[64], unsigned n)
{
    while (n > 0)
        buf_unref(taken[--n]);
}

TEST(without_room_streams_wait_in_order)
{
    struct buf *taken[64];
    struct stream *a, *b;
    uint64_t at = 0;
    unsigned n;

    begin();
    set_large("a", 3 * GROUP, 1);
    set_large("b", 3 * GROUP, 2);
    n = hog(taken);
    a = whole("a");
    b = whole("b");
    jobs();
    CHECK_EQ_U64(figures().waiting, 2);
    CHECK_EQ_U64(figures().groups, 0);
    buf_unref(taken[--n]);
    jobs();
    CHECK_EQ_U64(figures().waiting, 1);
    CHECK_EQ_INT(stream_peek(a), 0);
    CHECK_EQ_INT(stream_peek(b), ERR_AGAIN);
    /* one buffer is enough for both: each group goes to the end of the line */
    for (unsigned i = 0; i < 3; i++) {
        struct evbuffer *out = evbuffer_new();

        stream_take(a, out);
        drain(out, i * GROUP, 1);
        jobs();
        CHECK_EQ_INT(stream_peek(b), 0);
        stream_take(b, out);
        drain(out, i * GROUP, 2);
        jobs();
        evbuffer_free(out);
    }
    CHECK_EQ_U64(stream_left(a) + stream_left(b), 0);
    stream_close(a);
    stream_close(b);
    let_go(taken, n);
    a = whole("a");
    CHECK_EQ_INT(take_all(a, &at, 1), 0);
    stream_close(a);
    end();
}

static void check_spare(uint64_t value_max)
{
    struct evbuffer *out = evbuffer_new();
    struct stream *first, *second, *third;
    struct buf *taken[64];
    unsigned n;

    begin_with(value_max);
    set_large("k", 2 * GROUP, 1);
    n = hog(taken);
    first = whole("k");
    second = whole("k");
    third = whole("k");
    jobs();
    CHECK_EQ_U64(figures().groups, 0);
    wakes = 0;
    stream_urge(second);
    stream_urge(third);
    CHECK_GT_INT(wakes, 0);
    jobs();
    CHECK_EQ_INT(stream_peek(second), 0);
    CHECK_EQ_INT(stream_peek(third), ERR_AGAIN);
    CHECK_EQ_INT(stream_peek(first), ERR_AGAIN);
    stream_take(second, out);
    drain(out, 0, 1);
    jobs(); /* the second stands behind the third now */
    CHECK_EQ_INT(stream_peek(third), 0);
    CHECK_EQ_INT(stream_peek(second), ERR_AGAIN);
    stream_close(third); /* it had not been sent */
    jobs();
    CHECK_EQ_INT(stream_peek(second), 0);
    stream_take(second, out);
    drain(out, GROUP, 1);
    stream_close(second);
    CHECK_EQ_U64(figures().waiting, 1);
    CHECK_EQ_U64(buf_pool_used(node.pool), n * buf_pool_space(GROUP));
    stream_close(first);
    let_go(taken, n);
    evbuffer_free(out);
    end();
}

TEST(the_spare_buffer_helps_those_whose_turn_it_is)
{
    check_spare(64 * MIB);
}

TEST(the_spare_buffer_holds_a_group_of_any_value)
{
    check_spare(192 * MIB); /* whose own groups are two chunks of 768 KiB: less than one of "k" */
}

/* ---- closing ------------------------------------------------------------------------------ */

TEST(closed_in_every_state_nothing_is_left)
{
    struct buf *taken[64];
    struct record r;
    struct stream *s;
    unsigned n;

    begin();
    set_large("k", 7 * GROUP, 1);
    stream_close(NULL);

    r = record_of("k"); /* not started */
    s = stream_new(all, slice_str("k"), &r, 0, r.length);
    CHECK_EQ_U64(pinned(), 1);
    stream_close(s);
    CHECK_EQ_U64(pinned(), 0);

    s = whole("k"); /* the first group is being read */
    stream_close(s);
    jobs();

    s = whole("k"); /* all groups are there */
    jobs();
    stream_close(s);
    jobs();
    CHECK_EQ_U64(buf_pool_used(node.pool), 0);

    n = hog(taken); /* waits for room */
    s = whole("k");
    CHECK_EQ_U64(figures().waiting, 1);
    stream_close(s);
    CHECK_EQ_U64(figures().waiting, 0);
    let_go(taken, n);
    end();
}

TEST(an_evbuffer_may_outlive_its_stream)
{
    struct evbuffer *out = evbuffer_new();
    struct stream *s;

    begin();
    set_large("k", 7 * GROUP, 1);
    s = whole("k");
    jobs();
    stream_take(s, out);
    stream_take(s, out);
    stream_close(s);
    jobs();
    CHECK_EQ_U64(buf_pool_used(node.pool), 2 * buf_pool_space(GROUP));
    drain(out, 0, 1);
    evbuffer_free(out);
    end();
}

/* ---- the place ---------------------------------------------------------------------------- */

TEST(a_slow_client_pins_its_volume_for_a_while_only)
{
    struct evbuffer *out = evbuffer_new();
    struct stream *s;
    uint64_t at = 0;

    begin();
    set_large("k", 7 * GROUP, 1);
    s = whole("k");
    jobs();
    stream_take(s, out);
    advance_ms(STREAM_PIN_US / 1000 - 1);
    streams_check(all);
    CHECK_EQ_U64(pinned(), 1);
    advance_ms(1);
    streams_check(all);
    CHECK_EQ_U64(pinned(), 0);
    at = drain(out, at, 1); /* a group is read again: with a pin of its own */
    streams_run(all);
    CHECK_EQ_U64(pinned(), 1);
    run();
    CHECK_EQ_U64(pinned(), 0);
    CHECK_EQ_INT(take_all(s, &at, 1), 0);
    CHECK_EQ_U64(at, 7 * GROUP);
    CHECK_EQ_U64(figures().moved + figures().gone, 0);
    stream_close(s);
    evbuffer_free(out);
    end();
}

/* Volumes without records are recycled. */
static void recycle(uint32_t number)
{
    struct volume_row row;

    for (int i = 0; i < 20; i++) {
        set_large("filler", 10 * MIB, 9);
        del("filler");
        checkpoint();
        CHECK(volumes_get(store_volumes(node.store), number, &row));
        if (row.generation > 1 || row.state == VOLUME_FREE)
            return;
    }
    CHECK(false);
}

/* Its first groups are in memory, its pin has been given up. */
static struct stream *slow_stream(const char *key)
{
    struct stream *s = whole(key);

    jobs();
    advance_ms(STREAM_PIN_US / 1000);
    streams_check(all);
    return s;
}

TEST(a_deleted_value_arrives_as_long_as_its_volume_is_not_recycled)
{
    struct stream *s;
    uint64_t at = 0;

    begin();
    set_large("k", 7 * GROUP, 1);
    s = slow_stream("k");
    del("k");
    checkpoint();
    CHECK_EQ_INT(take_all(s, &at, 1), 0);
    CHECK_EQ_U64(at, 7 * GROUP);
    stream_close(s);
    end();
}

TEST(a_value_that_was_deleted_and_recycled_ends_with_what_was_read)
{
    struct stream *s;
    uint64_t at = 0;
    uint32_t volume;

    begin();
    set_large("k", 7 * GROUP, 1);
    volume = record_of("k").place.volume;
    s = slow_stream("k");
    del("k");
    recycle(volume);
    CHECK_EQ_INT(take_all(s, &at, 1), ERR_NOTFOUND);
    CHECK_EQ_U64(at, STREAM_GROUPS * GROUP);
    CHECK_EQ_U64(figures().gone, 1);
    stream_close(s);
    end();
}

TEST(another_value_under_the_key_is_not_taken_for_the_rest)
{
    struct stream *s;
    uint64_t at = 0;
    uint32_t volume;

    begin();
    set_large("k", 7 * GROUP, 1);
    volume = record_of("k").place.volume;
    s = slow_stream("k");
    set_large("k", 7 * GROUP, 2);
    recycle(volume);
    CHECK_EQ_INT(take_all(s, &at, 1), ERR_NOTFOUND);
    CHECK_EQ_U64(at, STREAM_GROUPS * GROUP);
    stream_close(s);
    check_range("k", 0, 7 * GROUP, 2);
    end();
}

/* What the store does when it empties a volume: the payload keeps its id. */
static void move(const char *key, uint64_t length, unsigned seed)
{
    struct record old = record_of(key), r = old;
    struct staged st = {.req = {.moving = true, .id = old.payload, .digest = &st.digest}};

    CHECK_EQ_INT(buf_get(node.pool, length, &st.req.buf), 0);
    fill_large(buf_payload(st.req.buf), length, seed);
    payload_digest_begin(&st.digest, length);
    payload_digest_end(&st.digest, buf_payload(st.req.buf));
    st.req.key_len = strlen(key);
    memcpy(st.req.key, key, st.req.key_len);
    st.req.done = on_staged;
    stage_submit(store_stage(node.store), &st.req);
    for (int i = 0; i < 100 && !st.over; i++)
        turn();
    CHECK(st.over);
    CHECK_EQ_INT(st.req.err, 0);
    r.place = st.req.place;
    CHECK(!place_eq(r.place, old.place));
    store_put(node.store, slice_str(key), &r);
    applied();
    stage_release(store_stage(node.store), r.place);
    buf_unref(st.req.buf);
}

TEST(a_moved_value_is_followed)
{
    struct stream *s;
    uint64_t at = 0;
    uint32_t volume;

    begin();
    set_large("k", 7 * GROUP, 1);
    volume = record_of("k").place.volume;
    s = slow_stream("k");
    move("k", 7 * GROUP, 1);
    recycle(volume);
    CHECK_EQ_INT(take_all(s, &at, 1), 0);
    CHECK_EQ_U64(at, 7 * GROUP);
    CHECK_EQ_U64(figures().moved, 1);
    CHECK_EQ_U64(figures().errors, 0);
    stream_close(s);
    end();
}

/* ---- damage ------------------------------------------------------------------------------- */

/* Flips a bit of the slot, in the file, below direct I/O. */
static void flip(const struct record *r, uint64_t offset)
{
    struct volume_io vio;
    char path[64];
    uint8_t byte;
    off_t at;
    int fd;

    CHECK_EQ_INT(volumes_pin(store_volumes(node.store), r->place.volume, r->place.generation, &vio),
                 0);
    at = (off_t)(vio.base + r->place.offset + offset);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", vio.fd);
    fd = open(path, O_RDWR);
    CHECK_GE_INT(fd, 0);
    CHECK_EQ_INT(pread(fd, &byte, 1, at), 1);
    byte ^= 8;
    CHECK_EQ_INT(pwrite(fd, &byte, 1, at), 1);
    CHECK_EQ_INT(fsync(fd), 0);
    close(fd);
    volumes_unpin(store_volumes(node.store), r->place.volume);
}

/* How much arrives, and the error, with the bit at `offset` of the slot changed. */
static int damaged(uint64_t offset, uint64_t *at)
{
    struct record r = record_of("k");
    struct stream *s;
    int err;

    *at = 0;
    flip(&r, offset);
    s = whole("k");
    err = take_all(s, at, 1);
    stream_close(s);
    jobs();
    flip(&r, offset);
    return err;
}

TEST(damage_ends_a_stream_ahead_of_the_first_wrong_byte)
{
    uint64_t at;

    begin();
    set_large("k", 6 * GROUP + 5, 1);
    CHECK_EQ_INT(damaged(100, &at), ERR_CORRUPT); /* the header: key, digests, check */
    CHECK_EQ_U64(at, 0);
    CHECK_EQ_INT(damaged(PAYLOAD_HEADER, &at), ERR_CORRUPT);
    CHECK_EQ_U64(at, 0);
    CHECK_EQ_INT(damaged(PAYLOAD_HEADER + GROUP - 1, &at), ERR_CORRUPT);
    CHECK_EQ_U64(at, 0);
    CHECK_EQ_INT(damaged(PAYLOAD_HEADER + GROUP, &at), ERR_CORRUPT);
    CHECK_EQ_U64(at, GROUP);
    CHECK_EQ_INT(damaged(PAYLOAD_HEADER + 3 * GROUP + CHUNK + 17, &at), ERR_CORRUPT);
    CHECK_EQ_U64(at, 3 * GROUP);
    CHECK_EQ_INT(damaged(PAYLOAD_HEADER + 6 * GROUP + 4, &at), ERR_CORRUPT);
    CHECK_EQ_U64(at, 6 * GROUP);
    check_range("k", 0, 6 * GROUP + 5, 1);
    end();
}

TEST(a_device_error_at_every_read)
{
    uint64_t expected[] = {0, GROUP, 2 * GROUP, 3 * GROUP, 4 * GROUP};

    begin();
    set_large("k", 5 * GROUP, 1);
    for (int n = 1; n <= 5; n++) {
        struct stream *s;
        uint64_t at = 0;

        faults.read = (struct rig_fault){n, EIO, false};
        s = whole("k");
        CHECK_EQ_INT(take_all(s, &at, 1), ERR_IO);
        CHECK_EQ_U64(at, expected[n - 1]);
        stream_close(s);
        jobs();
    }
    check_range("k", 0, 5 * GROUP, 1);
    CHECK_EQ_U64(figures().errors, 5);
    end();
}

TEST_MAIN
