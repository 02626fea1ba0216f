"""What an ASGI application has taken of a WebSocket's messages, so that none is cut off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

import attrs

_Message = MutableMapping[str, Any]


@attrs.define
class _Taken:
    """
    What the application of one WebSocket has taken.

    :ivar messages: how many messages of the client.
    :ivar waits: whether it waits for the next.
    """

    messages: int = 0
    waits: bool = False


_taken: WeakKeyDictionary[Any, _Taken] = WeakKeyDictionary()


@attrs.define
class Receiving:
    """
    Counts what the application receives over WebSockets.

    It is to be the outermost middleware: `receive` has to be a method of uvicorn's protocol.

    :param app: the application inside.
    """

    app: Any

    def __call__(
        self, scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Any
    ) -> Awaitable[None]:
        """Serve one request; what is no WebSocket takes no turn through here."""
        protocol = getattr(receive, "__self__", None)
        if scope["type"] != "websocket" or protocol is None:
            served: Awaitable[None] = self.app(scope, receive, send)
            return served
        return self._serve(protocol, scope, receive, send)

    async def _serve(
        self, protocol: Any, scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Any
    ) -> None:
        taken = _taken[protocol] = _Taken()

        async def received() -> _Message:
            taken.waits = True
            try:
                message = await receive()
            finally:
                taken.waits = False
            taken.messages += message["type"] == "websocket.receive"
            return message

        await self.app(scope, received, send)


def settled(protocol: object, messages: int) -> bool:
    """
    Whether the application has taken all messages of a WebSocket, and has dealt with them.

    It has dealt with them when it waits for the next one.

    :param protocol: the WebSocket's.
    :param messages: how many the client has sent.
    """
    taken = _taken.get(protocol)
    if taken is None or taken.messages != messages:
        return False
    return taken.waits or not messages
