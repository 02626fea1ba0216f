"""The access log and the trusted proxies of an ASGI application."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

from tests.asgi import AsgiCase, Receive, Scope, Send, nothing
from tests.integration import rawws
from tests.integration.rawhttp import request
from txsticky.core.how import How
from txsticky.core.routing.forwarded import Trusted

from .cases import GET, Waiting, echo, told


class AccessLogTests(AsgiCase):
    """--access-log."""

    def lines(self) -> list[str]:
        """The log, without the times."""
        text = Path(self.path).read_text()
        return [line.partition("[")[0] + line.partition("] ")[2] for line in text.splitlines()]

    def log(self, app: Any, **settings: Any) -> None:
        """Serve with an access log."""
        self.path = self.mktemp()
        self.serve(app, access_log=self.path, slot=3, **settings)

    def test_request(self) -> None:
        """A line says what was asked by whom, what was answered, and worker and route."""
        self.log(echo, root_path="/app")
        data = request(
            "POST", "/a%22b?c", headers=[("Referer", "r"), ("User-Agent", "u")], body=b"1"
        )
        self.ask(data, how=How.MISS)
        self.assertEqual(
            self.lines(), ['192.0.2.7 - - "POST /a%22b?c HTTP/1.1" 200 1 "r" "u" 3 MISS']
        )

    def test_route_of_each_request(self) -> None:
        """On a kept connection each request has its own route."""
        self.log(told)
        self.ask(request("HEAD", "/"))
        self.talk(self.client.ask, request("HEAD", "/"))
        self.assertEqual([line[-9:] for line in self.lines()], ['"-" 3 NEW', '"-" 3 HIT'])

    def test_head(self) -> None:
        """The body of a response to HEAD is not sent, and not counted."""
        self.log(told)
        self.ask(request("HEAD", "/"))
        self.assertIn('"HEAD / HTTP/1.1" 200 - ', self.lines()[0])

    def test_websocket(self) -> None:
        """A WebSocket has one line when it ends, and a refused one has its status."""
        self.log(echo)
        client = self.connect(rawws.handshake("/ws"))
        rawws.accepted(self.talk(client.response))
        self.assertEqual(self.lines(), [])
        client.send(rawws.frame((1000).to_bytes(2, "big"), rawws.CLOSE))
        self.until(self.lines)
        self.ask(rawws.handshake("/refused"))
        self.ask(rawws.handshake("/denied"))
        self.until(lambda: len(self.lines()) == 3)
        self.assertEqual(
            [line.split('"')[1:3] for line in self.lines()],
            [
                ["GET /ws HTTP/1.1", " 101 - "],
                ["GET /refused HTTP/1.1", " 403 - "],
                ["GET /denied HTTP/1.1", " 401 12 "],
            ],
        )

    def test_no_answer(self) -> None:
        """A request that fails is logged as 500, and one whose client left as 499."""

        async def fails(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                raise RuntimeError
            await nothing(scope, receive, send)

        self.log(fails)
        self.ask(GET)
        self.assertIn('" 500 - ', self.lines()[0])
        self.patch(sys.modules["txsticky.transport.half_close"], "HALF_CLOSE_GRACE", 0.05)
        app = Waiting()
        self.log(app)
        client = self.connect(GET)
        self.until(lambda: app.waits)
        client.close()
        self.until(self.lines)
        self.assertIn('" 499 - ', self.lines()[0])

    def test_silence(self) -> None:
        """A request that the application leaves unanswered is logged as 500, uvicorn's answer."""
        self.log(nothing)
        self.assertEqual(self.ask(GET).status, 500)
        self.assertIn('" 500 - ', self.lines()[0])

    def test_failure_when_the_client_has_left(self) -> None:
        """An application that fails is logged as 500, though its client has left meanwhile."""
        self.patch(sys.modules["txsticky.transport.half_close"], "HALF_CLOSE_GRACE", 0.05)
        waiting = Waiting()

        async def fails(scope: Scope, receive: Receive, send: Send) -> None:
            await waiting(scope, receive, send)
            if scope["type"] == "http":
                raise RuntimeError

        self.log(fails)
        client = self.connect(GET)
        self.until(lambda: waiting.waits)
        client.close()
        self.until(self.lines)
        self.assertIn('" 500 - ', self.lines()[0])

    def test_reopens(self) -> None:
        """The log goes on in a new file of its name when it is told to."""
        self.log(told)
        self.ask(GET)
        Path(self.path).rename(self.path + ".1")
        self.serving.reopen_logs()
        self.ask(GET)
        self.assertEqual(len(self.lines()), 1)


class ForwardedTests(AsgiCase):
    """--forwarded-allow-ips."""

    HEADERS = (("X-Forwarded-For", "198.51.100.1, 203.0.113.9"), ("X-Forwarded-Proto", "https"))

    def told(self, trusted: str, data: bytes, **handoff: Any) -> Any:
        """Client and scheme that the application is told."""
        self.serve(told, trusted=Trusted.parse(trusted))
        scope = json.loads(self.ask(data, **handoff).body)
        return scope["client"], scope["scheme"]

    def test_trusted(self) -> None:
        """A trusted proxy names the client and its scheme."""
        data = request("GET", "/", headers=self.HEADERS)
        self.assertEqual(self.told("192.0.2.7", data), (["203.0.113.9", 0], "https"))

    def test_not_trusted(self) -> None:
        """A peer that is not trusted names no client, however much others are trusted."""
        data = request("GET", "/", headers=self.HEADERS)
        self.assertEqual(self.told("10.0.0.0/8", data), (["192.0.2.7", 5000], "http"))

    def test_nobody(self) -> None:
        """By default no peer is trusted."""
        data = request("GET", "/", headers=self.HEADERS)
        self.assertEqual(self.told("", data), (["192.0.2.7", 5000], "http"))

    def test_unix(self) -> None:
        """A proxy over a UNIX socket may be trusted, too."""
        data = request("GET", "/", headers=self.HEADERS)
        found = self.told("unix", data, family=socket.AF_UNIX, peer=("", 0))
        self.assertEqual(found, (["203.0.113.9", 0], "https"))

    def test_http_outside(self) -> None:
        """A request that was http at the proxy is http, even if the proxy speaks TLS to us."""
        data = request("GET", "/", headers=[("X-Forwarded-Proto", "http")])
        self.assertEqual(self.told("192.0.2.7", data, secure=True)[1], "http")

    def test_websocket(self) -> None:
        """The scheme of a WebSocket is wss."""
        self.serve(told, trusted=Trusted.parse("*"))
        client = self.connect(rawws.handshake("/", *self.HEADERS))
        rawws.accepted(self.talk(client.response))
        scope = json.loads(self.talk(rawws.message, client.reader)[1])
        self.assertEqual((scope["client"][0], scope["scheme"]), ("198.51.100.1", "wss"))
