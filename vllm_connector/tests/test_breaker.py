# SPDX-License-Identifier: MIT
"""The breaker, on a clock that the test moves."""

from __future__ import annotations

import logging

import pytest

from sldmkvcachestore.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("test", 2.0, clock)


def test_closed_it_lets_everything_through(breaker: Breaker) -> None:
    assert all(breaker.allows() for _ in range(10))
    breaker.succeeded()
    assert not breaker.rests


def test_after_a_failure_one_call_a_pause_may_try(breaker: Breaker, clock: Clock) -> None:
    breaker.failed("gone")
    assert breaker.rests
    assert not breaker.allows()
    clock.now += 1.9
    assert not breaker.allows()
    clock.now += 0.2
    assert not breaker.rests
    assert breaker.allows()
    assert not breaker.allows()  # the first is the probe
    clock.now += 2.1
    assert breaker.allows()  # the probe never came back


def test_the_probe_decides(breaker: Breaker, clock: Clock) -> None:
    breaker.failed("gone")
    clock.now += 2.1
    assert breaker.allows()
    breaker.failed("still")
    assert not breaker.allows()
    clock.now += 2.1
    assert breaker.allows()
    breaker.succeeded()
    assert all(breaker.allows() for _ in range(10))


def test_the_log_has_a_line_for_each_change(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            breaker.failed("connection refused")
        clock.now += 3
        breaker.succeeded()
        breaker.succeeded()
    assert len(caplog.messages) == 2
    assert "connection refused" in caplog.messages[0]
