/* SPDX-License-Identifier: MIT */
#include "log_harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"

static void on_committed(void *ctx, uint64_t index, uint64_t term, struct slice entry)
{
    struct harness *h = ctx;

    if (h->inside)
        abort();
    if (h->count == h->room) {
        h->room = h->room == 0 ? 1024 : h->room * 2;
        h->entries = realloc(h->entries, h->room * sizeof(*h->entries));
    }
    h->entries[h->count++] = (struct harness_entry){
        .index = index, .term = term, .hash = hash64(entry.ptr, entry.len), .len = entry.len};
}

static void on_failed(void *ctx, uint64_t token, int err)
{
    struct harness *h = ctx;

    if (h->inside)
        abort();
    h->failed++;
    h->failed_token = token;
    h->failed_err = err;
}

static void on_role(void *ctx, enum log_role role, uint64_t term)
{
    struct harness *h = ctx;

    h->role = role;
    h->term = term;
}

static void on_need_snapshot(void *ctx)
{
    ((struct harness *)ctx)->need++;
}

static bool on_restored(void *ctx, const struct log_descriptor *d)
{
    struct harness *h = ctx;

    h->restored++;
    h->descriptor = *d;
    h->entries_at_restore = h->count;
    return h->accept;
}

static void on_started(void *ctx, int err, const char *detail)
{
    struct harness *h = ctx;

    h->started++;
    h->started_err = err;
    snprintf(h->detail, sizeof(h->detail), "%s", detail);
}

void harness_init(struct harness *h, enum log_kind kind, const char *dir)
{
    memset(h, 0, sizeof(*h));
    h->inbox = inbox_new();
    h->accept = true;
    h->config = (struct log_config){.kind = kind, .dir = dir, .node_id = 1, .inbox = h->inbox};
    h->config.segment_bytes = 1 << 20;
    h->config.cb = (struct log_callbacks){.on_committed = on_committed,
                                          .on_failed = on_failed,
                                          .on_role = on_role,
                                          .on_need_snapshot = on_need_snapshot,
                                          .on_restored = on_restored,
                                          .on_started = on_started,
                                          .ctx = h};
}

void harness_forget(struct harness *h)
{
    h->count = h->failed = h->entries_at_restore = 0;
    h->need = h->restored = h->started = 0;
    h->failed_err = h->started_err = 0;
}

int harness_open(struct harness *h)
{
    return log_open(&h->config, &h->log, h->detail);
}

void harness_drain(struct harness *h)
{
    inbox_drain(h->inbox, 1000);
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int harness_start(struct harness *h)
{
    uint64_t until = now_ms() + HARNESS_WAIT_MS;
    int rc = harness_open(h);

    if (rc == 0)
        rc = log_start(h->log);
    if (rc != 0)
        return rc;
    while (h->started == 0 && now_ms() < until) {
        inbox_wait(h->inbox, 1000);
        harness_drain(h);
    }
    return h->started == 0 ? 1 : h->started_err;
}

void harness_stop(struct harness *h)
{
    uint64_t until = now_ms() + HARNESS_WAIT_MS;

    if (h->log == NULL)
        return;
    log_stop(h->log);
    while (!log_stopped(h->log)) {
        inbox_wait(h->inbox, 1000);
        harness_drain(h);
        if (now_ms() > until)
            abort();
    }
    log_close(h->log);
    h->log = NULL;
}

void harness_fini(struct harness *h)
{
    harness_stop(h);
    inbox_free(h->inbox);
    free(h->entries);
}

bool harness_until(struct harness *h, size_t count)
{
    uint64_t until = now_ms() + HARNESS_WAIT_MS;

    while (h->count < count && now_ms() < until) {
        inbox_wait(h->inbox, 1000);
        harness_drain(h);
    }
    return h->count >= count;
}

bool harness_until_snapshots(struct harness *h, uint64_t snapshots)
{
    uint64_t until = now_ms() + HARNESS_WAIT_MS;
    struct log_stats s;

    do {
        inbox_wait(h->inbox, 10);
        harness_drain(h);
        log_stats(h->log, &s);
    } while (s.snapshots < snapshots && now_ms() < until);
    return s.snapshots >= snapshots;
}

void harness_fill(uint8_t *out, size_t len, uint64_t number)
{
    uint64_t v = number;

    for (size_t i = 0; i + 8 <= len; i += 8) {
        memcpy(out + i, &v, 8);
        v = v * 6364136223846793005u + 1442695040888963407u;
    }
}

int harness_propose(struct harness *h, uint64_t number, size_t len)
{
    uint8_t *bytes = malloc(len);
    int rc;

    harness_fill(bytes, len, number);
    h->inside = true;
    rc = log_propose(h->log, slice_of(bytes, len), number);
    h->inside = false;
    free(bytes); /* log_propose has copied it */
    return rc;
}

bool harness_propose_all(struct harness *h, uint64_t first, size_t count, size_t len, size_t window)
{
    size_t had = h->count;

    for (size_t i = 0; i < count; i++) {
        if (i >= window && !harness_until(h, had + i - window + 1))
            return false;
        if (harness_propose(h, first + i, len) != 0)
            return false;
    }
    return harness_until(h, had + count);
}

int harness_snapshot(struct harness *h)
{
    struct log_descriptor d = {.clock_ms = 7, .keys = 8, .bytes = 9, .cluster = "0123456789abcde"};
    uint8_t marker[64];
    int rc;

    d.applied = h->count > 0 ? h->entries[h->count - 1].index : 0;
    harness_fill(marker, sizeof(marker), UINT64_MAX);
    h->inside = true;
    rc = log_snapshot(h->log, &d, slice_of(marker, sizeof(marker)));
    h->inside = false;
    return rc;
}

bool harness_is(const struct harness *h, size_t i, uint64_t number, size_t len)
{
    uint8_t *bytes = malloc(len);
    uint64_t hash;

    harness_fill(bytes, len, number);
    hash = hash64(bytes, len);
    free(bytes);
    return i < h->count && h->entries[i].len == len && h->entries[i].hash == hash;
}
