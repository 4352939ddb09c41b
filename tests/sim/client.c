/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "keys.h"
#include "node.h"
#include "server/server.h"

enum { PIPELINE_MAX = 8, READ_ERROR_US = 2000000 };

static struct client {
    struct sock *sock; /* NULL: not connected */
    struct gen_session session;
    unsigned pipeline; /* commands it likes to have under way */
    size_t outstanding;
    bool no_watch; /* an EXEC of its last connection may still come */
    /* a SCAN under way */
    struct check_op *scan[KEYS];
    bool seen[KEYS];
} clients[CLIENTS];

static uint64_t leased_until[KEYS];
static uint64_t read_errors, read_error_us;
static struct client_stats stats;

void client_init(void)
{
    for (int i = 0; i < CLIENTS; i++)
        clients[i].session = (struct gen_session){.client = i, .watch_group = -1};
}

bool client_is_leased(int key)
{
    return leased_until[key] > node_now_ms();
}

static void take_lease(int key, uint64_t until)
{
    if (until > leased_until[key])
        leased_until[key] = until;
}

/* Reads that failed a moment ago may be told only now. */
static bool had_read_faults(const struct cmd *c)
{
    struct disk_stats d;

    disk_get_stats(&d);
    if (d.read_errors != read_errors) {
        read_errors = d.read_errors;
        read_error_us = sim.mono_us;
    }
    return d.read_errors != c->read_errors ||
           (d.read_errors > 0 && sim.mono_us - read_error_us < READ_ERROR_US);
}

/* ---- SCAN --------------------------------------------------------------------------------- */

/* A listing looks at one key after another: each is an operation of its own. */
static void scan_begin(struct client *k)
{
    struct operation op = {.client = k->session.client};

    memset(k->seen, 0, sizeof(k->seen));
    for (int key = 0; key < KEYS; key++) /* what the client sends meanwhile may come first */
        k->scan[key] = check_begin(&op, key / GROUP_KEYS, 0);
    k->session.scanning = true;
    k->session.scan_queued = false;
}

static void present(struct check_op *c, int key, bool is)
{
    c->op.nsteps = 1;
    c->op.steps[0] = (struct step){.kind = STEP_PRESENT, .key = key % GROUP_KEYS, .expect = is};
}

static void scan_end(struct client *k, bool whole)
{
    if (!k->session.scanning)
        return;
    k->session.scanning = false;
    for (int key = 0; key < KEYS; key++) {
        struct check_op *c = k->scan[key];

        k->scan[key] = NULL;
        present(c, key, k->seen[key]);
        if (whole)
            check_done(c);
        else
            check_drop(c);
    }
}

static void note_seen(const struct reply *list, bool seen[KEYS])
{
    for (size_t i = 0; i < list->len; i++) {
        const struct reply *r = &list->elements[i];
        int key = r->type == REPLY_BULK && r->text != NULL
                      ? key_find(slice_of((const uint8_t *)r->text, r->len))
                      : -1;

        if (key < 0)
            sim_fail("a listing names a key that never was");
        seen[key] = true;
    }
}

static void scan_reply(struct client *k, const struct reply *r)
{
    if (r->type == REPLY_ERROR) {
        scan_end(k, false);
        return;
    }
    if (r->type != REPLY_ARRAY || r->len != 2 || r->elements[1].type != REPLY_ARRAY)
        sim_fail("SCAN answers something else");
    note_seen(&r->elements[1], k->seen);
    snprintf(k->session.cursor, sizeof(k->session.cursor), "%.31s", r->elements[0].text);
    if (strcmp(k->session.cursor, "0") == 0)
        scan_end(k, true);
}

/* ---- the end of a command ----------------------------------------------------------------- */

static void end_parts(struct cmd *c, void (*end)(struct check_op *))
{
    for (int i = 0; i < c->nparts; i++) {
        struct check_op *running = c->parts[i].running;

        c->parts[i].running = NULL;
        if (running != NULL)
            end(running);
    }
}

/* Whatever became of an EXEC, nothing is watched behind it. */
static void unwatch(struct client *k, const struct cmd *c)
{
    struct operation op = {.client = k->session.client, .nsteps = 1};

    op.steps[0].kind = STEP_UNWATCH;
    if ((c->kind == CMD_TX || c->kind == CMD_DROPS) && c->nparts > 0)
        check_now(&op, c->parts[0].group, 0);
}

/* Refused, with all it would have done. */
static void refuse(struct sock *s, struct cmd *c)
{
    stats.refused++;
    end_parts(c, check_drop);
    unwatch(&clients[s->slot], c);
}

