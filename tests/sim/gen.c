/* SPDX-License-Identifier: MIT */
/* Random commands. Single-key commands are rows of a table, so that they come alone or between
 * MULTI and EXEC; the others have functions of their own. */
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "keys.h"
#include "node.h"

enum { SEGMENT_ENOUGH = 24, HOT_GROUPS = 6 };

/* ---- what they are made of ---------------------------------------------------------------- */

static bool one_in(uint64_t n)
{
    return sim_random(n) == 0;
}

/* A group that has few operations under way; hot ones are met more often. */
static int pick_group(void)
{
    for (int tries = 0; tries < 20; tries++) {
        int g = (int)(sim_random(2) == 0 ? sim_random(HOT_GROUPS) : sim_random(GROUPS));

        if (check_load(g) < SEGMENT_ENOUGH)
            return g;
    }
    return -1;
}

static int pick_key(void)
{
    return (int)sim_random(GROUP_KEYS);
}

static size_t pick_length(void)
{
    uint64_t inline_max = sim.profile.inline_max, scale = sim.profile.value_scale;

    if (sim.profile.heavy && one_in(4))
        return (size_t)sim_between(1, scale);
    switch (sim_random(20)) {
    case 0:
        return 0;
    case 1:
    case 2:
    case 3:
        return (size_t)(inline_max - 1 + sim_random(3));
    case 4:
        return (size_t)sim_between(16 * KIB - 1, 16 * KIB + 1);
    case 5:
    case 6:
        return (size_t)sim_between(1, 20000);
    case 7:
    case 8:
    case 9:
        return (size_t)sim_between(16 * KIB, 16 * KIB + scale / 4);
    case 10:
        return (size_t)sim_between(1, scale);
    default:
        return (size_t)sim_between(1, 200);
    }
}

static const struct blob *pick_value(void)
{
    static const char *const numbers[] = {"0",    "1", "-5",   "41",    "9223372036854775806",
                                          "0.25", "7", "-1.5", "100000"};
    struct blob *b;

    if (one_in(8)) {
        const char *text = numbers[sim_random(sizeof(numbers) / sizeof(numbers[0]))];

        return blob_of(text, strlen(text));
    }
    b = blob_new(pick_length());
    sim_bytes(b->bytes, b->len);
    return blob_intern(b);
}

/* In a transaction a deadline that passes between its trial and its apply may mix two values of a
 * key that it rebuilds: known, and left out. */
static bool in_tx;

static int64_t pick_ms(void)
{
    if (in_tx)
        return (int64_t)sim_between(1800000, 3600000);
    if (one_in(2))
        return (int64_t)sim_between(1, 300);
    return (int64_t)(one_in(2) ? sim_between(1, 20000) : sim_between(1, 3600000));
}

static int64_t now_ms(void)
{
    return (int64_t)node_now_ms();
}

/* EX, PX, EXAT or PXAT. */
static void pick_ttl(struct step *s, struct args *a)
{
    int64_t ms = pick_ms(), s_at = (now_ms() + ms) / 1000 + 1;

    switch (sim_random(4)) {
    case 0:
        s->ttl = TTL_RELATIVE;
        s->ttl_ms = (ms / 1000 + 1) * 1000;
        arg_word(a, "EX");
        arg_number(a, s->ttl_ms / 1000);
        break;
    case 1:
        s->ttl = TTL_RELATIVE;
        s->ttl_ms = ms;
        arg_word(a, "PX");
        arg_number(a, ms);
        break;
    case 2:
        s->ttl = TTL_ABSOLUTE;
        s->ttl_ms = s_at * 1000;
        arg_word(a, "EXAT");
        arg_number(a, s_at);
        break;
    default:
        s->ttl = TTL_ABSOLUTE;
        s->ttl_ms = one_in(6) ? now_ms() - ms : now_ms() + ms;
        arg_word(a, "PXAT");
        arg_number(a, s->ttl_ms);
    }
}

/* ---- commands on one key ------------------------------------------------------------------ */

typedef void (*fill_fn)(struct step *s, struct args *a, int group);

