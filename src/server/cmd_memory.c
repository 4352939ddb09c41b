/* SPDX-License-Identifier: MIT */
/* MEMORY and OBJECT: what a key costs and how its value is kept.
 *
 * A value is an inline record in the index or a record with a slot in a volume; the encodings that
 * OBJECT names are what Redis would use for it.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "base/number.h"
#include "server/help.h"
#include "server/memory.h"
#include "server/server.h"
#include "server/text.h"
#include "server/value.h"

#define INT_TEXT_MAX 20 /* "-9223372036854775808" */
#define EMBSTR_MAX 44
#define SHARED_INTS 10000

/* ---- OBJECT ------------------------------------------------------------------------------ */

static bool is_int(unsigned flags, struct slice data, int64_t *v)
{
    return flags == 0 && data.ptr != NULL && number_parse_i64(data, v);
}

const char *memory_encoding(unsigned flags, struct slice data)
{
    int64_t v;

    if (is_int(flags, data, &v))
        return "int";
    return !(flags & RECORD_RAW) && data.len <= EMBSTR_MAX ? "embstr" : "raw";
}

/* Calls cb with the value; without its bytes where it is too long for a number. rq->sum: the
 * record's flags. */
static void with_value(struct request *rq, value_cb cb)
{
    struct record r;
    int err;

    if (!command_lookup(rq, rq->argv[2], &r)) {
        emit_nil(request_emit(rq));
        return;
    }
    rq->sum = r.flags;
    if (r.length > INT_TEXT_MAX) {
        cb(rq, 0, slice_of(NULL, r.length));
        return;
    }
    err = value_load(rq, rq->argv[2], &r, cb);
    if (err == ERR_AGAIN && rq->server->state != SERVER_STOPPED)
        request_wait_memory(rq, rq->cmd->run);
    else if (err != 0)
        cb(rq, err, slice_of(NULL, 0));
}

static void encoding_loaded(struct request *rq, int err, struct slice data)
{
    if (err != 0)
        emit_nil(request_emit(rq));
    else
        emit_bulk_str(request_emit(rq), memory_encoding((unsigned)rq->sum, data));
}

static void encoding_run(struct request *rq)
{
    with_value(rq, encoding_loaded);
}

/* Redis shares the objects of small numbers. */
static void refcount_loaded(struct request *rq, int err, struct slice data)
{
    int64_t v;
    bool shared = is_int((unsigned)rq->sum, data, &v) && v >= 0 && v < SHARED_INTS;

    if (err != 0)
        emit_nil(request_emit(rq));
    else
        emit_int(request_emit(rq), shared ? INT32_MAX : 1);
}

static void refcount_run(struct request *rq)
{
    with_value(rq, refcount_loaded);
}

/* Reads leave no time behind, so this is the age of the value. */
static void idletime_run(struct request *rq)
{
    struct record r;
    uint64_t now_ms = clock_now_ms(&rq->server->clock);

    if (!command_lookup(rq, rq->argv[2], &r))
        emit_nil(request_emit(rq));
    else
        emit_int(request_emit(rq),
                 now_ms > r.created_ms ? (int64_t)((now_ms - r.created_ms) / 1000) : 0);
}

static void freq_run(struct request *rq)
{
    struct record r;

    if (!command_lookup(rq, rq->argv[2], &r))
        emit_nil(request_emit(rq));
    else
        request_error(rq, "ERR An LFU maxmemory policy is not selected, access frequency not "
                          "tracked. Please note that when switching between policies at runtime "
                          "LRU and LFU data will take some time to adjust.");
}

static void object_help_run(struct request *rq)
{
    static const char *const lines[] = {
        "ENCODING <key>",
        "    Name the encoding that Redis would use for the value of <key>.",
        "FREQ <key>",
        "    Fail: uses of a key are not counted.",
        "IDLETIME <key>",
        "    Tell how many seconds ago the value of <key> was written.",
        "REFCOUNT <key>",
        "    Answer 1 when <key> is there.",
        NULL,
    };

    help_reply(rq, lines);
}

