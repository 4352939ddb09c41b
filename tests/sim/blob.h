/* SPDX-License-Identifier: MIT */
/* blob: the values of the model, one for equal bytes: two are equal when their pointers are.
 *
 * Lifetime  a blob lives until blob_collect finds it unmarked
 */
#ifndef TESTS_SIM_BLOB_H
#define TESTS_SIM_BLOB_H

#include "sim.h"

struct blob {
    struct blob *next;
    size_t len;
    uint64_t hash;
    uint64_t digest; /* as the server reports it; 0: not yet computed */
    bool marked;
    uint8_t bytes[];
};

/* Room to be filled, then interned: the caller's pointer may be freed by that. */
struct blob *blob_new(size_t len);
const struct blob *blob_intern(struct blob *b);
const struct blob *blob_of(const void *bytes, size_t len);
uint64_t blob_digest(const struct blob *b);

void blob_mark(const struct blob *b); /* NULL is allowed */
void blob_collect(void);              /* frees what was not marked, forgets the marks */
void blob_free_all(void);

#endif
