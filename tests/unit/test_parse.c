/* SPDX-License-Identifier: MIT */
/* Every input is parsed whole, cut in two at each place, and byte by byte; all must tell the same
 * story. Error texts are those of redis-server 7.0.15. */
#include "resp/parse.h"
#include "test.h"

#include <stdarg.h>

#include "base/hash.h"

static const struct parse_limits wide = {512u << 20, PARSE_ARGS_MAX, 64u << 20};

/* What a run of the parser did, as text. */
struct story {
    char text[8192];
    size_t len;
    bool discard; /* refuse direct bulks */
    bool window;  /* receive direct bulks past the feed */
};

static int owners; /* direct buffers alive */

static void drop(void *owner)
{
    owners--;
    free(owner);
}

__attribute__((format(printf, 2, 3))) static void tell(struct story *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    s->len += (size_t)vsnprintf(s->text + s->len, sizeof(s->text) - s->len, format, ap);
    va_end(ap);
    CHECK(s->len < sizeof(s->text));
}

static void tell_command(struct story *s, const struct parse *p)
{
    tell(s, "(");
    for (int i = 0; i < p->argc; i++) {
        const struct parse_arg *a = &p->argv[i];

        if (a->len > 64) {
            tell(s, "%zu:%016" PRIx64 "%s ", a->len, hash64(a->ptr, a->len),
                 a->owner != NULL ? "!" : "");
            continue;
        }
        tell(s, "%zu:", a->len);
        for (size_t k = 0; k < a->len; k++)
            tell(s, a->ptr[k] > ' ' && a->ptr[k] < 127 ? "%c" : "<%02x>", a->ptr[k]);
        tell(s, " ");
    }
    tell(s, "%s)", p->discarded ? "discarded" : "");
}

static void answer_direct(struct story *s, struct parse *p)
{
    uint8_t *mem;

    tell(s, "[%zu]", p->direct_len);
    if (s->discard) {
        parse_discard(p);
        return;
    }
    mem = malloc(p->direct_len);
    CHECK(mem != NULL);
    owners++;
    parse_direct(p, mem, mem);
}

/* Feeds one piece; false after an error. */
static bool feed(struct story *s, struct parse *p, const uint8_t *data, size_t len)
{
    size_t at = 0;

    while (at < len) {
        size_t used, room;
        uint8_t *dst;

        if (s->window && parse_window(p, &dst, &room)) {
            used = room < len - at ? room : len - at;
            memcpy(dst, data + at, used);
            parse_advance(p, used);
            at += used;
            continue;
        }
        switch (parse_feed(p, data + at, len - at, &used)) {
        case PARSE_MORE:
            CHECK_EQ_U64(used, len - at);
            break;
        case PARSE_COMMAND:
            CHECK(!parse_inside(p));
            tell_command(s, p);
            parse_next_command(p, drop);
            break;
        case PARSE_DIRECT:
            answer_direct(s, p);
            break;
        case PARSE_ERROR:
            tell(s, "-%s", p->error);
            CHECK_EQ_INT(parse_feed(p, data, len, &used), PARSE_ERROR);
            CHECK_EQ_U64(used, 0);
            return false;
        }
        at += used;
    }
    return true;
}

/* Pieces end at cut and then every `every` bytes (0: no more cuts). */
static void run(struct story *s, const struct parse_limits *limits, struct slice in, size_t cut,
                size_t every)
{
    struct parse p;
    size_t at = 0;
    bool ok = true;

    s->len = 0;
    s->text[0] = '\0';
    CHECK_EQ_INT(parse_init(&p, limits), 0);
    while (ok && at < in.len) {
        size_t n = at < cut ? cut - at : every > 0 ? every : in.len - at;
        uint8_t *copy;

        n = n < in.len - at ? n : in.len - at;
        copy = malloc(n); /* exactly n bytes: a read past them is seen by ASan */
        memcpy(copy, in.ptr + at, n);
        ok = feed(s, &p, copy, n);
        free(copy);
        at += n;
    }
    if (ok && parse_inside(&p))
        tell(s, "…");
    parse_fini(&p, drop);
    CHECK_EQ_INT(owners, 0);
}

