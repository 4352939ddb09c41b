/* SPDX-License-Identifier: MIT */
/* slab: a volume file: an LMDB environment with one value that payloads are written into.
 *
 * Purpose   make such a file, find its value area again. The only file that knows the container
 * Threads   any (jobs); one caller per path
 * Owner     slab_open returns a descriptor that the caller closes; no LMDB handle stays open
 * Format    vol-NNNN.mdb: main database, key "v", value made by MDB_RESERVE; at value offset 4,080
 *           (so that it is page aligned in the file: LMDB's run header is 16 bytes) the volume
 *           header, 4,096 bytes: magic, format, uuid, number, size, check. The value area for
 *           payloads starts 4,096 bytes behind it
 * Errors    ERR_NOSPC on a full disk (blocks are reserved before anything is written), ERR_CORRUPT
 *           no or a damaged header, ERR_VERSION, ERR_ACCESS, ERR_IO
 * Source    DESIGN §4 "Volumes", measured: 1.9–2.3 GB/s against 0.8–1.3 for mdb_put
 */
#ifndef STORE_SLAB_H
#define STORE_SLAB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"

#define SLAB_SIZE_MIN ((uint64_t)16 << 20)
#define SLAB_SIZE_MAX (((uint64_t)4 << 30) - ((uint64_t)16 << 20))
#define SLAB_TEMP_SUFFIX ".tmp" /* behind the name of a file being made */

struct slab {
    int fd;
    bool direct; /* O_DIRECT; false = buffered fallback (logged) */
    uint32_t number;
    uint64_t base;     /* file offset of the value area */
    uint64_t capacity; /* bytes of it */
    uint8_t uuid[16];
};

/* Bytes of the value area in a file of this size. */
uint64_t slab_capacity(uint64_t size);

/* size: of the file. Writes a temporary name, syncs file and directory, renames. ERR_EXISTS: this
 * number has a file. ERR_UNSUPPORTED: over 2 GiB on a file system without fallocate. */
int slab_format(const struct io_ops *io, const char *dir, uint32_t number, uint64_t size,
                const uint8_t uuid[16]);
/* uuid NULL: of any store, out->uuid says which (salvage without FORMAT). */
int slab_open(const char *dir, uint32_t number, const uint8_t uuid[16], struct slab *out);
void slab_close(struct slab *s);
void slab_path(const char *dir, uint32_t number, char *out, size_t size);

#endif
