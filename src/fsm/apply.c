/* SPDX-License-Identifier: MIT */
/* What the ops of an entry see of the keys.
 *
 * For real, apply_get and apply_put are the store's, plus the rule that a key past its deadline is
 * absent. In a trial they work on an overlay: a map of the keys the unit has written so far, over
 * the unchanged store. Nothing of a trial reaches the store, on_change or the counters.
 *
 * The overlay copies whole records. That costs the memory that the table takes for the same unit a
 * moment later, and it is given back at the end of the trial.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/map.h"
#include "fsm/fsm_int.h"

struct tried { /* one key that the trial wrote */
    struct map_node node;
    struct slice key;
    bool absent;
    struct record record;
    uint8_t bytes[]; /* key, model, seq, data */
};

struct trial {
    struct map keys;
    bool flushed; /* the store below does not show through */
};

static struct slice key_of(const struct map_node *n)
{
    return ((const struct tried *)n)->key;
}

static void free_tried(struct map_node *n, void *ctx)
{
    (void)ctx;
    free(n);
}

void apply_fini(struct apply *a)
{
    ASSERT(a->trial == NULL);
    free(a->held.mem);
    free(a->built.mem);
}

void apply_trial_begin(struct apply *a)
{
    ASSERT(a->trial == NULL);
    a->trial = calloc(1, sizeof(*a->trial));
    if (a->trial == NULL)
        PANIC("out of memory for a trial");
    map_init(&a->trial->keys, key_of);
}

void apply_trial_end(struct apply *a)
{
    ASSERT(a->trial != NULL);
    map_fini(&a->trial->keys, free_tried, NULL);
    free(a->trial);
    a->trial = NULL;
}

static struct slice copy_slice(uint8_t **to, struct slice s)
{
    struct slice copy = {*to, s.len};

    if (s.len > 0)
        memcpy(*to, s.ptr, s.len);
    *to += s.len;
    return copy;
}

/* Moves what a record borrows to `to`, which has room for it. */
static void copy_borrowed(uint8_t *to, struct record *r)
{
    r->model = copy_slice(&to, r->model);
    r->seq = copy_slice(&to, r->seq);
    r->data = copy_slice(&to, r->data);
}

static size_t borrowed(const struct record *r)
{
    return r->model.len + r->seq.len + r->data.len;
}

/* r NULL: the key is absent now. */
static void try_write(struct trial *t, struct slice key, const struct record *r)
{
    struct tried *n = malloc(sizeof(*n) + key.len + (r != NULL ? borrowed(r) : 0));
    struct map_node *before;
    uint8_t *to;

    if (n == NULL)
        PANIC("out of memory for a trial");
    *n = (struct tried){.absent = r == NULL};
    to = n->bytes;
    n->key = copy_slice(&to, key);
    if (r != NULL) {
        n->record = *r;
        copy_borrowed(to, &n->record);
    }
    before = map_put(&t->keys, &n->node);
    free(before); /* a tried key starts with its node */
}

static bool look_up(struct apply *a, struct slice key, struct record *out)
{
    if (a->trial != NULL) {
        const struct tried *n = (const struct tried *)map_get(&a->trial->keys, key);

        if (n != NULL) {
            if (!n->absent)
                *out = n->record;
            return !n->absent;
        }
        if (a->trial->flushed)
            return false;
    }
    return store_get(a->f->store, key, out) == 0; /* damage is a miss, which the store counts */
}

bool apply_get(struct apply *a, struct slice key, struct record *out)
{
    struct record r;

    if (!look_up(a, key, &r) || record_expired(&r, a->stamp_ms))
        return false;
    *out = r;
    return true;
}

static void changed(struct apply *a, struct slice key)
{
    if (a->f->on_change != NULL)
        a->f->on_change(a->f->ctx, key);
}

uint64_t apply_put(struct apply *a, struct slice key, struct record *r)
{
    ASSERT(r->kind != RECORD_INLINE || r->length == r->data.len);
    if (record_expired(r, a->stamp_ms)) {
        apply_del(a, key);
        return 0;
    }
    r->mod = a->index;
    if (a->trial != NULL) {
        try_write(a->trial, key, r);
    } else {
        store_put(a->f->store, key, r);
        changed(a, key);
    }
    return r->mod;
}

void apply_del(struct apply *a, struct slice key)
{
    if (a->trial != NULL) {
        try_write(a->trial, key, NULL);
    } else {
        store_del(a->f->store, key);
        changed(a, key);
    }
}

void apply_flush(struct apply *a)
{
    if (a->trial != NULL) {
        map_clear(&a->trial->keys, free_tried, NULL);
        a->trial->flushed = true;
    } else {
        store_flush(a->f->store);
        changed(a, slice_of(NULL, 0));
    }
}

static uint8_t *room(struct apply_buf *b, size_t len)
{
    if (b->mem == NULL || b->size < len) {
        size_t size = b->size < 512 ? 512 : b->size;

        while (size < len)
            size *= 2;
        free(b->mem);
        b->mem = malloc(size);
        if (b->mem == NULL)
            PANIC("out of memory for a value of %zu bytes", len);
        b->size = size;
    }
    return b->mem;
}

void apply_hold(struct apply *a, struct record *r)
{
    size_t len = borrowed(r);

    if (len > 0)
        copy_borrowed(room(&a->held, len), r);
}

uint8_t *apply_build(struct apply *a, size_t len)
{
    return room(&a->built, len);
}
