# SPDX-License-Identifier: MIT
"""deps/backports.sh: the backports source made from whatever apt is configured with."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "deps" / "backports.sh"
KEYRING = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"


def backports(tmp_path: Path, **sources: str) -> subprocess.CompletedProcess[str]:
    """Runs the script on files written from ``name_suffix=text``."""
    files = []
    for name, text in sources.items():
        path = tmp_path / name.replace("_", ".")
        path.write_text(text)
        files.append(str(path))
    return subprocess.run(
        [str(SCRIPT), "bookworm", *files], capture_output=True, text=True, check=False
    )


def fields(stanza: str) -> dict[str, str]:
    """The fields of one deb822 stanza; continuation lines stay with theirs."""
    found: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith(" "):
            found[name] += "\n" + line
            continue
        name, _, value = line.partition(":")
        found[name] = value.strip()
    return found


def test_deb822_keeps_uri_keyring_and_options(tmp_path: Path) -> None:
    got = backports(
        tmp_path,
        debian_sources="# comment\n"
        "Types: deb deb-src\n"
        "URIs: http://mirror.example.org/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main contrib\n"
        "Check-Valid-Until: no\n"
        f"{KEYRING}\n",
    )
    assert got.returncode == 0
    assert fields(got.stdout) == {
        "Types": "deb",
        "Suites": "bookworm-backports",
        "Components": "main",
        "URIs": "http://mirror.example.org/debian",
        "Check-Valid-Until": "no",
        "Signed-By": "/usr/share/keyrings/debian-archive-keyring.gpg",
    }


def test_deb822_key_inside_the_file(tmp_path: Path) -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END-----\n"
    got = backports(
        tmp_path,
        d_sources="Types: deb\nURIs: http://mirror.example.org/debian\nSuites: bookworm\n"
        f"Components: main\n{key}",
    )
    assert key in got.stdout


def test_fields_over_several_lines(tmp_path: Path) -> None:
    got = backports(
        tmp_path,
        d_sources="Types: deb\nURIs: http://a.example.org/debian\n http://b.example.org/debian\n"
        "Suites:\n bookworm\n bookworm-updates\nComponents:\n main\n",
    )
    uris = fields(got.stdout)["URIs"].split()
    assert uris == ["http://a.example.org/debian", "http://b.example.org/debian"]


def test_one_line_style_with_options(tmp_path: Path) -> None:
    got = backports(
        tmp_path,
        sources_list="deb-src http://mirror.example.org/debian bookworm main\n"
        "deb [ arch=amd64,arm64 signed-by=/etc/k.gpg trusted=yes ] "
        "http://mirror.example.org/debian bookworm main non-free # the base\n",
    )
    assert fields(got.stdout) == {
        "Types": "deb",
        "Suites": "bookworm-backports",
        "Components": "main",
        "URIs": "http://mirror.example.org/debian",
        "Architectures": "amd64 arm64",
        "Signed-By": "/etc/k.gpg",
        "Trusted": "yes",
    }


def test_one_line_style_without_options(tmp_path: Path) -> None:
    got = backports(tmp_path, s_list="deb http://mirror.example.org/debian bookworm main\n")
    assert fields(got.stdout)["URIs"] == "http://mirror.example.org/debian"
    assert "Signed-By" not in got.stdout


def test_a_mirror_list_is_kept_as_it_is(tmp_path: Path) -> None:
    got = backports(
        tmp_path,
        d_sources="Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\n"
        "Suites: bookworm bookworm-updates\nComponents: main\n",
    )
    assert fields(got.stdout)["URIs"] == "mirror+file:///etc/apt/mirrors/debian.list"


def test_security_third_parties_disabled_and_cdrom_are_passed_over(tmp_path: Path) -> None:
    got = backports(
        tmp_path,
        a_list="deb cdrom:[Debian 12]/ bookworm main\n"
        "# deb http://old.example.org/debian bookworm main\n"
        "deb http://third.example.org/x x-bookworm main\n"
        "deb http://third.example.org/y bookworm y\n"
        "deb http://security.example.org/ bookworm-security main\n",
        b_sources="Enabled: no\nTypes: deb\nURIs: http://off.example.org/debian\n"
        "Suites: bookworm\nComponents: main\n\n"
        "Types: deb-src\nURIs: http://src.example.org/debian\nSuites: bookworm\n"
        "Components: main\n\n"
        "Types: deb\nURIs: http://base.example.org/debian\nSuites: bookworm\nComponents: main\n",
    )
    assert fields(got.stdout)["URIs"] == "http://base.example.org/debian"


def test_suite_named_by_age(tmp_path: Path) -> None:
    got = backports(tmp_path, s_list="deb http://mirror.example.org/debian oldstable main\n")
    assert fields(got.stdout)["Suites"] == "bookworm-backports"
    assert fields(got.stdout)["URIs"] == "http://mirror.example.org/debian"


def test_nothing_when_it_is_configured_already(tmp_path: Path) -> None:
    base = "deb http://mirror.example.org/debian bookworm main\n"
    for extra in (
        {"b_list": "deb http://m.example.org/debian bookworm-backports main\n"},
        {
            "b_sources": "Types: deb\nURIs: http://m.example.org/debian\n"
            "Suites: bookworm-updates bookworm-backports\nComponents: contrib main\n"
        },
    ):
        got = backports(tmp_path, a_list=base, **extra)
        assert (got.returncode, got.stdout) == (0, "")


def test_refused_without_a_base(tmp_path: Path) -> None:
    got = backports(tmp_path, a_list="deb http://mirror.example.org/debian trixie main\n")
    assert got.returncode == 1
    assert got.stdout == ""
    assert "no source for bookworm/main" in got.stderr
