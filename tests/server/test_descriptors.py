# SPDX-License-Identifier: MIT
"""Few descriptors: clients get fewer, the store keeps its own, too few for it is a refusal."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

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


def cpu_s(server: Server) -> float:
    fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_accepting_rests(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with server.client() as c:
        c.ok("SET", "k", "v")
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            late = server.client()  # the kernel connects it, the server cannot accept it
            late.send_cmd("PING")
            before = cpu_s(server)
            assert late.pending(2.0) == b""
            assert cpu_s(server) - before < 0.2, "the loop turns without rest"
        finally:
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        with late:
            assert late.read() == b"PONG"
        assert c.cmd("GET", "k") == b"v"
