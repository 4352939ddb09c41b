/* SPDX-License-Identifier: MIT */
/* Bytes of a connection.
 *
 * Reading. A wake-up reads at most CONN_TURN_READ bytes into the shared scratch. While a large bulk
 * is open, a connection that has bytes only says so; the turn then receives CONN_TURN_RECEIVE
 * bytes straight into payload buffers, of the bulk that was opened first. Taken a piece at a time
 * in rotation, eight values would all be complete at the same moment, with the disk idle before
 * and the clients after it; one after the other, the first is being written while the next comes.
 * Reading stops (the event is removed, so TCP pushes back) whenever a complete command may not
 * start yet or a bulk finds no room in the budget; what the scratch still held is kept in c->in
 * and parsed first later.
 *
 * Budget. A bulk reserves its whole length before its first byte is received. Waiting connections
 * form one FIFO. One that holds bulks of an unfinished command or MULTI and waits for more could
 * wait for ever when all do so: conn_break_deadlock ends the first of these commands with an error.
 *
 * Writing. Replies of a turn are written at its end, small ones first and whole, then
 * CONN_TURN_SEND bytes of large ones in the order in which they became large. What the socket does
 * not take waits for EV_WRITE, and above CONN_OUT_HIGH unsent bytes no further command starts; nor
 * does one behind CONN_VALUES_MAX bytes of values, so that one pipeline cannot fill the budget with
 * replies whose turn has not come. A reply in parts goes on when its own output has room, however
 * many bytes others leave unread.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/logger.h"
#include "server/command.h"
#include "server/conn_int.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/tx.h"

#define DEADLOCK_US 5000000
#define FILL_MIN 8192u /* with fewer bytes of a value at hand, it may be all that ever comes */

void conn_want_read(struct conn *c, bool want)
{
    if (c->state != CONN_OPEN)
        want = false;
    if (want == c->reading)
        return;
    c->reading = want;
    if (want)
        event_add(c->read_event, NULL);
    else
        event_del(c->read_event);
}

static void want_write(struct conn *c, bool want)
{
    if (want == c->writing)
        return;
    c->writing = want;
    if (want)
        event_add(c->write_event, NULL);
    else
        event_del(c->write_event);
}

void conn_mark_dirty(struct conn *c)
{
    if (c->dirty || c->state == CONN_CLOSED)
        return;
    c->dirty = true;
    c->dirty_next = c->server->dirty;
    c->server->dirty = c;
}

static void make_ready(struct conn *c)
{
    if (c->ready || c->state == CONN_CLOSED)
        return;
    c->ready = true;
    c->ready_next = c->server->ready;
    c->server->ready = c;
    server_wake(c->server);
}

void conn_resume(struct conn *c)
{
    bool held_back = c->have_command || c->direct_waiting || c->in_len > 0 || !c->reading;

    if (held_back && c->state == CONN_OPEN)
        make_ready(c);
}

/* ---- payload budget ---------------------------------------------------------------------- */

void conn_leave_budget_queue(struct conn *c)
{
    struct server *s = c->server;

    if (!c->direct_waiting)
        return;
    c->direct_waiting = false;
    if (c->wait_prev != NULL)
        c->wait_prev->wait_next = c->wait_next;
    else
        s->budget_head = c->wait_next;
    if (c->wait_next != NULL)
        c->wait_next->wait_prev = c->wait_prev;
    else
        s->budget_tail = c->wait_prev;
    c->wait_prev = c->wait_next = NULL;
}

static void join_budget_queue(struct conn *c)
{
    struct server *s = c->server;

    c->direct_waiting = true;
    c->wait_since_us = s->turn_us;
    c->wait_prev = s->budget_tail;
    c->wait_next = NULL;
    if (s->budget_tail != NULL)
        s->budget_tail->wait_next = c;
    else
        s->budget_head = c;
    s->budget_tail = c;
    conn_want_read(c, false);
}

static int get_upload(struct conn *c, struct upload **out)
{
    struct buf *buf;
    int err = buf_get(c->server->pool, c->parse.direct_len, &buf);

    if (err != 0)
        return err;
    *out = upload_new(buf);
    if (*out == NULL) {
        buf_unref(buf);
        return ERR_NOMEM;
    }
    return 0;
}

