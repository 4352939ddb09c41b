# SPDX-License-Identifier: MIT
"""redis-cli and redis-benchmark, unmodified."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Sequence

import pytest

from harness import Server, encode
from test_values import body, same

pytestmark = pytest.mark.skipif(
    not shutil.which("redis-cli"), reason="redis-tools is not installed"
)


def cli(server: Server, *args: str, stdin: bytes = b"", timeout_s: float = 60) -> bytes:
    done = subprocess.run(
        ["redis-cli", "-p", str(server.port), *args],
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def terminal(
    server: Server, args: Sequence[str], lines: Sequence[str], until: bytes, timeout_s: float = 20
) -> bytes:
    """redis-cli on a terminal: types the lines, returns the output once ``until`` is in it."""
    ours, theirs = pty.openpty()
    argv = ["redis-cli", "-p", str(server.port), *args]
    process = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "dumb"}
    )
    os.close(theirs)
    out = b""
    try:
        for line in lines:
            os.write(ours, line.encode() + b"\n")
        deadline = time.monotonic() + timeout_s
        while not re.search(until, out):
            assert time.monotonic() < deadline, out
            if select.select([ours], [], [], 0.1)[0]:
                out += os.read(ours, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return out


def fill(server: Server) -> None:
    with server.client() as c:
        for n in range(300):
            c.ok("SET", f"key:{n}", "x" * n)
        c.ok("SET", "biggest", body(50_000))


def test_arguments_and_stdin(server: Server) -> None:
    assert cli(server, "SET", "k", "a b") == b"OK\n"
    assert cli(server, "--no-raw", "GET", "k") == b'"a b"\n'
    assert cli(server, "GET", "k") == b"a b\n"
    assert cli(server, "-3", "--no-raw", "GET", "nope") == b"(nil)\n"
    assert cli(server, "--no-raw", "CONFIG", "GET", "timeout") == b'1) "timeout"\n2) "0"\n'
    assert cli(server, "-3", "--no-raw", "CONFIG", "GET", "timeout") == b'1# "timeout" => "0"\n'
    assert cli(server, stdin=b"SET a 1\nINCR a\nMULTI\nINCR a\nEXEC\nGET a\n") == (
        b"OK\n2\nOK\nQUEUED\n3\n3\n"
    )
    assert b"unknown command" in cli(server, "NOSUCH")


def test_binary_value_through_stdin(server: Server) -> None:
    data = body(32 << 20)
    assert cli(server, "-x", "SET", "k", stdin=data) == b"OK\n"
    same(cli(server, "GET", "k")[:-1], data)


def test_help_on_a_terminal(server: Server, target: str) -> None:
    """Without a line editor redis-cli drops what was typed ahead: one question each."""
    terminal(server, [], ["help getrange"], rb"GETRANGE.*key start end[^$]*since:.*\d")
    terminal(server, [], ["help @string"], rb"APPEND[^$]*GETRANGE[^$]*SETNX")
    if target == "ours":
        terminal(server, [], ["help kvstore"], rb"KVSTORE.*key value")


def test_pipe(server: Server) -> None:
    count = 20_000
    stream = b"".join(encode(["SET", f"k{n}", f"v{n}"]) for n in range(count))
    stream += encode(["NOSUCH"]) + encode(["INCR", "k1"])
    done = subprocess.run(
        ["redis-cli", "-p", str(server.port), "--pipe"],
        input=stream,
        capture_output=True,
        timeout=60,
    )
    assert f"errors: 2, replies: {count + 2}".encode() in done.stdout, done.stdout
    with server.client() as c:
        assert c.cmd("DBSIZE") == count
        assert c.cmd("GET", f"k{count - 1}") == b"v%d" % (count - 1)


def test_pipe_of_large_values(server: Server) -> None:
    data = body(2 << 20)
    stream = b"".join(encode(["SET", f"k{n}", data]) for n in range(20))
    out = cli(server, "--pipe", stdin=stream)
    assert b"errors: 0, replies: 20" in out, out
    with server.client() as c:
        same(c.cmd("GET", "k19"), data)


def test_scan(server: Server) -> None:
    fill(server)
    assert len(cli(server, "--scan").split()) == 301
    assert len(cli(server, "--scan", "--pattern", "key:1*").split()) == 111


def test_bigkeys_and_memkeys(server: Server) -> None:
    fill(server)
    out = cli(server, "--bigkeys")
    assert b"Biggest string found '\"biggest\"' has 50000 bytes" in out, out
    assert b"301 strings with" in out
    out = cli(server, "--memkeys")
    assert b"Biggest string found '\"biggest\"' has " in out, out
    assert b"301 strings with" in out


def test_latency(server: Server) -> None:
    assert re.fullmatch(rb"\d+ \d+ \d+\.\d+ \d+\n", cli(server, "--latency", "--raw", timeout_s=10))


def test_stat(server: Server) -> None:
    fill(server)
    terminal(server, ["--stat", "-i", "0.1"], [], rb"keys .*\n301 +[\d.]+[KMG] .*\n301 .*\n301 ")


def test_rdb_and_other_absent_modes_end(server: Server, target: str) -> None:
    if target == "redis":
        return
    for mode in (["--rdb", "/dev/null"], ["--replica"], ["--hotkeys"]):
        done = subprocess.run(
            ["redis-cli", "-p", str(server.port), *mode],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        )
        assert done.returncode != 0 or done.stdout or done.stderr
    with server.client() as c:
        assert c.cmd("PING") == b"PONG"


@pytest.mark.parametrize(
    "options",
    [
        ["-t", "ping,set,get,incr,mset", "-n", "2000"],
        ["-t", "set,get", "-n", "2000", "-P", "32", "-r", "500", "-d", "300"],
        ["-t", "set,get", "-n", "200", "-c", "4", "-d", "1000000"],
    ],
    ids=["defaults", "pipelined", "large"],
)
def test_benchmark(server: Server, options: list[str]) -> None:
    done = subprocess.run(
        ["redis-benchmark", "-p", str(server.port), "-q", *options],
        capture_output=True,
        timeout=100,
    )
    out = done.stdout.replace(b"\r", b"\n")
    assert done.returncode == 0, out[-500:] + done.stderr
    assert b"rror" not in out + done.stderr, out[-500:] + done.stderr
    names = {
        "ping": b"PING_MBULK",
        "set": b"SET:",
        "get": b"GET:",
        "incr": b"INCR:",
        "mset": b"MSET",
    }
    for test in options[1].split(","):
        assert re.search(re.escape(names[test]) + rb".*requests per second", out), (
            test,
            out[-500:],
        )