static void check_in(const struct parse_limits *limits, struct slice in, bool discard,
                     const char *want)
{
    static struct story s;
    size_t step = in.len > 2000 ? in.len / 500 : 1;

    s = (struct story){.discard = discard};
    for (int window = 0; window < 2; window++) {
        s.window = window;
        run(&s, limits, in, in.len, 0);
        CHECK_EQ_STR(s.text, want);
        for (size_t cut = 1; cut < in.len; cut += cut < 200 || in.len - cut < 200 ? 1 : step) {
            run(&s, limits, in, cut, 0);
            CHECK_EQ_STR(s.text, want);
        }
        run(&s, limits, in, 0, 1);
        CHECK_EQ_STR(s.text, want);
        run(&s, limits, in, 0, 7);
        CHECK_EQ_STR(s.text, want);
    }
}

#define IN(literal, want) check_in(&wide, slice_of(literal, sizeof(literal) - 1), false, want)

/* `len` bytes of filling between two texts; the caller frees ptr. */
static struct slice filled(const char *before, size_t len, const char *after)
{
    size_t b = strlen(before), a = strlen(after);
    uint8_t *p = malloc(b + len + a + 1);

    memcpy(p, before, b);
    for (size_t i = 0; i < len; i++)
        p[b + i] = (uint8_t)('!' + i % 90);
    memcpy(p + b + len, after, a + 1);
    return slice_of(p, b + len + a);
}

static void check_filled(const struct parse_limits *limits, const char *before, size_t len,
                         const char *after, bool discard, const char *want)
{
    struct slice in = filled(before, len, after);

    check_in(limits, in, discard, want);
    free((void *)(uintptr_t)in.ptr);
}

static uint64_t filling_hash(size_t len)
{
    struct slice in = filled("", len, "");
    uint64_t h = hash64(in.ptr, in.len);

    free((void *)(uintptr_t)in.ptr);
    return h;
}

TEST(multibulk_commands)
{
    IN("*1\r\n$4\r\nPING\r\n", "(4:PING )");
    IN("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "(3:GET 0: )");
    IN("*2\r\n$4\r\nECHO\r\n$7\r\n\r\n\0*1$x\r\n", "(4:ECHO 7:<0d><0a><00>*1$x )");
    IN("*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$1\r\na\r\nPING\r\n",
       "(4:PING )(4:ECHO 1:a )(4:PING )");
    IN("*10\r\n$1\r\n0\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n$1\r\n6\r\n$"
       "1\r\n7\r\n"
       "$1\r\n8\r\n$10\r\n0123456789\r\n",
       "(1:0 1:1 1:2 1:3 1:4 1:5 1:6 1:7 1:8 10:0123456789 )");
}

TEST(empty_requests_are_skipped)
{
    IN("*0\r\n*1\r\n$4\r\nPING\r\n", "(4:PING )");
    IN("*-1\r\n*-9223372036854775808\r\nPING\r\n", "(4:PING )");
    IN("\r\n\n  \t \r\nPING\r\n\r\n", "(4:PING )");
    IN("", "");
}

TEST(incomplete_commands_are_told)
{
    IN("*", "…");
    IN("*1\r", "…");
    IN("*1\r\n", "…");
    IN("*1\r\n$", "…");
    IN("*1\r\n$4\r\nPIN", "…");
    IN("*1\r\n$4\r\nPING\r", "…");
    IN("PING", "…");
    IN("PING\r\nP", "(4:PING )…");
}

TEST(bad_counts)
{
    static const char *const bad[] = {"*abc\r\n",
                                      "*01\r\n",
                                      "*+1\r\n",
                                      "*\r\n",
                                      "* 1\r\n",
                                      "*1 \r\n",
                                      "*-0\r\n",
                                      "*--1\r\n",
                                      "*1048577\r\n",
                                      "*3000000000\r\n",
                                      "*9223372036854775808\r\n",
                                      "*11111111111111111111111111111111111111111111\r\n"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_in(&wide, slice_str(bad[i]), false, "-Protocol error: invalid multibulk length");
    IN("*1\0\r\n", "-Protocol error: invalid multibulk length");
    IN("*1\rx", "-Protocol error: invalid CRLF in request");
}

TEST(bad_bulk_lengths)
{
    static const char *const bad[] = {"$abc\r\n",
                                      "$-1\r\n",
                                      "$04\r\n",
                                      "$\r\n",
                                      "$600000000\r\n",
                                      "$536870913\r\n",
                                      "$9223372036854775808\r\n",
                                      "$1e3\r\n",
                                      "$18446744073709551617\r\n"};
    char text[64];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "*1\r\n%s", bad[i]);
        check_in(&wide, slice_str(text), false, "-Protocol error: invalid bulk length");
    }
    IN("*2\r\n$4\r\nPING\r\nx\r\n", "-Protocol error: expected '$', got 'x'");
    IN("*1\r\n\0\r\n", "-Protocol error: expected '$', got ' '");
    IN("*1\r\n\xff\r\n", "-Protocol error: expected '$', got '\xff'");
    IN("*1\r\n$4\r\nPINGxx", "-Protocol error: invalid CRLF in request");
    IN("*1\r\n$4\r\nPING\rx", "-Protocol error: invalid CRLF in request");
    IN("*1\r\n$4\r\nPING\n", "-Protocol error: invalid CRLF in request");
    IN("*1\r\n$4\rxPING\r\n", "-Protocol error: invalid CRLF in request");
}

