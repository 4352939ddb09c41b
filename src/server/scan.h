/* SPDX-License-Identifier: MIT */
/* scan: listings of keys: KEYS, KVKEYS, SCAN.
 *
 * Purpose   walk the keys in order in slices of a turn, so that no listing holds the loop
 * Threads   loop
 * Limits    SCAN_CURSORS cursors of the latest SCANs are remembered (their last key); an unknown
 *           one starts again from the first key: duplicates, never a miss. A listing in one reply
 *           may take LISTING_BYTES_MAX
 */
#ifndef SERVER_SCAN_H
#define SERVER_SCAN_H

#include "server/request.h"

#define SCAN_CURSORS 4096
#define LISTING_BYTES_MAX ((size_t)256 << 20)

struct scan;

struct listing_spec {
    struct slice prefix;  /* keys begin with it; copied */
    struct slice pattern; /* glob, or empty = all; copied */
    struct slice after;   /* start behind this key, or empty; copied */
    uint64_t limit;       /* at most so many keys */
};

/* Replies with an array of keys; holds the request while it runs. */
void listing_start(struct request *rq, const struct listing_spec *spec);
void listing_free(struct server *s);

#endif
