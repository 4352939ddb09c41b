# SPDX-License-Identifier: MIT
"""Clients that ask for much and read nothing: memory is bounded and others are served."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from harness import Client, Server
from test_values import body

pytestmark = pytest.mark.ours

MIB = 1 << 20
CLIENTS = 50
PUSH_S = 3.0


def push(clients: list[Client], data: bytes, server: Server) -> int:
    """Sends without reading for a while; returns the most memory it had meanwhile."""
    most = 0
    until = time.monotonic() + PUSH_S
    for c in clients:
        c.sock.setblocking(False)
    while time.monotonic() < until:
        for c in clients:
            try:
                c.sock.send(data)
            except (BlockingIOError, ConnectionError):
                pass
        most = max(most, server.own_bytes())
        time.sleep(0.01)
    return most


@pytest.mark.parametrize(
    "command",
    [
        b"*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n",
        b"*4\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nCOUNT\r\n$6\r\n100000\r\n",
        b"*1\r\n$6\r\nKVKEYS\r\n",
        b"*1\r\n$7\r\nCOMMAND\r\n",
        b"*2\r\n$3\r\nGET\r\n$6\r\nmiddle\r\n",
        b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n",
        b"*2\r\n$4\r\nINFO\r\n$10\r\neverything\r\n",
        b"*2\r\n$6\r\nNOSUCH\r\n$1\r\nx\r\n",
    ],
    ids=lambda c: c.split(b"\r\n")[2].decode(),
)
def test_never_reading(new_server: Callable[..., Server], command: bytes) -> None:
    server = new_server(max_memory_bytes="64mb")
    with ExitStack() as stack:
        c = stack.enter_context(server.client(timeout_s=60))
        for n in range(3000):
            key = f"a key of sixty-four bytes, more or less, to make listings {n:06}"
            c.send_cmd("SET", key, "v")
        for _ in range(3000):
            c.read()
        c.ok("SET", "middle", b"m" * 16000)
        c.ok("SET", "large", body(MIB))
        before = server.own_bytes()
        greedy = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
        most = push(greedy, command * 200, server)
        assert most - before < 64 * MIB + 64 * MIB + CLIENTS * MIB, (before, most)
        assert c.cmd("GET", "middle") == b"m" * 16000
        for one in greedy:
            one.close()
        assert c.cmd("PING") == b"PONG"


@pytest.mark.parametrize("verb", ["SET", "GET"])
def test_commands_queued_in_multi(new_server: Callable[..., Server], verb: str) -> None:
    server = new_server()
    with server.client(timeout_s=120) as c:
        before = server.own_bytes()
        c.ok("MULTI")
        one = ("SET", "k", b"x" * 1000) if verb == "SET" else ("GET", "k")
        refused = None
        for n in range(200_000):
            c.send_cmd(*one)
            if n % 1000 == 999:
                replies = [c.read() for _ in range(1000)]
                refused = next((r for r in replies if r != b"QUEUED"), None)
                if refused is not None:
                    break
        assert refused == b"ERR transaction too large"
        assert server.own_bytes() - before < 64 * MIB
        assert bytes(c.cmd("EXEC")).startswith(b"EXECABORT")  # type: ignore[arg-type]
        c.ok("SET", "k", "v")
        c.ok("MULTI")
        assert c.cmd("GET", "k") == b"QUEUED"
        assert c.cmd("EXEC") == [b"v"]


@pytest.mark.parametrize("way", ["MSET", "MULTI"])
def test_more_values_at_once_than_memory(new_server: Callable[..., Server], way: str) -> None:
    """An error that can be read, and the memory is there for others."""
    server = new_server(max_memory_bytes="64mb")
    value = body(20 * MIB)
    with server.client(timeout_s=60) as c, server.client(timeout_s=60) as other:
        if way == "MSET":
            reply = c.cmd("MSET", *[part for n in range(5) for part in (f"k{n}", value)])
        else:
            c.ok("MULTI")
            for n in range(5):
                reply = c.cmd("SET", f"k{n}", value)
                if reply != b"QUEUED":
                    break
        assert isinstance(reply, bytes) and reply.startswith(b"OOM no room"), reply
        other.ok("SET", "other", value)
        if way == "MULTI":
            assert bytes(c.cmd("EXEC")).startswith(b"EXECABORT")  # type: ignore[arg-type]
        assert c.cmd("DBSIZE") == 1
        c.ok("SET", "k", value)
        assert c.cmd("GET", "k") == value
