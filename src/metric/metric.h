/* SPDX-License-Identifier: MIT */
/* metric: the server's counters, once.
 *
 * Purpose   one table gives the INFO field, its section and its meaning; the loop counts
 * Threads   loop
 * Units     counts, unless the name says otherwise
 */
#ifndef METRIC_METRIC_H
#define METRIC_METRIC_H

#include <stddef.h>
#include <stdint.h>

/* id, INFO section, INFO field, meaning */
#define METRIC_TABLE(X)                                                                            \
    X(CONNECTIONS, "stats", "total_connections_received", "connections accepted")                  \
    X(REJECTED, "stats", "rejected_connections", "closed at once: maxclients or protected mode")   \
    X(COMMANDS, "stats", "total_commands_processed", "commands answered")                          \
    X(BYTES_IN, "stats", "total_net_input_bytes", "bytes received from clients")                   \
    X(BYTES_OUT, "stats", "total_net_output_bytes", "bytes sent to clients")                       \
    X(ERRORS, "stats", "total_error_replies", "error replies sent")                                \
    X(PROTOCOL_ERRORS, "stats", "protocol_errors", "connections closed for malformed input")       \
    X(HITS, "stats", "keyspace_hits", "look-ups that found the key")                               \
    X(MISSES, "stats", "keyspace_misses", "look-ups that did not")                                 \
    X(TIMEOUT_IDLE, "stats", "closed_idle", "connections closed: timeout")                         \
    X(TIMEOUT_PROGRESS, "stats", "closed_no_progress", "connections closed: progress-timeout")     \
    X(CUT_DAMAGED, "stats", "closed_value_damaged",                                                \
      "connections closed: a value failed in mid-reply")                                           \
    X(CUT_GONE, "stats", "closed_value_gone",                                                      \
      "connections closed: a value was deleted in mid-reply")                                      \
    X(AUTH_FAILURES, "stats", "auth_failures", "wrong passwords")                                  \
    X(MATCH_KEYS, "kvcache", "kvmatch_keys", "keys asked for by KVMATCH")                          \
    X(MATCH_HITS, "kvcache", "kvmatch_hits", "keys KVMATCH found in the leading run")              \
    X(STORES, "kvcache", "kv_stores", "values stored by KVSTORE")                                  \
    X(LOADS, "kvcache", "kv_loads", "values read by KVGET and KVRANGE")                            \
    X(CORRUPT, "kvcache", "corrupt_misses", "values whose digest was wrong: answered as a miss")   \
    X(REBUILDS, "kvcache", "rebuilds", "values rebuilt for APPEND, SETRANGE, COPY, RENAME")

enum metric {
#define X(id, section, field, meaning) METRIC_##id,
    METRIC_TABLE(X)
#undef X
        METRIC_COUNT
};

struct metrics {
    uint64_t v[METRIC_COUNT];
};

struct metric_row {
    const char *section, *field, *meaning;
};

const struct metric_row *metric_row(enum metric m);

/* Times in µs by powers of two: LATENCY HISTOGRAM, INFO latencystats. */
#define METRIC_BUCKETS 40
struct metric_hist {
    uint64_t count, sum_us, max_us;
    uint64_t bucket[METRIC_BUCKETS]; /* [i]: ≤ 2^i µs, more than 2^(i-1) */
};

void metric_hist_add(struct metric_hist *h, uint64_t us);
/* Upper bound of the bucket that holds the quantile (0…1), 0 when empty. */
uint64_t metric_hist_quantile(const struct metric_hist *h, double q);

static inline void metric_add(struct metrics *m, enum metric id, uint64_t n)
{
    m->v[id] += n;
}

#endif
