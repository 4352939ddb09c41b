# SPDX-License-Identifier: MIT
"""Plays transcripts/*.txt: every command, option and edge case, reply by reply.

``pytest tests/server/test_transcripts.py --target redis`` proves the expectations on redis-server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Client, Server, is_error
from transcript import Case, Player, parse_file, write_recorded

FOLDER = Path(__file__).resolve().parent / "transcripts"
CASES = [case for path in sorted(FOLDER.glob("*.txt")) for case in parse_file(path)]


def param(case: Case) -> object:
    name = f"{case.file.stem}::{case.name.replace(' ', '-')}"
    marks = [pytest.mark.ours] if case.ours_only else []
    return pytest.param(case, id=name, marks=marks)


@pytest.fixture(scope="session")
def recorded(request: pytest.FixtureRequest):
    """Replies to write into the files when the session ends (lines must stay put until then)."""
    found: dict[Path, dict[int, list[str]]] = {}
    yield found
    for path, lines in found.items():
        write_recorded(path, lines)


@pytest.mark.parametrize("case", [param(c) for c in CASES])
def test_transcript(
    case: Case,
    request: pytest.FixtureRequest,
    server: Server,
    new_server: Callable[..., Server],
    recorded: dict[Path, dict[int, list[str]]],
) -> None:
    target_server = new_server(**case.options) if case.own_server else server
    record = bool(request.config.getoption("--record"))
    player = Player(case, target_server.client, record)
    try:
        player.play()
    finally:
        if record:
            recorded.setdefault(case.file, {}).update(player.recorded)


def test_names_are_unique() -> None:
    names = [(c.file.name, c.name) for c in CASES]
    assert len(set(names)) == len(names)


def test_a_wrong_expectation_fails(server: Server, tmp_path: Path) -> None:
    """The player itself must be able to fail: each of these is wrong in one detail."""
    wrong = ['"OK"', "+OKAY", ":1", "nil", "-ERR x", "*0", "+/O/", "null", "%0"]
    for text in wrong:
        path = tmp_path / "t.txt"
        path.write_text(f"== x\n> SET k v\n{text}\n")
        (case,) = parse_file(path)
        with pytest.raises(AssertionError):
            Player(case, server.client).play()
    with server.client() as c:
        assert isinstance(c, Client) and is_error(c.cmd("SET", "k"), b"ERR wrong number")
