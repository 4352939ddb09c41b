# SPDX-License-Identifier: MIT
"""Blocks in and out of a worker's KV cache: the part of the connector in a worker's process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import namespace
from .layout import CacheLayout
from .options import Options
from .planner import Step, rank_key
from .record import HEADER_BYTES
from .transfer import Counters, Load, Loader, Save, Saver

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("vllm.sldmkvcachestore")


class Mover:
    """Moves blocks. Loads end in threads; all else is on the engine's thread."""

    def __init__(self, rank: int, options: Options) -> None:
        self._rank, self._options = rank, options
        self._lock = threading.Lock()
        self._done: list[Load] = []
        self._failed_blocks: set[int] = set()
        self._loader: Loader | None = None
        self._saver: Saver | None = None
        self.counters = Counters()

    def register(
        self, caches: Mapping[str, torch.Tensor], num_blocks: int, kernels: Sequence[str]
    ) -> None:
        """The KV cache is there: from here on blocks can move.

        kernels: what decides how tokens lie inside a block, beside the tensors' shapes.
        """
        options = self._options
        self._layout = layout = CacheLayout(caches, num_blocks)
        facts = {"layout": layout.description, "kernels": list(kernels)}
        binding = namespace.digest(facts).encode()
        pause_s, timeout_s = options.retry_pause_ms / 1000, options.io_timeout_ms / 1000
        self._loader = Loader(
            options.url,
            block_bytes=layout.block_bytes,
            binding=binding,
            place=layout.scatter,
            on_loaded=self._on_loaded,
            counters=self.counters,
            threads=options.load_threads,
            timeout_s=timeout_s,
            pause_s=pause_s,
        )
        self._saver = Saver(
            options.url,
            block_bytes=layout.block_bytes,
            binding=binding,
            counters=self.counters,
            threads=options.save_threads,
            queue_bytes=options.save_queue_bytes,
            ttl_s=options.ttl_s,
            timeout_s=timeout_s,
            pause_s=pause_s,
        )

    def load(self, step: Step) -> None:
        """Begins the step's loads."""
        for request_id, keys, blocks in step.loads:
            assert self._loader is not None
            self._loader.load(Load(request_id, self._mine(keys), blocks))

    def save(self, step: Step) -> None:
        """Copies out of the cache now: the next step may use the blocks for something else."""
        for keys, blocks in step.saves:
            assert self._saver is not None
            records = self._saver.take(len(keys))
            if not records:
                continue
            self._layout.gather(blocks[: len(records)], [r[HEADER_BYTES:] for r in records])
            self._saver.save(Save(self._mine(keys[: len(records)]), records))

    def finished(self) -> set[str]:
        """Requests whose loads have ended, well or not, each named once."""
        with self._lock:
            done, self._done = self._done, []
        for load in done:
            self._failed_blocks.update(load.failed)
        return {load.request for load in done}

    def failed_blocks(self) -> set[int]:
        """Blocks of the finished loads that were not filled."""
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def close(self) -> None:
        """Ends the threads; what is under way is finished, or given up when its time is over."""
        if self._loader is not None and self._saver is not None:
            self._loader.close()
            self._saver.close()
            logger.info("KV cache store: %s", self.counters)

    def _on_loaded(self, load: Load) -> None:
        with self._lock:
            self._done.append(load)

    def _mine(self, keys: Sequence[bytes]) -> list[bytes]:
        return [rank_key(key, self._rank) for key in keys]
