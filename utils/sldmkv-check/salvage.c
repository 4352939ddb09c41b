/* SPDX-License-Identifier: MIT */
/* Salvage: a new store from the volumes alone.
 *
 * Happy path:
 *   1. every volume is read page by page; what looks like a record header of this store, at the
 *      place it names, and whose payload matches its digests, is remembered. The walk goes on
 *      behind a whole record, else with the next page
 *   2. of each key the record that was staged last stays (boot and number of the payload id)
 *   3. these are read again, staged into a new store like uploads, and put; FORMAT is written
 *      last, so a directory that is not finished is no data directory
 *
 * The new store's log begins behind the largest index a header names: no mod that a client may
 * remember comes twice.
 *
 * What volumes cannot tell: values kept in the index, deletions and renames, expiries changed
 * later. It is said at the end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "store/slab.h"
#include "store/store.h"
#include "tool.h"

#define WINDOW ((uint64_t)1 << 20)
#define PAGE PAYLOAD_HEADER
#define WAIT_MS 20
#define DRAIN_BATCH 256u
#define STALL_S 120
#define POOL_MIN ((size_t)256 << 20)
#define VOLUME_SIZE_MIN ((uint64_t)64 << 20)

struct found {
    uint8_t *key;
    size_t key_len;
    uint32_t volume, node, boot;
    uint64_t seq, applied, at, length, expire_ms; /* at: file offset of the header */
};

struct salvage {
    struct tool *t;
    uint8_t uuid[16]; /* of the old store */
    uint32_t node;
    bool raft;
    int fd; /* of the volume in hand */
    uint32_t volume;
    struct found *found;
    size_t count, room;
    uint64_t max_applied, largest, file_size, older, expired, lost;
    struct tool_buf window, buf;
    /* the new store */
    const char *new_dir;
    struct inbox *inbox;
    struct clock clock;
    struct buf_pool *pool;
    struct store *store;
    bool staged; /* the stage or a checkpoint has answered, with stage_err */
    int stage_err;
    uint64_t index;
};

/* --- what the volumes hold ------------------------------------------------------------------ */

static int read_at(int fd, void *to, uint64_t len, uint64_t at)
{
    struct iovec iov = {to, len};

    return io_read_all(&io_system, fd, &iov, 1, (off_t)at);
}

static bool remember(struct salvage *s, const struct payload_header *h, uint64_t at)
{
    struct found *f;

    if (s->count == s->room) {
        size_t room = s->room == 0 ? 1024 : s->room * 2;
        struct found *more = realloc(s->found, room * sizeof(*more));

        if (more == NULL)
            return false;
        s->found = more;
        s->room = room;
    }
    f = &s->found[s->count];
    *f = (struct found){.key_len = h->key.len,
                        .volume = s->volume,
                        .node = h->id.node,
                        .boot = h->id.boot,
                        .seq = h->id.seq,
                        .applied = h->applied,
                        .at = at,
                        .length = h->length,
                        .expire_ms = h->expire_ms};
    f->key = malloc(h->key.len);
    if (f->key == NULL)
        return false;
    memcpy(f->key, h->key.ptr, h->key.len);
    s->count++;
    if (h->applied > s->max_applied)
        s->max_applied = h->applied;
    if (h->length > s->largest)
        s->largest = h->length;
    return true;
}

static bool payload_is_whole(const uint8_t *slot, const struct payload_header *h,
                             struct payload_digest *d)
{
    payload_digest_begin(d, h->length);
    payload_digest_update(d, slot + PAGE, h->length);
    return payload_digest_end(d, slot + PAGE) == h->digest;
}

/* How far to go on from a page with a valid header: over a whole record, else one page. 0: out of
 * memory. */
