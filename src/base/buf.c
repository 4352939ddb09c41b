/* SPDX-License-Identifier: MIT */
/* Memory comes from mmap in size classes (eight per power of two, so ≤ 12.5 % is lost) and goes
 * back to a free list per class: a fresh 2 MiB mapping costs 512 page faults, about as much as
 * copying it. Kept buffers count against the limit and are unmapped, oldest class first, when a
 * new buffer needs their room.
 */
#include "base/buf.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/err.h"

#define BUF_MAGIC 0x42554621u
#define CLASS_MIN_SHIFT 15 /* 32 KiB: header plus the smallest slab payload */
#define CLASSES (8 * 32)
#define HUGE_MIN ((size_t)2 << 20)

struct buf_pool {
    size_t limit, used, kept;
    unsigned long live; /* buffers handed out */
    struct buf *free_list[CLASSES];
    bool (*reclaim)(void *ctx);
    void (*on_space)(void *ctx);
    void *ctx;
};

/* The class that holds `need` bytes and its size. */
static unsigned class_of(size_t need, size_t *space)
{
    unsigned shift = CLASS_MIN_SHIFT;
    size_t step;
    unsigned part;

    if (need < (size_t)1 << CLASS_MIN_SHIFT)
        need = (size_t)1 << CLASS_MIN_SHIFT;
    while (((size_t)2 << shift) <= need)
        shift++;
    step = (size_t)1 << (shift - 3);
    part = (unsigned)((need - ((size_t)1 << shift) + step - 1) / step);
    *space = ((size_t)1 << shift) + part * step;
    return (shift - CLASS_MIN_SHIFT) * 8 + part;
}

struct buf_pool *buf_pool_new(size_t limit_bytes)
{
    struct buf_pool *p = calloc(1, sizeof(*p));

    if (p != NULL)
        p->limit = limit_bytes;
    return p;
}

static void unmap(struct buf *b)
{
    munmap(b->mem, b->space);
    b->magic = 0;
    free(b);
}

/* Unmaps kept buffers until `room` bytes fit under the limit. */
static void shrink(struct buf_pool *p, size_t room)
{
    for (unsigned c = 0; c < CLASSES && p->used + p->kept + room > p->limit; c++) {
        while (p->free_list[c] != NULL && p->used + p->kept + room > p->limit) {
            struct buf *b = p->free_list[c];

            p->free_list[c] = b->next;
            p->kept -= b->space;
            unmap(b);
        }
    }
}

void buf_pool_free(struct buf_pool *p)
{
    if (p == NULL)
        return;
    ASSERT(p->live == 0 && p->used == 0);
    p->limit = 0;
    shrink(p, 0);
    free(p);
}

void buf_pool_set_hooks(struct buf_pool *p, bool (*reclaim)(void *ctx), void (*on_space)(void *ctx),
                        void *ctx)
{
    p->reclaim = reclaim;
    p->on_space = on_space;
    p->ctx = ctx;
}

void buf_pool_set_limit(struct buf_pool *p, size_t limit_bytes)
{
    p->limit = limit_bytes;
    while (p->used > p->limit && p->reclaim != NULL && p->reclaim(p->ctx))
        ;
    shrink(p, 0);
}

size_t buf_pool_limit(const struct buf_pool *p)
{
    return p->limit;
}

size_t buf_pool_used(const struct buf_pool *p)
{
    return p->used;
}

size_t buf_pool_kept(const struct buf_pool *p)
{
    return p->kept;
}

/* A class is at most 1/8 larger than what it holds. */
size_t buf_pool_max_value(const struct buf_pool *p)
{
    size_t half = p->limit / 2 / 9 * 8;

    return half < 2 * (size_t)BUF_HEADER ? 0 : (half - BUF_HEADER) & ~(size_t)(BUF_ALIGN - 1);
}

static struct buf *map_new(size_t space)
{
    struct buf *b = calloc(1, sizeof(*b));

    if (b == NULL)
        return NULL;
    b->mem = mmap(NULL, space, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->mem == MAP_FAILED) {
        free(b);
        return NULL;
    }
    if (space >= HUGE_MIN)
        madvise(b->mem, space, MADV_HUGEPAGE); /* a hint: fewer faults when it is honoured */
    b->space = space;
    return b;
}

int buf_get(struct buf_pool *p, size_t len, struct buf **out)
{
    struct buf *b;
    size_t space;
    unsigned class;

    if (len > buf_pool_max_value(p))
        return ERR_TOOBIG;
    class = class_of(BUF_HEADER + buf_padded(len), &space);
    ASSERT(class < CLASSES);
    if (space > p->limit / 2) /* a limit below two of the smallest class */
        return ERR_TOOBIG;
    while (p->used + space > p->limit)
        if (p->reclaim == NULL || !p->reclaim(p->ctx))
            return ERR_AGAIN;

    b = p->free_list[class];
    if (b != NULL) {
        p->free_list[class] = b->next;
        p->kept -= b->space;
    } else {
        shrink(p, space);
        b = map_new(space);
        if (b == NULL)
            return ERR_NOMEM;
    }
    p->used += b->space;
    p->live++;
    b->magic = BUF_MAGIC;
    b->refs = 1;
    b->len = len;
    b->pool = p;
    b->next = NULL;
    memset(buf_payload(b) + len, 0, buf_padded(len) - len);
    *out = b;
    return 0;
}

struct buf *buf_ref(struct buf *b)
{
    ASSERT(b->magic == BUF_MAGIC && b->refs > 0);
    b->refs++;
    return b;
}

void buf_unref(struct buf *b)
{
    struct buf_pool *p;
    size_t space;
    unsigned class;

    if (b == NULL)
        return;
    ASSERT(b->magic == BUF_MAGIC && b->refs > 0);
    p = b->pool;
    if (--b->refs > 0) {
        /* The last one may be a cache's, which reclaim can take now. */
        if (b->refs == 1 && p->on_space != NULL)
            p->on_space(p->ctx);
        return;
    }
    ASSERT(p->live > 0 && p->used >= b->space);
    p->used -= b->space;
    p->live--;
    b->magic = 0;
    if (p->used + p->kept + b->space <= p->limit) {
        class = class_of(b->space, &space);
        ASSERT(space == b->space);
        p->kept += b->space;
        b->next = p->free_list[class];
        p->free_list[class] = b;
    } else {
        unmap(b);
    }
    if (p->on_space != NULL)
        p->on_space(p->ctx);
}
