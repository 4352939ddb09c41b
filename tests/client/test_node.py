# SPDX-License-Identifier: MIT
"""Node's two clients as they are: ioredis, and node-redis in its last three major versions."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import REPO, Server

SCRIPTS = Path(__file__).resolve().parent / "node"
BUILD = Path(os.environ.get("SLDMKV_BUILD", REPO / "build"))


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The packages of node/package.json, installed once under build/node."""
    folder = BUILD / "node"
    wanted = (SCRIPTS / "package.json").read_text()
    installed = folder / "package.json"
    done = folder / "node_modules" / ".complete"
    if not done.exists() or installed.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        installed.write_text(wanted)
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent"],
            cwd=folder,
            check=True,
            timeout=300,
        )
        done.touch()
    return folder


CLIENTS = [
    ("ioredis5", "ioredis.js", "2"),
    ("ioredis6", "ioredis.js", "2"),
    ("ioredis6", "ioredis.js", "3"),
    ("redis4", "node_redis4.js", "2"),
    ("redis5", "node_redis.js", "2"),
    ("redis5", "node_redis.js", "3"),
    ("redis6", "node_redis.js", "2"),
    ("redis6", "node_redis.js", "3"),
]


@pytest.mark.parametrize(("client", "script", "protocol"), CLIENTS)
def test_what_applications_do(
    server: Server, node_modules: Path, client: str, script: str, protocol: str
) -> None:
    for name in (script, "common.js"):
        shutil.copy(SCRIPTS / name, node_modules / name)
    done = subprocess.run(
        ["node", script, str(server.port), protocol, client],
        capture_output=True,
        timeout=120,
        cwd=node_modules,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert done.stdout == f"ok {client}\n"
