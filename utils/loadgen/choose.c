/* SPDX-License-Identifier: MIT */
#include "choose.h"

#include <math.h>

#include "value.h"

#define THETA 0.99

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

void choose_init(struct choose *c, enum order order, uint64_t keys, uint64_t seed)
{
    *c = (struct choose){.order = order, .keys = keys, .state = value_mix(seed)};
    /* A step of about 0.618 of the whole, without a common divisor, meets every key once. */
    c->stride = (uint64_t)((double)keys * 0.6180339887) | 1;
    while (common_divisor(c->stride, keys) != 1)
        c->stride++;
    for (uint64_t i = 1; order == ORDER_ZIPF && i <= keys; i++)
        c->zeta += 1 / pow((double)i, THETA);
    c->eta = (1 - pow(2.0 / (double)keys, 1 - THETA)) / (1 - (1 + pow(0.5, THETA)) / c->zeta);
}

uint64_t choose_random(struct choose *c, uint64_t below)
{
    c->state ^= c->state << 13; /* xorshift64 */
    c->state ^= c->state >> 7;
    c->state ^= c->state << 17;
    return (uint64_t)((unsigned __int128)c->state * below >> 64);
}

uint64_t choose_zipf(struct choose *c)
{
    double u = (double)choose_random(c, UINT64_C(1) << 53) / (double)(UINT64_C(1) << 53);
    double uz = u * c->zeta;
    uint64_t rank;

    if (uz < 1)
        rank = 0;
    else if (uz < 1 + pow(0.5, THETA))
        rank = 1;
    else
        rank = (uint64_t)((double)c->keys * pow(c->eta * u - c->eta + 1, 1 / (1 - THETA)));
    return value_mix(rank) % c->keys;
}

uint64_t choose_next(struct choose *c)
{
    uint64_t i = c->count++;

    switch (c->order) {
    case ORDER_RANDOM:
        return choose_random(c, c->keys);
    case ORDER_SHUFFLE:
        return (uint64_t)((unsigned __int128)i * c->stride % c->keys);
    case ORDER_ZIPF:
        return choose_zipf(c);
    case ORDER_SEQ:
        break;
    }
    return i % c->keys;
}