TEST(endless_number_lines)
{
    static char line[PARSE_INLINE_MAX + 16];

    memset(line, '1', sizeof(line));
    line[0] = '*'; /* Redis counts the type byte */
    check_in(&wide, slice_of(line, PARSE_INLINE_MAX), false, "…");
    check_in(&wide, slice_of(line, PARSE_INLINE_MAX + 1), false,
             "-Protocol error: too big mbulk count string");
    memcpy(line, "*1\r\n$", 5);
    check_in(&wide, slice_of(line, PARSE_INLINE_MAX + 4), false, "…");
    check_in(&wide, slice_of(line, PARSE_INLINE_MAX + 5), false,
             "-Protocol error: too big bulk count string");
}

TEST(limits_before_auth)
{
    struct parse_limits narrow = {16384, 10, 1 << 20};

    check_in(&narrow, slice_str("*11\r\n"), false,
             "-Protocol error: unauthenticated multibulk length");
    check_in(&narrow, slice_str("*1048577\r\n"), false,
             "-Protocol error: invalid multibulk length");
    check_in(&narrow, slice_str("*10\r\n$16384\r\n"), false, "…");
    check_in(&narrow, slice_str("*1\r\n$16385\r\n"), false,
             "-Protocol error: unauthenticated bulk length");
    check_in(&narrow, slice_str("*1\r\n$-5\r\n"), false, "-Protocol error: invalid bulk length");
}

TEST(limits_may_change_between_commands)
{
    struct parse_limits narrow = {16384, 10, 1 << 20};
    const char *in = "*1\r\n$4\r\nAUTH\r\n*11\r\n$1\r\na\r\n";
    struct parse p;
    size_t used, more;

    CHECK_EQ_INT(parse_init(&p, &narrow), 0);
    CHECK_EQ_INT(parse_feed(&p, (const uint8_t *)in, strlen(in), &used), PARSE_COMMAND);
    CHECK_EQ_U64(used, 14);
    parse_next_command(&p, drop);
    p.limits = wide;
    CHECK_EQ_INT(parse_feed(&p, (const uint8_t *)in + used, strlen(in) - used, &more), PARSE_MORE);
    CHECK(parse_inside(&p));
    parse_fini(&p, drop);
}