static void words(struct args *a, const char *name, int group, int key)
{
    arg_word(a, name);
    arg_key(a, group, key);
}

static void fill_get(struct step *s, struct args *a, int group)
{
    words(a, one_in(2) ? "GET" : "KVGET", group, s->key);
}

static void fill_strlen(struct step *s, struct args *a, int group)
{
    words(a, "STRLEN", group, s->key);
}

static void fill_getrange(struct step *s, struct args *a, int group)
{
    int64_t about = one_in(3) ? (int64_t)sim.profile.value_scale : 300;

    words(a, "GETRANGE", group, s->key);
    s->a = (int64_t)sim_random((uint64_t)about) - about / 4;
    s->b = (int64_t)sim_random((uint64_t)about) - about / 4;
    arg_number(a, s->a);
    arg_number(a, s->b);
}

static void fill_exists(struct step *s, struct args *a, int group)
{
    s->mask = (unsigned)sim_between(1, (1u << GROUP_KEYS) - 1);
    arg_word(a, one_in(4) ? "TOUCH" : "EXISTS");
    for (int key = 0; key < GROUP_KEYS; key++)
        if (s->mask >> key & 1)
            arg_key(a, group, key);
}

static void fill_ttl(struct step *s, struct args *a, int group)
{
    static const char *const names[] = {"PTTL", "TTL", "PEXPIRETIME", "EXPIRETIME"};

    s->unit = (enum ttl_unit)sim_random(4);
    words(a, names[s->unit], group, s->key);
}

static void fill_meta(struct step *s, struct args *a, int group)
{
    words(a, s->kind == STEP_KVINFO ? "KVINFO" : "KVGET", group, s->key);
    if (s->kind != STEP_KVINFO)
        arg_word(a, "META");
}

static void fill_kvrange(struct step *s, struct args *a, int group)
{
    const struct blob *b = check_guess(group)->keys[s->key].value;
    uint64_t len = b == NULL ? 100 : b->len;

    words(a, "KVRANGE", group, s->key);
    s->nranges = (int)sim_between(1, 3);
    for (int i = 0; i < s->nranges; i++) {
        s->ranges[i][0] = (int64_t)sim_random(len + 2);
        s->ranges[i][1] = (int64_t)sim_random(one_in(8) ? len + 2 : len - len / 2 + 1);
        arg_number(a, s->ranges[i][0]);
        arg_number(a, s->ranges[i][1]);
    }
}

static void fill_set(struct step *s, struct args *a, int group)
{
    words(a, "SET", group, s->key);
    s->args[0] = pick_value();
    arg_blob(a, s->args[0]);
    if (one_in(4)) {
        s->flags |= STEP_GETOLD;
        arg_word(a, "GET");
    }
    if (one_in(6)) {
        s->flags |= STEP_NX;
        arg_word(a, "NX");
    } else if (one_in(6)) {
        s->flags |= STEP_XX;
        arg_word(a, "XX");
    }
    if (one_in(5)) {
        pick_ttl(s, a);
    } else if (one_in(8)) {
        s->flags |= STEP_KEEPTTL;
        arg_word(a, "KEEPTTL");
    }
}

static void fill_getset(struct step *s, struct args *a, int group)
{
    s->flags = STEP_GETOLD;
    s->args[0] = pick_value();
    words(a, "GETSET", group, s->key);
    arg_blob(a, s->args[0]);
}

static void fill_setex(struct step *s, struct args *a, int group)
{
    int64_t ms = pick_ms();
    bool seconds = one_in(2);

    words(a, seconds ? "SETEX" : "PSETEX", group, s->key);
    s->ttl = TTL_RELATIVE;
    s->ttl_ms = seconds ? (ms / 1000 + 1) * 1000 : ms;
    s->args[0] = pick_value();
    arg_number(a, seconds ? s->ttl_ms / 1000 : ms);
    arg_blob(a, s->args[0]);
}

