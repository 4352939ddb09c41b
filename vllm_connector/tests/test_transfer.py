# SPDX-License-Identifier: MIT
"""Loads and saves: every block that is reported is right, every other one is reported missing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import redis

from demo_prefix import Server
from misbehaving import CLOSE, STALL, Misbehaving
from sldmkvcachestore.record import HEADER_BYTES, seal
from sldmkvcachestore.transfer import Counters, Load, Loader, Save, Saver

BLOCK = 300_000
BINDING = b"binding"


def block_of(number: int) -> bytes:
    return random.Random(number).randbytes(BLOCK)


def key_of(number: int) -> bytes:
    return b"transfer:%d" % number


def record_of(number: int, key: bytes | None = None) -> bytes:
    record = bytearray(HEADER_BYTES) + block_of(number)
    view = memoryview(record)
    seal(view[:HEADER_BYTES], key or key_of(number), BINDING, [view[HEADER_BYTES:]])
    return bytes(record)


class Cache:
    """What blocks were placed, and loads that ended."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}
        self.counters = Counters()
        self._ended: list[Load] = []
        self._changed = threading.Condition()

    def place(self, block: int, data: memoryview) -> None:
        self.blocks[block] = bytes(data)

    def on_loaded(self, load: Load) -> None:
        with self._changed:
            self._ended.append(load)
            self._changed.notify()

    def wait(self, count: int = 1, timeout_s: float = 20) -> list[Load]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._ended) >= count, timeout_s)
        return self._ended


@pytest.fixture
def cache() -> Cache:
    return Cache()


def loader(cache: Cache, url: str, **options: float) -> Loader:
    return Loader(
        url,
        block_bytes=BLOCK,
        binding=BINDING,
        place=cache.place,
        on_loaded=cache.on_loaded,
        counters=cache.counters,
        **{"threads": 2, "timeout_s": 5.0, "pause_s": 60.0, **options},  # type: ignore[arg-type]
    )


@pytest.fixture
def plain(any_server: Server) -> Iterator[redis.Redis]:
    made = redis.Redis.from_url(f"redis://{any_server.url}")
    made.flushall()
    yield made
    made.flushall()


def save_all(url: str, numbers: Sequence[int], counters: Counters, **options: int) -> None:
    saver = Saver(url, block_bytes=BLOCK, binding=BINDING, counters=counters, **options)
    records = saver.take(len(numbers))
    for number, record in zip(numbers, records):
        record[HEADER_BYTES:] = block_of(number)
    keys = [key_of(number) for number in numbers[: len(records)]]
    saver.save(Save(keys, records))
    saver.close()


def test_what_was_saved_is_loaded(any_server: Server, plain: redis.Redis, cache: Cache) -> None:
    numbers = range(40)
    save_all(any_server.url, numbers, cache.counters)
    assert cache.counters.saved_blocks == 40
    assert plain.dbsize() == 40
    loads = loader(cache, any_server.url)
    loads.load(Load("a", [key_of(n) for n in numbers], [100 + n for n in numbers]))
    (ended,) = cache.wait()
    assert (ended.request, ended.failed) == ("a", [])
    assert cache.blocks == {100 + n: block_of(n) for n in numbers}
    loads.close()


def test_saved_once(any_server: Server, plain: redis.Redis, cache: Cache) -> None:
    save_all(any_server.url, range(5), cache.counters)
    save_all(any_server.url, range(8), cache.counters)
    assert cache.counters.saved_blocks == 8
    assert cache.counters.present_blocks == 5
    assert cache.counters.dropped_blocks == 0


def test_a_ttl_is_set(any_server: Server, plain: redis.Redis, cache: Cache) -> None:
    save_all(any_server.url, [1], cache.counters, ttl_s=100)
    assert 0 < plain.ttl(key_of(1)) <= 100


def test_missing_and_wrong_values_are_reported(
    any_server: Server, plain: redis.Redis, cache: Cache
) -> None:
    good = {n: record_of(n) for n in range(20)}
    wrong = dict(good)
    del wrong[3]
    wrong[5] = good[6]  # a true block under the wrong key
    wrong[8] = good[8][:-1]
    wrong[9] = good[9] + b"\0"
    wrong[11] = b""
    wrong[13] = good[13][:1000] + b"!" + good[13][1001:]
    wrong[17] = bytes(len(good[17]))
    plain.mset({key_of(n): record for n, record in wrong.items()})
    loads = loader(cache, any_server.url)
    loads.load(Load("a", [key_of(n) for n in range(20)], list(range(20))))
    (ended,) = cache.wait()
    bad = [3, 5, 8, 9, 11, 13, 17]
    assert sorted(ended.failed) == bad
    assert cache.blocks == {n: block_of(n) for n in range(20) if n not in bad}
    assert cache.counters.damaged_blocks == 6
    assert plain.exists(*map(key_of, bad)) == 0  # nobody meets them again
    loads.close()


