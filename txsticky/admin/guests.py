"""
How many connections the operator's own doors may have: the status site's and the control socket's.

They are served by the primary, whose descriptors are for the clients of the public ports.
"""

# twisted.protocols.policies has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from ..system.descriptors import descriptor_ceiling

#: The share of the primary's descriptors that one door may have at most.
SHARE = 1 / 8


class Guest(ProtocolWrapper):
    """One connection; what passes over it shows that it is in use."""

    factory: Guests

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, which show that the connection is in use (`IProtocol`)."""
        self.factory.stirred(self)
        super().dataReceived(data)

    def write(self, data: bytes) -> None:
        """Send bytes, which show that the connection is in use (`ITransport`)."""
        self.factory.stirred(self)
        super().write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send the pieces."""
        self.factory.stirred(self)
        super().writeSequence(data)


class Guests(WrappingFactory):
    """
    A factory of so many connections: one more closes the one that was silent for longest.

    So neither clients that idle nor those of a fault keep the operator out.

    :param factory: makes the protocols.
    :param most: how many connections there may be, where the limit of open files allows for it.
    """

    protocol = Guest
    noisy = False

    def __init__(self, factory: Any, most: int) -> None:
        super().__init__(factory)
        self._most = most

    def logPrefix(self) -> str:
        """What Twisted's log calls it."""
        return str(self.wrappedFactory.logPrefix())

    def registerProtocol(self, p: Any) -> None:
        """Take in a connection; of too many, close the one that was silent for longest."""
        super().registerProtocol(p)
        most = max(1, min(self._most, int(descriptor_ceiling() * SHARE)))
        while len(self.protocols) > most:
            longest = next(iter(self.protocols))
            del self.protocols[longest]
            longest.abortConnection()

    def unregisterProtocol(self, p: Any) -> None:
        """Forget a connection that has ended."""
        self.protocols.pop(p, None)

    def stirred(self, guest: Guest) -> None:
        """Note that something passes over a connection."""
        if self.protocols.pop(guest, None) is not None:
            self.protocols[guest] = 1
