/* SPDX-License-Identifier: MIT */
#include "reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

struct cursor {
    const uint8_t *bytes;
    size_t len, at, want;
};

static bool parse_one(struct cursor *c, struct reply *out);

/* The line at the cursor without its CRLF; false: not complete. */
static bool take_line(struct cursor *c, const char **line, size_t *len)
{
    const uint8_t *from = c->bytes + c->at;
    const uint8_t *end = memchr(from, '\n', c->len - c->at);

    if (end == NULL) {
        c->want = c->len + 1;
        return false;
    }
    if (end == from || end[-1] != '\r')
        sim_fail("a reply line without CRLF");
    *line = (const char *)from;
    *len = (size_t)(end - from) - 1;
    c->at += *len + 2;
    return true;
}

static char *text_of(const void *bytes, size_t len)
{
    char *text = malloc(len + 1);

    if (text == NULL)
        sim_fail("out of memory");
    if (len > 0)
        memcpy(text, bytes, len);
    text[len] = '\0';
    return text;
}

static int64_t number_of(const char *line, size_t len)
{
    char text[32] = "", *end;
    long long v;

    if (len == 0 || len >= sizeof(text))
        sim_fail("a number of %zu bytes in a reply", len);
    memcpy(text, line, len);
    v = strtoll(text, &end, 10);
    if (*end != '\0')
        sim_fail("a reply with the number \"%s\"", text);
    return v;
}

static bool parse_bulk(struct cursor *c, int64_t len, size_t skip, struct reply *out)
{
    size_t n = (size_t)len;

    if (c->len - c->at < n + 2) {
        c->want = c->at + n + 2;
        return false;
    }
    if (memcmp(c->bytes + c->at + n, "\r\n", 2) != 0)
        sim_fail("a bulk of %zu bytes without CRLF behind it", n);
    out->type = REPLY_BULK;
    out->len = n - skip;
    out->hash = hash64(c->bytes + c->at + skip, n - skip);
    if (out->len <= REPLY_TEXT_MAX)
        out->text = text_of(c->bytes + c->at + skip, n - skip);
    c->at += n + 2;
    return true;
}

static bool parse_elements(struct cursor *c, int64_t count, struct reply *out)
{
    out->type = REPLY_ARRAY;
    out->len = 0;
    out->elements = calloc((size_t)count + 1, sizeof(*out->elements));
    if (out->elements == NULL)
        sim_fail("out of memory");
    for (int64_t i = 0; i < count; i++) {
        out->len++; /* what it owns already is freed with the rest */
        if (!parse_one(c, &out->elements[i]))
            return false;
    }
    return true;
}

static bool parse_line(struct cursor *c, char type, const char *line, size_t len, struct reply *out)
{
    int64_t n;

    switch (type) {
    case '+':
    case '-':
        out->type = type == '+' ? REPLY_STATUS : REPLY_ERROR;
        out->len = len;
        out->text = text_of(line, len);
        return true;
    case ':':
        out->type = REPLY_INT;
        out->number = number_of(line, len);
        return true;
    case '_':
        out->type = REPLY_NIL;
        return true;
    case '$':
    case '=':
        n = number_of(line, len);
        out->type = REPLY_NIL;
        return n < 0 || parse_bulk(c, n, type == '=' ? 4 : 0, out);
    case '*':
    case '~':
    case '%':
        n = number_of(line, len);
        out->type = REPLY_NIL;
        return n < 0 || parse_elements(c, type == '%' ? 2 * n : n, out);
    default:
        sim_fail("a reply of type '%c'", type);
    }
}

static bool parse_one(struct cursor *c, struct reply *out)
{
    const char *line;
    size_t len;
    char type;

    *out = (struct reply){.type = REPLY_NIL};
    if (c->at >= c->len) {
        c->want = c->len + 1;
        return false;
    }
    type = (char)c->bytes[c->at++];
    return take_line(c, &line, &len) && parse_line(c, type, line, len, out);
}

size_t reply_parse(const uint8_t *bytes, size_t len, struct reply *out, size_t *want)
{
    struct cursor c = {.bytes = bytes, .len = len};

    if (parse_one(&c, out))
        return c.at;
    reply_free(out);
    *want = c.want;
    return 0;
}

void reply_free(struct reply *r)
{
    for (size_t i = 0; r->elements != NULL && i < r->len; i++)
        reply_free(&r->elements[i]);
    free(r->elements);
    free(r->text);
    *r = (struct reply){.type = REPLY_NIL};
}

bool reply_is(const struct reply *r, const char *status)
{
    return r->type == REPLY_STATUS && strcmp(r->text, status) == 0;
}

bool reply_is_error(const struct reply *r, const char *prefix)
{
    return r->type == REPLY_ERROR && strncmp(r->text, prefix, strlen(prefix)) == 0;
}

void reply_describe(const struct reply *r, char *out, size_t size)
{
    size_t n;

    switch (r->type) {
    case REPLY_STATUS:
    case REPLY_ERROR:
        snprintf(out, size, "%c%s", r->type == REPLY_STATUS ? '+' : '-', r->text);
        break;
    case REPLY_INT:
        snprintf(out, size, ":%" PRId64, r->number);
        break;
    case REPLY_NIL:
        snprintf(out, size, "nil");
        break;
    case REPLY_BULK:
        snprintf(out, size, "$%zu %08x", r->len, (unsigned)r->hash);
        break;
    case REPLY_ARRAY:
        n = (size_t)snprintf(out, size, "*%zu[", r->len);
        for (size_t i = 0; i < r->len && n + 40 < size; i++) {
            reply_describe(&r->elements[i], out + n, 40);
            n += strlen(out + n);
            out[n++] = ' ';
        }
        snprintf(out + n, size - n, "]");
        break;
    }
}
