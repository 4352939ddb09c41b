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
#define COMPARED_MAX 1000000 /* pairs of keys */

struct rebuild { /* rq->state of a command that is rebuilt */
    struct rebuild_spec spec;
    struct record record; /* of a slab value: place, ids and lengths are used later, no slices */
    struct buf *buf;      /* the new value */
    bool existed;
    struct request *rq;       /* while read is under way */
    struct payload_read read; /* of the old value */
    uint64_t waiting_us;      /* for memory, since; 0 = not yet */
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
    rq->built_next = rq->server->rebuilding;
    rq->server->rebuilding = rq;
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
    rebuild_end(rq);
}

/* ---- taking turns ------------------------------------------------------------------------ */

static bool shares_a_key(const struct entry_writer *a, const struct entry_writer *b)
{
    struct entry_reader ra = entry_read_back(a);
    struct entry_op x, y;

    if ((uint64_t)a->count * b->count > COMPARED_MAX)
        return true; /* it may, and to find out would take long */
    while (entry_next(&ra, &x) == 1) {
        struct entry_reader rb = entry_read_back(b);

        while (entry_next(&rb, &y) == 1)
            if (slice_eq(x.key, y.key) ||
                ((y.op == OP_RENAME || y.op == OP_COPY) && slice_eq(x.key, y.body)))
                return true;
    }
    return false;
}

static bool must_take_turns(const struct request *rq, const struct entry_writer *unit)
{
    for (const struct request *other = rq->server->rebuilding; other != NULL;
         other = other->built_next)
        if (shares_a_key(other->built_on, unit))
            return true;
    return false;
}

static void wait_for_turn(struct request *rq)
{
    struct request **at = &rq->server->rebuild_waiters;

    while (*at != NULL)
        at = &(*at)->wait_next;
    *at = rq;
    rq->wait_next = NULL;
    request_hold(rq);
}

struct request *rebuild_take_waiter(struct server *s)
{
    struct request *rq = s->rebuild_waiters;

    if (rq != NULL)
        s->rebuild_waiters = rq->wait_next;
    return rq;
}

void rebuild_end(struct request *rq)
{
    struct server *s = rq->server;
    struct request **at = &s->rebuilding;

    if (rq->built_on == NULL)
        return;
    while (*at != rq)
        at = &(*at)->built_next;
    *at = rq->built_next;
    entry_fini(rq->built_on);
    free(rq->built_on);
    rq->built_on = NULL;
    if (s->rebuild_waiters != NULL) {
        s->rebuild_ended = true;
        server_wake(s);
    }
}

