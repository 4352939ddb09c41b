/* SPDX-License-Identifier: MIT */
/* DEBUG, for tests. Off unless enable-debug-command says otherwise, as in Redis. SLEEP delays the
 * reply of its own connection; nobody else waits.
 */
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "server/cmd_server.h"
#include "server/help.h"
#include "server/memory.h"
#include "server/server.h"

#define SLEEP_MAX_S 3600.0

static bool allowed(const struct request *rq)
{
    switch ((enum config_debug)rq->server->config->debug_command) {
    case CONFIG_DEBUG_YES:
        return true;
    case CONFIG_DEBUG_LOCAL:
        return rq->conn != NULL && rq->conn->local;
    case CONFIG_DEBUG_NO:
        return false;
    }
    return false;
}

struct sleep {
    struct event *timer;
    uint64_t until_us;
};

static void free_sleep(void *state)
{
    struct sleep *sl = state;

    event_free(sl->timer);
    free(sl);
}

static void sleep_on(struct request *rq)
{
    struct sleep *sl = rq->state;
    uint64_t now_us = server_now_us(rq->server);
    uint64_t left_us = sl->until_us > now_us ? sl->until_us - now_us : 0;
    struct timeval tv = {(time_t)(left_us / 1000000), (suseconds_t)(left_us % 1000000)};

    evtimer_add(sl->timer, &tv);
}

/* libevent's clock is a coarse one, so the timer may come a few ms early. */
static void on_slept(int fd, short what, void *arg)
{
    struct request *rq = arg;
    const struct sleep *sl = rq->state;

    (void)fd;
    (void)what;
    if (server_now_us(rq->server) < sl->until_us) {
        sleep_on(rq);
        return;
    }
    emit_status(request_emit(rq), "OK");
    request_release(rq);
}

static void debug_sleep(struct request *rq)
{
    char text[64];
    struct sleep *sl;
    double seconds;

    snprintf(text, sizeof(text), "%.*s", (int)(rq->argv[2].len < 63 ? rq->argv[2].len : 63),
             (const char *)rq->argv[2].ptr);
    seconds = strtod(text, NULL);
    if (!(seconds > 0)) {
        emit_status(request_emit(rq), "OK");
        return;
    }
    if (seconds > SLEEP_MAX_S)
        seconds = SLEEP_MAX_S;
    sl = calloc(1, sizeof(*sl));
    if (sl == NULL || (sl->timer = evtimer_new(rq->server->base, on_slept, rq)) == NULL)
        PANIC("out of memory for a timer");
    sl->until_us = server_now_us(rq->server) + (uint64_t)(seconds * 1e6);
    rq->state = sl;
    rq->state_free = free_sleep;
    request_hold(rq);
    sleep_on(rq);
}

static void debug_object(struct request *rq)
{
    char place[64] = "index", text[192];
    struct slice long_value = {NULL, 0};
    const char *encoding;
    struct record r;

    if (!command_peek(rq, rq->argv[2], &r)) {
        request_error(rq, "ERR no such key");
        return;
    }
    long_value.len = r.length;
    encoding = memory_encoding(r.flags, r.kind == RECORD_INLINE ? r.data : long_value);
    if (r.kind == RECORD_SLAB)
        snprintf(place, sizeof(place), "vol-%04" PRIu32 ":%" PRIu32 ":%" PRIu64, r.place.volume,
                 r.place.generation, r.place.offset);
    snprintf(text, sizeof(text), "Value at:%s refcount:1 encoding:%s serializedlength:%" PRIu64,
             place, encoding, r.length);
    emit_status(request_emit(rq), text);
}

static void debug_digest(struct request *rq)
{
    char text[41];
    uint64_t digest;
    int err = fsm_digest(&rq->server->fsm, &digest);

    if (err != 0) {
        request_error_code(rq, err);
        return;
    }
    snprintf(text, sizeof(text), "%040" PRIx64, digest); /* as long as Redis's */
    emit_status(request_emit(rq), text);
}

static void on_checkpoint(void *ctx, int err)
{
    struct request *rq = ctx;

    if (err != 0)
        request_error_code(rq, err);
    else
        emit_status(request_emit(rq), "OK");
    request_release(rq);
}

static void debug_checkpoint(struct request *rq)
{
    request_hold(rq);
    store_checkpoint(rq->server->store, on_checkpoint, rq);
}

static void debug_help(struct request *rq)
{
    static const char *const lines[] = {
        "CHECKPOINT",
        "    Bring everything applied into the index, and answer when it is durable.",
        "DIGEST",
        "    Digest all keys and values into 40 hex digits.",
        "OBJECT <key>",
        "    Show how the value of <key> is stored.",
        "RELOAD",
        "    The same as CHECKPOINT.",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    Accepted without effect: an expired key is never visible, swept or not.",
        "SLEEP <seconds>",
        "    Keep this connection waiting for <seconds>, which may have a fraction.",
        NULL,
    };

    help_reply(rq, lines);
}

void cmd_debug_run(struct request *rq)
{
    if (!allowed(rq))
        request_error(rq, "ERR DEBUG command not allowed. If the enable-debug-command option is "
                          "set to \"local\", you can run it from a local connection, otherwise you "
                          "need to set this option in the configuration file, and then restart the "
                          "server.");
    else if (command_is(rq, 1, "help") && rq->argc == 2)
        debug_help(rq);
    else if (command_is(rq, 1, "sleep") && rq->argc == 3)
        debug_sleep(rq);
    else if (command_is(rq, 1, "object") && rq->argc == 3)
        debug_object(rq);
    else if (command_is(rq, 1, "digest") && rq->argc == 2)
        debug_digest(rq);
    else if ((command_is(rq, 1, "checkpoint") || command_is(rq, 1, "reload")) && rq->argc == 2)
        debug_checkpoint(rq);
    else if (command_is(rq, 1, "set-active-expire") && rq->argc == 3)
        emit_status(request_emit(rq), "OK");
    else
        help_wrong_sub(rq);
}
