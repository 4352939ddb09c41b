# SPDX-License-Identifier: MIT
"""Compatibility tests: servers and options are those of the black-box tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from fixtures import *  # noqa: E402, F403
