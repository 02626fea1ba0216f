"""ASGI applications on adopted connections, by every engine of uvicorn's, on both loops."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from twisted.internet import asyncioreactor
from twisted.logger import LogEvent, globalLogPublisher

from tests.asgi import AsgiCase, Kept, Receive, Scope, Send, answer, nothing, pair
from tests.integration import rawws
from tests.integration.rawhttp import Connection, chunk, payload, request
from txsticky.core.how import How
from txsticky.core.http.conversation import Exchange
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.forwarded import Trusted
from txsticky.errors import AppLoadError
from txsticky.serve import ServeSettings, serving_for
from txsticky.serve.asgi.engine import (
    WrongReactor,
    engine_settings,
    install_asyncio_reactor,
    new_loop,
)
from txsticky.serve.asgi.lifespan import LifespanFailed
from txsticky.serve.asgi.pylogging import Bridge

GET = request("GET", "/")


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what it was told of the request."""
    if scope["type"] == "lifespan":
        return await nothing(scope, receive, send)
    fields = {name: value for name, value in scope.items() if name not in ("headers", "extensions")}
    fields["headers"] = [(k.decode(), v.decode("latin-1")) for k, v in scope["headers"]]
    body = json.dumps(fields, default=lambda value: value.decode("latin-1")).encode()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body.decode()})
        return await send({"type": "websocket.close"})
    return await answer(send, body)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Streams back each piece of the body as it comes, and echoes what comes by WebSocket."""
    if scope["type"] == "lifespan":
        return await nothing(scope, receive, send)
    if scope["type"] == "websocket":
        return await echo_messages(scope, receive, send)
    await send({"type": "http.response.start", "status": 200})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})
    return None


async def echo_messages(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes what comes by WebSocket; the path says whether the WebSocket is taken."""
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/refused":
        return await send({"type": "websocket.close"})
    if scope["path"] == "/denied":
        start = {"type": "websocket.http.response.start", "status": 401, "headers": []}
        await send(start)
        return await send({"type": "websocket.http.response.body", "body": b"who are you?"})
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    return None


class Waiting:
    """
    An application that waits for its client to leave.

    :param begins: whether the response begins before that.
    :ivar heard: what its client's leaving was called.
    """

    def __init__(self, begins: bool = False) -> None:
        self._begins = begins
        self.waits = False
        self.heard: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] == "lifespan":
            return await nothing(scope, receive, send)
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        if self._begins:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        self.waits = True
        self.heard.append(await receive())
        return None


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
            self.serving.adopt(ours, kept, self.desk, Exchange())
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
        """Who waits for 100 (Continue) gets it when the application reads the body."""

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
        self.patch(sys.modules["txsticky.transport.gate"], "HALF_CLOSE_GRACE", 0.05)
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


