/* SPDX-License-Identifier: MIT */
/* Converting a store between raft yes and raft no.
 *
 * Only after a clean stop: then the index holds everything the log does, and the log can begin
 * anew (or end) where the index stands; log-base in FORMAT says where that is. The old log is
 * removed: with FORMAT already written when it goes (raft → none), before it is written (none →
 * raft), so that an interrupted conversion leaves a store that starts and can be converted again.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "tool.h"
#include "store/index.h"

static int remove_log(const struct tool *t)
{
    char path[TOOL_PATH_MAX];
    struct dirent *e;
    DIR *dir;
    int failed = 0;

    snprintf(path, sizeof(path), "%s/raft", t->dir);
    dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT ? 0 : tool_cannot(t, "%s: %s", path, strerror(errno));
    while ((e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            unlinkat(dirfd(dir), e->d_name, 0) != 0 && errno != ENOENT)
            failed = errno;
    }
    closedir(dir);
    if (failed == 0 && rmdir(path) != 0)
        failed = errno;
    if (failed != 0)
        return tool_cannot(t, "%s: cannot be removed: %s", path, strerror(failed));
    if (io_sync_dir(t->dir) != 0)
        return tool_cannot(t, "%s: cannot be synced", t->dir);
    return 0;
}

static int load_state(const struct tool *t, struct index_state *state)
{
    char path[TOOL_PATH_MAX], detail[INDEX_DETAIL_MAX] = "";
    struct index *ix = NULL;
    int err;

    snprintf(path, sizeof(path), "%s/index.mdb", t->dir);
    if (access(path, F_OK) != 0)
        return tool_cannot(t, "%s is missing", path);
    err = index_open(path, &ix, detail);
    if (err != 0)
        return tool_cannot(t, "%s", detail);
    err = index_load_state(ix, state);
    index_close(ix);
    return err == 0 ? 0 : tool_cannot(t, "%s: its state row: %s", path, err_text(err));
}

int convert_run(struct tool *t, bool raft)
{
    char detail[DATADIR_DETAIL_MAX] = "";
    struct index_state state = {0};
    struct datadir d;
    int status = 0, err;

    if (datadir_read_format(t->dir, &d, detail) != 0)
        return tool_cannot(t, "%s", detail);
    if (d.raft == raft) {
        status = raft ? 0 : remove_log(t); /* an interrupted conversion may have left it */
        if (status == 0)
            printf("nothing to do: the log is %s already\n", raft ? "raft" : "none");
        return status;
    }
    status = load_state(t, &state);
    if (status != 0)
        return status;
    if (!(state.flags & INDEX_CLEAN))
        return tool_cannot(t,
                           "%s was not stopped cleanly: start the server, stop it with SIGTERM "
                           "or SHUTDOWN, and try again",
                           t->dir);
    if (raft && remove_log(t) != 0)
        return EXIT_CANNOT;
    d.raft = raft;
    d.log_base = state.applied;
    err = datadir_write_format(t->dir, &d);
    if (err != 0)
        return tool_cannot(t, "%s/FORMAT: %s", t->dir, err_text(err));
    if (!raft && remove_log(t) != 0)
        return EXIT_CANNOT;
    printf("converted: log %s from index %" PRIu64 "; start with raft %s\n", raft ? "raft" : "none",
           state.applied, raft ? "yes" : "no");
    return EXIT_SOUND;
}
