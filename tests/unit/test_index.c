/* SPDX-License-Identifier: MIT */
#include "store/index.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/err.h"
#include "store/index_int.h"
#include "test.h"
#include "tmpdir.h"

static char path[PATH_MAX];
static char detail[INDEX_DETAIL_MAX];

static struct index *fresh(void)
{
    struct index *ix = NULL;

    tmpdir_path(path, tmpdir(), "index.mdb");
    CHECK_EQ_INT(index_open(path, &ix, detail), 0);
    return ix;
}

static struct index *again(struct index *ix)
{
    struct index *next = NULL;

    index_close(ix);
    CHECK_EQ_INT(index_open(path, &next, detail), 0);
    return next;
}

static size_t encode(struct slice key, const char *data, uint64_t expire_ms, uint8_t *out)
{
    struct record r = {.kind = RECORD_INLINE,
                       .expire_ms = expire_ms,
                       .length = strlen(data),
                       .data = slice_str(data)};

    record_encode(&r, key, out);
    return record_size(&r);
}

static void put(struct index *ix, const char *key, const char *data, uint64_t expire_ms)
{
    uint8_t bytes[256];
    size_t len = encode(slice_str(key), data, expire_ms, bytes);

    CHECK_EQ_INT(index_write_put(ix, slice_str(key), slice_of(bytes, len)), 0);
}

static void set_keys(struct index *ix, uint64_t keys)
{
    struct index_state s = {.keys = keys};

    CHECK_EQ_INT(index_write_state(ix, &s), 0);
}

static void commit(struct index *ix)
{
    CHECK_EQ_INT(index_write_commit(ix), 0);
    CHECK_EQ_INT(index_renew(ix), 0);
}

static void check_data(struct index *ix, const char *key, const char *data)
{
    struct index_buf b = {0};
    struct record r;

    CHECK_EQ_INT(index_get(ix, slice_str(key), &b), 0);
    CHECK_EQ_INT(record_decode(slice_str(key), slice_of(b.mem, b.len), &r), 0);
    CHECK(slice_eq(r.data, slice_str(data)));
    index_buf_fini(&b);
}

static void check_absent(struct index *ix, const char *key)
{
    struct index_buf b = {0};

    CHECK_EQ_INT(index_get(ix, slice_str(key), &b), ERR_NOTFOUND);
    index_buf_fini(&b);
}

struct list {
    char text[512];
    unsigned left; /* rows until the callback stops */
};

static bool add_key(void *ctx, struct slice key, struct slice value)
{
    struct list *l = ctx;
    size_t len = strlen(l->text);

    (void)value;
    snprintf(l->text + len, sizeof(l->text) - len, "%.*s ", (int)key.len, (const char *)key.ptr);
    return --l->left > 0;
}

static bool add_expiry(void *ctx, uint64_t expire_ms, struct slice key)
{
    struct list *l = ctx;
    size_t len = strlen(l->text);

    snprintf(l->text + len, sizeof(l->text) - len, "%" PRIu64 ":%.*s ", expire_ms, (int)key.len,
             (const char *)key.ptr);
    return --l->left > 0;
}

static const char *expiries(struct index *ix, uint64_t from_ms, const char *from, uint64_t upto)
{
    static struct list l;

    l = (struct list){.left = 100};
    CHECK_EQ_INT(index_scan_expiry(ix, from_ms, slice_str(from), upto, add_expiry, &l), 0);
    return l.text;
}

static const char *keys(struct index *ix, const char *from, bool after, unsigned limit)
{
    static struct list l;

    l = (struct list){.left = limit};
    CHECK_EQ_INT(index_scan(ix, slice_str(from), after, add_key, &l), 0);
    return l.text;
}

TEST(new_index_is_empty)
{
    struct index *ix = fresh();
    struct index_state s = {.keys = 9};
    struct volume_row *rows;
    size_t n;
    struct index_buf b = {0};
    struct stat st;

    CHECK_EQ_INT(index_load_state(ix, &s), 0);
    CHECK_EQ_U64(s.keys, 0);
    CHECK_EQ_U64(s.boot, 0);
    CHECK_EQ_INT(index_load_volumes(ix, &rows, &n), 0);
    CHECK_EQ_INT(n, 0);
    CHECK_EQ_U64(index_count(ix), 0);
    CHECK_EQ_INT(index_last(ix, &b), ERR_NOTFOUND);
    CHECK_EQ_STR(keys(ix, "", false, 9), "");
    CHECK_EQ_INT(stat(path, &st), 0);
    CHECK_EQ_INT(st.st_mode & 0777, 0600);
    free(rows);
    index_buf_fini(&b);
    index_close(ix);
}

