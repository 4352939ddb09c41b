/* SPDX-License-Identifier: MIT */
/* The search. A node is the set of operations placed so far and the state they lead to. From a
 * node the next can be any operation that began before the first of the others ended, and that
 * its connection did not send behind one of the others. An operation whose outcome is unknown may
 * be placed or left out. Every node in which all answered operations are placed ends in a state
 * that the group may now be in. No such node: no order explains what was answered.
 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "node.h"

enum { SEGMENT_MAX = 256, WORDS = SEGMENT_MAX / 64, NODES_MAX = 2000000 };

struct node {
    uint64_t placed[WORDS];
    struct group_state state;
};

struct group {
    struct group_state *states;
    size_t nstates;
    struct check_op *first, **last;
    size_t count, open, unknown;
};

static struct group groups[GROUPS];
static uint64_t numbers;
static size_t searches, widest;

static struct {
    int group;
    struct check_op *ops[SEGMENT_MAX];
    size_t nops;
    struct node *nodes;
    size_t nnodes, space;
    uint32_t *slots; /* 1 + index of a node */
    size_t nslots;
} search;

struct answer *answer_ref(struct answer *a)
{
    if (a != NULL)
        a->refs++;
    return a;
}

void answer_unref(struct answer *a)
{
    if (a == NULL || --a->refs > 0)
        return;
    reply_free(&a->reply);
    free(a);
}

void check_init(void)
{
    for (int g = 0; g < GROUPS; g++) {
        groups[g].states = calloc(1, sizeof(struct group_state));
        groups[g].nstates = 1;
        groups[g].last = &groups[g].first;
    }
}

void check_free(void)
{
    for (int g = 0; g < GROUPS; g++)
        free(groups[g].states);
    free(search.nodes);
    free(search.slots);
}

/* ---- report ------------------------------------------------------------------------------- */

static void print_op(const struct check_op *c)
{
    char text[2400];

    model_describe(&c->op, text, sizeof(text));
    fprintf(stderr, "#   [%" PRIu64 ", ", c->began);
    if (c->state == CHECK_DONE)
        fprintf(stderr, "%" PRIu64 "]", c->ended);
    else
        fprintf(stderr, "?]");
    fprintf(stderr, " conn %" PRIu64 " ms %" PRIu64 "..%" PRIu64 " %s\n", c->conn, c->w.lo, c->w.hi,
            text);
}

/* What is said of a group that cannot be explained. */
static void print_group(int g)
{
    const struct group *group = &groups[g];
    char text[1200];

    for (size_t i = 0; i < group->nstates && i < 8; i++) {
        model_describe_state(&group->states[i], text, sizeof(text));
        fprintf(stderr, "#   before (%zu of %zu): %s\n", i + 1, group->nstates, text);
    }
    for (const struct check_op *c = group->first; c != NULL; c = c->next)
        print_op(c);
}

static void no_order(int g)
{
    fprintf(stderr, "# group %d: no order of these operations explains their replies\n", g);
    print_group(g);
    sim_fail("not linearizable: group %d", g);
}

/* ---- nodes -------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct node *n)
{
    return hash64(n, sizeof(*n));
}

static void rehash(void)
{
    search.nslots = search.nslots == 0 ? 1024 : search.nslots * 2;
    free(search.slots);
    search.slots = calloc(search.nslots, sizeof(*search.slots));
    for (size_t i = 0; i < search.nnodes; i++) {
        size_t at = hash_of(&search.nodes[i]) & (search.nslots - 1);

        while (search.slots[at] != 0)
            at = (at + 1) & (search.nslots - 1);
        search.slots[at] = (uint32_t)i + 1;
    }
}

static void add_node(const struct node *n)
{
    size_t at;

    if (2 * (search.nnodes + 1) > search.nslots)
        rehash();
    at = hash_of(n) & (search.nslots - 1);
    for (; search.slots[at] != 0; at = (at + 1) & (search.nslots - 1))
        if (memcmp(&search.nodes[search.slots[at] - 1], n, sizeof(*n)) == 0)
            return;
    if (search.nnodes == NODES_MAX) {
        print_group(search.group);
        sim_fail("group %d: the search for an order has become too large", search.group);
    }
    if (search.nnodes == search.space) {
        search.space = search.space == 0 ? 256 : search.space * 2;
        search.nodes = realloc(search.nodes, search.space * sizeof(*search.nodes));
    }
    search.nodes[search.nnodes] = *n;
    search.slots[at] = (uint32_t)++search.nnodes;
}

static bool is_placed(const struct node *n, size_t i)
{
    return n->placed[i / 64] >> (i % 64) & 1;
}

/* ---- search ------------------------------------------------------------------------------- */

