# SPDX-License-Identifier: MIT
"""redis-py as it is: the newest one in build/venv, and 4.3 in build/venv-redis43.

redis_py_check.py goes through what applications do, in a process of its own, with values of up to
32 MiB. What needs a server that stops and starts is here.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError, RedisClusterException
from redis.retry import Retry

from harness import Server

CHECK = Path(__file__).resolve().parent / "redis_py_check.py"
OLD = redis.__version__.startswith("4.")
VALUE = bytes(range(256)) * 4096 * 2  # 2 MiB

if OLD:  # speaks RESP2 only; hiredis is not installed beside it
    WAYS = [["--no-hiredis"], ["--no-hiredis", "--async"]]
    PROTOCOLS: list[dict[str, Any]] = [{}]
else:
    parsers = [[], ["--no-hiredis"]]
    protocols = [["--protocol", "2"], ["--protocol", "3"]]
    WAYS = [p + h + a for a in ([], ["--async"]) for p in protocols for h in parsers]
    WAYS += [[], ["--async"]]  # as it comes
    PROTOCOLS = [{"protocol": 2}, {"protocol": 3}]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way) or "plain")
def test_what_applications_do(server: Server, target: str, way: list[str]) -> None:
    kv = ["--kv"] if target == "ours" else []
    done = subprocess.run(
        [sys.executable, str(CHECK), str(server.port), *way, *kv],
        capture_output=True,
        timeout=150,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert f"ok {redis.__version__}" in done.stdout


def durable(new_server: Callable[..., Server], target: str) -> Server:
    """A server that still has after a kill what it acknowledged."""
    return new_server(
        **({} if target == "ours" else {"appendonly": "yes", "appendfsync": "always"})
    )


def patient() -> Retry:
    return Retry(ExponentialBackoff(cap=0.2, base=0.01), 20)


@pytest.mark.parametrize("options", PROTOCOLS, ids=str)
def test_a_client_outlives_the_server(
    new_server: Callable[..., Server], target: str, options: dict[str, Any]
) -> None:
    """kill -9 and restart between two calls: the pool's connections are dead, the client is not."""
    server = durable(new_server, target)
    retry = {"retry": patient(), "retry_on_error": [ConnectionError]}
    with redis.Redis(port=server.port, **retry, **options) as r:
        assert r.set("a", VALUE)
        server.kill9()
        server.start(new_port=False)
        assert r.get("a") == VALUE
        for transaction in (True, False):
            server.kill9()
            server.start(new_port=False)
            with r.pipeline(transaction=transaction) as p:
                p.set("b", VALUE).get("b").incr(f"n{transaction}")
                assert p.execute() == [True, VALUE, 1]


@pytest.mark.parametrize("options", PROTOCOLS, ids=str)
def test_an_asyncio_client_outlives_the_server(
    new_server: Callable[..., Server], target: str, options: dict[str, Any]
) -> None:
    server = durable(new_server, target)

    async def work() -> None:
        from redis.asyncio.retry import Retry as AsyncRetry

        retry = AsyncRetry(ExponentialBackoff(cap=0.2, base=0.01), 20)
        r = redis.asyncio.Redis(
            port=server.port, retry=retry, retry_on_error=[ConnectionError], **options
        )
        await asyncio.gather(*[r.set(f"a{n}", VALUE) for n in range(8)])
        server.kill9()
        server.start(new_port=False)
        assert await asyncio.gather(*[r.get(f"a{n}") for n in range(8)]) == [VALUE] * 8
        await (r.close() if OLD else r.aclose())

    asyncio.run(work())


def test_the_cluster_client_says_what_is_wrong(server: Server) -> None:
    with pytest.raises(RedisClusterException, match="Cluster mode is not enabled on this node"):
        RedisCluster(host="localhost", port=server.port)


def test_a_password_in_the_url(new_server: Callable[..., Server]) -> None:
    server = new_server(requirepass="s3cret")
    for login in (":s3cret", "default:s3cret"):
        with redis.Redis.from_url(f"redis://{login}@localhost:{server.port}/0") as r:
            assert r.set("a", 1) is True
    for login in ("", "default:wrong@"):
        with (
            redis.Redis.from_url(f"redis://{login}localhost:{server.port}") as r,
            pytest.raises(redis.RedisError, match="invalid username-password|uthenticat"),
        ):
            r.get("a")
