/* SPDX-License-Identifier: MIT */
/* The loop. Everything else in this directory is called from server_turn or from an event.
 *
 * Start: store_open, log_open, listeners (answering -LOADING), log_start; the log replays into the
 * inbox; on_started recovers the volumes and the server is ready. A new store first writes the
 * entry that names the cluster and takes a checkpoint.
 *
 * Stop (SIGTERM, SHUTDOWN): no new connections, nothing more is parsed, what is in flight finishes
 * within shutdown-timeout, replies leave, the log stops while the loop drains it, the store takes a
 * last checkpoint marked clean. A second signal, or the deadline, ends at once: as safe as kill -9.
 */
#include "server/server.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/logger.h"
#include "server/command.h"
#include "server/lmcache.h"
#include "server/scan.h"
#include "server/memory.h"
#include "server/rebuild.h"
#include "server/stats.h"
#include "server/tx.h"
#include "store/ballast.h"

#define INBOX_TURN 4096
#define TIMER_MS 100
#define TIMEOUT_TICKS 10
#define STOP_WAIT_MS 100
#define STOP_GRACE_US 2000000 /* for what goes on when the loop has ended */
#define STOP_STALL_US 3000000 /* a reply of which so long nothing was taken is given up */

static volatile sig_atomic_t got_stop, got_reopen;
static volatile sig_atomic_t is_ending;
static volatile int signal_fd = -1;

void server_signal(int signum)
{
    uint64_t one = 1;
    ssize_t n;

    if (signum == SIGHUP) {
        got_reopen = 1;
    } else {
        if (got_stop > 0 && is_ending)
            _exit(0); /* the loop, which would look, no longer runs */
        got_stop = got_stop + 1;
    }
    n = signal_fd >= 0 ? write(signal_fd, &one, sizeof(one)) : 0;
    (void)n;
}

uint64_t server_now_us(const struct server *s)
{
    return clock_mono_us(&s->clock);
}

void server_wake(struct server *s)
{
    s->again = true;
}

/* ---- callbacks from below ---------------------------------------------------------------- */

static bool on_reclaim(void *ctx)
{
    struct server *s = ctx;

    return tier_reclaim(s->tier);
}

/* Only noted: whoever released may be in the middle of something. Who comes later asks the pool. */
static void on_buffer_space(void *ctx)
{
    struct server *s = ctx;

    if (s->budget_head == NULL && s->memory_waiters == NULL && !streams_waiting(s->streams))
        return;
    s->space_freed = true;
    server_wake(s);
}

static void on_streams_due(void *ctx)
{
    struct server *s = ctx;

    s->space_freed = true;
    server_wake(s);
}

static void on_store_space(void *ctx)
{
    struct server *s = ctx;

    s->room_freed = true;
    server_wake(s);
}

static void on_key_changed(void *ctx, struct slice key)
{
    struct server *s = ctx;

    if (s->watches != NULL)
        tx_touch(s, key);
}

/* LMCache's metadata goes first, so that no crash leaves it behind alone. */
static bool on_propose_evict(void *ctx, struct slice key, uint64_t mod)
{
    struct server *s = ctx;
    struct lmcache_key mem;
    struct slice metadata = lmcache_metadata_of(key, &mem);
    struct record r;

    if (metadata.len > 0 && store_get(s->store, metadata, &r) == 0 &&
        !write_evict(s->write, metadata, r.mod))
        return false;
    return write_evict(s->write, key, mod);
}

static void on_tags(void *ctx, uint64_t *term, uint64_t *applied)
{
    struct server *s = ctx;

    *term = s->term;
    *applied = store_applied_index(s->store);
}

static void on_committed(void *ctx, uint64_t index, uint64_t term, struct slice entry)
{
    write_on_committed(((struct server *)ctx)->write, index, term, entry);
}

static void on_failed(void *ctx, uint64_t token, int err)
{
    write_on_failed(((struct server *)ctx)->write, token, err);
}

