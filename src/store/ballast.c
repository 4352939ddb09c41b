/* SPDX-License-Identifier: MIT */
/* The gap between the two marks is wider than the file, so it cannot come and go in turn. */
#include "store/ballast.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/logger.h"

#define PATH_BYTES 4200

static void release(const char *path, uint64_t free_bytes)
{
    if (unlink(path) == 0)
        LOG_WARNING("the disk is nearly full, file=%s is given up so that keys can be deleted; "
                    "free_bytes=%llu action=\"free disk space\"",
                    path, (unsigned long long)free_bytes);
}

static void reserve(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool done;

    if (fd < 0)
        return;
    done = fallocate(fd, 0, 0, (off_t)BALLAST_BYTES) == 0;
    close(fd);
    if (!done)
        unlink(path);
}

void ballast_step(const char *dir, uint64_t free_bytes)
{
    char path[PATH_BYTES];
    bool there;

    if (snprintf(path, sizeof(path), "%s/" BALLAST_FILE, dir) >= (int)sizeof(path))
        return;
    there = access(path, F_OK) == 0;
    if (there && free_bytes < BALLAST_LOW)
        release(path, free_bytes);
    else if (!there && errno == ENOENT && free_bytes > BALLAST_HIGH)
        reserve(path);
}
