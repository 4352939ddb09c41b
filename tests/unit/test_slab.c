/* SPDX-License-Identifier: MIT */
#include "store/slab.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>

#include "base/err.h"
#include "test.h"
#include "tmpdir.h"

static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static int allocate_error;

static int refuse_fallocate(void *ctx, int fd, int mode, off_t offset, off_t len)
{
    (void)ctx, (void)fd, (void)mode, (void)offset, (void)len;
    errno = allocate_error;
    return -1;
}

static struct io_ops refusing(int error)
{
    struct io_ops io = io_system;

    allocate_error = error;
    io.fallocate = refuse_fallocate;
    return io;
}

static bool exists(const char *dir, const char *name)
{
    char path[PATH_MAX];

    return access(tmpdir_path(path, dir, name), F_OK) == 0;
}

static void write_page(struct slab *s, uint64_t offset, char with)
{
    char *page;

    CHECK_EQ_INT(posix_memalign((void **)&page, 4096, 4096), 0);
    memset(page, with, 4096);
    CHECK_EQ_INT(pwrite(s->fd, page, 4096, (off_t)(s->base + offset)), 4096);
    free(page);
}

/* Where LMDB sees a byte of the value area: behind the volume header inside the value. */
static char through_lmdb(const char *path, uint64_t offset)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val key = {1, (char[]){'v'}}, value;
    char out;

    CHECK_EQ_INT(mdb_env_create(&env), 0);
    CHECK_EQ_INT(mdb_env_set_mapsize(env, (size_t)64 << 20), 0);
    CHECK_EQ_INT(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK, 0), 0);
    CHECK_EQ_INT(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    CHECK_EQ_INT(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    CHECK_EQ_INT(mdb_get(txn, dbi, &key, &value), 0);
    CHECK(4080 + 4096 + offset < value.mv_size);
    out = ((char *)value.mv_data)[4080 + 4096 + offset];
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return out;
}

static void check_usable(const char *dir, uint32_t number)
{
    char path[PATH_MAX];
    struct slab s;

    CHECK_EQ_INT(slab_open(dir, number, uuid, &s), 0);
    CHECK_EQ_U64(s.number, number);
    CHECK_EQ_U64(s.base % 4096, 0);
    CHECK_EQ_U64(s.capacity, slab_capacity(SLAB_SIZE_MIN));
    CHECK_GT_INT((int64_t)s.capacity, (int64_t)SLAB_SIZE_MIN - (64 << 10));
    CHECK_EQ_MEM(s.uuid, uuid, 16);
    write_page(&s, 0, 'a');
    write_page(&s, s.capacity - 4096, 'z');
    CHECK_EQ_INT(fdatasync(s.fd), 0);
    slab_path(dir, number, path, sizeof(path));
    CHECK_EQ_INT(through_lmdb(path, 0), 'a');
    CHECK_EQ_INT(through_lmdb(path, s.capacity - 1), 'z');
    slab_close(&s);
    CHECK_EQ_INT(slab_open(dir, number, uuid, &s), 0); /* found again behind written pages */
    slab_close(&s);
}

TEST(format_makes_an_lmdb_file_whose_value_we_can_write)
{
    const char *dir = tmpdir();
    char path[PATH_MAX];
    struct stat st;

    CHECK_EQ_INT(slab_format(&io_system, dir, 1, SLAB_SIZE_MIN, uuid), 0);
    CHECK_EQ_INT(stat(tmpdir_path(path, dir, "vol-0001.mdb"), &st), 0);
    CHECK_EQ_INT(st.st_size, (int64_t)SLAB_SIZE_MIN);
    CHECK_GE_INT(st.st_blocks * 512, (int64_t)SLAB_SIZE_MIN); /* reserved, not sparse */
    CHECK_EQ_INT(st.st_mode & 0777, 0600);
    CHECK(!exists(dir, "vol-0001.mdb.tmp"));
    CHECK(!exists(dir, "vol-0001.mdb-lock"));
    check_usable(dir, 1);
}

TEST(mdb_stat_reads_a_volume_in_service)
{
    const char *dir = tmpdir();
    char command[PATH_MAX + 64], line[256];
    struct slab s;
    bool entry = false;
    FILE *out;

    if (access("/usr/bin/mdb_stat", X_OK) != 0)
        return; /* without lmdb-utils the library itself has to do, above */
    CHECK_EQ_INT(slab_format(&io_system, dir, 12, SLAB_SIZE_MIN, uuid), 0);
    CHECK_EQ_INT(slab_open(dir, 12, uuid, &s), 0);
    write_page(&s, 4096, 'x');
    snprintf(command, sizeof(command), "/usr/bin/mdb_stat -n %s/vol-0012.mdb 2>&1", dir);
    out = popen(command, "r");
    CHECK(out != NULL);
    while (fgets(line, sizeof(line), out) != NULL)
        entry = entry || strstr(line, "Entries: 1") != NULL;
    CHECK_EQ_INT(pclose(out), 0);
    CHECK(entry);
    slab_close(&s);
}

TEST(without_fallocate_lmdb_writes_the_value)
{
    const char *dir = tmpdir();
    struct io_ops io = refusing(EOPNOTSUPP);

    CHECK_EQ_INT(slab_format(&io, dir, 3, SLAB_SIZE_MIN, uuid), 0);
    check_usable(dir, 3);
    CHECK_EQ_INT(slab_format(&io, dir, 4, SLAB_SIZE_MAX, uuid), ERR_UNSUPPORTED);
    CHECK(!exists(dir, "vol-0004.mdb") && !exists(dir, "vol-0004.mdb.tmp"));
}

TEST(a_full_disk_leaves_no_file)
{
    const char *dir = tmpdir();
    struct io_ops io = refusing(ENOSPC);

    CHECK_EQ_INT(slab_format(&io, dir, 1, SLAB_SIZE_MIN, uuid), ERR_NOSPC);
    CHECK(!exists(dir, "vol-0001.mdb") && !exists(dir, "vol-0001.mdb.tmp"));
    CHECK_EQ_INT(slab_format(&io_system, dir, 1, SLAB_SIZE_MIN, uuid), 0);
    CHECK_EQ_INT(slab_format(&io_system, dir, 1, SLAB_SIZE_MIN, uuid), ERR_EXISTS);
    check_usable(dir, 1);
}

TEST(a_leftover_of_an_interrupted_format_is_replaced)
{
    const char *dir = tmpdir();
    char path[PATH_MAX];
    int fd = open(tmpdir_path(path, dir, "vol-0001.mdb.tmp"), O_CREAT | O_WRONLY, 0600);

    CHECK_EQ_INT(write(fd, "half", 4), 4);
    close(fd);
    CHECK_EQ_INT(slab_format(&io_system, dir, 1, SLAB_SIZE_MIN, uuid), 0);
    check_usable(dir, 1);
}

TEST(sizes_that_are_no_multiple_of_a_page_are_rounded_down)
{
    const char *dir = tmpdir();
    struct slab s;

    CHECK_EQ_INT(slab_format(&io_system, dir, 1, SLAB_SIZE_MIN + 4095, uuid), 0);
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &s), 0);
    CHECK_EQ_U64(s.capacity, slab_capacity(SLAB_SIZE_MIN));
    slab_close(&s);
}

