# SPDX-License-Identifier: MIT
"""Every source names its licence, every header of src/ opens with its contract."""

from __future__ import annotations

import re
from pathlib import Path

import repo

SPDX = "SPDX-License-Identifier: MIT"
HEADINGS = ("Purpose", "Threads")


def guard_of(name: Path) -> str:
    return "_".join(name.parts[1:]).upper().replace(".", "_").replace("-", "_")


def main() -> None:
    findings = []
    for name in repo.files(".c", ".h", under=("src", "utils", "tests")):
        text = repo.lines(name)
        if SPDX not in text[0]:
            findings.append(f"{name}:1: does not open with {SPDX}")
        if name.suffix != ".h" or name.parts[0] != "src":
            continue
        whole = "\n".join(text)
        findings += [
            f'{name}: the contract has no "{h}"'
            for h in HEADINGS
            if not name.name.endswith("_int.h") and not re.search(rf"^ \* {h}\b", whole, re.M)
        ]
        if f"#ifndef {guard_of(name)}\n" not in whole:
            findings.append(f"{name}: the include guard is {guard_of(name)}")
    repo.finish("licence lines, header contracts, guards", findings)


main()
