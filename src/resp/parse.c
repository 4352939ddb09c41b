/* SPDX-License-Identifier: MIT */
/* A state per place where the input may end; every state reads as much as it can, so a command that
 * lies whole in one read passes through without a byte being kept aside. Lengths are read in one
 * go when their line is complete (the usual case) and digit by digit when it is not; both ways meet
 * in the same checks, so where a read ends changes nothing.
 *
 * Small arguments live in an arena of chunks that never move, so argv points straight at them. The
 * argument being received (`open` bytes at the end of the last chunk) may move to a larger chunk;
 * the arena thus grows with what arrived, not with what was announced.
 */
#include "resp/parse.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/number.h"
#include "base/words.h"

#define CHUNK_MIN ((size_t)1024)
#define CHUNK_MAX ((size_t)64 * 1024)
#define CHUNK_KEEP ((size_t)16 * 1024) /* kept between commands */
#define ARGS_FIRST 16                  /* inside the parser */
#define ARGS_KEEP 256                  /* kept between commands */
#define LINE_MIN ((size_t)512)
#define DIGITS_MAX 24 /* sign and 19 digits fit; a longer number is no number */

/* state    waiting for                             leaves to
 * START    the first byte of a command             COUNT, INLINE
 * INLINE   the end of an inline command's line     DONE, START (empty)
 * COUNT    the end of *count                       DOLLAR, START (count <= 0)
 * DOLLAR   the $ of the next bulk                  LENGTH
 * LENGTH   the end of $length                      BODY, ASK
 * BODY     bytes of a small bulk                   CRLF
 * ASK      parse_direct or parse_discard           DIRECT, DISCARD
 * DIRECT   bytes of a large bulk                   CRLF
 * DISCARD  the same, dropped                       CRLF
 * CRLF     the end of a bulk                       DOLLAR, DONE
 * DONE     parse_next_command                      START
 * FAILED   the connection to close                 parse_fini
 * Every state but DONE can leave to FAILED. */
enum state {
    STATE_START,
    STATE_INLINE,
    STATE_COUNT,
    STATE_DOLLAR,
    STATE_LENGTH,
    STATE_BODY,
    STATE_ASK,
    STATE_DIRECT,
    STATE_DISCARD,
    STATE_CRLF,
    STATE_DONE,
    STATE_FAILED
};

struct chunk {
    struct chunk *older;
    size_t size, used;
    uint8_t bytes[];
};

struct parse_priv {
    enum state state;
    bool cr_seen; /* in a CRLF or at the end of a length */
    int64_t args; /* announced, not yet received */
    size_t bulk;  /* length of the bulk being received */
    size_t got;   /* bytes of it received */
    size_t small; /* bytes of all small arguments, received and announced */
    uint8_t *dst; /* DIRECT */
    void *owner;  /* DIRECT and its CRLF: not in argv yet */
    /* number line that came in pieces */
    char digits[DIGITS_MAX];
    size_t ndigits; /* may count past the array */
    /* inline command that came in pieces */
    uint8_t *line;
    size_t line_len, line_size;
    /* arena */
    struct chunk *chunk; /* newest */
    size_t open;         /* bytes of the unfinished argument at its end */
    size_t chunk_bytes;
    /* argv */
    size_t argv_size;
    struct parse_arg first[ARGS_FIRST];
    char error[64];
};

static const char error_nomem[] = "Protocol error: out of memory";
static const char error_crlf[] = "Protocol error: invalid CRLF in request";
static const char error_too_big[] = "Protocol error: too big request";

int parse_init(struct parse *p, const struct parse_limits *limits)
{
    ASSERT(limits->args_max <= PARSE_ARGS_MAX);
    *p = (struct parse){.limits = *limits};
    p->priv = calloc(1, sizeof(*p->priv));
    if (p->priv == NULL)
        return ERR_NOMEM;
    p->argv = p->priv->first;
    p->priv->argv_size = ARGS_FIRST;
    return 0;
}

static void drop_owners(struct parse *p, void (*drop)(void *owner))
{
    for (int i = 0; i < p->argc; i++)
        if (p->argv[i].owner != NULL)
            drop(p->argv[i].owner);
    if (p->priv->owner != NULL)
        drop(p->priv->owner);
    p->priv->owner = NULL;
}

