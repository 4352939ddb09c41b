/* SPDX-License-Identifier: MIT */
/* Strings, writing. Each plan() checks arguments in Redis's order and appends ops; result() turns
 * what apply found into the reply. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/number.h"
#include "server/rebuild.h"
#include "server/result.h"
#include "server/server.h"
#include "server/value.h"

static struct op_put new_put(const struct request *rq)
{
    return (struct op_put){.created_ms = rq->now_ms};
}

/* ---- SET and its short forms -------------------------------------------------------------- */

/* Of SET, and with other words of GETEX. */
struct options {
    unsigned flags;   /* PUT_*, OPF_PERSIST */
    const char *unit; /* "EX" …; NULL: no expiry */
    int value;        /* argv index of its number */
};

/* Options may be repeated where they do not contradict: the last EX counts. */
static bool option_of_set(const struct request *rq, int i, struct options *o)
{
    static const struct {
        const char *word;
        unsigned flag, excludes;
    } words[] = {{"NX", PUT_NX, PUT_XX}, {"XX", PUT_XX, PUT_NX}, {"GET", PUT_GET, 0}};

    for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
        if (command_is(rq, i, words[w].word) && !(o->flags & words[w].excludes)) {
            o->flags |= words[w].flag;
            return true;
        }
    }
    if (!command_is(rq, i, "KEEPTTL") || o->unit != NULL)
        return false;
    o->flags |= PUT_KEEPTTL;
    return true;
}

static bool option_of_getex(const struct request *rq, int i, struct options *o)
{
    if (!command_is(rq, i, "PERSIST") || o->unit != NULL)
        return false;
    o->flags |= OPF_PERSIST;
    return true;
}

static bool option_expiry(const struct request *rq, int i, unsigned excludes, struct options *o)
{
    static const char *const units[] = {"EX", "PX", "EXAT", "PXAT"};

    for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
        if (!command_is(rq, i, units[u]) || (o->flags & excludes) || i + 1 >= rq->argc ||
            (o->unit != NULL && o->unit != units[u]))
            continue;
        o->unit = units[u];
        o->value = i + 1;
        return true;
    }
    return false;
}

/* The syntax alone; the number is looked at later. False: replied. */
static bool parse_options(struct request *rq, int from, struct options *o)
{
    bool set = from == 3;

    *o = (struct options){0};
    for (int i = from; i < rq->argc; i++) {
        if (set ? option_of_set(rq, i, o) : option_of_getex(rq, i, o))
            continue;
        if (!option_expiry(rq, i, set ? PUT_KEEPTTL : OPF_PERSIST, o)) {
            command_syntax_error(rq);
            return false;
        }
        i++;
    }
    return true;
}

static enum plan set_plan(struct request *rq, struct entry_writer *unit)
{
    struct op_put put = new_put(rq);
    struct options o;

    if (!parse_options(rq, 3, &o) ||
        (o.unit != NULL && !command_expire_at(rq, o.value, o.unit, &put.expire_ms)) ||
        !command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    request_put(rq, unit, rq->argv[1], 2, o.flags | ENTRY_MORE, &put);
    rq->sum = o.flags;
    return PLAN_READY;
}

/* The write is in the log and holds; a plain IOERR would say that it failed. */
static void begin_old(struct request *rq, int err)
{
    if (err == 0 || err == ERR_CORRUPT || err == ERR_NOTFOUND)
        value_begin(rq, err);
    else
        request_error(rq, "UNKNOWN the write took effect, but the value before it cannot be read, "
                          "see the server log");
}

static void reply_old(struct request *rq, const struct fsm_result *r)
{
    const struct value_part whole = {0, r->old.length,
                                     r->status == FSM_OK ? begin_old : value_begin, NULL};

    command_count_lookup(rq, r->has_old);
    if (r->has_old)
        value_send(rq, rq->argv[1], &r->old, &whole);
    else
        emit_nil(request_emit(rq));
}

static void set_result(struct request *rq, const struct fsm_result *r)
{
    if (rq->sum & PUT_GET)
        reply_old(rq, r);
    else if (r->status == FSM_OK)
        emit_status(request_emit(rq), "OK");
    else
        emit_nil(request_emit(rq));
}

static enum plan setex_with(struct request *rq, struct entry_writer *unit, const char *unit_name)
{
    struct op_put put = new_put(rq);

