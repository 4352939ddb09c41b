/* SPDX-License-Identifier: MIT */
/* Reads everything libraft will read, before libraft does, and decides in three steps.
 *
 * 1. What is there: metadata1|2, the newest snapshot with both its files, closed segments by
 *    index, open ones by counter. Leftovers libraft removes by itself (tmp-*, half a snapshot)
 *    and names that are not its own are left alone.
 * 2. Is it whole: checksums, index after index without a gap, terms that never go back, every
 *    entry at the index its trailer names, the snapshot inside the log, nothing but zeros or one
 *    torn write behind the last batch of the last open segment. The first thing found wrong is
 *    the refusal; no file was touched by then.
 * 3. Mend what a crash may leave and 0.22.1 cannot start with or would misread: a torn batch is
 *    cut off and replaced by zeros, a folder whose bootstrap was interrupted is emptied.
 *
 * A segment missing below the snapshot is not needed and only said in the log; anywhere else it
 * is damage. An unfinished write is told from damage by what is behind it: see segment_tail.
 */
#include "log/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/io.h"
#include "base/logger.h"
#include "log/log_int.h"
#include "log/segment.h"

#define REPAIR "repair: sldmkv-check --salvage"

enum { NAME_BYTES = 128, MENDS_MAX = 32, METADATA_SIZE = 32, META_HEADER = 32, BLOCK = 4096 };
enum { CONFIGURATION_MAX = 1 << 20, VERSIONS_AHEAD = 255 };

struct segment {
    char name[NAME_BYTES];
    bool open;
    uint64_t first, last; /* closed: indexes; open: first = counter */
};

struct snapshot {
    char name[NAME_BYTES]; /* of the data file; empty = none */
    uint64_t term, index, stamp;
};

struct metadata {
    bool present;
    uint64_t version, term, vote;
};

struct mend {
    char name[NAME_BYTES];
    uint64_t cut, size; /* truncated to `cut`, then grown to `size` with zeros */
    bool remove;
};

struct check {
    const struct log_check_options *o;
    char *detail;
    int dirfd;
    struct crc crc;
    struct segment *segments;
    size_t nsegments, skip; /* the first `skip` are not needed */
    struct snapshot snapshot;
    struct metadata metadata[2];
    uint64_t next_index, last_term;
    bool ended; /* a torn batch was met: no entry may follow */
    struct mend mends[MENDS_MAX];
    unsigned nmends;
    uint8_t *buffer; /* of the file being looked at */
    size_t room;
    struct log_check_report r;
};

__attribute__((format(printf, 4, 5))) static int damage(struct check *c, const char *name,
                                                        uint64_t offset, const char *format, ...)
{
    char what[160];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    snprintf(c->detail, LOG_DETAIL_MAX, "%s/%s: damaged at byte %llu: %s; " REPAIR, c->o->dir, name,
             (unsigned long long)offset, what);
    return ERR_CORRUPT;
}

static int system_error(struct check *c, const char *name, const char *call)
{
    int err = errno;

    snprintf(c->detail, LOG_DETAIL_MAX, "%s/%s: %s: %s", c->o->dir, name, call, strerror(err));
    return err_from_errno(err);
}

/* A format next to ours comes from a newer libraft; anything else is damage. */
static int bad_format(struct check *c, const char *name, uint64_t format)
{
    if (format <= SEGMENT_FORMAT || format > SEGMENT_FORMAT + VERSIONS_AHEAD)
        return damage(c, name, 0, "format %llx", (unsigned long long)format);
    snprintf(c->detail, LOG_DETAIL_MAX,
             "%s/%s: format %llu: written by a newer libraft (this one reads format %d); if none "
             "ever ran here, it is damaged: " REPAIR,
             c->o->dir, name, (unsigned long long)format, SEGMENT_FORMAT);
    return ERR_VERSION;
}

/* ---- files ------------------------------------------------------------------------------ */

static int read_all(struct check *c, const char *name, int fd, uint8_t *out, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = read(fd, out + got, len - got);

        if (n == 0)
            return damage(c, name, got, "the file became shorter while it was read");
        if (n < 0 && errno != EINTR)
            return system_error(c, name, "read");
        if (n > 0)
            got += (size_t)n;
    }
    c->r.bytes += len;
    return 0;
}

