"""WebSockets of ASGI applications, by every engine of uvicorn's, on both loops."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

from tests.asgi import AsgiCase, Receive, Scope, Send, nothing
from tests.integration import rawws
from tests.integration.rawhttp import Connection, payload
from txsticky.core.how import How

from .cases import Pure, Uvloop, echo, told


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


class UvloopWebSocketTests(Uvloop, WebSocketTests):
    """WebSockets on uvloop."""


class PureWebSocketTests(Pure, WebSocketTests):
    """WebSockets by wsproto."""


class OldWebSocketTests(WebSocketTests):
    """WebSockets by the old implementation of websockets, on uvloop."""

    loop_name = "uvloop"
    engines: ClassVar[dict[str, str]] = {"UVICORN_WS": "websockets"}