static uint64_t look(struct salvage *s, const uint8_t *page, uint64_t at, uint64_t size)
{
    static struct payload_digest digest;
    char name[TOOL_KEY_TEXT];
    struct payload_header h;
    uint64_t slot;
    int err = payload_header_decode(page, &h);

    if (err != 0 || memcmp(h.uuid, s->uuid, sizeof(h.uuid)) != 0 || h.place.volume != s->volume ||
        h.place.offset >= at || h.key.len == 0)
        return PAGE;
    slot = volume_slot(h.length);
    if (slot > size - at) {
        tool_damage(s->t, "key \"%s\": vol-%04" PRIu32 ".mdb is cut short", tool_key(h.key, name),
                    s->volume);
        return PAGE;
    }
    if (!tool_buf_grow(&s->buf, slot))
        return 0;
    if (read_at(s->fd, s->buf.mem, slot, at) != 0 || payload_header_decode(s->buf.mem, &h) != 0 ||
        !payload_is_whole(s->buf.mem, &h, &digest)) {
        (void)payload_header_decode(page, &h);
        tool_damage(s->t, "key \"%s\": vol-%04" PRIu32 ".mdb: a value does not match its digests",
                    tool_key(h.key, name), s->volume);
        return PAGE;
    }
    s->t->bytes += h.length;
    return remember(s, &h, at) ? slot : 0;
}

/* A window that cannot be read is passed over. False: out of memory. */
static bool walk(struct salvage *s, uint64_t size)
{
    uint64_t at = 0;

    while (at + PAGE <= size) {
        uint64_t len = size - at < WINDOW ? (size - at) & ~(uint64_t)(PAGE - 1) : WINDOW;
        uint64_t from = at;

        tool_progress(s->t, "volumes", s->t->bytes, "bytes verified");
        if (read_at(s->fd, s->window.mem, len, from) != 0) {
            tool_damage(s->t, "vol-%04" PRIu32 ".mdb: cannot be read at %" PRIu64, s->volume, from);
            at += len;
            continue;
        }
        while (at + PAGE <= from + len) {
            uint64_t step = look(s, s->window.mem + (at - from), at, size);

            if (step == 0)
                return false;
            at += step;
        }
    }
    return true;
}

static int walk_volume(struct salvage *s, uint32_t number)
{
    char path[TOOL_PATH_MAX];
    struct stat st;
    bool good;

    slab_path(s->t->dir, number, path, sizeof(path));
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) != 0) {
        tool_damage(s->t, "%s: %s", path, strerror(errno));
        if (s->fd >= 0)
            close(s->fd);
        return 0;
    }
    s->volume = number;
    if ((uint64_t)st.st_size > s->file_size)
        s->file_size = (uint64_t)st.st_size;
    good = walk(s, (uint64_t)st.st_size);
    close(s->fd);
    return good ? 0 : tool_cannot(s->t, "out of memory");
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Numbers of the volume files, ascending; at most VOLUMES_MAX. */
static size_t list_volumes(const char *path, uint32_t *numbers)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    size_t n = 0;
    int end;

    while (dir != NULL && n < VOLUMES_MAX && (e = readdir(dir)) != NULL) {
        end = -1;
        if (sscanf(e->d_name, "vol-%" SCNu32 ".mdb%n", &numbers[n], &end) == 1 && end > 0 &&
            e->d_name[end] == '\0' && numbers[n] >= 1 && numbers[n] <= VOLUMES_MAX)
            n++;
    }
    if (dir != NULL)
        closedir(dir);
    qsort(numbers, n, sizeof(*numbers), by_number);
    return n;
}

/* From FORMAT, else from the first volume whose header is whole. */
static int learn_store(struct salvage *s, const uint32_t *numbers, size_t n)
{
    char detail[DATADIR_DETAIL_MAX];
    struct datadir d;
    struct slab slab;

    s->node = 1;
    s->raft = true;
    if (datadir_read_format(s->t->dir, &d, detail) == 0) {
        memcpy(s->uuid, d.uuid, sizeof(s->uuid));
        s->node = d.node;
        s->raft = d.raft;
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (slab_open(s->t->dir, numbers[i], NULL, &slab) != 0)
            continue;
        memcpy(s->uuid, slab.uuid, sizeof(s->uuid));
        slab_close(&slab);
        printf("FORMAT cannot be read: taking the store of vol-%04" PRIu32 ".mdb, as node 1 with "
               "raft yes\n",
               numbers[i]);
        return 0;
    }
    return tool_cannot(s->t, "%s: neither FORMAT nor a volume header can be read", s->t->dir);
}

