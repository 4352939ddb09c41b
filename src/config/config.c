/* SPDX-License-Identifier: MIT */
/* The table is the whole truth about directives; the functions below only walk it. A value is
 * parsed completely before anything is stored, so a refused directive leaves the old value.
 */
#include "config/config_int.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/err.h"

static const char *const loglevels[] = {"debug", "verbose", "notice", "warning", NULL};
static const char *const debug_words[] = {"no", "yes", "local", NULL}; /* enum config_debug */

#define AT(field) offsetof(struct config, field)
#define KIB ((int64_t)1 << 10)
#define MIB ((int64_t)1 << 20)
#define GIB ((int64_t)1 << 30)
#define NO_WORDS NULL

static const struct config_row table[] = {
    {"server-id", NULL, CONFIG_INT, 0, AT(server_id), 1, UINT32_MAX, NO_WORDS, "1"},
    {"data-dir", "dir", CONFIG_STRING, 0, AT(data_dir), 0, 0, NO_WORDS, "./data"},
    {"raft", "use-raft", CONFIG_BOOL, 0, AT(raft), 0, 0, NO_WORDS, "yes"},
    {"listen", NULL, CONFIG_ADDRESS, 0, AT(listen), 0, 0, NO_WORDS, ""},
    {"bind", NULL, CONFIG_STRING, 0, AT(bind), 0, 0, NO_WORDS, "127.0.0.1"},
    {"port", NULL, CONFIG_INT, 0, AT(port), 0, 65535, NO_WORDS, "50051"},
    {"tcp-backlog", NULL, CONFIG_INT, 0, AT(tcp_backlog), 1, 65535, NO_WORDS, "511"},
    {"tcp-keepalive", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(tcp_keepalive_s), 0, 86400, NO_WORDS,
     "300"},
    {"timeout", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(timeout_s), 0, INT32_MAX, NO_WORDS, "0"},
    {"maxclients", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(maxclients), 1, 1000000, NO_WORDS, "10000"},
    {"unixsocket", NULL, CONFIG_STRING, 0, AT(unixsocket), 0, 0, NO_WORDS, ""},
    {"unixsocketperm", NULL, CONFIG_MODE, 0, AT(unixsocketperm), 0, 0, NO_WORDS, "700"},
    {"protected-mode", NULL, CONFIG_BOOL, CONFIG_MUTABLE, AT(protected_mode), 0, 0, NO_WORDS,
     "yes"},
    {"requirepass", NULL, CONFIG_STRING, CONFIG_MUTABLE | CONFIG_SECRET, AT(requirepass), 0, 0,
     NO_WORDS, ""},
    {"proto-max-bulk-len", NULL, CONFIG_BYTES, CONFIG_MUTABLE, AT(proto_max_bulk_len), MIB,
     INT64_MAX, NO_WORDS, "512mb"},
    {"max-store-bytes", NULL, CONFIG_BYTES, 0, AT(max_store_bytes), 0, INT64_MAX, NO_WORDS, "0"},
    {"max-memory-bytes", NULL, CONFIG_BYTES, 0, AT(max_memory_bytes), 0, INT64_MAX, NO_WORDS, "0"},
    {"max-index-bytes", NULL, CONFIG_BYTES, CONFIG_MUTABLE, AT(max_index_bytes), 0, INT64_MAX,
     NO_WORDS, "0"},
    {"volume-size", NULL, CONFIG_BYTES, 0, AT(volume_size), 0, 4 * GIB - 16 * MIB, NO_WORDS, "0"},
    {"inline-max", NULL, CONFIG_BYTES, 0, AT(inline_max), 0, 16 * KIB, NO_WORDS, "16kb"},
    {"read-threads", NULL, CONFIG_INT, 0, AT(read_threads), 1, 64, NO_WORDS, "2"},
    {"lookup-lease-ms", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(lookup_lease_ms), 0, 86400000,
     NO_WORDS, "10000"},
    {"progress-timeout", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(progress_timeout_s), 0, 86400,
     NO_WORDS, "60"},
    {"shutdown-timeout", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(shutdown_timeout_s), 0, 3600,
     NO_WORDS, "10"},
    {"slowlog-log-slower-than", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(slowlog_slower_us), -1,
     INT64_MAX, NO_WORDS, "10000"},
    {"slowlog-max-len", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(slowlog_max_len), 0, 100000, NO_WORDS,
     "128"},
    {"latency-monitor-threshold", NULL, CONFIG_INT, CONFIG_MUTABLE, AT(latency_threshold_ms), 0,
     INT64_MAX, NO_WORDS, "0"},
    {"enable-debug-command", NULL, CONFIG_ENUM, 0, AT(debug_command), 0, 0, debug_words, "no"},
    {"loglevel", NULL, CONFIG_ENUM, CONFIG_MUTABLE, AT(loglevel), 0, 0, loglevels, "notice"},
    {"logfile", NULL, CONFIG_STRING, 0, AT(logfile), 0, 0, NO_WORDS, ""},
    {"save", NULL, CONFIG_STRING, CONFIG_CONSTANT, AT(save), 0, 0, NO_WORDS, ""},
    {"appendonly", NULL, CONFIG_STRING, CONFIG_CONSTANT, AT(appendonly), 0, 0, NO_WORDS, "yes"},
    {"databases", NULL, CONFIG_INT, CONFIG_CONSTANT, AT(databases), 1, 1, NO_WORDS, "1"},
    {"maxmemory-policy", NULL, CONFIG_STRING, CONFIG_CONSTANT, AT(maxmemory_policy), 0, 0, NO_WORDS,
     "allkeys-lru"},
};

