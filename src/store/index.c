/* SPDX-License-Identifier: MIT */
/* Opening and reading index.mdb.
 *
 * A new index is built under another name, synced, and renamed, so a file called index.mdb is
 * always complete. An existing one may still be damaged; what can be told cheaply is told here:
 * LMDB refuses bad meta pages, a missing table is seen, and a file cut short is grown again (a
 * page of zeros is an error code inside LMDB, a missing page would be SIGBUS) and then walked
 * whole before it is believed.
 *
 * The loop has one read transaction, renewed after each checkpoint. It needs no more: between
 * checkpoints nothing is committed, so an old snapshot is the newest one and pins no page that
 * could have been reused.
 */
#include "store/index_int.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/io.h"

#define FILE_MODE 0600
#define BUF_MIN 4096u
#define PROGRESS_EVERY 16384u

static const char *const dbi_names[DBI_COUNT] = {"state", "key", "expiry", "volume"};

int index_err(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return ERR_NOTFOUND;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_BAD_VALSIZE:
    case MDB_INCOMPATIBLE:
    case MDB_PAGE_FULL: /* these two: inner errors, met on damaged page headers */
    case MDB_CURSOR_FULL:
        return ERR_CORRUPT;
    case MDB_VERSION_MISMATCH:
        return ERR_VERSION;
    case MDB_MAP_FULL:
        return ERR_NOSPC;
    default:
        return rc > 0 ? err_from_errno(rc) : ERR_IO;
    }
}

static int explain(char *detail, const char *path, const char *what, int rc)
{
    int err = index_err(rc);

    if (rc == MDB_NOTFOUND)
        err = ERR_CORRUPT; /* a table that must be there */
    snprintf(detail, INDEX_DETAIL_MAX, "%.300s: %s: %s%s", path, what, mdb_strerror(rc),
             err == ERR_CORRUPT ? " (damaged: run sldmkv-check on the data directory)" : "");
    return err;
}

/* LMDB opens two files, and says of none that it was the one. */
static int cannot_open(const char *path, int rc, char *detail)
{
    char lock[4096 + 8], owner[IO_OWNER_MAX];
    const char *which = path;

    snprintf(lock, sizeof(lock), "%s-lock", path);
    if (index_err(rc) != ERR_ACCESS)
        return explain(detail, path, "cannot open", rc);
    if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0)
        which = lock;
    io_owner(which, owner);
    snprintf(detail, INDEX_DETAIL_MAX, "%.300s: cannot open: %s%s", which, mdb_strerror(rc), owner);
    return ERR_ACCESS;
}

static int open_env(const char *path, unsigned more, MDB_env **env)
{
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD | more;
    int rc = mdb_env_create(env);

    if (rc != 0)
        return rc;
    rc = mdb_env_set_maxdbs(*env, DBI_COUNT);
    if (rc == 0)
        rc = mdb_env_set_mapsize(*env, INDEX_MAP_BYTES);
    if (rc == 0)
        rc = mdb_env_open(*env, path, flags, FILE_MODE);
    if (rc != 0) {
        mdb_env_close(*env);
        *env = NULL;
    }
    return rc;
}

static int make_tables(MDB_env *env)
{
    MDB_txn *txn;
    MDB_dbi dbi;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);

    if (rc != 0)
        return rc;
    for (int i = 0; rc == 0 && i < DBI_COUNT; i++)
        rc = mdb_dbi_open(txn, dbi_names[i], MDB_CREATE, &dbi);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int sync_parent(const char *path)
{
    char copy[4096];

    snprintf(copy, sizeof(copy), "%s", path);
    return io_sync_dir(dirname(copy));
}

/* LMDB syncs the file it writes, not the folder that names it. */
static int create(const char *path, char *detail)
{
    char new_path[4096 + 8], lock_path[4096 + 16];
    MDB_env *env;
    int rc, err;

    snprintf(new_path, sizeof(new_path), "%s.new", path);
    snprintf(lock_path, sizeof(lock_path), "%s-lock", new_path);
    unlink(new_path);
    unlink(lock_path);
    rc = open_env(new_path, 0, &env);
    if (rc != 0)
        return explain(detail, new_path, "cannot create", rc);
    rc = make_tables(env);
    mdb_env_close(env);
    unlink(lock_path);
    if (rc == 0 && rename(new_path, path) != 0)
        rc = errno;
    if (rc != 0) {
        unlink(new_path);
        return explain(detail, path, "cannot create", rc);
    }
    err = sync_parent(path);
    if (err != 0)
        snprintf(detail, INDEX_DETAIL_MAX, "%.300s: cannot sync its directory: %s", path,
                 err_text(err));
    return err;
}

