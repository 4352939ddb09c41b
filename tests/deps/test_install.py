# SPDX-License-Identifier: MIT
"""deps/install.sh against a package system of shell scripts: what it asks for and refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD_PACKAGES = [
    line.split()[1]
    for line in (ROOT / "deps" / "packages.txt").read_text().splitlines()
    if line.startswith("build ")
]
RAFT_MIN = "0.22.1"
# All that install.sh runs besides the fakes: with only these in PATH there is no sudo.
TOOLS = "awk bash cat cut dirname dpkg env grep mktemp rm sed tail tee tr xargs".split()

# Every tool reads $FAKE: "installed" holds "package version" lines, "candidate" the same for what
# apt would install, "backports" replaces "candidate" once the suite is configured and updated.
FAKES = {
    "dpkg-query": """
        for p in "$@"; do
            awk -v p="$p" '$1 == p { print $1, "installed", $2 }' "$FAKE/installed"
        done
        case "$*" in *Provides*) cat "$FAKE/provides" ;; esac""",
    "apt-cache": """
        printf 'Package:\\n  Candidate: '
        awk -v p="$2" '$1 == p { v = $2 } END { print v ? v : "(none)" }' "$FAKE/candidate" """,
    "apt-get": """
        echo "$*" >>"$FAKE/apt-get.log"
        case " $* " in
        *" update "*) [ ! -e "$FAKE/backports" ] || cp "$FAKE/backports" "$FAKE/candidate" ;;
        *" install "*)
            [ ! -e "$FAKE/broken" ] || { echo 'E: broken'; exit 100; }
            for p in "$@"; do grep "^$p " "$FAKE/candidate" >>"$FAKE/installed"; done ;;
        esac
        exit 0""",
    "apt-config": """
        echo "list='$FAKE/etc/sources.list'"; echo "parts='$FAKE/etc/sources.list.d'" """,
    "id": "echo ${FAKE_UID:-0}",
}


@dataclass
class Machine:
    """A Debian of shell scripts."""

    home: Path

    def write(self, name: str, versions: dict[str, str]) -> None:
        (self.home / name).write_text("".join(f"{p} {v}\n" for p, v in versions.items()))

    def os_release(self, distribution: str, version: str, codename: str) -> None:
        (self.home / "os-release").write_text(
            f"ID={distribution}\nVERSION_ID={version}\nVERSION_CODENAME={codename}\n"
        )

    def install(
        self, *args: str, uid: int = 0, path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        env = os.environ | {
            "FAKE": str(self.home),
            "FAKE_UID": str(uid),
            "PATH": path or f"{self.home}/bin:{os.environ['PATH']}",
            "SLDMKV_OS_RELEASE": str(self.home / "os-release"),
            "SLDMKV_APT_ETC": str(self.home / "etc"),
        }
        command = [str(ROOT / "deps" / "install.sh"), *args]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False)

    def apt_get_calls(self) -> str:
        log = self.home / "apt-get.log"
        return log.read_text() if log.exists() else ""

    def text(self, name: str) -> str:
        return (self.home / "etc" / name).read_text()

    def has(self, name: str) -> bool:
        return (self.home / "etc" / name).exists()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for folder in ("bin", "etc/sources.list.d", "etc/preferences.d"):
        (tmp_path / folder).mkdir(parents=True)
    for name, body in FAKES.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    (tmp_path / "etc" / "sources.list").write_text(
        "deb http://mirror.example.org/debian bookworm main\n"
    )
    m = Machine(tmp_path)
    m.os_release("debian", "12", "bookworm")
    m.write("installed", {p: "9" for p in BUILD_PACKAGES})
    m.write("candidate", {p: "9" for p in BUILD_PACKAGES})
    m.write("provides", {})
    return m


def without_raft(version: str | None) -> dict[str, str]:
    packages = {p: "9" for p in BUILD_PACKAGES if p != "libraft-dev"}
    return packages if version is None else packages | {"libraft-dev": version}


def test_nothing_missing_asks_apt_for_nothing(machine: Machine) -> None:
    got = machine.install("build", uid=1000)
    assert (got.returncode, got.stdout, got.stderr) == (0, "", "")
    assert machine.apt_get_calls() == ""


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    machine.write("installed", {p: "9" for p in BUILD_PACKAGES if p != "liblmdb-dev"})
    got = machine.install("build")
    assert got.returncode == 0
    calls = machine.apt_get_calls().splitlines()
    assert len(calls) == 1
    assert calls[0].split("--no-install-recommends ")[1] == "liblmdb-dev"


@pytest.mark.parametrize(
    ("provides", "missing"),
    [
        ("installed libx, make, liby,", []),
        ("installed make (= 4.4),", []),
        ("installed make,", []),
        ("not-installed make,", ["make"]),
        ("installed makeself, automake,", ["make"]),
    ],
)
def test_what_another_package_provides_is_there(
    machine: Machine, provides: str, missing: list[str]
) -> None:
    machine.write("installed", {p: "9" for p in BUILD_PACKAGES if p != "make"})
    (machine.home / "provides").write_text(f"installed libz,\n{provides}\ninstalled ,\n")
    assert machine.install("--check", "build").stdout.split() == missing


def test_check_names_what_is_missing_and_installs_nothing(machine: Machine) -> None:
    machine.write("installed", without_raft("0.15.0-1"))
    got = machine.install("--check", "build")
    assert (got.returncode, got.stdout) == (1, "libraft-dev\n")
    assert machine.apt_get_calls() == ""


def test_package_lists_are_fetched_on_a_fresh_machine(machine: Machine) -> None:
    machine.write("installed", {})
    machine.write("candidate", {})
    machine.write("backports", {p: "9" for p in BUILD_PACKAGES})
    got = machine.install("build")
    assert got.returncode == 0
    assert "update" in machine.apt_get_calls().splitlines()[0]
    assert not machine.has("sources.list.d/sldmkv-backports.sources")


@pytest.mark.parametrize("present", [None, "0.15.0-1"])
def test_debian_12_takes_libraft_from_backports(machine: Machine, present: str | None) -> None:
    machine.write("installed", without_raft(present))
    machine.write("candidate", without_raft("0.15.0-1"))
    machine.write("backports", without_raft(f"{RAFT_MIN}-1~bpo12+1"))
    got = machine.install("build")
    assert got.returncode == 0, got.stderr
    assert "URIs: http://mirror.example.org/debian\n" in machine.text(
        "sources.list.d/sldmkv-backports.sources"
    )
    preferences = machine.text("preferences.d/sldmkv-backports")
    assert "Package: libraft0 libraft-dev\nPin: release n=bookworm-backports\n" in preferences
    assert "Package: *\nPin: release n=bookworm-backports\nPin-Priority: 100\n" in preferences


def test_configured_backports_get_only_a_preference(machine: Machine) -> None:
    (machine.home / "etc" / "sources.list").write_text(
        "deb http://mirror.example.org/debian bookworm main\n"
        "deb http://mirror.example.org/debian bookworm-backports main\n"
    )
    machine.write("installed", without_raft(None))
    machine.write("candidate", without_raft("0.15.0-1"))
    machine.write("backports", without_raft(f"{RAFT_MIN}-1"))
    assert machine.install("build").returncode == 0
    assert not machine.has("sources.list.d/sldmkv-backports.sources")
    assert "Package: *" not in machine.text("preferences.d/sldmkv-backports")


def test_a_mirror_without_it_is_refused(machine: Machine) -> None:
    machine.write("installed", without_raft(None))
    machine.write("candidate", without_raft("0.15.0-1"))
    got = machine.install("build")
    assert got.returncode == 1
    assert "has libraft-dev 0.15.0-1" in got.stderr
    assert " install " not in machine.apt_get_calls()


@pytest.mark.parametrize(
    ("distribution", "version", "codename", "candidate", "accepted"),
    [
        ("debian", "13", "trixie", "0.22.1-1+b1", True),
        ("ubuntu", "25.04", "plucky", "0.22.1-2", True),
        ("ubuntu", "24.04", "noble", "0.22.0-1", False),
        ("ubuntu", "22.04", "jammy", "0.11.3-1", False),
    ],
)
def test_other_systems_by_their_libraft(
    machine: Machine,
    distribution: str,
    version: str,
    codename: str,
    candidate: str,
    accepted: bool,
) -> None:
    machine.os_release(distribution, version, codename)
    machine.write("installed", without_raft(None))
    machine.write("candidate", without_raft(candidate))
    got = machine.install("build")
    assert got.returncode == (0 if accepted else 1)
    assert machine.has("preferences.d/sldmkv-backports") is False
    if not accepted:
        assert f"libraft-dev here is {candidate}" in got.stderr
        assert f"{distribution} {version}" in got.stderr
        assert " install " not in machine.apt_get_calls()


def test_other_user_without_sudo_is_told_the_command(machine: Machine) -> None:
    machine.write("installed", without_raft(None))
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (machine.home / "bin" / tool).symlink_to(found)
    got = machine.install("build", uid=1000, path=str(machine.home / "bin"))
    assert got.returncode == 1
    assert "as root run:" in got.stderr
    assert "install.sh build" in got.stderr


def test_apt_failure_is_shown_and_fails(machine: Machine) -> None:
    machine.write("installed", without_raft(None))
    (machine.home / "broken").touch()
    got = machine.install("build")
    assert got.returncode == 1
    assert "E: broken" in got.stderr
    assert "could not install: libraft-dev" in got.stderr


def test_a_package_the_distribution_lacks_is_named(machine: Machine) -> None:
    machine.write("installed", {p: "9" for p in BUILD_PACKAGES if p != "liblmdb-dev"})
    machine.write("candidate", {})
    got = machine.install("build")
    assert got.returncode == 1
    assert "no package liblmdb-dev" in got.stderr
    assert " install " not in machine.apt_get_calls()


def test_unknown_group_is_refused(machine: Machine) -> None:
    got = machine.install("everything")
    assert got.returncode == 1
    assert 'no group "everything"' in got.stderr
