/* SPDX-License-Identifier: MIT */
#include "hist.h"

/* Bucket b below 2 × HIST_STEPS holds exactly the value b; each power of two above is HIST_STEPS
 * buckets. */
static unsigned bucket_of(uint64_t us)
{
    unsigned shift = 0;
    uint64_t b;

    while (us >> shift >= 2 * HIST_STEPS)
        shift++;
    b = shift * HIST_STEPS + (us >> shift);
    return b < HIST_BUCKETS ? (unsigned)b : HIST_BUCKETS - 1;
}

void hist_add(struct hist *h, uint64_t us)
{
    h->count++;
    h->bucket[bucket_of(us)]++;
    if (us > h->max)
        h->max = us;
}

static uint64_t upper_end(unsigned b)
{
    unsigned shift = b < 2 * HIST_STEPS ? 0 : b / HIST_STEPS - 1;

    return ((uint64_t)(b - shift * HIST_STEPS) + 1) << shift;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
    uint64_t rank = (uint64_t)(q * (double)h->count), seen = 0;

    for (unsigned b = 0; b < HIST_BUCKETS; b++) {
        seen += h->bucket[b];
        if (seen > rank)
            return upper_end(b) < h->max ? upper_end(b) : h->max;
    }
    return h->max;
}
