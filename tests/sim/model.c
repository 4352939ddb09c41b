/* SPDX-License-Identifier: MIT */
/* The frame: choices, time, watches, and operations of several steps. */
#include "model_int.h"

#include <stdio.h>
#include <string.h>

static uint64_t value_max;

void model_set_value_max(uint64_t max)
{
    value_max = max;
}

uint64_t model_value_max(void)
{
    return value_max;
}

const char *meta_text(uint16_t number, char out[32])
{
    if (number == 0)
        out[0] = '\0';
    else
        snprintf(out, 32, "meta-%u", number);
    return out;
}

bool model_choose(struct trial *t)
{
    return t->choice.bits >> t->choice.used++ & 1;
}

void model_wrote(struct trial *t, int key)
{
    for (int c = 0; c < CLIENTS; c++)
        if (t->g->watching[c] >> key & 1)
            t->g->touched[c] |= (uint8_t)(1u << key);
}

void model_maybe_wrote(struct trial *t, int key)
{
    for (int c = 0; c < CLIENTS; c++)
        if ((t->g->watching[c] >> key & 1) && !(t->g->touched[c] >> key & 1) && model_choose(t))
            t->g->touched[c] |= (uint8_t)(1u << key);
}

struct key_state *model_key(struct trial *t, int key)
{
    struct key_state *k = &t->g->keys[key];
    bool gone;

    if (k->value == NULL || k->expire_hi == 0 || t->w->hi < k->expire_lo)
        return k;
    gone = t->w->lo >= k->expire_hi || model_choose(t);
    if (gone) {
        *k = (struct key_state){0};
        model_wrote(t, key);
    } else if (k->expire_lo <= t->w->lo) {
        k->expire_lo = t->w->lo + 1;
    }
    return k;
}

struct window model_deadline(const struct trial *t, const struct step *s)
{
    if (s->ttl == TTL_NONE)
        return (struct window){0, 0};
    if (s->ttl == TTL_ABSOLUTE)
        return (struct window){(uint64_t)s->ttl_ms, (uint64_t)s->ttl_ms};
    return (struct window){t->w->lo + (uint64_t)s->ttl_ms, t->w->hi + (uint64_t)s->ttl_ms};
}

/* ---- replies ------------------------------------------------------------------------------ */

bool answers_int(const struct step *s, int64_t n)
{
    return s->reply == NULL || (s->reply->type == REPLY_INT && s->reply->number == n);
}

bool answers_ok(const struct step *s)
{
    return s->reply == NULL || reply_is(s->reply, "OK");
}

bool answers_nil(const struct step *s)
{
    return s->reply == NULL || s->reply->type == REPLY_NIL;
}

bool answers_error(const struct step *s, const char *text)
{
    return s->reply == NULL || reply_is_error(s->reply, text);
}

bool answers_read_fault(const struct trial *t, const struct reply *r)
{
    return t->op->read_faults && (r->type == REPLY_NIL || reply_is_error(r, "IOERR "));
}

bool answers_value(const struct trial *t, const struct step *s, const struct blob *b)
{
    if (s->reply == NULL || answers_read_fault(t, s->reply))
        return true;
    return s->reply->type == REPLY_BULK && s->reply->len == b->len && s->reply->hash == b->hash;
}

/* ---- one operation ------------------------------------------------------------------------ */

static void forget_watches(struct trial *t)
{
    int c = t->op->client;

    if (c >= 0)
        t->g->watching[c] = t->g->absent[c] = t->g->touched[c] = 0;
}

static bool is_read_kind(enum step_kind kind)
{
    return kind <= STEP_PRESENT || kind == STEP_SNAPSHOT;
}

static bool watch_step(struct trial *t, const struct step *s)
{
    int c = t->op->client;

    if (s->kind == STEP_UNWATCH) {
        forget_watches(t);
        return true;
    }
    for (int key = 0; key < GROUP_KEYS; key++)
        if ((s->mask & ~t->g->watching[c]) >> key & 1 && model_key(t, key)->value == NULL)
            t->g->absent[c] |= (uint8_t)(1u << key);
    t->g->watching[c] |= (uint8_t)s->mask;
    return answers_ok(s);
}

