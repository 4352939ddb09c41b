# SPDX-License-Identifier: MIT
"""FORMAT, index.mdb, raft/ and the volumes belong together: a part of another store is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from harness import Server, StartFailed
from test_values import body

pytestmark = pytest.mark.ours


def refused(server: Server, *words: str) -> None:
    with pytest.raises(StartFailed) as caught:
        server.start()
    assert caught.value.code == 1
    line = caught.value.log.splitlines()[-1]
    assert all(word in line for word in words), line


@pytest.fixture
def two(new_server: Callable[..., Server]) -> tuple[Server, Server]:
    """Two stopped stores; the second has written more, so its log is long enough for the first."""
    servers = new_server(), new_server()
    for number, server in enumerate(servers):
        with server.client() as c:
            for n in range(10 + 50 * number):
                c.ok("SET", f"k{n}", f"store {number}")
            c.ok("SET", "large", body(100_000, number))
        server.stop()
    return servers


@pytest.mark.parametrize("part", ["index.mdb", "raft", "FORMAT"])
def test_a_part_of_another_store_is_refused(two: tuple[Server, Server], part: str) -> None:
    mine, other = two
    path = mine.data / part
    kept = mine.base / "kept"
    shutil.move(path, kept)
    (shutil.copytree if kept.is_dir() else shutil.copy)(other.data / part, path)
    refused(mine, "sldmkv-check", str(mine.data))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.move(kept, path)
    mine.start()
    with mine.client() as c:
        assert c.cmd("GET", "k9") == b"store 0"


def test_a_missing_log_is_noticed_from_the_first_write_on(
    new_server: Callable[..., Server],
) -> None:
    server = new_server()
    with server.client() as c:
        c.ok("SET", "k", "v")
    server.kill9()
    shutil.rmtree(server.data / "raft")
    refused(server, "raft", "sldmkv-check")
