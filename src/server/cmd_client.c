/* SPDX-License-Identifier: MIT */
/* CLIENT. There is one kind of client ("normal"): no replicas, no pub/sub. Inside EXEC the
 * connection may be gone when a subcommand runs; then nobody reads its reply.
 */
#include <event2/buffer.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/number.h"
#include "server/client.h"
#include "server/conn_int.h"
#include "server/help.h"
#include "server/server.h"
#include "server/text.h"

/* ---- names ------------------------------------------------------------------------------- */

static bool printable(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < '!' || s.ptr[i] > '~')
            return false;
    return true;
}

bool client_check_name(struct request *rq, struct slice name)
{
    if (!printable(name)) {
        request_error(rq, "ERR Client names cannot contain spaces, newlines or special "
                          "characters.");
        return false;
    }
    if (name.len >= CONN_NAME_MAX) {
        request_errorf(rq, "ERR Client names cannot be longer than %d bytes.", CONN_NAME_MAX - 1);
        return false;
    }
    return true;
}

static void put_word(char *out, struct slice s)
{
    if (s.len > 0)
        memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
}

void client_set_name(struct conn *c, struct slice name)
{
    put_word(c->name, name);
}

static void setname_run(struct request *rq)
{
    if (rq->conn == NULL || !client_check_name(rq, rq->argv[2]))
        return;
    client_set_name(rq->conn, rq->argv[2]);
    emit_status(request_emit(rq), "OK");
}

static void getname_run(struct request *rq)
{
    if (rq->conn == NULL || rq->conn->name[0] == '\0')
        emit_nil(request_emit(rq));
    else
        emit_bulk_str(request_emit(rq), rq->conn->name);
}

static void setinfo_run(struct request *rq)
{
    struct conn *c = rq->conn;
    bool is_name = command_is(rq, 2, "lib-name");
    struct slice option = rq->argv[2], value = rq->argv[3];

    if (c == NULL)
        return;
    if (!is_name && !command_is(rq, 2, "lib-ver")) {
        request_errorf(rq, "ERR Unrecognized option '%.*s'",
                       (int)(option.len < ERROR_ARG_MAX ? option.len : ERROR_ARG_MAX),
                       (const char *)option.ptr);
    } else if (!printable(value) || value.len >= sizeof(c->lib_name)) {
        request_errorf(rq, "ERR %s cannot contain spaces, newlines or special characters.",
                       is_name ? "lib-name" : "lib-ver");
    } else {
        put_word(is_name ? c->lib_name : c->lib_ver, value);
        emit_status(request_emit(rq), "OK");
    }
}

/* ---- INFO, LIST -------------------------------------------------------------------------- */

static bool watch_touched(const struct conn *c)
{
    const struct conn_watch *w = c->watch;

    while (w != NULL && !w->touched)
        w = w->next;
    return w != NULL;
}

static void describe(struct text *t, struct conn *c)
{
    uint64_t now_ms = clock_now_ms(&c->server->clock);
    size_t out = evbuffer_get_length(c->out);
    char flags[8];
    size_t n = 0;

    if (c->in_multi)
        flags[n++] = 'x';
    if (watch_touched(c))
        flags[n++] = 'd';
    if (c->state == CONN_CLOSING)
        flags[n++] = 'c';
    if (c->unix_socket)
        flags[n++] = 'U';
    if (c->no_evict)
        flags[n++] = 'e';
    if (c->no_touch)
        flags[n++] = 'T';
    if (n == 0)
        flags[n++] = 'N';
    flags[n] = '\0';
    text_add(t,
             "id=%" PRIu64 " addr=%s laddr=%s fd=%d name=%s age=%" PRIu64 " idle=%" PRIu64
             " flags=%s db=0 sub=0 psub=0 ssub=0 multi=%d",
             c->id, c->peer, c->local_addr, c->fd, c->name, (now_ms - c->created_ms) / 1000,
             (now_ms - c->last_ms) / 1000, flags,
             c->multi != NULL ? (int)c->multi->child_count : -1);
    text_add(t,
             " qbuf=%zu qbuf-free=0 argv-mem=%zu multi-mem=0 rbs=0 rbp=0 obl=%zu oll=0 omem=%zu"
             " tot-mem=%zu events=%s%s cmd=%s user=default redir=-1 resp=%d",
             c->in_len, parse_memory(&c->parse), out, out, conn_memory(c), c->reading ? "r" : "",
             c->writing ? "w" : "", c->last_cmd, c->proto);
    if (c->lib_name[0] != '\0')
        text_add(t, " lib-name=%s", c->lib_name);
    if (c->lib_ver[0] != '\0')
        text_add(t, " lib-ver=%s", c->lib_ver);
    text_add(t, "\n");
}

