# SPDX-License-Identifier: MIT
"""Blocks between a store and a KV cache, in threads with a connection each.

A load is split over the threads. Each receives a block into its own staging buffer, verifies the
record, and only then hands the bytes to ``place``, which copies them into the cache. Two requests
are on the way at a time: while one block is verified and placed, the next one arrives.

A save has been copied out of the cache by the time it comes here; its buffers count against a
budget, and what does not fit is dropped and counted. Blocks that are there already are not sent.

No failure raises here. A load reports the blocks that did not come; a save drops its own. After a
lost connection or a late answer the server is left alone for a while (breaker.py).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable, Generic, TypeVar

from redis.exceptions import RedisError, ResponseError

from .breaker import Breaker
from .lookup import exists
from .record import HEADER_BYTES, is_intact, seal
from .transport import BulkParser, borrow, encode, encode_value, open_pool, write_many

logger = logging.getLogger(__name__)

DEPTH = 2
"""Blocks asked for ahead of the one being received."""

LOAD_PART_BLOCKS = 8
"""A thread takes so many blocks of a load at a time, so that all of them end together."""

SAVE_PART_BLOCKS = 16
"""A save is asked for (what is there already?) and sent in parts of so many blocks."""


@dataclass
class Load:
    """One request's blocks on their way into the cache.

    keys, blocks: the key of each block and its number in the cache.
    failed: numbers of blocks whose bytes did not come, or were not what was asked for; complete
    when the load has been handed to ``on_loaded``.
    """

    request: str
    keys: Sequence[bytes]
    blocks: Sequence[int]
    failed: list[int] = field(default_factory=list)
    left: int = 0  # parts


@dataclass
class Save:
    """Blocks that were copied out of the cache: records without their headers filled in."""

    keys: Sequence[bytes]
    records: Sequence[memoryview]  # each HEADER_BYTES and the block


@dataclass
class Counters:
    """What the threads have done; read without a lock, for people and metrics."""

    loaded_blocks: int = 0
    failed_blocks: int = 0
    damaged_blocks: int = 0
    saved_blocks: int = 0
    present_blocks: int = 0
    dropped_blocks: int = 0
    loaded_bytes: int = 0
    saved_bytes: int = 0


Task = TypeVar("Task")


class _Threads(Generic[Task]):
    """Threads that take tasks from one queue until ``stop``."""

    def __init__(self, name: str, count: int, run: Callable[[Task], None]) -> None:
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._run = run
        self._threads = [
            threading.Thread(target=self._loop, name=f"sldmkv-{name}-{i}", daemon=True)
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, task: Task) -> None:
        self._queue.put(task)

    def stop(self, timeout_s: float) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout_s)

    def _loop(self) -> None:
        while (task := self._queue.get()) is not None:
            self._run(task)


class _Refusals:
    """Error replies in the log: each text once in a row."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._last = ""

    def refusal(self, error: ResponseError) -> None:
        if str(error) != self._last:
            self._last = str(error)
            logger.warning("the store answers %s with an error: %s", self._command, error)


class Loader:
    """Loads blocks of one size. ``load`` may be called from any thread; it returns at once.

    place(block, bytes): copies a verified block into the cache; called in a loader's thread.
    on_loaded(load): the last call for a load, in a loader's thread.
    """

    def __init__(
        self,
        url: str,
        *,
        block_bytes: int,
        binding: bytes,
        place: Callable[[int, memoryview], None],
        on_loaded: Callable[[Load], None],
        counters: Counters,
        threads: int = 2,
        timeout_s: float = 2.0,
        pause_s: float = 2.0,
    ) -> None:
        self._block_bytes = block_bytes
        self._binding = binding
        self._place = place
        self._on_loaded = on_loaded
        self._counters = counters
        self._timeout_s = timeout_s
        self._pool = open_pool(url, timeout_s=timeout_s, connections=threads)
        self._breaker = Breaker("load", pause_s)
        self._lock = threading.Lock()
        self._staging = threading.local()
        self._says = _Refusals("GET")
        self._threads: _Threads[tuple[Load, int]] = _Threads("load", threads, self._run)

    def load(self, load: Load) -> None:
        """Begin; on_loaded is called exactly once, whatever happens."""
        starts = range(0, len(load.keys), LOAD_PART_BLOCKS)
        if not starts:
            self._on_loaded(load)
            return
        load.left = len(starts)
        for start in starts:
            self._threads.put((load, start))

    def close(self) -> None:
        """Ends when what is under way has ended, or its time is over."""
        self._threads.stop(2 * self._timeout_s)
        self._pool.disconnect()

    def _run(self, task: tuple[Load, int]) -> None:
        load, start = task
        keys = load.keys[start : start + LOAD_PART_BLOCKS]
        blocks = load.blocks[start : start + LOAD_PART_BLOCKS]
        placed: set[int] = set()
        if self._breaker.allows():
            try:
                with borrow(self._pool) as wire:
                    self._receive(wire, keys, blocks, placed)
                self._breaker.succeeded()
            except (RedisError, OSError) as error:
                self._breaker.failed(error)
            except Exception:  # a request that waits for ever would be worse
                logger.exception("a load failed")
        failed = [block for block in blocks if block not in placed]
        with self._lock:
            self._counters.loaded_blocks += len(placed)
            self._counters.loaded_bytes += len(placed) * self._block_bytes
            self._counters.failed_blocks += len(failed)
            load.failed += failed
            load.left -= 1
            is_last = load.left == 0
        if is_last:
            self._on_loaded(load)

    def _receive(
        self, wire: BulkParser, keys: Sequence[bytes], blocks: Sequence[int], placed: set[int]
    ) -> None:
        if not hasattr(self._staging, "view"):
            self._staging.view = memoryview(bytearray(HEADER_BYTES + self._block_bytes))
        record: memoryview = self._staging.view
        header, block = record[:HEADER_BYTES], record[HEADER_BYTES:]
        damaged: list[bytes] = []
        sent = 0
        for index, key in enumerate(keys):
            ready = keys[sent : index + DEPTH]
            if ready:
                wire.send([b"".join(encode(b"GET", k) for k in ready)])
                sent += len(ready)
            reply = wire.reply(lambda length: [record] if length == len(record) else None)
            if isinstance(reply, ResponseError):
                self._says.refusal(reply)
            elif reply is True and is_intact(header, key, self._binding, [block]):
                self._place(blocks[index], block)
                placed.add(blocks[index])
            elif reply is not None:
                damaged.append(key)
        if damaged:
            self._counters.damaged_blocks += len(damaged)
            logger.warning(
                "%d of %d values are not the blocks they should be: deleted, to be computed again",
                len(damaged),
                len(keys),
            )
            wire.send([encode(b"DEL", *damaged)])
            wire.reply()


