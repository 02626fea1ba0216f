"""What a gate needs of the transport that it sits in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..core.how import How
from ..core.http.steps import Begin, Content


class Cancelable(Protocol):
    """A delayed call."""

    def cancel(self) -> None:
        """Do not make the call."""


class Host(Protocol):
    """What the gate needs of the transport that it sits in."""

    #: How the present request was routed; the gate sets it for every request but the first.
    how: How

    def deliver(self, data: bytes) -> None:
        """Give bytes to the protocol inside."""

    def tell(self, step: Begin | Content) -> None:
        """Tell the protocol inside, which takes events, what has come."""

    def live(self) -> bool:
        """Whether the connection is open and not being closed."""

    def stop_reading(self) -> None:
        """Leave the client's bytes in the kernel."""

    def start_reading(self) -> None:
        """Read the client's bytes again."""

    def send(self, data: bytes) -> None:
        """Write to the client."""

    def withholds(self, size: int) -> None:
        """Have what produces output wait while so many bytes are withheld, as if unsent."""

    def later(self, seconds: float, action: Callable[[], None]) -> Cancelable:
        """Call `action` from the reactor."""

    def unsent(self) -> int:
        """Bytes of output that are not in the kernel."""

    def passed(self) -> int:
        """Bytes of output that have entered the kernel so far."""

    def severed(self) -> bool:
        """Whether the kernel knows that the client is gone."""

    def quiet(self) -> float:
        """Seconds for which no data has gone either way; 0 where the kernel does not tell."""

    def settled(self, messages: int) -> bool:
        """
        Whether the application has dealt with what its client has sent, as far as can be told.

        :param messages: how many messages of the client's WebSocket that are.
        """

    def flush(self, callback: Callable[[], None]) -> None:
        """Call back once all output is in the kernel."""

    def depart(self, place: int, held: bytes) -> None:
        """Give the connection away, with the held bytes, to the process at `place`."""

    def guarded(self, action: Callable[[], None]) -> None:
        """Call now; a failure is logged, and closes the connection."""

    def hang_up(self) -> None:
        """Close the connection after what is written."""

    def half_close(self) -> None:
        """Tell the client, after what is written, that nothing follows; go on reading."""

    def gone(self) -> None:
        """Tell the protocol that the client has left, and close at once."""

    def dismiss(self) -> None:
        """Tell the protocol that the client has left; what was written has had time to leave."""
