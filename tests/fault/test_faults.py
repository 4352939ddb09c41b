# SPDX-License-Identifier: MIT
"""Every call on every file of the store fails: once or from then on, at the start or under load.

The server may answer with an error, may go on, may stop: with exit code 1 and a line that says why
(or, where only a restart helps, with a panic that does). It may not hang, and nothing acknowledged
may be lost or altered. Once the fault is over, a start must succeed and writes must work. One wait
is allowed, and must be said in the log: of what was under way when a segment of the log can never
be made.

In the short form each pair of call and file is tried once, with an error, a moment and a lasting
that the seed chooses. In the long one (SLDMKV_FAULTS=full) with all of them, and at the n-th call
for every n until the call is made less often than that (at most SLDMKV_FAULT_CALLS).
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import NIL, Client, ConnectionClosed, Server, StartFailed, info_of, is_error
from ledger import INLINE_MAX, Load, Worker

FULL = os.environ.get("SLDMKV_FAULTS") == "full"
CALLS_MAX = int(os.environ.get("SLDMKV_FAULT_CALLS", "12"))
SEED = int(os.environ.get("SLDMKV_SEED", random.randrange(1 << 30)))
pytestmark = [pytest.mark.ours, pytest.mark.timeout(7200 if FULL else 180)]

SHORT = 0
OPTIONS = {
    "max_store_bytes": "128mb",
    "volume_size": "16mb",
    "max_memory_bytes": "128mb",
    "shutdown_timeout": "3",
}
REPLY_S = 15.0  # any reply, an error too
STOP_S = 20.0
LOAD_S = 0.4
MET_S = 3.0

# Which calls are made on which files, and when; a call that is never made fails the test.
# raft$ and data$ are the folders themselves.
CALLS = """
open          FORMAT      start
open          index.mdb   start
open          vol-        start load
open          raft/       start load
pread         vol-        start load
pread         index.mdb   start
pwrite        vol-        start load
pwrite        index.mdb   start load
pwrite        raft/       start
pwritev       vol-        start load
write         FORMAT      start
write         raft/       start
writev        index.mdb   start load
fsync         FORMAT      start
fsync         raft$       start load
fsync         data$       start load
fdatasync     index.mdb   start load
fdatasync     vol-        start load
fallocate     index.mdb   start load
fallocate     vol-        start load
fallocate     raft/       start
ftruncate     index.mdb   start
ftruncate     raft/       start load
rename        FORMAT      start
rename        vol-        start load
rename        raft/       start load
linkat        raft/       start
msync         vol-        start load
io_submit     raft/       start load
io_getevents  raft/       start load
"""
CASES = [
    (call, word, when)
    for call, word, *whens in (line.split() for line in CALLS.strip().splitlines())
    for when in whens
]
WRITES = {"pwrite", "pwritev", "write", "writev", "io_getevents"}


@dataclass(frozen=True)
class Fault:
    call: str
    word: str
    when: str  # "start" or "load"
    error: int
    keep: bool
    n: int

    def __str__(self) -> str:
        name = errno.errorcode.get(self.error, "short")
        return f"{self.call} {self.word} {self.when} {name}{' kept' * self.keep} n={self.n}"

    def env(self, trigger: Path) -> dict[str, str]:
        keep = ":keep" if self.keep else ""
        built = Path(os.environ["SLDMKV_BUILD"])
        env = {
            "LD_PRELOAD": str(built / "tests" / "inject.so"),
            "SLDMKV_INJECT": f"{self.call}:{self.word}:{self.n}:{self.error}{keep}",
        }
        return env if self.when == "start" else env | {"SLDMKV_INJECT_WHEN": str(trigger)}


def errors(call: str) -> list[int]:
    if call == "pread":
        return [errno.EIO]
    return [errno.EIO, errno.ENOSPC] + ([SHORT] if call in WRITES else [])


def reason_of(server: Server) -> str:
    """The line with which a server says why it ends."""
    lines = [x for x in server.log().splitlines() if "panic" in x or "sldmkv-server:" in x]
    return lines[-1] if lines else ""


def ended_well(server: Server) -> None:
    """It stopped by itself: with a code and a reason that names a file."""
    assert server.proc is not None
    code, reason = server.proc.returncode, reason_of(server)
    assert code in (1, -signal.SIGABRT), f"exit code {code}: {server.log()[-2000:]}"
    assert str(server.data) in reason, f"no reason: {server.log()[-2000:]}"


def large_writes(c: Client) -> None:
    """Values of volumes, read back; an error is an answer."""
    for n in range(4):
        value = b"%d:" % n + bytes(INLINE_MAX * 4)
        c.cmd("SET", f"large{n}", value)
        got = c.cmd("GET", f"large{n}")
        assert is_error(got) or not isinstance(got, bytes) or got == value, "wrong bytes"


def roll_segment(c: Client) -> None:
    """So much for the log that it takes its next segment; errors are answers."""
    c.pipeline([("SET", f"log{n}", bytes(INLINE_MAX)) for n in range(1200)])


def met(server: Server) -> bool:
    return "inject: " in server.log()


def wait_until_met(server: Server, fault: Fault) -> None:
    """Some calls are made by workers, soon after the load that asks for them."""
    end = time.monotonic() + MET_S
    while fault.n == 1 and server.alive() and not met(server) and time.monotonic() < end:
        time.sleep(0.02)


def waits_for_the_log(server: Server, fault: Fault) -> bool:
    """libraft tries for ever to make its next segment; the server says so every few seconds."""
    return fault.keep and "a write is not getting done, writes wait" in server.log()


def serve(server: Server, fault: Fault, load: list[Worker], rng: random.Random) -> None:
    """A short load, then the end: by itself, by SIGTERM or by kill -9."""
    assert server.proc is not None
    with Load(server, load):
        end = time.monotonic() + LOAD_S
        while time.monotonic() < end and server.alive():
            time.sleep(0.02)
    if server.alive():
        try:
            with server.client(timeout_s=REPLY_S) as c:
                assert c.cmd("PING") == b"PONG"
                large_writes(c)
                if fault.word.startswith("raft"):
                    roll_segment(c)
                c.cmd("DEBUG", "CHECKPOINT")
                wait_until_met(server, fault)
                # Without one more volume the oldest values go in the end, as in a full store.
                gone = int(info_of(c, "stats")["evicted_keys"]) > 0
                assert not gone or fault.keep, "evicted for a fault that was over"
                for worker in load:
                    worker.evicted = gone
        except TimeoutError:
            assert waits_for_the_log(server, fault), "no reply:\n" + server.log()[-2000:]
        except (ConnectionClosed, ConnectionError):
            server.proc.wait(STOP_S)
    if server.alive() and rng.random() < 0.5:
        server.proc.send_signal(signal.SIGTERM)
        try:
            server.proc.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill9()
            raise AssertionError("SIGTERM did not end it:\n" + server.log()[-2000:]) from None
        if server.proc.returncode != 0 and not waits_for_the_log(server, fault):
            ended_well(server)
    elif server.alive():
        server.kill9()
    else:
        ended_well(server)
    hung = any(w.hung for w in load) and not waits_for_the_log(server, fault)
    assert not hung, "a reply never came:\n" + server.log()[-2000:]


def check_after(server: Server, load: list[Worker]) -> None:
    """Without the fault: it starts, everything acknowledged is there, writes of every kind work."""
    server.env.clear()
    server.start()
    with server.client(timeout_s=REPLY_S) as c:
        for worker in load:
            worker.check(c)
        c.ok("SET", "small", "v")
        c.ok("SET", "large", bytes(INLINE_MAX * 8))
        assert c.cmd("STRLEN", "large") == INLINE_MAX * 8
    server.stop()


def run(server: Server, fault: Fault, seed: int) -> bool:
    """Whether the fault was met."""
    rng = random.Random(seed)
    load = [Worker(f"w{n}-", seed + n) for n in range(3)]
    trigger = server.base / "trigger"
    trigger.unlink(missing_ok=True)
    shutil.rmtree(server.data, ignore_errors=True)
    server.log_path.unlink(missing_ok=True)
    server.env |= fault.env(trigger)
    try:
        server.start()
        trigger.touch()
        serve(server, fault, load, rng)
    except StartFailed as e:
        if e.code is not None or not waits_for_the_log(server, fault):
            assert e.code is not None, f"no answer and no end at the start:\n{e.log[-2000:]}"
            ended_well(server)
    except (ConnectionClosed, ConnectionError):
        assert server.proc is not None
        server.proc.wait(STOP_S)
        ended_well(server)
    was_met = met(server)
    check_after(server, load)
    return was_met


@pytest.mark.parametrize("least", [1 << 20, 200_000, 70_000])
def test_no_memory(new_server: Callable[..., Server], least: int) -> None:
    """What a client makes large is refused when there is no memory for it, and nothing ends."""
    server = new_server(start=False, **OPTIONS)
    trigger = server.base / "trigger"
    server.env |= {
        "LD_PRELOAD": str(Path(os.environ["SLDMKV_BUILD"]) / "tests" / "inject.so"),
        "SLDMKV_NO_MEMORY": str(least),
        "SLDMKV_INJECT_WHEN": str(trigger),
    }
    server.start()
    large = bytes(5_000_000)
    pairs = [x for n in range(3000) for x in (f"z{n}", bytes(1000))]
    with server.client() as c:
        c.ok("SET", "large", large)
        c.pipeline([("SET", f"{n:060}", "v") for n in range(2000)])
        trigger.touch()
        out_of_memory = b"ERR out of memory"
        assert c.cmd("SET", "a", large) == out_of_memory
        assert c.cmd("APPEND", "large", "x") == out_of_memory
        assert c.cmd("SETRANGE", "b", 1_000_000, "x") == out_of_memory
        assert c.cmd("GET", "large") == large
        for command in (
            ("MSET", *pairs),
            ("MGET", *[f"{n:060}" for n in range(2000)]),
            ("KEYS", "*"),
            ("DEL", *pairs[::2]),
            ("KVMATCH", *["large"] * 50_000),
            ("INFO", "everything"),
            ("COMMAND", "DOCS"),
            ("MEMORY", "MALLOC-STATS"),
        ):
            with server.client() as other:
                try:
                    got = other.cmd(*command)
                    assert not is_error(got) or b"out of memory" in got, got
                except ConnectionClosed:
                    pass  # its bytes were to be kept and could not
            assert c.cmd("PING") == b"PONG", command[0]
        # Writes that fit into the memory set aside go on, then they are refused.
        replies = c.pipeline([("SET", f"s{n}", bytes(INLINE_MAX)) for n in range(300)])
        assert set(replies) == {b"OK", out_of_memory} or least < 1 << 20
        trigger.unlink()
        c.ok("SET", "a", large)
        c.ok("MSET", *pairs)
        stored = sum(r == b"OK" for r in replies)
        assert c.cmd("EXISTS", *[f"s{n}" for n in range(300)]) == stored


@pytest.mark.parametrize("keep", [False, True], ids=["once", "for ever"])
def test_a_volume_that_cannot_be_made(new_server: Callable[..., Server], keep: bool) -> None:
    """Once: it is tried again and nobody's key goes. For ever: keys go only for writes."""
    server = new_server(start=False, **OPTIONS, lookup_lease_ms="0")
    fault = Fault("fallocate", "vol-", "start", errno.EIO, keep, 4)
    server.env |= fault.env(server.base / "trigger")
    server.start()
    value = bytes(1 << 20)
    with server.client(timeout_s=60) as c:
        for n in range(26):  # two volumes of the three that are there
            c.ok("SET", f"k{n}", value)
        assert "cannot format volume" in server.log()
        assert info_of(c, "stats")["evicted_keys"] == "0"
        assert c.cmd("DBSIZE") == 26
        for n in range(26, 60):
            c.ok("SET", f"k{n}", value)
        gone = 60 - int(c.cmd("DBSIZE"))  # type: ignore[call-overload]
        assert gone == int(info_of(c, "stats")["evicted_keys"]) and (gone > 0) == keep
        assert c.cmd("GET", "k59") == value


