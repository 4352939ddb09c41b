/* SPDX-License-Identifier: MIT */
/* KV cache: KVSTORE KVGET KVDEL KVKEYS KVMATCH KVRANGE KVINFO. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/number.h"
#include "server/cmd_key.h"
#include "server/result.h"
#include "server/scan.h"
#include "server/server.h"
#include "server/value.h"

/* ---- KVSTORE ------------------------------------------------------------------------------ */

static bool meta_text(struct request *rq, int arg, const char *name, struct slice *out)
{
    char text[80];

    if (rq->argv[arg].len <= RECORD_META_MAX) {
        *out = rq->argv[arg];
        return true;
    }
    snprintf(text, sizeof(text), "ERR %s is too long (maximum 255 bytes)", name);
    request_error(rq, text);
    return false;
}

/* One option with its value at argv[i + 1]; false = replied. */
static bool store_option(struct request *rq, int i, struct op_put *put, bool *expires)
{
    static const char *const units[] = {"EX", "PX", "EXAT", "PXAT"};
    int64_t n;

    if (i + 1 < rq->argc && command_is(rq, i, "MODEL"))
        return meta_text(rq, i + 1, "MODEL", &put->model);
    if (i + 1 < rq->argc && command_is(rq, i, "SEQ"))
        return meta_text(rq, i + 1, "SEQ", &put->seq);
    if (i + 1 < rq->argc && command_is(rq, i, "TOKENS")) {
        if (!command_get_range(rq, i + 1, 0, UINT32_MAX, &n, NULL))
            return false;
        put->tokens = (uint32_t)n;
        return true;
    }
    for (size_t u = 0; u < 4 && i + 1 < rq->argc && !*expires; u++) {
        if (!command_is(rq, i, units[u]))
            continue;
        *expires = true;
        return command_expire_at(rq, i + 1, units[u], &put->expire_ms);
    }
    command_syntax_error(rq);
    return false;
}

static enum plan kvstore_plan(struct request *rq, struct entry_writer *unit)
{
    struct op_put put = {.created_ms = rq->now_ms};
    unsigned flags = 0;
    bool expires = false;

    for (int i = 3; i < rq->argc;) {
        if (command_is(rq, i, "NX")) {
            flags = PUT_NX;
            i++;
        } else if (store_option(rq, i, &put, &expires)) {
            i += 2;
        } else {
            return PLAN_REPLIED;
        }
    }
    if (!command_check_key(rq, rq->argv[1]))
        return PLAN_REPLIED;
    request_put(rq, unit, rq->argv[1], 2, flags | ENTRY_MORE, &put);
    return PLAN_READY;
}

static void kvstore_result(struct request *rq, const struct fsm_result *r)
{
    metric_add(&rq->server->metrics, METRIC_STORES, 1);
    if (r->status == FSM_OK)
        emit_status(request_emit(rq), "OK");
    else
        emit_nil(request_emit(rq));
}

/* ---- KVGET, KVINFO ------------------------------------------------------------------------ */

struct meta { /* of a record, kept while its value is loaded */
    uint32_t tokens;
    uint64_t created_ms, expire_ms, length, digest;
    size_t model_len, seq_len;
    uint8_t model[RECORD_META_MAX], seq[RECORD_META_MAX];
};

static void take_meta(struct meta *m, const struct record *r)
{
    *m = (struct meta){.tokens = r->tokens,
                       .created_ms = r->created_ms,
                       .expire_ms = r->expire_ms,
                       .length = r->length,
                       .digest = r->digest,
                       .model_len = r->model.len,
                       .seq_len = r->seq.len};
    if (r->model.len > 0)
        memcpy(m->model, r->model.ptr, r->model.len);
    if (r->seq.len > 0)
        memcpy(m->seq, r->seq.ptr, r->seq.len);
}

#define META_PAIRS 7
static void emit_meta(struct request *rq, const struct meta *m)
{
    struct emit *e = request_emit(rq);
    uint64_t now = command_now_ms(rq->server);
    int64_t ttl = m->expire_ms == 0 ? -1 : m->expire_ms > now ? (int64_t)(m->expire_ms - now) : 0;

    emit_bulk_str(e, "model");
    emit_bulk(e, slice_of(m->model, m->model_len));
    emit_bulk_str(e, "seq");
    emit_bulk(e, slice_of(m->seq, m->seq_len));
    emit_bulk_str(e, "tokens");
    emit_int(e, m->tokens);
    emit_bulk_str(e, "created");
    emit_int(e, (int64_t)m->created_ms);
    emit_bulk_str(e, "ttl");
    emit_int(e, ttl);
    emit_bulk_str(e, "length");
    emit_int(e, (int64_t)m->length);
    emit_bulk_str(e, "digest");
    emit_bulkf(e, "%016" PRIx64, m->digest);
}

static void kvget_meta_begin(struct request *rq, int err)
{
    struct emit *e = request_emit(rq);

    if (err != 0) {
        value_begin(rq, err);
        return;
    }
    emit_map(e, META_PAIRS + 1);
    emit_meta(rq, rq->state);
    emit_bulk_str(e, "value");
}