static void free_chunks(struct parse_priv *v, struct chunk *c)
{
    while (c != NULL) {
        struct chunk *older = c->older;

        v->chunk_bytes -= c->size;
        free(c);
        c = older;
    }
}

/* Forgets every argument; one chunk of ordinary size stays for the next command. */
static void arena_reset(struct parse_priv *v)
{
    struct chunk *c = v->chunk;

    v->open = 0;
    if (c != NULL && c->size <= CHUNK_KEEP) {
        free_chunks(v, c->older);
        c->older = NULL;
        c->used = 0;
        return;
    }
    free_chunks(v, c);
    v->chunk = NULL;
}

static void free_argv(struct parse *p)
{
    if (p->argv != p->priv->first)
        free(p->argv);
    p->argv = p->priv->first;
    p->priv->argv_size = ARGS_FIRST;
}

void parse_fini(struct parse *p, void (*drop)(void *owner))
{
    if (p->priv == NULL)
        return;
    drop_owners(p, drop);
    free_chunks(p->priv, p->priv->chunk);
    free_argv(p);
    free(p->priv->line);
    free(p->priv);
    *p = (struct parse){0};
}

static enum parse_status fail(struct parse *p, const char *error)
{
    p->error = error;
    p->priv->state = STATE_FAILED;
    return PARSE_ERROR;
}

/* Makes n more bytes behind the open argument's contiguous; NULL: no memory. */
static uint8_t *arena_extend(struct parse_priv *v, size_t n)
{
    struct chunk *old = v->chunk, *c = old;
    size_t size;

    if (c == NULL || c->size - c->used < n) {
        size = c != NULL ? c->size * 2 : CHUNK_MIN;
        if (size > CHUNK_MAX)
            size = CHUNK_MAX;
        while (size < v->open + n)
            size *= 2;
        c = malloc(sizeof(*c) + size);
        if (c == NULL)
            return NULL;
        *c = (struct chunk){.older = old, .size = size, .used = v->open};
        if (v->open > 0) {
            old->used -= v->open;
            memcpy(c->bytes, old->bytes + old->used, v->open);
        }
        v->chunk = c;
        v->chunk_bytes += size;
    }
    c->used += n;
    v->open += n;
    return c->bytes + c->used - n;
}

static bool push_arg(struct parse *p, const uint8_t *ptr, size_t len, void *owner)
{
    struct parse_priv *v = p->priv;

    if ((size_t)p->argc == v->argv_size) {
        size_t size = v->argv_size * 2;
        struct parse_arg *argv = malloc(size * sizeof(*argv));

        if (argv == NULL)
            return false;
        memcpy(argv, p->argv, v->argv_size * sizeof(*argv));
        free_argv(p);
        p->argv = argv;
        v->argv_size = size;
    }
    p->argv[p->argc++] = (struct parse_arg){ptr, len, owner};
    return true;
}

/* The open bytes become an argument. */
static bool push_open(struct parse *p)
{
    struct parse_priv *v = p->priv;
    const uint8_t *ptr =
        v->open > 0 ? v->chunk->bytes + v->chunk->used - v->open : (const uint8_t *)"";
    size_t len = v->open;

    v->open = 0;
    return push_arg(p, ptr, len, NULL);
}

/* What the command holds in small arguments once n bytes and one argument are added. */
static bool small_fits(const struct parse *p, size_t n)
{
    const struct parse_priv *v = p->priv;
    size_t table = ((size_t)p->argc + 1) * sizeof(struct parse_arg);

    return n <= p->limits.arena_max && v->small + table <= p->limits.arena_max - n;
}

enum line { LINE_MORE, LINE_OK, LINE_BAD, LINE_LONG, LINE_NO_LF };

