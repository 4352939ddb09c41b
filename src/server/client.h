/* SPDX-License-Identifier: MIT */
/* client: what CLIENT and HELLO share about a connection's name.
 *
 * Purpose   names and library names have printable characters only and a bounded length
 * Threads   loop
 * Errors    client_check_name: false = replied
 */
#ifndef SERVER_CLIENT_H
#define SERVER_CLIENT_H

#include "server/command.h"
#include "server/conn.h"

bool client_check_name(struct request *rq, struct slice name);
void client_set_name(struct conn *c, struct slice name);

#endif
