#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A prompt is prefilled once; after a crash of the server another process answers without prefill.

A small Llama with fixed random weights prefills a long prompt. Its keys and values go to the store
in blocks of 16 tokens, one key for each block. The server is killed with SIGKILL and started
again. A second process asks with KVMATCH for the longest stored prefix, loads it straight into
its cache and generates. The tokens of both must be equal.

    python demo_prefix.py                  the server is $SLDMKV_SERVER or build/sldmkv-server
    python demo_prefix.py --tokens 8192

Both processes compute the tokens behind the last whole block and the answer in the same steps, so
what they compute differs only in where the prefix came from. Exit code 1: tokens not equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sldmkvcachestore.client import KVCacheClient

REPO = Path(__file__).resolve().parents[2]
BLOCK_TOKENS = 16
STORE_BYTES = "4gb"  # 100,000 tokens; a server left alone takes a share of the disk
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


def server_binary() -> Path:
    """The server to run: $SLDMKV_SERVER, or the one built in this repository."""
    return Path(os.environ.get("SLDMKV_SERVER") or REPO / "build" / "sldmkv-server")


class Server:
    """A server process of our own on a loopback port, with its data under ``folder``."""

    def __init__(self, folder: Path, *options: str, binary: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.log = folder / "server.log"
        self.url = f"localhost:{self.port}"
        self._argv = [str(binary or server_binary()), "--data-dir", str(folder / "data")]
        self._argv += ["--port", str(self.port), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers PING; RuntimeError quotes its log when it does not."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        with KVCacheClient(self.url, timeout_s=1) as client:
            while not client.reachable():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"the server does not start:\n{self.log.read_text()}")
                time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: no chance to write anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: an orderly end."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            finally:
                self._process.kill()
            self._process = None


@dataclass(frozen=True)
class Sizes:
    """Size of the model, the prompt and the answer; the same in both processes."""

    tokens: int = 4096
    layers: int = 8
    heads: int = 8
    head_dim: int = 64
    answer: int = 16

    vocabulary: int = 8192
    seed: int = 20

    @property
    def prefix(self) -> int:
        """Tokens in whole blocks; at least one token stays to be computed."""
        return (self.tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS

    @property
    def model_id(self) -> str:
        """Names everything that changes the bytes of a block."""
        return f"demo-llama/{self.layers}x{self.heads}x{self.head_dim}/float32/{self.seed}"


def block_keys(model_id: str, tokens: Sequence[int]) -> list[bytes]:
    """One key for each whole block: the hash of the model and of all tokens up to its end."""
    digest = hashlib.sha256(model_id.encode()).digest()
    keys = []
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = tokens[start : start + BLOCK_TOKENS]
        digest = hashlib.sha256(digest + b"".join(t.to_bytes(4, "little") for t in block)).digest()
        keys.append(b"demo/" + digest.hex().encode())
    return keys


class Engine:
    """The model, its prompt and a KV cache of one sequence. torch is imported here only."""

    def __init__(self, sizes: Sizes) -> None:
        import torch
        from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

        torch.manual_seed(sizes.seed)
        width = sizes.heads * sizes.head_dim
        config = LlamaConfig(
            vocab_size=sizes.vocabulary,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            num_key_value_heads=sizes.heads,
            max_position_embeddings=sizes.tokens + sizes.answer,
            # With the usual 0.02 a random model repeats itself and hardly looks at its context;
            # with this, one wrong block changes every token of the answer.
            initializer_range=0.05,
        )
        self.sizes = sizes
        self.model = LlamaForCausalLM(config).float().eval()
        self.prompt: list[int] = torch.randint(sizes.vocabulary, (sizes.tokens,)).tolist()
        self.cache = DynamicCache()
        self._torch = torch

    def compute(self, tokens: Sequence[int]) -> int:
        """Run the model over tokens behind what the cache holds; the most likely next token."""
        torch = self._torch
        with torch.inference_mode():
            result = self.model(
                torch.tensor([list(tokens)]),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
            return int(result.logits[0, -1].argmax())

    def answer(self) -> list[int]:
        """The tokens of the prompt that the cache lacks, then the answer, token by token."""
        tokens = [self.compute(self.prompt[self.cache.get_seq_length() :])]
        while len(tokens) < self.sizes.answer:
            tokens.append(self.compute(tokens[-1:]))
        return tokens

    def layers(self) -> list[Any]:
        """Keys and values of the cache, float32 [1, heads, tokens, head_dim], layer by layer."""
        return [part for layer in self.cache.layers for part in (layer.keys, layer.values)]

    def room(self, count: int) -> Any:
        """Memory for stored blocks: float32 [count, layers * 2, heads, 16, head_dim]."""
        sizes = self.sizes
        shape = (count, 2 * sizes.layers, sizes.heads, BLOCK_TOKENS, sizes.head_dim)
        return self._torch.empty(shape)

    def adopt(self, stored: Any) -> None:
        """Make blocks shaped as ``room`` the content of the empty cache."""
        sizes = self.sizes
        shape = (2 * sizes.layers, 1, sizes.heads, -1, sizes.head_dim)
        parts = stored.permute(1, 2, 0, 3, 4).reshape(shape)
        for index in range(sizes.layers):
            self.cache.update(parts[2 * index], parts[2 * index + 1], index)


def blocks(layers: Iterable[Any], count: int) -> list[list[Any]]:
    """For each block its part of every layer: views, no copies."""
    starts = range(0, count * BLOCK_TOKENS, BLOCK_TOKENS)
    return [[part[:, :, at : at + BLOCK_TOKENS] for part in layers] for at in starts]


def fill(url: str, sizes: Sizes) -> dict[str, Any]:
    """First process: prefill, store, answer."""
    engine = Engine(sizes)
    keys = block_keys(sizes.model_id, engine.prompt[: sizes.prefix])
    begin = time.monotonic()
    engine.compute(engine.prompt[: sizes.prefix])
    prefilled = time.monotonic()
    values = blocks(engine.layers(), len(keys))
    with KVCacheClient(url, timeout_s=60) as client:
        stored = client.store_batch(keys, values, model=sizes.model_id, tokens=BLOCK_TOKENS)
        end = time.monotonic()
        info = client.info(keys[0])
    assert all(stored), "a store was refused"
    assert info is not None
    return {
        "blocks": len(keys),
        "block_bytes": info.length,
        "prefill_s": prefilled - begin,
        "store_s": end - prefilled,
        "tokens": engine.answer(),
    }


def load(url: str, sizes: Sizes) -> dict[str, Any]:
    """Second process: find, load, answer."""
    engine = Engine(sizes)
    keys = block_keys(sizes.model_id, engine.prompt[: sizes.prefix])
    begin = time.monotonic()
    with KVCacheClient(url, timeout_s=60) as client:
        found = client.match(keys)
        room = engine.room(found)
        loaded = client.retrieve_batch(keys[:found], room)
    assert all(loaded), "a block that was just matched is missing"
    if found:
        engine.adopt(room)
    end = time.monotonic()
    return {"blocks": found, "load_s": end - begin, "tokens": engine.answer()}


def child(role: str, url: str, sizes: Sizes) -> dict[str, Any]:
    """Run ``fill`` or ``load`` in a process of its own."""
    argv = [sys.executable, __file__, "--role", role, "--url", url]
    argv += [f"--{name}={value}" for name, value in asdict(sizes).items()]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def say(what: str, text: str) -> None:
    """One line of the report, at once."""
    print(f"{what:<16} {text}", flush=True)


def demo(sizes: Sizes, folder: Path) -> bool:
    """Both processes around a crash of the server; whether the tokens are equal."""
    server = Server(folder, "--max-store-bytes", STORE_BYTES)
    server.start()
    try:
        say("first process", "prefill, store, answer ...")
        first = child("fill", server.url, sizes)
        stored = first["blocks"] * first["block_bytes"]
        say("prompt", f"{sizes.tokens:,} tokens, {first['blocks']} blocks of {BLOCK_TOKENS}")
        say("bytes stored", f"{stored:,} ({first['block_bytes']:,} a block)")
        say("store seconds", f"{first['store_s']:.3f}")
        server.kill()
        server.start()
        say("second process", "find, load, answer, after kill -9 and restart ...")
        second = child("load", server.url, sizes)
    finally:
        server.stop()
    equal = bool(first["tokens"] == second["tokens"] and first["blocks"] == second["blocks"])
    say("prefix found", f"{second['blocks']} blocks")
    say("prefill seconds", f"{first['prefill_s']:.3f}")
    say("load seconds", f"{second['load_s']:.3f}")
    say("ratio", f"{first['prefill_s'] / second['load_s']:.1f}")
    say("tokens equal", "yes" if equal else "no")
    return equal


def main() -> int:
    """Parse the command line and run the demo, or one of its two processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--role", choices=("demo", "fill", "load"), default="demo")
    parser.add_argument("--url", default="", help="server of --role fill and load")
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    args = vars(parser.parse_args())
    role, url = args.pop("role"), args.pop("url")
    sizes = Sizes(**args)
    if role != "demo":
        print(json.dumps((fill if role == "fill" else load)(url, sizes)))
        return 0
    with tempfile.TemporaryDirectory(prefix="sldmkv-demo-") as folder:
        return 0 if demo(sizes, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
