/* SPDX-License-Identifier: MIT */
/* The write side: one transaction at a time, on the checkpoint worker (or alone at start).
 *
 * A full disk must be met before LMDB writes: it reports a short write at commit as EIO, like a
 * broken disk. So the worst case of a merge is allocated behind the end of the file first. When
 * that is refused, pages that LMDB's free list holds are believed to serve half of the need (the
 * rest may be pinned or too scattered), because a store on a full disk must still be able to
 * delete. An EIO at commit with next to no free space is called ERR_NOSPC, too: the transaction
 * is gone, the environment stays usable.
 */
#include "store/index_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"

#define RESERVE_MIN ((uint64_t)8 << 20)
#define NOSPC_BELOW INDEX_FILE_RESERVE /* free bytes at which EIO means a full disk */
#define FALLOCATE_STEP ((uint64_t)1 << 20)
#define OVERFLOW_ABOVE 2000 /* bytes of a value that LMDB keeps in the leaf, about */

static uint64_t file_end(const struct index *ix)
{
    struct stat st;
    MDB_envinfo info;
    uint64_t pages;

    mdb_env_info(ix->env, &info);
    pages = ((uint64_t)info.me_last_pgno + 1) * ix->page_size;
    if (fstat(ix->fd, &st) != 0 || (uint64_t)st.st_size < pages)
        return pages;
    return (uint64_t)st.st_size;
}

/* 0 or an errno. */
static int allocate_beyond(struct index *ix, uint64_t bytes)
{
    uint64_t end = file_end(ix), upto = end + bytes;
    int failed = FAIL("ckpt.reserve");

    upto = (upto + FALLOCATE_STEP - 1) / FALLOCATE_STEP * FALLOCATE_STEP;
    if (failed != 0)
        return failed;
    if (ix->no_fallocate || upto <= ix->reserved_end)
        return 0;
    if (fallocate(ix->fd, FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)(upto - end)) != 0)
        return errno;
    ix->reserved_end = upto;
    return 0;
}

static uint64_t less_free_pages(struct index *ix, uint64_t bytes)
{
    struct index_stats s;
    uint64_t spared;

    if (index_get_stats(ix, &s) != 0)
        return bytes;
    spared = s.free_pages * ix->page_size / 2;
    if (bytes <= spared || bytes - spared < RESERVE_MIN)
        return bytes < RESERVE_MIN ? bytes : RESERVE_MIN;
    return bytes - spared;
}

static int reserve(struct index *ix, uint64_t bytes)
{
    int rc = allocate_beyond(ix, bytes + INDEX_FILE_RESERVE);

    if ((rc == ENOSPC || rc == EDQUOT) && bytes > 0)
        rc = allocate_beyond(ix, bytes);
    if ((rc == ENOSPC || rc == EDQUOT) && bytes > 0)
        rc = allocate_beyond(ix, less_free_pages(ix, bytes));
    if ((rc == ENOSPC || rc == EDQUOT) && bytes == 0)
        rc = 0; /* a few pages: the standing reserve or the free list has them */
    if (rc == EOPNOTSUPP || rc == ENOSYS) {
        ix->no_fallocate = true; /* this file system cannot promise; statvfs has to do */
        rc = 0;
    }
    return err_from_errno(rc);
}

/* Every page of the tree changed once is the other bound: copy-on-write needs no more than the
 * whole tree again, and what is new. */
uint64_t index_write_estimate(struct index *ix, uint64_t rows, uint64_t bytes)
{
    uint64_t per_row = rows * 2 * ix->page_size;
    uint64_t whole = file_end(ix) + 2 * bytes + rows * 2 * 64;
    uint64_t tree = per_row < whole ? per_row : whole;

    return tree + tree / 8 + bytes + bytes / OVERFLOW_ABOVE * 16 + FALLOCATE_STEP;
}

int index_write_begin(struct index *ix, uint64_t reserve_bytes)
{
    int err;

    ASSERT(ix->write == NULL);
    err = reserve(ix, reserve_bytes);
    if (err != 0)
        return err;
    return index_err(INDEX_INSIDE(ix, mdb_txn_begin(ix->env, NULL, 0, &ix->write)));
}

int index_write_drop_keys(struct index *ix)
{
    int rc;

    ASSERT(ix->write != NULL);
    rc = INDEX_INSIDE(ix, mdb_drop(ix->write, ix->dbi[DBI_KEY], 0));
    if (rc == 0)
        rc = INDEX_INSIDE(ix, mdb_drop(ix->write, ix->dbi[DBI_EXPIRY], 0));
    return index_err(rc);
}

int index_write_del_expiry(struct index *ix, uint64_t expire_ms, struct slice key)
{
    uint8_t row[EXPIRY_KEY_MAX];
    MDB_val k = index_val(slice_of(row, index_expiry_key(expire_ms, key, row)));
    int rc = INDEX_INSIDE(ix, mdb_del(ix->write, ix->dbi[DBI_EXPIRY], &k, NULL));

    return rc == MDB_NOTFOUND ? 0 : index_err(rc);
}

