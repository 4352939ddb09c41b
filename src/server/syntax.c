/* SPDX-License-Identifier: MIT */
/* A recursive descent over the text. Repetition is recognised by text: "[x ...]" directly behind
 * the same x, because that is how documentation writes it.
 */
#include "server/syntax.h"

#include <stddef.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"

struct list {
    struct syntax_arg *head, **tail;
    unsigned count;
};

struct parser {
    const char *at;
    unsigned depth;
};

static int parse_alternatives(struct parser *p, const char *stop, struct list *out, bool *choice,
                              bool *dots);

void syntax_free(struct syntax_arg *list)
{
    while (list != NULL) {
        struct syntax_arg *next = list->next;

        syntax_free(list->children);
        free(list);
        list = next;
    }
}

const char *syntax_type_name(enum syntax_type type)
{
    static const char *const names[] = {
        [SYNTAX_STRING] = "string",
        [SYNTAX_INTEGER] = "integer",
        [SYNTAX_KEY] = "key",
        [SYNTAX_PATTERN] = "pattern",
        [SYNTAX_UNIX_TIME] = "unix-time",
        [SYNTAX_PURE_TOKEN] = "pure-token",
        [SYNTAX_ONEOF] = "oneof",
        [SYNTAX_BLOCK] = "block",
    };

    return names[type];
}

/* The type follows from the name, as a reader would guess it. */
static enum syntax_type type_of(const char *name)
{
    static const struct {
        const char *name;
        enum syntax_type type;
    } known[] = {
        {"key", SYNTAX_KEY},
        {"newkey", SYNTAX_KEY},
        {"source", SYNTAX_KEY},
        {"destination", SYNTAX_KEY},
        {"pattern", SYNTAX_PATTERN},
        {"unix-time-seconds", SYNTAX_UNIX_TIME},
        {"unix-time-milliseconds", SYNTAX_UNIX_TIME},
        {"seconds", SYNTAX_INTEGER},
        {"milliseconds", SYNTAX_INTEGER},
        {"offset", SYNTAX_INTEGER},
        {"length", SYNTAX_INTEGER},
        {"start", SYNTAX_INTEGER},
        {"end", SYNTAX_INTEGER},
        {"count", SYNTAX_INTEGER},
        {"limit", SYNTAX_INTEGER},
        {"increment", SYNTAX_INTEGER},
        {"decrement", SYNTAX_INTEGER},
        {"index", SYNTAX_INTEGER},
        {"cursor", SYNTAX_INTEGER},
        {"protover", SYNTAX_INTEGER},
        {"tokens", SYNTAX_INTEGER},
        {"timeout", SYNTAX_INTEGER},
        {"client-id", SYNTAX_INTEGER},
        {"destination-db", SYNTAX_INTEGER},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].type;
    return SYNTAX_STRING;
}

static void put(struct list *l, struct syntax_arg *a)
{
    if (l->tail == NULL)
        l->tail = &l->head;
    *l->tail = a;
    l->tail = &a->next;
    l->count++;
}

static struct syntax_arg *new_arg(enum syntax_type type, const char *name)
{
    struct syntax_arg *a = calloc(1, sizeof(*a));

    if (a == NULL)
        PANIC("out of memory");
    a->type = type;
    snprintf(a->name, sizeof(a->name), "%s", name);
    return a;
}

/* Several arguments as one, named after all of them. */
static struct syntax_arg *new_group(enum syntax_type type, struct syntax_arg *children)
{
    struct syntax_arg *a = new_arg(type, "");
    size_t len = 0;

    a->children = children;
    for (const struct syntax_arg *c = children; c != NULL && len < sizeof(a->name); c = c->next)
        len += (size_t)snprintf(a->name + len, sizeof(a->name) - len, "%s%s", len > 0 ? "_" : "",
                                c->name);
    return a;
}

static struct syntax_arg *one_of_list(struct list *l, bool choice)
{
    if (l->count == 1)
        return l->head;
    return new_group(choice ? SYNTAX_ONEOF : SYNTAX_BLOCK, l->head);
}

static void skip_blanks(struct parser *p)
{
    while (*p->at == ' ')
        p->at++;
}

static bool is_word(char c)
{
    return c != '\0' && c != ' ' && strchr("[]<>|", c) == NULL;
}

static bool at_dots(const struct parser *p)
{
    return strncmp(p->at, "...", 3) == 0 && !is_word(p->at[3]);
}

static bool at_lower(const struct parser *p)
{
    bool lower = false;

    for (const char *c = p->at; is_word(*c); c++)
        lower |= islower((unsigned char)*c) != 0;
    return lower;
}

static int take_word(struct parser *p, char *out)
{
    size_t len = 0;

    while (is_word(p->at[len]))
        len++;
    if (len == 0 || len >= SYNTAX_NAME_MAX)
        return ERR_INVAL;
    memcpy(out, p->at, len);
    out[len] = '\0';
    p->at += len;
    skip_blanks(p);
    return 0;
}

static int parse_argument(struct parser *p, struct list *out)
{
    char name[SYNTAX_NAME_MAX];
    int err = take_word(p, name);

    if (err == 0)
        put(out, new_arg(type_of(name), name));
    return err;
}

/* "[…]" or "<…>", the bracket at p->at. */
static int parse_group(struct parser *p, char close, struct syntax_arg **out, unsigned *count,
                       bool *dots)
{
    const char stop[2] = {close, '\0'};
    struct list inner = {NULL, NULL, 0};
    bool choice = false;
    int err = 0;

    *dots = false;
    if (++p->depth > SYNTAX_DEPTH_MAX)
        return ERR_INVAL;
    p->at++;
    err = parse_alternatives(p, stop, &inner, &choice, dots);
    if (err == 0 && (*p->at != close || inner.head == NULL))
        err = ERR_INVAL;
    if (err != 0) {
        syntax_free(inner.head);
        return err;
    }
    p->at++;
    skip_blanks(p);
    p->depth--;
    *count = choice ? 1 : inner.count;
    *out = one_of_list(&inner, choice);
    return 0;
}

