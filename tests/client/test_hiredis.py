# SPDX-License-Identifier: MIT
"""hiredis, the C client: the example of this repository with a block of 32 MiB."""

from __future__ import annotations

import os
import subprocess

import pytest

from harness import Server


@pytest.mark.ours
def test_a_block_of_32_mib(server: Server) -> None:
    program = os.path.join(os.environ["SLDMKV_BIN"], "simple_client")
    done = subprocess.run(
        [program, "127.0.0.1", str(server.port), "32"],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{32 << 20} bytes are equal" in done.stdout
