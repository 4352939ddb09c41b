/* SPDX-License-Identifier: MIT */
/* LATENCY: per event a ring of the latest samples, one a second (the worst of it). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/command.h"
#include "server/server.h"
#include "server/stats.h"
#include "server/text.h"

#define GRAPH_ROWS 4
#define GRAPH_COLUMNS 80
#define NAME_ROOM 32

struct sample {
    int64_t unix_s;
    uint64_t ms;
};

struct event_log {
    char name[NAME_ROOM]; /* "" = free */
    size_t count, next;   /* of samples */
    uint64_t max_ms;
    struct sample samples[LATENCY_SAMPLES];
};

struct latency {
    struct event_log events[LATENCY_EVENTS];
};

static struct event_log *find(const struct server *s, struct slice name)
{
    if (s->latency == NULL || name.len == 0)
        return NULL;
    for (size_t i = 0; i < LATENCY_EVENTS; i++)
        if (slice_eq(slice_str(s->latency->events[i].name), name))
            return &s->latency->events[i];
    return NULL;
}

static struct event_log *find_or_make(struct server *s, const char *name)
{
    struct event_log *ev;

    if (s->latency == NULL)
        s->latency = calloc(1, sizeof(*s->latency));
    ev = find(s, slice_str(name));
    if (ev != NULL || s->latency == NULL)
        return ev;
    for (size_t i = 0; i < LATENCY_EVENTS; i++) {
        ev = &s->latency->events[i];
        if (ev->name[0] == '\0') {
            snprintf(ev->name, sizeof(ev->name), "%s", name);
            return ev;
        }
    }
    return NULL;
}

/* i counts from the oldest. */
static const struct sample *sample_at(const struct event_log *ev, size_t i)
{
    return &ev->samples[(ev->next + LATENCY_SAMPLES - ev->count + i) % LATENCY_SAMPLES];
}

void stats_latency_event(struct server *s, const char *event, uint64_t ms)
{
    int64_t limit_ms = s->config->latency_threshold_ms;
    int64_t now_s = (int64_t)(clock_now_ms(&s->clock) / 1000);
    struct event_log *ev;
    struct sample *last;

    if (limit_ms == 0 || ms < (uint64_t)limit_ms)
        return;
    ev = find_or_make(s, event);
    if (ev == NULL)
        return;
    if (ms > ev->max_ms)
        ev->max_ms = ms;
    last = &ev->samples[(ev->next + LATENCY_SAMPLES - 1) % LATENCY_SAMPLES];
    if (ev->count > 0 && last->unix_s == now_s) {
        if (ms > last->ms)
            last->ms = ms;
        return;
    }
    ev->samples[ev->next] = (struct sample){now_s, ms};
    ev->next = (ev->next + 1) % LATENCY_SAMPLES;
    if (ev->count < LATENCY_SAMPLES)
        ev->count++;
}

void stats_latency_latest(struct request *rq)
{
    const struct latency *l = rq->server->latency;
    struct emit *e = request_emit(rq);
    size_t n = 0;

    for (size_t i = 0; l != NULL && i < LATENCY_EVENTS; i++)
        n += l->events[i].count > 0;
    emit_array(e, n);
    for (size_t i = 0; l != NULL && i < LATENCY_EVENTS; i++) {
        const struct event_log *ev = &l->events[i];

        if (ev->count == 0)
            continue;
        emit_array(e, 4);
        emit_bulk_str(e, ev->name);
        emit_int(e, sample_at(ev, ev->count - 1)->unix_s);
        emit_int(e, (int64_t)sample_at(ev, ev->count - 1)->ms);
        emit_int(e, (int64_t)ev->max_ms);
    }
}

void stats_latency_history(struct request *rq, struct slice event)
{
    const struct event_log *ev = find(rq->server, event);
    size_t n = ev != NULL ? ev->count : 0;
    struct emit *e = request_emit(rq);

    emit_array(e, n);
    for (size_t i = 0; i < n; i++) {
        emit_array(e, 2);
        emit_int(e, sample_at(ev, i)->unix_s);
        emit_int(e, (int64_t)sample_at(ev, i)->ms);
    }
}

int64_t stats_latency_reset(struct server *s, struct slice event)
{
    int64_t n = 0;

    for (size_t i = 0; s->latency != NULL && i < LATENCY_EVENTS; i++) {
        struct event_log *ev = &s->latency->events[i];

        if (ev->name[0] == '\0' || (event.len > 0 && !slice_eq(slice_str(ev->name), event)))
            continue;
        memset(ev, 0, sizeof(*ev));
        n++;
    }
    return n;
}

/* ---- texts for people -------------------------------------------------------------------- */

