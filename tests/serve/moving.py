"""A client that talks over a WebSocket all the time, and a worker's connections that move it."""

from __future__ import annotations

import json
import socket
import threading
from types import SimpleNamespace
from typing import Any, ClassVar

from websockets.sync.client import connect

from tests.integration.moving_apps import WHO
from tests.transport.websockets.test_moves import FakeMovements
from txsticky.system.system import monotonic
from txsticky.worker.connections import Connections

#: Of messages, in bytes: each form of a frame's length, and some that take many reads.
SIZES = (1, 125, 126, 5_000, 70_000, 3, 300_000, 40)


class Talker:
    """
    The client; `talk` is to run in a thread.

    :ivar said: how many messages have come back.
    :ivar over: set to have it come to an end.
    :ivar last: what the server says at the end of its place.
    :ivar code: how the WebSocket was closed.
    """

    def __init__(self, compression: str | None) -> None:
        self.compression = compression
        self.said = 0
        self.over = threading.Event()
        self.last: Any = None
        self.code: int | None = None

    def talk(self, sock: socket.socket) -> None:
        """Send messages in one piece or in several, with pings between, and await them."""
        options: Any = {"compression": self.compression, "max_size": 1 << 20}
        with connect("ws://cluster.test/ws", sock=sock, ping_interval=None, **options) as websocket:
            while not self.over.is_set():
                sent = [self._message(self.said + number) for number in range(3)]
                for number, data in enumerate(sent):
                    half = len(data) // 2
                    websocket.send([data[:half], data[half:]] if number else data)
                pong = websocket.ping()
                for data in sent:
                    back = websocket.recv(timeout=15)
                    assert back == data, (self.said, len(back), len(data))
                    self.said += 1
                assert pong.wait(15)
            websocket.send(WHO)
            self.last = json.loads(websocket.recv(timeout=15))
        self.code = websocket.close_code

    def _message(self, number: int) -> bytes:
        return b"%d " % number + b"x" * SIZES[number % len(SIZES)]


class Policy:
    """A worker's policy: all is served here."""

    known: ClassVar[dict[Any, Any]] = {}
    given: ClassVar[dict[Any, Any]] = {}
    unconfirmed = 0
    draining = False

    def __init__(self) -> None:
        self.movements = FakeMovements()
        self.movements.always = True
        self.movements.replay = lambda passport: passport.leave(1, 0)  # type: ignore[attr-defined]

    @property
    def bindings(self) -> Any:
        """The policy's bindings, of which none is unconfirmed."""
        return self

    def additions(self, *ignored: Any) -> None:
        """Add nothing to a response."""

    def request_done(self) -> None:
        """Count nothing."""


def moving(serving: Any, conversation: Any, reactor: Any) -> Connections:
    """
    A worker's connections, which it gives to itself again.

    :param serving: what is served.
    :param conversation: makes the conversations that the gates follow.
    :param reactor: the reactor.
    """
    system: Any = SimpleNamespace(reactor=reactor, clock=monotonic)
    view: Any = SimpleNamespace(draining=False, final=False)
    policy: Any = Policy()
    made = Connections(
        {},
        policy,
        serving,
        conversation,
        None,
        view=view,
        give=lambda sock, place, handoff: made.adopt(sock, handoff),
        changed=lambda: None,
        system=system,
    )
    return made
