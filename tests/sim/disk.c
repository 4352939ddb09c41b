/* SPDX-License-Identifier: MIT */
/* A file is a table of pages. A page that was never written through here is read from the real
 * file. A page written and not yet synced has its old bytes beside it: a sync throws them away, a
 * crash chooses between both, whole or sector by sector.
 *
 * After a sync that failed the kernel may believe pages clean which are not: those stay unsynced,
 * and no later sync makes them durable ("lost").
 */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "node.h"

#define PAGE 4096u
#define SECTOR 512u
#define FILES_MAX 64
#define FILE_PAGES (DISK_VOLUME / PAGE)
#define DOUBTFUL_MAX 2 /* writes and syncs that fail in a seed: each costs a volume for ever */
#define ROOM_BYTES ((uint64_t)100 << 30) /* free on a disk that is not full */

struct page {
    uint8_t *now;
    uint8_t *old;   /* NULL: synced */
    uint64_t write; /* number of the write that made it so */
    bool lost;      /* a sync that failed had it in hand */
};

struct file {
    dev_t dev;
    ino_t ino;
    struct page *pages;
    uint32_t *unsynced; /* numbers of pages with old bytes */
    size_t nunsynced;
};

static struct file files[FILES_MAX];
static unsigned nfiles;
static bool cut, full;
static struct disk_stats stats;

/* ---- files -------------------------------------------------------------------------------- */

static struct file *file_of(const struct stat *st)
{
    for (unsigned i = 0; i < nfiles; i++)
        if (files[i].pages != NULL && files[i].ino == st->st_ino && files[i].dev == st->st_dev)
            return &files[i];
    return NULL;
}

static struct file *find_file(int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        sim_fail("fstat of descriptor %d: %s", fd, strerror(errno));
    return file_of(&st);
}

static void drop_file(struct file *f)
{
    for (size_t i = 0; i < FILE_PAGES; i++) {
        free(f->pages[i].now);
        free(f->pages[i].old);
    }
    free(f->pages);
    free(f->unsynced);
    f->pages = NULL;
}

static void add_file(int fd)
{
    struct file *f = find_file(fd);
    struct stat st;
    unsigned i = 0;

    fstat(fd, &st);
    if (f != NULL)
        drop_file(f); /* a number of the file system, used again */
    while (i < nfiles && files[i].pages != NULL)
        i++;
    if (i == FILES_MAX)
        sim_fail("more than %d volumes", FILES_MAX);
    if (i == nfiles)
        nfiles++;
    files[i] = (struct file){.dev = st.st_dev, .ino = st.st_ino};
    files[i].pages = calloc(FILE_PAGES, sizeof(struct page));
    files[i].unsynced = calloc(FILE_PAGES, sizeof(uint32_t));
}

void disk_forget(const char *path)
{
    struct stat st;
    struct file *f = stat(path, &st) == 0 ? file_of(&st) : NULL;

    if (f != NULL)
        drop_file(f);
}

static void read_real(int fd, uint64_t number, uint8_t *out)
{
    static uint8_t page[PAGE] __attribute__((aligned(PAGE)));
    ssize_t n = pread(fd, page, PAGE, (off_t)(number * PAGE));

    if (n < 0)
        sim_fail("pread: %s", strerror(errno));
    memset(page + n, 0, PAGE - (size_t)n);
    memcpy(out, page, PAGE);
}

/* ---- faults ------------------------------------------------------------------------------- */

static bool fault(unsigned chance, int error)
{
    if (cut || sim.calm || !sim_chance(chance))
        return false;
    errno = error;
    return true;
}

static bool doubtful(unsigned chance)
{
    return stats.write_errors + stats.sync_errors < DOUBTFUL_MAX && fault(chance, EIO);
}

