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
#include "config/config.h"

/* The next word of *rest into out, which has room for the rest of a line; false at its end. *bad: a
 * quote is not closed, or text follows a closing one. */
static bool next_word(struct slice *rest, char *out, bool *bad)
{
    size_t len = 0;
    enum words_status status = words_next(rest, (uint8_t *)out, &len);

    *bad = status == WORDS_UNBALANCED;
    out[status == WORDS_ONE ? len : 0] = '\0';
    return status == WORDS_ONE;
}

static int unknown(const char *where, const char *name, char *detail)
{
    snprintf(detail, CONFIG_DETAIL_MAX,
             "%s: unknown directive '%.80s': conf/sldmkv.conf lists all that exist", where, name);
    return ERR_INVAL;
}

static int load_line(struct config *c, const char *line, const char *where, char *detail)
{
    struct slice rest = slice_str(line);
    char name[CONFIG_LINE_MAX], value[CONFIG_LINE_MAX], word[CONFIG_LINE_MAX];
    const struct config_row *row;
    bool bad, more = false;

    if (line[strspn(line, " \t")] == '#' || (!next_word(&rest, name, &bad) && !bad))
        return 0;
    row = bad ? NULL : config_find(name, strlen(name));
    if (row == NULL && !bad)
        return unknown(where, name, detail);
    value[0] = '\0';
    while (!bad && next_word(&rest, word, &bad)) {
        if (more)
            strcat(value, " ");
        strcat(value, word); /* words of one line cannot be longer than the line */
        more = true;
    }
    if (bad) {
        snprintf(detail, CONFIG_DETAIL_MAX,
                 "%s: directive '%s': a quote is not closed, or text follows a closing one", where,
                 row != NULL ? row->name : "?");
        return ERR_INVAL;
    }
    if (!more && row->type == CONFIG_BOOL)
        strcpy(value, "yes");
    return config_set(c, row, value, where, detail);
}

int config_load_file(struct config *c, const char *path, char *detail)
{
    char line[CONFIG_LINE_MAX], where[256];
    FILE *f = fopen(path, "re");
    int err = 0;

    if (f == NULL) {
        snprintf(detail, CONFIG_DETAIL_MAX, "cannot read the conf file '%s': %s", path,
                 strerror(errno));
        return ERR_INVAL;
    }
    for (unsigned n = 1; err == 0 && fgets(line, sizeof(line), f) != NULL; n++) {
        snprintf(where, sizeof(where), "%.200s:%u", path, n);
        if (strchr(line, '\n') == NULL && !feof(f)) {
            snprintf(detail, CONFIG_DETAIL_MAX, "%s: line longer than %d bytes", where,
                     CONFIG_LINE_MAX - 2);
            err = ERR_INVAL;
        } else {
            err = load_line(c, line, where, detail);
        }
    }
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
    if (len >= sizeof(value)) {
        snprintf(detail, CONFIG_DETAIL_MAX, "%s: directive '%s': value too long", where, row->name);
        return ERR_INVAL;
    }
    if (used == 1 && equals == NULL) {
        if (row->type != CONFIG_BOOL) {
            snprintf(detail, CONFIG_DETAIL_MAX, "%s: directive '%s' needs a value", where,
                     row->name);
            return ERR_INVAL;
        }
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

        if (strncmp(argv[i], "--", 2) != 0) {
            snprintf(detail, CONFIG_DETAIL_MAX,
                     "command line: '%.80s' is no directive: write --directive value", argv[i]);
            return ERR_INVAL;
        }
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
    if (c->listen[0] != '\0' && (!is_default(c, "bind") || !is_default(c, "port"))) {
        snprintf(detail, CONFIG_DETAIL_MAX,
                 "directive 'listen' excludes 'bind' and 'port': give one or the others");
        return ERR_INVAL;
    }
    if (c->listen[0] != '\0' && strrchr(c->listen, ':') == NULL) {
        snprintf(detail, CONFIG_DETAIL_MAX,
                 "directive 'listen' cannot be '%.80s': allowed is "
                 "host:port, for example 127.0.0.1:50051 or [::1]:50051",
                 c->listen);
        return ERR_INVAL;
    }
    if (c->port == 0 && c->listen[0] == '\0' && c->unixsocket[0] == '\0') {
        snprintf(detail, CONFIG_DETAIL_MAX,
                 "nothing to listen on: 'port' is 0 and there is no 'unixsocket'");
        return ERR_INVAL;
    }
    return 0;
}