TEST(inline_commands)
{
    IN("PING\r\n", "(4:PING )");
    IN("PING\n", "(4:PING )");
    IN("PING\r\r\n", "(4:PING )");
    IN("  SET  a\tb \r\n", "(3:SET 1:a 1:b )");
    IN("ECHO a\rb\r\n", "(4:ECHO 1:a 1:b )");
    IN("ECHO a\x0b"
       "b\r\n",
       "(4:ECHO 3:a<0b>b )");
    IN("ECHO \x0c"
       "b\r\n",
       "(4:ECHO 1:b )");
    IN("ECHO a\0b\r\n", "(4:ECHO 3:a<00>b )");
    IN("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18\n",
       "(1:1 1:2 1:3 1:4 1:5 1:6 1:7 1:8 1:9 2:10 2:11 2:12 2:13 2:14 2:15 2:16 2:17 2:18 )");
}

TEST(inline_quotes)
{
    IN("ECHO \"a b\"\r\n", "(4:ECHO 3:a<20>b )");
    IN("ECHO \"\" ''\r\n", "(4:ECHO 0: 0: )");
    IN("ECHO 'it\\'s' 'a\\nb'\r\n", "(4:ECHO 4:it's 4:a\\nb )");
    IN("ECHO \"a\\n\\r\\t\\b\\a\\x41\\xfF\\xzz\\q\\\\\\\"\"\r\n",
       "(4:ECHO 14:a<0a><0d><09><08><07>A<ff>xzzq\\\" )");
    IN("ECHO \"\\x4\"\r\n", "(4:ECHO 2:x4 )");
    IN("ECHO foo\"bar\"\r\n", "(4:ECHO 6:foobar )");
    IN("ECHO \"a\"\x0b\r\n", "(4:ECHO 1:a )");
    IN("ECHO \"a\"\x0c"
       "b\r\n",
       "(4:ECHO 1:a 1:b )");
    IN("\"*1\" x\r\n", "(2:*1 1:x )");
}

