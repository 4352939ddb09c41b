/* SPDX-License-Identifier: MIT */
/* sim [--seed N | --seeds A-B | --scene N] [--ops N] [-j N] [-v]
 *
 * Each seed is a process of its own, -j of them at a time. Prints TAP, as the unit tests do:
 * without arguments every scene, SEEDS seeds, and one of them twice, which must end in the same
 * trace. */
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/logger.h"
#include "node.h"
#include "scene.h"
#include "sim.h"

enum {
    SEEDS = 20,
    OPS = 10000,
    SLOW_SEEDS = 4, /* under a sanitizer */
    SLOW_OPS = 2000,
    TWICE_OPS = 2000,
    LIMIT_S = 600, /* a seed that takes longer hangs */
    JOBS_MAX = 64
};
#define SHM_ROOM (512 * MIB)

static struct {
    uint64_t first, last, ops;
    unsigned jobs;
    bool verbose, all;
    unsigned scene; /* 0: none */
} o;

struct outcome {
    uint64_t seed, trace;
    double seconds;
    char report[1000];
};

/* ---- one seed ----------------------------------------------------------------------------- */

int __real_statvfs(const char *path, struct statvfs *out);

/* LMDB syncs: in memory that costs nothing, and a crash is ours to simulate. */
static void choose_base(void)
{
    const char *tmp = getenv("TMPDIR");
    struct statvfs st;

    if (__real_statvfs("/dev/shm", &st) == 0 && access("/dev/shm", W_OK) == 0 &&
        (uint64_t)st.f_bavail * st.f_frsize >= SHM_ROOM)
        tmp = "/dev/shm";
    snprintf(sim.base, sizeof(sim.base), "%s/sim-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(sim.base) == NULL) {
        perror(sim.base);
        exit(1);
    }
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void on_alarm(int sig)
{
    static const char text[] = "# it hangs\n";

    (void)sig;
    if (write(2, text, sizeof(text) - 1) < 0)
        _Exit(3);
    abort();
}

static void prepare(uint64_t seed, uint64_t ops)
{
    signal(SIGALRM, on_alarm);
    alarm(LIMIT_S);
    sim.seed = sim.random = seed;
    sim.ops = ops;
    sim.verbose = o.verbose;
    sim.wall_ms = 1700000000000;
    choose_base();
    logger_set_level(o.verbose ? LOGGER_VERBOSE : LOGGER_WARNING);
    if (!o.verbose)
        logger_open("/dev/null");
}

static void play(uint64_t seed, uint64_t ops, struct outcome *out)
{
    struct timespec from, to;

    clock_gettime(CLOCK_MONOTONIC, &from);
    prepare(seed, ops);
    run_seed();
    clock_gettime(CLOCK_MONOTONIC, &to);
    out->seed = seed;
    out->trace = sim.trace;
    out->seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    run_report(out->report, sizeof(out->report));
}

/* ---- many --------------------------------------------------------------------------------- */

struct child {
    pid_t pid;
    int fd;
    uint64_t seed;
};

static void start(struct child *c, uint64_t seed, uint64_t ops)
{
    int fds[2];

    fflush(stdout);
    if (pipe(fds) != 0 || (c->pid = fork()) < 0) {
        perror("fork");
        exit(1);
    }
    c->seed = seed;
    c->fd = fds[0];
    if (c->pid > 0) {
        close(fds[1]);
        return;
    }
    struct outcome out = {0};
    struct node_stats n;

    close(fds[0]);
    play(seed, ops, &out);
    if (write(fds[1], &out, sizeof(out)) != (ssize_t)sizeof(out))
        _Exit(1);
    fflush(stdout);
    nftw(sim.base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    node_get_stats(&n);
    if (n.abandoned > 0)
        _Exit(0); /* its leaks are meant */
    exit(0);
}

/* The one that ends next. True: it ended well. */
static bool wait_one(struct child *list, unsigned *running, struct outcome *out)
{
    struct child *c = list;
    int status = 0;
    pid_t pid = wait(&status);
    bool whole;

    while (c->pid != pid)
        c++;
    whole = read(c->fd, out, sizeof(*out)) == (ssize_t)sizeof(*out);
    close(c->fd);
    out->seed = c->seed;
    *c = list[--*running];
    return whole && status == 0;
}

static unsigned tests, failures;

static void tell(bool fine, const struct outcome *out, uint64_t ops)
{
    tests++;
    if (fine) {
        printf("ok %u - seed %" PRIu64 " (%.1f s, trace %016" PRIx64 "): %s\n", tests, out->seed,
               out->seconds, out->trace, out->report);
    } else {
        failures++;
        printf("not ok %u - seed %" PRIu64 ": reproduce with --seed %" PRIu64 " --ops %" PRIu64
               " -v\n",
               tests, out->seed, out->seed, ops);
    }
}

static void play_all(void)
{
    struct child children[JOBS_MAX];
    unsigned running = 0;
    uint64_t next = o.first;

    while (next <= o.last || running > 0) {
        struct outcome out = {0};

        if (next <= o.last && running < o.jobs) {
            start(&children[running++], next++, o.ops);
            continue;
        }
        tell(wait_one(children, &running, &out), &out, o.ops);
    }
}

static void play_scene(unsigned number)
{
    const struct scene *scene = &scenes[number - 1];
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        prepare(0, 0);
        scene->play();
        fflush(stdout);
        nftw(sim.base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        _Exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        status = 1;
    tests++;
    failures += status != 0;
    printf("%s %u - %s: --scene %u\n", status == 0 ? "ok" : "not ok", tests, scene->name, number);
}

static void play_twice(void)
{
    struct child children[2];
    unsigned running = 0;
    struct outcome out[2] = {{0}, {0}};
    bool fine;

    start(&children[running++], o.first, TWICE_OPS);
    start(&children[running++], o.first, TWICE_OPS);
    fine = wait_one(children, &running, &out[0]);
    fine = wait_one(children, &running, &out[1]) && fine;
    if (out[0].trace != out[1].trace)
        fprintf(stderr, "# one seed, two traces: %016" PRIx64 " and %016" PRIx64 "\n", out[0].trace,
                out[1].trace);
    tell(fine && out[0].trace == out[1].trace, &out[0], TWICE_OPS);
}

/* ---- arguments ---------------------------------------------------------------------------- */

static void usage(void)
{
    fprintf(stderr, "usage: sim [--seed N | --seeds A-B | --scene N] [--ops N] [-j N] "
                    "[-v]\n");
    exit(2);
}

static uint64_t number(const char *text, char **end)
{
    uint64_t v;

    errno = 0;
    v = strtoull(text, end, 10);
    if (*end == text || errno != 0)
        usage();
    return v;
}

static void read_range(const char *text)
{
    char *end;

    o.first = o.last = number(text, &end);
    if (*end == '-')
        o.last = number(end + 1, &end);
    if (*end != '\0' || o.last < o.first)
        usage();
    o.all = false;
}

static void read_scene(const char *text)
{
    unsigned count = 0;
    char *end;

    while (scenes[count].name != NULL)
        count++;
    o.scene = (unsigned)number(text, &end);
    if (*end != '\0' || o.scene == 0 || o.scene > count)
        usage();
    o.all = false;
}

int main(int argc, char **argv)
{
    bool slow = getenv("TEST_SLOW") != NULL;
    char none[1] = "", *end = none;

    o.first = 1;
    o.last = slow ? SLOW_SEEDS : SEEDS;
    o.ops = slow ? SLOW_OPS : OPS;
    o.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    o.all = true;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;

        if (more && (strcmp(argv[i], "--seed") == 0 || strcmp(argv[i], "--seeds") == 0))
            read_range(argv[++i]);
        else if (more && strcmp(argv[i], "--scene") == 0)
            read_scene(argv[++i]);
        else if (more && strcmp(argv[i], "--ops") == 0)
            o.ops = number(argv[++i], &end);
        else if (more && strcmp(argv[i], "-j") == 0)
            o.jobs = (unsigned)number(argv[++i], &end);
        else if (strcmp(argv[i], "-v") == 0)
            o.verbose = true;
        else
            usage();
    }
    if (*end != '\0' || o.jobs == 0 || o.jobs > JOBS_MAX)
        usage();
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned i = 1; o.all && scenes[i - 1].name != NULL; i++)
        play_scene(i);
    if (o.scene > 0)
        play_scene(o.scene);
    else
        play_all();
    if (o.all)
        play_twice();
    printf("1..%u\n", tests);
    return failures > 0;
}
