# SPDX-License-Identifier: MIT
"""The Python of both READMEs runs as it stands, on another port."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo_prefix import Server

PACKAGE = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("readme", [PACKAGE / "README.md", PACKAGE.parent / "README.md"], ids=str)
def test_example(kv_server: Server, readme: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.M | re.S)
    for library in re.findall(r"^import (\w+)", code, re.M):
        pytest.importorskip(library)
    assert "localhost:50051" in code
    code = code.replace("localhost:50051", kv_server.url)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
