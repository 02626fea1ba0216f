"""A server that speaks first: it says which process it is, and closes."""

from __future__ import annotations

import os

from twisted.internet.protocol import Factory, Protocol

GREETING = b"%d greets\n" % os.getpid()


class Greeting(Protocol):
    """Greets a client."""

    def connectionMade(self) -> None:
        self.transport.write(GREETING)
        self.transport.loseConnection()


site = Factory.forProtocol(Greeting)
site.noisy = False
