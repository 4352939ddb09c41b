# SPDX-License-Identifier: MIT
"""What is offered, loaded and saved: the part of the connector in the scheduler's process.

Nothing here moves bytes, and nothing but a look-up waits. vLLM's objects are used through the few
attributes named here, so the rules can be tested without an engine.

A request's life: it is offered what the store has (``find``, maybe several times), it is admitted
(``allocated``) and what was offered is loaded; from then on each step saves the blocks that it
completes (``plan``). A request whose load failed is computed and never offered a load again: vLLM
would ask, be told of the same hit, and load for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from .options import Options


class Matcher(Protocol):
    """What the planner needs of a Lookup."""

    def match(self, keys: list[bytes]) -> int:
        """How many leading keys are stored."""


@dataclass
class Step:
    """What the workers are to do in one step; keys are without the rank.

    loads: request, keys, blocks of the cache. saves: keys, blocks of the cache.
    """

    loads: list[tuple[str, list[bytes], list[int]]] = field(default_factory=list)
    saves: list[tuple[list[bytes], list[int]]] = field(default_factory=list)


def rank_key(key: bytes, rank: int) -> bytes:
    """The key of one rank's part of a block."""
    return b"%b:%d" % (key, rank)


@dataclass
class _Tracked:
    """One request, as long as the scheduler knows it."""

    request: Any
    saved: int = 0  # leading blocks that need no save
    offer: tuple[int, int] | None = None  # first block and number of blocks found
    loading: tuple[int, list[int]] | None = None  # first block, blocks of the cache to fill
    load_failed: bool = False


class Planner:
    """Decides, on the scheduler's thread.

    prefix: makes what stands before a block's hash in its key, once vLLM has hashed a block.
    ranks: parts that a block has, one in each worker. reads, writes: what the role allows.
    """

    def __init__(
        self,
        lookup: Matcher,
        prefix: Callable[[], bytes],
        *,
        block_size: int,
        ranks: int,
        reads: bool,
        writes: bool,
        options: Options,
    ) -> None:
        self._lookup, self._make_prefix, self._options = lookup, prefix, options
        self._block_size, self._ranks = block_size, ranks
        self._reads, self._writes = reads, writes
        self._requests: dict[str, _Tracked] = {}
        self._loads: list[tuple[str, list[bytes], list[int]]] = []
        self._prefix = b""

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
            tracked.saved = first  # the engine has had these, and they were saved then
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
        blocks_to_fill = list(ids[first : first + count])
        tracked.loading = (first, blocks_to_fill)
        tracked.saved = first + count
        keys = self._keys(request, first, first + count)
        self._loads.append((request.request_id, keys, blocks_to_fill))

    def plan(self, output: Any) -> Step:
        """The step's loads, and saves of the blocks that it completes."""
        step = Step(loads=self._loads)
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
            (first, blocks), tracked.loading = tracked.loading, None
            failed = [i for i, block in enumerate(blocks) if block in output.invalid_block_ids]
            if failed:
                tracked.load_failed = True
                tracked.saved = first + failed[0]

    def forget(self, request: Any) -> None:
        """The request has ended."""
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
