/* SPDX-License-Identifier: MIT */
/* What applying a unit does to the memory table. An EXPIRE is 32 bytes of log; the record that it
 * changes may be 16 KiB, and goes into the table whole. So the length of an entry says nothing, and
 * a unit of many ops is measured before it is proposed.
 */
#include "fsm/fsm.h"

#include "base/assert.h"

#define NODE_BYTES 96u /* what the table and the record add to a key and its value */

static uint64_t op_growth(struct fsm *f, const struct entry_op *op)
{
    uint64_t bytes = NODE_BYTES + op->key.len;

    switch (op->op) {
    case OP_IF_MOD:
    case OP_UNLESS:
    case OP_FLUSH:
        return 0;
    case OP_DEL:
    case OP_GETDEL:
    case OP_EVICT:
        return bytes;
    case OP_PUT:
    case OP_PUT_SLAB:
        return bytes + op->body.len;
    case OP_RENAME: /* the body names the destination */
    case OP_COPY:
        bytes += NODE_BYTES;
        break;
    case OP_EXPIRE:
    case OP_PERSIST:
    case OP_INCRBY:
    case OP_INCRBYFLOAT:
    case OP_APPEND:
    case OP_SETRANGE:
    case OP_GETEX:
    case OP_MAX_:
        break;
    }
    return bytes + op->body.len + store_record_size(f->store, op->key);
}

uint64_t fsm_growth(struct fsm *f, const struct entry_writer *unit)
{
    struct entry_reader r = entry_read_back(unit);
    struct slice last = slice_of(NULL, 0);
    struct entry_op op;
    uint64_t sum = 0;
    int more;

    while ((more = entry_next(&r, &op)) > 0) {
        if (!slice_eq(op.key, last)) /* the table keeps one record of a key */
            sum += op_growth(f, &op);
        last = op.key;
    }
    ASSERT(more == 0);
    return sum;
}
