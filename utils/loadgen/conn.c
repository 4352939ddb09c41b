/* SPDX-License-Identifier: MIT */
/* Connections: requests out, answers in, every answer compared with the one that is due.
 *
 * A connection keeps o.pipeline requests in flight: what was answered by the bytes at hand is
 * replaced, all at once, so that a server that answers a pipeline in one write gets the next one in
 * one write. Nothing is kept of a request but its number: what a short write left is made anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "load.h"

#define KEY_LEN 15u /* "load:" and ten digits */
#define HEAD_MAX 96u
#define INLINE_MAX (16u << 10) /* larger values are sent from the block, not copied */
#define IN_SIZE (256u << 10)
#define OUT_SIZE (512u << 10)
#define READS_PER_TURN 4
#define STALL_MS 30000

/* --- requests as bytes ---------------------------------------------------------------------- */

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t len = strlen(text);

    memcpy(at, text, len);
    return at + len;
}

static uint8_t *put_number(uint8_t *at, uint64_t n)
{
    char digits[20];
    unsigned len = 0;

    do
        digits[len++] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    while (len > 0)
        *at++ = (uint8_t)digits[--len];
    return at;
}

static uint8_t *put_key(uint8_t *at, uint64_t key)
{
    at = put_text(at, "$15\r\nload:");
    for (unsigned i = 0; i < 10; i++) {
        at[9 - i] = (uint8_t)('0' + key % 10);
        key /= 10;
    }
    return put_text(at + 10, "\r\n");
}

/* The keys of a KVMATCH follow from its number: a prompt has the same blocks each time. */
static uint8_t *put_match(const struct load *l, uint8_t *at, uint64_t prompt)
{
    *at++ = '*';
    at = put_number(at, l->o.match + 1);
    at = put_text(at, "\r\n$7\r\nKVMATCH\r\n");
    for (uint64_t i = 0; i < l->o.match; i++)
        at = put_key(at, value_mix(prompt * MATCH_MAX + i) % l->o.keys);
    return at;
}

static uint8_t *put_set(struct load *l, uint8_t *at, const struct request *r)
{
    at = put_key(put_text(at, "*3\r\n$3\r\nSET\r\n"), r->key);
    *at++ = '$';
    at = put_text(put_number(at, r->size), "\r\n");
    if (r->size > INLINE_MAX)
        return at;
    for (uint64_t done = 0; done < r->size;) {
        size_t len = r->size - done;
        const uint8_t *from = value_bytes(&l->value, r->key, done, &len);

        memcpy(at, from, len);
        at += len;
        done += len;
    }
    return put_text(at, "\r\n");
}

/* All of a request, or what comes before its large value. Returns its length. */
static size_t put_request(struct load *l, uint8_t *out, const struct request *r)
{
    uint8_t *end = out;

    switch (r->op) {
    case OP_SET:
        end = put_set(l, out, r);
        break;
    case OP_GET:
        end = put_key(put_text(out, "*2\r\n$3\r\nGET\r\n"), r->key);
        break;
    case OP_EXISTS:
        end = put_key(put_text(out, "*2\r\n$6\r\nEXISTS\r\n"), r->key);
        break;
    case OP_MATCH:
        end = put_match(l, out, r->key);
        break;
    case OP_CHURN:
        break;
    }
    return (size_t)(end - out);
}

static bool has_large(const struct request *r)
{
    return r->op == OP_SET && r->size > INLINE_MAX;
}

/* --- sending -------------------------------------------------------------------------------- */

static struct request *slot(const struct load *l, struct conn *c, uint64_t i)
{
    return &c->ring[i % l->o.pipeline];
}

