/* SPDX-License-Identifier: MIT */
#include "base/fail.h"

#ifdef SLDMKV_FAIL

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POINTS_MAX 16

struct point {
    char name[32];
    char action[16];
    int argument;
    unsigned nth;
    bool repeat;
    unsigned reached;
};

static struct point points[POINTS_MAX];
static unsigned npoints;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void parse_point(const char *text)
{
    struct point *p = &points[npoints];
    const char *at = strchr(text, '@');

    *p = (struct point){.nth = 1};
    if (sscanf(text, "%31[^=]=%15[a-z]:%d", p->name, p->action, &p->argument) < 2) {
        fprintf(stderr, "SLDMKV_FAILPOINTS: cannot read \"%s\"\n", text);
        exit(1);
    }
    if (at != NULL)
        p->nth = (unsigned)strtoul(at + 1, NULL, 10);
    p->repeat = text[strlen(text) - 1] == '+';
    npoints++;
}

static void load(void)
{
    const char *env = getenv("SLDMKV_FAILPOINTS");
    char *copy, *save = NULL;

    if (env == NULL)
        return;
    copy = strdup(env);
    for (char *t = strtok_r(copy, ",", &save); t != NULL && npoints < POINTS_MAX;
         t = strtok_r(NULL, ",", &save))
        parse_point(t);
    free(copy);
}

/* SIGKILL, not abort(): no handler, no core, no flush, as a power cut would. */
static int act(const struct point *p)
{
    if (strcmp(p->action, "abort") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(p->action, "delay") == 0) {
        struct timespec t = {p->argument / 1000, (long)(p->argument % 1000) * 1000000};

        nanosleep(&t, NULL);
    }
    return strcmp(p->action, "errno") == 0 ? p->argument : 0;
}

int fail_reached(const char *name)
{
    struct point hit = {0};

    pthread_once(&once, load);
    if (npoints == 0)
        return 0;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < npoints; i++) {
        struct point *p = &points[i];

        if (strcmp(p->name, name) != 0)
            continue;
        p->reached++;
        if (p->reached == p->nth || (p->repeat && p->reached > p->nth))
            hit = *p;
    }
    pthread_mutex_unlock(&lock);
    return hit.name[0] != '\0' ? act(&hit) : 0;
}

#endif
