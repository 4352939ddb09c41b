/* SPDX-License-Identifier: MIT */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"

static ssize_t system_pwritev(void *ctx, int fd, const struct iovec *iov, int count, off_t offset)
{
    (void)ctx;
    return pwritev(fd, iov, count, offset);
}

static ssize_t system_preadv(void *ctx, int fd, const struct iovec *iov, int count, off_t offset)
{
    (void)ctx;
    return preadv(fd, iov, count, offset);
}

static int system_fdatasync(void *ctx, int fd)
{
    (void)ctx;
    return fdatasync(fd);
}

static int system_fallocate(void *ctx, int fd, int mode, off_t offset, off_t len)
{
    (void)ctx;
    return fallocate(fd, mode, offset, len);
}

const struct io_ops io_system = {system_pwritev, system_preadv, system_fdatasync, system_fallocate,
                                 NULL};

/* Drops the first n bytes; returns how many vectors are done. */
static int advance(struct iovec *iov, int count, size_t n)
{
    int i = 0;

    while (i < count && n >= iov[i].iov_len)
        n -= iov[i++].iov_len;
    if (i < count) {
        iov[i].iov_base = (char *)iov[i].iov_base + n;
        iov[i].iov_len -= n;
    }
    return i;
}

/* Nothing to transfer is not a transfer of nothing, which would be an error. False: all is done. */
static bool skip_empty(struct iovec **iov, int *count)
{
    int done = advance(*iov, *count, 0);

    *iov += done;
    *count -= done;
    return *count > 0;
}

static int transfer_all(const struct io_ops *io, bool writing, int fd, struct iovec *iov, int count,
                        off_t offset)
{
    while (skip_empty(&iov, &count)) {
        int batch = count < IOV_MAX ? count : IOV_MAX;
        ssize_t n = writing ? io->pwritev(io->ctx, fd, iov, batch, offset)
                            : io->preadv(io->ctx, fd, iov, batch, offset);
        int done;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        if (n == 0)
            return writing ? ERR_IO : ERR_CORRUPT;
        done = advance(iov, batch, (size_t)n);
        iov += done;
        count -= done;
        offset += n;
    }
    return 0;
}

int io_write_all(const struct io_ops *io, int fd, struct iovec *iov, int count, off_t offset)
{
    ASSERT(io != NULL && iov != NULL);
    return transfer_all(io, true, fd, iov, count, offset);
}

int io_read_all(const struct io_ops *io, int fd, struct iovec *iov, int count, off_t offset)
{
    ASSERT(io != NULL && iov != NULL);
    return transfer_all(io, false, fd, iov, count, offset);
}

int io_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = 0;

    if (fd < 0)
        return err_from_errno(errno);
    if (fsync(fd) != 0)
        err = err_from_errno(errno);
    close(fd);
    return err;
}

void io_owner(const char *path, char *out)
{
    struct stat st;

    out[0] = '\0';
    if (stat(path, &st) == 0)
        snprintf(
            out, IO_OWNER_MAX,
            ": it belongs to uid %u with mode %o, this process is uid %u: check owner and mode",
            (unsigned)st.st_uid, (unsigned)st.st_mode & 07777u, (unsigned)geteuid());
}
