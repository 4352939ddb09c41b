# SPDX-License-Identifier: MIT
"""Nothing unfinished is announced, and nothing names a machine on a network."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import repo

SELF = Path("tests/check/words.py")
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK|[Pp]laceholder|PLACEHOLDER|[Nn]ot implemented|[Uu]nimplemented)\b"
)
IPV4 = re.compile(r"(?<![\w.\-])(\d{1,3}(?:\.\d{1,3}){3})(?![\w\-]|\.\d)")
URL = re.compile(r"\b[a-z][a-z0-9+]*://(?:[^\s/@\"']*@)?(\[[0-9a-fA-F:]+\]|[\w.\-]+)")

# Documentation ranges (RFC 5737, RFC 3849) and names (RFC 2606).
EXAMPLE_NETS = [
    ipaddress.ip_network(n)
    for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]
EXAMPLE_NAME = re.compile(r"^(localhost|host|(.*\.)?example(\.(com|org|net))?)$")


def address_is_fine(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return (
        address.is_loopback
        or address.is_unspecified
        or any(address in net for net in EXAMPLE_NETS)
    )


def in_line(line: str) -> list[str]:
    found = [f'"{m[1]}"' for m in UNFINISHED.finditer(line)]
    for match in IPV4.finditer(line):
        valid = all(int(part) < 256 for part in match[1].split("."))
        if valid and not address_is_fine(match[1]):
            found.append(f"network address {match[1]}")
    for match in URL.finditer(line):
        if not EXAMPLE_NAME.match(match[1]) and not address_is_fine(match[1]):
            found.append(f"network address {match[0]}")
    return found


def main() -> None:
    findings = []
    for name in repo.files():
        if name == SELF or (repo.ROOT / name).is_symlink():
            continue
        for number, line in enumerate(repo.lines(name), 1):
            findings += [f"{name}:{number}: {what}" for what in in_line(line)]
    repo.finish("no unfinished work, no network addresses", findings)


main()
