# SPDX-License-Identifier: MIT
"""SLDMKVCacheConnector: vLLM keeps its KV cache in a store and finds it there again.

In the scheduler's process it looks up how many blocks of a request's prompt the store has, and
plans which blocks to load and to save in a step. In each worker's process it moves them: loads run
beside the engine in threads, saves are copied out of the cache at the end of the step and stored
by threads. The engine never waits for the store, but for a look-up, which has a deadline.

Best effort in both directions. A block that does not come, or is not what it should be, is
computed; a block that cannot be stored in time is dropped. With ``kv_load_failure_policy`` at
vLLM's default "fail" the first case ends the request, so "recompute" is asked for at start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from . import namespace
from .layout import CacheLayout
from .lookup import Lookup
from .options import Options
from .record import HEADER_BYTES
from .transfer import Counters, Load, Loader, Save, Saver

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig

logger = logging.getLogger("vllm.sldmkvcachestore")


@dataclass
class StepMetadata(KVConnectorMetadata):  # type: ignore[misc]
    """What the scheduler asks of the workers in one step; keys are without the rank."""

    loads: list[tuple[str, list[bytes], list[int]]] = field(default_factory=list)
    saves: list[tuple[list[bytes], list[int]]] = field(default_factory=list)


@dataclass
class _Tracked:
    """One request, as long as the scheduler knows it."""

    request: Any
    saved: int = 0  # leading blocks that need no save
    offer: tuple[int, int] | None = None  # first block and number of blocks found
    loading: list[int] | None = None  # blocks of the cache being filled
    load_failed: bool = False


class _Scheduler:
    """Decides; in the scheduler's process and on its thread."""

    def __init__(self, config: VllmConfig, cache: KVCacheConfig, options: Options) -> None:
        transfer = config.kv_transfer_config
        self._config, self._cache, self._options = config, cache, options
        self._block_size: int = cache.kv_cache_groups[0].kv_cache_spec.block_size
        self._ranks = config.parallel_config.world_size
        self._reads = transfer.kv_role != "kv_producer"
        self._writes = transfer.kv_role != "kv_consumer"
        self._lookup = Lookup(
            options.url,
            options.lookup_timeout_ms / 1000,
            options.retry_pause_ms / 1000,
            options.lease_ms,
        )
        self._requests: dict[str, _Tracked] = {}
        self._loads: list[tuple[str, list[bytes], list[int]]] = []
        self._prefix = b""

    def close(self) -> None:
        self._lookup.close()

    def find(self, request: Any, computed_tokens: int) -> int:
        """Tokens behind the computed ones that the store has: whole blocks, not the last token."""
        tracked = self._track(request)
        first = computed_tokens // self._block_size
        last = min((request.num_tokens - 1) // self._block_size, len(request.block_hashes))
        if not self._reads or tracked.load_failed or last <= first:
            return 0
        if tracked.offer is None or tracked.offer[0] != first:
            keys = self._keys(request, first, last)
            asked = [rank_key(key, rank) for key in keys for rank in range(self._ranks)]
            tracked.offer = (first, self._lookup.match(asked) // self._ranks)
        found = tracked.offer[1]
        return found * self._block_size if found >= self._options.min_blocks else 0

    def allocated(self, request: Any, blocks: Any, external_tokens: int) -> None:
        """The request has its blocks: the external ones are to be loaded."""
        tracked = self._track(request)
        offer, tracked.offer = tracked.offer, None
        if external_tokens == 0 or offer is None:
            return
        first, count = offer[0], external_tokens // self._block_size
        (ids,) = blocks.get_block_ids()
        tracked.loading = list(ids[first : first + count])
        tracked.saved = max(tracked.saved, first + count)
        keys = self._keys(request, first, first + count)
        self._loads.append((request.request_id, keys, tracked.loading))

    def plan(self, output: Any) -> StepMetadata:
        """The step's loads, and saves of the blocks that it completes."""
        step = StepMetadata(loads=self._loads)
        self._loads = []
        if not self._writes:
            return step
        for request_id, tokens in output.num_scheduled_tokens.items():
            tracked = self._requests.get(request_id)
            ids = output.kv_connector_block_state.get_block_ids(request_id)
            if tracked is None or ids is None:
                continue
            first, last = tracked.saved, self._complete(tracked.request, tokens)
            if last > first:
                tracked.saved = last
                step.saves.append(
                    (self._keys(tracked.request, first, last), list(ids[0][first:last]))
                )
        return step

    def heard(self, output: Any) -> None:
        """What the workers report: a request whose load failed is not offered one again."""
        for request_id in output.finished_recving or ():
            tracked = self._requests.get(request_id)
            if tracked is None or tracked.loading is None:
                continue
            if not output.invalid_block_ids.isdisjoint(tracked.loading):
                tracked.load_failed = True
                tracked.saved = 0  # what is there already is not sent again
            tracked.loading = None

    def forget(self, request: Any) -> None:
        self._requests.pop(request.request_id, None)

    def _track(self, request: Any) -> _Tracked:
        return self._requests.setdefault(request.request_id, _Tracked(request))

    def _complete(self, request: Any, scheduled: int) -> int:
        """Leading blocks that are whole after the step; draft tokens that may go do not count."""
        tokens: int = min(request.num_computed_tokens + scheduled, request.num_tokens)
        if not self._options.save_generated:
            tokens = min(tokens, int(request.num_prompt_tokens))
        return min(tokens // self._block_size, len(request.block_hashes))

    def _keys(self, request: Any, first: int, last: int) -> list[bytes]:
        if not self._prefix:
            self._prefix = self._make_prefix()
        return [self._prefix + h.hex().encode() for h in request.block_hashes[first:last]]

    def _make_prefix(self) -> bytes:
        from vllm.v1.core import kv_cache_utils

        facts = namespace.facts_of(self._config, self._cache, kv_cache_utils.NONE_HASH)
        name = namespace.digest(facts)
        logger.info("KV cache namespace %s: %s", name, facts)
        return b"vllm:%b:" % name.encode()


class _Worker:
    """Moves blocks, in a worker's process. Loads end in threads; all else is the engine's one."""

    def __init__(self, config: VllmConfig, cache: KVCacheConfig, options: Options) -> None:
        self._config, self._cache, self._options = config, cache, options
        self._rank = config.parallel_config.rank
        self._lock = threading.Lock()
        self._done: list[Load] = []
        self._failed_blocks: set[int] = set()
        self._loader: Loader | None = None
        self._saver: Saver | None = None
        self.counters = Counters()

    def register(self, caches: dict[str, torch.Tensor]) -> None:
        """The KV cache is there: from here on blocks can move."""
        options = self._options
        layers = self._config.compilation_config.static_forward_context
        self._layout = layout = CacheLayout(caches, self._cache.num_blocks)
        kernels = [str(getattr(layers.get(name), "isa", "")) for name in sorted(caches)]
        binding = namespace.digest({"layout": layout.description, "kernels": kernels}).encode()
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

    def load(self, step: StepMetadata) -> None:
        for request_id, keys, blocks in step.loads:
            assert self._loader is not None
            self._loader.load(Load(request_id, self._mine(keys), blocks))

    def save(self, step: StepMetadata) -> None:
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
        if self._loader is not None and self._saver is not None:
            self._loader.close()
            self._saver.close()
            logger.info("KV cache store: %s", self.counters)

    def _on_loaded(self, load: Load) -> None:
        with self._lock:
            self._done.append(load)

    def _mine(self, keys: Sequence[bytes]) -> list[bytes]:
        return [rank_key(key, self._rank) for key in keys]


def rank_key(key: bytes, rank: int) -> bytes:
    """The key of one rank's part of a block."""
    return b"%b:%d" % (key, rank)


class SLDMKVCacheConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """The class that ``kv_connector`` names; vLLM makes one in each of its processes."""

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        transfer = vllm_config.kv_transfer_config
        options = Options.parse(transfer.kv_connector_extra_config)
        if len(kv_cache_config.kv_cache_groups) != 1:
            raise ValueError("SLDMKVCacheConnector: one KV cache group is supported")
        self._scheduler: _Scheduler | None = None
        self._worker: _Worker | None = None
        if role == KVConnectorRole.SCHEDULER:
            if transfer.kv_load_failure_policy != "recompute":
                logger.warning(
                    'kv_load_failure_policy is "%s": a block that cannot be loaded ends its '
                    'request; set it to "recompute"',
                    transfer.kv_load_failure_policy,
                )
            self._scheduler = _Scheduler(vllm_config, kv_cache_config, options)
        else:
            self._worker = _Worker(vllm_config, kv_cache_config, options)

    @property
    def requires_kv_delivery(self) -> bool:
        """A cache: nothing breaks when a save is dropped."""
        return False

    def shutdown(self) -> None:
        """Ends the threads; saves under way are finished, or given up when their time is over."""
        if self._scheduler is not None:
            self._scheduler.close()
        if self._worker is not None:
            self._worker.close()

    # the scheduler's process

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """How many tokens the store has beyond the computed ones; they are loaded beside."""
        assert self._scheduler is not None
        found = self._scheduler.find(request, num_computed_tokens)
        return found, found > 0

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """The request is admitted, with so many tokens to load."""
        assert self._scheduler is not None
        self._scheduler.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        """The step's work for the workers."""
        assert self._scheduler is not None
        return self._scheduler.plan(scheduler_output)

    def update_connector_output(self, connector_output: Any) -> None:
        """What the workers have reported."""
        assert self._scheduler is not None
        self._scheduler.heard(connector_output)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Nothing holds the blocks: what was to be saved has been copied out."""
        assert self._scheduler is not None
        self._scheduler.forget(request)
        return False, None

    # a worker's process

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """The cache's tensors, one of each layer."""
        assert self._worker is not None
        self._worker.register(kv_caches)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Begins the step's loads."""
        assert self._worker is not None
        self._worker.load(self._step())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are asynchronous: a layer never waits."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Whole blocks are saved, at the end of the step."""

    def wait_for_save(self) -> None:
        """Copies out what the step has completed."""
        assert self._worker is not None
        self._worker.save(self._step())

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Requests whose loads have ended since the last call."""
        assert self._worker is not None
        return None, self._worker.finished() or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks that were not filled, of the loads that ended."""
        assert self._worker is not None
        return self._worker.failed_blocks()

    def _step(self) -> StepMetadata:
        step = self._get_connector_metadata()
        assert isinstance(step, StepMetadata)
        return step
