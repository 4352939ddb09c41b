# SPDX-License-Identifier: MIT
"""One run: its sizes, the processes it starts, the rows it collects."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from servers import Ours, Redis, Server

LOADGEN_TIMEOUT_S = 900


class Failed(Exception):
    """A wrong answer, or a process that did not do its work: the run is worth nothing."""


@dataclass
class Row:
    """One line of the table. Values are in ``unit``; ``against`` is who they are compared with."""

    figure: str
    unit: str
    ours: list[float]
    against: str = ""
    theirs: list[float] = field(default_factory=list)
    at_least: float | None = None  # of the ratio ours / theirs, or of ours when alone
    at_most: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        if not self.theirs:
            return median(self.ours)
        return median(self.ours) / median(self.theirs)

    @property
    def reached(self) -> bool | None:
        if self.at_least is None and self.at_most is None:
            return None
        low = self.at_least is None or self.ratio >= self.at_least
        high = self.at_most is None or self.ratio <= self.at_most
        return low and high


Samples = dict[str, dict[str, list[float]]]


class Bench:
    """What the figures use: sizes, servers, loadgen, fio, and where rows go."""

    def __init__(self, repo: Path, scratch: Path, full: bool, rounds: int) -> None:
        self.repo = repo
        self.bin = Path(os.environ.get("SLDMKV_BIN", repo / "build"))
        self.scratch = scratch
        self.full = full
        self.rounds = rounds
        self.rows: list[Row] = []
        self.servers: list[Server] = []
        self.figure = ""
        self.started = time.monotonic()

    # ---- sizes ----

    def size(self, short: int, full: int) -> int:
        return full if self.full else short

    # ---- progress ----

    def begin(self, name: str) -> None:
        self.figure = name
        self.say("begins")

    def say(self, text: str) -> None:
        passed = time.monotonic() - self.started
        print(f"{passed:7.1f} s  {self.figure:9} {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Stops every server of the figure and removes its data."""
        for server in self.servers:
            server.kill()
        self.servers.clear()
        for path in self.scratch.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def row(self, *args: Any, **named: Any) -> None:
        self.rows.append(Row(*args, **named))

    # ---- processes ----

    def ours(self, name: str = "ours", **options: str) -> Ours:
        binary = self.bin / "sldmkv-server"
        return self._start(Ours(str(binary), self.scratch / name, options))

    def redis(self, name: str = "redis", **options: str) -> Redis:
        binary = shutil.which("redis-server")
        if binary is None:
            raise Failed("no redis-server in the PATH (make bench provides it)")
        return self._start(Redis(binary, self.scratch / name, options))

    def _start(self, server: Any) -> Any:
        self.servers.append(server)
        try:
            server.start()
        except (OSError, RuntimeError) as e:
            raise Failed(str(e)) from e
        return server

    def stop(self, server: Server) -> None:
        """Ends it and removes its data."""
        server.kill()
        self.servers.remove(server)
        shutil.rmtree(server.base)

    def load_start(self, server: Server, op: str, **options: int | str) -> subprocess.Popen[str]:
        argv = [str(self.bin / "loadgen"), "--port", str(server.port), "--op", op]
        for name, value in options.items():
            argv += [f"--{name}", str(value)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def load_end(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        try:
            out, err = process.communicate(timeout=LOADGEN_TIMEOUT_S)
        except subprocess.TimeoutExpired as e:
            process.kill()
            raise Failed(f"loadgen did not end: {' '.join(process.args)}") from e  # type: ignore
        if process.returncode != 0:
            raise Failed(f"{' '.join(process.args)}: {err.strip()}")  # type: ignore[arg-type]
        result: dict[str, Any] = json.loads(out)
        return result

    def load(self, server: Server, op: str, **options: int | str) -> dict[str, Any]:
        """One loadgen to its end. Adds the server's CPU seconds, and checks that it lives."""
        cpu = server.cpu_seconds()
        result = self.load_end(self.load_start(server, op, **options))
        if not server.alive():
            raise Failed(f"{server.base.name} died:\n{server.log()[-2000:]}")
        result["server_cpu_seconds"] = server.cpu_seconds() - cpu
        return result

    def fio(self, name: str, **options: int | str) -> dict[str, Any]:
        """One fio job on one file of the scratch folder; the job's part of its JSON."""
        argv = ["fio", f"--name={name}", f"--filename={self.scratch / 'fio'}", "--direct=1"]
        argv += ["--output-format=json"]
        argv += [f"--{key}={value}" for key, value in options.items()]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(argv)}: {done.stderr.strip()}")
        job: dict[str, Any] = json.loads(done.stdout)["jobs"][0]
        return job

    # ---- rounds ----

    def take_turns(self, contenders: Mapping[str, Callable[[], Mapping[str, float]]]) -> Samples:
        """Each contender once a round, every other round in the opposite order."""
        samples: Samples = {name: {} for name in contenders}
        for r in range(self.rounds):
            order = list(contenders) if r % 2 == 0 else list(contenders)[::-1]
            for name in order:
                for key, value in contenders[name]().items():
                    samples[name].setdefault(key, []).append(value)
                last = " ".join(f"{k}={v[-1]:.4g}" for k, v in samples[name].items())
                self.say(f"round {r + 1} of {self.rounds}: {name} {last}")
        return samples


def drop_caches() -> bool:
    """False when we may not: then redis and fio, which use or bypass the cache, are told apart."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True
