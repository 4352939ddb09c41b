/* SPDX-License-Identifier: MIT */
/* Units: conditions, all or nothing, the order of what an observer hears; entries that are skipped
 * or damaged; the digest. */
#include "test.h"

#include <sys/wait.h>

#include "base/codec.h"
#include "base/hash.h"
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

static void
add_put(unsigned flags, const char *key, const char *value)
{
    struct op_put p = {.created_ms = 1, .data = S(value)};

    entry_put(&R->w, false, flags, S(key), &p);
}

static void put(const char *key, const char *value)
{
    add_put(0, key, value);
    rig_commit(R);
}

static void add_remote(unsigned flags, const char *key)
{
    struct op_put p = {.payload = {2, 1, 1}, .length = 50000, .nholders = 1};

    p.holders[0].node = 2;
    entry_put(&R->w, true, flags, S(key), &p);
}

static void put_remote(const char *key)
{
    add_remote(0, key);
    rig_commit(R);
}

static uint64_t mod_of(const char *key)
{
    struct record rec;

    return rig_get(R, key, &rec) ? rec.mod : 0;
}

static void check_statuses(const enum fsm_status *want, uint32_t count)
{
    CHECK_EQ_U64(R->nres, count);
    for (uint32_t i = 0; i < count; i++)
        CHECK_EQ_INT(R->res[i].status, want[i]);
}

TEST(an_observer_hears_each_op_in_order)
{
    start();
    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("w"), 0);
    add_put(ENTRY_MORE, "a", "1");
    entry_u64(&R->w, OP_INCRBY, 0, S("a"), 1);
    entry_key(&R->w, OP_DEL, 0, S("a"));
    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("w"), 99);
    add_put(0, "b", "1");
    add_put(0, "c", "1");
    rig_commit(R);
    CHECK_EQ_STR(R->story, "r0 b1 r1 b2 r2 b3 r3 r4 r5 b6 r6");
    for (uint32_t i = 0; i < R->nres; i++)
        CHECK_EQ_INT(R->res[i].last, i == 2 || i == 3 || i == 5 || i == 6);
    CHECK_EQ_INT(R->res[2].value, 2);
    CHECK_EQ_INT(R->res[4].op, OP_IF_MOD);
    CHECK_EQ_STR(R->changed, "a a a c ");
    stop();
}

/* Reads of a MULTI: what before_op finds is what the ops before did. */
static char seen[64];

static void look(struct rig *r, uint32_t op)
{
    struct record rec;

    (void)op;
    if (rig_get(r, "k", &rec))
        strncat(seen, (const char *)rec.data.ptr, rec.data.len);
    else
        strcat(seen, "-");
    strcat(seen, " ");
}

TEST(reads_between_the_ops_of_a_unit)
{
    start();
    seen[0] = '\0';
    R->before = look;
    add_put(ENTRY_MORE, "k", "a");
    entry_bytes(&R->w, OP_APPEND, ENTRY_MORE, S("k"), S("b"));
    entry_bytes(&R->w, OP_RENAME, ENTRY_MORE, S("k"), S("l"));
    entry_bytes(&R->w, OP_COPY, ENTRY_MORE, S("l"), S("k"));
    entry_key(&R->w, OP_FLUSH, ENTRY_MORE, slice_of(NULL, 0));
    add_put(0, "x", "y");
    rig_commit(R);
    CHECK_EQ_STR(seen, "- a ab - ab - ");
    rig_check_value(R, "k", NULL);
    rig_check_value(R, "l", NULL);
    rig_check_value(R, "x", "y");
    stop();
}

TEST(a_failed_condition_aborts_its_unit_alone)
{
    static const enum fsm_status want[] = {FSM_ABORTED, FSM_ABORTED, FSM_ABORTED, FSM_OK, FSM_OK};

    start();
    put("w", "1");
    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("w"), mod_of("w"));
    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("absent"), 5);
    add_put(0, "a", "1");
    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("w"), mod_of("w"));
    add_put(0, "b", "1");
    rig_commit(R);
    check_statuses(want, 5);
    CHECK_EQ_INT(R->nbefore, 1);
    rig_check_value(R, "a", NULL);
    rig_check_value(R, "b", "1");
    stop();
}

/* MSETNX first second, in a unit that goes on behind it. */
static void add_msetnx(const char *first, const char *second)
{
    entry_u64(&R->w, OP_UNLESS, ENTRY_MORE, S(first), 3);
    entry_u64(&R->w, OP_UNLESS, ENTRY_MORE, S(second), 2);
    add_put(ENTRY_MORE, first, second);
    add_put(ENTRY_MORE, second, first);
}

