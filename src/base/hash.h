/* SPDX-License-Identifier: MIT */
/* hash: XXH3-64, the one digest of the store.
 *
 * Purpose   payload chunk digests, record checks, hash tables. Not a secret-keyed hash: it finds
 *           damage, not forgery
 * Threads   any
 * Source    libxxhash ≥ 0.8 (the XXH3 format is frozen since 0.8.0); 5–7 GB/s on cold memory,
 *           measured on the target machine
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

uint64_t hash64(const void *data, size_t len);
uint64_t hash64_seed(const void *data, size_t len, uint64_t seed);

/* XXH3-64 of b, seeded with XXH3-64 of a: binds an LMDB key and its value. */
uint64_t hash64_pair(struct slice a, struct slice b);

/* Random bytes from the kernel; PANIC if it has none (never seen after boot). */
void hash_random(void *out, size_t len);

#endif
