/* SPDX-License-Identifier: MIT */
/* Verifying a store: FORMAT, the index, every value it names, the log.
 *
 * Happy path: the tree is walked once for its own checks, then once more in key order; each record
 * that lives in a volume is read whole with its header and every chunk is compared with its digest.
 *
 * Failure modes: each damage is printed and the walk goes on. A tree so damaged that liblmdb
 * crashes in it is told by a signal handler and is damage too. Writes that are only in the log
 * (since the last checkpoint of a killed server) are covered by the log's own checksums; what they
 * put, and their payloads, can be looked at once a server has applied them. The verdict counts
 * them.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "log/check.h"
#include "log/log.h"
#include "tool.h"
#include "store/index.h"
#include "store/payload.h"
#include "store/slab.h"

struct verify {
    struct tool *t;
    struct datadir format;
    struct index *index;
    struct index_state state;
    struct slab *slabs; /* by number, fd −1: cannot be used, 0: not opened yet */
    struct tool_buf buf;
    uint64_t inline_keys, slab_keys;
    uint64_t later; /* entries of the log behind the index */
    bool no_memory;
};

/* --- liblmdb may crash ---------------------------------------------------------------------- */

static char opened[INDEX_DETAIL_MAX]; /* what index_open_read says of a file that is short */

static void say(const char *text)
{
    (void)!write(STDOUT_FILENO, text, strlen(text));
}

static void on_crash(int sig)
{
    (void)sig;
    say("damaged: index.mdb: liblmdb crashed in its tree");
    if (opened[0] != '\0') {
        say(": ");
        say(opened);
    }
    say("; use --salvage or a backup\n");
    _exit(EXIT_DAMAGED);
}

static void catch_crashes(void)
{
    struct sigaction sa = {.sa_handler = on_crash};

    fflush(stdout);
    setvbuf(stdout, NULL, _IOLBF, 0); /* what was found so far is out before a crash */
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGABRT, &sa, NULL);
}

/* --- values --------------------------------------------------------------------------------- */

static struct slab *slab_of(struct verify *v, uint32_t number)
{
    struct slab *s;
    int err;

    if (number < 1 || number > VOLUMES_MAX)
        return NULL;
    s = &v->slabs[number];
    if (s->fd == 0) {
        err = slab_open(v->t->dir, number, v->format.uuid, s);
        if (err != 0) {
            s->fd = -1;
            tool_damage(v->t, "vol-%04" PRIu32 ".mdb: %s", number, err_text(err));
        }
    }
    return s->fd > 0 ? s : NULL;
}

static bool header_fits(const struct verify *v, const struct payload_header *h, struct slice key,
                        const struct record *r)
{
    return memcmp(h->uuid, v->format.uuid, sizeof(h->uuid)) == 0 && place_eq(h->place, r->place) &&
           payload_id_eq(h->id, r->payload) && slice_eq(h->key, key) && h->length == r->length &&
           h->digest == r->digest;
}

/* NULL: the value is what the index says; else what is wrong with it. */
static const char *check_value(struct verify *v, struct slice key, const struct record *r)
{
    static struct payload_digest digest;
    struct slab *s = slab_of(v, r->place.volume);
    struct payload_header h;
    struct iovec iov;
    uint64_t slot = volume_slot(r->length);

    if (s == NULL)
        return "its volume cannot be read";
    if (r->place.offset % PAYLOAD_HEADER != 0 || r->place.offset > s->capacity ||
        slot > s->capacity - r->place.offset)
        return "its place is outside the volume";
    if (!tool_buf_grow(&v->buf, slot)) {
        v->no_memory = true;
        return "not enough memory to read it";
    }
    iov = (struct iovec){v->buf.mem, slot};
    if (io_read_all(&io_system, s->fd, &iov, 1, (off_t)(s->base + r->place.offset)) != 0)
        return "cannot be read";
    if (payload_header_decode(v->buf.mem, &h) != 0 || !header_fits(v, &h, key, r))
        return "its header is damaged or another's";
    payload_digest_begin(&digest, r->length);
    payload_digest_update(&digest, v->buf.mem + PAYLOAD_HEADER, r->length);
    if (payload_digest_end(&digest, v->buf.mem + PAYLOAD_HEADER) != r->digest)
        return "its bytes do not match their digests";
    for (uint32_t i = 0; i < h.chunks; i++) {
        if (payload_header_digest(v->buf.mem, i) != digest.digests[i])
            return "the digests in its header are damaged";
    }
    return NULL;
}

static bool on_record(void *ctx, struct slice key, struct slice value)
{
    struct verify *v = ctx;
    char name[TOOL_KEY_TEXT];
    const char *wrong;
    struct record r;

    tool_progress(v->t, "values", v->t->bytes, "bytes verified");
    v->t->keys++;
    if (key.len > RECORD_KEY_MAX || record_decode(key, value, &r) != 0) {
        tool_damage(v->t, "key \"%s\": its index record", tool_key(key, name));
        return true;
    }
    if (r.kind != RECORD_SLAB) {
        v->inline_keys += r.kind == RECORD_INLINE;
        v->t->bytes += r.kind == RECORD_INLINE ? r.length : 0;
        return true;
    }
    v->slab_keys++;
    wrong = check_value(v, key, &r);
    if (wrong == NULL)
        v->t->bytes += r.length;
    else
        tool_damage(v->t, "key \"%s\": vol-%04" PRIu32 ".mdb offset %" PRIu64 ": %s",
                    tool_key(key, name), r.place.volume, r.place.offset, wrong);
    return !v->no_memory;
}

/* --- index ---------------------------------------------------------------------------------- */

static bool on_walk(void *ctx, uint64_t done)
{
    tool_progress(ctx, "index", done, "keys");
    return true;
}

