/* SPDX-License-Identifier: MIT */
/* Keys: presence, deletion, names and deadlines. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/number.h"
#include "server/cmd_key.h"
#include "server/lmcache.h"
#include "server/rebuild.h"
#include "server/result.h"
#include "server/server.h"

/* ---- presence ---------------------------------------------------------------------------- */

/* False: it is being evicted. */
static bool lease(struct server *s, struct slice key, uint64_t now_ms, uint64_t until_ms)
{
    struct lmcache_key mem;
    struct slice kv_bytes = lmcache_kv_bytes_of(key, &mem);

    return lease_take(store_lease(s->store), key, now_ms, until_ms) &&
           (kv_bytes.len == 0 || lease_take(store_lease(s->store), kv_bytes, now_ms, until_ms));
}

struct count_keys {
    int next;
    int64_t found;
};

static void exists_slice(struct request *rq)
{
    struct count_keys *k = rq->state;
    struct server *s = rq->server;
    uint64_t now = clock_now_ms(&s->clock);
    uint64_t until = now + (uint64_t)s->config->lookup_lease_ms;

    while (k->next < rq->argc) {
        struct record r;

        if (k->next % 64 == 0 && request_slice_over(rq)) {
            request_next_turn(rq, exists_slice);
            return;
        }
        if (command_lookup(rq, rq->argv[k->next], &r) && lease(s, rq->argv[k->next], now, until))
            k->found++;
        k->next++;
    }
    emit_int(request_emit(rq), k->found);
}

/* EXISTS promises that a GET soon after finds the key: eviction spares it for lookup-lease-ms. */
static void exists_run(struct request *rq)
{
    struct count_keys *k = calloc(1, sizeof(*k));

    if (k == NULL) {
        request_error(rq, "ERR out of memory");
        return;
    }
    k->next = 1;
    rq->state = k;
    rq->state_free = free;
    exists_slice(rq);
}

static void type_run(struct request *rq)
{
    struct record r;

    emit_status(request_emit(rq), command_lookup(rq, rq->argv[1], &r) ? "string" : "none");
}

/* ---- deletion ---------------------------------------------------------------------------- */

enum plan cmd_del_plan(struct request *rq, struct entry_writer *unit)
{
    uint32_t before = unit->count;

    for (int i = 1; i < rq->argc; i++)
        if (rq->argv[i].len > 0 && rq->argv[i].len <= RECORD_KEY_MAX)
            entry_key(unit, OP_DEL, ENTRY_MORE, rq->argv[i]);
    if (unit->count > before)
        return PLAN_READY;
    emit_int(request_emit(rq), 0);
    return PLAN_REPLIED;
}

/* ---- deadlines --------------------------------------------------------------------------- */

static void ttl_reply(struct request *rq, bool seconds, bool absolute)
{
    uint64_t now = command_now_ms(rq->server);
    struct record r;
    int64_t v;

    if (!command_lookup(rq, rq->argv[1], &r)) {
        emit_int(request_emit(rq), -2);
        return;
    }
    if (r.expire_ms == 0) {
        emit_int(request_emit(rq), -1);
        return;
    }
    v = absolute ? (int64_t)r.expire_ms : r.expire_ms > now ? (int64_t)(r.expire_ms - now) : 0;
    emit_int(request_emit(rq), seconds ? (int64_t)(((uint64_t)v + 500) / 1000) : v);
}

static void ttl_run(struct request *rq)
{
    ttl_reply(rq, true, false);
}

static void pttl_run(struct request *rq)
{
    ttl_reply(rq, false, false);
}

static void expiretime_run(struct request *rq)
{
    ttl_reply(rq, true, true);
}

static void pexpiretime_run(struct request *rq)
{
    ttl_reply(rq, false, true);
}

