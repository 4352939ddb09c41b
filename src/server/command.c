/* SPDX-License-Identifier: MIT */
/* From the parser's arguments to a running handler. The order of the checks is Redis's, because
 * clients see which error comes first: unknown command, arity, authentication, then the rest.
 *
 * Arguments are borrowed from the parser while the handler runs. A request that is not answered by
 * then copies what is small; large values are payload buffers that it owns from the start.
 */
#include "server/command.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/logger.h"
#include "base/map.h"
#include "base/number.h"
#include "server/conn_int.h"
#include "server/server.h"
#include "server/stats.h"
#include "server/tx.h"

#define NAME_MAX_LEN 64
#define LOADING_GRACE_US 1000000 /* commands wait this long for a start before -LOADING */
/* Bytes of arguments: smaller ones are kept, or the process ends. */
#define ARGS_LARGE ((size_t)64 << 10)
#define READ_ARGS_LARGE ((size_t)256 << 10) /* 2,048 keys of vLLM: about one slice of KVMATCH */

static const struct command *const groups[] = {
    commands_string, commands_string_write, commands_key, commands_scan,
    commands_kv,     commands_conn,         commands_tx,  commands_server,
};

struct entry {
    struct map_node node;
    const struct command *cmd;
};

static struct map by_name;
static const struct command **all;
static size_t count;

static struct slice entry_name(const struct map_node *n)
{
    return slice_str(((const struct entry *)(const void *)n)->cmd->name);
}

void command_init(void)
{
    struct entry *entries;

    if (all != NULL)
        return;
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
        for (const struct command *c = groups[g]; c->name != NULL; c++)
            count++;
    all = calloc(count, sizeof(struct command *));
    entries = calloc(count, sizeof(*entries));
    if (all == NULL || entries == NULL)
        PANIC("out of memory");
    map_init(&by_name, entry_name);
    count = 0;
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        for (const struct command *c = groups[g]; c->name != NULL; c++) {
            ASSERT(c->subs != NULL || (c->run != NULL) != (c->plan != NULL));
            ASSERT((c->plan != NULL) == (c->result != NULL));
            entries[count].cmd = c;
            if (map_put(&by_name, &entries[count].node) != NULL)
                PANIC("command %s is in the table twice", c->name);
            all[count++] = c;
        }
    }
    stats_init();
}

const struct command *command_at(size_t i)
{
    return i < count ? all[i] : NULL;
}

const struct command *command_find(struct slice name)
{
    uint8_t lower[NAME_MAX_LEN];
    struct map_node *n;

    if (name.len == 0 || name.len > sizeof(lower))
        return NULL;
    for (size_t i = 0; i < name.len; i++)
        lower[i] = (uint8_t)tolower(name.ptr[i]);
    n = map_get(&by_name, slice_of(lower, name.len));
    return n == NULL ? NULL : ((struct entry *)(void *)n)->cmd;
}

const struct command *command_find_sub(const struct command *container, struct slice name)
{
    for (const struct command *c = container->subs; c != NULL && c->name != NULL; c++)
        if (number_is_word(name, strchr(c->name, '|') + 1))
            return c;
    return NULL;
}

const struct command *command_find_full(struct slice name)
{
    const uint8_t *bar = name.len > 0 ? memchr(name.ptr, '|', name.len) : NULL;
    size_t head = bar != NULL ? (size_t)(bar - name.ptr) : name.len;
    const struct command *c = command_find(slice_of(name.ptr, head));

    if (c == NULL || (c->flags & CMD_INTERNAL))
        return NULL;
    return bar != NULL ? command_find_sub(c, slice_of(bar + 1, name.len - head - 1)) : c;
}

/* ---- refusals ---------------------------------------------------------------------------- */

