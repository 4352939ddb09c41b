# SPDX-License-Identifier: MIT
"""Data directories that a server of format 1 left behind are read, and written on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import contents
import pytest
from harness import REPO, Server, StartFailed

pytestmark = pytest.mark.ours

TOOL = Path(os.environ.get("SLDMKV_BIN", REPO / "build")) / "sldmkv-check"


@pytest.fixture(params=["yes", "no"])
def old(request: pytest.FixtureRequest, new_server: Callable[..., Server]) -> Server:
    server = new_server(start=False, raft=request.param, **contents_options())
    server.base.mkdir(parents=True)
    contents.unpack(contents.archive(request.param), server.base)
    return server


def contents_options() -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in contents.STORE_OPTIONS.items()}


def test_an_old_directory_is_read_and_written_on(old: Server) -> None:
    old.start()
    with old.client() as c:
        contents.check(c)
        c.ok("SET", "new", contents.body(30_000, 99))
        assert c.cmd("DEL", "chunks", "inline") == 2
        assert c.cmd("APPEND", "slab", "!") == 300_001
    old.kill9()
    old.start()
    with old.client() as c:
        assert c.cmd("GET", "new") == contents.body(30_000, 99)
        assert c.cmd("EXISTS", "chunks", "inline") == 0
        assert c.cmd("GET", "slab") == contents.body(300_000, 3) + b"!"
        assert c.cmd("DEL", "new") == 1
        assert c.cmd("SETRANGE", "slab", 300_000, "") == 300_001


def test_after_a_clean_stop_nothing_is_replayed(old: Server) -> None:
    old.start()
    old.stop()
    checked = subprocess.run(
        [TOOL, str(old.data)], capture_output=True, text=True, timeout=120, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    old.start()
    with old.client() as c:
        contents.check(c)


def test_the_tool_finds_an_old_directory_sound(old: Server) -> None:
    checked = subprocess.run(
        [TOOL, str(old.data)], capture_output=True, text=True, timeout=120, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_newer_format_is_refused_with_who_can_read_it(old: Server) -> None:
    text = (old.data / "FORMAT").read_text()
    (old.data / "FORMAT").write_text(text.replace("format 1\n", "format 2\n", 1))
    before = sorted(path.name for path in old.data.iterdir())
    with pytest.raises(StartFailed) as caught:
        old.start()
    assert caught.value.code == 1
    line = caught.value.log.splitlines()[-1]
    assert "format 2 is newer than format 1" in line and "the version that wrote it" in line, line
    assert set(before) <= {path.name for path in old.data.iterdir()} <= {*before, "LOCK"}
    (old.data / "FORMAT").write_text(text)
    old.start()
