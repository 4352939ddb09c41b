/* SPDX-License-Identifier: MIT */
#include "loop.h"

#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>

#include "socket.h"

enum { EVENTS_MAX = 4 * 64 };

struct sim_event {
    struct sim_event *prev, *next;
    int fd;
    short what;
    event_callback_fn cb;
    void *arg;
    bool added, timed;
    uint64_t due_us, period_us;
};

static struct sim_event list = {.prev = &list, .next = &list};
static struct sim_event *running[EVENTS_MAX]; /* of the turn; NULL: freed meanwhile */
static unsigned nrunning;

static struct sim_event *of(struct event *e)
{
    return (struct sim_event *)(void *)e;
}

static bool is_due(const struct sim_event *e)
{
    return e->timed && e->due_us <= sim.mono_us;
}

static bool fd_ready(const struct sim_event *e)
{
    struct pollfd p = {.fd = e->fd, .events = POLLIN};

    if (e->fd < 0)
        return false;
    if (socket_owns(e->fd))
        return e->what & EV_READ ? socket_readable(e->fd) : socket_writable(e->fd);
    return (e->what & EV_READ) && poll(&p, 1, 0) == 1;
}

uint64_t loop_next_due(void)
{
    uint64_t due = UINT64_MAX;

    for (const struct sim_event *e = list.next; e != &list; e = e->next)
        if (e->timed && e->due_us < due)
            due = e->due_us;
    return due;
}

void loop_forget(void)
{
    list.prev = list.next = &list;
    nrunning = 0;
}

bool loop_is_ready(void)
{
    for (const struct sim_event *e = list.next; e != &list; e = e->next)
        if (is_due(e) || (e->added && fd_ready(e)))
            return true;
    return false;
}

static void call(struct sim_event *e)
{
    bool due = is_due(e), ready = e->added && fd_ready(e);
    short what = e->what;

    if (!due && !ready)
        return;
    if (due && e->period_us > 0 && (e->what & EV_PERSIST))
        e->due_us = sim.mono_us + e->period_us;
    else if (due)
        e->timed = false;
    if (!(e->what & EV_PERSIST))
        e->added = false;
    e->cb(e->fd, due ? EV_TIMEOUT : what & (EV_READ | EV_WRITE), e->arg);
}

struct event_base *__wrap_event_base_new(void);
void __wrap_event_base_free(struct event_base *base);
const char *__wrap_event_base_get_method(const struct event_base *base);
int __wrap_event_base_loop(struct event_base *base, int flags);
struct event *__wrap_event_new(struct event_base *base, evutil_socket_t fd, short what,
                               event_callback_fn cb, void *arg);
int __wrap_event_add(struct event *ev, const struct timeval *tv);
int __wrap_event_del(struct event *ev);
void __wrap_event_free(struct event *ev);
int __wrap_event_pending(const struct event *ev, short what, struct timeval *tv);

struct event_base *__wrap_event_base_new(void)
{
    return (struct event_base *)(void *)&list;
}

void __wrap_event_base_free(struct event_base *base)
{
    (void)base;
    if (list.next != &list)
        sim_fail("an event outlived its loop");
}

const char *__wrap_event_base_get_method(const struct event_base *base)
{
    (void)base;
    return "sim";
}

int __wrap_event_base_loop(struct event_base *base, int flags)
{
    (void)base;
    (void)flags;
    nrunning = 0;
    for (struct sim_event *e = list.next; e != &list; e = e->next) {
        if (!is_due(e) && !(e->added && fd_ready(e)))
            continue;
        if (nrunning == EVENTS_MAX)
            sim_fail("more than %d events", EVENTS_MAX);
        running[nrunning++] = e;
    }
    for (unsigned i = nrunning; i > 1; i--) {
        unsigned other = (unsigned)sim_random(i);
        struct sim_event *e = running[other];

        running[other] = running[i - 1];
        running[i - 1] = e;
    }
    for (unsigned i = 0; i < nrunning; i++)
        if (running[i] != NULL)
            call(running[i]);
    nrunning = 0;
    return 0;
}

struct event *__wrap_event_new(struct event_base *base, evutil_socket_t fd, short what,
                               event_callback_fn cb, void *arg)
{
    struct sim_event *e = calloc(1, sizeof(*e));

    (void)base;
    e->fd = (int)fd;
    e->what = what;
    e->cb = cb;
    e->arg = arg;
    e->prev = list.prev;
    e->next = &list;
    e->prev->next = e;
    list.prev = e;
    return (struct event *)(void *)e;
}

int __wrap_event_add(struct event *ev, const struct timeval *tv)
{
    struct sim_event *e = of(ev);

    e->added = e->fd >= 0;
    if (tv == NULL)
        return 0;
    e->period_us = (uint64_t)tv->tv_sec * 1000000 + (uint64_t)tv->tv_usec;
    e->due_us = sim.mono_us + e->period_us;
    e->timed = true;
    return 0;
}

int __wrap_event_del(struct event *ev)
{
    of(ev)->added = of(ev)->timed = false;
    return 0;
}

void __wrap_event_free(struct event *ev)
{
    struct sim_event *e = of(ev);

    for (unsigned i = 0; i < nrunning; i++)
        if (running[i] == e)
            running[i] = NULL;
    e->prev->next = e->next;
    e->next->prev = e->prev;
    free(e);
}

int __wrap_event_pending(const struct event *ev, short what, struct timeval *tv)
{
    const struct sim_event *e = (const struct sim_event *)(const void *)ev;

    (void)tv;
    return (what & EV_TIMEOUT) && e->timed ? EV_TIMEOUT : 0;
}
