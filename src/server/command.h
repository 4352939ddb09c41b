/* SPDX-License-Identifier: MIT */
/* command: the one table of commands and how each runs.
 *
 * Purpose   name, arity, flags, key positions, categories, documentation and code of each command;
 *           dispatch, COMMAND, COMMAND DOCS, the README's list and the tests read the same rows
 * Threads   loop
 * Shapes    a read or admin command has run(): it replies at once, or holds the request and
 *           replies later. A write has plan(): it checks its arguments and either replies (error
 *           or nothing to do) or appends ops to the unit; result() turns each op's result into the
 *           reply. plan() runs again when values were staged or rebuilt, so it has no side effects
 *           but the unit. rebuild() (optional) says how to build the new value when apply cannot
 *           (FSM_REBUILD); plan() then finds it with rebuild_done
 * Errors    handlers answer bad input themselves, in Redis's words
 */
#ifndef SERVER_COMMAND_H
#define SERVER_COMMAND_H

#include "server/request.h"

enum { /* COMMAND flags (and ours) */
       CMD_WRITE = 1u << 0,
       CMD_READONLY = 1u << 1,
       CMD_DENYOOM = 1u << 2,
       CMD_ADMIN = 1u << 3,
       CMD_NOSCRIPT = 1u << 4,
       CMD_LOADING = 1u << 5, /* works while the log is replayed */
       CMD_STALE = 1u << 6,
       CMD_FAST = 1u << 7,
       CMD_NO_AUTH = 1u << 8,
       CMD_NO_MULTI = 1u << 9,
       CMD_ALLOW_BUSY = 1u << 10,
       CMD_SKIP_SLOWLOG = 1u << 11,
       CMD_IMMEDIATE = 1u << 12, /* in MULTI not queued: EXEC, DISCARD, MULTI, WATCH, RESET, QUIT */
       CMD_INTERNAL = 1u << 13,  /* peer plane only */
       CMD_UNORDERED = 1u << 14, /* touches no key: need not wait for earlier writes */
       CMD_LISTING = 1u << 15,   /* its reply may be huge: alone on its connection */
       CMD_SLICES = 1u << 16,    /* a read that looks again later: later writes wait for its end */
       CMD_STAGES = 1u << 17     /* argv[2] is a value, which is staged when it is large */
};

enum { /* ACL categories beyond those that follow from flags */
       CAT_KEYSPACE = 1u << 0,
       CAT_STRING = 1u << 1,
       CAT_CONNECTION = 1u << 2,
       CAT_TRANSACTION = 1u << 3,
       CAT_DANGEROUS = 1u << 4,
       CAT_KVCACHE = 1u << 5,
       CAT_SCRIPTING = 1u << 6,
       CAT_ADMIN = 1u << 7 /* without the flag */
};

struct rebuild_spec;

enum plan {
    PLAN_READY,  /* ops are in the unit */
    PLAN_REPLIED /* answered: nothing to log */
};

struct command {
    const char *name; /* lower case; "client|list" for subcommands */
    int arity;        /* with the name; negative = at least */
    unsigned flags, categories;
    int first_key, last_key, key_step; /* as COMMAND INFO; 0 = none */
    /* What it does with them: "RW access update"; '|' between the keys where they differ, '#' ahead
     * of notes. NULL: "RO access", or "RW update" of a write. */
    const char *keys;
    const char *tips; /* COMMAND INFO: words for cluster proxies; NULL = none */
    void (*run)(struct request *rq);
    enum plan (*plan)(struct request *rq, struct entry_writer *unit);
    void (*result)(struct request *rq, const struct fsm_result *r);
    /* old: zeroed where the key is absent. NULL: apply can always make the new value. */
    void (*rebuild)(const struct request *rq, const struct record *old, struct rebuild_spec *spec);
    /* EXEC only: its reads run at their place, ahead of the unit's op. */
    void (*before_op)(struct request *rq, uint32_t op_in_unit);
    const char *group;  /* COMMAND DOCS: "string", "generic", "kvcache", … */
    const char *since;  /* Redis version, or ours */
    const char *syntax; /* arguments: "key value [NX | XX] [EX seconds]": docs are parsed from it */
    const char *summary;
    const struct command *subs; /* container: rows of subcommands, name NULL ends */
};

/* Groups of rows, each in the file that implements them; name NULL ends. */
extern const struct command commands_string[], commands_string_write[], commands_key[],
    commands_kv[], commands_conn[], commands_tx[], commands_server[], commands_scan[];
/* Subcommands that fill a file of their own. */
extern const struct command subs_client[], subs_command[], subs_config[], subs_memory[],
    subs_object[], subs_slowlog[], subs_latency[];

void command_init(void); /* builds the look-up; asserts the table is sane */
const struct command *command_find(struct slice name);
/* "get" or "client|id", as COMMAND INFO takes them. */
const struct command *command_find_full(struct slice name);
const struct command *command_find_sub(const struct command *container, struct slice name);
/* In table order; i from 0; NULL = end. */
const struct command *command_at(size_t i);

/* Starts the command that is complete in the connection's parser: checks it (known, arity, auth,
 * MULTI queue), makes its request and runs the handler. False: it must wait for earlier commands
 * of the connection; nothing has happened. The connection may be closed afterwards. */
bool command_try_start(struct conn *c);
/* A top-level request is done: statistics, SLOWLOG. */
void command_finished(struct request *rq);

#define ERROR_ARG_MAX ((size_t)128) /* bytes of an argument shown in an error */

/* Common error replies in Redis's words. */
void command_wrong_arity(struct request *rq);
void command_syntax_error(struct request *rq);
void command_not_integer(struct request *rq);
void command_unknown_sub(struct request *rq);
/* A value of `length` bytes, over server->value_max. */
void command_too_large(struct request *rq, uint64_t length);

/* Argument helpers: false = error replied. */
bool command_get_i64(struct request *rq, int arg, int64_t *out);
bool command_get_int(struct request *rq, int arg, int *out);
bool command_get_range(struct request *rq, int arg, int64_t min, int64_t max, int64_t *out,
                       const char *error);
bool command_is(const struct request *rq, int arg, const char *word);
/* Keys longer than RECORD_KEY_MAX or empty: error replied. */
bool command_check_key(struct request *rq, struct slice key);
/* Value of unit "EX", "PX", "EXAT" or "PXAT" → absolute ms. */
enum expire { EXPIRE_GOOD, EXPIRE_NO_NUMBER, EXPIRE_INVALID };
enum expire command_parse_expire(const struct request *rq, int arg, const char *unit,
                                 uint64_t *expire_ms);
/* The same; false = "invalid expire time in 'set' command" replied. */
bool command_expire_at(struct request *rq, int arg, const char *unit, uint64_t *expire_ms);
/* What a read compares deadlines with: the clock, but not behind what was applied and not ahead of
 * the entries under way, whose stamps decide it for their writes. So no write finds a key that a
 * read before it has seen expired, and a MULTI sees one moment. */
uint64_t command_now_ms(const struct server *s);
/* Look-up for a read: expired = absent. Counts hit or miss. */
bool command_lookup(struct request *rq, struct slice key, struct record *out);
bool command_peek(struct request *rq, struct slice key, struct record *out); /* uncounted */
void command_count_lookup(struct request *rq, bool found); /* of a write, by its result */

#endif
