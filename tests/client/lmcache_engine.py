# SPDX-License-Identifier: MIT
"""LMCache 0.5 as an inference engine sees it, without the engine.

``Engine`` makes, from the YAML an operator writes, the two objects LMCache puts between its cache
engine and a store: the pool of chunks in memory and the remote backend with its client. ``Shared``
is the counterpart in LMCache's server for several engines (``--l2-adapter '{"type": "resp"}'``).
Everything from there to the socket is LMCache's own code, unmodified.
"""

from __future__ import annotations

import asyncio
import os
import random
import selectors
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import torch
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.l2_adapters import create_l2_adapter
from lmcache.v1.distributed.l2_adapters.resp_l2_adapter import RESPL2AdapterConfig
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.storage_backend.local_cpu_backend import LocalCPUBackend
from lmcache.v1.storage_backend.remote_backend import RemoteBackend

MODEL = "meta-llama/Llama-3-8B"
MIB_PER_LAYER = 1  # of a chunk of 256 tokens: K and V, 8 heads of 128 numbers of 2 bytes
CALL_TIMEOUT_S = 60.0

YAML = """
chunk_size: 256
local_cpu: false
max_local_cpu_size: {pool_gib}
remote_url: "{url}"
remote_serde: "naive"
save_unfull_chunk: false
extra_config:
  save_chunk_meta: false
"""


def chunk_key(number: int, model: str = MODEL) -> CacheEngineKey:
    """The key of a chunk; numbers stand for its hash and may be negative, as LMCache's may."""
    return CacheEngineKey(model, 1, 0, number, torch.bfloat16)


