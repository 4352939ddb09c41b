/* SPDX-License-Identifier: MIT */
/* rig_faults: the file operations of the system, failing on demand.
 *
 * Purpose   an io_ops whose n-th write, read, sync or fallocate fails with an errno of choice
 * Threads   whoever calls the io_ops; the counters are not locked
 */
#ifndef TESTS_UNIT_RIG_FAULTS_H
#define TESTS_UNIT_RIG_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"

struct rig_fault { /* countdown: 1 = the next call; 0 = never. repeat: from then on */
    int countdown, error;
    bool repeat;
};

struct rig_faults {
    struct rig_fault write, read, sync, allocate;
    unsigned writes, syncs;
};

static inline int rig_hit(struct rig_fault *f)
{
    if (f->countdown == 0 || --f->countdown > 0)
        return 0;
    if (f->repeat)
        f->countdown = 1;
    errno = f->error;
    return f->error;
}

static inline ssize_t rig_pwritev(void *ctx, int fd, const struct iovec *iov, int n, off_t offset)
{
    struct rig_faults *f = ctx;

    f->writes++;
    return rig_hit(&f->write) ? -1 : pwritev(fd, iov, n, offset);
}

static inline ssize_t rig_preadv(void *ctx, int fd, const struct iovec *iov, int n, off_t offset)
{
    struct rig_faults *f = ctx;

    return rig_hit(&f->read) ? -1 : preadv(fd, iov, n, offset);
}

static inline int rig_fdatasync(void *ctx, int fd)
{
    struct rig_faults *f = ctx;

    f->syncs++;
    return rig_hit(&f->sync) ? -1 : fdatasync(fd);
}

static inline int rig_fallocate(void *ctx, int fd, int mode, off_t offset, off_t len)
{
    struct rig_faults *f = ctx;

    return rig_hit(&f->allocate) ? -1 : fallocate(fd, mode, offset, len);
}

static inline struct io_ops rig_faults_io(struct rig_faults *f)
{
    return (struct io_ops){rig_pwritev, rig_preadv, rig_fdatasync, rig_fallocate, f};
}

#endif
