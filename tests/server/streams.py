# SPDX-License-Identifier: MIT
"""What the tests of large values from disk share: cold values and clients that take them slowly."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness import Client, Server, info_of, wait_until
from test_values import KIB, MIB

WHOLE = 4 * MIB
GROUP = 2 * MIB
CHUNK = 256 * KIB
GROUPS = 3
STORE = {"max_store_bytes": "2gb", "volume_size": "256mb"}

NewServer = Callable[..., Server]


def cold(server: Server, values: dict[str, bytes]) -> None:
    """Stores the values and forgets them in memory."""
    with server.client(timeout_s=60) as c:
        for key, value in values.items():
            c.ok("SET", key, value)
    restart(server)


def restart(server: Server) -> None:
    server.stop()
    server.start()


def number(server: Server, field: str) -> int:
    with server.client() as c:
        return int(info_of(c, "everything")[field])


def narrow(server: Server, timeout_s: float = 60) -> Client:
    """A client whose socket takes little: the server cannot push a value out ahead of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
    sock.settimeout(timeout_s)
    sock.connect(("127.0.0.1", server.port))
    c = Client.__new__(Client)
    c.sock, c._buf, c._pos, c.ended = sock, bytearray(), 0, False
    return c


@contextmanager
def in_the_middle(server: Server, key: str, size: int) -> Iterator[Client]:
    """A client that has asked for a value and read its length and first bytes."""
    with narrow(server) as c:
        c.send_cmd("GET", key)
        assert c._line() == b"$%d" % size
        yield c


def rest(c: Client, size: int) -> bytes:
    data = c.read_exact(size)
    assert c.read_exact(2) == b"\r\n"
    return data


def nothing_left(server: Server) -> None:
    for field in ("streams", "payload_used_bytes", "volumes_pinned"):
        wait_until(lambda: number(server, field) == 0, 30, f"{field} is 0")
