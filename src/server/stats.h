/* SPDX-License-Identifier: MIT */
/* stats: what each command cost: INFO commandstats, latencystats, SLOWLOG, LATENCY.
 *
 * Purpose   counts calls, time and failures per command; keeps the slow ones
 * Threads   loop
 * Units     µs from the start of a command to its reply in the output (waiting for the log and the
 *           disk included, the client's own slowness not)
 * Limits    slowlog-max-len entries; 32 arguments of 128 bytes each, as Redis; latency events keep
 *           160 samples
 */
#ifndef SERVER_STATS_H
#define SERVER_STATS_H

#include "metric/metric.h"
#include "server/request.h"

struct command_stats {
    uint64_t calls, failed, rejected;
    struct metric_hist time;
};

void stats_init(void); /* after the command table */
void stats_record(struct request *rq);
struct command_stats *stats_of(const struct command *cmd);
void stats_reset(void); /* CONFIG RESETSTAT */

/* SLOWLOG GET/LEN/RESET, LATENCY …: replies. */
void stats_slowlog_get(struct request *rq, int64_t limit);
size_t stats_slowlog_len(const struct server *s);
void stats_slowlog_reset(struct server *s);

/* A latency event in ms (event loop, fork-like pauses): recorded above latency-monitor-threshold. */
void stats_latency_event(struct server *s, const char *event, uint64_t ms);
void stats_latency_latest(struct request *rq);
void stats_latency_history(struct request *rq, struct slice event);
int64_t stats_latency_reset(struct server *s, struct slice event); /* empty = all; count */
void stats_free(struct server *s);

#endif