static void flip(const char *dir, const char *name, off_t at)
{
    char path[PATH_MAX];
    uint8_t byte;
    int fd = open(tmpdir_path(path, dir, name), O_RDWR);

    CHECK_EQ_INT(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    CHECK_EQ_INT(pwrite(fd, &byte, 1, at), 1);
    CHECK_EQ_INT(fsync(fd), 0);
    close(fd);
}

TEST(open_refuses_what_is_not_this_volume)
{
    const char *dir = tmpdir();
    uint8_t other[16] = {9};
    char a[PATH_MAX], b[PATH_MAX];
    struct slab s;

    CHECK_EQ_INT(slab_open(dir, 1, uuid, &s), ERR_NOTFOUND);
    CHECK_EQ_INT(slab_format(&io_system, dir, 1, SLAB_SIZE_MIN, uuid), 0);
    CHECK_EQ_INT(slab_open(dir, 1, other, &s), ERR_CORRUPT);
    tmpdir_path(a, dir, "vol-0001.mdb");
    tmpdir_path(b, dir, "vol-0002.mdb");
    CHECK_EQ_INT(link(a, b), 0);
    CHECK_EQ_INT(slab_open(dir, 2, uuid, &s), ERR_CORRUPT); /* another number's file */
    CHECK_EQ_INT(truncate(a, (off_t)SLAB_SIZE_MIN - ((off_t)1 << 20)), 0);
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &s), ERR_CORRUPT);
    CHECK_EQ_INT(truncate(a, 100), 0);
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &s), ERR_CORRUPT);
    CHECK_EQ_INT(truncate(a, 0), 0);
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &s), ERR_CORRUPT);
}

/* Every field of the header is covered by its check. */
TEST(open_sees_every_flipped_bit_of_the_header)
{
    const char *dir = tmpdir();
    struct slab s, again;

    CHECK_EQ_INT(slab_format(&io_system, dir, 1, SLAB_SIZE_MIN, uuid), 0);
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &s), 0);
    for (off_t at = 0; at < 4096; at += at < 56 ? 1 : 505) {
        off_t where = (off_t)s.base - 4096 + at;

        flip(dir, "vol-0001.mdb", where);
        CHECK_EQ_INT(slab_open(dir, 1, uuid, &again), ERR_CORRUPT);
        flip(dir, "vol-0001.mdb", where);
    }
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &again), 0);
    slab_close(&again);
    slab_close(&s);
}

/* A payload that looks like a header must not become the header of a damaged volume. */
TEST(a_forged_header_among_payloads_is_not_believed)
{
    const char *dir = tmpdir();
    struct slab s, again;
    char *page;

    CHECK_EQ_INT(slab_format(&io_system, dir, 1, SLAB_SIZE_MIN, uuid), 0);
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &s), 0);
    CHECK_EQ_INT(posix_memalign((void **)&page, 4096, 4096), 0);
    CHECK_EQ_INT(pread(s.fd, page, 4096, (off_t)s.base - 4096), 4096);
    CHECK_EQ_INT(pwrite(s.fd, page, 4096, (off_t)s.base + 4096), 4096);
    free(page);
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &again), 0);
    CHECK_EQ_U64(again.base, s.base);
    slab_close(&again);
    flip(dir, "vol-0001.mdb", (off_t)s.base - 4096 + 100);
    CHECK_EQ_INT(slab_open(dir, 1, uuid, &again), ERR_CORRUPT);
    slab_close(&s);
}

TEST(a_missing_folder_is_an_error)
{
    CHECK_EQ_INT(slab_format(&io_system, "/nonexistent", 1, SLAB_SIZE_MIN, uuid), ERR_NOTFOUND);
}

TEST_MAIN
