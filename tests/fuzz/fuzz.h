/* SPDX-License-Identifier: MIT */
/* fuzz: what a fuzz target is made of.
 *
 * Purpose   fuzz_x.c defines LLVMFuzzerTestOneInput: it feeds bytes that no writer made to one
 *           reader and ASSERTs what must hold whatever they are. Two mains call it: libFuzzer's
 *           (make fuzz), and replay.c, which every `make test` runs over corpus/x and a fixed
 *           number of inputs made from it
 * Threads   one
 * Errors    a finding ends the process; its input goes to corpus/x once it is fixed
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/slice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What takes too long to be done with every input: replay.c calls it with each corpus file. */
void fuzz_thorough(const uint8_t *data, size_t size);

/* A copy of exactly len bytes, so that a sanitizer sees a read behind them. Freed by the caller. */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    ASSERT(copy != NULL);
    if (len > 0)
        memcpy(copy, data, len);
    return copy;
}

/* Takes up to len bytes off the front of *rest. */
static inline struct slice fuzz_take(struct slice *rest, size_t len)
{
    struct slice s = slice_of(rest->ptr, len < rest->len ? len : rest->len);

    *rest = slice_of(rest->ptr + s.len, rest->len - s.len);
    return s;
}

static inline uint8_t fuzz_byte(struct slice *rest)
{
    struct slice s = fuzz_take(rest, 1);

    return s.len == 1 ? s.ptr[0] : 0;
}

#endif