/* Operations of one connection take effect in the order they began: but for a look that is sent
 * behind one that looks in pieces, as MGET does. */
static bool in_order(const struct check_op *a, const struct check_op *b)
{
    bool looks = model_is_read(&b->op) || b->op.steps[0].kind == STEP_WATCH;

    return a->conn == b->conn && a->conn != 0 && a->state == CHECK_DONE && !(a->slices && looks);
}

/* Operations stand in the order they began. */
static bool may_be_next(const struct node *n, size_t i, uint64_t first_end)
{
    const struct check_op *c = search.ops[i];

    if (is_placed(n, i) || c->began > first_end)
        return false;
    for (size_t j = 0; j < i; j++)
        if (!is_placed(n, j) && in_order(search.ops[j], c))
            return false;
    return true;
}

static void step_to(const struct node *from, size_t i, const struct group_state *state)
{
    struct node to = *from;

    to.placed[i / 64] |= (uint64_t)1 << (i % 64);
    to.state = *state;
    add_node(&to);
}

/* An answered look that fits and leaves the state as it is may as well be the next: whatever order
 * has it later holds with it here, too. */
static bool place_a_look(const struct node *from, uint64_t first_end)
{
    for (size_t i = 0; i < search.nops; i++) {
        const struct check_op *c = search.ops[i];
        struct group_state next[NEXT_MAX];

        if (c->state != CHECK_DONE || !model_is_read(&c->op) || !may_be_next(from, i, first_end) ||
            model_apply(&c->op, &c->w, &from->state, next) != 1 ||
            memcmp(&next[0], &from->state, sizeof(next[0])) != 0)
            continue;
        step_to(from, i, &next[0]);
        return true;
    }
    return false;
}

static void expand(size_t at)
{
    struct node from = search.nodes[at]; /* the array may move */
    uint64_t first_end = UINT64_MAX;

    for (size_t i = 0; i < search.nops; i++)
        if (!is_placed(&from, i) && search.ops[i]->state == CHECK_DONE &&
            search.ops[i]->ended < first_end)
            first_end = search.ops[i]->ended;
    if (place_a_look(&from, first_end))
        return;
    for (size_t i = 0; i < search.nops; i++) {
        struct group_state next[NEXT_MAX];
        int n;

        if (!may_be_next(&from, i, first_end))
            continue;
        n = model_apply(&search.ops[i]->op, &search.ops[i]->w, &from.state, next);
        for (int k = 0; k < n; k++)
            step_to(&from, i, &next[k]);
    }
}

static bool is_complete(const struct node *n)
{
    for (size_t i = 0; i < search.nops; i++)
        if (search.ops[i]->state == CHECK_DONE && !is_placed(n, i))
            return false;
    return true;
}

static void collect_ends(struct group *g)
{
    struct group_state *states = calloc(search.nnodes, sizeof(*states));
    size_t n = 0;

    for (size_t i = 0; i < search.nnodes; i++) {
        bool seen = !is_complete(&search.nodes[i]);

        for (size_t k = 0; k < n && !seen; k++)
            seen = memcmp(&states[k], &search.nodes[i].state, sizeof(states[k])) == 0;
        if (!seen)
            states[n++] = search.nodes[i].state;
    }
    free(g->states);
    g->states = states;
    g->nstates = n;
}

static void free_op(struct check_op *c)
{
    answer_unref(c->answer);
    free(c);
}

static void forget_segment(struct group *g)
{
    while (g->first != NULL) {
        struct check_op *c = g->first;

        g->first = c->next;
        free_op(c);
    }
    g->last = &g->first;
    g->count = g->open = g->unknown = 0;
}

static void search_segment(int number)
{
    struct group *g = &groups[number];
    bool found = false;

    search.group = number;
    search.nops = search.nnodes = 0;
    if (search.nslots > 0)
        memset(search.slots, 0, search.nslots * sizeof(*search.slots));
    for (struct check_op *c = g->first; c != NULL; c = c->next) {
        if (search.nops == SEGMENT_MAX)
            sim_fail("a segment of more than %d operations", SEGMENT_MAX);
        c->op.alone = g->count == 1;
        search.ops[search.nops++] = c;
    }
    for (size_t i = 0; i < g->nstates; i++) {
        struct node start = {.state = g->states[i]};

        add_node(&start);
    }
    for (size_t i = 0; i < search.nnodes; i++) {
        expand(i);
        found = found || is_complete(&search.nodes[i]);
    }
    searches++;
    if (search.nnodes > widest)
        widest = search.nnodes;
    if (!found)
        no_order(number);
    collect_ends(g);
    forget_segment(g);
}

