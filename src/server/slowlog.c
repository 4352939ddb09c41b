/* SPDX-License-Identifier: MIT */
/* SLOWLOG: a list of the latest slow commands, newest first. Arguments are copied and cut as Redis
 * cuts them, so one entry is at most a few KiB whatever the command carried.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/number.h"
#include "server/command.h"
#include "server/server.h"
#include "server/stats.h"

#define ARGS_MAX 32
#define ARG_BYTES 128
#define ARG_ROOM (ARG_BYTES + 48) /* and "... (N more bytes)" */

struct slow_entry {
    struct slow_entry *next;
    uint64_t id, us;
    int64_t unix_s;
    char addr[64], name[CONN_NAME_MAX];
    int argc;
    uint16_t len[ARGS_MAX];
    uint8_t text[];
};

struct slowlog {
    struct slow_entry *head;
    size_t count;
    uint64_t next_id;
};

/* Argument i carries a password. */
static bool is_secret(const struct request *rq, int i)
{
    const char *name = rq->cmd->name;

    if (strcmp(name, "auth") == 0)
        return i >= 1;
    if (strcmp(name, "hello") == 0)
        return (i >= 3 && command_is(rq, i - 1, "auth")) ||
               (i >= 4 && command_is(rq, i - 2, "auth"));
    if (strcmp(name, "config|set") == 0 && i >= 3 && i % 2 == 1) {
        struct slice arg = rq->argv[i - 1];
        const struct config_row *row = config_find((const char *)arg.ptr, arg.len);

        return row != NULL && (row->flags & CONFIG_SECRET);
    }
    return false;
}

static size_t put_arg(const struct request *rq, int i, uint8_t *out)
{
    struct slice arg = rq->argv[i];

    if (is_secret(rq, i))
        return (size_t)snprintf((char *)out, ARG_ROOM, "(redacted)");
    if (arg.len > 0)
        memcpy(out, arg.ptr, arg.len < ARG_BYTES ? arg.len : ARG_BYTES);
    if (arg.len <= ARG_BYTES)
        return arg.len;
    return ARG_BYTES + (size_t)snprintf((char *)out + ARG_BYTES, ARG_ROOM - ARG_BYTES,
                                        "... (%zu more bytes)", arg.len - ARG_BYTES);
}

static struct slow_entry *new_entry(const struct request *rq)
{
    int argc = rq->argc < ARGS_MAX ? rq->argc : ARGS_MAX;
    struct slow_entry *e = calloc(1, sizeof(*e) + (size_t)argc * ARG_ROOM);
    struct slow_entry *small;
    size_t used = 0;

    if (e == NULL)
        return NULL;
    e->argc = argc;
    for (int i = 0; i < argc; i++) {
        size_t n;

        if (i == ARGS_MAX - 1 && rq->argc > ARGS_MAX)
            n = (size_t)snprintf((char *)e->text + used, ARG_ROOM, "... (%d more arguments)",
                                 rq->argc - argc + 1);
        else
            n = put_arg(rq, i, e->text + used);
        e->len[i] = (uint16_t)n;
        used += n;
    }
    small = realloc(e, sizeof(*e) + used);
    return small != NULL ? small : e;
}

void stats_slowlog_trim(struct server *s)
{
    struct slow_entry **at;

    if (s->slowlog == NULL || s->slowlog->count <= (size_t)s->config->slowlog_max_len)
        return;
    at = &s->slowlog->head;
    for (int64_t i = 0; i < s->config->slowlog_max_len; i++)
        at = &(*at)->next;
    while (*at != NULL) {
        struct slow_entry *e = *at;

        *at = e->next;
        free(e);
        s->slowlog->count--;
    }
}

void stats_slowlog_add(struct request *rq, uint64_t us)
{
    struct server *s = rq->server;
    int64_t limit_us = s->config->slowlog_slower_us;
    struct slow_entry *e;

    if (limit_us < 0 || us < (uint64_t)limit_us || (rq->cmd->flags & CMD_SKIP_SLOWLOG) ||
        s->config->slowlog_max_len == 0)
        return;
    if (s->slowlog == NULL)
        s->slowlog = calloc(1, sizeof(*s->slowlog));
    e = s->slowlog != NULL ? new_entry(rq) : NULL;
    if (e == NULL)
        return; /* the diary may have a gap, the store goes on */
    e->id = s->slowlog->next_id++;
    e->us = us;
    e->unix_s = (int64_t)(clock_now_ms(&s->clock) / 1000);
    if (rq->conn != NULL) {
        memcpy(e->addr, rq->conn->peer, sizeof(e->addr));
        memcpy(e->name, rq->conn->name, sizeof(e->name));
    }
    e->next = s->slowlog->head;
    s->slowlog->head = e;
    s->slowlog->count++;
    stats_slowlog_trim(s);
}

void stats_slowlog_get(struct request *rq, int64_t limit)
{
    const struct slowlog *log = rq->server->slowlog;
    size_t n = stats_slowlog_len(rq->server);
    struct emit *out = request_emit(rq);
    const struct slow_entry *e = log != NULL ? log->head : NULL;

    if (limit >= 0 && (uint64_t)limit < n)
        n = (size_t)limit;
    emit_array(out, n);
    for (; n > 0; n--, e = e->next) {
        size_t at = 0;

        emit_array(out, 6);
        emit_int(out, (int64_t)e->id);
        emit_int(out, e->unix_s);
        emit_int(out, (int64_t)e->us);
        emit_array(out, (size_t)e->argc);
        for (int i = 0; i < e->argc; i++) {
            emit_bulk(out, slice_of(e->text + at, e->len[i]));
            at += e->len[i];
        }
        emit_bulk_str(out, e->addr);
        emit_bulk_str(out, e->name);
    }
}

size_t stats_slowlog_len(const struct server *s)
{
    return s->slowlog != NULL ? s->slowlog->count : 0;
}

void stats_slowlog_reset(struct server *s)
{
    struct slowlog *log = s->slowlog;

    while (log != NULL && log->head != NULL) {
        struct slow_entry *e = log->head;

        log->head = e->next;
        free(e);
    }
    if (log != NULL)
        log->count = 0;
}