/* It sees what the ops before it did, and guards its own ops only. */
TEST(unless_skips_ops_of_its_own_command)
{
    static const enum fsm_status want[] = {FSM_OK, /* SET c */
                                           FSM_OK,  FSM_OK,  FSM_OK,  FSM_OK, FSM_OK,
                                           FSM_NIL, FSM_NIL, FSM_NIL, FSM_OK};

    start();
    R->before = NULL;
    add_put(ENTRY_MORE, "c", "1");
    add_msetnx("a", "b");
    add_msetnx("d", "c");
    add_put(0, "e", "1");
    rig_commit(R);
    check_statuses(want, 10);
    CHECK_EQ_INT(R->nbefore, 8);
    CHECK_EQ_STR(R->changed, "c a b e ");
    rig_check_value(R, "a", "b");
    rig_check_value(R, "b", "a");
    rig_check_value(R, "c", "1");
    rig_check_value(R, "d", NULL);
    stop();
}

/* A skipped op needs no rebuild. */
TEST(unless_skips_in_a_trial_too)
{
    start();
    put_remote("big");
    entry_u64(&R->w, OP_UNLESS, ENTRY_MORE, S("big"), 1);
    entry_bytes(&R->w, OP_RENAME, ENTRY_MORE, S("big"), S("x"));
    add_put(0, "y", "1");
    rig_commit(R);
    CHECK_EQ_INT(R->res[1].status, FSM_NIL);
    CHECK_EQ_INT(R->res[2].status, FSM_OK);
    stop();
}

/* A mod read between entries stands for everything since: units of one entry that come before the
 * condition are seen, whatever mods they left. */
TEST(conditions_see_earlier_units_of_the_entry)
{
    uint64_t mod;

    start();
    put("k", "1");
    mod = mod_of("k");
    add_put(0, "k", "2");
    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("k"), mod);
    add_put(0, "k", "3");
    add_put(0, "k", "4");
    rig_commit(R);
    CHECK_EQ_INT(R->res[2].status, FSM_ABORTED);
    rig_check_value(R, "k", "4");
    CHECK_EQ_U64(mod_of("k"), R->index);
    CHECK_EQ_U64(R->res[0].mod, R->res[3].mod); /* why a mod of a result is no condition */
    mod = mod_of("k");
    entry_key(&R->w, OP_DEL, 0, S("k"));
    add_put(0, "k", "5");
    rig_commit(R);
    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("k"), mod);
    add_put(0, "k", "6");
    rig_commit(R);
    CHECK_EQ_INT(R->res[1].status, FSM_ABORTED);
    stop();
}

TEST(errors_do_not_stop_a_unit)
{
    static const enum fsm_status want[] = {FSM_OK, FSM_NOINT, FSM_NOKEY, FSM_NIL, FSM_OK};

    start();
    add_put(ENTRY_MORE, "k", "text");
    entry_u64(&R->w, OP_INCRBY, ENTRY_MORE, S("k"), 1);
    entry_bytes(&R->w, OP_RENAME, ENTRY_MORE, S("absent"), S("k"));
    add_put(ENTRY_MORE | PUT_NX, "k", "other");
    entry_bytes(&R->w, OP_APPEND, 0, S("k"), S("!"));
    rig_commit(R);
    check_statuses(want, 5);
    rig_check_value(R, "k", "text!");
    stop();
}

/* The ops ahead of the one that needs a rebuild leave no trace: not even for on_change. */
TEST(a_rebuild_undoes_its_whole_unit)
{
    uint64_t before;

    start();
    put("k", "v");
    put_remote("big");
    before = rig_digest(R);
    for (uint32_t bad = 0; bad < 4; bad++) {
        entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("k"), mod_of("k"));
        add_put(ENTRY_MORE, "k", "w");
        entry_u64(&R->w, OP_EVICT, ENTRY_MORE, S("big2"), 1);
        entry_key(&R->w, OP_GETDEL, ENTRY_MORE, S("k"));
        if (bad == 0)
            entry_bytes(&R->w, OP_APPEND, ENTRY_MORE, S("big"), S("x"));
        else if (bad == 1)
            entry_setrange(&R->w, ENTRY_MORE, S("big"), 0, S("x"));
        else
            entry_bytes(&R->w, bad == 2 ? OP_RENAME : OP_COPY, ENTRY_MORE, S("big"), S("k"));
        add_put(0, "x", "y");
        rig_commit(R);
        CHECK_EQ_U64(R->nres, 6);
        for (uint32_t i = 0; i < 6; i++) {
            CHECK_EQ_INT(R->res[i].status, FSM_REBUILD);
            CHECK_EQ_INT(R->res[i].value, i == 4);
            CHECK_EQ_INT(R->res[i].last, i == 5);
        }
        CHECK_EQ_INT(R->changes, 0);
        CHECK_EQ_INT(R->nbefore, 0);
        CHECK_EQ_HEX(rig_digest(R), before);
    }
    stop();
}