#define ROWS (sizeof(table) / sizeof(table[0]))
_Static_assert(ROWS <= 64, "rows that CONFIG SET changed are bits of one number");

const struct config_row *config_table(size_t *count)
{
    *count = ROWS;
    return table;
}

const struct config_row *config_find(const char *name, size_t len)
{
    for (size_t i = 0; i < ROWS; i++) {
        const char *names[2] = {table[i].name, table[i].alias};

        for (int k = 0; k < 2; k++)
            if (names[k] != NULL && strlen(names[k]) == len &&
                strncasecmp(names[k], name, len) == 0)
                return &table[i];
    }
    return NULL;
}

static void *field_of(const struct config *c, const struct config_row *row)
{
    return (char *)(uintptr_t)c + row->offset;
}

static bool is_text(const struct config_row *row)
{
    return row->type == CONFIG_STRING || row->type == CONFIG_ADDRESS || row->type == CONFIG_MODE;
}

void config_put_number(struct config *c, const struct config_row *row, int64_t value)
{
    ASSERT(!is_text(row) && row->type != CONFIG_BOOL);
    memcpy(field_of(c, row), &value, sizeof(value));
}

static int64_t number_of(const struct config *c, const struct config_row *row)
{
    int64_t v;

    memcpy(&v, field_of(c, row), sizeof(v));
    return v;
}

int config_init(struct config *c)
{
    char detail[CONFIG_DETAIL_MAX];

    memset(c, 0, sizeof(*c));
    for (size_t i = 0; i < ROWS; i++)
        if (config_set(c, &table[i], table[i].def, "default", detail) != 0)
            PANIC("%s", detail);
    return 0;
}

void config_fini(struct config *c)
{
    for (size_t i = 0; i < ROWS; i++)
        if (is_text(&table[i]))
            free(*(char **)field_of(c, &table[i]));
    memset(c, 0, sizeof(*c));
}

/* Redis's units: k = 1000, kb = 1024, and so on; a plain number is bytes. */
static bool parse_number(const char *text, bool bytes, int64_t *out)
{
    static const struct {
        const char *name;
        int64_t factor;
    } units[] = {{"", 1},           {"b", 1},       {"k", 1000},
                 {"kb", KIB},       {"m", 1000000}, {"mb", MIB},
                 {"g", 1000000000}, {"gb", GIB},    {"t", 1000000000000},
                 {"tb", 1024 * GIB}};
    char *end;
    long long v;

    if (text[0] == '\0' || isspace((unsigned char)text[0]))
        return false;
    errno = 0;
    v = strtoll(text, &end, 10);
    if (errno != 0 || end == text)
        return false;
    if (!bytes && *end != '\0')
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcasecmp(end, units[i].name) == 0)
            return !__builtin_mul_overflow((int64_t)v, units[i].factor, out);
    return false;
}

bool config_number(const struct config_row *row, const char *text, int64_t *out)
{
    return parse_number(text, row->type == CONFIG_BYTES, out);
}

bool config_address(const char *text, char *host, int64_t *port)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon == NULL ? 0 : (size_t)(colon - text);
    bool brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    int64_t n;

    if (brackets) {
        text++;
        len -= 2;
    }
    if (colon == NULL || len >= CONFIG_HOST_MAX || !parse_number(colon + 1, false, &n) || n < 1 ||
        n > UINT16_MAX || memchr(text, '[', len) != NULL || memchr(text, ']', len) != NULL ||
        (memchr(text, ':', len) != NULL) != brackets)
        return false;
    snprintf(host, CONFIG_HOST_MAX, "%.*s", len == 0 ? 1 : (int)len, len == 0 ? "*" : text);
    *port = n;
    return true;
}

