/* SPDX-License-Identifier: MIT */
/* text: a growing text for replies that people read (INFO, CLIENT LIST, LATENCY DOCTOR).
 *
 * Purpose   printf into memory that grows
 * Threads   one owner
 * Owner     starts zeroed; text_fini or text_reply frees
 * Errors    a text that cannot grow takes nothing more; text_reply says so instead of the text
 */
#ifndef SERVER_TEXT_H
#define SERVER_TEXT_H

#include <stdbool.h>

#include "base/slice.h"

struct request;

struct text {
    char *mem;
    size_t len, size;
    bool failed;
};

__attribute__((format(printf, 2, 3))) void text_add(struct text *t, const char *format, ...);
void text_reply(struct text *t, struct request *rq); /* and text_fini */
void text_fini(struct text *t);

#endif