static void info_run(struct request *rq)
{
    struct text t = {0};

    if (rq->conn != NULL)
        describe(&t, rq->conn);
    text_reply(&t, rq);
}

static struct conn *find_conn(const struct server *s, int64_t id)
{
    for (struct conn *c = s->conns; c != NULL; c = c->next)
        if (c->id == (uint64_t)id)
            return c;
    return NULL;
}

/* The type in argument i. False: replied. *normal: our clients are of it. */
static bool get_type(struct request *rq, int i, bool *normal)
{
    static const char *const others[] = {"slave", "replica", "pubsub", "master"};
    struct slice word = rq->argv[i];

    *normal = number_is_word(word, "normal");
    if (*normal)
        return true;
    for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++)
        if (number_is_word(word, others[k]))
            return true;
    request_errorf(rq, "ERR Unknown client type '%.*s'",
                   (int)(word.len < ERROR_ARG_MAX ? word.len : ERROR_ARG_MAX),
                   (const char *)word.ptr);
    return false;
}

static void list_ids(struct request *rq)
{
    struct text t = {0};

    for (int i = 3; i < rq->argc; i++) {
        struct conn *c;
        int64_t id;

        if (!number_parse_i64(rq->argv[i], &id)) {
            text_fini(&t);
            request_error(rq, "ERR Invalid client ID");
            return;
        }
        c = find_conn(rq->server, id);
        if (c != NULL)
            describe(&t, c);
    }
    text_reply(&t, rq);
}

static void list_run(struct request *rq)
{
    struct text t = {0};
    bool normal = true;

    if (rq->argc > 3 && command_is(rq, 2, "id")) {
        list_ids(rq);
        return;
    }
    if (rq->argc == 4 && command_is(rq, 2, "type")) {
        if (!get_type(rq, 3, &normal))
            return;
    } else if (rq->argc != 2) {
        command_syntax_error(rq);
        return;
    }
    for (struct conn *c = rq->server->conns; normal && c != NULL; c = c->next)
        describe(&t, c);
    text_reply(&t, rq);
}

static void id_run(struct request *rq)
{
    emit_int(request_emit(rq), rq->conn != NULL ? (int64_t)rq->conn->id : 0);
}

/* ---- KILL -------------------------------------------------------------------------------- */

struct kill {
    int64_t id;               /* 0 = any */
    struct slice addr, laddr; /* ptr NULL = any */
    bool normal, skip_me;
};

static bool parse_kill_pair(struct request *rq, int i, struct kill *k)
{
    struct slice value = rq->argv[i + 1];

    if (command_is(rq, i, "id"))
        return command_get_range(rq, i + 1, 1, INT64_MAX, &k->id,
                                 "ERR client-id should be greater than 0");
    if (command_is(rq, i, "type"))
        return get_type(rq, i + 1, &k->normal);
    if (command_is(rq, i, "addr")) {
        k->addr = value;
    } else if (command_is(rq, i, "laddr")) {
        k->laddr = value;
    } else if (command_is(rq, i, "user")) {
        if (!slice_eq(value, slice_str("default"))) {
            request_errorf(rq, "ERR No such user '%.*s'",
                           (int)(value.len < ERROR_ARG_MAX ? value.len : ERROR_ARG_MAX),
                           (const char *)value.ptr);
            return false;
        }
    } else if (command_is(rq, i, "skipme") &&
               (number_is_word(value, "yes") || number_is_word(value, "no"))) {
        k->skip_me = number_is_word(value, "yes");
    } else {
        command_syntax_error(rq);
        return false;
    }
    return true;
}