TEST(put_get_del_survive_reopening)
{
    struct index *ix = fresh();

    CHECK_EQ_INT(index_write_begin(ix, 1 << 20), 0);
    put(ix, "a", "1", 0);
    put(ix, "b", "2", 0);
    check_absent(ix, "a"); /* the loop's snapshot is older */
    commit(ix);
    check_data(ix, "a", "1");
    CHECK_EQ_INT(index_write_begin(ix, 1 << 20), 0);
    put(ix, "a", "one", 0);
    CHECK_EQ_INT(index_write_del(ix, slice_str("b")), 0);
    CHECK_EQ_INT(index_write_del(ix, slice_str("never")), 0);
    commit(ix);
    ix = again(ix);
    check_data(ix, "a", "one");
    check_absent(ix, "b");
    CHECK_EQ_U64(index_count(ix), 1);
    index_close(ix);
}

TEST(abort_changes_nothing)
{
    struct index *ix = fresh();

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    put(ix, "a", "1", 50);
    index_write_abort(ix);
    CHECK_EQ_INT(index_renew(ix), 0);
    check_absent(ix, "a");
    CHECK_EQ_U64(index_count_expiry(ix), 0);
    index_close(ix);
}

TEST(expiry_rows_follow_the_records)
{
    struct index *ix = fresh();

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    put(ix, "a", "1", 300);
    put(ix, "b", "1", 100);
    put(ix, "c", "1", 0);
    put(ix, "d", "1", 200);
    commit(ix);
    CHECK_EQ_STR(expiries(ix, 0, "", UINT64_MAX), "100:b 200:d 300:a ");
    CHECK_EQ_STR(expiries(ix, 0, "", 200), "100:b 200:d ");
    CHECK_EQ_STR(expiries(ix, 100, "b", 299), "200:d ");
    CHECK_EQ_STR(expiries(ix, 0, "", 99), "");

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    put(ix, "a", "2", 300); /* the same deadline */
    put(ix, "b", "2", 400); /* another */
    put(ix, "c", "2", 50);  /* gets one */
    put(ix, "d", "2", 0);   /* loses it */
    commit(ix);
    CHECK_EQ_STR(expiries(ix, 0, "", UINT64_MAX), "50:c 300:a 400:b ");

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_del(ix, slice_str("a")), 0);
    CHECK_EQ_INT(index_write_del_expiry(ix, 50, slice_str("c")), 0);
    CHECK_EQ_INT(index_write_del_expiry(ix, 51, slice_str("c")), 0);
    commit(ix);
    CHECK_EQ_STR(expiries(ix, 0, "", UINT64_MAX), "400:b ");
    index_close(ix);
}

TEST(longest_key_with_expiry)
{
    struct index *ix = fresh();
    uint8_t key[RECORD_KEY_MAX], bytes[256];
    struct slice k = slice_of(key, sizeof(key));
    struct index_buf b = {0};
    size_t len;

    memset(key, 0xff, sizeof(key));
    len = encode(k, "v", UINT64_MAX, bytes);
    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_put(ix, k, slice_of(bytes, len)), 0);
    commit(ix);
    CHECK_EQ_INT(index_get(ix, k, &b), 0);
    CHECK_EQ_MEM(b.mem, bytes, len);
    CHECK_EQ_INT(index_last(ix, &b), 0);
    CHECK_EQ_MEM(b.mem, key, sizeof(key));
    CHECK_EQ_U64(index_count_expiry(ix), 1);
    index_buf_fini(&b);
    index_close(ix);
}

TEST(scan_in_order)
{
    struct index *ix = fresh();

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    put(ix, "b", "", 0);
    put(ix, "ab", "", 0);
    put(ix, "a", "", 0);
    put(ix, "c", "", 0);
    commit(ix);
    CHECK_EQ_STR(keys(ix, "", false, 9), "a ab b c ");
    CHECK_EQ_STR(keys(ix, "ab", false, 9), "ab b c ");
    CHECK_EQ_STR(keys(ix, "ab", true, 9), "b c ");
    CHECK_EQ_STR(keys(ix, "aa", true, 1), "ab ");
    CHECK_EQ_STR(keys(ix, "c", true, 9), "");
    CHECK_EQ_STR(keys(ix, "zz", false, 9), "");
    index_close(ix);
}

