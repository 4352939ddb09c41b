/* SPDX-License-Identifier: MIT */
#include "server/help.h"

#include <ctype.h>
#include <stdio.h>

#define NAME_ROOM 64

static void container_name(const struct request *rq, char *out)
{
    size_t n = 0;

    for (const char *p = rq->cmd_name; *p != '\0' && *p != '|' && n < NAME_ROOM - 1; p++)
        out[n++] = (char)toupper((unsigned char)*p);
    out[n] = '\0';
}

void help_reply(struct request *rq, const char *const *lines)
{
    struct emit *e = request_emit(rq);
    char name[NAME_ROOM], head[NAME_ROOM + 64];
    size_t n = 0;

    while (lines[n] != NULL)
        n++;
    container_name(rq, name);
    snprintf(head, sizeof(head), "%s <subcommand> [<argument> ...], with one of these:", name);
    emit_array(e, n + 3);
    emit_status(e, head);
    for (size_t i = 0; i < n; i++)
        emit_status(e, lines[i]);
    emit_status(e, "HELP");
    emit_status(e, "    Show this text.");
}

void help_wrong_sub(struct request *rq)
{
    struct slice sub = rq->argv[1];
    char name[NAME_ROOM];

    container_name(rq, name);
    request_errorf(rq,
                   "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try %s HELP.",
                   (int)(sub.len < ERROR_ARG_MAX ? sub.len : ERROR_ARG_MAX), (const char *)sub.ptr,
                   name);
}