static bool run_step(struct trial *t, const struct step *s)
{
    if (s->kind == STEP_WATCH || s->kind == STEP_UNWATCH)
        return watch_step(t, s);
    return is_read_kind(s->kind) ? model_read_step(t, s) : model_write_step(t, s);
}

/* A key that was not there at WATCH and is not there now may have come and gone behind the server's
 * last look: its entry only says that the key must not be there. */
static bool is_refused(struct trial *t)
{
    int c = t->op->client;
    unsigned excused = 0;

    for (int key = 0; key < GROUP_KEYS; key++)
        if ((t->g->watching[c] >> key & 1) && model_key(t, key)->value == NULL)
            excused |= t->g->absent[c] & 1u << key;
    if (t->g->touched[c] & ~excused)
        return true;
    return t->g->touched[c] != 0 && model_choose(t);
}

/* 1: go on with the steps; 0: it cannot be; -1: refused, and that is the answer. */
static int begin_exec(struct trial *t)
{
    const struct reply *r = t->op->exec_reply;
    bool refused = is_refused(t);

    forget_watches(t);
    if (r != NULL && (r->type == REPLY_NIL) != refused)
        return 0;
    return refused ? -1 : 1;
}

static bool run(struct trial *t)
{
    int go = t->op->exec ? begin_exec(t) : 1;

    for (int i = 0; go == 1 && i < t->op->nsteps; i++)
        if (!run_step(t, &t->op->steps[i]))
            return false;
    return go != 0;
}

static bool known(const struct group_state *list, int n, const struct group_state *g)
{
    for (int i = 0; i < n; i++)
        if (memcmp(&list[i], g, sizeof(*g)) == 0)
            return true;
    return false;
}

int model_apply(const struct operation *op, const struct window *w, const struct group_state *in,
                struct group_state out[NEXT_MAX])
{
    unsigned most = 0;
    int n = 0;

    for (unsigned bits = 0; bits == 0 || bits >> most == 0; bits++) {
        struct group_state g = *in;
        struct trial t = {.op = op, .w = w, .g = &g, .choice = {.bits = bits}};
        bool can_be = run(&t);

        if (t.choice.used > most)
            most = t.choice.used;
        if (most > 16)
            sim_fail("an operation with %u choices", most);
        if (!can_be || known(out, n, &g))
            continue;
        if (n == NEXT_MAX)
            sim_fail("an operation with too many outcomes");
        out[n++] = g;
    }
    return n;
}

bool model_only_looks(const struct operation *op)
{
    for (int i = 0; i < op->nsteps; i++)
        if (!is_read_kind(op->steps[i].kind))
            return false;
    return true;
}

bool model_is_read(const struct operation *op)
{
    return !op->exec && model_only_looks(op);
}

/* ---- for people --------------------------------------------------------------------------- */

static const char *const names[STEP_COUNT] = {
    [STEP_GET] = "GET",           [STEP_STRLEN] = "STRLEN",   [STEP_GETRANGE] = "GETRANGE",
    [STEP_EXISTS] = "EXISTS",     [STEP_TTL] = "TTL",         [STEP_KVGET_META] = "KVGET-META",
    [STEP_KVINFO] = "KVINFO",     [STEP_KVRANGE] = "KVRANGE", [STEP_PRESENT] = "PRESENT",
    [STEP_SET] = "SET",           [STEP_KVSTORE] = "KVSTORE", [STEP_SETNX] = "SETNX",
    [STEP_GETDEL] = "GETDEL",     [STEP_GETEX] = "GETEX",     [STEP_APPEND] = "APPEND",
    [STEP_SETRANGE] = "SETRANGE", [STEP_INCRBY] = "INCRBY",   [STEP_INCRBYFLOAT] = "INCRBYFLOAT",
    [STEP_DEL] = "DEL",           [STEP_EXPIRE] = "EXPIRE",   [STEP_PERSIST] = "PERSIST",
    [STEP_RENAME] = "RENAME",     [STEP_COPY] = "COPY",       [STEP_MSET] = "MSET",
    [STEP_MSETNX] = "MSETNX",     [STEP_FLUSH] = "FLUSHALL",  [STEP_EVICT] = "EVICT",
    [STEP_WATCH] = "WATCH",       [STEP_UNWATCH] = "UNWATCH", [STEP_SNAPSHOT] = "SNAPSHOT",
};

