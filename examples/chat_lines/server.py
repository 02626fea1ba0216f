"""A chat by lines of text, for `nc localhost 8080`: a protocol that is not HTTP.

    twist txsticky --workers 4 --interface protocol --sticky ip server:factory

There is no request to look into, so the client's address decides, and the server may speak first:
the connection is handed over as soon as it is accepted. All clients at one address are on one
worker; what is said goes over the bus to all.
"""

from __future__ import annotations

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

import txsticky


class Talker(LineReceiver):
    """One who talks."""

    delimiter = b"\n"
    MAX_LENGTH = 2000

    def connectionMade(self) -> None:
        self.here = txsticky.current()
        self.sendLine(b"You are on worker %d." % self.here.slot)
        self.leave = self.here.subscribe("lines", self.sendLine)

    def lineReceived(self, line: bytes) -> None:
        self.here.publish("lines", b"worker %d: %s" % (self.here.slot, line.rstrip(b"\r")))

    def connectionLost(self, reason: object) -> None:
        self.leave()


factory = Factory.forProtocol(Talker)