TEST(state_and_volumes)
{
    struct index *ix = fresh();
    struct index_state s = {.flags = INDEX_CLEAN,
                            .node = 3,
                            .boot = 1700000000,
                            .cluster = "0123456789abcde",
                            .applied = 1,
                            .term = 2,
                            .clock_ms = 3,
                            .keys = 0,
                            .bytes = 5},
                       back;
    struct volume_row rows[2] = {
        {.number = 256, .generation = 7, .state = VOLUME_OPEN, .cursor = 8192, .opened_ms = 4},
        {.number = 1, .generation = 1, .state = VOLUME_SEALED, .live_bytes = 9, .live_records = 2},
    };
    uint8_t bytes[STATE_SIZE], want[STATE_SIZE];
    struct volume_row *got;
    size_t n;

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_state(ix, &s), 0);
    CHECK_EQ_INT(index_write_volumes(ix, rows, 2), 0);
    commit(ix);
    ix = again(ix);
    CHECK_EQ_INT(index_load_state(ix, &back), 0);
    index_state_encode(&s, want);
    index_state_encode(&back, bytes);
    CHECK_EQ_MEM(bytes, want, sizeof(want));
    CHECK_EQ_INT(index_load_volumes(ix, &got, &n), 0);
    CHECK_EQ_INT(n, 2);
    CHECK_EQ_INT(got[0].number, 1);
    CHECK_EQ_INT(got[0].state, VOLUME_SEALED);
    CHECK_EQ_U64(got[0].live_bytes, 9);
    CHECK_EQ_U64(got[0].live_records, 2);
    CHECK_EQ_INT(got[1].number, 256);
    CHECK_EQ_INT(got[1].generation, 7);
    CHECK_EQ_U64(got[1].cursor, 8192);
    CHECK_EQ_U64(got[1].opened_ms, 4);
    free(got);

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_volumes(ix, rows, 1), 0); /* the rest goes */
    commit(ix);
    CHECK_EQ_INT(index_load_volumes(ix, &got, &n), 0);
    CHECK_EQ_INT(n, 1);
    free(got);
    index_close(ix);
}

TEST(golden_rows)
{
    static const uint8_t golden_volume[] = {
        1, 2, 0, 0, 4, 3, 2, 1, 0, 0x10, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0,
        0, 0, 0, 0, 6, 0, 0, 0, 0, 0,    0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
    };
    struct volume_row v = {.number = 0x0a0b0c0d,
                           .generation = 0x01020304,
                           .state = VOLUME_OPEN,
                           .cursor = 4096,
                           .live_bytes = 5,
                           .live_records = 6,
                           .opened_ms = 7},
                      back;
    struct index_state s = {.flags = 1, .node = 2, .boot = 3, .applied = 4}, state;
    uint8_t key[4], row[VOLUME_ROW_SIZE], bytes[STATE_SIZE];

    index_volume_encode(&v, key, row);
    CHECK_EQ_MEM(key, "\x0a\x0b\x0c\x0d", 4);
    CHECK_EQ_MEM(row, golden_volume, sizeof(golden_volume));
    for (size_t i = 0; i < sizeof(row); i++) {
        row[i] ^= 0x10;
        CHECK_EQ_INT(index_volume_decode(slice_of(key, 4), slice_of(row, sizeof(row)), &back),
                     ERR_CORRUPT);
        row[i] ^= 0x10;
    }
    CHECK_EQ_INT(index_volume_decode(slice_of(key, 4), slice_of(row, sizeof(row)), &back), 0);
    CHECK_EQ_INT(index_volume_decode(slice_str("abcd"), slice_of(row, sizeof(row)), &back),
                 ERR_CORRUPT);

    index_state_encode(&s, bytes);
    CHECK_EQ_MEM(bytes, "\1\0\0\0\1\0\0\0", 8);
    CHECK_EQ_MEM(bytes + 24, "\2\0\0\0\3\0\0\0\4\0\0\0\0\0\0\0", 16);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] ^= 1;
        CHECK_EQ_INT(index_state_decode(slice_of(bytes, sizeof(bytes)), &state), ERR_CORRUPT);
        bytes[i] ^= 1;
    }
    CHECK_EQ_INT(index_state_decode(slice_of(bytes, sizeof(bytes) - 1), &state), ERR_CORRUPT);
    CHECK_EQ_INT(index_state_decode(slice_of(bytes, sizeof(bytes)), &state), 0);
}

