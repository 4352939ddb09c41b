/* SPDX-License-Identifier: MIT */
/* Directives: the table, the conf file that documents it, both ways of reading, REWRITE. */
#include "config/config.h"

#include <ctype.h>
#include <sys/stat.h>

#include "base/err.h"
#include "test.h"
#include "tmpdir.h"

#define MANUAL "conf/sldmkv.conf"

static char detail[CONFIG_DETAIL_MAX];

static const struct config_row *row(const char *name)
{
    const struct config_row *r = config_find(name, strlen(name));

    CHECK(r != NULL);
    return r;
}

static const char *value_of(const struct config *c, const char *name)
{
    static char text[CONFIG_LINE_MAX];

    config_get(c, row(name), text);
    return text;
}

static const char *write_file(const char *text)
{
    static char path[512];
    FILE *f;

    snprintf(path, sizeof(path), "%s/x.conf", tmpdir());
    f = fopen(path, "w");
    CHECK(f != NULL);
    fputs(text, f);
    CHECK_EQ_INT(fclose(f), 0);
    return path;
}

static const char *read_file(const char *path)
{
    static char text[16384];
    FILE *f = fopen(path, "r");
    size_t n;

    CHECK(f != NULL);
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

/* 0 or ERR_; the value of one directive afterwards is in *value. */
static int load(const char *text, const char *name, const char **value)
{
    static char copy[CONFIG_LINE_MAX];
    struct config c;
    int err;

    config_init(&c);
    detail[0] = '\0';
    err = config_load_file(&c, write_file(text), detail);
    config_get(&c, row(name), copy);
    *value = copy;
    config_fini(&c);
    return err;
}

static int flags(const char *const *argv, struct config *c)
{
    int n = 0;

    while (argv[n] != NULL)
        n++;
    detail[0] = '\0';
    return config_load_args(c, n, (char **)(uintptr_t)argv, detail);
}

TEST(defaults_are_allowed_values)
{
    const struct config_row *table;
    struct config c;
    char text[CONFIG_LINE_MAX];
    size_t count;

    table = config_table(&count);
    CHECK_GT_U64(count, 30);
    CHECK_EQ_INT(config_init(&c), 0);
    CHECK_EQ_INT(config_check(&c, detail), 0);
    for (size_t i = 0; i < count; i++) {
        char allowed[160];

        CHECK(config_find(table[i].name, strlen(table[i].name)) == &table[i]);
        config_get(&c, &table[i], text);
        CHECK_EQ_INT(config_set(&c, &table[i], text, "test", detail), 0);
        config_allowed(&table[i], allowed, sizeof(allowed));
        CHECK(allowed[0] != '\0');
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(table[i].name, table[k].name) != 0);
    }
    config_fini(&c);
}

/* The manual has each directive once, in the table's order, set to its default, with text above. */
TEST(the_manual_and_the_table_agree)
{
    FILE *f = fopen(MANUAL, "r");
    const struct config_row *table;
    char line[CONFIG_LINE_MAX], above[CONFIG_LINE_MAX] = "";
    size_t count, next = 0;

    if (f == NULL) {
        fprintf(stderr, "# run from the top of the repository: no %s\n", MANUAL);
        CHECK(f != NULL);
    }
    table = config_table(&count);
    while (fgets(line, sizeof(line), f) != NULL) {
        char *rest = line, *end = line + strcspn(line, "\n");

        *end = '\0';
        if (line[0] != '\0' && line[0] != '#') {
            rest = line + strcspn(line, " ");
            CHECK_LT_U64(next, count);
            CHECK_EQ_U64((uint64_t)(rest - line), strlen(table[next].name));
            CHECK_EQ_MEM(line, table[next].name, strlen(table[next].name));
            CHECK(above[0] == '#' && strlen(above) > 10);
            next++;
        }
        strcpy(above, line);
    }
    fclose(f);
    CHECK_EQ_U64(next, count);
}

TEST(the_manual_sets_the_defaults)
{
    const struct config_row *table;
    struct config c, defaults;
    size_t count;

    config_init(&c);
    config_init(&defaults);
    if (config_load_file(&c, MANUAL, detail) != 0) {
        fprintf(stderr, "# %s\n", detail);
        CHECK(false);
    }
    table = config_table(&count);
    for (size_t i = 0; i < count; i++) {
        char a[CONFIG_LINE_MAX], b[CONFIG_LINE_MAX];

        config_get(&c, &table[i], a);
        config_get(&defaults, &table[i], b);
        CHECK_EQ_STR(a, b);
    }
    config_fini(&c);
    config_fini(&defaults);
}

