/* SPDX-License-Identifier: MIT */
/* disk: an image file served as a disk whose power can be cut.
 *
 * Purpose   the power tests: a loop device on the served file carries the file system that the real
 *           server writes to, so what is tested is the server, its libraries and that file system
 * Use       disk IMAGE MOUNTPOINT TEAR    by root; in the foreground, ends when it is unmounted
 *           TEAR: the disk's sector, what is never torn: 512 or 4096
 *           MOUNTPOINT/disk     IMAGE, with a volatile write cache in front of it
 *           MOUNTPOINT/power    "SEED AFTER" written to it cuts the power: at once when AFTER is 0,
 *                               else while the AFTERth write or flush from now is in hand (a
 *                               flush of an empty cache does not count)
 * Tells     "ready", and after a cut "cut: …" with what became of the cache, on stdout
 * Threads   one: requests are served one after the other
 *
 * A write stays in the cache, in the order it came, until a flush (fsync of the file: the loop
 * device makes one of each flush of the block layer, and of each write with FUA) puts all into
 * IMAGE. Reads see IMAGE under the cache. A cache that grows too large gives its oldest writes to
 * IMAGE, as a disk does.
 *
 * At a cut each write of the cache is put into IMAGE or lost. Which, SEED decides, and by one of
 * several rules, since bugs differ in what they need: all, none, whole writes, pages of 4 KiB each
 * for itself, and pages that may be torn into sectors; with few, half or nearly all of them kept.
 * Kept ones are put there in the order they came, so a sector holds what was durable or any one of
 * the writes since: every order in which a disk could have written is among the outcomes.
 *
 * After it nothing is answered any more: time stands still for whoever waits for this disk, so no
 * error of a disk that is gone can reach the server. Kill it first, then this program; what waits
 * ends with an error that nobody sees.
 *
 * Page 0, the file system's super block, is never torn: ext4 refuses a torn one before it looks
 * into its journal, which says nothing about the server.
 */
#define FUSE_USE_VERSION 34
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define CACHE_MAX ((size_t)64 << 20)
#define REQUEST_MAX ((unsigned)1 << 20)

enum { ROOT = FUSE_ROOT_ID, DISK, POWER };

struct write {
    struct write *next;
    off_t at;
    size_t len;
    uint8_t bytes[];
};

enum rule { LOSE_ALL, KEEP_ALL, BY_WRITE, BY_PAGE, BY_SECTOR, RULES };

static struct {
    int fd;
    off_t size;
    size_t tear;
    struct write *first, **last;
    size_t cached;
    bool armed;
    unsigned after;
    uint64_t random;
    uint64_t writes, flushes;
} disk;

static void die(const char *what)
{
    fprintf(stderr, "disk: %s: %s\n", what, strerror(errno));
    _exit(1);
}

/* ---- the cache ---------------------------------------------------------------------------- */

static void put(const uint8_t *bytes, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(disk.fd, bytes, len, at);

        if (n <= 0)
            die("write of the image");
        bytes += n;
        at += n;
        len -= (size_t)n;
    }
}

static void drop_first(void)
{
    struct write *w = disk.first;

    disk.first = w->next;
    if (disk.first == NULL)
        disk.last = &disk.first;
    disk.cached -= w->len;
    free(w);
}

static void write_back(size_t allowed)
{
    while (disk.first != NULL && disk.cached > allowed) {
        put(disk.first->bytes, disk.first->len, disk.first->at);
        drop_first();
    }
}

static void add(const char *bytes, size_t len, off_t at)
{
    struct write *w = malloc(sizeof(*w) + len);

    if (w == NULL)
        die("a write");
    *w = (struct write){.at = at, .len = len};
    memcpy(w->bytes, bytes, len);
    *disk.last = w;
    disk.last = &w->next;
    disk.cached += len;
    write_back(CACHE_MAX);
}

static void look_through(uint8_t *out, size_t len, off_t at)
{
    for (const struct write *w = disk.first; w != NULL; w = w->next) {
        off_t from = w->at > at ? w->at : at;
        off_t end = w->at + (off_t)w->len, until = at + (off_t)len;

        if (until > end)
            until = end;
        if (from < until)
            memcpy(out + (from - at), w->bytes + (from - w->at), (size_t)(until - from));
    }
}

/* ---- the cut ------------------------------------------------------------------------------ */

