/* SPDX-License-Identifier: MIT */
/* conn: one client connection.
 *
 * Purpose   bytes in → requests; finished requests → bytes out, in order; budgets and limits
 * Threads   loop
 * States
 *   state     entered by        guaranteed here                          leaves to
 *   OPEN      conn_new          socket registered                        CLOSING, CLOSED
 *   CLOSING   QUIT, error       reads nothing more; closes when all      CLOSED
 *                               replies have left
 *   CLOSED    conn_close        socket closed, requests orphaned         (freed at turn's end)
 * Waits     reading stops while: a command must wait for earlier ones, CONN_PENDING_MAX requests
 *           or CONN_OUT_HIGH reply bytes are unsent, CONN_VALUES_MAX bytes of values were asked
 *           for by unfinished requests, or the payload budget has no room (FIFO)
 * Limits    CONN_TURN_READ bytes, CONN_TURN_COMMANDS and CONN_TURN_US per loop turn, then others
 *           come first; CONN_TURN_RECEIVE bytes of large values and CONN_TURN_SEND of large
 *           replies over all connections. While all replies together are above REPLIES_HIGH, no
 *           second one is begun on a connection before the first has left
 * Source    recv straight into the payload buffer [M, DESIGN §4.1]
 */
#ifndef SERVER_CONN_H
#define SERVER_CONN_H

#include <netinet/in.h>

#include "base/slice.h"
#include "resp/parse.h"
#include "server/request.h"

#define CONN_TURN_READ ((size_t)1 << 20)
#define CONN_TURN_RECEIVE ((size_t)512 << 10)
#define CONN_TURN_COMMANDS 512
#define CONN_TURN_US 500 /* commands of one connection before others come */
#define CONN_TURN_SEND ((size_t)1 << 20)
#define CONN_PENDING_MAX 1024
#define CONN_OUT_HIGH ((size_t)1 << 20)
#define CONN_VALUES_MAX ((uint64_t)16 << 20)
#define CONN_SCRATCH ((size_t)64 << 10)
#define CONN_NAME_MAX 256

enum conn_state { CONN_OPEN, CONN_CLOSING, CONN_CLOSED };
enum conn_reply { CONN_REPLY_ON, CONN_REPLY_OFF, CONN_REPLY_SKIP };

struct conn_watch {                         /* WATCH: the key and the mod it had */
    struct conn_watch *next;                /* of this connection or its EXEC */
    struct conn_watch *prev_all, *next_all; /* of the server */
    bool touched; /* written since, though its mod may look the same (made and deleted) */
    uint64_t mod;
    size_t key_len;
    uint8_t key[];
};

struct conn {
    struct server *server;
    struct conn *prev, *next; /* of all connections */
    uint64_t id;
    int fd;
    enum conn_state state;
    const char *close_reason;
    struct event *read_event, *write_event;
    bool reading, writing; /* events registered */
    bool unix_socket, local;
    char peer[64], local_addr[64];
    /* input */
    struct parse parse;
    bool have_command;                  /* parse.argv waits to be started */
    bool direct_waiting;                /* a bulk waits for budget */
    struct conn *wait_prev, *wait_next; /* FIFO of those */
    uint8_t *in;                        /* bytes read but not parsed (while waiting) */
    size_t in_pos, in_len;
    size_t held_bytes;  /* payload budget held by the unfinished command */
    size_t multi_bytes; /* of the commands queued in MULTI */
    size_t too_big;     /* length of a bulk of it that was read away */
    bool no_memory;     /* a bulk of it was read away: malloc failed */
    bool starved;       /* its bulks are read away: memory for all of them was not to be had */
    uint64_t wait_since_us;
    struct upload *upload;  /* the bulk being received; the parser owns it */
    uint64_t upload_number; /* in the order in which bulks were opened */
    bool receiver;          /* has bytes of a large bulk, until the turn begins */
    struct conn *receiver_next;
    /* requests in order */
    struct request *head, **tail;
    unsigned pending, pending_writes, unproposed;
    bool unproposed_staged; /* all of those go through the stage */
    unsigned looking;       /* reads that look again: writes wait */
    uint64_t value_bytes;   /* that those in the order asked for */
    /* output */
    struct evbuffer *out;
    uint64_t output_number; /* in the order in which outputs became large; 0: small */
    bool dirty;             /* in the server's list of those to flush at turn's end */
    struct conn *dirty_next;
    bool ready; /* in the list of those that go on next turn */
    struct conn *ready_next;
    struct conn *free_next;
    /* session */
    int proto;
    bool authenticated, in_multi, multi_failed, multi_dirty, quit_after_reply;
    enum conn_reply reply_mode; /* CLIENT REPLY */
    bool no_evict, no_touch;
    struct request *multi; /* the EXEC being collected */
    struct conn_watch *watch;
    char name[CONN_NAME_MAX], lib_name[64], lib_ver[64];
    /* statistics */
    uint64_t created_ms, last_ms, last_progress_us, progress_bytes, bytes_in, bytes_out, commands;
    const char *last_cmd;
};

struct conn *conn_new(struct server *s, int fd, bool unix_socket);
void conn_close(struct conn *c, const char *reason); /* at once */
void conn_close_after_reply(struct conn *c);         /* CLOSING */
void conn_reap(struct server *s);                    /* frees CLOSED ones; turn's end */

void conn_on_request_done(struct conn *c, struct request *rq);
void conn_resume(struct conn *c); /* something it may have waited for has happened */
void conn_on_proposed(struct conn *c);
void conn_send_turn(struct server *s); /* turn's end: replies */
void conn_ready_run(struct conn *c);
void conn_receive_turn(struct server *s);     /* turn's start: bytes of large values */
void conn_budget_available(struct server *s); /* those that wait for budget, FIFO */
void conn_check_timeouts(struct server *s, uint64_t now_us);
void conn_unwatch(struct conn *c);
void conn_set_authenticated(struct conn *c, bool yes);
size_t conn_memory(const struct conn *c);
bool conn_idle(const struct conn *c); /* nothing pending, nothing to send */

#endif