static void on_role(void *ctx, enum log_role role, uint64_t term)
{
    struct server *s = ctx;

    s->role = role;
    s->term = term;
    store_set_evicting(s->store, role == LOG_ROLE_LEADER);
    server_wake(s);
}

static void on_need_snapshot(void *ctx)
{
    write_on_need_snapshot(((struct server *)ctx)->write);
}

static void refuse_start(struct server *s, int err)
{
    s->start_err = err;
    s->stop_now = true;
    server_wake(s);
}

static bool is_none(const uint8_t cluster[16])
{
    static const uint8_t none[16];

    return memcmp(cluster, none, sizeof(none)) == 0;
}

/* False: start_detail says why. */
static bool log_is_ours(struct server *s, const uint8_t cluster[16])
{
    uint8_t mine[16];

    store_get_cluster(s->store, mine);
    if (is_none(mine) || is_none(cluster) || memcmp(mine, cluster, sizeof(mine)) == 0)
        return true;
    snprintf(s->start_detail, sizeof(s->start_detail),
             "the log in %s/raft belongs to another store than index.mdb: restore the one of this "
             "store, or build a new store with: sldmkv-check --salvage",
             s->config->data_dir);
    return false;
}

static bool on_restored(void *ctx, const struct log_descriptor *d)
{
    struct server *s = ctx;

    if (d->applied <= store_durable_index(s->store))
        return log_is_ours(s, d->cluster);
    snprintf(s->start_detail, sizeof(s->start_detail),
             "the snapshot in %s/raft covers %" PRIu64 ", index.mdb only %" PRIu64
             ": it was replaced by an older one; restore it, or build a new store with: "
             "sldmkv-check --salvage",
             s->config->data_dir, d->applied, store_durable_index(s->store));
    return false;
}

static void become_ready(struct server *s)
{
    s->state = SERVER_READY;
    LOG_NOTICE("Ready to accept connections applied=%" PRIu64 " took_ms=%" PRIu64,
               store_applied_index(s->store), (server_now_us(s) - s->created_us) / 1000);
    for (struct conn *c = s->conns; c != NULL; c = c->next)
        conn_resume(c);
    server_notify("READY=1");
}

static void on_named(void *ctx, int err)
{
    struct server *s = ctx;

    if (s->stop_requested || s->stop_now)
        return;
    if (err == 0) {
        s->named = true;
        become_ready(s);
        return;
    }
    snprintf(s->start_detail, sizeof(s->start_detail), "%s/index.mdb: the first checkpoint: %s",
             s->config->data_dir, err_text(err));
    refuse_start(s, err);
}

void server_note_cluster(struct server *s, const uint8_t cluster[16])
{
    uint8_t mine[16];

    store_get_cluster(s->store, mine);
    if (!log_is_ours(s, cluster)) {
        refuse_start(s, ERR_INVAL);
    } else if (is_none(mine)) {
        store_set_cluster(s->store, cluster);
        if (s->log_started)
            store_checkpoint(s->store, on_named, s);
    }
}

/* A snapshot covers its marker, too, which is not replayed. */
static uint64_t replayed_to(const struct server *s)
{
    struct log_stats l;

    log_stats(s->log, &l);
    return l.snapshot_index > store_applied_index(s->store) ? l.snapshot_index
                                                            : store_applied_index(s->store);
}

/* A log that ends before what the volumes and the index know is not whole. */
static int recover(struct server *s)
{
    uint64_t max_applied = 0;
    int err = store_recover(s->store, &max_applied, s->start_detail);

    /* Without a log the end may be missing: it was not acknowledged before its checkpoint. */
    if (err != 0 || !s->config->raft || max_applied <= replayed_to(s))
        return err;
    snprintf(s->start_detail, sizeof(s->start_detail),
             "the log in %s/raft ends at %" PRIu64 " but a volume was written when %" PRIu64
             " was applied: acknowledged writes are missing; restore raft/, or build a new "
             "store with: sldmkv-check --salvage",
             s->config->data_dir, replayed_to(s), max_applied);
    return ERR_CORRUPT;
}

