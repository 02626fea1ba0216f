"""Connections without a gate."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.protocol import Factory

from tests.transport.cases import ConnectionCase, Inner
from txsticky.transport.adopt import adopt, begin
from txsticky.transport.plain import PlainServer, PlainUNIXServer


class PlainTests(ConnectionCase):
    """What a worker hears of a connection without a gate."""

    def heard(self, prefix: bytes = b"") -> list[Any]:
        """What the worker hears of a connection, on TCP and alike on a UNIX socket."""
        heard = []
        for peer, make, ends in (
            (("192.0.2.7", 1), PlainServer, self.connected()),
            (("", 0), PlainUNIXServer, self.pair()),
        ):
            factory = Factory.forProtocol(Inner)
            transport = adopt(self.reactor, ends[0], peer, factory, make, 1)
            connection = transport.connection = mock.Mock()
            begin(transport, prefix)
            self.assertEqual(transport.protocol.data, prefix)
            connection.mock_calls.append("client closes")
            ends[1].close()
            self.until(lambda transport=transport: not transport.connected)
            heard.append(connection.mock_calls)
        self.assertEqual(heard[0], heard[1])
        return heard[0]

    def test_brought_nothing(self) -> None:
        """All is delivered from the beginning of a connection that brought nothing."""
        self.assertEqual(self.heard(), [mock.call.delivered(), "client closes", mock.call.closed()])

    def test_brought_bytes(self) -> None:
        """The worker is told once when the bytes are delivered which the connection brought."""
        told = [mock.call.delivered(), "client closes", mock.call.closed()]
        self.assertEqual(self.heard(b"hello"), told)
