/* SPDX-License-Identifier: MIT */
/* SLOWLOG and LATENCY over what stats.h keeps. */
#include "server/help.h"
#include "server/server.h"

/* ---- SLOWLOG ----------------------------------------------------------------------------- */

static void slowlog_get_run(struct request *rq)
{
    int64_t limit = 10;

    if (rq->argc > 3) {
        help_wrong_sub(rq);
        return;
    }
    if (rq->argc == 3 && !command_get_range(rq, 2, -1, INT64_MAX, &limit,
                                            "ERR count should be greater than or equal to -1"))
        return;
    stats_slowlog_get(rq, limit);
}

static void slowlog_len_run(struct request *rq)
{
    emit_int(request_emit(rq), (int64_t)stats_slowlog_len(rq->server));
}

static void slowlog_reset_run(struct request *rq)
{
    stats_slowlog_reset(rq->server);
    emit_status(request_emit(rq), "OK");
}

static void slowlog_help_run(struct request *rq)
{
    static const char *const lines[] = {
        "GET [<count>]",
        "    Show the latest <count> slow commands (10; -1 is all). Of each: number,",
        "    Unix time, microseconds, arguments, address and name of the client.",
        "LEN",
        "    Count the slow commands that are kept.",
        "RESET",
        "    Forget them.",
        NULL,
    };

    help_reply(rq, lines);
}

#define SLOW_ROW(name_, arity_, run_, tips_, syntax_, summary_)                                    \
    {                                                                                              \
        .name = "slowlog|" name_, .arity = (arity_), .flags = CMD_ADMIN | CMD_LOADING | CMD_STALE, \
        .tips = "request_policy:all_nodes " tips_, .run = (run_), .group = "server",               \
        .since = "2.2.12", .syntax = (syntax_), .summary = (summary_)                              \
    }
#define ALL_SUCCEEDED "response_policy:all_succeeded"

const struct command subs_slowlog[] = {
    SLOW_ROW("get", -2, slowlog_get_run, "nondeterministic_output", "[count]",
             "Shows the latest slow commands."),
    SLOW_ROW("len", 2, slowlog_len_run, "response_policy:agg_sum nondeterministic_output", "",
             "Counts the slow commands that are kept."),
    SLOW_ROW("reset", 2, slowlog_reset_run, ALL_SUCCEEDED, "", "Forgets the slow commands."),
    HELP_ROW("slowlog", 0, slowlog_help_run),
    {.name = NULL},
};

/* ---- LATENCY ----------------------------------------------------------------------------- */

static void latest_run(struct request *rq)
{
    stats_latency_latest(rq);
}

static void history_run(struct request *rq)
{
    stats_latency_history(rq, rq->argv[2]);
}

static void graph_run(struct request *rq)
{
    stats_latency_graph(rq, rq->argv[2]);
}

static void doctor_run(struct request *rq)
{
    stats_latency_doctor(rq);
}

static void reset_run(struct request *rq)
{
    int64_t n = 0;

    if (rq->argc == 2)
        n = stats_latency_reset(rq->server, slice_of(NULL, 0));
    for (int i = 2; i < rq->argc; i++)
        if (rq->argv[i].len > 0)
            n += stats_latency_reset(rq->server, rq->argv[i]);
    emit_int(request_emit(rq), n);
}

/* Cumulative: how many calls took at most so many µs. */
static void emit_histogram(struct emit *e, const struct command *c, const struct metric_hist *h)
{
    size_t buckets = 0;
    uint64_t sum = 0;

    for (unsigned i = 0; i < METRIC_BUCKETS; i++)
        buckets += h->bucket[i] > 0;
    emit_bulk_str(e, c->name);
    emit_map(e, 2);
    emit_bulk_str(e, "calls");
    emit_int(e, (int64_t)h->count);
    emit_bulk_str(e, "histogram_usec");
    emit_map(e, buckets);
    for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
        sum += h->bucket[i];
        if (h->bucket[i] == 0)
            continue;
        emit_int(e, INT64_C(1) << i);
        emit_int(e, (int64_t)sum);
    }
}

/* Counts a command and its subcommands as far as they were called, or sends them. */
static size_t histograms_of(struct emit *e, const struct command *c, bool send)
{
    size_t n = stats_of(c)->time.count > 0;

    if (n > 0 && send)
        emit_histogram(e, c, &stats_of(c)->time);
    for (const struct command *sub = c->subs; sub != NULL && sub->name != NULL; sub++)
        n += histograms_of(e, sub, send);
    return n;
}

static size_t histograms(struct request *rq, bool send)
{
    struct emit *e = request_emit(rq);
    const struct command *c;
    size_t n = 0;

    for (size_t i = 0; rq->argc == 2 && (c = command_at(i)) != NULL; i++)
        n += histograms_of(e, c, send);
    for (int i = 2; i < rq->argc; i++)
        if ((c = command_find_full(rq->argv[i])) != NULL)
            n += histograms_of(e, c, send);
    return n;
}

static void histogram_run(struct request *rq)
{
    emit_map(request_emit(rq), histograms(rq, false));
    histograms(rq, true);
}

static void latency_help_run(struct request *rq)
{
    static const char *const lines[] = {
        "DOCTOR",
        "    Say in words what was slow.",
        "GRAPH <event>",
        "    Draw the samples of <event>.",
        "HISTORY <event>",
        "    Show the samples of <event>: Unix time and milliseconds.",
        "LATEST",
        "    Show the last sample of every event.",
        "RESET [<event> ...]",
        "    Forget the samples of these events, or of all.",
        "HISTOGRAM [COMMAND ...]",
        "    Show how long calls of these commands took, or of all.",
        NULL,
    };

    help_reply(rq, lines);
}

#define REPORT "nondeterministic_output request_policy:all_nodes response_policy:special"
#define ROW(name_, arity_, run_, tips_, since_, syntax_, summary_)                                 \
    {                                                                                              \
        .name = "latency|" name_, .arity = (arity_), .tips = (tips_),                              \
        .flags = CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE, .run = (run_),                \
        .group = "server", .since = (since_), .syntax = (syntax_), .summary = (summary_)           \
    }

const struct command subs_latency[] = {
    ROW("doctor", 2, doctor_run, REPORT, "2.8.13", "", "Says in words what was slow."),
    ROW("graph", 3, graph_run, REPORT, "2.8.13", "event", "Draws the samples of an event."),
    ROW("histogram", -2, histogram_run, REPORT, "7.0.0", "[command ...]",
        "Shows how long calls of commands took."),
    ROW("history", 3, history_run, REPORT, "2.8.13", "event", "Shows the samples of an event."),
    ROW("latest", 2, latest_run, REPORT, "2.8.13", "", "Shows the last sample of every event."),
    ROW("reset", -2, reset_run, "request_policy:all_nodes " ALL_SUCCEEDED, "2.8.13", "[event ...]",
        "Forgets the samples of events."),
    HELP_ROW("latency", 0, latency_help_run),
    {.name = NULL},
};
