/* SPDX-License-Identifier: MIT */
/* rebuild: new values made from stored ones, for changes that cannot happen at apply.
 *
 * Purpose   APPEND and SETRANGE of values that are or become large, COPY and RENAME of values in a
 *           volume: the old value is read, the new one built in a payload buffer and staged, and
 *           the command is planned again with it. In a MULTI the old value may be one that the
 *           transaction itself has written by then
 * Threads   loop
 * Owner     the built value belongs to the request (request_set_built)
 * Order     a unit with built values says "if no key of it has changed since"; if one has, all of
 *           them are dropped and it starts again. Later writes of the connection wait meanwhile.
 *           Two that need a rebuild and share a key take turns, first come, first served: else only
 *           one of many clients that append to one value would get through at a time
 * Limits    proto-max-bulk-len, for APPEND and SETRANGE: -ERR string exceeds maximum allowed size
 *           (proto-max-bulk-len); server->value_max: -ERR value is too large; one value at a time
 *           is built, and its buffer is given back when it is durable
 */
#ifndef SERVER_REBUILD_H
#define SERVER_REBUILD_H

#include "server/command.h"

struct rebuild_spec {
    uint64_t length; /* of the new value, which begins as the old one of argv[1] */
    uint64_t put_at; /* where the bytes go in it */
    int bytes_arg;   /* argv index of them; 0 = none */
};

enum rebuild_next {
    REBUILD_NONE,   /* the unit can be proposed */
    REBUILD_AGAIN,  /* plan it again now */
    REBUILD_WAIT,   /* write_resume will be called */
    REBUILD_REPLIED /* the command was refused */
};

/* May the unit of this command (or EXEC) come back for a rebuild? */
bool rebuild_possible(const struct request *rq);
/* Looks for an op of the planned unit that apply could not do, and begins to build its value. */
enum rebuild_next rebuild_unit(struct request *rq, struct entry_writer *unit);
/* What the built values depend on, at the head of a new unit. */
void rebuild_conditions(const struct request *rq, struct entry_writer *unit);
void rebuild_drop(struct request *rq); /* a key changed: nothing that was built holds any more */
void rebuild_end(struct request *rq);  /* applied or given up: those behind it may begin */
void rebuild_turn(struct server *s);   /* they do */
struct request *rebuild_take_waiter(struct server *s); /* stop: with its hold; NULL: none is left */

/* For plan(): a built value is there, so put it. */
bool rebuild_done(const struct request *rq);
bool rebuild_existed(const struct request *rq); /* there was an old value */
uint64_t rebuild_length(const struct request *rq);
/* What the old record said beside the value: model, seq, tokens, created, expiry. */
void rebuild_meta(const struct request *rq, struct op_put *put);

#endif
