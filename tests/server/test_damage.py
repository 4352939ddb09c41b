# SPDX-License-Identifier: MIT
"""Damage in index.mdb, met at any time: refused at the next start, with file and remedy."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import ConnectionClosed, Server, StartFailed
from test_values import body

pytestmark = pytest.mark.ours

PAGE = 4096
STARTS = 4  # a damaged store may serve and die once or twice before the damage is met


def fill(server: Server) -> dict[str, bytes]:
    values = {f"key:{n:05}": body(40 + n % 3000, n) for n in range(400)}
    with server.client() as c:
        for key, value in values.items():
            c.ok("SET", key, value)
    return values


def write_and_read(server: Server, values: dict[str, bytes]) -> None:
    """Touches every page: values are right or misses, a checkpoint merges over all of them."""
    with server.client(timeout_s=20) as c:
        for key, value in values.items():
            got = c.cmd("GET", key)
            assert got == value or not isinstance(got, bytes) or got[:1] == b"E", key
        for key, value in values.items():
            c.cmd("SET", key, value)
        c.cmd("KEYS", "*")  # waits for a checkpoint


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    page = rng.randrange(2, len(data) // PAGE)
    at = page * PAGE + rng.randrange(16)  # the header: page number, flags, lower, upper
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def end(server: Server) -> None:
    """SIGTERM, and whatever comes of it: the last checkpoint may be what meets the damage."""
    assert server.proc is not None
    server.proc.terminate()
    server.proc.wait(20)


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_page_header_is_no_crash_loop(
    new_server: Callable[..., Server], seed: int
) -> None:
    rng = random.Random(seed)
    server = new_server()
    values = fill(server)
    server.stop()
    flip(server.data / "index.mdb", rng)
    for _ in range(STARTS):
        try:
            server.start()
            write_and_read(server, values)
            end(server)
        except StartFailed as e:
            assert e.code == 1, e
            assert "index.mdb" in e.log and "sldmkv-check" in e.log.splitlines()[-1]
            return
        except (ConnectionClosed, OSError):
            end(server)
    # Harmless: the bit was in a page that nobody uses, or it was overwritten. It must serve.
    server.start()
    write_and_read(server, values)
    server.stop()
