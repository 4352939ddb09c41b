/* SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "test.h"

#include "base/err.h"

#define MIB ((size_t)1 << 20)

static struct {
    struct buf *cached[8]; /* what a RAM tier would hold */
    unsigned ncached, asked, space_calls;
} hooks;

static bool reclaim(void *ctx)
{
    CHECK_EQ_PTR(ctx, &hooks);
    hooks.asked++;
    if (hooks.ncached == 0)
        return false;
    buf_unref(hooks.cached[--hooks.ncached]);
    return true;
}

static void on_space(void *ctx)
{
    CHECK_EQ_PTR(ctx, &hooks);
    hooks.space_calls++;
}

static struct buf_pool *hooked(size_t limit)
{
    struct buf_pool *p = buf_pool_new(limit);

    memset(&hooks, 0, sizeof(hooks));
    buf_pool_set_hooks(p, reclaim, on_space, &hooks);
    return p;
}

static struct buf *get(struct buf_pool *p, size_t len)
{
    struct buf *b = NULL;

    CHECK_EQ_INT(buf_get(p, len, &b), 0);
    return b;
}

static void check_budget(const struct buf_pool *p)
{
    CHECK_LE_U64(buf_pool_used(p) + buf_pool_kept(p), buf_pool_limit(p));
}

TEST(layout)
{
    static const size_t sizes[] = {0,     1,     4095,    4096,        4097,
                                   28672, 28673, 2 * MIB, 2 * MIB + 1, 5000000};
    struct buf_pool *p = buf_pool_new(64 * MIB);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf *b = get(p, sizes[i]);

        CHECK_EQ_U64((uintptr_t)b->mem % BUF_ALIGN, 0);
        CHECK_EQ_PTR(buf_payload(b), b->mem + BUF_HEADER);
        CHECK_EQ_U64(b->len, sizes[i]);
        CHECK_GE_U64(b->space, BUF_HEADER + buf_padded(sizes[i]));
        if (sizes[i] > 16384) /* the smallest class */
            CHECK_LE_U64(b->space, (BUF_HEADER + buf_padded(sizes[i])) / 8 * 9);
        memset(b->mem, 0xab, b->space); /* all of it is ours */
        CHECK_EQ_U64(buf_pool_used(p), b->space);
        buf_unref(b);
        CHECK_EQ_U64(buf_pool_used(p), 0);
        check_budget(p);
    }
    buf_pool_free(p);
}

/* Every length up to some classes, and around every power of two above. */
TEST(sizes_waste_at_most_an_eighth)
{
    struct buf_pool *p = buf_pool_new((size_t)1 << 34);

    for (size_t pages = 1; pages < 600; pages++) {
        struct buf *b = get(p, pages * BUF_ALIGN);

        CHECK_GE_U64(b->space, (pages + 1) * BUF_ALIGN);
        CHECK_EQ_U64(b->space % BUF_ALIGN, 0);
        if (pages > 4)
            CHECK_LE_U64(b->space * 8, (pages + 1) * BUF_ALIGN * 9);
        buf_unref(b);
    }
    for (unsigned shift = 21; shift < 32; shift++) {
        for (int d = -2; d <= 2; d++) {
            size_t len = ((size_t)1 << shift) + (size_t)(d * 4096);
            struct buf *b = get(p, len);

            CHECK_GE_U64(b->space, len + BUF_HEADER);
            CHECK_LE_U64(b->space * 8, (len + BUF_HEADER) * 9);
            buf_unref(b);
        }
    }
    buf_pool_free(p);
}

TEST(references)
{
    struct buf_pool *p = hooked(4 * MIB);
    struct buf *b = get(p, 100);

    CHECK_EQ_PTR(buf_ref(b), b);
    buf_unref(b);
    CHECK_EQ_U64(buf_pool_used(p), b->space);
    CHECK_EQ_INT(hooks.space_calls, 1); /* the other one may be a cache's */
    buf_unref(b);
    CHECK_EQ_U64(buf_pool_used(p), 0);
    CHECK_EQ_INT(hooks.space_calls, 2);
    buf_unref(NULL);
    buf_pool_free(p);
}

TEST(what_is_lent_counts_once)
{
    struct buf_pool *p = hooked(16 * MIB);
    struct buf *a = get(p, MIB), *b = get(p, 100);
    size_t space = a->space;

    CHECK_EQ_U64(buf_pool_lent(p), 0);
    CHECK_EQ_PTR(buf_lend(a), a);
    buf_lend(a);
    buf_lend(b);
    CHECK_EQ_U64(buf_pool_lent(p), a->space + b->space);
    buf_return(a);
    buf_return(b);
    CHECK_EQ_U64(buf_pool_lent(p), space);
    buf_unref(a); /* the borrower is the last */
    CHECK_EQ_U64(buf_pool_used(p), space + b->space);
    buf_return(a);
    CHECK_EQ_U64(buf_pool_lent(p), 0);
    CHECK_EQ_U64(buf_pool_used(p), b->space);
    buf_return(NULL);
    buf_unref(b);
    buf_pool_free(p);
}

