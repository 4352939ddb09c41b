/* SPDX-License-Identifier: MIT */
/* Expected bytes are what redis-server 7.0.15 sends (DEBUG PROTOCOL, ZRANGE WITHSCORES). */
#include "resp/emit.h"
#include "test.h"

#include <event2/buffer.h>
#include <math.h>

static struct emit start(int proto)
{
    struct emit e = {evbuffer_new(), proto};

    CHECK(e.out != NULL);
    return e;
}

static void check_out(struct emit *e, const char *want, size_t len, int line)
{
    const void *got = evbuffer_pullup(e->out, -1);

    test_check_mem(got, evbuffer_get_length(e->out), want, len, "reply", __FILE__, line);
    evbuffer_drain(e->out, len);
}

/* The call on both protocols. */
#define BOTH(call, want2, want3)                                                                   \
    do {                                                                                           \
        struct emit e2 = start(2), e3 = start(3), *e = &e2;                                        \
        call;                                                                                      \
        check_out(e, want2, sizeof(want2) - 1, __LINE__);                                          \
        e = &e3;                                                                                   \
        call;                                                                                      \
        check_out(e, want3, sizeof(want3) - 1, __LINE__);                                          \
        evbuffer_free(e2.out);                                                                     \
        evbuffer_free(e3.out);                                                                     \
    } while (0)

#define SAME(call, want) BOTH(call, want, want)

TEST(status_and_errors)
{
    SAME(emit_status(e, "OK"), "+OK\r\n");
    SAME(emit_status(e, "PONG"), "+PONG\r\n");
    SAME(emit_status(e, ""), "+\r\n");
    SAME(emit_error(e, "ERR no such key"), "-ERR no such key\r\n");
    SAME(emit_error(e, "ERR a\r\n+OK\nb"), "-ERR a  +OK b\r\n");
    SAME(emit_errorf(e, "ERR unknown command '%.*s'", 4, "a\r\nbc"),
         "-ERR unknown command 'a  b'\r\n");
    SAME(emit_errorf(e, "ERR got '%c' %d", '\0', 5), "-ERR got ' ' 5\r\n");
}

TEST(long_errors_are_whole)
{
    for (size_t len = 500; len < 520; len++) {
        struct emit e = start(2);
        char text[600], want[608];

        memset(text, 'x', len);
        text[len] = '\0';
        text[3] = '\n';
        text[len - 1] = '\r';
        snprintf(want, sizeof(want), "-%s\r\n", text);
        want[4] = want[len] = ' ';
        emit_error(&e, text);
        check_out(&e, want, len + 3, __LINE__);
        emit_errorf(&e, "%s", text);
        check_out(&e, want, len + 3, __LINE__);
        evbuffer_free(e.out);
    }
}

TEST(integers)
{
    SAME(emit_int(e, 0), ":0\r\n");
    SAME(emit_int(e, 1), ":1\r\n");
    SAME(emit_int(e, -1), ":-1\r\n");
    SAME(emit_int(e, 10), ":10\r\n");
    SAME(emit_int(e, 1234567890), ":1234567890\r\n");
    SAME(emit_int(e, INT64_MAX), ":9223372036854775807\r\n");
    SAME(emit_int(e, INT64_MIN), ":-9223372036854775808\r\n");
}

TEST(nils)
{
    BOTH(emit_nil(e), "$-1\r\n", "_\r\n");
    BOTH(emit_nil_array(e), "*-1\r\n", "_\r\n");
}