    if (!command_expire_at(rq, 2, unit_name, &put.expire_ms) || !command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    request_put(rq, unit, rq->argv[1], 3, ENTRY_MORE, &put);
    return PLAN_READY;
}

static enum plan setex_plan(struct request *rq, struct entry_writer *unit)
{
    return setex_with(rq, unit, "EX");
}

static enum plan psetex_plan(struct request *rq, struct entry_writer *unit)
{
    return setex_with(rq, unit, "PX");
}

static enum plan setnx_plan(struct request *rq, struct entry_writer *unit)
{
    struct op_put put = new_put(rq);

    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    request_put(rq, unit, rq->argv[1], 2, PUT_NX | ENTRY_MORE, &put);
    return PLAN_READY;
}

static void setnx_result(struct request *rq, const struct fsm_result *r)
{
    emit_int(request_emit(rq), r->status == FSM_OK);
}

static enum plan getset_plan(struct request *rq, struct entry_writer *unit)
{
    struct op_put put = new_put(rq);

    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    request_put(rq, unit, rq->argv[1], 2, PUT_GET | ENTRY_MORE, &put);
    return PLAN_READY;
}

/* ---- MSET -------------------------------------------------------------------------------- */

static bool mset_check(struct request *rq)
{
    if (rq->argc % 2 == 0) {
        command_wrong_arity(rq);
        return false;
    }
    for (int i = 1; i < rq->argc; i += 2)
        if (!command_check_key(rq, rq->argv[i]))
            return false;
    return true;
}

static void mset_puts(struct request *rq, struct entry_writer *unit)
{
    for (int i = 1; i < rq->argc; i += 2) {
        struct op_put put = new_put(rq);

        request_put(rq, unit, rq->argv[i], i + 1, ENTRY_MORE, &put);
    }
}

static enum plan mset_plan(struct request *rq, struct entry_writer *unit)
{
    if (!mset_check(rq))
        return PLAN_REPLIED;
    mset_puts(rq, unit);
    return PLAN_READY;
}

static void mset_result(struct request *rq, const struct fsm_result *r)
{
    if (r->last)
        emit_status(request_emit(rq), "OK");
}

/* Each key guards the rest of the command. */
static enum plan msetnx_plan(struct request *rq, struct entry_writer *unit)
{
    uint64_t keys = (uint64_t)(rq->argc - 1) / 2;

    if (!mset_check(rq))
        return PLAN_REPLIED;
    for (uint64_t i = 0; i < keys; i++)
        entry_u64(unit, OP_UNLESS, ENTRY_MORE, rq->argv[1 + 2 * i], 2 * keys - 1 - i);
    mset_puts(rq, unit);
    return PLAN_READY;
}

static void msetnx_result(struct request *rq, const struct fsm_result *r)
{
    if (r->last)
        emit_int(request_emit(rq), r->status == FSM_OK);
}

/* ---- counters ---------------------------------------------------------------------------- */

static enum plan incr_by(struct request *rq, struct entry_writer *unit, int64_t by)
{
    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    entry_u64(unit, OP_INCRBY, ENTRY_MORE, rq->argv[1], (uint64_t)by);
    return PLAN_READY;
}

static enum plan incr_plan(struct request *rq, struct entry_writer *unit)
{
    return incr_by(rq, unit, 1);
}

static enum plan decr_plan(struct request *rq, struct entry_writer *unit)
{
    return incr_by(rq, unit, -1);
}

static enum plan incrby_plan(struct request *rq, struct entry_writer *unit)
{
    int64_t by;

    return command_get_i64(rq, 2, &by) ? incr_by(rq, unit, by) : PLAN_REPLIED;
}

static enum plan decrby_plan(struct request *rq, struct entry_writer *unit)
{
    int64_t by;

    if (!command_get_i64(rq, 2, &by))
        return PLAN_REPLIED;
    if (by == INT64_MIN) {
        request_error(rq, "ERR decrement would overflow");
        return PLAN_REPLIED;
    }
    return incr_by(rq, unit, -by);
}

static enum plan incrbyfloat_plan(struct request *rq, struct entry_writer *unit)
{
    long double by;

