/* SPDX-License-Identifier: MIT */
/* server: the loop and what hangs on it.
 *
 * Purpose   owns the event loop, the connections and the parts; defines what one turn is
 * Threads   loop; server_signal from a signal handler
 * Turn      1. events: sockets readable and writable, the inbox (jobs, log), the timer
 *           2. large values are received; connections, listings and rebuilds that had more to do
 *           3. store_step: stage, checkpoint, sweep, evict
 *           4. write_turn: the open group is sent if the window allows
 *           5. replies of this turn are written; closed connections are freed
 * Lifetime  server_new → server_listen → server_start → server_run → server_free. server_run is
 *           server_step until it says false, then server_end
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "base/clock.h"
#include "config/config.h"
#include "fsm/fsm.h"
#include "log/log.h"
#include "metric/metric.h"
#include "server/conn.h"
#include "server/stats.h"
#include "server/stream.h"
#include "server/tier.h"
#include "server/write.h"
#include "store/datadir.h"

struct listener;
struct slowlog;
struct latency;

enum server_state { SERVER_LOADING, SERVER_READY, SERVER_STOPPING, SERVER_STOPPED };

struct server {
    /* fixed after new */
    struct config *config;
    const char *config_file; /* absolute, or "" */
    const char *executable;
    struct datadir *datadir;
    const struct server_seams *seams; /* NULL: none */
    struct event_base *base;
    struct inbox *inbox;
    struct clock clock;
    char run_id[41];
    uint64_t start_ms;
    /* parts */
    struct buf_pool *pool;
    struct store *store;
    struct fsm fsm;
    struct log *log;
    struct write *write;
    struct tier *tier;
    struct streams *streams;
    struct metrics metrics;
    struct slowlog *slowlog; /* stats.c */
    struct latency *latency; /* stats.c */
    struct listener *listeners;
    /* loop */
    enum server_state state;
    struct event *inbox_event, *timer_event, *step_event, *signal_event;
    bool again;      /* another turn without waiting */
    bool room_freed; /* the store may take writes that waited */
    uint64_t created_us, step_wait_us;
    uint64_t turn_us;         /* monotonic, at the turn's start (its events) */
    struct metric_hist turns; /* how long turns take, waiting for events not counted */
    uint64_t timer_ticks;
    struct load_stats load; /* stats.c */
    struct conn *conns, *dirty, *ready, *receivers, *closed;
    uint64_t uploads, outputs; /* large ones so far */
    struct request *memory_waiters, *turn_waiters, *reply_waiters;
    size_t reply_bytes;       /* of all replies not yet sent, values that they borrow included */
    size_t multi_bytes;       /* of all commands queued in MULTI */
    const void *long_listing; /* the walk that goes on while replies are many */
    struct request *rebuilding, *rebuild_waiters; /* rebuild.c */
    bool rebuild_ended;                           /* the waiters may go on */
    unsigned rebuild_reads;                       /* under way */
    struct conn_watch *watches;                   /* all of WATCH */
    struct scan *scan;                            /* SCAN cursors, cmd_scan.c */
    struct conn *budget_head, *budget_tail;       /* wait for payload room, FIFO */
    uint64_t next_conn_id;
    unsigned nconns;
    uint8_t *scratch;           /* CONN_SCRATCH: one read at a time */
    struct slice *argv_scratch; /* arguments of the command being started */
    int argv_size;
    size_t value_max; /* largest value that can be stored */
    bool space_freed; /* payload buffers came back: waiters are looked at in this turn */
    bool paused_accept;
    uint64_t pause_until_ms; /* CLIENT PAUSE */
    bool pause_all;
    uint64_t config_changed; /* by CONFIG SET: bits by row of the table, for CONFIG REWRITE */
    /* start and stop */
    int start_err;
    bool log_started;
    bool named; /* index.mdb knows the cluster of this log, durably */
    char start_detail[LOG_DETAIL_MAX];
    bool stop_requested, stop_now;
    uint64_t stop_deadline_us;
    enum log_role role;
    uint64_t term;
    uint64_t entry_stamp_ms; /* of the entry being applied; else 0 */
};

/* What a simulation puts in place of the machine (tests/sim). */
struct server_seams {
    struct clock_source clock;
    const struct io_ops *io;
    struct log_medium *medium; /* NULL: the log that the configuration says */
    uint64_t snapshot_groups;  /* of the log on the medium */
};

struct server_options {
    struct config *config;
    const char *config_file, *executable;
    struct datadir *datadir;
    const struct server_seams *seams; /* NULL: the machine. Else workers are stepped by hand */
};

int server_new(const struct server_options *o, struct server **out, char *detail);
int server_listen(struct server *s, char *detail);
int server_start(struct server *s, char *detail); /* store, log; replay goes on in server_run */
int server_run(struct server *s, char *detail);   /* 0, or why the start failed */
bool server_step(struct server *s);               /* one turn; false: it is over */
int server_end(struct server *s, char *detail);   /* unclean unless a stop was asked for */
void server_free(struct server *s);

void server_request_stop(struct server *s, bool now); /* SHUTDOWN, SIGTERM */
void server_signal(int signum);                       /* async-signal-safe */
uint64_t server_now_us(const struct server *s);       /* monotonic */
void server_wake(struct server *s);                   /* another turn soon */
/* The log says whose it is: an unnamed store takes the name, another's log ends the start. */
void server_note_cluster(struct server *s, const uint8_t cluster[16]);

void server_notify(const char *state); /* systemd: "READY=1" */

/* listener.c */
int listener_open_all(struct server *s, char *detail);
void listener_close_all(struct server *s);
void listener_resume(struct server *s); /* descriptors may be there again */

#endif
