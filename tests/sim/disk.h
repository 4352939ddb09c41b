/* SPDX-License-Identifier: MIT */
/* disk: the volumes of the simulated node.
 *
 * Purpose   an io_ops that keeps what is written to volumes in memory, page by page, and knows what
 *           was synced. A crash keeps, drops or tears what was not. LMDB's own pages of a volume,
 *           and every other file, are the real files of a temporary folder
 * Faults    by the seed's profile: EIO of reads, writes and syncs, ENOSPC, short transfers; a full
 *           disk (also what fallocate and statvfs say to anybody); a crash in the middle
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include "base/io.h"
#include "sim.h"

#define DISK_VOLUME (16 * MIB)

extern const struct io_ops disk_io;

/* The power is gone: nothing that is called from now on has an effect, until disk_restart, which
 * decides what the unsynced writes have become. */
void disk_cut(void);
void disk_restart(void);
void disk_check_synced(void);       /* a clean stop leaves nothing unsynced */
void disk_forget(const char *path); /* the file goes, or will not be a volume */

void disk_set_full(bool full);
bool disk_is_full(void);

struct disk_stats {
    uint64_t reads, writes, syncs, read_bytes, write_bytes;
    uint64_t read_errors, write_errors, sync_errors, short_transfers;
    uint64_t torn_pages, dropped_pages, kept_pages;
};
void disk_get_stats(struct disk_stats *out);
void disk_free_all(void);
bool disk_has(const char *text); /* in a page that was written */

#endif