void rebuild_turn(struct server *s)
{
    struct request *rq = s->rebuild_waiters;

    if (!s->rebuild_ended)
        return;
    s->rebuild_ended = false;
    s->rebuild_waiters = NULL;
    while (rq != NULL) {
        struct request *next = rq->wait_next;

        write_resume(rq);
        request_release(rq);
        rq = next;
    }
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

/* The old value is at the front of the buffer: makes the new one of it. */
static void change(struct request *rq)
{
    struct rebuild *b = rq->state;
    uint8_t *out = buf_payload(b->buf);
    struct slice bytes = b->spec.bytes_arg > 0 ? rq->argv[b->spec.bytes_arg] : slice_of(NULL, 0);
    struct upload *u = upload_new(b->buf);

    if (u == NULL)
        PANIC("out of memory for a write");
    if (b->spec.put_at > b->record.length)
        memset(out + b->record.length, 0, b->spec.put_at - b->record.length);
    if (bytes.len > 0)
        memcpy(out + b->spec.put_at, bytes.ptr, bytes.len);
    b->buf = NULL;
    request_set_built(rq, u);
    metric_add(&rq->server->metrics, METRIC_REBUILDS, 1);
}

static void copy_and_change(struct request *rq, const uint8_t *old)
{
    struct rebuild *b = rq->state;

    if (b->record.length > 0)
        memcpy(buf_payload(b->buf), old, b->record.length);
    change(rq);
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

/* The budget may be held by this very transaction, so nobody waits for ever; at a stop, nobody. */
static enum rebuild_next wait_for_memory(struct request *rq)
{
    struct rebuild *b = rq->state;
    uint64_t now_us = server_now_us(rq->server);

    if (b->waiting_us == 0)
        b->waiting_us = now_us;
    if (now_us - b->waiting_us >= WAIT_MAX_US || rq->server->state == SERVER_STOPPED)
        return refuse(rq, ERR_NOMEM);
    request_wait_memory(rq, resume);
    return REBUILD_WAIT;
}

/* The bytes of a value that this transaction staged and still has in memory. */
static const uint8_t *own_payload(const struct request *rq, struct payload_id id)
{
    for (const struct staged *st = rq->staged; st != NULL; st = st->next)
        if (st->placed && st->upload->buf != NULL && payload_id_eq(st->req.id, id))
            return buf_payload(st->upload->buf);
    for (const struct request *child = rq->children; child != NULL; child = child->next) {
        const uint8_t *data = own_payload(child, id);

        if (data != NULL)
            return data;
    }
    return NULL;
}

static const uint8_t *in_memory(const struct request *rq, struct payload_id id)
{
    const uint8_t *data = own_payload(rq, id);
    const struct buf *kept = data == NULL ? tier_find(rq->server->tier, id) : NULL;

    return kept != NULL ? buf_payload(kept) : data;
}

static void on_read(struct payload_read *r)
{
    struct rebuild *b = (struct rebuild *)((char *)r - offsetof(struct rebuild, read));
    struct request *rq = b->rq;
    struct server *s = rq->server;

    s->rebuild_reads--;
    if (r->err == ERR_CORRUPT) {
        metric_add(&s->metrics, METRIC_CORRUPT, 1);
        store_corrupt(s->store, rq->argv[1]);
    }
    if (r->err == 0)
        change(rq);
    else
        top_of(rq)->stage_err = r->err;
    resume(rq);
    request_release(rq);
}

/* From the disk straight into the new value's buffer: one buffer a rebuild, so that a transaction
 * never waits for memory that it holds itself. */
static enum rebuild_next read_old(struct request *rq)
{
    struct rebuild *b = rq->state;
    int err;

    b->rq = rq;
    b->read = (struct payload_read){.place = b->record.place,
                                    .id = b->record.payload,
                                    .length = b->record.length,
                                    .digest = b->record.digest,
                                    .count = b->record.length,
                                    .key_len = rq->argv[1].len,
                                    .buf = b->buf,
                                    .done = on_read};
    memcpy(b->read.key, rq->argv[1].ptr, rq->argv[1].len);
    err = store_read(rq->server->store, &b->read);
    if (err != 0)
        return refuse(rq, err);
    rq->server->rebuild_reads++;
    request_hold(rq);
    return REBUILD_WAIT;
}

static enum rebuild_next load_old(struct request *rq)
{
    struct rebuild *b = rq->state;
    const uint8_t *old;
    int err = buf_get(rq->server->pool, b->spec.length, &b->buf);

    if (err != 0)
        return err == ERR_AGAIN ? wait_for_memory(rq) : refuse(rq, err);
    old = in_memory(top_of(rq), b->record.payload); /* only now: buf_get makes the cache give way */
    if (old == NULL)
        return read_old(rq);
    copy_and_change(rq, old);
    return REBUILD_AGAIN;
}

/* ---- the trial --------------------------------------------------------------------------- */

struct need {
    struct request *top, *rq; /* rq: whose op it is */
    int err;                  /* of an inline value */
};

/* Only a change can meet proto-max-bulk-len: what is stored may be renamed and copied. */
static bool over_bulk_max(const struct server *s, const struct rebuild_spec *spec)
{
    return spec->bytes_arg > 0 && spec->length > (uint64_t)s->config->proto_max_bulk_len;
}

static bool over_a_limit(const struct server *s, const struct rebuild_spec *spec)
{
    return spec->length > s->value_max || over_bulk_max(s, spec);
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
    if (b->record.kind != RECORD_INLINE || over_a_limit(n->top->server, &b->spec))
        return;
    n->err = buf_get(n->top->server->pool, b->spec.length, &b->buf);
    if (n->err == 0)
        copy_and_change(n->rq, b->record.data.ptr);
}

static enum rebuild_next too_long(struct request *rq, const struct rebuild_spec *spec)
{
    if (over_bulk_max(rq->server, spec))
        request_error(rq, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    else
        command_too_large(rq, spec->length);
    return rq->parent != NULL ? REBUILD_AGAIN : REBUILD_REPLIED; /* the others go on */
}

static enum rebuild_next build(const struct need *n, const struct entry_writer *unit)
{
    const struct rebuild *b = n->rq->state;

    if (over_a_limit(n->top->server, &b->spec))
        return too_long(n->rq, &b->spec);
    if (n->top->built_on == NULL && must_take_turns(n->top, unit)) {
        request_drop_built(n->rq); /* an inline value was copied already */
        request_keep_args(n->rq);
        wait_for_turn(n->top);
        return REBUILD_WAIT;
    }
    if (n->top->built_on == NULL)
        note_keys(n->top, unit);
    if (n->top->built_on->failed)
        return refuse(n->rq, ERR_NOMEM);
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
    switch (fsm_try(&s->fsm, unit, command_now_ms(s), on_need, &n)) {
    case FSM_REBUILD:
        return build(&n, unit);
    case FSM_ABORTED:
        rebuild_drop(rq);
        return REBUILD_AGAIN;
    default:
        return REBUILD_NONE;
    }
}