static void kvget_run(struct request *rq)
{
    struct record r;
    struct meta *m;

    if (rq->argc > 3 || (rq->argc == 3 && !command_is(rq, 2, "META"))) {
        command_syntax_error(rq);
        return;
    }
    metric_add(&rq->server->metrics, METRIC_LOADS, 1);
    if (!command_lookup(rq, rq->argv[1], &r)) {
        emit_nil(request_emit(rq));
        return;
    }
    if (rq->argc == 2) {
        value_reply(rq, rq->argv[1], &r);
        return;
    }
    m = malloc(sizeof(*m));
    if (m == NULL) {
        request_error(rq, "ERR out of memory");
        return;
    }
    take_meta(m, &r);
    rq->state = m;
    rq->state_free = free;
    value_send(rq, rq->argv[1], &r, &(struct value_part){0, r.length, kvget_meta_begin, NULL});
}

static void kvinfo_run(struct request *rq)
{
    struct emit *e = request_emit(rq);
    struct record r;
    struct meta m;
    bool slab;

    if (!command_lookup(rq, rq->argv[1], &r)) {
        emit_nil(e);
        return;
    }
    take_meta(&m, &r);
    slab = r.kind == RECORD_SLAB;
    emit_map(e, META_PAIRS + (slab ? 3 : 1));
    emit_meta(rq, &m);
    emit_bulk_str(e, "storage");
    emit_bulk_str(e, slab ? "slab" : "inline");
    if (!slab)
        return;
    emit_bulk_str(e, "volume");
    emit_int(e, r.place.volume);
    emit_bulk_str(e, "offset");
    emit_int(e, (int64_t)r.place.offset);
}

/* ---- KVRANGE: parts of one value, each from the chunks that cover it ----------------------- */

struct ranges {
    int next; /* argv index of the next offset */
    bool inside, again;
};

static void kvrange_next(struct request *rq);

static void kvrange_end(struct request *rq)
{
    struct ranges *p = rq->state;

    p->next += 2;
    if (p->inside)
        p->again = true;
    else
        kvrange_next(rq);
}

/* The key is looked up for each part: an overwrite between two parts must not mix two values, so
 * a changed mod makes the rest nil. */
static void kvrange_next(struct request *rq)
{
    struct ranges *p = rq->state;

    p->inside = true;
    do {
        struct record r;
        int64_t offset, count;

        p->again = false;
        if (p->next >= rq->argc || (rq->conn == NULL && rq->parent == NULL))
            break;
        if (request_pace(rq, kvrange_next))
            break;
        number_parse_i64(rq->argv[p->next], &offset);
        number_parse_i64(rq->argv[p->next + 1], &count);
        if (!command_lookup(rq, rq->argv[1], &r) || r.mod != rq->if_mod ||
            (uint64_t)offset > r.length || (uint64_t)count > r.length - (uint64_t)offset) {
            emit_nil(request_emit(rq));
            p->next += 2;
            p->again = true;
        } else {
            value_send(rq, rq->argv[1], &r,
                       &(struct value_part){(uint64_t)offset, (uint64_t)count, value_begin,
                                            kvrange_end});
        }
    } while (p->again);
    p->inside = false;
}

static void kvrange_run(struct request *rq)
{
    struct ranges *p;
    struct record r;
    int64_t v;

    if (rq->argc % 2 != 0) {
        command_wrong_arity(rq);
        return;
    }
    for (int i = 2; i < rq->argc; i++)
        if (!command_get_range(rq, i, 0, INT64_MAX, &v, NULL))
            return;
    metric_add(&rq->server->metrics, METRIC_LOADS, 1);
    if (!command_lookup(rq, rq->argv[1], &r)) {
        emit_nil_array(request_emit(rq));
        return;
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL) {
        request_error(rq, "ERR out of memory");
        return;
    }
    p->next = 2;
    rq->state = p;
    rq->state_free = free;
    rq->if_mod = r.mod;
    emit_array(request_emit(rq), (size_t)(rq->argc - 2) / 2);
    kvrange_next(rq);
}

/* ---- KVMATCH ------------------------------------------------------------------------------ */

#define MATCH_AHEAD 16 /* look-ups under way */
#define MATCH_SLICE 64 /* keys between two looks at the time */

struct match {
    int next, end;
    uint64_t lease_ms;
};

/* Matches up to `end`, or to the first key that is not there. Each look-up is a cache miss or
 * more, so those of the next keys are under way while one is looked at. */
static void match_keys(struct request *rq, struct match *m, int end)
{
    struct server *s = rq->server;
    uint64_t now = clock_now_ms(&s->clock), seen = command_now_ms(s), hash[MATCH_AHEAD];
    int ahead = m->next;

    for (; m->next < end; m->next++) {
        for (; ahead < end && ahead < m->next + MATCH_AHEAD; ahead++)
            hash[ahead % MATCH_AHEAD] = store_ahead(s->store, rq->argv[ahead]);
        uint64_t h = hash[m->next % MATCH_AHEAD];

        if (!store_present(s->store, rq->argv[m->next], h, seen))
            return;
        if (!lease_take_hash(store_lease(s->store), h, now, now + m->lease_ms))
            return; /* its eviction is on the way */
    }
}

