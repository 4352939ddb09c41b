/* SPDX-License-Identifier: MIT */
#include "base/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/assert.h"

#define THREADS_MAX 64

struct worker {
    /* fixed after new */
    struct inbox *inbox;
    const char *name;
    unsigned nthreads;
    pthread_t threads[THREADS_MAX];
    /* shared under lock */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct msg *head;
    struct msg **tail;
    bool stopping;
};

static struct job *job_of(struct msg *m)
{
    return (struct job *)(void *)m; /* msg is the first member */
}

static void run_done(struct msg *m)
{
    job_of(m)->done(job_of(m));
}

static struct job *pop_locked(struct worker *w)
{
    struct msg *m = w->head;

    if (m == NULL)
        return NULL;
    w->head = m->next;
    if (w->head == NULL)
        w->tail = &w->head;
    return job_of(m);
}

static void execute(struct worker *w, struct job *job)
{
    job->work(job);
    job->msg.run = run_done;
    inbox_send(w->inbox, &job->msg);
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;

    pthread_setname_np(pthread_self(), w->name);
    pthread_mutex_lock(&w->lock);
    for (;;) {
        struct job *job = pop_locked(w);

        if (job != NULL) {
            pthread_mutex_unlock(&w->lock);
            execute(w, job);
            pthread_mutex_lock(&w->lock);
        } else if (w->stopping) {
            break;
        } else {
            pthread_cond_wait(&w->more, &w->lock);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct worker *worker_new(const char *name, unsigned threads, struct inbox *inbox)
{
    struct worker *w = calloc(1, sizeof(*w));
    sigset_t all, old;

    ASSERT(threads <= THREADS_MAX);
    if (w == NULL)
        return NULL;
    w->inbox = inbox;
    w->name = name;
    w->tail = &w->head;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    while (w->nthreads < threads) {
        if (pthread_create(&w->threads[w->nthreads], NULL, thread_main, w) != 0)
            break;
        w->nthreads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (w->nthreads < threads) {
        worker_free(w);
        return NULL;
    }
    return w;
}

void worker_free(struct worker *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->nthreads; i++)
        pthread_join(w->threads[i], NULL);
    while (w->nthreads == 0 && worker_step(w))
        ;
    ASSERT(w->head == NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void worker_submit(struct worker *w, struct job *job)
{
    ASSERT(job->work != NULL && job->done != NULL);
    job->msg.next = NULL;
    pthread_mutex_lock(&w->lock);
    ASSERT(!w->stopping);
    *w->tail = &job->msg;
    w->tail = &job->msg.next;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

bool worker_recall(struct worker *w, struct job *job)
{
    struct msg **at;
    bool found;

    pthread_mutex_lock(&w->lock);
    at = &w->head;
    while (*at != NULL && *at != &job->msg)
        at = &(*at)->next;
    found = *at != NULL;
    if (found) {
        *at = job->msg.next;
        if (*at == NULL)
            w->tail = at;
    }
    pthread_mutex_unlock(&w->lock);
    return found;
}

bool worker_step(struct worker *w)
{
    struct job *job;

    ASSERT(w->nthreads == 0);
    pthread_mutex_lock(&w->lock);
    job = pop_locked(w);
    pthread_mutex_unlock(&w->lock);
    if (job == NULL)
        return false;
    execute(w, job);
    return true;
}
