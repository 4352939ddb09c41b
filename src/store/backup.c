/* SPDX-License-Identifier: MIT */
/* backup: a second data directory, made while the store serves.
 *
 *   phase       where    what
 *   CHECKPOINT  loop     everything applied becomes durable
 *   INDEX       maint    the directory is made, index.mdb copied; the copy's volume rows are those
 *                        that hold records
 *   VOLUMES     maint    one volume a job, oldest first, so that formatting is not held up
 *   FORMAT      maint    FORMAT, last: a directory without it is no data directory
 *   REMOVE      maint    after an error or a stop: what this backup made goes, and nothing else
 *
 * Volumes are pinned before the copy of the index is taken, and so is every volume opened while
 * that runs (a checkpoint may get into the copy): nothing the copy names can be recycled before it
 * is copied. Each pin is released as soon as its volume is copied, oldest first, because those are
 * the ones eviction wants.
 *
 * The copy keeps the store uuid (record headers carry it) and starts an empty log: log-base goes
 * on where the copied index stands. Two copies of a store must not join one cluster; alone, each
 * takes boot numbers of its own time. Volumes get their blocks reserved like formatted ones. What
 * cannot be read is left as zeros and counted: those records are misses in the copy as they are
 * here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/io.h"
#include "base/logger.h"
#include "store/datadir.h"
#include "store/slab.h"
#include "store/store_int.h"

#define PIECE ((size_t)4 << 20)
#define PATH_ROOM (4096 + 64)
#define DIR_MAX 4000u

struct pin {
    uint32_t number, generation;
    uint64_t base;
    bool held;
};

enum phase { PHASE_CHECKPOINT, PHASE_INDEX, PHASE_VOLUMES, PHASE_FORMAT, PHASE_REMOVE };

struct made { /* a file in the directory */
    struct made *next;
    char name[32];
};

struct backup {
    struct job job;
    struct store *s;
    char dir[DIR_MAX + 1];
    void (*cb)(void *ctx, int err, const char *detail);
    void *ctx;
    enum phase phase;
    struct pin *pins; /* loop */
    size_t npins, pins_space;
    /* shared with the job in hand */
    atomic_bool cancel;
    atomic_uint_fast64_t done_bytes, total_bytes;
    /* the job's, between submit and done */
    struct index_state state; /* of the copy */
    struct volume_row *rows;
    size_t nrows, current;
    uint64_t base; /* of the current volume */
    uint64_t unreadable;
    struct made *made; /* newest first */
    bool made_dir;
    int err;
    char detail[INDEX_DETAIL_MAX];
};

__attribute__((format(printf, 3, 4))) static int explain(struct backup *b, int err,
                                                         const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(b->detail, sizeof(b->detail), format, args);
    va_end(args);
    return err;
}

/* err_text speaks of data-dir. */
static const char *target_text(int err)
{
    switch (err) {
    case ERR_NOSPC:
        return "no space left on its device";
    case ERR_IO:
        return "input/output error";
    default:
        return err_text(err);
    }
}

static struct backup *of_job(struct job *job)
{
    return (struct backup *)(void *)job; /* the first member */
}

/* --- pins, on the loop --------------------------------------------------------------------- */

static bool is_pinned(const struct backup *b, const struct volume_row *r)
{
    for (size_t i = 0; i < b->npins; i++) {
        if (b->pins[i].number == r->number && b->pins[i].generation == r->generation)
            return true;
    }
    return false;
}

static void add_pin(struct backup *b, const struct volume_row *r)
{
    struct volume_io vio;

    if (volumes_pin(b->s->volumes, r->number, r->generation, &vio) != 0)
        return; /* no file: nothing to copy */
    if (b->npins == b->pins_space) {
        b->pins_space = b->pins_space == 0 ? 64 : b->pins_space * 2;
        b->pins = realloc(b->pins, b->pins_space * sizeof(*b->pins));
        if (b->pins == NULL)
            PANIC("out of memory");
    }
    b->pins[b->npins++] = (struct pin){r->number, r->generation, vio.base, true};
}

static void pin_all(struct backup *b)
{
    struct volume_row *rows;
    size_t n = volumes_rows(b->s->volumes, &rows);

    for (size_t i = 0; i < n; i++) {
        if (rows[i].state != VOLUME_FREE && !is_pinned(b, &rows[i]))
            add_pin(b, &rows[i]);
    }
    free(rows);
}

static void unpin(struct backup *b, struct pin *p)
{
    if (p->held)
        volumes_unpin(b->s->volumes, p->number);
    p->held = false;
}

