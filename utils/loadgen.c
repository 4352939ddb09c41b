/* SPDX-License-Identifier: MIT */
/* loadgen: throughput and latency of a Redis server, every byte read verified.
 *
 *   loadgen --port P --op set|get|exists|match|churn [--host H] [--connections 8] [--pipeline 1]
 *           [--size N[-M]] [--keys 64] [--first 0] [--order seq|random|shuffle|zipf]
 *           [--match 1024] [--reads 0] [--seconds 3 | --requests N]
 *
 * One thread, each connection with a pipeline of requests. set, get and exists take their keys in
 * an order out of --keys, counted from --first; with --reads so many per cent of the SETs are GETs
 * instead. match is KVMATCH of --match random keys, a prompt's each time the same. churn writes
 * keys that never were, in sequence; its reads are GETs of the newest --keys, Zipf distributed, and
 * a nil is a miss there, elsewhere it is wrong. With a range of sizes a key's size follows from its
 * number, small ones being as frequent as large ones by the logarithm.
 *
 * For redis-server and sldmkv-server alike. One line of JSON on stdout. Exit 1: an answer was
 * wrong; 2: wrong usage, no connection, no answer for 30 s.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "loadgen/load.h"

#define SIZES 64u /* steps of a range of sizes */

static const char *const ops[] = {"set", "get", "exists", "match", "churn", NULL};
static const char *const orders[] = {"seq", "random", "shuffle", "zipf", NULL};

uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void cannot(const char *what, const char *why)
{
    fprintf(stderr, "loadgen: %s: %s\n", what, why);
    exit(EXIT_CANNOT);
}

void wrong(const struct request *r, const char *answer)
{
    if (r == NULL)
        fprintf(stderr, "loadgen: an answer nobody asked for: %s\n", answer);
    else
        fprintf(stderr, "loadgen: %s of key %" PRIu64 ": a wrong answer: %s\n", ops[r->op], r->key,
                answer);
    exit(EXIT_WRONG);
}

/* --- what is asked for ---------------------------------------------------------------------- */

static uint64_t size_of(const struct load *l, uint64_t key)
{
    static double step[SIZES];

    if (l->o.size == l->o.size_max)
        return l->o.size;
    if (step[0] == 0)
        for (unsigned i = 0; i < SIZES; i++)
            step[i] = pow((double)l->o.size_max / (double)l->o.size, i / (SIZES - 1.0));
    return (uint64_t)((double)l->o.size * step[value_mix(key) % SIZES]);
}

/* The newest key whose number leaves the same rest as `slot`: a key that is asked for often stays
 * so until `keys` newer ones are there. */
static uint64_t newest_of(const struct load *l, uint64_t slot)
{
    uint64_t newest = l->choose.count - 1;

    return newest - (newest + l->o.keys - slot) % l->o.keys;
}

static void next_churn(struct load *l, struct request *r)
{
    if (l->choose.count >= l->o.keys && choose_random(&l->choose, 100) < l->o.reads) {
        r->op = OP_GET;
        r->key = newest_of(l, choose_zipf(&l->choose));
    } else {
        r->op = OP_SET;
        r->key = l->choose.count++;
    }
}

bool load_next(struct load *l, struct request *r)
{
    if (l->o.requests != 0 ? l->begun >= l->o.requests : l->now_us >= l->until_us)
        return false;
    l->begun++;
    r->op = l->o.op;
    if (l->o.op == OP_CHURN)
        next_churn(l, r);
    else
        r->key = l->o.first + choose_next(&l->choose);
    if (l->o.op == OP_SET && l->o.reads > 0 && choose_random(&l->choose, 100) < l->o.reads)
        r->op = OP_GET;
    r->size = r->op == OP_SET || r->op == OP_GET ? size_of(l, r->key) : 0;
    return true;
}

