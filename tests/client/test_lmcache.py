# SPDX-License-Identifier: MIT
"""LMCache's two Redis clients, unmodified: ``redis://`` (redis-py) and ``resp://`` (C++).

Where a test says what LMCache does wrong, it does the same with redis-server (--target redis).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

os.environ.setdefault("LMCACHE_LOG_LEVEL", "CRITICAL")
os.environ.setdefault("LMCACHE_TRACK_USAGE", "false")

from harness import Server, info_of  # noqa: E402
from lmcache_engine import Engine, Shared, chunk_bytes  # noqa: E402

both = pytest.mark.parametrize("scheme", ["redis", "resp"])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """``engine(scheme, server)``: closed at the end of the test."""
    made: list[Engine] = []

    def make(scheme: str, server: Server, login: str = "", **options: object) -> Engine:
        url = f"{scheme}://{login}127.0.0.1:{server.port}"
        made.append(Engine(tmp_path, url, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def calls(server: Server) -> dict[str, int]:
    """How often each command was called."""
    with server.client() as c:
        stats = info_of(c, "commandstats")
    return {
        name.removeprefix("cmdstat_"): int(fields.split(",")[0].removeprefix("calls="))
        for name, fields in stats.items()
    }


@both
@pytest.mark.parametrize("mib", [2, 8, 32])
def test_a_chunk_comes_back_byte_for_byte(
    server: Server, engine: Callable[..., Engine], scheme: str, mib: int
) -> None:
    worker = engine(scheme, server, layers=mib)
    assert worker.size == mib << 20
    for number in (5, -5):  # half of LMCache's hashes are negative
        assert not worker.has(number)
        for seed in (1, 2):  # stored, then overwritten
            worker.put(number, seed)
            assert worker.has(number)
            assert worker.get(number) == chunk_bytes(seed, worker.size)


@both
def test_batches(server: Server, engine: Callable[..., Engine], scheme: str) -> None:
    worker = engine(scheme, server)
    worker.put_many(range(20))
    assert worker.prefix(range(30)) == 20
    stored = [chunk_bytes(n, worker.size) for n in range(20)]
    assert worker.get_many(range(20)) == stored
    assert worker.prefetch(range(20)) == stored
    with server.client() as c:  # a hole: the prefix ends there
        gone = [key for key in c.cmd("KEYS", "*@7@*")]
        assert c.cmd("DEL", *gone) == len(gone) > 0
    assert worker.prefix(range(30)) == 7


@both
def test_it_sends_what_redis_has_and_nothing_fails(
    new_server: Callable[..., Server], engine: Callable[..., Engine], scheme: str
) -> None:
    """A client that starts to send other commands shows here, before its users notice."""
    server = new_server()
    worker = engine(scheme, server)
    before = calls(server)
    worker.put_many(range(4))
    assert worker.prefix(range(5)) == 4
    assert None not in worker.get_many(range(4))
    made = {name: n - before.get(name, 0) for name, n in calls(server).items()}
    pieces = {"redis": 2, "resp": 1}[scheme]  # redis:// keeps metadata under a key of its own
    assert {name: made[name] for name in ("set", "exists", "get")} == {
        "set": 4 * pieces,
        "exists": 5,
        "get": 4 * pieces,
    }
    connecting = {"redis": {"hello", "client|setinfo", "client|maint_notifications"}, "resp": set()}
    assert {n for n in made if made[n]} - {"set", "exists", "get", "info"} <= connecting[scheme]


@both
def test_many_connections(server: Server, engine: Callable[..., Engine], scheme: str) -> None:
    """Four workers write at once; then each reads what all wrote, 32 chunks at a time or more."""
    workers = [engine(scheme, server, resp_num_threads=32) for _ in range(4)]
    rows = [range(16 * n, 16 * n + 16) for n in range(4)]
    wanted = [chunk_bytes(n, 2 << 20) for n in range(64)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(Engine.put_many, workers, rows))
        for got in threads.map(Engine.prefetch, workers, [range(64)] * 4):
            assert got == wanted
    with server.client() as c:
        assert int(info_of(c, "clients")["connected_clients"]) > 4 * 32


def test_the_adapter_of_its_server(server: Server, engine: Callable[..., Engine]) -> None:
    """LMCache's server for several engines has the C++ client behind it, and deletes as well."""
    shared = Shared(engine("resp", server), server.port)
    assert shared.store(range(10))
    assert shared.present(range(12)) == [True] * 10 + [False] * 2
    assert shared.load(range(10)) == [chunk_bytes(n, 2 << 20) for n in range(10)]
    shared.adapter.delete(shared.keys([3, 4, 11]))
    assert shared.present(range(6)) == [True, True, True, False, False, True]
    shared.adapter.close()


