/* SPDX-License-Identifier: MIT */
/* COMMAND: what the command table says, in the shapes of Redis 7. */
#include <stdio.h>

#include "server/cmd_server.h"
#include "server/server.h"

static const struct {
    unsigned flag;
    const char *name;
} flag_names[] = {
    {CMD_WRITE, "write"},     {CMD_READONLY, "readonly"},         {CMD_DENYOOM, "denyoom"},
    {CMD_ADMIN, "admin"},     {CMD_NOSCRIPT, "noscript"},         {CMD_LOADING, "loading"},
    {CMD_STALE, "stale"},     {CMD_SKIP_SLOWLOG, "skip_slowlog"}, {CMD_FAST, "fast"},
    {CMD_NO_AUTH, "no_auth"}, {CMD_NO_MULTI, "no_multi"},         {CMD_ALLOW_BUSY, "allow_busy"},
};
#define FLAGS (sizeof(flag_names) / sizeof(flag_names[0]))

static void emit_flags(struct emit *e, const struct command *c)
{
    size_t n = 0;

    for (size_t i = 0; i < FLAGS; i++)
        n += (c->flags & flag_names[i].flag) != 0;
    emit_set(e, n);
    for (size_t i = 0; i < FLAGS; i++)
        if (c->flags & flag_names[i].flag)
            emit_status(e, flag_names[i].name);
}

static void emit_categories(struct emit *e, const struct command *c)
{
    const char *names[16];
    size_t n = 0;

    if (c->flags & CMD_WRITE)
        names[n++] = "@write";
    if (c->flags & CMD_READONLY)
        names[n++] = "@read";
    if (c->categories & CAT_KEYSPACE)
        names[n++] = "@keyspace";
    if (c->categories & CAT_STRING)
        names[n++] = "@string";
    if (c->categories & CAT_CONNECTION)
        names[n++] = "@connection";
    if (c->categories & CAT_TRANSACTION)
        names[n++] = "@transaction";
    if (c->categories & CAT_KVCACHE)
        names[n++] = "@kvcache";
    if (c->flags & CMD_ADMIN)
        names[n++] = "@admin";
    names[n++] = c->flags & CMD_FAST ? "@fast" : "@slow";
    if ((c->categories & CAT_DANGEROUS) || (c->flags & CMD_ADMIN))
        names[n++] = "@dangerous";
    emit_set(e, n);
    for (size_t i = 0; i < n; i++)
        emit_status(e, names[i]);
}

static size_t count_subs(const struct command *c)
{
    size_t n = 0;

    for (const struct command *s = c->subs; s != NULL && s->name != NULL; s++)
        n++;
    return n;
}

static void emit_command(struct emit *e, const struct command *c)
{
    emit_array(e, 10);
    emit_bulk_str(e, c->name);
    emit_int(e, c->arity);
    emit_flags(e, c);
    emit_int(e, c->first_key);
    emit_int(e, c->last_key);
    emit_int(e, c->key_step);
    emit_categories(e, c);
    emit_array(e, 0); /* tips */
    emit_array(e, 0); /* key specifications: the three numbers above say it all */
    emit_array(e, count_subs(c));
    for (const struct command *s = c->subs; s != NULL && s->name != NULL; s++)
        emit_command(e, s);
}

static void emit_docs(struct emit *e, const struct command *c)
{
    bool subs = c->subs != NULL;

    emit_bulk_str(e, c->name);
    emit_map(e, subs ? 5 : 4);
    emit_bulk_str(e, "summary");
    emit_bulk_str(e, c->summary != NULL ? c->summary : "");
    emit_bulk_str(e, "since");
    emit_bulk_str(e, c->since != NULL ? c->since : "");
    emit_bulk_str(e, "group");
    emit_bulk_str(e, c->group != NULL ? c->group : "");
    emit_bulk_str(e, "syntax");
    emit_bulk_str(e, c->syntax != NULL ? c->syntax : "");
    if (!subs)
        return;
    emit_bulk_str(e, "subcommands");
    emit_map(e, count_subs(c));
    for (const struct command *s = c->subs; s->name != NULL; s++)
        emit_docs(e, s);
}

static size_t count_all(void)
{
    size_t n = 0;

    while (command_at(n) != NULL)
        n++;
    return n;
}

static void info_of(struct request *rq)
{
    struct emit *e = request_emit(rq);

    emit_array(e, rq->argc > 2 ? (size_t)rq->argc - 2 : count_all());
    for (size_t i = 0; rq->argc == 2 && command_at(i) != NULL; i++)
        emit_command(e, command_at(i));
    for (int i = 2; i < rq->argc; i++) {
        const struct command *c = command_find(rq->argv[i]);

        if (c != NULL)
            emit_command(e, c);
        else
            emit_nil_array(e);
    }
}

static void docs_of(struct request *rq)
{
    struct emit *e = request_emit(rq);
    size_t n = 0;

    for (int i = 2; i < rq->argc; i++)
        n += command_find(rq->argv[i]) != NULL;
    emit_map(e, rq->argc > 2 ? n : count_all());
    for (size_t i = 0; rq->argc == 2 && command_at(i) != NULL; i++)
        emit_docs(e, command_at(i));
    for (int i = 2; i < rq->argc; i++) {
        const struct command *c = command_find(rq->argv[i]);

        if (c != NULL)
            emit_docs(e, c);
    }
}

void cmd_command_run(struct request *rq)
{
    struct emit *e = request_emit(rq);

    if (rq->argc == 1) {
        emit_array(e, count_all());
        for (size_t i = 0; command_at(i) != NULL; i++)
            emit_command(e, command_at(i));
    } else if (command_is(rq, 1, "COUNT") && rq->argc == 2) {
        emit_int(e, (int64_t)count_all());
    } else if (command_is(rq, 1, "INFO")) {
        info_of(rq);
    } else if (command_is(rq, 1, "DOCS")) {
        docs_of(rq);
    } else if (command_is(rq, 1, "LIST") && rq->argc == 2) {
        emit_array(e, count_all());
        for (size_t i = 0; command_at(i) != NULL; i++)
            emit_bulk_str(e, command_at(i)->name);
    } else {
        command_unknown_sub(rq);
    }
}
