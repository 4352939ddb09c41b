/* SPDX-License-Identifier: MIT */
/* Listings: KEYS SCAN RANDOMKEY DBSIZE FLUSHALL FLUSHDB (and the walk that KVKEYS uses).
 *
 * A walk goes through the keys in order, some keys in a turn, and goes on behind the last key it
 * saw; keys written meanwhile may or may not be listed, keys present throughout are. Its reply is
 * collected apart, because an array begins with its length.
 */
#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/glob.h"
#include "base/number.h"
#include "server/command.h"
#include "server/reply.h"
#include "server/result.h"
#include "server/scan.h"
#include "server/server.h"

#define CURSOR_TEXT_MAX 64
#define SLICE_KEYS 256 /* between two looks at the clock */

struct walk {
    struct request *rq;
    struct evbuffer *found;
    uint64_t count, limit, seen, budget;
    uint64_t now_ms;
    bool ended;      /* no more keys */
    bool none_match; /* SCAN TYPE of a type that no key has */
    size_t last_len, prefix_len, pattern_len;
    uint8_t last[RECORD_KEY_MAX], prefix[RECORD_KEY_MAX], pattern[GLOB_PATTERN_MAX];
};

static void free_walk(void *state)
{
    struct walk *w = state;

    reply_buffer_free(w->rq->server, w->found);
    if (w->rq->server->long_listing == w)
        w->rq->server->long_listing = NULL;
    free(w);
}

static bool walk_key(void *ctx, struct slice key, const struct record *r)
{
    struct walk *w = ctx;

    if (!slice_has_prefix(key, slice_of(w->prefix, w->prefix_len))) {
        w->ended = true;
        return false;
    }
    w->seen++;
    w->last_len = key.len;
    memcpy(w->last, key.ptr, key.len);
    if (!record_expired(r, w->now_ms) && !w->none_match &&
        (w->pattern_len == 0 || glob_match(slice_of(w->pattern, w->pattern_len), key, false))) {
        struct emit e = {w->found, 2};

        emit_bulk(&e, key);
        w->count++;
    }
    return w->seen < w->budget && w->count < w->limit;
}

/* One slice of at most `keys` keys. */
static void walk_slice(struct walk *w, uint64_t keys)
{
    bool behind = w->last_len > 0;
    struct slice from =
        behind ? slice_of(w->last, w->last_len) : slice_of(w->prefix, w->prefix_len);

    w->now_ms = command_now_ms(w->rq->server);
    w->seen = 0;
    w->budget = keys;
    if (store_scan(w->rq->server->store, from, behind, walk_key, w) != 0 || w->seen < keys)
        w->ended = w->ended || w->count < w->limit;
}

static struct walk *new_walk(struct request *rq)
{
    struct walk *w = calloc(1, sizeof(*w));

    if (w == NULL)
        PANIC("out of memory for a listing");
    w->found = reply_buffer_new(rq->server);
    w->rq = rq;
    w->limit = UINT64_MAX;
    rq->state = w;
    rq->state_free = free_walk;
    return w;
}

/* While replies are many one listing goes on, up to its own limit beyond theirs; others wait. */
static bool must_pause(struct walk *w)
{
    struct server *s = w->rq->server;

    if (!replies_full(s))
        return false;
    if (s->long_listing == NULL)
        s->long_listing = w;
    return s->long_listing != w || s->reply_bytes >= REPLIES_HIGH + LISTING_BYTES_MAX;
}

/* ---- KEYS, KVKEYS ------------------------------------------------------------------------- */

static void listing_slice(struct request *rq)
{
    struct walk *w = rq->state;
    struct emit *e;

    while (!w->ended && w->count < w->limit) {
        if (rq->conn == NULL && rq->parent == NULL)
            return;
        if (must_pause(w)) {
            request_wait_replies(rq, listing_slice);
            return;
        }
        if (request_slice_over(rq)) {
            request_next_turn(rq, listing_slice);
            return;
        }
        walk_slice(w, SLICE_KEYS);
        if (evbuffer_get_length(w->found) > LISTING_BYTES_MAX) {
            request_error(rq, "ERR too many keys for one reply: use SCAN, or KVKEYS with LIMIT and "
                              "AFTER");
            return;
        }
    }
    e = request_emit(rq);
    emit_array(e, w->count);
    evbuffer_add_buffer(e->out, w->found);
}