/* 0: the bulk has its place (or is read away); ERR_AGAIN: no room now. */
static int open_direct(struct conn *c)
{
    struct upload *u;
    int err;

    if (c->starved) {
        parse_discard(&c->parse);
        return 0;
    }
    err = c->parse.direct_len > c->server->value_max ? ERR_TOOBIG : get_upload(c, &u);
    if (err == ERR_AGAIN)
        return err;
    if (err != 0) {
        if (err == ERR_TOOBIG)
            c->too_big = c->parse.direct_len;
        c->no_memory = c->no_memory || err != ERR_TOOBIG;
        parse_discard(&c->parse);
        return 0;
    }
    c->upload = u;
    c->upload_number = ++c->server->uploads;
    c->held_bytes += u->buf->space;
    parse_direct(&c->parse, buf_payload(u->buf), u);
    return 0;
}

void conn_budget_available(struct server *s)
{
    while (s->budget_head != NULL) {
        struct conn *c = s->budget_head;

        if (open_direct(c) == ERR_AGAIN)
            return;
        conn_leave_budget_queue(c);
        conn_resume(c); /* reading is off, so it goes on from the ready list */
    }
}

/* The rest of the command is received and dropped, so that its error can be read. */
static void read_away(struct conn *c)
{
    c->starved = true;
    parse_drop_held(&c->parse, upload_free);
    c->upload = NULL;
    c->held_bytes = 0;
    if (c->multi != NULL)
        tx_empty_queue(c);
    conn_leave_budget_queue(c);
    parse_discard(&c->parse);
    conn_resume(c);
}

void conn_break_deadlock(struct server *s, uint64_t now_us)
{
    for (struct conn *c = s->budget_head; c != NULL; c = c->wait_next) {
        bool holds = c->held_bytes > 0 || c->multi != NULL;

        if (!holds || now_us - c->wait_since_us < DEADLOCK_US)
            continue;
        LOG_WARNING("command refused addr=%s reason=\"its values found no room in payload memory\" "
                    "action=\"raise max-memory-bytes, or send fewer large values at once\"",
                    c->peer);
        read_away(c);
        return; /* what it held may be enough for the others */
    }
}

/* ---- requests ---------------------------------------------------------------------------- */

static void protocol_error(struct conn *c)
{
    struct request *rq = request_new(c->server, c, NULL);

    LOG_VERBOSE("protocol error addr=%s error=\"%s\"", c->peer, c->parse.error);
    metric_add(&c->server->metrics, METRIC_PROTOCOL_ERRORS, 1);
    conn_append(c, rq); /* earlier requests answer first; then no input can be trusted */
    request_errorf(rq, "ERR %s", c->parse.error);
    request_release(rq);
    conn_close_after_reply(c);
}

/* The request in turn may add to its reply. */
static bool output_has_room(const struct conn *c)
{
    size_t unsent = evbuffer_get_length(c->out);

    return replies_full(c->server) ? unsent == 0 : unsent < CONN_OUT_HIGH;
}

/* No further command is begun. */
static bool output_full(const struct conn *c)
{
    return !output_has_room(c) || c->value_bytes >= CONN_VALUES_MAX ||
           (replies_full(c->server) && c->head != NULL);
}

/* Starts the command that is complete in the parser. False: it must wait. */
static bool start_command(struct conn *c)
{
    if (c->server->stop_requested || output_full(c) || c->pending >= CONN_PENDING_MAX ||
        !command_try_start(c)) {
        c->have_command = true;
        conn_want_read(c, false);
        return false;
    }
    c->have_command = false;
    if (c->state == CONN_CLOSED)
        return false;
    c->held_bytes = 0;
    c->too_big = 0;
    c->starved = c->no_memory = false;
    parse_next_command(&c->parse, upload_free);
    conn_note_progress(c, 0, true);
    return true;
}