/* One buffer for all files, so that a segment does not fault its pages in anew. */
static uint8_t *room_for(struct check *c, size_t len)
{
    if (len > c->room || c->buffer == NULL) {
        free(c->buffer);
        c->buffer = malloc(len > BLOCK ? len : BLOCK);
        c->room = c->buffer == NULL ? 0 : (len > BLOCK ? len : BLOCK);
    }
    return c->buffer;
}

/* out is valid until the next read_file. */
static int read_file(struct check *c, const char *name, struct slice *out)
{
    int fd = openat(c->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
    struct stat st;

    if (fd < 0)
        return system_error(c, name, "open");
    if (fstat(fd, &st) != 0)
        rc = system_error(c, name, "stat");
    else if (!S_ISREG(st.st_mode))
        rc = damage(c, name, 0, "not a regular file");
    else if ((uint64_t)st.st_size > LOG_CHECK_FILE_MAX)
        rc = damage(c, name, LOG_CHECK_FILE_MAX, "the file is too large");
    else if (room_for(c, (size_t)st.st_size) == NULL)
        rc = ERR_NOMEM;
    else
        rc = read_all(c, name, fd, c->buffer, (size_t)st.st_size);
    close(fd);
    if (rc == 0)
        *out = slice_of(c->buffer, (size_t)st.st_size);
    return rc;
}

static void copy_name(char out[NAME_BYTES], const char *name)
{
    size_t len = strlen(name);

    ASSERT(len < NAME_BYTES); /* list() takes no longer one */
    memcpy(out, name, len + 1);
}

/* Digits only, at most 20 of them: sscanf would take signs and blanks. Returns what follows. */
static const char *number(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    int digits = 0;

    for (; *s >= '0' && *s <= '9'; s++, digits++) {
        if (digits == 20 || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return NULL;
    }
    *out = v;
    return digits > 0 ? s : NULL;
}

static bool parse_segment(const char *name, struct segment *s)
{
    const char *p;

    memset(s, 0, sizeof(*s));
    s->open = strncmp(name, "open-", 5) == 0;
    p = number(s->open ? name + 5 : name, &s->first);
    if (p != NULL && !s->open)
        p = *p == '-' ? number(p + 1, &s->last) : NULL;
    if (p == NULL || *p != '\0')
        return false;
    copy_name(s->name, name);
    return true;
}

static bool parse_snapshot(const char *name, struct snapshot *s)
{
    const char *p = strncmp(name, "snapshot-", 9) == 0 ? number(name + 9, &s->term) : NULL;

    p = p != NULL && *p == '-' ? number(p + 1, &s->index) : NULL;
    p = p != NULL && *p == '-' ? number(p + 1, &s->stamp) : NULL;
    if (p == NULL || *p != '\0')
        return false;
    copy_name(s->name, name);
    return true;
}

static bool newer(const struct snapshot *a, const struct snapshot *b)
{
    if (a->term != b->term)
        return a->term > b->term;
    return a->index != b->index ? a->index > b->index : a->stamp > b->stamp;
}

static void consider_snapshot(struct check *c, const struct snapshot *s)
{
    char meta[NAME_BYTES + 8];
    struct stat st;

    snprintf(meta, sizeof(meta), "%s.meta", s->name);
    if (fstatat(c->dirfd, meta, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return; /* half a snapshot: libraft removes it */
    if (c->snapshot.name[0] == '\0' || newer(s, &c->snapshot))
        c->snapshot = *s;
}

static int add_segment(struct check *c, const struct segment *s)
{
    struct segment *grown = realloc(c->segments, (c->nsegments + 1) * sizeof(*grown));

    if (grown == NULL)
        return ERR_NOMEM;
    c->segments = grown;
    c->segments[c->nsegments++] = *s;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct segment *x = a, *y = b;

    if (x->open != y->open)
        return x->open ? 1 : -1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static int list(struct check *c)
{
    DIR *d = opendir(c->o->dir);
    int rc = 0;

    if (d == NULL)
        return system_error(c, "", "opendir");
    for (struct dirent *e = readdir(d); e != NULL && rc == 0; e = readdir(d)) {
        struct segment segment;
        struct snapshot snapshot;

        if (strlen(e->d_name) >= NAME_BYTES)
            continue;
        if (parse_segment(e->d_name, &segment))
            rc = add_segment(c, &segment);
        else if (parse_snapshot(e->d_name, &snapshot))
            consider_snapshot(c, &snapshot);
    }
    closedir(d);
    if (c->nsegments > 0)
        qsort(c->segments, c->nsegments, sizeof(*c->segments), by_place);
    return rc;
}

/* ---- metadata --------------------------------------------------------------------------- */

/* A file shorter than it should be was torn when it was first written; libraft removes it. */
static int read_metadata(struct check *c, unsigned which)
{
    const char *name = which == 0 ? "metadata1" : "metadata2";
    struct metadata *m = &c->metadata[which];
    struct slice file;
    struct stat st;
    int rc;

    if (fstatat(c->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : system_error(c, name, "stat");
    rc = read_file(c, name, &file);
    if (rc != 0)
        return rc;
    if (file.len >= METADATA_SIZE) {
        m->present = true;
        m->version = codec_get64(file.ptr + 8);
        m->term = codec_get64(file.ptr + 16);
        m->vote = codec_get64(file.ptr + 24);
        if (codec_get64(file.ptr) != SEGMENT_FORMAT)
            rc = bad_format(c, name, codec_get64(file.ptr));
        else if (file.len > METADATA_SIZE)
            rc = damage(c, name, METADATA_SIZE, "%zu bytes instead of %d", file.len, METADATA_SIZE);
        else if (m->version == 0 || m->version % 2 != (which == 0 ? 1 : 0))
            rc = damage(c, name, 8, "version %llu", (unsigned long long)m->version);
    }
    return rc;
}

/* They are written in turn: two files are one version apart, and the term never gets smaller. */
static int check_metadata(struct check *c)
{
    const struct metadata *a = &c->metadata[0], *b = &c->metadata[1], *newest, *other;
    int rc = read_metadata(c, 0);

    if (rc == 0)
        rc = read_metadata(c, 1);
    if (rc != 0 || (!a->present && !b->present))
        return rc;
    newest = !b->present || (a->present && a->version > b->version) ? a : b;
    other = newest == a ? b : a;
    c->r.term = newest->term;
    if (newest->term == 0)
        return damage(c, newest == a ? "metadata1" : "metadata2", 16, "term 0");
    if (!other->present)
        return 0;
    if (newest->version != other->version + 1)
        return damage(c, "metadata1", 8, "version %llu beside %llu in metadata2",
                      (unsigned long long)a->version, (unsigned long long)b->version);
    if (newest->term < other->term)
        return damage(c, newest == a ? "metadata1" : "metadata2", 16, "term %llu after %llu",
                      (unsigned long long)newest->term, (unsigned long long)other->term);
    return 0;
}

/* ---- snapshot --------------------------------------------------------------------------- */

static int check_meta(struct check *c, const char *name, struct slice meta)
{
    uint64_t len;
    uint32_t crc;

    if (meta.len < META_HEADER)
        return damage(c, name, meta.len, "the file is cut short");
    if (codec_get64(meta.ptr) != SEGMENT_FORMAT)
        return bad_format(c, name, codec_get64(meta.ptr));
    len = codec_get64(meta.ptr + 24);
    if (len == 0 || len > CONFIGURATION_MAX || meta.len != META_HEADER + len)
        return damage(c, name, 24, "%llu bytes of configuration in a file of %zu",
                      (unsigned long long)len, meta.len);
    crc = crc_of(&c->crc, meta.ptr + 16, 16);
    crc = crc_more(&c->crc, crc, meta.ptr + META_HEADER, len);
    if (codec_get64(meta.ptr + 8) != crc)
        return damage(c, name, 8, "checksum of the configuration");
    if (!configuration_whole(slice_of(meta.ptr + META_HEADER, len)))
        return damage(c, name, META_HEADER, "the configuration");
    if (codec_get64(meta.ptr + 16) > c->snapshot.index)
        return damage(c, name, 16, "a configuration newer than the snapshot");
    return 0;
}

static int check_data(struct check *c, struct slice data)
{
    struct log_descriptor d;
    int rc = log_descriptor_decode(data, &d);

    if (rc == ERR_VERSION)
        snprintf(c->detail, LOG_DETAIL_MAX,
                 "%s/%s: the snapshot was written by a newer version of this server", c->o->dir,
                 c->snapshot.name);
    else if (rc != 0)
        return damage(c, c->snapshot.name, 0, "the snapshot's descriptor");
    return rc;
}

static int check_snapshot(struct check *c)
{
    char name[NAME_BYTES + 8];
    struct slice file;
    int rc;

    if (c->snapshot.name[0] == '\0')
        return 0;
    snprintf(name, sizeof(name), "%s.meta", c->snapshot.name);
    rc = read_file(c, name, &file);
    if (rc != 0)
        return rc;
    rc = check_meta(c, name, file);
    if (rc == 0)
        rc = read_file(c, c->snapshot.name, &file);
    if (rc != 0)
        return rc;
    c->r.snapshot_index = c->snapshot.index;
    return check_data(c, file);
}

/* ---- segments --------------------------------------------------------------------------- */

static int visit_entry(struct check *c, const struct segment *s, size_t at,
                       const struct batch_entry *e)
{
    uint64_t index = c->next_index++;
    const uint8_t *trailer = e->bytes.ptr + e->bytes.len - LOG_CHECK_TRAILER;

    if (e->term < c->last_term || (c->r.term != 0 && e->term > c->r.term))
        return damage(c, s->name, at, "term %llu at index %llu, after %llu and below %llu",
                      (unsigned long long)e->term, (unsigned long long)index,
                      (unsigned long long)c->last_term, (unsigned long long)c->r.term);
    c->last_term = e->term;
    if (index == c->snapshot.index && e->term != c->snapshot.term)
        return damage(c, s->name, at, "term %llu at the snapshot's index, which has term %llu",
                      (unsigned long long)e->term, (unsigned long long)c->snapshot.term);
    if (e->type == SEGMENT_CHANGE && !configuration_whole(e->bytes))
        return damage(c, s->name, at, "the configuration at index %llu", (unsigned long long)index);
    if (e->type != SEGMENT_COMMAND)
        return 0;
    if (e->bytes.len < LOG_CHECK_TRAILER + 8)
        return damage(c, s->name, at, "an entry of %zu bytes", e->bytes.len);
    if (codec_get64(trailer) != index || codec_get64(trailer + 8) != e->term)
        return damage(c, s->name, at,
                      "this entry was written as index %llu and stands at %llu: a segment before "
                      "it is missing or another log's",
                      (unsigned long long)codec_get64(trailer), (unsigned long long)index);
    return 0;
}

/* Whole batches from the file's first on; *end is where the last of them ends. */
static int visit_batches(struct check *c, const struct segment *s, struct slice file, size_t *end)
{
    struct batch b;
    int rc = 0;

    *end = 8;
    while (rc == 0 && batch_read(&c->crc, file, *end, &b)) {
        size_t offset = 0;

        for (uint64_t i = 0; i < b.n && rc == 0; i++) {
            struct batch_entry e = batch_entry(&b, i, &offset);

            rc = visit_entry(c, s, *end, &e);
        }
        c->r.entries += b.n;
        *end = b.end;
    }
    return rc;
}

static int mend(struct check *c, const char *name, uint64_t cut, uint64_t size, bool remove)
{
    struct mend *m = &c->mends[c->nmends];

    if (c->nmends == MENDS_MAX)
        return damage(c, name, cut, "too many files to mend");
    c->nmends++;
    copy_name(m->name, name);
    m->cut = cut;
    m->size = size;
    m->remove = remove;
    return 0;
}

static int check_closed(struct check *c, const struct segment *s, struct slice file)
{
    size_t end;
    int rc;

    if (file.len < 8)
        return damage(c, s->name, file.len, "the file is cut short");
    if (codec_get64(file.ptr) != SEGMENT_FORMAT)
        return bad_format(c, s->name, codec_get64(file.ptr));
    rc = visit_batches(c, s, file, &end);
    if (rc != 0)
        return rc;
    if (c->next_index != s->last + 1)
        return damage(c, s->name, end, "checksum: index %llu cannot be read",
                      (unsigned long long)c->next_index);
    if (!segment_zero(file, end))
        return damage(c, s->name, end, "bytes behind the last entry");
    /* Renamed and not yet cut to its length: libraft would refuse the zeros. */
    return end == file.len ? 0 : mend(c, s->name, end, end, false);
}

/* An open segment without a format word: never written, or its first write is torn. */
static int check_unwritten(struct check *c, const struct segment *s, struct slice file)
{
    size_t where;

    if (file.len >= 8 && codec_get64(file.ptr) != 0)
        return bad_format(c, s->name, codec_get64(file.ptr));
    switch (segment_tail(&c->crc, file, 0, &where)) {
    case SEGMENT_CLEAN:
        return file.len == 0 || file.len >= 8 ? 0 : mend(c, s->name, 0, 0, false);
    case SEGMENT_TORN:
        c->ended = true;
        return mend(c, s->name, 0, 0, false);
    case SEGMENT_DAMAGED:
        break;
    }
    return damage(c, s->name, 0, "the first bytes are gone and an entry follows at %zu", where);
}

/* libraft must find zeros behind the last batch, or the end of the file right there. */
static int check_open(struct check *c, const struct segment *s, struct slice file)
{
    uint64_t first = c->next_index;
    bool ended = c->ended;
    size_t end, where;
    int rc;

    if (file.len < 8 || codec_get64(file.ptr) != SEGMENT_FORMAT)
        return check_unwritten(c, s, file);
    rc = visit_batches(c, s, file, &end);
    if (rc != 0)
        return rc;
    if (ended && c->next_index > first)
        return damage(c, s->name, 8, "entries follow a batch that cannot be read");
    switch (segment_tail(&c->crc, file, end, &where)) {
    case SEGMENT_CLEAN:
        if (file.len - end >= 16 || (file.len == end && end > 8))
            return 0;
        return mend(c, s->name, end, end + BLOCK, false);
    case SEGMENT_TORN:
        c->ended = true;
        return mend(c, s->name, end, end + BLOCK, false);
    case SEGMENT_DAMAGED:
        break;
    }
    return damage(c, s->name, end, "index %llu cannot be read, and more follows at byte %zu",
                  (unsigned long long)c->next_index, where);
}

/* As libraft does: the longest run of closed segments that ends with the last. */
static int choose_run(struct check *c)
{
    size_t last = 0;

    while (last < c->nsegments && !c->segments[last].open)
        last++;
    c->next_index = c->snapshot.index + 1;
    if (last == 0)
        return 0;
    for (c->skip = last - 1; c->skip > 0; c->skip--)
        if (c->segments[c->skip - 1].last + 1 != c->segments[c->skip].first)
            break;
    if (c->segments[c->skip].first > c->snapshot.index + 1 || c->segments[c->skip].first == 0)
        return damage(c, c->segments[c->skip].name, 0,
                      "the segment with index %llu before it is missing",
                      (unsigned long long)c->segments[c->skip].first - 1);
    if (c->skip > 0)
        LOG_NOTICE("log: segments older than the snapshot are left over: dir=%s first=%s",
                   c->o->dir, c->segments[0].name);
    c->next_index = c->segments[c->skip].first;
    return 0;
}

static int check_segments(struct check *c)
{
    int rc = choose_run(c);

    c->r.first_index = c->next_index;
    for (size_t i = c->skip; i < c->nsegments && rc == 0; i++) {
        const struct segment *s = &c->segments[i];
        struct slice file;

        if (!s->open && s->last < s->first)
            return damage(c, s->name, 0, "the name says that it ends before it begins");
        rc = read_file(c, s->name, &file);
        if (rc != 0)
            return rc;
        rc = s->open ? check_open(c, s, file) : check_closed(c, s, file);
        c->r.segments++;
    }
    c->r.last_index = c->next_index - 1;
    c->r.last_term = c->last_term;
    return rc;
}

/* ---- the whole -------------------------------------------------------------------------- */

/* Entries and snapshot against metadata. libraft writes metadata1 first of all, then the first
 * segment under a temporary name, and open segments only when it has started: so only metadata1
 * all alone can be a bootstrap half done. */
static int check_whole(struct check *c)
{
    const struct metadata *a = &c->metadata[0], *b = &c->metadata[1];
    bool entries = c->r.entries > 0;

    if (!a->present && !b->present) {
        if (entries || c->snapshot.name[0] != '\0')
            return damage(c, "metadata1", 0, "metadata1 and metadata2 are missing");
        c->r.fresh = true;
        return 0;
    }
    if (!entries && c->snapshot.name[0] == '\0') {
        if (!a->present || a->version != 1 || b->present || c->nsegments > 0)
            return damage(c, "metadata1", 0, "all segments are missing");
        c->r.fresh = true;
        return mend(c, "metadata1", 0, 0, true);
    }
    /* The snapshot's last entry always stays in the log (trailing). */
    if (!entries || c->r.last_index < c->snapshot.index)
        return damage(c, c->snapshot.name, 0, "the log ends at index %llu, before its snapshot",
                      (unsigned long long)c->r.last_index);
    return 0;
}

static int check_length(struct check *c)
{
    uint64_t last = c->r.last_index + c->o->base;

    if (c->r.fresh)
        last = c->o->base;
    if (last >= c->o->must_have)
        return 0;
    snprintf(c->detail, LOG_DETAIL_MAX,
             "%s: %s at index %llu, the store has applied %llu: acknowledged writes are "
             "missing; " REPAIR,
             c->o->dir, c->r.fresh ? "the log is gone and would begin" : "the log ends",
             (unsigned long long)last, (unsigned long long)c->o->must_have);
    return ERR_CORRUPT;
}

static int mend_one(struct check *c, const struct mend *m)
{
    int fd, rc = 0;

    if (m->remove) {
        LOG_NOTICE("log: a bootstrap was interrupted, starting over: dir=%s", c->o->dir);
        return unlinkat(c->dirfd, m->name, 0) == 0 ? 0 : system_error(c, m->name, "unlink");
    }
    LOG_NOTICE("log: dropped what an unfinished write left: file=%s/%s offset=%llu", c->o->dir,
               m->name, (unsigned long long)m->cut);
    fd = openat(c->dirfd, m->name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return system_error(c, m->name, "open");
    if (ftruncate(fd, (off_t)m->cut) != 0 || ftruncate(fd, (off_t)m->size) != 0 || fsync(fd) != 0)
        rc = system_error(c, m->name, "truncate");
    close(fd);
    return rc;
}

static int mend_all(struct check *c)
{
    int rc = 0;

    for (unsigned i = 0; i < c->nmends && rc == 0; i++, c->r.mended++)
        rc = mend_one(c, &c->mends[i]);
    if (rc == 0 && c->nmends > 0)
        rc = io_sync_dir(c->o->dir);
    return rc;
}

static int run(struct check *c)
{
    int rc = list(c);

    if (rc == 0)
        rc = check_metadata(c);
    if (rc == 0)
        rc = check_snapshot(c);
    if (rc == 0)
        rc = check_segments(c);
    if (rc == 0)
        rc = check_whole(c);
    if (rc == 0)
        rc = check_length(c);
    if (rc == 0 && c->o->mend)
        rc = mend_all(c);
    return rc;
}

int log_check(const struct log_check_options *o, struct log_check_report *out, char *detail)
{
    struct check *c = calloc(1, sizeof(*c));
    int rc;

    detail[0] = '\0';
    if (c == NULL)
        return ERR_NOMEM;
    c->o = o;
    c->detail = detail;
    c->dirfd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->dirfd < 0) {
        rc = system_error(c, "", "open");
    } else {
        crc_init(&c->crc);
        rc = run(c);
        close(c->dirfd);
    }
    if (rc == 0)
        *out = c->r;
    free(c->segments);
    free(c->buffer);
    free(c);
    return rc;
}
