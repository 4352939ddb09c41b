/* SPDX-License-Identifier: MIT */
#include "blob.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/payload.h"

#define BUCKETS 4096u

static struct blob *buckets[BUCKETS];

struct blob *blob_new(size_t len)
{
    struct blob *b = malloc(sizeof(*b) + len);

    if (b == NULL)
        sim_fail("out of memory");
    *b = (struct blob){.len = len};
    return b;
}

const struct blob *blob_intern(struct blob *b)
{
    struct blob **at;

    b->hash = hash64(b->bytes, b->len);
    at = &buckets[b->hash % BUCKETS];
    for (struct blob *other = *at; other != NULL; other = other->next) {
        if (other->hash == b->hash && other->len == b->len &&
            memcmp(other->bytes, b->bytes, b->len) == 0) {
            free(b);
            return other;
        }
    }
    b->next = *at;
    *at = b;
    return b;
}

const struct blob *blob_of(const void *bytes, size_t len)
{
    struct blob *b = blob_new(len);

    if (len > 0)
        memcpy(b->bytes, bytes, len);
    return blob_intern(b);
}

uint64_t blob_digest(const struct blob *b)
{
    if (b->digest == 0)
        ((struct blob *)(uintptr_t)b)->digest = payload_digest_of(b->bytes, b->len);
    return b->digest;
}

void blob_mark(const struct blob *b)
{
    if (b != NULL)
        ((struct blob *)(uintptr_t)b)->marked = true;
}

void blob_collect(void)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct blob **at = &buckets[i];

        while (*at != NULL) {
            struct blob *b = *at;

            if (b->marked) {
                b->marked = false;
                at = &b->next;
            } else {
                *at = b->next;
                free(b);
            }
        }
    }
}

void blob_free_all(void)
{
    blob_collect();
    blob_collect();
}
