# SPDX-License-Identifier: MIT
"""Death at every named point of the sources, at its first, second and fifth passing.

The points are looked up in the sources, so a new one is tested without a word here. One that the
load does not reach fails: either the load lacks something, or the point is dead code.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Callable

import pytest
from crash_load import FULL, check, load_until_dead, sources, workers
from harness import Server, StartFailed

pytestmark = [pytest.mark.ours, pytest.mark.timeout(900)]

REACH_S = 120
HITS = [int(n) for n in os.environ.get("SLDMKV_HITS", "1,2,5").split(",")]
ONCE = {"boot.durable", "audit.walk"}  # passed once in the life of a process, at its start
SLOW = {"snap.taken": 2}  # a snapshot is taken every 64 MiB of log


def points() -> dict[str, set[str]]:
    """Name → layers that have it."""
    found: dict[str, set[str]] = {}
    for path in sorted(sources().glob("*/*.c")):
        for name in re.findall(r'\bFAIL\("([^"]+)"\)', path.read_text()):
            found.setdefault(name, set()).add(path.parent.name)
    return found


def cases() -> list[tuple[str, str]]:
    """Without the log its points are never passed."""
    found = points()
    assert len(found) >= 15, "the sources are not where they are looked for"
    own = [(name, "no") for name in found if found[name] <= {"store", "fsm"}]
    return [(name, "yes") for name in found] + own


def hits(name: str, raft: str) -> list[int]:
    if name in ONCE:
        return [1]
    most = SLOW.get(name, max(HITS))
    return [n for n in HITS if n <= most] if raft == "yes" else [min(2, most)]


@pytest.fixture
def binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failpoints are in the debug configuration only."""
    monkeypatch.setenv("SLDMKV_SERVER", os.environ["SLDMKV_SERVER_FAIL"])


@pytest.mark.usefixtures("binary")
@pytest.mark.parametrize("point,raft", cases())
def test_death_at(new_server: Callable[..., Server], point: str, raft: str) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    load = workers(seed)
    server = new_server(raft=raft, start=False, **FULL)
    if point == "audit.walk":  # after an unclean end, where the index knows of keys
        server.start()
        with server.client() as c:
            c.ok("SET", "audited", "v")
            c.ok("DEBUG", "CHECKPOINT")
        server.kill9()
    for n in hits(point, raft):
        server.env["SLDMKV_FAILPOINTS"] = f"{point}=abort@{n}"
        try:
            server.start()
            died = load_until_dead(server, load, seed + n, REACH_S)
        except StartFailed as e:
            died = e.code is not None  # not by a start that took too long
        assert died, f"{point} was not passed {n} times in {REACH_S} s of load"
        assert server.proc is not None
        assert server.proc.returncode == -signal.SIGKILL, server.log()[-3000:]
        server.check_log()
        del server.env["SLDMKV_FAILPOINTS"]
        server.start()
        check(server, load)
        server.kill9()
    server.start()
    server.stop()