static void fill_kvstore(struct step *s, struct args *a, int group)
{
    char text[32];

    words(a, "KVSTORE", group, s->key);
    s->args[0] = pick_value();
    arg_blob(a, s->args[0]);
    s->model = (uint16_t)sim_random(4);
    s->seq = (uint16_t)sim_random(4);
    s->tokens = (uint32_t)sim_random(100);
    arg_word(a, "MODEL");
    arg_word(a, meta_text(s->model, text));
    arg_word(a, "TOKENS");
    arg_number(a, s->tokens);
    arg_word(a, "SEQ");
    arg_word(a, meta_text(s->seq, text));
    if (one_in(4))
        pick_ttl(s, a);
    if (one_in(6)) {
        s->flags = STEP_NX;
        arg_word(a, "NX");
    }
}

static void fill_setnx(struct step *s, struct args *a, int group)
{
    s->args[0] = pick_value();
    words(a, "SETNX", group, s->key);
    arg_blob(a, s->args[0]);
}

static void fill_getdel(struct step *s, struct args *a, int group)
{
    words(a, "GETDEL", group, s->key);
}

static void fill_getex(struct step *s, struct args *a, int group)
{
    words(a, "GETEX", group, s->key);
    if (one_in(3)) {
        s->flags = STEP_PERSIST_FLAG;
        arg_word(a, "PERSIST");
    } else if (one_in(2)) {
        pick_ttl(s, a);
    }
}

static const struct blob *pick_part(void)
{
    struct blob *b = blob_new(one_in(10) ? pick_length() : sim_between(1, 300));

    sim_bytes(b->bytes, b->len);
    return blob_intern(b);
}

static void fill_append(struct step *s, struct args *a, int group)
{
    s->args[0] = pick_part();
    words(a, "APPEND", group, s->key);
    arg_blob(a, s->args[0]);
}

static void fill_setrange(struct step *s, struct args *a, int group)
{
    const struct blob *b = check_guess(group)->keys[s->key].value;

    s->args[0] = pick_part();
    s->a = (int64_t)sim_random(b == NULL ? 100 : b->len + 100);
    if (one_in(20))
        s->a = (int64_t)sim_random(sim.profile.value_scale);
    words(a, "SETRANGE", group, s->key);
    arg_number(a, s->a);
    arg_blob(a, s->args[0]);
}

static void fill_incrby(struct step *s, struct args *a, int group)
{
    s->a = one_in(10) ? INT64_MAX - (int64_t)sim_random(3) : (int64_t)sim_random(20) - 10;
    words(a, "INCRBY", group, s->key);
    arg_number(a, s->a);
}

static void fill_incrbyfloat(struct step *s, struct args *a, int group)
{
    words(a, "INCRBYFLOAT", group, s->key);
    s->args[0] = one_in(2) ? blob_of("0.5", 3) : blob_of("-2.25", 5);
    arg_blob(a, s->args[0]);
}

static void fill_del(struct step *s, struct args *a, int group)
{
    static const char *const names[] = {"DEL", "UNLINK", "KVDEL"};

    s->mask = one_in(2) ? 1u << s->key : (unsigned)sim_between(1, (1u << GROUP_KEYS) - 1);
    arg_word(a, names[sim_random(3)]);
    for (int key = 0; key < GROUP_KEYS; key++)
        if (s->mask >> key & 1)
            arg_key(a, group, key);
}

static void fill_expire(struct step *s, struct args *a, int group)
{
    static const unsigned flags[] = {0, 0, 0, STEP_NX, STEP_XX, STEP_GT, STEP_LT};
    int64_t ms = pick_ms();
    bool absolute = one_in(2), past = one_in(8);

    s->ttl = absolute ? TTL_ABSOLUTE : TTL_RELATIVE;
    s->ttl_ms = absolute ? now_ms() + (past ? -ms : ms) : past ? -ms : ms;
    words(a, absolute ? "PEXPIREAT" : "PEXPIRE", group, s->key);
    arg_number(a, s->ttl_ms);
    s->flags = flags[sim_random(7)];
    if (s->flags != 0)
        arg_word(a, s->flags == STEP_NX   ? "NX"
                    : s->flags == STEP_XX ? "XX"
                    : s->flags == STEP_GT ? "GT"
                                          : "LT");
}

