/* SPDX-License-Identifier: MIT */
/* The server's own commands: CONFIG MEMORY OBJECT SLOWLOG LATENCY SHUTDOWN TIME LASTSAVE FUNCTION
 * BACKUP. INFO and COMMAND are in files of their own. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/glob.h"
#include "base/logger.h"
#include "base/number.h"
#include "server/cmd_server.h"
#include "server/conn_int.h"
#include "server/help.h"
#include "server/server.h"
#include "server/stats.h"

/* ---- CONFIG ------------------------------------------------------------------------------ */

static bool row_matches(struct request *rq, const struct config_row *row)
{
    for (int i = 2; i < rq->argc; i++)
        if (rq->argv[i].len <= GLOB_PATTERN_MAX &&
            glob_match(rq->argv[i], slice_str(row->name), true))
            return true;
    return false;
}

static void config_get_run(struct request *rq)
{
    const struct config_row *rows;
    struct emit *e = request_emit(rq);
    size_t count, matches = 0;
    char text[CONFIG_LINE_MAX];

    rows = config_table(&count);
    for (size_t i = 0; i < count; i++)
        matches += row_matches(rq, &rows[i]);
    emit_map(e, matches);
    for (size_t i = 0; i < count; i++) {
        if (!row_matches(rq, &rows[i]))
            continue;
        config_get(rq->server->config, &rows[i], text);
        emit_bulk_str(e, rows[i].name);
        emit_bulk_str(e, text);
    }
}

static void config_applied(struct server *s)
{
    const struct config *c = s->config;

    logger_set_level((enum logger_level)c->loglevel);
    s->fsm.value_max = (size_t)c->proto_max_bulk_len;
    if (s->store != NULL)
        store_set_limits(s->store, (uint64_t)c->max_store_bytes, (uint64_t)c->max_index_bytes);
    stats_slowlog_trim(s);
    for (struct conn *conn = s->conns; conn != NULL; conn = conn->next)
        conn_set_limits(conn);
}

/* Every pair is tried on a copy of the value first; nothing changes unless all of them may. */
static bool config_pair(struct request *rq, int i, bool apply)
{
    const struct config_row *row = config_find((const char *)rq->argv[i].ptr, rq->argv[i].len);
    char value[CONFIG_LINE_MAX], old[CONFIG_LINE_MAX], detail[CONFIG_DETAIL_MAX];

    if (row == NULL) {
        emit_errorf(request_emit(rq),
                    "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                    (int)(rq->argv[i].len < 128 ? rq->argv[i].len : 128),
                    (const char *)rq->argv[i].ptr);
        return false;
    }
    if (!(row->flags & CONFIG_MUTABLE)) {
        emit_errorf(request_emit(rq),
                    "ERR CONFIG SET failed (possibly related to argument '%s') - can't set "
                    "immutable config",
                    row->name);
        return false;
    }
    snprintf(value, sizeof(value), "%.*s", (int)rq->argv[i + 1].len,
             (const char *)rq->argv[i + 1].ptr);
    config_get(rq->server->config, row, old);
    if (rq->argv[i + 1].len >= sizeof(value) ||
        config_set(rq->server->config, row, value, "CONFIG SET", detail) != 0) {
        char allowed[160];

        config_allowed(row, allowed, sizeof(allowed));
        emit_errorf(request_emit(rq),
                    "ERR CONFIG SET failed (possibly related to argument '%s') - argument must be "
                    "%s",
                    row->name, allowed);
        return false;
    }
    if (!apply)
        config_set(rq->server->config, row, old, "CONFIG SET", detail);
    return true;
}

static void config_set_run(struct request *rq)
{
    if (rq->argc % 2 != 0) {
        command_wrong_arity(rq);
        return;
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 2; i < rq->argc; i += 2)
            if (!config_pair(rq, i, pass == 1))
                return;
    config_applied(rq->server);
    emit_status(request_emit(rq), "OK");
}

static void config_resetstat_run(struct request *rq)
{
    memset(&rq->server->metrics, 0, sizeof(rq->server->metrics));
    stats_reset(rq->server);
    emit_status(request_emit(rq), "OK");
}

/* ---- OBJECT, MEMORY ----------------------------------------------------------------------- */

static void object_encoding_run(struct request *rq)
{
    struct record r;
    int64_t v;

    if (!command_lookup(rq, rq->argv[2], &r))
        emit_nil(request_emit(rq));
    else if (r.kind == RECORD_INLINE && r.length <= 20 && number_parse_i64(r.data, &v))
        emit_bulk_str(request_emit(rq), "int");
    else
        emit_bulk_str(request_emit(rq), r.length <= 44 ? "embstr" : "raw");
}

static void object_refcount_run(struct request *rq)
{
    struct record r;

    if (command_lookup(rq, rq->argv[2], &r))
        emit_int(request_emit(rq), 1);
    else
        emit_nil(request_emit(rq));
}