/* Redis shows at most 128 bytes of arguments, each in quotes with a blank behind it. */
static void unknown_command(struct request *rq)
{
    char args[160];
    size_t len = 0;

    args[0] = '\0';
    for (int i = 1; i < rq->argc && len < 128; i++) {
        size_t n = rq->argv[i].len < 128 - len ? rq->argv[i].len : 128 - len;

        len += (size_t)snprintf(args + len, sizeof(args) - len, "'%.*s' ", (int)n,
                                (const char *)rq->argv[i].ptr);
    }
    request_errorf(rq, "ERR unknown command '%.*s', with args beginning with: %s",
                   (int)(rq->argv[0].len < 128 ? rq->argv[0].len : 128),
                   (const char *)rq->argv[0].ptr, args);
}

void command_unknown_sub(struct request *rq)
{
    char container[NAME_MAX_LEN];
    size_t n = 0;

    for (const char *p = rq->cmd_name; *p != '\0' && *p != '|' && n < sizeof(container) - 1; p++)
        container[n++] = (char)toupper((unsigned char)*p);
    container[n] = '\0';
    request_errorf(rq, "ERR unknown subcommand '%.*s'. Try %s HELP.",
                   (int)(rq->argv[1].len < 128 ? rq->argv[1].len : 128),
                   (const char *)rq->argv[1].ptr, container);
}

void command_too_large(struct request *rq, uint64_t length)
{
    request_errorf(rq,
                   "ERR value is too large: %" PRIu64 " bytes, this server stores at most %zu "
                   "(max-memory-bytes, volume-size)",
                   length, rq->server->value_max);
}

void command_wrong_arity(struct request *rq)
{
    bool exec = rq->cmd != NULL && rq->cmd->before_op != NULL;

    request_errorf(rq, "%s wrong number of arguments for '%s' command",
                   exec ? "EXECABORT Transaction discarded because of:" : "ERR", rq->cmd_name);
}

void command_syntax_error(struct request *rq)
{
    request_error(rq, "ERR syntax error");
}

void command_not_integer(struct request *rq)
{
    request_error(rq, "ERR value is not an integer or out of range");
}

static bool arity_ok(const struct command *cmd, int argc)
{
    return cmd->arity >= 0 ? argc == cmd->arity : argc >= -cmd->arity;
}

/* Everything that refuses a command before it runs. True: it was answered. */
static bool refused(struct request *rq, struct conn *c, const struct command *container)
{
    struct server *s = rq->server;
    const struct command *cmd = rq->cmd;

    if (rq->argc == 0) {
        request_error_code(rq, ERR_NOMEM);
    } else if (cmd == NULL && container != NULL) {
        rq->cmd_name = container->name;
        command_unknown_sub(rq);
    } else if (cmd == NULL || (cmd->flags & CMD_INTERNAL)) {
        unknown_command(rq);
    } else if (!arity_ok(cmd, rq->argc)) {
        command_wrong_arity(rq);
    } else if (!c->authenticated && !(cmd->flags & CMD_NO_AUTH)) {
        request_error(rq, cmd->before_op != NULL /* EXEC */
                              ? "EXECABORT Transaction discarded because of: NOAUTH Authentication "
                                "required."
                              : "NOAUTH Authentication required.");
    } else if (c->starved) {
        request_error(rq,
                      "OOM no room in payload memory for all values of this command: send fewer "
                      "large values at once, or raise max-memory-bytes");
    } else if (c->too_big > 0) {
        command_too_large(rq, c->too_big);
    } else if (c->no_memory) {
        request_error_code(rq, ERR_NOMEM);
    } else if (s->state == SERVER_LOADING && !(cmd->flags & CMD_LOADING)) {
        request_error(rq, "LOADING Redis is loading the dataset in memory");
    } else if (c->in_multi && (cmd->flags & CMD_NO_MULTI)) {
        request_error(rq, "ERR Command not allowed inside a transaction");
    } else {
        return false;
    }
    return true;
}

/* ---- start ------------------------------------------------------------------------------- */

/* A write whose values all go through the stage joins its group in the order of submit. */
static bool will_stage(const struct conn *c, const struct command *cmd)
{
    return (cmd->flags & CMD_STAGES) && c->parse.argc > 2 &&
           c->parse.argv[2].len > (size_t)c->server->config->inline_max;
}

