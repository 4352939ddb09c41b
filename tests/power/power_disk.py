# SPDX-License-Identifier: MIT
"""A mounted file system whose disk can lose its power: disk.c, a loop device, a file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from harness import Server, wait_until

IMAGE_BYTES = 3 << 30  # sparse; a store and its copy take about half of it
WAIT_S = 60.0
CAP_SYS_ADMIN = 21

# The file system, and the sector of the disk below it. The journal of ext4 holds whole blocks, so
# any may be torn. XFS counts on whole ones: one whose head is new and whose rest is old passes for
# a new one in its recovery.
MKFS = {
    "ext4": (512, ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")),
    "xfs": (4096, ("mkfs.xfs", "-q", "-f", "-s", "size=4096")),
}
CHECK = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}


def why_not(kind: str) -> str:
    """What this machine lacks for such a disk; "" when nothing."""
    if os.geteuid() != 0:
        return "needs root, to mount a file system"
    capabilities = Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0]
    if not int(capabilities, 16) >> CAP_SYS_ADMIN & 1:
        return "may not mount file systems here (no CAP_SYS_ADMIN)"
    for device in ("/dev/fuse", "/dev/loop-control"):
        try:
            os.close(os.open(device, os.O_RDWR))
        except OSError as e:
            return f"{device}: {e.strerror}"
    for program in (MKFS[kind][1][0], "losetup"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    return ""


def run(*argv: object) -> str:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv[0]}: {done.stderr or done.stdout}"
    return done.stdout


class PowerDisk:
    """up() mounts it, arm() cuts its power later on, down() takes it away, cut or not."""

    def __init__(self, base: Path, kind: str) -> None:
        self.kind = kind
        self.image, self.served, self.mount = base / "image", base / "served", base / "mount"
        for folder in (base, self.served, self.mount):
            folder.mkdir()
        self.sector, mkfs = MKFS[kind]
        with self.image.open("wb") as f:
            f.truncate(IMAGE_BYTES)
        run(*mkfs, self.image)
        self.proc: subprocess.Popen[str] | None = None
        self.loop = ""
        self.mounts: list[Path] = []
        self.said = ""  # what became of the cache; "" while the power is on
        self.gone = threading.Event()
        self.victim: Server | None = None

    def up(self) -> None:
        program = Path(os.environ["SLDMKV_BUILD"]) / "tests" / "disk"
        self.said = ""
        self.gone.clear()
        self.proc = subprocess.Popen(
            [program, self.image, self.served, str(self.sector)], stdout=subprocess.PIPE, text=True
        )
        assert self.proc.stdout is not None
        assert self.proc.stdout.readline() == "ready\n", "the disk does not start"
        self.mounts.append(self.served)
        threading.Thread(target=self._watch, args=(self.proc,), daemon=True).start()
        find = ("losetup", "--find", "--show", "--direct-io=on", "--sector-size", self.sector)
        self.loop = run(*find, self.served / "disk").strip()
        cache = Path("/sys/block", Path(self.loop).name, "queue", "write_cache").read_text()
        assert cache == "write back\n", f"no flushes would come: {cache}"
        try:
            run("mount", "-t", self.kind, self.loop, self.mount)
        except AssertionError as e:
            if "unknown filesystem type" in str(e):
                pytest.skip(f"this kernel has no {self.kind}")
            raise
        self.mounts.append(self.mount)

    def _watch(self, proc: subprocess.Popen[str]) -> None:
        """The server dies first: nothing that comes of a lost disk may be acted upon."""
        assert proc.stdout is not None
        line = proc.stdout.readline()
        victim = self.victim if line else None
        if victim is not None:
            wait_until(lambda: victim.proc is not None, 10, "the process of the server")
            assert victim.proc is not None
            victim.proc.kill()
        self.said = line.strip()
        proc.kill()
        proc.wait()
        self.gone.set()

    def arm(self, seed: int, after: int, victim: Server | None) -> None:
        """The power goes at the after'th write or flush from now (0: now), and victim with it."""
        self.victim = victim
        with suppress(OSError), (self.served / "power").open("wb", buffering=0) as f:
            f.write(f"{seed} {after}\n".encode())  # fails when it is cut already

    def wait_cut(self, timeout_s: float = WAIT_S) -> str:
        assert self.gone.wait(timeout_s), "the power is still on"
        assert self.said, "the disk ended without a cut"
        return self.said

    def down(self) -> None:
        """Leaves nothing mounted, attached or running, whatever state it is in."""
        if self.mount in self.mounts:
            self._unmount(self.mount)
        if self.loop:
            run("losetup", "--detach", self.loop)
            self.loop = ""
        if self.served in self.mounts:
            self._unmount(self.served)
        if self.proc is not None:
            assert self.gone.wait(WAIT_S), "the disk does not end"
            self.proc = None

    def _unmount(self, folder: Path) -> None:
        """A process that just ended can hold it for a moment more."""
        deadline = time.monotonic() + 10
        while True:
            try:
                run("umount", folder)
                break
            except AssertionError:
                if time.monotonic() > deadline:
                    run("umount", "--lazy", folder)
                    break
                time.sleep(0.05)
        self.mounts.remove(folder)

    def forget(self, name: str) -> None:
        """No cut brings a part of that folder back."""
        if not (self.mount / name).exists():
            return
        shutil.rmtree(self.mount / name)
        folder = os.open(self.mount, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def check(self) -> None:
        """The file system is whole, as its own checker sees it; only after a clean end."""
        run(*CHECK[self.kind], self.image)

    def keep(self, path: Path) -> None:
        run("cp", "--sparse=always", self.image, path)

    def remove(self) -> None:
        with suppress(AssertionError):
            self.down()
        if self.proc is not None and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        assert not self.mounts and not self.loop, f"left behind: {self.mounts} {self.loop}"
