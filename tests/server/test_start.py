# SPDX-License-Identifier: MIT
"""Start, refusals to start, log and secrets: one line that says what, where and what to do."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Client, Server, StartFailed, free_port, info_of, server_binary, wait_until

pytestmark = pytest.mark.ours


def refused(server: Server) -> str:
    """Starts a server that must not start; returns what it said."""
    with pytest.raises(StartFailed) as caught:
        server.start()
    server.proc = None
    assert caught.value.code == 1, caught.value
    assert caught.value.log.strip(), "no reason given"
    return caught.value.log


@pytest.mark.parametrize(
    "name,value,words",
    [
        ("nosuch", "1", ["nosuch"]),
        ("timeout", "abc", ["timeout", "abc"]),
        ("maxclients", "0", ["maxclients", "1"]),
        ("raft", "maybe", ["raft", "yes", "no"]),
        ("loglevel", "loud", ["loglevel", "notice", "debug"]),
        ("inline-max", "1gb", ["inline-max"]),
        ("read-threads", "-1", ["read-threads", "64"]),
        ("databases", "16", ["databases", "1"]),
        ("listen", "127.0.0.1:99999", ["listen", "99999", "1 to 65535"]),
        ("unixsocketperm", "999", ["unixsocketperm", "999", "octal"]),
    ],
)
def test_bad_directive_on_the_command_line(
    new_server: Callable[..., Server], name: str, value: str, words: list[str]
) -> None:
    log = refused(new_server(start=False, **{name: value}))
    line = next(ln for ln in log.splitlines() if name in ln)
    assert all(word in line for word in words), line


def test_conf_file(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server(start=False)
    server.port = 0
    conf = tmp_path / "x.conf"
    conf.write_text(
        '# a comment\n\ntimeout 77\n  MAXCLIENTS 123\nrequirepass "a b\\x63"\nloglevel   verbose\n'
    )
    server.password = "a bc"
    run = StartWith(server, [str(conf)])
    run.start()
    with server.client() as c:
        c.ok("AUTH", "a bc")
        assert c.cmd("CONFIG", "GET", "timeout") == [b"timeout", b"77"]
        assert c.cmd("CONFIG", "GET", "maxclients") == [b"maxclients", b"123"]


class StartWith:
    """A server with arguments before the directives (a conf file)."""

    def __init__(self, server: Server, first: list[str]) -> None:
        self.server = server
        argv = server.argv
        server.argv = lambda: [*argv()[:1], *first, *argv()[1:]]  # type: ignore[method-assign]

    def start(self) -> None:
        # --loglevel on the command line comes after the conf file and wins.
        self.server.start()


@pytest.mark.parametrize(
    "text,line,words",
    [
        ("timeout 5\nnosuch 1\n", 2, ["nosuch"]),
        ("\n\n# c\ntimeout abc\n", 4, ["timeout", "abc"]),
        ("timeout\n", 1, ["timeout"]),
        ('requirepass "open\n', 1, []),
    ],
)
def test_bad_line_in_a_conf_file(
    new_server: Callable[..., Server], tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text(text)
    server = new_server(start=False)
    StartWith(server, [str(conf)])
    log = refused(server)
    said = next(ln for ln in log.splitlines() if "x.conf" in ln)
    assert f"x.conf:{line}" in said and all(word in said for word in words), said


def test_a_missing_conf_file(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server(start=False)
    StartWith(server, [str(tmp_path / "absent.conf")])
    assert "absent.conf" in refused(server)


def test_listen_excludes_port_and_bind(new_server: Callable[..., Server]) -> None:
    assert "listen" in refused(new_server(start=False, listen="127.0.0.1:1"))


def test_port_in_use(new_server: Callable[..., Server]) -> None:
    server = new_server(start=False)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        server.port = s.getsockname()[1]
        with pytest.raises(StartFailed) as caught:
            # Another program holds the port: it would answer nothing, so look at the exit only.
            server.start(new_port=False, timeout_s=15)
        server.proc = None
        assert caught.value.code == 1 and str(server.port) in caught.value.log


def test_two_servers_on_one_data_dir(new_server: Callable[..., Server]) -> None:
    first = new_server()
    with first.client() as c:
        c.ok("SET", "k", "v")
    second = new_server(start=False, data_dir=str(first.data))
    log = refused(second)
    assert str(first.data) in log and ("another process" in log or "in use" in log or "lock" in log)
    with first.client() as c:
        assert c.cmd("GET", "k") == b"v"
        c.ok("SET", "k", "w")
    # The lock dies with its holder.
    first.kill9()
    second.start()
    with second.client() as c:
        assert c.cmd("GET", "k") == b"w"


def test_raft_cannot_be_changed_afterwards(new_server: Callable[..., Server]) -> None:
    server = new_server(raft="yes")
    with server.client() as c:
        c.ok("SET", "k", "v")
    server.stop()
    server.options["raft"] = "no"
    log = refused(server)
    assert "raft" in log and "sldmkv-check" in log
    server.options["raft"] = "yes"
    server.start()
    with server.client() as c:
        assert c.cmd("GET", "k") == b"v"


def test_data_of_another_node(new_server: Callable[..., Server]) -> None:
    server = new_server()
    server.stop()
    server.options["server-id"] = "7"
    assert "node" in refused(server) or "server-id" in server.log()


def rewrite_format(server: Server, old: str, new: str) -> None:
    """Changes FORMAT and makes its check right again."""
    xxhash = pytest.importorskip("xxhash")
    path = server.data / "FORMAT"
    lines = [ln for ln in path.read_text().splitlines(keepends=True) if not ln.startswith("check ")]
    text = "".join(lines)
    assert old in text
    text = text.replace(old, new)
    path.write_text(text + f"check {xxhash.xxh3_64_hexdigest(text.encode())}\n")


def test_format_of_a_newer_version(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with server.client() as c:
        c.ok("SET", "k", "v")
    server.stop()
    kept = (server.data / "FORMAT").read_text()
    rewrite_format(server, "format 1\n", "format 2\n")
    log = refused(server)
    assert "FORMAT" in log and "2" in log and "newer" in log
    (server.data / "FORMAT").write_text(kept)
    server.start()
    with server.client() as c:
        assert c.cmd("GET", "k") == b"v"


@pytest.mark.parametrize("text", ["", "format\n", "nonsense", "format 1\nstore x\n", "\x00" * 100])
def test_damaged_format(new_server: Callable[..., Server], text: str) -> None:
    server = new_server()
    server.stop()
    (server.data / "FORMAT").write_text(text)
    assert "FORMAT" in refused(server)
    assert (server.data / "FORMAT").read_text() == text, "nothing may be written over it"


def test_format_missing_beside_data(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with server.client() as c:
        c.ok("SET", "k", "v")
    server.stop()
    (server.data / "FORMAT").unlink()
    assert "FORMAT" in refused(server)


def test_data_dir_is_a_file(new_server: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    assert str(path) in refused(new_server(start=False, data_dir=str(path)))
    assert str(path) in refused(new_server(start=False, data_dir=str(path / "deeper")))


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs the server in tmp_path without root's rights, which would open every folder.

    Its own binary, conf and data are named from there, so that nothing above tmp_path needs to be
    open to others, and nothing above it is touched.
    """
    tmp_path.chmod(0o755)
    binary = tmp_path / "sldmkv-server"
    shutil.copy(server_binary("ours"), binary)
    binary.chmod(0o755)
    dropped: dict[str, object] = {}
    if os.geteuid() == 0:
        dropped = {"user": 65534, "group": 65534, "extra_groups": []}

    def run(*args: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["./sldmkv-server", *args, "--port", str(free_port())],
            cwd=tmp_path,
            capture_output=True,
            timeout=20,
            check=False,
            **dropped,  # type: ignore[call-overload]
        )

    return run


