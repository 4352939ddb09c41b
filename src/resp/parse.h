/* SPDX-License-Identifier: MIT */
/* parse: RESP requests, from bytes to arguments.
 *
 * Purpose   an incremental parser of multi-bulk and inline commands as Redis 7 reads them. It does
 *           no I/O: the connection feeds it bytes, and for a bulk over PARSE_DIRECT_MIN gives it
 *           the place where the bytes shall go, so that a value is received once, into its final
 *           buffer
 * Threads   one owner
 * Owner     small arguments are copied into the parser's arena; a direct bulk's memory and owner
 *           token come from the caller (parse_direct) and leave with argv
 * Lifetime  arguments are valid until parse_next_command / parse_fini
 * Limits    struct parse_limits, changed when a client authenticates; nothing is allocated from an
 *           announced count or length, only for bytes that arrived
 * Errors    PARSE_ERROR: p->error is Redis's text without "ERR " ("Protocol error: invalid bulk
 *           length"); the connection answers -ERR and closes; parse_feed only repeats it then. A
 *           missing CRLF after a bulk or a length is an error (stricter than Redis 7.0; as Valkey
 *           9.0.6), and a wrong byte for $ is told at once, not when its line ends
 * Source    Redis 7.0 networking.c behaviour, by test; CVE-2021-32675, -2026-27623
 */
#ifndef RESP_PARSE_H
#define RESP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define PARSE_DIRECT_MIN ((size_t)16 * 1024) /* bulks longer than this are received directly */
#define PARSE_INLINE_MAX ((size_t)64 * 1024)
#define PARSE_ARGS_MAX (1024 * 1024)

struct parse_limits {
    size_t bulk_max;  /* proto-max-bulk-len; 16,384 before AUTH */
    size_t args_max;  /* PARSE_ARGS_MAX; 10 before AUTH: less means "unauthenticated" in errors */
    size_t arena_max; /* small arguments of one command and their table together: -ERR above it */
};

struct parse_arg {
    const uint8_t *ptr;
    size_t len;
    void *owner; /* direct bulk: the token given to parse_direct; else NULL */
};

enum parse_status {
    PARSE_MORE,    /* all input used, command incomplete */
    PARSE_COMMAND, /* p->argc, p->argv are complete */
    PARSE_DIRECT,  /* a bulk of p->direct_len bytes follows, argument p->argc; the ones before it
                      can be read. Call parse_direct, or parse_discard to read it away (the argument
                      is then empty and the command ends in PARSE_COMMAND with p->discarded set).
                      Until then parse_feed takes nothing and says PARSE_DIRECT again */
    PARSE_ERROR
};

struct parse {
    struct parse_limits limits;
    /* result */
    int argc;
    struct parse_arg *argv;
    bool discarded;
    const char *error;
    size_t direct_len;
    /* private */
    struct parse_priv *priv;
};

int parse_init(struct parse *p, const struct parse_limits *limits);
/* drop: called for every direct owner still held. */
void parse_fini(struct parse *p, void (*drop)(void *owner));

/* Feeds bytes; *used tells how many were taken (all, unless a command, direct bulk or error comes
 * first). Empty requests ("*0\r\n", "\r\n") are skipped inside. */
enum parse_status parse_feed(struct parse *p, const uint8_t *data, size_t len, size_t *used);

/* After PARSE_DIRECT: dst has room for direct_len bytes. */
void parse_direct(struct parse *p, uint8_t *dst, void *owner);
void parse_discard(struct parse *p);
/* The direct bulks that this unfinished command holds go; their arguments are empty from here on.
 * */
void parse_drop_held(struct parse *p, void (*drop)(void *owner));

/* While a direct bulk is open: where to recv() next (the CRLF comes through parse_feed). */
bool parse_window(struct parse *p, uint8_t **dst, size_t *len);
void parse_advance(struct parse *p, size_t received);

/* After PARSE_COMMAND was handled: owners still in argv are passed to drop (a handler that keeps
 * one sets owner = NULL). Memory of large commands is given back. */
void parse_next_command(struct parse *p, void (*drop)(void *owner));

/* True when bytes of an incomplete command have been taken (no-progress timeouts). */
bool parse_inside(const struct parse *p);

/* Bytes of memory held, for CLIENT LIST and budgets. */
size_t parse_memory(const struct parse *p);

#endif
