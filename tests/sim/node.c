/* SPDX-License-Identifier: MIT */
#include "node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/logger.h"
#include "check.h"
#include "client.h"
#include "disk.h"
#include "keys.h"
#include "loop.h"
#include "server/command.h"
#include "server/server.h"
#include "store/store_int.h"

#define COPY_BYTES (256 * KIB)

static struct node {
    struct server *server;
    struct config config;
    struct datadir datadir;
    struct server_seams seams;
    char dir[PATH_MAX];
    unsigned life;
    bool cut; /* the process is dead and does not know it yet */
    uint64_t cut_us;
    size_t pending;     /* in the log when it died */
    bool expects_panic; /* a fault that must end the process was injected */
    jmp_buf panic;
    uint64_t now_ms, delivered;
    struct node_stats stats;
} node;

/* ---- time --------------------------------------------------------------------------------- */

/* Every look at the clock takes a moment; a dead process lives in fast motion. */
static uint64_t mono_us(void *ctx)
{
    (void)ctx;
    sim.mono_us += node.cut ? 20000 : 1;
    return sim.mono_us;
}

static uint64_t wall_ms(void *ctx)
{
    (void)ctx;
    return sim.wall_ms + sim.mono_us / 1000;
}

void node_pass(uint64_t us)
{
    sim.mono_us += us;
}

uint64_t node_now_ms(void)
{
    if (node.server != NULL && node.server->store != NULL && !node.cut) {
        uint64_t now = clock_now_ms(&node.server->clock);
        uint64_t applied = store_applied_stamp(node.server->store);

        if (now < applied)
            now = applied;
        if (now > node.now_ms)
            node.now_ms = now;
    }
    return node.now_ms;
}

uint64_t node_look_ms(void)
{
    if (node.server == NULL || node.server->store == NULL || node.server->write == NULL || node.cut)
        return node.now_ms;
    return command_now_ms(node.server);
}

/* ---- dying -------------------------------------------------------------------------------- */

static void cut(const char *why)
{
    node.cut = true;
    node.cut_us = sim.mono_us;
    node.pending = node_is_ready() && sim.profile.raft ? log_mem_pending(node.server->log) : 0;
    disk_cut();
    client_lose_all();
    sim_say("dies at %s", why);
    sim_trace(why, strlen(why));
}

void node_point(const char *name)
{
    bool opening = node.server == NULL || node.server->store == NULL;

    /* A process that dies before its boot number is durable has done nothing. */
    if (node.cut || sim.calm || (opening && strcmp(name, "boot.durable") != 0) ||
        !sim_chance(sim.profile.crash_point))
        return;
    node.stats.points++;
    cut(name);
}

/* In place of base/fail.c's: every failpoint of the server is a place to die. */
int fail_reached(const char *name);

int fail_reached(const char *name)
{
    bool commit = strcmp(name, "ckpt.commit") == 0;
    bool was_cut = node.cut;

    node_point(name);
    if (node.cut && commit && !was_cut)
        return sim_random(2) == 0 ? ENOSPC : 0; /* the commit is done, or not begun */
    if (node.cut && (commit || strcmp(name, "ckpt.reserve") == 0 || strcmp(name, "ckpt.put") == 0))
        return ENOSPC; /* no effect any more */
    if (node.cut || !commit || sim.calm || !node_is_ready())
        return 0;
    if (disk_is_full())
        return EIO; /* as LMDB reports a short write */
    /* Twice without a good one in between is damage, not a fault: the server would refuse it. */
    node.expects_panic =
        node.server->store->counts.checkpoints > 0 && sim_chance(sim.profile.panic);
    return node.expects_panic ? EIO : 0;
}

bool node_takes_panic(void);
bool node_takes_panic(void)
{
    return node.expects_panic;
}

void node_panic(void);
void node_panic(void)
{
    longjmp(node.panic, 1);
}

/* ---- evictions ---------------------------------------------------------------------------- */

static unsigned count_key(struct entry_reader r, struct slice key)
{
    struct entry_op op;
    unsigned n = 0;

    while (entry_next(&r, &op) == 1)
        n += slice_eq(op.key, key) ||
             ((op.op == OP_RENAME || op.op == OP_COPY) && slice_eq(op.body, key));
    return n;
}

