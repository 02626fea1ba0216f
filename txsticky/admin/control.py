"""
The control socket: one JSON object in a line each way.

``{"verb": "drain", "worker": 2}`` is answered with ``{"ok": true, "text": ...}`` and what the verb
shows, or with ``{"ok": false, "error": ...}``, a sentence for the operator. Programs also say
``{"verb": "publish", "topic": ..., "message": ...}``, the message in base64 (`ipc.outside`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from ..core.messages.frames import TOPIC_LIMIT
from ..errors import ListenError
from ..ipc.outside import MESSAGE_LIMIT
from ..system import unix_port as unixport
from ..system.unix_port import UNIXPort
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
    #: A message in base64, with its topic, escaped as JSON.
    MAX_LENGTH = 4 * MESSAGE_LIMIT // 3 + 6 * TOPIC_LIMIT + 1024
    transport: Any

    def __init__(self, answer: Callable[[bytes], Answer]) -> None:
        self._answer = answer

    def connectionMade(self) -> None:
        """Wait, but not for ever."""
        self.setTimeout(PATIENCE)
        self.transport.registerProducer(self, True)  # it pauses, and resumes, what is read

    def lineReceived(self, line: bytes) -> None:
        """Answer a request (`LineReceiver`)."""
        if self.transport.disconnecting:
            return
        self.resetTimeout()
        self._send(self._answer(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long for a request (`LineReceiver`)."""
        self._send({"ok": False, "error": f"A request has at most {self.MAX_LENGTH} bytes."})
        self.transport.loseConnection()

    def timeoutConnection(self) -> None:
        """Hang up: the operator is silent, or does not take the answers."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop the clock: the operator has gone (`IProtocol`)."""
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


def listen(path: str, answer: Callable[[bytes], Answer], reactor: Any) -> IListeningPort:
    """
    Open the control socket, for this user alone.

    A socket at which no cluster answers, left by one that was killed, is replaced.

    :param answer: answers a line.
    :raises ListenError: another process answers there, or it cannot be.
    """
    factory = Guests(_Factory(answer), GUESTS)
    port = UNIXPort(path, factory, BACKLOG, 0o600, reactor)
    try:
        return unixport.listen(port)
    except CannotListenError as error:
        cause = error.socketError
        reason = getattr(cause, "strerror", None) or str(cause)
        raise ListenError(endpoint=f"{path} (--control)", reason=reason) from None