/* What comes next: whole small requests, up to and with a part of a large value. */
static int gather(struct load *l, struct conn *c, struct iovec iov[2])
{
    uint64_t skip = c->skip;
    size_t used = 0;

    iov[0].iov_base = l->out;
    for (uint64_t i = c->sent; i < c->made && used + l->request_max <= OUT_SIZE; i++, skip = 0) {
        struct request *r = slot(l, c, i);
        size_t head = put_request(l, l->out + used, r), part;

        r->len = head + (has_large(r) ? r->size + 2 : 0);
        if (skip < head) {
            memmove(l->out + used, l->out + used + skip, head - skip);
            used += head - skip;
            skip = head;
        }
        if (!has_large(r))
            continue;
        if (skip < head + r->size) {
            part = head + r->size - skip;
            iov[1].iov_base = (void *)(uintptr_t)value_bytes(&l->value, r->key, skip - head, &part);
            iov[0].iov_len = used;
            iov[1].iov_len = part;
            return 2;
        }
        part = head + r->size + 2 - skip;
        memcpy(l->out + used, &"\r\n"[2 - part], part);
        used += part;
    }
    iov[0].iov_len = used;
    return 1;
}

static void watch(const struct load *l, struct conn *c, bool blocked)
{
    struct epoll_event e = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, .data = {.ptr = c}};

    if (blocked == c->blocked)
        return;
    c->blocked = blocked;
    if (epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &e) != 0)
        cannot("epoll", strerror(errno));
}

static void send_more(struct load *l, struct conn *c)
{
    while (c->sent < c->made) {
        struct iovec iov[2];
        int parts = gather(l, c, iov);
        ssize_t n = writev(c->fd, iov, parts);

        if (n < 0 && errno == EAGAIN) {
            watch(l, c, true);
            return;
        }
        if (n <= 0)
            cannot("send", strerror(errno));
        c->skip += (uint64_t)n;
        while (c->sent < c->made && c->skip >= slot(l, c, c->sent)->len)
            c->skip -= slot(l, c, c->sent++)->len;
    }
    watch(l, c, false);
}

static void refill(struct load *l, struct conn *c)
{
    struct request r = {0};

    while (c->made < c->done + l->o.pipeline && load_next(l, &r)) {
        r.began_us = l->now_us;
        *slot(l, c, c->made++) = r;
    }
    if (c->sent < c->made && !c->blocked)
        send_more(l, c);
}

/* --- answers -------------------------------------------------------------------------------- */

static void answered(struct load *l, struct conn *c, const struct request *r)
{
    hist_add(&l->latency, l->now_us - r->began_us);
    l->answered++;
    c->done++;
    c->line_len = 0;
    c->in_body = false;
}

static void take_line(struct load *l, struct conn *c)
{
    struct request *r = slot(l, c, c->done);
    const char *line = c->line;

    if (c->done == c->sent)
        wrong(NULL, line);
    if (r->op == OP_GET && line[0] == '$' && strtoull(line + 1, NULL, 10) == r->size) {
        l->hits++;
        c->in_body = true;
        c->at = 0;
        return;
    }
    if (r->op == OP_SET && strcmp(line, "+OK") == 0) {
        l->sets++;
        l->bytes_set += r->size;
    } else if (r->op == OP_GET && l->o.op == OP_CHURN && strcmp(line, "$-1") == 0) {
        l->misses++;
    } else if ((r->op == OP_EXISTS || r->op == OP_MATCH) && line[0] == ':' &&
               strtoull(line + 1, NULL, 10) == (r->op == OP_EXISTS ? 1 : l->o.match)) {
        l->keys_found += r->op == OP_EXISTS ? 1 : l->o.match;
    } else {
        wrong(r, line);
    }
    answered(l, c, r);
}