/* ---- operations --------------------------------------------------------------------------- */

struct check_op *check_begin(const struct operation *op, int group, uint64_t conn)
{
    struct group *g = &groups[group];
    struct check_op *c = calloc(1, sizeof(*c));

    c->op = *op;
    c->group = group;
    c->conn = conn;
    c->number = ++numbers;
    c->began = ++sim.moment;
    c->w.lo = node_look_ms();
    *g->last = c;
    g->last = &c->next;
    g->count++;
    g->open++;
    return c;
}

static void end(struct check_op *c)
{
    struct group *g = &groups[c->group];

    c->ended = ++sim.moment;
    c->w.hi = node_now_ms();
    g->open--;
    if (g->open == 0 && g->unknown == 0)
        search_segment(c->group);
}

void check_done(struct check_op *c)
{
    c->state = CHECK_DONE;
    end(c);
}

void check_now(const struct operation *op, int group, uint64_t conn)
{
    check_done(check_begin(op, group, conn));
}

void check_drop(struct check_op *c)
{
    struct group *g = &groups[c->group];
    struct check_op **at = &g->first;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (g->last == &c->next)
        g->last = at;
    g->count--;
    g->open--;
    if (g->open == 0 && g->unknown == 0 && g->count > 0)
        search_segment(c->group);
    free_op(c);
}

void check_unknown(struct check_op *c)
{
    if (model_is_read(&c->op)) {
        check_drop(c);
        return;
    }
    for (int i = 0; i < c->op.nsteps; i++)
        c->op.steps[i].reply = NULL;
    c->op.exec_reply = NULL;
    c->state = CHECK_UNKNOWN;
    groups[c->group].unknown++;
    end(c);
}

/* What it answered was no more than a look. */
static bool only_looked(const struct check_op *c)
{
    bool refused = c->op.exec && c->op.exec_reply != NULL && c->op.exec_reply->type == REPLY_NIL;

    return c->state == CHECK_DONE && (refused || model_only_looks(&c->op));
}

void check_excuse_looks(void)
{
    for (int g = 0; g < GROUPS; g++) {
        for (struct check_op *c = groups[g].first; c != NULL && groups[g].unknown > 0;
             c = c->next) {
            if (!only_looked(c))
                continue;
            c->op.nsteps = c->op.exec; /* EXEC has given up what was watched */
            c->op.exec = false;
            c->op.steps[0] = (struct step){.kind = STEP_UNWATCH};
        }
    }
}

void check_close_out(void)
{
    for (int g = 0; g < GROUPS; g++) {
        for (struct check_op *c = groups[g].first; c != NULL; c = c->next) {
            if (c->state != CHECK_UNKNOWN)
                continue;
            c->ended = ++sim.moment;
            c->w.hi = node_now_ms();
        }
        groups[g].unknown = 0;
        if (groups[g].open == 0 && groups[g].count > 0)
            search_segment(g);
    }
}

const struct group_state *check_guess(int group)
{
    return &groups[group].states[0];
}

size_t check_load(int group)
{
    return groups[group].count;
}

size_t check_unknowns(void)
{
    size_t n = 0;

    for (int g = 0; g < GROUPS; g++)
        n += groups[g].unknown;
    return n;
}

static void mark_state(const struct group_state *s)
{
    for (int k = 0; k < GROUP_KEYS; k++)
        blob_mark(s->keys[k].value);
}

void check_mark_operation(const struct operation *op)
{
    for (int i = 0; i < op->nsteps; i++) {
        blob_mark(op->steps[i].record.value);
        for (int k = 0; k < GROUP_KEYS; k++)
            blob_mark(op->steps[i].args[k]);
    }
}

void check_mark_blobs(void)
{
    for (int g = 0; g < GROUPS; g++) {
        for (size_t i = 0; i < groups[g].nstates; i++)
            mark_state(&groups[g].states[i]);
        for (const struct check_op *c = groups[g].first; c != NULL; c = c->next)
            check_mark_operation(&c->op);
    }
}

size_t check_searches(void)
{
    return searches;
}

size_t check_widest(void)
{
    return widest;
}
