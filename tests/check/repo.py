# SPDX-License-Identifier: MIT
"""What every check shares: the files of the repository, and how a finding is reported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def files(*suffixes: str, under: tuple[str, ...] = ()) -> Iterator[Path]:
    """Tracked and new files, not the ignored ones, as paths relative to the root.

    Outside a git checkout (a source archive) everything but build/ and data/ counts.
    """
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(git, capture_output=True, check=False)
    if listing.returncode == 0:
        names = [Path(n) for n in listing.stdout.decode().split("\0") if n]
    else:
        names = [p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file()]
        names = [n for n in names if n.parts[0] not in ("build", "data", ".git")]
    for name in sorted(set(names)):
        if suffixes and not name.name.endswith(suffixes):
            continue
        if under and name.parts[0] not in under:
            continue
        if (ROOT / name).is_file():
            yield name


def lines(name: Path) -> list[str]:
    """The lines of a text file; an empty list for a binary one."""
    data = (ROOT / name).read_bytes()
    return [] if b"\0" in data else data.decode(errors="replace").split("\n")


def finish(what: str, findings: list[str]) -> None:
    """Prints the findings or one "ok" line; ends the process with the status of the check."""
    for finding in findings:
        print(finding)
    print(f"{'not ok' if findings else 'ok'} - {what}")
    sys.exit(1 if findings else 0)
