/* SPDX-License-Identifier: MIT */
/* Each op against Redis 7's semantics, units, and what the contract of fsm.h says. Random ops
 * against a model are in test_fsm_random.c. */
#include "test.h"

#include <sys/wait.h>

#include "base/err.h"
#include "fsm_rig.h"

static struct rig *R;

static void start(void)
{
    R = rig_open(NULL, 1);
}

static void stop(void)
{
    rig_close(R, true);
    R = NULL;
}

static struct slice S(const char *s) {
    return slice_str(s);
}

static const struct fsm_result *
commit(void)
{
    rig_commit(R);
    return &R->res[0];
}

static const struct fsm_result *put(unsigned flags, const char *key, const char *value,
                                    uint64_t expire_ms)
{
    struct op_put p = {.created_ms = 1, .expire_ms = expire_ms, .data = S(value)};

    entry_put(&R->w, false, flags, S(key), &p);
    return flags & ENTRY_MORE ? NULL : commit();
}

static const struct fsm_result *key_op(enum op op, const char *key)
{
    entry_key(&R->w, op, 0, S(key));
    return commit();
}

static const struct fsm_result *u64_op(enum op op, unsigned flags, const char *key, uint64_t arg)
{
    entry_u64(&R->w, op, flags, S(key), arg);
    return commit();
}

static const struct fsm_result *bytes_op(enum op op, unsigned flags, const char *key,
                                         const char *body)
{
    entry_bytes(&R->w, op, flags, S(key), S(body));
    return commit();
}

static const struct fsm_result *setrange(const char *key, uint64_t offset, const char *bytes)
{
    entry_setrange(&R->w, 0, S(key), offset, S(bytes));
    return commit();
}

/* A key whose value is in a volume. */
static void put_slab(const char *key, uint64_t expire_ms)
{
    struct op_put p = {.tokens = 16, .created_ms = 5, .expire_ms = expire_ms, .model = S("m")};

    rig_stage(R, key, 20000, &p);
    entry_put(&R->w, true, 0, S(key), &p);
    CHECK_EQ_INT(commit()->status, FSM_OK);
    rig_release(R, &p);
}

#define CHECK_RESULT(result, status_, value_)                                                      \
    do {                                                                                           \
        const struct fsm_result *got = (result);                                                   \
        CHECK_EQ_INT(got->status, status_);                                                        \
        CHECK_EQ_INT(got->value, value_);                                                          \
        CHECK(got->last);                                                                          \
    } while (0)

static uint64_t expire_of(const char *key)
{
    struct record rec;

    CHECK(rig_get(R, key, &rec));
    return rec.expire_ms;
}

static void check_old(const struct fsm_result *r, const char *want)
{
    CHECK_EQ_INT(r->has_old, want != NULL);
    if (want != NULL)
        test_check_mem(r->old.data.ptr, r->old.data.len, want, strlen(want), "old value", __FILE__,
                       __LINE__);
}

#define LATER (RIG_START_MS + 1000)

TEST(put_and_its_conditions)
{
    start();
    CHECK_RESULT(put(PUT_XX, "k", "v", 0), FSM_NIL, 0);
    rig_check_value(R, "k", NULL);
    CHECK_EQ_U64(R->res[0].mod, 0);
    CHECK_RESULT(put(PUT_NX, "k", "v", LATER), FSM_OK, 1);
    CHECK_EQ_U64(R->res[0].mod, R->index);
    CHECK_EQ_U64(expire_of("k"), LATER);
    CHECK_RESULT(put(PUT_NX, "k", "w", 0), FSM_NIL, 0);
    CHECK_EQ_U64(R->res[0].mod, R->index - 1);
    rig_check_value(R, "k", "v");
    CHECK_RESULT(put(PUT_KEEPTTL | PUT_XX, "k", "w", 0), FSM_OK, 1);
    CHECK_EQ_U64(expire_of("k"), LATER);
    CHECK_RESULT(put(0, "k", "", 0), FSM_OK, 1);
    CHECK_EQ_U64(expire_of("k"), 0);
    rig_check_value(R, "k", "");
    stop();
}

