/* SPDX-License-Identifier: MIT */
/* Strings, writing. Each plan() checks arguments in Redis's order and appends ops; result() turns
 * what apply found into the reply. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/number.h"
#include "server/rebuild.h"
#include "server/result.h"
#include "server/server.h"

static struct op_put new_put(const struct request *rq)
{
    return (struct op_put){.created_ms = rq->now_ms};
}

/* ---- SET and its short forms -------------------------------------------------------------- */

struct set_options {
    unsigned flags; /* PUT_* */
    uint64_t expire_ms;
    bool expire, keepttl;
};

/* One option at argv[i]; returns arguments used, 0 = syntax error, -1 = replied. */
static int set_option(struct request *rq, int i, struct set_options *o)
{
    static const char *const units[] = {"EX", "PX", "EXAT", "PXAT"};

    if (command_is(rq, i, "NX") && !(o->flags & PUT_XX)) {
        o->flags |= PUT_NX;
        return 1;
    }
    if (command_is(rq, i, "XX") && !(o->flags & PUT_NX)) {
        o->flags |= PUT_XX;
        return 1;
    }
    if (command_is(rq, i, "GET")) {
        o->flags |= PUT_GET;
        return 1;
    }
    if (command_is(rq, i, "KEEPTTL") && !o->expire) {
        o->flags |= PUT_KEEPTTL;
        return 1;
    }
    for (size_t u = 0; u < 4; u++) {
        if (!command_is(rq, i, units[u]) || o->expire || (o->flags & PUT_KEEPTTL) ||
            i + 1 >= rq->argc)
            continue;
        o->expire = true;
        o->expire_ms = u; /* the unit, until the value is parsed below */
        return 2;
    }
    return 0;
}

/* Redis checks the syntax of all options before the number. */
static bool set_options(struct request *rq, int from, struct set_options *o)
{
    static const char *const units[] = {"EX", "PX", "EXAT", "PXAT"};
    int at = 0;

    *o = (struct set_options){0};
    for (int i = from; i < rq->argc;) {
        int used = set_option(rq, i, o);

        if (used == 0) {
            command_syntax_error(rq);
            return false;
        }
        if (used == 2)
            at = i + 1;
        i += used;
    }
    return at == 0 || command_expire_at(rq, at, units[o->expire_ms], &o->expire_ms);
}

static enum plan set_plan(struct request *rq, struct entry_writer *unit)
{
    struct op_put put = new_put(rq);
    struct set_options o;

