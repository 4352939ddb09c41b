/* SPDX-License-Identifier: MIT */
/* The server's own commands: SHUTDOWN TIME LASTSAVE FUNCTION BACKUP, and the table of the group.
 * INFO, COMMAND, CONFIG, MEMORY, OBJECT, SLOWLOG, LATENCY, DEBUG are in files of their own.
 */
#include "server/cmd_server.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "base/logger.h"
#include "server/help.h"
#include "server/server.h"

/* ---- FUNCTION: there are none, but clients flush them --------------------------------------- */

static void function_flush_run(struct request *rq)
{
    if (rq->argc > 3)
        help_wrong_sub(rq);
    else if (rq->argc == 3 && !command_is(rq, 2, "sync") && !command_is(rq, 2, "async"))
        request_error(rq, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
    else
        emit_status(request_emit(rq), "OK");
}

static void function_list_run(struct request *rq)
{
    bool name = false, code = false;

    for (int i = 2; i < rq->argc; i++) {
        if (!code && command_is(rq, i, "withcode")) {
            code = true;
        } else if (!name && command_is(rq, i, "libraryname")) {
            name = true;
            if (++i == rq->argc) {
                request_error(rq, "ERR library name argument was not given");
                return;
            }
        } else {
            request_errorf(rq, "ERR Unknown argument %.*s",
                           (int)(rq->argv[i].len < ERROR_ARG_MAX ? rq->argv[i].len : ERROR_ARG_MAX),
                           (const char *)rq->argv[i].ptr);
            return;
        }
    }
    emit_array(request_emit(rq), 0);
}

static void function_stats_run(struct request *rq)
{
    struct emit *e = request_emit(rq);

    emit_map(e, 2);
    emit_bulk_str(e, "running_script");
    emit_nil(e);
    emit_bulk_str(e, "engines");
    emit_map(e, 0);
}

static void function_help_run(struct request *rq)
{
    static const char *const lines[] = {
        "FLUSH [ASYNC|SYNC]",
        "    Answer OK: there are no libraries.",
        "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
        "    Answer an empty list.",
        "STATS",
        "    Tell that nothing runs and that there is no engine.",
        NULL,
    };

    help_reply(rq, lines);
}

#define FUNCTION_ROW(name_, arity_, flags_, run_, tips_, syntax_, summary_)                        \
    {                                                                                              \
        .name = "function|" name_, .arity = (arity_), .flags = CMD_NOSCRIPT | (flags_),            \
        .categories = CAT_SCRIPTING, .tips = (tips_), .run = (run_), .group = "scripting",         \
        .since = "7.0.0", .syntax = (syntax_), .summary = (summary_)                               \
    }

static const struct command subs_function[] = {
    FUNCTION_ROW("flush", -2, CMD_WRITE, function_flush_run,
                 "request_policy:all_shards response_policy:all_succeeded", "[ASYNC | SYNC]",
                 "Does nothing: there are no libraries."),
    FUNCTION_ROW("list", -2, 0, function_list_run, "nondeterministic_output_order",
                 "[LIBRARYNAME library-name] [WITHCODE]",
                 "Answers an empty list: there are no libraries."),
    FUNCTION_ROW("stats", 2, CMD_ALLOW_BUSY, function_stats_run,
                 "nondeterministic_output request_policy:all_shards response_policy:special", "",
                 "Tells that no function runs."),
    HELP_ROW("function", CAT_SCRIPTING, function_help_run),
    {.name = NULL},
};

/* ---- process ------------------------------------------------------------------------------ */

/* The clock that expiry goes by. */
static void time_run(struct request *rq)
{
    const struct clock *c = &rq->server->clock;
    struct emit *e = request_emit(rq);

    emit_array(e, 2);
    emit_bulkf(e, "%" PRIu64, clock_now_ms(c) / 1000);
    emit_bulkf(e, "%" PRIu64, clock_now_ms(c) % 1000 * 1000 + c->carry_us % 1000);
}

static void lastsave_run(struct request *rq)
{
    struct store_counts counts;
    uint64_t ms;

    store_get_counts(rq->server->store, &counts);
    ms = counts.last_checkpoint_ms > 0 ? counts.last_checkpoint_ms : rq->server->start_ms;
    emit_int(request_emit(rq), (int64_t)(ms / 1000));
}

/* Every acknowledged write is durable, there are no replicas to wait for and nothing that could
 * make the stop fail: SAVE, NOSAVE, NOW and FORCE end alike. There is no reply; the connection is
 * closed when the server is gone. */
static void shutdown_run(struct request *rq)
{
    bool save = false, nosave = false, abort_it = false;

    for (int i = 1; i < rq->argc; i++) {
        if (command_is(rq, i, "save")) {
            save = true;
        } else if (command_is(rq, i, "nosave")) {
            nosave = true;
        } else if (command_is(rq, i, "abort")) {
            abort_it = true;
        } else if (!command_is(rq, i, "now") && !command_is(rq, i, "force")) {
            command_syntax_error(rq);
            return;
        }
    }
    if ((save && nosave) || (abort_it && rq->argc > 2)) {
        command_syntax_error(rq);
    } else if (abort_it) {
        request_error(rq, "ERR No shutdown in progress.");
    } else {
        LOG_NOTICE("SHUTDOWN addr=%s", rq->conn != NULL ? rq->conn->peer : "");
        server_request_stop(rq->server, false);
    }
}

/* ---- BACKUP ------------------------------------------------------------------------------- */

static void on_backup(void *ctx, int err, const char *detail)
{
    struct request *rq = ctx;

    if (err == 0)
        emit_status(request_emit(rq), "OK");
    else
        request_errorf(rq, "ERR BACKUP failed: %s", detail);
    request_release(rq);
}

static void backup_run(struct request *rq)
{
    struct slice arg = rq->argv[1];
    char dir[4096];
    int err;

    if (arg.len == 0 || arg.len >= sizeof(dir) || memchr(arg.ptr, '\0', arg.len) != NULL) {
        request_error(rq, "ERR BACKUP needs the path of an empty or absent directory");
        return;
    }
    memcpy(dir, arg.ptr, arg.len);
    dir[arg.len] = '\0';
    request_hold(rq);
    err = store_backup(rq->server->store, dir, on_backup, rq);
    if (err == 0)
        return;
    if (err == ERR_AGAIN)
        request_error(rq, "ERR a BACKUP is running already: INFO storage shows how far it is");
    else
        request_errorf(rq, "ERR BACKUP failed: %s", err_text(err));
    request_release(rq);
}

/* ---- the table ---------------------------------------------------------------------------- */

#define ADMIN (CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE)
#define ANYTIME (CMD_LOADING | CMD_STALE)
#define ROW(name_, arity_, flags_, cat_, tips_, since_, syntax_, summary_, run_)                   \
    {                                                                                              \
        .name = (name_), .arity = (arity_), .flags = (flags_), .categories = (cat_),               \
        .tips = (tips_), .group = "server", .since = (since_), .syntax = (syntax_),                \
        .summary = (summary_), .run = (run_)                                                       \
    }
#define VARIES "nondeterministic_output"
#define CONTAINER(name_, group_, since_, subs_, summary_)                                          \
    {                                                                                              \
        .name = (name_), .arity = -2, .subs = (subs_), .group = (group_), .since = (since_),       \
        .syntax = "", .summary = (summary_)                                                        \
    }

const struct command commands_server[] = {
    {.name = "command",
     .arity = -1,
     .flags = ANYTIME,
     .categories = CAT_CONNECTION,
     .tips = "nondeterministic_output_order",
     .run = cmd_command_run,
     .subs = subs_command,
     .group = "server",
     .since = "2.8.13",
     .syntax = "",
     .summary = "Describes every command."},
    ROW("info", -1, ANYTIME, CAT_DANGEROUS,
        "nondeterministic_output request_policy:all_shards response_policy:special", "1.0.0",
        "[section ...]", "Shows the state of the server, section by section.", cmd_info_run),
    CONTAINER("config", "server", "2.0.0", subs_config, "Shows the directives and changes them."),
    CONTAINER("memory", "server", "4.0.0", subs_memory, "Shows where memory goes."),
    CONTAINER("object", "generic", "2.2.3", subs_object, "Looks at how a value is kept."),
    CONTAINER("slowlog", "server", "2.2.12", subs_slowlog, "Shows the commands that took long."),
    CONTAINER("latency", "server", "2.8.13", subs_latency, "Shows what made clients wait."),
    CONTAINER("function", "scripting", "7.0.0", subs_function,
              "Answers tools that look for functions; none exist."),
    ROW("debug", -2, ADMIN, 0, NULL, "1.0.0", "subcommand [arg ...]",
        "Serves tests; see enable-debug-command.", cmd_debug_run),
    ROW("time", 1, ANYTIME | CMD_FAST, 0, VARIES, "2.6.0", "", "Tells the time of the server.",
        time_run),
    ROW("lastsave", 1, ANYTIME | CMD_FAST, CAT_ADMIN, VARIES, "1.0.0", "",
        "Tells when the last checkpoint was written.", lastsave_run),
    ROW("shutdown", -1, ADMIN | CMD_NO_MULTI | CMD_ALLOW_BUSY, 0, NULL, "1.0.0",
        "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", "Stops the server; nothing acknowledged is lost.",
        shutdown_run),
    ROW("backup", 2, CMD_ADMIN | CMD_NOSCRIPT | CMD_NO_MULTI, 0, NULL, "0.1.0", "directory",
        "Copies the store, while it serves, to a new directory.", backup_run),
    {.name = NULL},
};