static int collect(struct salvage *s)
{
    uint32_t *numbers = calloc(VOLUMES_MAX, sizeof(*numbers));
    size_t n = numbers == NULL ? 0 : list_volumes(s->t->dir, numbers);
    int status;

    if (numbers == NULL || !tool_buf_grow(&s->window, WINDOW)) {
        free(numbers);
        return tool_cannot(s->t, "out of memory");
    }
    status = n == 0 ? tool_cannot(s->t, "%s: no volumes", s->t->dir) : learn_store(s, numbers, n);
    for (size_t i = 0; status == 0 && i < n; i++)
        status = walk_volume(s, numbers[i]);
    free(numbers);
    return status;
}

/* --- which of them stay --------------------------------------------------------------------- */

/* By key, the one staged last first: a moved copy keeps its id and is the same value. */
static int by_key(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int c = slice_cmp(slice_of(x->key, x->key_len), slice_of(y->key, y->key_len));

    if (c != 0)
        return c;
    if (x->boot != y->boot)
        return x->boot < y->boot ? 1 : -1;
    if (x->seq != y->seq)
        return x->seq < y->seq ? 1 : -1;
    if (x->applied != y->applied)
        return x->applied < y->applied ? 1 : -1;
    return (x->node < y->node) - (x->node > y->node);
}

static bool same_key(const struct found *x, const struct found *y)
{
    return slice_eq(slice_of(x->key, x->key_len), slice_of(y->key, y->key_len));
}

static void choose(struct salvage *s)
{
    uint64_t now = clock_now_ms(&s->clock);
    size_t kept = 0;

    if (s->count > 0)
        qsort(s->found, s->count, sizeof(*s->found), by_key);
    for (size_t i = 0, first = 0; i < s->count; i++) {
        if (i > 0 && same_key(&s->found[i], &s->found[first])) {
            s->older++;
            continue;
        }
        first = i;
        if (s->found[i].expire_ms != 0 && now >= s->found[i].expire_ms) {
            s->expired++;
            continue;
        }
        /* Swapped, not copied: `first` must stay readable and every key is freed once. */
        struct found f = s->found[kept];

        s->found[kept] = s->found[i];
        s->found[i] = f;
        first = kept++;
    }
    for (size_t i = kept; i < s->count; i++)
        free(s->found[i].key);
    s->count = kept;
}

/* --- the new store -------------------------------------------------------------------------- */

/* A store as large as it must be evicts nothing. */
static bool propose_nothing(void *ctx, struct slice key, uint64_t mod)
{
    (void)ctx;
    (void)key;
    (void)mod;
    return true;
}

static uint64_t slots_of(const struct salvage *s)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < s->count; i++)
        sum += volume_slot(s->found[i].length);
    return sum;
}

/* Absent or empty; FORMAT is not written yet. */
static int make_dir(struct salvage *s, int *lock)
{
    char detail[DATADIR_DETAIL_MAX] = "";
    struct dirent *e;
    bool empty = true;
    DIR *dir;

    if (mkdir(s->new_dir, 0700) != 0 && errno != EEXIST)
        return tool_cannot(s->t, "%s: %s", s->new_dir, strerror(errno));
    dir = opendir(s->new_dir);
    if (dir == NULL)
        return tool_cannot(s->t, "%s: %s", s->new_dir, strerror(errno));
    while ((e = readdir(dir)) != NULL)
        empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    closedir(dir);
    if (!empty)
        return tool_cannot(s->t, "%s is not empty", s->new_dir);
    if (datadir_lock(s->new_dir, lock, detail) != 0)
        return tool_cannot(s->t, "%s", detail);
    return 0;
}

static int open_store(struct salvage *s, struct datadir *d)
{
    char detail[INDEX_DETAIL_MAX] = "";
    uint64_t volume_size = s->file_size & ~(uint64_t)(PAGE - 1), most = slots_of(s), max_applied;
    size_t pool = POOL_MIN + 3 * (size_t)volume_slot(s->largest);
    struct index_state state;
    struct store_config c = {.dir = s->new_dir,
                             .node = s->node,
                             .io = &io_system,
                             .read_threads = 1,
                             .propose_evict = propose_nothing,
                             .ctx = s};
    int err;

    if (volume_size < VOLUME_SIZE_MIN)
        volume_size = VOLUME_SIZE_MIN;
    if (volume_size > SLAB_SIZE_MAX)
        volume_size = SLAB_SIZE_MAX;
    s->inbox = inbox_new();
    s->pool = buf_pool_new(pool);
    if (s->inbox == NULL || s->pool == NULL)
        return tool_cannot(s->t, "out of memory");
    hash_random(d->uuid, sizeof(d->uuid));
    memcpy(c.uuid, d->uuid, sizeof(c.uuid));
    c.inbox = s->inbox;
    c.clock = &s->clock;
    c.pool = s->pool;
    c.volume_size = volume_size;
    c.max_store_bytes = 2 * most + 8 * volume_size;
    c.max_index_bytes = INDEX_MAP_BYTES / 2;
    err = store_open(&c, &s->store, &state, detail);
    if (err == 0)
        err = store_recover(s->store, &max_applied, detail);
    return err == 0 ? 0 : tool_cannot(s->t, "%s", detail[0] != '\0' ? detail : err_text(err));
}

