"""The host and the policy of a gate whose connection is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.how import How
from ..core.http.head import Head
from ..core.http.steps import Known
from ..core.routing.verdict import KEEP, Give, Verdict


class Nowhere:
    """
    A `Host` without a connection and a `Policy` without a worker: nothing is live or happens.

    A gate and its host know each other, and so do host and protocol.  What is over has to be let go
    of, or Python frees none of them before its collector looks for circles, which under load is
    after many thousands of connections.
    """

    how = How.NEW
    draining = False
    unconfirmed = 0
    movements = None
    known: dict[bytes, Known] = {}
    given: dict[bytes, Give] = {}
    hosts: dict[str, Verdict] = {}

    @property
    def bindings(self) -> Nowhere:
        """None waits to be confirmed."""
        return self

    def live(self) -> bool:
        """False: the connection is over."""
        return False

    def severed(self) -> bool:
        """True: the connection is over."""
        return True

    def quiet(self) -> float:
        """0: the connection is over."""
        return 0.0

    def settled(self, messages: int) -> bool:
        """True: the connection is over."""
        return True

    def unsent(self) -> int:
        """Nothing is left to send."""
        return 0

    passed = unsent

    def later(self, seconds: float, action: Callable[[], None]) -> Nowhere:
        """Call never; what is returned can be cancelled all the same."""
        return self

    def cancel(self) -> None:
        """Cancel nothing: nothing is under way."""

    def _nothing(self, *ignored: Any) -> None:
        """Do nothing."""

    deliver = tell = send = stop_reading = start_reading = half_close = dismiss = _nothing
    flush = depart = hang_up = gone = guarded = when_confirmed = request_done = _nothing
    withholds = _nothing

    def whose(self, head: Head, host: str) -> Verdict:
        """Keep the request."""
        return KEEP[How.NEW]

    def additions(self, head: Head, host: str, secure: bool, how: How, first: bool) -> None:
        """Add no lines."""


#: Has no state, so all gates share it.
NOWHERE = Nowhere()