/* Told to the model ahead of the entry; returns what must be ended behind it. */
static struct check_op *expect_evict(const struct entry_op *op, struct entry_reader all,
                                     uint64_t stamp_ms)
{
    struct operation o = {.client = -1, .nsteps = 1};
    int i = key_find(op->key);
    struct record r;
    bool alone = count_key(all, op->key) == 1;

    if (i < 0)
        sim_fail("EVICT of a key that never was");
    if (stamp_ms < store_applied_stamp(node.server->store))
        stamp_ms = store_applied_stamp(node.server->store);
    if (alone && (store_get(node.server->store, op->key, &r) != 0 || record_expired(&r, stamp_ms) ||
                  r.mod != entry_arg_u64(op)))
        return NULL;
    node.stats.evicts++;
    node.stats.sure_evicts += alone;
    if (alone && client_is_leased(i))
        sim_fail("key %d of group %d is evicted under its lease", i % GROUP_KEYS, i / GROUP_KEYS);
    o.steps[0].kind = STEP_EVICT;
    o.steps[0].key = i % GROUP_KEYS;
    o.steps[0].flags = alone ? STEP_SURE : 0;
    return check_begin(&o, i / GROUP_KEYS, 0);
}

/* `raft no`: an eviction may be undone by a crash until a checkpoint has it. */
static struct undurable {
    struct check_op *op;
    uint64_t index;
} undurable[1024];
static size_t nundurable;

static void end_evict(struct check_op *c, uint64_t index)
{
    if (sim.profile.raft)
        check_done(c);
    else if (nundurable == sizeof(undurable) / sizeof(undurable[0]))
        sim_fail("too many evictions without a checkpoint");
    else
        undurable[nundurable++] = (struct undurable){c, index};
}

static void end_durable_evicts(void)
{
    uint64_t durable = store_durable_index(node.server->store);
    size_t n = 0;

    for (size_t i = 0; i < nundurable; i++) {
        if (undurable[i].index <= durable)
            check_done(undurable[i].op);
        else
            undurable[n++] = undurable[i];
    }
    nundurable = n;
}

static void lose_evicts(void)
{
    for (size_t i = 0; i < nundurable; i++)
        check_unknown(undurable[i].op);
    nundurable = 0;
}

void __real_write_on_committed(void *ctx, uint64_t index, uint64_t term, struct slice entry);
void __wrap_write_on_committed(void *ctx, uint64_t index, uint64_t term, struct slice entry);

static void say_entry(uint64_t index, struct slice entry)
{
    struct entry_reader r;
    struct entry_header h;
    struct entry_op op;

    if (!sim.verbose || entry_open(entry, &h, &r) != 0)
        return;
    sim_say("entry %" PRIu64 " kind %d group %" PRIu64 " stamp %" PRIu64, index, h.kind, h.group,
            h.stamp_ms);
    while (entry_next(&r, &op) == 1) {
        int i = op.key.len > 0 ? key_find(op.key) : -1;

        sim_say("  op %d flags %x group %d k%d body %zu", op.op, op.flags, i / GROUP_KEYS,
                i < 0 ? -1 : i % GROUP_KEYS, op.body.len);
    }
}

void __wrap_write_on_committed(void *ctx, uint64_t index, uint64_t term, struct slice entry)
{
    struct check_op *expected[1024];
    struct entry_reader r, all;
    struct entry_header h;
    struct entry_op op;
    size_t n = 0;

    say_entry(index, entry);
    if (index > node.delivered && !node.cut) {
        node.delivered = index;
        if (entry_open(entry, &h, &all) != 0)
            sim_fail("the log delivered an entry that cannot be read");
        r = all;
        while (n < 1024 && entry_next(&r, &op) == 1) {
            struct check_op *c = NULL;

            if (op.op == OP_EVICT)
                c = expect_evict(&op, all, h.stamp_ms);
            if (c != NULL)
                expected[n++] = c;
        }
    } else {
        node.stats.replayed++;
    }
    __real_write_on_committed(ctx, index, term, entry);
    for (size_t i = 0; i < n; i++)
        end_evict(expected[i], index);
}

/* ---- files -------------------------------------------------------------------------------- */

