"""What a gate asks of its worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..core.how import How
from ..core.http.head import Head
from ..core.http.steps import Known
from ..core.routing.verdict import Verdict


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
        """Requests, by their whole heads, that are known to be served here with nothing added."""

    @property
    def bindings(self) -> BindingsMade:
        """The bindings that the worker makes."""

    def whose(self, head: Head, host: str) -> Verdict:
        """Decide where a request is to be served, and say why."""

    def extra_headers(self, head: Head, host: str, secure: bool, how: How) -> bytes:
        """Header lines to add to the response, such as a sticky cookie."""

    def request_done(self) -> None:
        """A response is complete."""
