/* SPDX-License-Identifier: MIT */
/* fuzz_parse: where a request is cut must not matter.
 *
 * The input's first four bytes choose limits, cuts and how large bulks are received; the rest is
 * parsed twice, once in one piece and once cut, and both must tell the same. Memory the parser
 * reports must follow the bytes it was given. Of a corpus file every cut in two is tried.
 */
#include "fuzz.h"
#include "resp/parse.h"

enum cut { WHOLE, MANY, TWO };
enum { PIECES_MAX = 256 };

struct run {
    struct parse parse;
    bool discard, window;
    uint64_t story;
    size_t fed;
};

static int owners;

static void drop(void *owner)
{
    owners--;
    free(owner);
}

static void tell(struct run *r, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        r->story = (r->story ^ p[i]) * 0x100000001b3u;
    r->story = (r->story ^ len) * 0x100000001b3u;
}

static void tell_command(struct run *r)
{
    const struct parse *p = &r->parse;

    ASSERT(p->argc > 0 && (size_t)p->argc <= r->fed);
    for (int i = 0; i < p->argc; i++) {
        tell(r, p->argv[i].ptr, p->argv[i].len);
        ASSERT(p->argv[i].owner == NULL || p->argv[i].owner == p->argv[i].ptr);
    }
    tell(r, p->discarded ? "command, discarded" : "command", 7 + (p->discarded ? 11 : 0));
}

static void answer_direct(struct run *r)
{
    struct parse *p = &r->parse;
    uint8_t *mem;

    ASSERT(p->direct_len > PARSE_DIRECT_MIN && p->direct_len <= p->limits.bulk_max);
    tell(r, &p->direct_len, sizeof(p->direct_len));
    if (r->discard || p->direct_len > ((size_t)1 << 17)) {
        parse_discard(p);
        return;
    }
    mem = malloc(p->direct_len);
    ASSERT(mem != NULL);
    owners++;
    parse_direct(p, mem, mem);
}

/* What was taken while a direct bulk was open. */
static size_t through_window(struct run *r, const uint8_t *data, size_t len)
{
    uint8_t *dst;
    size_t room, n;

    if (!r->window || !parse_window(&r->parse, &dst, &room))
        return 0;
    n = room < len ? room : len;
    memcpy(dst, data, n);
    parse_advance(&r->parse, n);
    return n;
}

static bool feed(struct run *r, const uint8_t *data, size_t len)
{
    struct parse *p = &r->parse;
    size_t at = 0;

    r->fed += len;
    while (at < len) {
        size_t used = through_window(r, data + at, len - at);
        enum parse_status s;

        at += used;
        if (used > 0)
            continue;
        s = parse_feed(p, data + at, len - at, &used);
        at += used;
        ASSERT(at <= len);
        if (s == PARSE_COMMAND) {
            tell_command(r);
            parse_next_command(p, drop);
        } else if (s == PARSE_DIRECT) {
            answer_direct(r);
        } else if (s == PARSE_ERROR) {
            tell(r, p->error, strlen(p->error));
            return false;
        } else {
            ASSERT(at == len);
        }
    }
    return true;
}

/* Length of the piece at `at`. Long inputs have at most PIECES_MAX, or they would take all the
 * time. */
static size_t piece(enum cut cut, size_t len, size_t at, const uint8_t *control, uint32_t *step)
{
    size_t n;

    if (cut == WHOLE || (cut == TWO && at > 0))
        return len - at;
    if (cut == TWO)
        return *step;
    n = 1 + *step % (control[2] + 1u) + (size_t)control[3] * (*step % 7) + len / PIECES_MAX;
    *step = *step * 1103515245u + 12345u;
    return n < len - at ? n : len - at;
}

/* What a client is told: commands, errors, and whether it is inside one. TWO: cut behind byte
 * `step`. */
static uint64_t story(const uint8_t *data, size_t len, const uint8_t *control, enum cut cut,
                      uint32_t step)
{
    static const struct parse_limits wide = {512u << 20, PARSE_ARGS_MAX, 1u << 20};
    static const struct parse_limits narrow = {16384, 10, 3000};
    struct run r = {.discard = control[0] & 2, .window = cut != WHOLE && (control[0] & 4)};
    bool ok = true;

    ASSERT(parse_init(&r.parse, control[0] & 1 ? &narrow : &wide) == 0);
    for (size_t at = 0, n; ok && at < len; at += n) {
        uint8_t *copy;

        n = piece(cut, len, at, control, &step);
        copy = fuzz_copy(data + at, n);
        ok = feed(&r, copy, n);
        free(copy);
        ASSERT(parse_memory(&r.parse) <= 8192 + 4 * r.fed + 64 * 1024 + 32 * r.fed);
    }
    if (ok && parse_inside(&r.parse))
        tell(&r, "inside", 6);
    parse_fini(&r.parse, drop);
    ASSERT(owners == 0);
    return r.story;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    ASSERT(story(data + 4, size - 4, data, WHOLE, 0) ==
           story(data + 4, size - 4, data, MANY, data[1]));
    return 0;
}

void fuzz_thorough(const uint8_t *data, size_t size)
{
    uint64_t whole;

    if (size < 4)
        return;
    whole = story(data + 4, size - 4, data, WHOLE, 0);
    for (uint32_t at = 1; at < size - 4; at++)
        ASSERT(story(data + 4, size - 4, data, TWO, at) == whole);
}