def test_missing_permission(
    as_nobody: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    """The place and the reason are named: a folder, a folder in it, a conf file, a data dir."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    conf = tmp_path / "x.conf"
    conf.write_text("timeout 0\n")
    conf.chmod(0o000)
    readable = tmp_path / "readable"  # may be looked at, but nothing can be made in it
    readable.mkdir(mode=0o555)
    try:
        for args, place in (
            (("--data-dir", "locked"), "locked"),
            (("--data-dir", "locked/data"), "locked"),
            (("--data-dir", "readable"), "readable"),
            (("--data-dir", "readable/data"), "readable"),
            (("x.conf", "--data-dir", "readable"), "x.conf"),
        ):
            done = as_nobody(*args)
            said = (done.stdout + done.stderr).decode()
            assert done.returncode == 1, (args, said)
            assert place in said and "ermission denied" in said, (args, said)
            assert "READY" not in said and "Ready to accept" not in said
    finally:
        locked.chmod(0o700)
        readable.chmod(0o700)


def test_a_file_of_the_data_dir_without_permission(
    new_server: Callable[..., Server],
    as_nobody: Callable[..., subprocess.CompletedProcess[bytes]],
    tmp_path: Path,
) -> None:
    """What root once made is not to be read by the service's user: refused, and nothing changed."""
    data = tmp_path / "data"
    server = new_server(data_dir=str(data))
    with server.client() as c:
        c.ok("SET", "k", "v")
    server.stop()
    data.chmod(0o777)
    for path in data.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    for name in ("FORMAT", "index.mdb", "index.mdb-lock", "raft", "raft/metadata1"):
        path = data / name
        mode = path.stat().st_mode & 0o777
        path.chmod(0o000)
        done = as_nobody("--data-dir", "data")
        path.chmod(mode)
        said = (done.stdout + done.stderr).decode().splitlines()[-1]
        assert done.returncode == 1, said
        assert "ermission denied" in said and re.search(rf"data/{name}\b(?!-)", said), said
        if name in ("index.mdb", "index.mdb-lock", "raft"):
            assert f"uid {os.geteuid()} with mode 0" in said and "check owner and mode" in said
    (data / "raft").rename(data / "away")
    (data / "raft").write_text("")
    assert f"{data}/raft: no file can be made in it: Not a directory" in refused(server)
    (data / "raft").unlink()
    (data / "away").rename(data / "raft")
    server.start()
    with server.client() as c:
        assert c.cmd("GET", "k") == b"v"


def test_unix_socket(new_server: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    new_server(unixsocket=str(path))
    assert path.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(path))
        s.sendall(b"SET k v\r\nGET k\r\n")
        got = b""
        while len(got) < 12:
            got += s.recv(100)
        assert got == b"+OK\r\n$1\r\nv\r\n"


def test_unix_socket_left_by_a_killed_server(
    new_server: Callable[..., Server], tmp_path: Path
) -> None:
    path = tmp_path / "s.sock"
    server = new_server(unixsocket=str(path))
    server.kill9()
    assert path.exists()
    server.start()
    server.stop()
    assert not path.exists()


def test_password_is_in_no_log_and_no_info(new_server: Callable[..., Server]) -> None:
    secret = "h0rse-battery"
    server = new_server(requirepass=secret, loglevel="debug")
    with server.client() as c:
        c.cmd("AUTH", secret + "x")
        c.ok("AUTH", secret)
        c.cmd("CONFIG", "SET", "requirepass", secret + "2")
        c.cmd("CONFIG", "SET", "slowlog-log-slower-than", "0")
        c.cmd("AUTH", secret + "2")
        c.cmd("HELLO", "3", "AUTH", "default", secret + "2")
        c.cmd("CONFIG", "SET", "requirepass", secret)
        slow = repr(c.cmd("SLOWLOG", "GET", "-1"))
        text = repr(c.cmd("INFO", "everything")) + repr(c.cmd("CLIENT", "LIST"))
    server.stop()
    assert secret not in server.log() and secret not in text and secret not in slow


def test_log_reopens_on_sighup(new_server: Callable[..., Server], tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    server = new_server(logfile=str(log))
    wait_until(lambda: log.exists() and log.stat().st_size > 0, what="a log")
    log.rename(tmp_path / "a.log.1")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(log.exists, what="a new log")
    server.stop()
    assert log.stat().st_size > 0, "the stop is in the new file"


def test_config_get_names_every_flag(new_server: Callable[..., Server]) -> None:
    """What CONFIG GET * shows is accepted as a flag with the value shown."""
    server = new_server()
    with server.client() as c:
        flat = c.cmd("CONFIG", "GET", "*")
    assert isinstance(flat, list) and len(flat) >= 40
    shown = dict(zip(flat[::2], flat[1::2], strict=True))
    for name in (
        b"server-id",
        b"data-dir",
        b"listen",
        b"raft",
        b"port",
        b"bind",
        b"unixsocket",
        b"requirepass",
        b"protected-mode",
        b"maxclients",
        b"timeout",
        b"tcp-keepalive",
        b"proto-max-bulk-len",
        b"max-store-bytes",
        b"max-memory-bytes",
        b"max-index-bytes",
        b"volume-size",
        b"inline-max",
        b"read-threads",
        b"lookup-lease-ms",
        b"loglevel",
        b"logfile",
    ):
        assert name in shown, name
    skip = {b"listen", b"port", b"bind", b"data-dir", b"dir"}
    options = {k.decode(): v.decode() for k, v in shown.items() if k not in skip}  # type: ignore
    again = new_server(start=False)
    again.options = options
    again.start()
    with again.client() as c:
        second = c.cmd("CONFIG", "GET", "*")
    assert isinstance(second, list)
    for name, value in zip(second[::2], second[1::2], strict=True):
        if name not in skip:
            assert shown[name] == value, name


def test_a_flag_without_a_value_is_yes(new_server: Callable[..., Server]) -> None:
    server = new_server(start=False)
    argv = server.argv
    server.argv = lambda: [*argv(), "--use-raft"]  # type: ignore[method-assign]
    server.start()
    with server.client() as c:
        assert c.cmd("CONFIG", "GET", "raft") == [b"raft", b"yes"]


def test_sizes_chosen_are_said_in_the_log(new_server: Callable[..., Server]) -> None:
    server = new_server(max_store_bytes="1gb", volume_size="0")
    with server.client() as c:
        assert c.cmd("CONFIG", "GET", "volume-size") == [b"volume-size", str(64 << 20).encode()]
        assert int(info_of(c, "server")["tcp_port"]) == server.port
    assert "volume" in server.log()


def test_info_is_about_this_process(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with server.client() as c:
        info = info_of(c)
        assert int(info["process_id"]) == server.pid
        assert 0 < int(info["used_memory"]) and int(info["used_memory_rss"]) > 1 << 20
        before = int(info["total_commands_processed"])
        with Client(server.port) as other:
            for _ in range(10):
                other.cmd("PING")
        assert int(info_of(c)["total_commands_processed"]) >= before + 10