/* Bytes up to the end of the line; returns how many were used. */
static size_t feed_line(struct load *l, struct conn *c, const uint8_t *data, size_t len)
{
    const uint8_t *nl = memchr(data, '\n', len);
    size_t part = nl == NULL ? len : (size_t)(nl - data) + 1;

    if (c->line_len + part >= sizeof(c->line)) /* only errors are that long */
        part = sizeof(c->line) - 1 - c->line_len;
    memcpy(c->line + c->line_len, data, part);
    c->line_len += part;
    if (nl == NULL && c->line_len < sizeof(c->line) - 1)
        return part;
    c->line[c->line_len >= 2 ? c->line_len - 2 : 0] = '\0';
    take_line(l, c);
    return part;
}

static size_t feed_body(struct load *l, struct conn *c, const uint8_t *data, size_t len)
{
    struct request *r = slot(l, c, c->done);
    uint64_t left = r->size + 2 - c->at;
    size_t part = len < left ? len : left, value = 0;

    if (c->at < r->size)
        value = part < r->size - c->at ? part : r->size - c->at;
    if (!value_check(&l->value, r->key, c->at, data, value))
        wrong(r, "bytes that are not its value");
    if (part > value && memcmp(data + value, &"\r\n"[c->at + value - r->size], part - value) != 0)
        wrong(r, "a value without its end");
    c->at += part;
    l->bytes_got += value;
    if (c->at == r->size + 2)
        answered(l, c, r);
    return part;
}

static void receive(struct load *l, struct conn *c)
{
    for (unsigned i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = recv(c->fd, l->in, IN_SIZE, 0);

        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            cannot("receive", n == 0 ? "the server closed the connection" : strerror(errno));
        l->now_us = now_us();
        for (size_t pos = 0; pos < (size_t)n;) {
            size_t left = (size_t)n - pos;

            pos += c->in_body ? feed_body(l, c, l->in + pos, left)
                              : feed_line(l, c, l->in + pos, left);
        }
        if ((size_t)n < IN_SIZE)
            break;
    }
    refill(l, c);
}

/* --- all of them ---------------------------------------------------------------------------- */

static int dial(const struct options *o)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int fd = -1, one = 1, rc = getaddrinfo(o->host, o->port, &hints, &list);

    if (rc != 0)
        cannot(o->host, gai_strerror(rc));
    for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        cannot("connect", strerror(errno));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        cannot("connect", strerror(errno));
    return fd;
}

void conns_open(struct load *l)
{
    l->request_max = HEAD_MAX + INLINE_MAX + (l->o.op == OP_MATCH ? l->o.match * 32 : 0);
    l->in = malloc(IN_SIZE);
    l->out = malloc(OUT_SIZE);
    l->conns = calloc(l->o.connections, sizeof(*l->conns));
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->in == NULL || l->out == NULL || l->conns == NULL || l->epoll < 0)
        cannot("start", "out of memory or descriptors");
    for (uint64_t i = 0; i < l->o.connections; i++) {
        struct conn *c = &l->conns[i];
        struct epoll_event e = {.events = EPOLLIN, .data = {.ptr = c}};

        c->fd = dial(&l->o);
        c->ring = calloc(l->o.pipeline, sizeof(*c->ring));
        if (c->ring == NULL || epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e) != 0)
            cannot("start", "out of memory or descriptors");
    }
}

void conns_run(struct load *l)
{
    struct epoll_event events[64];

    for (uint64_t i = 0; i < l->o.connections; i++)
        refill(l, &l->conns[i]);
    while (l->answered < l->begun) {
        int n = epoll_wait(l->epoll, events, 64, STALL_MS);

        if (n < 0 && errno != EINTR)
            cannot("epoll", strerror(errno));
        if (n == 0)
            cannot("wait", "no answer for 30 s");
        l->now_us = now_us();
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;

            if (events[i].events & EPOLLOUT)
                send_more(l, c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(l, c);
        }
    }
}

void conns_close(struct load *l)
{
    for (uint64_t i = 0; i < l->o.connections; i++) {
        close(l->conns[i].fd);
        free(l->conns[i].ring);
    }
    close(l->epoll);
    free(l->conns);
    free(l->out);
    free(l->in);
}
