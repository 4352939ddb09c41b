/* SPDX-License-Identifier: MIT */
#include "socket.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FD_FIRST (1 << 20) /* no real descriptor is that high */

static struct sock *socks;
static int next_fd = FD_FIRST;
static uint64_t next_id = 1;

static struct sock *find(int fd)
{
    struct sock *s = socks;

    while (s != NULL && s->fd != fd)
        s = s->next;
    return s;
}

struct sock *socket_open(int slot)
{
    struct sock *s = calloc(1, sizeof(*s));

    s->fd = next_fd++;
    s->id = next_id++;
    s->slot = slot;
    s->last = &s->first;
    s->room = sim_between(1, 256 * KIB);
    s->next = socks;
    socks = s;
    return s;
}

struct sock *socket_open_raw(void)
{
    struct sock *s = socket_open(-1);

    s->raw = true;
    s->room = SIZE_MAX / 2;
    return s;
}

static void free_sock(struct sock *s)
{
    struct sock **at = &socks;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    while (s->first != NULL) {
        struct cmd *c = s->first;

        s->first = c->next;
        cmd_free(c);
    }
    free(s->in);
    free(s);
}

void socket_queue(struct sock *s, struct cmd *c)
{
    c->next = NULL;
    *s->last = c;
    s->last = &c->next;
    if (s->reading == NULL) {
        s->reading = c;
        s->reading_at = 0;
    }
    s->queued += c->len;
    c->end = s->queued;
}

void socket_show(struct sock *s, uint64_t bytes)
{
    if (bytes > s->queued - s->visible)
        bytes = s->queued - s->visible;
    s->visible += bytes;
    for (struct cmd *c = s->first; c != NULL && c->end <= s->visible; c = c->next) {
        if (c->begun)
            continue;
        c->begun = true;
        if (!s->raw)
            client_on_begin(s, c);
    }
}

void socket_drain(struct sock *s, size_t bytes)
{
    s->room += bytes;
}

void socket_leave(struct sock *s, bool reset)
{
    s->slot = -1;
    s->eof = true;
    s->reset = reset;
    if (s->closed)
        free_sock(s);
}

void socket_lose_all(void)
{
    while (socks != NULL)
        free_sock(socks);
}

void socket_free_all(void)
{
    socket_lose_all();
}

void socket_mark_blobs(void)
{
    for (struct sock *s = socks; s != NULL; s = s->next)
        for (struct cmd *c = s->first; c != NULL; c = c->next)
            cmd_mark_blobs(c);
}

bool socket_owns(int fd)
{
    return fd >= FD_FIRST;
}

bool socket_readable(int fd)
{
    const struct sock *s = find(fd);

    return s != NULL && (s->reset || s->eof || s->visible > s->taken);
}

bool socket_writable(int fd)
{
    const struct sock *s = find(fd);

    return s != NULL && (s->eof || s->room > 0);
}

/* ---- the server's side -------------------------------------------------------------------- */

static size_t take(struct sock *s, uint8_t *out, size_t len)
{
    size_t done = 0;

    while (done < len) {
        size_t n = cmd_copy(s->reading, s->reading_at, out + done, len - done);

        done += n;
        s->reading_at += n;
        if (s->reading_at == s->reading->len) {
            s->reading = s->reading->next;
            s->reading_at = 0;
        }
    }
    s->taken += done;
    return done;
}

ssize_t __wrap_recv(int fd, void *out, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *out, size_t len, int flags)
{
    struct sock *s = find(fd);
    uint64_t have;

    (void)flags;
    if (s == NULL || s->reset) {
        errno = ECONNRESET;
        return -1;
    }
    have = s->visible - s->taken;
    if (have == 0 && s->eof)
        return 0;
    if (have == 0 || sim_chance(100)) {
        errno = have == 0 ? EAGAIN : EINTR;
        return -1;
    }
    if (len > have)
        len = (size_t)have;
    if (sim_chance(1000))
        len = (size_t)sim_between(1, len);
    return (ssize_t)take(s, out, len);
}

static void receive(struct sock *s, struct evbuffer *buf, size_t len)
{
    if (s->in_len + len > s->in_space) {
        s->in_space = 2 * (s->in_len + len);
        s->in = realloc(s->in, s->in_space);
    }
    if (evbuffer_remove(buf, s->in + s->in_len, len) != (int)len)
        sim_fail("evbuffer_remove");
    s->in_len += len;
}

/* All replies that are complete. */
static void read_replies(struct sock *s)
{
    size_t at = 0;

    while (s->in_len > at && s->in_len >= s->in_want) {
        struct cmd *c = s->first;
        struct reply r;
        size_t want = 0, n = reply_parse(s->in + at, s->in_len - at, &r, &want);

        if (n == 0) {
            s->in_want = want;
            break;
        }
        if (c == NULL || (!c->begun && c->got + 1 >= c->replies))
            sim_fail("a reply to nothing, connection %" PRIu64, s->id);
        sim_trace(s->in + at, n);
        at += n;
        s->in_want = 0;
        if (!client_on_reply(s, c, &r))
            continue;
        s->first = c->next;
        if (s->first == NULL)
            s->last = &s->first;
        if (s->reading == c)
            sim_fail("a reply ahead of the end of its command, connection %" PRIu64, s->id);
        cmd_free(c);
    }
    memmove(s->in, s->in + at, s->in_len - at);
    s->in_len -= at;
}

int __wrap_evbuffer_write_atmost(struct evbuffer *buf, evutil_socket_t fd, ev_ssize_t howmuch);
int __wrap_evbuffer_write_atmost(struct evbuffer *buf, evutil_socket_t fd, ev_ssize_t howmuch)
{
    struct sock *s = find((int)fd);
    size_t len = evbuffer_get_length(buf);

    if (howmuch >= 0 && len > (size_t)howmuch)
        len = (size_t)howmuch;
    if (s == NULL || s->eof) {
        errno = s == NULL || s->reset ? ECONNRESET : EPIPE;
        return -1;
    }
    if (len > s->room)
        len = s->room;
    if (len > 1 && sim_chance(500))
        len = (size_t)sim_between(1, len);
    if (len == 0) {
        errno = EAGAIN;
        return -1;
    }
    s->room -= len;
    receive(s, buf, len);
    if (!s->raw)
        read_replies(s);
    return (int)len;
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    struct sock *s;

    if (!socket_owns(fd))
        return __real_close(fd);
    s = find(fd);
    if (s == NULL)
        return 0; /* of a server that is dead */
    s->closed = true;
    if (s->slot >= 0)
        client_on_close(s);
    else if (!s->raw)
        free_sock(s);
    return 0;
}

/* A unix socket without a name. */
int __wrap_getpeername(int fd, struct sockaddr *addr, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len);

int __wrap_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    (void)fd;
    addr->sa_family = AF_UNIX;
    *len = sizeof(addr->sa_family);
    return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    return __wrap_getpeername(fd, addr, len);
}

/* Every random number of the server comes from the seed. */
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags)
{
    (void)flags;
    sim_bytes(out, len);
    return (ssize_t)len;
}
