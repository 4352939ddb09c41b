# SPDX-License-Identifier: MIT
"""Look-ups: right on our server and on redis-server, and never late."""

from __future__ import annotations

import time

import redis

from demo_prefix import Server
from misbehaving import CLOSE, STALL, Misbehaving
from sldmkvcachestore.lookup import Lookup

KEYS = [b"lookup:%d" % i for i in range(50)]


def lookup(url: str, timeout_s: float = 5.0, pause_s: float = 60.0) -> Lookup:
    return Lookup(url, timeout_s, pause_s, lease_ms=1000)


def test_leading_keys_are_counted(any_server: Server) -> None:
    plain = redis.Redis.from_url(f"redis://{any_server.url}")
    plain.delete(*KEYS)
    asked = lookup(any_server.url)
    assert asked.match([]) == 0
    assert asked.match(KEYS) == 0
    plain.mset(dict.fromkeys(KEYS[:30], b"x"))
    assert asked.match(KEYS) == 30
    assert asked.match(KEYS[:30]) == 30
    plain.delete(KEYS[7])
    assert asked.match(KEYS) == 7
    assert asked.match(KEYS[8:]) == 22
    plain.delete(*KEYS)
    asked.close()


def test_a_stalled_server_costs_the_deadline_once(misbehaving: Misbehaving) -> None:
    misbehaving.answers = [[STALL]]
    asked = lookup(misbehaving.url, timeout_s=0.05)
    began = time.monotonic()
    assert asked.match(KEYS) == 0
    assert 0.04 < time.monotonic() - began < 2
    for _ in range(100):  # left alone: nothing is sent
        assert asked.match(KEYS) == 0
    assert len(misbehaving.commands) == 1
    asked.close()


def test_what_is_found_is_leased(misbehaving: Misbehaving) -> None:
    for lease_ms, options in ((1500, [b"LEASE", b"1500"]), (0, [])):
        misbehaving.answers = [b":2\r\n"]
        asked = Lookup(misbehaving.url, 5.0, 60.0, lease_ms)
        assert asked.match(KEYS[:2]) == 2
        assert misbehaving.commands.pop() == [b"KVMATCH", *KEYS[:2], *options]
        asked.close()


def test_it_goes_on_after_the_pause(misbehaving: Misbehaving) -> None:
    misbehaving.answers = [[CLOSE], b":3\r\n"]
    asked = lookup(misbehaving.url, pause_s=0.001)
    assert asked.match(KEYS) == 0
    time.sleep(0.01)
    assert asked.match(KEYS) == 3
    asked.close()


def test_nobody_there(misbehaving: Misbehaving) -> None:
    misbehaving.close()
    asked = lookup(misbehaving.url)
    assert asked.match(KEYS) == 0
    asked.close()


def test_an_answer_that_is_none(misbehaving: Misbehaving) -> None:
    for answer in (b"-ERR no\r\n", b"?\r\n", b"$3\r\nfoo\r\n", b":51\r\n", b":-1\r\n"):
        misbehaving.answers = [answer]
        asked = lookup(misbehaving.url)
        assert asked.match(KEYS) == 0
        asked.close()
