/* SPDX-License-Identifier: MIT */
/* tx: what the rest of the server needs of MULTI and EXEC.
 *
 * Purpose   end a transaction that was not executed (RESET, close); join the replies of EXEC
 * Threads   loop
 */
#ifndef SERVER_TX_H
#define SERVER_TX_H

#include "server/request.h"

struct conn_watch;

void tx_discard(struct conn *c);
void tx_free_watches(struct server *s, struct conn_watch **list);
void tx_touch(struct server *s, struct slice key); /* written; an empty key: everything was */
/* Nothing more will happen to the children of an EXEC; does nothing for other requests. */
void tx_end(struct request *rq);
/* Called when the last hold of an EXEC is gone; does nothing for other requests. */
void tx_join(struct request *rq);

#endif