static size_t describe_step(const struct step *s, char *out, size_t size)
{
    char reply[200] = "?";
    size_t n;

    if (s->reply != NULL)
        reply_describe(s->reply, reply, sizeof(reply));
    n = (size_t)snprintf(out, size, "%s k%d", names[s->kind], s->key);
    if (s->mask != 0)
        n += (size_t)snprintf(out + n, size - n, " mask=%x", s->mask);
    if (s->kind == STEP_RENAME || s->kind == STEP_COPY)
        n += (size_t)snprintf(out + n, size - n, " to=k%d", s->to);
    if (s->flags != 0)
        n += (size_t)snprintf(out + n, size - n, " flags=%x", s->flags);
    if (s->a != 0 || s->b != 0)
        n += (size_t)snprintf(out + n, size - n, " a=%" PRId64 " b=%" PRId64, s->a, s->b);
    for (int i = 0; i < s->nranges; i++)
        n += (size_t)snprintf(out + n, size - n, " %" PRId64 "+%" PRId64, s->ranges[i][0],
                              s->ranges[i][1]);
    if (s->ttl != TTL_NONE)
        n += (size_t)snprintf(out + n, size - n, " %s=%" PRId64,
                              s->ttl == TTL_RELATIVE ? "in" : "at", s->ttl_ms);
    for (int i = 0; i < GROUP_KEYS; i++)
        if (s->args[i] != NULL)
            n += (size_t)snprintf(out + n, size - n, " v%d=%zu:%08x", i, s->args[i]->len,
                                  (unsigned)s->args[i]->hash);
    if (s->kind == STEP_SNAPSHOT && s->record.value != NULL)
        n += (size_t)snprintf(out + n, size - n, " has %zu:%08x@%" PRIu64 " made %" PRIu64,
                              s->record.value->len, (unsigned)s->record.value->hash,
                              s->record.expire_hi, s->record.made_lo);
    n += (size_t)snprintf(out + n, size - n, "%s -> %s", s->expect ? " expect" : "", reply);
    return n;
}

void model_describe(const struct operation *op, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    if (op->exec)
        n = (size_t)snprintf(out, size, "EXEC%s ",
                             op->exec_reply == NULL              ? " (?)"
                             : op->exec_reply->type == REPLY_NIL ? " (nil)"
                                                                 : "");
    for (int i = 0; i < op->nsteps && n + 400 < size; i++) {
        n += describe_step(&op->steps[i], out + n, size - n);
        n += (size_t)snprintf(out + n, size - n, "; ");
    }
}

void model_describe_state(const struct group_state *g, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    for (int i = 0; i < GROUP_KEYS && n + 160 < size; i++) {
        const struct key_state *k = &g->keys[i];

        if (k->value == NULL) {
            n += (size_t)snprintf(out + n, size - n, "k%d=- ", i);
            continue;
        }
        n += (size_t)snprintf(out + n, size - n, "k%d=%zu:%08x made %" PRIu64 "..%" PRIu64, i,
                              k->value->len, (unsigned)k->value->hash, k->made_lo, k->made_hi);
        if (k->expire_hi != 0)
            n += (size_t)snprintf(out + n, size - n, "@%" PRIu64 "..%" PRIu64, k->expire_lo,
                                  k->expire_hi);
        if (k->tokens != 0 || k->model != 0 || k->seq != 0)
            n += (size_t)snprintf(out + n, size - n, "/%u,%u,%u", k->tokens, k->model, k->seq);
        n += (size_t)snprintf(out + n, size - n, " ");
    }
    for (int c = 0; c < CLIENTS && n + 40 < size; c++)
        if (g->watching[c] != 0)
            n += (size_t)snprintf(out + n, size - n, "w%d=%x%s ", c, g->watching[c],
                                  g->touched[c] ? "!" : "");
}
