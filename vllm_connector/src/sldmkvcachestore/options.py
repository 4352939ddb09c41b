# SPDX-License-Identifier: MIT
"""The connector's options: ``kv_connector_extra_config`` as checked, typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Options:
    """Every option has a default that works; times are in the unit of their name.

    url: ``host:port``, ``redis://``, ``rediss://`` or ``unix://``.
    lookup_timeout_ms: longest a look-up may hold up the scheduler.
    io_timeout_ms: longest a load or save may be without progress.
    retry_pause_ms: how long a server that failed is left alone.
    load_threads, save_threads: a connection and a thread each, in every worker.
    save_queue_bytes: blocks copied out and not yet stored, in every worker; more are dropped.
    lease_ms: how long blocks found by a look-up are kept from eviction.
    ttl_s: life of a stored block; 0 keeps it until it is evicted.
    min_blocks: a shorter hit is not worth a load.
    save_generated: also store the blocks of generated tokens.
    """

    url: str = "localhost:50051"
    lookup_timeout_ms: int = 20
    io_timeout_ms: int = 2000
    retry_pause_ms: int = 2000
    load_threads: int = 2
    save_threads: int = 2
    save_queue_bytes: int = 256 << 20
    lease_ms: int = 10_000
    ttl_s: int = 0
    min_blocks: int = 1
    save_generated: bool = True

    def __post_init__(self) -> None:
        at_least = {"save_queue_bytes": 0, "ttl_s": 0, "lease_ms": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                low = at_least.get(field.name, 1)
                if not isinstance(value, int) or isinstance(value, bool) or value < low:
                    raise ValueError(
                        f"option {field.name}: an integer of at least {low}, not {value!r}"
                    )
            elif field.type == "bool" and not isinstance(value, bool):
                raise ValueError(f"option {field.name}: true or false, not {value!r}")
            elif field.type == "str" and (not isinstance(value, str) or not value):
                raise ValueError(f"option {field.name}: a text, not {value!r}")

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Options:
        """From a JSON object. Raises ValueError that names the option and what is allowed."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise ValueError(f"unknown option {name!r}; there are: {', '.join(known)}")
        return cls(**given)
