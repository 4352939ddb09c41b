/* SPDX-License-Identifier: MIT */
/* The log of `raft no`: an entry is committed the moment it is proposed, and kept nowhere.
 *
 * Durability comes from the checkpoint that covers the entry; the caller acknowledges no sooner.
 * Indexes go on from where the store stands (must_have), so a restarted store never sees one
 * twice. There is nothing to check, to replay or to shorten: log_start answers at once and
 * on_need_snapshot never comes. A marker given to log_snapshot is committed like any entry.
 */
#include <stdlib.h>

#include "base/err.h"
#include "log/log_int.h"

enum { TERM = 1 };

struct none {
    struct log log; /* first */
    uint64_t index; /* of the last entry; owned by the loop */
    uint64_t snapshot_index, snapshots;
};

static struct none *none_of(struct log *log)
{
    return (struct none *)(void *)log;
}

static int none_start(struct log *log)
{
    log_post_role(log, LOG_ROLE_LEADER, TERM);
    log_post_started(log, 0, "");
    return 0;
}

static int none_propose(struct log *log, struct slice entry, uint64_t token)
{
    (void)token; /* an entry cannot fail here */
    log_post_committed(log, ++none_of(log)->index, TERM, entry, true);
    return 0;
}

static int none_snapshot(struct log *log, const struct log_descriptor *d, struct slice marker)
{
    (void)d;
    none_propose(log, marker, 0);
    none_of(log)->snapshot_index = none_of(log)->index;
    none_of(log)->snapshots++;
    return 0;
}

static void none_stats(const struct log *log, struct log_stats *out)
{
    const struct none *n = (const struct none *)(const void *)log;

    out->role = log->phase == LOG_RUNNING ? LOG_ROLE_LEADER : LOG_ROLE_STARTING;
    if (log->phase == LOG_STOPPED)
        out->role = LOG_ROLE_STOPPED;
    out->term = TERM;
    out->last_index = out->commit_index = out->applied_index = n->index;
    out->snapshot_index = n->snapshot_index;
    out->snapshots = n->snapshots;
}

static void none_stop(struct log *log)
{
    log_post_stopped(log, TERM);
}

static void none_free(struct log *log)
{
    free(none_of(log));
}

static const struct log_ops none_ops = {.start = none_start,
                                        .propose = none_propose,
                                        .snapshot = none_snapshot,
                                        .stats = none_stats,
                                        .stop = none_stop,
                                        .free = none_free};

int log_none_open(const struct log_config *config, struct log **out)
{
    struct none *n = calloc(1, sizeof(*n));

    if (n == NULL)
        return ERR_NOMEM;
    log_init(&n->log, &none_ops, config);
    n->index = config->must_have > config->base ? config->must_have : config->base;
    *out = &n->log;
    return 0;
}