TEST(put_get_answers_the_old_value)
{
    start();
    CHECK_RESULT(put(PUT_GET, "k", "1", 0), FSM_OK, 1);
    check_old(&R->res[0], NULL);
    CHECK_RESULT(put(PUT_GET, "k", "2", LATER), FSM_OK, 1);
    check_old(&R->res[0], "1");
    CHECK_RESULT(put(PUT_GET | PUT_NX, "k", "3", 0), FSM_NIL, 0);
    check_old(&R->res[0], "2");
    CHECK_RESULT(put(PUT_GET | PUT_XX | PUT_KEEPTTL, "k", "4", 0), FSM_OK, 1);
    check_old(&R->res[0], "2");
    CHECK_EQ_U64(R->res[0].old.expire_ms, LATER);
    CHECK_EQ_U64(expire_of("k"), LATER);
    CHECK_RESULT(put(PUT_GET | PUT_XX, "absent", "4", 0), FSM_NIL, 0);
    check_old(&R->res[0], NULL);
    stop();
}

TEST(put_replaces_metadata_unless_told)
{
    struct op_put p = {.tokens = 9,
                       .created_ms = 77,
                       .expire_ms = LATER,
                       .model = S("llama"),
                       .seq = S("s1"),
                       .data = S("v")};
    struct record rec;

    start();
    entry_put(&R->w, false, 0, S("k"), &p);
    commit();
    CHECK(rig_get(R, "k", &rec));
    CHECK(rec.tokens == 9 && rec.created_ms == 77 && slice_eq(rec.model, S("llama")));
    CHECK(slice_eq(rec.seq, S("s1")) && rec.expire_ms == LATER && rec.mod == R->index);
    put(PUT_KEEPMETA, "k", "built", 0);
    CHECK(rig_get(R, "k", &rec));
    CHECK(rec.tokens == 9 && rec.created_ms == 1 && slice_eq(rec.model, S("llama")));
    CHECK(slice_eq(rec.seq, S("s1")) && rec.expire_ms == LATER);
    rig_check_value(R, "k", "built");
    put(PUT_KEEPTTL, "k", "v", 0);
    CHECK(rig_get(R, "k", &rec));
    CHECK(rec.tokens == 0 && rec.model.len == 0 && rec.seq.len == 0 && rec.expire_ms == LATER);
    entry_put(&R->w, false, PUT_KEEPMETA, S("new"), &p);
    commit();
    CHECK(rig_get(R, "new", &rec));
    CHECK(rec.tokens == 9 && slice_eq(rec.model, S("llama")));
    stop();
}

/* Redis deletes a key that is given a deadline in the past. */
TEST(a_deadline_in_the_past_deletes)
{
    start();
    put(0, "k", "v", 0);
    CHECK_RESULT(put(PUT_GET, "k", "w", R->stamp_ms), FSM_OK, 1);
    check_old(&R->res[0], "v");
    CHECK_EQ_U64(R->res[0].mod, 0);
    rig_check_value(R, "k", NULL);
    put(0, "k", "v", R->stamp_ms + 1);
    rig_check_value(R, "k", "v");
    CHECK_RESULT(u64_op(OP_EXPIRE, 0, "k", R->stamp_ms), FSM_OK, 1);
    CHECK_EQ_U64(R->res[0].mod, 0);
    rig_check_value(R, "k", NULL);
    put(0, "k", "v", 0);
    CHECK_RESULT(u64_op(OP_GETEX, 0, "k", 1), FSM_OK, 1);
    check_old(&R->res[0], "v");
    rig_check_value(R, "k", NULL);
    stop();
}

TEST(a_key_is_absent_at_its_deadline)
{
    start();
    put(0, "k", "v", R->stamp_ms + 10);
    R->stamp_ms += 9;
    CHECK_RESULT(put(PUT_NX, "k", "w", 0), FSM_NIL, 0);
    R->stamp_ms += 1;
    CHECK_RESULT(key_op(OP_DEL, "k"), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, 0, "k", LATER), FSM_NIL, 0);
    CHECK_RESULT(bytes_op(OP_RENAME, 0, "k", "l"), FSM_NOKEY, 0);
    CHECK_RESULT(u64_op(OP_IF_MOD, 0, "k", 0), FSM_OK, 1);
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "k", "new"), FSM_OK, 3);
    CHECK_EQ_U64(expire_of("k"), 0);
    stop();
}

