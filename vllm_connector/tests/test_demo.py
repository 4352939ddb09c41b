# SPDX-License-Identifier: MIT
"""The demo in a small size, and the proof that it would notice a wrong block."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo_prefix import BLOCK_TOKENS, Server, Sizes, block_keys, fill, load
from sldmkvcachestore.client import KVCacheClient

SMALL = Sizes(tokens=200, layers=2, heads=4)


@pytest.fixture
def server(kv_server: Server) -> Server:
    pytest.importorskip("transformers")
    return kv_server


def test_demo_script(server: Server) -> None:
    script = Path(__file__).resolve().parents[1] / "examples" / "demo_prefix.py"
    argv = [sys.executable, str(script), "--tokens", "200", "--layers", "2", "--heads", "4"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "tokens equal     yes" in done.stdout
    assert "prefix found     12 blocks" in done.stdout
    assert f"{12 * 2 * 2 * 4 * 64 * 4 * BLOCK_TOKENS:,}" in done.stdout


def test_the_answer_depends_on_every_loaded_block(server: Server) -> None:
    first = fill(server.url, SMALL)
    with KVCacheClient(server.url) as client:
        keys = [*client.list("demo/")]
        block = client.retrieve(keys[5])
        assert block is not None
        assert client.store(keys[5], bytes(len(block)))
        second = load(server.url, SMALL)
        assert second["blocks"] == first["blocks"]
        assert second["tokens"] != first["tokens"]
        # A block that is gone ends the prefix; the rest is computed, and the answer is right.
        assert client.delete(keys[5]) == 1
    third = load(server.url, SMALL)
    assert third["blocks"] < first["blocks"]
    assert third["tokens"] == first["tokens"]


def test_keys_are_chained() -> None:
    tokens = list(range(100))
    keys = block_keys("model", tokens)
    assert len(keys) == len(set(keys)) == 6
    assert block_keys("model", tokens[:96]) == keys
    assert block_keys("model", tokens[:95]) == keys[:5]
    changed = block_keys("model", [*tokens[:40], 7, *tokens[41:]])
    assert [a == b for a, b in zip(keys, changed)] == [True] * 2 + [False] * 4
    assert not set(keys) & set(block_keys("other", tokens))
