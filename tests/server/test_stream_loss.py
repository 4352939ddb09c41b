# SPDX-License-Identifier: MIT
"""A large value is being sent and something is lost: bytes on disk, its reader, the value, the
server. What arrives is right, what does not is counted, and nothing is held for ever.
"""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from harness import NIL, Client, ConnectionClosed, Server, encode, info_of, wait_until
from streams import (
    CHUNK,
    GROUP,
    STORE,
    NewServer,
    cold,
    in_the_middle,
    narrow,
    nothing_left,
    number,
    rest,
)
from test_hostile import reset, serves
from test_values import MIB, body, same

pytestmark = pytest.mark.ours

# ---------------------------------------------------------------- damage


def find_record(server: Server, key: str) -> tuple[Path, int]:
    """The file and offset of a stopped server's slab record header."""
    needle = key.encode() + b"\0"
    for path in sorted(server.data.glob("vol-*.mdb")):
        data = path.read_bytes()
        at = data.find(b"SLDP")
        while at >= 0:
            if data.startswith(needle, at + 128):
                return path, at
            at = data.find(b"SLDP", at + 1)
    raise AssertionError(f"no record of {key}")


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x20]))


HEADER = 4096


@pytest.mark.parametrize(
    "where,arrives",
    [
        pytest.param(70, -1, id="header"),
        pytest.param(HEADER, -1, id="first-byte"),
        pytest.param(HEADER + CHUNK + 5, -1, id="first-group"),
        pytest.param(HEADER + GROUP, GROUP, id="second-group"),
        pytest.param(HEADER + 19 * MIB + 12345, 18 * MIB, id="last-group"),
    ],
)
def test_damage_in_the_volume(new_server: NewServer, where: int, arrives: int) -> None:
    """In the first group: nil. Behind it: the connection ends with right bytes only. Counted."""
    server = new_server(max_memory_bytes="256mb", **STORE)
    size = 20 * MIB
    value = body(size)
    with server.client(timeout_s=60) as c:
        c.ok("SET", "k", value)
        c.ok("SET", "sound", body(9 * MIB))
    server.stop()
    path, at = find_record(server, "k")
    flip(path, at + where)
    server.start()
    with server.client(timeout_s=60) as c:
        if arrives < 0:
            assert c.cmd("GET", "k") == NIL
            assert c.cmd("KVGET", "k", "META") == NIL
            got = c.cmd("MGET", "sound", "k", "sound")
            assert isinstance(got, list) and got[1] == NIL
            same(got[2], body(9 * MIB))
            c.ok("MULTI")
            c.cmd("GET", "k")
            c.cmd("GET", "sound")
            got = c.cmd("EXEC")
            assert isinstance(got, list) and got[0] == NIL
            same(got[1], body(9 * MIB))
        else:
            c.send_cmd("GET", "k")
            head = b"$%d\r\n" % size
            got = c.expect_closed()
            assert got[: len(head)] == head and len(got) <= len(head) + arrives
            same(got[len(head) :], value[: len(got) - len(head)])
            assert "client closed" in server.log() and "in the middle of a reply" in server.log()
    with server.client(timeout_s=60) as c:
        info = info_of(c, "everything")
        assert int(info["corrupt_misses"]) == (4 if arrives < 0 else 1)
        assert int(info["closed_value_damaged"]) == (0 if arrives < 0 else 1)
        same(c.cmd("GET", "sound"), body(9 * MIB))
        if where > HEADER + 10 * MIB:  # chunks that are sound can be read
            same(c.cmd("GETRANGE", "k", 0, 10 * MIB - 1), value[: 10 * MIB])
        c.ok("SET", "k", value)
        same(c.cmd("GET", "k"), value)
    wait_until(lambda: number(server, "streams") == 0, 10, "no stream is left")


# ---------------------------------------------------------------- readers that go away


def test_killed_in_the_middle(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="64mb", **STORE)
    size = 28 * MIB
    value = body(size)
    cold(server, {"k": value})
    fds = server.fds()
    for turn in range(12):
        with in_the_middle(server, "k", size) as c, server.client() as judge:
            c.read_exact(turn * MIB)
            if turn % 3 == 0:
                found = re.search(rb"id=(\d+) [^\n]*cmd=get ", judge.cmd("CLIENT", "LIST"))
                assert found is not None
                assert judge.cmd("CLIENT", "KILL", "ID", found.group(1)) == 1
                with pytest.raises(ConnectionClosed):
                    rest(c, size - turn * MIB)
            elif turn % 3 == 1:
                reset(c.sock)
            else:
                c.close()
    nothing_left(server)
    assert server.fds() <= fds + 2
    with server.client(timeout_s=60) as c:
        same(c.cmd("GET", "k"), value)
    serves(server)