/* The rest of a number line that did not come, or does not lie, in one simple piece. */
static enum line number_rest(struct parse_priv *v, const uint8_t **at, const uint8_t *end,
                             int64_t *out)
{
    for (; *at < end; ++*at) {
        uint8_t c = **at;

        if (v->cr_seen) {
            ++*at;
            if (c != '\n')
                return LINE_NO_LF;
            if (v->ndigits > DIGITS_MAX || !number_parse_i64(slice_of(v->digits, v->ndigits), out))
                return LINE_BAD;
            v->cr_seen = false;
            v->ndigits = 0;
            return LINE_OK;
        }
        if (c == '\r') {
            v->cr_seen = true;
            continue;
        }
        if (v->ndigits < DIGITS_MAX)
            v->digits[v->ndigits] = (char)c;
        if (++v->ndigits >= PARSE_INLINE_MAX) /* the type byte counts */
            return LINE_LONG;
    }
    return LINE_MORE;
}

/* A number and its CRLF; what is unusual in any way goes to number_rest. */
static enum line number_line(struct parse_priv *v, const uint8_t **at, const uint8_t *end,
                             int64_t *out)
{
    const uint8_t *p = *at;
    int64_t n = 0;

    if (v->ndigits > 0 || v->cr_seen || end - p < 3 || *p < '1' || *p > '9')
        return number_rest(v, at, end, out);
    while (p < end && p - *at < 9 && *p >= '0' && *p <= '9')
        n = n * 10 + (*p++ - '0');
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
        return number_rest(v, at, end, out);
    *at = p + 2;
    *out = n;
    return LINE_OK;
}

/* The steps return PARSE_MORE to go on with the next state as long as there is input. */

static enum parse_status step_count(struct parse *p, const uint8_t **at, const uint8_t *end)
{
    struct parse_priv *v = p->priv;
    int64_t n = 0;

    switch (number_line(v, at, end, &n)) {
    case LINE_MORE:
        return PARSE_MORE;
    case LINE_LONG:
        return fail(p, "Protocol error: too big mbulk count string");
    case LINE_NO_LF:
        return fail(p, error_crlf);
    case LINE_BAD:
        return fail(p, "Protocol error: invalid multibulk length");
    case LINE_OK:
        break;
    }
    if (n > PARSE_ARGS_MAX)
        return fail(p, "Protocol error: invalid multibulk length");
    if (n > 0 && (size_t)n > p->limits.args_max)
        return fail(p, "Protocol error: unauthenticated multibulk length");
    v->args = n;
    v->state = n > 0 ? STATE_DOLLAR : STATE_START;
    return PARSE_MORE;
}

static enum parse_status step_dollar(struct parse *p, const uint8_t **at)
{
    uint8_t c = *(*at)++;

    if (c == '\0')
        c = ' '; /* the text is a C string */
    if (c == '$') {
        p->priv->state = STATE_LENGTH;
        return PARSE_MORE;
    }
    snprintf(p->priv->error, sizeof(p->priv->error), "Protocol error: expected '$', got '%c'", c);
    return fail(p, p->priv->error);
}

static bool unauthenticated(const struct parse *p)
{
    return p->limits.args_max < PARSE_ARGS_MAX;
}

static enum parse_status step_length(struct parse *p, const uint8_t **at, const uint8_t *end)
{
    struct parse_priv *v = p->priv;
    int64_t n = 0;

    switch (number_line(v, at, end, &n)) {
    case LINE_MORE:
        return PARSE_MORE;
    case LINE_LONG:
        return fail(p, "Protocol error: too big bulk count string");
    case LINE_NO_LF:
        return fail(p, error_crlf);
    case LINE_BAD:
        return fail(p, "Protocol error: invalid bulk length");
    case LINE_OK:
        break;
    }
    if (n >= 0 && (uint64_t)n > p->limits.bulk_max && unauthenticated(p))
        return fail(p, "Protocol error: unauthenticated bulk length");
    if (n < 0 || (uint64_t)n > p->limits.bulk_max)
        return fail(p, "Protocol error: invalid bulk length");
    v->bulk = (size_t)n;
    v->got = 0;
    if (v->bulk > PARSE_DIRECT_MIN) {
        v->state = STATE_ASK;
        p->direct_len = v->bulk;
        return PARSE_DIRECT;
    }
    if (!small_fits(p, v->bulk))
        return fail(p, error_too_big);
    v->small += v->bulk;
    v->state = v->bulk > 0 ? STATE_BODY : STATE_CRLF;
    return PARSE_MORE;
}

static enum parse_status step_body(struct parse *p, const uint8_t **at, const uint8_t *end)
{
    struct parse_priv *v = p->priv;
    size_t n = v->bulk - v->got;
    uint8_t *to;