static bool row_wants(const struct backup *b, const struct pin *p)
{
    for (size_t i = 0; i < b->nrows; i++) {
        if (b->rows[i].number == p->number && b->rows[i].generation == p->generation)
            return true;
    }
    return false;
}

static struct pin *pin_of(struct backup *b, const struct volume_row *r)
{
    for (size_t i = 0; i < b->npins; i++) {
        if (b->pins[i].number == r->number && b->pins[i].generation == r->generation)
            return &b->pins[i];
    }
    return NULL;
}

/* --- jobs, on the maint worker ------------------------------------------------------------- */

static void note_made(struct backup *b, const char *name)
{
    struct made *m = malloc(sizeof(*m));

    if (m == NULL)
        return; /* it will be left behind */
    snprintf(m->name, sizeof(m->name), "%s", name);
    m->next = b->made;
    b->made = m;
}

/* The directory goes only when it is empty, so what others put there stays. */
static void work_remove(struct job *job)
{
    struct backup *b = of_job(job);
    char path[PATH_ROOM];

    while (b->made != NULL) {
        struct made *m = b->made;

        snprintf(path, sizeof(path), "%s/%s", b->dir, m->name);
        unlink(path);
        b->made = m->next;
        free(m);
    }
    if (b->made_dir)
        rmdir(b->dir);
}

/* The directory itself, or where it is to be made. */
static bool is_inside(const char *dir, const char *outer)
{
    char copy[DIR_MAX + 1], inner_path[PATH_MAX], outer_path[PATH_MAX];
    size_t len;

    memcpy(copy, dir, strlen(dir) + 1);
    if ((realpath(dir, inner_path) == NULL && realpath(dirname(copy), inner_path) == NULL) ||
        realpath(outer, outer_path) == NULL)
        return false; /* mkdir or opendir says why */
    len = strlen(outer_path);
    return strncmp(inner_path, outer_path, len) == 0 &&
           (inner_path[len] == '/' || inner_path[len] == '\0');
}

static int prepare_dir(struct backup *b)
{
    struct dirent *e;
    bool empty = true;
    DIR *d;

    if (is_inside(b->dir, b->s->config.dir))
        return explain(b, ERR_INVAL, "%.300s is in data-dir, which is to be copied", b->dir);
    b->made_dir = mkdir(b->dir, 0700) == 0;
    if (!b->made_dir && errno != EEXIST)
        return explain(b, err_from_errno(errno), "cannot make %.300s: %s", b->dir, strerror(errno));
    d = opendir(b->dir);
    if (d == NULL)
        return explain(b, err_from_errno(errno), "cannot read %.300s: %s", b->dir, strerror(errno));
    while (empty && (e = readdir(d)) != NULL)
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                strcmp(e->d_name, "lost+found") == 0;
    closedir(d);
    return empty ? 0 : explain(b, ERR_EXISTS, "%.300s is not empty", b->dir);
}

static int by_age(const void *a, const void *b)
{
    const struct volume_row *x = a, *y = b;

    return x->opened_ms < y->opened_ms ? -1 : x->opened_ms > y->opened_ms;
}

/* The copy names only volumes that hold records, and was closed cleanly. */
static int trim_copy(struct backup *b, struct index *copy)
{
    size_t n = 0, kept = 0;
    int err = index_load_state(copy, &b->state);

    if (err == 0)
        err = index_load_volumes(copy, &b->rows, &n);
    if (err != 0)
        return err;
    for (size_t i = 0; i < n; i++) {
        if (b->rows[i].live_records > 0)
            b->rows[kept++] = b->rows[i];
    }
    b->nrows = kept;
    b->state.flags |= INDEX_CLEAN;
    err = index_write_begin(copy, 0);
    if (err != 0)
        return err;
    err = index_write_state(copy, &b->state);
    if (err == 0)
        err = index_write_volumes(copy, b->rows, b->nrows);
    if (err == 0)
        return index_write_commit(copy);
    index_write_abort(copy);
    return err;
}

static void work_index(struct job *job)
{
    struct backup *b = of_job(job);
    char path[PATH_ROOM];
    struct index *copy;
    uint64_t total = 0;

    b->err = prepare_dir(b);
    if (b->err != 0)
        return;
    snprintf(path, sizeof(path), "%s/index.mdb", b->dir);
    b->err = index_copy(b->s->index, path);
    if (b->err != ERR_EXISTS) {
        note_made(b, "index.mdb");
        note_made(b, "index.mdb-lock");
    }
    if (b->err != 0) {
        explain(b, b->err, "cannot write %.300s: %s", path, target_text(b->err));
        return;
    }
    b->err = index_open(path, &copy, b->detail);
    if (b->err != 0)
        return;
    b->err = trim_copy(b, copy);
    index_close(copy);
    if (b->err != 0) {
        explain(b, b->err, "%.300s: the copy of the index: %s", path, target_text(b->err));
        return;
    }
    strcat(path, "-lock");
    unlink(path);
    if (b->nrows > 0)
        qsort(b->rows, b->nrows, sizeof(*b->rows), by_age);
    for (size_t i = 0; i < b->nrows; i++)
        total += b->rows[i].cursor;
    atomic_store(&b->total_bytes, total);
}

