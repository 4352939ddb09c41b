/* SPDX-License-Identifier: MIT */
/* scan: keys in order, and one at random, over three layers: active table, frozen table, index.
 *
 * A table is a hash, so a scan needs a sorted view of it. Keys of a table have numbers in the
 * order they came and never leave, so a view is a sorted list of numbers that is brought up to
 * date by sorting the new ones and merging them in: a SCAN call every ms under writes costs what
 * came since the call before, not the whole table. The view of the active table becomes that of
 * the frozen one when the tables are exchanged.
 *
 * The scan is a three-way merge. The index drives it through its callback; ahead of each index key
 * come the table keys that are smaller. What a key is, is decided by the uppermost layer that has
 * it; only decodable records are shown (a damaged one is a counted miss when it is read).
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "store/store_int.h"

#define RANDOM_TRIES 32u
#define RANDOM_SKIP 16u
#define RANDOM_WALK 512u /* so few keys are counted through: exactly uniform */

struct view {
    uint32_t *order; /* numbers of table keys, sorted by key */
    size_t count, space;
    uint64_t epoch;
};

struct scan {
    struct store *s;
    struct view active, frozen;
};

struct scan *scan_new(struct store *s)
{
    struct scan *c = calloc(1, sizeof(*c));

    if (c != NULL)
        c->s = s;
    return c;
}

static void view_fini(struct view *v)
{
    free(v->order);
    *v = (struct view){0};
}

void scan_free(struct scan *c)
{
    if (c == NULL)
        return;
    view_fini(&c->active);
    view_fini(&c->frozen);
    free(c);
}

void scan_table_frozen(struct scan *c)
{
    ASSERT(c->frozen.count == 0);
    view_fini(&c->frozen);
    c->frozen = c->active;
    c->active = (struct view){0};
}

void scan_table_freed(struct scan *c)
{
    view_fini(&c->frozen);
}

/* --- views --------------------------------------------------------------------------------- */

static int compare_numbers(const void *a, const void *b, void *table)
{
    return slice_cmp(table_at(table, *(const uint32_t *)a).key,
                     table_at(table, *(const uint32_t *)b).key);
}

