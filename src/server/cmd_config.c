/* SPDX-License-Identifier: MIT */
/* CONFIG. SET is all or nothing: every pair is looked at before the first is stored, and storing
 * cannot fail after that but for memory. What a directive does beyond being read where it is used
 * happens in apply().
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "base/glob.h"
#include "base/logger.h"
#include "server/descriptors.h"
#include "server/help.h"
#include "server/server.h"

/* ---- GET --------------------------------------------------------------------------------- */

static bool is_glob(struct slice pattern)
{
    for (size_t i = 0; i < pattern.len; i++)
        if (pattern.ptr[i] == '*' || pattern.ptr[i] == '?' || pattern.ptr[i] == '[')
            return true;
    return false;
}

static bool same_word(struct slice a, const char *name)
{
    return a.len == strlen(name) && strncasecmp((const char *)a.ptr, name, a.len) == 0;
}

/* The argument that asks for this name, 0 = none. */
static int asked_by(const struct request *rq, const char *name)
{
    for (int i = 2; name != NULL && i < rq->argc; i++) {
        struct slice pattern = rq->argv[i];

        if (is_glob(pattern)
                ? pattern.len <= GLOB_PATTERN_MAX && glob_match(pattern, slice_str(name), true)
                : same_word(pattern, name))
            return i;
    }
    return 0;
}

/* Counts what matches, or sends it. A name asked for without a pattern is answered as it was
 * written. An alias is a name of its own. */
static size_t get_rows(struct request *rq, bool send)
{
    const struct config_row *table;
    char value[CONFIG_LINE_MAX];
    struct emit *e = request_emit(rq);
    size_t count, found = 0;

    table = config_table(&count);
    for (size_t i = 0; i < 2 * count; i++) {
        const struct config_row *row = &table[i / 2];
        const char *name = i % 2 == 0 ? row->name : row->alias;
        int arg = asked_by(rq, name);

        if (arg == 0)
            continue;
        found++;
        if (!send)
            continue;
        config_get(rq->server->config, row, value);
        emit_bulk(e, is_glob(rq->argv[arg]) ? slice_str(name) : rq->argv[arg]);
        emit_bulk_str(e, value);
    }
    return found;
}

static void get_run(struct request *rq)
{
    emit_map(request_emit(rq), get_rows(rq, false));
    get_rows(rq, true);
}

/* ---- SET --------------------------------------------------------------------------------- */

static void refuse(struct request *rq, struct slice name, const char *why)
{
    request_errorf(rq, "ERR CONFIG SET failed (possibly related to argument '%.*s') - %s",
                   (int)(name.len < ERROR_ARG_MAX ? name.len : ERROR_ARG_MAX),
                   (const char *)name.ptr, why);
}

/* Why the value cannot be; NULL: it can. buf: room for the text. */
static const char *why_not(const struct config *c, const struct config_row *row, const char *value,
                           char *buf, size_t size)
{
    static const char *const bools[] = {"yes", "no", NULL};
    const char *const *words = row->type == CONFIG_BOOL ? bools : row->words;
    size_t len;
    int64_t n;

    switch (row->type) {
    case CONFIG_INT:
    case CONFIG_BYTES:
        if (!config_number(row, value, &n) || (row->type == CONFIG_BYTES && n < 0))
            return row->type == CONFIG_INT ? "argument couldn't be parsed into an integer"
                                           : "argument must be a memory value";
        if (n < row->min || n > row->max) {
            snprintf(buf, size, "argument must be between %" PRId64 " and %" PRId64 " inclusive",
                     row->min, row->max);
            return buf;
        }
        if (row->offset == offsetof(struct config, maxclients) && !descriptors_allow(c, n))
            return "The operating system is not able to handle the specified number of clients";
        if (row->offset == offsetof(struct config, max_index_bytes) && n == 0)
            return "0 (chosen from max-store-bytes) is for the start only";
        return NULL;
    case CONFIG_BOOL:
    case CONFIG_ENUM:
        for (size_t i = 0; words[i] != NULL; i++)
            if (strcasecmp(words[i], value) == 0)
                return NULL;
        if (row->type == CONFIG_BOOL)
            return "argument must be 'yes' or 'no'";
        len = (size_t)snprintf(buf, size, "argument(s) must be one of the following: ");
        for (size_t i = 0; words[i] != NULL && len < size; i++)
            len += (size_t)snprintf(buf + len, size - len, "%s%s", i > 0 ? ", " : "", words[i]);
        return buf;
    case CONFIG_STRING:
    case CONFIG_ADDRESS:
    case CONFIG_MODE:
        return NULL;
    }
    return NULL;
}

static bool copy_value(struct slice arg, char *out)
{
    if (arg.len >= CONFIG_LINE_MAX || (arg.len > 0 && memchr(arg.ptr, '\0', arg.len) != NULL))
        return false;
    if (arg.len > 0)
        memcpy(out, arg.ptr, arg.len);
    out[arg.len] = '\0';
    return true;
}

static const struct config_row *row_of(const struct request *rq, int i)
{
    return config_find((const char *)rq->argv[i].ptr, rq->argv[i].len);
}

/* Some of what Redis can change is fixed here; who sets it to what it is meets no error. */
static bool is_so_already(const struct request *rq, int i)
{
    const struct config_row *row = row_of(rq, i);
    char value[CONFIG_LINE_MAX];

    return (row->flags & CONFIG_CONSTANT) && copy_value(rq->argv[i + 1], value) &&
           strcasecmp(value, row->def) == 0;
}

