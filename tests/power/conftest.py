# SPDX-License-Identifier: MIT
"""Power tests: servers, load and ledger are those of the black-box and of the crash tests."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "server"), str(TESTS / "crash")]

from fixtures import *  # noqa: E402, F403
