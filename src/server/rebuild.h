/* SPDX-License-Identifier: MIT */
/* rebuild: new values made from stored ones, for changes that cannot happen at apply.
 *
 * Purpose   APPEND and SETRANGE of values that are or become large, COPY and RENAME of values in a
 *           volume: the old value is read, the new one built in a payload buffer and staged; the
 *           entry says "if the key still has the mod I read"; else it all starts again
 * Threads   loop
 * Owner     the built value belongs to the request (request_set_built)
 * Limits    server->value_max: -ERR string exceeds maximum allowed size (proto-max-bulk-len)
 */
#ifndef SERVER_REBUILD_H
#define SERVER_REBUILD_H

#include "server/command.h"

struct rebuild_spec {
    int key_arg;     /* argv index of the key whose value is read */
    uint64_t length; /* of the new value */
    uint64_t put_at; /* where the bytes go in it */
    int bytes_arg;   /* argv index of them; 0 = none */
};

/* The value of `r` (found under spec->key) becomes the new one. PREPARE_WAIT or PREPARE_REPLIED. */
enum prepare rebuild_start(struct request *rq, const struct rebuild_spec *spec,
                           const struct record *r);
/* What the old record said beside the value: model, seq, tokens, created, expiry. */
void rebuild_meta(const struct request *rq, struct op_put *put);
uint64_t rebuild_length(const struct request *rq); /* of the built value */
bool rebuild_done(const struct request *rq);       /* a built value is there: plan with it */

/* The conditions that protect it, ahead of the ops; EXEC puts those of its children itself. */
void rebuild_condition(const struct request *rq, struct entry_writer *unit);

#endif
