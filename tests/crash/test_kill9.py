# SPDX-License-Identifier: MIT
"""kill -9 at random moments under mixed load on a full store; the start after it is timed."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable

import pytest
from crash_load import FULL, Pressure, check, workers
from harness import ConnectionClosed, Server, wait_until
from ledger import Load

KILLS = int(os.environ.get("SLDMKV_KILLS", "60"))
pytestmark = [pytest.mark.ours, pytest.mark.timeout(300 + 30 * KILLS)]

FIRST_GET_S = 1.0
WAIT_S = 30.0


def allowed_s() -> float:
    """A start competes with all else that runs: slower as there is more work a processor."""
    return FIRST_GET_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def first_get(server: Server) -> float:
    """Seconds from the start of the process to a right answer."""
    begun = time.monotonic()
    server.start()
    while True:
        try:
            with server.client() as c:
                assert c.cmd("GET", "fixed") == b"value"
                return time.monotonic() - begun
        except (ConnectionClosed, OSError):
            assert time.monotonic() - begun < WAIT_S


@pytest.mark.parametrize("raft,share", [("yes", 0.75), ("no", 0.25)])
def test_kill_9(new_server: Callable[..., Server], raft: str, share: float) -> None:
    seed = int(os.environ.get("SLDMKV_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    rng = random.Random(seed)
    load = workers(seed)
    server = new_server(raft=raft, **FULL)
    with server.client() as c:
        c.ok("SET", "fixed", "value")
    took = []
    for turn in range(max(1, round(KILLS * share))):
        with Pressure(server, seed + turn) as pressure, Load(server, load) as running:
            before = running.replies()
            # A kill before anything was acknowledged would prove nothing.
            wait_until(lambda: running.replies() >= before + 40, 60, "acknowledged writes")
            time.sleep(rng.uniform(0.0, 0.5))
            server.kill9()
        assert not pressure.problems, pressure.problems[:5]
        server.check_log()
        took.append(first_get(server))
        check(server, load)
        if turn % 50 == 49:
            print(f"kill {turn + 1}: first GET after {statistics.median(took):.3f} s (median)")
    median = statistics.median(took)
    print(f"{len(took)} kills, first GET: median {median:.3f} s, longest {max(took):.3f} s")
    assert median <= allowed_s()
    server.stop()
    server.start()
    check(server, load)
