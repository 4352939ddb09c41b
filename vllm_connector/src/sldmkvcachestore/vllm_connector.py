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
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from . import namespace
from .lookup import Lookup
from .mover import Mover
from .options import Options
from .planner import Planner, Step

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig

logger = logging.getLogger("vllm.sldmkvcachestore")


class StepMetadata(KVConnectorMetadata):  # type: ignore[misc]
    """Carries a step from the scheduler to the workers."""

    def __init__(self, step: Step) -> None:
        self.step = step


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
        self._lookup: Lookup | None = None
        self._planner: Planner | None = None
        self._mover: Mover | None = None
        if role == KVConnectorRole.SCHEDULER:
            self._plan(options)
        else:
            self._mover = Mover(vllm_config.parallel_config.rank, options)

    def _plan(self, options: Options) -> None:
        transfer = self._kv_transfer_config
        if transfer.kv_load_failure_policy != "recompute":
            logger.warning(
                'kv_load_failure_policy is "%s": a block that cannot be loaded ends its request; '
                'set it to "recompute"',
                transfer.kv_load_failure_policy,
            )
        self._facts = namespace.facts_of(self._vllm_config, self._kv_cache_config)
        self._lookup = Lookup(
            options.url,
            options.lookup_timeout_ms / 1000,
            options.retry_pause_ms / 1000,
            options.lease_ms,
        )
        self._planner = Planner(
            self._lookup,
            self._key_prefix,
            block_size=self._kv_cache_config.kv_cache_groups[0].kv_cache_spec.block_size,
            ranks=self._vllm_config.parallel_config.world_size,
            reads=transfer.kv_role != "kv_producer",
            writes=transfer.kv_role != "kv_consumer",
            options=options,
        )

    def _key_prefix(self) -> bytes:
        from vllm.v1.core import kv_cache_utils

        # All block hashes descend from the root; vLLM makes it after its connectors.
        facts = {**self._facts, "root": kv_cache_utils.NONE_HASH.hex()}
        name = namespace.digest(facts)
        logger.info("KV cache namespace %s: %s", name, facts)
        return b"vllm:%b:" % name.encode()

    @property
    def requires_kv_delivery(self) -> bool:
        """A cache: nothing breaks when a save is dropped."""
        return False

    def shutdown(self) -> None:
        """Ends the threads; saves under way are finished, or given up when their time is over."""
        if self._lookup is not None:
            self._lookup.close()
        if self._mover is not None:
            self._mover.close()

    # the scheduler's process

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """How many tokens the store has beyond the computed ones; they are loaded beside."""
        assert self._planner is not None
        found = self._planner.find(request, num_computed_tokens)
        return found, found > 0

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """The request is admitted, with so many tokens to load."""
        assert self._planner is not None
        self._planner.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        """The step's work for the workers."""
        assert self._planner is not None
        return StepMetadata(self._planner.plan(scheduler_output))

    def update_connector_output(self, connector_output: Any) -> None:
        """What the workers have reported."""
        assert self._planner is not None
        self._planner.heard(connector_output)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Nothing holds the blocks: what was to be saved has been copied out."""
        assert self._planner is not None
        self._planner.forget(request)
        return False, None

    # a worker's process

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """The cache's tensors, one of each layer."""
        assert self._mover is not None
        layers = self._vllm_config.compilation_config.static_forward_context
        kernels = [str(getattr(layers.get(name), "isa", "")) for name in sorted(kv_caches)]
        self._mover.register(kv_caches, self._kv_cache_config.num_blocks, kernels)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Begins the step's loads."""
        assert self._mover is not None
        self._mover.load(self._step())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are asynchronous: a layer never waits."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Whole blocks are saved, at the end of the step."""

    def wait_for_save(self) -> None:
        """Copies out what the step has completed."""
        assert self._mover is not None
        self._mover.save(self._step())

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Requests whose loads have ended since the last call."""
        assert self._mover is not None
        return None, self._mover.finished() or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks that were not filled, of the loads that ended."""
        assert self._mover is not None
        return self._mover.failed_blocks()

    def _step(self) -> Step:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, StepMetadata)
        return metadata.step
