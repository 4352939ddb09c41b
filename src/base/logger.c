/* SPDX-License-Identifier: MIT */
#include "base/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

static atomic_int current_fd = STDOUT_FILENO;
static atomic_int current_level = LOGGER_NOTICE;
static char current_path[4096];

/* A log file keeps its descriptor number for ever: another thread may be about to write to it, and
 * a number that was closed could by then belong to a data file. */
static int switch_to(int fd)
{
    int current = atomic_load(&current_fd);
    int rc = 0;

    if (current == STDOUT_FILENO) {
        atomic_store(&current_fd, fd);
        return 0;
    }
    if (dup3(fd, current, O_CLOEXEC) < 0)
        rc = err_from_errno(errno);
    if (fd != STDOUT_FILENO)
        close(fd);
    return rc;
}

int logger_open(const char *path)
{
    int fd = STDOUT_FILENO;
    int rc;

    if (path != NULL && path[0] != '\0') {
        if (strlen(path) >= sizeof(current_path))
            return ERR_INVAL;
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (fd < 0)
            return err_from_errno(errno);
    }
    rc = switch_to(fd);
    if (rc != 0)
        return rc;
    if (fd == STDOUT_FILENO)
        current_path[0] = '\0';
    else if (path != current_path)
        strcpy(current_path, path);
    return 0;
}

int logger_reopen(void)
{
    return current_path[0] == '\0' ? 0 : logger_open(current_path);
}

void logger_set_level(enum logger_level level)
{
    atomic_store(&current_level, (int)level);
}

bool logger_enabled(enum logger_level level)
{
    return (int)level >= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void logger_write(enum logger_level level, const char *format, ...)
{
    static const char mark[] = {'.', '-', '*', '#'};
    char line[LOGGER_LINE_MAX];
    struct timespec now;
    struct tm tm;
    size_t len;
    int n;
    va_list ap;

    if (!logger_enabled(level))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    len = (size_t)snprintf(line, 32, "%d:M ", (int)getpid());
    len += strftime(line + len, 32, "%d %b %Y %H:%M:%S", &tm);
    len += (size_t)snprintf(line + len, 16, ".%03d %c ", (int)(now.tv_nsec / 1000000), mark[level]);

    va_start(ap, format);
    n = vsnprintf(line + len, sizeof(line) - len - 1, format, ap);
    va_end(ap);
    if (n < 0)
        return;
    len += (size_t)n;
    if (len > sizeof(line) - 2) {
        len = sizeof(line) - 5;
        memcpy(line + len, "…", 3);
        len += 3;
    }
    /* Names of keys and clients may stand in a line; they must not end it. */
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 127)
            line[i] = ' ';
    line[len++] = '\n';
    if (write(atomic_load(&current_fd), line, len) < 0)
        return;
}

bool logger_allow(uint64_t *last_ms, uint64_t interval_ms)
{
    struct timespec now;
    uint64_t ms;

    clock_gettime(CLOCK_MONOTONIC, &now);
    ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + 1;
    if (*last_ms != 0 && ms - *last_ms < interval_ms)
        return false;
    *last_ms = ms;
    return true;
}
