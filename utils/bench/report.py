# SPDX-License-Identifier: MIT
"""The table and the JSON object, with what a reader must know about the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

from run import Bench, Row


def first_line(*argv: str) -> str:
    try:
        out = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except OSError:
        return "absent"
    return out.strip().splitlines()[0] if out.strip() else "unknown"


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def disk(folder: Path) -> str:
    """Device, file system and its options of the folder's mount."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2] == number:
            kind, source = right.split()[:2]
            return f"{Path(source).name}, {kind} ({left.split()[5]},{right.split()[2]})"
    return "unknown"


def machine(bench: Bench, folder: Path) -> dict[str, Any]:
    server = first_line(str(bench.bin / "sldmkv-server"), "--version")
    commit = first_line("git", "-C", str(bench.repo), "describe", "--always", "--dirty")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "form": "full" if bench.full else "short, reduced sizes",
        "rounds": bench.rounds,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "kernel": platform.release(),
        "disk": disk(folder),
        "load_average": round(os.getloadavg()[1], 2),
        "sldmkv": f"{server} ({commit})",
        "redis": first_line("redis-server", "--version"),
        "fio": first_line("fio", "--version"),
    }


def number(value: float) -> str:
    if value >= 10000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def spread(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))}–{number(max(values))})"


def must(row: Row) -> str:
    if row.at_least is not None:
        return f"≥ {row.at_least:g}"
    return "" if row.at_most is None else f"≤ {row.at_most:g}"


def line(row: Row) -> str:
    theirs = f"{row.against}: {spread(row.theirs)}" if row.theirs else row.against
    ratio = f"{row.ratio:.2f}" if row.theirs else ""
    reached = {None: "", True: "yes", False: "**no**"}[row.reached]
    cells = [row.figure, row.unit, spread(row.ours), theirs, ratio, must(row), reached]
    return "| " + " | ".join(cells) + " |"


def markdown(bench: Bench, about: dict[str, Any]) -> str:
    out = [
        f"{about['date']}, {about['form']}, medians of {about['rounds']} rounds (lowest–highest).",
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, Linux "
        f"{about['kernel']}, {about['disk']}; load average {about['load_average']}.",
        f"{about['sldmkv']}; {about['redis'].partition(' sha=')[0]}; {about['fio']}.",
        "",
        "| figure | unit | sldmkv-server | compared with | ratio | must be | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    out += [line(row) for row in bench.rows]
    notes = list(dict.fromkeys(row.note for row in bench.rows if row.note))
    return "\n".join(out + [""] * bool(notes) + [f"- {note}" for note in notes])


def to_json(bench: Bench, about: dict[str, Any]) -> str:
    rows = [vars(row) | {"ratio": row.ratio, "reached": row.reached} for row in bench.rows]
    return json.dumps({"machine": about, "rows": rows}, ensure_ascii=False)