void listing_start(struct request *rq, const struct listing_spec *spec)
{
    struct walk *w = new_walk(rq);

    ASSERT(spec->prefix.len <= RECORD_KEY_MAX && spec->after.len <= RECORD_KEY_MAX &&
           spec->pattern.len <= GLOB_PATTERN_MAX);
    w->limit = spec->limit;
    w->prefix_len = spec->prefix.len;
    w->pattern_len = spec->pattern.len;
    if (spec->prefix.len > 0)
        memcpy(w->prefix, spec->prefix.ptr, spec->prefix.len);
    if (spec->pattern.len > 0)
        memcpy(w->pattern, spec->pattern.ptr, spec->pattern.len);
    /* A page begins behind `after`, but never ahead of the prefix. */
    if (spec->after.len > 0 && slice_cmp(spec->after, spec->prefix) >= 0) {
        w->last_len = spec->after.len;
        memcpy(w->last, spec->after.ptr, spec->after.len);
    }
    listing_slice(rq);
}

/* The literal head of a pattern narrows the walk to a range of keys. */
static struct slice literal_head(struct slice pattern)
{
    size_t n = 0;

    while (n < pattern.len && n < RECORD_KEY_MAX && strchr("*?[\\", pattern.ptr[n]) == NULL)
        n++;
    return slice_of(pattern.ptr, n);
}

static bool check_pattern(struct request *rq, struct slice pattern)
{
    if (pattern.len <= GLOB_PATTERN_MAX)
        return true;
    request_error(rq, "ERR pattern is too long (maximum 1024 bytes)");
    return false;
}

static void keys_run(struct request *rq)
{
    struct listing_spec spec = {.pattern = rq->argv[1], .limit = UINT64_MAX};

    if (!check_pattern(rq, rq->argv[1]))
        return;
    spec.prefix = literal_head(rq->argv[1]);
    if (spec.pattern.len == 0) { /* the empty pattern matches no key */
        emit_array(request_emit(rq), 0);
        return;
    }
    listing_start(rq, &spec);
}

/* ---- SCAN --------------------------------------------------------------------------------- */

struct scan_cursor {
    uint64_t token;
    size_t len;
    uint8_t key[RECORD_KEY_MAX];
};

struct scan {
    uint64_t next;
    struct scan_cursor cursors[SCAN_CURSORS];
};

void listing_free(struct server *s)
{
    free(s->scan);
    s->scan = NULL;
}

static struct scan *scan_of(struct server *s)
{
    if (s->scan == NULL) {
        s->scan = calloc(1, sizeof(*s->scan));
        if (s->scan == NULL)
            PANIC("out of memory for SCAN");
    }
    return s->scan;
}

static uint64_t remember(struct server *s, struct slice key)
{
    struct scan *scan = scan_of(s);
    uint64_t token = ++scan->next;
    struct scan_cursor *c = &scan->cursors[token % SCAN_CURSORS];

    c->token = token;
    c->len = key.len;
    memcpy(c->key, key.ptr, key.len);
    return token;
}

static void recall(struct walk *w, uint64_t token)
{
    const struct scan_cursor *c = &scan_of(w->rq->server)->cursors[token % SCAN_CURSORS];

    if (token == 0 || c->token != token)
        return; /* from the start */
    w->last_len = c->len;
    memcpy(w->last, c->key, c->len);
}

static bool scan_options(struct request *rq, struct walk *w, uint64_t *keys)
{
    int64_t n;

    *keys = 10;
    for (int i = 2; i < rq->argc; i += 2) {
        if (i + 1 >= rq->argc) {
            command_syntax_error(rq);
            return false;
        }
        if (command_is(rq, i, "COUNT")) {
            if (!command_get_i64(rq, i + 1, &n))
                return false;
            if (n < 1) {
                command_syntax_error(rq);
                return false;
            }
            *keys = (uint64_t)n;
        } else if (command_is(rq, i, "MATCH")) {
            struct slice pattern = rq->argv[i + 1];

            if (!check_pattern(rq, pattern))
                return false;
            w->pattern_len = pattern.len;
            memcpy(w->pattern, pattern.ptr, pattern.len);
            w->none_match = pattern.len == 0;
        } else if (command_is(rq, i, "TYPE")) {
            w->none_match = w->none_match || !command_is(rq, i + 1, "string");
        } else {
            command_syntax_error(rq);
            return false;
        }
    }
    return true;
}

