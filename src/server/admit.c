/* SPDX-License-Identifier: MIT */
/* A write that adds waits or is refused when the store has no room for it. One that deletes or
 * changes what is there is let in as long as the table can take it, so that a full store can
 * shrink.
 */
#include "server/admit.h"

#include "base/err.h"
#include "server/command.h"
#include "server/server.h"
#include "server/write.h"

struct need {
    uint64_t inline_bytes, slab_bytes; /* in the table, and in the volumes */
    size_t args;
};

static void add_need(const struct request *rq, struct need *n)
{
    for (int i = 1; i < rq->argc; i++) {
        if (rq->argv[i].len > (size_t)rq->server->config->inline_max)
            n->slab_bytes += volume_slot(rq->argv[i].len);
        else
            n->inline_bytes += rq->argv[i].len;
    }
    n->args += (size_t)rq->argc;
    for (const struct request *child = rq->children; child != NULL; child = child->next)
        add_need(child, n);
}

bool admit_adds(const struct request *rq)
{
    if (rq->cmd->flags & CMD_DENYOOM)
        return true;
    for (const struct request *child = rq->children; child != NULL; child = child->next)
        if (child->cmd->flags & CMD_DENYOOM)
            return true;
    return false;
}

int admit(const struct request *rq, size_t ops, size_t bytes)
{
    struct store *store = rq->server->store;
    struct need n = {0};
    int err;

    if (write_acks_late(rq->server->write) && store_checkpoint_failing(store))
        return ERR_NOSPC; /* the checkpoint that would answer it is not to be had */
    if (!admit_adds(rq))  /* FLUSHALL, without keys, gives memory back */
        return rq->cmd->first_key > 0 || rq->children != NULL ? store_may_change(store) : 0;
    add_need(rq, &n);
    err = store_may_add(store, n.inline_bytes, n.slab_bytes);
    return err != 0 ? err : store_reserve(store, ops + n.args, bytes + n.inline_bytes);
}
