"""
The gate: in a worker, between a connection and whatever protocol serves it, it watches the request
boundaries.

At each boundary the next request's head is looked at before the protocol sees a byte of it.  A
request that belongs to another worker takes the connection there: once the previous response is
wholly in the kernel, the descriptor and the unread bytes are given away, and to the protocol an
idle client has left.  What a request or a response is, and where it ends, `core.http.conversation`
decides; whose it is, the `Desk`; how bytes flow, the `Host`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..core.how import How
from ..core.http.conversation import Conversation
from ..core.http.head import Head
from ..core.http.refusal import LINGER, refusal
from ..core.http.steps import MEMORABLE, Ask, Known, Refuse
from ..system.http_date import http_date
from .host import Cancelable, Host
from .nowhere import NOWHERE
from .surplus import tell_surplus

#: Seconds for which nothing may be written after the client closed its sending side. A client that
#: is wholly gone looks the same until something is written to it, and a long poll and an event
#: stream want to know of it.
HALF_CLOSE_GRACE = 3.0
#: How often it is looked at in this time.
_LOOKS = 4
#: Looks without a word until it is asked whether it is still there, if it can be. It is asked again
#: after twice as many, and so on.
_SILENT_LOOKS = 2
#: Who waits for a response skips an interim one (RFC 9110 section 15.2); who has gone answers
#: with a reset.
_ASK = b"HTTP/1.1 100 Continue\r\n\r\n"
#: The part of the time of grace in which that reset should have come.
_ECHO = 1 / 32
#: Seconds for the answer to a request that stalled to leave.
_LAST_WORD = 1.0


class Desk(Protocol):
    """What the gate asks of its worker."""

    @property
    def draining(self) -> bool:
        """Whether idle connections are to leave."""

    @property
    def known(self) -> dict[bytes, Known]:
        """
        Requests, by their heads to the letter, that are known to be served here with nothing added.
        """

    @property
    def unconfirmed(self) -> int:
        """How many bindings the primary has not confirmed: responses wait for them."""

    def whose(self, head: Head, host: str) -> tuple[int | None, How]:
        """
        The place that a request belongs to, and why: None is here, else a worker's id, or 0 for
        the front desk.
        """

    def extra_headers(self, head: Head, host: str, secure: bool, how: How) -> bytes:
        """Header lines to add to the response, such as a sticky cookie."""

    def when_confirmed(self, action: Callable[[], None]) -> None:
        """Call once nothing is unconfirmed."""

    def request_done(self) -> None:
        """A response is complete."""


class Gate:
    """
    Watches one connection.

    :param host: the transport.
    :param desk: the worker's policy.
    :param exchange: follows the conversation.
    :param client: the client's address, as the transport's peer.
    :param secure: whether the client came over TLS.
    """

    __slots__ = (
        "_eof",
        "_grace",
        "_pumping",
        "_quiet",
        "_soon",
        "_stopped",
        "_told",
        "_withheld",
        "client",
        "closing",
        "come",
        "desk",
        "exchange",
        "host",
        "inner_paused",
        "leaving",
        "secure",
        "served",
    )

    def __init__(
        self, host: Host, desk: Desk, exchange: Conversation, client: str, secure: bool
    ) -> None:
        self.host: Host = host
        self.desk: Desk = desk
        self.exchange = exchange
        self.client = client
        self.secure = secure
        self.inner_paused = False
        #: Whether a request was served since the connection came here.
        self.served = False
        self._stopped = False
        self._pumping = False
        #: Whether the connection is to go elsewhere once its output has left, or to be closed then.
        self.leaving = False
        self.closing = False
        self._soon: Cancelable | None = None
        self._eof = False
        #: Looks at a client that has closed its side, all in a time without a word written.
        self._quiet = 0
        self._grace: Cancelable | None = None
        self._withheld: list[bytes] = []
        #: How many bytes have come, but for requests that came alone and whole.
        self.come = 0
        self._told = False

    # ------------------------------------------------------------------ input

    def arrived(self, data: bytes) -> None:
        """Bytes have come from the client."""
        exchange = self.exchange
        if exchange.tunnel and not exchange.held:
            self.host.deliver(data)
            return
        known = None
        size = len(data)
        if size <= MEMORABLE:
            head_end = data.find(b"\r\n\r\n") + 4
            known = self.desk.known.get(data if head_end == size else data[:head_end])
        stuck = self.leaving or self.closing or self.inner_paused
        if known is not None and known.size == size and not stuck and exchange.begin(known):
            # The short cut; what follows it is the same as behind the long way.
            self.host.how = known.how
            self._pumping = True
            try:
                self.host.deliver(data)
            finally:
                self._pumping = False
            if exchange.held or self._stopped or self.desk.draining:
                self.pump()
            return
        self.come += size
        exchange.feed(data)
        self.pump()
        if exchange.over_hold and not self._stopped and self.host.live():
            self._stopped = True
            self.host.stop_reading()

    def ended(self) -> bool:
        """
        The client has closed its sending side. Whether the connection is lost now.

        A request that is wholly here is answered first (RFC 9112 section 9.6 wants the response
        sent), and what was written is sent.
        """
        exchange = self.exchange
        owed = exchange.request_open and exchange.finished_request
        owed = owed or bool(exchange.held and self.inner_paused)
        if not (owed or self._withheld or self.host.unsent()) or self.host.severed():
            return True
        self._eof = self._stopped = True
        self._quiet = 0
        self.host.stop_reading()
        if not owed:
            self.finish()
        else:
            self._grace = self.host.later(HALF_CLOSE_GRACE / _LOOKS, self._look)
        return False

    def finish(self) -> None:
        """Close the connection after what was written."""
        if self.host.live() and self.may_close():
            self.host.hang_up()

    def _look(self) -> None:
        """See whether a client that sends no more is still there."""
        self._grace = None
        host = self.host
        waits = bool(self._withheld or host.unsent())
        quiet = self._quiet = 0 if waits else self._quiet + 1
        asks = self.exchange.interim
        if host.severed() or (quiet >= _LOOKS and not asks):
            host.gone()
            return
        seconds = HALF_CLOSE_GRACE / _LOOKS
        if asks and quiet >= _SILENT_LOOKS and quiet & (quiet - 1) == 0:
            host.send(_ASK)
            seconds = HALF_CLOSE_GRACE * _ECHO
        self._grace = host.later(seconds, self._look)

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
                        place, host.how = self.desk.whose(step.head, self.client)
                        if place is not None:
                            self.leave(place)
                            return
                    self.served = True
                    lines = self.desk.extra_headers(step.head, self.client, self.secure, host.how)
                    exchange.keep(lines)
                elif isinstance(step, Refuse):
                    self._refuse(step)
                else:
                    host.deliver(step.data)
        finally:
            self._pumping = False
        self._after_pump()

    def _after_pump(self) -> None:
        exchange, host = self.exchange, self.host
        if self.closing or not host.live():
            return
        if self._eof:
            if not ((exchange.request_open and exchange.finished_request) or self.inner_paused):
                self.finish()
            return
        if exchange.over:
            self._end()
            return
        if self.desk.draining:
            self.drain()
            if self.leaving or self.closing:
                return
        if self._stopped and not exchange.over_hold:
            self._stopped = False
            if not self.inner_paused:
                host.start_reading()

    def _refuse(self, step: Refuse) -> None:
        """Answer in the place of the protocol inside, which gets nothing more."""
        fault = step.fault
        if fault is not None:
            data = refusal(fault.status, fault.reason, http_date(), head_only=step.head_only)
            if self._withheld:
                self._withheld.append(data)
            else:
                self.host.send(data)

    def _end(self) -> None:
        """
        Nothing more is served: close after what was written, once the client has had time to read
        it. Closing at once could reset the connection (RFC 9112 section 9.6).
        """
        if not self.may_close():
            return
        self._stopped = False
        self.host.half_close()
        if self.host.live():
            self.host.start_reading()
            self._grace = self.host.later(LINGER, self._lingered)

    def _lingered(self) -> None:
        self._grace = None
        self.host.hang_up()

    def pump_soon(self) -> None:
        """Pump from the reactor: never inside the protocol's own write."""
        if self._soon is None and not self._pumping:
            self._soon = self.host.later(0, self._pump_now)

    def _pump_now(self) -> None:
        self._soon = None
        if self.host.live():
            self.pump()

    def pause(self) -> None:
        """The protocol inside wants no more input."""
        self.inner_paused = True
        self.host.stop_reading()

    def resume(self) -> None:
        """The protocol inside wants input again."""
        self.inner_paused = False
        self._read_on()

    def _read_on(self) -> None:
        if not (self.inner_paused or self._stopped or self.leaving):
            self.host.start_reading()
        if self.exchange.held:
            self.pump_soon()

    # ----------------------------------------------------------------- output

    def wrote(self, data: bytes) -> bytes:
        """
        The protocol inside writes.

        :returns: what is to be sent now.
        """
        exchange, desk = self.exchange, self.desk
        self._quiet = -1  # the next look is too soon to count
        if not exchange.tunnel:
            was_open = exchange.request_open
            data = exchange.wrote(data)
            if not exchange.request_open:
                if was_open:
                    desk.request_done()
                # After what a client called its last request the protocol inside closes by itself.
                over = exchange.over and not exchange.last
                if self._eof or over or exchange.held or self._stopped or desk.draining:
                    self.pump_soon()
            if exchange.surplus and not self._told:
                self._told = True
                tell_surplus(exchange.request_line)
        if desk.unconfirmed or self._withheld:
            return self._withhold(data)
        return data

    def _withhold(self, data: bytes) -> bytes:
        """Keep the response until every binding made before it is known everywhere."""
        if not self._withheld:
            self.desk.when_confirmed(lambda: self.host.guarded(self._release))
        self._withheld.append(data)
        return b""

    def _release(self) -> None:
        withheld, self._withheld = self._withheld, []
        if self.host.live():
            self.host.send(b"".join(withheld))
            if self.closing:
                self.host.hang_up()

    def may_close(self) -> bool:
        """
        The protocol inside closes. Whether nothing is withheld; else it is closed when that is
        sent, and nothing is read until then.
        """
        self.closing = True
        if self._withheld:
            self._stopped = True
            self.host.stop_reading()
        return not self._withheld

    # ---------------------------------------------------------------- leaving

    def drain(self) -> bool:
        """The worker is leaving: give the connection away if it is idle. Whether it was."""
        if self.leaving or self.closing or not self.host.live():
            return False
        if self.exchange.idle:
            self.leave(0)
            return True
        return False

    def leave(self, place: int) -> None:
        """Give the connection to `place` once all output is in the kernel."""
        # From here on nothing is read or delivered, or this might not stay a boundary.
        self.leaving = True
        self.host.stop_reading()
        if self._withheld:
            self.desk.when_confirmed(lambda: self.host.guarded(lambda: self._flush(place)))
        else:
            self._flush(place)

    def _flush(self, place: int) -> None:
        if self.host.live():
            self.host.flush(lambda: self._depart(place))

    def _depart(self, place: int) -> None:
        if self.closing or not self.host.live():
            return
        if self.exchange.tunnel:
            # Meanwhile the protocol wrote what nobody had asked for: this is no boundary any more.
            self.leaving = False
            self._read_on()
            return
        host = self.host
        self.closed()
        host.depart(place, self.exchange.remainder())

    # ----------------------------------------------------------------- pauses

    @property
    def reads(self) -> bool:
        """Whether what the client sends is read now."""
        return not (self.inner_paused or self._stopped or self.closing)

    def stalled(self, answer: bytes) -> None:
        """
        The client has paused for too long: the connection ends.

        :param answer: what it is told if its request was not yet answered (RFC 9110, section
            15.5.9).
        """
        exchange, host = self.exchange, self.host
        told = not exchange.body_due or exchange.response_started or self._withheld
        self.closing = self._stopped = True
        if told or not host.live():
            host.gone()
            return
        host.stop_reading()
        host.send(answer)
        if self._grace is not None:
            self._grace.cancel()
        self._grace = host.later(_LAST_WORD, self._give_up)

    def _give_up(self) -> None:
        self._grace = None
        self.host.dismiss()

    def closed(self) -> None:
        """The connection is over here: no call of ours may come any more. All is let go."""
        for call in (self._soon, self._grace):
            if call is not None:
                call.cancel()
        self._soon = self._grace = None
        self.host = self.desk = NOWHERE
