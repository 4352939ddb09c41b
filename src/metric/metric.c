/* SPDX-License-Identifier: MIT */
#include "metric/metric.h"

#include "base/assert.h"

static const struct metric_row rows[METRIC_COUNT] = {
#define X(id, section, field, meaning) [METRIC_##id] = {section, field, meaning},
    METRIC_TABLE(X)
#undef X
};

const struct metric_row *metric_row(enum metric m)
{
    ASSERT(m < METRIC_COUNT);
    return &rows[m];
}

void metric_hist_add(struct metric_hist *h, uint64_t us)
{
    unsigned i = us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(us - 1);

    h->bucket[i < METRIC_BUCKETS ? i : METRIC_BUCKETS - 1]++;
    h->count++;
    h->sum_us += us;
    if (us > h->max_us)
        h->max_us = us;
}

uint64_t metric_hist_quantile(const struct metric_hist *h, double q)
{
    uint64_t want = (uint64_t)((double)h->count * q);
    uint64_t seen = 0;

    if (h->count == 0)
        return 0;
    for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > want || seen == h->count)
            return (uint64_t)1 << i;
    }
    return h->max_us;
}