static void scan_slice(struct request *rq)
{
    struct walk *w = rq->state;
    uint64_t left = (uint64_t)rq->sum;
    struct emit *e;

    while (!w->ended && left > 0) {
        uint64_t keys = left < SLICE_KEYS ? left : SLICE_KEYS;

        if (must_pause(w) || request_slice_over(rq)) {
            rq->sum = (int64_t)left;
            if (must_pause(w))
                request_wait_replies(rq, scan_slice);
            else
                request_next_turn(rq, scan_slice);
            return;
        }
        walk_slice(w, keys);
        left -= keys;
        if (evbuffer_get_length(w->found) > LISTING_BYTES_MAX)
            break; /* the cursor goes on from here */
    }
    e = request_emit(rq);
    emit_array(e, 2);
    emit_bulkf(e, "%llu",
               w->ended ? 0ULL
                        : (unsigned long long)remember(rq->server, slice_of(w->last, w->last_len)));
    emit_array(e, w->count);
    evbuffer_add_buffer(e->out, w->found);
}

/* As strtoul reads it: "" is 0, signs and zeros may lead. */
static bool parse_cursor(struct slice text, uint64_t *out)
{
    char copy[CURSOR_TEXT_MAX];
    char *end;

    if (text.len >= sizeof(copy) || (text.len > 0 && isspace(text.ptr[0])))
        return false;
    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    errno = 0;
    *out = strtoull(copy, &end, 10);
    return errno == 0 && *end == '\0';
}

static void scan_run(struct request *rq)
{
    struct walk *w;
    uint64_t cursor, keys;

    if (!parse_cursor(rq->argv[1], &cursor)) {
        request_error(rq, "ERR invalid cursor");
        return;
    }
    w = new_walk(rq);
    if (!scan_options(rq, w, &keys))
        return;
    recall(w, cursor);
    rq->sum = keys > INT64_MAX ? INT64_MAX : (int64_t)keys;
    scan_slice(rq);
}

/* ---- the rest ----------------------------------------------------------------------------- */

static void randomkey_run(struct request *rq)
{
    uint8_t key[RECORD_KEY_MAX];
    size_t len;

    if (store_random_key(rq->server->store, command_now_ms(rq->server), key, &len) == 0)
        emit_bulk(request_emit(rq), slice_of(key, len));
    else
        emit_nil(request_emit(rq));
}

static void dbsize_run(struct request *rq)
{
    struct store_counts counts;

    store_get_counts(rq->server->store, &counts);
    emit_int(request_emit(rq), (int64_t)counts.keys);
}

static enum plan flush_plan(struct request *rq, struct entry_writer *unit)
{
    if (rq->argc > 2 ||
        (rq->argc == 2 && !command_is(rq, 1, "ASYNC") && !command_is(rq, 1, "SYNC"))) {
        command_syntax_error(rq);
        return PLAN_REPLIED;
    }
    entry_key(unit, OP_FLUSH, ENTRY_MORE, slice_of(NULL, 0));
    return PLAN_READY;
}

#define ROW(n, ar, fl, cat, grp, snc, syn, sum)                                                    \
    .name = n, .arity = ar, .flags = fl, .categories = CAT_KEYSPACE | (cat), .group = grp,         \
    .since = snc, .syntax = syn, .summary = sum

const struct command commands_scan[] = {
    {ROW("keys", 2, CMD_READONLY | CMD_LISTING, CAT_DANGEROUS, "generic", "1.0.0", "pattern",
         "Lists the keys that match a pattern, all at once."),
     .tips = "request_policy:all_shards nondeterministic_output_order", .run = keys_run},
    {ROW("scan", -2, CMD_READONLY | CMD_LISTING, 0, "generic", "2.8.0",
         "cursor [MATCH pattern] [COUNT count] [TYPE type]",
         "Lists the keys that match a pattern, page by page."),
     .tips = "nondeterministic_output request_policy:special", .run = scan_run},
    {ROW("randomkey", 1, CMD_READONLY, 0, "generic", "1.0.0", "", "Picks a key at random."),
     .tips = "request_policy:all_shards nondeterministic_output", .run = randomkey_run},
    {ROW("dbsize", 1, CMD_READONLY | CMD_FAST, 0, "server", "1.0.0", "", "Counts the keys."),
     .tips = "request_policy:all_shards response_policy:agg_sum", .run = dbsize_run},
    {ROW("flushall", -1, CMD_WRITE, CAT_DANGEROUS, "server", "1.0.0", "[ASYNC | SYNC]",
         "Removes all keys."),
     .tips = "request_policy:all_shards response_policy:all_succeeded", .plan = flush_plan,
     .result = result_ok},
    {ROW("flushdb", -1, CMD_WRITE, CAT_DANGEROUS, "server", "1.0.0", "[ASYNC | SYNC]",
         "Removes all keys; the same as FLUSHALL."),
     .tips = "request_policy:all_shards response_policy:all_succeeded", .plan = flush_plan,
     .result = result_ok},
    {.name = NULL},
};