/* Bytes on disk: the index row, and the slot of a value in a volume. */
static void memory_usage_run(struct request *rq)
{
    struct record r;

    if (!command_lookup(rq, rq->argv[2], &r)) {
        emit_nil(request_emit(rq));
        return;
    }
    emit_int(request_emit(rq), (int64_t)(record_size(&r) + rq->argv[2].len +
                                         (r.kind == RECORD_SLAB ? volume_slot(r.length) : 0)));
}

/* ---- SLOWLOG, LATENCY --------------------------------------------------------------------- */

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

static void latency_latest_run(struct request *rq)
{
    stats_latency_latest(rq);
}

static void latency_history_run(struct request *rq)
{
    stats_latency_history(rq, rq->argv[2]);
}

static void latency_reset_run(struct request *rq)
{
    int64_t n = 0;

    if (rq->argc == 2)
        n = stats_latency_reset(rq->server, slice_of(NULL, 0));
    for (int i = 2; i < rq->argc; i++)
        n += stats_latency_reset(rq->server, rq->argv[i]);
    emit_int(request_emit(rq), n);
}

static void latency_doctor_run(struct request *rq)
{
    stats_latency_doctor(rq);
}

static void latency_graph_run(struct request *rq)
{
    stats_latency_graph(rq, rq->argv[2]);
}

/* ---- FUNCTION: there are none ------------------------------------------------------------- */

static void function_flush_run(struct request *rq)
{
    emit_status(request_emit(rq), "OK");
}

static void function_list_run(struct request *rq)
{
    emit_array(request_emit(rq), 0);
}

/* ---- process ------------------------------------------------------------------------------ */

static void time_run(struct request *rq)
{
    uint64_t ms = clock_now_ms(&rq->server->clock);
    struct emit *e = request_emit(rq);

    emit_array(e, 2);
    emit_bulkf(e, "%llu", (unsigned long long)(ms / 1000));
    emit_bulkf(e, "%llu", (unsigned long long)(ms % 1000 * 1000));
}

static void lastsave_run(struct request *rq)
{
    struct store_counts counts;

    store_get_counts(rq->server->store, &counts);
    emit_int(request_emit(rq), (int64_t)(counts.last_checkpoint_ms / 1000));
}

/* Every acknowledged write is durable, so SAVE and NOSAVE end alike. There is no reply. */
static void shutdown_run(struct request *rq)
{
    bool now = false;

    for (int i = 1; i < rq->argc; i++) {
        if (command_is(rq, i, "ABORT") && rq->argc == 2) {
            request_error(rq, "ERR No shutdown in progress.");
            return;
        }
        if (command_is(rq, i, "NOW")) {
            now = true;
        } else if (!command_is(rq, i, "NOSAVE") && !command_is(rq, i, "SAVE") &&
                   !command_is(rq, i, "FORCE")) {
            command_syntax_error(rq);
            return;
        }
    }
    (void)now; /* a clean stop waits for what is in flight only */
    server_request_stop(rq->server, false);
}

static void backup_done(void *ctx, int err, const char *detail)
{
    struct request *rq = ctx;

    if (err == 0) {
        emit_status(request_emit(rq), "OK");
    } else {
        rq->failed = true;
        emit_errorf(request_emit(rq), "ERR BACKUP failed: %s", detail);
    }
    request_release(rq);
}

static void backup_run(struct request *rq)
{
    char dir[4096];
    int err;

    if (rq->argv[1].len == 0 || rq->argv[1].len >= sizeof(dir)) {
        request_error(rq, "ERR BACKUP needs the path of an empty or absent directory");
        return;
    }
    memcpy(dir, rq->argv[1].ptr, rq->argv[1].len);
    dir[rq->argv[1].len] = '\0';
    request_hold(rq);
    err = store_backup(rq->server->store, dir, backup_done, rq);
    if (err != 0) {
        request_error(rq, err == ERR_AGAIN ? "ERR a BACKUP is running" : "ERR BACKUP failed");
        request_release(rq);
    }
}

#define ADMIN (CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE)
#define ANYTIME (CMD_LOADING | CMD_STALE | CMD_UNORDERED)
#define ROW(n, ar, fl, cat, grp, snc, syn, sum, r)                                                 \
    {                                                                                              \
        .name = n, .arity = ar, .flags = fl, .categories = cat, .run = r, .group = grp,            \
        .since = snc, .syntax = syn, .summary = sum                                                \
    }
#define KEYROW(n, grp, snc, syn, sum, r)                                                           \
    {                                                                                              \
        .name = n, .arity = -3, .flags = CMD_READONLY, .categories = CAT_KEYSPACE, .first_key = 2, \
        .last_key = 2, .key_step = 1, .run = r, .group = grp, .since = snc, .syntax = syn,         \
        .summary = sum                                                                             \
    }

