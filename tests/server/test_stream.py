# SPDX-License-Identifier: MIT
"""Large values from disk: right bytes in the right order through small buffers.

A value over VALUE_WHOLE_MAX that is not in memory is streamed when it is read for the first time
(later too, when it does not fit an eighth of the budget). A restart empties memory and forgets what
was read, so that what these tests read is cold.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from harness import NIL, REPO, Client, Map, Server, encode, info_of, is_error, wait_until
from streams import (
    CHUNK,
    GROUP,
    GROUPS,
    STORE,
    WHOLE,
    NewServer,
    cold,
    narrow,
    number,
    rest,
    restart,
)
from test_hostile import serves
from test_values import KIB, MIB, body, same

pytestmark = pytest.mark.ours

# ---------------------------------------------------------------- bytes

SIZES = [
    WHOLE - 1,
    WHOLE,
    WHOLE + 1,
    WHOLE + CHUNK - 1,
    WHOLE + CHUNK,
    WHOLE + CHUNK + 1,
    WHOLE + GROUP - 1,
    WHOLE + GROUP + 1,
    13 * MIB + 4095,
    # chunks of 320 KiB: a group holds three of them
    70 * MIB + 1,
]


def one(c: Client, command: str, key: str) -> bytes:
    """The value as this command answers it."""
    if command == "META":
        reply = c.cmd("KVGET", key, "META")
        if isinstance(reply, Map):
            names, data = [name for name, _ in reply], reply.get(b"value")
        else:
            assert isinstance(reply, list)
            names, data = reply[::2], reply[-1]
        assert names[-1] == b"value" and len(names) == 8
    elif command == "MGET":
        reply = c.cmd("MGET", "nope", key, "nope")
        assert isinstance(reply, list) and len(reply) == 3
        data = reply[1]
    elif command == "EXEC":
        c.ok("MULTI")
        assert c.cmd("GET", key) == b"QUEUED"
        reply = c.cmd("EXEC")
        assert isinstance(reply, list) and len(reply) == 1
        data = reply[0]
    else:
        data = c.cmd(command, key)
    assert isinstance(data, bytes), data
    return data


@pytest.mark.parametrize("proto", [2, 3])
def test_every_way_to_read_at_every_border(new_server: NewServer, proto: int) -> None:
    server = new_server(max_memory_bytes="192mb", **STORE)
    values = {f"k{size}": body(size) for size in SIZES}
    with server.client(timeout_s=60) as c:
        for key, value in values.items():
            c.ok("SET", key, value)
    for command in ("GET", "KVGET", "META", "MGET", "EXEC"):
        restart(server)
        with server.client(proto=proto, timeout_s=60) as c:
            for key, value in values.items():
                same(one(c, command, key), value)
                assert c.cmd("PING") == b"PONG"
            info = info_of(c, "kvcache")
            large = sum(size > WHOLE for size in SIZES)
            assert int(info["streams_opened"]) == large
            assert int(info["disk_loads"]) == len(SIZES)
            assert int(info["disk_load_bytes"]) == sum(SIZES)
            assert int(info["streams"]) == 0


def test_what_is_read_again_is_kept(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="256mb", **STORE)
    sizes = {"small": 3 * MIB, "fits": 32 * MIB, "large": 33 * MIB}
    cold(server, {name: body(size) for name, size in sizes.items()})
    with server.client(timeout_s=60) as c:
        for turn in range(4):
            before = int(info_of(c, "kvcache")["disk_load_bytes"])
            for name, size in sizes.items():
                same(c.cmd("GET", name), body(size))
            read = int(info_of(c, "kvcache")["disk_load_bytes"]) - before
            want = sizes if turn == 0 else ("fits", "large") if turn == 1 else ("large",)
            assert read == sum(sizes[name] for name in want), turn


def test_ranges_at_every_border(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="256mb", **STORE)
    size = 21 * MIB + 17
    value = body(size)
    cold(server, {"k": value})
    edges = [0, 1, CHUNK, GROUP, 5 * GROUP, 20 * MIB, 21 * MIB]
    spans = [1, CHUNK, GROUP, WHOLE, WHOLE + 1, 12 * MIB]
    with server.client(timeout_s=60) as c:
        for edge in edges:
            for at in {max(0, edge - 1), edge, edge + 1}:
                for span in spans:
                    got = c.cmd("GETRANGE", "k", at, at + span - 1)
                    same(got, value[at : at + span])
                parts = [(at, s) for s in spans if at + s <= size] + [(at, 0), (size, 1)]
                reply = c.cmd("KVRANGE", "k", *[n for part in parts for n in part])
                assert isinstance(reply, list) and reply[-1] == NIL
                for (start, span), got in zip(parts[:-1], reply[:-1], strict=True):
                    same(got, value[start : start + span])


def test_ranges_read_only_their_chunks(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="256mb", **STORE)
    size = 32 * MIB
    value = body(size)
    cold(server, {"k": value})
    with server.client(timeout_s=60) as c:

        def read_bytes(*command: object) -> int:
            before = int(info_of(c, "kvcache")["disk_load_bytes"])
            c.cmd(*command)
            return int(info_of(c, "kvcache")["disk_load_bytes"]) - before

        assert read_bytes("GETRANGE", "k", 0, 0) == CHUNK
        assert read_bytes("GETRANGE", "k", CHUNK - 1, CHUNK) == 2 * CHUNK
        assert read_bytes("GETRANGE", "k", 3 * MIB, 3 * MIB + 20 * MIB - 1) == 20 * MIB
        assert read_bytes("GETRANGE", "k", 3 * MIB + 1, 3 * MIB + 20 * MIB) == 20 * MIB + CHUNK
        assert read_bytes("GETRANGE", "k", -1, -1) == CHUNK
        assert read_bytes("KVRANGE", "k", 0, 10, 16 * MIB, CHUNK + 1) == 3 * CHUNK
        assert read_bytes("STRLEN", "k") == 0
        assert read_bytes("GET", "k") == size


# ---------------------------------------------------------------- order


def test_replies_behind_a_stream_keep_their_order(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="64mb", **STORE)
    big, other, mid = body(24 * MIB), body(17 * MIB), body(3 * MIB)
    cold(server, {"big": big, "other": other, "mid": mid, "small": b"tiny"})
    with server.client(timeout_s=60) as c:
        c.send(
            b"".join(
                encode(command)
                for command in (
                    ("GET", "big"),
                    ("PING",),
                    ("GET", "small"),
                    ("SET", "small", "changed"),
                    ("MGET", "small", "other", "nope", "mid", "big"),
                    ("GETRANGE", "big", 1, 10 * MIB),
                    ("APPEND", "mid", "x"),
                    ("KVRANGE", "other", 0, 9 * MIB, 5, 5),
                    ("GET", "mid"),
                    ("NOSUCH",),
                    ("GET", "other"),
                    ("ECHO", "end"),
                )
            )
        )
        same(c.read(), big)
        assert c.read() == b"PONG"
        assert c.read() == b"tiny"
        assert c.read() == b"OK"
        got = c.read()
        assert isinstance(got, list) and got[0] == b"changed" and got[2] == NIL
        same(got[1], other)
        same(got[3], mid)
        same(got[4], big)
        same(c.read(), big[1 : 10 * MIB + 1])
        assert c.read() == len(mid) + 1
        got = c.read()
        assert isinstance(got, list) and got[1] == other[5:10]
        same(got[0], other[: 9 * MIB])
        same(c.read(), mid + b"x")
        assert is_error(c.read(), b"ERR unknown command")
        same(c.read(), other)
        assert c.read() == b"end"


def test_a_transaction_reads_at_its_place(new_server: NewServer) -> None:
    """Cold values of every size, changed and deleted behind the read in the same EXEC."""
    server = new_server(max_memory_bytes="256mb", **STORE)
    values = {name: body(size) for name, size in (("a", 20 * MIB), ("b", 3 * MIB), ("c", 20_000))}
    cold(server, values)
    with server.client(timeout_s=60) as c:
        for command in (
            ("MULTI",),
            ("GET", "a"),
            ("MGET", "c", "a", "nope", "b"),
            ("SET", "b", "new b"),
            ("KVGET", "a", "META"),
            ("SET", "a", "new a"),
            ("MGET", "a", "b", "c"),
            ("GETDEL", "c"),
            ("GETRANGE", "c", 0, 5),
        ):
            c.send_cmd(*command)
            assert c.read() in (b"OK", b"QUEUED")
        got = c.cmd("EXEC")
        assert isinstance(got, list) and len(got) == 8
        same(got[0], values["a"])
        for i, name in ((0, "c"), (1, "a"), (3, "b")):
            same(got[1][i], values[name])
        assert got[1][2] == NIL
        assert got[2] == b"OK" and got[4] == b"OK"
        assert got[3][0] == b"model" and got[3][-2] == b"value"
        same(got[3][-1], values["a"])
        assert got[5][:2] == [b"new a", b"new b"]
        same(got[5][2], values["c"])
        same(got[6], values["c"])
        assert got[7] == b""
        assert c.cmd("MGET", "a", "b", "c") == [b"new a", b"new b", NIL]


def test_a_transaction_with_more_than_the_budget(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="64mb", **STORE)
    values = {f"k{i}": body(4 * MIB, i) for i in range(40)} | {"big": body(20 * MIB)}
    cold(server, values)
    with server.client(timeout_s=60) as c:
        c.ok("MULTI")
        for key in values:
            assert c.cmd("GET", key) == b"QUEUED"
        got = c.cmd("EXEC")
        assert isinstance(got, list)
        for reply, value in zip(got, values.values(), strict=True):
            same(reply, value)


def test_a_write_that_answers_the_old_value(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="256mb", **STORE)
    old = {name: body(size) for name, size in (("a", 20 * MIB), ("b", 21 * MIB), ("c", 22 * MIB))}
    cold(server, old)
    with server.client(timeout_s=60) as c:
        c.send(
            encode(["GETDEL", "a"])
            + encode(["SET", "b", "new", "GET"])
            + encode(["GETSET", "c", "new"])
            + encode(["MGET", "a", "b", "c"])
        )
        for value in old.values():
            same(c.read(), value)
        assert c.read() == [NIL, b"new", b"new"]


def test_without_a_log_no_reply_comes_before_its_checkpoint(
    new_server: NewServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`raft no`: output of an earlier reply that is still leaving must not take it along."""
    checkpoint_s = 2.0
    built = os.environ.get("SLDMKV_BUILD", str(REPO / "build"))
    failing = os.environ.get("SLDMKV_SERVER_FAIL", f"{built}/debug/sldmkv-server")
    monkeypatch.setenv("SLDMKV_SERVER", failing)
    server = new_server(start=False, raft="no", **STORE)
    server.env = {"SLDMKV_FAILPOINTS": f"ckpt.commit=delay:{int(checkpoint_s * 1000)}@1+"}
    server.start()
    value = body(14 * MIB)
    with server.client() as c:
        c.ok("SET", "k", value)
    with narrow(server) as c, server.client() as judge:

        def unsent() -> int:
            found = re.search(rb"omem=(\d+) [^\n]*cmd=get ", judge.cmd("CLIENT", "LIST"))
            return int(found.group(1)) if found is not None else 0

        c.send_cmd("GET", "k")
        assert c._line() == b"$%d" % len(value)
        got = bytearray()
        while unsent() > MIB * 3 // 4:
            got += c.read_exact(64 * KIB)
        assert unsent() > 0
        start = time.monotonic()
        c.send(encode(["INCR", "n"]) + encode(["GETDEL", "k"]))
        wait_until(lambda: judge.cmd("GET", "n") == b"1", 10, "the write is applied")
        same(bytes(got) + rest(c, len(value) - len(got)), value)
        early = c.pending(0.2)
        assert early == b"" or time.monotonic() - start > checkpoint_s
        assert c.read() == 1
        assert time.monotonic() - start > checkpoint_s
        same(c.read(), value)


