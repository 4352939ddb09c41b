# SPDX-License-Identifier: MIT
"""Random commands to redis-server and to the server under test: every reply must be the same.

A failure prints the seed and the last commands; SLDMKV_SEED=n plays one seed again.
``--target redis`` compares two redis-servers, which shows that the driver itself is sound.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable

import pytest

from harness import (
    NULL,
    Client,
    ConnectionClosed,
    Error,
    Map,
    ProtocolViolation,
    Reply,
    Server,
    SetReply,
    info_of,
)

KEYS = [f"k{n}" for n in range(12)] + ["", "a b", "\x00\xff", "k*", "K0", "k" * 100, "n1", "n2"]
KEYS.remove("")  # the empty key holds nothing here: transcripts/string_set.txt
NUMBERS = [
    "0",
    "1",
    "-1",
    "2",
    "10",
    "-7",
    "100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "abc",
    "",
    "1.5",
    " 1",
    "1e3",
    "00",
    "+1",
    "4294967296",
]
FLOATS = [
    "0",
    "1",
    "-1",
    "0.5",
    "1e3",
    "-2.25",
    "3.0",
    "abc",
    "",
    "nan",
    "inf",
    "1e-5",
    "5.",
    ".25",
    "100000000000000000",
    "0.1",
]
VALUES = [
    "",
    "v",
    "hello world",
    "0",
    "1",
    "-5",
    "10",
    "3.25",
    "abc",
    "9223372036854775807",
    "\x00",
    "\r\n",
    "12345678901234567890",
    "x" * 44,
    "y" * 45,
    "z" * 300,
    "3.0",
    "1e2",
]
# "" stands for a number far from now that occurs once: with a repeated one GT and LT would turn on
# the millisecond in which each server took the command. The others are past, or no times.
SECONDS = ["", "", "", "0", "-1", "-100000", "abc", "9223372036854775807", "1.5"]
MILLIS = ["", "", "", "0", "-1", "abc", "9223372036854775807", "9223372036854775808"]
AT = ["99999999999", "88888888888", "1", "0", "-1", "abc", "9223372036854775807"]
AT_MS = ["99999999999123", "88888888888456", "1", "0", "-5", "abc", "9223372036854775807"]
PATTERNS = [
    "*",
    "k*",
    "k?",
    "k[0-5]",
    "k[^0-5]",
    "K*",
    "*1",
    "n[12]",
    "k\\*",
    "[a-z]*",
    "",
    "\x00*",
    "k1*",
    "?",
    "k[5-1]",
    "[[]",
    "k[",
]
INDEXES = [
    "0",
    "1",
    "-1",
    "3",
    "-3",
    "10",
    "-100",
    "100",
    "5",
    "2147483648",
    "-9223372036854775808",
    "9223372036854775807",
    "abc",
]
# PTTL and TTL of the two servers may differ by what passed between two sends.
TIMES = {"TTL": 2, "PTTL": 2000, "EXPIRETIME": 2, "PEXPIRETIME": 2000}

OURS_ALONE = {
    *(f"kv{verb}".encode() for verb in "store get del keys match range info".split()),
    b"backup",
    b"client|setinfo",  # both came with Redis 7.2
    b"client|no-touch",
}

Command = list[str]


class Generator:
    """large: the share of values that are around or over inline-max."""

    def __init__(self, seed: int, large: float = 0.04) -> None:
        self.rng = random.Random(seed)
        self.large = large
        self.plain: list[tuple[int, Callable[[], Command]]] = [
            (14, self.set),
            (8, lambda: ["GET", self.key()]),
            (3, self.getex),
            (3, self.setnx_like),
            (4, lambda: [self.pick("INCR", "DECR"), self.key()]),
            (4, lambda: [self.pick("INCRBY", "DECRBY"), self.key(), self.pick(*NUMBERS)]),
            (3, lambda: ["INCRBYFLOAT", self.key(), self.pick(*FLOATS)]),
            (4, lambda: ["APPEND", self.key(), self.value()]),
            (
                3,
                lambda: [
                    "SETRANGE",
                    self.key(),
                    self.pick("0", "1", "5", "100", "-1", "abc", "20000"),
                    self.value(),
                ],
            ),
            (
                4,
                lambda: [
                    self.pick("GETRANGE", "SUBSTR"),
                    self.key(),
                    self.pick(*INDEXES),
                    self.pick(*INDEXES),
                ],
            ),
            (3, lambda: ["STRLEN", self.key()]),
            (2, lambda: ["GETDEL", self.key()]),
            (3, lambda: ["GETSET", self.key(), self.value()]),
            (3, lambda: ["MGET", *self.some_keys()]),
            (3, self.mset),
            (4, lambda: [self.pick("DEL", "UNLINK"), *self.some_keys()]),
            (3, lambda: [self.pick("EXISTS", "TOUCH"), *self.some_keys()]),
            (2, lambda: ["TYPE", self.key()]),
            (3, lambda: [self.pick("RENAME", "RENAMENX"), self.key(), self.key()]),
            (3, self.copy),
            (6, self.expire),
            (2, lambda: ["PERSIST", self.key()]),
            (6, lambda: [self.pick(*TIMES), self.key()]),
            (2, lambda: ["KEYS", self.pick(*PATTERNS)]),
            (2, self.scan),
            (3, lambda: ["OBJECT", "ENCODING", self.key()]),
            (1, lambda: ["PING", *([self.value()] if self.coin() else [])]),
            (1, lambda: ["ECHO", self.value()]),
            (1, lambda: ["SELECT", self.pick("0", "1", "x", "-1")]),
            (2, self.malformed),
        ]

    def pick(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def coin(self, chance: float = 0.5) -> bool:
        return self.rng.random() < chance

    def key(self) -> str:
        return self.rng.choice(KEYS)

    def some_keys(self) -> list[str]:
        return [self.key() for _ in range(self.rng.choice((1, 1, 2, 3, 6)))]

    def value(self) -> str:
        if self.coin(self.large):
            return self.pick("a", "bc") * self.rng.choice((8191, 8192, 8193, 20_000))
        return self.rng.choice(VALUES)

    def seconds(self) -> str:
        return self.rng.choice(SECONDS) or str(self.rng.randrange(100_000, 10_000_000))

    def millis(self) -> str:
        return self.rng.choice(MILLIS) or str(self.rng.randrange(10**8, 10**10))

    def case(self, word: str) -> str:
        return word.lower() if self.coin(0.2) else word

    def set(self) -> Command:
        out = ["SET", self.key(), self.value()]
        if self.coin(0.4):
            return out
        options = [
            ["NX"],
            ["XX"],
            ["GET"],
            ["KEEPTTL"],
            ["EX", self.seconds()],
            ["PX", self.millis()],
            ["EXAT", self.pick(*AT)],
            ["PXAT", self.pick(*AT_MS)],
            ["FOO"],
            ["EX"],
        ]
        for option in self.rng.sample(options, self.rng.choice((1, 1, 1, 2, 2, 3))):
            out += [self.case(option[0]), *option[1:]]
        return out

    def getex(self) -> Command:
        options = [
            [],
            ["PERSIST"],
            ["EX", self.seconds()],
            ["PX", self.millis()],
            ["EXAT", self.pick(*AT)],
            ["PXAT", self.pick(*AT_MS)],
            ["FOO"],
            ["EX", self.seconds(), "PERSIST"],
        ]
        return ["GETEX", self.key(), *self.rng.choice(options)]

    def setnx_like(self) -> Command:
        kind = self.pick("SETNX", "SETEX", "PSETEX")
        if kind == "SETNX":
            return [kind, self.key(), self.value()]
        return [
            kind,
            self.key(),
            self.seconds() if kind == "SETEX" else self.millis(),
            self.value(),
        ]

    def mset(self) -> Command:
        out = [self.pick("MSET", "MSETNX")]
        for key in self.some_keys():
            out += [key, self.value()]
        return out[:-1] if self.coin(0.1) else out

    def copy(self) -> Command:
        tail = self.rng.choice(
            [
                [],
                [],
                ["REPLACE"],
                ["DB", "0"],
                ["DB", "1"],
                ["DB", "x"],
                ["FOO"],
                ["REPLACE", "DB", "0"],
            ]
        )
        return ["COPY", self.key(), self.key(), *tail]

    def expire(self) -> Command:
        kinds = {
            "EXPIRE": self.seconds,
            "PEXPIRE": self.millis,
            "EXPIREAT": lambda: self.pick(*AT),
            "PEXPIREAT": lambda: self.pick(*AT_MS),
        }
        kind = self.pick(*kinds)
        flags = self.rng.sample(["NX", "XX", "GT", "LT"], self.rng.choice((0, 0, 1, 1, 2)))
        if self.coin(0.05):
            flags.append("FOO")
        return [kind, self.key(), kinds[kind](), *[self.case(f) for f in flags]]

    def scan(self) -> Command:
        out = ["SCAN", self.pick("0", "0", "0", "abc")]
        if self.coin(0.5):
            out += ["MATCH", self.pick(*PATTERNS)]
        if self.coin(0.3):
            out += ["TYPE", self.pick("string", "hash", "STRING")]
        return [*out, "COUNT", self.pick("1000", "1000", "1000", "0", "abc")]

    def malformed(self) -> Command:
        good = self.one_plain()
        while good[0] == "SCAN":  # without its COUNT the order of the walk would show
            good = self.one_plain()
        if self.coin() and len(good) > 1:
            return good[: self.rng.randrange(1, len(good))]
        return [*good, "surplus"]

    def one_plain(self) -> Command:
        weights = [w for w, _ in self.plain[:-1]]
        return self.rng.choices([f for _, f in self.plain[:-1]], weights)[0]()

    def command(self) -> Command:
        return self.rng.choices([f for _, f in self.plain], [w for w, _ in self.plain])[0]()

    def step(self) -> list[tuple[int, Command]]:
        """One or more commands, each with the connection it goes to."""
        if self.coin(0.9):
            return [(0, self.command())]
        out: list[tuple[int, Command]] = []
        if self.coin(0.5):
            out.append((0, ["WATCH", *self.some_keys()]))
            for _ in range(self.rng.choice((0, 1, 1, 2))):
                out.append((1, self.command()))
            if self.coin(0.1):
                out.append((0, ["UNWATCH"]))
        out.append((0, ["MULTI"]))
        for _ in range(self.rng.randrange(6)):
            out.append((0, self.command()))
        if self.coin(0.2):
            out.append((1, self.command()))
        out.append((0, ["EXEC" if self.coin(0.9) else "DISCARD"]))
        if self.coin(0.03):
            out.append((0, [self.pick("FLUSHALL", "FLUSHDB")]))
        return out


def near(a: Reply, b: Reply, slack: int) -> bool:
    return type(a) is int and type(b) is int and abs(a - b) <= slack and a > 10_000 < b


def equal(command: Command, ours: Reply, theirs: Reply, queued: list[Command]) -> bool:
    name = command[0].upper()
    if name == "EXEC" and isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) == len(queued) and all(
            equal(c, a, b, []) for c, a, b in zip(queued, ours, theirs, strict=True)
        )
    if name in TIMES and near(ours, theirs, TIMES[name]):
        return True
    if type(ours) is not type(theirs):
        return False
    if name == "KEYS" and isinstance(ours, list):
        return sorted(ours) == sorted(theirs)  # type: ignore[type-var, arg-type]
    if name == "SCAN" and isinstance(ours, list) and isinstance(theirs, list):
        return ours[0] == theirs[0] and sorted(ours[1]) == sorted(theirs[1])  # type: ignore
    return ours == theirs


class Pair:
    """The same two connections on both servers."""

    def __init__(self, ours: Server, theirs: Server, proto: int) -> None:
        self.sides = [[s.client(proto) for _ in range(2)] for s in (ours, theirs)]
        self.history: list[tuple[int, Command, Reply, Reply]] = []
        self.queued: list[Command] = []

    def close(self) -> None:
        for side in self.sides:
            for client in side:
                client.close()

    def send(self, conn: int, command: Command) -> None:
        args = [a.encode("latin-1") for a in command]
        try:
            replies = [side[conn].cmd(*args) for side in self.sides]
        except (TimeoutError, ConnectionClosed, ProtocolViolation) as e:
            raise AssertionError(f"{self.report()}\n{conn} {command}: {e!r}") from None
        self.compare(conn, command, replies)

    def compare(self, conn: int, command: Command, replies: list[Reply]) -> None:
        self.history.append((conn, command, replies[0], replies[1]))
        if conn == 0:
            if replies[1] == b"QUEUED":
                self.queued.append(command)
        queued = self.queued
        if (
            command[0] in ("MULTI", "EXEC", "DISCARD")
            and conn == 0
            and not (isinstance(replies[1], Error) and b"nested" in replies[1])
        ):
            self.queued = []
        assert equal(command, replies[0], replies[1], queued), self.report()

    def send_together(self, commands: list[Command]) -> None:
        """All on one connection before the first reply is read."""
        encoded = [[a.encode("latin-1") for a in command] for command in commands]
        ours, theirs = [side[0].pipeline(encoded) for side in self.sides]
        for command, a, b in zip(commands, ours, theirs, strict=True):
            self.compare(0, command, [a, b])

    def report(self) -> str:
        lines = []
        for conn, command, a, b in self.history[-25:]:
            shown = [c if len(c) < 60 else f"{c[:20]}…({len(c)})" for c in command]
            lines.append(f"conn {conn} {shown}\n    tested {short(a)}\n    redis  {short(b)}")
        return "\n".join(lines)

    def compare_everything(self) -> None:
        for key in KEYS:
            self.send(1, ["GET", key])
            self.send(1, ["PTTL", key])
        self.send(1, ["KEYS", "*"])
        # Only now: Redis counts an expired key until somebody touches it.
        self.send(1, ["DBSIZE"])


def short(reply: Reply) -> str:
    text = f"{type(reply).__name__} {reply!r}"
    return text if len(text) < 300 else text[:300] + "…"


@pytest.fixture(scope="module")
def reference(scratch):
    server = Server("redis", scratch / "reference")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def pairs(server: Server, reference: Server):
    """Makes pairs of connections to two empty servers."""
    with Client(reference.port) as c:
        c.ok("FLUSHALL")
    made = []

    def make(proto: int) -> Pair:
        made.append(Pair(server, reference, proto))
        return made[-1]

    yield make
    for pair in made:
        pair.close()


SEEDS = [int(os.environ["SLDMKV_SEED"])] if "SLDMKV_SEED" in os.environ else [1, 2, 3, 4]


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_same_replies(pairs: Callable[[int], Pair], seed: int, proto: int) -> None:
    generator = Generator(seed * 10 + proto)
    pair = pairs(proto)
    for step in range(900):
        for conn, command in generator.step():
            pair.send(conn, command)
        if step % 300 == 299:
            pair.compare_everything()


@pytest.mark.parametrize("seed", SEEDS)
def test_same_replies_with_large_values(pairs: Callable[[int], Pair], seed: int) -> None:
    """Many values around and over inline-max; in a MULTI they change what it wrote itself."""
    generator = Generator(seed * 10, large=0.5)
    pair = pairs(2)
    for step in range(300):
        for conn, command in generator.step():
            pair.send(conn, command)
        if step % 100 == 99:
            pair.compare_everything()


@pytest.mark.parametrize("seed", SEEDS)
def test_same_replies_in_pipelines(pairs: Callable[[int], Pair], seed: int) -> None:
    """A command that waits for its value to be staged or rebuilt keeps its place in the order."""
    generator = Generator(seed * 10 + 5, large=0.2)
    pair = pairs(2)
    for _ in range(40):
        commands: list[Command] = []
        while len(commands) < 30:
            commands += [command for conn, command in generator.step() if conn == 0]
        pair.send_together(commands)
        pair.compare_everything()


# Any command with any arguments: which error comes first, and what is no error. Numbers are such
# that no deadline comes while the test runs, on however slow a machine.
SOUP_COMMANDS = """
GET SET SETNX SETEX PSETEX GETSET GETDEL GETEX MGET MSET MSETNX STRLEN GETRANGE SUBSTR APPEND
INCR DECR INCRBY DECRBY INCRBYFLOAT DEL UNLINK EXISTS TOUCH TYPE RENAME RENAMENX COPY TTL PTTL
EXPIRE PEXPIRE EXPIREAT PEXPIREAT EXPIRETIME PEXPIRETIME PERSIST KEYS SCAN FLUSHDB MULTI EXEC
DISCARD WATCH UNWATCH PING ECHO SELECT OBJECT OBJECT|ENCODING OBJECT|FREQ MEMORY SLOWLOG LATENCY
LATENCY|RESET LATENCY|HISTORY CONFIG CLIENT CLIENT|SETNAME CLIENT|UNBLOCK CLIENT|NO-EVICT
CLIENT|CACHING CLIENT|LIST CLIENT|TRACKINGINFO CLIENT|GETREDIR COMMAND|GETKEYS
COMMAND|GETKEYSANDFLAGS FUNCTION|FLUSH FUNCTION|LIST FUNCTION
""".split()
SOUP_WORDS = """
k l m 0 -1 100000000 abc 1.5 9223372036854775807 -9223372036854775808 9223372036854775808 NX XX
EX PX EXAT PXAT KEEPTTL GET SET PERSIST REPLACE DB MATCH COUNT TYPE string * k* inf nan
99999999999 SAMPLES YES NO ON OFF WITHCODE LIBRARYNAME ASYNC TIMEOUT ERROR get mset object FOO
""".split() + ["\x00", "a b", "x" * 50]


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_same_replies_to_any_arguments(
    pairs: Callable[[int], Pair], seed: int, proto: int
) -> None:
    rng = random.Random(seed)
    pair = pairs(proto)
    for _ in range(1500):
        command = rng.choice(SOUP_COMMANDS).split("|")
        command += rng.choices(SOUP_WORDS, k=rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6)))
        name = [word.upper() for word in command[:2]]
        if command[0] == "SCAN" and "COUNT" not in command:
            continue  # the order of the walk would show
        if name == ["SLOWLOG", "GET"] or command == ["CLIENT", "LIST"]:
            continue  # times, addresses
        pair.send(0, command)


def counters(client: Client) -> dict[str, str]:
    """What INFO counts of commands and errors, without times."""
    out = {}
    for section in ("commandstats", "errorstats", "stats"):
        for name, value in info_of(client, section).items():
            if section != "stats" or name in COUNTED:
                out[name] = re.sub(r"usec=\d+,usec_per_call=[\d.]+,", "", value)
    return out


COUNTED = {"total_error_replies", "keyspace_hits", "keyspace_misses", "total_commands_processed"}


@pytest.mark.parametrize("seed", SEEDS)
def test_same_statistics(
    server: Server, reference: Server, pairs: Callable[[int], Pair], seed: int
) -> None:
    generator = Generator(seed * 10 + 7)
    pair = pairs(2)
    with server.client() as ours, reference.client() as theirs:
        for client in (ours, theirs):
            client.ok("CONFIG", "RESETSTAT")
        for _ in range(400):
            for conn, command in generator.step():
                if "TYPE" not in command:  # Redis looks every key up for SCAN … TYPE, and counts
                    pair.send(conn, command)
        mine, redis = counters(ours), counters(theirs)
    assert {k: (v, redis.get(k)) for k, v in mine.items() if v != redis.get(k)} == {}
    assert len(redis) > 40


def test_command_info(server: Server, reference: Server) -> None:
    """Flags, keys, categories and tips of every command and subcommand that Redis has as well."""
    with server.client(3) as ours, reference.client(3) as theirs:
        rows = ours.cmd("COMMAND")
        assert isinstance(rows, list) and len(rows) > 60
        names = [row[0] for row in rows]  # type: ignore[index]
        names += [sub[0] for row in rows for sub in row[9]]  # type: ignore[index]
        compared = 0
        for name in names:
            mine = ours.cmd("COMMAND", "INFO", name)[0]  # type: ignore[index]
            redis = theirs.cmd("COMMAND", "INFO", name)[0]  # type: ignore[index]
            if redis is NULL:
                assert name in OURS_ALONE, name
                continue
            assert mine[:9] == redis[:9], name  # type: ignore[index]
            assert type(mine[9]) is type(redis[9]), name  # type: ignore[index]
            compared += 1
        assert compared > 110


def test_the_comparison_can_fail() -> None:
    assert not equal(["GET", "k"], b"a", b"b", [])
    assert not equal(["GET", "k"], b"OK", Error(b"OK"), [])
    assert not equal(["TTL", "k"], 99_000, 100_000, []) and not equal(["TTL", "k"], -1, -2, [])
    assert equal(["PTTL", "k"], 99_999_999, 100_000_000, [])
    assert not equal(["EXEC"], [1, 2], [1, 3], [["INCR", "a"], ["INCR", "b"]])
    assert not equal(["KEYS", "*"], [b"a"], [b"a", b"b"], [])
    assert not equal(["X"], Map([]), SetReply([]), [])
