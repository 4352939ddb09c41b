# SPDX-License-Identifier: MIT
"""Real vLLM engines on the CPU: warm is what cold was, whatever happens to the store.

An engine start takes half a minute, so a test is one story with several lives.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from conftest import started
from demo_prefix import Server

ENGINE_TIMEOUT_S = 600
BLOCK = 32
PROMPT = 1000  # tokens; 31 whole blocks before the last one
FOUND = (PROMPT - 1) // BLOCK * BLOCK

pytestmark = pytest.mark.timeout(3600)
Life = Callable[..., list[dict[str, Any]]]


def make_model(folder: Path, seed: int) -> Path:
    """A small Llama with fixed random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(scratch: Path) -> list[Path]:
    """Two models that differ in nothing but their weights, and one of them in another place."""
    return [make_model(scratch / f"model-{n}" / "m", seed) for n, seed in enumerate((1, 2, 1))]


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Server]:
    made = started(scratch, "engine")
    yield made
    made.stop()


@pytest.fixture
def life(models: Sequence[Path]) -> Life:
    """Runs prompts in an engine process of its own."""

    def run(
        prompts: Sequence[Sequence[int]], url: str | None, model: Path = models[0], **engine: Any
    ) -> list[dict[str, Any]]:
        job = {
            "model": str(model),
            "prompts": prompts,
            "connector": None if url is None else {"url": url, "lookup_timeout_ms": 2000},
            "engine": engine,
        }
        script = Path(__file__).with_name("engine.py")
        done = subprocess.run(
            [sys.executable, str(script)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=ENGINE_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        lines = done.stdout.splitlines()
        (line,) = (line for line in lines if line.startswith("ANSWERS"))
        answers: list[dict[str, Any]] = json.loads(line.removeprefix("ANSWERS"))
        return answers

    return run


def prompt(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 500) for _ in range(PROMPT)]


def tokens(answers: Sequence[dict[str, Any]]) -> list[Any]:
    return [answer["tokens"] for answer in answers]


def cached(answers: Sequence[dict[str, Any]]) -> list[int]:
    return [answer["cached"] for answer in answers]


def test_warm_after_kill_and_right_whatever_the_store_holds(
    server: Server, life: Life, models: Sequence[Path]
) -> None:
    prompts = [prompt(1), prompt(2), [*prompt(1)[:500], *prompt(3)[:500]]]
    plain = life(prompts, None)
    cold = life(prompts, server.url)
    assert tokens(cold) == tokens(plain)
    assert cached(cold)[:2] == [0, 0]

    server.kill()
    server.start()
    warm = life(prompts, server.url, model=models[2])
    assert tokens(warm) == tokens(plain)
    assert cached(warm) == [FOUND, FOUND, FOUND]

    other = life(prompts[:1], server.url, model=models[1])
    assert cached(other) == [0]  # same shape, other weights
    assert tokens(other) != tokens(plain[:1])

    store = redis.Redis.from_url(f"redis://{server.url}")
    keys = sorted(store.scan_iter("vllm:*"))
    values = dict(zip(keys, store.mget(keys)))
    spoil(store, keys, values)
    again = life(prompts, server.url)
    assert tokens(again) == tokens(plain)
    healed = life(prompts, server.url)
    assert tokens(healed) == tokens(plain)
    assert cached(healed) == [FOUND, FOUND, FOUND]


def spoil(store: redis.Redis, keys: Sequence[bytes], values: dict[bytes, bytes]) -> None:
    """A third of the blocks: cut short, empty, with a flipped bit, or another block's value."""
    rng = random.Random(7)
    for key in rng.sample(list(keys), len(keys) // 3):
        value = bytearray(values[key])
        kind = rng.randrange(4)
        if kind == 0:
            value = value[: rng.randrange(len(value))]
        elif kind == 1:
            value = bytearray()
        elif kind == 2:
            value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
        else:
            value = bytearray(values[rng.choice([other for other in keys if other != key])])
        store.set(key, bytes(value))


def test_without_a_store_nothing_is_lost_but_time(life: Life) -> None:
    prompts = [prompt(5), prompt(5)]
    answers = life(prompts, "localhost:1")
    assert tokens(answers) == tokens(life(prompts, None))
    assert cached(answers) == [0, FOUND]  # the engine's own cache is as it was
