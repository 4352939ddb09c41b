# SPDX-License-Identifier: MIT
"""Fixtures of the black-box tests; ``--target redis`` runs them against redis-server."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Server, server_binary  # noqa: E402

# A server that hangs costs one test, not the run. Sanitizer builds are several times slower.
TEST_TIMEOUT_S = 180


def pytest_addoption(parser: pytest.Parser) -> None:
    """With both suites named on one command line, the second conftest.py finds them added."""
    with suppress(ValueError):
        parser.addoption(
            "--target",
            choices=("ours", "redis"),
            default=os.environ.get("SLDMKV_TEST_TARGET", "ours"),
            help="server under test: build/sldmkv-server (or $SLDMKV_SERVER), or redis-server",
        )
        parser.addoption(
            "--record",
            action="store_true",
            help="fill transcripts with the replies of the target where they have none",
        )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ours: the behaviour has no counterpart in redis-server")
    config.addinivalue_line("markers", "slow: more than about five seconds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))
    if config.getoption("--target") != "redis":
        return
    kept = [i for i in items if i.get_closest_marker("ours") is None]
    config.hook.pytest_deselected(items=[i for i in items if i not in kept])
    items[:] = kept


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> str:
    name = str(request.config.getoption("--target"))
    server_binary(name)
    return name


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder on a real disk: direct I/O and O_TMPFILE are refused on some tmpfs."""
    root = os.environ.get("SLDMKV_TEST_DIR")
    path = Path(tempfile.mkdtemp(prefix="sldmkv-server-test-", dir=root))
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Factory:
    """Makes servers, remembers them, stops them and checks how they ended."""

    def __init__(self, target: str, scratch: Path) -> None:
        self.target = target
        self.scratch = scratch
        self.made: list[Server] = []
        self._numbers = itertools.count()

    def __call__(
        self,
        start: bool = True,
        target: str = "",
        base: Path | None = None,
        **options: str | list[str],
    ) -> Server:
        named = {k.replace("_", "-"): v for k, v in options.items()}
        if base is None:
            base = self.scratch / f"srv-{id(self):x}-{next(self._numbers)}"
        server = Server(target or self.target, base, named)
        self.made.append(server)
        return server.start() if start else server

    def close(self) -> None:
        problems = []
        for server in self.made:
            try:
                if server.alive():
                    server.stop()
                elif server.proc is not None and server.log_path.exists():
                    server.check_log()
            except AssertionError as e:
                problems.append(str(e))
            shutil.rmtree(server.base, ignore_errors=True)
        assert not problems, "\n".join(problems)


@pytest.fixture
def new_server(target: str, scratch: Path) -> Iterator[Callable[..., Server]]:
    """Servers of one test: ``new_server(requirepass="x")``; stopped and checked at its end."""
    factory = Factory(target, scratch)
    yield factory
    factory.close()


@pytest.fixture(scope="session")
def shared(target: str, scratch: Path) -> Iterator[Factory]:
    factory = Factory(target, scratch)
    yield factory
    factory.close()


@pytest.fixture
def server(shared: Factory) -> Iterator[Server]:
    """The server most tests share, empty at the start of each test.

    One that died or stopped answering fails the test that did it and is started anew.
    """
    if not shared.made or not shared.made[-1].alive():
        shared()
    current = shared.made[-1]
    with current.client() as c:
        c.ok("FLUSHALL")
    yield current
    assert current.alive(), "the server died:\n" + current.log()[-4000:]
    if not current.answers():
        current.kill9()
        pytest.fail("the server no longer answers PING")
