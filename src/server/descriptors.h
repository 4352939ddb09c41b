/* SPDX-License-Identifier: MIT */
/* descriptors: how many files this process may open, shared between clients and its own files.
 *
 * Purpose   what the store holds open (one descriptor a volume, index, log, threads) is kept back
 *           from clients: without it the log could not open its next segment, writes would hang
 * Threads   loop, or before it runs
 */
#ifndef SERVER_DESCRIPTORS_H
#define SERVER_DESCRIPTORS_H

#include <stdbool.h>

#include "config/config.h"

/* At start: raises the limit for maxclients, else lowers maxclients and says so, as Redis does.
 * ERR_INVAL with one line in detail (LOG_DETAIL_MAX bytes): not even one client would fit. */
int descriptors_arrange(struct config *c, char *detail);
/* CONFIG SET maxclients: they are there, or can be had. */
bool descriptors_allow(const struct config *c, int64_t clients);

#endif