/* Nor does what expired come back when a leader's clock is behind. */
TEST(the_stamp_never_goes_back)
{
    start();
    put(0, "k", "v", RIG_START_MS + 10);
    R->stamp_ms = RIG_START_MS + 10;
    key_op(OP_DEL, "other");
    R->stamp_ms = RIG_START_MS;
    CHECK_RESULT(key_op(OP_GETDEL, "k"), FSM_NIL, 0);
    CHECK_EQ_U64(store_applied_stamp(R->store), RIG_START_MS + 10);
    R->stamp_ms = RIG_START_MS + 20;
    rig_commit(R); /* a TICK */
    CHECK_EQ_U64(store_applied_stamp(R->store), RIG_START_MS + 20);
    stop();
}

TEST(expire_and_its_flags)
{
    start();
    CHECK_RESULT(u64_op(OP_EXPIRE, 0, "k", LATER), FSM_NIL, 0);
    put(0, "k", "v", 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_XX, "k", LATER), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_GT, "k", LATER), FSM_NIL, 0);
    CHECK_EQ_U64(expire_of("k"), 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_LT, "k", LATER), FSM_OK, 1);
    CHECK_EQ_U64(expire_of("k"), LATER);
    CHECK_EQ_U64(R->res[0].mod, R->index);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_NX, "k", LATER + 5), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_LT, "k", LATER), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_GT, "k", LATER), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_GT, "k", LATER + 1), FSM_OK, 1);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_XX | OPF_LT, "k", LATER - 1), FSM_OK, 1);
    CHECK_EQ_U64(expire_of("k"), LATER - 1);
    CHECK_RESULT(key_op(OP_PERSIST, "k"), FSM_OK, 1);
    CHECK_EQ_U64(expire_of("k"), 0);
    CHECK_RESULT(key_op(OP_PERSIST, "k"), FSM_NIL, 0);
    CHECK_RESULT(key_op(OP_PERSIST, "absent"), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_NX, "k", LATER), FSM_OK, 1);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_GT, "k", 0), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EXPIRE, OPF_LT, "k", 0), FSM_OK, 1);
    rig_check_value(R, "k", NULL);
    stop();
}

TEST(getex_and_getdel)
{
    start();
    CHECK_RESULT(u64_op(OP_GETEX, 0, "k", LATER), FSM_NIL, 0);
    CHECK_RESULT(key_op(OP_GETDEL, "k"), FSM_NIL, 0);
    put(0, "k", "v", 0);
    CHECK_RESULT(u64_op(OP_GETEX, 0, "k", 0), FSM_OK, 1); /* a read */
    CHECK_EQ_U64(R->res[0].mod, R->index - 1);
    CHECK_EQ_INT(R->changes, 0);
    CHECK_RESULT(u64_op(OP_GETEX, 0, "k", LATER), FSM_OK, 1);
    check_old(&R->res[0], "v");
    CHECK_EQ_U64(R->res[0].old.expire_ms, 0);
    CHECK_EQ_U64(expire_of("k"), LATER);
    CHECK_RESULT(u64_op(OP_GETEX, OPF_PERSIST, "k", 0), FSM_OK, 1);
    CHECK_EQ_U64(expire_of("k"), 0);
    CHECK_EQ_INT(R->changes, 1);
    CHECK_RESULT(u64_op(OP_GETEX, OPF_PERSIST, "k", 0), FSM_OK, 1);
    CHECK_EQ_INT(R->changes, 0);
    CHECK_RESULT(key_op(OP_GETDEL, "k"), FSM_OK, 1);
    check_old(&R->res[0], "v");
    rig_check_value(R, "k", NULL);
    stop();
}

