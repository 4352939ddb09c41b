/* SPDX-License-Identifier: MIT */
/* Making a volume file, happy path:
 *   1. a temporary name, blocks for the whole size reserved with fallocate(KEEP_SIZE): a full disk
 *      is met here, as an error. Without KEEP_SIZE LMDB takes the zeros for a damaged file
 *   2. an LMDB environment in it, mapped writable (MDB_WRITEMAP) for this step only: the
 *      commit then writes LMDB's own few pages and not gigabytes of payload area
 *   3. one value over all but SPARE_PAGES of the file, reserved, never filled by LMDB; the volume
 *      header goes into it before the commit
 *   4. commit, sync, close LMDB; fsync; rename; fsync of the directory
 *
 * Failure modes. No fallocate on this file system: a writable map could meet the full disk as
 * SIGBUS, so LMDB writes the whole value itself (slow, once). Any error: the temporary file goes,
 * the final name never existed. A crash: the temporary file stays and volumes_open removes it.
 *
 * Finding the value again: LMDB's run of overflow pages has a 16-byte header and its data is never
 * page aligned, so value offset 4,080 is the first page boundary inside the value. The file's head
 * is searched for the volume header there; nothing is computed from LMDB's private structures, and
 * a compacting copy of the file (which moves the run) is found as well. Client bytes cannot be
 * taken for the header: the true one lies before the value area and the search ends at the first
 * page with the magic, valid or not.
 *
 * Volume header, little-endian, at file offset base − 4,096:
 *   offset  bytes  field
 *        0      4  magic "SLDV"
 *        4      2  format, 1
 *        6      2  flags, 0
 *        8     16  store uuid
 *       24      4  number
 *       28      4  0
 *       32      8  file size when formatted
 *       40      8  capacity of the value area
 *       48  4,040  0
 *    4,088      8  check: XXH3-64 of the bytes before it
 */
#include "store/slab.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/hash.h"
#include "base/logger.h"

#define MAGIC 0x56444c53u /* "SLDV" */
#define FORMAT 1
#define PAGE 4096u
#define CHECK_AT (PAGE - 8)
#define HEADER_VALUE_OFFSET 4080u
#define HEAD_BYTES ((size_t)1 << 20) /* the header is looked for here */
#define SPARE_PAGES 8u               /* LMDB's meta and tree pages, and some air */
#define PATH_BYTES 4200
#define LMDB_WRITE_MAX 0x7ffff000u /* one write(2): what LMDB can write without a writable map */

void slab_path(const char *dir, uint32_t number, char *out, size_t size)
{
    int n = snprintf(out, size, "%s/vol-%04u.mdb", dir, number);

    ASSERT(n > 0 && (size_t)n < size);
}

uint64_t slab_capacity(uint64_t size)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t other = SPARE_PAGES * page + 2 * PAGE;

    ASSERT(size >= SLAB_SIZE_MIN && size <= SLAB_SIZE_MAX);
    return ((size & ~(page - 1)) - other) & ~(uint64_t)(PAGE - 1);
}

/* --- format ------------------------------------------------------------------------------- */

static void encode_header(uint8_t *page, uint32_t number, uint64_t size, const uint8_t uuid[16])
{
    memset(page, 0, PAGE);
    codec_put32(page, MAGIC);
    codec_put16(page + 4, FORMAT);
    memcpy(page + 8, uuid, 16);
    codec_put32(page + 24, number);
    codec_put64(page + 32, size);
    codec_put64(page + 40, slab_capacity(size));
    codec_put64(page + CHECK_AT, hash64(page, CHECK_AT));
}