static uint64_t next_random(void) /* splitmix64 */
{
    uint64_t x = disk.random += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static bool chance(unsigned percent)
{
    return next_random() % 100 < percent;
}

struct outcome {
    unsigned kept, lost, torn; /* pages */
};

/* A page of a write, or the part of a page that it covers. */
static void decide(const uint8_t *bytes, size_t len, off_t at, bool keep, struct outcome *out)
{
    if (keep)
        put(bytes, len, at);
    out->kept += keep;
    out->lost += !keep;
}

static void decide_torn(const uint8_t *bytes, size_t len, off_t at, struct outcome *out)
{
    for (size_t n = 0; n < len; n += disk.tear)
        if (chance(50))
            put(bytes + n, len - n < disk.tear ? len - n : disk.tear, at + (off_t)n);
    out->torn++;
}

static struct outcome decide_all(enum rule rule, unsigned percent)
{
    struct outcome out = {0};

    for (; disk.first != NULL; drop_first()) {
        const struct write *w = disk.first;
        bool keep = rule == KEEP_ALL || (rule == BY_WRITE && chance(percent));
        size_t len;

        for (size_t n = 0; n < w->len; n += len) {
            off_t at = w->at + (off_t)n;

            len = PAGE - (size_t)at % PAGE;
            if (len > w->len - n)
                len = w->len - n;
            if (rule == BY_PAGE || rule == BY_SECTOR)
                keep = chance(percent);
            if (rule == BY_SECTOR && at >= PAGE && chance(50))
                decide_torn(w->bytes + n, len, at, &out);
            else
                decide(w->bytes + n, len, at, keep, &out);
        }
    }
    return out;
}

static _Noreturn void cut(void)
{
    static const char *const names[RULES] = {"lose all", "keep all", "by write", "by page",
                                             "by sector"};
    static const unsigned percents[] = {10, 50, 90};
    enum rule rule = (enum rule)(next_random() % RULES);
    unsigned percent = percents[next_random() % 3];
    struct outcome out = decide_all(rule, percent);

    printf("cut: %s %u%% kept=%u lost=%u torn=%u writes=%" PRIu64 " flushes=%" PRIu64 "\n",
           names[rule], percent, out.kept, out.lost, out.torn, disk.writes, disk.flushes);
    fflush(stdout);
    for (;;)
        pause();
}

/* Only what finds something to lose counts: not the flush of an empty cache. */
static void maybe_cut(void)
{
    if (disk.armed && disk.first != NULL && --disk.after == 0)
        cut();
}

/* ---- the file system ---------------------------------------------------------------------- */

static bool attributes(fuse_ino_t ino, struct stat *st)
{
    *st = (struct stat){.st_ino = ino, .st_nlink = 1, .st_mode = S_IFREG | 0600};
    if (ino == ROOT)
        st->st_mode = S_IFDIR | 0700;
    else if (ino == DISK)
        st->st_size = disk.size;
    return ino <= POWER;
}

static void on_init(void *ctx, struct fuse_conn_info *conn)
{
    (void)ctx;
    conn->max_write = REQUEST_MAX;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = {.attr_timeout = 3600, .entry_timeout = 3600};

    entry.ino = strcmp(name, "disk") == 0 ? DISK : strcmp(name, "power") == 0 ? POWER : 0;
    if (parent != ROOT || entry.ino == 0 || !attributes(entry.ino, &entry.attr))
        fuse_reply_err(req, ENOENT);
    else
        fuse_reply_entry(req, &entry);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    (void)fi;
    if (attributes(ino, &st))
        fuse_reply_attr(req, &st, 3600);
    else
        fuse_reply_err(req, ENOENT);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    fi->direct_io = 1; /* the kernel's page cache would be a second one, flushed by its own rules */
    fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t at, struct fuse_file_info *fi)
{
    static uint8_t bytes[REQUEST_MAX];
    ssize_t n;

    (void)fi;
    if (ino != DISK || at >= disk.size) {
        fuse_reply_buf(req, NULL, 0);
        return;
    }
    if (len > sizeof(bytes)) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if ((off_t)len > disk.size - at)
        len = (size_t)(disk.size - at);
    n = pread(disk.fd, bytes, len, at);
    if (n != (ssize_t)len)
        die("read of the image");
    look_through(bytes, len, at);
    fuse_reply_buf(req, (const char *)bytes, len);
}

static void on_power(fuse_req_t req, const char *text, size_t len)
{
    char line[64];

    snprintf(line, sizeof(line), "%.*s", (int)(len < 63 ? len : 63), text);
    if (sscanf(line, "%" SCNu64 " %u", &disk.random, &disk.after) != 2) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    fuse_reply_write(req, len);
    if (disk.after == 0)
        cut();
    disk.armed = true;
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t len, off_t at,
                     struct fuse_file_info *fi)
{
    (void)fi;
    if (ino == POWER) {
        on_power(req, bytes, len);
        return;
    }
    if (ino != DISK || at + (off_t)len > disk.size) {
        fuse_reply_err(req, ENOSPC);
        return;
    }
    disk.writes++;
    add(bytes, len, at);
    maybe_cut();
    fuse_reply_write(req, len);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi)
{
    (void)data_only, (void)fi;
    if (ino == DISK) {
        disk.flushes++;
        maybe_cut();
        write_back(0);
    }
    fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops operations = {.init = on_init,
                                                    .lookup = on_lookup,
                                                    .getattr = on_getattr,
                                                    .open = on_open,
                                                    .read = on_read,
                                                    .write = on_write,
                                                    .fsync = on_fsync};

static void open_image(const char *path, const char *tear)
{
    struct stat st;

    disk.fd = open(path, O_RDWR | O_CLOEXEC);
    if (disk.fd < 0 || fstat(disk.fd, &st) != 0)
        die(path);
    disk.size = st.st_size;
    disk.tear = (size_t)atoi(tear);
    disk.last = &disk.first;
}

int main(int argc, char **argv)
{
    char *name[] = {argv[0], NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, name);
    struct fuse_session *session;
    int rc;

    if (argc != 4 || (strcmp(argv[3], "512") != 0 && strcmp(argv[3], "4096") != 0)) {
        fprintf(stderr, "usage: disk IMAGE MOUNTPOINT 512|4096\n");
        return 2;
    }
    open_image(argv[1], argv[3]);
    session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
    if (session == NULL || fuse_session_mount(session, argv[2]) != 0)
        return 1;
    printf("ready\n");
    fflush(stdout);
    rc = fuse_session_loop(session);
    write_back(0);
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    return rc != 0;
}
