/* SPDX-License-Identifier: MIT */
/* io: the file operations of payload volumes, as a struct that tests replace.
 *
 * Purpose   the seam for fault injection and for simulated power cuts
 * Threads   any (the functions are called on worker threads)
 * Errors    as the system calls: -1 and errno
 */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <sys/types.h>
#include <sys/uio.h>

struct io_ops {
    ssize_t (*pwritev)(void *ctx, int fd, const struct iovec *iov, int count, off_t offset);
    ssize_t (*preadv)(void *ctx, int fd, const struct iovec *iov, int count, off_t offset);
    int (*fdatasync)(void *ctx, int fd);
    int (*fallocate)(void *ctx, int fd, int mode, off_t offset, off_t len);
    void *ctx;
};

extern const struct io_ops io_system;

/* All of it or an error: short transfers are continued, EINTR is retried. 0 or ERR_. A read that
 * meets the end of the file is ERR_CORRUPT (the caller knew the length). Modifies iov. */
int io_write_all(const struct io_ops *io, int fd, struct iovec *iov, int count, off_t offset);
int io_read_all(const struct io_ops *io, int fd, struct iovec *iov, int count, off_t offset);

/* fsync of a directory, so that names made or renamed in it survive a power cut. 0 or ERR_. */
int io_sync_dir(const char *path);

#define IO_OWNER_MAX 128
/* For messages about EACCES: ": it belongs to uid 0 with mode 600, this process is uid 999: check
 * owner and mode", or "" where there is no such file. out: IO_OWNER_MAX bytes. */
void io_owner(const char *path, char *out);

#endif