/* Parses bytes until they are used up or something must wait; returns how many were used. */
static size_t parse_bytes(struct conn *c, const uint8_t *data, size_t len)
{
    uint64_t until_us = server_now_us(c->server) + CONN_TURN_US;
    unsigned commands = 0;
    size_t pos = 0;

    while (c->state == CONN_OPEN && !c->have_command && !c->direct_waiting) {
        size_t used = 0;

        if (c->upload != NULL && len - pos >= FILL_MIN)
            buf_fill(c->upload->buf);
        switch (parse_feed(&c->parse, data + pos, len - pos, &used)) {
        case PARSE_MORE:
            return pos + used;
        case PARSE_DIRECT:
            if (open_direct(c) == ERR_AGAIN)
                join_budget_queue(c);
            break;
        case PARSE_COMMAND:
            c->upload = NULL;
            start_command(c);
            commands++;
            break;
        case PARSE_ERROR:
            protocol_error(c);
            break;
        }
        pos += used;
        if (commands > 0 && pos < len && c->state == CONN_OPEN &&
            (commands >= CONN_TURN_COMMANDS || server_now_us(c->server) >= until_us)) {
            /* Others come first; the rest is kept and the ready list brings us back. */
            conn_want_read(c, false);
            break;
        }
    }
    return pos;
}

static void keep_rest(struct conn *c, const uint8_t *data, size_t len)
{
    if (len == 0 || c->state != CONN_OPEN)
        return;
    ASSERT(c->in == NULL);
    c->in = malloc(len);
    if (c->in == NULL)
        PANIC("out of memory for a request");
    memcpy(c->in, data, len);
    c->in_pos = 0;
    c->in_len = len;
    conn_want_read(c, false);
    if (!c->have_command && !c->direct_waiting)
        conn_resume(c);
}

/* Bytes that arrived in the open bulk are digested while they are warm. */
static void digest_arrived(struct conn *c)
{
    struct upload *u = c->upload;
    uint8_t *dst;
    size_t left;

    if (u == NULL || !parse_window(&c->parse, &dst, &left))
        return;
    u->received = u->buf->len - left;
    payload_digest_update(&u->digest, buf_payload(u->buf), u->received);
}

