/* SPDX-License-Identifier: MIT */
/* version: what this server calls itself.
 *
 * Purpose   SERVER_VERSION is ours; SERVER_REDIS_VERSION is the Redis whose replies we give, which
 *           clients read to decide what they may use (HELLO, INFO)
 * Threads   constants
 */
#ifndef SERVER_VERSION_H
#define SERVER_VERSION_H

#define SERVER_VERSION "0.1.0"
#define SERVER_REDIS_VERSION "7.0.15"

#endif
