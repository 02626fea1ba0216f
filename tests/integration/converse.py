"""Many connections at a time from one thread, each with its own script of bytes and pauses."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence

from attrs import define, field, frozen

from tests.integration.rawhttp import Fault, Reader


@frozen
class Script:
    """What one connection of :func:`converse` does: send the pieces, `gap` seconds apart.

    `enough` looks at what has come so far; when it says True the connection is done. Without it,
    it is done when the other side closes, or when nothing has come for `quiet` seconds after the
    last piece.
    """

    pieces: tuple[bytes, ...]
    gap: float = 0.0
    half_close: bool = False
    enough: Callable[[bytes], bool] | None = None
    quiet: float = 30.0


@frozen
class Outcome:
    """What came back, and how it ended: "closed", "reset", "enough" or "open" (no more came)."""

    data: bytes
    end: str


@define(eq=False)
class _Talk:
    script: Script
    number: int
    socket: socket.socket
    due: float
    sent: int = 0
    pending: bytes = b""
    received: bytearray = field(factory=bytearray)

    @property
    def all_sent(self) -> bool:
        return not self.pending and self.sent == len(self.script.pieces)

    def wake(self, now: float) -> str | None:
        """Sends what is due. Tells how it ended, if it did."""
        try:
            while not self.all_sent and (self.pending or now >= self.due):
                if not self.pending:
                    self.pending = self.script.pieces[self.sent]
                    self.sent += 1
                self.pending = self.pending[self.socket.send(self.pending) :]
                if not self.pending:
                    self.due = now + (self.script.quiet if self.all_sent else self.script.gap)
                    if self.all_sent and self.script.half_close:
                        self.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return None
        except OSError:
            # The other side has refused and closed. What it said before is still to be read.
            self.pending, self.sent = b"", len(self.script.pieces)
            self.due = now + self.script.quiet
            return None
        return "open" if self.all_sent and now >= self.due else None

    def read(self, now: float) -> str | None:
        """Takes in what came. Tells how it ended, if it did."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return "reset"
        if not data:
            return "closed"
        self.received += data
        if self.all_sent:
            self.due = now + self.script.quiet
        return "enough" if self.script.enough and self.script.enough(bytes(self.received)) else None


def converse(port: int, scripts: Sequence[Script], parallel: int = 100) -> list[Outcome]:
    """Plays all scripts, `parallel` connections at a time, from one thread."""
    outcomes: list[Outcome | None] = [None] * len(scripts)
    waiting = list(enumerate(scripts))[::-1]
    talks: set[_Talk] = set()
    with selectors.DefaultSelector() as selector:
        while waiting or talks:
            while waiting and len(talks) < parallel:
                talk = _start(port, *waiting.pop())
                talks.add(talk)
                selector.register(talk.socket, selectors.EVENT_READ, talk)
            now = time.monotonic()
            ended = [(talk, end) for talk in talks if (end := talk.wake(now))]
            if not ended:
                ended = _wait(selector, talks)
            for talk, end in ended:
                outcomes[talk.number] = Outcome(bytes(talk.received), end)
                selector.unregister(talk.socket)
                talk.socket.close()
                talks.discard(talk)
    return [outcome for outcome in outcomes if outcome is not None]


def _start(port: int, number: int, script: Script) -> _Talk:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return _Talk(script, number, connection, due=time.monotonic())


def _wait(selector: selectors.BaseSelector, talks: set[_Talk]) -> list[tuple[_Talk, str]]:
    # A blocked send is rare (bodies here are small), so it is simply tried again a little later.
    pause = 0.01 if any(t.pending for t in talks) else min(t.due for t in talks) - time.monotonic()
    ended = []
    for key, _ in selector.select(max(pause, 0)):
        if end := key.data.read(time.monotonic()):
            ended.append((key.data, end))
    return ended


def whole(count: int = 1, *methods: str) -> Callable[[bytes], bool]:
    """An `enough` for :class:`Script`: that many responses, or one to each method, are complete."""
    wanted = methods or ("GET",) * count

    def enough(data: bytes) -> bool:
        reader = Reader.over(data)
        try:
            for method in wanted:
                if reader.response(method).to_end:
                    return False
        except Fault:
            return False
        return True

    return enough