def test_a_load_of_nothing_ends(kv_server: Server, cache: Cache) -> None:
    loads = loader(cache, kv_server.url)
    loads.load(Load("a", [], []))
    assert cache.wait()[0].failed == []
    loads.close()


@pytest.mark.parametrize("end", [CLOSE, STALL])
def test_a_server_that_goes_in_the_middle(
    misbehaving: Misbehaving, cache: Cache, end: object
) -> None:
    record = record_of(0)
    bulk = b"$%d\r\n%b\r\n" % (len(record), record)
    misbehaving.answers = [bulk, [bulk[:1000], end]]
    loads = loader(cache, misbehaving.url, threads=1, timeout_s=0.1)
    began = time.monotonic()
    loads.load(Load("a", [key_of(0), key_of(1), key_of(2)], [0, 1, 2]))
    (ended,) = cache.wait()
    assert time.monotonic() - began < 5
    assert sorted(ended.failed) == [1, 2]
    assert cache.blocks == {0: block_of(0)}
    loads.load(Load("b", [key_of(0)], [0]))  # the server is left alone
    assert cache.wait(2)[1].failed == [0]
    assert misbehaving.connections == 1
    loads.close()


def test_an_error_reply_fails_its_block_alone(misbehaving: Misbehaving, cache: Cache) -> None:
    record = record_of(1)
    bulk = b"$%d\r\n%b\r\n" % (len(record), record)
    misbehaving.answers = [b"-IOERR input/output error\r\n", bulk, b"$-1\r\n"]
    loads = loader(cache, misbehaving.url, threads=1)
    loads.load(Load("a", [key_of(n) for n in range(3)], [0, 1, 2]))
    assert sorted(cache.wait()[0].failed) == [0, 2]
    assert cache.blocks == {1: block_of(1)}
    loads.close()


def test_a_place_that_raises_still_ends_the_load(kv_server: Server, cache: Cache) -> None:
    def place(block: int, data: memoryview) -> None:
        raise RuntimeError("no")

    save_all(kv_server.url, range(3), cache.counters)
    cache.place = place  # type: ignore[method-assign]
    loads = loader(cache, kv_server.url)
    loads.load(Load("a", [key_of(n) for n in range(3)], [0, 1, 2]))
    assert sorted(cache.wait()[0].failed) == [0, 1, 2]
    loads.close()


def test_what_does_not_fit_the_queue_is_dropped(kv_server: Server, cache: Cache) -> None:
    room = 3 * (BLOCK + HEADER_BYTES)
    saver = Saver(
        kv_server.url, block_bytes=BLOCK, binding=BINDING, counters=cache.counters, queue_bytes=room
    )
    taken = saver.take(5)
    assert len(taken) == 3
    assert cache.counters.dropped_blocks == 2
    assert saver.take(1) == []
    for record in taken:
        record[HEADER_BYTES:] = block_of(7)
    saver.save(Save([key_of(n) for n in (7, 8, 9)], taken))
    deadline = time.monotonic() + 20
    while not (again := saver.take(1)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(again[0]) == BLOCK + HEADER_BYTES
    saver.close()


def test_a_server_that_is_gone_takes_no_memory(misbehaving: Misbehaving, cache: Cache) -> None:
    misbehaving.close()
    save_all(misbehaving.url, range(4), cache.counters)
    assert cache.counters.dropped_blocks == 4
    saver = Saver(misbehaving.url, block_bytes=BLOCK, binding=BINDING, counters=cache.counters)
    saver.save(Save([key_of(1)], saver.take(1)))
    deadline = time.monotonic() + 20
    while saver.take(1):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    saver.close()


def test_a_full_store_drops_and_is_tried_again(misbehaving: Misbehaving, cache: Cache) -> None:
    misbehaving.answers = [b":0\r\n", b"-OOM no room\r\n", b":0\r\n", b"+OK\r\n"]
    for _ in range(2):
        save_all(misbehaving.url, [1], cache.counters, threads=1)
    assert cache.counters.saved_blocks == 1
    assert cache.counters.dropped_blocks == 1