static bool paused(const struct server *s, const struct command *cmd)
{
    return clock_now_ms(&s->clock) < s->pause_until_ms &&
           (s->pause_all || (cmd->flags & CMD_WRITE)) && !(cmd->flags & CMD_ADMIN);
}

/* Replies that wait for one another would all be in memory. */
static bool behind_listing(const struct conn *c, const struct command *cmd)
{
    const struct request *head = c->head;

    return head != NULL &&
           ((cmd->flags & CMD_LISTING) || (head->cmd != NULL && (head->cmd->flags & CMD_LISTING)));
}

static bool must_wait(const struct conn *c, const struct command *cmd)
{
    const struct server *s = c->server;

    if (cmd == NULL)
        return false;
    if (s->state == SERVER_LOADING) /* a short start is no error to anybody */
        return !(cmd->flags & CMD_LOADING) && c->authenticated &&
               server_now_us(s) - s->created_us < LOADING_GRACE_US;
    if (c->in_multi && !(cmd->flags & CMD_IMMEDIATE))
        return false; /* it is only queued */
    if (paused(s, cmd) || behind_listing(c, cmd))
        return true;
    if (cmd->flags & CMD_UNORDERED)
        return false;
    if (cmd->plan != NULL && c->looking > 0)
        return true; /* what it changes must not be seen by what was sent before */
    if (!(cmd->flags & CMD_WRITE) || (cmd->flags & CMD_IMMEDIATE))
        return c->pending_writes > 0;
    if (write_backlogged(s->write))
        return true;
    return c->unproposed > 0 && !(c->unproposed_staged && will_stage(c, cmd));
}

static bool room_for_args(struct server *s, int argc)
{
    struct slice *grown;

    if (argc <= s->argv_size)
        return true;
    grown = realloc(s->argv_scratch, (size_t)argc * sizeof(*grown));
    if (grown == NULL)
        return false;
    s->argv_scratch = grown;
    s->argv_size = argc;
    return true;
}

static bool any_upload(const struct conn *c)
{
    for (int i = 0; i < c->parse.argc; i++)
        if (c->parse.argv[i].owner != NULL)
            return true;
    return false;
}

/* The arguments as slices: the parser's memory, or the payload buffers the request takes over.
 * False: there is no memory for them. */
static bool borrow_args(struct request *rq, struct conn *c)
{
    int argc = c->parse.argc;

    if (!room_for_args(rq->server, argc))
        return false;
    if (any_upload(c)) {
        rq->uploads = calloc((size_t)argc, sizeof(struct upload *));
        if (rq->uploads == NULL)
            return false;
    }
    rq->argc = argc;
    rq->argv = rq->server->argv_scratch;
    for (int i = 0; i < argc; i++) {
        struct parse_arg *a = &c->parse.argv[i];

        rq->argv[i] = slice_of(a->ptr, a->len);
        if (a->owner != NULL)
            rq->uploads[i] = a->owner;
        a->owner = NULL;
    }
    return true;
}

/* Arguments that take much memory are copied ahead of the command: now it can still be refused. A
 * read borrows them to its end, unless it is so long that it may have to pause. */
static void take_args(struct request *rq, struct conn *c)
{
    bool stays = rq->write || c->in_multi;

    if (!borrow_args(rq, c) || !request_keep_large_args(rq, stays ? ARGS_LARGE : READ_ARGS_LARGE))
        rq->argc = 0;
}

/* Large values are in the payload budget. */
static size_t queued_size(const struct request *rq)
{
    size_t size = sizeof(*rq);

    for (int i = 0; i < rq->argc; i++)
        size += sizeof(rq->argv[i]) + (rq->argv[i].len <= PARSE_DIRECT_MIN ? rq->argv[i].len : 0);
    return size;
}