static bool is_mode(const char *text)
{
    size_t digits = strspn(text, "01234567");

    return digits > 0 && text[digits] == '\0' && strtoul(text, NULL, 8) <= 0777;
}

void config_allowed(const struct config_row *row, char *out, size_t size)
{
    size_t len = 0;

    if (row->flags & CONFIG_CONSTANT) {
        snprintf(out, size, "only \"%s\"", row->def);
        return;
    }
    switch (row->type) {
    case CONFIG_BOOL:
        snprintf(out, size, "yes or no");
        break;
    case CONFIG_INT:
        snprintf(out, size, "a number from %" PRId64 " to %" PRId64, row->min, row->max);
        break;
    case CONFIG_BYTES:
        snprintf(out, size, "a size from %" PRId64 " to %" PRId64 " bytes (k, kb, m, mb, g, gb)",
                 row->min, row->max);
        break;
    case CONFIG_STRING:
        snprintf(out, size, "text");
        break;
    case CONFIG_ADDRESS:
        snprintf(out, size,
                 "host:port, for example 127.0.0.1:50051 or [::1]:50051, port from 1 to 65535");
        break;
    case CONFIG_MODE:
        snprintf(out, size, "an octal file mode from 0 to 777");
        break;
    case CONFIG_ENUM:
        out[0] = '\0';
        for (size_t i = 0; row->words[i] != NULL && len < size; i++)
            len += (size_t)snprintf(out + len, size - len, "%s%s", i ? ", " : "", row->words[i]);
        break;
    }
}

static bool parse_word(const struct config_row *row, const char *value, int64_t *out)
{
    for (int64_t i = 0; row->words[i] != NULL; i++) {
        if (strcasecmp(row->words[i], value) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool store_text(struct config *c, const struct config_row *row, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return false;
    free(*(char **)field_of(c, row));
    *(char **)field_of(c, row) = copy;
    return true;
}

static bool store_value(struct config *c, const struct config_row *row, const char *value)
{
    char host[CONFIG_HOST_MAX];
    int64_t n;
    bool flag;

    if ((row->flags & CONFIG_CONSTANT) && strcasecmp(value, row->def) != 0)
        return false;
    switch (row->type) {
    case CONFIG_BOOL:
        flag = strcasecmp(value, "yes") == 0;
        if (!flag && strcasecmp(value, "no") != 0)
            return false;
        memcpy(field_of(c, row), &flag, sizeof(flag));
        return true;
    case CONFIG_INT:
    case CONFIG_BYTES:
        if (!parse_number(value, row->type == CONFIG_BYTES, &n) || n < row->min || n > row->max)
            return false;
        config_put_number(c, row, n);
        return true;
    case CONFIG_ENUM:
        if (!parse_word(row, value, &n))
            return false;
        config_put_number(c, row, n);
        return true;
    case CONFIG_ADDRESS:
        return (value[0] == '\0' || config_address(value, host, &n)) && store_text(c, row, value);
    case CONFIG_MODE:
        return is_mode(value) && store_text(c, row, value);
    case CONFIG_STRING:
        return store_text(c, row, value);
    }
    return false;
}

int config_set(struct config *c, const struct config_row *row, const char *value, const char *where,
               char *detail)
{
    char allowed[160];

    if (strlen(value) < CONFIG_LINE_MAX && store_value(c, row, value))
        return 0;
    config_allowed(row, allowed, sizeof(allowed));
    return config_refuse(detail, "%s: directive '%s' cannot be '%.80s': allowed is %s", where,
                         row->name, row->flags & CONFIG_SECRET ? "(hidden)" : value, allowed);
}

int config_refuse(char *detail, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(detail, CONFIG_DETAIL_MAX, format, args);
    va_end(args);
    for (char *p = detail; *p != '\0'; p++)
        if (iscntrl((unsigned char)*p))
            *p = '?';
    return ERR_INVAL;
}

void config_get(const struct config *c, const struct config_row *row, char *out)
{
    switch (row->type) {
    case CONFIG_BOOL:
        strcpy(out, *(bool *)field_of(c, row) ? "yes" : "no");
        break;
    case CONFIG_INT:
    case CONFIG_BYTES:
        snprintf(out, CONFIG_LINE_MAX, "%" PRId64, number_of(c, row));
        break;
    case CONFIG_STRING:
    case CONFIG_ADDRESS:
    case CONFIG_MODE:
        snprintf(out, CONFIG_LINE_MAX, "%s", *(char **)field_of(c, row));
        break;
    case CONFIG_ENUM:
        strcpy(out, row->words[number_of(c, row)]);
        break;
    }
}