static int parse_token(struct parser *p, struct list *out)
{
    char token[SYNTAX_NAME_MAX], lower[SYNTAX_NAME_MAX];
    struct list args = {NULL, NULL, 0};
    struct syntax_arg *a;
    unsigned count;
    bool dots;
    int err = take_word(p, token);

    if (err == 0 && *p->at == '<') {
        err = parse_group(p, '>', &a, &count, &dots);
        if (err == 0)
            put(&args, a);
    }
    while (err == 0 && args.count == 0 && at_lower(p) && !at_dots(p))
        do
            err = parse_argument(p, &args);
        while (err == 0 && at_lower(p));
    if (err != 0) {
        syntax_free(args.head);
        return err;
    }
    for (size_t i = 0; i < sizeof(token); i++)
        lower[i] = (char)tolower((unsigned char)token[i]);
    a = args.count == 0 ? new_arg(SYNTAX_PURE_TOKEN, lower) : one_of_list(&args, false);
    memcpy(a->token, token, sizeof(token));
    put(out, a);
    return 0;
}

/* The last `count` of l become one. */
static void fold_last(struct list *l, unsigned count)
{
    struct syntax_arg **at = &l->head;
    struct syntax_arg *block;

    for (unsigned i = count; i < l->count; i++)
        at = &(*at)->next;
    block = new_group(SYNTAX_BLOCK, *at);
    *at = block;
    l->tail = &block->next;
    l->count -= count - 1;
}

/* "[x ...]" at `open`: does the text before it end in x? */
static bool repeats(const char *start, const char *open, const char *end)
{
    const char *inner = open + 1;
    size_t len = (size_t)(strstr(inner, "...") - inner), before;

    if (inner + len > end)
        return false;
    while (len > 0 && inner[len - 1] == ' ')
        len--;
    while (open > start && open[-1] == ' ')
        open--;
    before = (size_t)(open - start);
    return len > 0 && before >= len && memcmp(open - len, inner, len) == 0 &&
           (before == len || !is_word(*(open - len - 1)));
}

static int parse_optional(struct parser *p, const char *start, struct list *out)
{
    const char *open = p->at;
    struct syntax_arg *a = NULL;
    unsigned count;
    bool dots;
    int err = parse_group(p, ']', &a, &count, &dots);

    if (err != 0)
        return err;
    if (dots && out->head != NULL && repeats(start, open, p->at)) {
        bool with_token = a->token[0] != '\0';

        syntax_free(a);
        if (count > out->count)
            return ERR_INVAL;
        if (count > 1)
            fold_last(out, count);
        a = out->head;
        while (a->next != NULL)
            a = a->next;
        a->multiple = true;
        a->multiple_token = with_token;
        return 0;
    }
    a->optional = true;
    a->multiple |= dots;
    put(out, a);
    return 0;
}

static int parse_sequence(struct parser *p, const char *stop, struct list *out, bool *dots)
{
    const char *start = p->at;
    int err = 0;

    while (err == 0 && *p->at != '\0' && *p->at != '|' && strchr(stop, *p->at) == NULL) {
        struct syntax_arg *a;
        unsigned count;
        bool inner_dots;

        if (at_dots(p)) {
            *dots = true;
            p->at += 3;
            skip_blanks(p);
            return strchr(stop, *p->at) != NULL && *p->at != '\0' ? 0 : ERR_INVAL;
        }
        if (*p->at == '[') {
            err = parse_optional(p, start, out);
        } else if (*p->at == '<') {
            err = parse_group(p, '>', &a, &count, &inner_dots);
            if (err == 0)
                put(out, a);
        } else if (at_lower(p)) {
            err = parse_argument(p, out);
        } else {
            err = parse_token(p, out);
        }
    }
    return err;
}

/* Sequences between '|': one is handed out as it is, several as the children of a choice. */
static int parse_alternatives(struct parser *p, const char *stop, struct list *out, bool *choice,
                              bool *dots)
{
    int err;

    *choice = false;
    skip_blanks(p);
    for (;;) {
        struct list one = {NULL, NULL, 0};

        err = parse_sequence(p, stop, &one, dots);
        if (err == 0 && one.head == NULL && (*choice || *p->at == '|'))
            err = ERR_INVAL;
        if (err != 0) {
            syntax_free(one.head);
            return err;
        }
        if (*p->at != '|' && !*choice) {
            *out = one;
            if (out->head == NULL)
                return 0;
            out->tail = &out->head;
            while (*out->tail != NULL)
                out->tail = &(*out->tail)->next;
            return 0;
        }
        put(out, one_of_list(&one, false));
        *choice = true;
        if (*p->at != '|')
            return 0;
        p->at++;
        skip_blanks(p);
    }
}

int syntax_parse(const char *text, struct syntax_arg **out)
{
    struct parser p = {text, 0};
    struct list l = {NULL, NULL, 0};
    bool choice, dots = false;
    int err = parse_alternatives(&p, "", &l, &choice, &dots);

    if (err == 0 && *p.at != '\0')
        err = ERR_INVAL;
    if (err != 0) {
        syntax_free(l.head);
        return err;
    }
    *out = choice ? new_group(SYNTAX_ONEOF, l.head) : l.head;
    return 0;
}
