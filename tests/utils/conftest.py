# SPDX-License-Identifier: MIT
"""The tools' tests start servers with the harness of the black-box tests."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests" / "server"))

from harness import Server


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder on a real disk: direct I/O is refused on some tmpfs."""
    with tempfile.TemporaryDirectory(
        prefix="sldmkv-utils-test-", dir=os.environ.get("SLDMKV_TEST_DIR")
    ) as path:
        yield Path(path)


@pytest.fixture
def new_server(scratch: Path) -> Iterator[Callable[..., Server]]:
    """``new_server(raft="no")``: started; stopped at the end of the test if it still runs."""
    made: list[Server] = []

    def start(data: Path | None = None, **options: str) -> Server:
        base = data.parent if data else scratch / f"server-{len(made)}"
        server = Server(
            "ours", base, {k.replace("_", "-"): v for k, v in options.items()}
        )
        server.options |= {"max-store-bytes": "1gb", "volume-size": "64mb"}
        if data:
            server.options["data-dir"] = str(data)
        made.append(server)
        return server.start()

    yield start
    for server in made:
        if server.alive():
            server.stop()
