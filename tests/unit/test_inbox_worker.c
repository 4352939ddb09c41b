/* SPDX-License-Identifier: MIT */
#include "base/inbox.h"
#include "base/worker.h"
#include "test.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>

struct note {
    struct msg msg; /* first */
    int sender, number;
};

static struct {
    struct inbox *in;
    int count, order[64];
    int next_of[16]; /* per sender */
    struct note *again;
} loop;

static void reset(void)
{
    memset(&loop, 0, sizeof(loop));
    loop.in = inbox_new();
    CHECK(loop.in != NULL);
}

static bool readable(void)
{
    struct pollfd p = {.fd = inbox_fd(loop.in), .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void on_note(struct msg *m)
{
    struct note *n = (struct note *)(void *)m;

    CHECK_EQ_PTR(m->next, NULL);
    if (loop.count < 64)
        loop.order[loop.count] = n->number;
    loop.count++;
    CHECK_EQ_INT(n->number, loop.next_of[n->sender]++);
    if (n == loop.again && n->number < 5) {
        n->number++;
        inbox_send(loop.in, &n->msg);
    }
}

TEST(an_empty_inbox)
{
    reset();
    CHECK(!readable());
    CHECK_EQ_U64(inbox_drain(loop.in, 10), 0);
    CHECK(!inbox_wait(loop.in, 0));
    inbox_free(loop.in);
    inbox_free(NULL);
}

TEST(messages_run_in_order)
{
    struct note n[10];

    reset();
    for (int i = 0; i < 10; i++) {
        n[i] = (struct note){{NULL, on_note}, 0, i};
        inbox_send(loop.in, &n[i].msg);
    }
    CHECK(readable());
    CHECK(inbox_wait(loop.in, 0));
    CHECK_EQ_U64(inbox_drain(loop.in, 100), 10);
    for (int i = 0; i < 10; i++)
        CHECK_EQ_INT(loop.order[i], i);
    CHECK(!readable());
    inbox_free(loop.in);
}

/* What a bounded drain leaves must wake the loop again, also when nobody sends more. */
TEST(a_bounded_drain_stays_readable)
{
    struct note n[10], late = {{NULL, on_note}, 0, 10};

    reset();
    for (int i = 0; i < 10; i++) {
        n[i] = (struct note){{NULL, on_note}, 0, i};
        inbox_send(loop.in, &n[i].msg);
    }
    CHECK_EQ_U64(inbox_drain(loop.in, 3), 3);
    CHECK(readable());
    CHECK_EQ_U64(inbox_drain(loop.in, 3), 3);
    CHECK(readable());
    CHECK(inbox_wait(loop.in, 0));
    inbox_send(loop.in, &late.msg); /* behind those that wait */
    CHECK_EQ_U64(inbox_drain(loop.in, 4), 4);
    CHECK(readable());
    CHECK_EQ_U64(inbox_drain(loop.in, 4), 1);
    CHECK_EQ_INT(loop.count, 11);
    CHECK_EQ_U64(inbox_drain(loop.in, 4), 0);
    CHECK(!readable());
    inbox_free(loop.in);
}

TEST(a_message_may_be_sent_again_from_its_run)
{
    struct note n = {{NULL, on_note}, 0, 0};

    reset();
    loop.again = &n;
    inbox_send(loop.in, &n.msg);
    for (int i = 0; i < 6; i++) {
        CHECK(readable());
        CHECK_EQ_U64(inbox_drain(loop.in, 100), 1); /* the next one waits for the next turn */
    }
    CHECK(!readable());
    CHECK_EQ_INT(loop.count, 6);
    inbox_free(loop.in);
}

enum { SENDERS = 4, PER_SENDER = 5000 };

static void *sender_main(void *arg)
{
    struct note *notes = arg;

    for (int i = 0; i < PER_SENDER; i++)
        inbox_send(loop.in, &notes[i].msg);
    return NULL;
}

/* The loop sleeps in poll; a lost wake-up would hang here. */
TEST(many_senders)
{
    struct note *notes = calloc(SENDERS * PER_SENDER, sizeof(*notes));
    pthread_t threads[SENDERS];

    reset();
    for (int i = 0; i < SENDERS * PER_SENDER; i++)
        notes[i] = (struct note){{NULL, on_note}, i / PER_SENDER, i % PER_SENDER};
    for (int i = 0; i < SENDERS; i++)
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, sender_main, &notes[i * PER_SENDER]), 0);
    while (loop.count < SENDERS * PER_SENDER) {
        CHECK(inbox_wait(loop.in, 60000));
        inbox_drain(loop.in, 7);
    }
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ_INT(loop.next_of[i], PER_SENDER); /* each sender's in its order */
    }
    inbox_drain(loop.in, 7);
    CHECK(!readable());
    inbox_free(loop.in);
    free(notes);
}

struct task {
    struct job job; /* first */
    int number;
    int worked, finished;
    pthread_t thread;
    sigset_t blocked;
    char name[16];
};

static atomic_int worked_total;
static int done_total, done_order[64];

static void work(struct job *j)
{
    struct task *t = (struct task *)(void *)j;

    t->worked++;
    t->thread = pthread_self();
    pthread_sigmask(SIG_BLOCK, NULL, &t->blocked);
    pthread_getname_np(pthread_self(), t->name, sizeof(t->name));
    atomic_fetch_add(&worked_total, 1);
}

static void done(struct job *j)
{
    struct task *t = (struct task *)(void *)j;

    CHECK_EQ_INT(t->worked, t->finished + 1);
    t->finished++;
    if (done_total < 64)
        done_order[done_total] = t->number;
    done_total++;
}