class WebSocketTests(AsgiCase):
    """WebSockets."""

    def join(self, target: str = "/ws", *glued: bytes, **handoff: Any) -> Connection:
        """A WebSocket that is accepted."""
        self.client = self.connect(rawws.handshake(target) + b"".join(glued), **handoff)
        self.accepted = self.talk(self.client.response)
        rawws.accepted(self.accepted)
        return self.client

    def message(self) -> tuple[int, bytes]:
        """The next message."""
        found: tuple[int, bytes] = self.talk(rawws.message, self.client.reader)
        return found

    def test_echo(self) -> None:
        """Messages come and go."""
        self.serve(echo)
        client = self.join()
        for text in (b"", b"one", payload(100_000).hex().encode()):
            client.socket.setblocking(True)
            self.talk(client.send, rawws.frame(text))
            self.assertEqual(self.message(), (rawws.TEXT, text))

    def test_scope(self) -> None:
        """The application is told of the client, the path and the scheme."""
        self.serve(told)
        self.join("/chat?room=1", secure=True)
        scope = json.loads(self.message()[1])
        self.assertEqual((scope["path"], scope["query_string"]), ("/chat", "room=1"))
        self.assertEqual((scope["client"], scope["scheme"]), (["192.0.2.7", 5000], "wss"))

    def test_headers_are_added(self) -> None:
        """The gate's header lines are in the response to the handshake."""
        self.serve(echo)
        self.join(how=How.HASH)
        self.assertEqual(self.accepted.header("x-how"), "HASH")

    def test_glued_to_the_handshake(self) -> None:
        """Messages that come right behind the handshake are not lost."""
        self.serve(echo)
        self.join("/ws", rawws.frame(b"early"), rawws.frame(b"bird"))
        self.assertEqual([self.message()[1], self.message()[1]], [b"early", b"bird"])

    def test_refused(self) -> None:
        """An application may refuse the handshake, with a response of its own as well."""
        self.serve(echo)
        self.assertEqual(self.ask(rawws.handshake("/refused")).status, 403)
        response = self.ask(rawws.handshake("/denied"))
        self.assertEqual((response.status, response.body), (401, b"who are you?"))

    def test_client_closes(self) -> None:
        """The client's close is answered, and the connection ends."""
        self.serve(echo)
        client = self.join()
        client.send(rawws.frame((1000).to_bytes(2, "big"), rawws.CLOSE))
        self.assertEqual(self.message(), (rawws.CLOSE, b"\x03\xe8"))
        self.talk(client.end)
        self.until(lambda: self.kept.ends)

    def test_goodbye(self) -> None:
        """A WebSocket is closed with code 1001, and its connection when the client has answered."""
        self.serve(echo)
        client = self.join()
        self.assertTrue(self.serving.close_politely(self.kept.transport.protocol))
        self.assertEqual(self.message()[1][:2], (1001).to_bytes(2, "big"))
        self.turn()
        self.assertEqual(self.kept.ends, 0)
        client.send(rawws.frame((1001).to_bytes(2, "big"), rawws.CLOSE))
        self.talk(client.end)
        self.until(lambda: self.kept.ends and not self.serving.busy)

    def test_goodbye_twice(self) -> None:
        """A second goodbye says nothing more."""
        self.serve(echo)
        client = self.join()
        protocol = self.kept.transport.protocol
        self.serving.close_politely(protocol)
        self.serving.close_politely(protocol)
        self.message()
        client.send(rawws.frame((1001).to_bytes(2, "big"), rawws.CLOSE))
        self.talk(client.end)

    def test_goodbye_to_a_busy_application(self) -> None:
        """An application that goes on sending is quietly stopped."""
        ended: list[BaseException | None] = []

        async def chatty(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            await receive()
            await send({"type": "websocket.accept"})
            try:
                while (await asyncio.sleep(0.001)) is None:
                    await send({"type": "websocket.send", "text": "tick"})
            except Exception as error:
                ended.append(error)
                raise

        self.serve(chatty)
        client = self.join()
        self.serving.close_politely(self.kept.transport.protocol)
        while (found := self.message())[0] != rawws.CLOSE:
            pass
        self.assertEqual(found[1][:2], (1001).to_bytes(2, "big"))
        client.send(rawws.frame(found[1][:2], rawws.CLOSE))
        self.until(lambda: ended)
        self.assertIsInstance(ended[0], OSError)  # as if the client had gone
        client.close()

    def test_stop(self) -> None:
        """When the worker leaves, WebSockets that are still open hear it."""
        self.serve(echo)
        self.join()
        stopped = self.serving.stop(4.0)
        self.assertEqual(self.message()[1][:2], (1001).to_bytes(2, "big"))
        self.client.close()
        self.fired(stopped)

    def test_flood(self) -> None:
        """Messages that the application does not take stay with the client, bounded."""
        go = asyncio.Event()
        taken = 0

        async def late(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal taken
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            await receive()
            await send({"type": "websocket.accept"})
            await go.wait()
            while (await receive())["type"] == "websocket.receive":
                taken += 1
            return None

        self.serve(late)
        client = self.join()
        client.socket.setblocking(False)
        flood = rawws.frame(bytes(1000)) * 64
        sent = 0

        def stuck() -> bool:
            nonlocal sent
            try:
                at = sent % len(flood)
                sent += client.socket.send(flood[at:])
            except BlockingIOError:
                return True
            return sent > 1 << 26

        self.until(stuck)
        self.wait(asyncio.sleep(0.05))
        self.until(stuck)
        self.assertLess(sent, 1 << 26)
        go.set()
        self.until(lambda: taken >= sent // len(rawws.frame(bytes(1000))))
        client.close()


class Uvloop(AsgiCase):
    """The fastest choice."""

    loop_name = "uvloop"
    engines: ClassVar[dict[str, str]] = {"UVICORN_HTTP": "httptools"}


class Pure(AsgiCase):
    """The choice without compiled parts."""

    engines: ClassVar[dict[str, str]] = {"UVICORN_HTTP": "h11", "UVICORN_WS": "wsproto"}


class UvloopHTTPTests(Uvloop, HTTPTests):
    """HTTP on uvloop."""


class UvloopErrorTests(Uvloop, ErrorTests):
    """Failures on uvloop."""


class UvloopWebSocketTests(Uvloop, WebSocketTests):
    """WebSockets on uvloop."""


class PureHTTPTests(Pure, HTTPTests):
    """HTTP by h11."""


class PureErrorTests(Pure, ErrorTests):
    """Failures with h11 and wsproto."""


class PureWebSocketTests(Pure, WebSocketTests):
    """WebSockets by wsproto."""


class OldWebSocketTests(WebSocketTests):
    """WebSockets by the old implementation of websockets, on uvloop."""

    loop_name = "uvloop"
    engines: ClassVar[dict[str, str]] = {"UVICORN_WS": "websockets"}


class LifespanTests(AsgiCase):
    """The application's lifespan."""

    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        self.levels: list[str] = []

        def observe(event: LogEvent) -> None:
            if event["log_namespace"].startswith("txsticky"):
                self.said.append(event["log_format"].format(**event))
                self.levels.append(event["log_level"].name)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def test_startup_and_shutdown(self) -> None:
        """It starts before the first request and is shut down after the last, once."""
        seen = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == "lifespan"
            for _ in range(2):
                message = await receive()
                seen.append(message["type"])
                await send({"type": f"{message['type']}.complete"})

        serving = self.make(app)
        self.fired(serving.start())
        self.assertEqual(seen, ["lifespan.startup"])
        self.fired(serving.stop(4.0))
        self.fired(serving.stop(4.0))
        self.assertEqual(seen, ["lifespan.startup", "lifespan.shutdown"])

    def test_state(self) -> None:
        """What it puts into the state is in that of each request, which is the request's own."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                scope["state"]["pool"] = "shared"
                return await nothing(scope, receive, send)
            state = scope["state"]
            body = json.dumps(state).encode()
            state["mine"] = True
            return await answer(send, body)

        self.serve(app)
        for _ in range(2):
            self.assertEqual(self.ask(GET).body, b'{"pool": "shared"}')
        self.assertEqual(self.talk(self.client.ask, GET).body, b'{"pool": "shared"}')

    def test_startup_fails(self) -> None:
        """An application that says it cannot start does not; the reason is its last line."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            text = "Traceback (most recent call last):\n  ...\nOSError: no database\n"
            await send({"type": "lifespan.startup.failed", "message": text})
            raise OSError("no database")

        started = self.make(app).start()
        error = self.assertRaises(LifespanFailed, self.fired, started)
        self.assertEqual(str(error), "its lifespan failed: OSError: no database")
        self.assertEqual(self.said, [])

    def test_startup_fails_without_reason(self) -> None:
        """One that does not say why does not start either."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "lifespan.startup.failed"})

        error = self.assertRaises(LifespanFailed, self.fired, self.make(app).start())
        self.assertEqual(str(error), "its lifespan failed: it does not say why")

    def test_raises_at_startup(self) -> None:
        """To refuse a lifespan is no fault, and does not read like one."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                raise ValueError("no lifespan here")
            await answer(send, b"served")

        self.serve(app)
        self.assertEqual(self.ask(GET).body, b"served")
        self.assertEqual(
            self.said,
            [
                "The application has no lifespan, and is served without one.",
                "Asked for its lifespan, it raised ValueError: no lifespan here",
            ],
        )
        self.assertEqual(self.levels, ["info", "debug"])

    def test_raises_in_startup(self) -> None:
        """One that raises when it has begun to start is served as well, with a warning."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await receive()
                raise LookupError("no database")
            await answer(send, b"served")

        self.serve(app)
        self.assertEqual(self.ask(GET).body, b"served")
        self.assertEqual(
            self.said,
            ["The application is served although its lifespan ended with LookupError: no database"],
        )
        self.assertEqual(self.levels, ["warn"])

    def test_raises_at_shutdown(self) -> None:
        """One that raises when it is shut down is logged, and stops."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            raise ValueError("cannot let go")

        serving = self.make(app)
        self.fired(serving.start())
        self.fired(serving.stop(4.0))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stream_without_end(self) -> None:
        """An application that still answers when the worker leaves hears of a disconnect."""
        app = Waiting(begins=True)
        self.serve(app)
        client = self.connect(GET)
        self.until(lambda: app.waits)
        self.fired(self.serving.stop(4.0))
        self.assertEqual(app.heard, [{"type": "http.disconnect"}])
        self.assertFalse(self.serving.busy)
        client.close()

    def test_work_behind_the_response(self) -> None:
        """An application at work behind its response is busy, and cancelled at the very end."""
        ends = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            await answer(send, b"accepted")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        serving = self.make(app)
        self.fired(serving.start())
        self.serving = serving
        self.assertEqual(self.ask(GET).body, b"accepted")
        self.assertTrue(serving.busy)
        self.fired(serving.stop(0.04))
        self.assertEqual((ends, serving.busy), (["cancelled"], False))


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
        self.patch(sys.modules["txsticky.transport.gate"], "HALF_CLOSE_GRACE", 0.05)
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
        self.patch(sys.modules["txsticky.transport.gate"], "HALF_CLOSE_GRACE", 0.05)
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
        """Anybody else does not, however much others are trusted."""
        data = request("GET", "/", headers=self.HEADERS)
        self.assertEqual(self.told("10.0.0.0/8", data), (["192.0.2.7", 5000], "http"))

    def test_nobody(self) -> None:
        """By default nobody does."""
        data = request("GET", "/", headers=self.HEADERS)
        self.assertEqual(self.told("", data), (["192.0.2.7", 5000], "http"))

    def test_unix(self) -> None:
        """A proxy over a UNIX socket may be trusted, too."""
        data = request("GET", "/", headers=self.HEADERS)
        found = self.told("unix", data, family=socket.AF_UNIX, peer=("", 0))
        self.assertEqual(found, (["203.0.113.9", 0], "https"))

    def test_websocket(self) -> None:
        """The scheme of a WebSocket is wss."""
        self.serve(told, trusted=Trusted.parse("*"))
        client = self.connect(rawws.handshake("/", *self.HEADERS))
        rawws.accepted(self.talk(client.response))
        scope = json.loads(self.talk(rawws.message, client.reader)[1])
        self.assertEqual((scope["client"][0], scope["scheme"]), ("198.51.100.1", "wss"))


class LoadingTests(AsgiCase):
    """What is taken for an ASGI application, and what the environment chooses."""

    def test_kinds(self) -> None:
        """Coroutine functions, partial ones, objects, classes, functions, ASGI 2: all serve."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            return await answer(send, b"served")

        async def two(x: int, scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        class Callable:
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await app(scope, receive, send)

        class Awaitable:
            def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
                self._work = app(scope, receive, send)

            def __await__(self) -> Any:
                return self._work.__await__()

        def plain(scope: Scope, receive: Receive, send: Send) -> Any:
            return app(scope, receive, send)

        def asgi2(scope: Scope) -> Any:
            return functools.partial(app, scope)

        for kind in (app, functools.partial(two, 1), Callable(), Awaitable, plain, asgi2):
            self.serve(kind)
            self.assertEqual(self.ask(GET).body, b"served", kind)

    def test_others(self) -> None:
        """What is no ASGI application is refused, and told so."""
        for other in (7, lambda environ, start_response: []):
            error = self.assertRaises(AppLoadError, self.make, other)
            self.assertIn("with --interface=asgi it has to be an ASGI application", str(error))

    def test_without_uvicorn(self) -> None:
        """Where uvicorn is missing, the sentence says what to install."""
        with mock.patch.dict(sys.modules, {"uvicorn": None}):
            error = self.assertRaises(AppLoadError, self.make, told)
        self.assertIn("pip install 'txsticky[asgi]'", str(error))

    def test_other_reactor(self) -> None:
        """With another reactor installed, the application cannot be served in this process."""
        with mock.patch.dict(sys.modules, {"twisted.internet.reactor": object()}):
            error = self.assertRaises(WrongReactor, serving_for, told, "auto", ServeSettings())
        self.assertIn("--interface=asgi", str(error))
        self.assertEqual(error.exit_code, 3)

    def test_asyncio_reactor_stays(self) -> None:
        """An asyncio reactor that is installed already is used."""

        class Installed:
            _asyncioEventloop = None

        reactor = Installed()
        with (
            mock.patch.dict(sys.modules, {"twisted.internet.reactor": reactor}),
            mock.patch.object(asyncioreactor, "install") as install,
        ):
            install_asyncio_reactor()
            self.assertIs(sys.modules["twisted.internet.reactor"], reactor)
        self.assertEqual(install.call_count, 0)

    def test_environment(self) -> None:
        """uvicorn's own variables choose its engines."""
        found = engine_settings(
            {
                "UVICORN_H11_MAX_INCOMPLETE_EVENT_SIZE": "5",
                "UVICORN_HTTP": "h11",
                "UVICORN_WS": "wsproto",
                "UVICORN_WS_MAX_SIZE": "1000",
                "UVICORN_WS_PING_INTERVAL": "2.5",
                "UVICORN_WS_PER_MESSAGE_DEFLATE": "false",
                "UVICORN_LIFESPAN": "off",
            }
        )
        self.assertEqual(
            found,
            {
                "http": "h11",
                "ws": "wsproto",
                "ws_max_size": 1000,
                "ws_ping_interval": 2.5,
                "ws_per_message_deflate": False,
                "lifespan": "off",
                "h11_max_incomplete_event_size": 5,
            },
        )

    def test_head_limit(self) -> None:
        """h11 takes heads as large as the limit, and what is added to them."""
        found = engine_settings({}, 200_000)["h11_max_incomplete_event_size"]
        self.assertGreater(found, 200_000)

    def test_bad_environment(self) -> None:
        """A value that cannot be read is refused, and the variable is named."""
        variables = {"UVICORN_WS_MAX_SIZE": "much"}
        error = self.assertRaises(AppLoadError, engine_settings, variables)
        self.assertIn("$UVICORN_WS_MAX_SIZE", str(error))

    def test_missing_engine(self) -> None:
        """An engine that is not there is a reason not to load."""
        self.patch(os, "environ", {"UVICORN_HTTP": "no_such_engine:Protocol"})
        error = self.assertRaises(AppLoadError, self.make, told)
        self.assertIn("uvicorn cannot serve it", str(error))
        self.assertIn("no_such_engine", str(error))

    def test_loops(self) -> None:
        """uvloop is used unless asyncio is asked for."""
        for name, module in (("auto", "uvloop"), ("uvloop", "uvloop"), ("asyncio", "asyncio")):
            loop = new_loop(name)
            loop.close()
            packages = {kind.__module__.partition(".")[0] for kind in type(loop).__mro__}
            self.assertEqual("uvloop" in packages, module == "uvloop")

    def test_no_lifespan(self) -> None:
        """With UVICORN_LIFESPAN=off the application is not asked for one."""
        asked = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            asked.append(scope["type"])

        self.patch(os, "environ", {"UVICORN_LIFESPAN": "off"})
        self.serve(app)
        self.assertEqual(asked, [])
