/* SPDX-License-Identifier: MIT */
/* Damage of every kind to the files of a real log: refused with the file's name, or all that was
 * acknowledged is there. What is accepted is started, too. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/logger.h"
#include "log/check.h"
#include "log/log_int.h"
#include "log/segment.h"
#include "log_harness.h"
#include "test.h"
#include "tmpdir.h"

enum { SEGMENT = 16384, FILES_MAX = 32, FILE_MAX = 1 << 17 };

struct file {
    char name[128];
    size_t len, end; /* end: behind the last batch of a segment */
    uint8_t bytes[FILE_MAX];
};

/* A folder as a power cut would leave it while the log ran idle. */
struct image {
    struct file files[FILES_MAX];
    size_t n;
    uint64_t last, snapshot;
    size_t last_batch; /* in the file `open` */
    struct file *open, *closed, *spare, *meta, *data, *metadata;
};

static size_t length_of(uint64_t number)
{
    return 64 + 8 * (number % 190);
}

static void load(struct image *im, const char *dir)
{
    DIR *d = opendir(dir);

    im->n = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        struct file *f = &im->files[im->n];
        ssize_t got;
        int fd;

        if (e->d_name[0] == '.')
            continue;
        snprintf(f->name, sizeof(f->name), "%.100s", e->d_name);
        fd = openat(dirfd(d), e->d_name, O_RDONLY);
        got = read(fd, f->bytes, FILE_MAX);
        close(fd);
        CHECK(got >= 0 && got < FILE_MAX && im->n + 1 < FILES_MAX);
        f->len = (size_t)got;
        im->n++;
    }
    closedir(d);
}

/* Walks the batches with code of its own: {crc 8}{n 8}{n × 16}{data}. */
static void measure(struct image *im, struct file *f)
{
    size_t at = 8;

    while (at + 16 <= f->len && codec_get64(f->bytes + at + 8) != 0) {
        uint64_t n = codec_get64(f->bytes + at + 8);
        size_t size = 16 + 16 * n;

        for (uint64_t i = 0; i < n; i++)
            size += codec_get32(f->bytes + at + 16 + 16 * i + 12);
        if (f == im->open)
            im->last_batch = at;
        at += size;
    }
    f->end = at;
}

static void classify(struct image *im)
{
    for (size_t i = 0; i < im->n; i++) {
        struct file *f = &im->files[i];
        bool snapshot = strncmp(f->name, "snapshot-", 9) == 0;

        if (strncmp(f->name, "open-", 5) == 0 && codec_get64(f->bytes) == 1)
            im->open = f;
        else if (strncmp(f->name, "open-", 5) == 0)
            im->spare = f;
        else if (snapshot && strstr(f->name, ".meta") != NULL)
            im->meta = f;
        else if (snapshot)
            im->data = f;
        else if (f->name[0] == '0' && (im->closed == NULL || strcmp(f->name, im->closed->name) > 0))
            im->closed = f;
        else if (strcmp(f->name, "metadata1") == 0)
            im->metadata = f;
    }
    CHECK(im->open != NULL && im->closed != NULL && im->metadata != NULL);
    measure(im, im->open);
    measure(im, im->closed);
    CHECK_GT_INT(im->last_batch, 8);
}

/* Entry i of the log is number i, at index i + 2 (1 is the configuration). */
static struct image *make(bool snapshot)
{
    struct image *im = calloc(1, sizeof(*im));
    struct harness h;
    uint64_t number = 0;

    harness_init(&h, LOG_RAFT, tmpdir());
    h.config.segment_bytes = SEGMENT;
    CHECK_EQ_INT(harness_start(&h), 0);
    for (; number < (snapshot ? 200u : 60u); number++)
        CHECK(harness_propose_all(&h, number, 1, length_of(number), 1));
    if (snapshot) {
        im->snapshot = h.entries[h.count - 1].index + 1;
        CHECK_EQ_INT(harness_snapshot(&h), 0);
        CHECK(harness_until_snapshots(&h, 1));
        number++; /* the marker */
    }
    for (uint64_t until = number + 30; number < until; number++)
        CHECK(harness_propose_all(&h, number, 1, length_of(number), 1));
    im->last = h.entries[h.count - 1].index;
    load(im, h.config.dir);
    harness_fini(&h);
    classify(im);
    return im;
}

