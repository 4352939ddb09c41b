/* SPDX-License-Identifier: MIT */
#include "value.h"

#include <stdlib.h>
#include <string.h>

#define STAMP 8u

uint64_t value_mix(uint64_t x) /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t stamp(uint64_t key, uint64_t page)
{
    return value_mix(key << 24 ^ page);
}

bool value_init(struct value *v)
{
    v->block = aligned_alloc(VALUE_PAGE, VALUE_BLOCK);
    if (v->block == NULL)
        return false;
    for (uint64_t i = 0; i < VALUE_BLOCK; i += 8) {
        uint64_t x = value_mix(~i);

        memcpy(v->block + i, &x, 8);
    }
    return true;
}

void value_fini(struct value *v)
{
    free(v->block);
}

const uint8_t *value_bytes(struct value *v, uint64_t key, uint64_t at, size_t *len)
{
    size_t from = at % VALUE_BLOCK, most = VALUE_BLOCK - from;
    uint64_t page = at / VALUE_PAGE;

    *len = *len < most ? *len : most;
    for (size_t p = from / VALUE_PAGE * VALUE_PAGE; p < from + *len; p += VALUE_PAGE) {
        uint64_t s = stamp(key, page++);

        memcpy(v->block + p, &s, STAMP);
    }
    return v->block + from;
}

/* Compares within one page. */
static bool check_page(const struct value *v, uint64_t key, uint64_t at, const uint8_t *data,
                       size_t len)
{
    size_t from = at % VALUE_PAGE, skip = 0;

    if (from < STAMP) {
        uint64_t s = stamp(key, at / VALUE_PAGE);

        skip = STAMP - from < len ? STAMP - from : len;
        if (memcmp(data, (const uint8_t *)&s + from, skip) != 0)
            return false;
    }
    return memcmp(data + skip, v->block + at % VALUE_BLOCK + skip, len - skip) == 0;
}

bool value_check(const struct value *v, uint64_t key, uint64_t at, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t part = VALUE_PAGE - at % VALUE_PAGE;

        part = part < len ? part : len;
        if (!check_page(v, key, at, data, part))
            return false;
        at += part;
        data += part;
        len -= part;
    }
    return true;
}
