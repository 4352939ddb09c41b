# SPDX-License-Identifier: MIT
"""Makes the golden files of format 1 from the server in build/: formats.txt, format-1-*.tar.xz.

    make golden

Only while format 1 is in the making. Once released, these files change never: what differs is
another format, with files of its own beside these.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path.insert(0, str(REPO / "tests" / "server"))

import contents  # noqa: E402
from harness import Server, info_of, wait_until  # noqa: E402


def fill_log(server: Server) -> None:
    """Until a snapshot of the log is taken: by their number, so that nothing becomes large."""
    with server.client() as c:
        while info_of(c)["raft_snapshot_index"] == "0":
            for _ in range(500):
                c.cmd("INCR", "counter")
        c.ok("SET", "counter", "done")


def durable(server: Server) -> bool:
    with server.client() as c:
        info = info_of(c)
    return info["raft_durable_index"] == info["raft_applied_index"]


def make_data(raft: str, base: Path) -> None:
    server = Server("ours", base, contents.STORE_OPTIONS | {"raft": raft})
    server.start()
    try:
        with server.client() as c:
            contents.write_old(c)
            if raft == "yes":
                fill_log(server)
            wait_until(lambda: durable(server), what="a checkpoint")
            contents.write_new(c)
            behind = not durable(server)
        server.kill9()
    finally:
        if server.alive():
            server.kill9()
    if raft == "yes" and not behind:
        raise SystemExit("the checkpoint came too early: once more, please")
    contents.pack(server.data, contents.archive(raft))
    print(contents.archive(raft).name, contents.archive(raft).stat().st_size, "bytes")


def make_formats() -> None:
    text = REPO / "tests" / "compat" / "formats.txt"
    text.write_text(
        "# Bytes of format 1; rows of zeros are left out. tests/unit/test_formats.c checks them.\n"
    )
    program = Path(os.environ.get("SLDMKV_BUILD", REPO / "build")) / "debug/tests/test_formats"
    subprocess.run([program], cwd=REPO, env=os.environ | {"SLDMKV_GOLDEN": "write"}, check=True)


if __name__ == "__main__":
    make_formats()
    with tempfile.TemporaryDirectory(dir=os.environ.get("SLDMKV_TEST_DIR")) as scratch:
        for kind in ("yes", "no"):
            make_data(kind, Path(scratch) / kind)
