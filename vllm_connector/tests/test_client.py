# SPDX-License-Identifier: MIT
"""KVCacheClient against the real server, and what it makes of one that misbehaves."""

from __future__ import annotations

import math
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError, ResponseError

from demo_prefix import Server
from misbehaving import CLOSE, Misbehaving
from sldmkvcachestore.client import PAGE_KEYS, BlockInfo, KVCacheClient

np = pytest.importorskip("numpy")


def test_store_retrieve_delete(client: KVCacheClient) -> None:
    assert client.store("key", b"value")
    assert client.retrieve("key") == b"value"
    assert client.store(b"key", b"other")
    assert client.retrieve(b"key") == b"other"
    assert not client.store("key", b"third", nx=True)
    assert client.retrieve("key") == b"other"
    assert client.delete("key", "none") == 1
    assert client.retrieve("key") is None
    assert client.delete("key") == 0
    assert client.delete() == 0


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, (2 << 20) + 3, 32 << 20])
def test_sizes(client: KVCacheClient, size: int) -> None:
    value = np.arange(size, dtype=np.uint8)
    assert client.store("big", value)
    assert client.retrieve("big") == value.tobytes()
    out = bytearray(size)
    assert client.retrieve("big", out=out)
    assert out == value.tobytes()


def test_binary_keys(client: KVCacheClient) -> None:
    keys = [b"\0", b"\xff" * 480, b"a\r\nb", "schlüssel".encode()]
    for key in keys:
        assert client.store(key, key)
    assert [client.retrieve(key) for key in keys] == keys
    assert sorted(client.list()) == sorted(keys)
    with pytest.raises(ResponseError):
        client.store(b"x" * 481, b"")
    assert client.match(keys) == len(keys)


def test_numpy(client: KVCacheClient) -> None:
    value = np.linspace(0, 1, 60, dtype=np.float16).reshape(3, 4, 5)
    assert client.store("array", value[:, 1:3])
    got = client.retrieve("array", dtype=np.float16, shape=(3, 2, 5))
    assert got.dtype == np.float16
    assert np.array_equal(got, value[:, 1:3])
    assert client.retrieve("array", dtype="float16").shape == (30,)
    out = np.zeros((3, 4, 5), np.float16)
    assert client.retrieve("array", out=out[:, 2:])
    assert np.array_equal(out[:, 2:], value[:, 1:3])
    assert not out[:, :2].any()


def test_torch(client: KVCacheClient) -> None:
    torch = pytest.importorskip("torch")
    value = torch.randn(2, 16, 8, 64).to(torch.bfloat16)
    assert client.store("tensor", value)
    got = client.retrieve("tensor", dtype=torch.bfloat16, shape=(2, 16, 8, 64))
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, value)
    cache = torch.zeros(2, 64, 8, 64, dtype=torch.bfloat16)
    assert client.retrieve("tensor", out=cache[:, 16:32])
    assert torch.equal(cache[:, 16:32], value)
    assert not cache[:, :16].any()
    assert not cache[:, 32:].any()


def test_misses(client: KVCacheClient) -> None:
    out = bytearray(4)
    assert client.retrieve("none") is None
    assert client.retrieve("none", out=out) is False
    assert client.retrieve("none", dtype=np.uint8) is None
    assert client.info("none") is None
    assert client.ttl("none") is None
    assert client.store("five", b"12345")
    assert client.retrieve("five", out=out) is False
    assert client.retrieve("five", dtype=np.uint16) is None
    assert client.retrieve("five", dtype=np.uint8, shape=(2, 2)) is None
    assert out == bytes(4)
    assert client.retrieve("five") == b"12345"


def test_batches(client: KVCacheClient) -> None:
    keys = [f"block/{number:03}" for number in range(40)]
    values = [np.full(20_000 + 1000 * number, number, np.uint8) for number in range(40)]
    assert client.store_batch(keys[::2], values[::2]) == [True] * 20
    assert client.store_batch(keys, values, nx=True) == [False, True] * 20
    assert client.delete(keys[7]) == 1
    outs = [np.zeros_like(value) for value in values]
    outs[11] = np.zeros(3, np.uint8)
    expected = [number not in (7, 11) for number in range(40)]
    assert client.retrieve_batch(keys, outs) == expected
    for number, good in enumerate(expected):
        assert np.array_equal(outs[number], values[number] if good else outs[number] * 0)
    assert client.store_batch([], []) == []
    assert client.retrieve_batch([], []) == []
    assert client.match(keys) == 7


