"""
The control socket: one JSON object in a line each way.

``{"verb": "drain", "worker": 2}`` is answered with ``{"ok": true, "text": ...}`` and what the verb
shows, or with ``{"ok": false, "error": ...}``, a sentence for the operator.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import ListenError
from .guests import Guests
from .steering import Answer

#: Seconds after which a silent client is hung up on.
PATIENCE: Final = 60.0
BACKLOG: Final = 16
#: Connections that there may be.
GUESTS: Final = 32


@implementer(IPushProducer)
class ControlConnection(LineReceiver, TimeoutMixin):
    """
    One connection of an operator.  Nothing more is answered while its answers are not taken.

    :param answer: answers a line.
    """

    delimiter = b"\n"
    MAX_LENGTH = 4096
    transport: Any

    def __init__(self, answer: Callable[[bytes], Answer]) -> None:
        self._answer = answer

    def connectionMade(self) -> None:
        """Wait, but not for ever."""
        self.setTimeout(PATIENCE)
        self.transport.registerProducer(self, True)  # it pauses, and resumes, what is read

    def lineReceived(self, line: bytes) -> None:
        """A request has come."""
        if self.transport.disconnecting:
            return
        self.resetTimeout()
        self._send(self._answer(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """It is too long to be one."""
        self._send({"ok": False, "error": f"A request has at most {self.MAX_LENGTH} bytes."})
        self.transport.loseConnection()

    def timeoutConnection(self) -> None:
        """The operator is silent, or does not take the answers."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The operator has gone."""
        self.setTimeout(None)

    def _send(self, answer: Answer) -> None:
        self.transport.write(json.dumps(answer).encode() + b"\n")


class _Factory(Factory):
    noisy = False

    def __init__(self, answer: Callable[[bytes], Answer]) -> None:
        self._answer = answer

    def buildProtocol(self, addr: IAddress | None) -> ControlConnection:
        return ControlConnection(self._answer)

    def logPrefix(self) -> str:
        return "txsticky control"


class _Port(unix.Port):
    """A listening UNIX socket that at its end removes its own file, and no other's."""

    _identity: tuple[int, int] | None = None

    def startListening(self) -> None:
        before = os.umask(0o177)  # the file gets its mode when it is made, not a moment later
        try:
            super().startListening()
        finally:
            os.umask(before)
        self._identity = _identity(os.fsdecode(self.getHost().name))

    def connectionLost(self, reason: object) -> None:
        path = os.fsdecode(self.getHost().name)
        if self._identity is not None and _identity(path) == self._identity:
            os.unlink(path)
        tcp.Port.connectionLost(self, reason)


def _identity(path: str) -> tuple[int, int] | None:
    """Tell a file from another one of the same name."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def listen(path: str, answer: Callable[[bytes], Answer], reactor: Any) -> IListeningPort:
    """
    Open the control socket, for this user alone.

    A socket that nobody answers at, left by a cluster that was killed, is replaced.

    :param answer: answers a line.
    :raises ListenError: another cluster answers there, or it cannot be.
    """
    factory = Guests(_Factory(answer), GUESTS)
    port = _Port(os.fsencode(path), factory, BACKLOG, 0o600, reactor)
    directory = -1
    try:
        # Two clusters that start at the same moment look one after the other.
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        _make_room(path)
        port.startListening()
    except (OSError, CannotListenError) as error:
        cause = getattr(error, "socketError", error)
        reason = getattr(cause, "strerror", None) or str(cause)
        raise ListenError(endpoint=f"{path} (--control)", reason=reason) from None
    finally:
        if directory >= 0:
            os.close(directory)
    return port


def _make_room(path: str) -> None:
    """
    Remove a socket that nobody answers at.

    :raises OSError: somebody does, or it is none.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file there that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (BlockingIOError, TimeoutError):
            pass  # it is busy, hence alive
    raise OSError(errno.EADDRINUSE, "another cluster answers there")