static bool queue_has_room(struct conn *c, struct request *rq)
{
    size_t size = queued_size(rq);

    if (c->multi_bytes + size > MULTI_BYTES_MAX ||
        c->server->multi_bytes + size > MULTI_BYTES_ALL_MAX) {
        request_error(rq, "ERR transaction too large");
        return false;
    }
    c->multi_bytes += size;
    c->server->multi_bytes += size;
    return true;
}

static void queue_in_multi(struct conn *c, struct request *rq)
{
    struct request *exec = c->multi;
    struct request *child = request_new(rq->server, c, rq->cmd);

    child->parent = exec;
    child->cmd_name = rq->cmd_name;
    child->argc = rq->argc;
    child->argv = rq->argv;
    child->uploads = rq->uploads;
    child->arg_mem = rq->arg_mem;
    rq->uploads = NULL;
    rq->arg_mem = NULL;
    rq->argc = 0;
    request_keep_args(child);
    *exec->children_tail = child;
    exec->children_tail = &child->next;
    exec->child_count++;
    emit_status(request_emit(rq), "QUEUED");
    rq->cmd = NULL; /* the call is counted when EXEC makes it */
}

static bool is_queued(const struct conn *c, const struct command *cmd)
{
    return c->in_multi && !(cmd->flags & CMD_IMMEDIATE);
}

static void run(struct conn *c, struct request *rq, const struct command *container)
{
    const struct command *cmd = rq->cmd;

    if (refused(rq, c, container) || (is_queued(c, cmd) && !queue_has_room(c, rq))) {
        rq->rejected = true;
        if (cmd != NULL && cmd->before_op != NULL)
            tx_discard(c);
        else if (c->in_multi)
            c->multi_failed = true;
        request_release(rq);
    } else if (is_queued(c, cmd)) {
        queue_in_multi(c, rq);
        request_release(rq);
    } else if (cmd->before_op != NULL && !tx_begin(rq)) {
        request_release(rq);
    } else if (cmd->plan != NULL) {
        write_start(rq);
    } else {
        cmd->run(rq);
        request_release(rq);
    }
}

/* Words that start a line of HTTP: a browser was made to talk to us, and what follows may be lines
 * of its attacker. */
static bool is_http(struct slice name)
{
    return number_is_word(name, "post") || number_is_word(name, "host:");
}

static void note_looking(struct request *rq)
{
    if (rq->cmd == NULL || !(rq->cmd->flags & CMD_SLICES) || rq->conn == NULL)
        return;
    rq->looking = true;
    rq->conn->looking++;
}

bool command_try_start(struct conn *c)
{
    struct server *s = c->server;
    struct slice name = slice_of(c->parse.argv[0].ptr, c->parse.argv[0].len);
    const struct command *cmd = command_find(name);
    const struct command *container = NULL;
    struct request *rq;

    if (cmd == NULL && is_http(name)) {
        LOG_WARNING("client closed addr=%s reason=\"it speaks HTTP\"", c->peer);
        metric_add(&s->metrics, METRIC_PROTOCOL_ERRORS, 1);
        conn_close(c, "HTTP");
        return true;
    }
    if (cmd != NULL && cmd->subs != NULL && c->parse.argc > 1) {
        container = cmd;
        cmd = command_find_sub(container, slice_of(c->parse.argv[1].ptr, c->parse.argv[1].len));
    }
    if (must_wait(c, cmd))
        return false;

    rq = request_new(s, c, cmd);
    rq->write = cmd != NULL && cmd->plan != NULL && c->authenticated &&
                !(c->in_multi && !(cmd->flags & CMD_IMMEDIATE));
    if (rq->write)
        c->unproposed_staged = (c->unproposed == 0 || c->unproposed_staged) && will_stage(c, cmd);
    take_args(rq, c);
    conn_append(c, rq);
    if (cmd != NULL)
        c->last_cmd = cmd->name;
    c->commands++;

    request_hold(rq); /* it must not go while we look at it */
    run(c, rq, container);
    if (rq->holds > 1) {
        request_keep_args(rq);
        note_looking(rq);
    }
    request_release(rq);
    return true;
}

