/* SPDX-License-Identifier: MIT */
/* Senders append under a mutex and write the eventfd only when the queue was empty, so wake-ups
 * coalesce. The loop takes the whole queue at once into `taken` (its own, no lock) and runs from
 * there; the fd is cleared before the queue is taken, so a message sent meanwhile wakes it again.
 */
#include "base/inbox.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"

struct inbox {
    int fd;
    /* shared under lock */
    pthread_mutex_t lock;
    struct msg *head;
    struct msg **tail;
    /* owned by the loop */
    struct msg *taken;
};

struct inbox *inbox_new(void)
{
    struct inbox *in = calloc(1, sizeof(*in));

    if (in == NULL)
        return NULL;
    in->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (in->fd < 0) {
        free(in);
        return NULL;
    }
    pthread_mutex_init(&in->lock, NULL);
    in->tail = &in->head;
    return in;
}

void inbox_free(struct inbox *in)
{
    if (in == NULL)
        return;
    ASSERT(in->head == NULL && in->taken == NULL);
    close(in->fd);
    pthread_mutex_destroy(&in->lock);
    free(in);
}

int inbox_fd(const struct inbox *in)
{
    return in->fd;
}

static void wake(struct inbox *in)
{
    uint64_t one = 1;

    /* EAGAIN: the counter is full, so the loop is woken anyway. */
    while (write(in->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void inbox_send(struct inbox *in, struct msg *m)
{
    bool was_empty;

    ASSERT(m->run != NULL);
    m->next = NULL;
    pthread_mutex_lock(&in->lock);
    was_empty = in->head == NULL;
    *in->tail = m;
    in->tail = &m->next;
    pthread_mutex_unlock(&in->lock);
    if (was_empty)
        wake(in);
}

static void take(struct inbox *in)
{
    uint64_t count;

    while (read(in->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&in->lock);
    in->taken = in->head;
    in->head = NULL;
    in->tail = &in->head;
    pthread_mutex_unlock(&in->lock);
}

size_t inbox_drain(struct inbox *in, size_t limit)
{
    size_t ran = 0;

    if (in->taken == NULL)
        take(in);
    while (in->taken != NULL && ran < limit) {
        struct msg *m = in->taken;

        in->taken = m->next;
        m->next = NULL;
        m->run(m);
        ran++;
    }
    if (in->taken != NULL)
        wake(in);
    return ran;
}

bool inbox_wait(struct inbox *in, int timeout_ms)
{
    struct pollfd p = {.fd = in->fd, .events = POLLIN};

    if (in->taken != NULL)
        return true;
    return poll(&p, 1, timeout_ms) == 1;
}
