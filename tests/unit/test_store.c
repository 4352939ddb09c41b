/* SPDX-License-Identifier: MIT */
#include "store/store.h"

#include "store_rig.h"

/* --- layers -------------------------------------------------------------------------------- */

TEST(put_get_del_before_and_after_a_checkpoint)
{
    start();
    CHECK_EQ_INT(get_err("a"), ERR_NOTFOUND);
    set("a", "1");
    set("b", "2");
    check_get("a", "1");
    checkpoint();
    CHECK_EQ_U64(store_durable_index(node.store), 2);
    check_get("a", "1");
    set("a", "one");
    del("b");
    del("never");
    check_get("a", "one");
    CHECK_EQ_INT(get_err("b"), ERR_NOTFOUND);
    CHECK_EQ_U64(counts().keys, 1);
    CHECK_EQ_U64(counts().bytes, 3);
    store_check(node.store);
    checkpoint();
    check_get("a", "one");
    CHECK_EQ_INT(get_err("b"), ERR_NOTFOUND);
    CHECK_EQ_U64(counts().table_keys, 0);
    stop();
}

TEST(all_three_layers_at_once)
{
    start();
    set("index", "i");
    set("over1", "i");
    set("gone1", "i");
    checkpoint();
    set("frozen", "f");
    set("over1", "f");
    set("over2", "f");
    del("gone1");
    set("gone2", "f");
    CHECK(checkpoint_start(node.store, false)); /* frozen; the worker has not run yet */
    CHECK(!checkpoint_start(node.store, false));
    set("active", "a");
    set("over2", "a");
    del("gone2");
    check_get("index", "i");
    check_get("frozen", "f");
    check_get("active", "a");
    check_get("over1", "f");
    check_get("over2", "a");
    CHECK_EQ_INT(get_err("gone1"), ERR_NOTFOUND);
    CHECK_EQ_INT(get_err("gone2"), ERR_NOTFOUND);
    CHECK_EQ_STR(scan("", false), "active=a frozen=f index=i over1=f over2=a ");
    CHECK_EQ_STR(scan("index", true), "over1=f over2=a ");
    CHECK_EQ_U64(counts().keys, 5);
    store_check(node.store);
    run();
    CHECK_EQ_STR(scan("", false), "active=a frozen=f index=i over1=f over2=a ");
    store_check(node.store);
    stop();
}

TEST(a_record_may_be_put_back_changed_or_under_another_key)
{
    struct record r;

    start();
    set_ex("k", "value", 0);
    checkpoint();
    for (int round = 0; round < 2; round++) { /* out of the index, then out of the table */
        CHECK_EQ_INT(store_get(node.store, slice_str("k"), &r), 0);
        r.expire_ms = node.wall_ms + 1000 + (uint64_t)round;
        store_put(node.store, slice_str("k"), &r);
        applied();
        check_get("k", "value");
        CHECK_EQ_INT(store_get(node.store, slice_str("k"), &r), 0);
        store_put(node.store, slice_str(round == 0 ? "copy" : "a longer name for it"), &r);
        applied();
    }
    check_get("copy", "value");
    check_get("a longer name for it", "value");
    CHECK_EQ_U64(counts().keys, 3);
    CHECK_EQ_U64(counts().bytes, 15);
    CHECK_EQ_U64(counts().expires, 3);
    stop();
}

TEST(flush_hides_everything_below)
{
    start();
    set("a", "1");
    checkpoint();
    set("b", "2");
    CHECK(checkpoint_start(node.store, false));
    set("c", "3");
    store_flush(node.store);
    applied();
    CHECK_EQ_STR(scan("", false), "");
    CHECK_EQ_INT(get_err("a"), ERR_NOTFOUND);
    CHECK_EQ_INT(get_err("b"), ERR_NOTFOUND);
    CHECK_EQ_U64(counts().keys, 0);
    set("d", "4");
    CHECK_EQ_STR(scan("", false), "d=4 ");
    run();
    checkpoint();
    CHECK_EQ_STR(scan("", false), "d=4 ");
    CHECK_EQ_U64(index_count(store_index(node.store)), 1);
    stop();
}

