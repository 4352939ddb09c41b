# SPDX-License-Identifier: MIT
"""The reply parser at every split, and the data path against a server that misbehaves."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    ResponseError,
    TimeoutError,
)

from demo_prefix import Server
from misbehaving import CLOSE, STALL, Misbehaving, Pieces
from sldmkvcachestore.transport import (
    MAX_PARTS,
    READ_AHEAD_BYTES,
    BulkParser,
    Sink,
    borrow,
    call,
    encode,
    encode_value,
    open_pool,
    read_into,
    write_many,
)


def parser_on(pieces: Pieces) -> BulkParser:
    parser = BulkParser()
    parser.on_connect(SimpleNamespace(_sock=pieces, socket_timeout=None))
    return parser


def into(*targets: bytearray) -> Sink:
    views = [memoryview(target) for target in targets]
    size = sum(map(len, targets))
    return lambda length: views if length == size else None


# ---- the parser, each reply cut at each byte

REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b"+\r\n", b""),
    (b":0\r\n", 0),
    (b":-42\r\n", -42),
    (b"$5\r\nhello\r\n", b"hello"),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n$1\r\na\r\n:7\r\n*1\r\n$-1\r\n", [b"a", 7, [None]]),
]


@pytest.mark.parametrize(("wire", "value"), REPLIES)
def test_reply_cut_at_every_byte(wire: bytes, value: Any) -> None:
    stream = wire + b":99\r\n"
    cuts = [[stream[:at], stream[at:]] for at in range(len(stream) + 1)]
    for pieces in [*cuts, [bytes([byte]) for byte in stream]]:
        parser = parser_on(Pieces(pieces))
        assert parser.reply() == value
        assert parser.reply() == 99


def test_error_reply_is_returned_and_typed() -> None:
    parser = parser_on(Pieces([b"-ERR no\r\n-OOM full\r\n-LOADING wait\r\n"]))
    first, second = parser.reply(), parser.reply()
    assert isinstance(first, ResponseError)
    assert isinstance(second, ResponseError)
    assert "full" in str(second)
    with pytest.raises(BusyLoadingError):
        parser.reply()


def test_value_cut_at_every_byte_lands_in_its_views() -> None:
    value = bytes(range(40, 70))
    stream = b"$30\r\n" + value + b"\r\n$-1\r\n"
    cuts = [[stream[:at], stream[at:]] for at in range(len(stream) + 1)]
    for pieces in [*cuts, [bytes([byte]) for byte in stream]]:
        parts = bytearray(11), bytearray(0), bytearray(1), bytearray(18)
        parser = parser_on(Pieces(pieces))
        assert parser.reply(into(*parts)) is True
        assert b"".join(parts) == value
        assert parser.reply(into(bytearray(3))) is None


@pytest.mark.parametrize("length", [0, 1, 7, 9, 5000, READ_AHEAD_BYTES + 1, 100_000])
def test_value_of_another_size_is_dropped_and_the_next_is_right(length: int) -> None:
    wrong = b"$%d\r\n%b\r\n" % (length, b"x" * length)
    stream = wrong + b"$8\r\nrightone\r\n"
    for pieces in ([stream], [stream[:6], stream[6:]], [wrong[:-1], stream[len(wrong) - 1 :]]):
        out = bytearray(8)
        parser = parser_on(Pieces(pieces))
        assert parser.reply(into(out)) is False
        assert out == bytes(8)
        assert parser.reply(into(out)) is True
        assert out == b"rightone"


def test_large_value_is_read_past_the_read_ahead() -> None:
    value = bytes(range(256)) * 1000
    pieces = Pieces([b"$256000\r\n" + value + b"\r\n"])
    out = bytearray(256_000)
    assert parser_on(pieces).reply(into(out)) is True
    assert out == value
    # Header with the first bytes, rest of the value, CRLF (the fake fills one view a call).
    assert len(pieces.log) == 3


BROKEN = [
    b"$3\r\nabcd\r\n",  # longer than announced
    b"$x\r\n",
    b"$\r\n",
    b"$-2\r\n",
    b"$99999999999999\r\n",
    b"*-7\r\n",
    b":1x\r\n",
    b"?huh\r\n",
    b"%1\r\n+a\r\n+b\r\n",
    b"\r\n",
    b"+" + b"y" * READ_AHEAD_BYTES + b"\r\n",
]


@pytest.mark.parametrize("wire", BROKEN, ids=lambda wire: repr(wire[:12]))
def test_broken_reply_is_refused_and_the_stream_given_up(wire: bytes) -> None:
    parser = parser_on(Pieces([wire]))
    with pytest.raises(InvalidResponse):
        parser.read_response()
    with pytest.raises(ConnectionError, match="is closed"):
        parser.read_response()


def test_end_of_stream_at_every_byte() -> None:
    stream = b"*2\r\n$3\r\nabc\r\n:1\r\n"
    for at in range(len(stream)):
        with pytest.raises(ConnectionError):
            parser_on(Pieces([stream[:at]])).reply()
    stream = b"$3\r\nabc\r\n"
    for at in range(len(stream)):
        with pytest.raises(ConnectionError):
            parser_on(Pieces([stream[:at]])).reply(into(bytearray(3)))


# ---- pipelines


def test_reads_are_two_deep() -> None:
    pieces = Pieces([b"$1\r\na\r\n", b"$1\r\nb\r\n", b"$-1\r\n", b"$1\r\nd\r\n"])
    outs = [bytearray(1) for _ in range(4)]
    commands = [encode(b"GET", b"%d" % i) for i in range(4)]
    assert read_into(parser_on(pieces), commands, [into(out) for out in outs]) == [
        True,
        True,
        False,
        True,
    ]
    assert outs == [b"a", b"b", b"\0", b"d"]
    assert pieces.sent == b"".join(commands)
    assert pieces.log == ["send", "recv", "send", "recv", "send", "recv", "recv"]


def test_writes_are_four_deep_and_survive_short_sends() -> None:
    pieces = Pieces([b"+OK\r\n"] * 5 + [b"$-1\r\n"])
    commands = [encode_value([b"SET", b"k"], [memoryview(b"v1")], [b"NX"]) for _ in range(6)]
    assert write_many(parser_on(pieces), commands) == [True] * 5 + [False]
    assert pieces.log == ["send"] * 4 + ["recv", "send"] * 2 + ["recv"] * 4
    assert pieces.sent == encode(b"SET", b"k", b"v1", b"NX") * 6
    for limit in range(1, 12):
        pieces = Pieces([b"+OK\r\n"])
        pieces.send_limit = limit
        assert write_many(parser_on(pieces), commands[:1]) == [True]
        assert pieces.sent == encode(b"SET", b"k", b"v1", b"NX")


def test_most_parts_of_one_value_fit_one_call() -> None:
    parts = [memoryview(b"%03d" % (i % 1000)) for i in range(MAX_PARTS)]
    pieces = Pieces([b"+OK\r\n"])
    assert write_many(parser_on(pieces), [encode_value([b"SET", b"k"], parts, [])]) == [True]
    assert pieces.sent == encode(b"SET", b"k", b"".join(parts))


def test_error_inside_a_batch_is_raised_at_its_end(misbehaving: Misbehaving) -> None:
    misbehaving.answers = [b"$1\r\na\r\n", b"-ERR broken\r\n", b"-ERR later\r\n", b"$1\r\nd\r\n"]
    pool = open_pool(misbehaving.url)
    outs = [bytearray(1) for _ in range(4)]
    with pytest.raises(ResponseError, match="broken"), borrow(pool) as wire:
        read_into(wire, [encode(b"GET", b"k")] * 4, [into(out) for out in outs])
    assert outs == [b"a", b"\0", b"\0", b"d"]
    misbehaving.answers = [b"+OK\r\n", b"-ERR refused\r\n", b"+OK\r\n", b"+PONG\r\n"]
    with pytest.raises(ResponseError, match="refused"), borrow(pool) as wire:
        write_many(wire, [[encode(b"SET", b"k", b"v")]] * 3)
    assert call(pool, b"PING") == b"PONG"
    assert misbehaving.connections == 1
    pool.disconnect()


@pytest.mark.parametrize("answer", [b"+OK\r\n", b":1\r\n", b"*1\r\n$1\r\na\r\n"])
def test_reply_that_is_no_value(misbehaving: Misbehaving, answer: bytes) -> None:
    misbehaving.answers = [answer, b"+PONG\r\n"]
    pool = open_pool(misbehaving.url)
    with pytest.raises(InvalidResponse), borrow(pool) as wire:
        read_into(wire, [encode(b"GET", b"k")], [into(bytearray(1))])
    assert call(pool, b"PING") == b"PONG"
    assert misbehaving.connections == 2
    pool.disconnect()


# ---- connections that break


@pytest.mark.parametrize(
    "answer",
    [
        [CLOSE],
        [b"$", CLOSE],
        [b"$100\r\n", CLOSE],
        [b"$100\r\n" + b"x" * 99, CLOSE],
        [b"$100\r\n" + b"x" * 100 + b"\r", CLOSE],
    ],
)
def test_cut_in_the_middle(misbehaving: Misbehaving, answer: list[Any]) -> None:
    misbehaving.answers = [b"$100\r\n" + b"a" * 100 + b"\r\n", answer, b"+PONG\r\n"]
    pool = open_pool(misbehaving.url)
    outs = [bytearray(100) for _ in range(3)]
    with pytest.raises(ConnectionError), borrow(pool) as wire:
        read_into(wire, [encode(b"GET", b"k")] * 3, [into(out) for out in outs])
    assert outs[0] == b"a" * 100
    misbehaving.answers = [b"+PONG\r\n"]
    assert call(pool, b"PING") == b"PONG"
    pool.disconnect()


@pytest.mark.parametrize("begin", [b"", b"$1000", b"$1000\r\n" + b"x" * 600])
def test_late_answer_is_a_timeout(misbehaving: Misbehaving, begin: bytes) -> None:
    misbehaving.answers = [[begin, STALL], b"+PONG\r\n"]
    pool = open_pool(misbehaving.url, timeout_s=0.1)
    with pytest.raises(TimeoutError), borrow(pool) as wire:
        read_into(wire, [encode(b"GET", b"k")], [into(bytearray(1000))])
    assert call(pool, b"PING") == b"PONG"
    assert misbehaving.connections == 2
    pool.disconnect()


def test_server_that_does_not_read_is_a_timeout(misbehaving: Misbehaving) -> None:
    held = threading.Event()
    resumed: list[bool] = []

    def hold(command: list[bytes]) -> list[bytes]:
        resumed.append(held.wait(20))
        return []

    misbehaving.answer = hold
    pool = open_pool(misbehaving.url, timeout_s=0.2)
    value = [memoryview(bytes(64 << 20))]
    with pytest.raises(TimeoutError), borrow(pool) as wire:
        write_many(wire, [[encode(b"HOLD")], encode_value([b"SET", b"k"], value, [])])
    assert not resumed
    held.set()
    pool.disconnect()


def test_a_connection_is_waited_for_and_no_longer_than_that(misbehaving: Misbehaving) -> None:
    pool = open_pool(misbehaving.url, connections=1, timeout_s=0.05)
    begin = time.monotonic()
    with borrow(pool), pytest.raises(ConnectionError, match="No connection"):
        call(pool, b"PING")
    assert time.monotonic() - begin < 10  # redis-py's own limit is 20 s
    misbehaving.answers = [b"+PONG\r\n"]
    assert call(pool, b"PING") == b"PONG"
    pool.disconnect()


def test_idle_connection_closed_by_the_server_is_replaced(misbehaving: Misbehaving) -> None:
    misbehaving.answers = [b"+PONG\r\n", b"+PONG\r\n"]
    pool = open_pool(misbehaving.url)
    assert call(pool, b"PING") == b"PONG"
    misbehaving.drop()
    misbehaving._threads[1].join(10)
    assert call(pool, b"PING") == b"PONG"
    assert misbehaving.connections == 2
    pool.disconnect()


def test_unasked_bytes_do_not_become_the_next_answer(misbehaving: Misbehaving) -> None:
    misbehaving.answers = [b"+PONG\r\n$3\r\nold\r\n", b"+PONG\r\n"]
    pool = open_pool(misbehaving.url)
    assert call(pool, b"PING") == b"PONG"
    assert call(pool, b"PING") == b"PONG"
    assert misbehaving.connections == 2
    pool.disconnect()


def test_exception_of_the_caller_drops_the_connection(misbehaving: Misbehaving) -> None:
    def interrupted(length: int) -> None:
        raise KeyboardInterrupt

    misbehaving.answers = [b"$3\r\nabc\r\n", b"+PONG\r\n"]
    pool = open_pool(misbehaving.url)
    with pytest.raises(KeyboardInterrupt), borrow(pool) as wire:
        read_into(wire, [encode(b"GET", b"k")], [interrupted])
    assert call(pool, b"PING") == b"PONG"
    assert misbehaving.connections == 2
    pool.disconnect()


def test_nobody_listens() -> None:
    with pytest.raises(ConnectionError):
        call(open_pool("localhost:1"), b"PING")


def test_more_threads_than_connections_wait(misbehaving: Misbehaving) -> None:
    misbehaving.answer = lambda command: b"$%d\r\n%b\r\n" % (len(command[1]), command[1])
    pool = open_pool(misbehaving.url, connections=2)
    wrong: list[bytes] = []

    def work(number: int) -> None:
        for turn in range(50):
            text = b"%d/%d" % (number, turn)
            if call(pool, b"ECHO", text) != text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(misbehaving.commands) == 400
    assert 1 <= misbehaving.connections <= 2
    pool.disconnect()


# ---- TLS: no sendmsg, no recvmsg_into, redis-py's timeout


@pytest.fixture
def tls(misbehaving: Misbehaving, tmp_path: Path) -> Path:
    """The misbehaving server behind TLS; the file that holds its certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key", tmp_path / "cert"
    command = f"{openssl} req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext"
    subprocess.run(
        [*command.split(), "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    misbehaving.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    misbehaving.tls.load_cert_chain(certificate, key)
    return certificate


def test_tls(misbehaving: Misbehaving, tls: Path) -> None:
    value = bytes(range(256)) * 1000
    bulk = b"$256000\r\n" + value + b"\r\n"
    pool = open_pool(f"rediss://{misbehaving.url}", timeout_s=1, ssl_ca_certs=str(tls))
    misbehaving.answers = [b"+OK\r\n", bulk, b"$-1\r\n", b"$1\r\nx\r\n", bulk]
    with borrow(pool) as wire:
        parts = [memoryview(value)[:1000], memoryview(value)[1000:]]
        assert write_many(wire, [encode_value([b"SET", b"k"], parts, [])]) == [True]
        outs = [bytearray(256_000) for _ in range(4)]
        hits = read_into(wire, [encode(b"GET", b"k")] * 4, [into(out) for out in outs])
    assert hits == [True, False, False, True]
    assert outs[0] == outs[3] == value == misbehaving.commands[0][2]
    misbehaving.answers = [[b"$100\r\nabc", STALL], b"+PONG\r\n"]
    assert misbehaving.connections == 1
    with pytest.raises(TimeoutError), borrow(pool) as wire:
        read_into(wire, [encode(b"GET", b"k")], [into(bytearray(100))])
    assert call(pool, b"PING") == b"PONG"
    pool.disconnect()


# ---- real servers

SIZES = [0, 1, 2, 1023, 16_383, 16_384, 16_385, 1 << 20, (2 << 20) + 3]


def unix_url(server: Server) -> str:
    return f"unix://{server.log.parent / 'sock'}"


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_values_come_back_from_a_real_server(any_server: Server, transport: str) -> None:
    pool = open_pool(any_server.url if transport == "tcp" else unix_url(any_server))
    values = [bytes((i * 7 + size) % 251 for i in range(251)) * (size // 251 + 1) for size in SIZES]
    values = [value[:size] for value, size in zip(values, SIZES)]
    keys = [b"t:%d" % size for size in SIZES]

    def work() -> None:
        outs = [bytearray(size) for size in SIZES]
        with borrow(pool) as wire:
            gets = [encode(b"GET", key) for key in [*keys, b"t:none"]]
            sinks = [into(out) for out in outs] + [into(bytearray(1))]
            assert read_into(wire, gets, sinks) == [True] * len(SIZES) + [False]
        if outs != values:
            wrong.append(outs)

    with borrow(pool) as wire:
        sets = [encode_value([b"SET", k], [memoryview(v)], []) for k, v in zip(keys, values)]
        assert write_many(wire, sets) == [True] * len(SIZES)
        refused = encode_value([b"SET", keys[1]], [memoryview(b"other")], [b"NX"])
        assert write_many(wire, [refused]) == [False]
    wrong: list[list[bytearray]] = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    pool.disconnect()


def test_value_over_the_limit_quotes_the_server(redis_server: Server) -> None:
    pool = open_pool(redis_server.url)
    call(pool, b"CONFIG", b"SET", b"proto-max-bulk-len", b"1048576")
    try:
        with pytest.raises(ResponseError, match="invalid bulk length"), borrow(pool) as wire:
            write_many(wire, [encode_value([b"SET", b"k"], [memoryview(bytes(8 << 20))], [])])
        assert call(pool, b"PING") == b"PONG"
    finally:
        call(pool, b"CONFIG", b"SET", b"proto-max-bulk-len", b"536870912")
        pool.disconnect()


def test_password(redis_server: Server) -> None:
    admin = open_pool(redis_server.url)
    call(admin, b"CONFIG", b"SET", b"requirepass", b"secret")
    try:
        assert call(open_pool(redis_server.url, password="secret"), b"PING") == b"PONG"
        assert call(open_pool(f"redis://:secret@{redis_server.url}/3"), b"PING") == b"PONG"
        for wrong in (open_pool(redis_server.url), open_pool(redis_server.url, password="x")):
            with pytest.raises((ResponseError, ConnectionError), match=r"(?i)auth|password"):
                call(wrong, b"PING")
    finally:
        call(admin, b"CONFIG", b"SET", b"requirepass", b"")
        admin.disconnect()


def test_redis_py_works_on_these_connections(redis_server: Server) -> None:
    import redis

    pool = open_pool(redis_server.url)
    plain: Any = redis.Redis(connection_pool=pool)
    assert plain.set("a", b"1")
    assert plain.get("a") == b"1"
    with plain.pipeline() as pipe:
        assert pipe.incr("a").get("a").get("nothing").execute() == [2, b"2", None]
    with pytest.raises(ResponseError):
        plain.execute_command("LPUSH", "a", "x")
    assert plain.get("a") == b"2"
    pool.disconnect()
