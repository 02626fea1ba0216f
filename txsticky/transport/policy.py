"""What a gate asks of its worker, and what a transport tells it of its connection."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from ..core.how import How
from ..core.http.head import Head
from ..core.http.response import Additions
from ..core.http.steps import Known
from ..core.messages.handoff import Handoff
from ..core.routing.verdict import Give, Verdict
from .websockets.movements import WebSockets


class BindingsMade(Protocol):
    """The bindings that the worker makes, for which responses wait."""

    @property
    def unconfirmed(self) -> int:
        """How many bindings the primary has not confirmed."""

    def when_confirmed(self, action: Callable[[], None]) -> None:
        """Call once nothing is unconfirmed."""


class Policy(Protocol):
    """What the gate asks of its worker."""

    @property
    def draining(self) -> bool:
        """Whether idle connections are to leave."""

    @property
    def known(self) -> dict[bytes, Known]:
        """Requests, by their whole heads, of which all is known that the policy would say."""

    @property
    def given(self) -> dict[bytes, Give]:
        """Requests, by their whole heads, that are another worker's as long as they are here."""

    @property
    def hosts(self) -> dict[str, Verdict]:
        """Where clients' addresses lead to, where nothing else is looked at."""

    @property
    def bindings(self) -> BindingsMade:
        """The bindings that the worker makes."""

    @property
    def movements(self) -> WebSockets | None:
        """What is known of WebSockets that move; None where none does."""

    def whose(self, head: Head, host: str) -> Verdict:
        """Decide where a request is to be served, and say why."""

    def additions(
        self, head: Head, host: str, secure: bool, how: How, first: bool
    ) -> Additions | None:
        """
        Tell what is to be done with the response to a request that is served here.

        What is returned is called with the final response's status and header lines, once and
        before any of the response leaves, and returns lines to add, such as a sticky cookie. The
        call may bind keys: whether the response has to wait is asked behind it.

        :param head: the request's.
        :param host: the address of the client, as the peer of its connection.
        :param secure: whether the client came over TLS.
        :param how: why the request is served here.
        :param first: whether it is the first one that is served here over its connection.
        """

    def request_done(self) -> None:
        """Count a response that is complete."""


class Kept(Protocol):
    """
    What the worker keeps of a connection, as its transport sees it.

    :ivar handoff: what came with the connection.
    """

    handoff: Handoff

    def made(self, transport: Any) -> None:
        """Take note of the transport, which is made but not yet connected."""

    def begun(self) -> None:
        """Take note that the transport's protocol is connected."""

    def delivered(self) -> None:
        """Take note that all bytes that another process has read are delivered."""

    def departing(self) -> None:
        """Take note that the conversation is over, and the descriptor being taken away."""

    def closed(self) -> None:
        """Take note that the connection is over."""

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """
        Take over the connection, which has left its transport.

        :param sock: the connection.
        :param place: the id of the worker that it goes to, or the front desk's.
        :param held: the bytes that were read and not served.
        """