TEST(incrby)
{
    static const char *const no_integer[] = {"",    " 1",  "1 ",  "01", "+1",
                                             "1.0", "abc", "0x1", "-0", "9223372036854775808"};
    struct record rec;

    start();
    CHECK_RESULT(u64_op(OP_INCRBY, 0, "n", (uint64_t)-7), FSM_OK, -7);
    rig_check_value(R, "n", "-7");
    u64_op(OP_EXPIRE, 0, "n", LATER);
    R->stamp_ms += 5;
    CHECK_RESULT(u64_op(OP_INCRBY, 0, "n", 10), FSM_OK, 3);
    CHECK(rig_get(R, "n", &rec));
    CHECK(rec.expire_ms == LATER && rec.created_ms == R->stamp_ms && rec.mod == R->index);
    put(0, "n", "9223372036854775807", 0);
    CHECK_RESULT(u64_op(OP_INCRBY, 0, "n", 1), FSM_OVERFLOW, 0);
    CHECK_RESULT(u64_op(OP_INCRBY, 0, "n", (uint64_t)INT64_MIN), FSM_OK, -1);
    CHECK_RESULT(u64_op(OP_INCRBY, 0, "n", (uint64_t)INT64_MIN), FSM_OVERFLOW, 0);
    put(0, "n", "-1", 0);
    CHECK_RESULT(u64_op(OP_INCRBY, 0, "n", (uint64_t)INT64_MIN + 1), FSM_OK, INT64_MIN);
    rig_check_value(R, "n", "-9223372036854775808");
    for (size_t i = 0; i < sizeof(no_integer) / sizeof(no_integer[0]); i++) {
        put(0, "n", no_integer[i], 0);
        CHECK_RESULT(u64_op(OP_INCRBY, 0, "n", 1), FSM_NOINT, 0);
        rig_check_value(R, "n", no_integer[i]);
    }
    stop();
}

static void check_float(const struct fsm_result *r, const char *key, const char *want)
{
    CHECK_EQ_INT(r->status, FSM_OK);
    test_check_mem(r->text.ptr, r->text.len, want, strlen(want), "text", __FILE__, __LINE__);
    rig_check_value(R, key, want);
}

TEST(incrbyfloat)
{
    start();
    check_float(bytes_op(OP_INCRBYFLOAT, 0, "f", "10.50"), "f", "10.5");
    check_float(bytes_op(OP_INCRBYFLOAT, 0, "f", "0.1"), "f", "10.6");
    check_float(bytes_op(OP_INCRBYFLOAT, 0, "f", "-5"), "f", "5.6");
    put(0, "f", "5.0e3", LATER);
    check_float(bytes_op(OP_INCRBYFLOAT, 0, "f", "2.0e2"), "f", "5200");
    CHECK_EQ_U64(expire_of("f"), LATER);
    CHECK_RESULT(bytes_op(OP_INCRBYFLOAT, 0, "f", "inf"), FSM_NANINF, 0);
    CHECK_RESULT(bytes_op(OP_INCRBYFLOAT, 0, "f", "x"), FSM_NOFLOAT, 0);
    rig_check_value(R, "f", "5200");
    put(0, "f", "abc", 0);
    CHECK_RESULT(bytes_op(OP_INCRBYFLOAT, 0, "f", "1"), FSM_NOFLOAT, 0);
    put(0, "f", "1e4932", 0);
    CHECK_EQ_INT(bytes_op(OP_INCRBYFLOAT, 0, "f", "1")->status, FSM_OK);
    CHECK_GT_INT(R->res[0].text.len, 4900);
    stop();
}

TEST(append_and_setrange)
{
    struct record rec;

    start();
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "k", ""), FSM_OK, 0);
    rig_check_value(R, "k", "");
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "k", "Hello"), FSM_OK, 5);
    u64_op(OP_EXPIRE, 0, "k", LATER);
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "k", " World"), FSM_OK, 11);
    CHECK_EQ_U64(expire_of("k"), LATER);
    CHECK_RESULT(setrange("k", 6, "Redis"), FSM_OK, 11);
    rig_check_value(R, "k", "Hello Redis");
    CHECK_RESULT(setrange("k", 0, ""), FSM_OK, 11);
    CHECK_RESULT(setrange("k", 1000, ""), FSM_OK, 11);
    CHECK_EQ_INT(R->changes, 0);
    CHECK_RESULT(setrange("absent", 10, ""), FSM_OK, 0);
    rig_check_value(R, "absent", NULL);
    CHECK_RESULT(setrange("absent", 2, "x"), FSM_OK, 3);
    CHECK(rig_get(R, "absent", &rec));
    CHECK_EQ_LIT(rec.data.ptr, rec.data.len, "\0\0x");
    stop();
}

