/* SPDX-License-Identifier: MIT */
/* fuzz_entry: log entries from bytes that no writer made.
 *
 * The check would keep every other input out, so it is made right first, and the length with it;
 * what is behind it is tested. What can be read is written again by the writer: the bytes are the
 * same, so no entry has two spellings. An input starts with the entry's own bytes, nothing else.
 */
#include "base/codec.h"
#include "base/err.h"
#include "base/hash.h"
#include "fsm/entry.h"
#include "fuzz.h"

#define OFF_LENGTH 8
#define OFF_CHECK 40

static void seal(uint8_t *entry, size_t len)
{
    codec_put32(entry + OFF_LENGTH, (uint32_t)(len - ENTRY_HEADER));
    codec_put64(entry + OFF_CHECK, hash64_pair(slice_of(entry, OFF_CHECK),
                                               slice_of(entry + ENTRY_HEADER, len - ENTRY_HEADER)));
}

static void write_again(struct entry_writer *w, const struct entry_op *op)
{
    struct op_put put;

    switch (op->op) {
    case OP_PUT:
    case OP_PUT_SLAB:
        ASSERT(entry_decode_put(op, &put) == 0);
        entry_put(w, op->op == OP_PUT_SLAB, op->flags, op->key, &put);
        return;
    case OP_SETRANGE:
        entry_setrange(w, op->flags, op->key, entry_arg_u64(op), entry_setrange_bytes(op));
        return;
    case OP_EXPIRE:
    case OP_INCRBY:
    case OP_GETEX:
    case OP_EVICT:
    case OP_IF_MOD:
        entry_u64(w, op->op, op->flags, op->key, entry_arg_u64(op));
        return;
    default:
        entry_bytes(w, op->op, op->flags, op->key, op->body);
    }
}

/* True: all of it could be read, and w holds the same ops. */
static bool read_all(struct slice entry, struct entry_header *h, struct entry_writer *w)
{
    struct entry_reader r;
    struct entry_op op;
    struct op_put put;
    int err = entry_open(entry, h, &r);

    ASSERT(err == 0 || err == ERR_CORRUPT || err == ERR_VERSION);
    if (err != 0)
        return false;
    while ((err = entry_next(&r, &op)) == 1) {
        if ((op.op == OP_PUT || op.op == OP_PUT_SLAB) && entry_decode_put(&op, &put) != 0)
            return false;
        write_again(w, &op);
    }
    ASSERT(err == 0 || err == ERR_CORRUPT || err == ERR_VERSION);
    return err == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct entry_writer w = {0};
    struct entry_header h;
    struct slice again;
    uint8_t *copy = fuzz_copy(data, size);

    ASSERT(entry_open(slice_of(copy, size < ENTRY_HEADER ? size : 0), &h,
                      &(struct entry_reader){0}) == ERR_CORRUPT);
    if (size >= ENTRY_HEADER) {
        seal(copy, size);
        entry_begin(&w);
        if (read_all(slice_of(copy, size), &h, &w)) {
            again = entry_finish(&w, h.kind, h.node, h.boot, h.group, h.stamp_ms);
            ASSERT(slice_eq(again, slice_of(copy, size)));
        }
        entry_fini(&w);
    }
    free(copy);
    return 0;
}
