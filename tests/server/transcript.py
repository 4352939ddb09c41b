# SPDX-License-Identifier: MIT
"""The language of ``transcripts/*.txt``: commands and the exact replies they must get.

    == name                 a test: an empty store, new connections
    > SET k "a\\x00b"        a command, quoted as in redis-cli; $(name) is a captured value,
                            $(x*300) three hundred times x
    >> PING                 the same as an inline command
    >! "*1\\r\\n$4\\r\\nPING"   these raw bytes
    # text                  a comment

Every line after a command, up to the next one, is an expected reply:

    +OK  -ERR text  :1  ,1.5  "bulk"  nil  nil-array  null  true  false  =txt "verbatim"
    +"a "  -"ERR a "        the same where the text has bytes that a line would not keep
    :1..9  :=name           an integer in a range; one that is captured
    /re/  +/re/  -/re/  :/re/  ,/re/  =txt /re/      a whole text by regular expression
    any                     any one reply
    *2                      an array, its elements indented below; also ~2 (set), push 2
    *2 any-order  *? each  *? contains  *?      in any order; each element matches the one line
                            below; every line below matches some element; any array
    %1                      a map, its pairs indented below as: "key" => value
    %? contains             every pair below is in the map

Directives:

    @only ours              (before the first test: the file; in a test: the test)
    @own                    the test runs on a server of its own
    @options name=value …   the same, with these directives
    @conn name              go on with the connection of that name ("main" is the first)
    @proto 3                a new connection in place of this one, after HELLO 3
    @closed                 the server closes this connection now; the next command opens another
    @nothing                no byte arrives unasked
    @gone key               wait until key has expired (at most 5 s)
    @sleep-ms n             for what no command shows; at most 50
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness import (
    NIL,
    NIL_ARRAY,
    NULL,
    BigNumber,
    Client,
    ConnectionClosed,
    Double,
    Error,
    Map,
    Push,
    Reply,
    SetReply,
    Simple,
    Verbatim,
    encode,
)

WORDS: dict[str, Reply] = {
    "nil": NIL,
    "nil-array": NIL_ARRAY,
    "null": NULL,
    "true": True,
    "false": False,
}
ESCAPES = {"n": 10, "r": 13, "t": 9, "b": 8, "a": 7}


class Mismatch(AssertionError):
    pass


# ---------------------------------------------------------------- quoting


def unquote(text: str, at: int) -> tuple[bytes, int]:
    """The quoted string that starts at text[at]; returns its bytes and the end."""
    quote = text[at]
    out = bytearray()
    i = at + 1
    while i < len(text):
        c = text[i]
        if c == quote:
            return bytes(out), i + 1
        if c == "\\" and quote == '"' and i + 1 < len(text):
            hexes = re.match(r"\\x([0-9a-fA-F]{2})", text[i:])
            if hexes:
                out.append(int(hexes.group(1), 16))
                i += 4
                continue
            nxt = text[i + 1]
            out += bytes([ESCAPES[nxt]]) if nxt in ESCAPES else nxt.encode()
            i += 2
            continue
        out += c.encode()
        i += 1
    raise ValueError(f"unbalanced quotes in {text!r}")


def quote(data: bytes) -> str:
    out = []
    for byte in data:
        c = chr(byte)
        if c in '"\\':
            out.append("\\" + c)
        elif 32 <= byte < 127:
            out.append(c)
        else:
            named = {10: "\\n", 13: "\\r", 9: "\\t"}
            out.append(named.get(byte, f"\\x{byte:02x}"))
    return '"' + "".join(out) + '"'


def split_args(line: str) -> list[bytes]:
    args: list[bytes] = []
    i = 0
    while i < len(line):
        if line[i] == " ":
            i += 1
            continue
        if line[i] in "\"'":
            data, i = unquote(line, i)
            args.append(data)
            continue
        end = line.find(" ", i)
        end = len(line) if end < 0 else end
        args.append(line[i:end].encode())
        i = end
    return args


# ---------------------------------------------------------------- structure


@dataclass
class Node:
    """One expected reply."""

    line: int
    text: str
    children: list[Node] = field(default_factory=list)
    value: Node | None = None  # of a map pair


@dataclass
class Step:
    line: int
    kind: str  # "cmd", "inline", "raw" or a directive's name
    text: str
    expect: list[Node] = field(default_factory=list)


@dataclass
class Case:
    file: Path
    name: str
    line: int
    ours_only: bool
    own_server: bool = False
    options: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def parse_file(path: Path) -> list[Case]:
    cases: list[Case] = []
    ours_file = False
    stack: list[tuple[int, Node]] = []
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        line = raw.rstrip()
        if not line or line.lstrip().startswith("#"):
            continue
        if line.startswith("== "):
            cases.append(Case(path, line[3:].strip(), number, ours_file))
            continue
        if line.startswith("@only "):
            if line.split()[1] != "ours":
                raise ValueError(f"{path.name}:{number}: {line}")
            if cases:
                cases[-1].ours_only = True
            else:
                ours_file = True
            continue
        if not cases:
            raise ValueError(f"{path.name}:{number}: before the first test")
        case = cases[-1]
        if line == "@own" or line.startswith("@options "):
            case.own_server = True
            case.options |= dict(o.split("=", 1) for o in line.split()[1:])
        elif line.startswith("@"):
            word, _, rest = line[1:].partition(" ")
            case.steps.append(Step(number, word, rest))
        elif line.startswith(">"):
            word, _, rest = line.partition(" ")
            kind = {">": "cmd", ">>": "inline", ">!": "raw"}[word]
            case.steps.append(Step(number, kind, rest))
            stack = []
        else:
            add_expected(case, stack, line, number)
    return cases


def add_expected(case: Case, stack: list[tuple[int, Node]], line: str, number: int) -> None:
    indent = len(line) - len(line.lstrip())
    node = Node(number, line.strip())
    key, arrow, value = split_pair(node.text)
    holder = node
    if arrow:
        node.text = key
        node.value = holder = Node(number, value)
    while stack and stack[-1][0] >= indent:
        stack.pop()
    if stack:
        stack[-1][1].children.append(node)
    else:
        case.steps[-1].expect.append(node)
    stack.append((indent, holder))


def split_pair(text: str) -> tuple[str, bool, str]:
    """``"key" => value``; the key may be quoted and hold an arrow itself."""
    if text.startswith('"'):
        _, end = unquote(text, 0)
        if text[end:].startswith(" => "):
            return text[:end], True, text[end + 4 :]
        return text, False, ""
    key, arrow, value = text.partition(" => ")
    return key, bool(arrow), value


# ---------------------------------------------------------------- matching


class Matcher:
    """Compares replies with expected nodes and holds captured values."""

    def __init__(self) -> None:
        self.captured: dict[str, bytes] = {}

    def match(self, node: Node, reply: Reply) -> None:
        if not self.try_match(node, reply):
            raise Mismatch(f"expected {node.text}\ngot      {chr(10).join(show(reply))}")

    def try_match(self, node: Node, reply: Reply) -> bool:
        text = self.expand(node.text) if node.text[:1] == "/" else node.text
        if text == "any":
            return True
        if text in WORDS:
            want = WORDS[text]
            return type(reply) is type(want) and reply == want
        if re.match(r"(\*|%|~|push )(\d+|\?)", text):
            return self._aggregate(node, reply)
        if text[0] == '"':
            return type(reply) is bytes and reply == self._exact(text)
        if text[0] == "/":
            return type(reply) is bytes and matches(text, reply)
        if text[0] == "+":
            return type(reply) is Simple and same_text(text[1:], reply)
        if text[0] == "-":
            return type(reply) is Error and same_text(text[1:], reply)
        if text[0] == ",":
            return type(reply) is Double and same_text(text[1:], reply)
        if text[0] == "(":
            return type(reply) is BigNumber and same_text(text[1:], reply)
        if text[0] == "=":
            kind, body = text[1:4], text[5:]
            if type(reply) is not Verbatim or reply[:4] != kind.encode() + b":":
                return False
            rest = bytes(reply[4:])
            return matches(body, rest) if body[0] == "/" else rest == self._exact(body)
        if text[0] == ":":
            return type(reply) is int and self._integer(text[1:], reply)
        raise ValueError(f"line {node.line}: not a reply: {text!r}")

    def _exact(self, text: str) -> bytes:
        data, end = unquote(text, 0)
        if end != len(text):
            raise ValueError(f"text after the string: {text!r}")
        return self.expand(data.decode("latin-1")).encode("latin-1")

    def _integer(self, text: str, reply: int) -> bool:
        if text.startswith("="):
            self.captured[text[1:]] = str(reply).encode()
            return True
        if text.startswith("/"):
            return matches(text, str(reply).encode())
        if ".." in text:
            low, high = text.split("..")
            return int(low) <= reply <= int(high)
        return reply == int(self.expand(text))

    def _aggregate(self, node: Node, reply: Reply) -> bool:
        found = re.fullmatch(r"(\*|%|~|push )(\d+|\?)( any-order| each| contains)?", node.text)
        if found is None:
            raise ValueError(f"line {node.line}: {node.text!r}")
        mark, count, how = found.group(1), found.group(2), (found.group(3) or "").strip()
        types = {"*": list, "%": Map, "~": SetReply, "push ": Push}
        if type(reply) is not types[mark]:
            return False
        assert isinstance(reply, list)
        if count != "?" and len(reply) != int(count):
            return False
        elements: list[object] = list(reply)
        if how == "each":
            return all(self._element(node.children[0], e) for e in elements)
        if how in ("any-order", "contains"):
            if how == "any-order" and len(node.children) != len(elements):
                raise ValueError(f"line {node.line}: {len(node.children)} lines below")
            return self._unordered(node.children, elements)
        if count == "?" and not node.children:
            return True
        if count != "?" and len(node.children) != int(count):
            raise ValueError(f"line {node.line}: {len(node.children)} lines below {node.text}")
        if len(node.children) != len(elements):
            return False
        return all(self._element(n, e) for n, e in zip(node.children, elements, strict=True))

    def _unordered(self, nodes: list[Node], elements: list[object]) -> bool:
        left = list(elements)
        for node in nodes:
            hit = next((e for e in left if self._element(node, e)), None)
            if hit is None:
                return False
            left.remove(hit)
        return True

    def _element(self, node: Node, element: object) -> bool:
        if node.value is None:
            return self.try_match(node, element)  # type: ignore[arg-type]
        if not isinstance(element, tuple):
            return False
        return self.try_match(node, element[0]) and self.try_match(node.value, element[1])

    def expand(self, text: str) -> str:
        def one(found: re.Match[str]) -> str:
            inner = found.group(1)
            times = re.fullmatch(r"(.+)\*(\d+)", inner)
            if times:
                return times.group(1) * int(times.group(2))
            return self.captured[inner].decode()

        return re.sub(r"\$\(([^)]+)\)", one, text)


def same_text(want: str, reply: bytes) -> bool:
    if len(want) > 1 and want[0] == "/":
        return matches(want, reply)
    if len(want) > 1 and want[0] == '"':
        return bytes(reply) == unquote(want, 0)[0]
    return bytes(reply) == want.encode("utf-8")


def matches(text: str, data: bytes) -> bool:
    if len(text) < 2 or text[-1] != "/":
        raise ValueError(f"not /re/: {text!r}")
    return re.fullmatch(text[1:-1].encode(), data, re.DOTALL) is not None


# ---------------------------------------------------------------- writing


def line_text(text: bytes) -> str:
    """Text of a one-line reply; quoted where the file would not keep it."""
    plain = text.isascii() and text.decode().isprintable() and text == text.strip()
    return text.decode() if plain and text[:1] not in (b'"', b"/") else quote(text)


def show(reply: Reply, indent: str = "") -> list[str]:
    """A reply in the language of the transcripts."""
    for word, value in WORDS.items():
        if type(reply) is type(value) and reply == value:
            return [indent + word]
    if isinstance(reply, Simple):
        return [f"{indent}+{line_text(reply)}"]
    if isinstance(reply, Error):
        return [f"{indent}-{line_text(reply)}"]
    if isinstance(reply, Double):
        return [f"{indent},{reply.decode()}"]
    if isinstance(reply, BigNumber):
        return [f"{indent}({reply.decode()}"]
    if isinstance(reply, Verbatim):
        return [f"{indent}={reply[:3].decode()} {quote(bytes(reply[4:]))}"]
    if isinstance(reply, bytes):
        return [indent + quote(reply)]
    if isinstance(reply, int):
        return [f"{indent}:{reply}"]
    deeper = indent + "  "
    if isinstance(reply, Map):
        out = [f"{indent}%{len(reply)}"]
        for key, value in reply:
            body = show(value, deeper)
            out.append(f"{deeper}{show(key)[0]} => {body[0].lstrip()}")
            out += body[1:]
        return out
    assert isinstance(reply, list)
    mark = "~" if isinstance(reply, SetReply) else "push " if isinstance(reply, Push) else "*"
    out = [f"{indent}{mark}{len(reply)}"]
    for item in reply:
        out += show(item, deeper)
    return out


# ---------------------------------------------------------------- running


class Player:
    """Plays one case; with ``record`` it collects replies for steps that expect nothing yet."""

    def __init__(self, case: Case, connect: Callable[[], Client], record: bool = False) -> None:
        self.case = case
        self.connect = connect
        self.record = record
        self.recorded: dict[int, list[str]] = {}
        self.matcher = Matcher()
        self.name = "main"
        self.conns: dict[str, Client] = {}

    @property
    def client(self) -> Client:
        if self.name not in self.conns:
            self.conns[self.name] = self.connect()
        return self.conns[self.name]

    def play(self) -> None:
        try:
            for step, after in zip(self.case.steps, [*self.case.steps[1:], None], strict=True):
                try:
                    self._step(step, after.kind if after else "")
                except (Mismatch, ConnectionClosed, TimeoutError, ValueError) as e:
                    where = f"{self.case.file.name}:{step.line}: {step.text}"
                    raise Mismatch(f"{where}\n{type(e).__name__}: {e}") from None
        finally:
            for client in self.conns.values():
                client.close()

    def _step(self, step: Step, after: str) -> None:
        if step.kind not in ("cmd", "inline", "raw"):
            self._directive(step)
            return
        text = self.matcher.expand(step.text)
        if step.kind == "cmd":
            self.client.send(encode(split_args(text)))
        elif step.kind == "inline":
            self.client.send(text.encode() + b"\r\n")
        else:
            self.client.send(b"".join(split_args(text)))
        if not step.expect and self.record and after not in ("closed", "nothing"):
            self.recorded[step.line] = self._collect(step)
            return
        if not step.expect and step.kind == "cmd":
            raise ValueError("no reply is expected; --record fills it in")
        for node in step.expect:
            self.matcher.match(node, self.client.read())

    def _collect(self, step: Step) -> list[str]:
        out = []
        if step.kind == "cmd":
            return show(self.client.read())
        client = self.client
        try:
            while client.buffered() or client.pending(0.1):
                out += show(client.read())
        except ConnectionClosed:
            pass
        if client.ended:
            out.append("@closed")
            self._drop()
        return out

    def _drop(self) -> None:
        self.conns.pop(self.name).close()

    def _directive(self, step: Step) -> None:
        if step.kind == "conn":
            self.name = step.text
        elif step.kind == "proto":
            if self.name in self.conns:
                self._drop()
            reply = self.client.cmd("HELLO", step.text)
            assert isinstance(reply, (Map, list)), reply
        elif step.kind == "closed":
            rest = self.client.expect_closed()
            self._drop()
            if rest:
                raise Mismatch(f"bytes before the close: {rest!r}")
        elif step.kind == "nothing":
            if rest := self.client.pending(0.05):
                raise Mismatch(f"unasked bytes: {rest!r}")
        elif step.kind == "gone":
            self._wait_gone(step.text)
        elif step.kind == "sleep-ms":
            time.sleep(min(int(step.text), 50) / 1000)
        else:
            raise ValueError(f"unknown directive @{step.kind}")

    def _wait_gone(self, key: str) -> None:
        with self.connect() as other:
            deadline = time.monotonic() + 5
            while other.cmd("EXISTS", *split_args(key)) != 0:
                if time.monotonic() > deadline:
                    raise Mismatch(f"{key} does not expire")
                time.sleep(0.002)


def write_recorded(path: Path, recorded: dict[int, list[str]]) -> None:
    out: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        out.append(line)
        out += recorded.get(number, [])
    path.write_text("\n".join(out) + "\n")
