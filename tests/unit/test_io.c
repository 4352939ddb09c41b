/* SPDX-License-Identifier: MIT */
#include "base/io.h"
#include "test.h"
#include "tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#include "base/err.h"

/* A device that moves at most `most` bytes a call and fails at the n-th one. */
struct slow {
    size_t most;
    int fail_at, fail_errno;
    int calls, interrupts;
};

static ssize_t slow_move(struct slow *s, int fd, const struct iovec *iov, int count, off_t offset,
                         bool writing)
{
    ssize_t sum = 0;
    size_t room = s->most;

    CHECK_LE_INT(count, IOV_MAX);
    if (++s->calls == s->fail_at) {
        errno = s->fail_errno;
        return s->fail_errno != 0 ? -1 : 0;
    }
    if (s->calls % 2 == 0 && s->interrupts > 0) {
        s->interrupts--;
        errno = EINTR;
        return -1;
    }
    for (int i = 0; i < count && room > 0; i++) {
        size_t n = iov[i].iov_len < room ? iov[i].iov_len : room;
        ssize_t got = writing ? pwrite(fd, iov[i].iov_base, n, offset + sum)
                              : pread(fd, iov[i].iov_base, n, offset + sum);

        CHECK_GE_INT(got, 0);
        sum += got;
        room -= (size_t)got;
        if ((size_t)got < n)
            break;
    }
    return sum;
}

static ssize_t slow_write(void *ctx, int fd, const struct iovec *iov, int count, off_t offset)
{
    return slow_move(ctx, fd, iov, count, offset, true);
}

static ssize_t slow_read(void *ctx, int fd, const struct iovec *iov, int count, off_t offset)
{
    return slow_move(ctx, fd, iov, count, offset, false);
}

static struct io_ops slow_ops(struct slow *s)
{
    struct io_ops io = io_system;

    io.pwritev = slow_write;
    io.preadv = slow_read;
    io.ctx = s;
    return io;
}

