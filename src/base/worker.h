/* SPDX-License-Identifier: MIT */
/* worker: threads that execute jobs for the loop.
 *
 * Purpose   whatever may wait for a disk happens here; the loop only submits and hears back
 * Threads   worker_submit, worker_recall, worker_free: loop. work() runs on a worker thread, done()
 *           on the loop
 * Owner     a job is embedded in the caller's struct; from submit until done() it belongs to the
 *           worker. Every submitted job gets exactly one done(), also at worker_free, unless it is
 *           recalled
 * Order     with one thread jobs execute one after another in the order submitted
 * Limits    none: the submitter bounds its jobs
 * Stepping  with 0 threads nothing runs until worker_step(): tests and simulation
 */
#ifndef BASE_WORKER_H
#define BASE_WORKER_H

#include <stdbool.h>

#include "base/inbox.h"

struct worker;

struct job {
    struct msg msg; /* private: carries the job through queue and inbox */
    void (*work)(struct job *job);
    void (*done)(struct job *job);
};

/* name: thread name, ≤ 15 bytes. NULL: no memory or no threads. Signals are blocked in them. */
struct worker *worker_new(const char *name, unsigned threads, struct inbox *inbox);

/* Runs what is queued, joins the threads. Their done() calls are in the inbox afterwards. */
void worker_free(struct worker *w);

void worker_submit(struct worker *w, struct job *job);
/* True: no thread had begun the job, it is the caller's again, as if never submitted. */
bool worker_recall(struct worker *w, struct job *job);
bool worker_step(struct worker *w); /* 0 threads only: runs one job; false = none waits */

#endif
