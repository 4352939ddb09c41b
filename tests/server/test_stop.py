# SPDX-License-Identifier: MIT
"""A clean stop: what was asked before it is answered whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from harness import Server
from test_values import MIB, body, same

pytestmark = pytest.mark.ours


def test_a_reply_that_is_being_read_is_finished(new_server: Callable[..., Server]) -> None:
    server = new_server(volume_size="128mb", max_memory_bytes="512mb")
    data = body(48 * MIB)
    got: list[object] = []
    with server.client(timeout_s=60) as c:
        c.ok("SET", "k", data)
        c.cmd("GET", "k")
        c.send_cmd("GET", "k")
        first = c.sock.recv(4096)
        c._buf += first  # noqa: SLF001

        def read_slowly() -> None:
            time.sleep(0.5)
            got.append(c.read())

        reader = threading.Thread(target=read_slowly)
        reader.start()
        server.stop()
        reader.join(60)
    same(got[0], data)


def test_one_who_never_reads_does_not_stop_the_stop(new_server: Callable[..., Server]) -> None:
    server = new_server(volume_size="128mb", max_memory_bytes="512mb", shutdown_timeout="2")
    with server.client(timeout_s=60) as c:
        c.ok("SET", "k", body(48 * MIB))
        c.send_cmd("GET", "k")
        c.sock.recv(1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 15