/* --- restart ------------------------------------------------------------------------------- */

TEST(clean_stop_and_start)
{
    uint8_t cluster[16] = "cluster uuid 16", back[16];
    uint32_t boot;

    start();
    boot = store_boot(node.store);
    CHECK_EQ_INT(boot, 1700000000);
    set_ex("a", "1", node.wall_ms + 5000);
    set("b", "22");
    store_set_cluster(node.store, cluster);
    store_close(node.store, true);
    reopen();
    CHECK_EQ_INT(node.state.flags & INDEX_CLEAN, INDEX_CLEAN);
    CHECK_EQ_U64(node.state.applied, 2);
    CHECK_EQ_U64(node.state.clock_ms, node.wall_ms);
    CHECK_EQ_INT(store_boot(node.store), boot + 1); /* in the same second */
    CHECK_EQ_U64(store_applied_stamp(node.store), node.wall_ms);
    CHECK_EQ_U64(counts().keys, 2);
    CHECK_EQ_U64(counts().bytes, 3);
    CHECK_EQ_U64(counts().expires, 1);
    store_get_cluster(node.store, back);
    CHECK_EQ_MEM(back, cluster, 16);
    check_get("a", "1");
    check_get("b", "22");
    advance_ms(100000);
    store_close(node.store, true);
    reopen();
    CHECK_EQ_INT(store_boot(node.store), 1700000100);
    stop();
}

TEST(unclean_stop_keeps_the_last_checkpoint)
{
    start();
    set("a", "1");
    checkpoint();
    set("b", "2");
    store_close(node.store, false);
    reopen(); /* the audit runs in it */
    CHECK_EQ_INT(node.state.flags & INDEX_CLEAN, 0);
    CHECK_EQ_U64(node.state.applied, 1);
    check_get("a", "1");
    CHECK_EQ_INT(get_err("b"), ERR_NOTFOUND);
    set("b", "2"); /* replay */
    check_get("b", "2");
    store_close(node.store, false);
    reopen();
    stop();
}

TEST(clean_flag_is_gone_once_the_store_is_open)
{
    start();
    set("a", "1");
    store_close(node.store, true);
    reopen();
    store_close(node.store, false);
    reopen();
    CHECK_EQ_INT(node.state.flags & INDEX_CLEAN, 0);
    stop();
}

TEST(wrong_key_count_is_refused)
{
    struct index_state s;
    struct index *ix;
    char path[PATH_MAX];

    start();
    set("a", "1");
    store_close(node.store, true);
    CHECK_EQ_INT(index_open(tmpdir_path(path, node.dir, "index.mdb"), &ix, node.detail), 0);
    CHECK_EQ_INT(index_load_state(ix, &s), 0);
    s.keys = 7;
    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_state(ix, &s), 0);
    CHECK_EQ_INT(index_write_commit(ix), 0);
    index_close(ix);
    CHECK_EQ_INT(try_open(), ERR_CORRUPT);
    CHECK(strstr(node.detail, "sldmkv-check") != NULL);
    buf_pool_free(node.pool);
    inbox_free(node.inbox);
}

TEST(lost_index_is_refused)
{
    char path[PATH_MAX];

    start();
    store_close(node.store, true);
    CHECK_EQ_INT(unlink(tmpdir_path(path, node.dir, "index.mdb")), 0);
    CHECK_EQ_INT(try_open(), ERR_CORRUPT);
    CHECK(strstr(node.detail, "index.mdb is missing") != NULL);
    buf_pool_free(node.pool);
    inbox_free(node.inbox);
}