TEST(inline_errors)
{
    static const char *const bad[] = {"ECHO \"a b\"c\r\n",
                                      "ECHO \"open\r\n",
                                      "ECHO 'open\r\n",
                                      "ECHO foo\"bar\"baz\r\n",
                                      "ECHO '\\'\r\n",
                                      "ECHO \"\\\"\r\n",
                                      "ECHO \"a\\\r\n",
                                      "\"\r\n",
                                      "'\n",
                                      "a'b'c\n",
                                      "\"a\"\"b\"\n"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_in(&wide, slice_str(bad[i]), false, "-Protocol error: unbalanced quotes in request");
}

TEST(inline_length_limit)
{
    struct parse_limits small_arena = {512u << 20, PARSE_ARGS_MAX, 1000};
    static char line[PARSE_INLINE_MAX + 3];
    char want[64];

    memset(line, 'a', sizeof(line));
    memcpy(line + PARSE_INLINE_MAX - 1, "\r\n", 2);
    snprintf(want, sizeof(want), "(%zu:%016" PRIx64 " )", PARSE_INLINE_MAX - 1,
             hash64(line, PARSE_INLINE_MAX - 1));
    check_in(&wide, slice_of(line, PARSE_INLINE_MAX + 1), false, want);
    memset(line, 'a', sizeof(line));
    check_in(&wide, slice_of(line, PARSE_INLINE_MAX), false, "…");
    check_in(&wide, slice_of(line, PARSE_INLINE_MAX + 1), false,
             "-Protocol error: too big inline request");
    line[PARSE_INLINE_MAX + 1] = '\n';
    check_in(&wide, slice_of(line, PARSE_INLINE_MAX + 2), false,
             "-Protocol error: too big inline request");
    memcpy(line + 1200, "\r\n", 2);
    check_in(&small_arena, slice_of(line, 1202), false, "-Protocol error: too big request");
}

TEST(direct_bulks)
{
    char want[128], head[64];
    size_t len = PARSE_DIRECT_MIN + 1;

    snprintf(want, sizeof(want), "[%zu](3:SET 1:k %zu:%016" PRIx64 "! )(4:PING )", len, len,
             filling_hash(len));
    snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%zu\r\n", len);
    check_filled(&wide, head, len, "\r\n*1\r\n$4\r\nPING\r\n", false, want);

    snprintf(want, sizeof(want), "[%zu](3:SET 1:k 0: discarded)(4:PING )", len);
    check_filled(&wide, head, len, "\r\n*1\r\n$4\r\nPING\r\n", true, want);

    /* The largest bulk that is copied. */
    len = PARSE_DIRECT_MIN;
    snprintf(want, sizeof(want), "(%zu:%016" PRIx64 " 1:k )", len, filling_hash(len));
    check_filled(&wide, "*2\r\n$16384\r\n", len, "\r\n$1\r\nk\r\n", false, want);
}

TEST(direct_bulk_errors_free_the_buffer)
{
    check_filled(&wide, "*2\r\n$20000\r\n", 20000, "xx", false,
                 "[20000]-Protocol error: invalid CRLF in request");
    check_filled(&wide, "*2\r\n$20000\r\n", 20000, "\rx", true,
                 "[20000]-Protocol error: invalid CRLF in request");
    check_filled(&wide, "*2\r\n$20000\r\n", 19999, "", false, "[20000]…");
    check_filled(&wide, "*2\r\n$20000\r\n", 20000, "", false, "[20000]…");
    check_filled(&wide, "*2\r\n$20000\r\n", 20000, "\r\n$x\r\n", false,
                 "[20000]-Protocol error: invalid bulk length");
}

TEST(several_direct_bulks_in_one_command)
{
    struct slice one = filled("$17000\r\n", 17000, "\r\n");
    struct slice in = slice_of(malloc(2 * one.len + 32), 0);
    uint8_t *p = (uint8_t *)(uintptr_t)in.ptr;
    uint64_t h = filling_hash(17000);
    char want[128];

    in.len = (size_t)sprintf((char *)p, "*3\r\n$4\r\nMSET\r\n");
    memcpy(p + in.len, one.ptr, one.len);
    memcpy(p + in.len + one.len, one.ptr, one.len);
    in.len += 2 * one.len;
    snprintf(want, sizeof(want),
             "[17000][17000](4:MSET 17000:%016" PRIx64 "! 17000:%016" PRIx64 "! )", h, h);
    check_in(&wide, in, false, want);
    free((void *)(uintptr_t)one.ptr);
    free(p);
}

/* A value that is stored, one that is too much for the budget, and one more. */
TEST(one_of_several_direct_bulks_may_be_discarded)
{
    struct slice one = filled("$17000\r\n", 17000, "\r\n");
    uint8_t *mem[2] = {malloc(17000), malloc(17000)};
    struct parse p;
    size_t used;

    CHECK_EQ_INT(parse_init(&p, &wide), 0);
    CHECK_EQ_INT(parse_feed(&p, (const uint8_t *)"*3\r\n", 4, &used), PARSE_MORE);
    for (int i = 0; i < 3; i++) {
        size_t head;

        CHECK_EQ_INT(parse_feed(&p, one.ptr, one.len, &head), PARSE_DIRECT);
        if (i == 1)
            parse_discard(&p);
        else
            parse_direct(&p, mem[i / 2], mem[i / 2]);
        CHECK_EQ_INT(parse_feed(&p, one.ptr + head, one.len - head, &used),
                     i == 2 ? PARSE_COMMAND : PARSE_MORE);
    }
    CHECK(p.discarded);
    CHECK_EQ_INT(p.argc, 3);
    CHECK_EQ_U64(p.argv[1].len, 0);
    CHECK_EQ_PTR(p.argv[1].owner, NULL);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ_PTR(p.argv[i * 2].owner, mem[i]);
        CHECK_EQ_MEM(p.argv[i * 2].ptr, one.ptr + 8, 17000);
    }
    owners = 2;
    parse_next_command(&p, drop);
    CHECK_EQ_INT(owners, 0);
    parse_fini(&p, drop);
    free((void *)(uintptr_t)one.ptr);
}