static void report(const struct load *l)
{
    double s = (double)(now_us() - l->began_us) / 1e6;
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    printf("{\"op\": \"%s\", \"connections\": %" PRIu64 ", \"pipeline\": %" PRIu64
           ", \"requests\": %" PRIu64 ", \"sets\": %" PRIu64 ", \"hits\": %" PRIu64
           ", \"misses\": %" PRIu64 ", \"next\": %" PRIu64 ", \"seconds\": %.6f",
           ops[l->o.op], l->o.connections, l->o.pipeline, l->answered, l->sets, l->hits, l->misses,
           l->choose.count, s);
    printf(", \"per_second\": %.1f, \"keys_per_second\": %.1f, \"bytes_set\": %" PRIu64
           ", \"bytes_got\": %" PRIu64 ", \"set_bytes_per_second\": %.0f"
           ", \"get_bytes_per_second\": %.0f",
           (double)l->answered / s, (double)l->keys_found / s, l->bytes_set, l->bytes_got,
           (double)l->bytes_set / s, (double)l->bytes_got / s);
    printf(", \"p50_us\": %" PRIu64 ", \"p99_us\": %" PRIu64 ", \"p999_us\": %" PRIu64
           ", \"max_us\": %" PRIu64 ", \"cpu_seconds\": %.3f}\n",
           hist_quantile(&l->latency, 0.5), hist_quantile(&l->latency, 0.99),
           hist_quantile(&l->latency, 0.999), l->latency.max,
           (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
               (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

/* --- options -------------------------------------------------------------------------------- */

static bool number(const char *text, char end, uint64_t least, uint64_t most, uint64_t *out)
{
    char *tail;

    errno = 0;
    *out = strtoull(text, &tail, 10);
    return errno == 0 && tail != text && *tail == end && *out >= least && *out <= most;
}

static bool word(const char *text, const char *const *words, unsigned *out)
{
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool sizes(const char *text, struct options *o)
{
    const char *dash = strchr(text, '-');

    if (!number(text, dash == NULL ? '\0' : '-', 1, SIZE_MAX_BYTES, &o->size))
        return false;
    o->size_max = o->size;
    return dash == NULL || number(dash + 1, '\0', o->size, SIZE_MAX_BYTES, &o->size_max);
}

static bool option(struct options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        uint64_t *out, least, most;
    } numbers[] = {
        {"--connections", &o->connections, 1, CONNECTIONS_MAX},
        {"--pipeline", &o->pipeline, 1, PIPELINE_MAX},
        {"--keys", &o->keys, 1, UINT32_MAX},
        {"--first", &o->first, 0, UINT32_MAX},
        {"--match", &o->match, 1, MATCH_MAX},
        {"--reads", &o->reads, 0, 100},
        {"--seconds", &o->seconds, 1, 86400},
        {"--requests", &o->requests, 1, UINT64_MAX},
    };
    unsigned w = 0;
    bool good = true;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (strcmp(name, numbers[i].name) == 0)
            return number(value, '\0', numbers[i].least, numbers[i].most, numbers[i].out);
    if (strcmp(name, "--host") == 0)
        o->host = value;
    else if (strcmp(name, "--port") == 0)
        o->port = value;
    else if (strcmp(name, "--size") == 0)
        good = sizes(value, o);
    else if (strcmp(name, "--op") == 0 && (good = word(value, ops, &w)))
        o->op = (enum op)w;
    else if (strcmp(name, "--order") == 0 && (good = word(value, orders, &w)))
        o->order = (enum order)w;
    else
        good = false;
    return good;
}

int main(int argc, char **argv)
{
    struct load l = {.o = {.host = "127.0.0.1",
                           .connections = 8,
                           .pipeline = 1,
                           .size = 2097152,
                           .size_max = 2097152,
                           .keys = 64,
                           .match = 1024,
                           .seconds = 3}};
    bool good = argc % 2 == 1;

    for (int i = 1; good && i + 1 < argc; i += 2)
        good = option(&l.o, argv[i], argv[i + 1]);
    if (!good || l.o.port == NULL) {
        fprintf(stderr, "usage: loadgen --port P --op set|get|exists|match|churn [--host H]\n"
                        "       [--connections N] [--pipeline N] [--size N[-M]] [--keys N]\n"
                        "       [--first N] [--order seq|random|shuffle|zipf] [--match N]\n"
                        "       [--reads PERCENT] [--seconds N | --requests N]\n");
        return EXIT_CANNOT;
    }
    choose_init(&l.choose, l.o.op == OP_CHURN ? ORDER_ZIPF : l.o.order, l.o.keys, now_us());
    if (l.o.op == OP_CHURN)
        l.choose.count = l.o.first;
    if (!value_init(&l.value))
        cannot("start", "out of memory");
    conns_open(&l);
    l.now_us = l.began_us = now_us();
    l.until_us = l.began_us + l.o.seconds * 1000000;
    conns_run(&l);
    report(&l);
    conns_close(&l);
    value_fini(&l.value);
    return 0;
}
