# SPDX-License-Identifier: MIT
"""A RESP server that answers what a test tells it to, and a socket that splits where it is told.

Both exist because no real server can be made to answer wrongly at a chosen byte.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Callable, Union

CLOSE = object()
"""Close the connection instead of going on with the answer."""

STALL = object()
"""Answer nothing more, and keep the connection open."""

Answer = Union[bytes, Sequence[Any]]


class Misbehaving:
    """Answers the commands of each connection in turn with ``answers``.

    An answer is bytes, or a sequence of bytes, CLOSE and STALL, each sent by itself. The commands
    of redis-py's own connection set-up get +OK and use no answer up. With ``answer`` set, it is
    called with the command's arguments instead.
    """

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.answer: Callable[[list[bytes]], Answer] | None = None
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self.tls: ssl.SSLContext | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"localhost:{self.port}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def drop(self) -> None:
        """Close every connection, as a server does that stops."""
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.tls is not None:
                    sock = self.tls.wrap_socket(sock, server_side=True)
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock, sock.makefile("rb") as stream:
            while command := self._command(stream):
                if command[0] in (b"CLIENT", b"HELLO", b"AUTH", b"SELECT"):
                    sock.sendall(b"+OK\r\n")
                    continue
                self.commands.append(command)
                answer = self.answer(command) if self.answer else self.answers.pop(0)
                parts: Sequence[Any] = [answer] if isinstance(answer, bytes) else answer
                for part in parts:
                    if part is CLOSE:
                        return
                    if part is STALL:
                        stream.read()
                        return
                    sock.sendall(part)

    @staticmethod
    def _command(stream: Any) -> list[bytes]:
        head = stream.readline()
        args = []
        for _ in range(int(head[1:]) if head else 0):
            args.append(stream.read(int(stream.readline()[1:])))
            stream.readline()
        return args


class Pieces:
    """A socket whose every receive returns at most the rest of one piece.

    recvmsg_into with MSG_WAITALL may return short (a signal, a kernel timeout): this one always
    does at the end of a piece. ``log`` holds what was done, in order.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.log: list[str] = []
        self.sent = b""
        self.send_limit = 1 << 30

    def recv_into(self, view: memoryview) -> int:
        self.log.append("recv")
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        count = min(len(view), len(piece))
        view[:count] = piece[:count]
        if count < len(piece):
            self._pieces.insert(0, piece[count:])
        return count

    def recvmsg_into(self, views: Sequence[memoryview], anc: int, flags: int) -> tuple[int]:
        assert flags == socket.MSG_WAITALL
        assert 0 < len(views) <= 1024
        return (self.recv_into(next(view for view in views if len(view))),)

    def sendmsg(self, views: Sequence[memoryview]) -> int:
        assert 0 < len(views) <= 1024
        self.log.append("send")
        taken = b"".join(views)[: self.send_limit]
        self.sent += taken
        return len(taken)

    def setsockopt(self, *_: object) -> None:
        pass

    def settimeout(self, timeout: float | None) -> None:
        pass
