"""The examples with FastAPI, Flask and Django Channels, started by the commands that they give."""

from __future__ import annotations

import json
import re

from tests.integration import rawws
from tests.integration.cluster import START, Server, ServerTestCase
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Response, request
from tests.integration.test_examples import Example


class Visitor:
    """A client that keeps its cookies; each request has a connection of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cookies: dict[str, str] = {}

    def ask(self, method: str = "GET", body: bytes | None = None) -> dict[str, object]:
        """What the application answers, as JSON."""
        jar = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = [("Connection", "close"), ("Cookie", jar)]
        if body is not None:
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        with self._server.connect() as connection:
            response = connection.ask(request(method, "/", headers=headers, body=body))
        self._keep(response)
        answer: dict[str, object] = json.loads(response.body)
        return answer

    def _keep(self, response: Response) -> None:
        for name, value in response.headers:
            if name == "set-cookie":
                cookie = value.partition(";")[0]
                self._cookies[cookie.partition("=")[0]] = cookie.partition("=")[2]


class FastAPITests(ServerTestCase):
    """examples/fastapi_hello."""

    def server(self) -> Server:
        return Example("fastapi_hello", probe="/")

    def test_visits(self) -> None:
        """A visitor's count goes up in one worker, and visitors are on both."""
        workers = set()
        for _ in range(12):
            visitor = Visitor(self._shared)
            answers = [visitor.ask() for _ in range(4)]
            self.assertEqual([answer["visits"] for answer in answers], [1, 2, 3, 4])
            self.assertEqual(len({answer["worker"] for answer in answers}), 1)
            workers.add(answers[0]["worker"])
        self.assertEqual(workers, {"1", "2"})

    def test_websocket(self) -> None:
        """The WebSocket echoes."""
        with self._shared.connect() as connection:
            rawws.join(connection)
            connection.send(rawws.frame(b"hello"))
            self.assertRegex(rawws.message(connection.reader)[1], rb"^worker [12]: hello$")


class FlaskTests(ServerTestCase):
    """examples/flask_hello."""

    def server(self) -> Server:
        return Example("flask_hello", probe="/")

    def test_notes(self) -> None:
        """A visitor finds its notes again, and no other's."""
        visitors = [Visitor(self._shared) for _ in range(6)]
        for number, visitor in enumerate(visitors):
            visitor.ask("POST", b"note=first+%d" % number)
            visitor.ask("POST", b"note=second")
        for number, visitor in enumerate(visitors):
            self.assertEqual(visitor.ask()["notes"], [f"first {number}", "second"])


class ChannelsTests(ServerTestCase):
    """examples/django_channels."""

    def server(self) -> Server:
        return Example("django_channels", probe="/")

    def enter(self) -> tuple[Connection, bytes]:
        """A visitor comes in; returns the connection, and its worker."""
        connection = self._shared.connect()
        self.addCleanup(connection.close)
        rawws.join(connection)
        connection.send(rawws.frame(b"who?"))
        found = re.fullmatch(rb"worker (\d): who\?", rawws.message(connection.reader)[1])
        assert found is not None
        return connection, found[1]

    def test_page(self) -> None:
        """Django serves the page."""
        self.assertIn(b"<title>Chat</title>", self._shared.get("/").body)

    def test_everybody_hears(self) -> None:
        """What one says is heard on the other worker, and by the speaker."""
        rooms: dict[bytes, Connection] = {}

        def both() -> bool:
            connection, worker = self.enter()
            rooms[worker] = connection
            return len(rooms) == 2

        until(both, START, "two who come in are on different workers")
        for worker, connection in rooms.items():
            connection.send(rawws.frame(b"hello"))
            for other in rooms.values():
                while (heard := rawws.message(other.reader)[1]).endswith(b"who?"):
                    pass
                self.assertEqual(heard, b"worker %b: hello" % worker)
