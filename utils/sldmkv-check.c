/* SPDX-License-Identifier: MIT */
/* sldmkv-check: is a stopped data directory sound, and what can be had from one that is not?
 *
 *   sldmkv-check [--quiet] DATA-DIR                      every check and digest; changes nothing
 *   sldmkv-check [--quiet] --salvage NEW-DIR DATA-DIR    a new store from the volumes alone
 *   sldmkv-check --convert-log raft|none DATA-DIR        the same store with or without a log
 *
 * The lock of the directory is held all the time: no server can start on it, none can be running.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/logger.h"
#include "sldmkv-check/tool.h"

#define PROGRESS_MS 1000
#define PAGE 4096u

int tool_cannot(const struct tool *t, const char *format, ...)
{
    va_list args;

    (void)t;
    fflush(stdout);
    fprintf(stderr, "sldmkv-check: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return EXIT_CANNOT;
}

void tool_damage(struct tool *t, const char *format, ...)
{
    va_list args;

    t->damaged++;
    printf("damaged: ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void tool_progress(struct tool *t, const char *what, uint64_t done, const char *unit)
{
    struct timespec now;
    uint64_t ms;

    if (t->quiet)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (t->last_ms == 0)
        t->last_ms = ms;
    if (ms - t->last_ms < PROGRESS_MS)
        return;
    t->last_ms = ms;
    fprintf(stderr, "%s: %llu %s, %llu damaged\n", what, (unsigned long long)done, unit,
            (unsigned long long)t->damaged);
}

const char *tool_key(struct slice key, char *out)
{
    char *p = out;

    for (size_t i = 0; i < key.len && i < RECORD_KEY_MAX; i++) {
        uint8_t c = key.ptr[i];

        if (c == '\\' || c == '"')
            p += sprintf(p, "\\%c", c);
        else if (c >= 0x20 && c < 0x7f)
            *p++ = (char)c;
        else
            p += sprintf(p, "\\x%02x", c);
    }
    *p = '\0';
    return out;
}

bool tool_buf_grow(struct tool_buf *b, uint64_t size)
{
    void *mem;

    if (size <= b->size)
        return true;
    if (posix_memalign(&mem, PAGE, size) != 0)
        return false;
    free(b->mem);
    b->mem = mem;
    b->size = size;
    return true;
}

static void usage(FILE *out)
{
    fprintf(out, "Usage: sldmkv-check [--quiet] DATA-DIR\n"
                 "       sldmkv-check [--quiet] --salvage NEW-DIR DATA-DIR\n"
                 "       sldmkv-check --convert-log raft|none DATA-DIR\n"
                 "       sldmkv-check --help\n\n"
                 "The server of DATA-DIR must be stopped. Without an option every check and every\n"
                 "digest of the store is verified and nothing is changed. --salvage builds a new\n"
                 "store in NEW-DIR from the volumes of DATA-DIR.\n"
                 "Exit status: 0 sound, 1 damaged, 2 could not be done.\n");
}

struct options {
    const char *dir, *salvage, *convert;
    bool quiet, help;
};

static bool parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quiet") == 0)
            o->quiet = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            o->help = true;
        else if (strcmp(argv[i], "--salvage") == 0 && i + 1 < argc)
            o->salvage = argv[++i];
        else if (strcmp(argv[i], "--convert-log") == 0 && i + 1 < argc)
            o->convert = argv[++i];
        else if (argv[i][0] == '-' || o->dir != NULL)
            return false;
        else
            o->dir = argv[i];
    }
    if (o->convert != NULL && strcmp(o->convert, "raft") != 0 && strcmp(o->convert, "none") != 0)
        return false;
    return o->help || (o->dir != NULL && (o->salvage == NULL || o->convert == NULL));
}

int main(int argc, char **argv)
{
    char detail[DATADIR_DETAIL_MAX] = "";
    struct options o = {0};
    struct tool t = {0};
    int lock = -1, status;

    if (!parse(argc, argv, &o)) {
        usage(stderr);
        return EXIT_CANNOT;
    }
    if (o.help) {
        usage(stdout);
        return EXIT_SOUND;
    }
    (void)logger_open("/dev/stderr");
    logger_set_level(LOGGER_WARNING);
    t.quiet = o.quiet;
    t.dir = o.dir;
    if (strlen(o.dir) >= sizeof(((struct datadir *)0)->path))
        return tool_cannot(&t, "DATA-DIR: the path is too long");
    if (access(o.dir, F_OK) != 0)
        return tool_cannot(&t, "%s: no such directory", o.dir);
    if (datadir_lock(o.dir, &lock, detail) != 0)
        return tool_cannot(&t, "%s", detail);
    if (o.salvage != NULL)
        status = salvage_run(&t, o.salvage);
    else if (o.convert != NULL)
        status = convert_run(&t, strcmp(o.convert, "raft") == 0);
    else
        status = verify_run(&t);
    close(lock);
    return status;
}
