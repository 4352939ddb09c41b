# SPDX-License-Identifier: MIT
"""Namespaces: what differs in anything that can change a byte never meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sldmkvcachestore.namespace import digest, weights_of


def model(folder: Path, *files: bytes) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for number, data in enumerate(files):
        (folder / f"part-{number}.safetensors").write_bytes(data)
    return str(folder)


def test_facts_are_a_digest_without_order() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    facts: list[dict[str, Any]] = [
        {"a": 1, "b": [2, 3]},
        {"a": 2, "b": [2, 3]},
        {"a": 1, "b": [3, 2]},
        {"a": 1},
        {"a": "1", "b": [2, 3]},
    ]
    assert len(set(map(digest, facts))) == 5


def test_equal_weights_are_equal_wherever_they_lie(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    assert weights_of(model(tmp_path / "a", data)) == weights_of(model(tmp_path / "b", data))


def test_other_weights_of_the_same_shape(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    turned = bytes(reversed(data))
    found = {
        weights_of(model(tmp_path / name, *files))
        for name, files in {
            "first": [data],
            "other": [turned],
            "two": [data, data],
            "both": [data, turned],
            "longer": [data + b"x"],
            "end": [data[:-1] + b"x"],
            "none": [],
        }.items()
    }
    assert len(found) == 7


def test_a_hub_name_is_its_name() -> None:
    assert weights_of("meta-llama/Llama-3-8B") == ""
