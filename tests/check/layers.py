# SPDX-License-Identifier: MIT
"""Includes point one way, and a third-party header belongs to the files that own it."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import repo

# layer → the layers it may include. main.c builds the object graph and may name all of them.
BELOW: dict[str, set[str]] = {
    "base": set(),
    "config": {"base"},
    "metric": {"base"},
    "resp": {"base"},
    "log": {"base"},
    "store": {"config", "metric", "base"},
    "fsm": {"store", "config", "metric", "base"},
    "peer": {"resp", "store", "config", "metric", "base"},
    "server": {"fsm", "log", "peer", "resp", "store", "config", "metric", "base"},
}

# header → patterns of the files that may include it.
OWNERS: dict[str, tuple[str, ...]] = {
    "raft.h": ("src/log/*",),
    "raft/*": ("src/log/*",),
    "uv.h": ("src/log/*",),
    "lmdb.h": (
        "src/store/index*.[ch]",
        "src/store/checkpoint*.c",
        "src/store/slab.c",
        "src/store/backup.c",
    ),
    "hiredis/*": ("utils/*", "src/peer/*"),
    "xxhash.h": ("src/base/hash.[ch]",),
    "xxh_x86dispatch.h": ("src/base/hash.[ch]",),
    "event2/*": ("src/server/*", "src/main.c", "src/resp/emit.[ch]"),
    "jemalloc/*": ("src/base/*", "src/metric/*", "src/server/*info*.c"),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(name: Path) -> str | None:
    return name.parts[1] if name.parts[0] == "src" and len(name.parts) > 2 else None


def check_own(name: Path, target: str) -> str | None:
    """An include between quotes: direction, and *_int.h stays inside its layer."""
    layer, below = layer_of(name), target.split("/")[0]
    if layer is None:
        inner = target.endswith("_int.h") and name.parts[0] == "src"
        return f"{target} is internal to {below}" if inner else None
    if layer not in BELOW:
        return f"no layer is named {layer}"
    if "/" not in target or below == layer:
        return None
    if below not in BELOW[layer]:
        return f"{layer} may not include {target}"
    return f"{target} is internal to {below}" if target.endswith("_int.h") else None


def check_foreign(name: Path, target: str) -> str | None:
    for header, owners in OWNERS.items():
        if fnmatch(target, header) and not any(fnmatch(str(name), o) for o in owners):
            return f"{target} belongs to {', '.join(owners)}"
    return None


def main() -> None:
    findings = []
    for name in repo.files(".c", ".h", under=("src", "utils")):
        for number, line in enumerate(repo.lines(name), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quoted, target = match[1] == '"', match[2]
            wrong = check_own(name, target) if quoted else None
            wrong = wrong or check_foreign(name, target)
            if wrong:
                findings.append(f"{name}:{number}: {wrong}")
    repo.finish("include direction and header owners", findings)


main()
