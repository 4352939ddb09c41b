/* SPDX-License-Identifier: MIT */
/* libevent tells of every byte that enters or leaves a buffer, also of one moved into another. */
#include "server/reply.h"

#include <event2/buffer.h>

#include "base/assert.h"
#include "server/server.h"

static void on_change(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg)
{
    struct server *s = arg;

    (void)out;
    s->reply_bytes += info->n_added;
    ASSERT(s->reply_bytes >= info->n_deleted);
    s->reply_bytes -= info->n_deleted;
}

struct evbuffer *reply_buffer_new(struct server *s)
{
    struct evbuffer *out = evbuffer_new();

    if (out == NULL || evbuffer_add_cb(out, on_change, s) == NULL)
        PANIC("out of memory for a reply");
    return out;
}

void reply_buffer_free(struct server *s, struct evbuffer *out)
{
    size_t len = evbuffer_get_length(out);

    ASSERT(s->reply_bytes >= len);
    s->reply_bytes -= len; /* evbuffer_free tells nobody */
    evbuffer_remove_cb(out, on_change, s);
    evbuffer_free(out);
}

bool replies_full(const struct server *s)
{
    return s->reply_bytes >= REPLIES_HIGH;
}
