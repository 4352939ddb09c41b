# SPDX-License-Identifier: MIT
"""The load of the crash tests: every kind of write, a store too small, checkpoints, backups.

Whatever the store does in service it does within a few seconds of this: volumes are formatted,
filled, emptied and used again, values that were read are moved, the log is cut after snapshots.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness import NIL, Client, ConnectionClosed, Server, is_error
from ledger import INLINE_MAX, Load, Worker

# Small enough to be full after a second. No leases: everything may be evicted.
FULL = {
    "max_store_bytes": "128mb",
    "volume_size": "16mb",
    "max_memory_bytes": "128mb",
    "lookup_lease_ms": "0",
}
SMALL_SIZES = (0, 40, 300, 5000, INLINE_MAX)
FILL_SIZE = 400_000
FILL_KEYS = 400  # more than the store holds


def workers(seed: int) -> list[Worker]:
    """Three whose values are never evicted, two whose values may be."""
    kept = [Worker(f"s{n}-", seed + n, sizes=SMALL_SIZES, keys=40) for n in range(3)]
    return kept + [Worker(f"b{n}-", seed + 10 + n, evicted=True) for n in range(2)]


def fill_value(key: str) -> bytes:
    return (key.encode() * (FILL_SIZE // len(key) + 1))[:FILL_SIZE]


class Pressure:
    """Beside the workers: a store kept full (fill), reads of what is old, checkpoints, backups."""

    def __init__(self, server: Server, seed: int, fill: bool = True) -> None:
        self.server = server
        self.rng = random.Random(seed)
        self.stop = threading.Event()
        self.problems: list[str] = []
        self.threads: list[threading.Thread] = []
        self.backup_dir = server.base / "backup"
        self.turns = [self._log, self._checkpoint, self._backup] + [self._fill] * fill

    def _turns(self, turn: Callable[[Client], None]) -> None:
        try:
            with self.server.client() as c:
                while not self.stop.is_set():
                    turn(c)
        except (ConnectionClosed, TimeoutError, OSError):
            pass

    def _fill(self, c: Client) -> None:
        """Written in any order, some read soon after: those move when their volume is emptied."""
        key = f"fill{self.rng.randrange(FILL_KEYS)}"
        c.cmd("SET", key, fill_value(key))
        self._read(c, key)
        self._read(c, f"fill{self.rng.randrange(FILL_KEYS)}")

    def _read(self, c: Client, key: str) -> None:
        got = c.cmd("GET", key)
        if got is not NIL and not is_error(got) and got != fill_value(key):
            self.problems.append(f"{key} is wrong")

    def _log(self, c: Client) -> None:
        """Values of the log only: it reaches its snapshot."""
        value = bytes(INLINE_MAX)
        c.pipeline([("SET", f"log{self.rng.randrange(50)}", value) for _ in range(20)])

    def _checkpoint(self, c: Client) -> None:
        c.cmd("DEBUG", "CHECKPOINT")
        self.stop.wait(0.1)

    def _remove_backup(self) -> None:
        """Under another name: what a power cut leaves of it is not taken for a backup."""
        gone = self.backup_dir.with_suffix(".gone")
        shutil.rmtree(gone, ignore_errors=True)
        with suppress(OSError):
            self.backup_dir.rename(gone)
            shutil.rmtree(gone)

    def _backup(self, c: Client) -> None:
        self._remove_backup()
        c.cmd("BACKUP", str(self.backup_dir))
        self.stop.wait(1)

    def __enter__(self) -> Pressure:
        for turn in self.turns:
            thread = threading.Thread(target=self._turns, args=(turn,), daemon=True)
            self.threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"
        self._remove_backup()


def load_until_dead(server: Server, load: list[Worker], seed: int, timeout_s: float) -> bool:
    """Whether the server ended within timeout_s of mixed load; it is killed otherwise."""
    assert server.proc is not None
    with Pressure(server, seed) as pressure, Load(server, load):
        try:
            server.proc.wait(timeout_s)
            died = True
        except Exception:
            died = False
            server.kill9()
    assert not pressure.problems, pressure.problems[:5]
    return died


def check(server: Server, load: list[Worker]) -> None:
    """Nothing acknowledged is lost, wrong or partial, and the store takes every kind of write."""
    with server.client() as c:
        for worker in load:
            worker.check(c)
        for n in range(5):
            key = f"fill{n}"
            c.ok("SET", key, fill_value(key))
        c.ok("SET", "small", "v")
    problems = [p for w in load for p in w.problems]
    assert not problems, problems[:5]


def sources() -> Path:
    return Path(__file__).resolve().parents[2] / "src"