TEST(direct_waits_for_a_destination)
{
    const uint8_t *in = (const uint8_t *)"*2\r\n$3\r\nSET\r\n$20000\r\nabc";
    struct parse p;
    uint8_t *mem = malloc(20000), *dst;
    size_t used, more, room;

    CHECK_EQ_INT(parse_init(&p, &wide), 0);
    CHECK_EQ_INT(parse_feed(&p, in, 24, &used), PARSE_DIRECT);
    CHECK_EQ_U64(used, 21);
    CHECK_EQ_U64(p.direct_len, 20000);
    CHECK_EQ_INT(p.argc, 1);
    CHECK_EQ_MEM(p.argv[0].ptr, "SET", 3);
    CHECK(!parse_window(&p, &dst, &room));
    CHECK_EQ_INT(parse_feed(&p, in + used, 3, &more), PARSE_DIRECT);
    CHECK_EQ_U64(more, 0);
    CHECK_EQ_INT(parse_feed(&p, in + used, 0, &more), PARSE_DIRECT);
    CHECK(parse_inside(&p));
    owners++;
    parse_direct(&p, mem, mem);
    CHECK_EQ_INT(parse_feed(&p, in + used, 3, &more), PARSE_MORE);
    CHECK_EQ_U64(more, 3);
    CHECK(parse_window(&p, &dst, &room));
    CHECK_EQ_PTR(dst, mem + 3);
    CHECK_EQ_U64(room, 19997);
    parse_advance(&p, 19997);
    CHECK(!parse_window(&p, &dst, &room));
    CHECK(parse_inside(&p));
    parse_fini(&p, drop);
    CHECK_EQ_INT(owners, 0);
}

TEST(a_handler_may_keep_an_owner)
{
    struct slice in = filled("*1\r\n$20000\r\n", 20000, "\r\n");
    uint8_t *mem = malloc(20000);
    struct parse p;
    size_t used, more;

    CHECK_EQ_INT(parse_init(&p, &wide), 0);
    CHECK_EQ_INT(parse_feed(&p, in.ptr, in.len, &used), PARSE_DIRECT);
    owners++;
    parse_direct(&p, mem, mem);
    CHECK_EQ_INT(parse_feed(&p, in.ptr + used, in.len - used, &more), PARSE_COMMAND);
    CHECK_EQ_PTR(p.argv[0].ptr, mem);
    CHECK_EQ_PTR(p.argv[0].owner, mem);
    p.argv[0].owner = NULL;
    parse_next_command(&p, drop);
    CHECK_EQ_INT(owners, 1);
    parse_fini(&p, drop);
    drop(mem);
    free((void *)(uintptr_t)in.ptr);
}

/* Announced numbers cost nothing; bytes do, up to arena_max. */
TEST(memory_follows_what_arrived)
{
    const char *in = "*1048576\r\n$16384\r\nx";
    struct parse p;
    size_t idle, used;

    CHECK_EQ_INT(parse_init(&p, &wide), 0);
    idle = parse_memory(&p);
    CHECK_EQ_INT(parse_feed(&p, (const uint8_t *)in, strlen(in), &used), PARSE_MORE);
    CHECK_LE_U64(parse_memory(&p), idle + 2048);
    parse_fini(&p, drop);
}

/* The limit is of one command, not of a connection. */
static const char *small_then_more(void)
{
    static char want[64];

    snprintf(want, sizeof(want), "(3000:%016" PRIx64 " )…", filling_hash(3000));
    return want;
}