static int open_tables(struct index *ix)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0)
        return rc;
    for (int i = 0; rc == 0 && i < DBI_COUNT; i++)
        rc = mdb_dbi_open(txn, dbi_names[i], 0, &ix->dbi[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn); /* keeps the handles */
}

/* It leaves no mark of what it finds. */
static bool is_read_only(const struct index *ix)
{
    return ix->mark[0] == '\0';
}

/* Nothing may look at a page before it is there, unless it only looks (index_open_read). Pages that
 * a commit freed again before it was over are never written, so a sound file may end early, too:
 * only the walk can tell. */
static int grow_if_short(struct index *ix, bool *was_short, char *detail)
{
    uint64_t want;
    struct stat st;
    MDB_envinfo info;

    mdb_env_info(ix->env, &info);
    want = ((uint64_t)info.me_last_pgno + 1) * ix->page_size;
    if (fstat(ix->fd, &st) != 0)
        return explain(detail, ix->path, "fstat", errno);
    *was_short = (uint64_t)st.st_size < want;
    if (*was_short && is_read_only(ix))
        snprintf(detail, INDEX_DETAIL_MAX, "%.300s ends after %llu of %llu bytes", ix->path,
                 (unsigned long long)st.st_size, (unsigned long long)want);
    else if (*was_short && ftruncate(ix->fd, (off_t)want) != 0)
        return explain(detail, ix->path, "cannot grow", errno);
    return 0;
}

static int walk_short(struct index *ix, char *detail)
{
    uint64_t keys, bad;
    int err = index_verify(ix, &keys, &bad, NULL, NULL);

    if (err == 0 && bad == 0)
        return 0;
    snprintf(detail, INDEX_DETAIL_MAX,
             "%.300s: was cut short and pages are missing: run sldmkv-check on the data directory",
             ix->path);
    return ERR_CORRUPT;
}

static int prepare(struct index *ix, char *detail)
{
    bool was_short = false;
    MDB_stat st;
    int rc = mdb_env_get_fd(ix->env, &ix->fd);

    if (rc != 0)
        return explain(detail, ix->path, "no descriptor", rc);
    fcntl(ix->fd, F_SETFD, FD_CLOEXEC); /* LMDB leaves it inheritable */
    if (mdb_env_get_maxkeysize(ix->env) < EXPIRY_KEY_MAX) {
        snprintf(detail, INDEX_DETAIL_MAX, "liblmdb allows keys of %d bytes only, %d are needed",
                 mdb_env_get_maxkeysize(ix->env), EXPIRY_KEY_MAX);
        return ERR_UNSUPPORTED;
    }
    mdb_env_stat(ix->env, &st);
    ix->page_size = st.ms_psize;
    rc = grow_if_short(ix, &was_short, detail);
    if (rc != 0)
        return rc;
    rc = open_tables(ix);
    if (rc != 0)
        return explain(detail, ix->path, "cannot open its tables", rc);
    if (was_short && !is_read_only(ix) && (rc = walk_short(ix, detail)) != 0)
        return rc;
    rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &ix->read);
    if (rc != 0)
        return explain(detail, ix->path, "cannot read", rc);
    ix->read_live = true;
    return 0;
}

/* dir/index.mdb → dir/index.damaged */
static void name_mark(struct index *ix)
{
    const char *slash = strrchr(ix->path, '/');
    int dir_len = slash == NULL ? 0 : (int)(slash - ix->path) + 1;

    snprintf(ix->mark, sizeof(ix->mark), "%.*s" DAMAGE_FILE, dir_len, ix->path);
}

void index_mark_damaged(struct index *ix, const char *text)
{
    if (!is_read_only(ix) && !atomic_exchange(&ix->marked, true))
        damage_mark(ix->mark, text);
}

