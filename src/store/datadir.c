/* SPDX-License-Identifier: MIT */
/* Order at open: the directory, its lock, FORMAT. A directory without FORMAT is new, unless it
 * already holds files of a store: then FORMAT is lost, and making a new one would give the old
 * payloads to a store that does not know them.
 *
 * FORMAT is written last when a directory is built (BACKUP), so a torn one is never started.
 */
#include "store/datadir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"

#define FORMAT_TEXT_MAX 512
#define PATH_ROOM (4096 + 32)

__attribute__((format(printf, 3, 4))) static int explain(char *detail, int err, const char *format,
                                                         ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(detail, DATADIR_DETAIL_MAX, format, args);
    va_end(args);
    return err;
}

static void join(char *out, const char *dir, const char *name)
{
    snprintf(out, PATH_ROOM, "%s/%s", dir, name);
}

static int sync_parent(const char *path)
{
    char up[PATH_ROOM];

    join(up, path, "..");
    return io_sync_dir(up);
}

static int make_dir(const char *path, char *detail)
{
    struct stat st;
    int err;

    if (stat(path, &st) == 0) {
        if (!S_ISDIR(st.st_mode))
            return explain(detail, ERR_INVAL, "data-dir %.300s is not a directory", path);
        return 0;
    }
    if (mkdir(path, 0700) != 0)
        return explain(detail, err_from_errno(errno),
                       "cannot make data-dir %.300s: %s (its parent must exist and be writable)",
                       path, strerror(errno));
    err = sync_parent(path);
    return err == 0 ? 0 : explain(detail, err, "cannot sync the parent of %.300s", path);
}

/* On Btrfs reserved blocks are no promise: a write that goes through a mapping (LMDB's lock file)
 * on a full disk is a SIGBUS. Seen on a real one within half a second. */
static int check_filesystem(const char *path, char *detail)
{
    struct statfs st;

    if (statfs(path, &st) != 0 || st.f_type != BTRFS_SUPER_MAGIC)
        return 0;
    return explain(
        detail, ERR_UNSUPPORTED,
        "data-dir %.300s is on Btrfs, where a full disk would end the server with SIGBUS: "
        "put it on ext4 or XFS",
        path);
}

static long read_pid(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    return n > 0 ? strtol(text, NULL, 10) : 0;
}

int datadir_lock(const char *path, int *out, char *detail)
{
    char name[PATH_ROOM], pid[32];
    int fd, len;

    join(name, path, "LOCK");
    fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return explain(detail, err_from_errno(errno),
                       "cannot write in data-dir %.300s: %s (check owner and mode)", path,
                       strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int err = errno == EWOULDBLOCK ? ERR_LOCKED : err_from_errno(errno);

        if (err == ERR_LOCKED)
            explain(detail, err, "data-dir %.300s is in use by another process (pid %ld)", path,
                    read_pid(fd));
        else
            explain(detail, err, "cannot lock %.300s/LOCK: %s", path, strerror(errno));
        close(fd);
        return err;
    }
    len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    /* Only for people; a full disk is no reason not to start. */
    if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)len, 0) != len)
        (void)!ftruncate(fd, 0);
    *out = fd;
    return 0;
}

/* A file that only a store has written. */
static bool is_store_file(const char *name)
{
    return strcmp(name, "index.mdb") == 0 || strcmp(name, "raft") == 0 ||
           fnmatch("vol-*.mdb", name, 0) == 0;
}

static int check_no_store(const char *path, char *detail)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    int err = 0;

    if (dir == NULL)
        return explain(detail, err_from_errno(errno), "cannot read data-dir %.300s: %s", path,
                       strerror(errno));
    while (err == 0 && (e = readdir(dir)) != NULL) {
        if (is_store_file(e->d_name))
            err = explain(detail, ERR_CORRUPT,
                          "%.250s/FORMAT is missing but %.64s is there: restore FORMAT, or run "
                          "sldmkv-check --salvage into a new directory",
                          path, e->d_name);
    }
    closedir(dir);
    return err;
}

static int parse_hex(const char *hex, uint8_t out[16])
{
    for (int i = 0; i < 16; i++) {
        unsigned byte;

        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return ERR_CORRUPT;
        out[i] = (uint8_t)byte;
    }
    return 0;
}

static int format_text(const struct datadir *d, char *text)
{
    int len = snprintf(text, FORMAT_TEXT_MAX, "format %d\nstore ", DATADIR_FORMAT);

    for (int i = 0; i < 16; i++)
        len += snprintf(text + len, FORMAT_TEXT_MAX - (size_t)len, "%02x", d->uuid[i]);
    len += snprintf(text + len, FORMAT_TEXT_MAX - (size_t)len,
                    "\nnode %" PRIu32 "\nlog %s\nlog-base %" PRIu64 "\n", d->node,
                    d->raft ? "raft" : "none", d->log_base);
    len += snprintf(text + len, FORMAT_TEXT_MAX - (size_t)len, "check %016" PRIx64 "\n",
                    hash64(text, (size_t)len));
    ASSERT(len < FORMAT_TEXT_MAX);
    return len;
}

/* Lines of a newer format may differ, so only the first is looked at before its number. What was
 * read must be what would be written, to the byte: that covers the check and everything else. */
