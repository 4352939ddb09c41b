/* SPDX-License-Identifier: MIT */
/* cmd_server: handlers of the server group that have files of their own.
 *
 * Purpose   INFO (cmd_info.c), COMMAND (cmd_command.c), DEBUG (cmd_debug.c)
 * Threads   loop
 */
#ifndef SERVER_CMD_SERVER_H
#define SERVER_CMD_SERVER_H

#include "server/command.h"

void cmd_info_run(struct request *rq);
void cmd_command_run(struct request *rq); /* COMMAND alone */
void cmd_debug_run(struct request *rq);

#endif
