/* SPDX-License-Identifier: MIT */
/* datadir: the data directory: lock, FORMAT, what its file system can do.
 *
 * Purpose   one process per directory; a directory of another node, kind or newer format is refused
 *           with a reason a person can act on
 * Threads   alone, at start and stop
 * Format    FORMAT, text lines: "format 1", "store <uuid hex>", "node <id>", "log raft|none",
 *           "log-base <n>" (added to indexes of the log: a restored or converted store), "check
 *           <XXH3-64 of the lines above, hex>". Written to a temporary name, synced, renamed.
 *           LOCK: locked with flock while a process serves the directory; holds its pid
 * Errors    ERR_LOCKED, ERR_VERSION, ERR_CORRUPT, ERR_INVAL (other node id or log kind),
 *           ERR_UNSUPPORTED (Btrfs), ERR_ACCESS, ERR_NOTFOUND, ERR_NOSPC, ERR_IO; detail
 *           (DATADIR_DETAIL_MAX bytes) names file, reason and remedy
 */
#ifndef STORE_DATADIR_H
#define STORE_DATADIR_H

#include <stdbool.h>
#include <stdint.h>

#define DATADIR_FORMAT 1
#define DATADIR_DETAIL_MAX 512

struct datadir {
    char path[4096];
    int lock_fd;
    uint8_t uuid[16];
    uint32_t node;
    bool raft;
    uint64_t log_base;
    bool created; /* by this open */
};

/* Makes the directory (mode 0700; its parent must exist) and FORMAT when absent. */
int datadir_open(const char *path, uint32_t node, bool raft, struct datadir *out, char *detail);
void datadir_close(struct datadir *d);
/* Replaces FORMAT atomically (conversion, BACKUP into another directory). */
int datadir_write_format(const char *path, const struct datadir *d);
/* Reads FORMAT without the lock (sldmkv-check). ERR_NOTFOUND: there is none. */
int datadir_read_format(const char *path, struct datadir *out, char *detail);
/* Takes the lock alone; *fd is closed to release it (sldmkv-check, conversion). */
int datadir_lock(const char *path, int *fd, char *detail);
/* Size and free bytes of the file system. */
int datadir_space(const char *path, uint64_t *total, uint64_t *available);

#endif