TEST(drop_keys)
{
    struct index *ix = fresh();

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    for (int i = 0; i < 2000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%d", i);
        put(ix, key, "some data", 1000);
    }
    commit(ix);
    CHECK_EQ_U64(index_count(ix), 2000);
    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_drop_keys(ix), 0);
    put(ix, "after", "x", 0);
    commit(ix);
    CHECK_EQ_U64(index_count(ix), 1);
    CHECK_EQ_U64(index_count_expiry(ix), 0);
    check_data(ix, "after", "x");
    index_close(ix);
}

TEST(verify_counts_and_finds)
{
    struct index *ix = fresh();
    uint64_t n, bad;
    uint8_t bytes[256];
    size_t len;

    CHECK_EQ_INT(index_verify(ix, &n, &bad, NULL, NULL), 0);
    CHECK_EQ_U64(n, 0);
    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    put(ix, "a", "1", 10);
    put(ix, "b", "2", 0);
    set_keys(ix, 2);
    commit(ix);
    CHECK_EQ_INT(index_verify(ix, &n, &bad, NULL, NULL), 0);
    CHECK_EQ_U64(n, 2);
    CHECK_EQ_U64(bad, 0);

    len = encode(slice_str("c"), "3", 0, bytes); /* sealed for another key */
    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_put(ix, slice_str("x"), slice_of(bytes, len)), 0);
    CHECK_EQ_INT(index_write_del_expiry(ix, 10, slice_str("a")), 0); /* a is never swept */
    set_keys(ix, 3);
    commit(ix);
    CHECK_EQ_INT(index_verify(ix, &n, &bad, NULL, NULL), 0);
    CHECK_EQ_U64(n, 3);
    CHECK_EQ_U64(bad, 2);

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    set_keys(ix, 4); /* as if a subtree were hidden */
    commit(ix);
    CHECK_EQ_INT(index_verify(ix, &n, &bad, NULL, NULL), ERR_CORRUPT);
    index_close(ix);
}

TEST(copy_is_a_complete_index)
{
    struct index *ix = fresh();
    char copy[PATH_MAX + 8];

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    put(ix, "a", "1", 10);
    commit(ix);
    snprintf(copy, sizeof(copy), "%s.copy", path);
    CHECK_EQ_INT(index_copy(ix, copy), 0);
    CHECK_EQ_INT(index_copy(ix, copy), ERR_EXISTS);
    index_close(ix);
    CHECK_EQ_INT(index_open(copy, &ix, detail), 0);
    check_data(ix, "a", "1");
    CHECK_EQ_U64(index_count_expiry(ix), 1);
    index_close(ix);
}

TEST(stats_and_estimate)
{
    struct index *ix = fresh();
    struct index_stats s;
    uint64_t used;

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    for (int i = 0; i < 1000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%d", i);
        put(ix, key, "data", 0);
    }
    commit(ix);
    CHECK_EQ_INT(index_get_stats(ix, &s), 0);
    CHECK_EQ_U64(s.keys, 1000);
    CHECK_GE_U64(s.depth, 2);
    CHECK_LE_U64(s.used_bytes, s.file_bytes);
    used = s.used_bytes;
    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_drop_keys(ix), 0);
    commit(ix);
    CHECK_EQ_INT(index_get_stats(ix, &s), 0);
    CHECK_LT_U64(s.used_bytes, used);
    CHECK_GT_U64(s.free_pages, 10);
    /* Few rows: their pages; many rows: never more than about the whole tree twice. */
    CHECK_LT_U64(index_write_estimate(ix, 1, 100), 3 << 20);
    CHECK_LT_U64(index_write_estimate(ix, 65536, 1 << 20), 32 << 20);
    CHECK_GT_U64(index_write_estimate(ix, 65536, 64 << 20), 64 << 20);
    index_close(ix);
}

