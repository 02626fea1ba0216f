"""
The outgoing half of a gate: what the protocol inside writes, and how the connection ends.

Responses are followed to their ends, for there the connection may leave; they wait for bindings
that are not confirmed; and whatever ends the connection lets the written bytes leave first.
"""

from __future__ import annotations

import attrs

from ..core.http.conversation import Conversation
from ..core.http.websocket.frames import SERVICE_RESTART, close_frame
from .ending import last_word, tell_surplus
from .half_close import HalfClose
from .host import Cancelable, Host
from .nowhere import NOWHERE
from .policy import Policy
from .websockets.mover import Mover
from .websockets.upgrading import Upgrading
from .withheld import Withheld


@attrs.frozen(eq=False)
class Elsewhere:
    """
    Bytes of a content of known length that are not here: only how many matters to what follows.

    :param size: how many.
    """

    size: int

    def __len__(self) -> int:
        return self.size


class Output:
    """
    The outgoing half of one connection's gate.

    :param host: the transport.
    :param policy: the worker's policy.
    :param exchange: follows the conversation.
    :param client: the client's address, as the transport's peer.
    :param secure: whether the client came over TLS.
    :ivar closing: the connection is closed once its output has left.
    :ivar leaving: the connection goes to another process once its output has left.
    :ivar upgrading: the handshake of a WebSocket whose response is not complete.
    :ivar mover: follows a WebSocket that may move.
    """

    __slots__ = (
        "_call",
        "_half_close",
        "_pumping",
        "_stopped",
        "_withheld",
        "client",
        "closing",
        "exchange",
        "host",
        "leaving",
        "mover",
        "policy",
        "secure",
        "upgrading",
    )

    def __init__(
        self, host: Host, policy: Policy, exchange: Conversation, client: str, secure: bool
    ) -> None:
        self.host = host
        self.policy = policy
        self.exchange = exchange
        self.client = client
        self.secure = secure
        self.closing = False
        self.leaving = False
        self.upgrading: Upgrading | None = None
        self.mover: Mover | None = None
        #: The gate itself has stopped the reading.
        self._stopped = False
        self._pumping = False
        #: What comes next from the reactor: to pump, or, once the gate is closing, to close.
        self._call: Cancelable | None = None
        #: Watches the client once it has closed its sending side.
        self._half_close: HalfClose | None = None
        self._withheld: Withheld | None = None

    def pump(self) -> None:
        """Give the protocol inside what it is to see now."""
        raise NotImplementedError

    def pump_soon(self) -> None:
        """Pump from the reactor: never inside the protocol's own write."""
        if self._call is None and not self._pumping:
            self._call = self.host.later(0, self._pump_now)

    def _pump_now(self) -> None:
        self._call = None
        if self.host.live():
            self.pump()

    # ----------------------------------------------------------------- output

    def wrote(self, data: bytes) -> bytes:
        """
        Follow what the protocol inside writes.

        :returns: what is to be sent now.
        """
        data = self._follow(data)
        if self.policy.bindings.unconfirmed or self._withheld is not None:
            return self._withhold(data)
        return data

    @property
    def withholds(self) -> bool:
        """Whether output is withheld now, until bindings are confirmed."""
        return bool(self.policy.bindings.unconfirmed) or self._withheld is not None

    def sent(self, count: int) -> None:
        """Follow content that the host has sent by itself: so many bytes of it."""
        self._follow(Elsewhere(count))  # type: ignore[arg-type]

    def _follow(self, data: bytes) -> bytes:
        exchange, policy = self.exchange, self.policy
        if self._half_close is not None:
            self._half_close.wrote()
        if not exchange.tunnel:
            was_open = exchange.request_open
            had_surplus = not was_open and exchange.surplus  # with surplus, none is opened
            upgrading = self.upgrading
            followed = exchange.wrote(data) if upgrading is None else upgrading.wrote(self, data)
            if not exchange.request_open:
                if was_open and exchange.replay is None:
                    policy.request_done()
                # Behind what a client calls its last request the protocol inside closes by itself.
                over = exchange.over and not exchange.last
                if over or exchange.held or self._stopped or policy.draining:
                    self.pump_soon()
            if followed is not data:
                data = followed
                if exchange.surplus and not had_surplus:
                    tell_surplus(exchange.request_line)
        elif self.mover is not None:
            self.mover.wrote(data)
        return data

    def _answer(self, data: bytes) -> None:
        """Answer in the place of the protocol inside."""
        if self._withheld is not None:
            self._withheld.add(data)
        elif data:
            self.host.send(data)

    def hold(self) -> None:
        """Leave the client's bytes in the kernel, whatever the protocol inside wants."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Read the client's bytes again, if the protocol inside wants them."""
        raise NotImplementedError

    def _withhold(self, data: bytes) -> bytes:
        """Keep the response until every binding made before it is known everywhere."""
        if self._withheld is None:
            when_confirmed = self.policy.bindings.when_confirmed
            self._withheld = Withheld(self.host, when_confirmed, self._released)
        self._withheld.add(data)
        return b""

    def _released(self) -> None:
        self._withheld = None

    @property
    def withheld(self) -> int:
        """Bytes of output that wait for bindings to be confirmed."""
        return 0 if self._withheld is None else self._withheld.size

    def may_close(self) -> bool:
        """
        Begin to close: the protocol inside, or the gate, wants the end.

        :returns: whether the host may close now. If not, output is withheld: the connection is
            closed once that is sent, and nothing is read until then.
        """
        self.closing = True
        if self.upgrading is not None and self.upgrading.moved and self.host.live():
            self._answer(close_frame(SERVICE_RESTART))
            self.upgrading = None
        if self._withheld is None:
            return True
        self._stopped = True
        self.host.stop_reading()
        self._withheld.then(self.host.hang_up)
        return False

    # ---------------------------------------------------------------- the end

    def finish(self) -> None:
        """Close the connection after what was written."""
        if self.host.live() and self.may_close():
            self.host.hang_up()

    def _pump_no_more(self) -> None:
        """Call off the pump: the gate is closing, and the reactor's next call is another."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def stalled(self, answer: bytes) -> None:
        """
        End the connection: the client has paused for too long.

        :param answer: what the client is told if its request was not yet answered (RFC 9110,
            section 15.5.9).
        """
        exchange, host = self.exchange, self.host
        told = not exchange.body_due or exchange.response_started or self._withheld
        self.closing = self._stopped = True
        if told or not host.live():
            host.gone()
            return
        if self._half_close is not None:
            self._half_close.cancel()
        self._pump_no_more()
        self._call = last_word(host, answer)

    def closed(self) -> None:
        """Let go of everything: the connection is over here, and no delayed call may come."""
        for call in (self._call, self._half_close):
            if call is not None:
                call.cancel()
        self._call = self._half_close = None
        if self.mover is not None:
            self.mover.cancel()
        if self._withheld is not None:
            self._withheld.drop()
            self._withheld = None
        self.host = self.policy = NOWHERE
