# SPDX-License-Identifier: MIT
"""The figures: each fills servers, lets the contenders take turns, and adds rows.

``must be`` is what the project promises. Sizes come in pairs: the short form, and the full one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from run import Bench, Failed, drop_caches
from servers import Peak, Server

MIB = 1 << 20
GIB = 1 << 30
BLOCK = 2 * MIB  # 16 tokens of Llama-3-8B
FIGURES: dict[str, Callable[[Bench], None]] = {}


def figure(f: Callable[[Bench], None]) -> Callable[[Bench], None]:
    FIGURES[f.__name__] = f
    return f


# Where values are meant to be more than memory: the tier is full as it is in service but for the
# first minutes, and what the first touch of fresh memory costs is in no figure.
FULL_TIER = {"max_memory_bytes": str(256 * MIB)}


def gb(values: list[float]) -> list[float]:
    return [v / 1e9 for v in values]


def set_sample(r: Mapping[str, Any]) -> dict[str, float]:
    rate, written = r["set_bytes_per_second"], r["bytes_set"]
    return {"rate": rate, "cpu": r["server_cpu_seconds"] / (written / 1e9)}


def get_sample(r: Mapping[str, Any]) -> dict[str, float]:
    rate, read = r["get_bytes_per_second"], r["bytes_got"]
    return {"rate": rate, "cpu": r["server_cpu_seconds"] / (read / 1e9)}


# ---- large values --------------------------------------------------------------------------------


@figure
def set2m(b: Bench) -> None:
    """Durable SET of 2 MiB on 8 connections; device bytes; CPU seconds a GB"""
    seconds = b.size(3, 60)
    store = b.size(4, 16) * GIB
    keys = store // 4 // BLOCK
    file = {"bs": "2M", "size": store // 4, "rw": "write", "ioengine": "psync"}
    b.fio("prewrite", **file)

    def fio() -> dict[str, float]:
        job = b.fio("write", **file, fdatasync=1, time_based=1, runtime=seconds)
        return {"rate": job["write"]["bw_bytes"]}

    def redis() -> dict[str, float]:
        server = b.redis()
        r = b.load(server, "set", keys=keys, seconds=seconds)
        b.stop(server)
        return set_sample(r)

    def ours() -> dict[str, float]:
        server = b.ours(max_store_bytes=str(store), **FULL_TIER)
        first = b.load(server, "set", keys=keys, requests=store * 3 // 4 // BLOCK)
        b.load(server, "set", keys=keys, requests=store // BLOCK)  # every volume has been used
        written = server.written_bytes()
        later = b.load(server, "set", keys=keys, seconds=seconds)
        device = (server.written_bytes() - written) / later["bytes_set"]
        b.stop(server)
        sample = set_sample(later) | {"device": device}
        return sample | {"first": first["set_bytes_per_second"]}

    s = b.take_turns({"ours": ours, "redis": redis, "fio": fio})
    us, them, disk = s["ours"], s["redis"], gb(s["fio"]["rate"])
    name = "SET 2 MiB, 8 connections"
    everysec = "redis-server, AOF everysec"
    sync = "fio, 2 MiB direct, fdatasync each"
    b.row(name, "GB/s", gb(us["rate"]), everysec, gb(them["rate"]), at_least=5)
    b.row(name, "GB/s", gb(us["rate"]), sync, disk, at_least=0.8)
    b.row(f"{name}, first life of a volume", "GB/s", gb(us["first"]), sync, disk, at_least=0.7)
    b.row("SET 2 MiB, bytes written to the device", "× payload", us["device"], at_most=1.05)
    cpu = "CPU of kernel threads is in nobody's figure: redis-server's write-back is left out"
    b.row("SET 2 MiB, server CPU", "s/GB", us["cpu"], everysec, them["cpu"], at_most=1, note=cpu)


@figure
def get2m(b: Bench) -> None:
    """GET of 2 MiB from memory on 8 connections; CPU seconds a GB"""
    keys, seconds = 128, b.size(3, 60)
    servers: dict[str, Server] = {"ours": b.ours(), "redis": b.redis()}
    for server in servers.values():
        b.load(server, "set", keys=keys, requests=keys)

    def get(server: Server) -> Callable[[], dict[str, float]]:
        return lambda: get_sample(
            b.load(server, "get", keys=keys, order="random", seconds=seconds)
        )

    s = b.take_turns({name: get(server) for name, server in servers.items()})
    us, them = s["ours"], s["redis"]
    name = "GET 2 MiB from memory, 8 connections"
    b.row(name, "GB/s", gb(us["rate"]), "redis-server", gb(them["rate"]), at_least=1.5)
    b.row("GET 2 MiB, server CPU", "s/GB", us["cpu"], "redis-server", them["cpu"], at_most=1)


@figure
def cold(b: Bench) -> None:
    """GET of 2 MiB from the disk after a restart, random, each value once"""
    keys = b.size(1024, 8192)
    threads = 2  # the default of read-threads
    server = b.ours(max_store_bytes=str(4 * keys * BLOCK), **FULL_TIER)
    b.load(server, "set", keys=keys, requests=keys)
    file: dict[str, int | str] = {"bs": "2M", "size": keys * BLOCK}
    b.fio("prewrite", **file, rw="write", ioengine="psync")
    dropped = True

    def ours(connections: int, pipeline: int) -> Callable[[], dict[str, float]]:
        def run() -> dict[str, float]:
            nonlocal dropped
            server.kill()
            dropped = drop_caches() and dropped
            server.start()
            options = {"connections": connections, "pipeline": pipeline, "order": "shuffle"}
            return get_sample(b.load(server, "get", keys=keys, requests=keys, **options))

        return run

    def fio(depth: int) -> Callable[[], dict[str, float]]:
        def run() -> dict[str, float]:
            job = b.fio("read", **file, rw="randread", ioengine="libaio", iodepth=depth)
            return {"rate": job["read"]["bw_bytes"]}

        return run

    s = b.take_turns(
        {"ours 8": ours(8, 1), "fio 2": fio(threads), "ours 1": ours(1, 2), "fio 1": fio(1)}
    )
    rate = {name: gb(samples["rate"]) for name, samples in s.items()}
    many, one = "fio, direct, depth = read-threads", "fio, direct, depth 1"
    note = "" if dropped else "not root: the page cache was not dropped before the cold GETs"
    name = "GET 2 MiB cold"
    b.row(f"{name}, 8 connections", "GB/s", rate["ours 8"], many, rate["fio 2"], at_least=0.9)
    b.row(
        f"{name}, 1 connection, pipeline 2",
        "GB/s",
        rate["ours 1"],
        one,
        rate["fio 1"],
        at_least=0.8,
        note=note,
    )


# ---- small values --------------------------------------------------------------------------------


def compare(b: Bench, servers: Mapping[str, Server], key: str, op: str, **o: Any) -> Any:
    """Samples of one figure of loadgen, both servers with the same load."""

    def run(server: Server) -> Callable[[], dict[str, float]]:
        return lambda: {"rate": b.load(server, op, **o)[key]}

    s = b.take_turns({name: run(server) for name, server in servers.items()})
    return s["ours"]["rate"], s["redis"]["rate"]


@figure
def set128(b: Bench) -> None:
    """Durable SET of 128 bytes on 50 connections, random keys of 1 M"""
    servers: dict[str, Server] = {"ours": b.ours(), "redis": b.redis(appendfsync="always")}
    for pipeline in (1, 16):
        load = {"size": 128, "keys": 1_000_000, "order": "random", "connections": 50}
        seconds = b.size(4, 60)
        us, them = compare(
            b, servers, "per_second", "set", **load, pipeline=pipeline, seconds=seconds
        )
        name = f"SET 128 B, 50 connections, pipeline {pipeline}"
        b.row(name, "1/s", us, "redis-server, AOF always", them, at_least=1)


def small_keys(b: Bench, keys: int) -> dict[str, Server]:
    servers: dict[str, Server] = {"ours": b.ours(), "redis": b.redis()}
    for server in servers.values():
        b.load(server, "set", size=128, keys=keys, requests=keys, connections=50, pipeline=16)
    return servers


@figure
def get128(b: Bench) -> None:
    """GET of 128 bytes on 50 connections, random keys"""
    keys = b.size(200_000, 1_000_000)
    servers = small_keys(b, keys)
    for pipeline in (1, 16):
        load = {"size": 128, "keys": keys, "order": "random", "connections": 50}
        seconds = b.size(3, 60)
        us, them = compare(
            b, servers, "per_second", "get", **load, pipeline=pipeline, seconds=seconds
        )
        name = f"GET 128 B, 50 connections, pipeline {pipeline}"
        b.row(name, "1/s", us, "redis-server", them, at_least=0.9)


@figure
def match(b: Bench) -> None:
    """KVMATCH of 1,024 random keys next to as many pipelined EXISTS, 4 connections"""
    keys = b.size(200_000, 1_000_000)
    servers = small_keys(b, keys)
    load = {"keys": keys, "connections": 4, "seconds": b.size(3, 60)}

    def run(server: Server, op: str, **o: Any) -> Callable[[], dict[str, float]]:
        return lambda: {"rate": b.load(server, op, **load, **o)["keys_per_second"]}

    s = b.take_turns(
        {
            "ours": run(servers["ours"], "match", match=1024),
            "redis": run(servers["redis"], "exists", pipeline=1024, order="random"),
        }
    )
    us, them = s["ours"]["rate"], s["redis"]["rate"]
    against = "redis-server, EXISTS, pipeline 1,024"
    b.row("KVMATCH of 1,024 keys, 4 connections", "keys/s", us, against, them, at_least=3)


# ---- start, memory, churn, tail ------------------------------------------------------------------


def first_get(server: Server, key: bytes, value: bytes) -> float:
    """Seconds from the kill to the right answer."""
    want = b"$%d\r\n%s\r\n" % (len(value), value)
    request = b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)
    began = time.monotonic()
    server.kill()
    server.spawn()
    while (got := server.ask(request, len(want))) != want:
        if got[:1] == b"$" or not server.alive() or time.monotonic() > began + 60:
            raise Failed(f"after kill -9: {got[:80]!r} instead of the value\n{server.log()}")
        time.sleep(0.0005)
    return time.monotonic() - began


@figure
def restart(b: Bench) -> None:
    """From kill -9 under load to the first right GET, with all data and with a tenth of it"""
    key, value = b"bench:last", bytes(range(256)) * (BLOCK // 256)
    put = b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value)
    for part in (1, 10):
        small = b.size(200_000, 1_000_000) // part
        large = b.size(2, 20) * GIB // BLOCK // part
        server = b.ours(f"ours-{part}", max_store_bytes=str(b.size(4, 40) * GIB))
        writes = {"size": 128, "connections": 50, "pipeline": 16}
        b.load(server, "set", **writes, keys=small, requests=small)
        b.load(server, "set", first=small, keys=large, requests=large)

        def again(server: Server = server, small: int = small) -> dict[str, float]:
            if server.ask(put, 5) != b"+OK\r\n":
                raise Failed("SET before the kill was not answered")
            load = b.load_start(server, "set", **writes, keys=small, order="random", seconds=60)
            time.sleep(0.5)
            took = first_get(server, key, value)
            load.wait()  # it lost its connections
            b.load(server, "get", size=128, keys=small, order="random", seconds=1)
            return {"seconds": took}

        seconds = b.take_turns({"ours": again})["ours"]["seconds"]
        what = f"{small:,} keys of 128 B, {large * BLOCK / 1e9:.3g} GB"
        b.row(f"kill -9 to the first right GET, {what}", "s", seconds, at_most=1)
        b.stop(server)


@figure
def memory(b: Bench) -> None:
    """Peak RssAnon while 64 MiB values flow on 64 connections over many small keys"""
    keys = b.size(200_000, 1_000_000)
    budget = GIB
    values = 32
    server = b.ours(max_store_bytes=str(b.size(6, 16) * GIB), max_memory_bytes=str(budget))
    load = {"size": 64 * MIB, "first": keys, "keys": values, "connections": 64}
    seconds = b.size(4, 30)

    def run() -> dict[str, float]:
        with Peak(server) as peak:
            b.load(server, "set", size=128, keys=keys, requests=keys, connections=50, pipeline=16)
            b.load(server, "set", **load, requests=values)
            get = b.load_start(server, "get", **load, order="random", seconds=seconds)
            b.load(server, "set", **load, seconds=seconds)
            b.load_end(get)
        return {"bytes": peak.bytes}

    peaks = b.take_turns({"ours": run})["ours"]["bytes"]
    parts = budget + 3 * 64 * MIB
    note = (
        "memory: the budget is max-memory-bytes (1 GiB) and what README, Limits, names beside it: "
        "two tables and the log, 64 MiB each"
    )
    name = f"peak RssAnon, 64 MiB values on 64 connections, {keys:,} small keys"
    b.row(name, "of the budget", [p / parts for p in peaks], at_most=1.05, note=note)
    b.row(name, "of max-memory-bytes", [p / budget for p in peaks])


@figure
def churn(b: Bench) -> None:
    """SET of 128 KiB to 8 MiB with eviction from a full store, without and with Zipf reads"""
    store = b.size(2, 16) * GIB
    mean = 1_985_000  # of sizes spread evenly by the logarithm over that range
    window = int(0.95 * store / mean)
    seconds = b.size(4, 60)
    load: dict[str, Any] = {"size": f"{128 << 10}-{8 * MIB}"}

    def lives(reads: int) -> dict[str, float]:
        server = b.ours(max_store_bytes=str(store), **FULL_TIER)
        part = window // 4
        begun = b.load(server, "churn", **load, keys=part, requests=part)
        load["keys"], load["reads"] = part, reads
        fresh = b.load(server, "churn", **load, first=begun["next"], requests=2 * part)
        load["reads"], load["keys"] = 0, window
        full = b.load(server, "churn", **load, first=fresh["next"], requests=window)
        load["reads"] = reads
        full = b.load(server, "churn", **load, first=full["next"], seconds=seconds)
        del load["reads"], load["keys"]
        b.stop(server)
        read = full["hits"] + full["misses"]
        return {
            "fresh": fresh["set_bytes_per_second"],
            "churn": full["set_bytes_per_second"],
            "hits": full["hits"] / read if read else 0,
        }

    s = b.take_turns({"writes": lambda: lives(0), "reads": lambda: lives(50)})
    name = "SET of 128 KiB–8 MiB, full store"
    plain, mixed = s["writes"], s["reads"]
    against = "the same, store not yet full"
    b.row(name, "GB/s", gb(plain["churn"]), against, gb(plain["fresh"]), at_least=0.9)
    b.row(
        f"{name}, half of the requests Zipf GETs",
        "GB/s",
        gb(mixed["churn"]),
        against,
        gb(mixed["fresh"]),
        at_least=0.7,
    )
    b.row(f"{name}, GETs that hit", "share", mixed["hits"])


@figure
def tail(b: Bench) -> None:
    """p99.9 of GET of 1 KiB beside a flood of 2 MiB SETs and GETs, next to quiet"""
    keys, seconds = 10_000, b.size(4, 60)
    small = {"size": 1024, "keys": keys, "connections": 4}
    flood = {"size": BLOCK, "first": keys, "keys": 64, "connections": 8}
    servers: dict[str, Server] = {"ours": b.ours(), "redis": b.redis()}
    for server in servers.values():
        b.load(server, "set", **small, requests=keys)
        b.load(server, "set", **flood, requests=64)

    def get(server: Server) -> float:
        p: float = b.load(server, "get", **small, order="random", seconds=seconds)["p999_us"]
        return p

    def both(server: Server) -> dict[str, float]:
        quiet = get(server)
        beside = b.load_start(server, "set", **flood, reads=50, seconds=seconds + 2)
        time.sleep(1)
        loud = get(server)
        b.load_end(beside)
        return {"quiet": quiet, "beside": loud}

    ours, redis = servers["ours"], servers["redis"]
    s = b.take_turns({"ours": lambda: both(ours), "redis": lambda: both(redis)})
    us, them = s["ours"], s["redis"]
    name = "GET 1 KiB, p99.9 beside a flood of 2 MiB"
    b.row(name, "us", us["beside"], "quiet", us["quiet"], at_most=3)
    b.row(name, "us", us["beside"], "redis-server beside it", them["beside"])
