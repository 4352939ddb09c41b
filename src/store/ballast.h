/* SPDX-License-Identifier: MIT */
/* ballast: disk space kept back for the day the disk is full.
 *
 * Purpose   a full disk must still take DELs, and a DEL is a log entry: libraft cannot begin a new
 *           segment without BALLAST_BYTES / 3. Others fill the disk, too, so the space is held by a
 *           file of the data directory, which goes when it is needed and comes back later
 * Threads   loop, or before it runs; allocating and unlinking such a file takes well under 1 ms
 * Errors    no fallocate, no space: there is no ballast, which is no error
 */
#ifndef STORE_BALLAST_H
#define STORE_BALLAST_H

#include <stdint.h>

#define BALLAST_FILE "ballast"
#define BALLAST_BYTES ((uint64_t)48 << 20) /* three log segments: libraft makes two ahead */
#define BALLAST_LOW ((uint64_t)40 << 20)   /* free bytes below which it goes */
#define BALLAST_HIGH ((uint64_t)512 << 20) /* … and above which it comes back */

/* At start and now and then. free_bytes: of the disk of dir, as datadir_space says. */
void ballast_step(const char *dir, uint64_t free_bytes);

#endif
