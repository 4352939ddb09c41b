# SPDX-License-Identifier: MIT
"""What the golden data directories hold, and how a server is asked for it.

An archive is a data directory as kill -9 left it: a checkpoint, and behind it (with a log) entries
that only the log has, deletes among them. The log begins with a snapshot.
"""

from __future__ import annotations

import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path

from harness import NIL, Client

HERE = Path(__file__).resolve().parent
STORE_OPTIONS = {"volume-size": "16mb", "max-store-bytes": "256mb"}
YEAR_2100_MS = 4_102_444_800_000


@dataclass(frozen=True)
class Value:
    """A key that must be there."""

    value: bytes
    expire_ms: int = -1
    model: str = ""
    seq: str = ""
    tokens: int = 0


def body(length: int, seed: int) -> bytes:
    """Bytes with a period of 251: long values stay short in an archive, and no two parts are equal
    at the same place of different values."""
    row = bytes((i * 7 + seed) % 256 for i in range(251))
    return (row * (length // 251 + 1))[:length]


def write_old(c: Client) -> None:
    """What the checkpoint has."""
    c.ok("SET", "inline", "a small value")
    c.ok("SET", "empty", b"")
    c.ok("SET", b"\x00binary\xff\r\n", b"\x00\x01\xfe\xff")
    c.ok("SET", "k" * 480, "the longest key")
    c.ok("SET", "inline-until-2100", "v", "PXAT", YEAR_2100_MS)
    c.ok("SET", "edge-inline", body(16384, 1))
    c.ok("SET", "edge-slab", body(16385, 2))
    c.ok("SET", "slab", body(300_000, 3))
    c.ok("SET", "slab-until-2100", body(70_000, 4), "PXAT", YEAR_2100_MS + 1)
    c.ok("SET", "chunks", body(3_000_000, 5))
    for name, length in (("block-inline", 100), ("block-slab", 1_000_000)):
        c.ok(
            *("KVSTORE", name, body(length, 6), "MODEL", "llama-3", "SEQ", "request-17"),
            *("TOKENS", 256, "PXAT", YEAR_2100_MS + 2),
        )
    c.ok("KVSTORE", "block-bare", body(20_000, 7))
    assert c.cmd("INCRBY", "number", -42) == -42
    assert c.cmd("INCRBYFLOAT", "float", "2.75") == b"2.75"
    c.ok("SET", "counter", "done")
    c.ok("SET", "raw", "1")
    assert c.cmd("APPEND", "raw", "23") == 3
    c.ok("SET", "gone-before", body(50_000, 8))
    assert c.cmd("DEL", "gone-before") == 1
    c.ok("SET", "expired", "v", "PX", 1)
    c.ok("SET", "overwritten", body(60_000, 9))
    c.ok("SET", "overwritten", body(61_000, 10))
    for name in ("gone-inline", "gone-slab", "renamed", "changed", "grown", "swept"):
        c.ok("SET", name, body(40_000 if name == "gone-slab" else 30, 11))


def write_new(c: Client) -> None:
    """What comes behind the checkpoint: in one MULTI, so that no checkpoint comes between."""
    commands: list[tuple[bytes | str | int, ...]] = [
        ("DEL", "gone-inline", "gone-slab"),
        ("RENAME", "renamed", "has-new-name"),
        ("SET", "changed", body(45_000, 12)),
        ("APPEND", "grown", "+tail"),
        ("SETRANGE", "grown", 2, "XY"),
        ("EXPIREAT", "swept", 1),
        ("SET", "late-inline", "late"),
        ("KVSTORE", "late-slab", body(90_000, 13), "MODEL", "m", "SEQ", "s", "TOKENS", 16),
        ("COPY", "late-slab", "late-copy"),
        ("INCRBY", "number", 2),
        ("PEXPIREAT", "late-inline", YEAR_2100_MS + 3),
    ]
    c.ok("MULTI")
    for command in commands:
        assert c.cmd(*command) == b"QUEUED", command
    replies = c.cmd("EXEC")
    assert isinstance(replies, list) and len(replies) == len(commands), replies


def contents() -> dict[bytes, Value]:
    block = {"expire_ms": YEAR_2100_MS + 2, "model": "llama-3", "seq": "request-17", "tokens": 256}
    late = {"model": "m", "seq": "s", "tokens": 16}
    grown = bytearray(body(30, 11) + b"+tail")
    grown[2:4] = b"XY"
    return {
        b"inline": Value(b"a small value"),
        b"empty": Value(b""),
        b"\x00binary\xff\r\n": Value(b"\x00\x01\xfe\xff"),
        b"k" * 480: Value(b"the longest key"),
        b"inline-until-2100": Value(b"v", YEAR_2100_MS),
        b"edge-inline": Value(body(16384, 1)),
        b"edge-slab": Value(body(16385, 2)),
        b"slab": Value(body(300_000, 3)),
        b"slab-until-2100": Value(body(70_000, 4), YEAR_2100_MS + 1),
        b"chunks": Value(body(3_000_000, 5)),
        b"block-inline": Value(body(100, 6), **block),
        b"block-slab": Value(body(1_000_000, 6), **block),
        b"block-bare": Value(body(20_000, 7)),
        b"number": Value(b"-40"),
        b"float": Value(b"2.75"),
        b"counter": Value(b"done"),
        b"raw": Value(b"123"),
        b"overwritten": Value(body(61_000, 10)),
        b"has-new-name": Value(body(30, 11)),
        b"changed": Value(body(45_000, 12)),
        b"grown": Value(bytes(grown)),
        b"late-inline": Value(b"late", YEAR_2100_MS + 3),
        b"late-slab": Value(body(90_000, 13), **late),
        b"late-copy": Value(body(90_000, 13), **late),
    }


def check(c: Client) -> None:
    """Every key, its bytes, deadline and metadata, and no other key."""
    want = contents()
    keys = c.cmd("KVKEYS")
    assert isinstance(keys, list) and set(keys) == set(want)
    assert c.cmd("DBSIZE") == len(want)
    for key, v in want.items():
        assert c.cmd("GET", key) == v.value, key
        assert c.cmd("PEXPIRETIME", key) == v.expire_ms, key
        info = c.cmd("KVGET", key, "META")
        assert isinstance(info, list)
        meta = dict(zip(info[::2], info[1::2]))
        assert meta[b"model"] == v.model.encode() and meta[b"seq"] == v.seq.encode(), key
        assert meta[b"tokens"] == v.tokens and meta[b"length"] == len(v.value), key
    for key in (b"gone-before", b"gone-inline", b"gone-slab", b"renamed", b"expired", b"swept"):
        assert c.cmd("GET", key) == NIL, key
    encodings = [c.cmd("OBJECT", "ENCODING", k) for k in ("number", "float", "raw", "inline")]
    assert encodings == [b"int", b"embstr", b"raw", b"embstr"], encodings


def archive(raft: str) -> Path:
    return HERE / f"format-1-raft-{raft}.tar.xz"


def pack(data: Path, out: Path) -> None:
    """Same bytes from same files; what a start makes anew is left out."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if Path(member.name).name in ("LOCK", "ballast", "index.mdb-lock"):
            return None
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with lzma.open(out, "wb", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(data, arcname="data", filter=plain)


def unpack(path: Path, to: Path) -> None:
    with tarfile.open(path, "r:xz") as tar:
        tar.extractall(to, filter="data")