TEST(hidden_keys_are_found_by_the_audit)
{
    struct index_state s;
    uint64_t max_applied;
    char path[PATH_MAX];

    start();
    set("a", "1");
    set("b", "1");
    store_close(node.store, false);
    reopen();
    set("a", "1");
    set("b", "1");
    checkpoint();
    store_close(node.store, false);
    /* The state row is made to disagree while the store is open, before the audit has run. */
    CHECK_EQ_INT(try_open(), 0);
    CHECK_EQ_INT(index_load_state(store_index(node.store), &s), 0);
    s.keys = 3;
    CHECK_EQ_INT(index_write_begin(store_index(node.store), 0), 0);
    CHECK_EQ_INT(index_write_state(store_index(node.store), &s), 0);
    CHECK_EQ_INT(index_write_commit(store_index(node.store)), 0);
    CHECK_EQ_INT(store_recover(node.store, &max_applied, node.detail), 0);
    run();
    CHECK_EQ_INT(access(tmpdir_path(path, node.dir, "index.damaged"), F_OK), 0);
    store_close(node.store, false);
    CHECK_EQ_INT(try_open(), ERR_CORRUPT);
    CHECK(strstr(node.detail, "index.damaged") != NULL);
    buf_pool_free(node.pool);
    inbox_free(node.inbox);
}

/* --- damage -------------------------------------------------------------------------------- */

TEST(a_damaged_record_is_a_counted_miss)
{
    struct index *ix;

    start();
    set("a", "1");
    set("b", "2");
    checkpoint();
    ix = store_index(node.store);
    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_put(ix, slice_str("a"), slice_str("no record at all")), 0);
    CHECK_EQ_INT(index_write_commit(ix), 0);
    CHECK_EQ_INT(index_renew(ix), 0);
    CHECK_EQ_INT(get_err("a"), ERR_CORRUPT);
    CHECK_EQ_U64(counts().corrupt, 1);
    check_get("b", "2");
    CHECK_EQ_STR(scan("", false), "b=2 ");
    set("a", "new"); /* replaced: still two keys */
    CHECK_EQ_U64(counts().keys, 2);
    check_get("a", "new");
    checkpoint();
    check_get("a", "new");
    store_close(node.store, true);
    reopen();
    CHECK_EQ_U64(counts().keys, 2);
    stop();
}

/* --- sweep --------------------------------------------------------------------------------- */

TEST(sweep_removes_what_expired)
{
    start();
    set_ex("soon", "1", node.wall_ms + 5000);
    set_ex("later", "2", node.wall_ms + 60000);
    set_ex("renewed", "3", node.wall_ms + 5000);
    set("never", "4");
    checkpoint();
    CHECK(!store_tick_due(node.store, node.wall_ms));
    advance_ms(5000);
    CHECK(store_tick_due(node.store, node.wall_ms)); /* due, but the stamp has not moved */
    turn();
    CHECK_EQ_U64(counts().keys, 4);
    set_ex("renewed", "3", node.wall_ms + 60000); /* moves the stamp */
    CHECK(!store_tick_due(node.store, node.wall_ms));
    turn();
    CHECK_EQ_U64(counts().expired, 1);
    CHECK_EQ_U64(counts().keys, 3);
    CHECK_EQ_INT(get_err("soon"), ERR_NOTFOUND);
    check_get("renewed", "3");
    checkpoint();
    turn();
    CHECK_EQ_U64(index_count_expiry(store_index(node.store)), 2);
    CHECK_EQ_U64(counts().expired, 1);
    CHECK_EQ_U64(counts().expires, 2);
    stop();
}

TEST(sweep_works_in_slices)
{
    char key[16];

    start();
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "%d", i);
        set_ex(key, "x", node.wall_ms + 1000 + (uint64_t)i % 7);
    }
    checkpoint();
    advance_ms(5000);
    applied();
    CHECK_EQ_U64(sweep_step(node.store->sweep, node.wall_ms, 10), 1000);
    CHECK_EQ_U64(counts().expired, 10);
    for (int i = 0; i < 20; i++)
        turn();
    CHECK_EQ_U64(counts().expired, 1000);
    CHECK_EQ_U64(counts().keys, 0);
    checkpoint();
    CHECK_EQ_U64(index_count_expiry(store_index(node.store)), 0);
    stop();
}

