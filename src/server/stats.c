/* SPDX-License-Identifier: MIT */
/* One struct command_stats for each row of the command table and each subcommand, found by the
 * row's address in a table that never changes after stats_init. They are process-wide, as the
 * command table is.
 */
#include "server/stats.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "server/command.h"
#include "server/server.h"

#define SLOTS 1024 /* a power of two, several times the number of commands */

static const struct command **commands;
static struct command_stats *all;
static size_t count;
static uint16_t slots[SLOTS]; /* 1 + index into commands; 0 = empty */
static struct error_stats errors[STATS_PREFIXES];

static size_t slot_of(const struct command *cmd)
{
    return (size_t)(((uint64_t)(uintptr_t)cmd * 0x9E3779B97F4A7C15u) >> 32) & (SLOTS - 1);
}

static void add(const struct command *cmd)
{
    size_t at = slot_of(cmd);

    while (slots[at] != 0)
        at = (at + 1) & (SLOTS - 1);
    commands[count++] = cmd;
    slots[at] = (uint16_t)count;
}

static size_t count_rows(void)
{
    const struct command *cmd;
    size_t n = 0;

    for (size_t i = 0; (cmd = command_at(i)) != NULL; i++) {
        n++;
        for (const struct command *sub = cmd->subs; sub != NULL && sub->name != NULL; sub++)
            n++;
    }
    return n;
}

void stats_init(void)
{
    size_t n = count_rows();
    const struct command *cmd;

    ASSERT(n * 2 <= SLOTS && commands == NULL);
    commands = calloc(n, sizeof(struct command *));
    all = calloc(n, sizeof(*all));
    if (commands == NULL || all == NULL)
        PANIC("out of memory");
    for (size_t i = 0; (cmd = command_at(i)) != NULL; i++) {
        add(cmd);
        for (const struct command *sub = cmd->subs; sub != NULL && sub->name != NULL; sub++)
            add(sub);
    }
    ASSERT(count == n);
}

struct command_stats *stats_of(const struct command *cmd)
{
    size_t at = slot_of(cmd);

    while (slots[at] != 0 && commands[slots[at] - 1] != cmd)
        at = (at + 1) & (SLOTS - 1);
    ASSERT(slots[at] != 0);
    return &all[slots[at] - 1];
}

const struct command *stats_command_at(size_t i)
{
    return i < count ? commands[i] : NULL;
}

void stats_record(struct request *rq)
{
    struct command_stats *st = stats_of(rq->cmd);
    uint64_t now_us = server_now_us(rq->server);
    uint64_t us = now_us > rq->start_us ? now_us - rq->start_us : 0;

    if (rq->rejected) {
        st->rejected++;
        return;
    }
    if (rq->parent != NULL && rq->parent->children_dropped)
        return; /* a WATCH failed: it did not run */
    st->calls++;
    metric_add(&rq->server->metrics, METRIC_COMMANDS, 1);
    if (rq->failed)
        st->failed++;
    metric_hist_add(&st->time, us);
    stats_slowlog_add(rq, us);
    if (us >= 1000)
        stats_latency_event(rq->server, rq->cmd->flags & CMD_FAST ? "fast-command" : "command",
                            us / 1000);
}

void stats_error(struct server *s, const char *text)
{
    char prefix[STATS_PREFIX_MAX];
    size_t len = strcspn(text, " ");

    metric_add(&s->metrics, METRIC_ERRORS, 1);
    snprintf(prefix, sizeof(prefix), "%.*s", (int)(len < sizeof(prefix) ? len : sizeof(prefix) - 1),
             text);
    for (size_t i = 0; i < STATS_PREFIXES; i++) {
        if (errors[i].count == 0)
            memcpy(errors[i].prefix, prefix, sizeof(prefix));
        else if (strcmp(errors[i].prefix, prefix) != 0)
            continue;
        errors[i].count++;
        return;
    }
}

const struct error_stats *stats_error_at(size_t i)
{
    return i < STATS_PREFIXES && errors[i].count > 0 ? &errors[i] : NULL;
}

/* RESETSTAT sets the counters back, so a difference may be negative: then the tick has no rate. */
static double rate(uint64_t now, uint64_t before, double seconds)
{
    return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

void stats_sample(struct server *s)
{
    struct load_stats *l = &s->load;
    const uint64_t *v = s->metrics.v;
    uint64_t now_us = server_now_us(s);
    double seconds = l->at_us != 0 ? (double)(now_us - l->at_us) / 1e6 : 0;

    l->ops[l->next] = rate(v[METRIC_COMMANDS], l->commands, seconds);
    l->in[l->next] = rate(v[METRIC_BYTES_IN], l->bytes_in, seconds);
    l->out[l->next] = rate(v[METRIC_BYTES_OUT], l->bytes_out, seconds);
    l->next = (l->next + 1) % LOAD_SAMPLES;
    l->at_us = now_us;
    l->commands = v[METRIC_COMMANDS];
    l->bytes_in = v[METRIC_BYTES_IN];
    l->bytes_out = v[METRIC_BYTES_OUT];
}

double stats_rate(const double *samples)
{
    double sum = 0;

    for (unsigned i = 0; i < LOAD_SAMPLES; i++)
        sum += samples[i];
    return sum / LOAD_SAMPLES;
}

void stats_reset(struct server *s)
{
    memset(all, 0, count * sizeof(*all));
    memset(errors, 0, sizeof(errors));
    memset(&s->metrics, 0, sizeof(s->metrics));
    memset(&s->turns, 0, sizeof(s->turns));
}

void stats_free(struct server *s)
{
    stats_slowlog_reset(s);
    free(s->slowlog);
    free(s->latency);
    s->slowlog = NULL;
    s->latency = NULL;
}
