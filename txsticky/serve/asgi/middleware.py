"""ASGI middleware between uvicorn and the application, each only if the settings ask for it."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import attrs

from ...core.how import How
from ...core.routing.forwarded import Trusted, client_address, client_secure
from ..accesslog import AccessLog, LogLine

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: How the request of the running task was routed.
route: contextvars.ContextVar[How] = contextvars.ContextVar("txsticky_route")

#: The status in the log for a request whose client left before the response, as in nginx's.
CLIENT_GONE = 499


@attrs.define
class Logged:
    """
    Writes the access log, a line when a request or a WebSocket has ended.

    :param app: the application inside.
    :param access_log: the log.
    :param root_path: the path that uvicorn puts before the path of each request.
    """

    app: App
    access_log: AccessLog
    root_path: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        how = route.get().name
        told = _Told()

        async def received() -> Message:
            message = await receive()
            told.gone = told.gone or message["type"].endswith(".disconnect")
            return message

        async def sent(message: Message) -> None:
            told.note(message)
            await send(message)

        try:
            await self.app(scope, received, sent)
        except BaseException:
            told.raised = True
            raise
        finally:
            self.access_log.write(self._entry(scope, told, how))

    def _entry(self, scope: Scope, told: _Told, how: str) -> LogLine:
        headers = dict(reversed([(name.lower(), value) for name, value in scope["headers"]]))
        path: bytes = scope["raw_path"].removeprefix(self.root_path.encode())
        query = scope["query_string"]
        return LogLine(
            client=scope["client"][0] if scope.get("client") else "-",
            method=scope.get("method", "GET").encode(),
            target=path + (b"?" + query if query else b""),
            version=b"HTTP/" + scope["http_version"].encode(),
            status=told.status_code,
            length=0 if scope.get("method") == "HEAD" else told.length,
            referer=headers.get(b"referer"),
            agent=headers.get(b"user-agent"),
            route=how,
        )


class _Told:
    """What the client of a request has been told."""

    __slots__ = ("gone", "length", "raised", "status")

    def __init__(self) -> None:
        self.status = 0
        self.length = 0
        self.gone = self.raised = False

    def note(self, message: Message) -> None:
        """Note a message of the application."""
        kind = message["type"]
        if kind in ("http.response.body", "websocket.http.response.body"):
            self.length += len(message.get("body", b""))
        elif self.status:
            return
        elif kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close":
            self.status = 403

    @property
    def status_code(self) -> int:
        """The status that the client got; uvicorn sends 500 for an application that sends none."""
        if self.status:
            return self.status
        return CLIENT_GONE if self.gone and not self.raised else 500


@attrs.define
class Forwarded:
    """
    Takes the client's address and scheme from trusted proxies.

    :param app: the application inside.
    :param trusted: the trusted proxies.
    """

    app: App
    trusted: Trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket"):
            self._name(scope)
        await self.app(scope, receive, send)

    def _name(self, scope: Scope) -> None:
        peer = scope["client"][0] if scope.get("client") else ""
        if peer not in self.trusted:
            return
        head = ScopeHeaders(scope["headers"])
        client = client_address(head, peer, self.trusted)
        if client != peer:
            scope["client"] = (client, 0)
        plain = "http" if scope["type"] == "http" else "ws"
        outside = scope["scheme"] == plain + "s"
        secure = client_secure(head, peer, outside, self.trusted)
        scope["scheme"] = plain + "s" if secure else plain


@attrs.frozen
class ScopeHeaders:
    """
    The headers of an ASGI scope (`core.routing.forwarded.HasHeaders`).

    :param _headers: (name, value) of each.
    """

    _headers: Iterable[tuple[bytes, bytes]]

    def headers(self, name: bytes) -> tuple[bytes, ...]:
        return tuple(value for key, value in self._headers if key.lower() == name)


@attrs.define
class NoKeepAlive:
    """
    Closes each connection after its response (a keep-alive of 0 seconds).

    :param app: the application inside.
    """

    app: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {
                    **message,
                    "headers": [*message.get("headers", ()), (b"connection", b"close")],
                }
            await send(message)

        await self.app(scope, receive, closing if scope["type"] == "http" else send)
