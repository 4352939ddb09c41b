/* SPDX-License-Identifier: MIT */
/* An evbuffer_add costs more than the few bytes of a reply, so a small reply is put together on
 * the stack and added once.
 */
#include "resp/emit.h"

#include <event2/buffer.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

#define PIECE_MAX ((size_t)16 << 10)
#define SMALL 512   /* replies up to this are copied together */
#define HEAD_MAX 32 /* type byte, 20 digits, CRLF */

#define ADD_LITERAL(e, text) add(e, text, sizeof(text) - 1)

/* In pieces, so that no allocation has a size that a client chooses. */
static void add(struct emit *e, const void *data, size_t len)
{
    const char *at = data;

    do {
        size_t n = len < PIECE_MAX ? len : PIECE_MAX;
        int rc = evbuffer_add(e->out, at, n);

        ASSERT(rc == 0);
        at += n;
        len -= n;
    } while (len > 0);
}

/* type, v, CRLF into out (HEAD_MAX bytes); returns the length. */
static size_t head(char *out, char type, bool negative, uint64_t v)
{
    char digits[20];
    size_t n = 0, len = 0;

    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    out[len++] = type;
    if (negative)
        out[len++] = '-';
    while (n > 0)
        out[len++] = digits[--n];
    out[len++] = '\r';
    out[len++] = '\n';
    return len;
}

static void add_head(struct emit *e, char type, uint64_t v)
{
    char text[HEAD_MAX];

    add(e, text, head(text, type, false, v));
}

/* A reply is one line of text: whatever would end it early, or make a terminal do something,
 * becomes a space. */
static bool is_control(unsigned char c)
{
    return c < 32 || c == 127;
}

static void add_line(struct emit *e, char type, const char *text)
{
    size_t len = strlen(text);
    char small[SMALL];
    char *line = len + 3 <= sizeof(small) ? small : malloc(len + 3);

    ASSERT(line != NULL);
    line[0] = type;
    for (size_t i = 0; i < len; i++)
        line[i + 1] = is_control((unsigned char)text[i]) ? ' ' : text[i];
    memcpy(line + len + 1, "\r\n", 2);
    add(e, line, len + 3);
    if (line != small)
        free(line);
}

void emit_status(struct emit *e, const char *text)
{
    if (strcmp(text, "OK") == 0)
        ADD_LITERAL(e, "+OK\r\n");
    else
        add_line(e, '+', text);
}

void emit_error(struct emit *e, const char *text)
{
    add_line(e, '-', text);
}

/* The formatted text: in small if it fits, else in memory that the caller frees. */
__attribute__((format(printf, 3, 0))) static char *
format_text(char *small, size_t size, const char *format, va_list ap, size_t *len)
{
    char *text = small;
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(small, size, format, ap);
    ASSERT(n >= 0);
    *len = (size_t)n;
    if (*len >= size) {
        text = malloc(*len + 1);
        ASSERT(text != NULL);
        vsnprintf(text, *len + 1, format, again);
    }
    va_end(again);
    return text;
}

void emit_errorf(struct emit *e, const char *format, ...)
{
    char small[SMALL];
    char *text;
    size_t len;
    va_list ap;

    va_start(ap, format);
    text = format_text(small, sizeof(small), format, ap, &len);
    va_end(ap);
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\0') /* by %c */
            text[i] = ' ';
    add_line(e, '-', text);
    if (text != small)
        free(text);
}

void emit_int(struct emit *e, int64_t v)
{
    char text[HEAD_MAX];

    if (v == 0)
        ADD_LITERAL(e, ":0\r\n");
    else if (v == 1)
        ADD_LITERAL(e, ":1\r\n");
    else
        add(e, text, head(text, ':', v < 0, v < 0 ? 0 - (uint64_t)v : (uint64_t)v));
}

void emit_double(struct emit *e, double v)
{
    char text[HEAD_MAX + 8];
    int n;

    if (isnan(v))
        n = snprintf(text, sizeof(text), ",nan\r\n"); /* the C library may print "-nan" */
    else if (isinf(v))
        n = snprintf(text, sizeof(text), v > 0 ? ",inf\r\n" : ",-inf\r\n");
    else
        n = snprintf(text, sizeof(text), ",%.17g\r\n", v);
    ASSERT(n > 0 && (size_t)n < sizeof(text));
    if (e->proto < 3)
        emit_bulk(e, slice_of(text + 1, (size_t)n - 3));
    else
        add(e, text, (size_t)n);
}

void emit_bulk(struct emit *e, struct slice s)
{
    char text[SMALL];
    size_t len;

    if (s.len > sizeof(text) - HEAD_MAX - 2) {
        emit_bulk_begin(e, s.len);
        add(e, s.ptr, s.len);
        ADD_LITERAL(e, "\r\n");
        return;
    }
    len = head(text, '$', false, s.len);
    if (s.len > 0)
        memcpy(text + len, s.ptr, s.len);
    memcpy(text + len + s.len, "\r\n", 2);
    add(e, text, len + s.len + 2);
}

void emit_bulk_str(struct emit *e, const char *s)
{
    emit_bulk(e, slice_str(s));
}

void emit_bulkf(struct emit *e, const char *format, ...)
{
    char small[SMALL];
    char *text;
    size_t len;
    va_list ap;

    va_start(ap, format);
    text = format_text(small, sizeof(small), format, ap, &len);
    va_end(ap);
    emit_bulk(e, slice_of(text, len));
    if (text != small)
        free(text);
}

void emit_verbatim(struct emit *e, const char *type3, struct slice s)
{
    ASSERT(strlen(type3) == 3);
    if (e->proto < 3) {
        emit_bulk(e, s);
        return;
    }
    add_head(e, '=', (uint64_t)s.len + 4);
    add(e, type3, 3);
    add(e, ":", 1);
    add(e, s.ptr, s.len);
    ADD_LITERAL(e, "\r\n");
}

void emit_nil(struct emit *e)
{
    if (e->proto < 3)
        ADD_LITERAL(e, "$-1\r\n");
    else
        ADD_LITERAL(e, "_\r\n");
}

void emit_nil_array(struct emit *e)
{
    if (e->proto < 3)
        ADD_LITERAL(e, "*-1\r\n");
    else
        ADD_LITERAL(e, "_\r\n");
}

void emit_array(struct emit *e, size_t count)
{
    add_head(e, '*', count);
}

void emit_map(struct emit *e, size_t pairs)
{
    add_head(e, e->proto < 3 ? '*' : '%', e->proto < 3 ? (uint64_t)pairs * 2 : pairs);
}

void emit_set(struct emit *e, size_t count)
{
    add_head(e, e->proto < 3 ? '*' : '~', count);
}

void emit_bulk_begin(struct emit *e, size_t len)
{
    add_head(e, '$', len);
}

/* The value before it was added by reference: evbuffer_add would make a chain of that size for the
 * two bytes. */
void emit_bulk_end(struct emit *e)
{
    int rc = evbuffer_add_reference(e->out, "\r\n", 2, NULL, NULL);

    ASSERT(rc == 0);
}