/* The estimate is what begin reserves: the file may not outgrow it. */
TEST(estimate_covers_a_random_merge)
{
    struct index *ix = fresh();
    struct index_stats s;

    for (int round = 0; round < 4; round++) {
        uint64_t before, limit;

        CHECK_EQ_INT(index_get_stats(ix, &s), 0);
        before = s.file_bytes;
        limit = index_write_estimate(ix, 2 * 3000, 3000 * 80);
        CHECK_EQ_INT(index_write_begin(ix, limit), 0);
        for (int i = 0; i < 3000; i++) {
            char key[32];

            snprintf(key, sizeof(key), "%08x", (unsigned)(i * 2654435761u + (unsigned)round));
            put(ix, key, "0123456789", 1000 + (uint64_t)i * 7919 % 3000);
        }
        commit(ix);
        CHECK_EQ_INT(index_get_stats(ix, &s), 0);
        CHECK_LE_U64(s.file_bytes - before, limit);
    }
    index_close(ix);
}

TEST(reserve_allocates_behind_the_end)
{
    struct index *ix = fresh();
    struct stat st;

    CHECK_EQ_INT(index_write_begin(ix, 4 << 20), 0);
    index_write_abort(ix);
    CHECK_EQ_INT(stat(path, &st), 0);
    CHECK_LT_INT(st.st_size, 1 << 20);
    CHECK_GE_INT(st.st_blocks * 512, (int64_t)INDEX_FILE_RESERVE);
    index_close(ix);
}

static void flip(const char *file, off_t offset)
{
    int fd = open(file, O_RDWR);
    uint8_t byte;

    CHECK(fd >= 0);
    CHECK_EQ_INT(pread(fd, &byte, 1, offset), 1);
    byte ^= 0xff;
    CHECK_EQ_INT(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

TEST(damaged_meta_pages_are_refused)
{
    struct index *ix = fresh();

    index_close(ix);
    flip(path, 16); /* magic of the first meta page */
    CHECK_EQ_INT(index_open(path, &ix, detail), ERR_CORRUPT);
    CHECK(strstr(detail, "index.mdb") != NULL);
    CHECK(strstr(detail, "sldmkv-check") != NULL);
}

TEST(short_files_are_refused)
{
    struct index *ix = fresh();
    struct stat st;

    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    for (int i = 0; i < 5000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%d", i);
        put(ix, key, "some data to fill pages", 0);
    }
    set_keys(ix, 5000);
    commit(ix);
    index_close(ix);
    CHECK_EQ_INT(stat(path, &st), 0);
    CHECK_EQ_INT(truncate(path, st.st_size / 2 / 4096 * 4096), 0);
    CHECK_EQ_INT(index_open(path, &ix, detail), ERR_CORRUPT);
    CHECK(strstr(detail, "index.mdb") != NULL);
    CHECK_EQ_INT(truncate(path, 100), 0);
    CHECK_EQ_INT(index_open(path, &ix, detail), ERR_CORRUPT);
}

TEST(foreign_file_is_refused)
{
    struct index *ix = NULL;
    int fd;

    tmpdir_path(path, tmpdir(), "index.mdb");
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < 2000; i++)
        CHECK_EQ_INT(write(fd, "garbage\n", 8), 8);
    close(fd);
    CHECK_EQ_INT(index_open(path, &ix, detail), ERR_CORRUPT);
    CHECK(ix == NULL);
    CHECK_EQ_INT(index_open("/nonexistent/dir/index.mdb", &ix, detail), ERR_NOTFOUND);
    CHECK(strstr(detail, "/nonexistent/dir") != NULL);
}

TEST(leftovers_of_a_torn_creation_are_replaced)
{
    struct index *ix = NULL;
    char new_path[PATH_MAX + 8];
    int fd;

    tmpdir_path(path, tmpdir(), "index.mdb");
    snprintf(new_path, sizeof(new_path), "%s.new", path);
    fd = open(new_path, O_CREAT | O_WRONLY, 0600);
    CHECK_EQ_INT(write(fd, "torn", 4), 4);
    close(fd);
    CHECK_EQ_INT(index_open(path, &ix, detail), 0);
    CHECK_EQ_INT(access(new_path, F_OK), -1);
    index_close(ix);
}

TEST_MAIN