def chunk_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Engine:
    """One worker of a serving engine whose chunks have ``layers`` MiB.

    url: ``redis://…`` or ``resp://…``. options: of LMCache's ``extra_config``.
    """

    def __init__(
        self, folder: Path, url: str, layers: int = 2, pool_gib: float = 0.25, **options: Any
    ) -> None:
        conf = folder / "lmcache.yaml"
        text = YAML.format(url=url, pool_gib=pool_gib)
        conf.write_text(text + "".join(f"  {k}: {v}\n" for k, v in options.items()))
        config = LMCacheEngineConfig.from_file(str(conf))
        shape = (layers, 2, config.chunk_size, 8, 128)
        metadata = LMCacheMetadata(MODEL, 1, 1, 0, 0, torch.bfloat16, shape)
        self.size = layers * MIB_PER_LAYER << 20
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self._shapes, self._dtypes = metadata.get_shapes(), metadata.get_dtypes()
        self.pool = LocalCPUBackend(config, metadata, dst_device="cpu")
        self.remote = RemoteBackend(config, metadata, self.loop, self.pool, dst_device="cpu")
        assert self.remote.connection is not None

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine that runs on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_TIMEOUT_S)

    def chunk(self, seed: int) -> Any:
        """A chunk in LMCache's pool, filled with ``chunk_bytes(seed, size)``."""
        chunk = self.pool.allocate(self._shapes, self._dtypes)
        assert chunk is not None, "LMCache's pool is too small for this test"
        memoryview(chunk.byte_array).cast("B")[:] = chunk_bytes(seed, self.size)
        return chunk

    def put(self, number: int, seed: int) -> None:
        """Store a chunk and wait until LMCache calls it stored."""
        chunk = self.chunk(seed)
        self.remote.submit_put_task(chunk_key(number), chunk).result(CALL_TIMEOUT_S)

    def put_many(self, numbers: Sequence[int]) -> None:
        """Store chunks as one batch; each is seeded with its number."""
        stored = threading.Semaphore(0)
        self.remote.batched_submit_put_task(
            [chunk_key(n) for n in numbers],
            [self.chunk(n) for n in numbers],
            on_complete_callback=lambda key: stored.release(),
        )
        for _ in numbers:
            assert stored.acquire(timeout=CALL_TIMEOUT_S), "a put of the batch never ended"

    def has(self, number: int) -> bool:
        return bool(self.remote.contains(chunk_key(number)))

    def prefix(self, numbers: Sequence[int]) -> int:
        """How many leading chunks are stored.

        RemoteBackend.batched_contains is left out: with resp:// it sends before it notes down
        who waits, and when the answer is faster it waits for ever, whatever the server.
        """
        keys = [chunk_key(n) for n in numbers]
        return int(self.call(self.remote.batched_async_contains("lookup", keys)))

    def get(self, number: int) -> bytes | None:
        return self.taken(self.remote.get_blocking(chunk_key(number)))

    def get_many(self, numbers: Sequence[int]) -> list[bytes | None]:
        chunks = self.remote.batched_get_blocking([chunk_key(n) for n in numbers])
        return [self.taken(chunk) for chunk in chunks]

    def prefetch(self, numbers: Sequence[int]) -> list[bytes | None]:
        """The leading chunks that are there, asked for all at once."""
        keys = [chunk_key(n) for n in numbers]
        chunks = self.call(self.remote.batched_get_non_blocking("load", keys))
        return [self.taken(chunk) for chunk in chunks]

    def close(self) -> None:
        """As LMCache closes, step by step.

        RemoteBackend.close() itself never returns: it runs on the loop and there waits for it.
        """
        connector = self.remote.connection._connector
        self.call(connector.pq_executor.shutdown_async(wait=False))
        if hasattr(connector, "client"):
            self.loop.call_soon_threadsafe(connector.client.close)
        else:
            self.call(connector.connection.aclose())
        self.call(asyncio.sleep(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.pool.close()

    def taken(self, chunk: Any) -> bytes | None:
        """The bytes of a chunk that LMCache handed over; the pool has it back afterwards."""
        if chunk is None:
            return None
        data = bytes(memoryview(chunk.byte_array))
        chunk.ref_count_down()
        return data


class Shared:
    """The ``resp`` adapter of LMCache's server; chunks come from the pool of an ``Engine``."""

    def __init__(self, pool: Engine, port: int) -> None:
        self.pool = pool
        conf = {"type": "resp", "host": "127.0.0.1", "port": port, "num_workers": 4}
        self.adapter = create_l2_adapter(RESPL2AdapterConfig.from_dict(conf))

    def keys(self, numbers: Sequence[int]) -> list[ObjectKey]:
        return [ObjectKey(n.to_bytes(32, "big"), MODEL, 0x01000100) for n in numbers]

    def store(self, numbers: Sequence[int]) -> bool:
        """Store chunks, each seeded with its number; whether LMCache says they are stored."""
        chunks = [self.pool.chunk(n) for n in numbers]
        task = self.adapter.submit_store_task(self.keys(numbers), chunks)
        stored = self._wait(
            self.adapter.get_store_event_fd(),
            lambda: self.adapter.pop_completed_store_tasks().get(task),
        )
        for chunk in chunks:
            chunk.ref_count_down()
        return bool(stored.is_successful())

    def present(self, numbers: Sequence[int]) -> list[bool]:
        task = self.adapter.submit_lookup_and_lock_task(self.keys(numbers), {})
        found = self._wait(
            self.adapter.get_lookup_and_lock_event_fd(),
            lambda: self.adapter.query_lookup_and_lock_result(task),
        )
        return [found.test(i) for i in range(len(numbers))]

    def load(self, numbers: Sequence[int]) -> list[bytes | None]:
        """The chunks that are there; the others are never asked for, as LMCache does it."""
        chunks = [self.pool.chunk(seed=-1) for _ in numbers]
        task = self.adapter.submit_load_task(self.keys(numbers), chunks)
        loaded = self._wait(
            self.adapter.get_load_event_fd(), lambda: self.adapter.query_load_result(task)
        )
        data = [self.pool.taken(chunk) for chunk in chunks]
        return [one if loaded.test(i) else None for i, one in enumerate(data)]

    def _wait(self, fd: int, result: Callable[[], Any]) -> Any:
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            assert selector.select(CALL_TIMEOUT_S), "LMCache did not say that it has finished"
        os.read(fd, 8)  # the count of an eventfd
        value = result()
        assert value is not None
        return value
