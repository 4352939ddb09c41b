# SPDX-License-Identifier: MIT
"""Power cuts below the file system of the real server: what was not flushed is lost, kept or torn.

The power goes under mixed load, while a start recovers from the cut before it, after a kill -9
and a start, while a store is made, around a clean stop, and right after a BACKUP. Then the same
image is mounted again, and the ledger of acknowledged writes is compared; after a BACKUP with the
copy, too.

SLDMKV_CUTS: how many cuts (6). SLDMKV_SEED: the kinds of cuts and what is lost; how far the load is
at a cut it does not say, so SLDMKV_KEEP=folder keeps the image that the last cut of each case left.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash_load import FILL_KEYS, FULL, Pressure, check, fill_value, workers
from harness import NIL, Client, Server, StartFailed, info_of, wait_until
from ledger import Load, Worker
from power_disk import PowerDisk, why_not

KEEP = os.environ.get("SLDMKV_KEEP", "")
CUTS = int(os.environ.get("SLDMKV_CUTS", "6"))
pytestmark = [pytest.mark.ours, pytest.mark.timeout(300 + 30 * CUTS)]

LOAD_S = (0.3, 2.0) if CUTS > 10 else (0.2, 0.6)
REQUESTS = 150  # a cut comes within so many writes and flushes of the disk
ROOMY = FULL | {"max_store_bytes": "512mb"}
COUNTS = ("corrupt_misses", "corrupt_records")
KINDS = (*["load"] * 4, *["kill"] * 2, *["start"] * 2, "stop", "new", "backup")


@pytest.fixture
def disk(kind: str, scratch: Path) -> Iterator[PowerDisk]:
    reason = why_not(kind)
    if reason:
        pytest.skip(reason)
    base = scratch / f"power-{os.getpid()}-{random.randrange(1 << 30)}"
    made = PowerDisk(base, kind)
    yield made
    made.remove()
    shutil.rmtree(base)


def no_damage(c: Client) -> None:
    """A store that evicts may miss a value, but a digest that is wrong is no eviction."""
    for n in range(FILL_KEYS):
        got = c.cmd("GET", f"fill{n}")
        assert got is NIL or got == fill_value(f"fill{n}"), f"fill{n} is wrong"
    damaged = {n: v for n, v in info_of(c).items() if n in COUNTS and v != "0"}
    assert not damaged, damaged


def start_and_check(server: Server, load: list[Worker]) -> None:
    server.start()
    check(server, load)
    with server.client() as c:
        no_damage(c)


class Node:
    """One store on one disk, through all its cuts; with `full` it is one that evicts."""

    def __init__(
        self, disk: PowerDisk, server: Server, second: Server, full: bool, rng: random.Random
    ) -> None:
        self.disk, self.server, self.second, self.full = disk, server, second, full
        self.rng = rng
        self.load: list[Worker] = self.workers()
        self.checks = 0
        self.copy = disk.mount / "copy"  # what BACKUP makes
        self.copied = False

    def workers(self) -> list[Worker]:
        seed = self.rng.randrange(1 << 30)
        return workers(seed) if self.full else [Worker(f"r{n}-", seed + n) for n in range(4)]

    def pressure(self) -> Pressure:
        made = Pressure(self.server, self.rng.randrange(1 << 30), fill=self.full)
        made.backup_dir = self.copy
        return made

    def arm(self, after: int) -> None:
        self.disk.arm(self.rng.randrange(1 << 32), after, self.server)

    def soon(self) -> int:
        return self.rng.choice((0, *(self.rng.randrange(1, REQUESTS) for _ in range(9))))

    def begin_anew(self) -> None:
        self.disk.forget("data")
        self.load = self.workers()

    def start_and_check(self) -> None:
        start_and_check(self.server, self.load)
        self.checks += 1

    def check_copy(self) -> None:
        """One that was acknowledged after the last write has everything, any other is whole."""
        load = copy.deepcopy(self.load)  # what is learned of the copy is not so in the store
        if self.copied:
            start_and_check(self.second, load)
            self.second.stop()
        elif (self.copy / "FORMAT").exists():
            self.second.start()
            with self.second.client() as c:
                for worker in load:
                    worker.check(c, known_later=True)
                no_damage(c)
            self.second.stop()
        self.disk.forget("copy")
        self.copied = False

    def under_load(self, end: Callable[[], object]) -> None:
        self.start_and_check()
        with self.pressure() as pressure, Load(self.server, self.load) as running:
            before = running.replies()
            wait_until(lambda: running.replies() >= before + 40, 60, "acknowledged writes")
            time.sleep(self.rng.uniform(*LOAD_S))
            end()
        assert not pressure.problems, pressure.problems[:5]

    def cut_under_load(self) -> None:
        self.under_load(lambda: (self.arm(self.soon()), self.disk.wait_cut()))

    def cut_after_kill(self) -> None:
        """A start finds what no flush has covered yet; once it was read it is there."""
        self.under_load(self.server.kill9)
        self.server.start()
        with self.server.client() as c:
            for worker in self.load:
                worker.check(c)
        self.arm(0)

    def cut_in_start(self) -> None:
        """Or soon after it; the keys of the ledger are left alone."""
        self.server.proc = None
        self.arm(self.rng.randrange(1, REQUESTS))
        try:
            self.server.start()
        except StartFailed as e:
            if e.code != -signal.SIGKILL:
                raise
        with self.pressure():
            self.disk.wait_cut()

    def cut_in_stop(self) -> None:
        """Or just after it."""
        self.start_and_check()
        self.arm(self.rng.randrange(1, REQUESTS))
        assert self.server.proc is not None
        self.server.proc.terminate()
        code = self.server.proc.wait(60)
        assert code in (0, -signal.SIGKILL), f"exit code {code}: {self.server.log()[-2000:]}"
        if not self.disk.said:
            self.disk.arm(self.rng.randrange(1 << 32), 0, None)

    def cut_after_backup(self) -> None:
        self.start_and_check()
        with self.server.client(timeout_s=60) as c:
            c.ok("BACKUP", str(self.copy))
        self.copied = True
        self.arm(0)

    def turn(self) -> str:
        kind = self.rng.choice(KINDS)
        self.disk.up()
        self.check_copy()
        if kind == "new":
            self.begin_anew()
        if kind in ("start", "new"):
            self.cut_in_start()
        elif kind == "stop":
            self.cut_in_stop()
        elif kind == "backup":
            self.cut_after_backup()
        elif kind == "kill":
            self.cut_after_kill()
        else:
            self.cut_under_load()
        said = self.disk.wait_cut()
        assert self.server.proc is not None
        self.server.proc.wait(60)
        self.disk.down()
        return f"{kind}: {said}"


@pytest.mark.parametrize(
    "kind,raft,store,share",
    [
        ("ext4", "yes", "full", 0.35),
        ("ext4", "yes", "roomy", 0.25),
        ("ext4", "no", "full", 0.2),
        ("xfs", "yes", "roomy", 0.2),
    ],
)
def test_power_cut(
    disk: PowerDisk,
    new_server: Callable[..., Server],
    kind: str,
    raft: str,
    store: str,
    share: float,
) -> None:
    seed = int(os.environ.get("SLDMKV_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    options = {"raft": raft} | (FULL if store == "full" else ROOMY)
    server, second = (
        new_server(start=False, data_dir=str(disk.mount / name), **options)
        for name in ("data", "copy")
    )
    rng = random.Random(f"{seed} {kind} {raft} {store}")
    node = Node(disk, server, second, store == "full", rng)
    for n in range(max(1, round(CUTS * share))):
        print(f"cut {n + 1}: {node.turn()}")
        if KEEP:
            disk.keep(Path(KEEP) / f"{kind}-{raft}-{store}")
        server.check_log()
    disk.up()
    node.check_copy()
    node.start_and_check()
    server.stop()
    node.start_and_check()
    server.stop()
    disk.down()
    disk.check()
    print(f"{node.checks} times checked")
