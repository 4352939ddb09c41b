# SPDX-License-Identifier: MIT
"""What short commands make the memory tables hold is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from harness import Client, Server, info_of, is_error
from test_values import body

pytestmark = pytest.mark.ours

KEYS = 10_000
MORE_KEYS = 22_000  # so many that all of them together are over the bound
VALUE = body(16_000)
# Two tables of 64 MiB, and two groups of 1,024 ops that came when the table was nearly full.
TABLES = 2 * (64 << 20) + 2 * 1024 * 17_000


def fill(c: Client, keys: int) -> None:
    """Values that live in the index, each just below inline-max."""
    for at in range(0, keys, 100):
        commands = [("SET", f"k{n}", VALUE) for n in range(at, at + 100)]
        assert c.pipeline(commands) == [b"OK"] * 100


@pytest.fixture
def started(new_server: Callable[..., Server]):
    server = new_server(max_store_bytes="512mb", volume_size="64mb", max_index_bytes="1gb")
    with server.client(timeout_s=60) as c:
        yield server, c


class TablesWatched:
    """The largest table_bytes seen while the block runs."""

    def __init__(self, server: Server) -> None:
        self.client: Client = server.client(timeout_s=60)
        self.most = self.seen = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self) -> None:
        while not self.stop.wait(0.005):
            self.most = max(self.most, int(info_of(self.client, "storage")["table_bytes"]))
            self.seen += 1

    def __enter__(self) -> TablesWatched:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self.thread.join()
        self.client.close()


def test_a_pipeline_of_short_commands_on_long_values(started: tuple[Server, Client]) -> None:
    server, c = started
    fill(c, MORE_KEYS)
    with TablesWatched(server) as tables:
        replies = c.pipeline([("EXPIRE", f"k{n}", "1000") for n in range(MORE_KEYS)])
    assert replies == [1] * MORE_KEYS
    assert tables.seen > 3 and tables.most <= TABLES < MORE_KEYS * len(VALUE), tables.most


def test_a_transaction_that_rewrites_too_much_is_refused(started: tuple[Server, Client]) -> None:
    server, c = started
    fill(c, KEYS)
    with TablesWatched(server) as tables:
        c.ok("MULTI")
        queued = c.pipeline([("APPEND", f"k{n}", "x") for n in range(KEYS)])
        assert queued == [b"QUEUED"] * KEYS
        assert is_error(c.cmd("EXEC"), b"ERR transaction too large")
    assert tables.most <= TABLES, tables.most
    assert c.cmd("STRLEN", "k0") == c.cmd("STRLEN", f"k{KEYS - 1}") == len(VALUE)


def test_a_transaction_of_many_small_changes_is_taken(started: tuple[Server, Client]) -> None:
    _, c = started
    fill(c, 100)
    c.ok("MULTI")
    c.pipeline([("INCR", f"n{n % 5000}") for n in range(2 * KEYS)])
    assert c.cmd("EXEC") == [1] * 5000 + [2] * 5000 + [3] * 5000 + [4] * 5000
    c.ok("MULTI")
    c.pipeline([("APPEND", "k0", "x") for _ in range(300)])
    assert c.cmd("EXEC") == [len(VALUE) + n for n in range(1, 301)]
