# SPDX-License-Identifier: MIT
"""The connector's options: defaults work, anything wrong is one clear line."""

from __future__ import annotations

from typing import Any

import pytest

from sldmkvcachestore.options import Options


def test_defaults_and_values() -> None:
    assert Options.parse({}) == Options()
    given = Options.parse({"url": "unix:///kv.sock", "load_threads": 4, "save_generated": False})
    assert (given.url, given.load_threads, given.save_generated) == ("unix:///kv.sock", 4, False)
    assert Options.parse({"ttl_s": 0, "save_queue_bytes": 0}).ttl_s == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lod_threads": 2}, "unknown option 'lod_threads'.*load_threads"),
        ({"load_threads": 0}, "option load_threads: an integer of at least 1, not 0"),
        ({"load_threads": "2"}, "option load_threads: an integer"),
        ({"load_threads": True}, "option load_threads: an integer"),
        ({"lookup_timeout_ms": 1.5}, "option lookup_timeout_ms: an integer"),
        ({"ttl_s": -1}, "option ttl_s: an integer of at least 0, not -1"),
        ({"save_generated": 1}, "option save_generated: true or false, not 1"),
        ({"url": ""}, "option url: a text"),
        ({"url": 50051}, "option url: a text"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Options.parse(given)
