# SPDX-License-Identifier: MIT
"""A disk that others have filled: reads and deletes go on, writes that add are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Server, StartFailed, wait_until
from test_values import body, same

pytestmark = [
    pytest.mark.ours,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system"),
]

MIB = 1 << 20
SMALL = {"max_store_bytes": "128mb", "volume_size": "16mb", "max_index_bytes": "64mb"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900m", "none", mount], check=True)
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


def fill(disk: Path) -> Path:
    path = disk / "filler"
    with path.open("ab", buffering=0) as f:
        for block in (MIB, 4096):
            try:
                while f.write(bytes(block)) == block:
                    pass
            except OSError:
                pass
    return path


def refused(reply: object) -> bool:
    return isinstance(reply, bytes) and reply.startswith(b"MISCONF")


def test_a_start_on_a_full_disk_too_small_for_a_ballast(
    small_disk: Path, new_server: Callable[..., Server]
) -> None:
    """The log cannot be written: whoever meets it first waits, all others are told."""
    taken = small_disk / "taken"
    with taken.open("wb") as f:
        os.posix_fallocate(f.fileno(), 0, 480 * MIB)
    server = new_server(data_dir=str(small_disk / "data"), **SMALL)
    with server.client() as c:
        for n in range(10):
            c.ok("SET", f"k{n}", f"value {n}")
    server.stop()
    assert not (small_disk / "data" / "ballast").exists()
    filler = fill(small_disk)
    os.truncate(filler, filler.stat().st_size - 300_000)
    server.start()
    with server.client(timeout_s=60) as first, server.client() as c:
        first.send_cmd("DEL", "k0")
        wait_until(lambda: "a write is not getting done" in server.log(), 20)
        assert refused(c.cmd("DEL", "k1")) and refused(c.cmd("SET", "k2", "x"))
        assert c.cmd("GET", "k1") == b"value 1"
        filler.unlink()
        assert first.read() == 1
        wait_until(lambda: c.cmd("DEL", "k1") == 1, 10, "deletes again")


@pytest.mark.skipif(shutil.which("mkfs.btrfs") is None, reason="needs mkfs.btrfs")
def test_btrfs_is_refused(tmp_path: Path, new_server: Callable[..., Server]) -> None:
    """A mapped write on a full one is a SIGBUS, whatever was reserved."""
    image, mount = tmp_path / "image", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as f:
        f.truncate(200 * MIB)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        with pytest.raises(StartFailed) as caught:
            new_server(start=False, data_dir=str(mount / "data")).start()
    finally:
        subprocess.run(["umount", "-l", mount], check=True)
    assert caught.value.code == 1 and "is on Btrfs" in caught.value.log, caught.value


@pytest.mark.parametrize("made", [False, True], ids=["new", "there before"])
def test_backup_to_a_full_disk(
    small_disk: Path, new_server: Callable[..., Server], made: bool
) -> None:
    """The error names the target, and what the backup made is gone."""
    server = new_server(max_store_bytes="2gb", volume_size="256mb")
    filler = small_disk / "filler"
    with filler.open("wb") as f:
        os.posix_fallocate(f.fileno(), 0, 700 * MIB)
    target = small_disk / "copy"
    if made:
        target.mkdir()
    with server.client(timeout_s=60) as c:
        for n in range(10):
            c.ok("SET", f"k{n}", body(MIB, n))
        reply = c.cmd("BACKUP", str(target))
        assert isinstance(reply, bytes) and reply.startswith(b"ERR BACKUP failed"), reply
        assert str(target).encode() in reply and b"no space left on its device" in reply, reply
        assert target.exists() == made and (not made or not list(target.iterdir()))
        filler.unlink()
        c.ok("BACKUP", str(target))
    assert (target / "FORMAT").exists()


@pytest.mark.parametrize("raft", ["yes", "no"])
@pytest.mark.parametrize("restart", [False, True], ids=["in service", "at a start"])
def test_full_disk(
    small_disk: Path, new_server: Callable[..., Server], restart: bool, raft: str
) -> None:
    data = small_disk / "data"
    server = new_server(data_dir=str(data), raft=raft, **SMALL)
    with server.client() as c:
        for n in range(200):
            c.ok("SET", f"k{n}", f"value {n}")
        c.ok("SET", "large", body(MIB))
        if raft == "yes":
            wait_until(lambda: (data / "ballast").exists(), 10, "the ballast")
    if restart:
        server.stop()
    filler = fill(small_disk)
    assert os.statvfs(small_disk).f_bavail * 4096 < MIB
    if restart:
        server.start()
    with server.client(timeout_s=30) as c:
        wait_until(lambda: refused(c.cmd("SET", "more", "x")), 10, "a refusal")
        assert refused(c.cmd("SET", "large2", body(MIB)))
        c.cmd("DEL", "more")  # the free space is looked at once a second
        assert c.cmd("GET", "k7") == b"value 7"
        same(c.cmd("GET", "large"), body(MIB))
        for n in range(100):
            assert c.cmd("DEL", f"k{n}") == 1
        assert c.cmd("DBSIZE") == 101
        filler.unlink()
        wait_until(lambda: c.cmd("SET", "more", "x") == b"OK", 10, "writes again")
        c.ok("SET", "large2", body(MIB))
    server.kill9()
    server.start()
    with server.client() as c:
        assert c.cmd("DBSIZE") == 103
        assert c.cmd("GET", "k150") == b"value 150"
        same(c.cmd("GET", "large2"), body(MIB))