static int open_index(const char *path, bool read_only, struct index **out, char *detail)
{
    struct index *ix = calloc(1, sizeof(*ix));
    int err, rc;

    if (ix == NULL)
        return ERR_NOMEM;
    memcpy(ix->path, path, strlen(path) + 1);
    if (!read_only)
        name_mark(ix);
    rc = open_env(path, read_only ? MDB_RDONLY | MDB_NOLOCK : 0, &ix->env);
    err = rc != 0 ? cannot_open(path, rc, detail) : prepare(ix, detail);
    if (err != 0) {
        index_close(ix);
        return err;
    }
    *out = ix;
    return 0;
}

int index_open(const char *path, struct index **out, char *detail)
{
    int err = 0;

    detail[0] = '\0';
    if (strlen(path) >= sizeof((*out)->path))
        return explain(detail, path, "path", ENAMETOOLONG);
    if (access(path, F_OK) != 0)
        err = errno == ENOENT ? create(path, detail) : explain(detail, path, "access", errno);
    return err != 0 ? err : open_index(path, false, out, detail);
}

int index_open_read(const char *path, struct index **out, char *detail)
{
    detail[0] = '\0';
    if (strlen(path) >= sizeof((*out)->path))
        return explain(detail, path, "path", ENAMETOOLONG);
    return open_index(path, true, out, detail);
}

void index_close(struct index *ix)
{
    if (ix == NULL)
        return;
    ASSERT(ix->write == NULL);
    if (ix->read != NULL)
        mdb_txn_abort(ix->read);
    if (ix->env != NULL)
        mdb_env_close(ix->env);
    free(ix);
}

int index_renew(struct index *ix)
{
    index_release(ix);
    if (mdb_txn_renew(ix->read) != 0)
        return ERR_IO;
    ix->read_live = true;
    return 0;
}

void index_release(struct index *ix)
{
    if (ix->read_live)
        mdb_txn_reset(ix->read);
    ix->read_live = false;
}

static int ensure_live(struct index *ix)
{
    return ix->read_live ? 0 : index_renew(ix);
}

static int copy_out(struct index_buf *b, MDB_val v)
{
    if (v.mv_size > INDEX_VALUE_MAX)
        return ERR_CORRUPT;
    if (b->size < v.mv_size) {
        size_t size = b->size == 0 ? BUF_MIN : b->size;
        uint8_t *mem;

        while (size < v.mv_size)
            size *= 2;
        mem = realloc(b->mem, size);
        if (mem == NULL)
            return ERR_NOMEM;
        b->mem = mem;
        b->size = size;
    }
    if (v.mv_size > 0)
        memcpy(b->mem, v.mv_data, v.mv_size);
    b->len = v.mv_size;
    return 0;
}

void index_buf_fini(struct index_buf *b)
{
    free(b->mem);
    *b = (struct index_buf){0};
}

/* What is read between these is in pages that may be damaged, callbacks of a scan included. */
static void begin_read(struct index *ix)
{
    damage_enter(ix->mark);
}

static int end_read(struct index *ix, int err)
{
    damage_leave();
    if (err == ERR_CORRUPT)
        index_mark_damaged(ix, "liblmdb cannot follow its pages");
    return err;
}

static int read_row(struct index *ix, enum index_dbi dbi, struct slice key, struct index_buf *out)
{
    MDB_val k = index_val(key), v;
    int err;

    begin_read(ix);
    err = ensure_live(ix);
    if (err == 0)
        err = index_err(mdb_get(ix->read, ix->dbi[dbi], &k, &v));
    if (err == 0)
        err = copy_out(out, v);
    return end_read(ix, err);
}

int index_get(struct index *ix, struct slice key, struct index_buf *out)
{
    ASSERT(key.len > 0 && key.len <= RECORD_KEY_MAX);
    return read_row(ix, DBI_KEY, key, out);
}

int index_load_state(struct index *ix, struct index_state *out)
{
    struct index_buf b = {0};
    int err = read_row(ix, DBI_STATE, slice_str("s"), &b);

    if (err == ERR_NOTFOUND && index_count(ix) == 0) {
        *out = (struct index_state){0}; /* a new index */
        err = 0;
    } else if (err == ERR_NOTFOUND) {
        err = ERR_CORRUPT;
    } else if (err == 0) {
        err = index_state_decode(slice_of(b.mem, b.len), out);
    }
    index_buf_fini(&b);
    return err;
}

