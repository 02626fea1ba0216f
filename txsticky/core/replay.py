"""What goes with a WebSocket from one worker to the next."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Replay:
    """
    What goes with a WebSocket from one worker to the next.

    :param head: the head of the handshake, as the client sent it.
    :param protocol: the subprotocol that the client was told; empty for none.
    :param extensions: the extensions that it was told; empty for none.
    :param moves: how often it has moved, this time included.
    :param state: what the application left for itself.
    :param source: the id of the worker that it comes from.
    :param given: how many messages of the bus that worker had been given since its drain began.
    """

    head: bytes
    protocol: bytes = b""
    extensions: bytes = b""
    moves: int = 1
    state: bytes = b""
    source: int = 0
    given: int = 0