TEST(stale_expiry_rows_are_dropped)
{
    struct index *ix;
    struct record r = inline_record("x", 0);
    uint8_t bytes[128];

    start();
    set_ex("a", "x", node.wall_ms + 1000);
    checkpoint();
    /* The record loses its deadline behind the back of its row. */
    ix = store_index(node.store);
    record_encode(&r, slice_str("a"), bytes);
    CHECK_EQ_INT(index_write_begin(ix, 0), 0);
    CHECK_EQ_INT(index_write_put(ix, slice_str("a"), slice_of(bytes, record_size(&r))), 0);
    r.expire_ms = node.wall_ms + 1000;
    record_encode(&r, slice_str("b"), bytes);
    CHECK_EQ_INT(index_write_put(ix, slice_str("b"), slice_of(bytes, record_size(&r))), 0);
    r.expire_ms = 0;
    CHECK_EQ_INT(index_write_commit(ix), 0);
    CHECK_EQ_INT(index_renew(ix), 0);
    node.store->counts.keys = 2;
    node.store->counts.bytes = 2;
    node.store->counts.expires = 0;
    /* b: its key says another deadline than its row. */
    record_encode(&r, slice_str("b"), bytes);
    memcpy(table_put(node.store->active, slice_str("b"), record_size(&r)), bytes, record_size(&r));
    store_changed(node.store);
    advance_ms(2000);
    applied();
    turn();
    CHECK_EQ_U64(counts().expired, 0);
    checkpoint();
    turn();
    checkpoint();
    CHECK_EQ_U64(index_count_expiry(ix), 0);
    check_get("a", "x");
    stop();
}

/* --- scans --------------------------------------------------------------------------------- */

TEST(scan_view_follows_the_table)
{
    char want[256] = "";

    start();
    for (int i = 0; i < 26; i++) {
        char key[2] = {(char)('a' + i * 7 % 26), '\0'};

        set(key, "");
        (void)scan("", false); /* the view is brought up to date each time */
    }
    for (int i = 0; i < 26; i++)
        snprintf(want + strlen(want), sizeof(want) - strlen(want), "%c= ", 'a' + i);
    CHECK_EQ_STR(scan("", false), want);
    store_flush(node.store);
    applied();
    set("z", "1");
    set("y", "1");
    CHECK_EQ_STR(scan("", false), "y=1 z=1 ");
    stop();
}

TEST(random_key_is_roughly_uniform_and_alive)
{
    unsigned seen[64] = {0}, least = 1000000;
    uint8_t key[RECORD_KEY_MAX];
    size_t len;
    char name[64];

    start();
    CHECK_EQ_INT(store_random_key(node.store, node.wall_ms, key, &len), ERR_NOTFOUND);
    for (int i = 0; i < 64; i++) { /* a long common prefix, then digits */
        snprintf(name, sizeof(name), "model:block:%02d", i);
        set(name, "x");
        if (i == 31)
            checkpoint();
    }
    set_ex("expired", "x", node.wall_ms);
    for (int i = 0; i < 6400; i++) {
        CHECK_EQ_INT(store_random_key(node.store, node.wall_ms, key, &len), 0);
        CHECK_EQ_INT(len, strlen("model:block:00"));
        seen[(key[12] - '0') * 10 + key[13] - '0']++;
    }
    for (int i = 0; i < 64; i++)
        least = seen[i] < least ? seen[i] : least;
    CHECK_GT_INT(least, 0);
    store_flush(node.store);
    applied();
    set_ex("expired", "x", node.wall_ms);
    CHECK_EQ_INT(store_random_key(node.store, node.wall_ms, key, &len), ERR_NOTFOUND);
    stop();
}

/* --- limits -------------------------------------------------------------------------------- */

TEST(index_over_its_limit)
{
    start();
    set("a", "1");
    checkpoint();
    CHECK_EQ_INT(store_may_add(node.store, 1, 0), 0);
    store_set_limits(node.store, 64 * MIB, 4096);
    CHECK_EQ_INT(store_may_add(node.store, 1, 0), ERR_FULL); /* one key, nothing to evict */
    stop();
}

/* --- payloads ------------------------------------------------------------------------------ */

