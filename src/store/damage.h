/* SPDX-License-Identifier: MIT */
/* damage: the mark that index.mdb's structure is damaged.
 *
 * Purpose   LMDB has no page checksums: on a damaged page it may answer MDB_CORRUPTED, hide keys,
 *           or crash. Whatever of it is noticed leaves the file index.damaged, and the next start
 *           refuses the directory with reason and remedy: a service manager does not restart into
 *           the same crash for ever, and hidden keys are not taken for absent ones
 * Threads   damage_watch, damage_unwatch: loop. The others: any; enter and leave concern the
 *           calling thread alone and nest
 * Lifetime  the path given to damage_enter must live until damage_leave
 * Errors    a mark that cannot be written is lost; a crash then repeats at the next start
 */
#ifndef STORE_DAMAGE_H
#define STORE_DAMAGE_H

#include <stdbool.h>

#define DAMAGE_FILE "index.damaged"
#define DAMAGE_SUSPECT_FILE "index.suspect"

/* A store is open: damage is marked, crashes between enter and leave too. While none is (tools that
 * only look) nothing is. */
void damage_watch(void);
void damage_unwatch(void);

/* This thread is about to follow pages of the index whose mark would be `path`. */
void damage_enter(const char *path);
void damage_leave(void);

void damage_mark(const char *path, const char *text); /* text: one line, for the refusal */
/* A checkpoint failed with an error that may be the disk's, or a damaged page that made LMDB write
 * nonsense. The first time is only noted; true: it was noted before this process, restarting does
 * not help. damage_disproved: a checkpoint succeeded. */
bool damage_suspect(const char *dir);
void damage_disproved(const char *dir);
/* 0, or ERR_CORRUPT with the refusal in detail (INDEX_DETAIL_MAX bytes). */
int damage_refuse(const char *dir, char *detail);

#endif
