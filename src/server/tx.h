/* SPDX-License-Identifier: MIT */
/* tx: what the rest of the server needs of MULTI and EXEC.
 *
 * Purpose   begin EXEC; end a transaction that was not executed (RESET, close); join the replies of
 *           EXEC; what WATCH watches
 * Threads   loop
 * Limits    the queued commands of a connection take at most MULTI_BYTES_MAX, those of all
 *           connections MULTI_BYTES_ALL_MAX; large values are in the payload budget
 */
#ifndef SERVER_TX_H
#define SERVER_TX_H

#include "server/request.h"

#define MULTI_BYTES_MAX ((size_t)32 << 20)
#define MULTI_BYTES_ALL_MAX ((size_t)128 << 20)

struct conn_watch;

void tx_discard(struct conn *c);
/* The transaction will fail: memory of its commands is given back. */
void tx_empty_queue(struct conn *c);
void tx_drop_queue(struct conn *c); /* the commands queued since MULTI */
void tx_free_watches(struct server *s, struct conn_watch **list);
/* The key was written. An empty key: all were deleted, which does not touch who watched an absent
 * one. */
void tx_touch(struct server *s, struct slice key);
/* EXEC takes over what its connection has collected; false: it was refused, and replied. */
bool tx_begin(struct request *rq);
/* Whose op of the unit this is: a child of EXEC, or the command itself. */
struct request *tx_command_at(struct request *rq, uint32_t op);
/* 0: absent or expired. */
uint64_t tx_mod_of(struct server *s, struct slice key);
/* Nothing more will happen to the children of an EXEC; does nothing for other requests. */
void tx_end(struct request *rq);
/* The last hold of an EXEC is gone: its reply is put together. False: a value in it is being sent;
 * it is called again when the hold that was taken for that is gone. */
bool tx_join(struct request *rq);

#endif
