/* SPDX-License-Identifier: MIT */
#include "base/number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/assert.h"

#define DIGITS_MAX 20 /* of the largest u64 */

/* Digits only, no leading zero but "0" itself. */
static bool parse_digits(const uint8_t *p, size_t len, uint64_t *out)
{
    uint64_t v = 0;

    if (len == 0 || len > DIGITS_MAX || (p[0] == '0' && len > 1))
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)p[i] - '0';

        if (digit > 9 || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, digit, &v))
            return false;
    }
    *out = v;
    return true;
}

bool number_parse_i64(struct slice s, int64_t *out)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    uint64_t v;

    if (!parse_digits(s.ptr + negative, s.len - negative, &v))
        return false;
    if (negative) {
        if (v == 0 || v > (uint64_t)INT64_MAX + 1)
            return false;
        *out = (int64_t)(0 - v);
        return true;
    }
    if (v > INT64_MAX)
        return false;
    *out = (int64_t)v;
    return true;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool number_parse_ld(struct slice s, long double *out)
{
    char text[NUMBER_TEXT_MAX];
    long double v;
    char *end;

    /* The C library wants a NUL behind the text, and would skip a blank ahead of it. */
    if (s.len == 0 || s.len >= sizeof(text) || is_space(s.ptr[0]))
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    errno = 0;
    v = strtold(text, &end);
    if (end != text + s.len || isnan(v))
        return false;
    if (errno == EINVAL || (errno == ERANGE && (isinf(v) || v == 0)))
        return false;
    *out = v;
    return true;
}

/* 17 digits behind the point: most short decimal fractions come back as they were typed. */
size_t number_format_ld(long double v, char *out, size_t size)
{
    int n;
    size_t len;

    ASSERT(size >= NUMBER_TEXT_MAX);
    if (isinf(v))
        n = snprintf(out, size, "%s", v > 0 ? "inf" : "-inf");
    else
        n = snprintf(out, size, "%.17Lf", v);
    ASSERT(n > 0 && (size_t)n < size);
    len = (size_t)n;
    if (memchr(out, '.', len) != NULL) {
        while (out[len - 1] == '0')
            len--;
        if (out[len - 1] == '.')
            len--;
    }
    if (len == 2 && out[0] == '-' && out[1] == '0') {
        out[0] = '0';
        len = 1;
    }
    out[len] = '\0';
    return len;
}

bool number_is_word(struct slice s, const char *word)
{
    return strlen(word) == s.len &&
           (s.len == 0 || strncasecmp((const char *)s.ptr, word, s.len) == 0);
}