static int load_volumes(struct index *ix, struct volume_row **rows, size_t *count)
{
    struct volume_row *list = NULL;
    size_t n = 0, space = 0;
    MDB_cursor *cursor;
    MDB_val k, v;
    int err = ensure_live(ix), rc;

    if (err == 0)
        err = index_err(mdb_cursor_open(ix->read, ix->dbi[DBI_VOLUME], &cursor));
    if (err != 0)
        return err;
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); rc == 0 && err == 0;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        if (n == space) {
            space = space == 0 ? 64 : space * 2;
            list = realloc(list, space * sizeof(*list));
            if (list == NULL)
                PANIC("out of memory for the volume table");
        }
        err = index_volume_decode(index_slice(k), index_slice(v), &list[n++]);
    }
    mdb_cursor_close(cursor);
    if (err == 0 && rc != MDB_NOTFOUND)
        err = index_err(rc);
    if (err != 0) {
        free(list);
        return err;
    }
    *rows = list;
    *count = n;
    return 0;
}

int index_load_volumes(struct index *ix, struct volume_row **rows, size_t *count)
{
    begin_read(ix);
    return end_read(ix, load_volumes(ix, rows, count));
}

static int scan_keys(struct index *ix, struct slice from, bool after, index_scan_cb cb, void *ctx)
{
    MDB_val k = index_val(from), v;
    MDB_cursor *cursor;
    int err = ensure_live(ix), rc;

    if (err == 0)
        err = index_err(mdb_cursor_open(ix->read, ix->dbi[DBI_KEY], &cursor));
    if (err != 0)
        return err;
    rc = mdb_cursor_get(cursor, &k, &v, from.len == 0 ? MDB_FIRST : MDB_SET_RANGE);
    if (rc == 0 && after && slice_eq(index_slice(k), from))
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    while (rc == 0 && cb(ctx, index_slice(k), index_slice(v)))
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : index_err(rc);
}

int index_scan(struct index *ix, struct slice from, bool after, index_scan_cb cb, void *ctx)
{
    begin_read(ix);
    return end_read(ix, scan_keys(ix, from, after, cb, ctx));
}

static int last_key(struct index *ix, struct index_buf *key)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int err = ensure_live(ix);

    if (err == 0)
        err = index_err(mdb_cursor_open(ix->read, ix->dbi[DBI_KEY], &cursor));
    if (err != 0)
        return err;
    err = index_err(mdb_cursor_get(cursor, &k, &v, MDB_LAST));
    if (err == 0)
        err = copy_out(key, k);
    mdb_cursor_close(cursor);
    return err;
}

int index_last(struct index *ix, struct index_buf *key)
{
    begin_read(ix);
    return end_read(ix, last_key(ix, key));
}

static int scan_expiry(struct index *ix, struct slice from, uint64_t upto_ms, index_expiry_cb cb,
                       void *ctx)
{
    MDB_val k = index_val(from), v;
    MDB_cursor *cursor;
    int err = ensure_live(ix), rc;

    if (err == 0)
        err = index_err(mdb_cursor_open(ix->read, ix->dbi[DBI_EXPIRY], &cursor));
    if (err != 0)
        return err;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    if (rc == 0 && slice_eq(index_slice(k), from))
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct slice row = index_slice(k);

        if (row.len <= 8 || row.len > EXPIRY_KEY_MAX) {
            rc = MDB_CORRUPTED;
            break;
        }
        if (codec_get64be(row.ptr) > upto_ms ||
            !cb(ctx, codec_get64be(row.ptr), slice_of(row.ptr + 8, row.len - 8)))
            break;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : index_err(rc);
}

int index_scan_expiry(struct index *ix, uint64_t from_ms, struct slice from_key, uint64_t upto_ms,
                      index_expiry_cb cb, void *ctx)
{
    uint8_t bytes[EXPIRY_KEY_MAX];
    struct slice from = slice_of(bytes, index_expiry_key(from_ms, from_key, bytes));

    begin_read(ix);
    return end_read(ix, scan_expiry(ix, from, upto_ms, cb, ctx));
}

static uint64_t count_rows(struct index *ix, enum index_dbi dbi)
{
    MDB_stat st;

    if (ensure_live(ix) != 0 || mdb_stat(ix->read, ix->dbi[dbi], &st) != 0)
        return 0;
    return st.ms_entries;
}

uint64_t index_count(struct index *ix)
{
    return count_rows(ix, DBI_KEY);
}

uint64_t index_count_expiry(struct index *ix)
{
    return count_rows(ix, DBI_EXPIRY);
}