TEST(doubles)
{
    BOTH(emit_double(e, 3), "$1\r\n3\r\n", ",3\r\n");
    BOTH(emit_double(e, 0.1), "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n");
    BOTH(emit_double(e, 1e17), "$5\r\n1e+17\r\n", ",1e+17\r\n");
    BOTH(emit_double(e, 1e100), "$6\r\n1e+100\r\n", ",1e+100\r\n");
    BOTH(emit_double(e, 1e-7), "$22\r\n9.9999999999999995e-08\r\n", ",9.9999999999999995e-08\r\n");
    BOTH(emit_double(e, 123456789.123), "$13\r\n123456789.123\r\n", ",123456789.123\r\n");
    BOTH(emit_double(e, -1.7976931348623157e308), "$24\r\n-1.7976931348623157e+308\r\n",
         ",-1.7976931348623157e+308\r\n");
    BOTH(emit_double(e, INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
    BOTH(emit_double(e, -INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    BOTH(emit_double(e, NAN), "$3\r\nnan\r\n", ",nan\r\n");
    BOTH(emit_double(e, -NAN), "$3\r\nnan\r\n", ",nan\r\n");
}

TEST(bulks)
{
    SAME(emit_bulk(e, slice_of(NULL, 0)), "$0\r\n\r\n");
    SAME(emit_bulk(e, slice_of("a\r\n\0b", 5)), "$5\r\na\r\n\0b\r\n");
    SAME(emit_bulk_str(e, "Hello World"), "$11\r\nHello World\r\n");
    SAME(emit_bulkf(e, "%d-%s", 7, "x"), "$3\r\n7-x\r\n");
    SAME(emit_bulkf(e, "%c", '\0'), "$1\r\n\0\r\n");
}

/* Around the sizes where the way of copying changes. */
TEST(bulks_of_every_size)
{
    static char payload[2000], want[2100];

    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (char)('a' + i % 26);
    for (size_t len = 0; len < sizeof(payload); len++) {
        struct emit e = start(2);
        size_t n = (size_t)sprintf(want, "$%zu\r\n", len);

        memcpy(want + n, payload, len);
        memcpy(want + n + len, "\r\n", 2);
        emit_bulk(&e, slice_of(payload, len));
        check_out(&e, want, n + len + 2, __LINE__);
        emit_bulkf(&e, "%.*s", (int)len, payload);
        check_out(&e, want, n + len + 2, __LINE__);
        evbuffer_free(e.out);
    }
}

TEST(verbatim)
{
    BOTH(emit_verbatim(e, "txt", slice_str("This is a verbatim\nstring")),
         "$25\r\nThis is a verbatim\nstring\r\n", "=29\r\ntxt:This is a verbatim\nstring\r\n");
    BOTH(emit_verbatim(e, "mkd", slice_of(NULL, 0)), "$0\r\n\r\n", "=4\r\nmkd:\r\n");
}

TEST(aggregates)
{
    SAME(emit_array(e, 0), "*0\r\n");
    SAME(emit_array(e, 1048576), "*1048576\r\n");
    BOTH(emit_map(e, 3), "*6\r\n", "%3\r\n");
    BOTH(emit_map(e, 0), "*0\r\n", "%0\r\n");
    BOTH(emit_set(e, 3), "*3\r\n", "~3\r\n");
}

TEST(bulk_by_reference)
{
    static const char payload[] = "payload";
    struct emit e = start(3);

    emit_bulk_begin(&e, 7);
    CHECK_EQ_INT(evbuffer_add_reference(e.out, payload, 7, NULL, NULL), 0);
    emit_bulk_end(&e);
    check_out(&e, "$7\r\npayload\r\n", 13, __LINE__);
    emit_bulk_begin(&e, (size_t)1 << 40);
    check_out(&e, "$1099511627776\r\n", 16, __LINE__);
    evbuffer_free(e.out);
}

TEST(replies_follow_each_other)
{
    struct emit e = start(2);

    emit_array(&e, 3);
    emit_int(&e, 5);
    emit_nil(&e);
    emit_bulk_str(&e, "x");
    emit_status(&e, "OK");
    check_out(&e, "*3\r\n:5\r\n$-1\r\n$1\r\nx\r\n+OK\r\n", 25, __LINE__);
    evbuffer_free(e.out);
}

TEST_MAIN