void client_on_begin(struct sock *s, struct cmd *c)
{
    struct client *k = &clients[s->slot];
    struct disk_stats d;

    disk_get_stats(&d);
    c->read_errors = d.read_errors;
    c->began_ms = node_now_ms();
    if (c->kind == CMD_SCAN && !k->session.scanning)
        scan_begin(k);
    for (int i = 0; i < c->nparts; i++) {
        struct cmd_part *part = &c->parts[i];

        part->running = check_begin(&part->op, part->group, c->kind == CMD_BACKUP ? 0 : s->id);
        part->running->slices = c->nparts > 1 || part->op.steps[0].kind == STEP_KVRANGE;
    }
    if (sim.verbose && c->nparts > 0) {
        char text[1600];

        model_describe(&c->parts[0].op, text, sizeof(text));
        sim_say("conn %" PRIu64 " kind %d group %d of %d: %.300s", s->id, c->kind,
                c->parts[0].group, c->nparts, text);
    }
}

/* What is under way may or may not happen; what has not begun never will. */
static void lose(struct client *k)
{
    struct sock *s = k->sock;
    struct operation op = {.client = k->session.client, .nsteps = 1};

    for (struct cmd *c = s->first; c != NULL; c = c->next) {
        stats.unknown += c->begun && c->nparts > 0;
        stats.lost++;
        k->no_watch = k->no_watch || c->kind == CMD_TX;
        end_parts(c, check_unknown);
        unwatch(k, c);
    }
    scan_end(k, false);
    op.steps[0].kind = STEP_UNWATCH;
    if (k->session.watch_group >= 0)
        check_now(&op, k->session.watch_group, 0);
    k->session = (struct gen_session){.client = k->session.client, .watch_group = -1};
    k->sock = NULL;
    sim.ops_done += k->outstanding;
    k->outstanding = 0;
}

void client_on_close(struct sock *s)
{
    struct client *k = &clients[s->slot];

    sim_say("conn %" PRIu64 " was closed by the server", s->id);
    stats.closed_by_server++;
    lose(k);
    socket_leave(s, true);
}

void client_lose_all(void)
{
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i].sock != NULL)
            lose(&clients[i]);
    socket_lose_all();
    memset(leased_until, 0, sizeof(leased_until));
}

void client_settled(void)
{
    for (int i = 0; i < CLIENTS; i++)
        clients[i].no_watch = false;
}

/* ---- replies ------------------------------------------------------------------------------ */

/* It took effect, and says nothing. */
#define VALUE_LOST "UNKNOWN the write took effect"