def test_a_pipeline_of_streams_is_closed_as_a_whole(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="64mb", **STORE)
    size = 24 * MIB
    cold(server, {"k": body(size)})
    with narrow(server) as c:
        c.send(encode(["GET", "k"]) * 5 + encode(["MGET", "k", "k"]))
        assert c._line() == b"$%d" % size
        c.read_exact(2 * MIB)
        reset(c.sock)
    with narrow(server) as c:
        c.send(encode(["MULTI"]) + encode(["GET", "k"]) * 3 + encode(["EXEC"]))
        c.read_exact(2 * MIB)
        reset(c.sock)
    nothing_left(server)
    serves(server)


# ---------------------------------------------------------------- values that go away

# Volumes so small that a few writes recycle each of them.
TINY = {"max_memory_bytes": "256mb", "max_store_bytes": "128mb", "volume_size": "16mb"}
PINNED_S = 10  # STREAM_PIN_US


def churn(c: Client, keys: int) -> None:
    """Every volume is filled, emptied and filled again."""
    recycled = int(info_of(c, "storage")["volumes_recycled"])
    value = body(3 * MIB)
    for n in range(400):
        c.ok("SET", f"churn{n % keys}", value)
        if int(info_of(c, "storage")["volumes_recycled"]) >= recycled + 8:
            return
    raise AssertionError("volumes are not recycled")


def arrives(server: Server, c: Client, value: bytes, asked: float) -> None:
    """What GET found is delivered; only behind PINNED_S may it be cut, and is counted."""
    try:
        same(rest(c, len(value)), value)
        assert c.cmd("PING") == b"PONG"
    except ConnectionClosed:
        assert time.monotonic() - asked > PINNED_S
        assert number(server, "closed_value_gone") == 1
        assert "the value was deleted" in server.log()


@pytest.mark.parametrize("what", ["SET", "DEL", "FLUSHALL", "RENAME", "GETDEL", "EXEC"])
def test_the_value_goes_while_it_is_sent(new_server: NewServer, what: str) -> None:
    server = new_server(**TINY)
    size = 14 * MIB
    value = body(size)
    cold(server, {"k": value})
    asked = time.monotonic()
    with in_the_middle(server, "k", size) as c, server.client(timeout_s=60) as other:
        if what == "SET":
            other.ok("SET", "k", body(size, 1))
        elif what == "RENAME":
            other.ok("RENAME", "k", "k2")
        elif what == "FLUSHALL":
            other.ok("FLUSHALL")
        elif what == "DEL":
            assert other.cmd("DEL", "k") == 1
        elif what == "GETDEL":
            same(other.cmd("GETDEL", "k"), value)
        else:
            other.ok("MULTI")
            for command in (("GET", "k"), ("DEL", "k"), ("GET", "k")):
                assert other.cmd(*command) == b"QUEUED"
            got = other.cmd("EXEC")
            assert isinstance(got, list) and got[1:] == [1, NIL]
            same(got[0], value)
        churn(other, 4)
        arrives(server, c, value, asked)
    nothing_pinned(server)


def test_evicted_while_it_is_sent(new_server: NewServer) -> None:
    server = new_server(**TINY)
    size = 14 * MIB
    value = body(size)
    cold(server, {"k": value})
    asked = time.monotonic()
    with in_the_middle(server, "k", size) as c, server.client(timeout_s=60) as other:
        churn(other, 1000)
        assert int(info_of(other, "stats")["evicted_keys"]) > 0
        arrives(server, c, value, asked)
    nothing_pinned(server)


def nothing_pinned(server: Server) -> None:
    wait_until(lambda: number(server, "volumes_pinned") == 0, 30, "no volume is pinned")


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("size", [4 * MIB, 24 * MIB])
@pytest.mark.parametrize("how", ["SIGTERM", "SHUTDOWN"])
def test_what_is_being_sent_arrives_before_the_server_stops(
    new_server: NewServer, how: str, size: int
) -> None:
    server = new_server(max_memory_bytes="64mb", **STORE)
    value = body(size)
    cold(server, {"k": value})
    assert server.proc is not None
    with in_the_middle(server, "k", size) as c:
        if how == "SIGTERM":
            server.proc.send_signal(signal.SIGTERM)
        else:
            with server.client() as other:
                other.send_cmd("SHUTDOWN")
        wait_until(lambda: "shutdown..." in server.log(), 10, "the stop has begun")
        same(rest(c, size), value)
        c.expect_closed()
    assert server.proc.wait(20) == 0
    server.check_log()


def test_a_reader_that_has_stopped_reading_does_not_delay_the_stop(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="64mb", **STORE)
    size = 24 * MIB
    cold(server, {"k": body(size)})
    assert server.proc is not None
    with in_the_middle(server, "k", size):
        start = time.monotonic()
        server.proc.send_signal(signal.SIGTERM)
        assert server.proc.wait(20) == 0
        assert time.monotonic() - start < 9  # shutdown-timeout is 10
    server.check_log()


def test_a_streaming_reader_without_progress_is_closed(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="64mb", progress_timeout="1", **STORE)
    size = 24 * MIB
    cold(server, {"k": body(size)})
    with in_the_middle(server, "k", size):
        wait_until(lambda: number(server, "closed_no_progress") == 1, 20, "closed")
    nothing_left(server)
    serves(server)
