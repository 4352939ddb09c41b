# SPDX-License-Identifier: MIT
"""What the scheduler's part offers, loads and saves, with vLLM's side played by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from sldmkvcachestore.options import Options
from sldmkvcachestore.planner import Planner, rank_key

BLOCK = 16


@dataclass
class Request:
    """The attributes of vLLM's Request that the planner reads."""

    prompt: int
    request_id: str = "r"
    num_computed_tokens: int = 0
    generated: int = 0

    @property
    def num_prompt_tokens(self) -> int:
        return self.prompt

    @property
    def num_tokens(self) -> int:
        return self.prompt + self.generated

    @property
    def block_hashes(self) -> list[bytes]:
        return [b"%d" % block for block in range(self.num_tokens // BLOCK)]


@dataclass
class Store:
    """Answers as a Lookup would, and remembers what it was asked."""

    present: set[bytes] = field(default_factory=set)
    asked: list[list[bytes]] = field(default_factory=list)

    def match(self, keys: list[bytes]) -> int:
        self.asked.append(keys)
        return next((i for i, key in enumerate(keys) if key not in self.present), len(keys))

    def put(self, blocks: range, ranks: int = 1) -> None:
        self.present |= {rank_key(key(block), rank) for block in blocks for rank in range(ranks)}


def key(block: int) -> bytes:
    return b"p:" + (b"%d" % block).hex().encode()


def keys(blocks: range) -> list[bytes]:
    return [key(block) for block in blocks]


@pytest.fixture
def store() -> Store:
    return Store()


def planner(store: Store, **changes: Any) -> Planner:
    settings: dict[str, Any] = {"ranks": 1, "reads": True, "writes": True, "options": Options()}
    return Planner(store, lambda: b"p:", block_size=BLOCK, **{**settings, **changes})


def admit(plan: Planner, request: Request, external: int, first_id: int = 100) -> None:
    ids = list(range(first_id, first_id + request.num_tokens // BLOCK + 1))
    plan.allocated(request, SimpleNamespace(get_block_ids=lambda: (ids,)), external)


def step(plan: Planner, *scheduled: tuple[Request, int], first_id: int = 100) -> Any:
    """A step that schedules so many tokens of each request, which are then computed."""
    state = SimpleNamespace(get_block_ids=lambda _: (list(range(first_id, first_id + 1000)),))
    output = SimpleNamespace(
        num_scheduled_tokens={request.request_id: tokens for request, tokens in scheduled},
        kv_connector_block_state=state,
    )
    made = plan.plan(output)
    for request, tokens in scheduled:
        request.num_computed_tokens += tokens
    return made


def report(plan: Planner, request: str, failed: set[int]) -> None:
    plan.heard(SimpleNamespace(finished_recving={request}, invalid_block_ids=failed))


def test_the_leading_blocks_that_are_stored_are_loaded(store: Store) -> None:
    store.put(range(5))
    plan = planner(store)
    request = Request(200)
    assert plan.find(request, 0) == 5 * BLOCK
    admit(plan, request, 5 * BLOCK)
    assert step(plan).loads == [("r", keys(range(5)), [100, 101, 102, 103, 104])]
    assert step(plan).loads == []


def test_the_last_token_is_never_offered(store: Store) -> None:
    store.put(range(100))
    for prompt, blocks in ((BLOCK, 0), (BLOCK + 1, 1), (4 * BLOCK, 3), (4 * BLOCK + 1, 4), (5, 0)):
        assert planner(store).find(Request(prompt), 0) == blocks * BLOCK


def test_blocks_behind_those_of_the_engine_are_looked_for(store: Store) -> None:
    store.put(range(3, 8))
    plan = planner(store)
    request = Request(200)
    assert plan.find(request, 3 * BLOCK) == 5 * BLOCK
    assert store.asked == [[rank_key(key(block), 0) for block in range(3, 12)]]
    admit(plan, request, 5 * BLOCK)
    assert step(plan).loads == [("r", keys(range(3, 8)), list(range(103, 108)))]


def test_the_answer_is_kept_until_the_request_is_admitted(store: Store) -> None:
    store.put(range(5))
    plan = planner(store)
    request = Request(200)
    for _ in range(3):
        assert plan.find(request, 0) == 5 * BLOCK
    assert len(store.asked) == 1
    admit(plan, request, 0)  # vLLM did not want it
    assert step(plan).loads == []


def test_a_block_needs_all_its_ranks(store: Store) -> None:
    store.put(range(4), ranks=2)
    store.present.add(rank_key(key(4), 0))
    assert planner(store, ranks=2).find(Request(200), 0) == 4 * BLOCK


def test_a_short_hit_is_not_worth_a_load(store: Store) -> None:
    store.put(range(3))
    options = Options(min_blocks=4)
    assert planner(store, options=options).find(Request(200), 0) == 0
    store.put(range(4))
    assert planner(store, options=options).find(Request(200), 0) == 4 * BLOCK


def test_each_block_is_saved_once_when_it_is_whole(store: Store) -> None:
    plan = planner(store)
    request = Request(50)
    assert plan.find(request, 0) == 0
    admit(plan, request, 0)
    assert step(plan, (request, 20)).saves == [(keys(range(1)), [100])]
    assert step(plan, (request, 11)).saves == []
    assert step(plan, (request, 19)).saves == [(keys(range(1, 3)), [101, 102])]
    for _ in range(14):  # generated tokens: the 64th ends a block
        request.generated += 1
        made = step(plan, (request, 1))
    assert made.saves == [(keys(range(3, 4)), [103])]


def test_generated_blocks_may_stay(store: Store) -> None:
    plan = planner(store, options=Options(save_generated=False))
    request = Request(50, generated=30)
    plan.find(request, 0)
    admit(plan, request, 0)
    assert step(plan, (request, 80)).saves == [(keys(range(3)), [100, 101, 102])]


def test_draft_tokens_complete_nothing(store: Store) -> None:
    plan = planner(store)
    request = Request(30)
    plan.find(request, 0)
    admit(plan, request, 0)
    assert step(plan, (request, 30 + 5)).saves == [(keys(range(1)), [100])]


def test_what_was_loaded_or_cached_is_not_saved_again(store: Store) -> None:
    store.put(range(2, 5))
    plan = planner(store)
    request = Request(6 * BLOCK + 1)
    assert plan.find(request, 2 * BLOCK) == 3 * BLOCK
    admit(plan, request, 3 * BLOCK)
    report(plan, "r", set())
    request.num_computed_tokens = 5 * BLOCK
    assert step(plan, (request, BLOCK + 1)).saves == [(keys(range(5, 6)), [105])]


def test_after_a_failed_load_it_is_computed_saved_and_not_asked_again(store: Store) -> None:
    store.put(range(5))
    plan = planner(store)
    request = Request(6 * BLOCK)
    plan.find(request, 0)
    admit(plan, request, 5 * BLOCK)
    report(plan, "r", {103, 104, 999})
    request.num_computed_tokens = 3 * BLOCK
    assert step(plan, (request, 3 * BLOCK)).saves == [(keys(range(3, 6)), [103, 104, 105])]
    request.num_computed_tokens = 0  # the first block failed, or it was preempted
    assert plan.find(request, 0) == 0


def test_a_failure_of_another_request_is_not_ours(store: Store) -> None:
    store.put(range(5))
    plan = planner(store)
    one, other = Request(200, "one"), Request(200, "other")
    for request, first_id in ((one, 100), (other, 200)):
        plan.find(request, 0)
        admit(plan, request, 5 * BLOCK, first_id)
    report(plan, "one", {203})
    assert plan.find(one, 0) == 5 * BLOCK
    report(plan, "other", {203})
    assert plan.find(other, 0) == 0


def test_a_preempted_request_is_offered_its_blocks_again(store: Store) -> None:
    plan = planner(store)
    request = Request(100)
    plan.find(request, 0)
    admit(plan, request, 0)
    step(plan, (request, 100))
    store.put(range(6))
    request.num_computed_tokens = 0
    assert plan.find(request, 0) == 6 * BLOCK
    admit(plan, request, 6 * BLOCK, first_id=300)
    assert step(plan).loads == [("r", keys(range(6)), list(range(300, 306)))]


def test_roles(store: Store) -> None:
    store.put(range(5))
    assert planner(store, reads=False).find(Request(200), 0) == 0
    assert store.asked == []
    plan = planner(store, writes=False)
    request = Request(200)
    assert plan.find(request, 0) == 5 * BLOCK
    admit(plan, request, 0)
    assert step(plan, (request, 200)).saves == []


def test_an_ended_request_is_forgotten(store: Store) -> None:
    plan = planner(store)
    request = Request(50)
    plan.find(request, 0)
    admit(plan, request, 0)
    plan.forget(request)
    plan.forget(request)
    assert step(plan, (request, 50)).saves == []
    report(plan, "r", {100})  # late news of it
