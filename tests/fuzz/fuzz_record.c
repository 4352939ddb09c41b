/* SPDX-License-Identifier: MIT */
/* fuzz_record: values of index.mdb and snapshot descriptors from bytes that no writer made.
 *
 * The first byte says what the rest is: a key record (length of the key, key, value), the state, a
 * volume row or a log descriptor. Each is read as it is, where the check keeps nearly everything
 * out, and again with its check made right. What can be read is written again: the same bytes,
 * but for a version that reads as the present one and fields that are always zero.
 */
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "fuzz.h"
#include "log/log_int.h"
#include "store/index_int.h"
#include "store/record.h"

enum { CHECK = 8 };

static void expect_err(int err)
{
    ASSERT(err == 0 || err == ERR_CORRUPT || err == ERR_VERSION);
}

static void seal(struct slice key, uint8_t *bytes, size_t len)
{
    size_t body = len - CHECK;

    codec_put64(bytes + body, hash64_pair(key, slice_of(bytes, body)));
}

static void inside(struct slice s, const uint8_t *value, size_t len)
{
    ASSERT(s.len == 0 || (s.ptr >= value && s.ptr + s.len <= value + len - CHECK));
}

static void read_record(struct slice key, uint8_t *value, size_t len)
{
    struct record r;
    uint8_t *again;
    int err = record_decode(key, slice_of(value, len), &r);

    expect_err(err);
    if (err != 0)
        return;
    ASSERT(record_expire_of(slice_of(value, len)) == r.expire_ms);
    inside(r.model, value, len);
    inside(r.seq, value, len);
    inside(r.data, value, len);
    ASSERT(record_size(&r) == len);
    again = malloc(len);
    ASSERT(again != NULL);
    record_encode(&r, key, again);
    codec_put32(value + 52, 0);
    ASSERT(memcmp(again, value, len - CHECK) == 0);
    free(again);
}

static void key_record(struct slice rest)
{
    size_t wanted = 1 + fuzz_byte(&rest) * (RECORD_KEY_MAX - 1) / 255;
    struct slice key = fuzz_take(&rest, wanted);
    uint8_t *value = fuzz_copy(rest.ptr, rest.len);

    if (key.len > 0) {
        read_record(key, value, rest.len);
        if (rest.len >= CHECK) {
            seal(key, value, rest.len);
            read_record(key, value, rest.len);
        }
    }
    free(value);
}

static void state(struct slice rest)
{
    struct index_state s;
    uint8_t again[STATE_SIZE], *value = fuzz_copy(rest.ptr, rest.len);

    expect_err(index_state_decode(slice_of(value, rest.len), &s));
    if (rest.len >= CHECK) {
        seal(slice_str("s"), value, rest.len);
        if (index_state_decode(slice_of(value, rest.len), &s) == 0) {
            ASSERT(rest.len == STATE_SIZE);
            index_state_encode(&s, again);
            ASSERT(memcmp(again + 4, value + 4, STATE_SIZE - 4 - CHECK) == 0);
        }
    }
    free(value);
}

static void volume_row(struct slice rest)
{
    struct slice key = fuzz_take(&rest, 4);
    struct volume_row r;
    uint8_t number[4], again[VOLUME_ROW_SIZE], *value = fuzz_copy(rest.ptr, rest.len);

    expect_err(index_volume_decode(key, slice_of(value, rest.len), &r));
    if (rest.len >= CHECK) {
        seal(key, value, rest.len);
        if (index_volume_decode(key, slice_of(value, rest.len), &r) == 0) {
            ASSERT(rest.len == VOLUME_ROW_SIZE);
            index_volume_encode(&r, number, again);
            ASSERT(slice_eq(key, slice_of(number, 4)) && again[1] == value[1]);
            ASSERT(memcmp(again + 4, value + 4, VOLUME_ROW_SIZE - 4 - CHECK) == 0);
        }
    }
    free(value);
}

static void descriptor(struct slice rest)
{
    struct log_descriptor d;
    uint8_t again[LOG_DESCRIPTOR_SIZE], *value = fuzz_copy(rest.ptr, rest.len);

    expect_err(log_descriptor_decode(slice_of(value, rest.len), &d));
    if (rest.len >= CHECK) {
        codec_put64(value + rest.len - CHECK, hash64(value, rest.len - CHECK));
        if (log_descriptor_decode(slice_of(value, rest.len), &d) == 0) {
            log_descriptor_encode(&d, again);
            ASSERT(slice_eq(slice_of(again, sizeof(again)), slice_of(value, rest.len)));
        }
    }
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(struct slice) = {key_record, state, volume_row, descriptor};
    struct slice rest = slice_of(data, size);

    readers[fuzz_byte(&rest) % 4](rest);
    return 0;
}