static void fill_persist(struct step *s, struct args *a, int group)
{
    words(a, "PERSIST", group, s->key);
}

static void fill_rename(struct step *s, struct args *a, int group)
{
    s->to = pick_key();
    s->flags = one_in(3) ? STEP_NX : 0;
    words(a, s->flags ? "RENAMENX" : "RENAME", group, s->key);
    arg_key(a, group, s->to);
}

static void fill_copy(struct step *s, struct args *a, int group)
{
    s->to = (s->key + 1 + (int)sim_random(GROUP_KEYS - 1)) % GROUP_KEYS;
    words(a, "COPY", group, s->key);
    arg_key(a, group, s->to);
    if (one_in(2)) {
        s->flags = STEP_REPLACE;
        arg_word(a, "REPLACE");
    }
}

static void fill_mset(struct step *s, struct args *a, int group)
{
    s->mask = (unsigned)sim_between(1, (1u << GROUP_KEYS) - 1);
    arg_word(a, s->kind == STEP_MSETNX ? "MSETNX" : "MSET");
    for (int key = 0; key < GROUP_KEYS; key++) {
        if (s->mask >> key & 1) {
            s->args[key] = pick_value();
            arg_key(a, group, key);
            arg_blob(a, s->args[key]);
        }
    }
}

static const struct row {
    enum step_kind kind;
    fill_fn fill;
    unsigned weight;
} rows[] = {
    {STEP_GET, fill_get, 24},
    {STEP_STRLEN, fill_strlen, 2},
    {STEP_GETRANGE, fill_getrange, 4},
    {STEP_EXISTS, fill_exists, 4},
    {STEP_TTL, fill_ttl, 4},
    {STEP_KVGET_META, fill_meta, 4},
    {STEP_KVINFO, fill_meta, 2},
    {STEP_KVRANGE, fill_kvrange, 5},
    {STEP_SET, fill_set, 28},
    {STEP_SET, fill_getset, 3},
    {STEP_SET, fill_setex, 3},
    {STEP_KVSTORE, fill_kvstore, 20},
    {STEP_SETNX, fill_setnx, 2},
    {STEP_GETDEL, fill_getdel, 2},
    {STEP_GETEX, fill_getex, 3},
    {STEP_APPEND, fill_append, 6},
    {STEP_SETRANGE, fill_setrange, 5},
    {STEP_INCRBY, fill_incrby, 5},
    {STEP_INCRBYFLOAT, fill_incrbyfloat, 2},
    {STEP_DEL, fill_del, 6},
    {STEP_EXPIRE, fill_expire, 5},
    {STEP_PERSIST, fill_persist, 2},
    {STEP_RENAME, fill_rename, 5},
    {STEP_COPY, fill_copy, 5},
    {STEP_MSET, fill_mset, 4},
    {STEP_MSETNX, fill_mset, 2},
};

static const struct row *pick_row(void)
{
    unsigned sum = 0, at;
    size_t i = 0;

    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
        sum += rows[k].weight;
    at = (unsigned)sim_random(sum);
    while (at >= rows[i].weight)
        at -= rows[i++].weight;
    return &rows[i];
}

static struct cmd *gen_single(const struct gen_session *s)
{
    const struct row *row = pick_row();
    int group = pick_group();
    struct args a = {0};
    struct cmd *c;

    if (group < 0)
        return NULL;
    c = cmd_new(CMD_PLAIN);
    row->fill(cmd_step(cmd_part(c, group, s->client), row->kind, pick_key()), &a, group);
    cmd_request(c, &a);
    return c;
}

struct cmd *gen_get(int group, int key, int client)
{
    struct cmd *c = cmd_new(CMD_PLAIN);
    struct args a = {0};

    words(&a, "GET", group, key);
    cmd_step(cmd_part(c, group, client), STEP_GET, key);
    cmd_request(c, &a);
    return c;
}

/* ---- transactions ------------------------------------------------------------------------- */

