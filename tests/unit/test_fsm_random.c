/* SPDX-License-Identifier: MIT */
/* Random entries against the model of fsm_model.h: every result and every key; then the same log
 * into other stores, and into a store that crashed. FSM_SEED chooses another run. */
#include <sys/wait.h>

#include "fsm_model_unit.h"
#include "fsm_rig.h"

enum { ENTRIES = 10000, UNITS_MAX = 4, STEPS_MAX = UNITS_MAX * MODEL_UNIT, FILL_MAX = 20000 };

static const char *const names[MODEL_KEYS] = {"a", "b", "k2", "key-3", "long-key-4", "x"};
static const char *const texts[] = {"",  "1",  "-5",   "abc", "9223372036854775806", "0.25",
                                    "7", "42", "-1.5", "0",   "-9223372036854775807"};
static const enum op all_ops[] = {OP_PUT,    OP_PUT,     OP_PUT,      OP_PUT_SLAB,    OP_DEL,
                                  OP_EXPIRE, OP_EXPIRE,  OP_INCRBY,   OP_INCRBY,      OP_APPEND,
                                  OP_APPEND, OP_PERSIST, OP_GETDEL,   OP_INCRBYFLOAT, OP_GETEX,
                                  OP_RENAME, OP_COPY,    OP_SETRANGE, OP_EVICT,       OP_FLUSH};

static uint8_t fill[FILL_MAX];
static struct model model;
static struct step steps[STEPS_MAX];
static int unit_of[STEPS_MAX];
static struct op_put staged[STEPS_MAX];
static int nsteps, nstaged;
static unsigned seen_status[FSM_NOKEY + 1];
static uint64_t seed_state;

static uint64_t rnd(uint64_t below)
{
    seed_state ^= seed_state << 13;
    seed_state ^= seed_state >> 7;
    seed_state ^= seed_state << 17;
    return seed_state % below;
}

static void begin(uint64_t seed)
{
    const char *other = getenv("FSM_SEED");

    seed_state = other != NULL ? strtoull(other, NULL, 10) : seed;
    memset(&model, 0, sizeof(model));
    memset(seen_status, 0, sizeof(seen_status));
    memset(fill, 'f', sizeof(fill));
}

/* ---- one random op ------------------------------------------------------------------------ */

static void random_body(struct step *s)
{
    const char *text = texts[rnd(sizeof(texts) / sizeof(texts[0]))];

    s->body = (const uint8_t *)text;
    s->body_len = strlen(text);
    if (rnd(6) == 0) {
        s->body = fill;
        s->body_len = rnd(2) ? 6000 : MODEL_INLINE;
    }
    if (s->op == OP_APPEND && rnd(20) == 0)
        s->body_len = s->body == fill ? FILL_MAX : s->body_len;
}

static uint64_t random_deadline(const struct rig *r)
{
    return r->stamp_ms - 20 + rnd(200);
}

static unsigned random_flags(enum op op)
{
    static const unsigned of_expire[] = {0, 0, OPF_NX, OPF_XX, OPF_GT, OPF_LT, OPF_XX | OPF_GT};
    static const unsigned of_put[] = {0,
                                      0,
                                      0,
                                      PUT_NX,
                                      PUT_XX,
                                      PUT_KEEPTTL,
                                      PUT_GET,
                                      PUT_KEEPMETA,
                                      PUT_GET | PUT_NX,
                                      PUT_GET | PUT_XX};

    switch (op) {
    case OP_PUT:
    case OP_PUT_SLAB:
        return of_put[rnd(sizeof(of_put) / sizeof(of_put[0]))];
    case OP_EXPIRE:
        return of_expire[rnd(sizeof(of_expire) / sizeof(of_expire[0]))];
    case OP_GETEX:
        return rnd(2) ? OPF_PERSIST : 0;
    case OP_RENAME:
        return rnd(2) ? OPF_NX : 0;
    case OP_COPY:
        return rnd(2) ? OPF_REPLACE : 0;
    default:
        return 0;
    }
}