static void store_file(const char *dir, const struct file *f)
{
    char path[PATH_MAX];
    int fd = open(tmpdir_path(path, dir, f->name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK_EQ_INT(write(fd, f->bytes, f->len), f->len);
    close(fd);
}

static void unpack(const struct image *im, const char *dir)
{
    DIR *d = opendir(dir);

    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    for (size_t i = 0; i < im->n; i++)
        store_file(dir, &im->files[i]);
}

static char detail[LOG_DETAIL_MAX];

static int check(const char *dir, uint64_t must_have, bool mend, struct log_check_report *r)
{
    struct log_check_options o = {.dir = dir, .must_have = must_have, .mend = mend};

    memset(r, 0, sizeof(*r));
    return log_check(&o, r, detail);
}

/* Starts what log_check accepted: libraft must come up with exactly the entries it promised. */
static void start_and_compare(const struct image *im, const char *dir, uint64_t last)
{
    struct harness h;
    uint64_t first = im->snapshot != 0 ? im->snapshot + 1 : 2;

    harness_init(&h, LOG_RAFT, dir);
    h.config.segment_bytes = SEGMENT;
    h.config.must_have = last;
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_U64(h.count, last + 1 - first);
    for (size_t i = 0; i < h.count; i++) {
        CHECK_EQ_U64(h.entries[i].index, first + i);
        CHECK(harness_is(&h, i, first + i - 2, length_of(first + i - 2)));
    }
    CHECK(harness_propose_all(&h, 7, 3, 64, 1)); /* and it goes on */
    harness_fini(&h);
}

static void flip(const char *dir, const struct file *f, size_t at, uint8_t mask)
{
    char path[PATH_MAX];
    uint8_t byte = f->bytes[at] ^ mask;
    int fd = open(tmpdir_path(path, dir, f->name), O_WRONLY);

    CHECK_EQ_INT(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

static void set_length(const char *dir, const struct file *f, size_t len)
{
    char path[PATH_MAX];

    CHECK_EQ_INT(truncate(tmpdir_path(path, dir, f->name), (off_t)len), 0);
}

static void put64(const char *dir, const struct file *f, size_t at, uint64_t value)
{
    char path[PATH_MAX];
    uint8_t bytes[8];
    int fd = open(tmpdir_path(path, dir, f->name), O_WRONLY);

    codec_put64(bytes, value);
    CHECK_EQ_INT(pwrite(fd, bytes, 8, (off_t)at), 8);
    close(fd);
}

static void names_file(const struct file *f)
{
    CHECK(strstr(detail, f->name) != NULL);
    CHECK(strstr(detail, "byte ") != NULL);
    CHECK(strstr(detail, "--salvage") != NULL);
}

/* ---- pieces ----------------------------------------------------------------------------- */

TEST(crc_equals_the_bitwise_one)
{
    struct crc c;
    uint8_t bytes[100];

    crc_init(&c);
    harness_fill(bytes, 96, 5);
    for (size_t len = 0; len < 96; len++) {
        uint32_t want = 0;

        for (size_t i = 0; i < len; i++) {
            want ^= (uint32_t)bytes[i] << 24;
            for (int bit = 0; bit < 8; bit++)
                want = (want << 1) ^ ((want >> 31) * 0x04C11DB7u);
        }
        CHECK_EQ_HEX(crc_of(&c, bytes, len), want);
        CHECK_EQ_HEX(crc_more(&c, crc_of(&c, bytes, len / 3), bytes + len / 3, len - len / 3),
                     want);
    }
}

TEST(descriptor_round_trip_and_damage)
{
    struct log_descriptor d = {1, 2, 3, UINT64_MAX, "abcdefghijklmno"}, back;
    uint8_t bytes[LOG_DESCRIPTOR_SIZE];

    log_descriptor_encode(&d, bytes);
    CHECK_EQ_INT(log_descriptor_decode(slice_of(bytes, sizeof(bytes)), &back), 0);
    CHECK_EQ_MEM(&back, &d, sizeof(d));
    for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_LT_INT(log_descriptor_decode(slice_of(bytes, sizeof(bytes)), &back), 0);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = 0; len < sizeof(bytes); len++)
        CHECK_EQ_INT(log_descriptor_decode(slice_of(bytes, len), &back), ERR_CORRUPT);
    codec_put32(bytes, 2);
    CHECK_EQ_INT(log_descriptor_decode(slice_of(bytes, sizeof(bytes)), &back), ERR_VERSION);
}

/* ---- whole logs ------------------------------------------------------------------------- */

TEST(an_undamaged_log)
{
    struct log_check_report r;
    const char *dir = tmpdir();

    for (int snapshot = 0; snapshot < 2; snapshot++) {
        struct image *im = make(snapshot);

        unpack(im, dir);
        CHECK_EQ_INT(check(dir, im->last, true, &r), 0);
        CHECK_EQ_U64(r.last_index, im->last);
        CHECK_EQ_U64(r.snapshot_index, im->snapshot);
        CHECK_EQ_U64(r.mended, 0);
        CHECK(!r.fresh);
        CHECK_EQ_INT(check(dir, im->last + 1, true, &r), ERR_CORRUPT);
        start_and_compare(im, dir, im->last);
        free(im);
    }
}

/* A flip in a closed segment, the snapshot, or an open batch that is not the last: refused. */
TEST(flips_where_a_checksum_sees_them)
{
    struct image *im = make(true);
    struct file *files[] = {im->closed, im->open, im->meta, im->data};
    struct log_check_report r;
    const char *dir = tmpdir();

    unpack(im, dir);
    for (int i = 0; i < 4; i++) {
        const struct file *f = files[i];
        size_t end = f == im->open ? im->last_batch : f->len;

        for (size_t at = 0; at < end; at += at < 200 ? 1 : 7) {
            flip(dir, f, at, (uint8_t)(1u << at % 8));
            CHECK_LT_INT(check(dir, 0, true, &r), 0);
            CHECK(strstr(detail, f->name) != NULL);
            flip(dir, f, at, 0);
        }
    }
    CHECK_EQ_INT(check(dir, im->last, true, &r), 0); /* no refusal changed a file */
    CHECK_EQ_U64(r.mended, 0);
    free(im);
}

/* In the last batch a flip looks like a torn write: only must_have can tell. */
TEST(flips_in_the_last_batch)
{
    struct image *im = make(false);
    struct log_check_report r;
    const char *dir = tmpdir();

    unpack(im, dir);
    for (size_t at = im->last_batch; at < im->open->end; at += 3) {
        flip(dir, im->open, at, 0x10);
        CHECK_EQ_INT(check(dir, im->last, false, &r), ERR_CORRUPT);
        CHECK_EQ_INT(check(dir, im->last - 1, false, &r), 0);
        CHECK_EQ_U64(r.last_index, im->last - 1);
        if ((at - im->last_batch) % 99 == 0) {
            CHECK_EQ_INT(check(dir, 0, true, &r), 0);
            CHECK_EQ_U64(r.mended, 1);
            CHECK_EQ_INT(check(dir, 0, true, &r), 0);
            CHECK_EQ_U64(r.mended, 0); /* mended once is mended */
            start_and_compare(im, dir, im->last - 1);
            unpack(im, dir);
        }
        flip(dir, im->open, at, 0);
    }
    free(im);
}

/* Bytes behind the last batch: nothing acknowledged is touched, so all must be there. */
TEST(flips_in_the_zeros)
{
    struct image *im = make(false);
    struct log_check_report r;
    const char *dir = tmpdir();

    CHECK(im->spare != NULL);
    unpack(im, dir);
    for (size_t at = im->open->end; at < im->open->len; at += 101) {
        flip(dir, im->open, at, 0x80);
        CHECK_EQ_INT(check(dir, im->last, false, &r), 0);
        CHECK_EQ_U64(r.last_index, im->last);
        flip(dir, im->open, at, 0);
    }
    for (size_t at = 8; at < im->spare->len; at += 997) {
        flip(dir, im->spare, at, 0x80);
        CHECK_EQ_INT(check(dir, im->last, false, &r), 0);
        flip(dir, im->spare, at, 0);
    }
    flip(dir, im->spare, 1000, 0x80);
    flip(dir, im->open, im->open->end + 9, 0x80);
    CHECK_EQ_INT(check(dir, im->last, true, &r), 0);
    CHECK_EQ_U64(r.mended, 2);
    start_and_compare(im, dir, im->last);
    free(im);
}

/* metadata has no checksum: whatever is accepted must still give every entry. */
TEST(flips_in_metadata)
{
    struct image *im = make(false);
    struct log_check_report r;
    const char *dir = tmpdir();
    unsigned refused = 0, accepted = 0;

    for (size_t bit = 0; bit < im->metadata->len * 8; bit += bit < 192 ? 5 : 17) {
        unpack(im, dir);
        flip(dir, im->metadata, bit / 8, (uint8_t)(1u << bit % 8));
        if (check(dir, im->last, true, &r) != 0) {
            CHECK(strstr(detail, "metadata1") != NULL);
            refused++;
            continue;
        }
        accepted++;
        start_and_compare(im, dir, im->last);
    }
    CHECK_GT_INT(refused, 5);
    CHECK_GT_INT(accepted, 0);
    free(im);
}

/* ---- length ----------------------------------------------------------------------------- */

static uint64_t entries_within(const struct file *f, size_t len)
{
    size_t at = 8;
    uint64_t n = 0;

    while (at < f->end) {
        at += 32 + codec_get32(f->bytes + at + 28); /* one entry a batch */
        n += at <= len;
    }
    return n;
}

TEST(open_segment_cut_anywhere)
{
    struct image *im = make(false);
    uint64_t all = entries_within(im->open, im->open->len);
    struct log_check_report r;
    const char *dir = tmpdir();

    CHECK_GT_INT(all, 2);
    for (size_t len = 0; len < im->open->end + 600;) {
        uint64_t left = im->last - all + entries_within(im->open, len);

        unpack(im, dir);
        set_length(dir, im->open, len);
        CHECK_EQ_INT(check(dir, im->last, false, &r), left == im->last ? 0 : ERR_CORRUPT);
        CHECK_EQ_INT(check(dir, left, true, &r), 0);
        CHECK_EQ_U64(r.last_index, left);
        if (len % 1024 == 0 || (len < 26 && len % 3 < 2) ||
            (len > im->last_batch && len < im->last_batch + 40))
            start_and_compare(im, dir, left);
        len += len < 40 || (len >= im->last_batch - 2 && len < im->last_batch + 40) ? 1
               : len % 512 == 0                                                     ? 256
                                : 512 - len % 512;
    }
    unpack(im, dir); /* exactly behind the last batch: as finalizing leaves it */
    set_length(dir, im->open, im->open->end);
    CHECK_EQ_INT(check(dir, im->last, true, &r), 0);
    CHECK_EQ_U64(r.mended, 0);
    start_and_compare(im, dir, im->last);
    free(im);
}

TEST(closed_segment_and_snapshot_cut_anywhere)
{
    struct image *im = make(true);
    struct file *files[] = {im->closed, im->meta, im->data};
    struct log_check_report r;
    const char *dir = tmpdir();

    unpack(im, dir);
    for (int i = 0; i < 3; i++) {
        for (size_t len = 0; len < files[i]->len; len += i == 0 ? 509 : 3) {
            set_length(dir, files[i], len);
            CHECK_EQ_INT(check(dir, 0, true, &r), ERR_CORRUPT);
            names_file(files[i]);
            store_file(dir, files[i]);
        }
        set_length(dir, files[i], files[i]->len + 8); /* zeros behind it */
        CHECK_EQ_INT(check(dir, 0, true, &r), i == 0 ? 0 : ERR_CORRUPT);
        store_file(dir, files[i]);
    }
    free(im);
}

TEST(metadata_cut)
{
    struct image *im = make(false);
    struct log_check_report r;
    const char *dir = tmpdir();

    unpack(im, dir);
    for (size_t len = 0; len < im->metadata->len; len++) {
        set_length(dir, im->metadata, len);
        CHECK_EQ_INT(check(dir, 0, true, &r), ERR_CORRUPT); /* entries without metadata */
    }
    store_file(dir, im->metadata);
    set_length(dir, im->metadata, im->metadata->len + 1);
    CHECK_EQ_INT(check(dir, 0, true, &r), ERR_CORRUPT);
    names_file(im->metadata);
    free(im);
}

/* ---- files ------------------------------------------------------------------------------ */

/* Refused, or not needed: then everything is there. */
TEST(any_file_missing)
{
    struct log_check_report r;
    const char *dir = tmpdir();

    for (int snapshot = 0; snapshot < 2; snapshot++) {
        struct image *im = make(snapshot);

        for (size_t i = 0; i < im->n; i++) {
            char path[PATH_MAX];
            const struct file *f = &im->files[i];
            int rc;

            unpack(im, dir);
            unlink(tmpdir_path(path, dir, f->name));
            rc = check(dir, im->last, true, &r);
            if (f == im->open || f == im->metadata || f == im->closed || f == im->data ||
                f == im->meta || (!snapshot && f->name[0] == '0'))
                CHECK_EQ_INT(rc, ERR_CORRUPT);
            if (rc == 0) /* a spare, or a segment below the snapshot */
                start_and_compare(im, dir, im->last);
        }
        free(im);
    }
}

TEST(last_closed_segment_missing_is_seen_by_the_trailer)
{
    struct image *im = make(false);
    struct log_check_report r;
    const char *dir = tmpdir();
    char path[PATH_MAX];

    unpack(im, dir);
    unlink(tmpdir_path(path, dir, im->closed->name));
    CHECK_EQ_INT(check(dir, 0, true, &r), ERR_CORRUPT);
    CHECK(strstr(detail, "missing") != NULL);
    CHECK(strstr(detail, im->open->name) != NULL);
    free(im);
}

TEST(everything_missing)
{
    struct log_check_report r;
    const char *dir = tmpdir();

    CHECK_EQ_INT(check(dir, 0, true, &r), 0);
    CHECK(r.fresh);
    CHECK_EQ_INT(check(dir, 1, true, &r), ERR_CORRUPT);
    CHECK(strstr(detail, "gone") != NULL);
    CHECK_EQ_INT(check("/nonexistent", 0, true, &r), err_from_errno(ENOENT));
    CHECK(strstr(detail, "/nonexistent") != NULL);
}

/* metadata1 is written first, then the first segment under a temporary name. */
TEST(interrupted_bootstrap_starts_over)
{
    struct image *im = make(false);
    struct file tmp = {.name = "tmp-0000000000000001-0000000000000001", .len = 40};
    struct log_check_report r;
    const char *dir = tmpdir();
    struct harness h;

    unpack(im, dir);
    im->n = 0;
    unpack(im, dir);
    store_file(dir, &tmp);
    store_file(dir, im->metadata);
    CHECK_EQ_INT(check(dir, 1, true, &r), ERR_CORRUPT);
    CHECK_EQ_INT(check(dir, 0, true, &r), 0);
    CHECK(r.fresh);
    harness_init(&h, LOG_RAFT, dir);
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK(harness_propose_all(&h, 1, 3, 64, 1));
    harness_fini(&h);
    store_file(dir, im->metadata); /* but not where an open segment says that it ran */
    im->n = 0;
    unpack(im, dir);
    store_file(dir, im->metadata);
    store_file(dir, im->spare);
    CHECK_EQ_INT(check(dir, 0, true, &r), ERR_CORRUPT);
    free(im);
}

TEST(half_a_snapshot_is_ignored)
{
    struct image *im = make(false);
    struct file meta = {.name = "snapshot-1-99-1.meta", .len = 40};
    struct file data = {.name = "snapshot-1-98-1", .len = 40};
    struct log_check_report r;
    const char *dir = tmpdir();

    unpack(im, dir);
    store_file(dir, &meta);
    store_file(dir, &data);
    CHECK_EQ_INT(check(dir, im->last, true, &r), 0);
    CHECK_EQ_U64(r.snapshot_index, 0);
    start_and_compare(im, dir, im->last);
    free(im);
}

/* ---- order ------------------------------------------------------------------------------ */

/* Filled, written on in the next one, and not renamed yet when the power went. */
TEST(two_open_segments)
{
    struct image *im = make(false);
    struct log_check_report r;
    const char *dir = tmpdir();
    char from[PATH_MAX], to[PATH_MAX];
    struct file older = *im->closed;

    snprintf(older.name, sizeof(older.name), "open-0");
    unpack(im, dir);
    rename(tmpdir_path(from, dir, im->closed->name), tmpdir_path(to, dir, "open-0"));
    CHECK_EQ_INT(check(dir, im->last, true, &r), 0);
    CHECK_EQ_U64(r.mended, 0);
    flip(dir, &older, older.len - 3, 1); /* its last batch: entries follow, so not torn */
    CHECK_EQ_INT(check(dir, 0, true, &r), ERR_CORRUPT);
    CHECK(strstr(detail, im->open->name) != NULL);
    flip(dir, &older, older.len - 3, 0);
    start_and_compare(im, dir, im->last);
    free(im);
}

/* A batch further on, in any place a later write could have put it. */
TEST(a_batch_behind_a_spoilt_one)
{
    struct image *im = make(false);
    struct file *f = im->open;
    struct log_check_report r;
    const char *dir = tmpdir();
    size_t size = f->end - im->last_batch;

    for (size_t at = f->end + 8; at + size <= f->len && at < f->end + 900; at += 40) {
        struct file changed = *f;

        memcpy(changed.bytes + at, f->bytes + im->last_batch, size);
        unpack(im, dir);
        store_file(dir, &changed);
        CHECK_EQ_INT(check(dir, im->last, true, &r), ERR_CORRUPT);
        names_file(f);
    }
    free(im);
}

/* Payload that looks like a batch is no batch while the header around it is whole. */
TEST(payload_is_not_searched)
{
    struct harness h;
    struct image *im = make(false);
    const char *dir = tmpdir();
    size_t size = im->open->end - im->last_batch;
    struct log_check_report r;
    size_t at;

    harness_init(&h, LOG_RAFT, dir);
    h.config.segment_bytes = SEGMENT;
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_INT(log_propose(h.log, slice_of(im->open->bytes + im->last_batch, size), 1), 0);
    CHECK(harness_until(&h, 1));
    memset(im, 0, sizeof(*im));
    load(im, dir);
    harness_fini(&h);
    for (size_t i = 0; i < im->n; i++)
        if (strcmp(im->files[i].name, "open-1") == 0)
            im->open = &im->files[i];
    CHECK(im->open != NULL);
    at = 8 + 32 + size + 4; /* in the trailer: the data's checksum breaks */
    unpack(im, dir);
    flip(dir, im->open, at, 4);
    CHECK_EQ_INT(check(dir, 0, false, &r), 0);
    CHECK_EQ_U64(r.last_index, 1);
    flip(dir, im->open, at, 0);
    flip(dir, im->open, 8, 1); /* the header's: now nothing says where it ends */
    CHECK_EQ_INT(check(dir, 0, false, &r), ERR_CORRUPT);
    free(im);
}

TEST(newer_formats_are_refused_as_such)
{
    struct image *im = make(true);
    struct file *files[] = {im->closed, im->open, im->meta, im->metadata};
    struct log_check_report r;
    const char *dir = tmpdir();

    unpack(im, dir);
    for (int i = 0; i < 4; i++) {
        put64(dir, files[i], 0, 2);
        CHECK_EQ_INT(check(dir, 0, true, &r), ERR_VERSION);
        CHECK(strstr(detail, files[i]->name) != NULL);
        CHECK(strstr(detail, "--salvage") != NULL); /* one bit may have made it so */
        put64(dir, files[i], 0, 1ull << 40);
        CHECK_EQ_INT(check(dir, 0, true, &r), ERR_CORRUPT);
        put64(dir, files[i], 0, 1);
    }
    put64(dir, im->data, 0, 2);
    CHECK_EQ_INT(check(dir, 0, true, &r), ERR_VERSION);
    free(im);
}

/* A server: id, address, role. */
static size_t put_server(uint8_t *out, uint64_t id, const char *address, uint8_t role)
{
    size_t len = strlen(address) + 1;

    codec_put64(out, id);
    memcpy(out + 8, address, len);
    out[8 + len] = role;
    return 8 + len + 1;
}

TEST(configurations)
{
    uint8_t c[64] = {1}; /* format */
    size_t len = 9, second;

    codec_put64(c + 1, 2);
    len += put_server(c + len, 1, "node-1", 1);
    second = len;
    len += put_server(c + len, 2, "node-2", 0);
    for (size_t cut = 0; cut < len; cut++)
        CHECK(!configuration_whole(slice_of(c, cut)));
    CHECK(configuration_whole(slice_of(c, len)));
    CHECK(configuration_whole(slice_of(c, len + 5))); /* padding */
    put_server(c + second, 1, "node-2", 0);
    CHECK(!configuration_whole(slice_of(c, len)));
    put_server(c + second, 2, "node-1", 0);
    CHECK(!configuration_whole(slice_of(c, len)));
    put_server(c + second, 2, "node-2", 3);
    CHECK(!configuration_whole(slice_of(c, len)));
    put_server(c + second, 2, "node-2", 2);
    CHECK(configuration_whole(slice_of(c, len)));
    c[0] = 2;
    CHECK(!configuration_whole(slice_of(c, len)));
    c[0] = 1;
    codec_put64(c + 1, UINT64_MAX);
    CHECK(!configuration_whole(slice_of(c, len)));
}

/* Names that are nearly right must not be taken for segments. */
TEST(foreign_names_are_left_alone)
{
    static const char *const names[] = {"open-",
                                        "open-1x",
                                        "open--1",
                                        "1-",
                                        "-1",
                                        "0000000000000001-",
                                        "99999999999999999999999-1",
                                        "corrupt-1-open-1",
                                        "snapshot-1-2",
                                        "snapshot-1-2-",
                                        "snapshot-1-2-3x"};
    struct image *im = make(false);
    struct log_check_report r;
    const char *dir = tmpdir();

    unpack(im, dir);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct file f = {.len = 13};

        snprintf(f.name, sizeof(f.name), "%s", names[i]);
        store_file(dir, &f);
    }
    CHECK_EQ_INT(check(dir, im->last, true, &r), 0);
    CHECK_EQ_U64(r.mended, 0);
    free(im);
}

int main(int argc, char **argv)
{
    logger_set_level(LOGGER_WARNING); /* thousands of mends would each say so */
    return test_main(argc, argv);
}
