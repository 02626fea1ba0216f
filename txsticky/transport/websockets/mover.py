"""
The mover: follows a WebSocket that may move, and takes it away between two messages.

When its worker leaves, the input is held at the end of a message. Once the application has dealt
with what it got, no message is under way to the client, and all output is in the kernel, the
connection departs: with what was held, and with its passport, by which the next worker is shown the
handshake again. An application that takes long gets its input again meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ...core.http.conversation import Conversation
from ...core.http.websocket.frames import Frames
from ...core.http.websocket.passport import Passport
from ..host import Cancelable, Host
from .movements import WebSockets

#: Seconds between two looks whether a WebSocket whose input is held can go. The first comes after
#: one of these as well, if messages came: what an application answers later is not lost.
SETTLE: Final = 0.02
#: Looks for which the input is held, and seconds for which it then is not.
LOOKS: Final = 100
REST: Final = 0.5
#: Bytes of the client's that may be held: they travel in one message, with a whole head.
MOST_HELD: Final = 131072


class Movable(Protocol):
    """
    What a mover needs of its gate.

    :ivar client: the client's address, as the transport's peer.
    :ivar closing: the connection is closed once its output has left.
    :ivar leaving: it goes to another process once its output has left.
    """

    host: Host
    exchange: Conversation
    client: str
    closing: bool
    leaving: bool

    @property
    def withholds(self) -> bool:
        """Whether output waits for a binding to be confirmed."""

    def hold(self) -> None:
        """Leave the client's bytes in the kernel, whatever the protocol inside wants."""

    def go_on(self) -> None:
        """Read the client's bytes again, if the protocol inside wants them."""

    def closed(self) -> None:
        """Let go of everything."""


class Mover:
    """
    Follows one WebSocket.

    :param gate: the gate that watches the connection.
    :param movements: what the worker knows of moves.
    :param passport: what the WebSocket moves with.
    :param compressed: whether its messages may be compressed.
    :ivar passport: the same.
    """

    __slots__ = (
        "_call",
        "_gate",
        "_held",
        "_holding",
        "_input",
        "_insists",
        "_looks",
        "_movements",
        "_output",
        "_wanted",
        "passport",
    )

    def __init__(
        self, gate: Movable, movements: WebSockets, passport: Passport, compressed: bool
    ) -> None:
        self.passport = passport
        self._gate = gate
        self._movements = movements
        self._input = Frames(masked=True, compressed=compressed)
        self._output = Frames(masked=False, compressed=compressed)
        self._call: Cancelable | None = None
        #: Whether the input is to be held at the end of a message, or is.
        self._wanted = self._holding = False
        #: Whether the time is nearly over, and what the application is doing does not matter.
        self._insists = False
        self._held = b""
        self._looks = 0

    @property
    def follows(self) -> bool:
        """Whether it is known where messages end: nothing odd and no close frame was seen."""
        return not (self._input.over or self._output.over)

    # ---------------------------------------------------------------- what flows

    def arrived(self, data: bytes) -> None:
        """Take bytes from the client: deliver them, or hold them."""
        if self._holding:
            self._held += data
        elif self._wanted:
            at = self._input.feed_message(data)
            if len(data) - at > MOST_HELD:
                self._input.feed(data[at:])
                at = len(data)
            self._gate.host.deliver(data[:at])
            self._held = data[at:]
            if self._gate.host.live():
                self._hold_if_between()
        else:
            self._input.feed(data)
            self._gate.host.deliver(data)

    def wrote(self, data: bytes) -> None:
        """Follow what goes to the client."""
        self._output.feed(data)

    # ------------------------------------------------------------------- leaving

    def leave(self) -> bool:
        """
        Leave as soon as that is possible.

        :returns: whether the WebSocket may: if not, it is to be closed.
        """
        if not self.follows:
            return False
        if self._call is None and not self._wanted:
            self._later(self._movements.turn(), self._begin)
        return True

    def insist(self) -> bool:
        """
        Leave at the next end of a message, whatever the application is doing.

        :returns: whether the WebSocket may leave: if not, it is to be closed.
        """
        if not self.follows:
            return False
        if not self._gate.leaving:
            self._insists = True
            self.cancel()
            (self._look if self._holding else self._begin)()
        return True

    def leave_now(self) -> bool:
        """
        Leave now if that is possible, whatever the application is doing.

        :returns: whether the WebSocket leaves. If not, its input flows again.
        """
        if self._gate.leaving:
            return True
        self.cancel()
        if self._input.between and self._may_go() and not self._gate.host.unsent():
            self._go()  # which departs at once, for nothing is left to send
        else:
            self._release()
        return self._gate.leaving

    def cancel(self) -> None:
        """Make no more calls."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._call = self._gate.host.later(seconds, action)

    def _begin(self) -> None:
        self._call = None
        if self._movements.possible:
            self._wanted = True
            self._hold_if_between()
        else:
            self._later(REST, self._begin)

    def _hold_if_between(self) -> None:
        if not self.follows:
            self._release()
        elif self._input.between:
            self._holding = True
            self._looks = 0
            self._gate.hold()
            soon = self._insists or not self._input.messages
            self._later(0.0 if soon else SETTLE, self._look)

    def _look(self) -> None:
        self._call = None
        self._looks += 1
        dealt_with = self._insists or self._dealt_with()
        patient = self._insists or self._looks < LOOKS
        if dealt_with and self._may_go():
            self._go()
        elif patient and self.follows and not self._gate.closing:
            self._later(SETTLE, self._look)
        else:
            self._release()
            if self.follows and self._gate.host.live():
                self._later(REST, self._begin)

    def _dealt_with(self) -> bool:
        """Whether the application has dealt with what it got, as far as can be told."""
        settled = self._gate.host.settled(self._input.messages)
        return settled and not self.passport.at_work

    def _may_go(self) -> bool:
        gate = self._gate
        still = self._output.between and not gate.withholds and len(self._held) <= MOST_HELD
        return still and self.follows and not gate.closing and self._movements.possible

    def _release(self) -> None:
        """Let the input flow again."""
        self._wanted = self._holding = False
        held, self._held = self._held, b""
        if self._gate.host.live():
            if held:
                self.arrived(held)
            self._gate.go_on()

    def _go(self) -> None:
        self._gate.leaving = True
        self._gate.host.flush(self._depart)

    def _depart(self) -> None:
        """Depart unless something has happened meanwhile: all output is in the kernel."""
        gate = self._gate
        host = gate.host
        if gate.closing or not host.live():
            return
        place = 0
        if self._may_go() and not host.unsent():
            place = self._movements.heir(self.passport)
        if not place:
            gate.leaving = False
            self._release()
            self._later(REST, self._begin)
            return
        held = gate.exchange.let_go() + self._held
        gate.closed()
        host.depart(place, held)