/* First position whose key is ≥ key, or > key. */
static size_t seek(const struct view *v, const struct table *t, struct slice key, bool after)
{
    size_t low = 0, high = v->count;

    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = slice_cmp(table_at(t, v->order[mid]).key, key);

        if (c < 0 || (after && c == 0))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The sorted new numbers wait behind the old ones' future place; merged from the back. */
static void merge_new(struct view *v, const struct table *t, const uint32_t *fresh, size_t nfresh)
{
    size_t out = v->count + nfresh;

    while (nfresh > 0) {
        struct slice key = table_at(t, fresh[nfresh - 1]).key;
        size_t at = seek(v, t, key, false), tail = v->count - at;

        memmove(v->order + out - tail, v->order + at, tail * sizeof(*v->order));
        out -= tail;
        v->count = at;
        v->order[--out] = fresh[--nfresh];
    }
}

static void update(struct view *v, const struct table *t)
{
    size_t total = table_count(t), nfresh;
    uint32_t *fresh;

    if (v->epoch != table_epoch(t)) {
        v->epoch = table_epoch(t);
        v->count = 0;
    }
    if (v->count == total)
        return;
    nfresh = total - v->count;
    if (v->space < total) {
        v->space = total + total / 2;
        v->order = realloc(v->order, v->space * sizeof(*v->order));
    }
    fresh = malloc(nfresh * sizeof(*fresh));
    if (v->order == NULL || fresh == NULL)
        PANIC("out of memory");
    for (size_t i = 0; i < nfresh; i++)
        fresh[i] = (uint32_t)(v->count + i);
    qsort_r(fresh, nfresh, sizeof(*fresh), compare_numbers, (void *)(uintptr_t)t);
    merge_new(v, t, fresh, nfresh);
    v->count = total;
    free(fresh);
}

/* --- scan ---------------------------------------------------------------------------------- */

struct layer {
    const struct table *table; /* NULL: none */
    const struct view *view;
    size_t at;
};

struct walk {
    struct layer layers[2]; /* active, frozen */
    store_scan_cb cb;
    void *ctx;
    bool stopped;
};

static bool layer_key(const struct layer *l, struct slice *key)
{
    if (l->table == NULL || l->at == l->view->count)
        return false;
    *key = table_at(l->table, l->view->order[l->at]).key;
    return true;
}

static void emit(struct walk *w, struct slice key, struct slice value)
{
    struct record r;

    if (value.ptr != NULL && record_decode(key, value, &r) == 0 && !w->cb(w->ctx, key, &r))
        w->stopped = true;
}

/* Shows the table keys below `limit` (all of them without one). Returns true when `limit` itself
 * is in a table: then it was shown, or is deleted. */
static bool walk_tables(struct walk *w, const struct slice *limit)
{
    struct layer *active = &w->layers[0], *frozen = &w->layers[1];

    while (!w->stopped) {
        struct slice a, f, key;
        bool have_a = layer_key(active, &a), have_f = layer_key(frozen, &f);
        int order = !have_a ? 1 : !have_f ? -1 : slice_cmp(a, f), to_limit;
        struct table_entry e;

        if (!have_a && !have_f)
            return false;
        key = order <= 0 ? a : f;
        to_limit = limit == NULL ? -1 : slice_cmp(key, *limit);
        if (to_limit > 0)
            return false;
        e = order <= 0 ? table_at(active->table, active->view->order[active->at])
                       : table_at(frozen->table, frozen->view->order[frozen->at]);
        active->at += order <= 0;
        frozen->at += order >= 0;
        emit(w, e.key, e.value);
        if (to_limit == 0)
            return true;
    }
    return true;
}

static bool on_index_key(void *ctx, struct slice key, struct slice value)
{
    struct walk *w = ctx;

    if (!walk_tables(w, &key) && !w->stopped)
        emit(w, key, value);
    return !w->stopped;
}

static struct layer layer_from(struct view *v, const struct table *t, struct slice from, bool after)
{
    update(v, t);
    return (struct layer){.table = t, .view = v, .at = seek(v, t, from, after)};
}

int store_scan(struct store *s, struct slice from, bool after, store_scan_cb cb, void *ctx)
{
    struct walk w = {.cb = cb, .ctx = ctx};
    bool hidden = table_hides_below(s->active);
    int err = 0;

    w.layers[0] = layer_from(&s->scan->active, s->active, from, after);
    if (!hidden && s->frozen != NULL) {
        w.layers[1] = layer_from(&s->scan->frozen, s->frozen, from, after);
        hidden = table_hides_below(s->frozen);
    }
    if (!hidden)
        err = index_scan(s->index, from, after, on_index_key, &w);
    if (err == 0 && !w.stopped)
        walk_tables(&w, NULL);
    return err;
}

/* --- a random key -------------------------------------------------------------------------- */

struct pick {
    uint64_t now_ms;
    unsigned skip; /* living keys to pass over, so that the one behind a gap is not preferred */
    unsigned left; /* keys to look at */
    uint8_t *out;
    size_t len; /* 0 = none yet */
};

static bool on_pick(void *ctx, struct slice key, const struct record *r)
{
    struct pick *p = ctx;

    if (!record_expired(r, p->now_ms)) {
        memcpy(p->out, key.ptr, key.len);
        p->len = key.len;
        if (p->skip == 0)
            return false;
        p->skip--;
    }
    return --p->left > 0;
}

static bool on_first(void *ctx, struct slice key, struct slice value)
{
    struct index_buf *b = ctx;

    (void)value;
    b->len = key.len;
    memcpy(b->mem, key.ptr, key.len);
    return false;
}

static uint64_t eight_at(struct slice key, size_t at)
{
    uint8_t bytes[8] = {0};

    if (key.len > at)
        memcpy(bytes, key.ptr + at, key.len - at < 8 ? key.len - at : 8);
    return codec_get64be(bytes);
}

static uint64_t random_below(uint64_t bound)
{
    uint64_t r;

    hash_random(&r, sizeof(r));
    return bound == 0 ? r : r % bound;
}

/* A position between the first and the last key of the index: keys share long prefixes, so the
 * eight bytes behind what first and last have in common are drawn. Returns its length. */
static size_t random_position(struct store *s, uint8_t out[RECORD_KEY_MAX + 8])
{
    uint8_t first_bytes[RECORD_KEY_MAX];
    struct index_buf first = {.mem = first_bytes, .size = sizeof(first_bytes)}, last = {0};
    size_t common = 0;
    uint64_t low, high;

    if (index_scan(s->index, slice_of(NULL, 0), false, on_first, &first) != 0 || first.len == 0 ||
        index_last(s->index, &last) != 0) {
        index_buf_fini(&last);
        return 0;
    }
    while (common < first.len && common < last.len && first.mem[common] == last.mem[common])
        common++;
    memcpy(out, first.mem, common);
    low = eight_at(slice_of(first.mem, first.len), common);
    high = eight_at(slice_of(last.mem, last.len), common);
    codec_put64be(out + common, low + (high > low ? random_below(high - low + 1) : 0));
    index_buf_fini(&last);
    return common + 8;
}

static bool pick_from_table(struct store *s, const struct table *t, struct pick *p)
{
    struct table_entry e = table_at(t, random_below(table_count(t)));
    struct slice value;
    struct record r;

    if (store_lookup(s, e.key, &value) != 0 || record_decode(e.key, value, &r) != 0 ||
        record_expired(&r, p->now_ms))
        return false;
    memcpy(p->out, e.key.ptr, e.key.len);
    p->len = e.key.len;
    return true;
}

int store_random_key(struct store *s, uint64_t now_ms, uint8_t *out, size_t *len)
{
    uint64_t in_active = table_count(s->active);
    uint64_t in_frozen = s->frozen == NULL ? 0 : table_count(s->frozen);
    uint64_t total = index_count(s->index) + in_active + in_frozen;
    struct pick p = {.now_ms = now_ms, .out = out};
    uint8_t position[RECORD_KEY_MAX + 8];
    struct slice from;

    if (s->counts.keys == 0 || total == 0)
        return ERR_NOTFOUND;
    for (unsigned i = 0; i < RANDOM_TRIES && p.len == 0; i++) {
        uint64_t draw = random_below(total);

        if (draw < in_active + in_frozen) {
            pick_from_table(s, draw < in_active ? s->active : s->frozen, &p);
            continue;
        }
        p.skip = (unsigned)random_below(total <= RANDOM_WALK ? total : RANDOM_SKIP);
        p.left = p.skip + RANDOM_SKIP;
        from = slice_of(position, total <= RANDOM_WALK ? 0 : random_position(s, position));
        store_scan(s, from, false, on_pick, &p);
        if (p.skip > 0 && p.left > 0) /* behind the last key comes the first */
            store_scan(s, slice_of(NULL, 0), false, on_pick, &p);
    }
    if (p.len == 0) { /* nearly everything is expired or deleted: any living key will do */
        p.skip = 0;
        p.left = TABLE_KEYS_MAX;
        store_scan(s, slice_of(NULL, 0), false, on_pick, &p);
    }
    if (p.len == 0)
        return ERR_NOTFOUND;
    *len = p.len;
    return 0;
}
