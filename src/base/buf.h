/* SPDX-License-Identifier: MIT */
/* buf: payload buffers under one byte budget.
 *
 * Purpose   where a value lives in memory while it is received, staged, cached and sent: 4 KiB
 *           aligned, the first BUF_HEADER bytes free for the slab record header, so that header
 *           and payload leave with one direct write
 * Threads   loop only; a worker may read or fill a buffer on which its job holds a reference
 * Owner     reference counted; buf_get hands out one reference
 * Lifetime  the last buf_unref returns the memory to the pool; the last two call on_space
 * Limits    bytes handed out plus bytes kept for reuse ≤ limit, always; a value is at most
 *           buf_pool_max_value() (half the limit), so that two can always make progress
 * Errors    buf_get: ERR_AGAIN over the budget (wait for on_space), ERR_TOOBIG never fits,
 *           ERR_NOMEM the system has no memory
 * Source    DESIGN §4.1, §9: over budget means sockets unread, never malloc
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define BUF_ALIGN 4096u
#define BUF_HEADER 4096u

struct buf_pool;

struct buf {
    uint32_t magic;
    unsigned refs, lent; /* lent: those of refs that replies hold */
    size_t len;          /* payload bytes asked for */
    size_t space;        /* bytes mapped, header included: what the budget counts */
    uint8_t *mem;        /* header; the payload starts at mem + BUF_HEADER */
    struct buf_pool *pool;
    struct buf *next; /* private: free list */
    bool hinted;      /* private: see buf_fill */
};

/* reclaim: asked, when the budget is short, to give buffers back that are only cached (the RAM
 * tier); returns false when it has none. on_space: a buffer was released, or is down to one
 * reference, which may be the cache's: asking again may help. Both may be NULL. */
struct buf_pool *buf_pool_new(size_t limit_bytes);
void buf_pool_free(struct buf_pool *p); /* every buffer must be back */
void buf_pool_set_hooks(struct buf_pool *p, bool (*reclaim)(void *ctx), void (*on_space)(void *ctx),
                        void *ctx);
void buf_pool_set_limit(struct buf_pool *p, size_t limit_bytes);

size_t buf_pool_limit(const struct buf_pool *p);
size_t buf_pool_used(const struct buf_pool *p);      /* handed out */
size_t buf_pool_kept(const struct buf_pool *p);      /* kept for reuse */
size_t buf_pool_lent(const struct buf_pool *p);      /* in buffers that are lent */
size_t buf_pool_max_value(const struct buf_pool *p); /* payload bytes */
size_t buf_pool_space(size_t len); /* what a buffer of this length takes of the budget */

/* Payload and padding hold what was there before; who writes them to disk zeroes the padding. */
int buf_get(struct buf_pool *p, size_t len, struct buf **out);
void buf_fill(struct buf *b); /* most of it will be written soon: may take all its memory */
struct buf *buf_ref(struct buf *b);
void buf_unref(struct buf *b); /* NULL is allowed */
/* A reference whose holder is as slow as its client is. */
struct buf *buf_lend(struct buf *b);
void buf_return(struct buf *b); /* NULL is allowed */

static inline uint8_t *buf_payload(const struct buf *b)
{
    return b->mem + BUF_HEADER;
}

static inline size_t buf_padded(size_t len)
{
    return (len + BUF_ALIGN - 1) & ~(size_t)(BUF_ALIGN - 1);
}

#endif
