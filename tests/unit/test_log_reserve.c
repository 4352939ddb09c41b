/* SPDX-License-Identifier: MIT */
/* posix_fallocate of this program, and that it is libraft's. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "log_harness.h"
#include "test.h"
#include "tmpdir.h"

#define KB 1024
#define MB (1024 * KB)

static int new_file(void)
{
    char path[PATH_MAX];
    int fd = open(tmpdir_path(path, tmpdir(), "f"), O_RDWR | O_CREAT | O_EXCL, 0600);

    CHECK_GE_INT(fd, 0);
    return fd;
}

static off_t size_of(int fd)
{
    struct stat st;

    CHECK_EQ_INT(fstat(fd, &st), 0);
    return st.st_size;
}

/* Bytes that are reserved and were never written; a file system that cannot tell says none. */
static uint64_t unwritten(int fd)
{
    enum { EXTENTS = 256 };
    static union {
        struct fiemap map;
        uint8_t room[sizeof(struct fiemap) + EXTENTS * sizeof(struct fiemap_extent)];
    } f;
    uint64_t sum = 0;

    f.map = (struct fiemap){.fm_length = UINT64_MAX, .fm_flags = FIEMAP_FLAG_SYNC};
    f.map.fm_extent_count = EXTENTS;
    if (ioctl(fd, FS_IOC_FIEMAP, &f.map) != 0)
        return 0;
    for (unsigned i = 0; i < f.map.fm_mapped_extents; i++)
        if (f.map.fm_extents[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN)
            sum += f.map.fm_extents[i].fe_length;
    return sum;
}

static void check_bytes(int fd, off_t from, off_t to, int want)
{
    uint8_t page[4096];

    for (off_t at = from; at < to; at += (off_t)sizeof(page)) {
        size_t len = to - at < (off_t)sizeof(page) ? (size_t)(to - at) : sizeof(page);

        CHECK_EQ_INT(pread(fd, page, len, at), (int64_t)len);
        for (size_t i = 0; i < len; i++)
            CHECK_EQ_INT(page[i], want);
    }
}

TEST(what_is_reserved_is_zeros_and_written)
{
    int fd = new_file();

    CHECK_EQ_INT(posix_fallocate(fd, 0, 3 * MB), 0);
    CHECK_EQ_INT(size_of(fd), 3 * MB);
    CHECK_EQ_U64(unwritten(fd), 0);
    check_bytes(fd, 0, 3 * MB, 0);
    CHECK_EQ_INT(fcntl(fd, F_GETFL) & O_DIRECT, 0);
    close(fd);
}

TEST(what_is_there_stays)
{
    int fd = new_file();
    static uint8_t old[128 * KB];

    memset(old, 'x', sizeof(old));
    CHECK_EQ_INT(write(fd, old, sizeof(old)), sizeof(old));
    CHECK_EQ_INT(posix_fallocate(fd, 0, MB), 0);
    check_bytes(fd, 0, sizeof(old), 'x');
    check_bytes(fd, sizeof(old), MB, 0);
    CHECK_EQ_INT(posix_fallocate(fd, 64 * KB, 128 * KB), 0); /* inside */
    CHECK_EQ_INT(size_of(fd), MB);
    check_bytes(fd, 0, sizeof(old), 'x');
    CHECK_EQ_INT(posix_fallocate(fd, 2 * MB, MB), 0); /* beyond: a hole between */
    CHECK_EQ_INT(size_of(fd), 3 * MB);
    check_bytes(fd, sizeof(old), 3 * MB, 0);
    close(fd);
}

TEST(small_and_odd_sizes)
{
    int fd = new_file();

    CHECK_EQ_INT(posix_fallocate(fd, 0, 64), 0);
    CHECK_EQ_INT(size_of(fd), 64);
    CHECK_EQ_INT(posix_fallocate(fd, 64, 100001), 0);
    CHECK_EQ_INT(size_of(fd), 100065);
    check_bytes(fd, 0, 100065, 0);
    close(fd);
}

TEST(errors_are_returned)
{
    int fd = new_file();

    CHECK_EQ_INT(posix_fallocate(-1, 0, MB), EBADF);
    CHECK_EQ_INT(posix_fallocate(fd, 0, 0), EINVAL);
    CHECK_EQ_INT(posix_fallocate(fd, -4096, MB), EINVAL);
    CHECK_EQ_INT(size_of(fd), 0);
    close(fd);
    fd = open("/dev/null", O_RDONLY);
    CHECK_NE_INT(posix_fallocate(fd, 0, MB), 0);
    close(fd);
}

TEST(libraft_writes_into_such_a_segment)
{
    struct harness h;
    char path[PATH_MAX];
    const char *dir = tmpdir();
    int fd;

    harness_init(&h, LOG_RAFT, dir);
    CHECK_EQ_INT(harness_start(&h), 0);
    CHECK_EQ_INT(harness_propose(&h, 1, 8 * KB), 0);
    CHECK(harness_until(&h, 1));
    fd = open(tmpdir_path(path, dir, "open-1"), O_RDONLY);
    CHECK_GE_INT(fd, 0);
    CHECK_EQ_INT(size_of(fd), (int64_t)h.config.segment_bytes);
    CHECK_EQ_U64(unwritten(fd), 0);
    close(fd);
    harness_fini(&h);
}

TEST_MAIN
