/* SPDX-License-Identifier: MIT */
/* choose: which key is next.
 *
 * Purpose   ORDER_SEQ 0, 1, 2 …; ORDER_RANDOM uniform; ORDER_SHUFFLE every key once, far from its
 *           neighbours; ORDER_ZIPF a few keys very often (theta 0.99), scattered over the numbers
 * Threads   one
 * Source    Zipf: Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 94,
 *           as in YCSB
 */
#ifndef LOADGEN_CHOOSE_H
#define LOADGEN_CHOOSE_H

#include <stdint.h>

enum order { ORDER_SEQ, ORDER_RANDOM, ORDER_SHUFFLE, ORDER_ZIPF };

struct choose {
    enum order order;
    uint64_t keys, count, state, stride;
    double zeta, eta;
};

void choose_init(struct choose *c, enum order order, uint64_t keys, uint64_t seed);
uint64_t choose_next(struct choose *c); /* below `keys` */
uint64_t choose_zipf(struct choose *c); /* only with ORDER_ZIPF */
uint64_t choose_random(struct choose *c, uint64_t below);

#endif
