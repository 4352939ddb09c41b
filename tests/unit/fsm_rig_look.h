/* SPDX-License-Identifier: MIT */
/* fsm_rig_look: payloads and looks at keys; see fsm_rig.h. */
#ifndef TESTS_UNIT_FSM_RIG_LOOK_H
#define TESTS_UNIT_FSM_RIG_LOOK_H

#include "fsm_rig_store.h"

struct staging {
    struct stage_req req; /* first */
    bool done;
};

static inline void on_staged(struct stage_req *req)
{
    ((struct staging *)(void *)req)->done = true;
}

/* Writes a payload of this length into a volume: fills payload, length, digest and holder `node`.
 * rig_release gives up the hold that staging took. */
static inline void rig_stage(struct rig *r, const char *key, size_t len, struct op_put *put)
{
    struct staging s = {0};
    struct payload_digest digest;
    struct buf *buf;

    CHECK_EQ_INT(buf_get(r->pool, len, &buf), 0);
    memset(buf_payload(buf), key[0], len);
    payload_digest_begin(&digest, len);
    payload_digest_end(&digest, buf_payload(buf));
    s.req.buf = buf;
    s.req.digest = &digest;
    s.req.key_len = strlen(key);
    memcpy(s.req.key, key, s.req.key_len);
    s.req.model = put->model;
    s.req.seq = put->seq;
    s.req.done = on_staged;
    stage_submit(store_stage(r->store), &s.req);
    rig_settle(r);
    CHECK(s.done);
    CHECK_EQ_INT(s.req.err, 0);
    put->payload = s.req.id;
    put->length = len;
    put->digest = digest.total;
    put->nholders = 1;
    put->holders[0] = (struct op_holder){r->node, s.req.place};
    buf_unref(buf);
}

static inline void rig_release(struct rig *r, const struct op_put *put)
{
    stage_release(store_stage(r->store), put->holders[0].place);
}

/* At the applied stamp. */
static inline bool rig_get(struct rig *r, const char *key, struct record *out)
{
    return store_get(r->store, slice_str(key), out) == 0 &&
           !record_expired(out, store_applied_stamp(r->store));
}

/* want NULL: absent. */
static inline void rig_check_value(struct rig *r, const char *key, const char *want)
{
    struct record rec;
    bool there = rig_get(r, key, &rec);

    if (want == NULL) {
        CHECK(!there);
        return;
    }
    CHECK(there);
    CHECK_EQ_INT(rec.kind, RECORD_INLINE);
    test_check_mem(rec.data.ptr, rec.data.len, want, strlen(want), key, __FILE__, __LINE__);
    CHECK_EQ_U64(rec.length, strlen(want));
    CHECK_EQ_HEX(rec.digest, payload_digest_of(rec.data.ptr, rec.data.len));
}

#endif
