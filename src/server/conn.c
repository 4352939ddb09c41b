/* SPDX-License-Identifier: MIT */
/* Life of a connection and the order of its requests. conn_io.c moves the bytes.
 *
 * A request enters the order when its command starts and leaves it, from the head only, when it is
 * done. Nothing is started from inside a reply or an apply: whoever finishes something calls
 * conn_resume, which puts the connection on the server's ready list for this turn.
 */
#include "server/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/logger.h"
#include "server/conn_int.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/tx.h"
#include "server/value.h"

#define UNAUTH_ARGS_MAX 10
#define UNAUTH_BULK_MAX ((size_t)16384)
#define ARENA_MAX ((size_t)64 << 20)
#define PROGRESS_BYTES 65536

static void name_address(const struct sockaddr_storage *a, bool unix_socket, const char *path,
                         char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (unix_socket) {
        snprintf(out, size, "%.50s:0", path);
    } else if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)a;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(out, size, "%s:%u", host, ntohs(in->sin_port));
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;

        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(out, size, "[%s]:%u", host, ntohs(in6->sin6_port));
    }
}

static bool is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    if (a->ss_family == AF_INET6) {
        const struct in6_addr *ip = &((const struct sockaddr_in6 *)a)->sin6_addr;

        return IN6_IS_ADDR_LOOPBACK(ip) || (IN6_IS_ADDR_V4MAPPED(ip) && ip->s6_addr[12] == 127);
    }
    return true;
}