static bool kill_matches(const struct conn *c, const struct kill *k)
{
    return k->normal && (k->id == 0 || c->id == (uint64_t)k->id) &&
           (k->addr.ptr == NULL || slice_eq(slice_str(c->peer), k->addr)) &&
           (k->laddr.ptr == NULL || slice_eq(slice_str(c->local_addr), k->laddr));
}

static int64_t kill_all(struct request *rq, const struct kill *k)
{
    struct conn *me = rq->conn;
    struct conn *next;
    int64_t killed = 0;

    for (struct conn *c = rq->server->conns; c != NULL; c = next) {
        next = c->next;
        if (!kill_matches(c, k) || (c == me && k->skip_me))
            continue;
        killed++;
        if (c == me)
            conn_close_after_reply(c);
        else
            conn_close(c, "CLIENT KILL");
    }
    return killed;
}

static void kill_run(struct request *rq)
{
    struct kill k = {.normal = true, .skip_me = rq->argc > 3};
    int64_t killed;

    if (rq->argc == 3)
        k.addr = rq->argv[2];
    for (int i = 2; rq->argc > 3 && i < rq->argc; i += 2) {
        if (i + 1 >= rq->argc) {
            command_syntax_error(rq);
            return;
        }
        if (!parse_kill_pair(rq, i, &k))
            return;
    }
    killed = kill_all(rq, &k);
    if (rq->argc > 3)
        emit_int(request_emit(rq), killed);
    else if (killed > 0)
        emit_status(request_emit(rq), "OK");
    else
        request_error(rq, "ERR No such client");
}

/* ---- PAUSE, REPLY and switches ------------------------------------------------------------ */

static void pause_run(struct request *rq)
{
    struct server *s = rq->server;
    bool all = true;
    int64_t ms;
    uint64_t end_ms;

    if (rq->argc > 4) {
        help_wrong_sub(rq);
        return;
    }
    if (rq->argc == 4 && command_is(rq, 3, "write")) {
        all = false;
    } else if (rq->argc == 4 && !command_is(rq, 3, "all")) {
        request_error(rq, "ERR CLIENT PAUSE mode must be WRITE or ALL");
        return;
    }
    if (!command_get_range(rq, 2, INT64_MIN, INT64_MAX, &ms,
                           "ERR timeout is not an integer or out of range"))
        return;
    end_ms = clock_now_ms(&s->clock);
    if (ms < 0 || (uint64_t)ms > (uint64_t)INT64_MAX - end_ms) {
        request_error(rq, ms < 0 ? "ERR timeout is negative" : "ERR timeout is out of range");
        return;
    }
    end_ms += (uint64_t)ms;
    s->pause_all = all || (s->pause_until_ms != 0 && s->pause_all);
    if (end_ms > s->pause_until_ms)
        s->pause_until_ms = end_ms;
    emit_status(request_emit(rq), "OK");
}

static void unpause_run(struct request *rq)
{
    struct server *s = rq->server;

    s->pause_until_ms = 0;
    s->pause_all = false;
    for (struct conn *c = s->conns; c != NULL; c = c->next)
        conn_resume(c);
    emit_status(request_emit(rq), "OK");
}

/* In a MULTI: of the commands behind it nothing is sent. */
static void mute_rest(struct request *rq)
{
    for (struct request *next = rq->next; rq->parent != NULL && next != NULL; next = next->next)
        next->discard = true;
}

static void reply_run(struct request *rq)
{
    struct conn *c = rq->conn;

    if (c == NULL)
        return;
    if (command_is(rq, 2, "on")) {
        c->reply_mode = CONN_REPLY_ON;
        rq->discard = false;
        emit_status(request_emit(rq), "OK");
    } else if (command_is(rq, 2, "off")) {
        c->reply_mode = CONN_REPLY_OFF;
        mute_rest(rq);
    } else if (command_is(rq, 2, "skip")) {
        if (c->reply_mode != CONN_REPLY_OFF)
            c->reply_mode = CONN_REPLY_SKIP;
    } else {
        command_syntax_error(rq);
    }
}

