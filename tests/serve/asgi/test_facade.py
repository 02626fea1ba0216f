"""asyncio protocols on transports of Twisted."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.how import How
from txsticky.serve.asgi.facade import LIMITS, FacadeFactory, FacadeHost


class Inner(asyncio.Protocol):
    """An asyncio protocol that writes down what it is told."""

    transport: Any = None

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.calls.append(data)

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(("lost", exc))

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


class Gate:
    """The gate in the transport."""

    inner_paused = False
    withheld = 8

    def pause(self) -> None:
        self.inner_paused = True

    def resume(self) -> None:
        self.inner_paused = False


class Outside:
    """A transport of Twisted's kind, with a gate."""

    how = How.TAG

    def __init__(self, peer: Any = None) -> None:
        self.gate = Gate()
        self.peer = peer or IPv4Address("TCP", "192.0.2.1", 4711)
        self.calls: list[Any] = []
        self.producer: Any = None
        self.open = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def getPeer(self) -> Any:
        return self.peer

    def getHost(self) -> Any:
        return IPv4Address("TCP", "192.0.2.2", 443)

    def live(self) -> bool:
        return self.open

    def unsent(self) -> int:
        return 42

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def loseConnection(self) -> None:
        self.calls.append("lose")

    def abortConnection(self) -> None:
        self.calls.append("abort")


class FacadeTests(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        """Connect."""
        self.entered: list[How] = []
        self.inner, self.outside = Inner(), Outside()
        self.host = FacadeFactory(lambda: self.inner, self.entered.append).buildProtocol(None)
        self.host.makeConnection(self.outside)  # type: ignore[arg-type]

    def test_data(self) -> None:
        """Bytes reach the protocol, and before them how the request was routed."""
        self.host.dataReceived(b"bytes")
        self.assertEqual(self.inner.calls, ["made", b"bytes"])
        self.assertEqual(self.entered, [How.TAG])

    def test_nobody_wants_to_know(self) -> None:
        """The route need not be told."""
        host = FacadeHost(self.inner, None)
        host.makeConnection(self.outside)  # type: ignore[arg-type]
        host.dataReceived(b"bytes")
        self.assertEqual(self.inner.calls[-1], b"bytes")

    def test_addresses(self) -> None:
        """The protocol's transport knows both addresses, and that there is TLS."""
        transport = self.inner.transport
        self.assertEqual(transport.get_extra_info("peername"), ("192.0.2.1", 4711))
        self.assertEqual(transport.get_extra_info("sockname"), ("192.0.2.2", 443))
        self.assertTrue(transport.get_extra_info("sslcontext"))
        self.assertIsNone(transport.get_extra_info("socket"))

    def test_no_address(self) -> None:
        """A client over a UNIX socket has no address."""
        host = FacadeHost(self.inner, None)
        host.makeConnection(Outside(UNIXAddress(None)))  # type: ignore[arg-type]
        self.assertIsNone(self.inner.transport.get_extra_info("peername"))

    def test_output(self) -> None:
        """Writing, closing and aborting reach the transport."""
        transport = self.inner.transport
        transport.write(b"one")
        transport.write(bytearray(b"two"))
        transport.writelines([b"thr", b"ee"])
        transport.close()
        transport.abort()
        self.assertEqual(self.outside.calls, [b"one", b"two", b"three", "lose", "abort"])
        self.assertFalse(transport.is_closing())
        self.outside.open = False
        self.assertTrue(transport.is_closing())

    def test_backpressure(self) -> None:
        """The client's pace reaches the protocol, and the protocol's the client."""
        self.outside.producer.pauseProducing()
        self.outside.producer.resumeProducing()
        self.outside.producer.stopProducing()
        self.assertEqual(self.inner.calls, ["made", "pause", "resume"])
        transport = self.inner.transport
        self.assertTrue(transport.is_reading())
        transport.pause_reading()
        self.assertFalse(transport.is_reading())
        transport.resume_reading()
        self.assertTrue(transport.is_reading())

    def test_limits(self) -> None:
        """The limits are Twisted's, whatever is asked for; what is unsent is told."""
        transport = self.inner.transport
        transport.set_write_buffer_limits(high=1)
        self.assertEqual(transport.get_write_buffer_limits(), LIMITS)
        self.assertEqual(transport.get_write_buffer_size(), 50)

    def test_upgrade(self) -> None:
        """Another protocol can take over."""
        other = Inner()
        self.inner.transport.set_protocol(other)
        self.assertIs(self.inner.transport.get_protocol(), other)
        self.host.dataReceived(b"frame")
        self.assertEqual((self.inner.calls, other.calls), (["made"], [b"frame"]))

    def test_client_leaves(self) -> None:
        """A client that leaves is an end of file, and then a lost connection without an error."""
        self.host.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.inner.calls, ["made", "eof", ("lost", None)])

    def test_client_vanishes(self) -> None:
        """A connection that breaks is lost with the error."""
        error = ConnectionLost()
        self.host.connectionLost(Failure(error))
        self.assertEqual(self.inner.calls, ["made", ("lost", error)])