/* Whether a rebuild is needed depends on what the unit did before. */
TEST(a_trial_follows_the_unit)
{
    char *fill = calloc(1, FSM_INLINE_APPEND_MAX + 1);
    static const enum fsm_status all_ok[] = {FSM_OK, FSM_OK, FSM_OK, FSM_OK, FSM_OK, FSM_OK};

    memset(fill, 'x', FSM_INLINE_APPEND_MAX);
    start();
    put_remote("big");
    add_put(ENTRY_MORE, "big", "now small"); /* so it can be appended to */
    entry_bytes(&R->w, OP_APPEND, ENTRY_MORE, S("big"), S("!"));
    entry_bytes(&R->w, OP_RENAME, 0, S("big"), S("k"));
    rig_commit(R);
    check_statuses(all_ok, 3);
    rig_check_value(R, "k", "now small!");

    add_put(ENTRY_MORE, "f", fill); /* full: one byte more is too much */
    entry_bytes(&R->w, OP_APPEND, 0, S("f"), S("y"));
    rig_commit(R);
    CHECK_EQ_INT(R->res[0].status, FSM_REBUILD);
    rig_check_value(R, "f", NULL);

    put_remote("big");
    entry_key(&R->w, OP_FLUSH, ENTRY_MORE, slice_of(NULL, 0));
    entry_bytes(&R->w, OP_APPEND, ENTRY_MORE, S("big"), S("1"));
    entry_u64(&R->w, OP_INCRBY, ENTRY_MORE, S("big"), 5);
    entry_u64(&R->w, OP_EXPIRE, ENTRY_MORE, S("big"), 1);
    entry_setrange(&R->w, ENTRY_MORE, S("big"), 1, S("z"));
    entry_bytes(&R->w, OP_COPY, 0, S("big"), S("copy"));
    rig_commit(R);
    check_statuses(all_ok, 6);
    CHECK_EQ_INT(R->res[4].value, 2);
    rig_check_value(R, "k", NULL);
    free(fill);
    stop();
}

struct needed {
    int calls;
    uint32_t op;
    uint64_t length;
};

static void on_need(void *ctx, uint32_t op, const struct record *old)
{
    struct needed *n = ctx;

    n->calls++;
    n->op = op;
    n->length = old != NULL ? old->length : 0;
}

/* A forecast of what apply will say, with the record that the unit itself has put there by then. */
TEST(a_unit_is_tried_without_effect)
{
    struct needed n = {0};
    unsigned changes;
    uint64_t before;

    start();
    put("k", "small");
    before = rig_digest(R);
    changes = R->changes;
    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("k"), mod_of("k"));
    add_remote(ENTRY_MORE, "k");
    entry_bytes(&R->w, OP_APPEND, ENTRY_MORE, S("absent"), S("x"));
    entry_bytes(&R->w, OP_APPEND, 0, S("k"), S("x"));
    CHECK_EQ_INT(fsm_try(&R->fsm, &R->w, R->stamp_ms, on_need, &n), FSM_REBUILD);
    CHECK_EQ_INT(n.calls, 1);
    CHECK_EQ_INT(n.op, 3);
    CHECK_EQ_U64(n.length, 50000);
    CHECK_EQ_HEX(rig_digest(R), before);
    CHECK_EQ_INT(R->changes, changes);
    rig_commit(R);
    CHECK_EQ_INT(R->res[3].status, FSM_REBUILD);
    CHECK_EQ_INT(R->res[3].value, 1);

    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("k"), mod_of("k"));
    entry_bytes(&R->w, OP_APPEND, 0, S("k"), S("x"));
    CHECK_EQ_INT(fsm_try(&R->fsm, &R->w, R->stamp_ms, on_need, &n), FSM_OK);
    rig_commit(R);
    rig_check_value(R, "k", "smallx");

    entry_u64(&R->w, OP_IF_MOD, ENTRY_MORE, S("k"), 1);
    entry_bytes(&R->w, OP_APPEND, 0, S("k"), S("x"));
    CHECK_EQ_INT(fsm_try(&R->fsm, &R->w, R->stamp_ms, on_need, &n), FSM_ABORTED);
    CHECK_EQ_INT(n.calls, 1);
    rig_commit(R);
    CHECK_EQ_INT(R->res[1].status, FSM_ABORTED);
    stop();
}

