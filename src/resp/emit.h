/* SPDX-License-Identifier: MIT */
/* emit: RESP2 and RESP3 replies, from values to bytes.
 *
 * Purpose   one function per reply type; each knows both protocol versions, so no command asks
 *           which one it speaks
 * Threads   one owner
 * Owner     appends to an evbuffer of the caller; large values are added by the caller by reference
 *           between emit_bulk_begin and emit_bulk_end
 * Errors    none: an evbuffer that cannot grow aborts (small control allocation)
 */
#ifndef RESP_EMIT_H
#define RESP_EMIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct evbuffer;

struct emit {
    struct evbuffer *out;
    int proto; /* 2 or 3 */
};

void emit_status(struct emit *e, const char *text); /* +OK */
/* -text, which starts with its prefix ("ERR …"). CR and LF become spaces, in a status too; so does
 * a NUL that came by a %c. */
void emit_error(struct emit *e, const char *text);
__attribute__((format(printf, 2, 3))) void emit_errorf(struct emit *e, const char *format, ...);
void emit_int(struct emit *e, int64_t v);
void emit_double(struct emit *e, double v); /* , or bulk */
void emit_bulk(struct emit *e, struct slice s);
void emit_bulk_str(struct emit *e, const char *s);
__attribute__((format(printf, 2, 3))) void emit_bulkf(struct emit *e, const char *format, ...);
/* = or bulk; type3: "txt" or "mkd". */
void emit_verbatim(struct emit *e, const char *type3, struct slice s);
void emit_nil(struct emit *e);       /* $-1 or _ */
void emit_nil_array(struct emit *e); /* *-1 or _ */
void emit_array(struct emit *e, size_t count);
void emit_map(struct emit *e, size_t pairs); /* % or *2n */
void emit_set(struct emit *e, size_t count); /* ~ or * */

/* $len CRLF … CRLF around payload bytes that the caller adds. */
void emit_bulk_begin(struct emit *e, size_t len);
void emit_bulk_end(struct emit *e);

#endif
