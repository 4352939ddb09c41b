/* SPDX-License-Identifier: MIT */
#include "keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/record.h"

static struct {
    size_t len;
    uint8_t bytes[RECORD_KEY_MAX];
} names[KEYS];
static int sorted[KEYS];

static int by_name(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return slice_cmp(key_name(x / GROUP_KEYS, x % GROUP_KEYS),
                     key_name(y / GROUP_KEYS, y % GROUP_KEYS));
}

/* "g17:…" and its number: one in eight is binary, one in sixteen as long as a key may be. */
static void make(int i)
{
    size_t len = (size_t)snprintf((char *)names[i].bytes, 32, "g%02d:", i / GROUP_KEYS);
    size_t room = sim_chance(625) ? RECORD_KEY_MAX - 1 - len : sim_random(24);

    if (sim_chance(1250))
        sim_bytes(names[i].bytes + len, room);
    else
        memset(names[i].bytes + len, 'a' + i % 26, room);
    names[i].bytes[len + room] = (uint8_t)('0' + i % GROUP_KEYS);
    names[i].len = len + room + 1;
}

void keys_init(void)
{
    for (int i = 0; i < KEYS; i++) {
        make(i);
        sorted[i] = i;
    }
    qsort(sorted, KEYS, sizeof(sorted[0]), by_name);
}

struct slice key_name(int group, int key)
{
    int i = group * GROUP_KEYS + key;

    return slice_of(names[i].bytes, names[i].len);
}

int key_find(struct slice name)
{
    for (int low = 0, high = KEYS - 1; low <= high;) {
        int mid = (low + high) / 2, i = sorted[mid];
        int c = slice_cmp(name, slice_of(names[i].bytes, names[i].len));

        if (c == 0)
            return i;
        if (c < 0)
            high = mid - 1;
        else
            low = mid + 1;
    }
    return -1;
}

int key_sorted(int i)
{
    return sorted[i];
}
