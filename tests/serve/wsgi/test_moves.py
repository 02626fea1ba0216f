"""WebSockets of simple-websocket move, while their client talks."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import simple_websocket
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.moving_apps import WHO, who
from tests.integration.rawws import frame, handshake
from tests.serve.moving import Talker, moving
from txsticky.core.http.events import EventConversation
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.serve import ServeSettings, serving_for
from txsticky.serve.wsgi.relay import QUIET, SocketRelay

from .served import Start, WSGICase

MOVES = 6


class RelayTests(TestCase):
    """What a relay says of the application, which has the other end of a pair."""

    async def test_busy(self) -> None:
        """A relay is at work while something has passed or is unread, until it has closed."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        exchange: Any = mock.Mock(open=False)
        relay = SocketRelay(exchange, ours, reactor)
        (busy,) = exchange.stay_while.call_args.args
        self.assertEqual([busy() for _ in range(QUIET + 1)], [True] * (QUIET - 1) + [False] * 2)
        relay.came(b"hello")
        while not select.select([theirs], [], [], 0)[0]:
            await deferLater(reactor, 0)
        self.assertEqual({busy() for _ in range(QUIET + 2)}, {True})
        theirs.recv(99)
        self.assertEqual([busy() for _ in range(QUIET)], [True] * (QUIET - 1) + [False])
        relay.dataReceived(b"HTTP/1.1 101 \r\n")
        self.assertTrue(busy())
        theirs.close()
        while relay.transport.connected:
            await deferLater(reactor, 0)
        self.assertFalse(busy())


class MovesTests(WSGICase):
    """A worker's connections, which are given to the same worker again."""

    def echo(self, environ: dict[str, Any], start_response: Start) -> list[bytes]:
        """Send each message back, one of them late, and say what moved."""
        ws = simple_websocket.Server(environ)
        moved = {"txsticky-moved": environ.get("HTTP_TXSTICKY_MOVED")}
        try:
            while True:
                data = ws.receive()
                if data == b"slow":
                    time.sleep(self.pause)
                ws.send(who(moved) if data == WHO else data)
        except simple_websocket.ConnectionClosed:
            self.ended += 1
        start_response("200 OK", [])
        return []

    def setUp(self) -> None:
        self.pause, self.ended = 0.0, 0
        self.serving = serving_for(self.echo, "wsgi", ServeSettings())
        self.serving.start()
        self.addCleanup(self.stop)
        conversation = partial(EventConversation, inside=self.serving.inside)
        self.connections = moving(self.serving, conversation, reactor)

    def connected(self) -> socket.socket:
        """Connect; returns the client's end."""
        with socket.create_server(("127.0.0.1", 0)) as port:
            theirs = socket.create_connection(port.getsockname(), timeout=15)
            ours, _ = port.accept()
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        handoff = Handoff(family=socket.AF_INET, origin=Origin(("192.0.2.7", 5000)))
        self.connections.adopt(ours, handoff)
        return theirs

    async def until(self, fact: Callable[[], object]) -> None:
        """Let the reactor run until something is so."""
        while not fact():
            await deferLater(reactor, 0.005)

    async def move(self) -> None:
        """Have the WebSocket move."""
        (connection,) = self.connections.live
        connection.let_go(False)
        await self.until(lambda: connection not in self.connections.live)

    async def test_talk(self) -> None:
        """Nothing that is said is lost, and the application is told that it has moved."""
        talker = Talker("deflate")
        thread = threading.Thread(target=talker.talk, args=(self.connected(),))
        thread.start()
        for _ in range(MOVES):
            said = talker.said
            await self.until(lambda: talker.said > said or not thread.is_alive())  # noqa: B023
            await self.move()
        talker.over.set()
        await self.until(lambda: not thread.is_alive() and not self.connections.live)
        self.assertEqual((talker.last["txsticky-moved"], talker.code), (str(MOVES), 1000))
        await self.until(lambda: self.ended == MOVES + 1)

    async def test_slow(self) -> None:
        """An answer that takes a while is waited for, where the application says so."""
        sock = self.connected()
        sock.sendall(handshake("/ws"))
        got = b""
        while b"\r\n\r\n" not in got:
            got += await deferToThread(sock.recv, 4096)
        policy: Any = self.connections.policy
        (passport,) = policy.movements.passports
        go = passport.stay()
        self.pause = 0.5
        sock.sendall(frame(b"slow", 2))
        moved = self.move()
        self.assertEqual(await deferToThread(sock.recv, 4096), b"\x82\x04slow")
        self.assertEqual(len(policy.movements.passports), 1)
        go()
        await moved
        await self.until(lambda: len(policy.movements.passports) == 2)
        sock.sendall(frame(WHO, 2))
        told = json.loads((await deferToThread(sock.recv, 4096))[2:])
        self.assertEqual(told["txsticky-moved"], "1")
