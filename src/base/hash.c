/* SPDX-License-Identifier: MIT */
#include "base/hash.h"

#include <sys/random.h>
#include <xxhash.h>

/* The plain functions are compiled for the oldest processor of the architecture. Where libxxhash
 * brings its dispatcher, this header makes the same names choose AVX2 or AVX-512 at run time. */
#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif
#endif

#include "base/assert.h"

uint64_t hash64(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

uint64_t hash64_seed(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

uint64_t hash64_pair(struct slice a, struct slice b)
{
    return XXH3_64bits_withSeed(b.ptr, b.len, XXH3_64bits(a.ptr, a.len));
}

void hash_random(void *out, size_t len)
{
    ASSERT(len <= 256); /* getrandom never returns short up to 256 bytes */
    if (getrandom(out, len, 0) != (ssize_t)len)
        PANIC("getrandom failed");
}
