# SPDX-License-Identifier: MIT
"""make bench: figures of sldmkv-server next to redis-server and fio in the same run.

    python utils/bench [--full] [--only NAME[,NAME]] [--rounds N] [--dir FOLDER] [--list]

Every figure is measured in rounds in which the contenders take turns, so that a machine that slows
down slows all of them; the table gives the median and the range. loadgen compares every byte it
reads with what must be there: a wrong answer, or a process that fails, ends the run with status 1.
Progress goes to stderr, the table (Markdown) and one JSON object to stdout.

The short form takes a few minutes with reduced sizes; --full takes those of the issue: 60 s a
measurement of small commands, 1 M keys and 20 GB.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from figures import FIGURES
from report import machine, markdown, to_json
from run import Bench, Failed

REPO = Path(__file__).resolve().parents[2]


def options() -> argparse.Namespace:
    names = ", ".join(FIGURES)
    p = argparse.ArgumentParser(prog="make bench", description=f"Figures: {names}")
    p.add_argument("--full", action="store_true", help="the issue's sizes instead of reduced ones")
    p.add_argument("--only", default="", help="figures to take, separated by commas")
    p.add_argument("--rounds", type=int, default=0, help="default 3, with --full 5")
    p.add_argument("--dir", type=Path, default=REPO / "build", help="where the data goes (build)")
    p.add_argument("--list", action="store_true", help="name the figures and end")
    return p.parse_args()


def main() -> int:
    o = options()
    if o.list:
        for name, figure in FIGURES.items():
            print(f"{name:10} {(figure.__doc__ or '').splitlines()[0]}")
        return 0
    chosen = [n for n in o.only.split(",") if n] or list(FIGURES)
    unknown = [n for n in chosen if n not in FIGURES]
    if unknown:
        print(f"bench: no figure {', '.join(unknown)}: {', '.join(FIGURES)}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as on ^C
    o.dir.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=o.dir))
    bench = Bench(REPO, scratch, full=o.full, rounds=o.rounds or (5 if o.full else 3))
    try:
        for name in chosen:
            bench.begin(name)
            FIGURES[name](bench)
            bench.end()
    except Failed as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
    finally:
        bench.end()
        shutil.rmtree(scratch, ignore_errors=True)
    about = machine(bench, o.dir)
    print(markdown(bench, about))
    print(to_json(bench, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
