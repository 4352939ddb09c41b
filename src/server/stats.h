/* SPDX-License-Identifier: MIT */
/* stats: what each command cost: INFO commandstats, latencystats, errorstats, SLOWLOG, LATENCY.
 *
 * Purpose   counts calls, time and failures per command, error replies per prefix; keeps the slow
 *           commands (slowlog.c) and the events of the loop that took long (latency.c)
 * Threads   loop
 * Units     µs from the start of a command to its reply in the output (waiting for the log and the
 *           disk included, the client's own slowness not)
 * Limits    slowlog-max-len entries; 32 arguments of 128 bytes each, as Redis; LATENCY_EVENTS
 *           events keep LATENCY_SAMPLES samples; STATS_PREFIXES error prefixes
 * Secrets   passwords in AUTH, HELLO and CONFIG SET are kept as "(redacted)"
 */
#ifndef SERVER_STATS_H
#define SERVER_STATS_H

#include "metric/metric.h"
#include "server/request.h"

#define STATS_PREFIXES 32
#define STATS_PREFIX_MAX 32
#define LATENCY_EVENTS 16
#define LATENCY_SAMPLES 160

struct command_stats {
    uint64_t calls, failed, rejected;
    struct metric_hist time;
};

#define LOAD_SAMPLES 16

/* Rates of the last LOAD_SAMPLES timer ticks, for INFO. */
struct load_stats {
    uint64_t at_us, commands, bytes_in, bytes_out;                 /* at the last tick */
    double ops[LOAD_SAMPLES], in[LOAD_SAMPLES], out[LOAD_SAMPLES]; /* per second */
    unsigned next;
    uint64_t memory_peak;
};

struct error_stats {
    char prefix[STATS_PREFIX_MAX];
    uint64_t count;
};

void stats_init(void); /* after the command table */
void stats_record(struct request *rq);
struct command_stats *stats_of(const struct command *cmd);
/* Commands and subcommands in table order; i from 0; NULL = end. */
const struct command *stats_command_at(size_t i);
void stats_reset(struct server *s); /* CONFIG RESETSTAT */
void stats_free(struct server *s);

/* An error reply: its first word counts. */
void stats_error(struct server *s, const char *text);
const struct error_stats *stats_error_at(size_t i); /* i from 0; NULL = end */

void stats_sample(struct server *s); /* each timer tick */
double stats_rate(const double *samples);

/* slowlog.c */
void stats_slowlog_add(struct request *rq, uint64_t us);   /* if it is slow enough */
void stats_slowlog_get(struct request *rq, int64_t limit); /* newest first; -1 = all */
size_t stats_slowlog_len(const struct server *s);
void stats_slowlog_reset(struct server *s);
void stats_slowlog_trim(struct server *s); /* slowlog-max-len has changed */

/* latency.c: an event in ms (a loop turn, a command), kept from latency-monitor-threshold on. */
void stats_latency_event(struct server *s, const char *event, uint64_t ms);
void stats_latency_latest(struct request *rq);
void stats_latency_history(struct request *rq, struct slice event);
void stats_latency_graph(struct request *rq, struct slice event);
void stats_latency_doctor(struct request *rq);
int64_t stats_latency_reset(struct server *s, struct slice event); /* empty = all; count */

#endif
