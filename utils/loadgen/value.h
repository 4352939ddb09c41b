/* SPDX-License-Identifier: MIT */
/* value: the bytes that belong to a key, made and compared at the speed of the cache.
 *
 * Purpose   every byte read is verified, and the generator must not be what limits the figure
 * Threads   one
 * Units     `at`: offset in the value
 *
 * A value is a prefix of an endless text: one block of noise over and over, with a stamp of key and
 * page number in the first 8 bytes of each 4 KiB page. So a page of another value or of another
 * place is noticed, no page repeats (a device that deduplicates gains nothing), and neither side
 * needs memory for a value: sending stamps the one block in place, receiving compares with it.
 */
#ifndef LOADGEN_VALUE_H
#define LOADGEN_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VALUE_PAGE 4096u
#define VALUE_BLOCK (256u << 10)

struct value {
    uint8_t *block;
};

bool value_init(struct value *v);
void value_fini(struct value *v);
/* Where the bytes of `key` from `at` on are: *len of them, up to the end of the block, valid until
 * the next call. */
const uint8_t *value_bytes(struct value *v, uint64_t key, uint64_t at, size_t *len);
bool value_check(const struct value *v, uint64_t key, uint64_t at, const uint8_t *data, size_t len);

/* A well mixed 64-bit number. */
uint64_t value_mix(uint64_t x);

#endif
