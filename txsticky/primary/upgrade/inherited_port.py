"""A listening socket that the program before had opened."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from ...system.descriptors import own
from ...system.unix_port import identity as file_identity
from ...system.unix_port import remove


class InheritedPort:
    """
    A listening socket that the program before had opened, in place of an `IListeningPort`.

    :param descriptor: the socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._sock = socket.socket(fileno=own(descriptor))
        name = self._sock.getsockname()
        self._path = name if isinstance(name, str) else ""  # an abstract name is bytes
        self._file = file_identity(self._path)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def getHost(self) -> Any:
        """The address that is listened on."""
        name = self._sock.getsockname()
        if self._sock.family == socket.AF_UNIX:
            return UNIXAddress(name)
        return (IPv6Address if len(name) > 2 else IPv4Address)("TCP", *name)

    def stopListening(self) -> None:
        """Close; the file of a UNIX socket goes too, if it is still this socket's."""
        if self._sock.family == socket.AF_UNIX:
            remove(self._path, self._file)
        self._sock.close()