    if (!set_options(rq, 3, &o) || !command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    put.expire_ms = o.expire_ms;
    request_put(rq, unit, rq->argv[1], 2, o.flags | ENTRY_MORE, &put);
    rq->sum = o.flags;
    return PLAN_READY;
}

static void reply_old(struct request *rq, const struct fsm_result *r)
{
    if (r->has_old)
        request_reply_value(rq, rq->argv[1], &r->old);
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

static enum plan msetnx_plan(struct request *rq, struct entry_writer *unit)
{
    if (!mset_check(rq))
        return PLAN_REPLIED;
    for (int i = 1; i < rq->argc; i += 2)
        entry_key(unit, OP_IF_ABSENT, ENTRY_MORE, rq->argv[i]);
    mset_puts(rq, unit);
    return PLAN_READY;
}

static void msetnx_result(struct request *rq, const struct fsm_result *r)
{
    if (r->last)
        emit_int(request_emit(rq), r->status != FSM_ABORTED);
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

/* Can apply make the new value, or must it be built here? */
static enum prepare prepare_change(struct request *rq, uint64_t put_at, int bytes_arg, bool at_end)
{
    struct slice key = rq->argv[1], bytes = rq->argv[bytes_arg];
    struct rebuild_spec spec = {.key_arg = 1, .bytes_arg = bytes_arg};
    struct record r;

    if (rebuild_done(rq) || key.len == 0 || key.len > RECORD_KEY_MAX)
        return PREPARE_READY;
    if (!command_lookup(rq, key, &r))
        r = (struct record){.kind = RECORD_INLINE};
    spec.put_at = at_end ? r.length : put_at;
    spec.length = spec.put_at + bytes.len > r.length ? spec.put_at + bytes.len : r.length;
    if (r.kind == RECORD_INLINE && spec.length <= FSM_INLINE_APPEND_MAX)
        return PREPARE_READY;
    if (bytes.len == 0)
        return PREPARE_READY; /* no change: apply answers the length */
    return rebuild_start(rq, &spec, &r);
}

static enum plan plan_built(struct request *rq, struct entry_writer *unit)
{
    struct op_put put = new_put(rq);

    if (rq->parent == NULL)
        rebuild_condition(rq, unit);
    request_put(rq, unit, rq->argv[1], STAGED_BUILT, PUT_KEEPTTL | PUT_KEEPMETA | ENTRY_MORE, &put);
    rq->sum = (int64_t)rebuild_length(rq);
    return PLAN_READY;
}

static enum prepare append_prepare(struct request *rq)
{
    return prepare_change(rq, 0, 2, true);
}

static enum plan append_plan(struct request *rq, struct entry_writer *unit)
{
    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    if (rebuild_done(rq))
        return plan_built(rq, unit);
    entry_bytes(unit, OP_APPEND, ENTRY_MORE, rq->argv[1], rq->argv[2]);
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
    if (rq->argv[3].len > 0 && ((uint64_t)*offset > rq->server->fsm.value_max ||
                                (uint64_t)*offset + rq->argv[3].len > rq->server->fsm.value_max)) {
        request_error(rq, too_long);
        return false;
    }
    return true;
}

static enum prepare setrange_prepare(struct request *rq)
{
    int64_t offset;

    if (!number_parse_i64(rq->argv[2], &offset) || offset < 0 ||
        (uint64_t)offset + rq->argv[3].len > rq->server->fsm.value_max)
        return PREPARE_READY; /* plan() refuses it */
    return prepare_change(rq, (uint64_t)offset, 3, false);
}

static enum plan setrange_plan(struct request *rq, struct entry_writer *unit)
{
    int64_t offset;

    if (!setrange_offset(rq, &offset) || !command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    if (rebuild_done(rq))
        return plan_built(rq, unit);
    entry_setrange(unit, ENTRY_MORE, rq->argv[1], (uint64_t)offset, rq->argv[3]);
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

static enum plan getex_plan(struct request *rq, struct entry_writer *unit)
{
    struct set_options o = {0};
    unsigned flags = 0;

    if (rq->argc == 3 && command_is(rq, 2, "PERSIST")) {
        flags = OPF_PERSIST;
    } else if (rq->argc == 4 && !command_is(rq, 2, "KEEPTTL")) {
        if (!set_options(rq, 2, &o))
            return PLAN_REPLIED;
        if (!o.expire) {
            command_syntax_error(rq);
            return PLAN_REPLIED;
        }
    } else if (rq->argc != 2) {
        command_syntax_error(rq);
        return PLAN_REPLIED;
    }
    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    entry_u64(unit, OP_GETEX, flags | ENTRY_MORE, rq->argv[1], o.expire_ms);
    return PLAN_READY;
}

#define ADDS (CMD_WRITE | CMD_DENYOOM)
#define ROW(n, ar, fl, l, st, p, res, snc, syn, sum)                                               \
    {                                                                                              \
        .name = n, .arity = ar, .flags = fl, .categories = CAT_STRING, .first_key = 1,             \
        .last_key = l, .key_step = st, .plan = p, .result = res, .group = "string", .since = snc,  \
        .syntax = syn, .summary = sum                                                              \
    }

const struct command commands_string_write[] = {
    ROW("set", -3, ADDS, 1, 1, set_plan, set_result, "1.0.0",
        "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
        "unix-time-milliseconds | KEEPTTL]",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't "
        "exist."),
    ROW("setnx", 3, ADDS | CMD_FAST, 1, 1, setnx_plan, setnx_result, "1.0.0", "key value",
        "Set the string value of a key only when the key doesn't exist."),
    ROW("setex", 4, ADDS, 1, 1, setex_plan, set_result, "2.0.0", "key seconds value",
        "Sets the string value and expiration time of a key. Creates the key if it doesn't "
        "exist."),
    ROW("psetex", 4, ADDS, 1, 1, psetex_plan, set_result, "2.6.0", "key milliseconds value",
        "Sets both string value and expiration time in milliseconds of a key. The key is created "
        "if it doesn't exist."),
    ROW("getset", 3, ADDS | CMD_FAST, 1, 1, getset_plan, reply_old, "1.0.0", "key value",
        "Returns the previous string value of a key after setting it to a new value."),
    ROW("mset", -3, ADDS, -1, 2, mset_plan, mset_result, "1.0.1", "key value [key value ...]",
        "Atomically creates or modifies the string values of one or more keys."),
    ROW("msetnx", -3, ADDS | CMD_NO_MULTI, -1, 2, msetnx_plan, msetnx_result, "1.0.1",
        "key value [key value ...]",
        "Atomically modifies the string values of one or more keys only when all keys don't "
        "exist."),
    ROW("incr", 2, ADDS | CMD_FAST, 1, 1, incr_plan, result_int, "1.0.0", "key",
        "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't "
        "exist."),
    ROW("decr", 2, ADDS | CMD_FAST, 1, 1, decr_plan, result_int, "1.0.0", "key",
        "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't "
        "exist."),
    ROW("incrby", 3, ADDS | CMD_FAST, 1, 1, incrby_plan, result_int, "1.0.0", "key increment",
        "Increments the integer value of a key by a number. Uses 0 as initial value if the key "
        "doesn't exist."),
    ROW("decrby", 3, ADDS | CMD_FAST, 1, 1, decrby_plan, result_int, "1.0.0", "key decrement",
        "Decrements a number from the integer value of a key. Uses 0 as initial value if the key "
        "doesn't exist."),
    ROW("incrbyfloat", 3, ADDS | CMD_FAST, 1, 1, incrbyfloat_plan, incrbyfloat_result, "2.6.0",
        "key increment",
        "Increment the floating point value of a key by a number. Uses 0 as initial value if the "
        "key doesn't exist."),
    {.name = "append",
     .arity = 3,
     .flags = ADDS | CMD_FAST,
     .categories = CAT_STRING,
     .first_key = 1,
     .last_key = 1,
     .key_step = 1,
     .plan = append_plan,
     .result = length_result,
     .prepare = append_prepare,
     .group = "string",
     .since = "2.0.0",
     .syntax = "key value",
     .summary = "Appends a string to the value of a key. Creates the key if it doesn't exist."},
    {.name = "setrange",
     .arity = 4,
     .flags = ADDS,
     .categories = CAT_STRING,
     .first_key = 1,
     .last_key = 1,
     .key_step = 1,
     .plan = setrange_plan,
     .result = length_result,
     .prepare = setrange_prepare,
     .group = "string",
     .since = "2.2.0",
     .syntax = "key offset value",
     .summary = "Overwrites a part of a string value with another by an offset. Creates the key if "
                "it doesn't exist."},
    ROW("getdel", 2, CMD_WRITE | CMD_FAST, 1, 1, getdel_plan, reply_old, "6.2.0", "key",
        "Returns the string value of a key after deleting the key."),
    ROW("getex", -2, CMD_WRITE | CMD_FAST, 1, 1, getex_plan, reply_old, "6.2.0",
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
        "unix-time-milliseconds | PERSIST]",
        "Returns the string value of a key after setting its expiration time."),
    {.name = NULL},
};
