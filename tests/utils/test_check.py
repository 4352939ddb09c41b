# SPDX-License-Identifier: MIT
"""sldmkv-check: a sound store, each kind of damage, salvage, conversion; and simple_client."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import REPO, Server

SOUND, DAMAGED, CANNOT = 0, 1, 2
LARGE = 1 << 20

NewServer = Callable[..., Server]


def tool(name: str) -> str:
    return str(Path(os.environ.get("SLDMKV_BIN", REPO / "build")) / name)


def check(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("sldmkv-check"), "--quiet", *map(str, args)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def bytes_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


LARGE_VALUES = {b"large:%d" % i: bytes_of(i, LARGE + 4097 * i) for i in range(6)}
SMALL_VALUES = {b"small:%d" % i: bytes_of(100 + i, 50 + i) for i in range(20)}


def fill(server: Server) -> None:
    with server.client() as c:
        for key, value in (LARGE_VALUES | SMALL_VALUES).items():
            c.ok("KVSTORE", key, value, "MODEL", "m", "SEQ", "s", "TOKENS", 7)


def flip(path: Path, needle: bytes) -> None:
    """One bit of the first copy of `needle` in the file."""
    data = path.read_bytes()
    at = data.index(needle)
    with path.open("r+b") as f:
        f.seek(at)
        f.write(bytes([data[at] ^ 0x10]))


def volume_with(data: Path, needle: bytes) -> Path:
    return next(p for p in sorted(data.glob("vol-*.mdb")) if needle in p.read_bytes())


def damage(data: Path, key: bytes) -> None:
    needle = LARGE_VALUES[key][LARGE // 2 : LARGE // 2 + 64]
    flip(volume_with(data, needle), needle)


@pytest.fixture
def stopped(new_server: NewServer) -> Server:
    server = new_server()
    fill(server)
    server.stop()
    return server


def files_of(data: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(data)): p.read_bytes()
        for p in sorted(data.rglob("*"))
        if p.is_file() and p.name not in ("LOCK", "index.mdb-lock")
    }


def test_sound_store_is_sound_and_untouched(stopped: Server) -> None:
    before = files_of(stopped.data)
    result = check(stopped.data)
    assert result.returncode == SOUND, result
    total = sum(map(len, (LARGE_VALUES | SMALL_VALUES).values()))
    assert f"sound: {len(LARGE_VALUES) + len(SMALL_VALUES)} keys" in result.stdout
    assert f"{total} bytes of values verified" in result.stdout
    assert files_of(stopped.data) == before


def test_killed_store_is_sound(new_server: NewServer) -> None:
    """What is only in the log is not looked at, and the verdict says so."""
    server = new_server()
    fill(server)
    server.kill9()
    result = check(server.data)
    assert result.returncode == SOUND, result
    verdict = result.stdout.splitlines()[-1]
    assert "last stop unclean" in verdict, verdict
    keys = int(verdict.split()[1])
    later = re.search(r"not looked at: (\d+) later entries", verdict)
    assert later is not None if keys < 26 else later is None, verdict
    server.start()
    server.stop()
    verdict = check(server.data).stdout.splitlines()[-1]
    assert verdict.startswith("sound: 26 keys") and "later" not in verdict, verdict


def test_a_cut_index_is_not_changed(stopped: Server) -> None:
    index = stopped.data / "index.mdb"
    os.truncate(index, index.stat().st_size // 2 // 4096 * 4096)
    before = files_of(stopped.data)
    result = check(stopped.data)
    assert result.returncode == DAMAGED, result
    assert "bytes" in result.stdout and "index.mdb ends after" in result.stdout, result
    assert files_of(stopped.data) == before


def test_a_damaged_index_is_not_changed(stopped: Server) -> None:
    """Nor is it marked for the next start: that is the server's to do."""
    index = stopped.data / "index.mdb"
    with index.open("r+b") as f:
        f.seek(2 * 4096)
        f.write(bytes(index.stat().st_size - 2 * 4096))
    before = files_of(stopped.data)
    assert check(stopped.data).returncode == DAMAGED
    assert files_of(stopped.data) == before


def test_store_without_log(new_server: NewServer) -> None:
    server = new_server(raft="no")
    fill(server)
    server.stop()
    result = check(server.data)
    assert (result.returncode, "log: none" in result.stdout) == (SOUND, True), result


def test_flipped_payload_byte_names_the_key(stopped: Server) -> None:
    damage(stopped.data, b"large:3")
    result = check(stopped.data)
    assert result.returncode == DAMAGED, result
    damaged = [
        line for line in result.stdout.splitlines() if line.startswith("damaged:")
    ]
    assert len(damaged) == 1 and 'key "large:3"' in damaged[0], result.stdout


def test_flipped_inline_value_names_the_key(stopped: Server) -> None:
    flip(stopped.data / "index.mdb", SMALL_VALUES[b"small:4"])
    result = check(stopped.data)
    assert result.returncode == DAMAGED, result
    assert 'key "small:4": its index record' in result.stdout


def test_key_names_are_escaped(new_server: NewServer) -> None:
    server = new_server()
    value = bytes_of(7, LARGE)
    with server.client() as c:
        c.ok("KVSTORE", b'a"b\\c\n\xff', value)
    server.stop()
    flip(volume_with(server.data, value[:64]), value[:64])
    result = check(server.data)
    assert result.returncode == DAMAGED
    assert r'key "a\"b\\c\x0a\xff"' in result.stdout, result.stdout