static void turn(struct salvage *s)
{
    clock_update(&s->clock);
    (void)store_step(s->store);
    if (inbox_drain(s->inbox, DRAIN_BATCH) == 0)
        inbox_wait(s->inbox, WAIT_MS);
}

/* Room for one record more: a checkpoint or a format may be under way. */
static int wait_for_room(struct salvage *s, uint64_t slot)
{
    uint64_t until_us = clock_mono_us(&s->clock) + (uint64_t)STALL_S * 1000000;
    int err;

    while ((err = store_may_add(s->store, PAGE, slot)) == ERR_AGAIN &&
           clock_mono_us(&s->clock) < until_us)
        turn(s);
    return err;
}

struct copy {
    struct stage_req req; /* first */
    struct salvage *s;
};

static void on_staged(struct stage_req *r)
{
    struct copy *c = (struct copy *)(void *)r;

    c->s->staged = true;
    c->s->stage_err = r->err;
}

static void put(struct salvage *s, const struct stage_req *r, const struct payload_header *h,
                uint64_t digest)
{
    struct record rec = {.kind = RECORD_SLAB,
                         .tokens = h->tokens,
                         .mod = ++s->index,
                         .created_ms = h->created_ms,
                         .expire_ms = h->expire_ms,
                         .length = h->length,
                         .digest = digest,
                         .model = h->model,
                         .seq = h->seq,
                         .place = r->place,
                         .payload = r->id,
                         .nholders = 1};

    rec.holders[0] = s->node;
    store_put(s->store, slice_of(r->key, r->key_len), &rec);
    store_applied(s->store, s->index, 0, clock_now_ms(&s->clock));
}

/* buf holds header and payload as they were in the old volume; the stage writes its own header
 * over the page, so what is borrowed from it is taken from `page`. */
static int stage_one(struct salvage *s, struct buf *buf, const uint8_t *page)
{
    static struct payload_digest digest;
    struct payload_header h;
    struct copy c = {.s = s};
    int err = payload_header_decode(page, &h);

    if (err != 0 || !payload_is_whole(buf->mem, &h, &digest))
        return ERR_CORRUPT;
    c.req.buf = buf;
    c.req.digest = &digest;
    memcpy(c.req.key, h.key.ptr, h.key.len);
    c.req.key_len = h.key.len;
    c.req.model = h.model;
    c.req.seq = h.seq;
    c.req.tokens = h.tokens;
    c.req.created_ms = h.created_ms;
    c.req.expire_ms = h.expire_ms;
    c.req.done = on_staged;
    s->staged = false;
    stage_submit(store_stage(s->store), &c.req);
    stage_pump(store_stage(s->store));
    while (!s->staged)
        turn(s);
    if (s->stage_err != 0)
        return s->stage_err;
    put(s, &c.req, &h, digest.total);
    stage_release(store_stage(s->store), c.req.place);
    s->t->keys++;
    s->t->bytes += h.length;
    return 0;
}

static int copy_one(struct salvage *s, const struct found *f)
{
    uint8_t page[PAGE];
    char path[TOOL_PATH_MAX];
    struct buf *buf = NULL;
    int err = wait_for_room(s, volume_slot(f->length)), fd;

    if (err != 0)
        return err;
    err = buf_get(s->pool, f->length, &buf);
    if (err != 0)
        return err;
    slab_path(s->t->dir, f->volume, path, sizeof(path));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    err = fd < 0 ? err_from_errno(errno) : read_at(fd, buf->mem, volume_slot(f->length), f->at);
    if (fd >= 0)
        close(fd);
    if (err == 0) {
        memcpy(page, buf->mem, PAGE);
        err = stage_one(s, buf, page);
    } else {
        err = ERR_CORRUPT; /* it could be read before */
    }
    buf_unref(buf);
    return err;
}