    if (n > (size_t)(end - *at))
        n = (size_t)(end - *at);
    to = arena_extend(v, n);
    if (to == NULL)
        return fail(p, error_nomem);
    memcpy(to, *at, n);
    *at += n;
    v->got += n;
    if (v->got == v->bulk)
        v->state = STATE_CRLF;
    return PARSE_MORE;
}

/* DIRECT and DISCARD: bytes that were read before the destination was known. */
static void step_large(struct parse_priv *v, const uint8_t **at, const uint8_t *end)
{
    size_t n = v->bulk - v->got;

    if (n > (size_t)(end - *at))
        n = (size_t)(end - *at);
    if (v->state == STATE_DIRECT)
        memcpy(v->dst + v->got, *at, n);
    *at += n;
    v->got += n;
    if (v->got == v->bulk)
        v->state = STATE_CRLF;
}

static bool finish_arg(struct parse *p)
{
    struct parse_priv *v = p->priv;
    bool ok;

    if (v->bulk <= PARSE_DIRECT_MIN)
        return push_open(p);
    if (v->dst == NULL)
        return push_arg(p, (const uint8_t *)"", 0, NULL); /* discarded */
    ok = push_arg(p, v->dst, v->bulk, v->owner);
    if (ok)
        v->owner = NULL;
    v->dst = NULL;
    return ok;
}

static enum parse_status step_crlf(struct parse *p, const uint8_t **at, const uint8_t *end)
{
    struct parse_priv *v = p->priv;

    if (!v->cr_seen) {
        if (*(*at)++ != '\r')
            return fail(p, error_crlf);
        v->cr_seen = true;
        if (*at == end)
            return PARSE_MORE;
    }
    if (*(*at)++ != '\n')
        return fail(p, error_crlf);
    v->cr_seen = false;
    if (!finish_arg(p))
        return fail(p, error_nomem);
    v->state = --v->args > 0 ? STATE_DOLLAR : STATE_DONE;
    return v->state == STATE_DONE ? PARSE_COMMAND : PARSE_MORE;
}

/* Keeps a piece of an inline command until its line is complete. */
static bool keep_line(struct parse_priv *v, const uint8_t *data, size_t n)
{
    size_t size = v->line_size > 0 ? v->line_size : LINE_MIN;
    uint8_t *line = v->line;

    while (size < v->line_len + n)
        size *= 2;
    if (size > v->line_size) {
        line = realloc(line, size);
        if (line == NULL)
            return false;
        v->line = line;
        v->line_size = size;
    }
    memcpy(line + v->line_len, data, n);
    v->line_len += n;
    return true;
}

/* The words of a line become the arguments. */
static enum parse_status split_line(struct parse *p, struct slice line)
{
    struct parse_priv *v = p->priv;
    enum words_status status;
    uint8_t *out;
    size_t len;

    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    if (!small_fits(p, line.len))
        return fail(p, error_too_big);
    out = arena_extend(v, line.len);
    if (out == NULL)
        return fail(p, error_nomem);
    v->open = 0; /* one place for all the words */
    while ((status = words_next(&line, out, &len)) == WORDS_ONE) {
        if (!push_arg(p, out, len, NULL))
            return fail(p, error_nomem);
        out += len;
    }
    if (status == WORDS_UNBALANCED)
        return fail(p, "Protocol error: unbalanced quotes in request");
    v->line_len = 0;
    v->state = p->argc > 0 ? STATE_DONE : STATE_START;
    if (p->argc == 0)
        arena_reset(v);
    return p->argc > 0 ? PARSE_COMMAND : PARSE_MORE;
}

static enum parse_status step_inline(struct parse *p, const uint8_t **at, const uint8_t *end)
{
    struct parse_priv *v = p->priv;
    const uint8_t *lf = memchr(*at, '\n', (size_t)(end - *at));
    struct slice piece = slice_of(*at, (size_t)((lf != NULL ? lf : end) - *at));

    if (v->line_len + piece.len > PARSE_INLINE_MAX)
        return fail(p, "Protocol error: too big inline request");
    *at = lf != NULL ? lf + 1 : end;
    if (lf != NULL && v->line_len == 0)
        return split_line(p, piece);
    if (!keep_line(v, piece.ptr, piece.len))
        return fail(p, error_nomem);
    return lf != NULL ? split_line(p, slice_of(v->line, v->line_len)) : PARSE_MORE;
}