def test_missing_volume_is_damage(stopped: Server) -> None:
    volume_with(stopped.data, LARGE_VALUES[b"large:0"][:64]).unlink()
    result = check(stopped.data)
    assert result.returncode == DAMAGED, result
    for key in LARGE_VALUES:
        assert f'key "{key.decode()}"' in result.stdout


def test_missing_log_is_damage(stopped: Server) -> None:
    shutil.rmtree(stopped.data / "raft")
    result = check(stopped.data)
    assert (result.returncode, "raft/ is missing" in result.stdout) == (
        DAMAGED,
        True,
    ), result


def test_damaged_format_is_damage(stopped: Server) -> None:
    flip(stopped.data / "FORMAT", b"node 1")
    assert check(stopped.data).returncode == DAMAGED


def test_running_server_is_refused(new_server: NewServer, scratch: Path) -> None:
    server = new_server()
    for args in ([server.data], ["--salvage", scratch / "new", server.data]):
        result = check(*args)
        assert result.returncode == CANNOT, result
        assert "LOCK" in result.stderr or "in use" in result.stderr, result.stderr
    assert not (scratch / "new").exists()


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--unknown", "x"],
        ["a", "b"],
        ["--salvage"],
        ["--convert-log", "other", "x"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    result = check(*args)
    assert (result.returncode, "Usage" in result.stderr) == (CANNOT, True), result


def test_no_such_directory(scratch: Path) -> None:
    assert check(scratch / "none").returncode == CANNOT
    assert not (scratch / "none").exists()


# ---------------------------------------------------------------- salvage


def expect_large(server: Server, values: dict[bytes, bytes]) -> None:
    with server.client() as c:
        assert c.cmd("KVKEYS") == sorted(values)
        for key, value in values.items():
            assert c.cmd("KVGET", key) == value, key


def test_salvage_gives_large_values_back(
    stopped: Server, new_server: NewServer, scratch: Path
) -> None:
    for name in ("FORMAT", "index.mdb"):
        (stopped.data / name).unlink()
    shutil.rmtree(stopped.data / "raft")
    damage(stopped.data, b"large:2")
    new = scratch / "salvaged" / "data"
    new.parent.mkdir()
    result = check("--salvage", new, stopped.data)
    assert result.returncode == DAMAGED, result
    assert 'key "large:2"' in result.stdout
    assert check(new).returncode == SOUND

    left = {k: v for k, v in LARGE_VALUES.items() if k != b"large:2"}
    server = new_server(data=new)
    expect_large(server, left)
    with server.client() as c:
        info = c.cmd("KVINFO", "large:1")
        assert isinstance(info, list)
        pairs = dict(zip(info[::2], info[1::2], strict=True))
        assert (pairs[b"model"], pairs[b"seq"], pairs[b"tokens"]) == (b"m", b"s", 7)
        c.ok("KVSTORE", "after", bytes_of(9, LARGE))
    server.kill9()
    server.start()
    expect_large(server, left | {b"after": bytes_of(9, LARGE)})
    server.stop()
    assert check(new).returncode == SOUND


def test_salvage_takes_the_newest_version(new_server: NewServer, scratch: Path) -> None:
    server = new_server()
    with server.client() as c:
        for version in range(5):
            c.ok("KVSTORE", "k", bytes_of(version, LARGE))
        c.ok("KVSTORE", "gone", bytes_of(77, LARGE), "PX", 1)
    server.kill9()
    new = scratch / "salvaged" / "data"
    new.parent.mkdir()
    result = check("--salvage", new, server.data)
    assert result.returncode == SOUND, result
    assert "left out: 4 older versions, 1 expired, 0 damaged" in result.stdout
    expect_large(new_server(data=new), {b"k": bytes_of(4, LARGE)})


def test_salvage_leaves_the_source_alone_and_wants_an_empty_target(
    stopped: Server, scratch: Path
) -> None:
    before = files_of(stopped.data)
    new = scratch / "new"
    new.mkdir()
    (new / "something").touch()
    assert check("--salvage", new, stopped.data).returncode == CANNOT
    (new / "something").unlink()
    assert check("--salvage", new, stopped.data).returncode == SOUND
    assert files_of(stopped.data) == before
    assert check("--salvage", new, stopped.data).returncode == CANNOT


# ---------------------------------------------------------------- conversion


def test_conversion_there_and_back(stopped: Server, new_server: NewServer) -> None:
    values = LARGE_VALUES | SMALL_VALUES
    for kind, raft in (("none", "no"), ("raft", "yes")):
        result = check("--convert-log", kind, stopped.data)
        assert result.returncode == SOUND, result
        assert check(stopped.data).returncode == SOUND
        server = new_server(data=stopped.data, raft=raft)
        with server.client() as c:
            for key, value in values.items():
                assert c.cmd("KVGET", key) == value
            c.ok("SET", "written-with", kind)
            values[b"written-with"] = kind.encode()
        server.stop()
        assert check(stopped.data).returncode == SOUND


def test_conversion_wants_a_clean_stop(new_server: NewServer) -> None:
    server = new_server()
    fill(server)
    server.kill9()
    result = check("--convert-log", "none", server.data)
    assert (result.returncode, "not stopped cleanly" in result.stderr) == (
        CANNOT,
        True,
    ), result


# ---------------------------------------------------------------- simple_client


def test_simple_client(new_server: NewServer) -> None:
    server = new_server()
    command = [tool("simple_client"), "127.0.0.1", str(server.port)]
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result
    assert "2097152 bytes are equal" in result.stdout
    server.stop()
    assert (
        subprocess.run(command, check=False, capture_output=True, timeout=60).returncode
        == 1
    )
