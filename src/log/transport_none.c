/* SPDX-License-Identifier: MIT */
/* The transport of a single voter: it opens no port and reaches nobody. libraft insists on having
 * one; with one server in its configuration it never asks it to connect.
 */
#include "log/raft_int.h"

static int none_init(struct raft_uv_transport *t, raft_id id, const char *address)
{
    (void)t, (void)id, (void)address;
    return 0;
}

static int none_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb)
{
    (void)t, (void)cb;
    return 0;
}

static int none_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id,
                        const char *address, raft_uv_connect_cb cb)
{
    (void)t, (void)req, (void)id, (void)address, (void)cb;
    return RAFT_NOCONNECTION;
}

static void none_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb)
{
    cb(t);
}

void log_transport_none(struct raft_uv_transport *t)
{
    memset(t, 0, sizeof(*t));
    t->version = 1; /* required, or raft_uv_init refuses */
    t->init = none_init;
    t->listen = none_listen;
    t->connect = none_connect;
    t->close = none_close;
}