    if (!number_parse_ld(rq->argv[2], &by)) {
        request_error(rq, "ERR value is not a valid float");
        return PLAN_REPLIED;
    }
    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    entry_bytes(unit, OP_INCRBYFLOAT, ENTRY_MORE, rq->argv[1], rq->argv[2]);
    return PLAN_READY;
}

static void incrbyfloat_result(struct request *rq, const struct fsm_result *r)
{
    if (!result_error(rq, r))
        emit_bulk(request_emit(rq), r->text);
}

/* ---- APPEND, SETRANGE --------------------------------------------------------------------- */

static const char too_long[] = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

static void append_rebuild(const struct request *rq, const struct record *old,
                           struct rebuild_spec *spec)
{
    spec->put_at = old->length;
    spec->length = old->length + rq->argv[2].len;
    spec->bytes_arg = 2;
}

static enum plan plan_built(struct request *rq, struct entry_writer *unit)
{
    struct op_put put = new_put(rq);
    unsigned exists = rebuild_existed(rq) ? PUT_XX : 0; /* else it expired in between */

    request_put(rq, unit, rq->argv[1], STAGED_BUILT,
                PUT_KEEPTTL | PUT_KEEPMETA | exists | ENTRY_MORE, &put);
    rq->sum = (int64_t)rebuild_length(rq);
    return PLAN_READY;
}

/* What a long value brings is never built at apply (FSM_REBUILD): the op need only be too long for
 * it, and an entry has no room for the whole. */
static struct slice op_bytes(struct slice bytes)
{
    size_t most = FSM_INLINE_APPEND_MAX + 1;

    return slice_of(bytes.ptr, bytes.len < most ? bytes.len : most);
}

static enum plan append_plan(struct request *rq, struct entry_writer *unit)
{
    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    if (rebuild_done(rq))
        return plan_built(rq, unit);
    entry_bytes(unit, OP_APPEND, ENTRY_MORE, rq->argv[1], op_bytes(rq->argv[2]));
    return PLAN_READY;
}

static bool setrange_offset(struct request *rq, int64_t *offset)
{
    if (!command_get_i64(rq, 2, offset))
        return false;
    if (*offset < 0) {
        request_error(rq, "ERR offset is out of range");
        return false;
    }
    if (rq->argv[3].len > 0 &&
        (*offset > rq->server->config->proto_max_bulk_len ||
         *offset + (int64_t)rq->argv[3].len > rq->server->config->proto_max_bulk_len)) {
        request_error(rq, too_long);
        return false;
    }
    return true;
}

/* The offset was looked at in the first plan. */
static void setrange_rebuild(const struct request *rq, const struct record *old,
                             struct rebuild_spec *spec)
{
    int64_t offset = 0;

    number_parse_i64(rq->argv[2], &offset);
    spec->put_at = (uint64_t)offset;
    spec->length = spec->put_at + rq->argv[3].len;
    if (spec->length < old->length)
        spec->length = old->length;
    spec->bytes_arg = 3;
}

static enum plan setrange_plan(struct request *rq, struct entry_writer *unit)
{
    int64_t offset;

    if (!setrange_offset(rq, &offset) || !command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    if (rebuild_done(rq))
        return plan_built(rq, unit);
    entry_setrange(unit, ENTRY_MORE, rq->argv[1], (uint64_t)offset, op_bytes(rq->argv[3]));
    return PLAN_READY;
}

static void length_result(struct request *rq, const struct fsm_result *r)
{
    if (result_error(rq, r))
        return;
    emit_int(request_emit(rq), r->op == OP_APPEND || r->op == OP_SETRANGE ? r->value : rq->sum);
}

/* ---- GETDEL, GETEX ------------------------------------------------------------------------ */

static enum plan getdel_plan(struct request *rq, struct entry_writer *unit)
{
    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    entry_key(unit, OP_GETDEL, ENTRY_MORE, rq->argv[1]);
    return PLAN_READY;
}

/* A wrong number is an error only where the key exists: apply reads it, and result() replies. */
static enum plan getex_plan(struct request *rq, struct entry_writer *unit)
{
    uint64_t expire_ms = 0;
    struct options o;

