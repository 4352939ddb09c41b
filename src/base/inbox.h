/* SPDX-License-Identifier: MIT */
/* inbox: the one way from other threads into the loop.
 *
 * Purpose   a queue of messages with an eventfd; FIFO per sender. The loop waits on the fd and
 *           drains; senders never wait
 * Threads   inbox_send: any. All others: the loop (the receiver)
 * Owner     a message is embedded in what it carries (a job, an entry); from send until its
 *           run() is called it belongs to the inbox. run() may free it
 * Limits    none of its own: each sender bounds what it has under way
 * Errors    inbox_new: NULL when no eventfd can be had
 */
#ifndef BASE_INBOX_H
#define BASE_INBOX_H

#include <stdbool.h>
#include <stddef.h>

struct inbox;

struct msg {
    struct msg *next;
    void (*run)(struct msg *m); /* on the loop */
};

struct inbox *inbox_new(void);
void inbox_free(struct inbox *in); /* must be empty */

int inbox_fd(const struct inbox *in); /* readable when something waits */
void inbox_send(struct inbox *in, struct msg *m);

/* Runs at most `limit` messages; returns how many ran. What is left keeps the fd readable. */
size_t inbox_drain(struct inbox *in, size_t limit);

/* Blocks until a message waits or timeout_ms passed (start and stop only). */
bool inbox_wait(struct inbox *in, int timeout_ms);

#endif