/* The reads of a unit that has no effect are not answered: it is planned again. */
TEST(nothing_is_read_before_an_op_that_cannot_be_built_here)
{
    start();
    seen[0] = '\0';
    R->before = look;
    entry_setrange(&R->w, 0, S("k"), 100000, S("x"));
    rig_commit(R);
    CHECK_EQ_INT(R->res[0].status, FSM_REBUILD);
    CHECK_EQ_INT(R->res[0].value, 1);
    CHECK_EQ_STR(seen, "");
    stop();
}

TEST(entries_below_the_applied_index_are_skipped)
{
    struct rig_entry first;
    uint64_t digest;

    start();
    put("n", "1");
    entry_u64(&R->w, OP_INCRBY, 0, S("n"), 1);
    rig_commit(R);
    digest = rig_digest(R);
    first = R->log[1];
    rig_apply(R, first.index, slice_of(first.bytes, first.len), true);
    CHECK_EQ_INT(R->nres, 0);
    CHECK_EQ_HEX(rig_digest(R), digest);
    rig_apply(R, R->index + 10, slice_of(first.bytes, first.len), false); /* others are raft's */
    rig_check_value(R, "n", "3");
    CHECK_EQ_U64(mod_of("n"), R->index);
    stop();
}

/* What a child process ends with when it applies these bytes. */
static int status_of(const uint8_t *bytes, size_t len)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        close(1);
        close(2);
        rig_apply(R, R->index + 1, slice_of(bytes, len), false);
        _exit(0);
    }
    CHECK_GT_INT(pid, 0);
    CHECK_EQ_INT(waitpid(pid, &status, 0), pid);
    return status;
}

TEST(damage_and_unknown_ops_stop_the_process)
{
    uint8_t bytes[256];
    size_t len;

    start();
    put("key", "v");
    len = R->log[0].len;
    CHECK_LE_U64(len, sizeof(bytes));
    memcpy(bytes, R->log[0].bytes, len);
    CHECK_EQ_INT(status_of(bytes, len), 0);
    bytes[50] ^= 1;
    CHECK(WIFSIGNALED(status_of(bytes, len)));
    bytes[50] ^= 1;
    bytes[48] = OP_MAX_;
    codec_put64(bytes + 40, hash64_pair(slice_of(bytes, 40), slice_of(bytes + 48, len - 48)));
    CHECK(WIFSIGNALED(status_of(bytes, len)));

    entry_u64(&R->w, OP_UNLESS, ENTRY_MORE, S("a"), 1);
    add_put(0, "a", "1");
    rig_commit(R);
    len = R->log[1].len;
    CHECK_LE_U64(len, sizeof(bytes));
    memcpy(bytes, R->log[1].bytes, len);
    CHECK_EQ_INT(status_of(bytes, len), 0);
    codec_put64(bytes + 48 + 16 + 8, 2); /* it would skip another command's op */
    codec_put64(bytes + 40, hash64_pair(slice_of(bytes, 40), slice_of(bytes + 48, len - 48)));
    CHECK(WIFSIGNALED(status_of(bytes, len)));
    stop();
}

TEST(the_digest_is_of_what_clients_see)
{
    struct rig *other = rig_open(NULL, 2);
    struct op_put p = {.tokens = 4, .created_ms = 2, .model = S("m")};
    uint64_t empty, one;

    start();
    empty = rig_digest(R);
    CHECK_EQ_HEX(empty, rig_digest(other));
    rig_stage(R, "s", 30000, &p);
    entry_put(&R->w, true, 0, S("s"), &p);
    rig_commit(R);
    rig_release(R, &p);
    put("k", "v");
    one = rig_digest(R);
    CHECK(one != empty);
    rig_replay(other, R); /* node 2 has the payload elsewhere */
    CHECK_EQ_HEX(rig_digest(other), one);
    rig_checkpoint(R);
    CHECK_EQ_HEX(rig_digest(R), one);
    entry_u64(&R->w, OP_EXPIRE, 0, S("k"), RIG_START_MS + 5);
    rig_commit(R);
    CHECK(rig_digest(R) != one);
    R->stamp_ms = RIG_START_MS + 5;
    rig_commit(R); /* expired now; swept in one, not in the other */
    rig_settle(R);
    rig_replay(other, R);
    CHECK_EQ_HEX(rig_digest(other), rig_digest(R));
    entry_key(&R->w, OP_DEL, 0, S("s"));
    rig_commit(R);
    CHECK_EQ_HEX(rig_digest(R), empty);
    rig_close(other, false);
    stop();
}

TEST_MAIN
