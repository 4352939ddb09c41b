/* SPDX-License-Identifier: MIT */
/* Reading directives from a conf file and from the command line. A line is words as redis.conf has
 * them (base/words.h); a directive that takes text takes all its words, joined by one blank
 * (bind a b).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/words.h"
#include "config/config_int.h"

enum word { WORD_NONE, WORD_ONE, WORD_BAD };

/* The next word of *rest into out, which has room for the rest of a line. */
static enum word next_word(struct slice *rest, char *out)
{
    size_t len = 0;
    enum words_status status = words_next(rest, (uint8_t *)out, &len);

    out[status == WORDS_ONE ? len : 0] = '\0';
    if (status == WORDS_UNBALANCED || memchr(out, '\0', len) != NULL)
        return WORD_BAD;
    return status == WORDS_ONE ? WORD_ONE : WORD_NONE;
}

static int unknown(const char *where, const char *name, char *detail)
{
    return config_refuse(detail,
                         "%s: unknown directive '%.80s': conf/sldmkv.conf lists all that exist",
                         where, name);
}

static int bad_word(const char *where, const char *directive, char *detail)
{
    return config_refuse(detail,
                         "%s: directive '%s': a quote is not closed, text follows a closing one, "
                         "or there is a byte 0",
                         where, directive);
}

static bool is_comment(struct slice line)
{
    size_t at = 0;

    while (at < line.len && (line.ptr[at] == ' ' || line.ptr[at] == '\t'))
        at++;
    return at < line.len && line.ptr[at] == '#';
}

static int load_line(struct config *c, struct slice line, const char *where, char *detail)
{
    char name[CONFIG_LINE_MAX], value[CONFIG_LINE_MAX], word[CONFIG_LINE_MAX];
    const struct config_row *row;
    enum word status;
    bool more = false;

    if (is_comment(line))
        return 0;
    status = next_word(&line, name);
    if (status == WORD_NONE)
        return 0;
    if (status == WORD_BAD)
        return bad_word(where, "?", detail);
    row = config_find(name, strlen(name));
    if (row == NULL)
        return unknown(where, name, detail);
    value[0] = '\0';
    while ((status = next_word(&line, word)) == WORD_ONE) {
        if (more)
            strcat(value, " ");
        strcat(value, word); /* words of one line cannot be longer than the line */
        more = true;
    }
    if (status == WORD_BAD)
        return bad_word(where, row->name, detail);
    if (!more && row->type == CONFIG_BOOL)
        strcpy(value, "yes");
    return config_set(c, row, value, where, detail);
}

/* The next line without its end; false: there is none. out: CONFIG_LINE_MAX bytes; a longer line
 * has *len CONFIG_LINE_MAX. fgets would hide a byte 0. */
static bool next_line(FILE *f, char *out, size_t *len)
{
    int b = getc(f);

    *len = 0;
    if (b == EOF)
        return false;
    for (; b != EOF && b != '\n' && *len < CONFIG_LINE_MAX; b = getc(f))
        out[(*len)++] = (char)b;
    return true;
}

int config_load_file(struct config *c, const char *path, char *detail)
{
    char line[CONFIG_LINE_MAX], where[256];
    FILE *f = fopen(path, "re");
    size_t len;
    int err = 0;

    if (f == NULL)
        return config_refuse(detail, "cannot read the conf file '%s': %s", path, strerror(errno));
    for (unsigned n = 1; err == 0 && next_line(f, line, &len); n++) {
        snprintf(where, sizeof(where), "%.200s:%u", path, n);
        if (len == CONFIG_LINE_MAX)
            err =
                config_refuse(detail, "%s: line longer than %d bytes", where, CONFIG_LINE_MAX - 1);
        else
            err = load_line(c, slice_of(line, len), where, detail);
    }
    if (err == 0 && ferror(f))
        err = config_refuse(detail, "cannot read the conf file '%s': %s", path, strerror(errno));
    fclose(f);
    return err;
}

/* One flag and the words up to the next one; returns how many arguments were used, or ERR_. */
static int load_flag(struct config *c, int argc, char **argv, char *detail)
{
    static const char where[] = "command line";
    const char *name = argv[0] + 2;
    const char *equals = strchr(name, '=');
    size_t name_len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct config_row *row = config_find(name, name_len);
    char value[CONFIG_LINE_MAX];
    size_t len = 0;
    int used = 1;
    int err;

    if (row == NULL)
        return unknown(where, argv[0], detail);
    value[0] = '\0';
    if (equals != NULL)
        len = (size_t)snprintf(value, sizeof(value), "%s", equals + 1);
    while (equals == NULL && used < argc && strncmp(argv[used], "--", 2) != 0 &&
           len < sizeof(value)) {
        len += (size_t)snprintf(value + len, sizeof(value) - len, "%s%s", used > 1 ? " " : "",
                                argv[used]);
        used++;
    }
    if (len >= sizeof(value))
        return config_refuse(detail, "%s: directive '%s': value too long", where, row->name);
    if (used == 1 && equals == NULL) {
        if (row->type != CONFIG_BOOL)
            return config_refuse(detail, "%s: directive '%s' needs a value", where, row->name);
        strcpy(value, "yes");
    }
    err = config_set(c, row, value, where, detail);
    return err != 0 ? err : used;
}

int config_load_args(struct config *c, int argc, char **argv, char *detail)
{
    int i = 0;

    if (argc > 0 && strncmp(argv[0], "--", 2) != 0) {
        int err = config_load_file(c, argv[0], detail);

        if (err != 0)
            return err;
        i = 1;
    }
    while (i < argc) {
        int used;

        if (strncmp(argv[i], "--", 2) != 0)
            return config_refuse(detail,
                                 "command line: '%.80s' is no directive: write --directive value",
                                 argv[i]);
        used = load_flag(c, argc - i, argv + i, detail);
        if (used < 0)
            return used;
        i += used;
    }
    return 0;
}

static bool is_default(const struct config *c, const char *name)
{
    const struct config_row *row = config_find(name, strlen(name));
    char text[CONFIG_LINE_MAX];

    config_get(c, row, text);
    return strcmp(text, row->def) == 0;
}

int config_check(const struct config *c, char *detail)
{
    if (c->listen[0] != '\0' && (!is_default(c, "bind") || !is_default(c, "port")))
        return config_refuse(
            detail, "directive 'listen' excludes 'bind' and 'port': give one or the others");
    if (c->port == 0 && c->listen[0] == '\0' && c->unixsocket[0] == '\0')
        return config_refuse(detail,
                             "nothing to listen on: 'port' is 0 and there is no 'unixsocket'");
    return 0;
}