#define OBJECT_ROW(name_, run_, since_, summary_)                                                  \
    {                                                                                              \
        .name = "object|" name_, .arity = 3, .flags = CMD_READONLY, .categories = CAT_KEYSPACE,    \
        .first_key = 2, .last_key = 2, .key_step = 1, .keys = "RO",                                \
        .tips = "nondeterministic_output", .run = (run_), .group = "generic", .since = (since_),   \
        .syntax = "key", .summary = (summary_)                                                     \
    }

const struct command subs_object[] = {
    OBJECT_ROW("encoding", encoding_run, "2.2.3",
               "Names the encoding that Redis would use for a value."),
    OBJECT_ROW("freq", freq_run, "4.0.0", "Fails: uses of a key are not counted."),
    OBJECT_ROW("idletime", idletime_run, "2.2.3",
               "Tells how many seconds ago a value was written."),
    OBJECT_ROW("refcount", refcount_run, "2.2.3", "Answers 1 for a key that is there."),
    HELP_ROW("object", CAT_KEYSPACE, object_help_run),
    {.name = NULL},
};

/* ---- MEMORY USAGE: on disk, where values live --------------------------------------------- */

static void usage_run(struct request *rq)
{
    struct record r;
    int64_t samples;

    for (int i = 3; i < rq->argc; i += 2) {
        if (!command_is(rq, i, "samples") || i + 1 >= rq->argc) {
            command_syntax_error(rq);
            return;
        }
        if (!command_get_i64(rq, i + 1, &samples))
            return;
        if (samples < 0) {
            command_syntax_error(rq);
            return;
        }
    }
    if (!command_peek(rq, rq->argv[2], &r)) {
        emit_nil(request_emit(rq));
        return;
    }
    emit_int(request_emit(rq), (int64_t)(record_size(&r) + rq->argv[2].len +
                                         (r.kind == RECORD_SLAB ? volume_slot(r.length) : 0)));
}

/* ---- MEMORY STATS ------------------------------------------------------------------------- */

struct figure {
    const char *name;
    bool ratio;
    double value;
};

#define COUNT(name_, v) ((struct figure){name_, false, (double)(v)})
#define RATIO(name_, v) ((struct figure){name_, true, (v)})

static double share(uint64_t a, uint64_t b)
{
    return b > 0 ? (double)a / (double)b : 0;
}

static double over(uint64_t a, uint64_t b)
{
    return (double)a - (double)b;
}

static void stats_run(struct request *rq)
{
    struct server *s = rq->server;
    struct emit *e = request_emit(rq);
    struct store_counts c;
    struct tier_stats tier;
    struct memory m;

    memory_read(s, &m);
    store_get_counts(s->store, &c);
    tier_get_stats(s->tier, &tier);
    if (m.used > s->load.memory_peak)
        s->load.memory_peak = m.used;

    const struct figure figures[] = {
        COUNT("peak.allocated", s->load.memory_peak),
        COUNT("total.allocated", m.used),
        COUNT("startup.allocated", 0),
        COUNT("clients.normal", m.clients),
        COUNT("overhead.total", m.clients + c.table_bytes),
        COUNT("keys.count", c.keys),
        COUNT("keys.bytes-per-key", c.keys > 0 ? c.bytes / c.keys : 0),
        COUNT("dataset.bytes", c.bytes),
        RATIO("dataset.percentage", 100 * share(tier.bytes, m.used)),
        RATIO("peak.percentage", 100 * share(m.used, s->load.memory_peak)),
        COUNT("table.keys", c.table_keys),
        COUNT("table.bytes", c.table_bytes),
        COUNT("payload.used", m.payload_used),
        COUNT("payload.kept", m.payload_kept),
        COUNT("payload.limit", m.payload_limit),
        COUNT("payload.cached", tier.bytes),
        COUNT("allocator.allocated", m.allocated),
        COUNT("allocator.active", m.active),
        COUNT("allocator.resident", m.resident),
        RATIO("allocator-fragmentation.ratio", share(m.active, m.allocated)),
        COUNT("allocator-fragmentation.bytes", over(m.active, m.allocated)),
        RATIO("allocator-rss.ratio", share(m.resident, m.active)),
        COUNT("allocator-rss.bytes", over(m.resident, m.active)),
        RATIO("rss-overhead.ratio", share(m.rss, m.resident)),
        COUNT("rss-overhead.bytes", over(m.rss, m.resident)),
        RATIO("fragmentation", share(m.rss, m.used)),
        COUNT("fragmentation.bytes", over(m.rss, m.used)),
    };

    emit_map(e, sizeof(figures) / sizeof(figures[0]));
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        emit_bulk_str(e, figures[i].name);
        if (figures[i].ratio)
            emit_double(e, figures[i].value);
        else
            emit_int(e, (int64_t)figures[i].value);
    }
}

