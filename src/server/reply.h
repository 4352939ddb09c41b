/* SPDX-License-Identifier: MIT */
/* reply: buffers of replies, and how many bytes they hold together.
 *
 * Purpose   a client that asks for much and reads nothing must not fill the memory: every buffer of
 *           a reply, sent or being made, is counted. Above REPLIES_HIGH a connection begins a
 *           command only when nothing of it is pending or unsent (conn_io.c), so what comes on top
 *           is one reply a connection, and a listing (CMD_LISTING) pauses
 * Threads   loop
 * Units     bytes; values that replies borrow from payload buffers count in full, so the sum may
 *           be far above the memory in use: all it does is to serialise the greedy
 * Limits    REPLIES_HIGH; one listing may go on beyond it, to LISTING_BYTES_MAX (scan.h)
 */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#define REPLIES_HIGH ((size_t)64 << 20)

struct evbuffer;
struct server;

struct evbuffer *reply_buffer_new(struct server *s);
void reply_buffer_free(struct server *s, struct evbuffer *out);
bool replies_full(const struct server *s);

#endif