class Saver:
    """Stores blocks of one size. For one caller's thread at a time."""

    def __init__(
        self,
        url: str,
        *,
        block_bytes: int,
        binding: bytes,
        counters: Counters,
        threads: int = 2,
        queue_bytes: int = 256 << 20,
        ttl_s: int = 0,
        timeout_s: float = 2.0,
        pause_s: float = 2.0,
    ) -> None:
        self._record_bytes = HEADER_BYTES + block_bytes
        self._binding = binding
        self._counters = counters
        self._timeout_s = timeout_s
        self._options = [b"EX", b"%d" % ttl_s] if ttl_s else []
        self._pool = open_pool(url, timeout_s=timeout_s, connections=threads)
        self._breaker = Breaker("save", pause_s)
        self._says = _Refusals("SET")
        self._room = threading.Semaphore(max(queue_bytes // self._record_bytes, 0))
        self._free: list[memoryview] = []
        self._lock = threading.Lock()
        self._threads: _Threads[Save] = _Threads("save", threads, self._run)

    def take(self, count: int) -> list[memoryview]:
        """Up to ``count`` buffers for records; those that are missing are counted as dropped."""
        buffers: list[memoryview] = []
        while len(buffers) < count and not self._breaker.rests and self._room.acquire(False):
            with self._lock:
                buffers.append(self._free.pop() if self._free else self._new_record())
        self._counters.dropped_blocks += count - len(buffers)
        return buffers

    def save(self, save: Save) -> None:
        """Store them; the buffers from ``take`` come back by themselves."""
        for start in range(0, len(save.keys), SAVE_PART_BLOCKS):
            stop = start + SAVE_PART_BLOCKS
            self._threads.put(Save(save.keys[start:stop], save.records[start:stop]))

    def close(self) -> None:
        """Ends when what is under way has ended, or its time is over."""
        self._threads.stop(2 * self._timeout_s)
        self._pool.disconnect()

    def _new_record(self) -> memoryview:
        return memoryview(bytearray(self._record_bytes))

    def _run(self, save: Save) -> None:
        stored = 0
        try:
            if self._breaker.allows():
                stored = self._send(save)
                self._breaker.succeeded()
        except ResponseError as error:  # the server is there, and full
            self._says.refusal(error)
        except (RedisError, OSError) as error:
            self._breaker.failed(error)
        except Exception:
            logger.exception("a save failed")
        finally:
            with self._lock:
                self._counters.dropped_blocks += len(save.keys) - stored
                self._free += save.records
            for _ in save.records:
                self._room.release()

    def _send(self, save: Save) -> int:
        """How many of the blocks are stored now."""
        with borrow(self._pool) as wire:
            there = exists(wire, save.keys)
            commands = []
            for key, record, is_there in zip(save.keys, save.records, there):
                if is_there:
                    continue
                block = record[HEADER_BYTES:]
                seal(record[:HEADER_BYTES], key, self._binding, [block])
                commands.append(encode_value([b"SET", key], [record], self._options))
            count = sum(write_many(wire, commands))
        with self._lock:
            self._counters.present_blocks += sum(there)
            self._counters.saved_blocks += count
            self._counters.saved_bytes += count * self._record_bytes
        return count + sum(there)
