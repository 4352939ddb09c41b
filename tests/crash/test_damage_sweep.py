# SPDX-License-Identifier: MIT
"""One bit, a page, a cut, a missing file: of every file of a store, after a stop and a kill -9.

The next start is refused, with the file and what helps, or it serves: every value right or a miss,
never other bytes. Damage inside index.mdb may end the process where LMDB meets it, in the start or
later; the start after that knows. No damage kills the server start after start.

SLDMKV_DAMAGES: how many places of each file are tried (2).
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness import NIL, Client, ConnectionClosed, Server, StartFailed, is_error
from ledger import INLINE_MAX

PLACES = int(os.environ.get("SLDMKV_DAMAGES", "2"))
pytestmark = [pytest.mark.ours, pytest.mark.timeout(120 + 200 * PLACES)]

OPTIONS = {"max_store_bytes": "128mb", "volume_size": "16mb", "max_memory_bytes": "128mb"}
PAGE = 4096
SIGNALS = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
STARTS = 3  # a damaged store may serve, meet the damage and end; after that it must know
HELPS = re.compile(r"sldmkv-check|backup|restore|remove|delete|--convert-log|permission|recover")


def value(n: int) -> bytes:
    size = (40, 3000, INLINE_MAX, INLINE_MAX + 1, 200_000)[n % 5]
    return random.Random(n).randbytes(size)


KEYS = {f"key:{n:03}": value(n) for n in range(120)}


def fill(server: Server) -> None:
    """A third is in the index, a third in snapshots of the log too, the last in the log only."""
    with server.client() as c:
        for n, (key, data) in enumerate(KEYS.items()):
            c.ok("SET", key, data, *(("EX", "99999") if n % 7 == 0 else ()))
            c.ok("SET", f"gone{n}", data)
            if n == 80:
                c.ok("DEBUG", "CHECKPOINT")
        c.cmd("DEL", *[f"gone{n}" for n in range(len(KEYS))])


@pytest.fixture(scope="module", params=["stopped", "killed"])
def image(request: pytest.FixtureRequest, scratch: Path, target: str) -> Iterator[Path]:
    base = scratch / f"image-{request.param}"
    server = Server(target, base, {k.replace("_", "-"): v for k, v in OPTIONS.items()})
    server.start()
    fill(server)
    (server.stop if request.param == "stopped" else server.kill9)()
    yield server.data
    shutil.rmtree(base, ignore_errors=True)


def kind(path: Path, data: Path) -> str:
    """Files of one kind are damaged in turn, not each of them."""
    return re.sub(r"\d[\d-]*", "N", str(path.relative_to(data)))


def bit(path: Path, rng: random.Random) -> None:
    at = rng.randrange(path.stat().st_size)
    with path.open("r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ (1 << rng.randrange(8))]))


def page(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    at = rng.randrange((size + PAGE - 1) // PAGE) * PAGE
    with path.open("r+b") as f:
        f.seek(at)
        f.write(rng.randbytes(min(PAGE, size - at)))


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def missing(path: Path, rng: random.Random) -> None:
    path.unlink()


def read_all(c: Client) -> int:
    """How many keys are missing; wrong bytes fail. An error is no value."""
    misses = 0
    for key, data in KEYS.items():
        got = c.cmd("GET", key)
        if got is NIL or is_error(got):
            misses += 1
        else:
            assert got == data, f"{key} has wrong bytes"
    return misses


def start_and_use(server: Server, misses_max: int) -> str:
    """ "refused", "served" or "ended": by a signal, at the damage."""
    try:
        server.start()
    except StartFailed as e:
        if e.code in SIGNALS:
            return "ended"
        assert e.code == 1, f"exit code {e.code}: {e.log[-2500:]}"
        line = [x for x in e.log.splitlines() if "sldmkv-server:" in x][-1:]
        assert line and str(server.data) in line[0], f"the file is not named: {e.log[-1500:]}"
        assert HELPS.search(line[0]), f"no remedy: {line[0]}"
        return "refused"
    assert server.proc is not None
    with suppress(ConnectionClosed, ConnectionError):
        with server.client() as c:
            misses = read_all(c)
            assert misses <= misses_max, f"{misses} keys are missing"
            c.cmd("SET", "new", bytes(INLINE_MAX * 2))
            c.cmd("SET", "new", "small")
            c.cmd("DEBUG", "CHECKPOINT")
            read_all(c)
    server.proc.terminate()
    code = server.proc.wait(30)
    assert code == 0 or code in SIGNALS, f"exit code {code}: {server.log()[-2500:]}"
    return "served" if code == 0 else "ended"


@pytest.mark.parametrize("damage", [bit, page, cut, missing])
def test_damage(
    image: Path, new_server: Callable[..., Server], damage: Callable[[Path, random.Random], None]
) -> None:
    seed = int(os.environ.get("SLDMKV_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    kinds: dict[str, list[Path]] = {}
    for path in sorted(p for p in image.rglob("*") if p.is_file() and p.stat().st_size > 0):
        kinds.setdefault(kind(path, image), []).append(path.relative_to(image))
    assert len(kinds) >= 5, kinds
    failed = []
    for name, paths in kinds.items():
        for place in range(1 if damage is missing else PLACES):
            rng = random.Random(f"{seed} {name} {place}")
            server = new_server(start=False, **OPTIONS)
            server.base.mkdir(parents=True)
            shutil.copytree(image, server.data)
            damage(server.data / rng.choice(paths), rng)
            # A bit of a volume is in one value; what else holds can take more with it.
            misses_max = 1 if damage is bit and name.startswith("vol-") else len(KEYS)
            said: list[str] = []
            try:
                for _ in range(STARTS):
                    said.append(start_and_use(server, misses_max))
                    if said[-1] == "refused":
                        break
                else:
                    assert said[-1] == "served", f"ends again and again: {server.log()[-2500:]}"
            except AssertionError as e:
                failed.append(f"{damage.__name__} {name} {place} {said}: {e}")
            finally:
                if server.alive():
                    server.kill9()
                shutil.rmtree(server.base)
            print(damage.__name__, name, place, said)
    assert not failed, f"seed {seed}\n" + "\n\n".join(failed)
