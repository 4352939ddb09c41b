/* SPDX-License-Identifier: MIT */
/* info: sections of INFO that stand in a file of their own.
 *
 * Purpose   info_store.c: Kvcache, Raft, Storage: what this server has and Redis has not
 * Threads   loop
 * Units     as the field's name says; plain counts otherwise
 */
#ifndef SERVER_INFO_H
#define SERVER_INFO_H

#include "server/server.h"
#include "server/text.h"

void info_number(struct text *t, const char *field, uint64_t value);
void info_metrics(struct text *t, const struct server *s, const char *section);

void info_kvcache(struct text *t, struct server *s);
void info_raft(struct text *t, struct server *s);
void info_storage(struct text *t, struct server *s);

#endif