/* ---- MEMORY DOCTOR and the allocator ------------------------------------------------------ */

static void doctor_run(struct request *rq)
{
    struct server *s = rq->server;
    struct store_counts c;
    struct memory m;
    struct text t = {0};

    memory_read(s, &m);
    store_get_counts(s->store, &c);
    if (m.payload_used + m.payload_kept > m.payload_limit - m.payload_limit / 10)
        text_add(&t,
                 "Payload memory is nearly used up (%" PRIu64 " of %" PRIu64 " bytes): it is "
                 "a cache and gives way, but large values wait for it. Raise max-memory-bytes "
                 "if clients are slow to be served.\n",
                 m.payload_used + m.payload_kept, m.payload_limit);
    if (m.clients > (UINT64_C(64) << 20))
        text_add(&t,
                 "Connections hold %" PRIu64 " bytes: look in CLIENT LIST for clients that do "
                 "not take their replies (omem).\n",
                 m.clients);
    if (m.active > m.allocated + m.allocated / 2 && m.active - m.allocated > (UINT64_C(64) << 20))
        text_add(&t,
                 "The allocator is fragmented (%" PRIu64 " bytes active for %" PRIu64
                 " allocated): MEMORY PURGE gives some back.\n",
                 m.active, m.allocated);
    if (m.rss > m.system - m.system / 10)
        text_add(&t, "This process uses nearly all of the machine's memory: lower "
                     "max-memory-bytes.\n");
    if (t.len == 0)
        text_add(&t,
                 "No problem found: %" PRIu64 " bytes in use, %" PRIu64 " resident, %" PRIu64
                 " keys.\n",
                 m.used, m.rss, c.keys);
    text_reply(&t, rq);
}

static void malloc_stats_run(struct request *rq)
{
    struct text t = {0};

    memory_report(&t);
    text_reply(&t, rq);
}

static void purge_run(struct request *rq)
{
    memory_purge();
    emit_status(request_emit(rq), "OK");
}

static void memory_help_run(struct request *rq)
{
    static const char *const lines[] = {
        "DOCTOR",
        "    Say in words whether memory is short, and why.",
        "MALLOC-STATS",
        "    Show the statistics of the allocator.",
        "PURGE",
        "    Have the allocator give unused memory back.",
        "STATS",
        "    Show what memory is used for.",
        "USAGE <key> [SAMPLES <count>]",
        "    Tell how many bytes of the disk <key> and its value take.",
        NULL,
    };

    help_reply(rq, lines);
}

#define MEMORY_ROW(name_, run_, tips_, summary_)                                                   \
    {                                                                                              \
        .name = "memory|" name_, .arity = 2, .tips = (tips_), .run = (run_), .group = "server",    \
        .since = "4.0.0", .syntax = "", .summary = (summary_)                                      \
    }
#define REPORT_TIPS "nondeterministic_output request_policy:all_shards response_policy:special"

const struct command subs_memory[] = {
    MEMORY_ROW("doctor", doctor_run, REPORT_TIPS,
               "Says in words whether memory is short, and why."),
    MEMORY_ROW("malloc-stats", malloc_stats_run, REPORT_TIPS,
               "Shows the statistics of the allocator."),
    MEMORY_ROW("purge", purge_run, "request_policy:all_shards response_policy:all_succeeded",
               "Has the allocator give unused memory back."),
    MEMORY_ROW("stats", stats_run, REPORT_TIPS, "Shows what memory is used for."),
    {.name = "memory|usage",
     .arity = -3,
     .flags = CMD_READONLY,
     .first_key = 2,
     .last_key = 2,
     .key_step = 1,
     .keys = "RO",
     .run = usage_run,
     .group = "server",
     .since = "4.0.0",
     .syntax = "key [SAMPLES count]",
     .summary = "Tells how many bytes of the disk a key takes."},
    HELP_ROW("memory", 0, memory_help_run),
    {.name = NULL},
};
