/* SPDX-License-Identifier: MIT */
/* tmpdir: an empty folder for a test that needs real files.
 *
 * Purpose   tmpdir() gives a fresh folder under $TMPDIR (tests/run_unit.sh points it at build/tmp,
 *           which is on a real disk and therefore takes O_DIRECT); tmpdir_path() a name inside one
 * Lifetime  folders are removed when the program exits, whatever the result; a crash leaves them
 * Limits    TMPDIR_MAX folders per program; names are static memory, valid until exit
 */
#ifndef TESTS_UNIT_TMPDIR_H
#define TESTS_UNIT_TMPDIR_H

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TMPDIR_MAX = 256, TMPDIR_OPEN_FDS = 8 };

static char tmpdir_names[TMPDIR_MAX][256];
static int tmpdir_count;

static inline int tmpdir_remove_one(const char *path, const struct stat *st, int flag,
                                    struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static inline void tmpdir_remove_all(void)
{
    while (tmpdir_count > 0)
        nftw(tmpdir_names[--tmpdir_count], tmpdir_remove_one, TMPDIR_OPEN_FDS,
             FTW_DEPTH | FTW_PHYS);
}

static inline const char *tmpdir(void)
{
    const char *base = getenv("TMPDIR");
    char *name = tmpdir_names[tmpdir_count];
    if (tmpdir_count == TMPDIR_MAX)
        abort();
    if (tmpdir_count == 0)
        atexit(tmpdir_remove_all);
    snprintf(name, sizeof tmpdir_names[0], "%s/sldmkv-test-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(name) == NULL) {
        perror(name);
        abort();
    }
    tmpdir_count++;
    return name;
}

/* out: at least PATH_MAX bytes. Returns out. */
static inline char *tmpdir_path(char *out, const char *dir, const char *name)
{
    if (snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        abort();
    return out;
}

#endif
