/* SPDX-License-Identifier: MIT */
/* value: stored values on their way into replies.
 *
 * Purpose   decides how a value gets from its record to the client: inline bytes, a buffer in
 *           memory, one read of the whole (kept in the RAM tier), or a stream; keeps replies in
 *           order and pinned bytes bounded meanwhile
 * Threads   loop
 * Owner     a struct value belongs to its request and dies when it has left or the request does
 * Order     a reader sends a value when it is asked for. A write (GETDEL, SET GET, EXEC with its
 *           reads) must not reply before it is acknowledged: its values wait in the request, found
 *           and pinned at their place in the order, until value_join
 * Limits    VALUE_WHOLE_MAX bytes are read at once, more are streamed, but what is read again and
 *           fits 1/VALUE_HOT_SHARE of the payload budget is read at once and kept. Replies hold
 *           whole buffers up to 1/VALUE_LENT_SHARE of the budget, those that wait in one EXEC
 *           1/VALUE_EXEC_SHARE
 * Errors    ERR_CORRUPT (counted), ERR_NOTFOUND (it went while its turn had not come), ERR_IO: the
 *           command replies in the value's place, or, once $len has been sent, the connection is
 *           closed with a counted reason
 */
#ifndef SERVER_VALUE_H
#define SERVER_VALUE_H

#include "server/request.h"

#define VALUE_WHOLE_MAX ((uint64_t)4 << 20) /* measured: see value.c */
#define VALUE_HOT_SHARE 8
#define VALUE_LENT_SHARE 2
#define VALUE_EXEC_SHARE 4

struct value_part {
    uint64_t offset, count;
    /* Replies what stands ahead of the bulk, or, with an error, what stands in its place. */
    void (*begin)(struct request *rq, int err);
    /* The bulk is complete, or begin had an error, or the client is gone. NULL: nothing to do.
     * It may send the next value. In a write it comes at once, before begin. */
    void (*end)(struct request *rq);
};

/* One bulk with bytes [offset, offset + count) of a record's value. */
void value_send(struct request *rq, struct slice key, const struct record *r,
                const struct value_part *part);
/* A begin with nothing ahead of the bulk. In its place nil says that the value is not there: it is
 * damaged or deleted. Any other error is replied, in an array, too: it is no miss. */
void value_begin(struct request *rq, int err);
/* The whole value, by value_begin. */
void value_reply(struct request *rq, struct slice key, const struct record *r);

/* The whole value, for a command that computes with it. 0: cb exactly once, maybe at once; data
 * dies after it. ERR_AGAIN: no room in the payload budget; no cb, as with other errors. */
typedef void (*value_cb)(struct request *rq, int err, struct slice data);
int value_load(struct request *rq, struct slice key, const struct record *r, value_cb cb);

/* Moves a request's reply, with the values that wait in it, to `top` (its EXEC, or itself). False:
 * one is being sent; value_join is called again by the last release of top. */
bool value_join(struct request *rq, struct request *top);
void value_join_ahead(struct request *rq); /* its turn comes next: reads the first group */
void value_drop_all(struct request *rq);   /* what waits will not be sent */
void value_cancel(struct request *top);    /* its client is gone */

#endif
