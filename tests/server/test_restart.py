# SPDX-License-Identifier: MIT
"""What was acknowledged is there after kill -9, after SIGTERM, in a backup; TTLs go on."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import NIL, Client, Server, Simple, info_of, is_error, wait_until
from ledger import Load, Worker
from test_values import MIB, body, same

pytestmark = pytest.mark.ours
SMALL = {"max_store_bytes": "2gb", "volume_size": "256mb"}


@pytest.mark.parametrize("raft,kills", [("yes", 10), ("no", 4)])
def test_kill_9_under_mixed_load(new_server: Callable[..., Server], raft: str, kills: int) -> None:
    server = new_server(raft=raft, **SMALL)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    workers = [Worker(f"w{n}", seed + n) for n in range(5)]
    for turn in range(kills):
        before = sum(w.replies for w in workers)
        load = Load(server, workers)
        with load:
            # A kill before anything was acknowledged would prove nothing.
            wait_until(lambda: load.replies() >= before + 40, 30, "acknowledged writes")
            time.sleep(rng.uniform(0.0, 0.25))
            server.kill9()
        server.check_log()
        server.start()
        with server.client() as c:
            for worker in workers:
                worker.check(c)
        print("kill", turn, "replies", load.replies() - before)
    problems = [p for w in workers for p in w.problems]
    assert not problems, problems[:5]
    server.stop()
    server.start()
    with server.client() as c:
        for worker in workers:
            worker.check(c)


def test_kill_9_during_start(new_server: Callable[..., Server]) -> None:
    """Recovery that is itself interrupted."""
    server = new_server(**SMALL)
    worker = Worker("w", 7)
    with Load(server, [worker]):
        wait_until(lambda: worker.replies > 300, 30)
        server.kill9()
    for delay in (0.0, 0.005, 0.01, 0.02, 0.04, 0.08):
        killer = threading.Timer(delay, lambda: server.kill9())
        killer_started = False
        try:
            import subprocess

            with server.log_path.open("ab") as log:
                server.proc = subprocess.Popen(server.argv(), stdout=log, stderr=log)
            killer.start()
            killer_started = True
            server.proc.wait(30)
        finally:
            if killer_started:
                killer.join()
    server.start()
    with server.client() as c:
        worker.check(c)


@pytest.mark.parametrize("raft", ["yes", "no"])
@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_everything_is_there_after_a_restart(
    new_server: Callable[..., Server], raft: str, how: str
) -> None:
    server = new_server(raft=raft, **SMALL)
    sizes = [0, 1, 100, 16384, 16385, 100_000, 2 * MIB, 2 * MIB + 1]
    values = {f"k{n}": body(sizes[n % len(sizes)], n) for n in range(120)}
    with server.client() as c:
        c.pipeline(
            [
                ("KVSTORE", k, v, "MODEL", "m" + k, "SEQ", "s" + k, "TOKENS", n)
                for n, (k, v) in enumerate(values.items())
            ]
        )
        c.pipeline([("SET", f"gone{n}", body(20_000)) for n in range(20)])
        assert c.cmd("DEL", *[f"gone{n}" for n in range(20)]) == 20
        c.ok("SET", "ttl", "v", "EX", "1000")
        c.ok("SET", "at", "v", "PXAT", "99999999999123")
        assert c.cmd("INCRBY", "count", 41) == 41
        infos = {k: c.cmd("KVINFO", k) for k in values}
    getattr(server, how)()
    server.start()
    with server.client() as c:
        assert c.cmd("DBSIZE") == len(values) + 3
        for key, value in values.items():
            same(c.cmd("GET", key), value)
            info = c.cmd("KVINFO", key)
            assert isinstance(info, list) and info[:14] == infos[key][:14]  # type: ignore[index]
        assert 990 <= c.cmd("TTL", "ttl") <= 1000  # type: ignore[operator]
        assert c.cmd("PEXPIRETIME", "at") == 99999999999123
        assert c.cmd("INCR", "count") == 42
        assert c.cmd("EXISTS", "gone0", "gone19") == 0


def test_expiry_goes_on_over_a_restart(new_server: Callable[..., Server]) -> None:
    server = new_server(**SMALL)
    with server.client() as c:
        c.ok("SET", "short", "v", "PX", "150")
        c.ok("SET", "shortbig", body(100_000), "PX", "150")
        c.ok("SET", "long", "v", "PX", "100000")
        c.ok("SET", "persisted", "v", "PX", "150")
        assert c.cmd("PERSIST", "persisted") == 1
    server.kill9()
    time.sleep(0.15)
    server.start()
    with server.client() as c:
        assert c.cmd("GET", "short") is NIL and c.cmd("GET", "shortbig") is NIL
        assert c.cmd("GET", "long") == b"v" and c.cmd("GET", "persisted") == b"v"
        assert 80_000 < c.cmd("PTTL", "long") <= 100_000  # type: ignore[operator]
        assert c.cmd("SET", "short", "w", "NX") == b"OK"
        wait_until(lambda: c.cmd("DBSIZE") == 3, 10, "the sweep")


def test_flushall_holds_over_kill_9(new_server: Callable[..., Server]) -> None:
    server = new_server(**SMALL)
    with server.client() as c:
        c.ok("MSET", *[x for n in range(500) for x in (f"k{n}", "v")])
        c.ok("SET", "big", body(MIB))
        c.ok("FLUSHALL")
        c.ok("SET", "after", "v")
    server.kill9()
    server.start()
    with server.client() as c:
        assert c.cmd("KEYS", "*") == [b"after"]


def test_sigterm_under_load_keeps_what_was_acknowledged(new_server: Callable[..., Server]) -> None:
    server = new_server(**SMALL)
    workers = [Worker(f"w{n}", n) for n in range(4)]
    for _ in range(3):
        goal = sum(w.replies for w in workers) + 100
        with Load(server, workers) as load:
            wait_until(lambda: load.replies() >= goal, 30)
            server.stop()
        server.start()
        with server.client() as c:
            for worker in workers:
                worker.check(c)


@pytest.mark.parametrize("args", [(), ("NOSAVE",), ("SAVE",), ("NOW",), ("NOW", "FORCE")])
def test_shutdown_command(new_server: Callable[..., Server], args: tuple[str, ...]) -> None:
    server = new_server(**SMALL)
    with server.client() as c:
        c.ok("SET", "k", "v")
        c.send_cmd("SHUTDOWN", *args)
        assert c.expect_closed() == b""
    assert server.proc is not None and server.proc.wait(30) == 0
    server.start()
    with server.client() as c:
        assert c.cmd("GET", "k") == b"v"


def test_second_sigterm_exits_at_once_and_loses_nothing(new_server: Callable[..., Server]) -> None:
    server = new_server(**SMALL)
    with server.client() as c:
        c.ok("SET", "k", body(100_000))
    assert server.proc is not None
    server.proc.terminate()
    server.proc.terminate()
    server.proc.wait(10)
    server.start()
    with server.client() as c:
        same(c.cmd("GET", "k"), body(100_000))


def test_start_does_not_depend_on_the_amount_of_data(new_server: Callable[..., Server]) -> None:
    server = new_server(**SMALL)
    with server.client(timeout_s=60) as c:
        for n in range(400):
            c.ok("SET", f"k{n}", body(MIB, n % 4))
    server.stop()
    start = time.monotonic()
    server.start()
    took = time.monotonic() - start
    with server.client() as c:
        same(c.cmd("GET", "k399"), body(MIB, 3))
    assert took < 5, took


# ---------------------------------------------------------------- BACKUP


def backup(client: Client, path: Path) -> None:
    client.sock.settimeout(120)
    reply = client.cmd("BACKUP", str(path))
    assert isinstance(reply, Simple) and reply == b"OK", reply


def test_backup_under_load(new_server: Callable[..., Server], scratch: Path) -> None:
    server = new_server(**SMALL)
    fixed = {f"fixed{n}": body(n * 10_007, n) for n in range(40)}
    workers = [Worker(f"w{n}", n) for n in range(3)]
    target = scratch / f"backup-{server.port}"
    with server.client(timeout_s=60) as c:
        c.pipeline([("KVSTORE", k, v, "MODEL", k) for k, v in fixed.items()])
        with Load(server, workers) as load:
            wait_until(lambda: load.replies() > 200, 30)
            backup(c, target)
            after = load.replies()
            wait_until(lambda: load.replies() > after + 50, 30, "load goes on after a backup")
            for _ in range(30):
                c.ok("SET", "fixed1", body(300_000))
    copy = new_server(start=False, data_dir=str(target), **SMALL)
    copy.start()
    with copy.client(timeout_s=60) as c:
        for key, value in fixed.items():
            same(c.cmd("KVGET", key), value)
        for worker in workers:
            worker.check(c, known_later=True)
        c.ok("SET", "new", "v")
    # The original never noticed, and both may run side by side.
    with server.client() as c:
        for worker in workers:
            worker.check(c)
        assert c.cmd("EXISTS", "new") == 0


def test_backup_contains_what_was_acknowledged_before(
    new_server: Callable[..., Server], scratch: Path
) -> None:
    server = new_server(**SMALL)
    target = scratch / f"backup-{server.port}"
    with server.client(timeout_s=60) as c:
        for n in range(100):
            c.ok("SET", f"k{n}", body(n * 999, n))
        c.cmd("DEL", "k50")
        backup(c, target)
        c.ok("SET", "later", "v")
    server.kill9()
    copy = new_server(start=False, data_dir=str(target), **SMALL)
    copy.start()
    with copy.client() as c:
        assert c.cmd("DBSIZE") == 99
        for n in range(100):
            if n != 50:
                same(c.cmd("GET", f"k{n}"), body(n * 999, n))


def test_backup_without_a_volume(new_server: Callable[..., Server], scratch: Path) -> None:
    """No value was large enough for one; nor is there a value at all."""
    server = new_server(**SMALL)
    for keys in (0, 1):
        target = scratch / f"backup-{server.port}-{keys}"
        with server.client() as c:
            backup(c, target)
            c.ok("SET", "k", "v")
        copy = new_server(start=False, data_dir=str(target), **SMALL)
        copy.start()
        with copy.client() as c:
            assert c.cmd("DBSIZE") == keys


def test_backup_ended_by_a_stop(new_server: Callable[..., Server], scratch: Path) -> None:
    """What it made is gone: only a complete copy is to be found."""
    server = new_server(**SMALL, shutdown_timeout="0")
    target = scratch / f"backup-{server.port}"
    with server.client(timeout_s=60) as c, server.client() as other:
        for n in range(100):
            c.ok("SET", f"k{n}", body(4 * MIB, n % 3))
        c.send_cmd("BACKUP", str(target))
        wait_until(lambda: int(info_of(other, "storage")["backup_done_bytes"]) > 0, 30)
        server.stop()
    assert not target.exists() and "canceled by shutdown" in server.log()


def test_backup_errors(new_server: Callable[..., Server], scratch: Path) -> None:
    server = new_server(**SMALL)
    full = scratch / f"full-{server.port}"
    full.mkdir()
    (full / "something").write_text("mine")
    with server.client() as c:
        c.ok("SET", "k", "v")
        assert is_error(c.cmd("BACKUP"), b"ERR wrong number of arguments for 'backup' command")
        assert is_error(c.cmd("BACKUP", "a", "b"))
        for path in (full, "/proc/nowhere", "", server.data, "x" * 5000, f"{full}/a\x00b"):
            reply = c.cmd("BACKUP", str(path))
            assert is_error(reply), (path, reply)
        assert c.cmd("GET", "k") == b"v"
        for path in (server.data / "copy", server.data / ".." / server.data.name / "copy"):
            reply = c.cmd("BACKUP", str(path))
            assert is_error(reply) and b"is in data-dir" in reply, reply
            assert not path.exists()
    assert (full / "something").read_text() == "mine" and len(os.listdir(full)) == 1


# ---------------------------------------------------------------- space


INDEX_RESERVE = 64 * MIB + 8 * MIB  # and the few rows that the tests below need
LOG_BYTES = 192 * MIB


def stored(server: Server) -> int:
    return sum(p.stat().st_blocks * 512 for p in server.data.rglob("*") if p.is_file())


def volume_files(server: Server) -> int:
    return sum(p.stat().st_blocks * 512 for p in server.data.glob("vol-*.mdb"))


def volumes_bound(store: int, volume: int) -> int:
    """README, "Limits": what volume files take at most."""
    return volume * max(8, store * 100 // 85 // volume + 1, store // volume + 4)


def test_eviction_keeps_the_newest_and_the_bound(new_server: Callable[..., Server]) -> None:
    """Three times the store written: no error, the last values there, the first gone."""
    limit = 512 * MIB
    server = new_server(max_store_bytes="512mb", volume_size="64mb", lookup_lease_ms="0")
    count = 3 * limit // (2 * MIB)
    pool = [body(2 * MIB, n) for n in range(5)]
    highest = highest_volumes = 0
    with server.client(timeout_s=60) as c:
        for at in range(0, count, 4):
            replies = c.pipeline([("SET", f"k{n:06}", pool[n % 5]) for n in range(at, at + 4)])
            assert replies == [b"OK"] * 4, replies
            if at % 64 == 0:
                highest = max(highest, stored(server))
                highest_volumes = max(highest_volumes, volume_files(server))
                assert c.cmd("DBSIZE") * 2 * MIB <= limit  # type: ignore[operator]
        size = c.cmd("DBSIZE")
        assert isinstance(size, int) and limit // 4 <= size * 2 * MIB <= limit
        assert c.cmd("EXISTS", "k000000", "k000001", "k000050") == 0
        for n in range(count - size // 2, count):
            same(c.cmd("GET", f"k{n:06}"), pool[n % 5])
        assert int(info_of(c, "stats")["evicted_keys"]) >= count - size
    bound = volumes_bound(limit, 64 * MIB)
    # LMDB's own pages make each file a little larger than the volume.
    assert limit < highest_volumes <= bound + bound // 100, highest_volumes
    assert highest <= bound + INDEX_RESERVE + LOG_BYTES, highest
    server.kill9()
    server.start()
    with server.client(timeout_s=60) as c:
        for n in range(count - 20, count):
            same(c.cmd("GET", f"k{n:06}"), pool[n % 5])


def test_eviction_spares_what_is_in_use(new_server: Callable[..., Server]) -> None:
    server = new_server(max_store_bytes="512mb", volume_size="64mb", lookup_lease_ms="0")
    pool = [body(MIB, n) for n in range(5)]
    with server.client(timeout_s=60) as c:
        for n in range(20):
            c.ok("SET", f"hot{n}", pool[n % 5])
        for n in range(1200):
            c.ok("SET", f"cold{n}", pool[n % 5])
            if n % 4 == 0:
                same(c.cmd("GET", f"hot{n // 4 % 20}"), pool[n // 4 % 20 % 5])
        assert c.cmd("EXISTS", *[f"hot{n}" for n in range(20)]) == 20


def test_deleted_space_comes_back_without_eviction(new_server: Callable[..., Server]) -> None:
    server = new_server(max_store_bytes="512mb", volume_size="64mb")
    pool = [body(2 * MIB, n) for n in range(5)]
    with server.client(timeout_s=60) as c:
        c.ok("SET", "stays", pool[0])
        for n in range(600):
            c.ok("SET", f"k{n}", pool[n % 5])
            assert c.cmd("DEL", f"k{n}") == 1
        same(c.cmd("GET", "stays"), pool[0])
        assert int(info_of(c, "stats")["evicted_keys"]) == 0


def test_expired_space_comes_back(new_server: Callable[..., Server]) -> None:
    server = new_server(max_store_bytes="512mb", volume_size="64mb")
    pool = [body(2 * MIB, n) for n in range(5)]
    with server.client(timeout_s=60) as c:
        c.ok("SET", "stays", pool[0])
        for n in range(400):
            c.ok("SET", f"k{n}", pool[n % 5], "PX", "200")
        same(c.cmd("GET", "stays"), pool[0])
        wait_until(lambda: c.cmd("DBSIZE") == 1, 20, "the sweep")
        assert int(info_of(c, "stats")["expired_keys"]) >= 1


def fill_with_leases(c: Client, pool: list[bytes]) -> list[str]:
    """Stores until the server says it is full, leasing every key at once."""
    names: list[str] = []
    for n in range(600):
        reply = c.cmd("SET", f"k{n}", pool[n % len(pool)])
        if is_error(reply):
            assert is_error(reply, b"OOM"), reply
            return names
        names.append(f"k{n}")
        assert c.cmd("KVMATCH", names[-1], "LEASE", "3600000") == 1
    raise AssertionError("600 leased values of 2 MiB fit into 512 MiB")


def test_a_full_store_with_nothing_to_evict(new_server: Callable[..., Server]) -> None:
    """Writes get Redis's OOM, reads and deletes go on, room that is made is used again."""
    server = new_server(max_store_bytes="512mb", volume_size="64mb")
    pool = [body(2 * MIB, n) for n in range(5)]
    with server.client(timeout_s=60) as c:
        names = fill_with_leases(c, pool)
        assert len(names) * 2 * MIB > 200 * MIB
        for n, name in enumerate(names):
            same(c.cmd("GET", name), pool[n % 5])
        assert is_error(c.cmd("SET", "more", pool[0]), b"OOM")
        assert c.cmd("EXISTS", "more") == 0
        assert c.cmd("DEL", *names[: len(names) // 2]) == len(names) // 2
        wait_until(lambda: c.cmd("SET", "more", pool[1]) == b"OK", 20, "room after DEL")
        same(c.cmd("GET", "more"), pool[1])
    server.kill9()
    server.start()
    with server.client(timeout_s=60) as c:
        for n, name in enumerate(names[len(names) // 2 :], len(names) // 2):
            same(c.cmd("GET", name), pool[n % 5])


def test_values_stored_under_larger_limits(new_server: Callable[..., Server]) -> None:
    """They are read in every way; what would need the whole in memory names the limit it meets."""
    server = new_server(max_store_bytes="512mb", volume_size="64mb", max_memory_bytes="256mb")
    data = body(40 * MIB)
    with server.client(timeout_s=60) as c:
        c.ok("SET", "k", data)
        c.ok("SET", "mid", data[:MIB])
    server.options |= {"max-memory-bytes": "64mb", "proto-max-bulk-len": "1mb"}
    server.stop()
    server.start()
    with server.client(timeout_s=60) as c:
        same(c.cmd("GET", "k"), data)
        same(c.cmd("KVGET", "k"), data)
        got = c.cmd("MGET", "mid", "k")
        assert isinstance(got, list)
        same(got[0], data[:MIB])
        same(got[1], data)
        assert c.cmd("KVRANGE", "k", 39 * MIB, 3) == [data[39 * MIB : 39 * MIB + 3]]
        for command in (("RENAME", "k", "l"), ("COPY", "k", "l")):
            reply = c.cmd(*command)
            assert is_error(reply, b"ERR value is too large") and b"max-memory" in reply, reply
        # Only a change can meet proto-max-bulk-len.
        c.ok("RENAME", "mid", "moved")
        reply = c.cmd("APPEND", "moved", "x")
        assert is_error(reply, b"ERR string exceeds") and b"proto-max-bulk-len" in reply, reply
        same(c.cmd("GETDEL", "k"), data)


def test_values_over_the_volume_are_refused(new_server: Callable[..., Server]) -> None:
    """The largest value is what a volume holds; the log says it, the error too, nothing is lost."""
    server = new_server(max_store_bytes="512mb", volume_size="64mb")
    said = re.search(r"value limit bytes=(\d+)", server.log())
    assert said is not None
    limit = int(said.group(1))
    assert 60 * MIB < limit <= 64 * MIB
    data = body(8 * MIB) * 9
    with server.client(timeout_s=60) as c:
        c.ok("SET", "k", data[:limit])
        same(c.cmd("GET", "k"), data[:limit])
        for command in (("SET", "k"), ("KVSTORE", "k"), ("GETSET", "k"), ("MSET", "a", "1", "k")):
            reply = c.cmd(*command, data[: limit + 1])
            assert is_error(reply, b"ERR") and str(limit).encode() in reply, reply
        reply = c.cmd("APPEND", "k", "x")
        assert is_error(reply, b"ERR value is too large") and str(limit).encode() in reply, reply
        same(c.cmd("GET", "k"), data[:limit])
        assert c.cmd("EXISTS", "a") == 0