static void switch_run(struct request *rq, bool *at)
{
    if (command_is(rq, 2, "on")) {
        *at = true;
    } else if (command_is(rq, 2, "off")) {
        *at = false;
    } else {
        command_syntax_error(rq);
        return;
    }
    emit_status(request_emit(rq), "OK");
}

static void no_evict_run(struct request *rq)
{
    if (rq->conn != NULL)
        switch_run(rq, &rq->conn->no_evict);
}

static void no_touch_run(struct request *rq)
{
    if (rq->conn != NULL)
        switch_run(rq, &rq->conn->no_touch);
}

/* Nothing blocks here. */
static void unblock_run(struct request *rq)
{
    int64_t id;

    if (rq->argc > 4) {
        help_wrong_sub(rq);
        return;
    }
    if (rq->argc == 4 && !command_is(rq, 3, "timeout") && !command_is(rq, 3, "error")) {
        request_error(rq, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        return;
    }
    if (command_get_i64(rq, 2, &id))
        emit_int(request_emit(rq), 0);
}

/* ---- client side caching: none ------------------------------------------------------------ */

static void tracking_run(struct request *rq)
{
    if (command_is(rq, 2, "off") && rq->argc == 3)
        emit_status(request_emit(rq), "OK");
    else if (command_is(rq, 2, "on"))
        request_error(rq, "ERR client side caching is not supported: this server sends no "
                          "invalidation messages");
    else
        command_syntax_error(rq);
}

static void caching_run(struct request *rq)
{
    request_error(rq, "ERR CLIENT CACHING can be called only when the client is in tracking mode "
                      "with OPTIN or OPTOUT mode enabled");
}

static void getredir_run(struct request *rq)
{
    emit_int(request_emit(rq), -1);
}

static void trackinginfo_run(struct request *rq)
{
    struct emit *e = request_emit(rq);

    emit_map(e, 3);
    emit_bulk_str(e, "flags");
    emit_set(e, 1);
    emit_bulk_str(e, "off");
    emit_bulk_str(e, "redirect");
    emit_int(e, -1);
    emit_bulk_str(e, "prefixes");
    emit_array(e, 0);
}

static void help_run(struct request *rq)
{
    static const char *const lines[] = {
        "CACHING (YES|NO)",
        "    Fail: there is no client side caching.",
        "GETREDIR",
        "    Answer -1: there is no client side caching.",
        "GETNAME",
        "    Show the name of this connection.",
        "ID",
        "    Show the number of this connection.",
        "INFO",
        "    Show what LIST says of this connection.",
        "KILL <ip:port>",
        "    Close the connection from there.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Close the connections that every option fits:",
        "    * ADDR (<ip:port>|<unixsocket>:0)",
        "      the client's end is this",
        "    * LADDR (<ip:port>|<unixsocket>:0)",
        "      the server's end is this",
        "    * ID <client-id>",
        "      its number is this",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      it is of this kind; here all are NORMAL",
        "    * USER <username>",
        "      it has logged in as this user",
        "    * SKIPME (YES|NO)",
        "      NO: this connection too, if it fits (default: YES)",
        "LIST [options ...]",
        "    Show the connections, one a line. Options:",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      those of this kind; here all are NORMAL",
        "    * ID <client-id> [<client-id> ...]",
        "      those with these numbers",
        "UNPAUSE",
        "    End a PAUSE before its time.",
        "PAUSE <timeout> [WRITE|ALL]",
        "    Let writes, or all commands, wait for <timeout> milliseconds.",
        "REPLY (ON|OFF|SKIP)",
        "    Send replies, send none, or leave out that of the next command.",
        "SETINFO (LIB-NAME|LIB-VER) <value>",
        "    Note the name or the version of the client library, for LIST.",
        "SETNAME <name>",
        "    Name this connection, for LIST.",
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        "    Answer 0: no command blocks.",
        "TRACKING (ON|OFF)",
        "    Fail for ON: there is no client side caching.",
        "TRACKINGINFO",
        "    Show that there is no client side caching.",
        "NO-EVICT (ON|OFF)",
        "    Mark this connection in LIST, no more.",
        "NO-TOUCH (ON|OFF)",
        "    With ON, what this connection reads is not spared from eviction.",
        NULL,
    };

    help_reply(rq, lines);
}

#define PLAIN (CMD_NOSCRIPT | CMD_LOADING | CMD_STALE)
#define FIELDS(name_, arity_, flags_, run_, since_, syntax_, summary_)                             \
    .name = "client|" name_, .arity = (arity_), .flags = (flags_), .categories = CAT_CONNECTION,   \
    .run = (run_), .group = "connection", .since = (since_), .syntax = (syntax_),                  \
    .summary = (summary_)
#define ROW(...)                                                                                   \
    {                                                                                              \
        FIELDS(__VA_ARGS__)                                                                        \
    }
#define VARIES .tips = "nondeterministic_output"

const struct command subs_client[] = {
    ROW("caching", 3, PLAIN, caching_run, "6.0.0", "YES | NO",
        "Fails: there is no client side caching."),
    ROW("getname", 2, PLAIN, getname_run, "2.6.9", "", "Shows the name of this connection."),
    ROW("getredir", 2, PLAIN, getredir_run, "6.0.0", "",
        "Answers -1: there is no client side caching."),
    ROW("id", 2, PLAIN, id_run, "5.0.0", "", "Shows the number of this connection."),
    {FIELDS("info", 2, PLAIN, info_run, "6.2.0", "",
            "Shows what CLIENT LIST says of this connection."),
     VARIES},
    ROW("kill", -3, PLAIN | CMD_ADMIN, kill_run, "2.4.0",
        "[ip:port] [ID client-id] [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [USER username] "
        "[ADDR ip:port] [LADDR ip:port] [SKIPME yes/no]",
        "Closes the connections that match."),
    {FIELDS("list", -2, PLAIN | CMD_ADMIN, list_run, "2.4.0",
            "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
            "Shows the connections, one a line."),
     VARIES},
    ROW("no-evict", 3, PLAIN | CMD_ADMIN, no_evict_run, "7.0.0", "ON | OFF",
        "Marks this connection in CLIENT LIST, no more."),
    ROW("no-touch", 3, PLAIN, no_touch_run, "7.2.0", "ON | OFF",
        "Reads without sparing what is read from eviction."),
    ROW("pause", -3, PLAIN | CMD_ADMIN, pause_run, "2.9.50", "timeout [WRITE | ALL]",
        "Lets writes, or all commands, wait for a while."),
    ROW("reply", 3, PLAIN, reply_run, "3.2.0", "ON | OFF | SKIP",
        "Turns replies off, on, or off for one command."),
    ROW("setinfo", 4, PLAIN, setinfo_run, "7.2.0", "LIB-NAME libname | LIB-VER libver",
        "Notes the name or version of the client library."),
    ROW("setname", 3, PLAIN, setname_run, "2.6.9", "connection-name", "Names this connection."),
    ROW("tracking", -3, PLAIN, tracking_run, "6.0.0", "ON | OFF",
        "Accepts OFF; there is no client side caching."),
    ROW("trackinginfo", 2, PLAIN, trackinginfo_run, "6.2.0", "",
        "Tells that there is no client side caching."),
    ROW("unblock", -3, PLAIN | CMD_ADMIN, unblock_run, "5.0.0", "client-id [TIMEOUT | ERROR]",
        "Answers 0: no command blocks."),
    ROW("unpause", 2, PLAIN | CMD_ADMIN, unpause_run, "6.2.0", "", "Ends CLIENT PAUSE."),
    HELP_ROW("client", CAT_CONNECTION, help_run),
    {.name = NULL},
};