/* Can the name at argv[i] be set, and is it there for the first time? False: replied. */
static bool check_name(struct request *rq, int i)
{
    const struct config_row *row = row_of(rq, i);

    if (row == NULL) {
        request_errorf(rq, "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                       (int)(rq->argv[i].len < ERROR_ARG_MAX ? rq->argv[i].len : ERROR_ARG_MAX),
                       (const char *)rq->argv[i].ptr);
        return false;
    }
    if (!(row->flags & CONFIG_MUTABLE) && !is_so_already(rq, i)) {
        refuse(rq, rq->argv[i], "can't set immutable config");
        return false;
    }
    for (int k = 2; k < i; k += 2) {
        if (row_of(rq, k) != row)
            continue;
        refuse(rq, rq->argv[i], "duplicate parameter");
        return false;
    }
    return true;
}

static bool check_value(struct request *rq, int i)
{
    const struct config_row *row = row_of(rq, i);
    char value[CONFIG_LINE_MAX], buf[256];
    const char *why = "argument is too long or holds a zero byte";

    if (is_so_already(rq, i))
        return true;
    if (copy_value(rq->argv[i + 1], value))
        why = why_not(rq->server->config, row, value, buf, sizeof(buf));
    if (why != NULL)
        refuse(rq, slice_str(row->name), why);
    return why == NULL;
}

static void apply(struct server *s)
{
    const struct config *c = s->config;

    logger_set_level((enum logger_level)c->loglevel);
    store_set_limits(s->store, (uint64_t)c->max_store_bytes, (uint64_t)c->max_index_bytes);
    stats_slowlog_trim(s);
    for (struct conn *conn = s->conns; conn != NULL; conn = conn->next)
        conn_set_authenticated(conn, conn->authenticated || c->requirepass[0] == '\0');
}

static void set_run(struct request *rq)
{
    struct server *s = rq->server;
    char value[CONFIG_LINE_MAX], detail[CONFIG_DETAIL_MAX];
    const struct config_row *table;
    size_t count;

    if (rq->argc % 2 != 0) {
        command_syntax_error(rq);
        return;
    }
    for (int i = 2; i < rq->argc; i += 2)
        if (!check_name(rq, i))
            return;
    for (int i = 2; i < rq->argc; i += 2)
        if (!check_value(rq, i))
            return;
    table = config_table(&count);
    for (int i = 2; i < rq->argc; i += 2) {
        const struct config_row *row = row_of(rq, i);

        copy_value(rq->argv[i + 1], value);
        if (config_set(s->config, row, value, "CONFIG SET", detail) != 0) {
            refuse(rq, slice_str(row->name), "out of memory");
            return;
        }
        s->config_changed |= UINT64_C(1) << (row - table);
        LOG_NOTICE("config set directive=%s value=\"%s\" addr=%s", row->name,
                   row->flags & CONFIG_SECRET ? "(hidden)" : value,
                   rq->conn != NULL ? rq->conn->peer : "");
    }
    apply(s);
    emit_status(request_emit(rq), "OK");
}

/* ---- RESETSTAT, REWRITE, HELP ------------------------------------------------------------- */

static void resetstat_run(struct request *rq)
{
    stats_reset(rq->server);
    emit_status(request_emit(rq), "OK");
}

static void rewrite_run(struct request *rq)
{
    struct server *s = rq->server;
    char detail[CONFIG_DETAIL_MAX];

    if (s->config_file[0] == '\0') {
        request_error(rq, "ERR The server is running without a config file");
        return;
    }
    if (config_rewrite(s->config, s->config_file, s->config_changed, detail) != 0) {
        LOG_WARNING("CONFIG REWRITE failed: %s", detail);
        request_errorf(rq, "ERR Rewriting config file: %s", detail);
        return;
    }
    LOG_NOTICE("CONFIG REWRITE executed with success file=%s", s->config_file);
    emit_status(request_emit(rq), "OK");
}

static void help_run(struct request *rq)
{
    static const char *const lines[] = {
        "GET <pattern> [<pattern> ...]",
        "    Show the directives that match, with their values.",
        "SET <directive> <value> [<directive> <value> ...]",
        "    Change directives now: all of them, or none when one is wrong.",
        "RESETSTAT",
        "    Set the counters of INFO to zero.",
        "REWRITE",
        "    Write the values in force to the conf file, keeping its comments.",
        NULL,
    };

    help_reply(rq, lines);
}

#define ROW(name_, arity_, run_, tips_, since_, syntax_, summary_)                                 \
    {                                                                                              \
        .name = "config|" name_, .arity = (arity_), .tips = (tips_),                               \
        .flags = CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE, .run = (run_),                \
        .group = "server", .since = (since_), .syntax = (syntax_), .summary = (summary_)           \
    }

const struct command subs_config[] = {
    ROW("get", -3, get_run, NULL, "2.0.0", "parameter [parameter ...]",
        "Shows the directives that match and their values."),
    ROW("resetstat", 2, resetstat_run, NULL, "2.0.0", "", "Sets the counters of INFO to zero."),
    ROW("rewrite", 2, rewrite_run, NULL, "2.8.0", "",
        "Writes the values in force to the conf file."),
    ROW("set", -4, set_run, "request_policy:all_nodes response_policy:all_succeeded", "2.0.0",
        "parameter value [parameter value ...]", "Changes directives while the server runs."),
    HELP_ROW("config", 0, help_run),
    {.name = NULL},
};