@pytest.mark.parametrize("how", ["OFF", "SKIP"])
def test_a_reply_nobody_wants_is_not_read(new_server: NewServer, how: str) -> None:
    server = new_server(max_memory_bytes="64mb", **STORE)
    cold(server, {f"k{i}": body(20 * MIB, i) for i in range(4)})
    keys = [f"k{i}" for i in range(4)]
    with server.client() as c:
        c.send_cmd("CLIENT", "REPLY", how)
        c.send_cmd("MGET", *keys)
        if how == "OFF":
            c.send_cmd("GET", "k0")
            c.send_cmd("CLIENT", "REPLY", "ON")
            assert c.read() == b"OK"
        assert c.cmd("ECHO", "next") == b"next"
        assert int(info_of(c, "kvcache")["disk_load_bytes"]) == 0


# ---------------------------------------------------------------- memory

SLOP = 24 * MIB  # tables, connections, the allocator


def ask(server: Server, key: str, count: int, stack: ExitStack) -> list[Client]:
    readers = [stack.enter_context(narrow(server)) for _ in range(count)]
    for c in readers:
        c.send_cmd("GET", key)
    return readers


def test_slow_readers_of_one_value_hold_a_few_groups_each(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="384mb", **STORE)
    size = 64 * MIB
    cold(server, {"k": body(size)})
    with ExitStack() as stack:
        before = server.own_bytes()
        readers = ask(server, "k", 16, stack)
        for c in readers:
            assert c._line() == b"$%d" % size
            c.read_exact(5 * MIB)
        wait_until(lambda: number(server, "streams") == 16, 30, "all of them under way")
        held = server.own_bytes() - before
        assert held < 16 * (GROUPS + 1) * GROUP + SLOP, held
        serves(server)
        for c in readers[:2]:
            same(body(size)[: 5 * MIB] + rest(c, size - 5 * MIB), body(size))
    wait_until(lambda: number(server, "streams") == 0, 30, "the others were closed")
    serves(server)


