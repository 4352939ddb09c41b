/* SPDX-License-Identifier: MIT */
/* Memory comes from mmap in size classes and goes back to a free list per class: a fresh 2 MiB
 * mapping costs 512 page faults, about as much as copying it. A class is a size of payload, eight
 * per power of two, so at most an eighth is lost, and nothing of a power of two. Kept buffers count
 * against the limit and are unmapped, smallest class first, when a new buffer needs their room.
 *
 * Huge pages. Direct I/O on 2 MiB of scattered pages is a list of 512 pieces, cut into several
 * requests; in one huge page it is one piece, and the first touch one fault instead of 512. So a
 * mapping starts at a huge page. Buffers below its size come in batches that lie side by side:
 * the first is handed out, its neighbours are kept. A larger buffer asks for huge pages only when
 * it is about to be filled (buf_fill): what was merely announced takes no memory.
 */
#include "base/buf.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/err.h"

#define BUF_MAGIC 0x42554621u
#define CLASS_MIN_SHIFT 14 /* 16 KiB: values below are rarely in a volume */
#define CLASSES (8 * 32)
#define HUGE_PAGE ((size_t)2 << 20)
#define BATCH_MAX 16
#define BATCH_BYTES ((size_t)16 << 20)

struct buf_pool {
    size_t limit, used, kept, lent;
    unsigned long live; /* buffers handed out */
    struct buf *free_list[CLASSES];
    bool (*reclaim)(void *ctx);
    void (*on_space)(void *ctx);
    void *ctx;
};

/* The class that holds `len` bytes of payload, and the size of its buffers. */
static unsigned class_of(size_t len, size_t *space)
{
    unsigned shift = CLASS_MIN_SHIFT;
    size_t step;
    unsigned part;

    if (len < (size_t)1 << CLASS_MIN_SHIFT)
        len = (size_t)1 << CLASS_MIN_SHIFT;
    while (((size_t)2 << shift) <= len)
        shift++;
    step = (size_t)1 << (shift - 3);
    part = (unsigned)((len - ((size_t)1 << shift) + step - 1) / step);
    *space = BUF_HEADER + ((size_t)1 << shift) + part * step;
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

size_t buf_pool_lent(const struct buf_pool *p)
{
    return p->lent;
}

size_t buf_pool_space(size_t len)
{
    size_t space;

    class_of(buf_padded(len), &space);
    return space;
}

/* A class is at most 1/8 larger than what it holds. */
size_t buf_pool_max_value(const struct buf_pool *p)
{
    size_t half = p->limit / 2 / 9 * 8;

    return half < 2 * (size_t)BUF_HEADER ? 0 : (half - BUF_HEADER) & ~(size_t)(BUF_ALIGN - 1);
}

/* NULL: no memory. */
static uint8_t *map_aligned(size_t size)
{
    size_t room = size + HUGE_PAGE, head;
    uint8_t *mem = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED)
        return NULL;
    head = HUGE_PAGE - (uintptr_t)mem % HUGE_PAGE;
    munmap(mem, head);
    if (room - head > size)
        munmap(mem + head + size, room - head - size);
    return mem + head;
}

static struct buf *describe(uint8_t *mem, size_t space, bool hinted)
{
    struct buf *b = calloc(1, sizeof(*b));

    if (b == NULL) {
        munmap(mem, space);
        return NULL;
    }
    b->mem = mem;
    b->space = space;
    b->hinted = hinted;
    return b;
}

static void keep(struct buf_pool *p, struct buf *b, unsigned class)
{
    p->kept += b->space;
    b->next = p->free_list[class];
    p->free_list[class] = b;
}

/* A batch of small buffers: one is returned, what the limit leaves room for is kept. */
static struct buf *map_batch(struct buf_pool *p, unsigned class, size_t space)
{
    size_t room = (p->limit - p->used - p->kept) / space, count = BATCH_BYTES / space;
    uint8_t *mem;

    count = count < BATCH_MAX ? count : BATCH_MAX;
    count = count < room ? count : room;
    mem = map_aligned(count * space);
    if (mem == NULL)
        return NULL;
    (void)madvise(mem, count * space, MADV_HUGEPAGE);
    for (size_t i = 1; i < count; i++) {
        struct buf *b = describe(mem + i * space, space, true);

        if (b != NULL)
            keep(p, b, class);
    }
    return describe(mem, space, true);
}

static struct buf *map_new(struct buf_pool *p, unsigned class, size_t space)
{
    uint8_t *mem;

    if (space < HUGE_PAGE)
        return map_batch(p, class, space);
    mem = map_aligned(space);
    return mem == NULL ? NULL : describe(mem, space, false);
}

void buf_fill(struct buf *b)
{
    ASSERT(b->magic == BUF_MAGIC);
    if (b->hinted)
        return;
    b->hinted = true;
    (void)madvise(b->mem, b->space, MADV_HUGEPAGE); /* where there are none: small pages */
}

int buf_get(struct buf_pool *p, size_t len, struct buf **out)
{
    struct buf *b;
    size_t space;
    unsigned class;

    if (len > buf_pool_max_value(p))
        return ERR_TOOBIG;
    class = class_of(buf_padded(len), &space);
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
        b = map_new(p, class, space);
        if (b == NULL)
            return ERR_NOMEM;
    }
    p->used += b->space;
    p->live++;
    b->magic = BUF_MAGIC;
    b->refs = 1;
    b->lent = 0;
    b->len = len;
    b->pool = p;
    b->next = NULL;
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
        class = class_of(b->space - BUF_HEADER, &space);
        ASSERT(space == b->space);
        keep(p, b, class);
    } else {
        unmap(b);
    }
    if (p->on_space != NULL)
        p->on_space(p->ctx);
}

struct buf *buf_lend(struct buf *b)
{
    if (b->lent++ == 0)
        b->pool->lent += b->space;
    return buf_ref(b);
}

void buf_return(struct buf *b)
{
    if (b == NULL)
        return;
    ASSERT(b->lent > 0 && b->lent <= b->refs);
    if (--b->lent == 0)
        b->pool->lent -= b->space;
    buf_unref(b);
}
