"""Clients that come back with nothing that tells whose they are, and so are spread."""

from __future__ import annotations

from typing import Final

from ..memo import entries

#: How often one has to come back, over a new connection each time.
OFTEN: Final = 16
#: The longest text that tells a client from another, in bytes.
_LONGEST: Final = 256
#: How many clients are counted at a time.
_COUNTED: Final = entries(256, _LONGEST)


class Strays:
    """Counts how often each client has come without a key."""

    def __init__(self) -> None:
        self._times: dict[bytes, int] = {}

    def came(self, client: bytes) -> bool:
        """
        Count a client that has come over a new connection.

        :param client: what tells it from others: its address and program.
        :returns: whether it has now come `OFTEN` times.
        """
        client = client[:_LONGEST]
        times = self._times.get(client, 0) + 1
        if len(self._times) >= _COUNTED and times == 1:
            self._times.clear()
        self._times[client] = times
        return times == OFTEN
