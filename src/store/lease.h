/* SPDX-License-Identifier: MIT */
/* lease: keys that eviction must not take for some time.
 *
 * Purpose   a key found by EXISTS or KVMATCH stays until its lease ends (its own TTL and DEL win).
 *           Where its eviction is already on its way through the log, no lease can be taken: who
 *           asks must answer that the key is not there
 * Threads   loop
 * Limits    LEASE_MAX keys, 16 bytes each, by 64-bit hash: a collision spares one key more; when
 *           full, the lease that ends first nearby is replaced. Memory grows with use
 * Source    LMCache's native client never returns from a nil GET that follows a positive EXISTS
 */
#ifndef STORE_LEASE_H
#define STORE_LEASE_H

#include "base/slice.h"

#define LEASE_MAX (1u << 20)
#define LEASE_MS_MAX (24u * 3600 * 1000)
#define LEASE_CONDEMNED_MS 60000u

struct lease;

struct lease *lease_new(void);
void lease_free(struct lease *l);
/* The hash under which a key is held; other tables of the store use it, too. */
uint64_t lease_hash(const struct lease *l, struct slice key);
void lease_ahead(const struct lease *l, uint64_t hash); /* lease_take_hash comes soon */
/* False: the key is condemned. */
bool lease_take_hash(struct lease *l, uint64_t hash, uint64_t now_ms, uint64_t until_ms);
bool lease_take(struct lease *l, struct slice key, uint64_t now_ms, uint64_t until_ms);
/* Eviction was proposed. Ends by itself after LEASE_CONDEMNED_MS, in case that it never comes. */
void lease_condemn(struct lease *l, struct slice key, uint64_t now_ms);
void lease_pardon(struct lease *l, uint64_t hash);           /* the key was changed, or is gone */
bool lease_condemns(const struct lease *l, uint64_t now_ms); /* some key */
bool lease_held(const struct lease *l, struct slice key, uint64_t now_ms);
size_t lease_count(const struct lease *l, uint64_t now_ms);

#endif
