# SPDX-License-Identifier: MIT
"""No file, function or line longer than a reader can hold."""

from __future__ import annotations

import re
from pathlib import Path

import repo

MAX_SOURCE = 800
MAX_HEADER = 150
MAX_FUNCTION = 70
MAX_COLUMNS = 100

FUNCTION_OPEN = re.compile(r"^(\{|[A-Za-z_].*\)\s*\{)\s*$")


def functions(name: Path, text: list[str]) -> list[str]:
    """A function is what stands between two braces in the first column."""
    findings, start = [], None
    for number, line in enumerate(text, 1):
        if FUNCTION_OPEN.match(line):
            start = number
        elif line.startswith("}") and start is not None:
            if number - start > MAX_FUNCTION:
                findings.append(
                    f"{name}:{start}: function of {number - start} lines (limit {MAX_FUNCTION})"
                )
            start = None
    return findings


def main() -> None:
    findings = []
    for name in repo.files(".c", ".h", ".py", ".sh"):
        text = repo.lines(name)
        count = len(text) - 1
        limit = MAX_HEADER if name.suffix == ".h" else MAX_SOURCE
        if count > limit:
            findings.append(f"{name}: {count} lines (limit {limit}: split along a seam)")
        if name.suffix == ".c":
            findings += functions(name, text)
        for number, line in enumerate(text, 1):
            if len(line) > MAX_COLUMNS:
                findings.append(f"{name}:{number}: {len(line)} columns (limit {MAX_COLUMNS})")
    repo.finish("sizes", findings)


main()