static int parse(const char *text, struct datadir *out)
{
    char hex[33] = "", kind[8] = "", again[FORMAT_TEXT_MAX];
    unsigned format;

    if (sscanf(text, "format %u\n", &format) != 1)
        return ERR_CORRUPT;
    if (format > DATADIR_FORMAT)
        return ERR_VERSION;
    if (sscanf(text,
               "format %u\nstore %32[0-9a-f]\nnode %" SCNu32 "\nlog %7[a-z]\nlog-base %" SCNu64,
               &format, hex, &out->node, kind, &out->log_base) != 5)
        return ERR_CORRUPT;
    out->raft = strcmp(kind, "raft") == 0;
    if (strlen(hex) != 32 || parse_hex(hex, out->uuid) != 0)
        return ERR_CORRUPT;
    format_text(out, again);
    return strcmp(text, again) == 0 ? 0 : ERR_CORRUPT;
}

int datadir_read_format(const char *path, struct datadir *out, char *detail)
{
    char name[PATH_ROOM], text[FORMAT_TEXT_MAX + 1];
    struct datadir d = {.lock_fd = -1};
    ssize_t n;
    int fd, err;

    if (strlen(path) >= sizeof(d.path))
        return explain(detail, ERR_INVAL, "data-dir: the path is too long");
    memcpy(d.path, path, strlen(path) + 1);
    join(name, path, "FORMAT");
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return explain(detail, err_from_errno(errno), "cannot read %.300s: %s", name,
                       strerror(errno));
    n = read(fd, text, FORMAT_TEXT_MAX);
    close(fd);
    if (n < 0)
        return explain(detail, ERR_IO, "cannot read %.300s: %s", name, strerror(errno));
    text[n] = '\0';
    err = parse(text, &d);
    if (err == ERR_VERSION)
        return explain(detail, err,
                       "%.300s: %.20s is newer than format %d of this server: start "
                       "the version that wrote it",
                       name, strtok(text, "\n"), DATADIR_FORMAT);
    if (err != 0)
        return explain(detail, ERR_CORRUPT,
                       "%.300s is damaged: restore it from a backup, or run sldmkv-check --salvage "
                       "into a new directory",
                       name);
    *out = d;
    return 0;
}

int datadir_write_format(const char *path, const struct datadir *d)
{
    char new_name[PATH_ROOM], name[PATH_ROOM], text[FORMAT_TEXT_MAX];
    int len = format_text(d, text), err = 0, fd;

    join(new_name, path, "FORMAT.new");
    join(name, path, "FORMAT");
    fd = open(new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_from_errno(errno);
    errno = ENOSPC; /* a short write sets nothing */
    if (write(fd, text, (size_t)len) != len || fsync(fd) != 0)
        err = err_from_errno(errno);
    if (close(fd) != 0 && err == 0)
        err = err_from_errno(errno);
    if (err == 0 && rename(new_name, name) != 0)
        err = err_from_errno(errno);
    if (err != 0) {
        unlink(new_name);
        return err;
    }
    return io_sync_dir(path);
}

static int create_format(const char *path, uint32_t node, bool raft, struct datadir *d,
                         char *detail)
{
    int err = check_no_store(path, detail);

    if (err != 0)
        return err;
    *d = (struct datadir){.lock_fd = -1, .node = node, .raft = raft, .created = true};
    memcpy(d->path, path, strlen(path) + 1);
    hash_random(d->uuid, sizeof(d->uuid));
    err = datadir_write_format(path, d);
    return err == 0 ? 0
                    : explain(detail, err, "cannot write %.300s/FORMAT: %s", path, err_text(err));
}

static int check_match(const struct datadir *d, uint32_t node, bool raft, char *detail)
{
    if (d->node != node)
        return explain(detail, ERR_INVAL,
                       "data-dir %.300s belongs to node %" PRIu32 ", server-id is %" PRIu32
                       ": set server-id %" PRIu32 " or use another directory",
                       d->path, d->node, node, d->node);
    if (d->raft != raft)
        return explain(detail, ERR_INVAL,
                       "data-dir %.250s was made with raft %s: start with raft %s, or convert the "
                       "cleanly stopped store with sldmkv-check --convert-log %s",
                       d->path, d->raft ? "yes" : "no", d->raft ? "yes" : "no",
                       raft ? "raft" : "none");
    return 0;
}

int datadir_open(const char *path, uint32_t node, bool raft, struct datadir *out, char *detail)
{
    struct datadir d = {.lock_fd = -1};
    int lock_fd = -1, err;

    ASSERT(node >= 1);
    detail[0] = '\0';
    if (path[0] == '\0' || strlen(path) >= sizeof(d.path))
        return explain(detail, ERR_INVAL, "data-dir: the path is empty or too long");
    err = make_dir(path, detail);
    if (err == 0)
        err = check_filesystem(path, detail);
    if (err == 0)
        err = datadir_lock(path, &lock_fd, detail);
    if (err != 0)
        return err;
    err = datadir_read_format(path, &d, detail);
    if (err == ERR_NOTFOUND)
        err = create_format(path, node, raft, &d, detail);
    else if (err == 0)
        err = check_match(&d, node, raft, detail);
    if (err != 0) {
        close(lock_fd);
        return err;
    }
    detail[0] = '\0';
    d.lock_fd = lock_fd;
    *out = d;
    return 0;
}

/* The LOCK file stays: removing it would let two processes lock two files of that name. */
void datadir_close(struct datadir *d)
{
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    d->lock_fd = -1;
}

int datadir_space(const char *path, uint64_t *total, uint64_t *available)
{
    struct statvfs st;

    if (statvfs(path, &st) != 0)
        return err_from_errno(errno);
    *total = (uint64_t)st.f_blocks * st.f_frsize;
    *available = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}
