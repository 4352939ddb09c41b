# SPDX-License-Identifier: MIT
"""Servers of the tests: a real one, redis-server for what it knows, and one that misbehaves."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SRC = HERE.parent / "src"
# The tests run from the source tree, installed or not; so do the processes they start.
sys.path[:0] = [str(HERE), str(HERE.parent / "examples"), str(SRC)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])

from demo_prefix import Server, server_binary  # noqa: E402
from misbehaving import Misbehaving  # noqa: E402
from sldmkvcachestore.client import KVCacheClient  # noqa: E402

if importlib.util.find_spec("vllm") is None:
    collect_ignore = ["engine"]  # real engines: make test-vllm


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder on a real disk, with a path short enough for a unix socket."""
    path = Path(tempfile.mkdtemp(prefix="sldmkv-py-", dir=os.environ.get("SLDMKV_TEST_DIR")))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def started(scratch: Path, kind: str) -> Server:
    """A running server of one kind, with a unix socket at ``<folder>/sock``."""
    folder = scratch / kind
    folder.mkdir()
    socket_option = ("--unixsocket", str(folder / "sock"))
    if kind == "redis":
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is not installed")
        launcher = folder / "redis"  # redis-server has no --data-dir, and its own defaults
        launcher.write_text(f'#!/bin/sh\nshift 2\nexec {binary} --save "" --dir {folder} "$@"\n')
        launcher.chmod(0o700)
        server = Server(folder, *socket_option, binary=launcher)
    else:
        if not server_binary().exists():
            pytest.skip(f"{server_binary()} is not built (make)")
        server = Server(folder, *socket_option, "--max-store-bytes", "2gb")
    server.start()
    return server


@pytest.fixture(scope="session")
def redis_server(scratch: Path) -> Iterator[Server]:
    server = started(scratch, "redis")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kv_server(scratch: Path) -> Iterator[Server]:
    server = started(scratch, "sldmkv")
    yield server
    server.stop()


@pytest.fixture(params=["redis_server", "kv_server"])
def any_server(request: pytest.FixtureRequest) -> Server:
    """Both, for what both know: GET and SET."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def client(kv_server: Server) -> Iterator[KVCacheClient]:
    """A client of the real server, which is empty when the test begins."""
    with KVCacheClient(kv_server.url, timeout_s=20) as made:
        keys = [*made.list()]
        assert made.delete(*keys) == len(keys)
        yield made


@pytest.fixture
def misbehaving() -> Iterator[Misbehaving]:
    server = Misbehaving()
    yield server
    server.close()