def test_many_large_values_stay_in_the_budget(new_server: NewServer) -> None:
    """64 connections ask for 64 MiB each with a budget of 192 MiB; some read, some do not."""
    budget = 192 * MIB
    server = new_server(max_memory_bytes=str(budget), **STORE)
    size = 64 * MIB
    values = {f"k{i}": body(size, i) for i in range(4)}
    cold(server, values)
    serves(server)
    with ExitStack() as stack:
        before = server.own_bytes()
        readers = []
        for i in range(64):
            readers += ask(server, f"k{i % 4}", 1, stack)
        peak = 0
        for i, c in enumerate(readers[:4]):
            assert c._line() == b"$%d" % size
            same(rest(c, size), values[f"k{i % 4}"])
            peak = max(peak, server.own_bytes())
        assert peak - before < budget * 105 // 100, peak - before
        serves(server)


def test_others_are_served_while_16_clients_pull(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="256mb", **STORE)
    size = 64 * MIB
    small = body(20_000)
    cold(server, {f"k{i}": body(size, i) for i in range(4)} | {"small": small})
    stop = threading.Event()
    pulled = []

    def pull(n: int) -> None:
        sink = bytearray(4 * MIB)
        with server.client(timeout_s=60) as c:
            while not stop.is_set():
                c.send_cmd("GET", f"k{n % 4}")
                left = size + len(b"$%d\r\n\r\n" % size)
                while left > 0:
                    got = c.sock.recv_into(sink, min(left, len(sink)))
                    assert got > 0
                    left -= got
                pulled.append(n)

    threads = [threading.Thread(target=pull, args=(n,)) for n in range(16)]
    for t in threads:
        t.start()
    times: list[float] = []
    try:
        with server.client() as c:
            wait_until(lambda: len(pulled) >= 4, 60, "values flow")
            for _ in range(50):
                for command, want in ((("PING",), b"PONG"), (("GET", "small"), small)):
                    start = time.monotonic()
                    assert c.cmd(*command) == want
                    times.append(time.monotonic() - start)
    finally:
        stop.set()
        for t in threads:
            t.join()
    times.sort()
    print("median", times[len(times) // 2], "p90", times[len(times) * 9 // 10], "max", times[-1])
    # Other processes share the machine: what the server decides shows in all but the worst.
    assert times[len(times) * 9 // 10] < 0.1


@contextmanager
def budget_held(server: Server, bytes_each: int, count: int) -> Iterator[None]:
    """Uploads that were announced and do not come: their room is taken."""
    with ExitStack() as stack:
        for n in range(count):
            c = stack.enter_context(server.client())
            c.send(b"*3\r\n$3\r\nSET\r\n$2\r\nx%d\r\n$%d\r\n" % (n % 10, bytes_each) + b"y" * 100)
        want = count * bytes_each
        wait_until(lambda: number(server, "payload_used_bytes") >= want, 30, "room is taken")
        yield


@pytest.mark.parametrize("size", [300_000, 4 * MIB, 24 * MIB])
def test_a_value_is_served_when_the_budget_is_full(new_server: NewServer, size: int) -> None:
    server = new_server(max_memory_bytes="64mb", progress_timeout="0", **STORE)
    value = body(size)
    cold(server, {"k": value})
    with budget_held(server, 28 * MIB, 2), server.client(timeout_s=60) as c:
        for _ in range(2):
            same(c.cmd("GET", "k"), value)
        got = c.cmd("MGET", "k", "k")
        assert isinstance(got, list)
        same(got[1], value)
    serves(server)


def test_replies_that_wait_do_not_starve_the_one_whose_turn_it_is(new_server: NewServer) -> None:
    """Many pipelines, each with a reply in parts ahead of whole values: more than the budget."""
    server = new_server(max_memory_bytes="64mb", **STORE)
    values = {f"k{i}": body(3 * MIB, i) for i in range(24)}
    cold(server, values)
    keys = list(values)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(timeout_s=90)) for _ in range(12)]
        for c in clients:
            c.send(encode(["MGET", *keys[:6]]) + b"".join(encode(["GET", k]) for k in keys[6:]))
        failures = []

        def check(c: Client) -> None:
            try:
                got = c.read()
                assert isinstance(got, list)
                for key, data in zip(keys, got + [c.read() for _ in keys[6:]], strict=True):
                    same(data, values[key])
            except Exception as e:  # noqa: BLE001 - shown below, from the main thread
                failures.append(e)

        threads = [threading.Thread(target=check, args=(c,)) for c in clients]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failures, failures[:1]


def test_an_array_whose_turn_comes_late_leaves_part_by_part(new_server: NewServer) -> None:
    server = new_server(max_memory_bytes="64mb", **STORE)
    values = {f"k{i}": body(4 * MIB, i) for i in range(30)}
    cold(server, values)
    with server.client(timeout_s=60) as c:
        c.send(encode(["GET", "k0"]) + encode(["MGET", *values]))
        same(c.read(), values["k0"])
        got = c.read()
        assert isinstance(got, list)
        for reply, value in zip(got, values.values(), strict=True):
            same(reply, value)


def test_values_are_rebuilt_two_at_a_time(new_server: NewServer) -> None:
    """APPEND needs room for the old value and the new one; two of them need all there is."""
    server = new_server(max_memory_bytes="64mb", **STORE)
    values = {"a": body(20 * MIB), "b": body(20 * MIB, 1)}
    cold(server, values)
    with server.client(timeout_s=60) as a, server.client(timeout_s=60) as b:
        a.send_cmd("APPEND", "a", "x")
        b.send_cmd("APPEND", "b", "y")
        assert a.read() == b.read() == 20 * MIB + 1
        same(a.cmd("GET", "b"), values["b"] + b"y")
        a.ok("MULTI")
        assert a.cmd("APPEND", "a", "x") == b"QUEUED"
        assert a.cmd("APPEND", "b", "x") == b"QUEUED"
        assert a.cmd("EXEC") == [20 * MIB + 2, 20 * MIB + 2]
        same(a.cmd("GET", "a"), values["a"] + b"xx")
    serves(server)
