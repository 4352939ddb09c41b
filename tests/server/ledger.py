# SPDX-License-Identifier: MIT
"""Mixed load whose every acknowledged effect can be checked after a crash.

Each worker owns its keys. Before it sends a write it notes the state the key would be in; when the
reply comes, that state is the acknowledged one. A key whose reply never came may be in the noted
state or in the acknowledged one, in no other. The same goes for a write that got an error.
"""

from __future__ import annotations

import hashlib
import random
import threading
from dataclasses import dataclass, field

from harness import NIL, Client, ConnectionClosed, Server, is_error

State = tuple[int, int] | None  # (version, size), None: absent
SIZES = (0, 40, 300, 16_384, 16_385, 70_000, 400_000)
INLINE_MAX = 16_384
APPENDS = 24  # to one key, then the next one is begun


def value_of(key: str, state: tuple[int, int]) -> bytes:
    """The body names its key and version and depends on them to the last byte."""
    version, size = state
    head = f"{key}:{version}:".encode()
    seed = hashlib.sha256(head).digest()
    return (head + seed * (size // 32 + 1))[: max(size, len(head))]


@dataclass
class Worker:
    """One connection's load: values ("k…"), a counter ("n"), two keys that change in one MULTI
    ("pa", "pb"), and a value that grows by APPEND ("a…").

    verbs: how a value is written; "EX" is SET with an expiry that the test will not see.
    evicted: the store is full, so values of volumes may be gone, but never old or torn.
    """

    name: str
    seed: int
    sizes: tuple[int, ...] = SIZES
    keys: int = 12
    verbs: tuple[str, ...] = ("SET", "KVSTORE", "EX")
    evicted: bool = False
    append_max: int = 600
    acked: dict[str, State] = field(default_factory=dict)
    maybe: dict[str, list[State]] = field(default_factory=dict)
    counter: int = 0
    counter_maybe: int = 0
    pair: int = 0
    pair_maybe: list[int] = field(default_factory=list)
    grown: int = 0  # the key that grows now
    appends: int = 0
    appends_maybe: int = 0
    version: int = 0
    replies: int = 0
    problems: list[str] = field(default_factory=list)
    hung: bool = False  # a reply did not come

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def batch(self) -> tuple[list[tuple[object, ...]], list[tuple[str, str, State]]]:
        commands: list[tuple[object, ...]] = []
        effects: list[tuple[str, str, State]] = []
        for _ in range(self.rng.choice((1, 1, 3, 10))):
            kind = self.rng.choice(("set", "set", "set", "set", "del", "incr", "pair", "append"))
            if kind == "incr":
                commands.append(("INCR", f"{self.name}n"))
                self.counter_maybe += 1
                effects.append(("incr", "", None))
                continue
            if kind == "append":
                commands.append(self.next_append())
                effects.append(("append", self.grown_key(), None))
                continue
            self.version += 1
            if kind == "pair":
                a, b = f"{self.name}pa", f"{self.name}pb"
                big = value_of(b, (self.version, self.rng.choice(self.sizes)))
                commands += [("MULTI",), ("SET", a, str(self.version)), ("SET", b, big), ("EXEC",)]
                self.pair_maybe.append(self.version)
                effects += [("", "", None)] * 3 + [("pair", "", (self.version, 0))]
                continue
            key = f"{self.name}k{self.rng.randrange(self.keys)}"
            if kind == "del":
                commands.append(("DEL", key))
                self.maybe.setdefault(key, []).append(None)
                effects.append(("key", key, None))
                continue
            state = (self.version, self.rng.choice(self.sizes))
            verb, value = self.rng.choice(self.verbs), value_of(key, state)
            commands.append(("SET", key, value, "EX", 9999) if verb == "EX" else (verb, key, value))
            self.maybe.setdefault(key, []).append(state)
            effects.append(("key", key, state))
        return commands, effects

    def grown_key(self) -> str:
        return f"{self.name}a{self.grown}"

    def grown_value(self, appends: int) -> bytes:
        key = self.grown_key()
        sizes = ((n, n * 769 % self.append_max) for n in range(appends))
        return b"".join(value_of(key, state) for state in sizes)

    def next_append(self) -> tuple[object, ...]:
        if self.appends_maybe >= APPENDS:
            self.begin_grown()
        n = self.appends_maybe
        self.appends_maybe += 1
        return "APPEND", self.grown_key(), self.grown_value(n + 1)[len(self.grown_value(n)) :]

    def begin_grown(self) -> None:
        self.grown += 1
        self.appends = self.appends_maybe = 0

    def run(self, client: Client, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                commands, effects = self.batch()
                for command in commands:
                    client.send_cmd(*command)  # type: ignore[arg-type]
                for effect in effects:
                    self.note(effect, client.read())
        except TimeoutError:
            self.hung = True
        except (ConnectionClosed, OSError):
            pass
        finally:
            client.close()

    def note(self, effect: tuple[str, str, State], reply: object) -> None:
        kind, key, state = effect
        self.replies += 1
        if is_error(reply) or (isinstance(reply, list) and any(is_error(r) for r in reply)):
            self.problems.append(f"{kind} {key}: {reply!r}")
            if kind == "append" and key == self.grown_key():
                self.begin_grown()  # what is in the old one can no longer be said
            return
        if kind == "incr":
            assert isinstance(reply, int)
            if reply != self.counter + 1:
                self.problems.append(f"counter {reply} after {self.counter}")
            self.counter = reply
            self.counter_maybe -= 1
        elif kind == "pair":
            assert state is not None
            self.pair = state[0]
            self.pair_maybe = [v for v in self.pair_maybe if v > state[0]]
        elif kind == "append":
            if key == self.grown_key():
                self.appends += 1
                if reply != len(self.grown_value(self.appends)):
                    self.problems.append(f"{key}: {reply!r} after {self.appends} appends")
        elif kind == "key":
            self.acked[key] = state
            pending = self.maybe[key]
            del pending[: pending.index(state) + 1]

    def check(self, client: Client, known_later: bool = False) -> None:
        """Every key is as acknowledged or as one of the writes still open; then that is the truth.

        known_later: the server may have newer versions of everything than this ledger
        (a backup taken while the load went on): only whole, untorn values are demanded.
        """
        for n in range(self.keys):
            key = f"{self.name}k{n}"
            got = client.cmd("GET", key)
            self.check_key(key, got, known_later)
        self.check_counter(client, known_later)
        self.check_pair(client, known_later)
        self.check_grown(client, known_later)

    def check_key(self, key: str, got: object, known_later: bool) -> None:
        allowed = [self.acked.get(key), *self.maybe.pop(key, [])]
        if known_later:
            if got is not NIL:
                assert isinstance(got, bytes)
                version = int(got.split(b":", 2)[1])
                assert got == value_of(key, (version, len(got))), f"{key} is torn"
            return
        for state in allowed:
            want: object = NIL if state is None else value_of(key, state)
            if got == want or (got is NIL and self.may_be_gone(state)):
                self.acked[key] = None if got is NIL else state
                return
        shown = got[:60] if isinstance(got, bytes) else got
        raise AssertionError(f"{key}: {shown!r} is none of {allowed}")

    def may_be_gone(self, state: State) -> bool:
        return self.evicted and state is not None and state[1] > INLINE_MAX

    def check_counter(self, client: Client, known_later: bool) -> None:
        got = client.cmd("GET", f"{self.name}n")
        count = 0 if got is NIL else int(got)  # type: ignore[arg-type]
        if not known_later:
            assert self.counter <= count <= self.counter + self.counter_maybe, (
                f"counter {count}, acknowledged {self.counter}, open {self.counter_maybe}"
            )
            self.counter, self.counter_maybe = count, 0

    def check_pair(self, client: Client, known_later: bool) -> None:
        a = client.cmd("GET", f"{self.name}pa")
        b = client.cmd("GET", f"{self.name}pb")
        version = 0 if a is NIL else int(a)  # type: ignore[arg-type]
        if a is NIL or b is NIL:
            assert a is b or (self.evicted and a is not NIL), "half a transaction"
        else:
            assert isinstance(b, bytes)
            assert b == value_of(f"{self.name}pb", (version, len(b))), "half a transaction"
        if not known_later:
            assert version in (self.pair, *self.pair_maybe), (version, self.pair, self.pair_maybe)
            self.pair, self.pair_maybe = version, []

    def check_grown(self, client: Client, known_later: bool) -> None:
        got = client.cmd("GET", self.grown_key())
        data = b"" if got is NIL else got
        for n in range(APPENDS + 1):
            if data == self.grown_value(n):
                if not known_later:
                    assert self.appends <= n <= self.appends_maybe, (
                        f"{n} appends, acknowledged {self.appends}, open {self.appends_maybe}"
                    )
                    self.appends = self.appends_maybe = n
                return
        raise AssertionError(f"{self.grown_key()} is torn")


class Load:
    """Workers in threads against one server; ``with Load(…)`` starts and joins them."""

    def __init__(self, server: Server, workers: list[Worker]) -> None:
        self.server = server
        self.workers = workers
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> Load:
        for worker in self.workers:
            try:
                client = self.server.client()
            except OSError:
                break  # it may be dead by now, of what is done to it
            thread = threading.Thread(target=worker.run, args=(client, self.stop), daemon=True)
            self.threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a worker hangs"

    def replies(self) -> int:
        return sum(w.replies for w in self.workers)