static void kvmatch_slice(struct request *rq)
{
    struct match *m = rq->state;
    struct server *s = rq->server;

    while (m->next < m->end) {
        int end = m->end - m->next > MATCH_SLICE ? m->next + MATCH_SLICE : m->end;

        match_keys(rq, m, end);
        if (m->next < end)
            break;
        if (m->next < m->end && request_slice_over(rq)) {
            request_next_turn(rq, kvmatch_slice);
            return;
        }
    }
    metric_add(&s->metrics, METRIC_HITS, (uint64_t)(m->next - 1));
    metric_add(&s->metrics, METRIC_MISSES, m->next < m->end);
    metric_add(&s->metrics, METRIC_MATCH_KEYS, (uint64_t)(m->end - 1));
    metric_add(&s->metrics, METRIC_MATCH_HITS, (uint64_t)(m->next - 1));
    emit_int(request_emit(rq), m->next - 1);
}

static void kvmatch_run(struct request *rq)
{
    struct match *m = calloc(1, sizeof(*m));
    int64_t lease_ms = rq->server->config->lookup_lease_ms;
    int end = rq->argc;

    if (m == NULL) {
        request_error(rq, "ERR out of memory");
        return;
    }
    rq->state = m;
    rq->state_free = free;
    if (rq->argc >= 4 && command_is(rq, rq->argc - 2, "LEASE")) {
        end = rq->argc - 2;
        if (!command_get_range(rq, rq->argc - 1, 0, LEASE_MS_MAX, &lease_ms, NULL))
            return;
    }
    m->next = 1;
    m->end = end;
    m->lease_ms = (uint64_t)lease_ms;
    kvmatch_slice(rq);
}

/* ---- KVKEYS ------------------------------------------------------------------------------- */

static void kvkeys_run(struct request *rq)
{
    struct listing_spec spec = {.limit = UINT64_MAX};
    int i = 1;
    int64_t limit;

    /* Options come in pairs, so an odd argument is the prefix, whatever it says. */
    if (rq->argc % 2 == 0)
        spec.prefix = rq->argv[i++];
    for (; i < rq->argc; i += 2) {
        if (command_is(rq, i, "LIMIT")) {
            if (!command_get_range(rq, i + 1, 0, INT64_MAX, &limit, NULL))
                return;
            spec.limit = (uint64_t)limit;
        } else if (command_is(rq, i, "AFTER")) {
            spec.after = rq->argv[i + 1];
        } else {
            command_syntax_error(rq);
            return;
        }
    }
    if (spec.prefix.len > RECORD_KEY_MAX || spec.after.len > RECORD_KEY_MAX) {
        request_error(rq, "ERR key is too long (maximum 480 bytes)");
        return;
    }
    listing_start(rq, &spec);
}

#define ROW(n, ar, fl, l, syn, sum)                                                                \
    .name = n, .arity = ar, .flags = fl, .categories = CAT_KVCACHE, .first_key = (l) != 0,         \
    .last_key = l, .key_step = (l) != 0, .group = "kvcache", .since = "0.1.0", .syntax = syn,      \
    .summary = sum

const struct command commands_kv[] = {
    {ROW("kvstore", -3, CMD_WRITE | CMD_DENYOOM | CMD_STAGES, 1,
         "key value [MODEL model] [SEQ sequence] [TOKENS tokens] [EX seconds | PX milliseconds | "
         "EXAT unix-time-seconds | PXAT unix-time-milliseconds] [NX]",
         "Writes a block with its metadata, durably."),
     .keys = "OW update", .plan = kvstore_plan, .result = kvstore_result},
    {ROW("kvget", -2, CMD_READONLY, 1, "key [META]", "Reads a block, with META its metadata too."),
     .run = kvget_run},
    {ROW("kvdel", -2, CMD_WRITE, -1, "key [key ...]",
         "Removes blocks and counts those that were there."),
     .keys = "RM delete", .plan = cmd_del_plan, .result = result_sum},
    {ROW("kvkeys", -1, CMD_READONLY | CMD_LISTING, 0, "[prefix] [LIMIT limit] [AFTER key]",
         "Lists keys in order, page by page."),
     .run = kvkeys_run},
    {ROW("kvmatch", -2, CMD_READONLY | CMD_FAST | CMD_SLICES, -1,
         "key [key ...] [LEASE milliseconds]",
         "Counts the leading keys that are there, and leases them."),
     .keys = "RO", .run = kvmatch_run},
    {ROW("kvrange", -4, CMD_READONLY | CMD_SLICES, 1, "key offset length [offset length ...]",
         "Reads parts of a block and no more of it than needed."),
     .run = kvrange_run},
    {ROW("kvinfo", 2, CMD_READONLY | CMD_FAST, 1, "key",
         "Shows the metadata of a block and where it is stored."),
     .keys = "RO", .run = kvinfo_run},
    {.name = NULL},
};
