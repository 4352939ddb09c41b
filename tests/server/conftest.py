# SPDX-License-Identifier: MIT
"""Fixtures and options of the black-box tests are in fixtures.py, which other suites use too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fixtures import *  # noqa: E402, F403
