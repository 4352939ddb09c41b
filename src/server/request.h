/* SPDX-License-Identifier: MIT */
/* request: one command of one client, from its arguments to its reply.
 *
 * Purpose   lets commands finish late (log, disk, memory budget) while replies leave in order, and
 *           lets EXEC hold the commands it runs
 * Threads   loop
 * States
 *   state      entered by             guaranteed                           leaves to
 *   RUNNING    request_new            holds > 0                            DONE
 *   DONE       last request_release   reply complete in out                (freed when it is its
 *                                                                          turn in the order)
 * Owner     its connection's order (or its EXEC parent) owns it; a closed connection leaves it
 *           orphaned (conn NULL, replies discarded) until its holds are gone
 * Lifetime  argv is valid while the request lives; handlers borrow it
 * Order     writes of one connection are proposed in the order they came; a read starts when that
 *           connection's earlier writes are answered (command.c)
 */
#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H

#include "fsm/fsm.h"
#include "resp/emit.h"
#include "store/store.h"

struct conn;
struct command;
struct server;

/* A value received straight into a payload buffer, digested as it came. */
struct upload {
    struct buf *buf; /* one reference */
    struct payload_digest digest;
    uint64_t received;
};
struct upload *upload_new(struct buf *buf); /* takes the reference; NULL: no memory */
void upload_free(void *upload);

/* An argument's value made durable ahead of its entry. */
struct staged {
    struct staged *next;
    struct stage_req req;
    struct request *rq;
    struct upload *upload; /* owned */
    int arg;               /* argv index; STAGED_BUILT: the value a rebuild made */
    bool placed;           /* durable at req.place */
    uint8_t model[RECORD_META_MAX], seq[RECORD_META_MAX]; /* req has slices of them */
};
#define STAGED_BUILT (-1)

struct request {
    struct request *next; /* order of the connection, or of the parent */
    struct server *server;
    struct conn *conn;      /* NULL: orphaned */
    struct request *parent; /* EXEC, or NULL */
    const struct command *cmd;
    const char *cmd_name; /* full name with subcommand, for SLOWLOG */
    int argc;
    struct slice *argv;
    struct upload **uploads; /* per argument, NULL = small; owned */
    void *arg_mem;           /* argv and small bytes, once the request outlives its start */
    struct evbuffer *out;    /* reply so far; the connection's own when it is its turn */
    struct emit emit_state;
    unsigned holds;
    bool done, write, proposed, failed;
    bool looking;      /* CMD_SLICES, under way; counted in its connection */
    bool rejected;     /* refused before it ran: no call of its command */
    bool discard;      /* CLIENT REPLY OFF: nothing of it is sent */
    int proto;         /* RESP version when it came */
    uint64_t now_ms;   /* stamp for relative times, the same in every planning pass */
    uint64_t start_us; /* monotonic */
    /* writes */
    struct staged *staged;
    unsigned staging; /* not yet durable, children's included */
    bool waits_for_copy;
    int stage_err;
    uint32_t ops, ops_seen;        /* in its unit */
    int64_t sum;                   /* results so far: commands count here */
    unsigned attempts;             /* rebuilds */
    uint64_t if_mod;               /* KVRANGE: of the value it began with */
    struct entry_writer *built_on; /* rebuild.h: conditions of built values, or NULL */
    struct request *built_next;    /* others that have some */
    /* stored values in the reply: value.c */
    struct value *sending;               /* one is being sent */
    struct value *values, **values_tail; /* wait for the acknowledgement, in order */
    size_t values_at;                    /* where the last of them stands in out */
    uint64_t value_bytes;                /* asked for so far */
    /* for the command */
    void *state;
    void (*state_free)(void *state);
    void (*pace)(struct request *rq); /* waits for its turn; see request_turn */
    struct request *wait_next;        /* waits for payload memory; see request_wait_memory */
    void (*wait)(struct request *rq);
    uint64_t slice_us; /* when the running slice began, 0 = not yet */
    /* EXEC */
    bool ran; /* child, a read: it has run, and perhaps waits for its value */
    struct request *children, **children_tail, *cursor;
    uint32_t child_count;
    bool children_dropped; /* the reply is not theirs (a WATCH failed) */
    bool children_ended;   /* nothing more will be started for them */
};

struct request *request_new(struct server *s, struct conn *conn, const struct command *cmd);
void request_free(struct request *rq);
/* Copies what argv still borrows from the parser: the request goes on after its start. */
void request_keep_args(struct request *rq);
bool request_keep_large_args(struct request *rq, size_t large); /* false: there is no memory */

/* Where to write the reply. Valid until the next event. */
struct emit *request_emit(struct request *rq);
void request_error(struct request *rq, const char *text); /* "ERR …" */
__attribute__((format(printf, 2, 3))) void request_errorf(struct request *rq, const char *format,
                                                          ...);
void request_error_code(struct request *rq, int err); /* ERR_ → RESP text */

/* A request is answered when nobody holds it any more. */
void request_hold(struct request *rq);
void request_release(struct request *rq);

/* ---- taking turns ------------------------------------------------------------------------ */
/* A large reply goes on with `next` only when it is this request's turn and the output has drained;
 * true = it waits (and holds) until then, false = go on now: what is emitted leaves. A closed
 * connection counts as drained: next sees conn NULL and should end. */
bool request_turn(struct request *rq, void (*next)(struct request *rq));
/* As request_turn, but a reply that is still short may grow before its turn. */
bool request_pace(struct request *rq, void (*next)(struct request *rq));
void request_paced(struct request *rq); /* conn.c: calls next, drops the hold */
void request_count_value(struct request *rq, uint64_t bytes); /* will be in the reply */

/* Calls again() when payload memory was given back; holds until then. */
void request_wait_memory(struct request *rq, void (*again)(struct request *rq));
void request_memory_available(struct server *s);
/* The same for a listing that pauses while replies are many (reply.h). */
void request_wait_replies(struct request *rq, void (*again)(struct request *rq));
void request_replies_left(struct server *s);
/* Long look-ups and listings run in slices: calls again() in the next turn; holds until then. */
void request_next_turn(struct request *rq, void (*again)(struct request *rq));
void request_run_turn(struct server *s);
bool request_slice_over(struct request *rq); /* this slice has used its time */

/* ---- writes ------------------------------------------------------------------------------ */
/* Puts argv[arg] (or the built value) as the value of key into the unit: inline if small, else
 * from its staged place. Fills data or payload, length, digest, holders of put. False: it must be
 * staged first; the pass is repeated when it is (what the unit holds is dropped). */
bool request_put(struct request *rq, struct entry_writer *unit, struct slice key, int arg,
                 unsigned flags, struct op_put *put);
/* A value made by a rebuild: takes the upload. Staged by the next request_put with STAGED_BUILT. */
void request_set_built(struct request *rq, struct upload *built);
void request_drop_built(struct request *rq); /* the key changed: build again */

#endif