/* Rows of LMDB's free list (table 0) are lists of page numbers led by their count. */
static int count_free_pages(MDB_txn *txn, uint64_t *pages)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = mdb_cursor_open(txn, 0, &cursor);

    if (rc != 0)
        return rc;
    *pages = 0;
    while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
        size_t n = 0;

        if (v.mv_size >= sizeof(n))
            memcpy(&n, v.mv_data, sizeof(n));
        *pages += n;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int index_get_stats(struct index *ix, struct index_stats *out)
{
    struct index_stats s = {0};
    MDB_envinfo info;
    MDB_stat key, expiry;
    struct stat st;
    MDB_txn *txn;
    int rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0)
        return index_err(rc);
    rc = count_free_pages(txn, &s.free_pages);
    if (rc == 0)
        rc = mdb_stat(txn, ix->dbi[DBI_KEY], &key);
    if (rc == 0)
        rc = mdb_stat(txn, ix->dbi[DBI_EXPIRY], &expiry);
    mdb_txn_abort(txn);
    if (rc == 0 && fstat(ix->fd, &st) != 0)
        rc = errno;
    if (rc != 0)
        return index_err(rc);
    mdb_env_info(ix->env, &info);
    s.file_bytes = (uint64_t)st.st_size;
    s.keys = key.ms_entries;
    s.expires = expiry.ms_entries;
    s.depth = key.ms_depth;
    s.used_bytes = (uint64_t)info.me_last_pgno + 1;
    s.used_bytes = s.used_bytes > s.free_pages ? s.used_bytes - s.free_pages : 0;
    s.used_bytes *= ix->page_size;
    *out = s;
    return 0;
}

struct verify {
    struct index *ix;
    MDB_txn *txn;
    uint64_t keys, expires, bad;
};

static void verify_key(struct verify *v, struct slice key, struct slice value)
{
    uint8_t row[EXPIRY_KEY_MAX];
    struct record r;
    MDB_val k, none;

    v->keys++;
    if (key.len > RECORD_KEY_MAX || record_decode(key, value, &r) != 0) {
        v->bad++;
        return;
    }
    if (r.expire_ms == 0)
        return;
    v->expires++;
    k = index_val(slice_of(row, index_expiry_key(r.expire_ms, key, row)));
    if (mdb_get(v->txn, v->ix->dbi[DBI_EXPIRY], &k, &none) != 0)
        v->bad++; /* would never be swept */
}

static int verify_rest(struct verify *v)
{
    struct index_state state = {0};
    MDB_val k = index_val(slice_str("s")), value;
    int rc = mdb_get(v->txn, v->ix->dbi[DBI_STATE], &k, &value);

    if (rc != 0 && rc != MDB_NOTFOUND)
        return index_err(rc);
    if (rc == 0 && index_state_decode(index_slice(value), &state) != 0)
        return ERR_CORRUPT;
    return state.keys == v->keys ? 0 : ERR_CORRUPT;
}

static int verify_tree(struct verify *v, bool (*progress)(void *ctx, uint64_t done), void *ctx)
{
    struct index *ix = v->ix;
    bool stopped = false;
    MDB_cursor *cursor;
    MDB_val k, value;
    int rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &v->txn), err;

    if (rc != 0)
        return index_err(rc);
    rc = mdb_cursor_open(v->txn, ix->dbi[DBI_KEY], &cursor);
    if (rc == 0) {
        while (!stopped && (rc = mdb_cursor_get(cursor, &k, &value, MDB_NEXT)) == 0) {
            verify_key(v, index_slice(k), index_slice(value));
            if (progress != NULL && v->keys % PROGRESS_EVERY == 0)
                stopped = !progress(ctx, v->keys);
        }
        mdb_cursor_close(cursor);
    }
    err = rc == MDB_NOTFOUND ? verify_rest(v) : stopped ? ERR_CANCELED : index_err(rc);
    mdb_txn_abort(v->txn);
    return err;
}

int index_verify(struct index *ix, uint64_t *keys, uint64_t *bad,
                 bool (*progress)(void *ctx, uint64_t done), void *ctx)
{
    struct verify v = {.ix = ix};
    int err;

    damage_enter(ix->mark);
    err = verify_tree(&v, progress, ctx);
    damage_leave();
    *keys = v.keys;
    *bad = v.bad;
    return err;
}
