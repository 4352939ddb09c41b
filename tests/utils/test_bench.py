# SPDX-License-Identifier: MIT
"""loadgen notices what is wrong, and make bench ends as its parts did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import REPO, Server, free_port

WRONG, CANNOT = 1, 2
BIN = Path(os.environ.get("SLDMKV_BIN", REPO / "build"))

NewServer = Callable[..., Server]


def loadgen(port: int, *args: object) -> subprocess.CompletedProcess[str]:
    argv = [str(BIN / "loadgen"), "--port", str(port), *map(str, args)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def load(server: Server, *args: object) -> dict[str, Any]:
    done = loadgen(server.port, *args)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def key(number: int) -> str:
    return f"load:{number:010}"


# Around the page, the inline limit of loadgen and the server, and its block.
@pytest.mark.parametrize("size", [1, 7, 8, 4095, 4097, 16384, 16385, 262145, "1000-700000"])
def test_what_was_set_is_got(new_server: NewServer, size: object) -> None:
    server = new_server()
    part = ("--size", size, "--keys", 40, "--connections", 3)
    stored = load(server, "--op", "set", *part, "--pipeline", 4, "--requests", 40)
    assert stored["sets"] == 40
    for order in ("seq", "random", "shuffle", "zipf"):
        got = load(server, "--op", "get", *part, "--order", order, "--requests", 80)
        assert got["hits"] == got["requests"] == 80
    got = load(server, "--op", "get", *part, "--order", "shuffle", "--requests", 40)
    assert got["bytes_got"] == stored["bytes_set"]  # each key once
    mixed = load(server, "--op", "set", *part, "--reads", 50, "--requests", 100)
    assert mixed["sets"] + mixed["hits"] == 100
    assert mixed["sets"] > 0 < mixed["hits"]


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("what", ["one bit", "another key's", "short", "nothing", "number"])
def test_a_wrong_value_is_noticed(new_server: NewServer, size: int, what: str) -> None:
    server = new_server()
    part = ("--size", size, "--keys", 20, "--connections", 2, "--requests", 20)
    load(server, "--op", "set", *part)
    with server.client() as c:
        value = bytearray(c.cmd("GET", key(7)))
        value[size - 3] ^= 4
        if what == "nothing":
            c.cmd("DEL", key(7))
        elif what == "number":
            c.ok("SET", key(7), "12")
        else:
            wrong = {"one bit": value, "another key's": c.cmd("GET", key(8))}
            c.ok("SET", key(7), wrong.get(what, value[:-1]))
    done = loadgen(server.port, "--op", "get", *part)
    assert done.returncode == WRONG
    assert "key 7: a wrong answer" in done.stderr
    assert done.stdout == ""


def test_match_and_exists_count_only_what_is_there(new_server: NewServer) -> None:
    server = new_server()
    load(server, "--op", "set", "--size", 10, "--keys", 500, "--requests", 500)
    match = ("--op", "match", "--keys", 500, "--match", 100, "--requests", 50)
    exists = ("--op", "exists", "--keys", 500, "--pipeline", 64, "--requests", 500)
    found = load(server, *match)
    assert found["requests"] == 50
    assert round(found["keys_per_second"] * found["seconds"]) == 5000
    assert load(server, *exists)["requests"] == 500
    with server.client() as c:
        c.cmd("DEL", key(123))
    for op in (match, exists):
        assert loadgen(server.port, *op).returncode == WRONG


def test_churn_goes_on_and_may_miss(new_server: NewServer) -> None:
    server = new_server()
    part = ("--op", "churn", "--size", "100-50000", "--keys", 50)
    first = load(server, *part, "--requests", 60)
    assert first["sets"] == first["next"] == 60
    with server.client() as c:
        for number in range(10, 60):
            c.cmd("DEL", key(number))
    then = load(server, *part, "--first", 60, "--reads", 50, "--requests", 400)
    assert then["next"] - 60 == then["sets"]
    assert then["sets"] + then["hits"] + then["misses"] == 400
    assert then["misses"] > 0 < then["hits"]


def test_an_error_is_a_wrong_answer(new_server: NewServer) -> None:
    server = new_server(requirepass="secret")
    done = loadgen(server.port, "--op", "get", "--requests", 1)
    assert done.returncode == WRONG
    assert "NOAUTH" in done.stderr


def test_without_a_server_or_with_bad_words_it_cannot() -> None:
    assert loadgen(free_port(), "--op", "get").returncode == CANNOT
    for bad in (("--op", "put"), ("--size", "0"), ("--size", "9-8"), ("--keys",), ("--x", "1")):
        done = loadgen(1, *bad)
        assert done.returncode == CANNOT
        assert "usage" in done.stderr


def bench(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    built = REPO / "build" / "bin"  # redis-server
    path = {"PATH": f"{built}:{os.environ['PATH']}"}
    return subprocess.run(
        [sys.executable, str(REPO / "utils" / "bench"), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=os.environ | path | env,
    )


def test_bench_prints_a_table_and_json(scratch: Path) -> None:
    done = bench("--only", "match", "--rounds", 1, "--dir", scratch)
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.strip().splitlines()
    row = next(line for line in table if line.startswith("| KVMATCH of 1,024 keys"))
    assert row.count("|") == 8
    result = json.loads(last)
    assert result["rows"][0]["ours"][0] > 0 < result["rows"][0]["theirs"][0]
    assert result["machine"]["form"].startswith("short")
    assert "round 1 of 1: redis" in done.stderr
    assert list(scratch.iterdir()) == []


def test_bench_ends_with_1_when_a_process_is_missing(scratch: Path) -> None:
    done = bench("--only", "match", "--rounds", 1, "--dir", scratch, PATH=str(scratch / "none"))
    assert done.returncode == 1
    assert "no redis-server" in done.stderr
    assert done.stdout == ""
    assert list(scratch.iterdir()) == []
    assert bench("--only", "nothing").returncode == 1
    listed = bench("--list")
    assert listed.returncode == 0
    assert "set2m" in listed.stdout
