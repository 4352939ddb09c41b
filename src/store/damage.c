/* SPDX-License-Identifier: MIT */
/* A crash inside liblmdb is a SIGSEGV or SIGBUS (a page number or an offset that leads out of the
 * file) or a SIGABRT (its own assertions). The handler writes the mark if the thread that crashed
 * was inside, then the signal takes the way it had before: a core, a sanitizer's report. A kill
 * leaves no mark, nor does an assertion of ours, which stands outside.
 *
 * Worker threads block every signal, and a blocked fault ends the process without its handler, so
 * the first enter of a thread unblocks these three.
 */
#include "store/damage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "store/index.h"

#define SIGNALS 3
#define PATH_SIZE (4096 + 32)

static const int signals[SIGNALS] = {SIGSEGV, SIGBUS, SIGABRT};
static struct sigaction before[SIGNALS];
static unsigned watchers; /* several stores in one process: tests */

static _Thread_local const char *inside;
static _Thread_local unsigned depth;
static _Thread_local bool unblocked;

static const char crash_text[] = "liblmdb crashed in it";

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t len = strlen(text);

    if (fd < 0)
        return;
    if (write(fd, text, len) == (ssize_t)len)
        (void)fsync(fd);
    else
        unlink(path); /* a full disk: an empty mark would refuse a sound store */
    close(fd);
}

void damage_mark(const char *path, const char *text)
{
    if (watchers > 0)
        write_file(path, text);
}

static void on_crash(int sig)
{
    for (int i = 0; i < SIGNALS; i++) {
        if (signals[i] == sig)
            sigaction(sig, &before[i], NULL); /* the fault comes again and goes there */
    }
    if (inside != NULL)
        damage_mark(inside, crash_text);
}

void damage_watch(void)
{
    struct sigaction sa = {.sa_handler = on_crash};

    if (watchers++ > 0)
        return;
    sigemptyset(&sa.sa_mask);
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &sa, &before[i]);
}

void damage_unwatch(void)
{
    ASSERT(watchers > 0);
    if (--watchers > 0)
        return;
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &before[i], NULL);
}

static void unblock(void)
{
    sigset_t set;

    sigemptyset(&set);
    for (int i = 0; i < SIGNALS; i++)
        sigaddset(&set, signals[i]);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    unblocked = true;
}

void damage_enter(const char *path)
{
    if (!unblocked)
        unblock();
    depth++;
    inside = path;
}

void damage_leave(void)
{
    ASSERT(depth > 0);
    if (--depth == 0)
        inside = NULL;
}

bool damage_suspect(const char *dir)
{
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "%s/" DAMAGE_SUSPECT_FILE, dir);
    if (access(path, F_OK) == 0)
        return true;
    write_file(path, "a checkpoint failed\n");
    return false;
}

void damage_disproved(const char *dir)
{
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "%s/" DAMAGE_SUSPECT_FILE, dir);
    unlink(path);
}

int damage_refuse(const char *dir, char *detail)
{
    char path[PATH_SIZE], text[128] = "";
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "%s/" DAMAGE_FILE, dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    snprintf(detail, INDEX_DETAIL_MAX,
             "%.250s/index.mdb is damaged: %s: run sldmkv-check; to start all the same, remove %s",
             dir, text, DAMAGE_FILE);
    return ERR_CORRUPT;
}