/* No write is answered before index.mdb names the log: from then on a missing log is noticed. */
static void on_started(void *ctx, int err, const char *detail)
{
    struct server *s = ctx;
    uint8_t cluster[16];

    if (s->stop_requested || s->start_err != 0)
        return; /* what came first counts */
    if (err == 0)
        err = recover(s);
    else if (s->start_detail[0] == '\0')
        snprintf(s->start_detail, sizeof(s->start_detail), "%s", detail);
    if (err != 0) {
        refuse_start(s, err);
        return;
    }
    s->log_started = true;
    store_get_cluster(s->store, cluster);
    if (s->named)
        become_ready(s);
    else if (is_none(cluster))
        write_init_cluster(s->write);
    else
        store_checkpoint(s->store, on_named, s);
}

/* ---- building and taking apart ----------------------------------------------------------- */

static void on_inbox(int fd, short what, void *arg)
{
    struct server *s = arg;

    (void)fd;
    (void)what;
    inbox_drain(s->inbox, INBOX_TURN);
}

/* Only the raft log needs it. */
static void keep_ballast(const struct server *s)
{
    uint64_t total, available;

    if (s->config->raft && datadir_space(s->config->data_dir, &total, &available) == 0)
        ballast_step(s->config->data_dir, available);
}

static void on_timer(int fd, short what, void *arg)
{
    struct server *s = arg;

    (void)fd;
    (void)what;
    s->timer_ticks++;
    stats_sample(s);
    if (s->state == SERVER_LOADING)
        for (struct conn *c = s->conns; c != NULL; c = c->next)
            conn_resume(c); /* those that waited for a short start are told now */
    if (s->timer_ticks % TIMEOUT_TICKS == 0) {
        memory_sample(s);
        streams_check(s->streams);
        keep_ballast(s);
        listener_resume(s); /* descriptors may have been freed elsewhere */
        conn_check_timeouts(s, s->turn_us);
        s->room_freed = true;  /* free disk space does not announce itself */
        s->space_freed = true; /* who waited too long is told */
    }
    if (s->pause_until_ms != 0 && clock_now_ms(&s->clock) >= s->pause_until_ms) {
        s->pause_until_ms = 0;
        for (struct conn *c = s->conns; c != NULL; c = c->next)
            conn_resume(c);
    }
}

static void on_signal_fd(int fd, short what, void *arg)
{
    struct server *s = arg;
    uint64_t n;

    (void)what;
    if (read(fd, &n, sizeof(n)) < 0)
        return;
    if (got_reopen) {
        got_reopen = 0;
        if (logger_reopen() != 0)
            LOG_WARNING("cannot reopen the log file");
        LOG_NOTICE("log file reopened");
    }
    if (got_stop > 0)
        server_request_stop(s, got_stop > 1);
}

static void on_step(int fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    server_wake(arg);
}

static int make_loop(struct server *s)
{
    static const struct timeval tick = {0, TIMER_MS * 1000};

    s->base = event_base_new();
    s->inbox = inbox_new();
    s->scratch = malloc(CONN_SCRATCH);
    signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->base == NULL || s->inbox == NULL || s->scratch == NULL || signal_fd < 0)
        return ERR_NOMEM;
    s->inbox_event = event_new(s->base, inbox_fd(s->inbox), EV_READ | EV_PERSIST, on_inbox, s);
    s->timer_event = event_new(s->base, -1, EV_PERSIST, on_timer, s);
    s->step_event = event_new(s->base, -1, 0, on_step, s);
    s->signal_event = event_new(s->base, signal_fd, EV_READ | EV_PERSIST, on_signal_fd, s);
    if (s->inbox_event == NULL || s->timer_event == NULL || s->step_event == NULL ||
        s->signal_event == NULL)
        return ERR_NOMEM;
    event_add(s->inbox_event, NULL);
    event_add(s->timer_event, &tick);
    event_add(s->signal_event, NULL);
    return 0;
}

