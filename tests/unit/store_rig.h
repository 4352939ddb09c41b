/* SPDX-License-Identifier: MIT */
/* store_rig: one node's store, stepped by hand on a clock that the test moves.
 *
 * Purpose   start(), set(), del(), turn(), checkpoint(), reopen(), stop(): what the tests of the
 *           store have in common. No threads unless rig_threads is set before start()
 * Lifetime  one store at a time, in the static `node`
 */
#ifndef TESTS_UNIT_STORE_RIG_H
#define TESTS_UNIT_STORE_RIG_H

#include "store_rig_payload.h"

static inline struct record inline_record(const char *data, uint64_t expire_ms)
{
    return (struct record){.kind = RECORD_INLINE,
                           .mod = node.index + 1,
                           .expire_ms = expire_ms,
                           .length = strlen(data),
                           .data = slice_str(data)};
}

static inline void set_ex(const char *key, const char *data, uint64_t expire_ms)
{
    struct record r = inline_record(data, expire_ms);

    store_put(node.store, slice_str(key), &r);
    applied();
}

static inline void set(const char *key, const char *data)
{
    set_ex(key, data, 0);
}

static inline void del(const char *key)
{
    store_del(node.store, slice_str(key));
    applied();
}

static inline int get_err(const char *key)
{
    struct record r;

    return store_get(node.store, slice_str(key), &r);
}

static inline void check_get(const char *key, const char *data)
{
    struct record r;

    CHECK_EQ_INT(store_get(node.store, slice_str(key), &r), 0);
    CHECK_EQ_INT(r.kind, RECORD_INLINE);
    CHECK_EQ_INT(r.data.len, strlen(data));
    CHECK_EQ_MEM(r.data.ptr, data, strlen(data));
}

static int waited; /* how often on_waited was called */
static int waited_err;

static inline void on_waited(void *ctx, int err)
{
    (void)ctx;
    waited++;
    waited_err = err;
}

static inline void checkpoint(void)
{
    waited = 0;
    store_checkpoint(node.store, on_waited, NULL);
    for (int i = 0; i < 10 && waited == 0; i++)
        turn();
    CHECK_EQ_INT(waited, 1);
    CHECK_EQ_INT(waited_err, 0);
}

static inline bool add_key(void *ctx, struct slice key, const struct record *r)
{
    char *text = ctx;
    size_t len = strlen(text);

    snprintf(text + len, 256 - len, "%.*s=%.*s ", (int)key.len, (const char *)key.ptr,
             (int)r->data.len, (const char *)r->data.ptr);
    return true;
}

static inline const char *scan(const char *from, bool after)
{
    static char text[256];

    text[0] = '\0';
    CHECK_EQ_INT(store_scan(node.store, slice_str(from), after, add_key, text), 0);
    return text;
}

static inline struct store_counts counts(void)
{
    struct store_counts c;

    store_get_counts(node.store, &c);
    return c;
}

#endif
