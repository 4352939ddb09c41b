# SPDX-License-Identifier: MIT
"""redis-py as an application uses it, against the server at PORT. Runs under any redis-py ≥ 4.3.

    redis_py_check.py PORT [--protocol 2|3] [--no-hiredis] [--async]

Ends with status 0 and the line "ok <redis-py version> <what was used>".
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from typing import Any


def values() -> list[bytes]:
    rng = random.Random(4)
    sizes = [0, 1, 16383, 16384, 16385, 100_000, 2 << 20, (2 << 20) + 1, 32 << 20]
    return [rng.randbytes(size) for size in sizes]


def check(r: Any, protocol: int) -> None:
    r.flushall()
    assert r.ping() is True
    for n, value in enumerate(values()):
        assert r.set(f"k{n}", value) is True
        assert r.get(f"k{n}") == value
        assert r.strlen(f"k{n}") == len(value)
        assert r.getrange(f"k{n}", -10, -1) == value[-10:]
    large = values()
    assert r.mget([f"k{n}" for n in range(len(large))]) == large
    assert r.get("absent") is None
    assert r.mset({"a": 1, "b": b"\x00\xff"}) is True
    assert r.mget("a", "b", "c") == [b"1", b"\x00\xff", None]
    assert r.incr("a") == 2 and r.incrbyfloat("a", 0.5) == 2.5
    assert r.set("nx", 1, nx=True) is True and r.set("nx", 2, nx=True) is None
    assert r.set("ex", 1, ex=100) and 99 <= r.ttl("ex") <= 100 and r.expiretime("ex") > 0
    assert r.set("nx", 3, get=True) == b"1"
    assert r.getdel("nx") == b"3" and r.getex("ex", persist=True) == b"1" and r.ttl("ex") == -1
    assert r.exists("a", "b", "zz") == 2 and r.delete("a", "b") == 2 and r.unlink("ex") == 1
    assert (
        r.type("k1") == b"string"
        and r.rename("k1", "k1") is True
        and r.copy("k0", "c") in (True, 1)
    )
    assert sorted(r.scan_iter("k*")) == sorted(f"k{n}".encode() for n in range(len(large)))
    assert r.dbsize() == len(r.keys("*"))
    check_pipelines(r, large)
    check_admin(r, protocol)


def check_pipelines(r: Any, large: list[bytes]) -> None:
    with r.pipeline() as p:  # MULTI/EXEC
        for n, value in enumerate(large):
            p.set(f"t{n}", value)
        p.get("t3").mget("t0", "absent").incr("n").get("absent")
        got = p.execute()
    assert got == [True] * len(large) + [large[3], [large[0], None], 1, None]
    with r.pipeline(transaction=False) as p:
        for n in range(1000):
            p.set(f"p{n}", n)
            p.get(f"p{n}")
        got = p.execute()
    assert got == [x for n in range(1000) for x in (True, str(n).encode())]
    with r.pipeline() as p:
        p.watch("w")
        r.set("w", "changed")
        p.multi()
        p.set("w", "mine")
        try:
            p.execute()
            raise AssertionError("the watched key had changed")
        except Exception as e:
            assert type(e).__name__ == "WatchError", repr(e)

    def swap(p: Any) -> None:
        p.multi()
        p.set("w", "x")

    assert r.transaction(swap, "w") == [True]
    try:
        with r.pipeline() as p:
            p.set("s", "abc").incr("s")
            p.execute()
        raise AssertionError("INCR of abc")
    except Exception as e:
        assert "not an integer" in str(e), repr(e)
    assert r.get("s") == b"abc"


def check_admin(r: Any, protocol: int) -> None:
    info = r.info()
    assert info["redis_version"] and info["role"] == "master" and info["used_memory"] > 0
    assert r.config_get("timeout") == {"timeout": "0"}
    assert r.config_set("timeout", 0) is True
    assert r.client_setname("check") is True and r.client_getname() in ("check", b"check")
    (me,) = [c for c in r.client_list() if c["name"] == "check"]
    assert int(me["id"]) == r.client_id() > 0
    assert int(me["resp"]) == protocol
    assert r.echo("hi") == b"hi" and len(r.time()) == 2
    assert r.object("encoding", "k1") == b"embstr" and r.memory_usage("k2") > 16383
    assert r.slowlog_len() >= 0 and isinstance(r.slowlog_get(), list)
    assert r.command_count() > 60 and "get" in r.command()
    assert r.lastsave() is not None
    try:
        r.execute_command("NOSUCH", "x")
        raise AssertionError("NOSUCH was taken")
    except Exception as e:
        assert "unknown command" in str(e), repr(e)
    stored = r.execute_command("KVSTORE", "kv", b"\x00" * 20_000, "MODEL", "m") if KV else None
    if stored:
        assert r.execute_command("KVMATCH", "kv", "nope") == 1
        meta = r.execute_command("KVGET", "kv", "META")
        if not isinstance(meta, dict):
            meta = dict(zip(meta[::2], meta[1::2]))
        assert meta[b"model"] == b"m" and meta[b"value"] == b"\x00" * 20_000


async def check_async(port: int, extra: dict[str, Any]) -> None:
    import redis.asyncio

    r = redis.asyncio.Redis(port=port, socket_timeout=60, **extra)
    await r.flushall()
    large = values()

    async def one(n: int) -> None:
        value = large[n % len(large)]
        assert await r.set(f"k{n}", value)
        assert await r.get(f"k{n}") == value

    await asyncio.gather(*[one(n) for n in range(30)])
    async with r.pipeline() as p:
        for n, value in enumerate(large):
            p.set(f"t{n}", value)
        p.get("t4")
        got = await p.execute()
    assert got[-1] == large[4] and got[:-1] == [True] * len(large)
    assert sorted([k async for k in r.scan_iter("t*")]) == sorted(
        b"t%d" % n for n in range(len(large))
    )
    assert (await r.info("server"))["redis_mode"] == "standalone"
    # A cancelled request must not leave its reply to the next one.
    for _ in range(20):
        task = asyncio.create_task(r.get("t8"))
        await asyncio.sleep(random.random() * 0.01)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        assert await r.get("t1") == large[1]
    closing = getattr(r, "aclose", r.close)
    await closing()


def main() -> None:
    global KV
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--protocol", type=int, default=0)
    parser.add_argument("--no-hiredis", action="store_true")
    parser.add_argument("--async", dest="use_async", action="store_true")
    parser.add_argument("--kv", action="store_true")
    args = parser.parse_args()
    KV = args.kv
    if args.no_hiredis:
        sys.modules["hiredis"] = None  # type: ignore[assignment]
    import redis

    extra: dict[str, Any] = {"protocol": args.protocol} if args.protocol else {}
    if args.use_async:
        asyncio.run(check_async(args.port, extra))
    else:
        r = redis.Redis(port=args.port, socket_timeout=60, **extra)
        check(r, args.protocol or (3 if redis.__version__ >= "8" else 2))
        parser_name = type(r.connection_pool.get_connection("PING")._parser).__name__
        print("parser", parser_name)
        assert ("iredis" in parser_name) != args.no_hiredis
    print("ok", redis.__version__, " ".join(sys.argv[2:]))


if __name__ == "__main__":
    main()
