"""
The channel: the control stream between the primary and one worker.

Ready, load, bind, drain and publish travel here, apart from the hand-offs, so that a flood of one
cannot delay the other.  A channel writes at once when it can: what was written before something
else happened is in the kernel before it happens, and :meth:`Channel.read_now` takes in what is
there without waiting for the reactor. Together they make "bound before the response leaves" true in
every worker (see docs/how-it-works.rst).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import main
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..core.messages.frames import Frame, FrameReader, Language, encode
from ..errors import WireError

#: The longest control frame, in bytes. It bounds a bus message.
FRAME_LIMIT = 8 << 20
#: Bytes that may wait for a slow reader before `behind` says so: nothing that may be dropped, or
#: that a later frame replaces, is sent then.
HIGH_WATER = 4 << 20
#: Bytes that may wait before `full` says so: nothing at all is sent then that comes in numbers. It
#: has room for a whole table of bindings above the high water.
FULL = 24 << 20
_READ = 1 << 16


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Make a channel: two equal ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ours, theirs


@implementer(IReadWriteDescriptor)
class Channel:
    """
    One end of a channel.

    :param sock: the end; owned from here on.
    :param reactor: an `IReactorFDSet`.
    :param language: what the other end says.
    :param received: called with each frame.
    :param lost: called once when the channel has ended.
    :param relieved: called each time that the reader, having been behind, is so no longer.
    """

    _log = Logger()

    def __init__(
        self,
        sock: socket.socket,
        reactor: Any,
        language: Language,
        received: Callable[[Frame], None],
        lost: Callable[[], None],
        relieved: Callable[[], None] = lambda: None,
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.reactor = reactor
        self.connected = True
        self._backlog = bytearray()
        self._frames = FrameReader(language, FRAME_LIMIT)
        self._received = received
        self._lost = lost
        self._relieved = relieved
        self._took = 0
        self._busy = False

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """A name for the log."""
        return "channel"

    # ---------------------------------------------------------------- sending

    def send(self, frame: Frame) -> None:
        """Send one frame, into the kernel at once unless others wait already."""
        self.write(encode(frame))

    @property
    def waiting(self) -> int:
        """Bytes that wait here for a slow reader."""
        return len(self._backlog)

    @property
    def behind(self) -> bool:
        """Whether the reader is so slow that nothing that may be dropped should be sent to it."""
        return len(self._backlog) > HIGH_WATER

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing more is to be added, whatever it is."""
        return len(self._backlog) > FULL

    def write(self, data: bytes) -> None:
        """Write now as much as the kernel takes; the rest when it takes more."""
        if not self.connected:
            return
        if self._backlog:
            self._backlog += data
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.reactor.callLater(0, self.connectionLost, Failure(main.CONNECTION_LOST))
            return
        if sent < len(data):
            self._backlog += data[sent:]
            self.reactor.addWriter(self)

    def doWrite(self) -> Any:
        """Write what waited."""
        was_behind = self.behind
        try:
            del self._backlog[: self.socket.send(self._backlog)]
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not self._backlog:
            self.reactor.removeWriter(self)
        if was_behind and not self.behind:
            self._relieved()
        return None

    # -------------------------------------------------------------- receiving

    def startReading(self) -> None:
        """Begin to take frames."""
        self.reactor.addReader(self)

    def doRead(self) -> Any:
        """Take what is there, frame by frame."""
        self._took = 0
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self._took = len(data)
        try:
            frames = self._frames.feed(data)
        except WireError as error:
            self._log.error("The control channel is closed: {error}", error=error)
            return main.CONNECTION_LOST
        self._busy = True
        for frame in frames:
            try:
                self._received(frame)
            except Exception:
                self._log.failure(
                    "A control frame ({kind}) could not be dealt with.",
                    kind=type(frame).__name__,
                )
        self._busy = False
        return None

    def read_now(self) -> None:
        """Take in all that the other side has written so far, without waiting for the reactor."""
        while (
            self.connected and not self._busy
        ):  # frames are dealt with in their order, never nested
            why = self.doRead()
            if why is not None:
                self.connectionLost(Failure(why))
            if not self._took:
                return

    # -------------------------------------------------------- changing the program

    def unfinished(self) -> tuple[bytes, bytes]:
        """What was not sent, and the part of a frame that was received."""
        return bytes(self._backlog), self._frames.remainder

    def go_on(self, unsent: bytes, received: bytes) -> None:
        """Begin where another program stopped (`unfinished`)."""
        self._frames.feed(received)
        if unsent:
            self._backlog += unsent
            self.reactor.addWriter(self)

    # ---------------------------------------------------------------- closing

    def connectionLost(self, reason: Failure) -> None:
        """End the channel: the other side has closed it, or is gone."""
        if not self.connected:
            return
        self.connected = False
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        self.socket.close()
        self._lost()

    def close(self) -> None:
        """Close this end without being told of it."""
        self._lost = lambda: None
        if self.connected:
            self.connectionLost(Failure(main.CONNECTION_DONE))
