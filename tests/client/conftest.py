# SPDX-License-Identifier: MIT
"""Client libraries as they are: servers and options as in the black-box tests."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from fixtures import *  # noqa: E402, F403


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """LMCache's clients are a suite of their own, run where LMCache is: in build/venv-lmcache."""
    if collection_path.name == "test_lmcache.py" and find_spec("lmcache") is None:
        return True
    return None