static uint64_t random_mod(int key)
{
    uint64_t mod = model.keys[key].there ? model.keys[key].mod : 0;

    return rnd(8) ? mod : mod + 1;
}

static struct step random_step(const struct rig *r, bool condition)
{
    struct step s = {.op = all_ops[rnd(sizeof(all_ops) / sizeof(all_ops[0]))]};

    s.key = (int)rnd(MODEL_KEYS);
    s.to = (int)rnd(MODEL_KEYS);
    if (condition)
        s.op = OP_IF_MOD;
    if (s.op == OP_FLUSH && rnd(8))
        s.op = OP_PUT;
    s.flags = random_flags(s.op);
    random_body(&s);
    s.tokens = (uint32_t)rnd(5);
    s.created_ms = 1 + rnd(100);
    s.expire_ms = rnd(3) ? 0 : random_deadline(r);
    if (s.op == OP_PUT_SLAB)
        s.arg = 17000 + rnd(8000);
    else if (s.op == OP_SETRANGE)
        s.arg = rnd(4) ? rnd(40) : rnd(20000);
    else if (s.op == OP_EVICT || s.op == OP_IF_MOD)
        s.arg = random_mod(s.key);
    else if (s.op == OP_INCRBY)
        s.arg = rnd(10) ? rnd(20) - 10 : (uint64_t)INT64_MAX - rnd(2);
    else if (s.op == OP_EXPIRE || (s.op == OP_GETEX && !(s.flags & OPF_PERSIST)))
        s.arg = rnd(10) ? random_deadline(r) : 0;
    return s;
}

/* One payload in three is another node's. */
static void encode_put(struct rig *r, const struct step *s, unsigned flags)
{
    struct op_put p = {.tokens = s->tokens, .created_ms = s->created_ms, .expire_ms = s->expire_ms};
    static uint64_t seq;

    if (s->op == OP_PUT) {
        p.data = slice_of(s->body, s->body_len);
    } else if (rnd(3) == 0) {
        p.payload = (struct payload_id){9, 1, ++seq};
        p.length = s->arg;
        p.digest = seq * 77;
        p.nholders = 1;
        p.holders[0] = (struct op_holder){9, {1, 1, 4096}};
    } else {
        rig_stage(r, names[s->key], s->arg, &p);
        staged[nstaged++] = p;
    }
    entry_put(&r->w, s->op == OP_PUT_SLAB, flags, slice_str(names[s->key]), &p);
}

static void encode(struct rig *r, const struct step *s, bool more)
{
    unsigned flags = s->flags | (more ? ENTRY_MORE : 0);
    struct slice key = slice_str(names[s->key]);

    switch (s->op) {
    case OP_PUT:
    case OP_PUT_SLAB:
        encode_put(r, s, flags);
        return;
    case OP_DEL:
    case OP_PERSIST:
    case OP_GETDEL:
        entry_key(&r->w, s->op, flags, key);
        return;
    case OP_FLUSH:
        entry_key(&r->w, s->op, flags, slice_of(NULL, 0));
        return;
    case OP_INCRBYFLOAT:
    case OP_APPEND:
        entry_bytes(&r->w, s->op, flags, key, slice_of(s->body, s->body_len));
        return;
    case OP_RENAME:
    case OP_COPY:
        entry_bytes(&r->w, s->op, flags, key, slice_str(names[s->to]));
        return;
    case OP_SETRANGE:
        entry_setrange(&r->w, flags, key, s->arg, slice_of(s->body, s->body_len));
        return;
    default:
        entry_u64(&r->w, s->op, flags, key, s->arg);
    }
}

/* ---- one random entry --------------------------------------------------------------------- */

