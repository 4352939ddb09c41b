/* SPDX-License-Identifier: MIT */
/* keys: the names of a seed's keys: short, long, binary, with common beginnings. */
#ifndef TESTS_SIM_KEYS_H
#define TESTS_SIM_KEYS_H

#include "base/slice.h"
#include "model.h"

enum { KEYS = GROUPS * GROUP_KEYS };

void keys_init(void);
struct slice key_name(int group, int key);
/* -1: not one of ours. Else group * GROUP_KEYS + key. */
int key_find(struct slice name);
/* The i-th in byte order, as above. */
int key_sorted(int i);

#endif