/* One recv; true = the socket may have more. */
static bool receive(struct conn *c, size_t *budget)
{
    struct server *s = c->server;
    uint8_t *dst = s->scratch;
    size_t want = CONN_SCRATCH;
    bool direct = parse_window(&c->parse, &dst, &want);
    ssize_t n;

    if (direct)
        buf_fill(c->upload->buf);
    else
        dst = s->scratch;
    if (want > *budget)
        want = *budget;
    n = recv(c->fd, dst, want, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return errno == EINTR;
    if (n <= 0) {
        conn_close(c, n == 0 ? "closed by peer" : "read error");
        return false;
    }
    *budget -= (size_t)n;
    c->bytes_in += (uint64_t)n;
    metric_add(&s->metrics, METRIC_BYTES_IN, (uint64_t)n);
    c->last_ms = clock_now_ms(&s->clock);
    conn_note_progress(c, (size_t)n, false);
    if (direct) {
        parse_advance(&c->parse, (size_t)n);
    } else {
        size_t used = parse_bytes(c, dst, (size_t)n);

        keep_rest(c, dst + used, (size_t)n - used);
    }
    if (c->state == CONN_OPEN)
        digest_arrived(c);
    return (size_t)n == want;
}

static bool receives_large(struct conn *c)
{
    uint8_t *dst;
    size_t left;

    return parse_window(&c->parse, &dst, &left) && left > CONN_SCRATCH;
}

static void join_receivers(struct conn *c)
{
    if (c->receiver || c->state != CONN_OPEN)
        return;
    c->receiver = true;
    c->receiver_next = c->server->receivers;
    c->server->receivers = c;
}

void conn_on_readable(int fd, short what, void *arg)
{
    struct conn *c = arg;
    size_t budget = CONN_TURN_READ;

    (void)fd;
    (void)what;
    while (c->state == CONN_OPEN && c->reading && budget > 0) {
        if (receives_large(c)) {
            join_receivers(c);
            return;
        }
        if (!receive(c, &budget))
            return;
    }
}

static struct conn *take_oldest_receiver(struct server *s)
{
    struct conn **oldest = &s->receivers, *c;

    for (struct conn **at = &s->receivers; *at != NULL; at = &(*at)->receiver_next)
        if ((*at)->upload_number < (*oldest)->upload_number)
            oldest = at;
    c = *oldest;
    *oldest = c->receiver_next;
    c->receiver = false;
    return c;
}

void conn_receive_turn(struct server *s)
{
    size_t budget = CONN_TURN_RECEIVE;

    while (s->receivers != NULL) {
        struct conn *c = take_oldest_receiver(s);

        if (budget == 0)
            conn_note_progress(c, 0, true); /* it has sent; the wait is ours */
        while (budget > 0 && c->state == CONN_OPEN && c->reading)
            if (!receive(c, &budget))
                break;
    }
}

/* Ready list: what was held back goes on, then the socket. */
void conn_ready_run(struct conn *c)
{
    if (c->head != NULL && c->head->pace != NULL && output_has_room(c))
        request_paced(c->head);
    if (c->state != CONN_OPEN || c->direct_waiting)
        return;
    if (c->have_command && !start_command(c))
        return;
    if (c->in != NULL && c->state == CONN_OPEN) {
        uint8_t *in = c->in;
        size_t len = c->in_len, used;

        c->in = NULL;
        c->in_len = 0;
        used = parse_bytes(c, in, len);
        keep_rest(c, in + used, len - used);
        free(in);
        if (c->state == CONN_OPEN)
            digest_arrived(c);
    }
    if (c->in == NULL && !c->have_command && !c->direct_waiting)
        conn_want_read(c, true);
}

/* ---- writing ----------------------------------------------------------------------------- */

/* Writes up to `most` bytes; returns how many. What is left goes on when the socket has room, or in
 * the next turn when it still has. */
static size_t flush(struct conn *c, size_t most)
{
    size_t before = evbuffer_get_length(c->out), left;
    int n = 0;

    if (c->state == CONN_CLOSED)
        return 0;
    if (before > 0) {
        n = evbuffer_write_atmost(c->out, c->fd, (ev_ssize_t)most);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            conn_close(c, "write error");
            return 0;
        }
    }
    if (n < 0)
        n = 0;
    left = evbuffer_get_length(c->out);
    if (n > 0) {
        c->bytes_out += (uint64_t)n;
        metric_add(&c->server->metrics, METRIC_BYTES_OUT, (uint64_t)n);
        conn_note_progress(c, (size_t)n, left == 0);
    }
    if (left > 0 && (size_t)n == most)
        conn_mark_dirty(c);
    else
        want_write(c, left > 0);
    if (output_has_room(c) && c->head != NULL && c->head->pace != NULL)
        make_ready(c);
    if (c->have_command && !output_full(c))
        conn_resume(c);
    if (c->state == CONN_CLOSING && c->head == NULL && left == 0)
        conn_close(c, "closed by server");
    return (size_t)n;
}

/* Takes from the list the one whose output became large first. */
static struct conn *take_oldest_sender(struct conn **list)
{
    struct conn **oldest = list, *c;

    for (struct conn **at = list; *at != NULL; at = &(*at)->dirty_next)
        if ((*at)->output_number < (*oldest)->output_number)
            oldest = at;
    c = *oldest;
    *oldest = c->dirty_next;
    return c;
}

void conn_send_turn(struct server *s)
{
    struct conn *c = s->dirty, *large = NULL, *next;
    size_t budget = CONN_TURN_SEND;

    s->dirty = NULL;
    for (; c != NULL; c = next) {
        next = c->dirty_next;
        c->dirty = false;
        if (evbuffer_get_length(c->out) <= CONN_SCRATCH) {
            c->output_number = 0;
            flush(c, CONN_SCRATCH);
            continue;
        }
        if (c->output_number == 0)
            c->output_number = ++s->outputs;
        c->dirty_next = large;
        large = c;
    }
    while (large != NULL && budget > 0) {
        c = take_oldest_sender(&large);
        budget -= flush(c, budget);
    }
    for (c = large; c != NULL; c = next) {
        next = c->dirty_next;
        conn_mark_dirty(c);
    }
}

void conn_on_writable(int fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    conn_mark_dirty(arg);
}
