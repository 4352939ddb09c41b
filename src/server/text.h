/* SPDX-License-Identifier: MIT */
/* text: a growing text for replies that people read (INFO, CLIENT LIST, LATENCY DOCTOR).
 *
 * Purpose   printf into memory that grows
 * Threads   one owner
 * Owner     starts zeroed; text_fini frees. slices handed out die with the next call
 * Errors    out of memory is a PANIC: callers bound what they say
 */
#ifndef SERVER_TEXT_H
#define SERVER_TEXT_H

#include "base/slice.h"

struct text {
    char *mem;
    size_t len, size;
};

__attribute__((format(printf, 2, 3))) void text_add(struct text *t, const char *format, ...);
struct slice text_slice(const struct text *t);
void text_fini(struct text *t);

#endif