TEST(slots_are_counted_and_come_free)
{
    struct volumes_stats v;

    start();
    set_large("a", 100000, 1);
    set_large("b", 200000, 2);
    volumes_get_stats(store_volumes(node.store), &v);
    CHECK_EQ_U64(v.live_records, 2);
    CHECK_EQ_U64(v.live_bytes, volume_slot(100000) + volume_slot(200000));
    CHECK_EQ_INT(read_large("a", 100000, 1), 0);
    set("a", "small now");
    del("b");
    volumes_get_stats(store_volumes(node.store), &v);
    CHECK_EQ_U64(v.live_records, 0);
    set_large("c", 300000, 3);
    store_flush(node.store);
    applied();
    volumes_get_stats(store_volumes(node.store), &v);
    CHECK_EQ_U64(v.live_bytes, 0);
    store_check(node.store);
    stop();
}

TEST(payloads_survive_a_restart_and_replay)
{
    struct record r;
    uint64_t max_applied;

    start();
    set_large("a", 1000000, 1);
    checkpoint();
    set_large("b", 500000, 2);
    CHECK_EQ_INT(store_get(node.store, slice_str("b"), &r), 0);
    r.model = r.seq = r.data = slice_of(NULL, 0);
    store_close(node.store, false);
    CHECK_EQ_INT(try_open(), 0);
    node.index = node.state.applied;
    CHECK_EQ_U64(node.index, 1);
    store_put(node.store, slice_str("b"), &r); /* the log brings it back */
    applied();
    CHECK_EQ_INT(store_recover(node.store, &max_applied, node.detail), 0);
    CHECK_LE_U64(max_applied, 2);
    CHECK_EQ_INT(read_large("a", 1000000, 1), 0);
    CHECK_EQ_INT(read_large("b", 500000, 2), 0);
    set_large("c", 400000, 3);
    CHECK_EQ_INT(read_large("b", 500000, 2), 0);
    CHECK_EQ_INT(read_large("c", 400000, 3), 0);
    stop();
}

TEST(a_move_is_void_when_the_key_changed)
{
    struct record r;
    struct place to;

    start();
    set_large("a", 100000, 1);
    CHECK_EQ_INT(store_get(node.store, slice_str("a"), &r), 0);
    to = r.place;
    to.offset += volume_slot(100000);
    CHECK(!store_move(node.store, slice_str("a"), r.mod + 1, r.place, to));
    CHECK(!store_move(node.store, slice_str("a"), r.mod, to, r.place));
    CHECK(!store_move(node.store, slice_str("b"), r.mod, r.place, to));
    set("a", "inline");
    CHECK(!store_move(node.store, slice_str("a"), r.mod, r.place, to));
    CHECK_EQ_U64(counts().moved, 0);
    stop();
}

TEST(volumes_recycle_after_their_checkpoint)
{
    struct volumes_stats v;
    char key[16];

    start();
    for (int i = 0; i < 60; i++) { /* about six volumes, one key alive at a time */
        snprintf(key, sizeof(key), "k%d", i);
        set_large(key, 1500000, (unsigned)i);
        if (i > 0) {
            snprintf(key, sizeof(key), "k%d", i - 1);
            del(key);
        }
        advance_ms(500);
        turn();
    }
    CHECK_EQ_INT(read_large("k59", 1500000, 59), 0);
    volumes_get_stats(store_volumes(node.store), &v);
    CHECK_GT_U64(v.recycled, 0);
    CHECK_EQ_U64(v.live_records, 1);
    stop();
}

/* --- against a model ----------------------------------------------------------------------- */

#define MODEL_KEYS 40
#define MODEL_OPS 4000

struct op {
    int key;        /* -1: flush */
    unsigned value; /* 0: delete */
    uint64_t expire_ms;
};

static unsigned model_seed = 1;

static unsigned roll(unsigned bound)
{
    model_seed = model_seed * 1103515245u + 12345u;
    return (model_seed >> 8) % bound;
}

static void apply_op(const struct op *op)
{
    char key[16], value[600];

    snprintf(key, sizeof(key), "key%02d", op->key);
    if (op->key < 0) {
        store_flush(node.store);
        applied();
    } else if (op->value == 0) {
        del(key);
    } else {
        memset(value, 'v', op->value);
        value[op->value] = '\0';
        set_ex(key, value, op->expire_ms);
    }
}

struct model_scan {
    const struct op *model;
    int at;
};

