/* SPDX-License-Identifier: MIT */
#include "server/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

#define FIRST_SIZE ((size_t)1024)

static void reserve(struct text *t, size_t more)
{
    size_t size = t->size > 0 ? t->size : FIRST_SIZE;
    char *grown;

    while (size - t->len < more)
        size *= 2;
    if (size == t->size)
        return;
    grown = realloc(t->mem, size);
    if (grown == NULL)
        PANIC("out of memory for a text of %zu bytes", size);
    t->mem = grown;
    t->size = size;
}

void text_add(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->mem != NULL ? t->mem + t->len : NULL, t->size - t->len, format, args);
    va_end(args);
    ASSERT(n >= 0);
    if ((size_t)n >= t->size - t->len) {
        reserve(t, (size_t)n + 1);
        va_start(args, format);
        vsnprintf(t->mem + t->len, t->size - t->len, format, args);
        va_end(args);
    }
    t->len += (size_t)n;
}

struct slice text_slice(const struct text *t)
{
    return slice_of(t->mem, t->len);
}

void text_fini(struct text *t)
{
    free(t->mem);
    t->mem = NULL;
    t->len = t->size = 0;
}