void command_finished(struct request *rq)
{
    if (rq->cmd != NULL)
        stats_record(rq);
}

/* ---- helpers of handlers ----------------------------------------------------------------- */

bool command_get_i64(struct request *rq, int arg, int64_t *out)
{
    if (number_parse_i64(rq->argv[arg], out))
        return true;
    command_not_integer(rq);
    return false;
}

bool command_get_range(struct request *rq, int arg, int64_t min, int64_t max, int64_t *out,
                       const char *error)
{
    int64_t v;

    if (number_parse_i64(rq->argv[arg], &v) && v >= min && v <= max) {
        *out = v;
        return true;
    }
    request_error(rq, error != NULL ? error : "ERR value is not an integer or out of range");
    return false;
}

bool command_get_int(struct request *rq, int arg, int *out)
{
    int64_t v;

    if (!command_get_i64(rq, arg, &v))
        return false;
    if (v < INT_MIN || v > INT_MAX) {
        request_errorf(rq, "ERR value is out of range, value must between %d and %d", INT_MIN,
                       INT_MAX);
        return false;
    }
    *out = (int)v;
    return true;
}

bool command_is(const struct request *rq, int arg, const char *word)
{
    return number_is_word(rq->argv[arg], word);
}

bool command_check_key(struct request *rq, struct slice key)
{
    if (key.len > RECORD_KEY_MAX) {
        request_error(rq, "ERR key is too long (maximum 480 bytes)");
        return false;
    }
    if (key.len == 0) {
        request_error(rq, "ERR key is empty: keys have 1 to 480 bytes");
        return false;
    }
    return true;
}

enum expire command_parse_expire(const struct request *rq, int arg, const char *unit,
                                 uint64_t *expire_ms)
{
    bool seconds = unit[0] == 'E';
    bool absolute = strlen(unit) > 2;
    int64_t v, ms;

    if (!number_parse_i64(rq->argv[arg], &v))
        return EXPIRE_NO_NUMBER;
    ms = v;
    if (v <= 0 || (seconds && __builtin_mul_overflow(v, 1000, &ms)) ||
        (!absolute && __builtin_add_overflow(ms, (int64_t)rq->now_ms, &ms)))
        return EXPIRE_INVALID;
    *expire_ms = (uint64_t)ms;
    return EXPIRE_GOOD;
}

bool command_expire_at(struct request *rq, int arg, const char *unit, uint64_t *expire_ms)
{
    switch (command_parse_expire(rq, arg, unit, expire_ms)) {
    case EXPIRE_GOOD:
        return true;
    case EXPIRE_NO_NUMBER:
        command_not_integer(rq);
        return false;
    case EXPIRE_INVALID:
        request_errorf(rq, "ERR invalid expire time in '%s' command", rq->cmd_name);
        return false;
    }
    return false;
}

uint64_t command_now_ms(const struct server *s)
{
    uint64_t now = clock_now_ms(&s->clock), applied = store_applied_stamp(s->store);
    uint64_t stamp = s->entry_stamp_ms;

    if (stamp == 0)
        stamp = write_stamp_under_way(s->write);
    if (stamp != 0 && stamp < now)
        now = stamp;
    return now > applied ? now : applied;
}

bool command_peek(struct request *rq, struct slice key, struct record *out)
{
    struct server *s = rq->server;

    return key.len > 0 && key.len <= RECORD_KEY_MAX && store_get(s->store, key, out) == 0 &&
           !record_expired(out, command_now_ms(s));
}

void command_count_lookup(struct request *rq, bool found)
{
    metric_add(&rq->server->metrics, found ? METRIC_HITS : METRIC_MISSES, 1);
}

bool command_lookup(struct request *rq, struct slice key, struct record *out)
{
    bool found = command_peek(rq, key, out);

    command_count_lookup(rq, found);
    return found;
}
