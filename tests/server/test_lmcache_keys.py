# SPDX-License-Identifier: MIT
"""The two keys of a chunk of LMCache's redis:// client: X + kv_bytes, then X + metadata.

It believes the metadata, which is small: eviction, which takes large values, must not leave it.
tests/client/test_lmcache.py holds the same with LMCache itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from harness import Client, Server, info_of

MIB = 1 << 20
CHUNKS = 8


def key(n: int, part: str) -> str:
    return f"meta-llama/Llama-3-8B@1@0@-{n:x}@bfloat16{part}"


def store_chunks(c: Client) -> None:
    for n in range(CHUNKS):
        c.ok("SET", key(n, "kv_bytes"), bytes([n]) * 2 * MIB)
        c.ok("SET", key(n, "metadata"), bytes([n]) * 28)


def flood(c: Client) -> None:
    filler = os.urandom(2 * MIB)
    for n in range(400):
        c.ok("SET", f"filler{n}", filler)
    assert int(info_of(c, "stats")["evicted_keys"]) > 200


@pytest.mark.ours
def test_evicted_and_leased_together(new_server: Callable[..., Server]) -> None:
    server = new_server(
        max_store_bytes="256mb", volume_size="32mb", lookup_lease_ms=str(3_600_000)
    )
    with server.client(timeout_s=60) as c:
        store_chunks(c)
        c.ok("SET", "small metadata", b"of nobody")
        assert c.cmd("EXISTS", key(3, "metadata")) == 1
        flood(c)
        assert c.cmd("GET", key(3, "kv_bytes")) == bytes([3]) * 2 * MIB
        for n in range(CHUNKS):
            there = [c.cmd("EXISTS", key(n, part)) for part in ("metadata", "kv_bytes")]
            assert there == ([1, 1] if n == 3 else [0, 0]), n
        assert c.cmd("GET", "small metadata") == b"of nobody"