static void make_tasks(struct task *t, int n)
{
    reset();
    atomic_store(&worked_total, 0);
    done_total = 0;
    for (int i = 0; i < n; i++)
        t[i] = (struct task){.job = {.work = work, .done = done}, .number = i};
}

TEST(one_thread_works_in_order)
{
    struct task t[50];
    struct worker *w;

    make_tasks(t, 50);
    w = worker_new("one", 1, loop.in);
    CHECK(w != NULL);
    for (int i = 0; i < 50; i++)
        worker_submit(w, &t[i].job);
    while (done_total < 50) {
        CHECK(inbox_wait(loop.in, 60000));
        inbox_drain(loop.in, 16);
    }
    for (int i = 0; i < 50; i++) {
        CHECK_EQ_INT(done_order[i], i);
        CHECK(!pthread_equal(t[i].thread, pthread_self()));
        CHECK(pthread_equal(t[i].thread, t[0].thread));
        CHECK_EQ_STR(t[i].name, "one");
        CHECK(sigismember(&t[i].blocked, SIGTERM) == 1);
    }
    worker_free(w);
    inbox_drain(loop.in, 1);
    inbox_free(loop.in);
}

TEST(creating_threads_leaves_the_signal_mask)
{
    sigset_t before, after;
    struct worker *w;

    reset();
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    w = worker_new("mask", 2, loop.in);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    CHECK_EQ_INT(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
    worker_free(w);
    inbox_free(loop.in);
}

TEST(several_threads_finish_every_job)
{
    enum { JOBS = 5000 };
    struct task *t = calloc(JOBS, sizeof(*t));
    struct worker *w;

    make_tasks(t, JOBS);
    w = worker_new("many", 3, loop.in);
    for (int i = 0; i < JOBS; i++)
        worker_submit(w, &t[i].job);
    while (done_total < JOBS) {
        CHECK(inbox_wait(loop.in, 60000));
        inbox_drain(loop.in, 100);
    }
    for (int i = 0; i < JOBS; i++)
        CHECK(t[i].worked == 1 && t[i].finished == 1);
    worker_free(w);
    inbox_drain(loop.in, 1);
    inbox_free(loop.in);
    free(t);
}

/* Freeing loses nothing: what was queued is worked, and its done() calls are in the inbox. */
TEST(free_works_off_the_queue)
{
    for (unsigned threads = 0; threads <= 3; threads++) {
        struct task t[100];
        struct worker *w;

        make_tasks(t, 100);
        w = worker_new("stop", threads, loop.in);
        for (int i = 0; i < 100; i++)
            worker_submit(w, &t[i].job);
        worker_free(w);
        CHECK_EQ_INT(atomic_load(&worked_total), 100);
        CHECK_EQ_INT(done_total, 0); /* done() belongs to the loop */
        CHECK_EQ_U64(inbox_drain(loop.in, 1000), 100);
        CHECK_EQ_INT(done_total, 100);
        inbox_free(loop.in);
    }
    worker_free(NULL);
}

TEST(stepping_runs_one_job_at_a_time)
{
    struct task t[3];
    struct worker *w;

    make_tasks(t, 3);
    w = worker_new("step", 0, loop.in);
    CHECK(!worker_step(w));
    for (int i = 0; i < 3; i++)
        worker_submit(w, &t[i].job);
    CHECK_EQ_INT(atomic_load(&worked_total), 0);
    CHECK(!readable());
    for (int i = 0; i < 3; i++) {
        CHECK(worker_step(w));
        CHECK_EQ_INT(atomic_load(&worked_total), i + 1);
        CHECK_EQ_INT(done_total, i);
        CHECK_EQ_U64(inbox_drain(loop.in, 10), 1);
    }
    CHECK(!worker_step(w));
    worker_submit(w, &t[0].job); /* a job may be used again after its done() */
    CHECK(worker_step(w));
    inbox_drain(loop.in, 10);
    CHECK_EQ_INT(t[0].finished, 2);
    worker_free(w);
    inbox_free(loop.in);
}

TEST(a_job_that_nobody_began_can_be_recalled)
{
    struct task t[4];
    struct worker *w;

    make_tasks(t, 4);
    w = worker_new("step", 0, loop.in);
    CHECK(!worker_recall(w, &t[0].job));
    for (int i = 0; i < 3; i++)
        worker_submit(w, &t[i].job);
    CHECK(worker_recall(w, &t[1].job)); /* from the middle */
    CHECK(!worker_recall(w, &t[1].job));
    CHECK(worker_recall(w, &t[2].job)); /* the last one */
    worker_submit(w, &t[3].job);
    worker_submit(w, &t[1].job);
    CHECK(worker_step(w));
    CHECK(!worker_recall(w, &t[0].job)); /* worked on: its done() comes */
    CHECK(worker_step(w) && worker_step(w));
    CHECK(!worker_step(w));
    CHECK_EQ_U64(inbox_drain(loop.in, 10), 3);
    CHECK_EQ_INT(t[0].finished, 1);
    CHECK_EQ_INT(t[1].finished, 1);
    CHECK_EQ_INT(t[2].finished, 0);
    CHECK_EQ_INT(t[3].finished, 1);
    worker_submit(w, &t[2].job);
    CHECK(worker_recall(w, &t[2].job)); /* the only one */
    CHECK(!worker_step(w));
    worker_free(w);
    inbox_free(loop.in);
}

TEST_MAIN
