/* SPDX-License-Identifier: MIT */
/* fuzz_log: libraft's folder with files that no libraft wrote.
 *
 * An input is a list of files: what it is (FILE_…, bit 7: leave the checksums as they are), two
 * small numbers for its name, a length (2 bytes) and that many bytes. Checksums are made right
 * otherwise, as they would keep everything out. Whatever is there is looked at twice and said to be
 * whole or refused with one line; a whole log is the same log after mending, and then needs none.
 * One in START_ONE_IN of the whole ones, and every one in the corpus, is also started: libraft may
 * refuse it (a configuration is not looked into), but comes to an end and finds the same entries.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "../unit/log_harness.h"
#include "../unit/tmpdir.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/logger.h"
#include "fuzz.h"
#include "log/check.h"
#include "log/log_int.h"
#include "log/segment.h"

enum { FILE_METADATA1, FILE_METADATA2, FILE_OPEN, FILE_CLOSED, FILE_SNAPSHOT, FILE_META, FILES };
enum { AS_IT_IS = 0x80, FILES_MAX = 12, START_ONE_IN = 256 };

static struct crc crc;

/* ---- checksums made right ------------------------------------------------------------------ */

static void seal_segment(uint8_t *p, size_t len)
{
    for (size_t at = 8; at + 16 <= len;) {
        uint64_t n = codec_get64(p + at + 8), size = 0;

        if (n == 0 || n > SEGMENT_BATCH_ENTRIES_MAX || len - at - 16 < 16 * n)
            return;
        for (uint64_t i = 0; i < n; i++)
            size += codec_get32(p + at + 16 + 16 * i + 12);
        codec_put32(p + at, crc_of(&crc, p + at + 8, 8 + 16 * n));
        if (size > len - at - 16 - 16 * n)
            return;
        codec_put32(p + at + 4, crc_of(&crc, p + at + 16 + 16 * n, size));
        at += 16 + 16 * n + size;
    }
}

static void seal_meta(uint8_t *p, size_t len)
{
    if (len >= 32)
        codec_put64(p + 8, crc_more(&crc, crc_of(&crc, p + 16, 16), p + 32, len - 32));
}

static void seal(int what, uint8_t *p, size_t len)
{
    if (what == FILE_OPEN || what == FILE_CLOSED)
        seal_segment(p, len);
    else if (what == FILE_META)
        seal_meta(p, len);
    else if (what == FILE_SNAPSHOT && len == LOG_DESCRIPTOR_SIZE)
        codec_put64(p + len - 8, hash64(p, len - 8));
}

/* ---- the folder ---------------------------------------------------------------------------- */

static void name_of(int what, unsigned a, unsigned b, char *out, size_t size)
{
    switch (what) {
    case FILE_OPEN:
        snprintf(out, size, "open-%u", a);
        break;
    case FILE_CLOSED:
        snprintf(out, size, "%016u-%016u", a, b);
        break;
    case FILE_SNAPSHOT:
    case FILE_META:
        snprintf(out, size, "snapshot-1-%u-%u%s", a, b, what == FILE_META ? ".meta" : "");
        break;
    default:
        snprintf(out, size, "metadata%d", what - FILE_METADATA1 + 1);
    }
}

static void put_file(const char *dir, struct slice *rest)
{
    int byte = fuzz_byte(rest), what = (byte & 0x7f) % FILES;
    unsigned a = fuzz_byte(rest), b = fuzz_byte(rest);
    size_t len = fuzz_byte(rest);
    struct slice bytes = fuzz_take(rest, len | (size_t)fuzz_byte(rest) << 8);
    uint8_t *copy = fuzz_copy(bytes.ptr, bytes.len);
    char name[64], path[PATH_MAX];
    int fd;

    if ((byte & AS_IT_IS) == 0)
        seal(what, copy, bytes.len);
    name_of(what, a, b, name, sizeof(name));
    fd = open(tmpdir_path(path, dir, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0 && write(fd, copy, bytes.len) == (ssize_t)bytes.len);
    close(fd);
    free(copy);
}

static void empty(const char *dir)
{
    DIR *d = opendir(dir);

    ASSERT(d != NULL);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}

/* ---- what must hold ------------------------------------------------------------------------ */

static int look(const char *dir, bool mend, struct log_check_report *r, char *detail)
{
    struct log_check_options o = {.dir = dir, .mend = mend};
    int err = log_check(&o, r, detail);

    ASSERT(err == 0 || err == ERR_CORRUPT || err == ERR_VERSION);
    ASSERT((err == 0) == (detail[0] == '\0') && strlen(detail) < LOG_DETAIL_MAX);
    for (const char *p = detail; *p != '\0'; p++)
        ASSERT(!iscntrl((unsigned char)*p));
    return err;
}

static void expect_same(const struct log_check_report *a, const struct log_check_report *b)
{
    ASSERT(a->fresh == b->fresh && a->first_index == b->first_index);
    ASSERT(a->last_index == b->last_index && a->last_term == b->last_term);
    ASSERT(a->snapshot_index == b->snapshot_index && a->entries == b->entries);
}

/* True: the log is whole. */
static bool check(const char *dir, struct log_check_report *r)
{
    struct log_check_report again;
    char detail[LOG_DETAIL_MAX], same[LOG_DETAIL_MAX];
    int err = look(dir, false, r, detail);

    ASSERT(look(dir, true, &again, same) == err && strcmp(detail, same) == 0);
    if (err != 0)
        return false;
    ASSERT(r->fresh || r->last_index + 1 == r->first_index + r->entries);
    expect_same(r, &again);
    ASSERT(look(dir, true, &again, same) == 0 && again.mended == 0);
    expect_same(r, &again);
    return true;
}

static void start(const char *dir, const struct log_check_report *r)
{
    struct log_stats stats;
    struct harness h;

    harness_init(&h, LOG_RAFT, dir);
    if (harness_start(&h) == 0) {
        log_stats(h.log, &stats);
        ASSERT(r->fresh || stats.last_index >= r->last_index);
        ASSERT(stats.snapshot_index == r->snapshot_index);
    }
    harness_fini(&h);
}

static void run(const uint8_t *data, size_t size, bool always)
{
    static const char *dir;
    struct slice rest = slice_of(data, size);
    struct log_check_report r;

    if (dir == NULL) {
        dir = tmpdir();
        crc_init(&crc);
        logger_set_level(LOGGER_WARNING);
    }
    for (int n = 0; rest.len > 0 && n < FILES_MAX; n++)
        put_file(dir, &rest);
    if (check(dir, &r) && (always || hash64(data, size) % START_ONE_IN == 0))
        start(dir, &r);
    empty(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run(data, size, false);
    return 0;
}

void fuzz_thorough(const uint8_t *data, size_t size)
{
    run(data, size, true);
}
