# SPDX-License-Identifier: MIT
"""KVCacheClient: KV-cache blocks in and out of a store, by key.

Values are bytes-like objects, numpy arrays, CPU torch tensors of any dtype, or lists of them laid
end to end; they are sent from and received into their own memory. A miss is an answer (None or
False), never an exception; a lost connection, a late answer and an error reply are exceptions of
``redis.exceptions``: ConnectionError, TimeoutError, ResponseError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Union, overload

from redis.exceptions import RedisError

from .tensors import Allocate, byte_views, fill
from .transport import borrow, call, encode, encode_value, open_pool, read_into, write_many

Key = Union[str, bytes]
Flags = list[bool]  # ``list`` is a method below

DEFAULT_PORT = 50051
PAGE_KEYS = 1000
"""Keys asked for at a time by ``list``."""


@dataclass(frozen=True)
class BlockInfo:
    """What the store knows of one block.

    tokens: number of tokens. created_ms: wall clock. ttl_ms: time left, None without an expiry.
    length: bytes of the value. digest: 16 hex digits, XXH3-64. storage: where the value lies.
    """

    model: str
    seq: str
    tokens: int
    created_ms: int
    ttl_ms: int | None
    length: int
    digest: str
    storage: str

    @classmethod
    def parse(cls, fields: Mapping[bytes, Any]) -> BlockInfo:
        """From the fields of a KVINFO reply; unknown ones are left alone."""
        ttl_ms = int(fields[b"ttl"])
        return cls(
            model=fields[b"model"].decode(errors="surrogateescape"),
            seq=fields[b"seq"].decode(errors="surrogateescape"),
            tokens=int(fields[b"tokens"]),
            created_ms=int(fields[b"created"]),
            ttl_ms=ttl_ms if ttl_ms >= 0 else None,
            length=int(fields[b"length"]),
            digest=fields[b"digest"].decode(),
            storage=fields[b"storage"].decode(),
        )


class KVCacheClient:
    """A client of one server. Safe for threads: each call takes a connection of its own.

    url: ``host``, ``host:port``, ``redis://``, ``rediss://`` or ``unix://`` (fastest on one host).
    timeout_s: to connect, and without progress while sending or receiving; None waits for ever.
    connections: at most so many at a time, opened when needed; more callers wait up to timeout_s.
    options: further keywords of redis-py's connection, such as ``username`` or ``ssl_ca_certs``.
    """

    def __init__(
        self,
        url: str = f"localhost:{DEFAULT_PORT}",
        *,
        password: str | None = None,
        timeout_s: float | None = 5.0,
        connections: int = 4,
        **options: Any,
    ) -> None:
        if not url.startswith("unix:"):
            options.setdefault("port", DEFAULT_PORT)
        self._pool = open_pool(
            url, timeout_s=timeout_s, connections=connections, password=password, **options
        )

    def __enter__(self) -> KVCacheClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._pool.disconnect()

    def reachable(self) -> bool:
        """Whether the server answers and is ready (not LOADING). Never raises a redis error."""
        try:
            return bool(call(self._pool, b"PING") == b"PONG")
        except RedisError:
            return False

    # values

    def store(
        self,
        key: Key,
        value: Any,
        *,
        model: str = "",
        seq: str = "",
        tokens: int = 0,
        ttl: float | timedelta | None = None,
        nx: bool = False,
    ) -> bool:
        """Store a value durably under a key; True when it is on disk.

        ttl: seconds until it expires. nx: keep an existing value, then the answer is False.
        Without nx an existing value, its metadata and its ttl are replaced.
        """
        return self.store_batch(
            [key], [value], model=model, seq=seq, tokens=tokens, ttl=ttl, nx=nx
        )[0]

    def store_batch(
        self,
        keys: Sequence[Key],
        values: Sequence[Any],
        *,
        model: str = "",
        seq: str = "",
        tokens: int = 0,
        ttl: float | timedelta | None = None,
        nx: bool = False,
    ) -> Flags:
        """Store several values, each on its own; the answers of ``store`` in their order.

        An error reply is raised after the whole batch: values beside it are stored.
        """
        _same_length(keys, values)
        options = _store_options(model, seq, tokens, ttl, nx)
        commands = [
            encode_value([b"KVSTORE", _key(key)], byte_views(value), options)
            for key, value in zip(keys, values)
        ]
        with borrow(self._pool) as wire:
            return write_many(wire, commands)

    @overload
    def retrieve(self, key: Key) -> bytes | None: ...
    @overload
    def retrieve(self, key: Key, *, out: Any) -> bool: ...
    @overload
    def retrieve(self, key: Key, *, dtype: Any, shape: Sequence[int] | None = None) -> Any: ...

    def retrieve(
        self,
        key: Key,
        *,
        out: Any = None,
        dtype: Any = None,
        shape: Sequence[int] | None = None,
    ) -> Any:
        """Read a value; without ``out`` and ``dtype`` as bytes, None on a miss.

        out: writable buffer, array, tensor or list of them, filled in place without a copy: True,
        or False on a miss. dtype: a new array instead (a tensor for a torch.dtype), of ``shape``
        or one-dimensional; None on a miss. A value that does not fit ``out`` or ``dtype`` and
        ``shape`` is a miss. When an exception is raised, what ``out`` holds is undefined.
        """
        if out is not None:
            if dtype is not None or shape is not None:
                raise ValueError("out brings its own dtype and shape")
            return self.retrieve_batch([key], [out])[0]
        if dtype is None:
            if shape is not None:
                raise ValueError("a shape needs a dtype")
            return call(self._pool, b"KVGET", _key(key))
        sink = Allocate(dtype, shape)
        with borrow(self._pool) as wire:
            read_into(wire, [_get(key)], [sink])
        return sink.value

    def retrieve_batch(self, keys: Sequence[Key], outs: Sequence[Any]) -> Flags:
        """Fill each of ``outs`` with the value of its key; False where that was a miss.

        An error reply is raised after the whole batch: the outs beside it are filled.
        """
        _same_length(keys, outs)
        commands = [_get(key) for key in keys]
        sinks = [fill(out) for out in outs]
        with borrow(self._pool) as wire:
            return read_into(wire, commands, sinks)

    # keys

    def delete(self, *keys: Key) -> int:
        """Delete keys; how many of them existed."""
        return int(call(self._pool, b"KVDEL", *map(_key, keys))) if keys else 0

    def list(
        self, prefix: Key = b"", *, limit: int | None = None, after: Key | None = None
    ) -> Iterator[bytes]:
        """Keys that start with ``prefix``, in key order, beginning behind the key ``after``.

        Pages as it is iterated, so it sees keys that come and go meanwhile, none of them twice.
        """
        left = math.inf if limit is None else limit
        while left > 0:
            page = int(min(left, PAGE_KEYS))
            args = [b"KVKEYS", _key(prefix), b"LIMIT", b"%d" % page]
            if after is not None:
                args += [b"AFTER", _key(after)]
            keys: Sequence[bytes] = call(self._pool, *args)
            yield from keys
            if len(keys) < page:
                return
            after = keys[-1]
            left -= page

    def match(self, keys: Iterable[Key], lease_ms: int | None = None) -> int:
        """How many leading keys are present: the longest cached prefix, in one round trip.

        lease_ms: keep the matched keys from eviction so long; None leaves it to the server.
        """
        args = [_key(key) for key in keys]
        if not args:
            return 0
        lease = [] if lease_ms is None else [b"LEASE", b"%d" % lease_ms]
        return int(call(self._pool, b"KVMATCH", *args, *lease))

    def info(self, key: Key) -> BlockInfo | None:
        """Metadata of a key; None on a miss."""
        reply = call(self._pool, b"KVINFO", _key(key))
        return None if reply is None else BlockInfo.parse(dict(zip(reply[::2], reply[1::2])))

    def ttl(self, key: Key) -> float | None:
        """Seconds until a key expires: ``inf`` without an expiry, None on a miss."""
        left_ms = int(call(self._pool, b"PTTL", _key(key)))
        return None if left_ms == -2 else math.inf if left_ms == -1 else left_ms / 1000


def _key(key: Key) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _get(key: Key) -> bytes:
    return encode(b"KVGET", _key(key))


def _store_options(
    model: str, seq: str, tokens: int, ttl: float | timedelta | None, nx: bool
) -> Sequence[bytes]:
    options: list[bytes] = []
    if model:
        options += [b"MODEL", model.encode(errors="surrogateescape")]
    if seq:
        options += [b"SEQ", seq.encode(errors="surrogateescape")]
    if tokens:
        options += [b"TOKENS", b"%d" % tokens]
    if ttl is not None:
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        options += [b"PX", b"%d" % math.ceil(seconds * 1000)]
    if nx:
        options.append(b"NX")
    return options


def _same_length(keys: Sequence[Key], others: Sequence[Any]) -> None:
    if len(keys) != len(others):
        raise ValueError(f"{len(keys)} keys and {len(others)} values")