/* Answers that are about the machine, not about the keys. */
static bool is_refusal(const struct reply *r)
{
    static const char *const texts[] = {
        "OOM ",
        "MISCONF ",
        "LOADING ",
        "TRYAGAIN ",
        "IOERR ",
        VALUE_LOST,
        "EXECABORT ",
        "ERR out of memory",
        "ERR the key kept changing",
        "ERR this node does not lead",
        "ERR canceled",
        "ERR BACKUP failed",
        "ERR a BACKUP is running",
        "ERR transaction too large",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (reply_is_error(r, texts[i]))
            return true;
    return false;
}

/* A fault that was not made must not be told. */
static void check_refusal(const struct cmd *c, const struct reply *r)
{
    const struct profile *p = &sim.profile;
    bool fine = true;

    stats.oom += reply_is_error(r, "OOM");
    stats.nospc += reply_is_error(r, "MISCONF");
    stats.loading += reply_is_error(r, "LOADING");
    stats.io_errors += reply_is_error(r, "IOERR");
    if (reply_is_error(r, "MISCONF"))
        fine = p->disk_full > 0 || p->write_nospc > 0 || p->log_fail > 0;
    if (reply_is_error(r, VALUE_LOST))
        fine = had_read_faults(c);
    if (reply_is_error(r, "IOERR"))
        fine = p->write_eio > 0 || p->sync_eio > 0 || had_read_faults(c);
    if (!fine)
        sim_fail("an error without a cause: %s", r->text);
}

/* Who would lease a key whose eviction is on its way is told that it is not there: of a key that
 * does not seem to be there this says nothing, then. */
static bool may_be_condemned(void)
{
    struct server *s = node_server();

    return lease_condemns(store_lease(s->store), clock_now_ms(&s->clock));
}

static bool misses_some(const struct step *s, const struct reply *r)
{
    return s->kind == STEP_EXISTS && r->type == REPLY_INT &&
           r->number < __builtin_popcount(s->mask);
}

/* The part of the i-th key that was asked for says this; the others say nothing. */
static void match_steps(struct cmd *c, const struct reply *r)
{
    if (r->type != REPLY_INT || r->number < 0 || r->number > c->nkeys)
        sim_fail("KVMATCH answers something else");
    for (int i = 0; i < c->nkeys && i <= r->number; i++) {
        if (i == r->number && may_be_condemned())
            return;
        present(c->parts[i].running, c->keys[i], i < r->number);
        if (i < r->number)
            take_lease(c->keys[i], c->began_ms + c->lease_ms);
    }
}

/* keys[] in byte order is what was asked for; `limit` of them are listed. */
static void list_steps(struct cmd *c, const struct reply *r)
{
    bool seen[KEYS] = {false};
    int last = c->nkeys;

    stats.listings++;
    if (r->type != REPLY_ARRAY || (c->kind == CMD_PAGE && r->len > c->limit))
        sim_fail("a listing answers something else");
    note_seen(r, seen);
    if (c->kind == CMD_PAGE && r->len == c->limit) { /* it ended with the last that is listed */
        while (last > 0 && !seen[c->keys[last - 1]])
            last--;
    }
    for (int i = 0; i < c->nkeys; i++) {
        if (i < last)
            present(c->parts[i].running, c->keys[i], seen[c->keys[i]]);
        seen[c->keys[i]] = false;
    }
    for (int i = 0; i < KEYS; i++)
        if (seen[i])
            sim_fail("a listing names a key that was not asked for, or twice");
}

static void random_steps(struct cmd *c, const struct reply *r)
{
    int key = r->type == REPLY_BULK && r->text != NULL
                  ? key_find(slice_of((const uint8_t *)r->text, r->len))
                  : -1;

    if (r->type == REPLY_NIL)
        return;
    if (key < 0)
        sim_fail("RANDOMKEY names a key that never was");
    present(c->parts[key].running, key, true);
}

static void backup_steps(struct cmd *c)
{
    static struct key_state records[KEYS];
    bool damaged[KEYS] = {false};

    stats.backups++;
    backup_read(c->dir, records, had_read_faults(c) ? damaged : NULL);
    for (int i = 0; i < c->nparts; i++) {
        struct operation *op = &c->parts[i].running->op;

        op->nsteps = 0;
        for (int key = 0; key < GROUP_KEYS; key++) {
            int at = c->parts[i].group * GROUP_KEYS + key;

            if (!damaged[at])
                op->steps[op->nsteps++] =
                    (struct step){.kind = STEP_SNAPSHOT, .key = key, .record = records[at]};
        }
    }
}

static void step_replies(struct cmd *c, struct answer *a)
{
    for (int i = 0; i < c->nparts; i++) {
        struct check_op *running = c->parts[i].running;

        running->answer = answer_ref(a);
        for (int s = 0; s < running->op.nsteps; s++) {
            int element = running->op.steps[s].element;
            const struct reply *r;

            if (element >= 0 && a->reply.type == REPLY_NIL)
                continue; /* EXEC was refused */
            if (element >= 0 && (a->reply.type != REPLY_ARRAY || (size_t)element >= a->reply.len))
                sim_fail("an array without element %d", element);
            r = element < 0 ? &a->reply : &a->reply.elements[element];
            if (misses_some(&running->op.steps[s], r) && may_be_condemned())
                continue;
            if (!is_refusal(r)) /* else its value could not be read: it says nothing */
                running->op.steps[s].reply = r;
            else
                check_refusal(c, r);
        }
        if (running->op.exec)
            running->op.exec_reply = &a->reply;
    }
}

static void note_leases(const struct cmd *c, const struct reply *r)
{
    const struct step *s = c->nparts == 1 ? &c->parts[0].op.steps[0] : NULL;

    if (s == NULL || c->kind != CMD_PLAIN || s->kind != STEP_EXISTS || r->type != REPLY_INT ||
        misses_some(s, r))
        return;
    for (int key = 0; key < GROUP_KEYS; key++)
        if (s->mask >> key & 1)
            take_lease(c->parts[0].group * GROUP_KEYS + key, c->began_ms + sim.profile.lease_ms);
}

/* The last reply of a command whose operations it decides. */
static void decide(struct sock *s, struct cmd *c, struct answer *a)
{
    const struct reply *r = &a->reply;

    if (reply_is_error(r, "UNKNOWN the outcome")) {
        if (sim.profile.log_fail == 0 && sim.profile.log_doubt == 0)
            sim_fail("an unknown outcome without a cause");
        stats.unknown++;
        end_parts(c, check_unknown);
        unwatch(&clients[s->slot], c);
        clients[s->slot].no_watch = c->kind == CMD_TX;
        return;
    }
    if (is_refusal(r) && !reply_is_error(r, VALUE_LOST)) {
        check_refusal(c, r);
        refuse(s, c);
        return;
    }
    if (c->kind == CMD_MATCH)
        match_steps(c, r);
    else if (c->kind == CMD_LIST || c->kind == CMD_PAGE)
        list_steps(c, r);
    else if (c->kind == CMD_RANDOM)
        random_steps(c, r);
    else if (c->kind == CMD_BACKUP)
        backup_steps(c);
    else
        step_replies(c, a);
    note_leases(c, r);
    stats.tx += c->kind == CMD_TX;
    stats.tx_refused += c->kind == CMD_TX && r->type == REPLY_NIL;
    for (int i = 0; i < c->nparts; i++)
        c->parts[i].running->op.read_faults = had_read_faults(c);
    end_parts(c, check_done);
}

static bool is_tx(const struct cmd *c)
{
    return c->kind == CMD_TX || c->kind == CMD_DROPS;
}

bool client_on_reply(struct sock *s, struct cmd *c, struct reply *r)
{
    struct client *k = &clients[s->slot];
    struct answer *a;
    char text[200];

    reply_describe(r, text, sizeof(text));
    sim_say("conn %" PRIu64 " <- %s", s->id, text);
    c->got++;
    if (c->got < c->replies) {
        bool fine = reply_is(r, c->got == 1 ? "OK" : "QUEUED") || is_refusal(r);

        if (!is_tx(c) || !fine)
            sim_fail("in a transaction: %s", text);
        reply_free(r);
        return false;
    }
    sim.ops_done++;
    stats.commands++;
    k->outstanding--;
    a = calloc(1, sizeof(*a));
    a->refs = 1;
    a->reply = *r;
    if (c->kind == CMD_SCAN)
        scan_reply(k, r);
    else if (c->kind == CMD_DROPS && !reply_is(r, "OK"))
        sim_fail("DISCARD: %s", text);
    else if (c->kind == CMD_DROPS)
        end_parts(c, check_done);
    else if (c->kind != CMD_QUIET)
        decide(s, c, a);
    answer_unref(a);
    return true;
}

/* ---- what clients do ---------------------------------------------------------------------- */

static void greet(struct client *k)
{
    struct cmd *c = cmd_new(CMD_QUIET);
    struct args a = {0};

    arg_word(&a, "HELLO");
    arg_word(&a, "3");
    cmd_request(c, &a);
    socket_queue(k->sock, c);
    k->outstanding++;
}

static void connect_one(struct client *k)
{
    k->sock = socket_open(k->session.client);
    k->pipeline = sim_chance(5000) ? 1 : (unsigned)sim_between(1, PIPELINE_MAX);
    stats.connections++;
    if (conn_new(node_server(), k->sock->fd, true) == NULL)
        sim_fail("no connection");
    if (sim_chance(3000))
        greet(k);
}

static bool give(struct client *k, struct cmd *c)
{
    if (c == NULL)
        return false;
    socket_queue(k->sock, c);
    k->outstanding++;
    return true;
}

static void disconnect(struct client *k)
{
    struct sock *s = k->sock;
    bool reset = sim_chance(5000);

    sim_say("conn %" PRIu64 " leaves%s", s->id, reset ? " (reset)" : "");
    lose(k);
    socket_leave(s, reset);
}

static uint64_t some_bytes(void)
{
    return sim_chance(3000)   ? sim_between(1, 40)
           : sim_chance(5000) ? sim_between(1, 64 * KIB)
                              : UINT64_MAX;
}

static void issue(struct client *k)
{
    /* While the log is replayed, WATCH is answered of a state that will change. */
    k->session.may_watch = !k->no_watch && node_is_ready();
    if (k->session.scanning) {
        if (k->outstanding == 0)
            give(k, gen_scan(&k->session));
        return;
    }
    while (k->outstanding < k->pipeline && give(k, gen_command(&k->session)))
        if (sim_chance(3000))
            break;
}

void client_act(void)
{
    struct client *k = &clients[sim_random(CLIENTS)];

    if (k->sock == NULL) {
        connect_one(k);
        return;
    }
    if (sim_chance(20)) {
        disconnect(k);
        return;
    }
    issue(k);
    socket_show(k->sock, some_bytes());
    if (sim_chance(6000))
        socket_drain(k->sock, sim_between(1, 512 * KIB));
}

void client_push(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct client *k = &clients[i];

        if (k->sock == NULL)
            continue;
        if (k->session.scanning && k->outstanding == 0)
            give(k, gen_scan(&k->session));
        socket_show(k->sock, UINT64_MAX);
        socket_drain(k->sock, 4 * MIB);
    }
}

bool client_send(struct cmd *c)
{
    struct client *k = &clients[sim_random(CLIENTS)];

    if (k->session.scanning || k->outstanding >= 64) {
        cmd_free(c);
        return false;
    }
    if (k->sock == NULL)
        connect_one(k);
    return give(k, c);
}

size_t client_outstanding(void)
{
    size_t n = 0;

    for (int i = 0; i < CLIENTS; i++)
        n += clients[i].outstanding + clients[i].session.scanning;
    return n;
}

void client_get_stats(struct client_stats *out)
{
    *out = stats;
}