static int open_file(void)
{
    char path[PATH_MAX];
    int fd = open(tmpdir_path(path, tmpdir(), "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    CHECK_GE_INT(fd, 0);
    return fd;
}

enum { LEN = 10000 };

static uint8_t data[LEN], back[LEN];

/* Vectors of growing and of no length over buf; returns how many. */
static int cut(struct iovec *iov, uint8_t *buf)
{
    size_t at = 0, n = 0;
    int count = 0;

    while (at < LEN) {
        iov[count].iov_base = buf + at;
        iov[count].iov_len = n < LEN - at ? n : LEN - at;
        at += iov[count++].iov_len;
        n = count % 5 == 0 ? 0 : (size_t)count * 3;
    }
    iov[count++] = (struct iovec){buf, 0};
    return count;
}

static void fill(void)
{
    for (size_t i = 0; i < LEN; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    memset(back, 0, LEN);
}

TEST(whole_transfers)
{
    struct iovec iov[LEN];
    int fd = open_file();

    fill();
    CHECK_EQ_INT(io_write_all(&io_system, fd, iov, cut(iov, data), 123), 0);
    CHECK_EQ_INT(io_system.fdatasync(io_system.ctx, fd), 0);
    CHECK_EQ_INT(io_read_all(&io_system, fd, iov, cut(iov, back), 123), 0);
    CHECK_EQ_MEM(back, data, LEN);
    CHECK_EQ_INT(lseek(fd, 0, SEEK_END), 123 + LEN);
    close(fd);
}

TEST(short_transfers_are_continued)
{
    static const size_t most[] = {1, 2, 3, 7, 100, 4096, LEN - 1, LEN, LEN + 1};

    for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
        struct slow s = {.most = most[i], .interrupts = 5};
        struct io_ops io = slow_ops(&s);
        struct iovec iov[LEN];
        int fd = open_file();

        fill();
        CHECK_EQ_INT(io_write_all(&io, fd, iov, cut(iov, data), 0), 0);
        CHECK_EQ_INT(io_read_all(&io, fd, iov, cut(iov, back), 0), 0);
        CHECK_EQ_MEM(back, data, LEN);
        close(fd);
    }
}

TEST(more_vectors_than_the_system_takes)
{
    static struct iovec iov[LEN];
    struct slow s = {.most = SIZE_MAX};
    struct io_ops io = slow_ops(&s);
    int fd = open_file();

    fill();
    for (int i = 0; i < LEN; i++)
        iov[i] = (struct iovec){data + i, 1};
    CHECK_EQ_INT(io_write_all(&io, fd, iov, LEN, 0), 0);
    CHECK_EQ_INT(s.calls, (LEN + IOV_MAX - 1) / IOV_MAX);
    iov[0] = (struct iovec){back, LEN};
    CHECK_EQ_INT(io_read_all(&io_system, fd, iov, 1, 0), 0);
    CHECK_EQ_MEM(back, data, LEN);
    close(fd);
}

TEST(nothing_to_transfer)
{
    struct slow s = {.most = 10};
    struct io_ops io = slow_ops(&s);
    struct iovec iov[2] = {{data, 0}, {data, 0}};

    CHECK_EQ_INT(io_write_all(&io, -1, iov, 0, 0), 0);
    CHECK_EQ_INT(io_write_all(&io, -1, iov, 2, 0), 0);
    CHECK_EQ_INT(io_read_all(&io, -1, iov, 2, 0), 0);
    CHECK_EQ_INT(s.calls, 0);
}

/* The n-th call fails: the error comes out, whatever was moved before. */
TEST(errors_at_every_call)
{
    static const struct {
        int number, err;
    } errors[] = {{EIO, ERR_IO}, {ENOSPC, ERR_NOSPC}, {EDQUOT, ERR_NOSPC}, {EINVAL, ERR_IO}};

    for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
        for (int at = 1; at <= 10; at++) {
            struct slow s = {.most = 1000, .fail_at = at, .fail_errno = errors[e].number};
            struct io_ops io = slow_ops(&s);
            struct iovec iov[LEN];
            int fd = open_file();

            fill();
            CHECK_EQ_INT(io_write_all(&io, fd, iov, cut(iov, data), 0), errors[e].err);
            CHECK_EQ_INT(s.calls, at);
            close(fd);
        }
    }
}

TEST(a_write_that_moves_nothing_is_an_error)
{
    struct slow s = {.most = 1000, .fail_at = 2};
    struct io_ops io = slow_ops(&s);
    struct iovec iov[LEN];
    int fd = open_file();

    CHECK_EQ_INT(io_write_all(&io, fd, iov, cut(iov, data), 0), ERR_IO);
    close(fd);
}

TEST(a_read_over_the_end_is_damage)
{
    struct iovec iov[LEN];
    int fd = open_file();

    fill();
    CHECK_EQ_INT(io_write_all(&io_system, fd, iov, cut(iov, data), 0), 0);
    CHECK_EQ_INT(ftruncate(fd, LEN - 1), 0);
    CHECK_EQ_INT(io_read_all(&io_system, fd, iov, cut(iov, back), 0), ERR_CORRUPT);
    CHECK_EQ_INT(io_read_all(&io_system, fd, iov, cut(iov, back), LEN * 2), ERR_CORRUPT);
    close(fd);
}

TEST(the_system_refuses)
{
    struct iovec iov = {data, 10};

    CHECK_EQ_INT(io_write_all(&io_system, -1, &iov, 1, 0), ERR_IO);
    iov = (struct iovec){data, 10};
    CHECK_EQ_INT(io_read_all(&io_system, -1, &iov, 1, 0), ERR_IO);
}

TEST(fallocate_reserves)
{
    int fd = open_file();

    CHECK_EQ_INT(io_system.fallocate(io_system.ctx, fd, 0, 0, 65536), 0);
    CHECK_EQ_INT(lseek(fd, 0, SEEK_END), 65536);
    close(fd);
}

TEST(directories_are_synced)
{
    const char *dir = tmpdir();
    char path[PATH_MAX];

    CHECK_EQ_INT(io_sync_dir(dir), 0);
    CHECK_EQ_INT(io_sync_dir(tmpdir_path(path, dir, "absent")), ERR_NOTFOUND);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    CHECK_EQ_INT(io_sync_dir(path), ERR_IO); /* a file */
}

TEST_MAIN
