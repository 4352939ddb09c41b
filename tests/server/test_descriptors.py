# SPDX-License-Identifier: MIT
"""Few descriptors: clients get fewer, the store keeps its own, too few for it is a refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import Server, StartFailed

pytestmark = pytest.mark.ours


def clients_of(server: Server) -> int:
    with server.client() as c:
        reply = c.cmd("CONFIG", "GET", "maxclients")
        assert isinstance(reply, list)
        return int(reply[1])


def limited(new_server: Callable[..., Server], files: int) -> Server:
    """prlimit(1) sets both limits; without CAP_SYS_RESOURCE root cannot raise them again."""
    server = new_server(start=False)
    argv = server.argv

    server.argv = lambda: [  # type: ignore[method-assign]
        *("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"),
        *("prlimit", f"--nofile={files}:{files}"),
        *argv(),
    ]
    return server


def test_clients_get_what_is_left(new_server: Callable[..., Server]) -> None:
    server = limited(new_server, 256)
    server.start()
    assert 1 <= clients_of(server) < 256 - 64
    assert "maxclients lowered" in server.log()
    with server.client() as c:
        c.ok("SET", "k", b"x" * 100_000)  # a volume, the log and the index have theirs


def test_too_few_is_a_refusal(new_server: Callable[..., Server]) -> None:
    server = limited(new_server, 40)
    with pytest.raises(StartFailed) as caught:
        server.start()
    assert caught.value.code == 1
    assert "LimitNOFILE" in caught.value.log.splitlines()[-1]