static struct cmd *gen_watch(struct gen_session *s)
{
    int group = pick_group();
    struct args a = {0};
    struct step *step;
    struct cmd *c;

    if (group < 0)
        return NULL;
    c = cmd_new(CMD_PLAIN);
    step = cmd_step(cmd_part(c, group, s->client), STEP_WATCH, 0);
    step->mask = (unsigned)sim_between(1, (1u << GROUP_KEYS) - 1);
    arg_word(&a, "WATCH");
    for (int key = 0; key < GROUP_KEYS; key++)
        if (step->mask >> key & 1)
            arg_key(&a, group, key);
    cmd_request(c, &a);
    s->watch_group = group;
    return c;
}

static void request_word(struct cmd *c, const char *word)
{
    struct args a = {0};

    arg_word(&a, word);
    cmd_request(c, &a);
}

static struct cmd *gen_tx(struct gen_session *s)
{
    int group = s->watch_group >= 0 ? s->watch_group : pick_group();
    bool drops = one_in(10);
    struct operation *op;
    struct cmd *c;
    int n = 0;

    if (group < 0)
        return NULL;
    c = cmd_new(drops ? CMD_DROPS : CMD_TX);
    request_word(c, "MULTI");
    op = cmd_part(c, group, s->client);
    op->exec = !drops;
    for (int tries = (int)sim_between(1, 5); tries > 0; tries--) {
        const struct row *row = pick_row();
        struct step *step = cmd_step(op, row->kind, pick_key());
        struct args a = {0};

        in_tx = true;
        row->fill(step, &a, group);
        in_tx = false;
        step->element = n++;
        cmd_request(c, &a);
    }
    if (drops) {
        op->nsteps = 1;
        op->steps[0] = (struct step){.kind = STEP_UNWATCH};
    }
    request_word(c, drops ? "DISCARD" : "EXEC");
    s->watch_group = -1;
    return c;
}

/* ---- commands on many keys ---------------------------------------------------------------- */

static struct cmd *gen_mget(const struct gen_session *s)
{
    struct cmd *c = cmd_new(CMD_PLAIN);
    struct args a = {0};
    int n = (int)sim_between(1, 8);

    arg_word(&a, "MGET");
    for (int i = 0; i < n; i++) {
        int group = pick_group(), key = pick_key();

        if (group < 0)
            continue;
        cmd_step(cmd_part(c, group, s->client), STEP_GET, key)->element = a.n - 1;
        arg_key(&a, group, key);
    }
    if (a.n == 1) {
        cmd_free(c);
        return NULL;
    }
    cmd_request(c, &a);
    return c;
}

static void want_key(struct cmd *c, int key, int client)
{
    c->keys[c->nkeys++] = key;
    cmd_part(c, key / GROUP_KEYS, client);
}

static struct cmd *gen_match(const struct gen_session *s)
{
    struct cmd *c = cmd_new(CMD_MATCH);
    int n = one_in(4) ? 100 : (int)sim_between(1, 12), first = (int)sim_random(KEYS);
    struct args a = {0};

    arg_word(&a, "KVMATCH");
    for (int i = 0; i < n; i++) {
        int key = (first + i) % KEYS;

        want_key(c, key, s->client);
        arg_key(&a, key / GROUP_KEYS, key % GROUP_KEYS);
    }
    c->lease_ms = sim.profile.lease_ms;
    if (one_in(3)) {
        c->lease_ms = sim_random(3000);
        arg_word(&a, "LEASE");
        arg_number(&a, (int64_t)c->lease_ms);
    }
    cmd_request(c, &a);
    return c;
}

static bool has_prefix(int key, const char *prefix)
{
    return slice_has_prefix(key_name(key / GROUP_KEYS, key % GROUP_KEYS), slice_str(prefix));
}

static void want_keys(struct cmd *c, int client, const char *prefix, int after)
{
    for (int i = after + 1; i < KEYS; i++)
        if (has_prefix(key_sorted(i), prefix))
            want_key(c, key_sorted(i), client);
}