static bool compare_with_model(void *ctx, struct slice key, const struct record *r)
{
    struct model_scan *m = ctx;
    char want[16];

    while (m->at < MODEL_KEYS && m->model[m->at].value == 0)
        m->at++;
    CHECK_LT_INT(m->at, MODEL_KEYS);
    snprintf(want, sizeof(want), "key%02d", m->at);
    CHECK(slice_eq(key, slice_str(want)));
    CHECK_EQ_U64(r->length, m->model[m->at].value);
    CHECK_EQ_U64(r->expire_ms, m->model[m->at].expire_ms);
    m->at++;
    return true;
}

static bool present(const char *key, uint64_t now_ms)
{
    struct slice k = slice_str(key);

    return store_present(node.store, k, store_ahead(node.store, k), now_ms);
}

/* Once looked up, once remembered; what was remembered last time must have followed the changes. */
static void check_presence(const struct op *model)
{
    char key[16];

    for (int i = 0; i < MODEL_KEYS; i++) {
        uint64_t expire_ms = model[i].expire_ms;
        bool there = model[i].value != 0 && (expire_ms == 0 || node.wall_ms < expire_ms);

        snprintf(key, sizeof(key), "key%02d", i);
        CHECK_EQ_INT(present(key, node.wall_ms), there);
        CHECK_EQ_INT(present(key, node.wall_ms), there);
        if (model[i].value != 0 && expire_ms != 0)
            CHECK(!present(key, expire_ms));
    }
}

static void check_model(const struct op *model)
{
    struct model_scan m = {.model = model};

    check_presence(model);

    CHECK_EQ_INT(store_scan(node.store, slice_of(NULL, 0), false, compare_with_model, &m), 0);
    while (m.at < MODEL_KEYS && model[m.at].value == 0)
        m.at++;
    CHECK_EQ_INT(m.at, MODEL_KEYS);
    store_check(node.store);
}

/* The process state is dropped; what the checkpoints did not cover comes again from the log. */
static void crash_and_replay(const struct op *log, size_t n)
{
    uint64_t max_applied;

    store_close(node.store, false);
    CHECK_EQ_INT(try_open(), 0);
    node.index = node.state.applied;
    CHECK_LE_U64(node.index, n);
    while (node.index < n)
        apply_op(&log[node.index]);
    CHECK_EQ_INT(store_recover(node.store, &max_applied, node.detail), 0);
}

TEST(random_operations_checkpoints_and_crashes_agree_with_a_model)
{
    static struct op log[MODEL_OPS];
    struct op model[MODEL_KEYS] = {{0}};

    start();
    for (size_t n = 0; n < MODEL_OPS; n++) {
        struct op *op = &log[n];

        op->key = roll(400) == 0 ? -1 : (int)roll(MODEL_KEYS);
        op->value = roll(4) == 0 ? 0 : 1 + roll(500);
        op->expire_ms = op->value != 0 && roll(3) == 0 ? node.wall_ms + 1000000 + roll(50) : 0;
        apply_op(op);
        if (op->key < 0)
            memset(model, 0, sizeof(model));
        else
            model[op->key] = *op;
        switch (roll(40)) {
        case 0:
            checkpoint_start(node.store, false);
            break;
        case 1:
            run();
            break;
        case 2:
            advance_ms(700);
            store_step(node.store);
            break;
        case 3:
            check_model(model);
            break;
        case 4:
            if (roll(8) == 0)
                crash_and_replay(log, n + 1);
            break;
        default:
            break;
        }
    }
    check_model(model);
    store_close(node.store, true);
    reopen();
    check_model(model);
    stop();
}

TEST(with_threads)
{
    rig_threads = 1;
    start();
    for (int i = 0; i < 50; i++) {
        char key[16];

        snprintf(key, sizeof(key), "k%d", i);
        set(key, "value");
        if (i % 10 == 0)
            set_large(key, 100000, (unsigned)i);
        advance_ms(300);
        store_step(node.store);
        if (i >= 1)
            check_get("k1", "value");
    }
    checkpoint();
    CHECK_EQ_INT(read_large("k40", 100000, 40), 0);
    stop();
    rig_threads = 0;
}

TEST_MAIN
