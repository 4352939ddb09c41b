/* SPDX-License-Identifier: MIT */
/* CONFIG REWRITE. The file is read whole (it is a page or two), changed in memory and written to a
 * temporary name beside it, synced and renamed, so that a crash leaves the old file or the new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/words.h"
#include "config/config.h"

#define PATH_ROOM 4200

/* The row that a line sets, or NULL. */
static const struct config_row *row_of(const char *line, size_t len)
{
    struct slice rest = slice_of(line, len);
    uint8_t word[CONFIG_LINE_MAX];
    size_t n;

    if (len >= sizeof(word) || words_next(&rest, word, &n) != WORDS_ONE)
        return NULL;
    return config_find((const char *)word, n);
}

/* In quotes unless it is one plain word, so that it is read back as it is. */
static void put_value(FILE *out, const char *value)
{
    bool plain = value[0] != '\0' && value[0] != '#';

    for (const char *p = value; *p != '\0'; p++)
        plain &= *p > ' ' && *p < 127 && *p != '"' && *p != '\'' && *p != '\\';
    if (plain) {
        fputs(value, out);
        return;
    }
    fputc('"', out);
    for (const char *p = value; *p != '\0'; p++) {
        unsigned char b = (unsigned char)*p;

        if (b == '"' || b == '\\')
            fprintf(out, "\\%c", b);
        else if (b < ' ' || b == 127)
            fprintf(out, "\\x%02x", b);
        else
            fputc(b, out);
    }
    fputc('"', out);
}

static void put_row(FILE *out, const struct config *c, const struct config_row *row)
{
    char value[CONFIG_LINE_MAX];

    config_get(c, row, value);
    fprintf(out, "%s ", row->name);
    put_value(out, value);
    fputc('\n', out);
}

/* Copies the lines; the first line of a changed row takes its new value, others of it go. */
static int merge(const struct config *c, FILE *in, FILE *out, uint64_t changed)
{
    const struct config_row *table;
    uint64_t written = 0;
    size_t size = 0, count;
    char *line = NULL;
    bool ended = true;
    ssize_t n;

    table = config_table(&count);
    while ((n = getline(&line, &size, in)) > 0) {
        const struct config_row *row = row_of(line, (size_t)n);
        uint64_t bit = row != NULL ? UINT64_C(1) << (row - table) : 0;

        ended = line[n - 1] == '\n';
        if (!(bit & changed)) {
            fwrite(line, 1, (size_t)n, out);
        } else {
            if (!(bit & written))
                put_row(out, c, row);
            ended = true;
        }
        written |= bit;
    }
    free(line);
    if (!ended)
        fputc('\n', out);
    for (size_t i = 0; i < count; i++)
        if ((changed & ~written) >> i & 1)
            put_row(out, c, &table[i]);
    return ferror(in) || fflush(out) != 0 || ferror(out) ? ERR_IO : 0;
}

static int fail(const char *path, const char *what, char *detail)
{
    int err = errno != 0 ? err_from_errno(errno) : ERR_IO;

    snprintf(detail, CONFIG_DETAIL_MAX, "cannot %s '%.200s': %s", what, path, strerror(errno));
    return err;
}

static int sync_parent(const char *path)
{
    char copy[PATH_ROOM];

    snprintf(copy, sizeof(copy), "%s", path);
    return io_sync_dir(dirname(copy));
}

int config_rewrite(const struct config *c, const char *path, uint64_t changed, char *detail)
{
    char tmp[PATH_ROOM];
    FILE *in = fopen(path, "re");
    FILE *out = NULL;
    struct stat st;
    int fd, err;

    if (in == NULL || fstat(fileno(in), &st) != 0) {
        err = fail(path, "read", detail);
        if (in != NULL)
            fclose(in);
        return err;
    }
    snprintf(tmp, sizeof(tmp), "%.4000s.rewrite.%d", path, (int)getpid());
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st.st_mode & 0777);
    if (fd >= 0)
        out = fdopen(fd, "w");
    if (out == NULL) {
        err = fail(tmp, "write", detail);
        if (fd >= 0)
            close(fd);
        fclose(in);
        return err;
    }
    errno = 0;
    err = merge(c, in, out, changed);
    if (err == 0 && (fchmod(fd, st.st_mode & 0777) != 0 || fsync(fd) != 0))
        err = ERR_IO;
    fclose(in);
    if (err == 0 && fclose(out) == 0 && rename(tmp, path) == 0)
        return sync_parent(path);
    if (err != 0)
        fclose(out);
    err = fail(path, "rewrite", detail);
    unlink(tmp);
    return err;
}
