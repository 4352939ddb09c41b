/* SPDX-License-Identifier: MIT */
/* COMMAND: the command table, told to clients. Nothing here knows a command by name. */
#include <stdio.h>

#include "base/assert.h"
#include "base/glob.h"
#include "base/number.h"
#include "server/cmd_server.h"
#include "server/help.h"
#include "server/syntax.h"

#define WORDS_MAX 24
#define KEY_SPECS_MAX 2

/* Words of a row, collected before they are counted and sent. */
struct words {
    const char *word[WORDS_MAX];
    size_t count;
};

static void put(struct words *w, bool yes, const char *word)
{
    if (!yes)
        return;
    ASSERT(w->count < WORDS_MAX);
    w->word[w->count++] = word;
}

static void flags_of(const struct command *c, struct words *w)
{
    static const struct {
        unsigned flag;
        const char *word;
    } names[] = {
        {CMD_WRITE, "write"},       {CMD_READONLY, "readonly"},
        {CMD_DENYOOM, "denyoom"},   {CMD_ADMIN, "admin"},
        {CMD_NOSCRIPT, "noscript"}, {CMD_LOADING, "loading"},
        {CMD_STALE, "stale"},       {CMD_SKIP_SLOWLOG, "skip_slowlog"},
        {CMD_FAST, "fast"},         {CMD_NO_AUTH, "no_auth"},
        {CMD_NO_MULTI, "no_multi"}, {CMD_ALLOW_BUSY, "allow_busy"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        put(w, (c->flags & names[i].flag) != 0, names[i].word);
}

/* Some categories follow from flags, as in Redis. */
static void categories_of(const struct command *c, struct words *w)
{
    bool admin = (c->flags & CMD_ADMIN) != 0 || (c->categories & CAT_ADMIN) != 0;

    put(w, (c->categories & CAT_KEYSPACE) != 0, "@keyspace");
    put(w, (c->flags & CMD_READONLY) != 0, "@read");
    put(w, (c->flags & CMD_WRITE) != 0, "@write");
    put(w, (c->categories & CAT_STRING) != 0, "@string");
    put(w, admin, "@admin");
    put(w, (c->flags & CMD_FAST) != 0, "@fast");
    put(w, (c->flags & CMD_FAST) == 0, "@slow");
    put(w, admin || (c->categories & CAT_DANGEROUS) != 0, "@dangerous");
    put(w, (c->categories & CAT_CONNECTION) != 0, "@connection");
    put(w, (c->categories & CAT_TRANSACTION) != 0, "@transaction");
    put(w, (c->categories & CAT_SCRIPTING) != 0, "@scripting");
    put(w, (c->categories & CAT_KVCACHE) != 0, "@kvcache");
}

struct key_spec {
    struct words flags;
    const char *notes; /* NULL = none */
};

/* A row's keys: one spec, or one for each of its two keys. */
struct key_specs {
    char text[160]; /* the words lie in it */
    struct key_spec spec[KEY_SPECS_MAX];
    size_t count;
};

static void split_words(char *text, struct words *out)
{
    char *rest = text;
    const char *word;

    while ((word = strsep(&rest, " ")) != NULL)
        put(out, word[0] != '\0', word);
}

static void key_specs_of(const struct command *c, struct key_specs *out)
{
    const char *keys = c->keys;
    char *rest = out->text, *one;

    *out = (struct key_specs){.count = 0};
    if (c->first_key == 0)
        return;
    if (keys == NULL)
        keys = c->flags & CMD_WRITE ? "RW update" : "RO access";
    ASSERT(strlen(keys) < sizeof(out->text));
    memcpy(out->text, keys, strlen(keys) + 1);
    while ((one = strsep(&rest, "|")) != NULL) {
        struct key_spec *spec = &out->spec[out->count++];

        ASSERT(out->count <= KEY_SPECS_MAX);
        split_words(strsep(&one, "#"), &spec->flags);
        spec->notes = one;
    }
}

static void emit_words(struct emit *e, const struct words *w)
{
    emit_set(e, w->count);
    for (size_t i = 0; i < w->count; i++)
        emit_status(e, w->word[i]);
}

static size_t count_subs(const struct command *c)
{
    size_t n = 0;

    while (c->subs != NULL && c->subs[n].name != NULL)
        n++;
    return n;
}

static bool shown(const struct command *c)
{
    return (c->flags & CMD_INTERNAL) == 0;
}

static size_t count_commands(void)
{
    const struct command *c;
    size_t n = 0;

    for (size_t i = 0; (c = command_at(i)) != NULL; i++)
        n += shown(c);
    return n;
}

/* ---- COMMAND, COMMAND INFO --------------------------------------------------------------- */

static void emit_key_spec(struct emit *e, const struct key_spec *spec, int first, int last,
                          int step)
{
    emit_map(e, 3 + (spec->notes != NULL));
    if (spec->notes != NULL) {
        emit_bulk_str(e, "notes");
        emit_bulk_str(e, spec->notes);
    }
    emit_bulk_str(e, "flags");
    emit_words(e, &spec->flags);
    emit_bulk_str(e, "begin_search");
    emit_map(e, 2);
    emit_bulk_str(e, "type");
    emit_bulk_str(e, "index");
    emit_bulk_str(e, "spec");
    emit_map(e, 1);
    emit_bulk_str(e, "index");
    emit_int(e, first);
    emit_bulk_str(e, "find_keys");
    emit_map(e, 2);
    emit_bulk_str(e, "type");
    emit_bulk_str(e, "range");
    emit_bulk_str(e, "spec");
    emit_map(e, 3);
    emit_bulk_str(e, "lastkey"); /* counted from the first */
    emit_int(e, last);
    emit_bulk_str(e, "keystep");
    emit_int(e, step);
    emit_bulk_str(e, "limit");
    emit_int(e, 0);
}

static void emit_key_specs(struct emit *e, const struct command *c)
{
    int last = c->last_key < 0 ? c->last_key : c->last_key - c->first_key;
    struct key_specs specs;

    key_specs_of(c, &specs);
    emit_set(e, specs.count);
    for (size_t i = 0; i < specs.count; i++)
        emit_key_spec(e, &specs.spec[i], c->first_key + (int)i, specs.count > 1 ? 0 : last,
                      c->key_step);
}

static void emit_tips(struct emit *e, const struct command *c)
{
    struct words tips = {.count = 0};
    char text[128];

    snprintf(text, sizeof(text), "%s", c->tips != NULL ? c->tips : "");
    split_words(text, &tips);
    emit_set(e, tips.count);
    for (size_t i = 0; i < tips.count; i++)
        emit_bulk_str(e, tips.word[i]);
}

static void emit_info_row(struct emit *e, const struct command *c)
{
    struct words flags = {.count = 0}, categories = {.count = 0};

    flags_of(c, &flags);
    categories_of(c, &categories);
    emit_array(e, 10);
    emit_bulk_str(e, c->name);
    emit_int(e, c->arity);
    emit_words(e, &flags);
    emit_int(e, c->first_key);
    emit_int(e, c->last_key);
    emit_int(e, c->key_step);
    emit_words(e, &categories);
    emit_tips(e, c);
    emit_key_specs(e, c);
}

/* With its subcommands, whose own lists are empty. */
static void emit_info(struct emit *e, const struct command *c)
{
    size_t subs = count_subs(c);

    emit_info_row(e, c);
    if (subs > 0)
        emit_array(e, subs);
    else
        emit_set(e, 0); /* as Redis, with RESP3 too */
    for (size_t i = 0; i < subs; i++) {
        emit_info_row(e, &c->subs[i]);
        emit_set(e, 0);
    }
}

void cmd_command_run(struct request *rq)
{
    struct emit *e = request_emit(rq);
    const struct command *c;

    emit_array(e, count_commands());
    for (size_t i = 0; (c = command_at(i)) != NULL; i++)
        if (shown(c))
            emit_info(e, c);
}

static void info_run(struct request *rq)
{
    struct emit *e = request_emit(rq);

    if (rq->argc == 2) {
        cmd_command_run(rq);
        return;
    }
    emit_array(e, (size_t)rq->argc - 2);
    for (int i = 2; i < rq->argc; i++) {
        const struct command *c = command_find_full(rq->argv[i]);

        if (c == NULL)
            emit_nil(e);
        else
            emit_info(e, c);
    }
}

static void count_run(struct request *rq)
{
    emit_int(request_emit(rq), (int64_t)count_commands());
}

/* ---- COMMAND DOCS ------------------------------------------------------------------------ */

struct docs { /* of one row */
    const struct command *c;
    size_t keys; /* arguments that are keys, so far */
};

static void emit_argument(struct emit *e, struct docs *d, const struct syntax_arg *a);

static void emit_arguments(struct emit *e, struct docs *d, const struct syntax_arg *list)
{
    size_t n = 0;

    for (const struct syntax_arg *a = list; a != NULL; a = a->next)
        n++;
    emit_array(e, n);
    for (const struct syntax_arg *a = list; a != NULL; a = a->next)
        emit_argument(e, d, a);
}

static void emit_argument(struct emit *e, struct docs *d, const struct syntax_arg *a)
{
    bool key = a->type == SYNTAX_KEY && d->c->first_key > 0 && a->token[0] == '\0';
    enum syntax_type type = a->type == SYNTAX_KEY && !key ? SYNTAX_STRING : a->type;
    struct words flags = {.count = 0};

    put(&flags, a->optional, "optional");
    put(&flags, a->multiple, "multiple");
    put(&flags, a->multiple_token, "multiple_token");
    emit_map(e,
             2 + (size_t)key + (a->token[0] != '\0') + (flags.count > 0) + (a->children != NULL));
    emit_bulk_str(e, "name");
    emit_bulk_str(e, a->name);
    emit_bulk_str(e, "type");
    emit_bulk_str(e, syntax_type_name(type));
    if (key) {
        struct key_specs specs;

        key_specs_of(d->c, &specs);
        emit_bulk_str(e, "key_spec_index");
        emit_int(e, (int64_t)(d->keys < specs.count ? d->keys : specs.count - 1));
        d->keys++;
    }
    if (a->token[0] != '\0') {
        emit_bulk_str(e, "token");
        emit_bulk_str(e, a->token);
    }
    if (flags.count > 0) {
        emit_bulk_str(e, "flags");
        emit_words(e, &flags);
    }
    if (a->children != NULL) {
        emit_bulk_str(e, "arguments");
        emit_arguments(e, d, a->children);
    }
}

static void emit_docs(struct emit *e, const struct command *c)
{
    struct syntax_arg *arguments = NULL;
    struct docs docs = {c, 0};
    size_t subs = count_subs(c);

    if (syntax_parse(c->syntax, &arguments) != 0)
        arguments = NULL; /* a test holds every row to the grammar */
    emit_bulk_str(e, c->name);
    emit_map(e, 3 + (size_t)(arguments != NULL) + (size_t)(subs > 0));
    emit_bulk_str(e, "summary");
    emit_bulk_str(e, c->summary);
    emit_bulk_str(e, "since");
    emit_bulk_str(e, c->since);
    emit_bulk_str(e, "group");
    emit_bulk_str(e, c->group);
    if (arguments != NULL) {
        emit_bulk_str(e, "arguments");
        emit_arguments(e, &docs, arguments);
        syntax_free(arguments);
    }
    if (subs == 0)
        return;
    emit_bulk_str(e, "subcommands");
    emit_map(e, subs);
    for (size_t i = 0; i < subs; i++)
        emit_docs(e, &c->subs[i]);
}

static void docs_run(struct request *rq)
{
    struct emit *e = request_emit(rq);
    const struct command *c;
    size_t found = 0;

    if (rq->argc == 2) {
        emit_map(e, count_commands());
        for (size_t i = 0; (c = command_at(i)) != NULL; i++)
            if (shown(c))
                emit_docs(e, c);
        return;
    }
    for (int i = 2; i < rq->argc; i++)
        found += command_find_full(rq->argv[i]) != NULL;
    emit_map(e, found);
    for (int i = 2; i < rq->argc; i++)
        if ((c = command_find_full(rq->argv[i])) != NULL)
            emit_docs(e, c);
}

/* ---- COMMAND LIST ------------------------------------------------------------------------ */

enum filter { FILTER_NONE, FILTER_MODULE, FILTER_CATEGORY, FILTER_PATTERN };

static bool matches(const struct command *c, enum filter filter, struct slice arg)
{
    struct words categories = {.count = 0};

    switch (filter) {
    case FILTER_NONE:
        return true;
    case FILTER_MODULE:
        return false; /* there are none */
    case FILTER_PATTERN:
        return arg.len <= GLOB_PATTERN_MAX && glob_match(arg, slice_str(c->name), true);
    case FILTER_CATEGORY:
        categories_of(c, &categories);
        for (size_t i = 0; i < categories.count; i++)
            if (number_is_word(arg, categories.word[i] + 1))
                return true;
        return false;
    }
    return false;
}

/* Counts the rows that match, or sends their names. */
static size_t list_names(struct emit *e, enum filter filter, struct slice arg, bool send)
{
    const struct command *c;
    size_t n = 0;

    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        size_t subs = count_subs(c);

        if (!shown(c))
            continue;
        for (size_t k = 0; k <= subs; k++) {
            const struct command *row = k == 0 ? c : &c->subs[k - 1];

            if (!matches(row, filter, arg))
                continue;
            n++;
            if (send)
                emit_bulk_str(e, row->name);
        }
    }
    return n;
}

static void list_run(struct request *rq)
{
    enum filter filter = FILTER_NONE;
    struct slice arg = {NULL, 0};
    struct emit *e;

    if (rq->argc != 2) {
        if (rq->argc != 5 || !command_is(rq, 2, "filterby")) {
            command_syntax_error(rq);
            return;
        }
        filter = command_is(rq, 3, "module")    ? FILTER_MODULE
                 : command_is(rq, 3, "aclcat")  ? FILTER_CATEGORY
                 : command_is(rq, 3, "pattern") ? FILTER_PATTERN
                                                : FILTER_NONE;
        if (filter == FILTER_NONE) {
            command_syntax_error(rq);
            return;
        }
        arg = rq->argv[4];
    }
    e = request_emit(rq);
    emit_array(e, list_names(e, filter, arg, false));
    list_names(e, filter, arg, true);
}

/* ---- COMMAND GETKEYS ---------------------------------------------------------------------- */

/* The command in argv[2…]; NULL: an error was replied. */
static const struct command *inner_command(struct request *rq)
{
    const struct command *c = command_find(rq->argv[2]);
    int argc = rq->argc - 2;

    if (c != NULL && c->subs != NULL && argc > 1)
        c = command_find_sub(c, rq->argv[3]);
    if (c == NULL || !shown(c))
        request_error(rq, "ERR Invalid command specified");
    else if (c->first_key == 0)
        request_error(rq, "ERR The command has no key arguments");
    else if (c->arity >= 0 ? argc != c->arity : argc < -c->arity)
        request_error(rq, "ERR Invalid number of arguments specified for command");
    else
        return c;
    return NULL;
}

/* SET is the one whose flags vary: it reads only where it has GET. */
static void actual_flags(const struct request *rq, const struct key_spec *spec, struct words *out)
{
    bool reads = false;

    *out = spec->flags;
    if (strcmp(out->word[out->count - 1], "variable_flags") != 0)
        return;
    for (int i = 5; i < rq->argc; i++)
        reads |= command_is(rq, i, "GET");
    out->count = 0;
    put(out, true, reads ? "RW" : "OW");
    put(out, reads, "access");
    put(out, true, "update");
}

static void emit_keys(struct request *rq, bool with_flags)
{
    const struct command *c = inner_command(rq);
    struct key_specs specs;
    struct words flags;
    struct emit *e;
    int last, count;

    if (c == NULL)
        return;
    last = c->last_key < 0 ? rq->argc - 2 + c->last_key : c->last_key;
    count = (last - c->first_key) / c->key_step + 1;
    key_specs_of(c, &specs);
    e = request_emit(rq);
    emit_array(e, (size_t)count);
    for (int i = 0; i < count; i++) {
        if (with_flags)
            emit_array(e, 2);
        emit_bulk(e, rq->argv[2 + c->first_key + i * c->key_step]);
        if (!with_flags)
            continue;
        actual_flags(rq, &specs.spec[specs.count > 1 ? i : 0], &flags);
        emit_words(e, &flags);
    }
}

static void getkeys_run(struct request *rq)
{
    emit_keys(rq, false);
}

static void getkeysandflags_run(struct request *rq)
{
    emit_keys(rq, true);
}

static void help_run(struct request *rq)
{
    static const char *const lines[] = {
        "(no subcommand)",
        "    Describe every command.",
        "COUNT",
        "    Count the commands.",
        "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
        "    Name the commands, all or those that match.",
        "INFO [<command-name> ...]",
        "    Describe these commands, or every one.",
        "DOCS [<command-name> ...]",
        "    Explain these commands and their arguments, or every one.",
        "GETKEYS <full-command>",
        "    Find the keys in a command line.",
        "GETKEYSANDFLAGS <full-command>",
        "    Find the keys in a command line, and what it does to them.",
        NULL,
    };

    help_reply(rq, lines);
}

#define ROW(name_, arity_, run_, tips_, since_, syntax_, summary_)                                 \
    {                                                                                              \
        .name = "command|" name_, .arity = (arity_), .flags = CMD_LOADING | CMD_STALE,             \
        .tips = (tips_), .categories = CAT_CONNECTION, .run = (run_), .group = "server",           \
        .since = (since_), .syntax = (syntax_), .summary = (summary_)                              \
    }

#define ORDER "nondeterministic_output_order"

const struct command subs_command[] = {
    ROW("count", 2, count_run, NULL, "2.8.13", "", "Counts the commands."),
    ROW("docs", -2, docs_run, ORDER, "7.0.0", "[command-name ...]",
        "Explains commands and their arguments."),
    ROW("getkeys", -4, getkeys_run, NULL, "2.8.13", "command [arg ...]",
        "Finds the keys in a command line."),
    ROW("getkeysandflags", -4, getkeysandflags_run, NULL, "7.0.0", "command [arg ...]",
        "Finds the keys in a command line and what it does to them."),
    ROW("info", -2, info_run, ORDER, "2.8.13", "[command-name ...]",
        "Describes the named commands, or all."),
    ROW("list", -2, list_run, ORDER, "7.0.0",
        "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
        "Names the commands, all or those that match."),
    HELP_ROW("command", CAT_CONNECTION, help_run),
    {.name = NULL},
};
