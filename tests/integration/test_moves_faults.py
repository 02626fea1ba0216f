"""WebSockets that cannot move, and those that the next worker does not take."""

from __future__ import annotations

import json
import os
import signal
import struct
import tempfile
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import rawws
from tests.integration.cluster import Cluster
from tests.integration.moving_apps import MOOD, WHO
from tests.integration.processes import until
from tests.integration.rawhttp import Connection

COMPLETE = "The reload is complete."
_PING = bytes((0x89, 0xFE, 0, 126)) + bytes(130)
#: Reserved bits, a control frame that is too long, one without a mask.
ODD = (b"\xb1" + rawws.frame(b"x")[1:], _PING, b"\x81\x01x")


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

    def test_clients(self) -> None:
        """A client that pauses in a message gets 1001, an odd one 1002, a closing one its code."""
        paused, other = self.join(), self.join()
        leavers = [self.join() for _ in range(40)]
        paused.send(rawws.frame(b"x" * 200)[:100])
        for odd in ODD:
            connection = self.join()
            connection.send(odd)
            self.assertEqual(self.code(connection), 1002, odd)
        over = threading.Event()
        thread = threading.Thread(target=self.leave_slowly, args=(list(leavers), over))
        thread.start()
        self.reload()
        over.set()
        thread.join()
        self.assertEqual(self.code(paused), 1001)
        self.assertEqual({self.code(each) for each in leavers}, {1000})
        self.assertEqual(self.who(other)["txsticky-state"], "from autobahn")

    def leave_slowly(self, connections: list[Connection], over: threading.Event) -> None:
        """Have clients close, one after the other, while the cluster is reloaded."""
        for connection in connections:
            connection.send(rawws.frame(struct.pack("!H", 1000), rawws.CLOSE))
            over.wait(0.1)

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
        for old in (True, False):
            connections = [self.join() for _ in range(40)]
            before = {self.who(connection)["pid"] for connection in connections}
            ready, complete = self.said("is ready"), self.said(COMPLETE)
            self.cluster.signal(signal.SIGHUP)
            until(lambda: self.said("is ready") > ready, 30, "a new worker is ready")  # noqa: B023
            new = set(self.cluster.workers().values()) - before
            os.kill(min(before if old else new), signal.SIGKILL)
            until(lambda: self.said(COMPLETE) > complete, 60, "the reload")  # noqa: B023
            alive = 0
            for connection in connections:
                try:
                    alive += self.who(connection)["pid"] not in before
                except (OSError, ValueError, AssertionError):
                    continue
            self.assertGreaterEqual(alive, len(connections) // 4, old)

    def said(self, words: str) -> int:
        """How often the cluster has said something."""
        return self.cluster.log().count(words)