/* LMDB reports a short write on a full disk as EIO. */
static int err_from_lmdb(int rc, const char *path, uint64_t size)
{
    struct statvfs fs;

    if (rc == 0)
        return 0;
    if (rc == EIO && statvfs(path, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < size)
        return ERR_NOSPC;
    return rc > 0 ? err_from_errno(rc) : ERR_IO;
}

static int put_value(MDB_env *env, uint32_t number, uint64_t size, const uint8_t uuid[16])
{
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val key = {1, (char[]){'v'}};
    MDB_val value = {HEADER_VALUE_OFFSET + PAGE + slab_capacity(size), NULL};
    int rc = mdb_txn_begin(env, NULL, 0, &txn);

    if (rc != 0)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (rc == 0)
        rc = mdb_put(txn, dbi, &key, &value, MDB_RESERVE | MDB_NOOVERWRITE);
    if (rc == 0) {
        encode_header((uint8_t *)value.mv_data + HEADER_VALUE_OFFSET, number, size, uuid);
        rc = FAIL("format.commit");
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int fill(const char *path, uint32_t number, uint64_t size, const uint8_t uuid[16],
                bool reserved)
{
    unsigned flags = MDB_NOSUBDIR | MDB_NOLOCK | (reserved ? MDB_WRITEMAP : 0);
    MDB_env *env;
    int rc = mdb_env_create(&env);

    if (rc != 0)
        return ERR_NOMEM;
    rc = mdb_env_set_mapsize(env, size);
    if (rc == 0)
        rc = mdb_env_open(env, path, flags, 0600);
    if (rc == 0)
        rc = put_value(env, number, size, uuid);
    if (rc == 0)
        rc = mdb_env_sync(env, 1);
    mdb_env_close(env);
    return err_from_lmdb(rc, path, size);
}

/* The blocks of the whole file; *reserved false: this file system cannot, go on without. */
static int reserve(const struct io_ops *io, int fd, uint64_t size, bool *reserved)
{
    *reserved = io->fallocate(io->ctx, fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) == 0;
    if (*reserved)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return err_from_errno(errno);
    LOG_NOTICE("slab: no fallocate on this file system, formatting writes %llu bytes",
               (unsigned long long)size);
    return size > LMDB_WRITE_MAX ? ERR_UNSUPPORTED : 0;
}

static int make(const struct io_ops *io, const char *path, uint32_t number, uint64_t size,
                const uint8_t uuid[16])
{
    bool reserved;
    int err;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_from_errno(errno);
    err = reserve(io, fd, size, &reserved);
    if (err == 0)
        err = fill(path, number, size, uuid, reserved);
    if (err == 0 && fsync(fd) != 0)
        err = err_from_errno(errno);
    close(fd);
    return err;
}

int slab_format(const struct io_ops *io, const char *dir, uint32_t number, uint64_t size,
                const uint8_t uuid[16])
{
    char path[PATH_BYTES], temp[PATH_BYTES + 8];
    int err;

    ASSERT(io != NULL && uuid != NULL);
    ASSERT(size >= SLAB_SIZE_MIN && size <= SLAB_SIZE_MAX);
    size &= ~((uint64_t)sysconf(_SC_PAGESIZE) - 1);
    slab_path(dir, number, path, sizeof(path));
    snprintf(temp, sizeof(temp), "%s%s", path, SLAB_TEMP_SUFFIX);
    if (access(path, F_OK) == 0)
        return ERR_EXISTS;
    unlink(temp);
    err = make(io, temp, number, size, uuid);
    if (err == 0 && rename(temp, path) != 0)
        err = err_from_errno(errno);
    if (err != 0) {
        unlink(temp);
        return err;
    }
    err = io_sync_dir(dir);
    if (err != 0)
        unlink(path);
    return err;
}

/* --- open --------------------------------------------------------------------------------- */

/* Direct if a single page can be read that way: a device with larger blocks refuses it. */
static int open_file(const char *path, uint8_t *page, bool *direct)
{
    static uint64_t last_ms;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT);

    if (fd >= 0 && pread(fd, page, PAGE, PAGE) >= 0) {
        *direct = true;
        return fd;
    }
    if (errno != EINVAL) {
        if (fd >= 0)
            close(fd);
        return fd >= 0 ? ERR_IO : err_from_errno(errno);
    }
    if (fd >= 0)
        close(fd);
    if (logger_allow(&last_ms, 60000))
        LOG_NOTICE("slab: %s: no direct I/O on this file system, writing through the page cache",
                   path);
    *direct = false;
    fd = open(path, O_RDWR | O_CLOEXEC);
    return fd >= 0 ? fd : err_from_errno(errno);
}

static int decode_header(const uint8_t *page, uint32_t number, const uint8_t uuid[16],
                         struct slab *out)
{
    if (codec_get64(page + CHECK_AT) != hash64(page, CHECK_AT))
        return ERR_CORRUPT;
    if (codec_get16(page + 4) > FORMAT)
        return ERR_VERSION;
    if (uuid != NULL && memcmp(page + 8, uuid, 16) != 0)
        return ERR_CORRUPT;
    if (codec_get32(page + 24) != number)
        return ERR_CORRUPT;
    out->capacity = codec_get64(page + 40);
    out->number = number;
    memcpy(out->uuid, page + 8, 16);
    return 0;
}

/* head: the first HEAD_BYTES of the file, `have` of them there. */
static int locate(const uint8_t *head, size_t have, const uint8_t uuid[16], struct slab *s)
{
    for (size_t at = 0; at + PAGE <= have; at += PAGE) {
        int err;

        if (codec_get32(head + at) != MAGIC)
            continue;
        err = decode_header(head + at, s->number, uuid, s);
        s->base = at + PAGE;
        return err;
    }
    return ERR_CORRUPT;
}

static int read_head(const uint8_t uuid[16], uint8_t *head, struct slab *s)
{
    struct stat st;
    size_t want, have = 0;
    int err;

    if (fstat(s->fd, &st) != 0)
        return err_from_errno(errno);
    want =
        (uint64_t)st.st_size < HEAD_BYTES ? (size_t)st.st_size & ~(size_t)(PAGE - 1) : HEAD_BYTES;
    while (have < want) {
        ssize_t n = pread(s->fd, head + have, want - have, (off_t)have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_from_errno(errno) : ERR_CORRUPT;
        have += (size_t)n & ~(size_t)(PAGE - 1);
    }
    err = locate(head, have, uuid, s);
    if (err != 0)
        return err;
    /* A file cut short would answer reads with less than the index promises. */
    if (s->capacity == 0 || s->capacity % PAGE != 0 || s->capacity > SLAB_SIZE_MAX ||
        s->base + s->capacity > (uint64_t)st.st_size)
        return ERR_CORRUPT;
    return 0;
}

int slab_open(const char *dir, uint32_t number, const uint8_t uuid[16], struct slab *out)
{
    struct slab s = {.number = number};
    char path[PATH_BYTES];
    uint8_t *head;
    int err;

    ASSERT(out != NULL);
    slab_path(dir, number, path, sizeof(path));
    if (posix_memalign((void **)&head, PAGE, HEAD_BYTES) != 0)
        return ERR_NOMEM;
    s.fd = open_file(path, head, &s.direct);
    err = s.fd < 0 ? s.fd : read_head(uuid, head, &s);
    free(head);
    if (err != 0 && s.fd >= 0)
        close(s.fd);
    if (err == 0)
        *out = s;
    return err;
}

void slab_close(struct slab *s)
{
    ASSERT(s != NULL);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
