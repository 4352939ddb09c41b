/* SPDX-License-Identifier: MIT */
/* client: who sits at the connections, and what their replies tell the model.
 *
 * With its last byte readable a command is invoked; with the last byte of its reply written by the
 * server it is answered, whenever the client looks.
 */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include "socket.h"

void client_init(void);
void client_act(void);  /* some client does something */
void client_push(void); /* whatever is queued is sent, and every reply is read */
size_t client_outstanding(void);
/* Sends a command and does not wait. False: nobody is connected. */
bool client_send(struct cmd *c);
void client_lose_all(void); /* the server is gone */
void client_settled(void);  /* nothing of a connection that has left is under way */
bool client_is_leased(int key);

struct client_stats {
    uint64_t commands, refused, unknown, lost, connections, closed_by_server;
    uint64_t oom, nospc, loading, io_errors, tx, tx_refused, backups, listings;
};
void client_get_stats(struct client_stats *out);

#endif