@both
@pytest.mark.ours
def test_a_chunk_that_was_looked_up_is_not_evicted(
    new_server: Callable[..., Server], engine: Callable[..., Engine], scheme: str
) -> None:
    """Its native client never returns from the nil that follows a positive EXISTS."""
    server = new_server(
        max_store_bytes="256mb", volume_size="32mb", lookup_lease_ms=str(3_600_000)
    )
    worker = engine(scheme, server)
    worker.put_many(range(8))
    assert worker.has(3)
    with server.client(timeout_s=60) as c:
        filler = os.urandom(2 << 20)
        for n in range(400):
            c.ok("SET", f"filler{n}", filler)
        assert int(info_of(c, "stats")["evicted_keys"]) > 200
    assert [n for n in range(8) if worker.has(n)] == [3]
    assert worker.get(3) == chunk_bytes(3, worker.size)


@both
def test_a_missing_chunk(server: Server, engine: Callable[..., Engine], scheme: str) -> None:
    worker = engine(scheme, server)
    worker.put(1, seed=1)
    with server.client() as c:
        for key in c.cmd("KEYS", "*"):
            if not key.endswith(b"metadata"):
                assert c.cmd("DEL", key) == 1
    if scheme == "redis":  # asked for all the same; resp:// would wait for ever
        assert worker.get(1) is None
    assert not worker.has(1), "the metadata that is left over hides a value that is gone"


@both
def test_kill_9_and_restart(
    new_server: Callable[..., Server],
    engine: Callable[..., Engine],
    scheme: str,
) -> None:
    durable = {"appendonly": "yes", "appendfsync": "always"}
    server = new_server(**({} if new_server.target == "ours" else durable))
    worker = engine(scheme, server)
    worker.put_many(range(8))
    server.kill9()
    assert not worker.has(1)
    server.start(new_port=False)
    if scheme == "redis":  # connects again by itself
        assert worker.has(1)
        assert worker.get(1) == chunk_bytes(1, worker.size)
    else:  # keeps its dead connections and misses, until its engine starts anew
        assert not worker.has(1)
    again = engine(scheme, server)
    assert again.prefix(range(9)) == 8
    assert again.get_many(range(8)) == [chunk_bytes(n, again.size) for n in range(8)]


@both
def test_password(
    new_server: Callable[..., Server],
    engine: Callable[..., Engine],
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """redis:// takes it from the URL, resp:// from extra_config or the environment."""
    server = new_server(requirepass="s3cret")
    if scheme == "redis":
        workers = [engine(scheme, server, login=":s3cret@")]
        workers += [engine(scheme, server, login="default:s3cret@")]
        stranger = engine(scheme, server)
        assert not stranger.has(1)
    else:
        workers = [engine(scheme, server, password="s3cret")]
        workers += [engine(scheme, server, username="default", password="s3cret")]
        monkeypatch.setenv("LMCACHE_RESP_PASSWORD", "s3cret")
        workers += [engine(scheme, server)]
    for worker in workers:
        worker.put(1, seed=1)
        assert worker.has(1)
        assert worker.get(1) == chunk_bytes(1, worker.size)
