"""
The gate, in a worker: watches the request boundaries between a connection and its protocol.

At each boundary the next request's head is looked at before the protocol sees a byte of it.  A
request that belongs to another worker takes the connection there: once the previous response is
wholly in the kernel, the descriptor and the unread bytes are given away, and to the protocol an
idle client has left.  What a request or a response is, and where it ends, `core.http.conversation`
decides; whose it is, the `Policy`; how bytes flow, the `Host`.
"""

from __future__ import annotations

from ..core.how import How
from ..core.http.conversation import Conversation
from ..core.http.head import Head
from ..core.http.steps import MEMORABLE, Ask, Begin, Content, Refuse
from ..core.routing.verdict import FRONT_DESK, KEEP, Give, GiveBack, Keep
from .ending import linger, refused
from .half_close import HalfClose
from .host import Host
from .output import Output
from .policy import Policy
from .websockets.upgrading import upgrading

#: How a request is routed that is told from others without a look at what came before it.
_PINNED = How.TAG, How.HASH


class Gate(Output):
    """
    Watches one connection. What goes out, and the end, are in `Output`.

    :ivar inner_paused: the protocol inside wants no input.
    :ivar come: how many bytes have come, but for requests that came alone and whole.
    """

    __slots__ = ("come", "inner_paused")

    def __init__(
        self, host: Host, policy: Policy, exchange: Conversation, client: str, secure: bool
    ) -> None:
        Output.__init__(self, host, policy, exchange, client, secure)
        self.inner_paused = False
        self.come = 0

    # ------------------------------------------------------------------ input

    def arrived(self, data: bytes) -> None:
        """Take bytes from the client."""
        exchange = self.exchange
        if exchange.tunnel and not exchange.held:
            if self.mover is None:
                self.host.deliver(data)
            else:
                self.mover.arrived(data)
            return
        if len(data) <= MEMORABLE and self._took_short_cut(data):
            return
        self.come += len(data)
        exchange.feed(data)
        self.pump()
        if exchange.over_hold and not self._stopped and self.host.live():
            self._stopped = True
            self.host.stop_reading()

    def _took_short_cut(self, data: bytes) -> bool:
        """Do what is known to be done with a request, if this is one; as behind the long way."""
        exchange, policy, host = self.exchange, self.policy, self.host
        if self.leaving or self.closing or self.inner_paused:
            return False
        head_end = data.find(b"\r\n\r\n") + 4
        head = data if head_end == len(data) else data[:head_end]
        known = policy.known.get(head)
        if known is None:
            given = policy.given.get(head)
            if given is None or not exchange.idle or exchange.first_is_ours or self._pumping:
                return False
            self.come += len(data)
            exchange.feed(data)
            host.how = given.how
            self.leave(given.worker)
            return True
        if known.size != len(data):
            return False
        how = known.how
        # Where the address decides, this connection's may lead elsewhere by now.
        unsure = how is How.HASH and not exchange.first_is_ours
        if unsure and policy.hosts.get(self.client) is not KEEP[how]:
            return False
        if (step := exchange.begin(known, data, how is host.how and how in _PINNED)) is None:
            return False
        host.how = how
        self._pumping = True
        try:
            if step.__class__ is Begin:
                host.tell(step)
            else:
                host.deliver(data)
        finally:
            self._pumping = False
        if exchange.held or self._stopped or self.policy.draining:
            self.pump()
        return True

    def ended(self) -> bool:
        """
        Take note that the client has closed its sending side.

        A request that is wholly here is answered first (RFC 9112 section 9.6 wants the response
        sent), and what was written is sent.

        :returns: whether the connection is to be lost now.
        """
        exchange = self.exchange
        owed = exchange.request_open and exchange.finished_request
        owed = owed or bool(exchange.held and self.inner_paused)
        if not (owed or self._withheld or self.host.unsent()) or self.host.severed():
            return True
        self._stopped = True
        self.host.stop_reading()
        self._half_close = HalfClose(self.host, exchange, lambda: self._withheld is not None)
        if owed:
            self._half_close.watch()
        else:
            self.finish()
        return False

    def pump(self) -> None:
        """Give the protocol inside what it is to see now."""
        if self._pumping or self.leaving:
            return
        self._pumping = True
        exchange, host = self.exchange, self.host
        try:
            while host.live() and not (self.inner_paused or self.closing):
                step = exchange.next()
                if step is None:
                    break
                if isinstance(step, Ask):
                    if not step.first:
                        verdict = self.policy.whose(step.head, self.client)
                        host.how = verdict.how
                        match verdict:
                            case Keep():
                                pass
                            case Give(worker):
                                self.leave(worker)
                                return
                            case GiveBack():
                                self.leave(FRONT_DESK)
                                return
                    self._keep(step.head)
                elif isinstance(step, Begin | Content):
                    host.tell(step)
                elif isinstance(step, Refuse):
                    self._answer(refused(step))
                elif self.mover is None:
                    host.deliver(step.data)
                else:
                    self.mover.arrived(step.data)
        finally:
            self._pumping = False
        self._after_pump()

    def _keep(self, head: Head) -> None:
        """Serve the request here; what follows the handshake of a WebSocket may move."""
        if not self.secure:
            self.upgrading = upgrading(self, self.policy.movements, head)
        additions = self.policy.additions(
            head, self.client, self.secure, self.host.how, not self.served
        )
        self.exchange.keep(additions, b"" if self.upgrading is None else self.upgrading.lines)

    def _after_pump(self) -> None:
        exchange, host = self.exchange, self.host
        if self.closing or not host.live():
            return
        if self._half_close is not None:
            if not ((exchange.request_open and exchange.finished_request) or self.inner_paused):
                self.finish()
            return
        if exchange.over:
            if self.may_close():
                self._stopped = False
                self._pump_no_more()
                self._call = linger(host)
            return
        if self.policy.draining:
            self.drain()
            if self.leaving or self.closing:
                return
        if self._stopped and not exchange.over_hold:
            self._stopped = False
            if not self.inner_paused:
                host.start_reading()

    def pause(self) -> None:
        """Stop the input: the protocol inside wants none."""
        self.inner_paused = True
        self.host.stop_reading()

    def resume(self) -> None:
        """Go on with the input: the protocol inside wants it again."""
        self.inner_paused = False
        self._read_on()

    def hold(self) -> None:
        """Leave the client's bytes in the kernel, whatever the protocol inside wants."""
        self._stopped = True
        self.host.stop_reading()

    def go_on(self) -> None:
        """Read the client's bytes again, if the protocol inside wants them."""
        self._stopped = False
        self._read_on()

    def _read_on(self) -> None:
        if not (self.inner_paused or self._stopped or self.leaving):
            self.host.start_reading()
        if self.exchange.held:
            self.pump_soon()

    # ---------------------------------------------------------------- leaving

    def drain(self) -> bool:
        """
        Give the connection away if it is idle: the worker is leaving.

        A WebSocket that may move leaves between two messages.

        :returns: whether it was idle, or may move.
        """
        if self.leaving or self.closing or not self.host.live():
            return False
        if self.mover is not None:
            return self.mover.leave()
        if self.exchange.idle:
            self.leave(FRONT_DESK)
            return True
        return False

    def leave(self, place: int) -> None:
        """Give the connection to `place` once all output is in the kernel."""
        # From here on nothing is read or delivered, or this might not stay a boundary.
        self.leaving = True
        self.host.stop_reading()
        if self._withheld is not None:
            self._withheld.then(lambda: self._flush(place))
        else:
            (self._flush if self.host.unsent() else self._depart)(place)

    def _flush(self, place: int) -> None:
        if self.host.live():
            self.host.flush(lambda: self._depart(place))

    def _depart(self, place: int) -> None:
        if self.closing or not self.host.live():
            return
        if self.exchange.tunnel:
            # The protocol wrote without a request meanwhile: this is no boundary any more.
            self.leaving = False
            self._read_on()
            return
        host = self.host
        self.closed()
        host.depart(place, self.exchange.remainder())

    @property
    def served(self) -> bool:
        """Whether a request was served since the connection came to this process."""
        return bool(self.exchange.request_line)

    # ----------------------------------------------------------------- pauses

    @property
    def reads(self) -> bool:
        """Whether what the client sends is read now."""
        return not (self.inner_paused or self._stopped or self.closing)
