/* SPDX-License-Identifier: MIT */
/* result: what many commands do with the result of an op.
 *
 * Purpose   Redis's error texts for fsm_status, and the replies that are just a number
 * Threads   loop, inside apply
 */
#ifndef SERVER_RESULT_H
#define SERVER_RESULT_H

#include "server/command.h"

/* True: the status is an error and was replied. */
bool result_error(struct request *rq, const struct fsm_result *r);
/* :value */
void result_int(struct request *rq, const struct fsm_result *r);
/* Sums the values of a unit's ops, replies at the last (DEL k1 k2 …). */
void result_sum(struct request *rq, const struct fsm_result *r);
/* +OK at the unit's end. */
void result_ok(struct request *rq, const struct fsm_result *r);

#endif