static int copy_all(struct salvage *s)
{
    char name[TOOL_KEY_TEXT];
    int err;

    s->t->bytes = 0;
    s->index = s->max_applied;
    for (size_t i = 0; i < s->count; i++) {
        struct slice key = slice_of(s->found[i].key, s->found[i].key_len);

        tool_progress(s->t, "copied", s->t->bytes, "bytes");
        err = copy_one(s, &s->found[i]);
        if (err == ERR_CORRUPT) {
            s->lost++;
            tool_damage(s->t, "key \"%s\": could not be read again", tool_key(key, name));
        } else if (err != 0) {
            return tool_cannot(s->t, "%s: key \"%s\": %s", s->new_dir, tool_key(key, name),
                               err_text(err));
        }
    }
    store_applied(s->store, ++s->index, 0, clock_now_ms(&s->clock));
    return 0;
}

static void on_durable(void *ctx, int err)
{
    struct salvage *s = ctx;

    s->staged = true;
    s->stage_err = err;
}

/* Everything is durable before FORMAT makes a data directory of it. */
static int finish(struct salvage *s, struct datadir *d)
{
    bool durable;
    int err;

    s->staged = false;
    store_checkpoint(s->store, on_durable, s);
    while (!s->staged)
        turn(s);
    durable = s->stage_err == 0 && store_durable_index(s->store) == s->index;
    store_close(s->store, true);
    s->store = NULL;
    if (!durable)
        return tool_cannot(s->t, "%s: the index could not be written, is the disk full?",
                           s->new_dir);
    d->node = s->node;
    d->raft = s->raft;
    d->log_base = s->index;
    err = datadir_write_format(s->new_dir, d);
    return err == 0 ? 0 : tool_cannot(s->t, "%s/FORMAT: %s", s->new_dir, err_text(err));
}

static void report(const struct salvage *s)
{
    printf("salvaged: %" PRIu64 " keys, %" PRIu64 " bytes in %s; log-base %" PRIu64 "\n"
           "left out: %" PRIu64 " older versions, %" PRIu64 " expired, %" PRIu64 " damaged\n"
           "what volumes cannot tell: values small enough to be kept in the index are missing; "
           "keys deleted, renamed or evicted may be back; expiries are those given when the value "
           "was stored\n"
           "%s is as it was; start with: sldmkv-server --data-dir %s --server-id %" PRIu32
           " --raft %s\n",
           s->t->keys, s->t->bytes, s->new_dir, s->index, s->older, s->expired, s->t->damaged,
           s->t->dir, s->new_dir, s->node, s->raft ? "yes" : "no");
}

static int build(struct salvage *s)
{
    struct datadir d = {.lock_fd = -1};
    int lock = -1, status = make_dir(s, &lock);

    if (status == 0)
        status = open_store(s, &d);
    if (status == 0)
        status = copy_all(s);
    if (status == 0)
        status = finish(s, &d);
    if (s->store != NULL)
        store_close(s->store, false);
    if (lock >= 0)
        close(lock);
    if (s->pool != NULL)
        buf_pool_free(s->pool);
    if (s->inbox != NULL)
        inbox_free(s->inbox);
    return status;
}

int salvage_run(struct tool *t, const char *new_dir)
{
    struct salvage s = {.t = t, .new_dir = new_dir, .fd = -1};
    int status;

    clock_init(&s.clock, clock_system(), 0);
    if (strlen(new_dir) >= sizeof(((struct datadir *)0)->path))
        return tool_cannot(t, "NEW-DIR: the path is too long");
    status = collect(&s);
    if (status == 0) {
        choose(&s);
        status = build(&s);
    }
    if (status == 0)
        report(&s);
    for (size_t i = 0; i < s.count; i++)
        free(s.found[i].key);
    free(s.found);
    free(s.window.mem);
    free(s.buf.mem);
    if (status != 0)
        return status;
    return t->damaged == 0 ? EXIT_SOUND : EXIT_DAMAGED;
}