/* Each directive's text says whether CONFIG SET takes it. */
TEST(the_manual_marks_what_can_be_set)
{
    FILE *f = fopen(MANUAL, "r");
    const struct config_row *table;
    char line[CONFIG_LINE_MAX];
    bool marked = false, head = true;
    size_t count, next = 0;

    CHECK(f != NULL);
    table = config_table(&count);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (line[0] == '\n') {
            head = false; /* the file's own introduction is over */
            marked = false;
        } else if (line[0] == '#') {
            marked |= !head && strstr(line, "[set]") != NULL;
        } else {
            if (marked != ((table[next].flags & CONFIG_MUTABLE) != 0)) {
                fprintf(stderr, "# %s\n", table[next].name);
                CHECK(false);
            }
            next++;
        }
    }
    fclose(f);
}

TEST(words_quotes_and_comments)
{
    const char *v;

    CHECK_EQ_INT(load("timeout 7\n", "timeout", &v), 0);
    CHECK_EQ_STR(v, "7");
    CHECK_EQ_INT(load("\n   \n# don't \"\n  TIMEOUT\t 8  \n", "timeout", &v), 0);
    CHECK_EQ_STR(v, "8");
    CHECK_EQ_INT(load("requirepass \"a b\\x41\\\"\"\n", "requirepass", &v), 0);
    CHECK_EQ_STR(v, "a bA\"");
    CHECK_EQ_INT(load("requirepass 'a # b'\n", "requirepass", &v), 0);
    CHECK_EQ_STR(v, "a # b");
    CHECK_EQ_INT(load("bind 127.0.0.1 -::1\n", "bind", &v), 0);
    CHECK_EQ_STR(v, "127.0.0.1 -::1");
    CHECK_EQ_INT(load("bind \"127.0.0.1 ::1\"", "bind", &v), 0);
    CHECK_EQ_STR(v, "127.0.0.1 ::1");
    CHECK_EQ_INT(load("raft\n", "raft", &v), 0);
    CHECK_EQ_STR(v, "yes");
    CHECK_EQ_INT(load("raft No\n", "raft", &v), 0);
    CHECK_EQ_STR(v, "no");
    CHECK_EQ_INT(load("timeout 1\ntimeout 2\n", "timeout", &v), 0);
    CHECK_EQ_STR(v, "2");
    CHECK_EQ_INT(load("use-raft no\ndir /tmp/x\n", "data-dir", &v), 0);
    CHECK_EQ_STR(v, "/tmp/x");
}

TEST(sizes)
{
    static const struct {
        const char *text, *bytes;
    } good[] = {
        {"2000000", "2000000"},  {"2000k", "2000000"},     {"2048kb", "2097152"},
        {"3m", "3000000"},       {"3mb", "3145728"},       {"1g", "1000000000"},
        {"1gb", "1073741824"},   {"1GB", "1073741824"},    {"1Mb", "1048576"},
        {"1048576b", "1048576"}, {"1tb", "1099511627776"},
    };
    static const char *const bad[] = {"",
                                      " ",
                                      "1kb5",
                                      "mb",
                                      "-1",
                                      "1.5mb",
                                      "0x10",
                                      "1 mb",
                                      "99999999999999999999",
                                      "9999999999tb",
                                      "1048575",
                                      "1qb"};
    struct config c;

    config_init(&c);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        CHECK_EQ_INT(config_set(&c, row("proto-max-bulk-len"), good[i].text, "t", detail), 0);
        CHECK_EQ_STR(value_of(&c, "proto-max-bulk-len"), good[i].bytes);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_EQ_INT(config_set(&c, row("proto-max-bulk-len"), bad[i], "t", detail), ERR_INVAL);
        CHECK_EQ_STR(value_of(&c, "proto-max-bulk-len"), "1099511627776");
    }
    CHECK_EQ_INT(config_set(&c, row("timeout"), "5kb", "t", detail), ERR_INVAL);
    config_fini(&c);
}

