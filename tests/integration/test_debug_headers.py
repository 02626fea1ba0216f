"""--debug-headers and the access log tell the route of each request, for every interface."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import rawws
from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Response, request


def said(response: Response) -> tuple[str | None, str | None]:
    """Which worker a response tells, and why."""
    return response.header("x-txsticky-worker"), response.header("x-txsticky-route")


class DebugTests(SynchronousTestCase):
    """What a response says of its worker."""

    def test_resource_and_websocket(self) -> None:
        """On one connection, each request and the handshake at its end; and so does the log."""
        path = Path(self.mktemp()).resolve()
        options = ("--factory", "--debug-headers", "--access-log", str(path))
        with Cluster("mixed", *options) as cluster, cluster.connect() as connection:
            tags = cluster.tags()
            self.assertEqual(said(connection.ask(request("GET", "/a")))[1], "NEW")
            for slot in (2, 1, 1):
                response = connection.ask(request("GET", f"/a?sid={tags[slot]}"))
                self.assertEqual(said(response), (str(slot), "TAG"))
            response = connection.ask(request("GET", "/a?sid=unknown"))
            self.assertEqual((response.header("x-worker"), "MISS"), said(response))
            joined = rawws.join(connection, f"/ws?sid={tags[2]}")
            self.assertEqual(said(joined), ("2", "TAG"))
            until(lambda: path.read_text().count('"GET /a') == 5)
            routes = re.findall(r'"GET /a.* (?:\d) (\w+)\n', path.read_text())
            self.assertEqual(routes, ["NEW", "TAG", "TAG", "TAG", "MISS"])

    def test_wsgi(self) -> None:
        """Responses of WSGI tell their worker, too."""
        options = ("--factory", "--debug-headers", "--sticky", "ip")
        with Cluster("flask", *options, probe="/echo") as cluster:
            response = cluster.get("/echo")
            self.assertIn(response.header("x-txsticky-worker"), ("1", "2"))
            self.assertEqual(response.header("x-txsticky-route"), "HASH")

    def test_bare_websocket(self) -> None:
        """Handshakes that autobahn's factory answers alone tell their worker, too."""
        options = ("--factory", "--debug-headers")
        with Cluster("websocket", *options, probe="") as cluster:
            until(lambda: "is ready" in cluster.log())
            with Connection(cluster.port) as connection:
                self.assertEqual(said(rawws.join(connection, "/"))[1], "NEW")

    def test_off(self) -> None:
        """No client is told unless the operator wants it."""
        with Cluster("echo") as cluster:
            response = cluster.get("/")
            self.assertEqual([name for name, _ in response.headers if "txsticky" in name], [])
