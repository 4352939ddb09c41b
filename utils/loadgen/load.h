/* SPDX-License-Identifier: MIT */
/* load: what the parts of loadgen share.
 *
 * Purpose   one run: what is asked for, over which connections, what came back
 * Threads   one
 * Owner     main owns the one struct load
 * Units     bytes; us of CLOCK_MONOTONIC; keys are numbers, "load:" and ten digits on the wire
 * Errors    a wrong answer ends the program with EXIT_WRONG, everything else that goes wrong with
 *           EXIT_CANNOT, said on stderr: the figure of a run with an error in it is worthless
 */
#ifndef LOADGEN_LOAD_H
#define LOADGEN_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "choose.h"
#include "hist.h"
#include "value.h"

#define EXIT_WRONG 1
#define EXIT_CANNOT 2

#define CONNECTIONS_MAX 4096
#define PIPELINE_MAX 8192
#define MATCH_MAX 8192
#define SIZE_MAX_BYTES ((uint64_t)512 << 20)

enum op { OP_SET, OP_GET, OP_EXISTS, OP_MATCH, OP_CHURN };

struct options {
    const char *host, *port;
    enum op op;
    enum order order;
    uint64_t connections, pipeline, size, size_max, keys, first, match, reads, seconds, requests;
};

struct request {
    enum op op; /* never OP_CHURN */
    uint64_t key, size, began_us;
    uint64_t len; /* bytes on the wire, known once it is being sent */
};

struct conn {
    int fd;
    bool blocked; /* waits for EPOLLOUT */
    /* ring of o.pipeline requests: [done, sent) wait for an answer, [sent, made) are to be sent */
    struct request *ring;
    uint64_t done, sent, made;
    uint64_t skip; /* bytes of request `sent` that have left */
    /* the answer being read */
    char line[64];
    size_t line_len;
    bool in_body;
    uint64_t at; /* bytes of the value and its CRLF that have come */
};

struct load {
    struct options o;
    struct value value;
    struct choose choose;
    struct hist latency;
    struct conn *conns;
    int epoll;
    uint8_t *in, *out;
    size_t request_max; /* longest request, a large value aside */
    uint64_t now_us, began_us, until_us;
    uint64_t begun, answered, sets, hits, misses, keys_found, bytes_set, bytes_got;
};

__attribute__((noreturn)) void cannot(const char *what, const char *why);
__attribute__((noreturn)) void wrong(const struct request *r, const char *answer);
uint64_t now_us(void);

/* The next request by the rules of the run; false: the run is over. */
bool load_next(struct load *l, struct request *r);

/* Connects all; runs until no request is left or in flight. */
void conns_open(struct load *l);
void conns_run(struct load *l);
void conns_close(struct load *l);

#endif
