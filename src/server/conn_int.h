/* SPDX-License-Identifier: MIT */
/* conn_int: between conn.c (life, order) and conn_io.c (bytes). Nobody else includes this, but for
 * command.c and request.c, which append requests and ask for a flush.
 */
#ifndef SERVER_CONN_INT_H
#define SERVER_CONN_INT_H

#include "server/conn.h"

void conn_on_readable(int fd, short what, void *arg);
void conn_on_writable(int fd, short what, void *arg);
void conn_want_read(struct conn *c, bool want);
void conn_mark_dirty(struct conn *c);
void conn_free(struct conn *c);
void conn_set_limits(struct conn *c); /* after AUTH too */
void conn_append(struct conn *c, struct request *rq);
void conn_note_progress(struct conn *c, size_t bytes, bool finished);
void conn_leave_budget_queue(struct conn *c);
void conn_break_deadlock(struct server *s, uint64_t now_us);

#endif
