/* SPDX-License-Identifier: MIT */
#include "base/words.h"

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A word without quotes goes on over the two rarest blanks, as in Redis. */
static bool ends_word(uint8_t c)
{
    return is_blank(c) && c != '\v' && c != '\f';
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that an escape at p (on its backslash, inside "…") stands for; *p ends behind it. */
static uint8_t unescape(const uint8_t **p, const uint8_t *end)
{
    const uint8_t *s = *p;

    if (end - s >= 4 && s[1] == 'x' && hex_digit(s[2]) >= 0 && hex_digit(s[3]) >= 0) {
        *p += 4;
        return (uint8_t)(hex_digit(s[2]) * 16 + hex_digit(s[3]));
    }
    *p += 2;
    switch (s[1]) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return s[1];
    }
}

/* The inside of a quoted part and its closing quote; false: it has none. */
static bool quoted(const uint8_t **p, const uint8_t *end, uint8_t quote, uint8_t *out, size_t *len)
{
    while (*p < end && **p != quote) {
        bool more = end - *p >= 2;

        if (**p == '\\' && more && quote == '"') {
            out[(*len)++] = unescape(p, end);
        } else if (**p == '\\' && more && (*p)[1] == '\'') {
            out[(*len)++] = '\'';
            *p += 2;
        } else {
            out[(*len)++] = *(*p)++;
        }
    }
    if (*p == end)
        return false;
    ++*p;
    return *p == end || is_blank(**p);
}

enum words_status words_next(struct slice *rest, uint8_t *out, size_t *len)
{
    const uint8_t *p = rest->ptr, *end = p + rest->len;
    enum words_status status = WORDS_ONE;

    *len = 0;
    while (p < end && is_blank(*p))
        p++;
    if (p == end)
        status = WORDS_END;
    while (p < end && !ends_word(*p)) {
        uint8_t c = *p++;

        if (c != '"' && c != '\'') {
            out[(*len)++] = c;
            continue;
        }
        if (!quoted(&p, end, c, out, len))
            status = WORDS_UNBALANCED;
        break; /* a closing quote ends the word */
    }
    *rest = slice_of(p, (size_t)(end - p));
    return status;
}