def test_a_bad_batch_touches_nothing(client: KVCacheClient) -> None:
    with pytest.raises(ValueError, match="2 keys and 1 values"):
        client.store_batch(["a", "b"], [b""])
    with pytest.raises(ValueError, match="1 keys and 0 values"):
        client.retrieve_batch(["a"], [])
    with pytest.raises(TypeError):
        client.store_batch(["a", "b"], [b"1", "text"])
    with pytest.raises(ValueError, match="read-only"):
        client.retrieve("a", out=b"constant")
    with pytest.raises(ValueError, match="brings its own"):
        client.retrieve("a", out=bytearray(1), dtype=np.uint8)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="needs a dtype"):
        client.retrieve("a", shape=(1,))  # type: ignore[call-overload]
    assert list(client.list()) == []


def test_error_in_a_batch_is_raised_after_it(client: KVCacheClient) -> None:
    with pytest.raises(ResponseError):
        client.store_batch(["a", b"x" * 1000, "c"], [b"1", b"2", b"3"])
    assert client.retrieve("a") == b"1"
    assert client.retrieve("c") == b"3"


def test_metadata(client: KVCacheClient) -> None:
    before = int(time.time() * 1000)
    assert client.store("k", b"x" * 100_000, model="llama/β", seq="s-1", tokens=16, ttl=100)
    info = client.info("k")
    assert info is not None
    assert (info.model, info.seq, info.tokens, info.length) == ("llama/β", "s-1", 16, 100_000)
    assert before - 1000 <= info.created_ms <= time.time() * 1000 + 1000
    assert info.ttl_ms is not None
    assert 90_000 < info.ttl_ms <= 100_000
    assert len(info.digest) == 16
    assert int(info.digest, 16) >= 0
    assert info.storage
    assert client.store("k", b"small")
    info = client.info("k")
    assert info is not None
    assert (info.model, info.seq, info.tokens, info.ttl_ms) == ("", "", 0, None)


def test_ttl(client: KVCacheClient) -> None:
    assert client.store("k", b"v", ttl=timedelta(minutes=1))
    left = client.ttl("k")
    assert left is not None
    assert 50 < left <= 60
    assert client.store("k", b"v")
    assert client.ttl("k") == math.inf
    assert client.store("k", b"v", ttl=0.001)
    deadline = time.monotonic() + 10
    while client.retrieve("k") is not None:
        assert time.monotonic() < deadline
    for wrong in (0, -1):
        with pytest.raises(ResponseError):
            client.store("k", b"v", ttl=wrong)


def test_list_pages(client: KVCacheClient) -> None:
    count = 2 * PAGE_KEYS + 1
    keys = [b"p/%05d" % number for number in range(count)]
    assert all(client.store_batch([*keys, "other"], [b""] * (count + 1)))
    assert list(client.list("p/")) == keys
    assert list(client.list()) == [b"other", *keys]
    assert list(client.list("p/", limit=3)) == keys[:3]
    assert list(client.list("p/", limit=PAGE_KEYS + 5)) == keys[: PAGE_KEYS + 5]
    assert list(client.list("p/", after=keys[-3])) == keys[-2:]
    assert list(client.list("p/", limit=2, after=b"p/00000zzz")) == keys[1:3]
    assert list(client.list("none")) == list(client.list("p/", limit=0)) == []
    listing = client.list("p/")
    assert next(listing) == keys[0]
    assert client.delete(*keys[1:]) == count - 1
    assert list(listing) == keys[1:PAGE_KEYS]


def test_match(client: KVCacheClient) -> None:
    keys = [b"m/%04d" % number for number in range(1500)]
    assert client.match(keys) == client.match([]) == 0
    assert all(client.store_batch(keys[:1200], [b"x"] * 1200))
    assert client.match(keys) == 1200
    assert client.match(iter(keys), lease_ms=1000) == 1200
    assert client.delete(keys[600]) == 1
    assert client.match(keys) == 600
    assert client.match(keys[601:]) == 599