static void set_socket_options(struct server *s, int fd)
{
    int one = 1;
    int idle = (int)s->config->tcp_keepalive_s;
    int interval = idle / 3 > 0 ? idle / 3 : 1;
    int probes = 3;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (idle == 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

void conn_set_limits(struct conn *c)
{
    const struct config *config = c->server->config;

    c->parse.limits = (struct parse_limits){
        .bulk_max = c->authenticated ? (size_t)config->proto_max_bulk_len : UNAUTH_BULK_MAX,
        .args_max = c->authenticated ? PARSE_ARGS_MAX : UNAUTH_ARGS_MAX,
        .arena_max = c->authenticated ? ARENA_MAX : UNAUTH_ARGS_MAX * UNAUTH_BULK_MAX,
    };
}

void conn_set_authenticated(struct conn *c, bool yes)
{
    c->authenticated = yes;
    conn_set_limits(c);
}

static void link_conn(struct server *s, struct conn *c)
{
    c->next = s->conns;
    if (s->conns != NULL)
        s->conns->prev = c;
    s->conns = c;
    s->nconns++;
}

struct conn *conn_new(struct server *s, int fd, bool unix_socket)
{
    struct conn *c = calloc(1, sizeof(*c));
    struct sockaddr_storage peer = {0}, local = {0};
    socklen_t len = sizeof(peer);

    if (c == NULL || parse_init(&c->parse, &c->parse.limits) != 0) {
        free(c);
        return NULL;
    }
    c->server = s;
    c->fd = fd;
    c->id = ++s->next_conn_id;
    c->unix_socket = unix_socket;
    c->tail = &c->head;
    c->proto = 2;
    c->authenticated = s->config->requirepass[0] == '\0';
    c->created_ms = c->last_ms = clock_now_ms(&s->clock);
    c->last_progress_us = s->turn_us;
    c->last_cmd = "NULL";
    c->out = reply_buffer_new(s);
    c->read_event = event_new(s->base, fd, EV_READ | EV_PERSIST, conn_on_readable, c);
    c->write_event = event_new(s->base, fd, EV_WRITE | EV_PERSIST, conn_on_writable, c);
    if (c->read_event == NULL || c->write_event == NULL) {
        conn_free(c);
        return NULL;
    }
    getpeername(fd, (struct sockaddr *)&peer, &len);
    len = sizeof(local);
    getsockname(fd, (struct sockaddr *)&local, &len);
    c->local = unix_socket || is_loopback(&peer);
    name_address(&peer, unix_socket, s->config->unixsocket, c->peer, sizeof(c->peer));
    name_address(&local, unix_socket, s->config->unixsocket, c->local_addr, sizeof(c->local_addr));
    if (!unix_socket)
        set_socket_options(s, fd);
    conn_set_limits(c);
    link_conn(s, c);
    conn_want_read(c, true);
    return c;
}

void conn_free(struct conn *c)
{
    if (c->read_event != NULL)
        event_free(c->read_event);
    if (c->write_event != NULL)
        event_free(c->write_event);
    if (c->out != NULL)
        reply_buffer_free(c->server, c->out);
    parse_fini(&c->parse, upload_free);
    free(c->in);
    free(c);
}

void conn_unwatch(struct conn *c)
{
    tx_free_watches(c->server, &c->watch);
}

static void orphan(struct conn *c, struct request *rq)
{
    if (rq->out == c->out)
        rq->out = NULL;
    rq->conn = NULL;
    for (struct request *child = rq->children; child != NULL; child = child->next)
        orphan(c, child);
}

/* Requests that somebody still holds live on without their connection. */
static void orphan_all(struct conn *c)
{
    while (c->head != NULL) {
        struct request *rq = c->head;

        c->head = rq->next;
        orphan(c, rq);
        if (rq->done)
            request_free(rq);
        else if (rq->pace != NULL)
            request_paced(rq);
        else
            value_cancel(rq);
    }
    c->tail = &c->head;
    c->pending = c->pending_writes = c->unproposed = c->looking = 0;
    c->value_bytes = 0;
}

void conn_close(struct conn *c, const char *reason)
{
    struct server *s = c->server;

    if (c->state == CONN_CLOSED)
        return;
    c->state = CONN_CLOSED;
    c->close_reason = reason;
    LOG_VERBOSE("client closed id=%" PRIu64 " addr=%s reason=\"%s\"", c->id, c->peer, reason);
    event_del(c->read_event);
    event_del(c->write_event);
    close(c->fd);
    c->fd = -1;
    conn_leave_budget_queue(c);
    orphan_all(c);
    conn_unwatch(c);
    tx_drop_queue(c);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    s->nconns--;
    c->free_next = s->closed;
    s->closed = c;
    server_wake(s);
}

void conn_close_after_reply(struct conn *c)
{
    if (c->state != CONN_OPEN)
        return;
    c->state = CONN_CLOSING;
    conn_want_read(c, false);
    conn_mark_dirty(c);
}

static bool on_list(const struct conn *c)
{
    return c->dirty || c->ready;
}

/* What is still on a list of this turn is freed a turn later. */
void conn_reap(struct server *s)
{
    struct conn **at = &s->closed;
    bool freed = false;

    while (*at != NULL) {
        struct conn *c = *at;

        if (on_list(c)) {
            at = &c->free_next;
            continue;
        }
        *at = c->free_next;
        conn_free(c);
        freed = true;
    }
    if (freed)
        listener_resume(s);
}

/* ---- the order --------------------------------------------------------------------------- */

void conn_append(struct conn *c, struct request *rq)
{
    rq->discard = c->reply_mode != CONN_REPLY_ON;
    if (c->reply_mode == CONN_REPLY_SKIP)
        c->reply_mode = CONN_REPLY_ON; /* it was for this one */
    rq->next = NULL;
    *c->tail = rq;
    c->tail = &rq->next;
    c->pending++;
    if (rq->write) {
        c->pending_writes++;
        c->unproposed++;
    }
}

/* The finished requests at the head leave; their replies go to the output. */
static void pop_done(struct conn *c)
{
    while (c->head != NULL && c->head->done) {
        struct request *rq = c->head;

        if (rq->out != NULL && rq->out != c->out && !rq->discard)
            evbuffer_add_buffer(c->out, rq->out);
        else if (rq->out == c->out)
            rq->out = NULL;
        c->head = rq->next;
        if (c->head == NULL)
            c->tail = &c->head;
        c->pending--;
        c->value_bytes -= rq->value_bytes;
        if (rq->write)
            c->pending_writes--;
        request_free(rq);
    }
}

void conn_on_request_done(struct conn *c, struct request *rq)
{
    ASSERT(rq->conn == c && c->pending > 0);
    if (rq->write && !rq->proposed) { /* answered without an entry */
        rq->proposed = true;
        conn_on_proposed(c);
    }
    if (rq->looking)
        c->looking--;
    if (c->head == rq)
        pop_done(c);
    conn_mark_dirty(c);
    conn_resume(c);
}

void conn_on_proposed(struct conn *c)
{
    ASSERT(c->unproposed > 0);
    c->unproposed--;
    conn_resume(c);
}

/* ---- watching ---------------------------------------------------------------------------- */

static void progress_check(struct conn *c, uint64_t now_us)
{
    uint64_t limit_us = (uint64_t)c->server->config->progress_timeout_s * 1000000;
    bool sending = evbuffer_get_length(c->out) > 0;
    bool receiving = c->reading && parse_inside(&c->parse);

    if (limit_us == 0 || (!sending && !receiving)) {
        c->last_progress_us = now_us;
        return;
    }
    if (now_us - c->last_progress_us < limit_us)
        return;
    metric_add(&c->server->metrics, METRIC_TIMEOUT_PROGRESS, 1);
    LOG_NOTICE("client closed addr=%s reason=\"no progress\" waiting_to=%s", c->peer,
               sending ? "send" : "receive");
    conn_close(c, "no progress");
}

void conn_check_timeouts(struct server *s, uint64_t now_us)
{
    uint64_t idle_ms = (uint64_t)s->config->timeout_s * 1000;
    struct conn *next;

    for (struct conn *c = s->conns; c != NULL; c = next) {
        next = c->next;
        if (idle_ms != 0 && conn_idle(c) && clock_now_ms(&s->clock) - c->last_ms >= idle_ms) {
            metric_add(&s->metrics, METRIC_TIMEOUT_IDLE, 1);
            conn_close(c, "idle");
            continue;
        }
        progress_check(c, now_us);
    }
    conn_break_deadlock(s, now_us);
}

/* Small steps do not count: a byte now and then would hold a 64 MiB buffer for ever. */
void conn_note_progress(struct conn *c, size_t bytes, bool finished)
{
    c->progress_bytes += bytes;
    if (finished || c->progress_bytes >= PROGRESS_BYTES) {
        c->progress_bytes = 0;
        c->last_progress_us = c->server->turn_us;
    }
}

size_t conn_memory(const struct conn *c)
{
    return sizeof(*c) + parse_memory(&c->parse) + c->in_len + evbuffer_get_length(c->out);
}

bool conn_idle(const struct conn *c)
{
    return c->head == NULL && evbuffer_get_length(c->out) == 0 && !parse_inside(&c->parse) &&
           !c->have_command;
}
