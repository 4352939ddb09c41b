/* SPDX-License-Identifier: MIT */
/* audit: after an unclean stop, one walk over index.mdb on the maint thread while the store serves.
 *
 * LMDB has no page checksums. A damaged record is found when it is read; a damaged branch page can
 * hide keys, which only a walk that counts them can tell, or make LMDB crash. Both leave a marker
 * file, DAMAGED, and the next start refuses the directory with the reason and the remedy, so that
 * a service manager does not restart into the same crash for ever, and hidden keys are not taken
 * for absent ones unnoticed. A kill during the walk leaves no marker.
 *
 * The marker of a crash is written by a signal handler that is there only while the walk runs and
 * acts only on the thread that walks; then the signal takes the way it had before.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/logger.h"
#include "store/store_int.h"

#define MARKER "index.damaged"
#define SIGNALS 3

struct audit {
    struct job job;
    struct store *s;
    atomic_bool cancel;
    /* out of the job */
    int err;
    uint64_t keys, bad;
};

static const int signals[SIGNALS] = {SIGSEGV, SIGBUS, SIGABRT};
static struct sigaction before[SIGNALS];
static char marker_path[4096 + 32];
static _Thread_local bool walking;
static atomic_flag handlers_taken = ATOMIC_FLAG_INIT; /* several stores in one process: tests */

static const char crash_text[] = "liblmdb crashed while index.mdb was walked\n";

static void write_marker(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    if (write(fd, text, len) == (ssize_t)len)
        (void)fsync(fd);
    close(fd);
}

static void on_crash(int sig)
{
    for (int i = 0; i < SIGNALS; i++) {
        if (signals[i] == sig)
            sigaction(sig, &before[i], NULL); /* the fault comes again and goes there */
    }
    if (walking)
        write_marker(marker_path, crash_text, sizeof(crash_text) - 1);
}

static void catch_crashes(const char *dir)
{
    struct sigaction sa = {.sa_handler = on_crash};
    sigset_t set;

    snprintf(marker_path, sizeof(marker_path), "%s/" MARKER, dir);
    sigemptyset(&sa.sa_mask);
    sigemptyset(&set);
    for (int i = 0; i < SIGNALS; i++) {
        sigaddset(&set, signals[i]);
        sigaction(signals[i], &sa, &before[i]);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* workers block every signal */
    walking = true;
}

static void leave_crashes(void)
{
    sigset_t set;

    walking = false;
    sigemptyset(&set);
    for (int i = 0; i < SIGNALS; i++) {
        sigaddset(&set, signals[i]);
        sigaction(signals[i], &before[i], NULL);
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static bool may_go_on(void *ctx, uint64_t done)
{
    struct audit *a = ctx;

    (void)done;
    return !atomic_load(&a->cancel);
}

static void work(struct job *job)
{
    struct audit *a = (struct audit *)(void *)job;
    char text[128], path[4096 + 32];
    int len;
    bool caught = !atomic_flag_test_and_set(&handlers_taken);

    if (caught)
        catch_crashes(a->s->config.dir);
    (void)FAIL("audit.walk");
    a->err = index_verify(a->s->index, &a->keys, &a->bad, may_go_on, a);
    if (caught) {
        leave_crashes();
        atomic_flag_clear(&handlers_taken);
    }
    if (a->err != ERR_CORRUPT)
        return;
    len = snprintf(text, sizeof(text), "the tree of index.mdb is damaged, %" PRIu64 " keys found\n",
                   a->keys);
    snprintf(path, sizeof(path), "%s/" MARKER, a->s->config.dir);
    write_marker(path, text, (size_t)len);
}

static void done(struct job *job)
{
    struct audit *a = (struct audit *)(void *)job;
    struct store *s = a->s;

    if (a->err == ERR_CORRUPT)
        LOG_WARNING("audit index.mdb is damaged, keys may be hidden; keys_found=%" PRIu64
                    " dir=%s action=\"stop the server and run sldmkv-check\"",
                    a->keys, s->config.dir);
    else if (a->bad > 0)
        LOG_WARNING("audit index.mdb holds damaged records, they are misses; keys=%" PRIu64
                    " damaged=%" PRIu64,
                    a->keys, a->bad);
    else if (a->err == 0)
        LOG_NOTICE("audit index.mdb is sound after an unclean stop keys=%" PRIu64, a->keys);
    s->audit = NULL;
    free(a);
}

int audit_refuse_damaged(const char *dir, char *detail)
{
    char path[4096 + 32], text[128] = "";
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "%s/" MARKER, dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    snprintf(detail, INDEX_DETAIL_MAX,
             "%.250s/index.mdb: %s at the last start: run sldmkv-check; to start all the same, "
             "remove %s",
             dir, text, MARKER);
    return ERR_CORRUPT;
}

void audit_start(struct store *s)
{
    struct audit *a = calloc(1, sizeof(*a));

    ASSERT(s->audit == NULL);
    if (a == NULL)
        PANIC("out of memory");
    a->s = s;
    a->job.work = work;
    a->job.done = done;
    atomic_init(&a->cancel, false);
    s->audit = a;
    worker_submit(s->maint, &a->job);
}

void audit_cancel(struct store *s)
{
    if (s->audit != NULL)
        atomic_store(&s->audit->cancel, true);
}