static void path_of(char *out, const char *dir, const char *name)
{
    if (snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        sim_fail("a path is too long");
}

void node_remove_dir(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    char path[PATH_MAX];

    while (d != NULL && (e = readdir(d)) != NULL) {
        path_of(path, dir, e->d_name);
        unlink(path);
    }
    if (d != NULL)
        closedir(d);
    rmdir(dir);
}

static void copy_file(const char *from, const char *to)
{
    static uint8_t bytes[COPY_BYTES];
    int in = open(from, O_RDONLY | O_CLOEXEC), out;
    ssize_t n;

    if (in < 0)
        return; /* it was never made */
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    while ((n = read(in, bytes, sizeof(bytes))) > 0)
        if (out < 0 || write(out, bytes, (size_t)n) != n)
            sim_fail("copying %s: %s", from, strerror(errno));
    close(in);
    close(out);
}

static bool ends_in(const char *name, const char *end)
{
    size_t len = strlen(name), n = strlen(end);

    return len >= n && strcmp(name + len - n, end) == 0;
}

/* What the next life finds. Volumes are large and only written through disk.c: they move. */
static void inherit(const char *from, const char *to)
{
    char old_path[PATH_MAX], new_path[PATH_MAX];
    DIR *d = opendir(from);
    struct dirent *e;

    if (d == NULL || mkdir(to, 0700) != 0)
        sim_fail("making %s: %s", to, strerror(errno));
    while ((e = readdir(d)) != NULL) {
        path_of(old_path, from, e->d_name);
        path_of(new_path, to, e->d_name);
        if (e->d_name[0] == '.' || ends_in(e->d_name, "LOCK") || ends_in(e->d_name, "-lock"))
            continue;
        if (strncmp(e->d_name, "vol-", 4) != 0)
            copy_file(old_path, new_path);
        else if (rename(old_path, new_path) != 0)
            sim_fail("moving %s: %s", old_path, strerror(errno));
    }
    closedir(d);
}

/* ---- lives -------------------------------------------------------------------------------- */

static void put_number(const char *name, uint64_t value)
{
    config_put_number(&node.config, config_find(name, strlen(name)), (int64_t)value);
}

static void put_text(const char *name, const char *value)
{
    char detail[CONFIG_DETAIL_MAX];

    if (config_set(&node.config, config_find(name, strlen(name)), value, "sim", detail) != 0)
        sim_fail("%s", detail);
}

static void configure(void)
{
    const struct profile *p = &sim.profile;

    config_init(&node.config);
    put_text("data-dir", node.dir);
    put_text("raft", p->raft ? "yes" : "no");
    put_number("max-store-bytes", p->max_store);
    put_number("max-index-bytes", p->max_index);
    put_number("max-memory-bytes", p->max_memory);
    put_number("volume-size", DISK_VOLUME);
    put_number("inline-max", p->inline_max);
    put_number("lookup-lease-ms", p->lease_ms);
    node.seams.clock = (struct clock_source){wall_ms, mono_us, NULL};
    node.seams.io = &disk_io;
    node.seams.snapshot_groups = p->snapshot_groups;
}

static void name_life(void)
{
    node.life++;
    snprintf(node.dir, sizeof(node.dir), "%s/life-%u", sim.base, node.life);
}

void node_init(void)
{
    if (sim.profile.raft)
        node.seams.medium = log_medium_new();
    name_life();
    if (mkdir(node.dir, 0700) != 0)
        sim_fail("making %s: %s", node.dir, strerror(errno));
}

/* Of times that only readers saw nothing is stored: where the clock runs back while the machine is
 * down, what they saw expire may be there again. The model does not know that; scenes do as they
 * like. */
static void set_clock_right(void)
{
    uint64_t now = sim.wall_ms + sim.mono_us / 1000;

    if (!sim.calm && now < node.now_ms)
        sim.wall_ms += node.now_ms - now;
}

void node_start(void)
{
    struct server_options o = {.config = &node.config,
                               .config_file = "",
                               .executable = "sim",
                               .datadir = &node.datadir,
                               .seams = &node.seams};
    char detail[LOG_DETAIL_MAX] = "";
    int err;

    set_clock_right();
    configure();
    err = datadir_open(node.dir, 1, sim.profile.raft, &node.datadir, detail);
    if (err == 0)
        err = server_new(&o, &node.server, detail);
    if (err == 0)
        err = server_start(node.server, detail);
    if (err != 0)
        sim_fail("the server does not start: %s", detail);
    model_set_value_max(node.server->value_max);
    if (!sim.profile.raft)
        node.delivered = 0; /* indexes behind the checkpoint are given again */
    sim_say("life %u begins, boot %u", node.life, store_boot(node.server->store));
    if (node.cut)
        node_crash("start");
}

static void count_life(void)
{
    struct volumes_stats v;
    struct store_counts c;
    struct log_stats l;

    volumes_get_stats(store_volumes(node.server->store), &v);
    store_get_counts(node.server->store, &c);
    node.stats.recycled += v.recycled;
    node.stats.failed_volumes += v.failed;
    node.stats.moved += c.moved;
    node.stats.checkpoints += c.checkpoints;
    node.stats.expired += c.expired;
    if (node.server->log == NULL)
        return;
    log_stats(node.server->log, &l);
    node.stats.snapshots += l.snapshots;
}

static void end_server(void)
{
    char detail[LOG_DETAIL_MAX];
    int rc = server_end(node.server, detail);

    if (rc != 0 && !node.cut)
        sim_fail("the server could not start: %s", detail);
    server_free(node.server);
    node.server = NULL;
    datadir_close(&node.datadir);
    config_fini(&node.config);
}

void __wrap__exit(int status);
void __wrap__exit(int status)
{
    sim_fail("the server ends itself with %d", status);
}

/* What is left of the process holds nothing that matters: its memory is given up. */
static void abandon(void)
{
    loop_forget();
    close(node.datadir.lock_fd);
    node.server = NULL;
    node.stats.abandoned++;
}

/* The old process is taken apart while the disk is cut off. It may meet the fault that it was to
 * end by only now. */
static void bury(void)
{
    if (setjmp(node.panic) != 0) {
        abandon();
        return;
    }
    end_server();
}

static void next_life(void (*end_this_one)(void))
{
    char old_dir[PATH_MAX];

    node.stats.crashes++;
    lose_evicts();
    if (!sim.profile.raft)
        check_excuse_looks();
    disk_set_full(false); /* or it would not start */
    if (sim.profile.raft)
        log_mem_crash(node.server->log, node.pending == 0 ? 0 : sim_random(node.pending + 1));
    snprintf(old_dir, sizeof(old_dir), "%s", node.dir);
    name_life();
    inherit(old_dir, node.dir);
    end_this_one();
    node_remove_dir(old_dir);
    disk_restart();
    node.cut = node.expects_panic = false;
    sim.mono_us = node.cut_us;
    node_start();
}

void node_crash(const char *why)
{
    node_now_ms();
    if (!node.cut)
        cut(why);
    count_life();
    next_life(bury);
}

/* The process stopped itself in the middle of something: there is nothing to take apart. */
static void crash_by_panic(void)
{
    node_now_ms();
    cut("panic");
    node.stats.panics++;
    next_life(abandon);
}

void node_stop(void)
{
    bool went_on = true;

    sim.calm = true;
    server_request_stop(node.server, false);
    for (int i = 0; went_on && i < 100000; i++) {
        node_pass(200);
        while (node_work() || node_log())
            ;
        went_on = server_step(node.server);
    }
    if (went_on)
        sim_fail("SHUTDOWN does not come to an end");
    node_now_ms();
    count_life();
    client_lose_all();
    node.stats.stops++;
    end_server();
    while (nundurable > 0) /* the last checkpoint has them */
        check_done(undurable[--nundurable].op);
    disk_check_synced();
    sim.calm = false;
    sim_say("life %u ends cleanly", node.life);
}

void node_free(void)
{
    log_medium_free(node.seams.medium);
    node_remove_dir(node.dir);
}

/* ---- steps -------------------------------------------------------------------------------- */

struct server *node_server(void)
{
    return node.server;
}

bool node_is_ready(void)
{
    return node.server != NULL && node.server->state == SERVER_READY;
}

bool node_is_quiet(void)
{
    const struct server *s = node.server;

    if (!node_is_ready() || !write_idle(s->write) || !tier_idle(s->tier) ||
        !stage_idle(store_stage(s->store)) || s->memory_waiters != NULL ||
        s->turn_waiters != NULL || s->closed != NULL || s->store->backup != NULL)
        return false;
    for (const struct conn *c = s->conns; c != NULL; c = c->next)
        if (!conn_idle(c))
            return false;
    return true;
}

void node_turn(void)
{
    if (setjmp(node.panic) != 0) {
        crash_by_panic();
        return;
    }
    if (!server_step(node.server) && !node.cut)
        sim_fail("the server stops by itself: %s", node.server->start_detail);
    if (node.cut)
        node_crash("");
    else
        end_durable_evicts();
}

bool node_work(void)
{
    struct store *s = node.server->store;
    struct worker *workers[4] = {s->writer, s->readers, s->checkpointer, s->maint};
    unsigned first = (unsigned)sim_random(4);
    bool did = false;

    if (setjmp(node.panic) != 0) {
        crash_by_panic();
        return true;
    }
    for (unsigned i = 0; i < 4 && !did; i++) {
        unsigned n = (first + i) % 4;

        if (n != sim.profile.lazy || sim.calm || sim_chance(300))
            did = worker_step(workers[n]);
    }
    if (node.cut)
        node_crash("");
    return did;
}

bool node_log(void)
{
    struct log *log = node.server->log;
    size_t n = sim.profile.raft ? log_mem_pending(log) : 0;

    if (n == 0)
        return false;
    if (!node_is_ready() || sim.calm)
        log_mem_commit(log, sim_between(1, n));
    else if (sim_chance(sim.profile.log_fail))
        log_mem_fail(log, sim_between(1, n), sim_random(2) == 0 ? ERR_NOSPC : ERR_UNKNOWN);
    else if (sim_chance(sim.profile.log_doubt))
        log_mem_doubt(log, sim_between(1, n));
    else
        log_mem_commit(log, sim_between(1, n));
    return true;
}

void node_check(void)
{
    if (node_is_ready())
        store_check(node.server->store);
}

static void describe_volumes(const struct store *s)
{
    struct volume_row *rows;
    size_t n = volumes_rows(s->volumes, &rows);

    for (size_t i = 0; i < n; i++)
        fprintf(stderr,
                "#   volume %u state %d generation %u cursor %" PRIu64 " live %" PRIu64
                " records %" PRIu64 "\n",
                rows[i].number, rows[i].state, rows[i].generation, rows[i].cursor,
                rows[i].live_bytes, rows[i].live_records);
    free(rows);
}

void node_describe(void)
{
    const struct server *s = node.server;
    struct volumes_stats v;
    struct stage_stats st;
    struct write_stats w;
    struct index_stats ix;

    volumes_get_stats(s->store->volumes, &v);
    stage_get_stats(s->store->stage, &st);
    write_get_stats(s->write, &w);
    store_get_index_stats(s->store, &ix);
    fprintf(stderr,
            "#   live %" PRIu64 " of %" PRIu64 ", free %" PRIu64 " open %" PRIu64 " sealed %" PRIu64
            " failed %" PRIu64 " empty %" PRIu64 " pinned %" PRIu64 " can_grow %" PRIu64 "\n",
            v.live_bytes, store_live_limit(s->store), v.free, v.open, v.sealed, v.failed, v.empty,
            v.pinned, v.can_grow);
    fprintf(stderr,
            "#   waiting for room %" PRIu64 ", in flight %" PRIu64 ", staged %" PRIu64 " (%" PRIu64
            " bytes), memory %zu of %zu, index %" PRIu64 "\n",
            w.waiting, w.in_flight, st.queued, st.queued_bytes, buf_pool_used(s->pool),
            buf_pool_limit(s->pool), ix.used_bytes);
    fprintf(stderr, "#   checkpoint %s, write idle %d, tier idle %d, stage idle %d\n",
            s->store->frozen == NULL             ? "idle"
            : store_checkpoint_running(s->store) ? "running"
                                                 : "waits",
            write_idle(s->write), tier_idle(s->tier), stage_idle(s->store->stage));
    describe_volumes(s->store);
}

void node_get_stats(struct node_stats *out)
{
    *out = node.stats;
}
