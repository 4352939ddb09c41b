/* SPDX-License-Identifier: MIT */
/* What must hold before the raft thread is made: a folder of its own, a file system libraft can
 * take snapshots on, and files that log_check finds whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "log/raft_int.h"

/* A full disk says nothing about the file system, and a store on it must start for its deletes. */
static int probe_failed(const char *dir, const char *call, int err, char *detail)
{
    char owner[IO_OWNER_MAX];

    if (err_from_errno(err) == ERR_NOSPC)
        return 0;
    if (err == ENOTSUP || err == EISDIR || err == EINVAL) {
        snprintf(detail, LOG_DETAIL_MAX,
                 "%s: %s: %s: libraft writes its snapshots through O_TMPFILE and linkat and would "
                 "fail silently here; put data-dir on a file system that has them (ext4, xfs, "
                 "tmpfs)",
                 dir, call, strerror(err));
        return ERR_UNSUPPORTED;
    }
    io_owner(dir, owner);
    snprintf(detail, LOG_DETAIL_MAX, "%s: no file can be made in it: %s%s", dir, strerror(err),
             err_from_errno(err) == ERR_ACCESS ? owner : "");
    return err_from_errno(err);
}

/* The name begins with tmp-, which libraft removes at its start if we die in between. */
static int probe_tmpfile(const char *dir, char *detail)
{
    char link_path[64], name[PATH_MAX];
    int fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600), err;

    if (fd < 0)
        return probe_failed(dir, "O_TMPFILE", errno, detail);
    snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", fd);
    snprintf(name, sizeof(name), "%s/tmp-probe", dir);
    unlink(name);
    err = posix_fallocate(fd, 0, 64);
    if (err == 0 && linkat(AT_FDCWD, link_path, AT_FDCWD, name, AT_SYMLINK_FOLLOW) != 0)
        err = errno;
    if (err == 0)
        unlink(name);
    close(fd);
    return err == 0 ? 0 : probe_failed(dir, "linkat of an O_TMPFILE", err, detail);
}

/* A new name is durable when the folder above it is. */
static int make_dir(const char *dir, char *detail)
{
    char parent[PATH_MAX];
    char *slash;
    int rc;

    if (mkdir(dir, 0700) != 0) {
        if (errno == EEXIST)
            return 0;
        rc = err_from_errno(errno);
        snprintf(detail, LOG_DETAIL_MAX, "%s: cannot be made: %s", dir, strerror(errno));
        return rc;
    }
    snprintf(parent, sizeof(parent), "%s", dir);
    slash = strrchr(parent, '/');
    if (slash != NULL)
        slash[slash == parent] = '\0';
    rc = io_sync_dir(slash != NULL ? parent : ".");
    if (rc != 0)
        snprintf(detail, LOG_DETAIL_MAX, "%s: was made, but its folder cannot be synced: %s", dir,
                 err_text(rc));
    return rc;
}

static struct raft_log *raft_log_new(const struct log_config *config)
{
    struct raft_log *l = calloc(1, sizeof(*l));

    if (l == NULL)
        return NULL;
    log_init(&l->log, &log_raft_ops, config);
    l->dir = strdup(config->dir);
    if (l->dir == NULL) {
        free(l);
        return NULL;
    }
    snprintf(l->address, sizeof(l->address), "node-%u", (unsigned)config->node_id);
    l->node_id = config->node_id;
    l->must_have = config->must_have;
    l->segment_bytes = config->segment_bytes != 0 ? config->segment_bytes : LOG_SEGMENT_BYTES;
    l->todo_tail = &l->todo;
    l->queue_tail = &l->queue;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->room, NULL);
    return l;
}

int log_raft_open(const struct log_config *config, struct log **out, char *detail)
{
    struct log_check_options check = {
        .dir = config->dir, .base = config->base, .must_have = config->must_have, .mend = true};
    struct raft_log *l;
    int rc;

    rc = make_dir(config->dir, detail);
    if (rc == 0)
        rc = probe_tmpfile(config->dir, detail);
    if (rc != 0)
        return rc;
    l = raft_log_new(config);
    if (l == NULL)
        return ERR_NOMEM;
    rc = log_check(&check, &l->report, detail);
    if (rc != 0) {
        log_close(&l->log);
        return rc;
    }
    *out = &l->log;
    return 0;
}
