/* SPDX-License-Identifier: MIT */
/* socket: connections in memory, with the server's recv and write on one side. */
#ifndef TESTS_SIM_SOCKET_H
#define TESTS_SIM_SOCKET_H

#include "cmd.h"

struct sock {
    struct sock *next;
    int fd;
    uint64_t id;
    int slot; /* the client's; -1: it has left */
    bool raw; /* a scene's: its replies stay in `in` as they come */
    /* commands not yet answered, oldest first */
    struct cmd *first, **last;
    /* client → server: bytes queued, those the server may have, those it has */
    uint64_t queued, visible, taken;
    struct cmd *reading;
    size_t reading_at;
    bool eof, reset; /* no more comes; nothing goes any more */
    /* server → client */
    size_t room; /* of the socket's buffer */
    uint8_t *in;
    size_t in_len, in_space, in_want;
    bool closed; /* by the server */
};

struct sock *socket_open(int slot);
struct sock *socket_open_raw(void);
void socket_queue(struct sock *s, struct cmd *c);
void socket_show(struct sock *s, uint64_t bytes); /* this much more becomes readable */
void socket_drain(struct sock *s, size_t bytes);  /* the client reads: room for more */
/* The client goes; what it sent may still be read (or not: reset). Its commands are the caller's
 * business before. */
void socket_leave(struct sock *s, bool reset);
void socket_lose_all(void); /* the other side is gone, with everything in between */
void socket_free_all(void);
void socket_mark_blobs(void);

bool socket_owns(int fd);
bool socket_readable(int fd);
bool socket_writable(int fd);

/* client.c */
void client_on_begin(struct sock *s, struct cmd *c);
/* True: that was the last reply of the command. Takes the reply. */
bool client_on_reply(struct sock *s, struct cmd *c, struct reply *r);
void client_on_close(struct sock *s); /* by the server */

#endif