TEST(values_that_cannot_be_built_here)
{
    size_t max = FSM_INLINE_APPEND_MAX;
    char *fill = calloc(1, max + 2);

    start();
    memset(fill, 'x', max + 1);
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "k", fill), FSM_REBUILD, 1);
    rig_check_value(R, "k", NULL);
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "k", fill + 1), FSM_OK, (int64_t)max);
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "k", "y"), FSM_REBUILD, 1);
    CHECK_RESULT(setrange("k", max, "y"), FSM_REBUILD, 1);
    CHECK_RESULT(setrange("k", max - 1, "y"), FSM_OK, (int64_t)max);
    CHECK_RESULT(setrange("new", max, "y"), FSM_REBUILD, 1);
    CHECK_RESULT(setrange("k", UINT64_MAX, "yy"), FSM_REBUILD, 1);
    CHECK_EQ_INT(R->changes, 0);
    fill[max] = '\0';
    fill[max - 1] = 'y';
    rig_check_value(R, "k", fill);
    free(fill);
    stop();
}

TEST(rename_and_copy)
{
    struct op_put p = {
        .tokens = 3, .created_ms = 8, .expire_ms = LATER, .model = S("m"), .data = S("v")};
    struct record rec;

    start();
    CHECK_RESULT(bytes_op(OP_RENAME, 0, "a", "b"), FSM_NOKEY, 0);
    CHECK_RESULT(bytes_op(OP_RENAME, 0, "a", "a"), FSM_NOKEY, 0);
    CHECK_RESULT(bytes_op(OP_COPY, 0, "a", "b"), FSM_NIL, 0);
    entry_put(&R->w, false, 0, S("a"), &p);
    commit();
    put(0, "b", "old", 0);
    CHECK_RESULT(bytes_op(OP_RENAME, OPF_NX, "a", "b"), FSM_NIL, 0);
    CHECK_RESULT(bytes_op(OP_RENAME, OPF_NX, "a", "a"), FSM_NIL, 0);
    CHECK_RESULT(bytes_op(OP_RENAME, 0, "a", "a"), FSM_OK, 1);
    CHECK_EQ_INT(R->changes, 0);
    CHECK_RESULT(bytes_op(OP_RENAME, 0, "a", "b"), FSM_OK, 1);
    CHECK_EQ_STR(R->changed, "b a ");
    rig_check_value(R, "a", NULL);
    rig_check_value(R, "b", "v");
    CHECK(rig_get(R, "b", &rec));
    CHECK(rec.tokens == 3 && rec.created_ms == 8 && rec.expire_ms == LATER && rec.mod == R->index);
    CHECK(slice_eq(rec.model, S("m")));
    CHECK_RESULT(bytes_op(OP_RENAME, OPF_NX, "b", "c"), FSM_OK, 1);
    CHECK_RESULT(bytes_op(OP_COPY, 0, "c", "d"), FSM_OK, 1);
    CHECK_EQ_STR(R->changed, "d ");
    CHECK_EQ_U64(expire_of("d"), LATER);
    put(0, "c", "other", 0);
    CHECK_RESULT(bytes_op(OP_COPY, 0, "c", "d"), FSM_NIL, 0);
    CHECK_RESULT(bytes_op(OP_COPY, 0, "c", "c"), FSM_NIL, 0);
    CHECK_RESULT(bytes_op(OP_COPY, OPF_REPLACE, "c", "d"), FSM_OK, 1);
    rig_check_value(R, "d", "other");
    CHECK_EQ_U64(expire_of("d"), 0);
    rig_check_value(R, "c", "other");
    stop();
}

TEST(a_deadline_of_the_destination_does_not_count)
{
    start();
    put(0, "to", "old", R->stamp_ms + 5);
    put(0, "from", "v", 0);
    R->stamp_ms += 5;
    CHECK_RESULT(bytes_op(OP_COPY, 0, "from", "to"), FSM_OK, 1);
    CHECK_RESULT(bytes_op(OP_RENAME, OPF_NX, "to", "third"), FSM_OK, 1);
    CHECK_EQ_U64(expire_of("third"), 0);
    stop();
}