def test_threads_share_a_client(kv_server: Server) -> None:
    wrong: list[int] = []
    with KVCacheClient(kv_server.url, timeout_s=30, connections=3) as shared:

        def work(number: int) -> None:
            value = np.full(70_000 + number, number, np.uint8)
            out = np.zeros_like(value)
            for turn in range(10):
                key = f"thread/{number}/{turn}"
                stored = shared.store(key, value)
                if not (stored and shared.retrieve(key, out=out) and np.array_equal(out, value)):
                    wrong.append(number)
                out[:] = 0

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_urls(kv_server: Server) -> None:
    sock = kv_server.log.parent / "sock"
    for url in (
        kv_server.url,
        f"redis://{kv_server.url}",
        f"redis://{kv_server.url}/0",
        f"unix://{sock}",
    ):
        with KVCacheClient(url) as made:
            assert made.reachable()
    with KVCacheClient("localhost", port=kv_server.port) as made:
        assert made.reachable()


def test_survives_a_restart_of_the_server(kv_server: Server) -> None:
    with KVCacheClient(kv_server.url, timeout_s=20) as made:
        small, large = b"s" * 100, np.arange(1_000_000, dtype=np.uint8)
        assert made.store_batch(["small", "large"], [small, large], seq="kept") == [True, True]
        kv_server.kill()
        assert not made.reachable()
        with pytest.raises(ConnectionError):
            made.retrieve("small")
        kv_server.start()
        assert made.retrieve("small") == small
        assert made.retrieve("large") == large.tobytes()
        info = made.info("large")
        assert info is not None
        assert info.seq == "kept"


# ---- a server that misbehaves


def test_not_reachable(misbehaving: Misbehaving) -> None:
    with KVCacheClient(misbehaving.url) as made:
        misbehaving.answers = [b"-LOADING not yet\r\n", [CLOSE], b"+PONG\r\n"]
        assert [made.reachable() for _ in range(3)] == [False, False, True]
    assert not KVCacheClient("localhost:1").reachable()


def test_default_port() -> None:
    for url in ("localhost", "redis://localhost"):
        made = KVCacheClient(url)
        assert made._pool.connection_kwargs["port"] == 50051
    made = KVCacheClient("redis://localhost:7")
    assert made._pool.connection_kwargs["port"] == 7


def test_commands_on_the_wire(misbehaving: Misbehaving) -> None:
    with KVCacheClient(misbehaving.url) as made:
        misbehaving.answers = [b"+OK\r\n", b":3\r\n", b"*1\r\n$1\r\nz\r\n", b":2\r\n"]
        assert made.store("k", [b"a", b"b"], model="m", seq="s", tokens=2, ttl=1.5, nx=True)
        assert made.match(["a", "b", "c"], lease_ms=5) == 3
        assert list(made.list("p", limit=7, after="o")) == [b"z"]
        assert made.delete("a", "b") == 2
    sent = [b" ".join(command) for command in misbehaving.commands]
    assert sent == [
        b"KVSTORE k ab MODEL m SEQ s TOKENS 2 PX 1500 NX",
        b"KVMATCH a b c LEASE 5",
        b"KVKEYS p LIMIT 7 AFTER o",
        b"KVDEL a b",
    ]


def test_unknown_info_fields_are_left_alone(misbehaving: Misbehaving) -> None:
    fields: list[Any] = [b"new", b"", b"model", b"m", b"seq", b"", b"tokens", 1, b"created", 2]
    fields += [b"ttl", -1, b"length", 3, b"digest", b"0" * 16, b"storage", b"inline"]
    parts = [
        b":%d\r\n" % f if isinstance(f, int) else b"$%d\r\n%b\r\n" % (len(f), f) for f in fields
    ]
    misbehaving.answers = [b"*%d\r\n" % len(fields) + b"".join(parts)]
    with KVCacheClient(misbehaving.url) as made:
        assert made.info("k") == BlockInfo("m", "", 1, 2, None, 3, "0" * 16, "inline")