TEST(a_released_buffer_is_used_again)
{
    struct buf_pool *p = buf_pool_new(16 * MIB);
    struct buf *b = get(p, 3 * MIB);
    uint8_t *mem = b->mem;
    size_t space = b->space;

    buf_unref(b);
    CHECK_EQ_U64(buf_pool_kept(p), space);
    b = get(p, 3 * MIB - 3000); /* the same class */
    CHECK_EQ_PTR(b->mem, mem);
    CHECK_EQ_U64(b->len, 3 * MIB - 3000);
    CHECK_EQ_U64(buf_pool_kept(p), 0);
    buf_unref(b);
    buf_pool_free(p);
}

/* What values of a power of two take beyond themselves is their header. */
TEST(a_power_of_two_wastes_nothing)
{
    struct buf_pool *p = buf_pool_new((size_t)1 << 31);

    for (unsigned shift = 14; shift < 30; shift++) {
        struct buf *b = get(p, (size_t)1 << shift);

        CHECK_EQ_U64(b->space, BUF_HEADER + ((size_t)1 << shift));
        buf_unref(b);
    }
    buf_pool_free(p);
}

/* In one huge page, so the parts of a batch neither overlap nor leave holes, and each of them can
 * go on its own. */
TEST(small_buffers_come_in_batches)
{
    struct buf_pool *p = buf_pool_new(64 * MIB);
    struct buf *b[64];
    size_t space;

    b[0] = get(p, 128 * 1024);
    space = b[0]->space;
    CHECK_EQ_U64((uintptr_t)b[0]->mem % (2 * MIB), 0);
    CHECK_EQ_U64(buf_pool_used(p), space);
    CHECK_EQ_U64(buf_pool_kept(p), 15 * space);
    for (int i = 1; i < 64; i++)
        b[i] = get(p, 128 * 1024);
    CHECK_EQ_U64(buf_pool_kept(p), 0); /* four batches */
    for (int i = 0; i < 64; i++)
        memset(b[i]->mem, i, space);
    for (int i = 0; i < 64; i++)
        for (size_t at = 0; at < space; at += 4095)
            CHECK_EQ_INT(b[i]->mem[at], i);
    for (int i = 0; i < 64; i += 2)
        buf_unref(b[i]);
    buf_pool_set_limit(p, buf_pool_used(p)); /* what is kept goes, neighbours stay */
    CHECK_EQ_U64(buf_pool_kept(p), 0);
    for (int i = 1; i < 64; i += 2) {
        CHECK_EQ_INT(b[i]->mem[0], i);
        CHECK_EQ_INT(b[i]->mem[space - 1], i);
        buf_unref(b[i]);
    }
    buf_pool_free(p);
}

TEST(a_batch_stays_within_the_limit)
{
    for (size_t limit = 200 * 1024; limit < 4 * MIB; limit += 33333) {
        struct buf_pool *p = buf_pool_new(limit);
        struct buf *b = NULL;

        if (buf_get(p, 70000, &b) == 0)
            buf_fill(b); /* it is hinted already */
        check_budget(p);
        buf_unref(b);
        check_budget(p);
        buf_pool_free(p);
    }
}

TEST(kept_buffers_make_room_for_others)
{
    struct buf_pool *p = buf_pool_new(8 * MIB);
    struct buf *small[8], *large;

    for (int i = 0; i < 8; i++)
        small[i] = get(p, 900 * 1024);
    for (int i = 0; i < 8; i++)
        buf_unref(small[i]);
    CHECK_GE_U64(buf_pool_kept(p), 7 * MIB);
    large = get(p, 3 * MIB);
    buf_fill(large);
    memset(large->mem, 1, large->space);
    check_budget(p);
    CHECK_GT_U64(buf_pool_kept(p), 0); /* only as many as needed go */
    buf_unref(large);
    check_budget(p);
    buf_pool_free(p);
}

TEST(over_the_budget_means_wait)
{
    struct buf_pool *p = hooked(8 * MIB);
    struct buf *b[64], *more = NULL;
    unsigned n = 0;

    while (buf_get(p, MIB, &b[n]) == 0) {
        check_budget(p);
        CHECK_LT_INT(++n, 9);
    }
    CHECK_GE_INT(n, 6);
    CHECK_EQ_INT(buf_get(p, MIB, &more), ERR_AGAIN);
    CHECK_EQ_PTR(more, NULL);
    buf_unref(b[--n]);
    CHECK_EQ_INT(hooks.space_calls, 1);
    b[n++] = get(p, MIB);
    while (n > 0)
        buf_unref(b[--n]);
    buf_pool_free(p);
}

TEST(cached_buffers_give_way)
{
    struct buf_pool *p = hooked(8 * MIB);
    struct buf *b;

    while (hooks.ncached < 6)
        hooks.cached[hooks.ncached++] = get(p, MIB);
    b = get(p, 3 * MIB);
    check_budget(p);
    CHECK_GE_INT(hooks.asked, 1);
    CHECK_GT_INT(hooks.ncached, 0); /* no more than needed */
    CHECK_LT_INT(hooks.ncached, 6);
    while (hooks.ncached > 0)
        reclaim(&hooks);
    buf_unref(b);
    buf_pool_free(p);
}

