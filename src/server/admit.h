/* SPDX-License-Identifier: MIT */
/* admit: may a write be let in now?
 *
 * Purpose   apply cannot fail, so what a write needs is asked for ahead: room in table, index and
 *           volumes, memory for its records
 * Threads   loop
 * Errors    ERR_AGAIN: later, when the store has room (on_space); ERR_FULL, ERR_NOSPC, ERR_NOMEM:
 *           refused
 */
#ifndef SERVER_ADMIT_H
#define SERVER_ADMIT_H

#include "server/request.h"

/* Does it (or one of its MULTI) add anything? */
bool admit_adds(const struct request *rq);
/* ops, bytes: of units that were let in before and are not applied. */
int admit(const struct request *rq, size_t ops, size_t bytes);

#endif