TEST(values_in_volumes)
{
    struct op_put elsewhere = {.payload = {2, 1, 1}, .length = 50000, .digest = 7, .nholders = 1};
    struct record rec;

    start();
    put_slab("s", LATER);
    CHECK(rig_get(R, "s", &rec));
    CHECK(rec.kind == RECORD_SLAB && rec.length == 20000 && rec.nholders == 1 && rec.tokens == 16);
    CHECK_RESULT(u64_op(OP_INCRBY, 0, "s", 1), FSM_NOINT, 0);
    CHECK_RESULT(bytes_op(OP_INCRBYFLOAT, 0, "s", "1"), FSM_NOFLOAT, 0);
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "s", "x"), FSM_REBUILD, 1);
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "s", ""), FSM_OK, 20000);
    CHECK_RESULT(setrange("s", 0, "x"), FSM_REBUILD, 1);
    CHECK_RESULT(setrange("s", 0, ""), FSM_OK, 20000);
    CHECK_RESULT(bytes_op(OP_RENAME, 0, "s", "t"), FSM_REBUILD, 1);
    CHECK_RESULT(bytes_op(OP_RENAME, 0, "s", "s"), FSM_OK, 1);
    CHECK_RESULT(bytes_op(OP_COPY, 0, "s", "t"), FSM_REBUILD, 1);
    put(0, "t", "v", 0);
    CHECK_RESULT(bytes_op(OP_COPY, 0, "s", "t"), FSM_NIL, 0);
    CHECK_RESULT(bytes_op(OP_RENAME, OPF_NX, "s", "t"), FSM_NIL, 0);
    CHECK_RESULT(bytes_op(OP_RENAME, 0, "t", "s2"), FSM_OK, 1);
    CHECK_RESULT(key_op(OP_PERSIST, "s"), FSM_OK, 1);
    CHECK(rig_get(R, "s", &rec));
    CHECK(rec.kind == RECORD_SLAB && rec.expire_ms == 0 && rec.created_ms == 5);
    CHECK_RESULT(put(PUT_GET, "s", "small", 0), FSM_OK, 1);
    CHECK(R->res[0].has_old && R->res[0].old.kind == RECORD_SLAB);
    CHECK(slice_eq(R->res[0].old.model, S("m")));
    rig_check_value(R, "s", "small");
    elsewhere.holders[0] = (struct op_holder){2, {9, 9, 4096}};
    entry_put(&R->w, true, 0, S("r"), &elsewhere);
    CHECK_RESULT(commit(), FSM_OK, 1);
    CHECK(rig_get(R, "r", &rec));
    CHECK(rec.kind == RECORD_REMOTE && rec.holders[0] == 2 && rec.length == 50000);
    CHECK_RESULT(bytes_op(OP_APPEND, 0, "r", "x"), FSM_REBUILD, 1);
    stop();
}

TEST(flush_and_evict)
{
    struct store_counts counts;

    start();
    put(0, "a", "1", 0);
    put(0, "b", "2", 0);
    CHECK_RESULT(u64_op(OP_EVICT, 0, "a", 7), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EVICT, 0, "absent", 0), FSM_NIL, 0);
    CHECK_RESULT(u64_op(OP_EVICT, 0, "a", 1), FSM_OK, 1);
    rig_check_value(R, "a", NULL);
    store_get_counts(R->store, &counts);
    CHECK_EQ_U64(counts.evicted, 1);
    CHECK_EQ_U64(counts.keys, 1);
    put_slab("s", 0);
    rig_checkpoint(R);
    put(0, "c", "3", 0);
    entry_key(&R->w, OP_FLUSH, 0, slice_of(NULL, 0));
    CHECK_RESULT(commit(), FSM_OK, 1);
    CHECK_EQ_INT(R->flushes, 1);
    store_get_counts(R->store, &counts);
    CHECK_EQ_U64(counts.keys, 0);
    rig_check_value(R, "b", NULL);
    rig_check_value(R, "c", NULL);
    put(0, "b", "new", 0);
    rig_check_value(R, "b", "new");
    stop();
}

TEST_MAIN
