/* SPDX-License-Identifier: MIT */
#include "server/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "server/request.h"

#define FIRST_SIZE ((size_t)1024)

static bool reserve(struct text *t, size_t more)
{
    size_t size = t->size > 0 ? t->size : FIRST_SIZE;
    char *grown;

    while (size - t->len < more)
        size *= 2;
    if (size == t->size)
        return true;
    grown = realloc(t->mem, size);
    if (grown == NULL)
        return false;
    t->mem = grown;
    t->size = size;
    return true;
}

void text_add(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    if (t->failed)
        return;
    va_start(args, format);
    n = vsnprintf(t->mem != NULL ? t->mem + t->len : NULL, t->size - t->len, format, args);
    va_end(args);
    ASSERT(n >= 0);
    if ((size_t)n >= t->size - t->len) {
        t->failed = !reserve(t, (size_t)n + 1);
        if (t->failed)
            return;
        va_start(args, format);
        vsnprintf(t->mem + t->len, t->size - t->len, format, args);
        va_end(args);
    }
    t->len += (size_t)n;
}

void text_reply(struct text *t, struct request *rq)
{
    if (t->failed)
        request_error_code(rq, ERR_NOMEM);
    else
        emit_verbatim(request_emit(rq), "txt", slice_of(t->mem, t->len));
    text_fini(t);
}

void text_fini(struct text *t)
{
    free(t->mem);
    t->mem = NULL;
    t->len = t->size = 0;
}
