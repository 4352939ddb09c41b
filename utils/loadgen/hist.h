/* SPDX-License-Identifier: MIT */
/* hist: latencies in buckets of 1/32 of a power of two, so a quantile is 3 % off at most.
 *
 * Purpose   quantiles of any number of latencies in 8 KiB
 * Threads   one
 * Units     us
 */
#ifndef LOADGEN_HIST_H
#define LOADGEN_HIST_H

#include <stdint.h>

#define HIST_STEPS 32u
#define HIST_BUCKETS (32u * HIST_STEPS)

struct hist {
    uint64_t count, max, bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t us);
uint64_t hist_quantile(const struct hist *h, double q); /* upper end of its bucket */

#endif