/* Reads and writes bytes from `at` on; what cannot be read stays a hole. */
static int copy_range(struct backup *b, int in, int out, uint64_t at, uint64_t len)
{
    uint8_t *mem = malloc(PIECE);
    int err = 0;

    if (mem == NULL)
        return ERR_NOMEM;
    while (err == 0 && len > 0) {
        size_t want = len < PIECE ? (size_t)len : PIECE;
        struct iovec iov = {mem, want};

        if (atomic_load(&b->cancel)) {
            err = ERR_CANCELED;
            break;
        }
        if (io_read_all(b->s->config.io, in, &iov, 1, (off_t)at) != 0) {
            b->unreadable += want;
        } else {
            iov = (struct iovec){mem, want};
            err = io_write_all(b->s->config.io, out, &iov, 1, (off_t)at);
        }
        posix_fadvise(in, (off_t)at, (off_t)want, POSIX_FADV_DONTNEED);
        at += want;
        len -= want;
        atomic_fetch_add(&b->done_bytes, want);
    }
    free(mem);
    return err;
}

/* LMDB's few pages lie before the value area or behind it. */
static int copy_file(struct backup *b, const struct volume_row *r, int in, int out)
{
    struct stat st;
    uint64_t size, used = b->base + r->cursor, tail;
    int err;

    if (fstat(in, &st) != 0)
        return err_from_errno(errno);
    size = (uint64_t)st.st_size;
    if (size < SLAB_SIZE_MIN || size > SLAB_SIZE_MAX || used > size)
        return ERR_CORRUPT; /* the volume's, not the copy's */
    if (fallocate(out, 0, 0, st.st_size) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        return err_from_errno(errno);
    if (ftruncate(out, st.st_size) != 0)
        return err_from_errno(errno);
    err = copy_range(b, in, out, 0, used);
    tail = b->base + slab_capacity(size);
    if (err == 0 && tail > used && tail < size)
        err = copy_range(b, in, out, tail, size - tail);
    if (err == 0 && fsync(out) != 0)
        err = err_from_errno(errno);
    posix_fadvise(out, 0, 0, POSIX_FADV_DONTNEED);
    return err;
}

static void work_volume(struct job *job)
{
    struct backup *b = of_job(job);
    const struct volume_row *r = &b->rows[b->current];
    char from[PATH_ROOM], to[PATH_ROOM];
    int in, out = -1;

    slab_path(b->s->config.dir, r->number, from, sizeof(from));
    slab_path(b->dir, r->number, to, sizeof(to));
    in = open(from, O_RDONLY | O_CLOEXEC);
    if (in >= 0)
        out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (in < 0 || out < 0) {
        b->err = explain(b, err_from_errno(errno), "cannot open %.300s: %s", in < 0 ? from : to,
                         strerror(errno));
    } else {
        note_made(b, strrchr(to, '/') + 1);
        b->err = copy_file(b, r, in, out);
        if (b->err == ERR_CORRUPT)
            explain(b, b->err, "%.300s does not have the size of a volume", from);
        else if (b->err != 0)
            explain(b, b->err, "cannot write %.300s: %s", to, target_text(b->err));
    }
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
}

static void work_format(struct job *job)
{
    struct backup *b = of_job(job);
    struct datadir d = {.lock_fd = -1}, from;
    char up[PATH_ROOM];

    b->err = io_sync_dir(b->dir);
    snprintf(up, sizeof(up), "%s/..", b->dir);
    if (b->err == 0)
        b->err = io_sync_dir(up);
    d.node = b->s->config.node;
    d.log_base = b->state.applied;
    d.raft = datadir_read_format(b->s->config.dir, &from, b->detail) != 0 || from.raft;
    memcpy(d.uuid, b->s->config.uuid, sizeof(d.uuid));
    if (b->err == 0) {
        note_made(b, "FORMAT");
        b->err = datadir_write_format(b->dir, &d);
    }
    if (b->err != 0)
        explain(b, b->err, "cannot write %.300s/FORMAT: %s", b->dir, target_text(b->err));
}

/* --- steps, on the loop -------------------------------------------------------------------- */

static void unpin_all(struct backup *b)
{
    for (size_t i = 0; i < b->npins; i++)
        unpin(b, &b->pins[i]);
}

static void finish(struct backup *b, int err)
{
    struct store *s = b->s;

    unpin_all(b);
    s->backup = NULL;
    if (err == 0) {
        snprintf(b->detail, sizeof(b->detail),
                 "%.300s: keys=%" PRIu64 " volumes=%zu applied=%" PRIu64
                 " unreadable_bytes=%" PRIu64,
                 b->dir, b->state.keys, b->nrows, b->state.applied, b->unreadable);
        LOG_NOTICE("backup done %s", b->detail);
    } else {
        LOG_WARNING("backup failed %s", b->detail);
    }
    if (b->cb != NULL)
        b->cb(b->ctx, err, b->detail);
    while (b->made != NULL) {
        struct made *m = b->made;

        b->made = m->next;
        free(m);
    }
    free(b->pins);
    free(b->rows);
    free(b);
}

static void submit(struct backup *b, void (*work)(struct job *), void (*done)(struct job *))
{
    b->job.work = work;
    b->job.done = done;
    worker_submit(b->s->maint, &b->job);
}

static void done_remove(struct job *job)
{
    struct backup *b = of_job(job);

    finish(b, b->err);
}

/* Ends a backup that failed or shall end: b may be gone then. */
static bool is_over(struct backup *b)
{
    if (b->err == 0 && atomic_load(&b->cancel))
        b->err = explain(b, ERR_CANCELED, "%.300s: %s", b->dir, err_text(ERR_CANCELED));
    if (b->err == 0)
        return false;
    b->phase = PHASE_REMOVE;
    unpin_all(b);
    submit(b, work_remove, done_remove);
    return true;
}

static void done_format(struct job *job)
{
    struct backup *b = of_job(job);

    if (b->err == 0)
        finish(b, 0);
    else
        is_over(b);
}

static void next_volume(struct backup *b);

static void done_volume(struct job *job)
{
    struct backup *b = of_job(job);

    unpin(b, pin_of(b, &b->rows[b->current]));
    b->current++;
    next_volume(b);
}

static void next_volume(struct backup *b)
{
    struct pin *p = NULL;

    if (is_over(b))
        return;
    for (; b->current < b->nrows; b->current++) {
        p = pin_of(b, &b->rows[b->current]);
        if (p != NULL)
            break;
        /* Its file is gone or unreadable: the records are misses here, too. */
        b->unreadable += b->rows[b->current].live_bytes;
    }
    if (p == NULL) {
        b->phase = PHASE_FORMAT;
        submit(b, work_format, done_format);
        return;
    }
    b->base = p->base;
    submit(b, work_volume, done_volume);
}

static void done_index(struct job *job)
{
    struct backup *b = of_job(job);

    for (size_t i = 0; b->err == 0 && i < b->npins; i++) {
        if (!row_wants(b, &b->pins[i]))
            unpin(b, &b->pins[i]);
    }
    b->phase = PHASE_VOLUMES;
    next_volume(b);
}

static void on_checkpoint(void *ctx, int err)
{
    struct backup *b = ctx;

    b->err = err;
    if (err != 0)
        explain(b, err, "the checkpoint before it: %s", err_text(err));
    if (is_over(b))
        return;
    b->phase = PHASE_INDEX;
    pin_all(b);
    submit(b, work_index, done_index);
}

int store_backup(struct store *s, const char *dir,
                 void (*cb)(void *ctx, int err, const char *detail), void *ctx)
{
    struct backup *b;

    if (s->backup != NULL)
        return ERR_AGAIN;
    if (dir[0] == '\0' || strlen(dir) > DIR_MAX)
        return ERR_INVAL;
    b = calloc(1, sizeof(*b));
    if (b == NULL)
        return ERR_NOMEM;
    b->s = s;
    memcpy(b->dir, dir, strlen(dir) + 1);
    b->cb = cb;
    b->ctx = ctx;
    atomic_init(&b->cancel, false);
    atomic_init(&b->done_bytes, 0);
    atomic_init(&b->total_bytes, 0);
    s->backup = b;
    checkpoint_wait(s, on_checkpoint, b);
    return 0;
}

void backup_step(struct store *s)
{
    if (s->backup != NULL && s->backup->phase == PHASE_INDEX)
        pin_all(s->backup);
}

void backup_cancel(struct store *s)
{
    if (s->backup != NULL)
        atomic_store(&s->backup->cancel, true);
}

bool store_backup_progress(const struct store *s, uint64_t *done, uint64_t *total)
{
    if (s->backup == NULL)
        return false;
    *done = atomic_load(&s->backup->done_bytes);
    *total = atomic_load(&s->backup->total_bytes);
    return true;
}
