# SPDX-License-Identifier: MIT
"""Bulk values between sockets and memory, on redis-py connections.

redis-py opens the connection (TCP, TLS or unix socket, AUTH, SELECT, pool, reconnect); from then on
its ``parser_class`` hook, public in 4.3 to 8.x, gives us the socket. A stock client copies every
value two or three times while it holds the interpreter lock; here the kernel writes a reply
straight into the caller's memory and sends a value straight from it.

Two facts shape the code. A thread that returns from a system call waits for the interpreter lock,
up to 5 ms when another thread is busy: so a value costs one ``recvmsg_into`` with MSG_WAITALL
after its header, and one ``sendmsg``. And a Python socket timeout makes the descriptor
non-blocking, which turns WAITALL off: so the kernel keeps the time (SO_RCVTIMEO, SO_SNDTIMEO).

After anything unexpected inside a reply the position in the stream is unknown, so the connection
is dropped. A missing value, a value of the wrong size and an error reply are not unexpected: they
are read to their end and the next reply starts where it should.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

import redis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError, InvalidResponse, ResponseError, TimeoutError

if TYPE_CHECKING:
    from redis._parsers import BaseParser
else:  # redis.connection.BaseParser in 4.x, redis._parsers.BaseParser later
    BaseParser = next(c for c in DefaultParser.__mro__ if c.__name__ == "BaseParser")

Buffer = Union[bytes, bytearray, memoryview]
Views = list[memoryview]

Sink = Callable[[int], Optional[Views]]
"""Where a bulk reply of n bytes goes: views of n bytes in all, or None to read and drop it."""

READ_AHEAD_BYTES = 16 * 1024
"""Holds reply headers and small replies; also the longest reply line."""

MAX_BULK_BYTES = 1 << 32
"""A longer announced value is a broken stream, not a value."""

MAX_PARTS = 1000
"""Views of one value: with head and tail they fit one sendmsg (IOV_MAX is 1024)."""

GET_DEPTH = 2
"""Requests on the way while a value is read: the next one is ready, at most two are in memory."""

SET_DEPTH = 4
"""Values sent before the reply to the first of them is waited for."""

REDIS_VERSION = tuple(int(part) for part in redis.__version__.split(".")[:2])


class BulkParser(BaseParser):
    """The connection's reply parser (RESP2) and its data path.

    redis-py makes one for each connection and calls the ``on_…``, ``can_read`` and
    ``read_response`` methods; ``send`` and ``reply`` are for the functions below. Replies are
    bytes, never str. Thread: the one that took the connection from the pool.
    """

    def __init__(self, socket_read_size: int = READ_AHEAD_BYTES, **_: object) -> None:
        self._sock: socket.socket | None = None
        self._timeout: float | None = None
        self._vectored = False
        self._buffer = bytearray(READ_AHEAD_BYTES)
        self._ahead = memoryview(self._buffer)
        self._pos = self._end = 0

    # what redis-py calls

    def on_connect(self, connection: Any) -> None:
        """Take the socket; a plain one becomes blocking, with the kernel's timeouts."""
        sock: socket.socket = connection._sock
        timeout: float | None = connection.socket_timeout or None
        self._sock, self._timeout = sock, timeout
        self._pos = self._end = 0
        self._vectored = not isinstance(sock, ssl.SSLSocket) and hasattr(sock, "recvmsg_into")
        if self._vectored:
            micros = round((timeout or 0) * 1e6)
            timeval = struct.pack("@ll", micros // 1_000_000, micros % 1_000_000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
            self._timeout = None
            sock.settimeout(None)
        connection.bulk = self

    def on_disconnect(self) -> None:
        """Forget the socket, which redis-py closes, and what was read from it."""
        self._sock = None
        self._pos = self._end = 0

    def can_read(self, timeout: float | None = 0) -> bool:
        """Whether bytes wait within timeout seconds; raises ConnectionError at the stream's end."""
        if self._pos < self._end:
            return True
        sock = self._socket()
        sock.settimeout(timeout)
        try:
            self._fill()
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        finally:
            sock.settimeout(self._timeout)
        return True

    def read_response(self, disable_decoding: bool = False, **_: object) -> Any:
        """One reply, for redis-py's own commands; after any exception the stream is given up."""
        try:
            return self.reply()
        except BaseException:
            self.on_disconnect()
            raise

    # the data path

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send the parts, in one system call when the socket allows it."""
        sock = self._socket()
        if not self._vectored:
            for part in parts:
                sock.sendall(part)
            return
        rest = [memoryview(part) for part in parts]
        with _kernel_timeout():
            while rest:
                rest = _skip(rest, sock.sendmsg(rest))

    def reply(self, sink: Sink | None = None) -> Any:
        """Read one reply: bytes, int, list, None, or a ResponseError, which is returned.

        sink: takes a bulk reply, whose result is then True (delivered) or False (refused: read to
        its end and dropped). Raises OSError, redis ConnectionError or InvalidResponse; each of
        them leaves the stream at an unknown place.
        """
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            length = _number(line, MAX_BULK_BYTES)
            if length < 0:
                return None
            return self._bulk(length) if sink is None else self._deliver(length, sink)
        if kind == b"+":
            return rest
        if kind == b":":
            return _number(line, 1 << 63)
        if kind == b"*":
            count = _number(line, 1 << 31)
            return None if count < 0 else [self.reply() for _ in range(count)]
        if kind == b"-":
            text = rest.decode(errors="replace")
            error = self.parse_error(text)  # type: ignore[no-untyped-call]
            if isinstance(error, ConnectionError):
                raise error
            return error
        raise InvalidResponse(f"not a RESP2 reply: {line[:40]!r}")

    def _bulk(self, length: int) -> bytes:
        value = bytearray(length)
        self._read([memoryview(value)])
        return bytes(value)

    def _deliver(self, length: int, sink: Sink) -> bool:
        views = sink(length)
        if views is None:
            self._drain(length + 2)
            return False
        assert sum(map(len, views)) == length, "a sink answers with views of the length asked for"
        self._read(views)
        return True

    def _read(self, views: Views) -> None:
        """Fill the views with a value, from the read-ahead first, and check the CRLF after it."""
        crlf = bytearray(2)
        rest = [*views, memoryview(crlf)]
        while rest and self._pos < self._end:
            count = min(len(rest[0]), self._end - self._pos)
            rest[0][:count] = self._ahead[self._pos : self._pos + count]
            self._pos += count
            rest = _skip(rest, count)
        while rest:
            rest = _skip(rest, self._receive(rest))
        if crlf != b"\r\n":
            raise InvalidResponse("a value is not followed by CRLF")

    def _drain(self, count: int) -> None:
        while count:
            if self._pos == self._end:
                self._fill()
            step = min(count, self._end - self._pos)
            self._pos += step
            count -= step

    def _line(self) -> bytes:
        """The next line without its CRLF."""
        while True:
            stop = self._buffer.find(b"\r\n", self._pos, self._end)
            if stop >= 0:
                line = bytes(self._ahead[self._pos : stop])
                self._pos = stop + 2
                return line
            rest = bytes(self._ahead[self._pos : self._end])
            if len(rest) == READ_AHEAD_BYTES:
                raise InvalidResponse(f"a reply line has no end: {rest[:40]!r}")
            self._ahead[: len(rest)] = rest
            self._pos, self._end = 0, len(rest)
            self._fill()

    def _fill(self) -> None:
        """One receive into the read-ahead, behind what it holds."""
        if self._pos == self._end:
            self._pos = self._end = 0
        with _kernel_timeout():
            count = self._socket().recv_into(self._ahead[self._end :])
        if not count:
            raise ConnectionError("the server closed the connection")
        self._end += count

    def _receive(self, views: Views) -> int:
        """One receive straight into the views; waits until they are full where the socket can."""
        sock = self._socket()
        if not self._vectored:
            count = sock.recv_into(views[0])
        else:
            with _kernel_timeout():
                count = sock.recvmsg_into(views, 0, socket.MSG_WAITALL)[0]
        if not count:
            raise ConnectionError("the server closed the connection inside a value")
        return count

    def _socket(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionError("the connection is closed")
        return self._sock


@contextmanager
def _kernel_timeout() -> Iterator[None]:
    """SO_RCVTIMEO and SO_SNDTIMEO end a call with EAGAIN; say what it means."""
    try:
        yield
    except BlockingIOError as error:
        raise socket.timeout("timed out") from error


def _number(line: bytes, limit: int) -> int:
    try:
        number = int(line[1:])
    except ValueError:
        number = limit + 1
    if not -limit <= number <= limit or (line[:1] != b":" and number < -1):
        raise InvalidResponse(f"bad number in reply: {line[:40]!r}")
    return number


def _skip(views: Views, count: int) -> Views:
    """The views without their first count bytes, and without empty ones in front."""
    for index, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[index + 1 :]]
        count -= len(view)
    return []


def open_pool(
    url: str, *, timeout_s: float | None = 5.0, connections: int = 4, **options: Any
) -> redis.ConnectionPool:
    """A pool of bulk connections; threads beyond ``connections`` wait up to timeout_s for one.

    url: ``host:port`` or redis-py's ``redis://``, ``rediss://``, ``unix://`` with their options.
    timeout_s: to connect, and without progress while sending or receiving; None waits for ever.
    options: keywords of redis-py's connection, such as ``password``. Nothing is opened yet.
    """
    if REDIS_VERSION >= (5, 0):
        options.setdefault("protocol", 2)
    if not url.startswith("unix:"):
        options.setdefault("socket_connect_timeout", timeout_s)
    return redis.BlockingConnectionPool.from_url(
        url if "://" in url else f"redis://{url}",
        parser_class=BulkParser,
        socket_timeout=timeout_s,
        max_connections=connections,
        timeout=timeout_s,
        **options,
    )


@contextmanager
def borrow(pool: redis.ConnectionPool) -> Iterator[BulkParser]:
    """A connection of the pool for the length of a ``with``.

    Any exception but an error reply closes it, because it may lie inside a reply; the pool opens
    a new one when it is asked next. OSError becomes redis-py's ConnectionError or TimeoutError.
    """
    # The command name is required up to 5.2 and deprecated from 5.3 on.
    connection: Any = pool.get_connection(*(("_",) if REDIS_VERSION < (5, 3) else ()))
    try:
        connection.check_health()
        yield connection.bulk
    except ResponseError:
        raise
    except socket.timeout as error:
        connection.disconnect()
        raise TimeoutError("the server did not answer in time") from error
    except OSError as error:
        connection.disconnect()
        raise ConnectionError(f"connection lost: {error}") from error
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def encode(*args: bytes) -> bytes:
    """A command as an array of bulks."""
    return b"*%d\r\n" % len(args) + _bulks(args)


def encode_value(before: Sequence[bytes], value: Views, after: Sequence[bytes]) -> list[Buffer]:
    """A command with a value between its arguments, as parts to send; the value is not copied."""
    length = sum(map(len, value))
    head = b"*%d\r\n%b$%d\r\n" % (len(before) + 1 + len(after), _bulks(before), length)
    return [head, *value, b"\r\n" + _bulks(after)]


def _bulks(args: Sequence[bytes]) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


def call(pool: redis.ConnectionPool, *args: bytes) -> Any:
    """One small command and its reply; an error reply is raised as ResponseError."""
    with borrow(pool) as wire:
        wire.send([encode(*args)])
        reply = wire.reply()
        if isinstance(reply, ResponseError):
            raise reply
        return reply


def read_into(
    wire: BulkParser, commands: Sequence[bytes], sinks: Sequence[Sink], depth: int = GET_DEPTH
) -> list[bool]:
    """Send commands that answer one value each and put the values into their sinks.

    Returns whether each value came and was accepted; False is a missing or a refused one. Error
    replies are read over, and the first is raised when the stream is at the end of the last reply.
    """
    results: list[bool] = []
    errors: list[ResponseError] = []
    sent = 0
    for index, sink in enumerate(sinks):
        ready = min(index + depth, len(commands))
        if sent < ready:
            wire.send([b"".join(commands[sent:ready])])
            sent = ready
        reply = wire.reply(sink)
        if isinstance(reply, ResponseError):
            errors.append(reply)
        elif reply is not None and not isinstance(reply, bool):
            raise InvalidResponse(f"not a value: {str(reply)[:40]}")
        results.append(reply is True)
    if errors:
        raise errors[0]
    return results


def write_many(
    wire: BulkParser, commands: Sequence[Sequence[Buffer]], depth: int = SET_DEPTH
) -> list[bool]:
    """Send commands that answer OK or nil (refused), at most depth ahead of their replies.

    Error replies are read over, and the first is raised after the last reply. A server that
    answers an error and closes, as for a value over its limit, is quoted rather than reported as
    a lost connection.
    """
    results: list[bool] = []
    errors: list[ResponseError] = []

    def take() -> None:
        reply = wire.reply()
        if isinstance(reply, ResponseError):
            errors.append(reply)
        elif reply not in (b"OK", None):
            raise InvalidResponse(f"neither OK nor nil: {str(reply)[:40]}")
        results.append(reply == b"OK")

    for index, command in enumerate(commands):
        if index - len(results) >= depth:
            take()
        try:
            wire.send(command)
        except (BrokenPipeError, ConnectionResetError) as lost:
            with suppress(OSError, ConnectionError):
                while not errors:
                    take()
            if errors:
                raise errors[0] from lost
            raise
    while len(results) < len(commands):
        take()
    if errors:
        raise errors[0]
    return results