static size_t total(const struct iovec *iov, int count)
{
    size_t n = 0;

    for (int i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

/* What one call transfers of `len`, in whole pages. */
static size_t shortened(size_t len)
{
    if (len <= PAGE || !fault(sim.profile.short_io, EINTR))
        return len;
    stats.short_transfers++;
    return PAGE * (size_t)sim_between(1, len / PAGE);
}

/* ---- writing ------------------------------------------------------------------------------ */

static void write_page(struct file *f, uint64_t number, const uint8_t *bytes, int fd)
{
    struct page *p;

    if (number >= FILE_PAGES)
        sim_fail("a write behind the end of a volume, page %" PRIu64, number);
    p = &f->pages[number];
    if (p->now == NULL) {
        p->now = malloc(PAGE);
        read_real(fd, number, p->now);
    }
    if (p->old == NULL) {
        p->old = p->now;
        p->now = malloc(PAGE);
        f->unsynced[f->nunsynced++] = (uint32_t)number;
    }
    p->write = stats.writes;
    memcpy(p->now, bytes, PAGE);
}

static void check_direct(const struct iovec *iov, int count, off_t offset)
{
    bool fine = offset % PAGE == 0;

    for (int i = 0; i < count; i++)
        fine = fine && iov[i].iov_len % PAGE == 0 && (uintptr_t)iov[i].iov_base % PAGE == 0;
    if (!fine)
        sim_fail("a write that direct I/O would refuse, offset %lld", (long long)offset);
}

static void write_pages(struct file *f, int fd, const struct iovec *iov, off_t offset, size_t len)
{
    uint64_t number = (uint64_t)offset / PAGE;

    for (int i = 0; len > 0; i++) {
        for (size_t at = 0; at < iov[i].iov_len && len > 0; at += PAGE, len -= PAGE)
            write_page(f, number++, (const uint8_t *)iov[i].iov_base + at, fd);
    }
}

static ssize_t disk_pwritev(void *ctx, int fd, const struct iovec *iov, int count, off_t offset)
{
    struct file *f = find_file(fd);
    size_t len = total(iov, count);
    bool fails;

    (void)ctx;
    if (f == NULL) /* a copy that BACKUP makes */
        return pwritev(fd, iov, count, offset);
    check_direct(iov, count, offset);
    if (cut)
        return (ssize_t)len;
    if (full || fault(sim.profile.write_nospc, ENOSPC)) {
        errno = ENOSPC;
        return -1;
    }
    fails = doubtful(sim.profile.write_eio);
    stats.write_errors += fails;
    len = fails ? PAGE * (size_t)sim_random(len / PAGE + 1) : shortened(len);
    stats.writes++;
    stats.write_bytes += len;
    write_pages(f, fd, iov, offset, len);
    node_point("disk.written");
    errno = EIO;
    return fails ? -1 : (ssize_t)len;
}

/* ---- syncing ------------------------------------------------------------------------------ */

static void sync_pages(struct file *f, bool fails)
{
    size_t left = 0;

    for (size_t i = 0; i < f->nunsynced; i++) {
        struct page *p = &f->pages[f->unsynced[i]];

        p->lost = p->lost || (fails && sim_random(2) == 0);
        if (p->lost) {
            f->unsynced[left++] = f->unsynced[i];
            continue;
        }
        free(p->old);
        p->old = NULL;
    }
    f->nunsynced = left;
}

static int disk_fdatasync(void *ctx, int fd)
{
    struct file *f = find_file(fd);
    bool fails;

    (void)ctx;
    if (f == NULL)
        return fdatasync(fd);
    node_point("disk.sync");
    if (cut)
        return 0;
    fails = doubtful(sim.profile.sync_eio);
    stats.syncs++;
    stats.sync_errors += fails;
    sync_pages(f, fails);
    errno = EIO;
    return fails ? -1 : 0;
}

void disk_cut(void)
{
    cut = true;
}

enum fate { FATE_DROP, FATE_KEEP, FATE_BY_WRITE, FATE_BY_PAGE, FATE_BY_SECTOR, FATE_COUNT };

static void decide_page(struct page *p, enum fate fate, uint64_t salt)
{
    bool keep = fate == FATE_KEEP;

    if (fate == FATE_BY_WRITE)
        keep = (p->write * 0x9e3779b97f4a7c15u ^ salt) >> 40 & 1;
    if (fate == FATE_BY_PAGE)
        keep = sim_random(2) == 0;
    if (fate == FATE_BY_SECTOR) {
        for (size_t at = 0; at < PAGE; at += SECTOR)
            if (sim_random(2) == 0)
                memcpy(p->now + at, p->old + at, SECTOR);
        stats.torn_pages++;
    } else if (!keep) {
        memcpy(p->now, p->old, PAGE);
        stats.dropped_pages++;
    } else {
        stats.kept_pages++;
    }
    free(p->old);
    p->old = NULL;
    p->lost = false;
}

void disk_restart(void)
{
    for (unsigned i = 0; i < nfiles; i++) {
        struct file *f = &files[i];
        enum fate fate = (enum fate)sim_random(FATE_COUNT);
        uint64_t salt = sim_random(UINT64_MAX);

        for (size_t k = 0; f->pages != NULL && k < f->nunsynced; k++)
            decide_page(&f->pages[f->unsynced[k]], fate, salt);
        f->nunsynced = 0;
    }
    cut = false;
}

void disk_check_synced(void)
{
    for (unsigned i = 0; i < nfiles; i++)
        for (size_t k = 0; files[i].pages != NULL && k < files[i].nunsynced; k++)
            if (!files[i].pages[files[i].unsynced[k]].lost && stats.write_errors == 0)
                sim_fail("a clean stop left page %u unsynced", files[i].unsynced[k]);
}

/* ---- reading ------------------------------------------------------------------------------ */

static void read_bytes(struct file *f, int fd, uint64_t at, uint8_t *out, size_t len)
{
    while (len > 0) {
        uint64_t number = at / PAGE;
        size_t from = at % PAGE, n = PAGE - from < len ? PAGE - from : len;
        uint8_t page[PAGE];

        if (f->pages[number].now == NULL) {
            read_real(fd, number, page);
            memcpy(out, page + from, n);
        } else {
            memcpy(out, f->pages[number].now + from, n);
        }
        out += n;
        at += n;
        len -= n;
    }
}

static ssize_t disk_preadv(void *ctx, int fd, const struct iovec *iov, int count, off_t offset)
{
    struct file *f = find_file(fd);
    size_t len = total(iov, count), left;
    uint64_t at = (uint64_t)offset;

    (void)ctx;
    if (f == NULL)
        return preadv(fd, iov, count, offset);
    if (cut || fault(sim.profile.read_eio, EIO)) {
        stats.read_errors += !cut;
        errno = EIO;
        return -1;
    }
    if (at >= DISK_VOLUME)
        return 0;
    len = shortened(len < DISK_VOLUME - at ? len : DISK_VOLUME - at);
    stats.reads++;
    stats.read_bytes += len;
    left = len;
    for (int i = 0; left > 0; i++) {
        size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;

        read_bytes(f, fd, at, iov[i].iov_base, n);
        at += n;
        left -= n;
    }
    return (ssize_t)len;
}

/* ---- room --------------------------------------------------------------------------------- */

static int disk_fallocate(void *ctx, int fd, int mode, off_t offset, off_t len)
{
    (void)ctx;
    (void)mode;
    (void)offset;
    if (len != (off_t)DISK_VOLUME)
        sim_fail("a volume of %lld bytes", (long long)len);
    node_point("disk.allocate");
    if (cut || full || fault(sim.profile.write_nospc, ENOSPC)) {
        errno = ENOSPC;
        return -1;
    }
    add_file(fd);
    return 0;
}

const struct io_ops disk_io = {disk_pwritev, disk_preadv, disk_fdatasync, disk_fallocate, NULL};

void disk_set_full(bool is)
{
    full = is;
}

bool disk_is_full(void)
{
    return full;
}

/* In place of the C library's, for the index and for BACKUP (--wrap): room is what we say. */
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_statvfs(const char *path, struct statvfs *out);
int __wrap_fstatvfs(int fd, struct statvfs *out);

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
    (void)fd, (void)mode, (void)offset, (void)len;
    errno = ENOSPC;
    return full || cut ? -1 : 0;
}

static int say_room(struct statvfs *out)
{
    *out = (struct statvfs){.f_bsize = PAGE, .f_frsize = PAGE, .f_blocks = 2 * ROOM_BYTES / PAGE};
    out->f_bavail = out->f_bfree = full ? 1 : ROOM_BYTES / PAGE;
    return 0;
}

int __wrap_statvfs(const char *path, struct statvfs *out)
{
    (void)path;
    return say_room(out);
}

int __wrap_fstatvfs(int fd, struct statvfs *out)
{
    (void)fd;
    return say_room(out);
}

void disk_get_stats(struct disk_stats *out)
{
    *out = stats;
}

void disk_free_all(void)
{
    for (unsigned i = 0; i < nfiles; i++)
        if (files[i].pages != NULL)
            drop_file(&files[i]);
}

bool disk_has(const char *text)
{
    for (unsigned i = 0; i < nfiles; i++)
        for (size_t p = 0; files[i].pages != NULL && p < FILE_PAGES; p++)
            if (files[i].pages[p].now != NULL &&
                memmem(files[i].pages[p].now, PAGE, text, strlen(text)) != NULL)
                return true;
    return false;
}
