/* SPDX-License-Identifier: MIT */
/* cmd_key: handlers of key commands that other groups share.
 *
 * Purpose   KVDEL deletes as DEL does
 * Threads   loop
 */
#ifndef SERVER_CMD_KEY_H
#define SERVER_CMD_KEY_H

#include "server/command.h"

enum plan cmd_del_plan(struct request *rq, struct entry_writer *unit);

#endif
