# SPDX-License-Identifier: MIT
"""The value under a block's key: a header, then the bytes of the block.

A store answers with bytes; whether they are the block that was asked for is decided here, before
any of them reaches a KV cache. The digest covers the key, which names model, layout, rank and
block hash, and what both sides bind beside it, and the bytes. So a true value under another key
is as wrong as a damaged one.

    offset  size  field
         0     8  magic "SLDMKVB1"
         8     8  length of the block, little endian
        16    16  XXH3-128 over: length of the key (8 bytes), key, binding, block
        32    32  zeros, so that the block begins at a multiple of 64
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

HEADER_BYTES = 64
MAGIC = b"SLDMKVB1"
_HEADER = struct.Struct("<8sQ16s32x")


def digest(key: bytes, binding: bytes, block: Sequence[memoryview]) -> bytes:
    """What a record of ``block`` under ``key`` must carry, 16 bytes."""
    import xxhash

    state = xxhash.xxh3_128(struct.pack("<Q", len(key)) + key + binding)
    for view in block:
        state.update(view)
    return bytes(state.digest())


def seal(header: memoryview, key: bytes, binding: bytes, block: Sequence[memoryview]) -> None:
    """Fill ``header`` (HEADER_BYTES, writable) for a block that lies in the views."""
    length = sum(map(len, block))
    _HEADER.pack_into(header, 0, MAGIC, length, digest(key, binding, block))


def is_intact(header: memoryview, key: bytes, binding: bytes, block: Sequence[memoryview]) -> bool:
    """Whether header and block are the record that ``seal`` made for this key and binding."""
    magic, length, found = _HEADER.unpack_from(header)
    return (
        magic == MAGIC
        and length == sum(map(len, block))
        and not any(header[32:HEADER_BYTES])
        and found == digest(key, binding, block)
    )