static struct cmd *gen_keys(const struct gen_session *s)
{
    struct cmd *c = cmd_new(CMD_LIST);
    struct args a = {0};
    char prefix[16], pattern[20];

    snprintf(prefix, sizeof(prefix), "g%d", (int)sim_random(5));
    snprintf(pattern, sizeof(pattern), "%s*", prefix);
    arg_word(&a, "KEYS");
    arg_word(&a, pattern);
    want_keys(c, s->client, prefix, -1);
    cmd_request(c, &a);
    return c;
}

static struct cmd *gen_kvkeys(const struct gen_session *s)
{
    struct cmd *c = cmd_new(CMD_PAGE);
    struct args a = {0};
    char prefix[16] = "";
    int after = one_in(2) ? -1 : (int)sim_random(KEYS), key;

    if (one_in(2))
        snprintf(prefix, sizeof(prefix), "g%d", (int)sim_random(5));
    arg_word(&a, "KVKEYS");
    if (prefix[0] != '\0')
        arg_word(&a, prefix);
    c->limit = sim_between(1, ARGS_MAX / 4);
    arg_word(&a, "LIMIT");
    arg_number(&a, (int64_t)c->limit);
    if (after >= 0) {
        key = key_sorted(after);
        arg_word(&a, "AFTER");
        arg_key(&a, key / GROUP_KEYS, key % GROUP_KEYS);
    }
    want_keys(c, s->client, prefix, after);
    cmd_request(c, &a);
    return c;
}

struct cmd *gen_scan(struct gen_session *s)
{
    struct cmd *c = cmd_new(CMD_SCAN);
    struct args a = {0};

    s->scan_queued = !s->scanning;
    if (!s->scanning)
        snprintf(s->cursor, sizeof(s->cursor), "0");
    arg_word(&a, "SCAN");
    arg_word(&a, s->cursor);
    arg_word(&a, "COUNT");
    arg_number(&a, (int64_t)sim_between(10, 100));
    cmd_request(c, &a);
    return c;
}

static struct cmd *gen_random(const struct gen_session *s)
{
    struct cmd *c = cmd_new(CMD_RANDOM);

    for (int key = 0; key < KEYS; key++)
        cmd_part(c, key / GROUP_KEYS, s->client);
    request_word(c, "RANDOMKEY");
    return c;
}

static struct cmd *gen_flush(const struct gen_session *s)
{
    struct cmd *c = cmd_new(CMD_PLAIN);

    for (int g = 0; g < GROUPS; g++)
        cmd_step(cmd_part(c, g, s->client), STEP_FLUSH, 0);
    request_word(c, one_in(2) ? "FLUSHALL" : "FLUSHDB");
    return c;
}

static struct cmd *gen_backup(const struct gen_session *s)
{
    static unsigned number;
    struct cmd *c = cmd_new(CMD_BACKUP);
    struct args a = {0};

    snprintf(c->dir, sizeof(c->dir), "%s/b%u", sim.base, ++number);
    if (strlen(c->dir) >= TEXT_MAX)
        sim_fail("the folder %s has too long a name", sim.base);
    arg_word(&a, "BACKUP");
    arg_word(&a, c->dir);
    for (int g = 0; g < GROUPS; g++)
        cmd_part(c, g, s->client);
    cmd_request(c, &a);
    return c;
}

struct cmd *gen_command(struct gen_session *s)
{
    uint64_t what = sim_random(10000);

    if (s->watch_group >= 0 && what < 5000)
        return gen_tx(s);
    if (s->watch_group < 0 && s->may_watch && what < 300)
        return gen_watch(s);
    if (what < 800)
        return gen_tx(s);
    if (what < 1200)
        return gen_mget(s);
    if (what < 1500)
        return gen_match(s);
    if (what < 1530)
        return gen_keys(s);
    if (what < 1600)
        return gen_kvkeys(s);
    if (what < 1615 && !s->scan_queued)
        return gen_scan(s);
    if (what < 1640)
        return gen_random(s);
    if (what < 1650)
        return gen_flush(s);
    if (what < 1650 + sim.profile.backup)
        return gen_backup(s);
    return gen_single(s);
}
