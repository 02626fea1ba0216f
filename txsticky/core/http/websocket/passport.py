"""What is kept of a WebSocket's handshake, in the worker that serves it, for its next worker."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ...replay import Replay
from .handshake import Accepted


@attrs.define(eq=False)
class Passport:
    """
    What one WebSocket moves with.

    :param id: by which the application names the WebSocket in this worker.
    :param head: the head of the handshake, as the client sent it.
    :param client: the address of the client, as the peer of its connection.
    :param replay: with what it came, if it has moved here.
    :ivar state: what the application leaves for itself.
    :ivar busy: whether what serves the WebSocket is at work, where that is known otherwise than by
        what the application says; asked again and again.
    """

    id: int
    head: bytes
    client: str
    replay: Replay | None
    state: bytes = attrs.field(default=b"", init=False)
    busy: Callable[[], bool] = attrs.field(default=lambda: False, init=False)
    _reasons: set[object] = attrs.field(factory=set, init=False)
    _protocol: bytes = attrs.field(default=b"", init=False)
    _extensions: bytes = attrs.field(default=b"", init=False)

    def accepted(self, answer: Accepted) -> None:
        """Take in what the client was told. A state in it counts, unless one was left already."""
        self._protocol, self._extensions = answer.protocol, answer.extensions
        self.state = self.state or answer.state

    @property
    def at_work(self) -> bool:
        """Whether the WebSocket is to stay for now, because an answer is under way."""
        return bool(self._reasons) or self.busy()

    def stay(self) -> Callable[[], None]:
        """
        Have the WebSocket stay until what is returned is called.

        Both may be called in any thread.
        """
        reason = object()
        self._reasons.add(reason)
        return lambda: self._reasons.discard(reason)

    def leave(self, source: int, given: int) -> Replay:
        """
        What goes to the next worker.

        :param source: the id of this worker.
        :param given: how many messages of the bus it was given since its drain began.
        """
        return Replay(
            head=self.head,
            protocol=self._protocol,
            extensions=self._extensions,
            moves=1 + (self.replay.moves if self.replay is not None else 0),
            state=self.state,
            source=source,
            given=given,
        )