static bool expire_flags(struct request *rq, unsigned *flags)
{
    static const struct {
        const char *word;
        unsigned flag;
    } words[] = {{"NX", OPF_NX}, {"XX", OPF_XX}, {"GT", OPF_GT}, {"LT", OPF_LT}};
    char text[160];

    *flags = 0;
    for (int i = 3; i < rq->argc; i++) {
        unsigned flag = 0;

        for (size_t w = 0; w < 4; w++)
            if (command_is(rq, i, words[w].word))
                flag = words[w].flag;
        if (flag == 0) {
            snprintf(text, sizeof(text), "ERR Unsupported option %.*s",
                     (int)(rq->argv[i].len < 100 ? rq->argv[i].len : 100),
                     (const char *)rq->argv[i].ptr);
            request_error(rq, text);
            return false;
        }
        *flags |= flag;
    }
    if ((*flags & OPF_NX) && (*flags & (OPF_XX | OPF_GT | OPF_LT))) {
        request_error(rq, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if ((*flags & OPF_GT) && (*flags & OPF_LT)) {
        request_error(rq, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

/* A deadline in the past deletes; before 1970 is as past as any. */
static enum plan expire_with(struct request *rq, struct entry_writer *unit, bool seconds,
                             bool absolute)
{
    int64_t at;
    unsigned flags;
    char text[96];

    if (!expire_flags(rq, &flags) || !command_get_i64(rq, 2, &at))
        return PLAN_REPLIED;
    if ((seconds && __builtin_mul_overflow(at, 1000, &at)) ||
        (!absolute && __builtin_add_overflow(at, (int64_t)rq->now_ms, &at))) {
        snprintf(text, sizeof(text), "ERR invalid expire time in '%s' command", rq->cmd_name);
        request_error(rq, text);
        return PLAN_REPLIED;
    }
    if (rq->argv[1].len == 0 || rq->argv[1].len > RECORD_KEY_MAX) {
        emit_int(request_emit(rq), 0);
        return PLAN_REPLIED;
    }
    entry_u64(unit, OP_EXPIRE, flags | ENTRY_MORE, rq->argv[1], at < 1 ? 1 : (uint64_t)at);
    return PLAN_READY;
}

static enum plan expire_plan(struct request *rq, struct entry_writer *unit)
{
    return expire_with(rq, unit, true, false);
}

static enum plan pexpire_plan(struct request *rq, struct entry_writer *unit)
{
    return expire_with(rq, unit, false, false);
}

static enum plan expireat_plan(struct request *rq, struct entry_writer *unit)
{
    return expire_with(rq, unit, true, true);
}

static enum plan pexpireat_plan(struct request *rq, struct entry_writer *unit)
{
    return expire_with(rq, unit, false, true);
}

static enum plan persist_plan(struct request *rq, struct entry_writer *unit)
{
    if (rq->argv[1].len == 0 || rq->argv[1].len > RECORD_KEY_MAX) {
        emit_int(request_emit(rq), 0);
        return PLAN_REPLIED;
    }
    entry_key(unit, OP_PERSIST, ENTRY_MORE, rq->argv[1]);
    return PLAN_READY;
}

/* ---- RENAME, COPY -------------------------------------------------------------------------
 * A payload in a volume carries its key, so it is copied under the new one.
 */
static void copy_rebuild(const struct request *rq, const struct record *old,
                         struct rebuild_spec *spec)
{
    (void)rq;
    spec->length = spec->put_at = old->length;
}

static void put_copied(struct request *rq, struct entry_writer *unit, unsigned flags)
{
    struct op_put put = {0};

    rebuild_meta(rq, &put);
    request_put(rq, unit, rq->argv[2], STAGED_BUILT, flags | ENTRY_MORE, &put);
}

static bool check_two_keys(struct request *rq)
{
    return command_check_key(rq, rq->argv[1]) && command_check_key(rq, rq->argv[2]);
}

static enum plan rename_with(struct request *rq, struct entry_writer *unit, unsigned flags)
{
    if (!check_two_keys(rq))
        return PLAN_REPLIED;
    if (!rebuild_done(rq)) {
        entry_bytes(unit, OP_RENAME, flags | ENTRY_MORE, rq->argv[1], rq->argv[2]);
        return PLAN_READY;
    }
    if (flags & OPF_NX)
        entry_u64(unit, OP_UNLESS, ENTRY_MORE, rq->argv[2], 2);
    put_copied(rq, unit, 0);
    entry_key(unit, OP_DEL, ENTRY_MORE, rq->argv[1]);
    return PLAN_READY;
}

static enum plan rename_plan(struct request *rq, struct entry_writer *unit)
{
    return rename_with(rq, unit, 0);
}

static enum plan renamenx_plan(struct request *rq, struct entry_writer *unit)
{
    return rename_with(rq, unit, OPF_NX);
}

static void moved_result(struct request *rq, const struct fsm_result *r, bool number)
{
    if (r->op != OP_RENAME && r->op != OP_COPY && !r->last)
        return;
    if (result_error(rq, r))
        return;
    if (number)
        emit_int(request_emit(rq), r->status == FSM_OK);
    else
        emit_status(request_emit(rq), "OK");
}

static void rename_result(struct request *rq, const struct fsm_result *r)
{
    moved_result(rq, r, false);
}

static void renamenx_result(struct request *rq, const struct fsm_result *r)
{
    moved_result(rq, r, true);
}

/* Where the source is absent, there is no mod; a built value had a source. */
static void copy_result(struct request *rq, const struct fsm_result *r)
{
    command_count_lookup(rq, r->op != OP_COPY || r->mod != 0);
    renamenx_result(rq, r);
}

/* COPY source destination [DB 0] [REPLACE] */
static bool copy_options(struct request *rq, unsigned *flags)
{
    int db;

    *flags = 0;
    for (int i = 3; i < rq->argc; i++) {
        if (command_is(rq, i, "REPLACE")) {
            *flags = OPF_REPLACE;
        } else if (command_is(rq, i, "DB") && i + 1 < rq->argc) {
            if (!command_get_int(rq, ++i, &db))
                return false;
            if (db != 0) {
                request_error(rq, "ERR DB index is out of range");
                return false;
            }
        } else {
            command_syntax_error(rq);
            return false;
        }
    }
    if (slice_eq(rq->argv[1], rq->argv[2])) {
        request_error(rq, "ERR source and destination objects are the same");
        return false;
    }
    return true;
}

static enum plan copy_plan(struct request *rq, struct entry_writer *unit)
{
    unsigned flags;

    if (!copy_options(rq, &flags) || !check_two_keys(rq))
        return PLAN_REPLIED;
    if (rebuild_done(rq))
        put_copied(rq, unit, flags == 0 ? PUT_NX : 0);
    else
        entry_bytes(unit, OP_COPY, flags | ENTRY_MORE, rq->argv[1], rq->argv[2]);
    return PLAN_READY;
}

#define ROW(n, ar, fl, cat, l, snc, syn, sum)                                                      \
    .name = n, .arity = ar, .flags = fl, .categories = CAT_KEYSPACE | (cat), .first_key = 1,       \
    .last_key = l, .key_step = 1, .group = "generic", .since = snc, .syntax = syn, .summary = sum
#define TIPS_SUM "request_policy:multi_shard response_policy:agg_sum"
#define EXPIRE_SYNTAX(value) "key " value " [NX | XX | GT | LT]"

const struct command commands_key[] = {
    {ROW("exists", -2, CMD_READONLY | CMD_FAST | CMD_SLICES, 0, -1, "1.0.0", "key [key ...]",
         "Counts the keys that are there, and leases them."),
     .keys = "RO", .tips = TIPS_SUM, .run = exists_run},
    {ROW("touch", -2, CMD_READONLY | CMD_FAST | CMD_SLICES, 0, -1, "3.2.1", "key [key ...]",
         "Counts the keys that are there; the same as EXISTS."),
     .keys = "RO", .tips = TIPS_SUM, .run = exists_run},
    {ROW("type", 2, CMD_READONLY | CMD_FAST, 0, 1, "1.0.0", "key",
         "Answers \"string\" for a key that is there, else \"none\"."),
     .keys = "RO", .run = type_run},
    {ROW("del", -2, CMD_WRITE, 0, -1, "1.0.0", "key [key ...]",
         "Removes keys and counts those that were there."),
     .keys = "RM delete", .tips = TIPS_SUM, .plan = cmd_del_plan, .result = result_sum},
    {ROW("unlink", -2, CMD_WRITE | CMD_FAST, 0, -1, "4.0.0", "key [key ...]",
         "Removes keys; the same as DEL."),
     .keys = "RM delete", .tips = TIPS_SUM, .plan = cmd_del_plan, .result = result_sum},
    {ROW("ttl", 2, CMD_READONLY | CMD_FAST, 0, 1, "1.0.0", "key",
         "Tells how many seconds a key has to live."),
     .tips = "nondeterministic_output", .run = ttl_run},
    {ROW("pttl", 2, CMD_READONLY | CMD_FAST, 0, 1, "2.6.0", "key",
         "Tells how many milliseconds a key has to live."),
     .tips = "nondeterministic_output", .run = pttl_run},
    {ROW("expiretime", 2, CMD_READONLY | CMD_FAST, 0, 1, "7.0.0", "key",
         "Tells the second at which a key expires."),
     .run = expiretime_run},
    {ROW("pexpiretime", 2, CMD_READONLY | CMD_FAST, 0, 1, "7.0.0", "key",
         "Tells the millisecond at which a key expires."),
     .run = pexpiretime_run},
    {ROW("expire", -3, CMD_WRITE | CMD_FAST, 0, 1, "1.0.0", EXPIRE_SYNTAX("seconds"),
         "Lets a key live for some seconds."),
     .plan = expire_plan, .result = result_int},
    {ROW("pexpire", -3, CMD_WRITE | CMD_FAST, 0, 1, "2.6.0", EXPIRE_SYNTAX("milliseconds"),
         "Lets a key live for some milliseconds."),
     .plan = pexpire_plan, .result = result_int},
    {ROW("expireat", -3, CMD_WRITE | CMD_FAST, 0, 1, "1.2.0", EXPIRE_SYNTAX("unix-time-seconds"),
         "Lets a key live up to a second of Unix time."),
     .plan = expireat_plan, .result = result_int},
    {ROW("pexpireat", -3, CMD_WRITE | CMD_FAST, 0, 1, "2.6.0",
         EXPIRE_SYNTAX("unix-time-milliseconds"),
         "Lets a key live up to a millisecond of Unix time."),
     .plan = pexpireat_plan, .result = result_int},
    {ROW("persist", 2, CMD_WRITE | CMD_FAST, 0, 1, "2.2.0", "key", "Lets a key live for ever."),
     .plan = persist_plan, .result = result_int},
    {ROW("rename", 3, CMD_WRITE, 0, 2, "1.0.0", "key newkey",
         "Gives a value another key, whoever had that."),
     .keys = "RW access delete|OW update", .rebuild = copy_rebuild, .plan = rename_plan,
     .result = rename_result},
    {ROW("renamenx", 3, CMD_WRITE | CMD_FAST, 0, 2, "1.0.0", "key newkey",
         "Gives a value another key unless that is taken."),
     .keys = "RW access delete|OW insert", .rebuild = copy_rebuild, .plan = renamenx_plan,
     .result = renamenx_result},
    {ROW("copy", -3, CMD_WRITE | CMD_DENYOOM, 0, 2, "6.2.0",
         "source destination [DB destination-db] [REPLACE]",
         "Stores a value under a second key as well."),
     .keys = "RO access|OW update", .rebuild = copy_rebuild, .plan = copy_plan,
     .result = copy_result},
    {.name = NULL},
};
