/* SPDX-License-Identifier: MIT */
/* fuzz_conf: conf files and command lines that nobody wrote.
 *
 * The first byte says which; arguments are separated by a byte 0. A refusal is one line that says
 * something. What was accepted is inside every row's range, and written by CONFIG REWRITE it is
 * read back as it was.
 */
#include <ctype.h>

#include "../unit/tmpdir.h"
#include "base/err.h"
#include "config/config.h"
#include "fuzz.h"

enum { ARGS_MAX = 64 };

static char path[PATH_MAX];

static void put_file(struct slice text)
{
    FILE *f;

    if (path[0] == '\0')
        tmpdir_path(path, tmpdir(), "x.conf");
    f = fopen(path, "we");
    ASSERT(f != NULL && fwrite(text.ptr, 1, text.len, f) == text.len && fclose(f) == 0);
}

static void expect_reason(int err, const char *detail)
{
    size_t len = strnlen(detail, CONFIG_DETAIL_MAX);

    ASSERT(err == ERR_INVAL && len > 0 && len < CONFIG_DETAIL_MAX);
    for (size_t i = 0; i < len; i++)
        ASSERT(!iscntrl((unsigned char)detail[i]));
}

static void expect_ranges(const struct config *c)
{
    const struct config_row *table;
    size_t count;

    table = config_table(&count);
    for (size_t i = 0; i < count; i++) {
        char text[CONFIG_LINE_MAX];
        int64_t n;

        config_get(c, &table[i], text);
        if (table[i].type == CONFIG_INT || table[i].type == CONFIG_BYTES)
            ASSERT(config_number(&table[i], text, &n) && n >= table[i].min && n <= table[i].max);
    }
}

static void expect_same(const struct config *a, const struct config *b)
{
    const struct config_row *table;
    size_t count;

    table = config_table(&count);
    for (size_t i = 0; i < count; i++) {
        char x[CONFIG_LINE_MAX], y[CONFIG_LINE_MAX];

        config_get(a, &table[i], x);
        config_get(b, &table[i], y);
        ASSERT(strcmp(x, y) == 0);
    }
}

/* A value of nearly a line may need more than a line when its bytes are escaped. */
static bool fits_a_line(const struct config *c)
{
    const struct config_row *table;
    size_t count;
    bool fits = true;

    table = config_table(&count);
    for (size_t i = 0; i < count; i++) {
        char text[CONFIG_LINE_MAX];

        config_get(c, &table[i], text);
        fits = fits && 4 * strlen(text) + strlen(table[i].name) + 4 < CONFIG_LINE_MAX;
    }
    return fits;
}

static void rewrite(const struct config *c)
{
    char detail[CONFIG_DETAIL_MAX] = "";
    struct config again;
    size_t count;

    config_table(&count);
    ASSERT(config_rewrite(c, path, (UINT64_C(1) << count) - 1, detail) == 0);
    config_init(&again);
    if (config_load_file(&again, path, detail) == 0)
        expect_same(c, &again);
    else
        ASSERT(!fits_a_line(c));
    config_fini(&again);
}

static int load_args(struct config *c, struct slice text, char *detail)
{
    char *copy = malloc(text.len + 3), *argv[ARGS_MAX + 1];
    int argc = 0, err;

    ASSERT(copy != NULL);
    memcpy(copy, "--", 2); /* the first one would else name a file */
    if (text.len > 0)
        memcpy(copy + 2, text.ptr, text.len);
    copy[text.len + 2] = '\0';
    for (char *p = copy; p < copy + text.len + 2 && argc < ARGS_MAX; p += strlen(p) + 1)
        argv[argc++] = p;
    argv[argc] = NULL;
    err = config_load_args(c, argc, argv, detail);
    free(copy);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char detail[CONFIG_DETAIL_MAX] = "";
    struct slice rest = slice_of(data, size);
    bool args = fuzz_byte(&rest) & 1;
    struct config c;
    int err;

    config_init(&c);
    put_file(args ? slice_str("") : rest);
    err = args ? load_args(&c, rest, detail) : config_load_file(&c, path, detail);
    if (err != 0) {
        expect_reason(err, detail);
    } else {
        expect_ranges(&c);
        rewrite(&c);
        err = config_check(&c, detail);
        if (err != 0)
            expect_reason(err, detail);
    }
    config_fini(&c);
    return 0;
}
