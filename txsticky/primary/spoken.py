"""What the application speaks, and what the primary therefore expects clients to say first."""

from __future__ import annotations

from collections.abc import Callable

from ..config import Config
from ..intake.arrival import Arrival
from ..intake.expectations import expectations_for
from ..intake.reception import Reception
from .listeners import Listeners


class Spoken:
    """
    What the application speaks, which the first worker that is ready tells.

    :param config: the settings that matter to what clients say first.
    :param needs_head: whether a request's head can matter to where it goes (`Router.needs_head`).
    :param reception: waits for what clients are expected to say.
    :param listeners: accept connections that are silent, or not.
    :param receive: gets each connection that waited before this was known.
    :ivar interface: what the application is; as the operator says until a worker has said.
    :ivar http: whether the application speaks HTTP; None until it is known.
    """

    def __init__(
        self,
        config: Config,
        needs_head: bool,
        reception: Reception,
        listeners: Listeners,
        receive: Callable[[Arrival], object],
    ) -> None:
        self._config = config
        self._needs_head = needs_head
        self._reception = reception
        self._listeners = listeners
        self._receive = receive
        self.interface = config.interface
        self.http: bool | None = None
        self._expect()

    def tell(self, interface: str, http: bool | None) -> None:
        """Take in what a worker says of the application."""
        self.interface = interface
        if self.http != http:
            self.http = http
            self._expect()
            self._listeners.defer(self._reception.expectations.waits)
            for arrival in self._reception.take_waiting():
                self._receive(arrival)

    def _expect(self) -> None:
        self._reception.expectations = expectations_for(self._config, self._needs_head, self.http)
