/* SPDX-License-Identifier: MIT */
/* Commands of one connection: PING ECHO SELECT QUIT RESET AUTH HELLO. CLIENT is in cmd_client.c.
 *
 * Inside EXEC these run when the entry is applied; the connection may be gone by then.
 */
#include <stdio.h>

#include "base/number.h"
#include "server/client.h"
#include "server/server.h"
#include "server/tx.h"
#include "server/version.h"

static void ping_run(struct request *rq)
{
    if (rq->argc > 2)
        command_wrong_arity(rq);
    else if (rq->argc == 2)
        emit_bulk(request_emit(rq), rq->argv[1]);
    else
        emit_status(request_emit(rq), "PONG");
}

static void echo_run(struct request *rq)
{
    emit_bulk(request_emit(rq), rq->argv[1]);
}

static void select_run(struct request *rq)
{
    int db;

    if (!command_get_int(rq, 1, &db))
        return;
    if (db != 0)
        request_error(rq, "ERR DB index is out of range");
    else
        emit_status(request_emit(rq), "OK");
}

static void quit_run(struct request *rq)
{
    emit_status(request_emit(rq), "OK");
    if (rq->conn != NULL)
        conn_close_after_reply(rq->conn);
}

static void reset_run(struct request *rq)
{
    struct conn *c = rq->conn;

    if (c == NULL)
        return;
    tx_discard(c);
    c->name[0] = '\0';
    c->proto = rq->proto = 2;
    c->reply_mode = CONN_REPLY_ON;
    rq->discard = false;
    c->no_evict = c->no_touch = false;
    conn_set_authenticated(c, c->server->config->requirepass[0] == '\0');
    emit_status(request_emit(rq), "RESET");
}

/* ---- AUTH, HELLO ------------------------------------------------------------------------- */

/* How long it takes tells nothing about the secret but what the caller sent. */
static bool same_secret(struct slice given, const char *secret)
{
    size_t len = strlen(secret);
    unsigned diff = given.len != len;

    for (size_t i = 0; i < given.len; i++)
        diff |= (unsigned)(given.ptr[i] ^ (uint8_t)secret[len > 0 ? i % len : 0]);
    return diff == 0;
}

/* The one user is "default"; without requirepass any password is right. False: replied. */
static bool authenticate(struct request *rq, struct slice user, struct slice password)
{
    struct server *s = rq->server;
    const char *secret = s->config->requirepass;

    if (slice_eq(user, slice_str("default")) &&
        (secret[0] == '\0' || same_secret(password, secret))) {
        conn_set_authenticated(rq->conn, true);
        return true;
    }
    metric_add(&s->metrics, METRIC_AUTH_FAILURES, 1);
    request_error(rq, "WRONGPASS invalid username-password pair or user is disabled.");
    return false;
}

static void auth_run(struct request *rq)
{
    struct slice user = slice_str("default");

    if (rq->conn == NULL)
        return;
    if (rq->argc > 3) {
        command_syntax_error(rq);
        return;
    }
    if (rq->argc == 2 && rq->server->config->requirepass[0] == '\0') {
        request_error(rq, "ERR AUTH <password> called without any password configured for the "
                          "default user. Are you sure your configuration is correct?");
        return;
    }
    if (rq->argc == 3)
        user = rq->argv[1];
    if (authenticate(rq, user, rq->argv[rq->argc - 1]))
        emit_status(request_emit(rq), "OK");
}

/* One after the other, and what came before a wrong one stays. False: replied. */
static bool hello_options(struct request *rq)
{
    int i = 2;

    while (i < rq->argc) {
        int more = rq->argc - 1 - i;

        if (command_is(rq, i, "auth") && more >= 2) {
            if (!authenticate(rq, rq->argv[i + 1], rq->argv[i + 2]))
                return false;
            i += 3;
        } else if (command_is(rq, i, "setname") && more >= 1) {
            if (!client_check_name(rq, rq->argv[i + 1]))
                return false;
            client_set_name(rq->conn, rq->argv[i + 1]);
            i += 2;
        } else {
            struct slice option = rq->argv[i];

            request_errorf(rq, "ERR Syntax error in HELLO option '%.*s'",
                           (int)(option.len < ERROR_ARG_MAX ? option.len : ERROR_ARG_MAX),
                           (const char *)option.ptr);
            return false;
        }
    }
    return true;
}

