# SPDX-License-Identifier: MIT
"""Server processes: start, kill, and what /proc knows of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

START_TIMEOUT_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")
PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Server:
    """One process on a loopback port; its data lives in ``base`` over kill and start."""

    def __init__(self, binary: str, base: Path, options: dict[str, str]) -> None:
        self.binary = binary
        self.base = base
        self.options = {k.replace("_", "-"): v for k, v in options.items()}
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def fixed(self) -> dict[str, str]:
        raise NotImplementedError

    def start(self) -> None:
        self.spawn()
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.ask(PING, len(PONG)) != PONG:
            if not self.alive() or time.monotonic() > deadline:
                raise RuntimeError(f"{self.binary} does not start:\n{self.log()[-2000:]}")
            time.sleep(0.005)

    def spawn(self) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        argv = [self.binary]
        for name, value in (self.fixed() | self.options).items():
            argv += [f"--{name}", value]
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.base
            )

    def ask(self, request: bytes, want: int) -> bytes:
        """The first ``want`` bytes of the answer, or an error; fewer when there is none."""
        got = bytearray()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as s:
                s.sendall(request)
                while len(got) < want and not (got[:1] == b"-" and got.endswith(b"\n")):
                    part = s.recv(min(want - len(got), 1 << 20))
                    if not part:
                        break
                    got += part
        except OSError:
            return b""
        return bytes(got)

    def kill(self) -> None:
        """SIGKILL: what the next start finds is what a crash leaves."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        path = self.base / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def proc(self, name: str) -> str:
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/{name}").read_text()

    def cpu_seconds(self) -> float:
        """User and system time of all its threads; of kernel threads that write for it, none."""
        fields = self.proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def written_bytes(self) -> int:
        """What it caused to be sent to the device."""
        line = next(x for x in self.proc("io").splitlines() if x.startswith("write_bytes"))
        return int(line.split()[1])

    def rss_anon(self) -> int:
        line = next(x for x in self.proc("status").splitlines() if x.startswith("RssAnon"))
        return int(line.split()[1]) * 1024


class Ours(Server):
    def fixed(self) -> dict[str, str]:
        return {
            "port": str(self.port),
            "data-dir": str(self.base / "data"),
            "max-store-bytes": "4gb",
        }


class Redis(Server):
    """Durable as asked for. Rewriting the log is off: it would only cost redis-server time."""

    def fixed(self) -> dict[str, str]:
        return {
            "port": str(self.port),
            "dir": str(self.base),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "auto-aof-rewrite-percentage": "0",
        }


class Peak:
    """Highest RssAnon of a server while the block runs, looked at every 5 ms."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.bytes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._end.wait(0.005):
            if self.server.alive():
                self.bytes = max(self.bytes, self.server.rss_anon())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