TEST(small_arguments_have_a_limit)
{
    struct parse_limits tight = {512u << 20, PARSE_ARGS_MAX, 4096};
    struct parse p;
    size_t used, args = 0;
    enum parse_status s;

    check_in(&tight, slice_str("*1\r\n$4097\r\n"), false, "-Protocol error: too big request");
    check_in(&tight, slice_str("*1\r\n$4000\r\n"), false, "…");
    check_in(&tight, slice_str("*9\r\n$4\r\nMGET\r\n$2000\r\n"), false, "…");
    check_filled(&tight, "*9\r\n$2000\r\n", 2000, "\r\n$2100\r\n", false,
                 "-Protocol error: too big request");
    check_filled(&tight, "*1\r\n$3000\r\n", 3000, "\r\n*1\r\n$3000\r\n", false, small_then_more());
    CHECK_EQ_INT(parse_init(&p, &tight), 0);
    s = parse_feed(&p, (const uint8_t *)"*100000\r\n", 9, &used);
    while (s == PARSE_MORE && args < 100000) { /* empty arguments: their table counts */
        s = parse_feed(&p, (const uint8_t *)"$0\r\n\r\n", 6, &used);
        args++;
    }
    CHECK_EQ_INT(s, PARSE_ERROR);
    CHECK_EQ_STR(p.error, "Protocol error: too big request");
    CHECK_LE_U64(args, 4096 / sizeof(struct parse_arg) + 1);
    parse_fini(&p, drop);
}

TEST(large_commands_give_their_memory_back)
{
    enum { ARGS = 5000, LEN = 1000 };
    size_t idle, used, n;
    struct slice value = filled("$1000\r\n", LEN, "\r\n");
    char head[32];
    struct parse p;

    CHECK_EQ_INT(parse_init(&p, &wide), 0);
    CHECK_EQ_INT(parse_feed(&p, (const uint8_t *)"PING\r\n", 6, &used), PARSE_COMMAND);
    parse_next_command(&p, drop);
    idle = parse_memory(&p);
    n = (size_t)snprintf(head, sizeof(head), "*%d\r\n", ARGS);
    CHECK_EQ_INT(parse_feed(&p, (uint8_t *)head, n, &used), PARSE_MORE);
    for (int i = 0; i < ARGS; i++) {
        CHECK_EQ_INT(parse_feed(&p, value.ptr, value.len, &used),
                     i == ARGS - 1 ? PARSE_COMMAND : PARSE_MORE);
    }
    CHECK_EQ_INT(p.argc, ARGS);
    for (int i = 0; i < ARGS; i++)
        CHECK_EQ_MEM(p.argv[i].ptr, value.ptr + 7, LEN);
    CHECK_GE_U64(parse_memory(&p), (size_t)ARGS * LEN);
    CHECK_LE_U64(parse_memory(&p), (size_t)ARGS * (LEN + 2 * sizeof(struct parse_arg)) + 400000);
    parse_next_command(&p, drop);
    CHECK_LE_U64(parse_memory(&p), idle + 16384 + 256 * sizeof(struct parse_arg));
    parse_fini(&p, drop);
    free((void *)(uintptr_t)value.ptr);
}

/* Small commands in a row: the same memory is used again. */
TEST(small_commands_reuse_their_memory)
{
    const char *in = "*3\r\n$3\r\nSET\r\n$5\r\nkey:1\r\n$5\r\nvalue\r\n";
    size_t used, memory = 0;
    const uint8_t *where = NULL;
    struct parse p;

    CHECK_EQ_INT(parse_init(&p, &wide), 0);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ_INT(parse_feed(&p, (const uint8_t *)in, strlen(in), &used), PARSE_COMMAND);
        if (i == 0) {
            where = p.argv[0].ptr;
            memory = parse_memory(&p);
        }
        CHECK_EQ_PTR(p.argv[0].ptr, where);
        parse_next_command(&p, drop);
    }
    CHECK_EQ_U64(parse_memory(&p), memory);
    parse_fini(&p, drop);
}

TEST(fini_takes_a_parser_that_was_never_used)
{
    struct parse p = {0};

    parse_fini(&p, drop);
    CHECK_EQ_INT(parse_init(&p, &wide), 0);
    parse_fini(&p, drop);
    parse_fini(&p, drop);
    CHECK_EQ_PTR(p.priv, NULL);
}

TEST_MAIN
