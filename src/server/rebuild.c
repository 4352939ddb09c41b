/* SPDX-License-Identifier: MIT */
#include "server/rebuild.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "server/server.h"

struct rebuild {
    struct rebuild_spec spec;
    struct record record; /* of a slab value: place, ids and lengths are used later, no slices */
    struct buf *buf;      /* the new value */
    uint8_t model[RECORD_META_MAX], seq[RECORD_META_MAX];
    size_t model_len, seq_len;
};

bool rebuild_done(const struct request *rq)
{
    for (const struct staged *st = rq->staged; st != NULL; st = st->next)
        if (st->arg == STAGED_BUILT)
            return true;
    return false;
}

uint64_t rebuild_length(const struct request *rq)
{
    const struct rebuild *b = rq->state;

    return b->spec.length;
}

void rebuild_meta(const struct request *rq, struct op_put *put)
{
    const struct rebuild *b = rq->state;

    put->tokens = b->record.tokens;
    put->created_ms = b->record.created_ms;
    put->expire_ms = b->record.expire_ms;
    put->model = slice_of(b->model, b->model_len);
    put->seq = slice_of(b->seq, b->seq_len);
}

void rebuild_condition(const struct request *rq, struct entry_writer *unit)
{
    entry_u64(unit, OP_IF_MOD, ENTRY_MORE, rq->argv[1], rq->if_mod);
    if (rq->if_absent_arg > 0)
        entry_key(unit, OP_IF_ABSENT, ENTRY_MORE, rq->argv[rq->if_absent_arg]);
}

static struct request *top_of(struct request *rq)
{
    return rq->parent != NULL ? rq->parent : rq;
}

/* EXEC prepares its children; it goes on when none of them is busy. */
static void resume(struct request *rq)
{
    struct request *top = top_of(rq);

    if (rq->parent != NULL) {
        ASSERT(top->staging > 0);
        if (--top->staging > 0)
            return;
    }
    write_resume(top);
}

static void fill(struct request *rq, struct slice old)
{
    struct rebuild *b = rq->state;
    uint8_t *out = buf_payload(b->buf);
    struct slice bytes = b->spec.bytes_arg > 0 ? rq->argv[b->spec.bytes_arg] : slice_of(NULL, 0);
    struct upload *u;

    if (old.len > 0)
        memcpy(out, old.ptr, old.len);
    if (b->spec.put_at > old.len)
        memset(out + old.len, 0, b->spec.put_at - old.len);
    if (bytes.len > 0)
        memcpy(out + b->spec.put_at, bytes.ptr, bytes.len);
    u = upload_new(b->buf);
    if (u == NULL)
        PANIC("out of memory for a write");
    b->buf = NULL;
    request_set_built(rq, u);
    metric_add(&rq->server->metrics, METRIC_REBUILDS, 1);
}

static void on_old_value(struct request *rq, int err, struct slice data, struct buf *buf)
{
    struct request *top = top_of(rq);

    (void)buf;
    if (err != 0)
        top->stage_err = err;
    else
        fill(rq, data);
    resume(rq);
}

static void prepare_again(struct request *rq)
{
    write_resume(top_of(rq));
}

static void load_old(struct request *rq)
{
    struct rebuild *b = rq->state;
    int err = buf_get(rq->server->pool, b->spec.length, &b->buf);

    if (err == ERR_AGAIN) {
        request_wait_memory(rq, load_old);
        return;
    }
    if (err != 0) {
        on_old_value(rq, err, slice_of(NULL, 0), NULL);
        return;
    }
    request_load(rq, rq->argv[b->spec.key_arg], &b->record, 0, b->record.length, on_old_value);
}

static void free_rebuild(void *state)
{
    struct rebuild *b = state;

    buf_unref(b->buf);
    free(b);
}

enum prepare rebuild_start(struct request *rq, const struct rebuild_spec *spec,
                           const struct record *r)
{
    struct rebuild *b = rq->state;

    if (spec->length > rq->server->value_max) {
        request_error(rq, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        return PREPARE_REPLIED;
    }
    if (b == NULL)
        b = calloc(1, sizeof(*b));
    if (b == NULL)
        PANIC("out of memory for a write");
    request_keep_args(rq); /* the request goes on after its start */
    rq->state = b;
    rq->state_free = free_rebuild;
    b->spec = *spec;
    b->record = *r;
    b->model_len = r->model.len;
    b->seq_len = r->seq.len;
    if (r->model.len > 0)
        memcpy(b->model, r->model.ptr, r->model.len);
    if (r->seq.len > 0)
        memcpy(b->seq, r->seq.ptr, r->seq.len);
    rq->if_mod = r->mod;
    if (rq->parent != NULL)
        rq->parent->staging++;
    if (r->kind != RECORD_INLINE) {
        load_old(rq);
        return PREPARE_WAIT;
    }
    /* An inline value is borrowed from the store: it is copied now or asked for again. */
    if (buf_get(rq->server->pool, spec->length, &b->buf) == 0) {
        fill(rq, r->data);
        if (rq->parent != NULL)
            rq->parent->staging--;
        return PREPARE_READY;
    }
    if (rq->parent != NULL)
        rq->parent->staging--;
    request_wait_memory(rq, prepare_again);
    return PREPARE_WAIT;
}
