/* SPDX-License-Identifier: MIT */
/* help: what every container command answers alike: HELP and wrong subcommands.
 *
 * Purpose   the form Redis gives them, around the lines that each command brings
 * Threads   loop
 */
#ifndef SERVER_HELP_H
#define SERVER_HELP_H

#include "server/command.h"

/* lines: NULL-terminated, without the heading and without HELP itself. */
void help_reply(struct request *rq, const char *const *lines);
/* -ERR unknown subcommand or wrong number of arguments for 'X'. Try Y HELP. */
void help_wrong_sub(struct request *rq);

/* The last row of a container's subcommands. */
#define HELP_ROW(container, category, run_)                                                        \
    {                                                                                              \
        .name = container "|help", .arity = 2, .flags = CMD_LOADING | CMD_STALE,                   \
        .categories = (category), .run = (run_), .group = "server", .since = "5.0.0",              \
        .syntax = "", .summary = "Explains the subcommands."                                       \
    }

#endif