static void check_volume_rows(struct verify *v)
{
    struct volume_row *rows = NULL;
    size_t n = 0;
    int err = index_load_volumes(v->index, &rows, &n);

    if (err != 0)
        tool_damage(v->t, "index.mdb: its volume rows: %s", err_text(err));
    for (size_t i = 0; err == 0 && i < n; i++)
        (void)slab_of(v, rows[i].number);
    free(rows);
}

static int check_index(struct verify *v)
{
    char path[TOOL_PATH_MAX];
    uint64_t keys = 0, bad = 0, before;
    int err;

    snprintf(path, sizeof(path), "%s/index.mdb", v->t->dir);
    if (access(path, F_OK) != 0) {
        snprintf(path, sizeof(path), "%s/vol-0001.mdb", v->t->dir);
        if (access(path, F_OK) == 0)
            tool_damage(v->t, "index.mdb is missing but volumes are there");
        return 0;
    }
    err = index_open_read(path, &v->index, opened);
    if (err == ERR_CORRUPT || err == ERR_VERSION)
        tool_damage(v->t, "%s", opened);
    else if (err != 0)
        return tool_cannot(v->t, "%s", opened);
    if (err != 0)
        return 0;
    if (opened[0] != '\0')
        printf("note: %s\n", opened);
    err = index_load_state(v->index, &v->state);
    if (err != 0)
        tool_damage(v->t, "index.mdb: its state row: %s", err_text(err));
    check_volume_rows(v);
    err = index_verify(v->index, &keys, &bad, on_walk, v->t);
    if (err != 0)
        tool_damage(v->t, "index.mdb: %" PRIu64 " keys found, %" PRIu64 " expected: %s", keys,
                    v->state.keys, err_text(err));
    before = v->t->damaged;
    err = index_scan(v->index, slice_of("", 0), false, on_record, v);
    if (err != 0)
        tool_damage(v->t, "index.mdb: reading its rows: %s", err_text(err));
    if (bad > 0 && v->t->damaged == before)
        tool_damage(v->t, "index.mdb: %" PRIu64 " keys without their expiry row", bad);
    return 0;
}

/* --- log ------------------------------------------------------------------------------------ */

static int check_log(struct verify *v)
{
    char path[TOOL_PATH_MAX], detail[LOG_DETAIL_MAX] = "";
    struct log_check_options o = {.dir = path,
                                  .base = v->format.log_base,
                                  .must_have = v->state.applied};
    struct log_check_report report = {0};
    int err;

    if (!v->format.raft) {
        printf("log: none\n");
        return 0;
    }
    snprintf(path, sizeof(path), "%s/raft", v->t->dir);
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        if (v->state.applied > v->format.log_base)
            tool_damage(v->t, "raft/ is missing");
        else
            printf("log: not begun\n");
        return 0;
    }
    err = log_check(&o, &report, detail);
    if (err == ERR_CORRUPT || err == ERR_VERSION)
        tool_damage(v->t, "%s", detail);
    else if (err != 0)
        return tool_cannot(v->t, "%s: %s", path, detail[0] != '\0' ? detail : err_text(err));
    if (err != 0)
        return 0;
    printf("log: entries up to %" PRIu64 ", %" PRIu64 " bytes read; the index holds up to %" PRIu64
           "\n",
           report.last_index + v->format.log_base, report.bytes, v->state.applied);
    if (report.last_index + v->format.log_base > v->state.applied)
        v->later = report.last_index + v->format.log_base - v->state.applied;
    return 0;
}

static void say_verdict(const struct verify *v)
{
    const struct tool *t = v->t;

    printf("%s: %" PRIu64 " keys (%" PRIu64 " in volumes, %" PRIu64 " in the index), %" PRIu64
           " bytes of values verified, %" PRIu64 " damaged, last stop %s",
           t->damaged == 0 ? "sound" : "DAMAGED", t->keys, v->slab_keys, v->inline_keys, t->bytes,
           t->damaged, v->state.flags & INDEX_CLEAN ? "clean" : "unclean");
    if (v->later > 0)
        printf("; not counted, and their values not looked at: %" PRIu64
               " later entries of the log, which a server applies when it starts",
               v->later);
    putchar('\n');
}

static void say_marker(const struct verify *v)
{
    char path[TOOL_PATH_MAX];

    snprintf(path, sizeof(path), "%s/index.damaged", v->t->dir);
    if (access(path, F_OK) == 0)
        printf("note: a server found damage and left %s; it starts again when that file is "
               "removed\n",
               path);
}

int verify_run(struct tool *t)
{
    char detail[DATADIR_DETAIL_MAX] = "";
    struct verify v = {.t = t};
    int err = datadir_read_format(t->dir, &v.format, detail), status;

    if (err == ERR_CORRUPT) {
        tool_damage(t, "%s", detail);
        return EXIT_DAMAGED;
    }
    if (err != 0)
        return tool_cannot(t, "%s", detail);
    v.slabs = calloc(VOLUMES_MAX + 1, sizeof(*v.slabs));
    if (v.slabs == NULL)
        return tool_cannot(t, "out of memory");
    catch_crashes();
    status = check_index(&v);
    if (status == 0)
        status = check_log(&v);
    index_close(v.index);
    for (uint32_t i = 1; i <= VOLUMES_MAX; i++) {
        if (v.slabs[i].fd > 0)
            slab_close(&v.slabs[i]);
    }
    free(v.slabs);
    free(v.buf.mem);
    if (v.no_memory)
        return tool_cannot(t, "out of memory");
    if (status != 0)
        return status;
    say_marker(&v);
    say_verdict(&v);
    return t->damaged == 0 ? EXIT_SOUND : EXIT_DAMAGED;
}
