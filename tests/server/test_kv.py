# SPDX-License-Identifier: MIT
"""KVSTORE … KVRANGE beyond what transcripts/kv.txt shows: sizes, digests, many keys."""

from __future__ import annotations

import random

import pytest

from harness import NIL, Client, Server, info_of
from test_values import MIB, SIZES, body, same

pytestmark = pytest.mark.ours


@pytest.fixture
def c(server: Server):
    with server.client(timeout_s=60) as client:
        yield client


def pairs(reply: object) -> dict[bytes, object]:
    assert isinstance(reply, list) and len(reply) % 2 == 0, reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_every_size_with_metadata(c: Client, size: int) -> None:
    data = body(size)
    c.ok("KVSTORE", "k", data, "MODEL", "llama-3", "SEQ", b"s\x00\xff", "TOKENS", "16")
    same(c.cmd("KVGET", "k"), data)
    meta = pairs(c.cmd("KVGET", "k", "META"))
    assert list(meta) == [
        b"model",
        b"seq",
        b"tokens",
        b"created",
        b"ttl",
        b"length",
        b"digest",
        b"value",
    ]
    assert (meta[b"model"], meta[b"seq"], meta[b"tokens"]) == (b"llama-3", b"s\x00\xff", 16)
    assert meta[b"length"] == size
    same(meta[b"value"], data)
    info = pairs(c.cmd("KVINFO", "k"))
    assert info[b"digest"] == meta[b"digest"]
    assert info[b"storage"] == (b"inline" if size <= 16384 else b"slab")
    assert (b"volume" in info) == (size > 16384)


@pytest.mark.parametrize("size", [10, 16385, 2 * MIB + 1])
def test_equal_bytes_have_equal_digests(c: Client, size: int) -> None:
    data = body(size)
    other = bytearray(data)
    other[size // 2] ^= 1
    c.ok("KVSTORE", "a", data)
    c.ok("SET", "b", data)
    c.ok("KVSTORE", "c", bytes(other))
    digests = [pairs(c.cmd("KVINFO", k))[b"digest"] for k in ("a", "b", "c")]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("size", [s for s in SIZES if s])
def test_kvrange_touches_any_part(c: Client, size: int) -> None:
    data = body(size)
    c.ok("KVSTORE", "k", data)
    rng = random.Random(size)
    want: list[bytes | None] = []
    args: list[int] = []
    for _ in range(40):
        off = rng.randrange(0, size + 2)
        length = rng.choice([0, 1, 100, 4096, size - off, size - off + 1, rng.randrange(size + 1)])
        length = min(max(length, 0), 3 * MIB)
        args += [off, length]
        want.append(data[off : off + length] if off + length <= size else None)
    got = c.cmd("KVRANGE", "k", *args)
    assert isinstance(got, list) and len(got) == len(want)
    for reply, expected in zip(got, want, strict=True):
        if expected is None:
            assert reply is NIL
        else:
            same(reply, expected)


def test_kvmatch_of_four_thousand_keys_in_one_round_trip(c: Client) -> None:
    names = [f"prefix:{n:05}" for n in range(4096)]
    for at in range(0, 4096, 512):
        c.ok("MSET", *[x for name in names[at : at + 512] for x in (name, "v")])
    assert c.cmd("KVMATCH", *names) == 4096
    assert c.cmd("KVMATCH", *names[:1024]) == 1024
    for hole in (4095, 3000, 1024, 64, 63, 1, 0):
        assert c.cmd("KVDEL", names[hole]) == 1
        assert c.cmd("KVMATCH", *names) == hole


def test_kvkeys_pages_through_everything_in_order(c: Client) -> None:
    rng = random.Random(3)
    names = sorted({rng.randbytes(rng.randrange(1, 12)) for _ in range(3000)})
    for at in range(0, len(names), 500):
        c.ok("MSET", *[x for name in names[at : at + 500] for x in (name, b"v")])
    assert c.cmd("KVKEYS") == names
    for limit in (1000, 333):
        seen: list[bytes] = []
        after: list[object] = []
        while True:
            page = c.cmd("KVKEYS", "", "LIMIT", limit, *after)  # type: ignore[arg-type]
            assert isinstance(page, list) and len(page) <= limit
            if not page:
                break
            seen += page  # type: ignore[arg-type]
            after = ["AFTER", page[-1]]
        assert seen == names
    prefix = names[1500][:1]
    assert c.cmd("KVKEYS", prefix) == [n for n in names if n.startswith(prefix)]


def test_kvdel_counts_thousands(c: Client) -> None:
    c.ok("MSET", *[x for n in range(2000) for x in (f"k{n}", "v")])
    assert c.cmd("KVDEL", *[f"k{n}" for n in range(0, 4000)]) == 2000
    assert c.cmd("DBSIZE") == 0


def test_nx_race_has_one_winner(server: Server) -> None:
    clients = [server.client() for _ in range(6)]
    try:
        for turn in range(20):
            values = [body(20_000 if turn % 2 else 20, n) for n in range(len(clients))]
            for client, value in zip(clients, values, strict=True):
                client.send_cmd("KVSTORE", f"k{turn}", value, "NX")
            replies = [client.read() for client in clients]
            assert sorted(r is NIL for r in replies) == [False] + [True] * (len(clients) - 1)
            winner = next(n for n, r in enumerate(replies) if r is not NIL)
            same(clients[0].cmd("KVGET", f"k{turn}"), values[winner])
    finally:
        for client in clients:
            client.close()


def test_created_is_now_and_stays_until_the_next_write(c: Client) -> None:
    def created() -> int:
        return pairs(c.cmd("KVINFO", "k"))[b"created"]  # type: ignore[return-value]

    def now() -> int:
        t = c.cmd("TIME")
        return int(t[0]) * 1000 + int(t[1]) // 1000  # type: ignore[index, arg-type]

    before = now()
    c.ok("KVSTORE", "k", "v")
    first = created()
    assert before - 1000 <= first <= now() + 1000
    assert c.cmd("EXPIRE", "k", "100") == 1
    assert created() == first


def test_hits_and_misses_are_counted(c: Client) -> None:
    c.ok("CONFIG", "RESETSTAT")
    c.ok("KVSTORE", "k", "v")
    c.cmd("KVGET", "k")
    c.cmd("KVGET", "absent")
    info = info_of(c, "stats")
    assert int(info["keyspace_hits"]) >= 1 and int(info["keyspace_misses"]) >= 1
