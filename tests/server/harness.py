# SPDX-License-Identifier: MIT
"""Start a server, speak exact RESP to it, stop it and look at what it left behind.

Two targets share every helper: ``ours`` (build/sldmkv-server, or $SLDMKV_SERVER) and ``redis``
(redis-server from the PATH). A test that runs on both proves that its expectation is Redis's.

The client is our own on purpose: a client library folds "+OK", "$2 OK", nil arrays and nil bulks
into the same Python value, and hides what a malformed request does to the connection.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 20.0

# Bounded, so that many servers fit on one disk; room for the largest value Redis takes.
SMALL_STORE = {"max-store-bytes": "2gb", "volume-size": "256mb"}

Arg = bytes | bytearray | memoryview | str | int | float

SANITIZER = re.compile(
    rb"(ERROR|WARNING|SUMMARY): (Address|Thread|Leak|Memory|UndefinedBehavior)Sanitizer"
    rb"|runtime error: |ASSERT failed|assertion failed",
    re.IGNORECASE,
)


# ---------------------------------------------------------------- exact reply values


class Simple(bytes):
    """``+text``"""


class Error(bytes):
    """``-text``"""


class Double(bytes):
    """``,text``: the digits as they were sent"""


class BigNumber(bytes):
    """``(text``"""


class Verbatim(bytes):
    """``=txt:text``, the three format letters and the colon included"""


@dataclass(frozen=True)
class Null:
    """One of the three nulls: ``$-1``, ``*-1``, ``_``."""

    wire: bytes


NIL = Null(b"$-1")
NIL_ARRAY = Null(b"*-1")
NULL = Null(b"_")


class Map(list["tuple[Reply, Reply]"]):
    """``%n``: pairs in the order they came."""

    def get(self, key: bytes) -> Reply | None:
        return next((v for k, v in self if k == key), None)


class SetReply(list["Reply"]):
    """``~n``"""


class Push(list["Reply"]):
    """``>n``"""


Reply = (
    Simple
    | Error
    | Double
    | BigNumber
    | Verbatim
    | Null
    | Map
    | SetReply
    | Push
    | bytes
    | int
    | bool
    | list
)


def is_error(reply: Reply, prefix: bytes = b"") -> bool:
    return isinstance(reply, Error) and reply.startswith(prefix)


class ConnectionClosed(Exception):
    """The server ended the connection (EOF or reset)."""


class ProtocolViolation(Exception):
    """The server sent bytes that are no RESP."""


def encode(args: Sequence[Arg]) -> bytes:
    """One command as a RESP array of bulks."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = to_bytes(arg)
        out.append(b"$%d\r\n" % len(data))
        out.append(data)
        out.append(b"\r\n")
    return b"".join(out)


def to_bytes(arg: Arg) -> bytes:
    if isinstance(arg, str):
        return arg.encode()
    if isinstance(arg, (int, float)):
        return str(arg).encode()
    return bytes(arg)


class Client:
    """A blocking connection that returns exact replies.

    Thread: one at a time. Every wait ends after ``timeout_s`` with TimeoutError.
    """

    def __init__(self, port: int, timeout_s: float = REPLY_TIMEOUT_S, proto: int = 2) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buf = bytearray()
        self._pos = 0
        self.ended = False
        if proto == 3:
            hello = self.cmd("HELLO", "3")
            assert isinstance(hello, Map), hello

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    # sending

    def send(self, data: bytes | memoryview) -> None:
        try:
            self.sock.sendall(data)
        except (ConnectionResetError, BrokenPipeError) as e:
            raise ConnectionClosed(str(e)) from e

    def send_cmd(self, *args: Arg) -> None:
        self.send(encode(args))

    def cmd(self, *args: Arg) -> Reply:
        """Send one command and return its reply (errors are returned, not raised)."""
        self.send(encode(args))
        return self.read()

    def ok(self, *args: Arg) -> None:
        """Send one command that must answer +OK."""
        reply = self.cmd(*args)
        assert reply == b"OK" and isinstance(reply, Simple), (args[:3], reply)

    def pipeline(self, commands: Iterable[Sequence[Arg]]) -> list[Reply]:
        """Send all commands in one write, then read as many replies."""
        parts = [encode(c) for c in commands]
        self.send(b"".join(parts))
        return [self.read() for _ in parts]

    # receiving

    def _fill(self) -> None:
        try:
            chunk = self.sock.recv(1 << 20)
        except ConnectionResetError as e:
            self.ended = True
            raise ConnectionClosed("reset") from e
        if not chunk:
            self.ended = True
            raise ConnectionClosed("end of file")
        if self._pos:
            del self._buf[: self._pos]
            self._pos = 0
        self._buf += chunk

    def _line(self) -> bytes:
        start = self._pos
        while True:
            end = self._buf.find(b"\r\n", start)
            if end >= 0:
                line = bytes(self._buf[self._pos : end])
                self._pos = end + 2
                return line
            self._fill()
            start = self._pos

    def read_exact(self, n: int) -> bytes:
        have = len(self._buf) - self._pos
        if have >= n:
            data = bytes(self._buf[self._pos : self._pos + n])
            self._pos += n
            return data
        out = bytearray(n)
        view = memoryview(out)
        view[:have] = self._buf[self._pos :]
        self._buf.clear()
        self._pos = 0
        while have < n:
            try:
                got = self.sock.recv_into(view[have:])
            except ConnectionResetError as e:
                raise ConnectionClosed("reset") from e
            if not got:
                raise ConnectionClosed(f"end of file after {have} of {n} bytes")
            have += got
        return bytes(out)

    def read(self) -> Reply:
        line = self._line()
        if not line:
            raise ProtocolViolation("empty line")
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return Simple(rest)
        if kind == b"-":
            return Error(rest)
        if kind == b":":
            return int(rest)
        if kind == b",":
            return Double(rest)
        if kind == b"(":
            return BigNumber(rest)
        if kind == b"#":
            if rest not in (b"t", b"f"):
                raise ProtocolViolation(repr(line))
            return rest == b"t"
        if kind == b"_":
            if rest:
                raise ProtocolViolation(repr(line))
            return NULL
        if kind in b"$=":
            return self._read_bulk(kind, rest)
        if kind in b"*%~>":
            return self._read_aggregate(kind, rest)
        raise ProtocolViolation(repr(line))

    def _read_bulk(self, kind: bytes, rest: bytes) -> Reply:
        n = int(rest)
        if n == -1:
            return NIL
        data = self.read_exact(n)
        if self.read_exact(2) != b"\r\n":
            raise ProtocolViolation("no CRLF after a bulk")
        return Verbatim(data) if kind == b"=" else data

    def _read_aggregate(self, kind: bytes, rest: bytes) -> Reply:
        n = int(rest)
        if n == -1:
            return NIL_ARRAY
        if kind == b"%":
            return Map([(self.read(), self.read()) for _ in range(n)])
        items = [self.read() for _ in range(n)]
        if kind == b"~":
            return SetReply(items)
        return Push(items) if kind == b">" else items

    # connection life

    def buffered(self) -> int:
        return len(self._buf) - self._pos

    def pending(self, wait_s: float) -> bytes:
        """Bytes that arrive within wait_s without having been asked for."""
        old = self.sock.gettimeout()
        self.sock.settimeout(wait_s)
        try:
            self._fill()
        except (TimeoutError, BlockingIOError):
            pass
        finally:
            self.sock.settimeout(old)
        data = bytes(self._buf[self._pos :])
        return data

    def expect_closed(self) -> bytes:
        """Read until the server closes; returns what it sent before that."""
        try:
            while True:
                self._fill()
        except ConnectionClosed:
            data = bytes(self._buf[self._pos :])
            self._buf.clear()
            self._pos = 0
            return data


# ---------------------------------------------------------------- servers


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def server_binary(target: str) -> str:
    if target == "redis":
        built = Path(os.environ.get("SLDMKV_BUILD", REPO / "build")) / "bin" / "redis-server"
        found = str(built) if built.exists() else shutil.which("redis-server")
        if not found:
            raise RuntimeError("redis-server is not installed")
        return found
    path = Path(os.environ.get("SLDMKV_SERVER", REPO / "build" / "sldmkv-server"))
    if not path.exists():
        raise RuntimeError(f"{path} is not built (make), and SLDMKV_SERVER names no other")
    return str(path)


class StartFailed(Exception):
    """The server ended before it answered; ``code`` and ``log`` say how."""

    def __init__(self, code: int | None, log: str) -> None:
        super().__init__(f"server exited with {code} before answering:\n{log[-4000:]}")
        self.code = code
        self.log = log


@dataclass
class Server:
    """One server process on a loopback port of its own.

    base: folder of this server; its data lives in base/data and survives stop and start.
    options: directive → value, given as ``--directive value``; a list repeats the directive.
    """

    target: str
    base: Path
    options: dict[str, str | list[str]] = field(default_factory=dict)
    port: int = 0
    proc: subprocess.Popen[bytes] | None = None
    starts: int = 0
    env: dict[str, str] = field(default_factory=dict)
    password: str = ""  # where no option says it: set in a conf file or at run time

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def log_path(self) -> Path:
        return self.base / "server.log"

    @property
    def pid(self) -> int:
        assert self.proc is not None
        return self.proc.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def argv(self) -> list[str]:
        binary = server_binary(self.target)
        argv = [binary]
        fixed: dict[str, str] = {"port": str(self.port), "bind": "127.0.0.1"}
        if self.target == "redis":
            fixed |= {"save": "", "appendonly": "no", "databases": "1", "dir": str(self.data)}
            fixed |= {"enable-debug-command": "yes", "daemonize": "no"}
        else:
            fixed |= {"data-dir": str(self.data), "enable-debug-command": "yes"} | SMALL_STORE
        fixed |= {"loglevel": "notice"}
        for name, value in (fixed | self.options).items():
            for one in value if isinstance(value, list) else [value]:
                argv += [f"--{name}", one]
        return argv

    def start(self, timeout_s: float = START_TIMEOUT_S, new_port: bool = True) -> Server:
        self.base.mkdir(parents=True, exist_ok=True)
        if self.target == "redis":
            self.data.mkdir(exist_ok=True)
        if new_port or not self.port:
            self.port = free_port()
        env = {"ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1"} | os.environ | self.env
        with self.log_path.open("ab") as log:
            self.proc = subprocess.Popen(
                self.argv(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env
            )
        self.starts += 1
        deadline = time.monotonic() + timeout_s
        while True:
            code = self.proc.poll()
            if code is not None:
                raise StartFailed(code, self.log())
            if self.answers():
                return self
            if time.monotonic() > deadline:
                self.kill9()
                raise StartFailed(None, self.log())
            time.sleep(0.01)

    def answers(self) -> bool:
        """PONG, so the log is replayed; with a password it is PONG behind AUTH that tells."""
        try:
            with Client(self.port, timeout_s=2) as c:
                reply = c.cmd("PING")
                if is_error(reply, b"NOAUTH"):
                    c.cmd("AUTH", self.password or str(self.options.get("requirepass", "")))
                    reply = c.cmd("PING")
                return reply == b"PONG"
        except (OSError, ConnectionClosed):
            return False

    def client(self, proto: int = 2, timeout_s: float = REPLY_TIMEOUT_S) -> Client:
        return Client(self.port, timeout_s=timeout_s, proto=proto)

    def alive(self) -> bool:
        return self.proc is not None and self.proc.poll() is None

    def kill9(self) -> None:
        assert self.proc is not None
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()

    def stop(self) -> None:
        """SIGTERM; the exit code must be 0 and the log free of sanitizer reports."""
        assert self.proc is not None
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        try:
            code = self.proc.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError("the server did not stop on SIGTERM:\n" + self.log()[-4000:])
        self.check_log()
        assert code == 0, f"exit code {code} on SIGTERM:\n{self.log()[-4000:]}"

    def check_log(self) -> None:
        data = self.log_path.read_bytes()
        found = SANITIZER.search(data)
        if found:
            at = found.start()
            report = data[max(0, at - 200) : at + 6000].decode(errors="replace")
            raise AssertionError("sanitizer report or failed assertion:\n" + report)

    def rss_bytes(self) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found.group(1)) * 1024

    def own_bytes(self) -> int:
        """Memory of its own, without mapped files. A sanitizer's allocator and shadow take several
        times what they serve: there it is what the program has asked for, as INFO counts it."""
        if re.search(r"/lib[at]san\.", Path(f"/proc/{self.pid}/maps").read_text()):
            with self.client() as c:
                return int(info_of(c, "memory")["used_memory"])
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", text)
        assert found is not None
        return int(found.group(1)) * 1024

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def info_of(client: Client, section: str = "all") -> dict[str, str]:
    """INFO as a dict of its name:value lines."""
    reply = client.cmd("INFO", section)
    assert isinstance(reply, bytes) and not isinstance(reply, Error), reply
    text = reply.decode()
    if isinstance(reply, Verbatim):
        text = text[4:]
    pairs = (line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    return {name: value for name, value in pairs}


def wait_until(check, timeout_s: float = 10.0, what: str = "") -> None:
    """Poll ``check()`` until it is true; fails after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, f"not reached within {timeout_s} s: {what}"
        time.sleep(0.005)
