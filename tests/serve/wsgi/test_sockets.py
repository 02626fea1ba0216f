"""Applications that take the socket of a WebSocket handshake."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import simple_websocket
import websocket
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.rawws import frame, handshake
from txsticky.serve.wsgi import sockets
from txsticky.serve.wsgi.sockets import GOING_AWAY, AppSocket

from .served import Start, WSGICase

Environment = dict[str, Any]


class AppSocketTests(SynchronousTestCase):
    """The socket that an application finds."""

    def setUp(self) -> None:
        self.ours, theirs = socket.socketpair()
        for end in (self.ours, theirs):
            self.addCleanup(end.close)
        self.taken = 0

        def take() -> socket.socket:
            self.taken += 1
            return theirs

        self.socket = AppSocket(take)

    def test_lazy(self) -> None:
        """The socket is taken when it is first used, and once."""
        self.socket.close()
        self.socket.go_away()
        self.assertEqual(self.taken, 0)
        self.assertGreater(self.socket.fileno(), 0)
        self.assertEqual(self.socket.send(b"hello"), 5)
        self.assertEqual((self.taken, self.ours.recv(99)), (1, b"hello"))

    def test_receives(self) -> None:
        """What the client sends is read as from any socket."""
        self.ours.sendall(b"hello")
        self.assertEqual(self.socket.recv(99), b"hello")
        self.ours.close()
        self.assertEqual(self.socket.recv(99), b"")

    def test_going_away(self) -> None:
        """Behind the close frame nothing is sent, and there is one close frame."""
        self.assertGreater(self.socket.fileno(), 0)
        self.socket.go_away()  # there was no response yet
        self.socket.send(b"one")
        self.socket.go_away()
        self.socket.go_away()
        self.assertEqual(self.socket.send(b"two"), 3)
        self.assertEqual(self.ours.recv(99), b"one" + GOING_AWAY)

    def test_between(self) -> None:
        """The close frame waits for what is being sent to its end."""
        size = 10_000_000
        sending = threading.Thread(target=self.socket.sendall, args=(b"x" * size,))
        sending.start()
        self.ours.recv(1)
        going = threading.Thread(target=self.socket.go_away)
        going.start()
        rest = b""
        while len(rest) < size - 1 + len(GOING_AWAY):
            rest += self.ours.recv(1 << 20)
        for thread in (sending, going):
            thread.join(10)
        self.assertTrue(rest.endswith(b"x" + GOING_AWAY))

    def test_client_gone(self) -> None:
        """A close frame to a client that has left is no error."""
        self.socket.send(b"one")
        self.ours.close()
        self.socket.go_away()


def echo(environ: Environment, start_response: Start) -> list[bytes]:
    """Send each message back; answer any other request with its kind."""
    if environ["PATH_INFO"] != "/ws":
        start_response("200 OK", [])
        return [b"a page"]
    ws = simple_websocket.Server(environ)
    try:
        while True:
            ws.send(ws.receive())
    except simple_websocket.ConnectionClosed:
        start_response("200 OK", [])
        return [b"this is no one's"]


class SocketTests(WSGICase):
    """WebSockets by simple-websocket."""

    def serve(self, app: object, **settings: Any) -> None:
        """Serve an application; its sockets are closed before the end of the test."""
        super().serve(app, **settings)
        assert self.serving is not None
        self.served = self.serving
        self.addCleanup(lambda: Deferred.fromCoroutine(self.settled()))

    def opened(self) -> websocket.WebSocket:
        """Open a WebSocket; in a thread."""
        return websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws", timeout=10)

    def in_thread(self, action: Callable[[], Any]) -> Any:
        """Run the client."""
        return deferToThread(action)

    async def settled(self) -> None:
        """Wait until no application runs."""
        while self.served.busy:
            await deferLater(reactor, 0.01)

    async def test_messages(self) -> None:
        """Messages of any size go to and fro, and the application's response is dropped."""
        self.serve(echo)

        def talk() -> tuple[list[bool], int, bytes]:
            ws = self.opened()
            same = []
            for text in ("one", "two" * 100_000, "three"):
                ws.send(text)
                same.append(ws.recv() == text)
            ws.send_close()
            opcode = ws.recv_frame().opcode  # recv() would answer again
            return same, opcode, ws.sock.recv(99)

        self.assertEqual(await self.in_thread(talk), ([True] * 3, 8, b""))
        await self.settled()

    async def test_glued(self) -> None:
        """A message that came with the handshake arrives, and those that follow it."""
        self.serve(echo)

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
                sock.sendall(handshake("/ws") + frame(b"glued"))
                got = b""
                while not got.endswith(b"\x81\x05glued"):
                    got += sock.recv(4096)
                sock.sendall(frame(b"later"))
                while not got.endswith(b"\x81\x05later"):
                    got += sock.recv(4096)
                return got

        got = await self.in_thread(talk)
        self.assertTrue(got.startswith(b"HTTP/1.1 101 "), got)
        await self.settled()

    async def test_not_taken(self) -> None:
        """A handshake that the application answers as any request is one."""
        self.serve(echo)
        answer = await self.ask("GET", "/", "Upgrade: websocket", "Connection: Upgrade, close")
        self.assertTrue(answer.endswith(b"a page"), answer)

    async def test_one_thread(self) -> None:
        """To an application for one thread no socket is offered."""
        seen: list[bool] = []

        def app(environ: Environment, start_response: Start) -> list[bytes]:
            seen.append(any(name in environ for name in sockets.NAMES))
            start_response("200 OK", [])
            return []

        self.serve(app, threads=1)
        await self.ask("GET", "/", "Upgrade: websocket", "Connection: Upgrade, close")
        self.assertEqual(seen, [False])

    async def test_threads(self) -> None:
        """WebSockets take none of the threads of other requests."""
        self.serve(echo, threads=2)
        clients = [await self.in_thread(self.opened) for _ in range(4)]
        self.assertTrue((await self.ask("GET", "/", "Connection: close")).endswith(b"a page"))
        for client in clients:
            client.close()
        await self.settled()

    async def test_too_many(self) -> None:
        """Where there are too many a handshake waits for a thread as other requests do."""
        self.patch(sockets, "MOST", 1)
        self.serve(echo)
        clients = [await self.in_thread(self.opened) for _ in range(2)]
        for client in clients:
            client.send("hello")
            self.assertEqual(await self.in_thread(client.recv), "hello")
            client.close()
        await self.settled()

    async def test_gunicorn(self) -> None:
        """A library that ends the request as for gunicorn is no failure; another error is one."""

        def app(environ: Environment, start_response: Start) -> list[bytes]:
            environ["gunicorn.socket"].sendall(b"HTTP/1.1 101 \r\n\r\n")
            raise {"/stop": StopIteration, "/fail": ZeroDivisionError}[environ["PATH_INFO"]]()

        self.serve(app)
        for path in ("/stop", "/fail"):
            answer = await self.ask("GET", path, "Upgrade: websocket", "Connection: Upgrade")
            self.assertEqual(answer, b"HTTP/1.1 101 \r\n\r\n")
        await self.settled()
        await deferLater(reactor, 0.05)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_taken_and_iterated(self) -> None:
        """An application may take the socket while it yields, and what it yields is dropped."""

        def app(environ: Environment, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            environ["werkzeug.socket"].sendall(b"HTTP/1.1 101 \r\n\r\n")
            yield b"no one's"

        self.serve(app)
        answer = await self.ask("GET", "/", "Upgrade: websocket", "Connection: Upgrade")
        self.assertEqual(answer, b"HTTP/1.1 101 \r\n\r\n")

    async def test_body_before(self) -> None:
        """An application that has sent a response gets no socket: the client has the response."""
        raised: list[Exception] = []

        def app(environ: Environment, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Length", "9")])
            yield b"a body"
            try:
                environ["werkzeug.socket"].sendall(b"HTTP/1.1 101 \r\n\r\n")
            except ConnectionError as error:
                raised.append(error)
            yield b"end"

        self.serve(app)
        answer = await self.ask("GET", "/", "Upgrade: websocket", "Connection: Upgrade, close")
        self.assertTrue(answer.endswith(b"\r\n\r\na bodyend"), answer)
        self.assertIn("a response has begun", str(raised[0]))

    async def test_left_before(self) -> None:
        """A client that has left before its socket is taken is an error of the socket."""
        begun, go = threading.Event(), threading.Event()
        raised: list[Exception] = []

        def app(environ: Environment, start_response: Start) -> list[bytes]:
            begun.set()
            go.wait(10)
            try:
                environ["werkzeug.socket"].recv(1)
            except ConnectionError as error:
                raised.append(error)
            start_response("200 OK", [])
            return []

        self.serve(app)
        client = await self.connect(handshake("/"))
        await deferToThread(begun.wait, 10)
        client.transport.abortConnection()
        await client.gone
        await deferLater(reactor, 0.05)
        go.set()
        await self.settled()
        self.assertIn("the client has left", str(raised[0]))

    async def test_stop(self) -> None:
        """A stop tells clients to go, with 1001, and does not wait for those that do not."""
        self.serve(echo)
        polite = await self.in_thread(self.opened)
        rude = await self.connect(handshake("/ws"))
        await deferLater(reactor, 0.2)
        stopped = Deferred.fromCoroutine(self.stop())
        self.assertEqual(await self.in_thread(polite.recv_data), (8, b"\x03\xe9"))
        polite.close()
        await stopped
        await self.settled()
        self.assertTrue((await rude.gone).endswith(GOING_AWAY))