/* A cached buffer that was also in use gives way from then on: who waits must hear of it. */
TEST(a_buffer_that_only_the_cache_holds_is_announced)
{
    struct buf_pool *p = hooked(8 * MIB);
    struct buf *b, *more = NULL;

    while (hooks.ncached < 6)
        hooks.cached[hooks.ncached++] = get(p, MIB);
    b = buf_ref(buf_ref(hooks.cached[5]));
    CHECK_EQ_INT(hooks.space_calls, 0);
    buf_unref(b);
    CHECK_EQ_INT(hooks.space_calls, 0);
    buf_unref(b);
    CHECK_EQ_INT(hooks.space_calls, 1);
    CHECK_EQ_INT(buf_get(p, 2 * MIB, &more), 0);
    buf_unref(more);
    while (hooks.ncached > 0)
        reclaim(&hooks);
    buf_pool_free(p);
}

/* Two values of the largest size can be under way together; larger ones never fit. */
TEST(largest_value)
{
    for (size_t limit = 64 * 1024; limit < 40 * MIB; limit += 77777) {
        struct buf_pool *p = buf_pool_new(limit);
        size_t max = buf_pool_max_value(p);
        struct buf *a = NULL, *b = NULL;

        CHECK_EQ_INT(buf_get(p, max + 1, &a), ERR_TOOBIG);
        CHECK_EQ_INT(buf_get(p, SIZE_MAX, &a), ERR_TOOBIG);
        CHECK_EQ_PTR(a, NULL);
        CHECK_EQ_INT(buf_get(p, max, &a), 0);
        CHECK_EQ_INT(buf_get(p, max, &b), 0);
        check_budget(p);
        buf_unref(a);
        buf_unref(b);
        buf_pool_free(p);
    }
}

/* ERR_AGAIN here would be waited for for ever. */
TEST(a_tiny_budget_fits_nothing)
{
    static const size_t limits[] = {0, 1, 4096, 20480, 32768, 2 * 20480 - 1};

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct buf_pool *p = buf_pool_new(limits[i]);
        struct buf *b = NULL;

        CHECK_EQ_INT(buf_get(p, 0, &b), ERR_TOOBIG);
        CHECK_EQ_INT(buf_get(p, 1, &b), ERR_TOOBIG);
        buf_pool_free(p);
    }
}

TEST(the_limit_can_change)
{
    struct buf_pool *p = hooked(16 * MIB);
    struct buf *b = get(p, 2 * MIB), *none = NULL;

    for (int i = 0; i < 3; i++)
        hooks.cached[hooks.ncached++] = get(p, 2 * MIB);
    buf_unref(get(p, MIB));
    CHECK_GT_U64(buf_pool_kept(p), 0);
    buf_pool_set_limit(p, MIB / 5 * 18); /* cached ones go, the one in use stays */
    CHECK_EQ_U64(buf_pool_used(p), b->space);
    check_budget(p);
    CHECK_EQ_INT(hooks.ncached, 0);
    CHECK_EQ_INT(buf_get(p, MIB / 20 * 31, &none), ERR_AGAIN);
    buf_pool_set_limit(p, MIB); /* below what is in use: nothing new */
    CHECK_EQ_INT(buf_get(p, 100, &none), ERR_AGAIN);
    buf_unref(b);
    CHECK_EQ_U64(buf_pool_kept(p), 0); /* too large to keep now */
    buf_unref(get(p, 100));
    buf_pool_set_limit(p, 32 * MIB);
    buf_unref(get(p, 8 * MIB));
    check_budget(p);
    buf_pool_free(p);
}

TEST(random_use_keeps_the_budget)
{
    enum { SLOTS = 50, STEPS = 20000 };
    struct buf_pool *p = buf_pool_new(16 * MIB);
    struct buf *held[SLOTS] = {NULL};
    uint64_t rnd = 99;
    size_t sum = 0;

    for (int s = 0; s < STEPS; s++) {
        unsigned i;

        rnd = rnd * 6364136223846793005u + 1442695040888963407u;
        i = (unsigned)(rnd >> 33) % SLOTS;
        if (held[i] != NULL) {
            CHECK_EQ_INT(held[i]->mem[0], (int)(i + 1)); /* nobody else had it */
            sum -= held[i]->space;
            buf_unref(held[i]);
            held[i] = NULL;
        } else if (buf_get(p, (rnd >> 13) % MIB, &held[i]) == 0) {
            held[i]->mem[0] = (uint8_t)(i + 1);
            sum += held[i]->space;
        }
        CHECK_EQ_U64(buf_pool_used(p), sum);
        check_budget(p);
    }
    for (int i = 0; i < SLOTS; i++)
        buf_unref(held[i]);
    buf_pool_free(p);
}

TEST_MAIN
