"""WebSockets that move and come to the primary: their worker died before it took them."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from tests.core.http.websocket.test_handshake import request
from tests.primary.cases import PEER, PrimaryCase
from tests.shells import ended, received
from txsticky.core.http.websocket.frames import close_frame
from txsticky.core.messages.handoff import Handoff, pack_handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.replay import Replay
from txsticky.intake.arrival import Arrival
from txsticky.primary.upgrade import packing

REPLAY = Replay(head=request().raw, protocol=b"chat", moves=2, state=b"s", source=1, given=3)


class MovedCase(PrimaryCase):
    """A cluster of two workers."""

    def come(self, sock: socket.socket | None = None) -> socket.socket:
        """Have a WebSocket come to the front desk; returns the client's end."""
        server, client = self.connected()
        handoff = Handoff(family=server.family, origin=Origin(PEER), prefix=b"\x81", replay=REPLAY)
        self.workers[0].desk.sendFileDescriptor(server.detach())
        self.workers[0].desk.write(pack_handoff(handoff))
        self.reactor.settle()
        return client


class FrontDeskTests(MovedCase):
    """The front desk."""

    def test_on_its_way(self) -> None:
        """A WebSocket goes to a worker that takes such, with all that it came with."""
        self.start()
        self.primary.pool.let_move(2)
        for _ in range(3):
            self.come()
            ((worker, handoff),) = self.taken()
            self.assertEqual((worker, handoff.replay, handoff.prefix), (2, REPLAY, b"\x81"))

    def test_drained(self) -> None:
        """The tag of a worker that leaves does not take a WebSocket back there."""
        self.start()
        for worker in (1, 2):
            self.primary.pool.let_move(worker)
        self.primary.pool.set_draining(1)
        self.come()
        self.assertEqual([worker for worker, _ in self.taken()], [2])

    def test_no_worker(self) -> None:
        """If no worker takes WebSockets that move, the client is told to come anew."""
        self.start()
        self.primary.supervisor.expects = lambda seconds: False  # type: ignore[method-assign]
        client = self.come()
        self.assertEqual(received(client), close_frame(1012))
        self.assertTrue(ended(client))

    def test_waits(self) -> None:
        """A WebSocket waits for a worker that is expected; no HTTP is spoken to it."""
        self.start()
        self.primary.supervisor.expects = lambda seconds: True  # type: ignore[method-assign]
        client, gone = self.come(), self.come()
        gone.shutdown(socket.SHUT_WR)
        self.reactor.settle()
        self.assertEqual(received(gone), b"")
        self.primary.pool.let_move(2)
        self.primary._unpark()
        self.reactor.settle()
        self.assertEqual([handoff.replay for _, handoff in self.taken()], [REPLAY])
        self.assertIsNone(received(client))


class UpgradeTests(MovedCase):
    """A new program takes the primary's place."""

    def test_packed(self) -> None:
        """A WebSocket that waits travels to the next program as a whole."""
        server, _ = self.pair()
        arrival = Arrival(server, Origin(PEER), data=b"\x81", replay=REPLAY)
        fields: Any = json.loads(json.dumps(packing.pack_arrival(arrival, packing.Descriptors())))
        os.set_inheritable(server.fileno(), True)
        server.detach()
        again = packing.unpack_arrival(fields)
        self.owned(again.sock)
        self.assertEqual((again.replay, again.data), (REPLAY, b"\x81"))