TEST(bounds_and_words)
{
    struct config c;

    config_init(&c);
    CHECK_EQ_INT(config_set(&c, row("port"), "65535", "t", detail), 0);
    CHECK_EQ_INT(config_set(&c, row("port"), "65536", "t", detail), ERR_INVAL);
    CHECK_EQ_INT(config_set(&c, row("port"), "-1", "t", detail), ERR_INVAL);
    CHECK_EQ_INT(config_set(&c, row("slowlog-log-slower-than"), "-1", "t", detail), 0);
    CHECK_EQ_INT(config_set(&c, row("slowlog-log-slower-than"), "-2", "t", detail), ERR_INVAL);
    CHECK_EQ_INT(config_set(&c, row("loglevel"), "WARNING", "t", detail), 0);
    CHECK_EQ_STR(value_of(&c, "loglevel"), "warning");
    CHECK_EQ_INT(config_set(&c, row("loglevel"), "warn", "t", detail), ERR_INVAL);
    CHECK(strstr(detail, "debug, verbose, notice, warning") != NULL);
    CHECK_EQ_INT(config_set(&c, row("raft"), "1", "t", detail), ERR_INVAL);
    CHECK_EQ_INT(config_set(&c, row("databases"), "1", "t", detail), 0);
    CHECK_EQ_INT(config_set(&c, row("databases"), "2", "t", detail), ERR_INVAL);
    CHECK_EQ_INT(config_set(&c, row("save"), "900 1", "t", detail), ERR_INVAL);
    CHECK_EQ_INT(config_set(&c, row("enable-debug-command"), "local", "t", detail), 0);
    CHECK_EQ_INT(c.debug_command, CONFIG_DEBUG_LOCAL);
    config_fini(&c);
}

static bool takes(const char *name, const char *value)
{
    const char *const argv[] = {name, value, NULL};
    struct config c;
    int err;

    config_init(&c);
    err = flags(argv, &c);
    config_fini(&c);
    if (err != 0) {
        CHECK_EQ_INT(err, ERR_INVAL);
        CHECK(strstr(detail, "allowed is ") != NULL && strstr(detail, value) != NULL);
    }
    return err == 0;
}

