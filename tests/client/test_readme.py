# SPDX-License-Identifier: MIT
"""The first commands of the README, word for word, against a server on another port."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from harness import REPO, Server

LINES = re.findall(r"^    (redis-cli -p 50051 .*)$", (REPO / "README.md").read_text(), re.M)
ANSWERS = ["OK", None, "1", "OK", None]  # None: a map or a text, looked at below


@pytest.mark.ours
def test_the_five_lines_of_redis_cli(server: Server) -> None:
    assert len(LINES) == len(ANSWERS)
    shown = []
    for line, answer in zip(LINES, ANSWERS):
        words = shlex.split(line.replace("50051", str(server.port)), comments=True)
        done = subprocess.run(words, capture_output=True, timeout=30, text=True, check=True)
        shown.append(done.stdout.strip())
        assert answer is None or shown[-1] == answer, line
    assert "llama-3-8b" in shown[1]
    assert shown[4].startswith("# Kvcache")