static void make_entry(struct rig *r)
{
    uint64_t units = rnd(20) ? 1 + rnd(UNITS_MAX) : 0; /* none: a TICK */

    nsteps = nstaged = 0;
    for (uint64_t u = 0; u < units; u++) {
        uint64_t conditions = rnd(3) ? 0 : 1 + rnd(2);
        uint64_t count = conditions + 1 + (rnd(2) ? 0 : rnd(4));

        for (uint64_t i = 0; i < count; i++) {
            steps[nsteps] = random_step(r, i < conditions);
            if (i >= conditions && rnd(8) == 0) {
                steps[nsteps].op = OP_UNLESS;
                steps[nsteps].flags = 0;
                steps[nsteps].arg = rnd(count - i); /* of those behind it */
            }
            unit_of[nsteps] = (int)u;
            encode(r, &steps[nsteps], i + 1 < count);
            nsteps++;
        }
    }
}

static void run_model(const struct rig *r)
{
    int end;

    model.index = r->index;
    if (r->stamp_ms > model.now_ms)
        model.now_ms = r->stamp_ms;
    model_drop_expired(&model);
    for (int at = 0; at < nsteps; at = end) {
        for (end = at + 1; end < nsteps && unit_of[end] == unit_of[at];)
            end++;
        model_unit(&model, &steps[at], end - at);
    }
}

static void check_key(const struct record *got, const struct model_key *want)
{
    CHECK_EQ_INT(got->kind != RECORD_INLINE, want->slab);
    CHECK_EQ_U64(got->length, want->len);
    CHECK_EQ_U64(got->expire_ms, want->expire_ms);
    CHECK_EQ_U64(got->created_ms, want->created_ms);
    CHECK_EQ_U64(got->tokens, want->tokens);
    CHECK_EQ_U64(got->mod, want->mod);
    if (want->slab)
        return;
    CHECK_EQ_U64(got->data.len, want->len);
    CHECK(want->len == 0 || memcmp(got->data.ptr, want->data, want->len) == 0);
    CHECK_EQ_HEX(got->digest, payload_digest_of(got->data.ptr, got->data.len));
}

static void check_results(const struct rig *r)
{
    CHECK_EQ_INT(r->nres, nsteps);
    for (int i = 0; i < nsteps; i++) {
        const struct fsm_result *got = &r->res[i];
        const struct step *want = &steps[i];

        if (got->status != want->status || got->value != want->value)
            fprintf(stderr, "# entry %d step %d of %d: op %d flags %x key %d arg %d body %zu\n",
                    (int)r->index, i, nsteps, want->op, want->flags, want->key, (int)want->arg,
                    want->body_len);
        CHECK_EQ_INT(got->op, want->op);
        CHECK_EQ_INT(got->status, want->status);
        CHECK_EQ_INT(got->value, want->value);
        CHECK_EQ_INT(got->last, i + 1 == nsteps || unit_of[i] != unit_of[i + 1]);
        CHECK_EQ_INT(got->has_old, want->has_old);
        if (want->has_old)
            check_key(&got->old, &want->old);
        if (want->status == FSM_OK && want->op == OP_INCRBYFLOAT)
            CHECK(strncmp((const char *)got->text.ptr, want->text, sizeof(want->text) - 1) == 0);
        seen_status[got->status]++;
    }
}

static void check_state(struct rig *r)
{
    for (int i = 0; i < MODEL_KEYS; i++) {
        struct record rec;

        CHECK_EQ_INT(rig_get(r, names[i], &rec), model.keys[i].there);
        if (model.keys[i].there)
            check_key(&rec, &model.keys[i]);
    }
}

static void run_entries(struct rig *r, int count)
{
    for (int n = 0; n < count; n++) {
        r->stamp_ms += rnd(30);
        r->stamp_ms -= rnd(10) ? 0 : 15; /* a leader whose clock is behind */
        make_entry(r);
        rig_commit(r);
        for (int i = 0; i < nstaged; i++)
            rig_release(r, &staged[i]);
        run_model(r);
        check_results(r);
        check_state(r);
        if (rnd(10) == 0)
            rig_settle(r); /* sweeps, and checkpoints when one is due */
        if (rnd(200) == 0)
            rig_checkpoint(r);
        if (rnd(400) == 0) {
            r->wall_ms += 2000;
            clock_update(&r->clock);
        }
    }
}

