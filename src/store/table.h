/* SPDX-License-Identifier: MIT */
/* table: the memory table, what was applied since the last checkpoint.
 *
 * Purpose   key → encoded record, or "deleted". Two exist at most: the active one (loop writes)
 *           and the frozen one (a checkpoint merges it; nobody writes)
 * Threads   loop; a frozen table is read by loop and checkpoint worker at the same time, so no
 *           look-up changes anything
 * Lifetime  the slice of a look-up lives until the next put or del of that key, or table_drop_all
 * Limits    bytes are counted by the caller through table_bytes(): TABLE_BYTES_MAX,
 *           TABLE_KEYS_MAX trigger a checkpoint; a small reserve above is for deletes
 */
#ifndef STORE_TABLE_H
#define STORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define TABLE_BYTES_MAX ((size_t)64 << 20)
#define TABLE_BYTES_RESERVE ((size_t)8 << 20)
#define TABLE_KEYS_MAX 65536

enum table_hit { TABLE_ABSENT, TABLE_DELETED, TABLE_RECORD };

struct table;

struct table *table_new(void);
void table_free(struct table *t);

enum table_hit table_get(const struct table *t, struct slice key, struct slice *value);

/* Memory for that many puts of new keys, with so many bytes of keys and records. False: there is
 * none. */
bool table_reserve(struct table *t, size_t keys, size_t bytes);
/* Takes over what `from` has set aside; t is new. */
void table_inherit(struct table *t, struct table *from);
/* Room for `size` bytes of an encoded record, to be filled at once. */
uint8_t *table_put(struct table *t, struct slice key, size_t size);
void table_del(struct table *t, struct slice key);

size_t table_count(const struct table *t);
size_t table_bytes(const struct table *t); /* with its own overhead */

/* FLUSHALL: forget everything, hide what is below (older table and index). */
void table_drop_all(struct table *t);
bool table_hides_below(const struct table *t);

struct table_entry {
    struct slice key;
    struct slice value; /* ptr NULL = deleted */
};
/* All entries in key order; `entries` is malloc'ed by the call (NULL + 0 when empty). */
size_t table_sorted(const struct table *t, struct table_entry **entries);
/* The i-th key in the order of its first put or del, i < table_count(). A key keeps its number
 * until table_drop_all(), which table_epoch() tells. */
struct table_entry table_at(const struct table *t, size_t i);
uint64_t table_epoch(const struct table *t);

void table_check(const struct table *t); /* invariants, tests */

#endif
