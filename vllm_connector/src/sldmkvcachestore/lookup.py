# SPDX-License-Identifier: MIT
"""How many leading keys a store has, in one round trip and within a deadline."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from redis.exceptions import InvalidResponse, RedisError, ResponseError

from .breaker import Breaker
from .transport import BulkParser, borrow, call, encode, open_pool

logger = logging.getLogger(__name__)


class Lookup:
    """Asks one server. For one thread at a time: it holds one connection.

    On our server KVMATCH answers, and keeps what it found from eviction for lease_ms. On another
    (redis-server, Valkey) a pipeline of EXISTS does, without a lease.
    """

    def __init__(self, url: str, timeout_s: float, pause_s: float, lease_ms: int) -> None:
        self._pool = open_pool(url, timeout_s=timeout_s, connections=1)
        self._breaker = Breaker("look-up", pause_s)
        self._lease = [b"LEASE", b"%d" % lease_ms] if lease_ms else []
        self._has_match = True

    def match(self, keys: Sequence[bytes]) -> int:
        """The number of leading keys that are there; 0 when the server does not say in time."""
        if not keys or not self._breaker.allows():
            return 0
        try:
            found = self._ask(keys)
        except (RedisError, OSError) as error:
            self._breaker.failed(error)
            return 0
        self._breaker.succeeded()
        return found

    def close(self) -> None:
        """Close the connection."""
        self._pool.disconnect()

    def _ask(self, keys: Sequence[bytes]) -> int:
        if self._has_match:
            try:
                found = call(self._pool, b"KVMATCH", *keys, *self._lease)
                if not isinstance(found, int) or not 0 <= found <= len(keys):
                    raise InvalidResponse(f"not a count of keys: {str(found)[:40]}")
                return found
            except ResponseError as error:
                if "unknown command" not in str(error):
                    raise
                logger.warning("the store has no KVMATCH: EXISTS is used, without leases")
                self._has_match = False
        with borrow(self._pool) as wire:
            there = exists(wire, keys)
        return (*there, False).index(False)


def exists(wire: BulkParser, keys: Sequence[bytes]) -> list[bool]:
    """Which keys are there, by a pipeline of EXISTS; an error reply is raised behind the last."""
    wire.send([b"".join(encode(b"EXISTS", key) for key in keys)])
    replies = [wire.reply() for _ in keys]
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return [reply == 1 for reply in replies]
