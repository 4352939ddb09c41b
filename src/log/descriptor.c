/* SPDX-License-Identifier: MIT */
/* The one thing a raft snapshot holds: where the store must be. 64 bytes, little-endian:
 *
 *   offset  size  field
 *        0     4  version, 1
 *        4     4  0
 *        8     8  applied
 *       16     8  clock_ms
 *       24     8  keys
 *       32     8  bytes
 *       40    16  cluster
 *       56     8  check: XXH3-64 of bytes 0 … 55
 */
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "log/log_int.h"

enum { VERSION = 1, AT_CHECK = 56 };

void log_descriptor_encode(const struct log_descriptor *d, uint8_t out[LOG_DESCRIPTOR_SIZE])
{
    memset(out, 0, LOG_DESCRIPTOR_SIZE);
    codec_put32(out, VERSION);
    codec_put64(out + 8, d->applied);
    codec_put64(out + 16, d->clock_ms);
    codec_put64(out + 24, d->keys);
    codec_put64(out + 32, d->bytes);
    memcpy(out + 40, d->cluster, sizeof(d->cluster));
    codec_put64(out + AT_CHECK, hash64(out, AT_CHECK));
}

/* The version decides first: a newer one may have another length and another check. */
int log_descriptor_decode(struct slice bytes, struct log_descriptor *out)
{
    const uint8_t *p = bytes.ptr;

    if (bytes.len < 4)
        return ERR_CORRUPT;
    if (codec_get32(p) > VERSION && codec_get32(p) <= VERSION + UINT16_MAX)
        return ERR_VERSION;
    if (codec_get32(p) != VERSION || bytes.len != LOG_DESCRIPTOR_SIZE)
        return ERR_CORRUPT;
    if (codec_get64(p + AT_CHECK) != hash64(p, AT_CHECK) || codec_get32(p + 4) != 0)
        return ERR_CORRUPT;
    out->applied = codec_get64(p + 8);
    out->clock_ms = codec_get64(p + 16);
    out->keys = codec_get64(p + 24);
    out->bytes = codec_get64(p + 32);
    memcpy(out->cluster, p + 40, sizeof(out->cluster));
    return 0;
}