def test_a_read_error_is_no_miss(new_server: Callable[..., Server]) -> None:
    """Whoever gets nil deletes or makes anew what is there; an array has an error in its place."""
    server = new_server(start=False, **OPTIONS)
    value = bytes(INLINE_MAX * 4)
    server.start()
    with server.client() as c:
        c.ok("SET", "k", value)
    server.stop()
    trigger = server.base / "trigger"
    server.env |= Fault("pread", "vol-", "load", errno.EIO, True, 1).env(trigger)
    server.start()
    with server.client() as c:
        trigger.touch()
        assert is_error(c.cmd("GET", "k"), b"IOERR")
        assert is_error(c.cmd("KVGET", "k", "META"), b"IOERR")
        for command in (("MGET", "k", "nope", "k"), ("KVRANGE", "k", "0", "5", "9", "5")):
            got = c.cmd(*command)
            assert isinstance(got, list) and is_error(got[0], b"IOERR"), got
            assert is_error(got[-1], b"IOERR") and (len(got) == 2 or got[1] == NIL), got
        trigger.unlink()
        assert c.cmd("MGET", "k") == [value]


@pytest.mark.parametrize("call,word,when", CASES)
def test_fault(new_server: Callable[..., Server], call: str, word: str, when: str) -> None:
    server = new_server(start=False, **OPTIONS)
    rng = random.Random(f"{SEED} {call} {word} {when}")
    variants = list(itertools.product(errors(call), (False, True)))
    if not FULL:  # the one case that the seed chooses
        error, keep = rng.choice(variants)
        fault = Fault(call, word, when, error, keep, rng.choice((1, 1, 2, 3)))
        print("seed", SEED, fault)
        assert run(server, fault, SEED) or fault.n > 1, "the call is not made"
        return
    failed, count = [], 0
    for error, keep in variants:
        for n in range(1, CALLS_MAX + 1):
            fault = Fault(call, word, when, error, keep, n)
            try:
                if not run(server, fault, SEED + n):
                    break
                count += 1
            except AssertionError as e:
                failed.append(f"{fault}: {e}")
    assert count or failed, "the call is not made"
    assert not failed, f"seed {SEED}\n" + "\n\n".join(failed)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("io_submit", "raft/", "load", errno.EIO, True, 2),  # SIGSEGV in libraft's retry
        Fault("fsync", "data$", "start", errno.EIO, False, 3),  # ended without a reason
        Fault("fsync", "raft$", "start", errno.EIO, False, 4),  # never made the segment again
        Fault("ftruncate", "raft/", "load", errno.EIO, False, 1),  # a gap in the log
    ],
    ids=str,
)
def test_what_once_went_wrong(new_server: Callable[..., Server], fault: Fault) -> None:
    assert run(new_server(start=False, **OPTIONS), fault, SEED)
