/* SPDX-License-Identifier: MIT */
/* syntax: a command row's syntax text as the arguments of COMMAND DOCS.
 *
 * Purpose   "key value [NX | XX] [EX seconds | PX milliseconds] [key ...]" → names, types, tokens
 *           and groups, which redis-cli shows as hints
 * Grammar   lower case: an argument. UPPER CASE: a token; the lower-case words behind it, or a
 *           <group>, belong to it. [ ]: optional. < >: choose one. |: alternatives. [x ...] behind
 *           x: x may be repeated; behind nothing equal: none or more
 * Threads   any
 * Owner     syntax_parse hands out a tree; syntax_free frees it
 * Errors    ERR_INVAL: not this grammar (a bug in a command table; a test parses every row)
 */
#ifndef SERVER_SYNTAX_H
#define SERVER_SYNTAX_H

#include <stdbool.h>

#define SYNTAX_NAME_MAX 64
#define SYNTAX_DEPTH_MAX 8

enum syntax_type {
    SYNTAX_STRING,
    SYNTAX_INTEGER,
    SYNTAX_KEY,
    SYNTAX_PATTERN,
    SYNTAX_UNIX_TIME,
    SYNTAX_PURE_TOKEN,
    SYNTAX_ONEOF,
    SYNTAX_BLOCK
};

struct syntax_arg {
    struct syntax_arg *next, *children;
    enum syntax_type type;
    bool optional, multiple, multiple_token;
    char name[SYNTAX_NAME_MAX];
    char token[SYNTAX_NAME_MAX]; /* "" = none */
};

/* *out: NULL when the text is empty. */
int syntax_parse(const char *text, struct syntax_arg **out);
void syntax_free(struct syntax_arg *list);
const char *syntax_type_name(enum syntax_type type); /* as COMMAND DOCS has it */

#endif