    if (!parse_options(rq, 2, &o) || !command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    if (o.unit != NULL && command_parse_expire(rq, o.value, o.unit, &expire_ms) != EXPIRE_GOOD)
        expire_ms = 0;
    entry_u64(unit, OP_GETEX, o.flags | ENTRY_MORE, rq->argv[1], expire_ms);
    return PLAN_READY;
}

static void getex_result(struct request *rq, const struct fsm_result *r)
{
    struct options o;
    uint64_t expire_ms;

    parse_options(rq, 2, &o); /* as before */
    if (!r->has_old || o.unit == NULL || command_expire_at(rq, o.value, o.unit, &expire_ms))
        reply_old(rq, r);
    else
        command_count_lookup(rq, true);
}

#define ADDS (CMD_WRITE | CMD_DENYOOM)
#define RW_READ "RW access update"
#define ROW(n, ar, fl, l, st, k, p, res, snc, syn, sum)                                            \
    .name = n, .arity = ar, .flags = fl, .categories = CAT_STRING, .first_key = 1, .last_key = l,  \
    .key_step = st, .keys = k, .plan = p, .result = res, .group = "string", .since = snc,          \
    .syntax = syn, .summary = sum

const struct command commands_string_write[] = {
    {ROW("set", -3, ADDS | CMD_STAGES, 1, 1,
         "RW access update variable_flags#RW and ACCESS due to the optional `GET` argument",
         set_plan, set_result, "1.0.0",
         "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
         "unix-time-milliseconds | KEEPTTL]",
         "Writes a value durably, on conditions and with an expiry.")},
    {ROW("setnx", 3, ADDS | CMD_STAGES | CMD_FAST, 1, 1, "OW insert", setnx_plan, setnx_result,
         "1.0.0", "key value", "Writes a value unless the key is there.")},
    {ROW("setex", 4, ADDS, 1, 1, "OW update", setex_plan, set_result, "2.0.0", "key seconds value",
         "Writes a value that lives for some seconds.")},
    {ROW("psetex", 4, ADDS, 1, 1, "OW update", psetex_plan, set_result, "2.6.0",
         "key milliseconds value", "Writes a value that lives for some milliseconds.")},
    {ROW("getset", 3, ADDS | CMD_STAGES | CMD_FAST, 1, 1, RW_READ, getset_plan, reply_old, "1.0.0",
         "key value", "Writes a value and answers the one it replaced.")},
    {ROW("mset", -3, ADDS | CMD_STAGES, -1, 2, "OW update", mset_plan, mset_result, "1.0.1",
         "key value [key value ...]", "Writes several values, all of them or none."),
     .tips = "request_policy:multi_shard response_policy:all_succeeded"},
    {ROW("msetnx", -3, ADDS | CMD_STAGES, -1, 2, "OW insert", msetnx_plan, msetnx_result, "1.0.1",
         "key value [key value ...]", "Writes several values unless one of the keys is there."),
     .tips = "request_policy:multi_shard response_policy:agg_min"},
    {ROW("incr", 2, ADDS | CMD_FAST, 1, 1, RW_READ, incr_plan, result_int, "1.0.0", "key",
         "Adds one to a number.")},
    {ROW("decr", 2, ADDS | CMD_FAST, 1, 1, RW_READ, decr_plan, result_int, "1.0.0", "key",
         "Takes one from a number.")},
    {ROW("incrby", 3, ADDS | CMD_FAST, 1, 1, RW_READ, incrby_plan, result_int, "1.0.0",
         "key increment", "Adds an integer to a number.")},
    {ROW("decrby", 3, ADDS | CMD_FAST, 1, 1, RW_READ, decrby_plan, result_int, "1.0.0",
         "key decrement", "Takes an integer from a number.")},
    {ROW("incrbyfloat", 3, ADDS | CMD_FAST, 1, 1, RW_READ, incrbyfloat_plan, incrbyfloat_result,
         "2.6.0", "key increment", "Adds a decimal fraction to a number.")},
    {ROW("append", 3, ADDS | CMD_FAST, 1, 1, "RW insert", append_plan, length_result, "2.0.0",
         "key value", "Writes bytes at the end of a value."),
     .rebuild = append_rebuild},
    {ROW("setrange", 4, ADDS, 1, 1, NULL, setrange_plan, length_result, "2.2.0", "key offset value",
         "Writes bytes into a value, from an offset on."),
     .rebuild = setrange_rebuild},
    {ROW("getdel", 2, CMD_WRITE | CMD_FAST, 1, 1, "RW access delete", getdel_plan, reply_old,
         "6.2.0", "key", "Reads a value and removes its key.")},
    {ROW("getex", -2, CMD_WRITE | CMD_FAST, 1, 1,
         "RW access update#RW and UPDATE because it changes the TTL", getex_plan, getex_result,
         "6.2.0",
         "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
         "unix-time-milliseconds | PERSIST]",
         "Reads a value and changes when it expires.")},
    {.name = NULL},
};