/* getaddrinfo takes 99999 for 34463, -5 for 65531 and 0 for any. */
TEST(addresses_and_modes_are_looked_at)
{
    static const char *const good[] = {"127.0.0.1:1", "[::1]:65535", "kv.example.org:50051",
                                       "*:50051", ":50051"};
    static const char *const bad[] = {"127.0.0.1:99999", "127.0.0.1:-5",   "127.0.0.1:65536",
                                      "localhost:0",     "localhost:",     ":http",
                                      "[::1:55",         "::1]:55",        "::1:55",
                                      "localhost",       "[127.0.0.1]:55", "a[b]:5",
                                      "host:5x",         "host: 5"};
    char host[CONFIG_HOST_MAX];
    int64_t port;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        CHECK(takes("--listen", good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(!takes("--listen", bad[i]));
    CHECK(config_address("[::1]:65535", host, &port));
    CHECK_EQ_STR(host, "::1");
    CHECK_EQ_INT(port, 65535);
    CHECK(config_address(":7", host, &port));
    CHECK_EQ_STR(host, "*");

    CHECK(takes("--unixsocketperm", "770") && takes("--unixsocketperm", "0700"));
    CHECK(!takes("--unixsocketperm", "999") && !takes("--unixsocketperm", "1777"));
    CHECK(!takes("--unixsocketperm", "rwx") && !takes("--unixsocketperm", "7 7"));
}

/* One line that names file, line, directive and what is allowed. */
TEST(errors_say_where_and_what)
{
    const char *v;

    CHECK_EQ_INT(load("# one\n\ntimeout x\n", "timeout", &v), ERR_INVAL);
    CHECK(strstr(detail, "x.conf:3: ") != NULL);
    CHECK(strstr(detail, "'timeout'") != NULL && strstr(detail, "'x'") != NULL);
    CHECK(strstr(detail, "0 to 2147483647") != NULL);
    CHECK(strchr(detail, '\n') == NULL);
    CHECK_EQ_STR(v, "0");

    CHECK_EQ_INT(load("nonsense 1\n", "timeout", &v), ERR_INVAL);
    CHECK(strstr(detail, "x.conf:1: unknown directive 'nonsense'") != NULL);
    CHECK_EQ_INT(load("timeout \"5\n", "timeout", &v), ERR_INVAL);
    CHECK(strstr(detail, "quote is not closed") != NULL);
    CHECK_EQ_INT(load("timeout\n", "timeout", &v), ERR_INVAL);
    CHECK(strstr(detail, "x.conf:1: ") != NULL);
    CHECK_EQ_INT(load("\"timeout 5\n", "timeout", &v), ERR_INVAL);
    CHECK(strchr(detail, '\n') == NULL);
}

/* A text with control bytes may stand in a conf file; a message about it stays one line. A byte 0
 * would end a value early, a password for instance. */
TEST(control_bytes)
{
    static const char raw[] = "port 1\0 2\n";
    const char *v, *path;
    struct config c;
    FILE *f;

    CHECK_EQ_INT(load("port \"1\\n2\\x1b\"\n", "port", &v), ERR_INVAL);
    CHECK(strstr(detail, "'1?2?'") != NULL);
    CHECK_EQ_INT(load("\"a\\nb\" 2\n", "port", &v), ERR_INVAL);
    CHECK(strstr(detail, "'a?b'") != NULL);
    CHECK_EQ_INT(load("requirepass \"a\\nb\"\n", "requirepass", &v), 0);
    CHECK_EQ_STR(v, "a\nb");
    CHECK_EQ_INT(load("requirepass \"a\\x00b\"\n", "requirepass", &v), ERR_INVAL);
    CHECK_EQ_STR(v, "");
    CHECK(strstr(detail, "byte 0") != NULL);
    path = write_file("");
    f = fopen(path, "we");
    CHECK(f != NULL && fwrite(raw, 1, sizeof(raw) - 1, f) == sizeof(raw) - 1 && fclose(f) == 0);
    config_init(&c);
    CHECK_EQ_INT(config_load_file(&c, path, detail), ERR_INVAL);
    CHECK(strstr(detail, "x.conf:1: directive 'port'") != NULL);
    config_fini(&c);
}

TEST(a_secret_is_in_no_message)
{
    struct config c;
    char value[CONFIG_LINE_MAX + 10];

    config_init(&c);
    memset(value, 'h', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    CHECK_EQ_INT(config_set(&c, row("requirepass"), value, "t", detail), ERR_INVAL);
    CHECK(strstr(detail, "hhhh") == NULL);
    CHECK(strstr(detail, "requirepass") != NULL);
    config_fini(&c);
}

TEST(long_lines_and_missing_files)
{
    static char text[CONFIG_LINE_MAX + 100];
    struct config c;
    const char *v;

    memset(text, 'a', sizeof(text) - 1);
    CHECK_EQ_INT(load(text, "timeout", &v), ERR_INVAL);
    CHECK(strstr(detail, "x.conf:1: line longer than") != NULL);
    config_init(&c);
    CHECK_EQ_INT(config_load_file(&c, "/nonexistent/x.conf", detail), ERR_INVAL);
    CHECK(strstr(detail, "/nonexistent/x.conf") != NULL);
    CHECK_EQ_INT(config_load_file(&c, "/", detail), ERR_INVAL); /* opens, but cannot be read */
    CHECK(strstr(detail, "'/'") != NULL);
    config_fini(&c);
}

TEST(command_line)
{
    struct config c;

    config_init(&c);
    CHECK_EQ_INT(flags((const char *[]){"--port", "7", "--bind", "::1", "127.0.0.1", "--use-raft",
                                        "--timeout=9", "--requirepass=", NULL},
                       &c),
                 0);
    CHECK_EQ_INT(c.port, 7);
    CHECK_EQ_STR(c.bind, "::1 127.0.0.1");
    CHECK(c.raft);
    CHECK_EQ_INT(c.timeout_s, 9);
    CHECK_EQ_STR(c.requirepass, "");
    CHECK_EQ_INT(flags((const char *[]){"--raft", "no", NULL}, &c), 0);
    CHECK(!c.raft);
    CHECK_EQ_INT(flags((const char *[]){"--slowlog-log-slower-than", "-1", NULL}, &c), 0);
    CHECK_EQ_INT(c.slowlog_slower_us, -1);
    config_fini(&c);
}

TEST(command_line_over_file)
{
    const char *path = write_file("timeout 5\nport 6\n");
    struct config c;

    config_init(&c);
    CHECK_EQ_INT(flags((const char *[]){path, "--timeout", "8", NULL}, &c), 0);
    CHECK_EQ_INT(c.timeout_s, 8);
    CHECK_EQ_INT(c.port, 6);
    config_fini(&c);
}

TEST(command_line_errors)
{
    struct config c;

    config_init(&c);
    CHECK_EQ_INT(flags((const char *[]){"--nonsense", "1", NULL}, &c), ERR_INVAL);
    CHECK(strstr(detail, "command line") != NULL && strstr(detail, "nonsense") != NULL);
    CHECK_EQ_INT(flags((const char *[]){"--port", NULL}, &c), ERR_INVAL);
    CHECK(strstr(detail, "'port' needs a value") != NULL);
    CHECK_EQ_INT(flags((const char *[]){"--port", "x", NULL}, &c), ERR_INVAL);
    CHECK(strstr(detail, "0 to 65535") != NULL);
    CHECK_EQ_INT(flags((const char *[]){"--timeout", "1", "2", NULL}, &c), ERR_INVAL);
    config_fini(&c);
}

TEST(what_rows_cannot_see)
{
    struct config c;

    config_init(&c);
    config_set(&c, row("listen"), "0.0.0.0:50051", "t", detail);
    CHECK_EQ_INT(config_check(&c, detail), 0);
    config_set(&c, row("port"), "7", "t", detail);
    CHECK_EQ_INT(config_check(&c, detail), ERR_INVAL);
    config_set(&c, row("port"), "50051", "t", detail);
    config_set(&c, row("listen"), "", "t", detail);
    config_set(&c, row("port"), "0", "t", detail);
    CHECK_EQ_INT(config_check(&c, detail), ERR_INVAL);
    config_set(&c, row("unixsocket"), "/tmp/s", "t", detail);
    CHECK_EQ_INT(config_check(&c, detail), 0);
    config_fini(&c);
}

static uint64_t bit(const char *name)
{
    size_t count;

    return UINT64_C(1) << (row(name) - config_table(&count));
}

TEST(rewrite_changes_only_what_was_set)
{
    const char *path = write_file("# head\nport 7\n  timeout   5\n# timeout 9\n"
                                  "timeout 6\ntcp-backlog 3");
    struct config c, again;

    config_init(&c);
    CHECK_EQ_INT(chmod(path, 0640), 0);
    CHECK_EQ_INT(config_load_file(&c, path, detail), 0);
    config_set(&c, row("timeout"), "77", "t", detail);
    config_set(&c, row("requirepass"), "a \"b\\\n#", "t", detail);
    config_set(&c, row("port"), "8", "t", detail); /* by a flag: not asked for */
    CHECK_EQ_INT(config_rewrite(&c, path, bit("timeout") | bit("requirepass"), detail), 0);
    CHECK_EQ_STR(read_file(path), "# head\nport 7\ntimeout 77\n# timeout 9\ntcp-backlog 3\n"
                                  "requirepass \"a \\\"b\\\\\\x0a#\"\n");
    config_init(&again);
    CHECK_EQ_INT(config_load_file(&again, path, detail), 0);
    CHECK_EQ_STR(again.requirepass, "a \"b\\\n#");
    CHECK_EQ_INT(again.timeout_s, 77);
    config_fini(&again);
    config_fini(&c);

    struct stat st;
    CHECK_EQ_INT(stat(path, &st), 0);
    CHECK_EQ_INT(st.st_mode & 0777, 0640);
}

TEST(rewrite_of_nothing_and_by_alias)
{
    const char *path = write_file("use-raft no\n");
    struct config c;

    config_init(&c);
    CHECK_EQ_INT(config_rewrite(&c, path, 0, detail), 0);
    CHECK_EQ_STR(read_file(path), "use-raft no\n");
    CHECK_EQ_INT(config_rewrite(&c, path, bit("raft") | bit("requirepass"), detail), 0);
    CHECK_EQ_STR(read_file(path), "raft yes\nrequirepass \"\"\n");
    config_fini(&c);
}

TEST(rewrite_that_fails_leaves_the_file)
{
    char path[512];
    struct config c;

    config_init(&c);
    snprintf(path, sizeof(path), "%s/absent.conf", tmpdir());
    CHECK_EQ_INT(config_rewrite(&c, path, bit("timeout"), detail), ERR_NOTFOUND);
    CHECK(strstr(detail, "absent.conf") != NULL);
    CHECK(access(path, F_OK) != 0);
    config_fini(&c);
}

TEST_MAIN
