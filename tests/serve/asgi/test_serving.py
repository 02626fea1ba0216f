"""ASGI applications on adopted connections, by every engine of uvicorn's, on both loops."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from typing import Any
from unittest import mock

from twisted.logger import LogEvent, globalLogPublisher

from tests.asgi import AsgiCase, Kept, Receive, Scope, Send, answer, nothing, pair
from tests.integration import rawws
from tests.integration.rawhttp import chunk, payload, request
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.serve.asgi.pylogging import Bridge

from .cases import GET, Pure, Uvloop, Waiting, echo, told


class HTTPTests(AsgiCase):
    """Requests, with uvicorn's default engines on asyncio."""

    def scope(self, data: bytes = GET, **handoff: Any) -> dict[str, Any]:
        """What the application was told of a request."""
        found: dict[str, Any] = json.loads(self.ask(data, **handoff).body)
        return found

    def test_scope(self) -> None:
        """The application is told what the client sent, and who it is by the hand-off."""
        self.serve(told)
        scope = self.scope(request("GET", "/a%20b?c=d", headers=[("X-Y", "z")]))
        self.assertEqual(scope["path"], "/a b")
        self.assertEqual((scope["raw_path"], scope["query_string"]), ("/a%20b", "c=d"))
        self.assertEqual((scope["method"], scope["http_version"]), ("GET", "1.1"))
        self.assertEqual(scope["headers"], [["host", "cluster.test"], ["x-y", "z"]])
        self.assertEqual((scope["client"], scope["scheme"]), (["192.0.2.7", 5000], "http"))
        self.assertEqual(scope["server"][0], "127.0.0.1")

    def test_secure(self) -> None:
        """A connection that came over TLS elsewhere is https."""
        self.serve(told)
        self.assertEqual(self.scope(secure=True)["scheme"], "https")

    def test_unix(self) -> None:
        """A client over a UNIX socket has no address."""
        self.serve(told)
        self.assertIsNone(self.scope(family=socket.AF_UNIX, peer=("", 0))["client"])

    def test_root_path(self) -> None:
        """The path that a proxy has taken off is told, and part of the whole path again."""
        self.serve(told, root_path="/app")
        scope = self.scope(request("GET", "/page"))
        self.assertEqual((scope["root_path"], scope["path"]), ("/app", "/app/page"))

    def test_bodies(self) -> None:
        """A body comes through in both directions, counted or chunked, however it is cut."""
        self.serve(echo)
        body = payload(100_000)
        pieces = [body[:1], body[1:30_000], body[30_000:]]
        for data in (request("POST", "/", body=body), request("POST", "/", chunks=pieces)):
            for cut in (7, 200, 50_000):
                client = self.connect(data[:cut])
                self.talk(client.send, data[cut:])
                self.assertEqual(self.talk(client.response, "POST").body, body)

    def test_date(self) -> None:
        """The first response of a worker has a Date (RFC 9110, section 6.6.1)."""
        self.serve(told)
        names = [name for name, _ in self.ask(GET).headers]
        self.assertEqual(names.count("date"), 1)

    def test_idle(self) -> None:
        """The clock of that header stands still without a connection; the next one has it right."""
        ticks: list[int] = []

        async def tick(counter: int) -> None:
            ticks.append(counter)

        async def moment(seconds: float) -> None:
            pass

        self.serve(told)
        with (
            mock.patch.object(self.serving._server, "on_tick", tick),
            mock.patch("txsticky.serve.asgi.serving.asyncio.sleep", moment),
        ):
            clock = self.loop.create_task(self.serving._tick())
            self.turn()
            self.assertEqual(ticks, [])
            self.serving.protocol()
            self.turn()
            self.assertEqual(ticks, [0])
        clock.cancel()

    def test_not_taken(self) -> None:
        """A connection that the event loop does not take is closed, and forgotten."""
        self.serve(told)

        async def fails(*arguments: Any) -> None:
            raise OSError("no")

        with mock.patch.object(self.serving, "_loop", mock.Mock(wraps=self.loop)) as loop:
            loop.connect_accepted_socket = fails
            ours, theirs = pair()
            self.addCleanup(theirs.close)
            kept = Kept(
                Handoff(family=socket.AF_INET, origin=Origin(("192.0.2.7", 1)), how=How.NEW)
            )
            self.serving.adopt(ours, kept, self.desk, Conversation())
            self.turn()
        self.assertEqual((kept.ends, ours.fileno()), (1, -1))

    def test_streams_both_ways(self) -> None:
        """A piece of the body comes back before the next is sent."""
        self.serve(echo)
        client = self.connect()

        def converse() -> list[bytes]:
            client.send(request("POST", "/", headers=[("Transfer-Encoding", "chunked")]))
            found = []
            for piece in (b"one", b"two"):
                client.send(chunk(piece))
                while not found or found[-1] != chunk(piece):
                    found.append(client.reader.line() + b"\r\n")
                    if found[-1] == b"3\r\n":
                        found.append(b"3\r\n" + client.reader.line() + b"\r\n")
            client.send(b"0\r\n\r\n")
            return [line for line in found if line.startswith(b"3\r\n") and len(line) > 3]

        self.assertEqual(self.talk(converse), [chunk(b"one"), chunk(b"two")])

    def test_expect(self) -> None:
        """A client that waits for 100 (Continue) gets it when the application reads the body."""

        async def reads(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message["body"], message["more_body"]
            return await answer(send, body)

        self.serve(reads)
        data = request("POST", "/", headers=[("Expect", "100-continue")], body=b"body")
        client = self.connect(data[:-4])

        def converse() -> tuple[int, bytes]:
            status = client.reader.interim()
            client.send(b"body")
            return status, client.response("POST").body

        self.assertEqual(self.talk(converse), (100, b"body"))

    def test_keep_alive(self) -> None:
        """Requests on one connection are answered in order, pipelined or not."""
        self.serve(told)
        client = self.connect()
        targets = [f"/{number}" for number in range(4)]

        def converse() -> list[str]:
            found = [json.loads(client.ask(request("GET", targets[0])).body)["path"]]
            client.send(b"".join(request("GET", target) for target in targets[1:]))
            return [*found, *(json.loads(client.response().body)["path"] for _ in targets[1:])]

        self.assertEqual(self.talk(converse), targets)
        self.assertEqual(self.desk.done, 4)

    def test_no_keep_alive(self) -> None:
        """With a keep-alive of 0 seconds each response says that it is the last, and is."""
        self.serve(told, keep_alive=0)
        response = self.ask(GET)
        self.assertEqual(response.header("connection"), "close")
        self.talk(self.client.end)

    def test_keep_alive_ends(self) -> None:
        """A connection that is idle for longer is closed."""
        self.serve(told, keep_alive=0.05)
        self.assertEqual(self.ask(GET).status, 200)
        self.talk(self.client.end)

    def test_moves(self) -> None:
        """A request for another place takes the connection along; the client notices nothing."""
        self.serve(told)
        self.ask(GET)
        elsewhere = request("GET", "/", headers=[("Place", "2")])
        self.client.send(elsewhere)
        self.until(lambda: self.kept.left)
        sock, place, held = self.kept.left
        self.assertEqual((place, held), (2, elsewhere))
        sock.close()

    def test_drain(self) -> None:
        """An idle connection leaves when the worker drains."""
        self.serve(told)
        self.ask(GET)
        self.assertTrue(self.kept.transport.gate.drain())
        self.until(lambda: self.kept.left)
        self.kept.left[0].close()

    def test_client_leaves(self) -> None:
        """The application hears that its client has left, whether it has begun to answer or not."""
        self.patch(sys.modules["txsticky.transport.half_close"], "HALF_CLOSE_GRACE", 0.05)
        for begins in (False, True):
            app = Waiting(begins)
            self.serve(app)
            client = self.connect(GET)
            self.until(lambda app=app: app.waits)
            client.close()
            self.until(lambda app=app: app.heard)
            self.assertEqual(app.heard, [{"type": "http.disconnect"}])

    def test_half_close(self) -> None:
        """A client that sends no more gets its answer."""
        self.serve(echo)
        client = self.connect(request("POST", "/", body=b"all"))
        client.half_close()
        self.assertEqual(self.talk(client.response, "POST").body, b"all")
        self.talk(client.end)

    def test_slow_reader(self) -> None:
        """An application that sends faster than its client reads waits for it."""
        sent, enough = 0, False

        async def endless(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal sent
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            await send({"type": "http.response.start", "status": 200})
            while not enough:
                await asyncio.sleep(0)
                body = {"type": "http.response.body", "body": bytes(1 << 16), "more_body": True}
                await send(body)
                sent += 1
            return None

        self.serve(endless)
        client = self.connect(GET)
        self.until(lambda: sent > 2)
        host = self.kept.transport
        before = -1
        while sent != before:
            before = sent
            self.wait(asyncio.sleep(0.02))
        self.assertLess(host.unsent(), 1 << 20)
        enough = True
        client.close()
        self.until(lambda: not self.serving.busy)

    def test_slow_upload(self) -> None:
        """A client that sends faster than the application reads waits for it."""
        go = asyncio.Event()

        async def late(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            await go.wait()
            size, more = 0, True
            while more:
                message = await receive()
                size, more = size + len(message["body"]), message["more_body"]
            return await answer(send, b"%d" % size)

        self.serve(late)
        size = 1 << 24
        client = self.connect(request("POST", "/", headers=[("Content-Length", str(size))]))
        client.socket.setblocking(False)
        sent = 0

        def stuck() -> bool:
            nonlocal sent
            try:
                sent += client.socket.send(bytes(min(1 << 16, size - sent)))
            except BlockingIOError:
                return True
            return sent == size

        self.until(stuck)
        self.wait(asyncio.sleep(0.05))
        self.until(stuck)
        self.assertLess(sent, size)
        go.set()
        client.socket.settimeout(20)
        self.talk(client.socket.sendall, bytes(size - sent))
        self.assertEqual(self.talk(client.response, "POST").body, b"%d" % size)


class ErrorTests(AsgiCase):
    """Applications that fail."""

    def setUp(self) -> None:
        super().setUp()
        self.said: list[tuple[str, str]] = []

        def observe(event: LogEvent) -> None:
            if event["log_namespace"] == "uvicorn.error":
                self.said.append((event["log_level"].name, event["text"]))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.patch(logging, "lastResort", Bridge())
        self.patch(logging.getLogger("uvicorn.error"), "handlers", [])

    def failing(self, *first: dict[str, Any]) -> Any:
        """An application that raises behind these messages."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            for message in first:
                await send(message)
            raise RuntimeError("secret")

        return app

    def test_before_the_response(self) -> None:
        """An exception is a 500 that tells the client nothing; the log has the traceback."""
        self.serve(self.failing())
        response = self.ask(GET)
        self.assertEqual((response.status, b"secret" in response.body), (500, False))
        [(level, text)] = self.said
        self.assertEqual((level, text.splitlines()[-1]), ("error", "RuntimeError: secret"))
        self.assertTrue(text.startswith("Exception in ASGI application\nTraceback"))

    def test_application_that_logs(self) -> None:
        """If the application has set Python's logging up, that has the traceback."""
        handler = logging.NullHandler()
        logging.getLogger().addHandler(handler)
        self.addCleanup(logging.getLogger().removeHandler, handler)
        self.serve(self.failing())
        self.assertEqual(self.ask(GET).status, 500)
        self.assertEqual(self.said, [])

    def test_in_the_response(self) -> None:
        """A response that breaks off ends the connection, so that its client knows."""
        head = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"9")],
        }
        self.serve(self.failing(head))
        client = self.connect(GET)

        def rest() -> bytes:
            data = b""
            while piece := client.socket.recv(1000):
                data += piece
            return data

        self.assertTrue(self.talk(rest).endswith(b"\r\n\r\n"))
        self.until(lambda: self.kept.ends)

    def test_no_response(self) -> None:
        """An application that returns without a response is a 500 as well."""
        self.serve(nothing)
        self.assertEqual(self.ask(GET).status, 500)

    def test_in_the_handshake(self) -> None:
        """An exception before a WebSocket is accepted refuses it."""
        self.serve(self.failing())
        self.assertEqual(self.ask(rawws.handshake()).status, 500)

    def test_malformed_request(self) -> None:
        """What is not HTTP is refused, and the connection closed."""
        self.serve(told)
        response = self.ask(b"GET / HTTP/1.1\r\nBad Header\r\n\r\n")
        self.assertEqual((response.status, response.header("connection")), (400, "close"))
        self.talk(self.client.end)


class UvloopHTTPTests(Uvloop, HTTPTests):
    """HTTP on uvloop."""


class UvloopErrorTests(Uvloop, ErrorTests):
    """Failures on uvloop."""


class PureHTTPTests(Pure, HTTPTests):
    """HTTP by h11."""


class PureErrorTests(Pure, ErrorTests):
    """Failures with h11 and wsproto."""