static enum parse_status step(struct parse *p, const uint8_t **at, const uint8_t *end)
{
    switch (p->priv->state) {
    case STATE_START:
        p->priv->state = **at == '*' ? STATE_COUNT : STATE_INLINE;
        *at += **at == '*';
        return PARSE_MORE;
    case STATE_INLINE:
        return step_inline(p, at, end);
    case STATE_COUNT:
        return step_count(p, at, end);
    case STATE_DOLLAR:
        return step_dollar(p, at);
    case STATE_LENGTH:
        return step_length(p, at, end);
    case STATE_BODY:
        return step_body(p, at, end);
    case STATE_DIRECT:
    case STATE_DISCARD:
        step_large(p->priv, at, end);
        return PARSE_MORE;
    case STATE_CRLF:
        return step_crlf(p, at, end);
    case STATE_ASK:
        return PARSE_DIRECT;
    case STATE_FAILED:
        return PARSE_ERROR;
    case STATE_DONE:
        break;
    }
    PANIC("parse_feed after a command that was not taken");
}

enum parse_status parse_feed(struct parse *p, const uint8_t *data, size_t len, size_t *used)
{
    const uint8_t *at = data, *end = data + len;
    enum parse_status status = PARSE_MORE;

    ASSERT(p->priv != NULL && p->priv->state != STATE_DONE);
    if (p->priv->state == STATE_ASK)
        status = PARSE_DIRECT;
    while (status == PARSE_MORE && at < end)
        status = step(p, &at, end);
    *used = (size_t)(at - data);
    return status;
}

void parse_direct(struct parse *p, uint8_t *dst, void *owner)
{
    ASSERT(p->priv->state == STATE_ASK && dst != NULL && p->priv->owner == NULL);
    p->priv->dst = dst;
    p->priv->owner = owner;
    p->priv->state = STATE_DIRECT;
}

void parse_drop_held(struct parse *p, void (*drop)(void *owner))
{
    ASSERT(p->priv->state == STATE_ASK);
    drop_owners(p, drop);
    for (int i = 0; i < p->argc; i++)
        if (p->argv[i].owner != NULL)
            p->argv[i] = (struct parse_arg){(const uint8_t *)"", 0, NULL};
}

void parse_discard(struct parse *p)
{
    ASSERT(p->priv->state == STATE_ASK && p->priv->dst == NULL);
    p->discarded = true;
    p->priv->state = STATE_DISCARD;
}

bool parse_window(struct parse *p, uint8_t **dst, size_t *len)
{
    const struct parse_priv *v = p->priv;

    if (v->state != STATE_DIRECT)
        return false;
    *dst = v->dst + v->got;
    *len = v->bulk - v->got;
    return true;
}

void parse_advance(struct parse *p, size_t received)
{
    struct parse_priv *v = p->priv;

    ASSERT(v->state == STATE_DIRECT && received <= v->bulk - v->got);
    v->got += received;
    if (v->got == v->bulk)
        v->state = STATE_CRLF;
}

void parse_next_command(struct parse *p, void (*drop)(void *owner))
{
    struct parse_priv *v = p->priv;

    ASSERT(v->state == STATE_DONE);
    drop_owners(p, drop);
    p->argc = 0;
    p->discarded = false;
    v->small = 0;
    arena_reset(v);
    if (v->argv_size > ARGS_KEEP)
        free_argv(p);
    if (v->line_size > LINE_MIN) {
        free(v->line);
        v->line = NULL;
        v->line_size = 0;
    }
    v->state = STATE_START;
}

bool parse_inside(const struct parse *p)
{
    enum state s = p->priv->state;

    return s != STATE_START && s != STATE_DONE && s != STATE_FAILED;
}

size_t parse_memory(const struct parse *p)
{
    const struct parse_priv *v = p->priv;
    size_t heap_args = p->argv != v->first ? v->argv_size : 0;

    return sizeof(*v) + v->chunk_bytes + v->line_size + heap_args * sizeof(struct parse_arg);
}