static void reply_hello(struct request *rq)
{
    struct emit *e = request_emit(rq);

    emit_map(e, 7);
    emit_bulk_str(e, "server");
    emit_bulk_str(e, "redis"); /* clients look for it */
    emit_bulk_str(e, "version");
    emit_bulk_str(e, SERVER_REDIS_VERSION);
    emit_bulk_str(e, "proto");
    emit_int(e, rq->proto);
    emit_bulk_str(e, "id");
    emit_int(e, (int64_t)rq->conn->id);
    emit_bulk_str(e, "mode");
    emit_bulk_str(e, "standalone");
    emit_bulk_str(e, "role");
    emit_bulk_str(e, "master");
    emit_bulk_str(e, "modules");
    emit_array(e, 0);
}

static void hello_run(struct request *rq)
{
    struct conn *c = rq->conn;
    int64_t proto = rq->proto;

    if (c == NULL)
        return;
    if (rq->argc > 1 &&
        !command_get_range(rq, 1, INT64_MIN, INT64_MAX, &proto,
                           "ERR Protocol version is not an integer or out of range"))
        return;
    if (proto < 2 || proto > 3) {
        request_error(rq, "NOPROTO unsupported protocol version");
        return;
    }
    if (!hello_options(rq))
        return;
    if (!c->authenticated) {
        request_error(rq, "NOAUTH HELLO must be called with the client already authenticated, "
                          "otherwise the HELLO AUTH <user> <pass> option can be used to "
                          "authenticate the client and select the RESP protocol version at the "
                          "same time");
        return;
    }
    c->proto = rq->proto = (int)proto;
    reply_hello(rq);
}

#define SESSION (CMD_NOSCRIPT | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_NO_AUTH | CMD_ALLOW_BUSY)
const struct command commands_conn[] = {
    {.name = "ping",
     .arity = -1,
     .flags = CMD_FAST | CMD_UNORDERED,
     .categories = CAT_CONNECTION,
     .tips = "request_policy:all_shards response_policy:all_succeeded",
     .run = ping_run,
     .group = "connection",
     .since = "1.0.0",
     .syntax = "[message]",
     .summary = "Shows that the server answers."},
    {.name = "echo",
     .arity = 2,
     .flags = CMD_LOADING | CMD_STALE | CMD_FAST | CMD_UNORDERED,
     .categories = CAT_CONNECTION,
     .run = echo_run,
     .group = "connection",
     .since = "1.0.0",
     .syntax = "message",
     .summary = "Sends its argument back."},
    {.name = "select",
     .arity = 2,
     .flags = CMD_LOADING | CMD_STALE | CMD_FAST,
     .categories = CAT_CONNECTION,
     .run = select_run,
     .group = "connection",
     .since = "1.0.0",
     .syntax = "index",
     .summary = "Accepts database 0, the only one."},
    {.name = "quit",
     .arity = -1,
     .flags = SESSION | CMD_IMMEDIATE,
     .categories = CAT_CONNECTION,
     .run = quit_run,
     .group = "connection",
     .since = "1.0.0",
     .syntax = "",
     .summary = "Ends the connection once its replies are sent."},
    {.name = "reset",
     .arity = 1,
     .flags = SESSION | CMD_IMMEDIATE,
     .categories = CAT_CONNECTION,
     .run = reset_run,
     .group = "connection",
     .since = "6.2.0",
     .syntax = "",
     .summary = "Makes the connection like a new one."},
    {.name = "hello",
     .arity = -1,
     .flags = SESSION,
     .categories = CAT_CONNECTION,
     .run = hello_run,
     .group = "connection",
     .since = "6.0.0",
     .syntax = "[protover [AUTH username password] [SETNAME clientname]]",
     .summary = "Chooses RESP2 or RESP3, and may log in."},
    {.name = "auth",
     .arity = -2,
     .flags = SESSION,
     .categories = CAT_CONNECTION,
     .run = auth_run,
     .group = "connection",
     .since = "1.0.0",
     .syntax = "[username] password",
     .summary = "Logs in with the password."},
    {.name = "client",
     .arity = -2,
     .subs = subs_client,
     .group = "connection",
     .since = "2.4.0",
     .syntax = "",
     .summary = "Looks at connections and changes them."},
    {.name = NULL},
};
