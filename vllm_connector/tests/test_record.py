# SPDX-License-Identifier: MIT
"""Records: whatever is not exactly what was sealed is refused."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from sldmkvcachestore.record import HEADER_BYTES, is_intact, seal

KEY, BINDING = b"vllm:ns:00ff:0", b"layout"


def sealed(
    block: bytes, key: bytes = KEY, binding: bytes = BINDING
) -> tuple[bytearray, Sequence[memoryview]]:
    header = bytearray(HEADER_BYTES)
    views = [memoryview(block)]
    seal(memoryview(header), key, binding, views)
    return header, views


def test_what_was_sealed_is_intact() -> None:
    for block in (b"", b"x", bytes(range(256)) * 100):
        header, views = sealed(block)
        assert is_intact(memoryview(header), KEY, BINDING, views)


def test_pieces_of_a_block_are_the_block() -> None:
    block = memoryview(bytes(range(256)))
    header, _ = sealed(bytes(block))
    assert is_intact(memoryview(header), KEY, BINDING, [block[:7], block[7:200], block[200:]])


@pytest.mark.parametrize(
    ("key", "binding"),
    [(b"vllm:ns:00ff:1", BINDING), (KEY, b"layouu"), (KEY + b"l", b"ayout"), (b"", KEY + BINDING)],
)
def test_a_true_value_of_something_else_is_refused(key: bytes, binding: bytes) -> None:
    header, views = sealed(b"block" * 100)
    assert not is_intact(memoryview(header), key, binding, views)


def test_every_changed_byte_of_the_header_is_found() -> None:
    header, views = sealed(b"block" * 100)
    for at in range(HEADER_BYTES):
        changed = bytearray(header)
        changed[at] ^= 1 << (at % 8)
        assert not is_intact(memoryview(changed), KEY, BINDING, views), at


def test_changed_bytes_of_the_block_are_found() -> None:
    rng = random.Random(1)
    block = rng.randbytes(5000)
    header, _ = sealed(block)
    for _ in range(500):
        changed = bytearray(block)
        changed[rng.randrange(len(block))] ^= 1 << rng.randrange(8)
        assert not is_intact(memoryview(header), KEY, BINDING, [memoryview(changed)])
    for length in (0, 1, 4999):
        assert not is_intact(memoryview(header), KEY, BINDING, [memoryview(block)[:length]])
