"""A reload and a stop let what is open come to its end, and then wait for nothing.

On every interface, over TLS and in the clear. The graceful timeout is so long that nothing in these
tests ends by it.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.integration import rawws
from tests.integration.cluster import START
from tests.integration.ending_apps import HALF
from tests.integration.endings import Clustered, Papers, cases, ending, tcp_ends
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, request
from tests.integration.test_endings_websocket import code


class Leaving:
    """Endings that the operator begins: in the order of their names, so that the stop is last."""

    def started(self: Any) -> tuple[list[tuple[str, Connection]], list[Connection]]:
        """Connections with a response open, with how they were asked; and idle ones."""
        cluster = self.cluster
        known = cluster.log().count(" begins")
        cluster.forget_tags()
        busy, idle = [], []
        for tag in cluster.tags().values():
            for path in ("/slow", "/later"):
                for version, headers in (
                    ("1.1", []),
                    ("1.1", [("Connection", "close")]),
                    ("1.0", []),
                ):
                    connection = cluster.connect()
                    self.addCleanup(connection.close)
                    data = request("GET", f"{path}?seconds=2&sid={tag}", headers=headers)
                    connection.send(data.replace(b"HTTP/1.1", b"HTTP/" + version.encode(), 1))
                    busy.append((path, connection))
            connection = cluster.connect()
            self.addCleanup(connection.close)
            connection.ask(request("GET", f"/?sid={tag}"))
            idle.append(connection)
        until(lambda: cluster.log().count(" begins") == known + len(busy), 20, "all have begun")
        return busy, idle

    def finished(self: Any, busy: list[tuple[str, Connection]]) -> None:
        """Assert that what was open comes whole."""
        for path, connection in busy:
            answer = connection.response()
            self.assertEqual((answer.status, answer.body), (200, HALF * (2 - (path == "/later"))))

    def test_stop(self: Any) -> None:
        """
        TERM: idle connections are closed at once, open responses finish, all is closed, and the
        cluster ends, though no client closes anything.
        """
        busy, idle = self.started()
        self.cluster.signal(signal.SIGTERM)
        for connection in idle:
            self.assertEqual(ending(connection).how, "closed")
        self.finished(busy)
        for _, connection in busy:
            self.assertEqual((ending(connection).data, ending(connection).how), (b"", "closed"))
            self.assertTrue(tcp_ends(connection))
        self.assertEqual(self.cluster.wait(), 0)

    def test_reload(self: Any) -> None:
        """HUP: open responses finish, and the workers of before go, though clients stay."""
        cluster = self.cluster
        before = cluster.workers()
        busy, idle = self.started()
        cluster.signal(signal.SIGHUP)
        self.finished(busy)
        old = [f"/proc/{pid}" for pid in before.values()]
        until(lambda: not any(map(os.path.exists, old)), 2 * START, "the old workers have left")
        for connection in idle:  # moved to a new worker; behind TLS it cannot be, and is closed
            if self.tls:
                self.assertEqual(ending(connection).how, "closed")
            else:
                self.assertEqual(connection.ask(request("GET", "/")).status, 200)
        self.assertEqual(cluster.get("/").status, 200)


class Sockets:
    """WebSockets that the operator ends."""

    def test_stop(self: Any) -> None:
        """TERM closes them with 1001, one by one, and then at once; on every interface."""
        papers = Papers() if self.tls else None
        cluster = Clustered(self.interface, papers, "--graceful-timeout", "5")
        self.enterContext(cluster)
        if papers is not None:
            self.addCleanup(papers.remove)
        joined = []
        for tag in cluster.tags().values():
            connection = cluster.connect_by(1)  # over TLS one of the two is relayed
            self.addCleanup(connection.close)
            rawws.join(connection, f"/ws?sid={tag}")
            joined.append(connection)
        cluster.signal(signal.SIGTERM)
        for connection in joined:
            self.assertEqual(code(rawws.message(connection.reader)), 1001)
            connection.send(rawws.frame(b"\x03\xe9", rawws.CLOSE))
            self.assertIn(ending(connection).how, ("closed", "cut", "reset"))
        self.assertEqual(cluster.wait(), 0)
        self.assertNotIn("killed", cluster.log())


# A bare factory of autobahn's has no pages.
cases(Leaving, globals(), "Web", "Wsgi", "Httptools", "H11")
cases(Sockets, globals(), "Web", "Httptools", "H11", accept=False)
