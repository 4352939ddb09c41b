/* SPDX-License-Identifier: MIT */
/* log_harness: a loop without a server, for the tests of the log.
 *
 * Purpose   an inbox, a log, and a record of every callback
 * Threads   main only; the log's own thread sends to the inbox
 * Owner     harness_fini frees everything; entries are kept as hash and length
 * Limits    HARNESS_WAIT_MS for whatever is waited for; then the test fails by harness_until
 */
#ifndef TESTS_UNIT_LOG_HARNESS_H
#define TESTS_UNIT_LOG_HARNESS_H

#include "log/log.h"

enum { HARNESS_WAIT_MS = 60000 };

struct harness_entry {
    uint64_t index, term, hash;
    size_t len;
};

struct harness {
    struct inbox *inbox;
    struct log *log;
    struct log_config config;
    char detail[LOG_DETAIL_MAX];
    struct harness_entry *entries;
    size_t count, room;
    size_t failed;
    uint64_t failed_token;
    int failed_err;
    unsigned need, restored, started;
    size_t entries_at_restore;
    bool accept; /* what on_restored answers */
    struct log_descriptor descriptor;
    int started_err;
    enum log_role role;
    uint64_t term;
    bool inside; /* a log_* call is on the stack: no callback may come */
};

/* dir NULL: no files. */
void harness_init(struct harness *h, enum log_kind kind, const char *dir);
int harness_open(struct harness *h);
/* Open, start, wait; returns what on_started said, or what open said. */
int harness_start(struct harness *h);
void harness_forget(struct harness *h); /* the record, not the log */
/* Stops, drains until stopped, closes the log. */
void harness_stop(struct harness *h);
void harness_fini(struct harness *h);

void harness_drain(struct harness *h);
/* Drains until count entries came; false after HARNESS_WAIT_MS. */
bool harness_until(struct harness *h, size_t count);
bool harness_until_snapshots(struct harness *h, uint64_t snapshots);

/* An entry of `len` bytes that says its number and is otherwise random-looking. */
void harness_fill(uint8_t *out, size_t len, uint64_t number);
int harness_propose(struct harness *h, uint64_t number, size_t len);
/* Proposes `count` with at most `window` under way, waits for all. */
bool harness_propose_all(struct harness *h, uint64_t first, size_t count, size_t len,
                         size_t window);
int harness_snapshot(struct harness *h);
/* Entry i of the record is `number` with `len` bytes. */
bool harness_is(const struct harness *h, size_t i, uint64_t number, size_t len);

#endif