static const struct command subs_config[] = {
    ROW("config|get", -3, ADMIN, CAT_DANGEROUS, "server", "2.0.0", "parameter [parameter ...]",
        "Returns the effective values of configuration parameters.", config_get_run),
    ROW("config|set", -4, ADMIN, CAT_DANGEROUS, "server", "2.0.0",
        "parameter value [parameter value ...]", "Sets configuration parameters in-flight.",
        config_set_run),
    ROW("config|resetstat", 2, ADMIN, CAT_DANGEROUS, "server", "2.0.0", "",
        "Resets the server's statistics.", config_resetstat_run),
    {.name = NULL},
};
static const struct command subs_object[] = {
    KEYROW("object|encoding", "generic", "2.2.3", "key",
           "Returns the internal encoding of an object.", object_encoding_run),
    KEYROW("object|refcount", "generic", "2.2.3", "key",
           "Returns the reference count of a value of a key.", object_refcount_run),
    {.name = NULL},
};
static const struct command subs_memory[] = {
    KEYROW("memory|usage", "server", "4.0.0", "key [SAMPLES count]",
           "Estimates the space a key takes.", memory_usage_run),
    {.name = NULL},
};
static const struct command subs_slowlog[] = {
    ROW("slowlog|get", -2, ADMIN, CAT_DANGEROUS, "server", "2.2.12", "[count]",
        "Returns the slow log's entries.", slowlog_get_run),
    ROW("slowlog|len", 2, ADMIN, CAT_DANGEROUS, "server", "2.2.12", "",
        "Returns the number of entries in the slow log.", slowlog_len_run),
    ROW("slowlog|reset", 2, ADMIN, CAT_DANGEROUS, "server", "2.2.12", "",
        "Clears all entries from the slow log.", slowlog_reset_run),
    {.name = NULL},
};
static const struct command subs_latency[] = {
    ROW("latency|latest", 2, ADMIN, CAT_DANGEROUS, "server", "2.8.13", "",
        "Returns the latest latency samples for all events.", latency_latest_run),
    ROW("latency|history", 3, ADMIN, CAT_DANGEROUS, "server", "2.8.13", "event",
        "Returns timestamp-latency samples for an event.", latency_history_run),
    ROW("latency|reset", -2, ADMIN, CAT_DANGEROUS, "server", "2.8.13", "[event ...]",
        "Resets the latency data for one or more events.", latency_reset_run),
    ROW("latency|doctor", 2, ADMIN, CAT_DANGEROUS, "server", "2.8.13", "",
        "Returns a human-readable latency analysis report.", latency_doctor_run),
    ROW("latency|graph", 3, ADMIN, CAT_DANGEROUS, "server", "2.8.13", "event",
        "Returns a latency graph for an event.", latency_graph_run),
    {.name = NULL},
};
static const struct command subs_function[] = {
    ROW("function|flush", -2, CMD_NOSCRIPT, 0, "scripting", "7.0.0", "[ASYNC | SYNC]",
        "Deletes all libraries: there are none.", function_flush_run),
    ROW("function|list", -2, CMD_NOSCRIPT, 0, "scripting", "7.0.0", "",
        "Returns information about all libraries: there are none.", function_list_run),
    {.name = NULL},
};

#define CONTAINER(n, sums, s)                                                                      \
    {                                                                                              \
        .name = n, .arity = -2, .subs = s, .group = "server", .since = "2.0.0", .syntax = "",      \
        .summary = sums                                                                            \
    }
const struct command commands_server[] = {
    ROW("info", -1, ANYTIME, CAT_DANGEROUS, "server", "1.0.0", "[section [section ...]]",
        "Returns information and statistics about the server.", cmd_info_run),
    ROW("command", -1, ANYTIME, CAT_CONNECTION, "server", "2.8.13",
        "[COUNT | LIST | INFO | DOCS] [command ...]", "Returns information about all commands.",
        cmd_command_run),
    CONTAINER("config", "A container for server configuration commands.", subs_config),
    CONTAINER("object", "A container for object introspection commands.", subs_object),
    CONTAINER("memory", "A container for memory diagnostics commands.", subs_memory),
    CONTAINER("slowlog", "A container for slow log commands.", subs_slowlog),
    CONTAINER("latency", "A container for latency diagnostics commands.", subs_latency),
    CONTAINER("function", "A container for function commands.", subs_function),
    ROW("time", 1, ANYTIME | CMD_FAST, 0, "server", "2.6.0", "", "Returns the server time.",
        time_run),
    ROW("lastsave", 1, CMD_STALE | CMD_FAST | CMD_ADMIN, CAT_DANGEROUS, "server", "1.0.0", "",
        "Returns the Unix timestamp of the last checkpoint.", lastsave_run),
    ROW("shutdown", -1, ADMIN | CMD_NO_MULTI, CAT_DANGEROUS, "server", "1.0.0",
        "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", "Stops the server.", shutdown_run),
    ROW("backup", 2, CMD_ADMIN | CMD_NOSCRIPT | CMD_NO_MULTI, CAT_DANGEROUS, "server", "0.1.0",
        "directory",
        "Copies the store, while it serves, into a directory that a server can start on.",
        backup_run),
    {.name = NULL},
};