static int entries(void)
{
    return ENTRIES / (getenv("TEST_SLOW") != NULL ? 4 : 1);
}

TEST(random_entries_do_what_the_model_does)
{
    struct rig *r = rig_open(NULL, 1), *other;
    uint64_t digest;

    begin(20240701);
    run_entries(r, entries());
    for (int i = 0; i <= FSM_NOKEY; i++) /* all but NaN can come about here */
        CHECK(i == FSM_NANINF || seen_status[i] > 0);
    store_check(r->store);
    digest = rig_digest(r);
    rig_checkpoint(r);
    CHECK_EQ_HEX(rig_digest(r), digest);

    other = rig_open(NULL, 2); /* node 2 has none of the payloads */
    rig_replay(other, r);
    CHECK_EQ_HEX(rig_digest(other), digest);
    rig_close(other, true);
    rig_close(r, true);
}

/* ---- crash -------------------------------------------------------------------------------- */

static void save_log(const struct rig *r, const char *path, uint64_t digest)
{
    FILE *f = fopen(path, "w");

    CHECK(f != NULL);
    CHECK_EQ_U64(fwrite(&digest, sizeof(digest), 1, f), 1);
    for (size_t i = 0; i < r->entries; i++) {
        CHECK_EQ_U64(fwrite(&r->log[i], sizeof(r->log[i]), 1, f), 1);
        CHECK_EQ_U64(fwrite(r->log[i].bytes, r->log[i].len, 1, f), 1);
    }
    CHECK_EQ_INT(fclose(f), 0);
}

static uint64_t load_log(struct rig *r, const char *path)
{
    FILE *f = fopen(path, "r");
    uint64_t digest = 0;
    struct rig_entry e;

    CHECK(f != NULL);
    CHECK_EQ_U64(fread(&digest, sizeof(digest), 1, f), 1);
    while (fread(&e, sizeof(e), 1, f) == 1) {
        e.bytes = malloc(e.len);
        CHECK_EQ_U64(fread(e.bytes, e.len, 1, f), 1);
        r->log[r->entries++] = e;
    }
    fclose(f);
    return digest;
}

/* The process ends without a word to the store, some way behind its last checkpoint. */
static void crash_in(const char *dir, const char *log, uint64_t seed)
{
    struct rig *r = rig_open(dir, 1);

    begin(seed);
    run_entries(r, 150);
    rig_checkpoint(r);
    run_entries(r, 1 + (int)rnd(150));
    store_step(r->store); /* a checkpoint may be under way, half done */
    save_log(r, log, rig_digest(r));
    _exit(0);
}

TEST(a_crash_and_a_replay)
{
    for (uint64_t round = 1; round <= 8; round++) {
        const char *dir = tmpdir();
        char log[PATH_MAX];
        struct rig *again, *fresh;
        uint64_t digest;
        int status;
        pid_t pid;

        tmpdir_path(log, tmpdir(), "log");
        fflush(stdout);
        pid = fork();
        if (pid == 0)
            crash_in(dir, log, round * 7919);
        CHECK_EQ_INT(waitpid(pid, &status, 0), pid);
        CHECK_EQ_INT(status, 0);

        again = rig_open(dir, 1);
        CHECK_GE_U64(again->index, 150);
        digest = load_log(again, log);
        CHECK_LE_U64(again->index, again->entries);
        rig_replay(again, again);
        CHECK_EQ_HEX(rig_digest(again), digest);
        rig_settle(again);
        rig_checkpoint(again);
        CHECK_EQ_HEX(rig_digest(again), digest);
        fresh = rig_open(NULL, 2);
        rig_replay(fresh, again);
        CHECK_EQ_HEX(rig_digest(fresh), digest);
        rig_close(fresh, false);
        rig_close(again, true);
    }
}

TEST_MAIN
