"""WebSockets of autobahn's and of Twisted's own move, while their client talks."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any

from twisted.web.server import Site

from tests.integration.moving_apps import autobahn, twisted
from tests.serve.moving import Talker, moving
from tests.shells import ReactorCase
from txsticky.core.http.conversation import Conversation
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin

MOVES = 12


class MovesTests(ReactorCase):
    """A worker's connections, which are given to the same worker again."""

    def talk(self, factory: Any, compression: str | None) -> None:
        """Move while the client talks."""
        factory.doStart()
        self.addCleanup(factory.doStop)
        serving: Any = SimpleNamespace(http=True, factory=factory, close_politely=lambda p: False)
        connections = moving(serving, Conversation, self.reactor)
        ours, theirs = self.connected()
        talker = Talker(compression)
        thread = threading.Thread(target=talker.talk, args=(theirs,))
        connections.adopt(ours, Handoff(family=socket.AF_INET, origin=Origin(("192.0.2.7", 5000))))
        thread.start()
        for _ in range(MOVES):
            said = talker.said
            self.until(lambda: talker.said > said or not thread.is_alive())  # noqa: B023
            (connection,) = connections.live
            connection.let_go(False)
            self.until(lambda: connection not in connections.live)  # noqa: B023
        talker.over.set()
        self.until(lambda: not thread.is_alive())
        self.until(lambda: not connections.live)
        self.assertEqual(connections.policy.movements.came, MOVES)  # type: ignore[attr-defined]
        self.assertEqual((talker.last["txsticky-moved"], talker.code), (str(MOVES), 1000))

    def test_autobahn(self) -> None:
        """A WebSocket of autobahn's moves, with compression and without it."""
        for compression in ("deflate", None):
            self.talk(autobahn(), compression)

    def test_twisted(self) -> None:
        """A WebSocket of Twisted's own, behind twisted.web, moves."""
        factory = Site(twisted(), reactor=self.reactor)
        factory.log = lambda request: None  # type: ignore[method-assign, assignment]
        self.talk(factory, None)
