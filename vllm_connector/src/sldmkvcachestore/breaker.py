# SPDX-License-Identifier: MIT
"""A circuit breaker: a server that fails is left alone for a while.

Closed: calls go through. A failure opens it for ``pause_s``; then one call may try (half open),
and its outcome closes it or opens it again. Safe for threads.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

logger = logging.getLogger(__name__)


class Breaker:
    """name: what the log says of it. clock: seconds that only go forward; tests bring their own."""

    def __init__(
        self, name: str, pause_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._pause_s = pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._open_until: float | None = None

    def allows(self) -> bool:
        """Whether a call may be tried now; the one that may probe is told so once a pause."""
        with self._lock:
            if self._open_until is None:
                return True
            now = self._clock()
            if now < self._open_until:
                return False
            self._open_until = now + self._pause_s  # the others wait for this one
            return True

    def succeeded(self) -> None:
        """A call came back: the server is used again."""
        with self._lock:
            was_open, self._open_until = self._open_until is not None, None
        if was_open:
            logger.warning("%s: the store answers again", self._name)

    def failed(self, why: object) -> None:
        """A call failed or was late."""
        with self._lock:
            was_open = self._open_until is not None
            self._open_until = self._clock() + self._pause_s
        if not was_open:
            logger.warning("%s: the store is left alone, tried again later: %s", self._name, why)

    @property
    def rests(self) -> bool:
        """Whether a call would not be allowed now; asks without taking the probe."""
        until = self._open_until
        return until is not None and self._clock() < until
