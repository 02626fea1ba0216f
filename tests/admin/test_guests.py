"""How many connections the status site and the control socket may have."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from txsticky.admin import guests
from txsticky.admin.guests import Guests


class Ended(Protocol):
    """A protocol that notes what came and whether its connection has ended."""

    def __init__(self) -> None:
        self.got = b""
        self.ends = 0

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ends += 1


class GuestsTests(SynchronousTestCase):
    """A door for three."""

    def setUp(self) -> None:
        self.patch(guests, "descriptor_ceiling", lambda: 1000)
        self.door = Guests(Factory.forProtocol(Ended), 3)
        self.transports: list[StringTransport] = []
        self.protocols: list[Any] = []
        self.inside: list[Ended] = []

    def come(self) -> Any:
        """Connect; returns what stands between the transport and the protocol."""
        guest = self.door.buildProtocol(None)
        transport = StringTransport()
        guest.makeConnection(transport)
        self.transports.append(transport)
        self.protocols.append(guest)
        self.inside.append(guest.wrappedProtocol)
        return guest

    def aborted(self) -> list[int]:
        """The numbers, from 0, of the connections that were ended."""
        return [n for n, transport in enumerate(self.transports) if transport.disconnecting]

    def test_passes(self) -> None:
        """What comes reaches the protocol, and what the protocol writes reaches the transport."""
        guest = self.come()
        guest.dataReceived(b"question")
        self.assertEqual(guest.wrappedProtocol.got, b"question")
        guest.wrappedProtocol.transport.write(b"an")
        guest.wrappedProtocol.transport.writeSequence([b"sw", b"er"])
        self.assertEqual(self.transports[0].value(), b"answer")

    def test_one_more(self) -> None:
        """A connection too many ends the oldest, if nothing has passed over any; others stay."""
        for _ in range(5):
            self.come()
        self.assertEqual(self.aborted(), [0, 1])

    def test_in_use(self) -> None:
        """A connection over which something passes, either way, is newer than all that idle."""
        first, second, _ = self.come(), self.come(), self.come()
        first.dataReceived(b"question")
        second.wrappedProtocol.transport.write(b"answer")
        self.come()
        self.come()
        self.assertEqual(self.aborted(), [0, 2])

    def test_ended(self) -> None:
        """A connection that has ended makes room; its end is told once, whichever side ended it."""
        for _ in range(3):
            self.come()
        self.protocols[1].connectionLost(None)
        self.come()
        self.assertEqual(self.aborted(), [])
        self.come()
        self.protocols[0].write(b"late")
        self.protocols[0].connectionLost(None)
        self.come()
        self.assertEqual(self.aborted(), [0, 2])
        self.assertEqual([protocol.ends for protocol in self.inside], [1, 1, 0, 0, 0, 0])

    def test_few_descriptors(self) -> None:
        """A door takes an eighth of few descriptors, and one connection at least."""
        self.patch(guests, "descriptor_ceiling", lambda: 16)
        for _ in range(4):
            self.come()
        self.assertEqual(self.aborted(), [0, 1])
        self.patch(guests, "descriptor_ceiling", lambda: 3)
        self.come()
        self.assertEqual(self.aborted(), [0, 1, 2, 3])
