/* SPDX-License-Identifier: MIT */
/* Strings, reading: GET MGET STRLEN GETRANGE SUBSTR. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "server/command.h"
#include "server/server.h"
#include "server/value.h"

static void get_run(struct request *rq)
{
    struct record r;

    if (command_lookup(rq, rq->argv[1], &r))
        value_reply(rq, rq->argv[1], &r);
    else
        emit_nil(request_emit(rq));
}

static void strlen_run(struct request *rq)
{
    struct record r;

    emit_int(request_emit(rq), command_lookup(rq, rq->argv[1], &r) ? (int64_t)r.length : 0);
}

/* ---- MGET: one value after another, so that memory is bounded by one and the output ------- */

struct mget {
    int next; /* argv index */
    bool inside, again;
};

static void mget_next(struct request *rq);

static void mget_end(struct request *rq)
{
    struct mget *m = rq->state;

    m->next++;
    if (m->inside)
        m->again = true; /* it came at once: the loop below goes on */
    else
        mget_next(rq);
}

static void mget_next(struct request *rq)
{
    struct mget *m = rq->state;
    struct record r;

    m->inside = true;
    do {
        m->again = false;
        if (m->next >= rq->argc || (rq->conn == NULL && rq->parent == NULL))
            break;
        if (request_pace(rq, mget_next))
            break;
        if (command_lookup(rq, rq->argv[m->next], &r)) {
            value_send(rq, rq->argv[m->next], &r,
                       &(struct value_part){0, r.length, value_begin, mget_end});
        } else {
            emit_nil(request_emit(rq));
            m->next++;
            m->again = true;
        }
    } while (m->again);
    m->inside = false;
}

static void mget_run(struct request *rq)
{
    struct mget *m = calloc(1, sizeof(*m));

    if (m == NULL) {
        request_error(rq, "ERR out of memory");
        return;
    }
    m->next = 1;
    rq->state = m;
    rq->state_free = free;
    emit_array(request_emit(rq), (size_t)rq->argc - 1);
    mget_next(rq);
}

/* ---- GETRANGE ---------------------------------------------------------------------------- */

static void getrange_begin(struct request *rq, int err)
{
    if (err == ERR_CORRUPT || err == ERR_NOTFOUND)
        emit_bulk(request_emit(rq), slice_of(NULL, 0)); /* a miss */
    else if (err != 0)
        request_error_code(rq, err);
}

/* Redis's rules: negative counts from the end, an empty or inverted range is "". */
static void getrange_run(struct request *rq)
{
    int64_t start, end, length;
    struct record r;

    if (!command_get_i64(rq, 2, &start) || !command_get_i64(rq, 3, &end))
        return;
    if (!command_lookup(rq, rq->argv[1], &r) || (start < 0 && end < 0 && start > end)) {
        emit_bulk(request_emit(rq), slice_of(NULL, 0));
        return;
    }
    length = (int64_t)r.length;
    if (start < 0)
        start = start + length < 0 ? 0 : start + length;
    if (end < 0)
        end = end + length < 0 ? 0 : end + length;
    if (end >= length)
        end = length - 1;
    if (start > end || length == 0) {
        emit_bulk(request_emit(rq), slice_of(NULL, 0));
        return;
    }
    value_send(rq, rq->argv[1], &r,
               &(struct value_part){(uint64_t)start, (uint64_t)(end - start + 1), getrange_begin,
                                    NULL});
}

#define READ (CMD_READONLY)
const struct command commands_string[] = {
    {.name = "get",
     .arity = 2,
     .flags = READ | CMD_FAST,
     .categories = CAT_STRING,
     .first_key = 1,
     .last_key = 1,
     .key_step = 1,
     .run = get_run,
     .group = "string",
     .since = "1.0.0",
     .syntax = "key",
     .summary = "Reads a value."},
    {.name = "mget",
     .arity = -2,
     .flags = READ | CMD_FAST | CMD_SLICES,
     .categories = CAT_STRING,
     .first_key = 1,
     .last_key = -1,
     .key_step = 1,
     .tips = "request_policy:multi_shard",
     .run = mget_run,
     .group = "string",
     .since = "1.0.0",
     .syntax = "key [key ...]",
     .summary = "Reads several values, one after another, not of one moment."},
    {.name = "strlen",
     .arity = 2,
     .flags = READ | CMD_FAST,
     .categories = CAT_STRING,
     .keys = "RO",
     .first_key = 1,
     .last_key = 1,
     .key_step = 1,
     .run = strlen_run,
     .group = "string",
     .since = "2.2.0",
     .syntax = "key",
     .summary = "Tells how many bytes a value has."},
    {.name = "getrange",
     .arity = 4,
     .flags = READ,
     .categories = CAT_STRING,
     .first_key = 1,
     .last_key = 1,
     .key_step = 1,
     .run = getrange_run,
     .group = "string",
     .since = "2.4.0",
     .syntax = "key start end",
     .summary = "Reads the bytes of a value between two offsets."},
    {.name = "substr",
     .arity = 4,
     .flags = READ,
     .categories = CAT_STRING,
     .first_key = 1,
     .last_key = 1,
     .key_step = 1,
     .run = getrange_run,
     .group = "string",
     .since = "1.0.0",
     .syntax = "key start end",
     .summary = "Reads part of a value; an old name of GETRANGE."},
    {.name = NULL},
};
