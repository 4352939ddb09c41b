/* SPDX-License-Identifier: MIT */
/* Happy path: the planned unit is tried (fsm_try). An op that needs a rebuild names its command and
 * the record that its key has at that place, which may be one of the unit's own, staged a moment
 * ago. The old value is read, the new one built and staged, the command planned again; and so on
 * until the trial finds nothing.
 *
 * The keys' mods are noted when the first value is built and become conditions of the unit. A
 * change before the unit is applied shows as FSM_ABORTED, in the next trial or at apply.
 *
 * During the trial nothing may be started: it works on the writer that the next plan fills.
 */
#include "server/rebuild.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "server/server.h"
#include "server/tx.h"
#include "server/write.h"

#define WAIT_MAX_US 5000000

struct rebuild { /* rq->state of a command that is rebuilt */
    struct rebuild_spec spec;
    struct record record;  /* of a slab value: place, ids and lengths are used later, no slices */
    struct buf *buf;       /* the new value */
    bool existed, loading; /* loading: the call for the old value has not returned */
    int load_err;
    uint64_t waiting_us; /* for memory, since; 0 = not yet */
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

bool rebuild_existed(const struct request *rq)
{
    const struct rebuild *b = rq->state;

    return b->existed;
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

bool rebuild_possible(const struct request *rq)
{
    if (rq->cmd->rebuild != NULL)
        return true;
    for (const struct request *child = rq->children; child != NULL; child = child->next)
        if (child->cmd->rebuild != NULL)
            return true;
    return false;
}

/* ---- conditions -------------------------------------------------------------------------- */

void rebuild_conditions(const struct request *rq, struct entry_writer *unit)
{
    if (rq->built_on != NULL)
        entry_append_ops(unit, rq->built_on);
}

static void note_key(struct request *rq, struct slice key)
{
    entry_u64(rq->built_on, OP_IF_MOD, ENTRY_MORE, key, tx_mod_of(rq->server, key));
}

/* Every key of the unit, because what one op finds may come from any op before it. */
static void note_keys(struct request *rq, const struct entry_writer *unit)
{
    struct entry_reader r = entry_read_back(unit);
    struct entry_op op;

    rq->built_on = calloc(1, sizeof(*rq->built_on));
    if (rq->built_on == NULL)
        PANIC("out of memory for a write");
    entry_begin(rq->built_on);
    while (entry_next(&r, &op) == 1) {
        if (op.op == OP_IF_MOD || op.key.len == 0)
            continue;
        note_key(rq, op.key);
        if (op.op == OP_RENAME || op.op == OP_COPY)
            note_key(rq, op.body);
    }
}

void rebuild_drop(struct request *rq)
{
    request_drop_built(rq);
    for (struct request *child = rq->children; child != NULL; child = child->next)
        request_drop_built(child);
    request_free_built_on(rq);
}

/* ---- building ---------------------------------------------------------------------------- */

static void free_rebuild(void *state)
{
    struct rebuild *b = state;

    buf_unref(b->buf);
    free(b);
}

static struct rebuild *state_of(struct request *rq)
{
    if (rq->state == NULL) {
        rq->state = calloc(1, sizeof(struct rebuild));
        if (rq->state == NULL)
            PANIC("out of memory for a write");
        rq->state_free = free_rebuild;
    }
    return rq->state;
}

static void keep_record(struct rebuild *b, const struct record *old)
{
    b->record = *old;
    b->model_len = old->model.len;
    b->seq_len = old->seq.len;
    if (old->model.len > 0)
        memcpy(b->model, old->model.ptr, old->model.len);
    if (old->seq.len > 0)
        memcpy(b->seq, old->seq.ptr, old->seq.len);
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

static struct request *top_of(struct request *rq)
{
    return rq->parent != NULL ? rq->parent : rq;
}

static void resume(struct request *rq)
{
    write_resume(top_of(rq));
}

static enum rebuild_next refuse(struct request *rq, int err)
{
    request_error_code(top_of(rq), err);
    return REBUILD_REPLIED;
}

/* The budget may be held by this very transaction, so nobody waits for ever. */
static enum rebuild_next wait_for_memory(struct request *rq)
{
    struct rebuild *b = rq->state;
    uint64_t now_us = server_now_us(rq->server);

    if (b->waiting_us == 0)
        b->waiting_us = now_us;
    if (now_us - b->waiting_us >= WAIT_MAX_US)
        return refuse(rq, ERR_NOMEM);
    request_wait_memory(rq, resume);
    return REBUILD_WAIT;
}

static bool same_payload(struct payload_id a, struct payload_id b)
{
    return a.seq == b.seq && a.boot == b.boot && a.node == b.node;
}

/* The bytes of a value that this transaction staged and still has in memory. */
static const uint8_t *own_payload(const struct request *rq, struct payload_id id)
{
    for (const struct staged *st = rq->staged; st != NULL; st = st->next)
        if (st->placed && st->upload->buf != NULL && same_payload(st->req.id, id))
            return buf_payload(st->upload->buf);
    for (const struct request *child = rq->children; child != NULL; child = child->next) {
        const uint8_t *data = own_payload(child, id);

        if (data != NULL)
            return data;
    }
    return NULL;
}

static void on_old_value(struct request *rq, int err, struct slice data, struct buf *buf)
{
    struct rebuild *b = rq->state;

    (void)buf;
    if (err == 0)
        fill(rq, data);
    b->load_err = err;
    if (b->loading) {
        b->loading = false; /* it came at once: load_old goes on */
        return;
    }
    top_of(rq)->stage_err = err;
    resume(rq);
}

static enum rebuild_next load_old(struct request *rq)
{
    struct rebuild *b = rq->state;
    const uint8_t *own = own_payload(top_of(rq), b->record.payload);
    int err = buf_get(rq->server->pool, b->spec.length, &b->buf);

    if (err != 0)
        return err == ERR_AGAIN ? wait_for_memory(rq) : refuse(rq, err);
    if (own != NULL) {
        fill(rq, slice_of(own, b->record.length));
        return REBUILD_AGAIN;
    }
    b->loading = true;
    request_load(rq, rq->argv[1], &b->record, 0, b->record.length, on_old_value);
    if (b->loading) {
        b->loading = false;
        return REBUILD_WAIT;
    }
    return b->load_err != 0 ? refuse(rq, b->load_err) : REBUILD_AGAIN;
}

/* ---- the trial --------------------------------------------------------------------------- */

struct need {
    struct request *top, *rq; /* rq: whose op it is */
    int err;                  /* of an inline value */
};

static uint64_t length_max(const struct server *s)
{
    uint64_t bulk_max = (uint64_t)s->config->proto_max_bulk_len;

    return bulk_max < s->value_max ? bulk_max : s->value_max;
}

/* An inline value dies with the trial, so it is copied here, if there is room. */
static void on_need(void *ctx, uint32_t op, const struct record *old)
{
    static const struct record none = {.kind = RECORD_INLINE};
    struct need *n = ctx;
    struct rebuild *b;

    n->rq = tx_command_at(n->top, op);
    ASSERT(n->rq->cmd->rebuild != NULL && !rebuild_done(n->rq));
    b = state_of(n->rq);
    b->existed = old != NULL;
    keep_record(b, old != NULL ? old : &none);
    n->rq->cmd->rebuild(n->rq, &b->record, &b->spec);
    if (b->record.kind != RECORD_INLINE || b->spec.length > length_max(n->top->server))
        return;
    n->err = buf_get(n->top->server->pool, b->spec.length, &b->buf);
    if (n->err == 0)
        fill(n->rq, b->record.data);
}

static enum rebuild_next too_long(struct request *rq)
{
    request_error(rq, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    return rq->parent != NULL ? REBUILD_AGAIN : REBUILD_REPLIED; /* the others go on */
}

static enum rebuild_next build(const struct need *n, const struct entry_writer *unit)
{
    const struct rebuild *b = n->rq->state;

    if (b->spec.length > length_max(n->top->server))
        return too_long(n->rq);
    if (n->top->built_on == NULL)
        note_keys(n->top, unit);
    request_keep_args(n->rq); /* the request goes on after its start */
    if (b->record.kind != RECORD_INLINE)
        return load_old(n->rq);
    if (n->err != 0)
        return n->err == ERR_AGAIN ? wait_for_memory(n->rq) : refuse(n->rq, n->err);
    return REBUILD_AGAIN;
}

enum rebuild_next rebuild_unit(struct request *rq, struct entry_writer *unit)
{
    struct server *s = rq->server;
    struct need n = {.top = rq};

    if (!rebuild_possible(rq))
        return REBUILD_NONE;
    entry_mark_more(unit, false);
    switch (fsm_try(&s->fsm, unit, clock_now_ms(&s->clock), on_need, &n)) {
    case FSM_REBUILD:
        return build(&n, unit);
    case FSM_ABORTED:
        rebuild_drop(rq);
        return REBUILD_AGAIN;
    default:
        return REBUILD_NONE;
    }
}