static int put_expiry(struct index *ix, uint64_t expire_ms, struct slice key)
{
    uint8_t row[EXPIRY_KEY_MAX];
    MDB_val k = index_val(slice_of(row, index_expiry_key(expire_ms, key, row)));
    MDB_val empty = {0, NULL};

    return index_err(INDEX_INSIDE(ix, mdb_put(ix->write, ix->dbi[DBI_EXPIRY], &k, &empty, 0)));
}

/* 0, 1 = there is one, ERR_. */
static int old_deadline(struct index *ix, struct slice key, uint64_t *expire_ms)
{
    MDB_val k = index_val(key), v;
    int rc;

    *expire_ms = 0;
    damage_enter(ix->mark);
    rc = mdb_get(ix->write, ix->dbi[DBI_KEY], &k, &v);
    if (rc == 0)
        *expire_ms = record_expire_of(index_slice(v));
    damage_leave();
    return rc == 0 ? 1 : rc == MDB_NOTFOUND ? 0 : index_err(rc);
}

int index_write_put(struct index *ix, struct slice key, struct slice value)
{
    MDB_val k = index_val(key), v = index_val(value);
    uint64_t old_ms, new_ms = record_expire_of(value);
    int err;

    ASSERT(ix->write != NULL);
    ASSERT(key.len > 0 && key.len <= RECORD_KEY_MAX && value.len <= INDEX_VALUE_MAX);
    err = old_deadline(ix, key, &old_ms);
    if (err < 0)
        return err;
    err = 0;
    if (old_ms != 0 && old_ms != new_ms)
        err = index_write_del_expiry(ix, old_ms, key);
    if (err == 0 && new_ms != 0 && new_ms != old_ms)
        err = put_expiry(ix, new_ms, key);
    if (err == 0)
        err = index_err(INDEX_INSIDE(ix, mdb_put(ix->write, ix->dbi[DBI_KEY], &k, &v, 0)));
    return err;
}

int index_write_del(struct index *ix, struct slice key)
{
    MDB_val k = index_val(key);
    uint64_t old_ms;
    int err;

    ASSERT(ix->write != NULL && key.len > 0);
    err = old_deadline(ix, key, &old_ms);
    if (err <= 0)
        return err;
    err = old_ms != 0 ? index_write_del_expiry(ix, old_ms, key) : 0;
    if (err == 0)
        err = index_err(INDEX_INSIDE(ix, mdb_del(ix->write, ix->dbi[DBI_KEY], &k, NULL)));
    return err;
}

int index_write_state(struct index *ix, const struct index_state *state)
{
    uint8_t bytes[STATE_SIZE];
    MDB_val k = index_val(slice_str("s")), v = {sizeof(bytes), bytes};

    ASSERT(ix->write != NULL);
    index_state_encode(state, bytes);
    return index_err(INDEX_INSIDE(ix, mdb_put(ix->write, ix->dbi[DBI_STATE], &k, &v, 0)));
}

int index_write_volumes(struct index *ix, const struct volume_row *rows, size_t count)
{
    int rc = INDEX_INSIDE(ix, mdb_drop(ix->write, ix->dbi[DBI_VOLUME], 0));

    for (size_t i = 0; rc == 0 && i < count; i++) {
        uint8_t key[4], bytes[VOLUME_ROW_SIZE];
        MDB_val k = {sizeof(key), key}, v = {sizeof(bytes), bytes};

        index_volume_encode(&rows[i], key, bytes);
        rc = INDEX_INSIDE(ix, mdb_put(ix->write, ix->dbi[DBI_VOLUME], &k, &v, 0));
    }
    return index_err(rc);
}

static bool disk_is_full(const struct index *ix)
{
    struct statvfs st;

    return fstatvfs(ix->fd, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize < NOSPC_BELOW;
}

int index_write_commit(struct index *ix)
{
    int rc = FAIL("ckpt.commit");

    ASSERT(ix->write != NULL);
    if (rc != 0)
        mdb_txn_abort(ix->write);
    else
        rc = INDEX_INSIDE(ix, mdb_txn_commit(ix->write));
    ix->write = NULL;
    if (rc == EIO && disk_is_full(ix))
        return ERR_NOSPC;
    return index_err(rc);
}

void index_write_abort(struct index *ix)
{
    if (ix->write != NULL)
        mdb_txn_abort(ix->write);
    ix->write = NULL;
}

int index_copy(struct index *ix, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int err;

    if (fd < 0)
        return err_from_errno(errno);
    err = index_err(mdb_env_copyfd(ix->env, fd));
    if (err == 0 && fsync(fd) != 0)
        err = err_from_errno(errno);
    if (close(fd) != 0 && err == 0)
        err = err_from_errno(errno);
    return err;
}
