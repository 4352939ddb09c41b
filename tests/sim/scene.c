/* SPDX-License-Identifier: MIT */
#include "scene.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "keys.h"
#include "log/log.h"
#include "loop.h"
#include "node.h"
#include "server/conn.h"
#include "server/server.h"

enum { STEPS = 10000, TEXT = 1000 };

void scene_quiet(void)
{
    sim.profile = (struct profile){.raft = true,
                                   .max_store = 64 * MIB,
                                   .max_index = 256 * MIB,
                                   .max_memory = 8 * MIB,
                                   .snapshot_groups = 1000000,
                                   .inline_max = 4096,
                                   .lazy = 4};
    sim.calm = true;
}

void scene_start(void)
{
    keys_init();
    check_init();
    node_init();
    node_start();
    for (int i = 0; i < STEPS && !node_is_ready(); i++) {
        node_turn();
        while (node_work() || node_log())
            ;
        node_pass(1000);
    }
    scene_finish();
}

void scene_restart(void)
{
    scene_finish();
    node_stop();
    node_start();
    sim.calm = true;
    scene_finish();
}

/* ---- steps -------------------------------------------------------------------------------- */

void scene_turn(void)
{
    for (int i = 0; i < STEPS; i++) {
        node_turn();
        if (!loop_is_ready() && !node_server()->again)
            return;
    }
    sim_fail("the loop never rests");
}

void scene_work(void)
{
    do
        scene_turn();
    while (node_work());
}

void scene_commit(void)
{
    scene_turn();
    while (node_log())
        scene_turn();
}

void scene_finish(void)
{
    for (int i = 0; i < STEPS; i++) {
        scene_turn();
        if (!node_work() && !node_log() && node_is_quiet())
            return;
        node_pass(1000);
    }
    sim_fail("something never ends");
}

/* ---- bytes -------------------------------------------------------------------------------- */

struct sock *scene_open(void)
{
    struct sock *s = socket_open_raw();

    if (conn_new(node_server(), s->fd, true) == NULL)
        sim_fail("no connection");
    return s;
}

static void send_cmd(struct sock *s, struct cmd *c)
{
    socket_queue(s, c);
    socket_show(s, c->len);
}

void scene_send(struct sock *s, const char *format, ...)
{
    struct cmd *c = cmd_new(CMD_QUIET);
    char text[TEXT];
    va_list args;

    va_start(args, format);
    cmd_bytes(c, text, (size_t)vsnprintf(text, sizeof(text), format, args));
    va_end(args);
    cmd_bytes(c, "\r\n", 2);
    send_cmd(s, c);
}

static void add_bulk(struct cmd *c, const char *bytes, size_t len)
{
    char text[32];

    cmd_bytes(c, text, (size_t)snprintf(text, sizeof(text), "$%zu\r\n", len));
    cmd_bytes(c, bytes, len);
    cmd_bytes(c, "\r\n", 2);
}

static char *value_of(char byte, size_t len)
{
    char *value = malloc(len + 1);

    memset(value, byte, len);
    return value;
}

void scene_send_value(struct sock *s, const char *words, char byte, size_t len)
{
    struct cmd *c = cmd_new(CMD_QUIET);
    char copy[TEXT], header[32], *rest = copy, *value = value_of(byte, len);
    const char *word;
    size_t n = 1;

    snprintf(copy, sizeof(copy), "%s", words);
    for (const char *at = words; *at != '\0'; at++)
        n += *at == ' ';
    cmd_bytes(c, header, (size_t)snprintf(header, sizeof(header), "*%zu\r\n", n));
    while ((word = strsep(&rest, " ")) != NULL) {
        bool is_value = strcmp(word, "*") == 0;

        add_bulk(c, is_value ? value : word, is_value ? len : strlen(word));
    }
    free(value);
    send_cmd(s, c);
}

static void expect_bytes(struct sock *s, const char *bytes, size_t len)
{
    int shown = s->in_len < 200 ? (int)s->in_len : 200;

    if (s->in_len < len || (len > 0 && memcmp(s->in, bytes, len) != 0))
        sim_fail("expected %zu bytes \"%.200s\", there are %zu: \"%.*s\"", len, bytes, s->in_len,
                 shown, s->in_len > 0 ? (const char *)s->in : "");
    s->in_len -= len;
    if (s->in_len > 0)
        memmove(s->in, s->in + len, s->in_len);
}

void scene_expect(struct sock *s, const char *format, ...)
{
    char text[TEXT];
    va_list args;
    size_t len;

    va_start(args, format);
    len = (size_t)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    memcpy(text + len, "\r\n", 3);
    expect_bytes(s, text, len + 2);
}

void scene_expect_value(struct sock *s, char byte, size_t len)
{
    char *value = value_of(byte, len);

    value[len] = '\0';
    scene_expect(s, "$%zu", len);
    expect_bytes(s, value, len);
    expect_bytes(s, "\r\n", 2);
    free(value);
}

void scene_expect_nothing(const struct sock *s)
{
    if (s->in_len > 0)
        sim_fail("nothing was to come yet, there is \"%.*s\"",
                 s->in_len < 200 ? (int)s->in_len : 200, (const char *)s->in);
}