static void make_run_id(struct server *s)
{
    uint8_t random[20];

    hash_random(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(s->run_id + 2 * i, 3, "%02x", random[i]);
}

int server_new(const struct server_options *o, struct server **out, char *detail)
{
    struct server *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return ERR_NOMEM;
    s->config = o->config;
    s->config_file = o->config_file;
    s->executable = o->executable;
    s->datadir = o->datadir;
    s->seams = o->seams;
    s->role = LOG_ROLE_STARTING;
    make_run_id(s);
    clock_init(&s->clock, s->seams != NULL ? s->seams->clock : clock_system(), 0);
    s->start_ms = clock_now_ms(&s->clock);
    s->created_us = s->turn_us = server_now_us(s);
    s->pool = buf_pool_new((size_t)s->config->max_memory_bytes);
    if (s->pool == NULL || make_loop(s) != 0) {
        snprintf(detail, LOG_DETAIL_MAX, "out of memory or file descriptors at start");
        server_free(s);
        return ERR_NOMEM;
    }
    command_init();
    *out = s;
    return 0;
}

int server_listen(struct server *s, char *detail)
{
    return listener_open_all(s, detail);
}

static int open_store(struct server *s, struct index_state *state, char *detail)
{
    struct store_config c = {
        .dir = s->config->data_dir,
        .node = s->datadir->node,
        .io = s->seams != NULL ? s->seams->io : &io_system,
        .inbox = s->inbox,
        .clock = &s->clock,
        .pool = s->pool,
        .max_store_bytes = (uint64_t)s->config->max_store_bytes,
        .max_index_bytes = (uint64_t)s->config->max_index_bytes,
        .volume_size = (uint64_t)s->config->volume_size,
        .read_threads = (unsigned)s->config->read_threads,
        .stepped = s->seams != NULL,
        .propose_evict = on_propose_evict,
        .on_space = on_store_space,
        .tags = on_tags,
        .ctx = s,
    };

    memcpy(c.uuid, s->datadir->uuid, sizeof(c.uuid));
    return store_open(&c, &s->store, state, detail);
}

static int open_log(struct server *s, const struct index_state *state, char *detail)
{
    char dir[sizeof(s->datadir->path) + 8];
    struct log_config c = {
        .kind = s->config->raft ? LOG_RAFT : LOG_NONE,
        .dir = dir,
        .node_id = s->datadir->node,
        .base = s->datadir->log_base,
        .must_have = state->applied,
        .inbox = s->inbox,
        .cb = {on_committed, on_failed, on_role, on_need_snapshot, on_restored, on_started, s},
    };

    snprintf(dir, sizeof(dir), "%s/raft", s->datadir->path);
    if (s->seams != NULL && s->seams->medium != NULL) {
        c.kind = LOG_MEM;
        c.medium = s->seams->medium;
        c.snapshot_groups = s->seams->snapshot_groups;
    }
    return log_open(&c, &s->log, detail);
}

int server_start(struct server *s, char *detail)
{
    struct index_state state;
    int err;

    keep_ballast(s); /* a start on a full disk needs it at once */
    err = open_store(s, &state, detail);

    if (err != 0)
        return err;
    s->named = !is_none(state.cluster);
    s->value_max = volumes_max_value(store_volumes(s->store));
    if (s->value_max > buf_pool_max_value(s->pool))
        s->value_max = buf_pool_max_value(s->pool);
    LOG_NOTICE("value limit bytes=%zu", s->value_max);
    /* Time never runs back over a restart. */
    clock_init(&s->clock, s->clock.source, state.clock_ms);
    s->fsm = (struct fsm){
        .store = s->store, .node = s->datadir->node, .on_change = on_key_changed, .ctx = s};
    s->write = write_new(s);
    s->tier = tier_new(s->store, s->pool);
    s->streams = streams_new(s->store, s->pool, s->value_max, on_streams_due, s);
    if (s->write == NULL || s->tier == NULL || s->streams == NULL)
        return ERR_NOMEM;
    buf_pool_set_hooks(s->pool, on_reclaim, on_buffer_space, s);
    err = open_log(s, &state, detail);
    if (err != 0)
        return err;
    err = log_start(s->log);
    if (err != 0)
        snprintf(detail, LOG_DETAIL_MAX, "the log could not be started: %s", err_text(err));
    return err;
}

/* What their replies refer to is given back. */
static void close_all(struct server *s)
{
    while (s->conns != NULL)
        conn_close(s->conns, "shutdown");
    conn_reap(s);
    request_replies_left(s);
    s->dirty = s->ready = NULL;
    while (s->closed != NULL) {
        struct conn *c = s->closed;

        c->dirty = c->ready = false;
        conn_reap(s);
    }
}

static void free_readers(struct server *s)
{
    if (s->pool != NULL)
        buf_pool_set_hooks(s->pool, NULL, NULL, NULL);
    streams_free(s->streams);
    tier_free(s->tier);
    s->streams = NULL;
    s->tier = NULL;
}

void server_free(struct server *s)
{
    if (s == NULL)
        return;
    listener_close_all(s);
    close_all(s);
    log_close(s->log); /* this and the store: of a start that was refused */
    free_readers(s);
    write_free(s->write);
    store_close(s->store, false);
    stats_free(s);
    listing_free(s);
    buf_pool_free(s->pool);
    if (s->inbox_event != NULL)
        event_free(s->inbox_event);
    if (s->timer_event != NULL)
        event_free(s->timer_event);
    if (s->step_event != NULL)
        event_free(s->step_event);
    if (s->signal_event != NULL)
        event_free(s->signal_event);
    if (s->base != NULL)
        event_base_free(s->base);
    inbox_free(s->inbox);
    if (signal_fd >= 0)
        close(signal_fd);
    signal_fd = -1;
    free(s->scratch);
    free(s->argv_scratch);
    free(s);
}

/* ---- the turn ---------------------------------------------------------------------------- */

static void run_ready(struct server *s)
{
    struct conn *c = s->ready;

    s->ready = NULL;
    while (c != NULL) {
        struct conn *next = c->ready_next;

        c->ready = false;
        conn_ready_run(c);
        c = next;
    }
}

static void serve_waiters(struct server *s)
{
    if (s->space_freed) {
        s->space_freed = false;
        streams_run(s->streams); /* loads before stores */
        request_memory_available(s);
        conn_budget_available(s);
    }
    if (s->room_freed) {
        s->room_freed = false;
        write_on_space(s->write);
    }
    request_replies_left(s);
}

/* The store says when it wants to be called again; the timer event wakes us then. */
static void plan_step(struct server *s, uint64_t wait_us)
{
    struct timeval tv = {(time_t)(wait_us / 1000000), (suseconds_t)(wait_us % 1000000)};

    if (wait_us == 0)
        server_wake(s);
    else if (!event_pending(s->step_event, EV_TIMEOUT, NULL) || wait_us < s->step_wait_us)
        event_add(s->step_event, &tv);
    s->step_wait_us = wait_us;
}

static void server_turn(struct server *s)
{
    s->again = false;
    conn_receive_turn(s);
    run_ready(s);
    request_run_turn(s);
    rebuild_turn(s);
    serve_waiters(s);
    plan_step(s, store_step(s->store));
    write_turn(s->write);
    conn_send_turn(s);
    conn_reap(s);
    if (s->ready != NULL || s->turn_waiters != NULL || s->rebuild_ended || s->space_freed ||
        s->room_freed || s->dirty != NULL)
        s->again = true;
    if (s->turn_us != 0) {
        uint64_t took_us = server_now_us(s) - s->turn_us;

        metric_hist_add(&s->turns, took_us);
        if (took_us >= 1000)
            stats_latency_event(s, "event-loop", took_us / 1000);
    }
}

void server_request_stop(struct server *s, bool now)
{
    if (now)
        s->stop_now = true;
    if (s->stop_requested)
        return;
    s->stop_requested = true;
    s->stop_deadline_us = server_now_us(s) + (uint64_t)s->config->shutdown_timeout_s * 1000000;
    if (s->state == SERVER_READY)
        s->state = SERVER_STOPPING;
    LOG_NOTICE("User requested shutdown...");
    server_notify("STOPPING=1");
    listener_close_all(s);
    for (struct conn *c = s->conns; c != NULL; c = c->next)
        event_del(c->read_event);
    server_wake(s);
}

static bool loads_idle(const struct server *s)
{
    return tier_idle(s->tier) && streams_idle(s->streams) && s->rebuild_reads == 0;
}

/* Its replies have left, or its client takes nothing of them. */
static bool served(const struct conn *c)
{
    bool unsent = evbuffer_get_length(c->out) > 0;
    bool stalled = c->server->turn_us - c->last_progress_us >= STOP_STALL_US;

    if (unsent && stalled && (c->head == NULL || c->head->pace != NULL))
        return true;
    return c->head == NULL && !c->dirty && !unsent;
}

static bool all_idle(const struct server *s)
{
    if (!write_idle(s->write) || !stage_idle(store_stage(s->store)))
        return false;
    for (const struct conn *c = s->conns; c != NULL; c = c->next)
        if (!served(c))
            return false;
    return true;
}

static bool should_end(struct server *s)
{
    if (s->stop_now)
        return true;
    if (!s->stop_requested)
        return false;
    return s->state == SERVER_LOADING || all_idle(s) || server_now_us(s) >= s->stop_deadline_us;
}

/* Safe at any moment, as kill -9 is: what was acknowledged is in the files. */
__attribute__((noreturn)) static void end_at_once(const char *why)
{
    LOG_NOTICE("stopped at once (%s): the next start replays the log", why);
    _exit(0);
}

/* Until another thread has something to say; stepped workers say it now. */
static void wait_for_others(struct server *s)
{
    if (s->stop_requested && server_now_us(s) >= s->stop_deadline_us + STOP_GRACE_US)
        end_at_once("shutdown-timeout");
    if (s->seams == NULL || !store_step_workers(s->store))
        inbox_wait(s->inbox, s->seams == NULL ? STOP_WAIT_MS : 0);
    inbox_drain(s->inbox, INBOX_TURN);
}

/* The raft thread may wait for the loop, so the loop drains until it has ended. */
static void stop_parts(struct server *s)
{
    bool clean = s->start_err == 0 && s->state == SERVER_STOPPING;

    s->state = SERVER_STOPPED;
    if (s->log != NULL) {
        log_stop(s->log);
        while (!log_stopped(s->log))
            wait_for_others(s);
        log_close(s->log);
        s->log = NULL;
    }
    close_all(s);
    store_stop(s->store);
    while (!loads_idle(s) || !stage_idle(store_stage(s->store)) || s->memory_waiters != NULL) {
        wait_for_others(s);
        stage_pump(store_stage(s->store));
        streams_run(s->streams);
        request_memory_available(s);
        request_run_turn(s);
    }
    write_cancel(s->write);
    streams_run(s->streams); /* what was closed last goes */
    free_readers(s);
    store_close(s->store, clean);
    s->store = NULL;
}

bool server_step(struct server *s)
{
    if (should_end(s))
        return false;
    event_base_loop(s->base, EVLOOP_ONCE | (s->again ? EVLOOP_NONBLOCK : 0));
    s->turn_us = server_now_us(s);
    clock_update(&s->clock);
    server_turn(s);
    return true;
}

int server_end(struct server *s, char *detail)
{
    if (s->stop_now && s->start_err == 0)
        end_at_once("asked twice, or NOW");
    is_ending = 1;
    stop_parts(s);
    if (s->start_err != 0) {
        snprintf(detail, LOG_DETAIL_MAX, "%s", s->start_detail);
        return s->start_err;
    }
    LOG_NOTICE("ready to exit, bye bye...");
    return 0;
}

int server_run(struct server *s, char *detail)
{
    while (server_step(s))
        ;
    return server_end(s, detail);
}
