# SPDX-License-Identifier: MIT
"""Client libraries as they are: redis-py 8 and 4.3, ioredis, node-redis."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import REPO, Server

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("SLDMKV_BUILD", REPO / "build"))


def run(server: Server, argv: list[str], cwd: Path | None = None, timeout_s: int = 90) -> str:
    done = subprocess.run(argv, capture_output=True, timeout=timeout_s, cwd=cwd, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--protocol", "2"],
        ["--protocol", "3"],
        ["--protocol", "2", "--no-hiredis"],
        ["--protocol", "3", "--no-hiredis"],
        [],
        ["--async"],
        ["--async", "--protocol", "2", "--no-hiredis"],
    ],
    ids=" ".join,
)
def test_redis_py(server: Server, target: str, options: list[str]) -> None:
    kv = ["--kv"] if target == "ours" else []
    out = run(
        server, [sys.executable, str(HERE / "client_check.py"), str(server.port), *options, *kv]
    )
    assert "\nok " in "\n" + out


@pytest.mark.parametrize("options", [["--no-hiredis"], ["--no-hiredis", "--async"]], ids=" ".join)
def test_redis_py_4_3(server: Server, target: str, options: list[str]) -> None:
    python = BUILD / "venv-redis43" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is made by make test")
    kv = ["--kv"] if target == "ours" else []
    out = run(server, [str(python), str(HERE / "client_check.py"), str(server.port), *options, *kv])
    assert "ok 4.3." in out


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The packages of node/package.json, installed once under build/node."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    folder = BUILD / "node"
    wanted = (HERE / "node" / "package.json").read_text()
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


@pytest.mark.parametrize("script", ["ioredis.js", "node_redis.js"])
def test_node_clients(server: Server, node_modules: Path, script: str) -> None:
    shutil.copy(HERE / "node" / script, node_modules / script)
    shutil.copy(HERE / "node" / "common.js", node_modules / "common.js")
    for protocol in ("2", "3"):
        out = run(server, ["node", script, str(server.port), protocol], cwd=node_modules)
        assert out.startswith("ok "), out
