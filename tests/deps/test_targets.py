# SPDX-License-Identifier: MIT
"""``make install``, ``make uninstall`` and ``make help``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def make(*arguments: str) -> str:
    """Runs make as its user would, not as a part of the make that runs this test.

    Nothing is built: what is there was built with the flags of that make.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "SAN"))}
    build = os.environ.get("SLDMKV_BUILD", str(REPO / "build"))
    done = subprocess.run(
        ["make", "-o", "all", "--no-print-directory", f"BUILD={build}", *arguments],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


def test_install_and_uninstall(tmp_path: Path) -> None:
    place = (f"DESTDIR={tmp_path}", "PREFIX=/usr")
    said = make("install", *place)
    assert files(tmp_path) == {
        "etc/sldmkv/sldmkv.conf",
        "etc/sldmkv/sldmkv.conf.dist",
        "usr/bin/sldmkv-check",
        "usr/bin/sldmkv-server",
        "usr/lib/systemd/system/sldmkv.service",
        "usr/lib/sysusers.d/sldmkv.conf",
        "usr/share/doc/sldmkv/LICENSE",
        "usr/share/doc/sldmkv/NOTICE",
        "usr/share/man/man1/sldmkv-check.1",
        "usr/share/man/man1/sldmkv-server.1",
    }
    unit = (tmp_path / "usr/lib/systemd/system/sldmkv.service").read_text()
    assert "Type=notify" in unit and "/usr/local" not in unit
    assert "\nExecStart=/usr/bin/sldmkv-server /etc/sldmkv/sldmkv.conf\n" in unit
    conf = tmp_path / "etc/sldmkv/sldmkv.conf"
    assert "\ndata-dir /var/lib/sldmkv\n" in conf.read_text()
    assert conf.stat().st_mode & 0o777 == 0o640  # it may hold requirepass
    assert "chgrp sldmkv /etc/sldmkv/sldmkv.conf" in said and "\nGroup=sldmkv\n" in unit
    version = subprocess.run([tmp_path / "usr/bin/sldmkv-server", "--version"], check=False)
    assert version.returncode == 0

    conf.write_text("port 6400\n")
    make("install", *place)
    assert conf.read_text() == "port 6400\n"
    make("uninstall", *place)
    assert files(tmp_path) == {"etc/sldmkv/sldmkv.conf"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    server = Path(os.environ.get("SLDMKV_BUILD", REPO / "build")) / "sldmkv-server"
    text = (REPO / "utils" / "sldmkv.service").read_text()
    text = text.replace("/usr/local/bin/sldmkv-server", str(server))
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.M)  # the page is not installed
    unit = tmp_path / "sldmkv.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_lists_every_target_there_is() -> None:
    shown = re.findall(r"^  ([\w-]+) ", make("help"), flags=re.M)
    text = (REPO / "Makefile").read_text()
    main = re.search(r"^\.PHONY: (all .*)$", text, flags=re.M)
    assert main is not None
    assert sorted(shown) == sorted(main[1].split())
