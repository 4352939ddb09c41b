/* SPDX-License-Identifier: MIT */
/* reply: what a client reads of the server's bytes, in RESP2 and RESP3. */
#ifndef TESTS_SIM_REPLY_H
#define TESTS_SIM_REPLY_H

#include "sim.h"

enum reply_type { REPLY_STATUS, REPLY_ERROR, REPLY_INT, REPLY_BULK, REPLY_NIL, REPLY_ARRAY };

#define REPLY_TEXT_MAX 512

/* Maps and sets are arrays, doubles and big numbers bulks. A null array is REPLY_NIL. */
struct reply {
    enum reply_type type;
    int64_t number; /* INT */
    size_t len;     /* STATUS, ERROR, BULK; ARRAY: elements */
    uint64_t hash;  /* BULK: XXH3-64 */
    char *text;     /* STATUS, ERROR, and a BULK up to REPLY_TEXT_MAX; NUL behind it */
    struct reply *elements;
};

/* Parses one reply at the start of the bytes. Returns the bytes it took; 0: it is not complete, and
 * *want says how many bytes there must be before another try makes sense. */
size_t reply_parse(const uint8_t *bytes, size_t len, struct reply *out, size_t *want);
void reply_free(struct reply *r); /* what it owns, not r itself */

bool reply_is(const struct reply *r, const char *status);
bool reply_is_error(const struct reply *r, const char *prefix);
/* For a report; out: 200 bytes or more. */
void reply_describe(const struct reply *r, char *out, size_t size);

#endif
