/* SPDX-License-Identifier: MIT */
/* memory: what this process uses, as the allocator and the kernel count it.
 *
 * Purpose   INFO memory, MEMORY STATS, DOCTOR, PURGE. Payload buffers are mapped beside the
 *           allocator and counted by their pool
 * Threads   loop
 * Units     bytes
 * Errors    none: what cannot be read is 0. In a sanitizer build, which has no jemalloc, all three
 *           figures of the allocator are what the program has asked for
 */
#ifndef SERVER_MEMORY_H
#define SERVER_MEMORY_H

#include "server/server.h"
#include "server/text.h"

struct memory {
    uint64_t allocated, active, resident; /* of the allocator */
    uint64_t payload_used, payload_kept, payload_limit;
    uint64_t used; /* allocated + payload buffers */
    uint64_t rss, rss_anon, rss_file;
    uint64_t clients;
    uint64_t system; /* of the machine */
};

void memory_read(const struct server *s, struct memory *out);
void memory_sample(struct server *s); /* now and then: remembers the peak */
const char *memory_allocator(void);
void memory_purge(void); /* unused pages go back to the kernel */
/* What OBJECT ENCODING says: flags of the record; data.ptr may be NULL where the value is too long
 * for a number. */
const char *memory_encoding(unsigned flags, struct slice data);
void memory_report(struct text *out); /* the allocator's own, long */
/* "1.50M", as Redis writes it; out: 32 bytes. */
void memory_human(uint64_t bytes, char *out);

#endif
