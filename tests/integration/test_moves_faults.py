"""WebSockets that cannot move, and those that the next worker does not take."""

from __future__ import annotations

import json
import os
import signal
import struct
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import rawws
from tests.integration.cluster import Cluster
from tests.integration.moving_apps import MOOD, WHO
from tests.integration.processes import until
from tests.integration.rawhttp import Connection

COMPLETE = "The reload is complete."


class FaultsTests(SynchronousTestCase):
    """A cluster of two workers with autobahn in it."""

    def setUp(self) -> None:
        self.mood = Path(tempfile.mkdtemp(prefix="txsticky-mood-")) / "mood"
        self.mood.write_text("")
        self.cluster = Cluster(
            "tests.integration.moving_apps:autobahn",
            "--factory",
            probe="",
            environment={MOOD: str(self.mood)},
        )
        self.cluster.__enter__()
        self.addCleanup(self.cluster.stop)
        until(lambda: "serves" in self.cluster.log(), 30)

    def join(self) -> Connection:
        """Open a WebSocket that offers a subprotocol."""
        connection = self.cluster.connect()
        self.addCleanup(connection.close)
        rawws.accepted(connection.ask(rawws.handshake("/ws", ("Sec-WebSocket-Protocol", "chat"))))
        return connection

    def who(self, connection: Connection) -> Any:
        """Who serves a WebSocket."""
        connection.send(rawws.frame(WHO))
        return json.loads(rawws.message(connection.reader)[1])

    def reload(self) -> None:
        """Reload, and wait for the end of that."""
        before = self.cluster.log().count(COMPLETE)
        self.cluster.signal(signal.SIGHUP)
        until(lambda: self.cluster.log().count(COMPLETE) > before, 60, "the reload")

    def code(self, connection: Connection) -> int:
        """The code with which a WebSocket is closed."""
        opcode, data = rawws.message(connection.reader)
        self.assertEqual(opcode, rawws.CLOSE)
        return int(struct.unpack("!H", data[:2])[0])

    def test_half_a_frame(self) -> None:
        """One whose client pauses in a message is closed with 1001; the others move."""
        paused, other = self.join(), self.join()
        whole = rawws.frame(b"x" * 200)
        paused.send(whole[:100])
        self.reload()
        self.assertEqual(self.code(paused), 1001)
        self.assertEqual(self.who(other)["txsticky-state"], "from autobahn")

    def test_other_answers(self) -> None:
        """If the new version refuses, or picks a subprotocol, clients are told to come anew."""
        for mood in ("chat", "refuse"):
            connection = self.join()
            self.mood.write_text(mood)
            self.reload()
            self.assertEqual(self.code(connection), 1012, mood)
            self.mood.write_text("")
            self.reload()

    def test_killed(self) -> None:
        """A worker that is killed amid moves takes along only what it has in hand."""
        connections = [self.join() for _ in range(40)]
        before = {self.who(connection)["pid"] for connection in connections}
        self.cluster.signal(signal.SIGHUP)
        until(lambda: self.cluster.log().count("is ready") > 2, 30, "a new worker is ready")
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        until(lambda: self.cluster.log().count(COMPLETE), 60, "the reload")
        alive = 0
        for connection in connections:
            try:
                alive += self.who(connection)["pid"] not in before
            except (OSError, ValueError, AssertionError):
                continue
        self.assertGreaterEqual(alive, len(connections) // 4)