static void age_of(int64_t age_s, char *out, size_t size)
{
    if (age_s < 60)
        snprintf(out, size, "%" PRId64 "s", age_s);
    else if (age_s < 3600)
        snprintf(out, size, "%" PRId64 "m", age_s / 60);
    else if (age_s < 86400)
        snprintf(out, size, "%" PRId64 "h", age_s / 3600);
    else
        snprintf(out, size, "%" PRId64 "d", age_s / 86400);
}

/* Columns of samples, oldest left, between the lowest and the highest of them; below each column
 * its age, read downwards. */
static void draw(struct text *t, const struct event_log *ev, uint64_t low, uint64_t high,
                 int64_t now_s)
{
    size_t n = ev->count < GRAPH_COLUMNS ? ev->count : GRAPH_COLUMNS;
    size_t first = ev->count - n;
    bool more = true;
    char age[24];

    for (unsigned row = GRAPH_ROWS; row > 0; row--) {
        for (size_t i = first; i < ev->count; i++) {
            uint64_t ms = sample_at(ev, i)->ms;
            uint64_t level = high == low ? 1 : 1 + (ms - low) * (GRAPH_ROWS - 1) / (high - low);

            text_add(t, "%c", level == row ? '#' : level > row ? '|' : row == 1 ? '_' : ' ');
        }
        text_add(t, "\n");
    }
    text_add(t, "\n");
    for (size_t row = 0; more; row++) {
        more = false;
        for (size_t i = first; i < ev->count; i++) {
            age_of(now_s - sample_at(ev, i)->unix_s, age, sizeof(age));
            text_add(t, "%c", row < strlen(age) ? age[row] : ' ');
            more |= row + 1 < strlen(age);
        }
        text_add(t, "\n");
    }
}

static void range_of(const struct event_log *ev, uint64_t *low, uint64_t *high, uint64_t *mean)
{
    uint64_t sum = 0;

    *low = UINT64_MAX;
    *high = 0;
    for (size_t i = 0; i < ev->count; i++) {
        uint64_t ms = sample_at(ev, i)->ms;

        *low = ms < *low ? ms : *low;
        *high = ms > *high ? ms : *high;
        sum += ms;
    }
    *mean = sum / ev->count;
}

void stats_latency_graph(struct request *rq, struct slice event)
{
    const struct event_log *ev = find(rq->server, event);
    uint64_t low, high, mean;
    struct text t = {0};

    if (ev == NULL || ev->count == 0) {
        request_errorf(rq, "ERR No samples available for event '%.*s'",
                       (int)(event.len < ERROR_ARG_MAX ? event.len : ERROR_ARG_MAX),
                       (const char *)event.ptr);
        return;
    }
    range_of(ev, &low, &high, &mean);
    text_add(&t, "%s - high %" PRIu64 " ms, low %" PRIu64 " ms (all time high %" PRIu64 " ms)\n",
             ev->name, high, low, ev->max_ms);
    for (int i = 0; i < GRAPH_COLUMNS; i++)
        text_add(&t, "-");
    text_add(&t, "\n");
    draw(&t, ev, low, high, (int64_t)(clock_now_ms(&rq->server->clock) / 1000));
    text_reply(&t, rq);
}

static const char *advice_for(const char *event)
{
    if (strcmp(event, "event-loop") == 0)
        return "one turn of the loop took long: look for KEYS, FLUSHALL or very large MULTI in "
               "SLOWLOG, and for a machine short of CPU";
    return "a command took long from its arrival to its reply; for writes this includes the sync "
           "of the log, for large values the disk: compare SLOWLOG and INFO storage";
}

void stats_latency_doctor(struct request *rq)
{
    const struct latency *l = rq->server->latency;
    struct text t = {0};

    if (rq->server->config->latency_threshold_ms == 0)
        text_add(&t, "Latency monitoring is off. Switch it on with \"CONFIG SET "
                     "latency-monitor-threshold <milliseconds>\" and come back after a while.\n");
    for (size_t i = 0; l != NULL && i < LATENCY_EVENTS; i++) {
        const struct event_log *ev = &l->events[i];
        uint64_t low, high, mean;

        if (ev->count == 0)
            continue;
        range_of(ev, &low, &high, &mean);
        text_add(&t,
                 "%s: %zu samples, mean %" PRIu64 " ms, worst %" PRIu64 " ms, all time %" PRIu64
                 " ms: %s.\n",
                 ev->name, ev->count, mean, high, ev->max_ms, advice_for(ev->name));
    }
    if (t.len == 0)
        text_add(&t, "No latency above latency-monitor-threshold (%" PRId64 " ms) was seen.\n",
                 rq->server->config->latency_threshold_ms);
    text_reply(&t, rq);
}
