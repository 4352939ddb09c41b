# SPDX-License-Identifier: MIT
"""Values byte for byte at the sizes where the way through the server changes; pipelines."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from harness import NIL, Client, Server, Simple

KIB = 1 << 10
MIB = 1 << 20
# Around inline-max and the direct-receive limit (16 KiB), a page, a slab chunk, a large KV block.
SIZES = [
    0,
    1,
    4095,
    4096,
    16383,
    16384,
    16385,
    100_000,
    256 * KIB,
    256 * KIB + 1,
    2 * MIB - 1,
    2 * MIB,
    2 * MIB + 1,
    32 * MIB,
]


def body(size: int, seed: int = 0) -> bytes:
    """size bytes that repeat nowhere: a page or chunk in the wrong place is seen."""
    return random.Random(size * 1000 + seed).randbytes(size)


def same(got: object, want: bytes) -> None:
    """Compares without printing megabytes."""
    assert isinstance(got, bytes), got
    assert len(got) == len(want)
    assert hashlib.sha256(got).digest() == hashlib.sha256(want).digest()


@pytest.fixture
def c(server: Server):
    with server.client(timeout_s=60) as client:
        yield client


@pytest.mark.parametrize("size", SIZES)
def test_set_get_overwrite_delete(c: Client, size: int) -> None:
    first, second = body(size), body(size, 1)
    c.ok("SET", "k", first)
    same(c.cmd("GET", "k"), first)
    assert c.cmd("STRLEN", "k") == size
    c.ok("SET", "k", second)
    same(c.cmd("GET", "k"), second)
    same(c.cmd("GETSET", "k", first), second)
    same(c.cmd("SET", "k", second, "GET"), first)
    same(c.cmd("GETEX", "k", "EX", "100"), second)
    same(c.cmd("GETDEL", "k"), second)
    assert c.cmd("GET", "k") is NIL
    assert c.cmd("EXISTS", "k") == 0


@pytest.mark.parametrize("size", SIZES)
def test_getrange_at_the_edges(c: Client, size: int) -> None:
    data = body(size)
    c.ok("SET", "k", data)
    edges = {0, 1, 4095, 4096, 65535, 65536, 262143, 262144, 262145, size // 2, size - 1, size}
    points = sorted(e for e in edges if 0 <= e <= size)
    for start in points:
        far = (size - 1, size + 5) if size < 4 * MIB or start in (1, size // 2) else ()
        for end in (start, start + 10, *far):
            same(c.cmd("GETRANGE", "k", start, end), data[start : end + 1])
    same(c.cmd("GETRANGE", "k", -7, -1), data[-7:] if size >= 7 else data)


@pytest.mark.parametrize("size", [s for s in SIZES if s <= 2 * MIB + 1])
def test_append_setrange_copy_rename(c: Client, size: int) -> None:
    data = body(size)
    c.ok("SET", "k", data)
    assert c.cmd("APPEND", "k", b"tail\x00") == size + 5
    want = data + b"tail\x00"
    same(c.cmd("GET", "k"), want)
    assert c.cmd("SETRANGE", "k", size + 3, b"XYZ") == size + 6
    want = want[: size + 3] + b"XYZ"
    same(c.cmd("GET", "k"), want)
    assert c.cmd("COPY", "k", "copy") == 1
    c.ok("RENAME", "k", "moved")
    assert c.cmd("APPEND", "moved", b"!") == len(want) + 1
    same(c.cmd("GET", "copy"), want)
    same(c.cmd("GET", "moved"), want + b"!")
    assert c.cmd("GET", "k") is NIL


def test_append_grows_from_inline_to_large(c: Client) -> None:
    want = b""
    for step in range(40):
        piece = body(1009, step)
        want += piece
        assert c.cmd("APPEND", "k", piece) == len(want)
    same(c.cmd("GET", "k"), want)


def test_mset_mget_of_all_sizes(c: Client) -> None:
    values = {f"k{n}": body(n) for n in SIZES}
    c.ok("MSET", *[x for pair in values.items() for x in pair])
    got = c.cmd("MGET", *values, "absent")
    assert isinstance(got, list) and len(got) == len(values) + 1
    for reply, want in zip(got, values.values(), strict=False):
        same(reply, want)
    assert got[-1] is NIL


def test_msetnx_of_large_values_is_all_or_nothing(c: Client) -> None:
    big = body(100_000)
    assert c.cmd("MSETNX", "a", big, "b", b"small") == 1
    assert c.cmd("MSETNX", "c", big, "b", b"x") == 0
    assert c.cmd("EXISTS", "a", "b", "c") == 2
    same(c.cmd("GET", "a"), big)


def test_multi_with_large_values(c: Client) -> None:
    values = [body(n, 7) for n in (10, 16385, 2 * MIB, 100_000)]
    c.ok("SET", "k0", values[2])
    c.ok("MULTI")
    for n, value in enumerate(values):
        c.send_cmd("SET", f"k{n}", value)
        c.send_cmd("GET", f"k{n}")
        c.send_cmd("APPEND", f"k{n}", b"+")
        c.send_cmd("STRLEN", f"k{n}")
    for _ in range(4 * len(values)):
        assert c.read() == b"QUEUED"
    got = c.cmd("EXEC")
    assert isinstance(got, list) and len(got) == 4 * len(values)
    for n, value in enumerate(values):
        assert got[4 * n] == b"OK"
        same(got[4 * n + 1], value)
        assert got[4 * n + 2] == got[4 * n + 3] == len(value) + 1
        same(c.cmd("GET", f"k{n}"), value + b"+")


def test_multi_of_one_large_value_many_times(c: Client) -> None:
    """Every step changes what the one before it made."""
    want = body(300_000)
    c.ok("MULTI")
    assert c.cmd("SET", "k0", want) == b"QUEUED"
    for n in range(30):
        piece = body(100, n)
        want += piece
        assert c.cmd("APPEND", f"k{n}", piece) == b"QUEUED"
        assert c.cmd("RENAME", f"k{n}", f"k{n + 1}") == b"QUEUED"
    got = c.cmd("EXEC")
    assert got == [b"OK"] + [x for n in range(30) for x in (300_100 + 100 * n, b"OK")]
    same(c.cmd("GET", "k30"), want)
    assert c.cmd("DBSIZE") == 1


@pytest.mark.ours
def test_multi_that_needs_more_memory_than_there_is(new_server: Callable[..., Server]) -> None:
    """Two values of 25 MiB and the change of one do not fit: refused, and nothing is kept."""
    server = new_server(max_memory_bytes="64mb")
    big = body(25 * MIB)
    with server.client(timeout_s=30) as c:
        c.ok("MULTI")
        for command in (("SET", "a", big), ("APPEND", "a", "x"), ("RENAME", "a", "b")):
            assert c.cmd(*command) == b"QUEUED"
        assert c.cmd("EXEC") == [b"OK", len(big) + 1, b"OK"]
        c.ok("MULTI")
        for command in (("SET", "a", big), ("SET", "c", big), ("APPEND", "a", "x")):
            assert c.cmd(*command) == b"QUEUED"
        assert c.cmd("EXEC") == b"ERR out of memory"
        assert c.cmd("EXISTS", "a", "b", "c") == 1
        assert c.cmd("APPEND", "b", "y") == len(big) + 2
        same(c.cmd("GET", "b"), big + b"xy")


def test_many_clients_append_to_one_large_value(server: Server, c: Client) -> None:
    """Each gets through, none is lost, whatever the order."""
    start = body(20_000)
    c.ok("SET", "k", start)
    clients = [server.client(timeout_s=60) for _ in range(40)]
    try:
        for turn in range(4):
            for n, client in enumerate(clients):
                if turn % 2:
                    client.send_cmd("MULTI")
                client.send_cmd("APPEND", "k", b"%2d%d." % (n, turn))
                if turn % 2:
                    client.send_cmd("EXEC")
        for turn in range(4):
            for client in clients:
                replies = [client.read() for _ in range(3 if turn % 2 else 1)]
                length = replies[2][0] if turn % 2 else replies[0]  # type: ignore[index]
                assert isinstance(length, int) and (length - len(start)) % 4 == 0, replies
    finally:
        for client in clients:
            client.close()
    got = c.cmd("GET", "k")
    assert isinstance(got, bytes) and got.startswith(start)
    tail = got[len(start) :]
    pieces = [tail[i : i + 4] for i in range(0, len(tail), 4)]
    assert sorted(pieces) == sorted(b"%2d%d." % (n, t) for n in range(40) for t in range(4))
    for n in range(40):
        assert [p[2:3] for p in pieces if p[:2] == b"%2d" % n] == [b"0", b"1", b"2", b"3"]


def test_pipeline_of_a_thousand(c: Client) -> None:
    writes = c.pipeline([("SET", f"k{n}", f"v{n}") for n in range(1000)])
    assert writes == [b"OK"] * 1000 and all(isinstance(w, Simple) for w in writes)
    assert c.pipeline([("GET", f"k{n}") for n in range(1000)]) == [b"v%d" % n for n in range(1000)]
    assert c.pipeline([("INCR", "n")] * 1000) == list(range(1, 1001))
    mixed = c.pipeline(
        [
            x
            for n in range(300)
            for x in (("SET", "m", str(n)), ("GET", "m"), ("INCR", "m"), ("DEL", "m"))
        ]
    )
    want: list[object] = []
    for n in range(300):
        want += [b"OK", str(n).encode(), n + 1, 1]
    assert mixed == want
    assert c.cmd("DBSIZE") == 1001


def test_pipeline_of_mixed_sizes_keeps_the_order(c: Client) -> None:
    rng = random.Random(1)
    sizes = [rng.choice([0, 3, 500, 16384, 16385, 70_000]) for _ in range(200)]
    values = [body(size, n) for n, size in enumerate(sizes)]
    commands: list[tuple[object, ...]] = []
    for n, value in enumerate(values):
        commands += [("SET", f"k{n % 7}", value), ("GET", f"k{n % 7}"), ("STRLEN", f"k{n % 7}")]
    replies = c.pipeline(commands)  # type: ignore[arg-type]
    for n, value in enumerate(values):
        assert replies[3 * n] == b"OK"
        same(replies[3 * n + 1], value)
        assert replies[3 * n + 2] == len(value)


def test_the_reply_of_a_write_is_visible_to_others(server: Server, c: Client) -> None:
    with server.client() as other:
        for n in range(200):
            value = body(20_000 if n % 4 == 0 else 10, n)
            c.ok("SET", "k", value)
            same(other.cmd("GET", "k"), value)


def test_one_key_many_writers_never_a_mixture(server: Server) -> None:
    """Readers see one of the values written, whole."""
    size = 300_000
    values = [body(size, n) for n in range(4)]
    digests = {hashlib.sha256(v).digest() for v in values}
    writers = [server.client() for _ in values]
    reader = server.client()
    try:
        writers[0].ok("SET", "k", values[0])
        for _ in range(10):
            for writer, value in zip(writers, values, strict=True):
                writer.send_cmd("SET", "k", value)
            for _ in range(3):
                got = reader.cmd("GET", "k")
                assert isinstance(got, bytes) and hashlib.sha256(got).digest() in digests
            assert [w.read() for w in writers] == [b"OK"] * len(writers)
    finally:
        for client in (*writers, reader):
            client.close()


def test_delete_while_a_large_get_is_streaming(server: Server, c: Client) -> None:
    """The whole old value, whatever happens to the key meanwhile."""
    data = body(32 * MIB)
    c.ok("SET", "k", data)
    with server.client(timeout_s=60) as reader:
        reader.send_cmd("GET", "k")
        head = reader.read_exact(64 * KIB)
        assert c.cmd("DEL", "k") == 1
        for n in range(8):
            c.ok("SET", f"n{n}", body(MIB, n))
        header = b"$%d\r\n" % len(data)
        assert head.startswith(header)
        rest = reader.read_exact(len(header) + len(data) + 2 - len(head))
        same((head + rest)[len(header) : -2], data)
        assert reader.cmd("GET", "k") is NIL


def test_scan_walks_every_key_once_around(c: Client) -> None:
    names = {b"key:%d" % n for n in range(2500)}
    c.ok("MSET", *[x for name in names for x in (name, b"v")])
    for args in ((), ("COUNT", "100"), ("COUNT", "5000")):
        seen: set[bytes] = set()
        cursor = b"0"
        while True:
            reply = c.cmd("SCAN", cursor, *args)
            assert isinstance(reply, list)
            cursor = reply[0]  # type: ignore[assignment]
            seen.update(reply[1])  # type: ignore[arg-type]
            if cursor == b"0":
                break
        assert seen == names


def test_scan_with_match_and_changes_on_the_way(c: Client) -> None:
    """What is there all the time is found, whatever comes and goes."""
    stay = {b"stay:%d" % n for n in range(500)}
    c.ok("MSET", *[x for name in stay for x in (name, b"v")])
    c.ok("MSET", *[x for n in range(500) for x in (f"go:{n}", "v")])
    seen: set[bytes] = set()
    cursor: object = b"0"
    turn = 0
    while True:
        reply = c.cmd("SCAN", cursor, "MATCH", "stay:*", "COUNT", "50")  # type: ignore[arg-type]
        assert isinstance(reply, list)
        cursor = reply[0]
        seen.update(reply[1])  # type: ignore[arg-type]
        c.cmd("DEL", *[f"go:{n}" for n in range(turn * 20, turn * 20 + 20)])
        c.cmd("SET", f"new:{turn}", "v")
        turn += 1
        if cursor == b"0":
            break
    assert seen == stay


def test_keys_and_dbsize_of_many(c: Client) -> None:
    c.ok("MSET", *[x for n in range(3000) for x in (f"k{n}", "v")])
    assert c.cmd("DBSIZE") == 3000
    keys = c.cmd("KEYS", "k1*")
    assert isinstance(keys, list)
    assert set(keys) == {b"k%d" % n for n in range(3000) if str(n).startswith("1")}
    assert c.cmd("DEL", *[f"k{n}" for n in range(0, 3000, 2)]) == 1500
    assert c.cmd("DBSIZE") == 1500


@pytest.mark.parametrize("size", [(8 << 20) - 100, (8 << 20) + 5, 20 << 20])
def test_append_and_setrange_of_more_than_an_entry_holds(
    new_server: Callable[..., Server], size: int
) -> None:
    server = new_server()
    data = body(size)
    with server.client(timeout_s=60) as c:
        assert c.cmd("APPEND", "a", data) == size
        same(c.cmd("GET", "a"), data)
        assert c.cmd("APPEND", "a", data[:100]) == size + 100
        assert c.cmd("SETRANGE", "s", 3, data) == size + 3
        same(c.cmd("GET", "s"), bytes(3) + data)
        c.ok("MULTI")
        assert c.cmd("APPEND", "m", data) == b"QUEUED"
        assert c.cmd("STRLEN", "m") == b"QUEUED"
        assert c.cmd("EXEC") == [size, size]
