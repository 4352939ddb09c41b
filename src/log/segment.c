/* SPDX-License-Identifier: MIT */
#include "log/segment.h"

#include "base/assert.h"
#include "base/codec.h"
#include "log/check.h"
#include "log/log.h"

enum { PREAMBLE = 8, COUNT = 8, ITEM = 16, BLOCK = 4096 };
enum { CONFIGURATION_FORMAT = 1, SERVER_ID = 8, ROLE_MAX = 2 };

/* ---- crc -------------------------------------------------------------------------------- */

void crc_init(struct crc *c)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i << 24;

        for (int bit = 0; bit < 8; bit++)
            v = (v << 1) ^ ((v & 0x80000000u) != 0 ? 0x04C11DB7u : 0);
        c->table[0][i] = v;
    }
    for (int k = 1; k < 8; k++)
        for (int i = 0; i < 256; i++) {
            uint32_t v = c->table[k - 1][i];

            c->table[k][i] = (v << 8) ^ c->table[0][v >> 24];
        }
}

uint32_t crc_more(const struct crc *c, uint32_t crc, const void *bytes, size_t len)
{
    const uint32_t(*t)[256] = c->table;
    const uint8_t *p = bytes;

    for (; len >= 8; p += 8, len -= 8) {
        uint32_t a = crc ^ codec_get32be(p), b = codec_get32be(p + 4);

        crc = t[7][a >> 24] ^ t[6][a >> 16 & 255] ^ t[5][a >> 8 & 255] ^ t[4][a & 255] ^
              t[3][b >> 24] ^ t[2][b >> 16 & 255] ^ t[1][b >> 8 & 255] ^ t[0][b & 255];
    }
    for (; len > 0; p++, len--)
        crc = (crc << 8) ^ t[0][(crc >> 24) ^ *p];
    return crc;
}

uint32_t crc_of(const struct crc *c, const void *bytes, size_t len)
{
    return crc_more(c, 0, bytes, len);
}

/* ---- batches ---------------------------------------------------------------------------- */

/* Sum of the lengths, or UINT64_MAX when the list cannot be one of libraft's. */
static uint64_t data_size(const uint8_t *list, uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++, list += ITEM) {
        uint32_t word = codec_get32(list + 8), len = codec_get32(list + 12);

        if (word < SEGMENT_COMMAND || word > SEGMENT_CHANGE || len % 8 != 0)
            return UINT64_MAX;
        sum += len;
    }
    return sum;
}

bool batch_read(const struct crc *c, struct slice file, size_t at, struct batch *out)
{
    const uint8_t *p = file.ptr + at;
    size_t left = file.len - at;
    uint64_t header, size;

    ASSERT(at <= file.len);
    memset(out, 0, sizeof(*out));
    out->at = at;
    if (left < PREAMBLE + COUNT)
        return false;
    out->n = codec_get64(p + PREAMBLE);
    if (out->n == 0 || out->n > SEGMENT_BATCH_ENTRIES_MAX)
        return false;
    header = COUNT + ITEM * out->n;
    if (left - PREAMBLE < header)
        return false;
    out->list = p + PREAMBLE + COUNT;
    size = data_size(out->list, out->n);
    if (size == UINT64_MAX || codec_get32(p) != crc_of(c, p + PREAMBLE, header))
        return false;
    out->header_whole = true;
    out->end = at + PREAMBLE + header + size;
    if (out->end > file.len)
        return false;
    out->data = p + PREAMBLE + header;
    return codec_get32(p + 4) == crc_of(c, out->data, size);
}

struct batch_entry batch_entry(const struct batch *b, uint64_t i, size_t *offset)
{
    const uint8_t *item = b->list + ITEM * i;
    struct batch_entry e = {.term = codec_get64(item), .type = item[8]};

    ASSERT(i < b->n);
    e.bytes = slice_of(b->data + *offset, codec_get32(item + 12));
    *offset += e.bytes.len;
    return e;
}

/* ---- configuration ---------------------------------------------------------------------- */

struct server {
    uint64_t id;
    struct slice address;
};

static bool next_server(struct slice bytes, size_t *at, struct server *out)
{
    const uint8_t *p = bytes.ptr + *at, *end;
    size_t left = bytes.len - *at;

    if (left < SERVER_ID)
        return false;
    end = memchr(p + SERVER_ID, '\0', left - SERVER_ID);
    if (end == NULL || end + 1 == bytes.ptr + bytes.len || end[1] > ROLE_MAX)
        return false;
    out->id = codec_get64(p);
    out->address = slice_of(p + SERVER_ID, (size_t)(end - p) - SERVER_ID);
    *at += (size_t)(end - p) + 2;
    return true;
}

bool configuration_whole(struct slice bytes)
{
    struct server servers[SEGMENT_SERVERS_MAX];
    size_t at = 1 + COUNT;
    uint64_t n;

    if (bytes.len < at || bytes.ptr[0] != CONFIGURATION_FORMAT)
        return false;
    n = codec_get64(bytes.ptr + 1);
    if (n > SEGMENT_SERVERS_MAX)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        if (!next_server(bytes, &at, &servers[i]) || servers[i].id == 0)
            return false;
        for (uint64_t k = 0; k < i; k++)
            if (servers[k].id == servers[i].id || slice_eq(servers[k].address, servers[i].address))
                return false;
    }
    return true;
}

/* ---- tail ------------------------------------------------------------------------------- */

/* Offset of the first byte that is not 0, or file.len. */
static size_t first_set(struct slice file, size_t from)
{
    size_t at = from;

    while (at < file.len && at % 8 != 0 && file.ptr[at] == 0)
        at++;
    if (at % 8 == 0)
        while (at + 8 <= file.len && codec_get64(file.ptr + at) == 0)
            at += 8;
    while (at < file.len && file.ptr[at] == 0)
        at++;
    return at;
}

bool segment_zero(struct slice file, size_t from)
{
    return first_set(file, from) == file.len;
}

/* Batches begin at multiples of 8. Looking at every one of them is cheap: hardly anything gets
 * past the count and the first item. */
static bool find_batch(const struct crc *c, struct slice file, size_t from, size_t *where)
{
    struct batch b;

    for (size_t at = (from + 7) / 8 * 8; at + PREAMBLE + COUNT <= file.len; at += 8)
        if (batch_read(c, file, at, &b)) {
            *where = at;
            return true;
        }
    return false;
}

/* One write begins in the block that holds `end` and reaches at most the end of the largest batch
 * rounded up to a block. With a whole header its reach is known exactly, and what the spoilt
 * batch carries as payload is not searched: it may look like anything. */
enum segment_tail segment_tail(const struct crc *c, struct slice file, size_t end, size_t *where)
{
    size_t reach = end + PREAMBLE + COUNT + ITEM + LOG_ENTRY_MAX + LOG_CHECK_TRAILER + BLOCK;
    struct batch b;

    *where = first_set(file, end);
    if (*where == file.len)
        return SEGMENT_CLEAN;
    if (!batch_read(c, file, end, &b) && b.header_whole)
        reach = b.end;
    if (find_batch(c, file, b.header_whole ? b.end : end + 8, where))
        return SEGMENT_DAMAGED;
    if (reach < file.len) {
        *where = first_set(file, reach);
        if (*where < file.len)
            return SEGMENT_DAMAGED;
    }
    *where = end;
    return SEGMENT_TORN;
}
