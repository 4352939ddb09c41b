/* SPDX-License-Identifier: MIT */
/* stream: a value, or a part of one, on its way from a volume to a client, group by group.
 *
 * Purpose   a large value leaves through a few small buffers, each group of chunks verified before
 *           its first byte is handed out, the next one read while the client takes the last
 * Threads   loop; reads run on the read workers
 * States of a group
 *   state     entered by            guaranteed                          leaves to
 *   EMPTY     new, sent             holds no buffer                     READING
 *   READING   room was found        buffer and volume pinned            READY, FAILED
 *   READY     every digest matched  its bytes may be taken              SENDING
 *   SENDING   stream_take           an evbuffer refers to the buffer    EMPTY
 *   FAILED    damage, device, gone  stream_peek answers the error       (with its stream)
 * Owner     a stream belongs to its caller until stream_close; reads under way and groups that an
 *           evbuffer refers to end by themselves
 * Lifetime  ready() may come until stream_close, never inside a call of this header
 * Place     the volume is pinned for STREAM_PIN_US, later only while a group is read. In between
 *           it may be recycled: then the key is looked up again, a MOVE of the same payload is
 *           followed, and anything else is ERR_NOTFOUND
 * Limits    STREAM_GROUPS groups of STREAM_GROUP_BYTES (one chunk, where chunks are larger);
 *           read-ahead of all streams together ≤ 1/STREAM_AHEAD_SHARE of the payload budget
 * Errors    stream_peek: ERR_AGAIN not yet; ERR_CORRUPT, ERR_IO, ERR_NOTFOUND, ERR_NOMEM final
 */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

#include "store/store.h"

#define STREAM_GROUP_BYTES ((uint64_t)2 << 20)
#define STREAM_GROUPS 3 /* one is sent, one is ready, one is read */
#define STREAM_AHEAD_SHARE 4
#define STREAM_PIN_US 10000000

struct evbuffer;
struct stream;
struct streams; /* all of a server */

struct stream_stats {
    uint64_t open, waiting, opened, groups, bytes, errors, moved, gone;
};

/* wake: streams_run wants to be called. value_max: of the store, for the size of a group. */
struct streams *streams_new(struct store *store, struct buf_pool *pool, uint64_t value_max,
                            void (*wake)(void *ctx), void *ctx);
void streams_free(struct streams *a); /* all closed, nothing of theirs in an evbuffer */
/* Payload memory came back, or a client took what it was sent: reads go on. */
void streams_run(struct streams *a);
void streams_check(struct streams *a); /* now and then: drops the pins of slow ones */
bool streams_idle(const struct streams *a);
bool streams_waiting(const struct streams *a); /* for payload memory */
void streams_get_stats(const struct streams *a, struct stream_stats *out);

/* Bytes [offset, offset + count) of a slab record; count > 0. NULL: no memory. Nothing is read yet;
 * from here on the volume is pinned. */
struct stream *stream_new(struct streams *a, struct slice key, const struct record *r,
                          uint64_t offset, uint64_t count);
/* Reads the first group, later the next ones. ready: stream_peek may have an answer. */
void stream_start(struct stream *s, void (*ready)(void *ctx), void *ctx);
int stream_peek(const struct stream *s); /* 0: stream_take may be called */
/* Adds the next group's bytes to out, by reference. */
void stream_take(struct stream *s, struct evbuffer *out);
uint64_t stream_left(const struct stream *s); /* bytes not yet taken */
/* Its client waits for nothing else: a buffer that is kept for such streams may help it on. */
void stream_urge(struct stream *s);
void stream_close(struct stream *s); /* started or not; NULL is allowed */

#endif
