# SPDX-License-Identifier: MIT
"""The control of the crash tests: the ledger must pass a store that keeps its word and find the one
that does not. Both stores are redis-server, with its log always synced and without any log.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from harness import Server, wait_until
from ledger import Load, Worker


def killed_under_load(server: Server, workers: list[Worker]) -> Server:
    with Load(server, workers) as load:
        wait_until(lambda: load.replies() >= 200, 30, "acknowledged writes")
        server.kill9()
    return server.start()


@pytest.mark.parametrize("log", ["yes", "no"])
def test_ledger(new_server: Callable[..., Server], log: str) -> None:
    seed = random.randrange(1 << 30)
    workers = [Worker(f"w{n}", seed + n, verbs=("SET",)) for n in range(3)]
    server = new_server(target="redis", appendonly=log, appendfsync="always")
    killed_under_load(server, workers)
    with server.client() as c:
        if log == "yes":
            for worker in workers:
                worker.check(c)
        else:
            with pytest.raises(AssertionError):
                for worker in workers:
                    worker.check(c)


def test_ledger_finds_an_old_version(new_server: Callable[..., Server]) -> None:
    worker = Worker("w", 5, verbs=("SET",))
    server = new_server(target="redis", appendonly="yes", appendfsync="always")
    killed_under_load(server, [worker])
    with server.client() as c:
        worker.check(c)  # what was open when the server died is settled by this
        key = next(k for k, state in worker.acked.items() if state is not None)
        value = c.cmd("GET", key)
        assert isinstance(value, bytes)
        c.ok("SET", key, value.replace(b":", b":1", 1))
        with pytest.raises(AssertionError):
            worker.check(c)
        c.ok("SET", key, value)
        worker.check(c)
        assert isinstance(c.cmd("INCR", "wn"), int)
        worker.counter += 5
        with pytest.raises(AssertionError):
            worker.check(c)
