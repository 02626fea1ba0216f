"""Clients that go on asking while something happens to the cluster; every answer is checked."""

from __future__ import annotations

import collections
import json
import random
import threading
import time
from types import TracebackType
from typing import Self

from attrs import define, field

from tests.integration.cluster import Server
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Fault, Response, payload, request, sha256

#: For a cluster whose workers are replaced while no request may fail. On a busy machine a process
#: may stand still for a second: that must not take a request beyond the end of its worker's time.
UNHURRIED = ("--graceful-timeout", "10")
_CLOSE = [("Connection", "close")]
#: Bodies and their digests, made once.
_BODIES = {size: payload(size, size) for size in (0, 1, 700, 65_000, 65_536, 200_000, 700_000)}
_DIGESTS = {size: sha256([body]) for size, body in _BODIES.items()}
#: Of answers that are long, by size.
_ANSWERS = {size: sha256([payload(size)]) for size in (100, 300_000)}


def expect(fact: bool, told: object) -> None:
    """Raises Fault unless it is so."""
    if not fact:
        raise Fault(str(told))


@define(eq=False)
class Client:
    """One client: `turn` is one request, or what belongs to one; it keeps its connection.

    :ivar pid: the process that answered last.
    :ivar pids: every process that has answered.
    """

    server: Server
    draw: random.Random
    timeout: float = 45.0
    connection: Connection | None = None
    number: int = 0
    pid: str | None = None
    pids: set[str | None] = field(factory=set)

    def turn(self) -> None:
        """Ask, and look at the answer. Raises Fault or OSError if it is not right."""
        raise NotImplementedError

    def ask(self, data: bytes) -> Response:
        """The answer on the connection that is kept."""
        if self.connection is None:
            self.connection = self.server.connect(timeout=self.timeout)
        return self.connection.ask(data)

    def get(self, query: str = "", headers: list[tuple[str, str]] | None = None) -> Response:
        """The answer to a numbered GET: a right one."""
        self.number += 1
        answer = self.ask(request("GET", f"/?n={self.number}{query}", headers=headers or ()))
        expect(answer.status == 200 and answer.header("x-n") == str(self.number), answer)
        self.pid = answer.header("x-pid")
        self.pids.add(self.pid)
        return answer

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Kept(Client):
    """Requests on one connection."""

    def turn(self) -> None:
        self.get()


class Browser(Client):
    """Requests on one connection, as any HTTP client makes them: one that the server has closed
    between two requests is opened anew (RFC 9112 9.3.1).
    """

    def turn(self) -> None:
        used = self.connection is not None
        try:
            self.get()
        except (ConnectionError, Fault) as fault:
            if not used or ("b''" not in repr(fault) and not isinstance(fault, ConnectionError)):
                raise
            self.hang_up()
            self.get()


class Short(Client):
    """A connection for each request."""

    def turn(self) -> None:
        self.get(headers=_CLOSE)
        assert self.connection is not None
        self.connection.end()
        self.hang_up()


class Upload(Client):
    """Uploads of many sizes on one connection, each whole."""

    def turn(self) -> None:
        size = self.draw.choice(list(_BODIES))
        self.number += 1
        answer = self.ask(request("POST", f"/?n={self.number}", body=_BODIES[size]))
        seen = (answer.status, answer.header("x-n"), answer.header("x-sha256"))
        expect(seen == (200, str(self.number), _DIGESTS[size]), answer)


@define(eq=False)
class Poll(Client):
    """A session that polls for a while, sometimes on a new connection; then another one."""

    sid: str = ""
    owner: str = ""

    def turn(self) -> None:
        if not self.sid:
            told = json.loads(self.ask(request("GET", "/cluster/mint")).body)
            self.sid, self.owner = told["told"], str(told["pid"])
        self.get(f"&sid={self.sid}&delay=0.15")
        if self.pid != self.owner or self.draw.random() < 0.1:
            self.sid = ""  # its worker has gone, or it is over: a new session
        if self.draw.random() < 0.2:
            self.hang_up()


class Slow(Client):
    """Long answers that begin late and are read in two goes."""

    def turn(self) -> None:
        self.number += 1
        if self.connection is None:
            self.connection = self.server.connect(timeout=self.timeout, window=8192)
        query = f"/?n={self.number}&delay={self.draw.random():.2f}&size=300000"
        self.connection.send(request("GET", query))
        time.sleep(1.5 * self.draw.random())
        answer = self.connection.response(keep=False)
        seen = (answer.status, answer.header("x-n"), answer.sha256)
        expect(seen == (200, str(self.number), _ANSWERS[300_000]), answer)


KINDS: dict[str, type[Client]] = {
    "kept": Kept,
    "browser": Browser,
    "short": Short,
    "upload": Upload,
    "poll": Poll,
    "slow": Slow,
}


@define
class Load:
    """Clients of each kind, each in a thread, from here on until the end of the block.

    A client whose request failed begins anew with another connection.

    :param kinds: what there may be of clients, by name.
    :ivar members: the clients.
    :ivar failures: what went wrong, each with its time since the beginning.
    :ivar answered: how many right answers came, by kind.
    """

    server: Server
    clients: dict[str, int]
    seed: int = 1
    pause: float = 0.02
    timeout: float = 45.0
    kinds: dict[str, type[Client]] = field(factory=lambda: KINDS)
    members: list[Client] = field(factory=list)
    failures: list[str] = field(factory=list)
    answered: collections.Counter[str] = field(factory=collections.Counter)
    _over: threading.Event = field(factory=threading.Event)
    _threads: list[threading.Thread] = field(factory=list)
    _began: float = 0.0
    _lock: threading.Lock = field(factory=threading.Lock)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for kind, count in self.clients.items():
            for number in range(count):
                draw = random.Random(f"{self.seed} {kind} {number}")
                client = self.kinds[kind](self.server, draw, self.timeout)
                self.members.append(client)
                thread = threading.Thread(target=self._go_on, args=(kind, client), daemon=True)
                self._threads.append(thread)
                thread.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client finish what it asked."""
        self._over.set()
        for thread in self._threads:
            thread.join(self.timeout + 5)
            if thread.is_alive():
                self.failures.append("a client hangs")

    def _go_on(self, kind: str, client: Client) -> None:
        while not self._over.is_set():
            start = time.monotonic()
            try:
                client.turn()
            except (OSError, Fault) as fault:
                client.hang_up()
                self._note(f"{start - self._began:.2f} s {kind}: {fault!r:.300}")
            else:
                with self._lock:
                    self.answered[kind] += 1
            self._over.wait(self.pause)
        client.hang_up()

    def _note(self, failure: str) -> None:
        with self._lock:
            self.failures.append(failure)

    def wait(self, more: int = 50, seconds: float = 20.0) -> None:
        """Wait until so many more answers have come, as :func:`until` waits."""
        wanted = sum(self.answered.values()) + more
        until(lambda: sum(self.answered.values()) >= wanted, seconds, f"{more} more are answered")
