"""
uvicorn's protocol on httptools, for requests that come again.

A client repeats its requests to the letter. What httptools and uvicorn have made of a head, the
scope, is remembered by its letters, and made anew of that: the parser hears of such a request
nothing. Of a response the header lines are remembered in the same way. All else is uvicorn's:
requests that are new, come in pieces, have no length or offer an upgrade; errors; WebSockets.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import attrs
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from ...core.http.steps import MEMORABLE
from ...core.memo import entries
from .receiving import Receiving

#: How many requests are remembered, and so many times their size is what is kept of each.
_MEMORY: Final = entries(1024, 4 * MEMORABLE)
#: Header lines of a response that are longer together are read each time, in bytes.
_LONGEST: Final = 1024
#: How many responses' lines are remembered.
_HEADS: Final = entries(1024, 4 * _LONGEST)
_CLOSE: Final = b"connection: close\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
#: What is asked of uvicorn beyond its documentation; another version may have it otherwise.
_CYCLE: Final = frozenset(
    {
        *("self", "scope", "transport", "flow", "logger", "access_logger", "access_log"),
        *("default_headers", "message_event", "expect_100_continue", "keep_alive", "on_response"),
    }
)
_PROTOCOL: Final = ("_start_asgi_task", "_unset_keepalive_if_required", "on_response_complete")

Headers = tuple[tuple[bytes, bytes], ...]
#: Header lines of a response; the length that they tell; whether the content is chunked, None if
#: they do not say; whether they say ``close``.
Lines = tuple[bytes, int, bool | None, bool]


@attrs.frozen
class RepeatedRequest:
    """
    What uvicorn has made of a head.

    :param scope: its scope; what of it can be changed is to be copied.
    :param length: of the content, in bytes.
    :param keep_alive: whether another request may follow.
    """

    scope: dict[str, Any]
    length: int
    keep_alive: bool


@attrs.define
class Memory:
    """
    What the protocols of one application remember.

    :ivar requests: by their heads; None for those that came once.
    """

    requests: dict[bytes, RepeatedRequest | None] = attrs.field(factory=dict)
    _read: dict[Headers, Lines] = attrs.field(factory=dict, init=False)
    _default: list[tuple[bytes, bytes]] | None = attrs.field(default=None, init=False)
    _lines: bytes = attrs.field(default=b"", init=False)

    def seen(self, head: bytes) -> bool:
        """Take note of a head; returns whether it came before."""
        if head in self.requests:
            return True
        if len(self.requests) >= _MEMORY:
            self.requests.clear()
        self.requests[head] = None
        return False

    def lines(self, headers: Iterable[tuple[bytes, bytes]]) -> Lines:
        """
        Return the header lines of a response, and what they say (`_read`).

        :raises ValueError: one is not well formed.
        :raises TypeError: they are not what they usually are.
        """
        key = tuple(headers)
        found = self._read.get(key)
        if found is None:
            found = _read(key)
            if len(found[0]) <= _LONGEST:
                if len(self._read) >= _HEADS:
                    self._read.clear()
                self._read[key] = found
        return found

    def default_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the lines of uvicorn's own headers, which change once a second."""
        if headers is not self._default:
            self._lines = b"".join(b"%b: %b\r\n" % line for line in headers)
            self._default = headers
        return self._lines


class RememberingProtocol(HttpToolsProtocol):
    """
    One connection.

    :param memory: shared with the other connections.
    """

    def __init__(self, memory: Memory, **named: Any) -> None:
        super().__init__(**named)
        if isinstance(self.app, Receiving):
            self.app = self.app.app  # it counts the messages of WebSockets alone
        self._memory = memory
        #: Whether the parser stands between two requests, and how many have begun.
        self._between = True
        self._count = 0
        #: Whether the request that is read may be remembered, and what is known of it then.
        self._learns = False
        self._found: tuple[dict[str, Any], bool] | None = None
        self._answered = 0.0

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client: a request that is remembered, or what uvicorn is to read."""
        cycle: Any = self.cycle
        free = self._between and (cycle is None or cycle.response_complete)
        if not free or len(data) > MEMORABLE:
            super().data_received(data)
            return
        size = data.find(b"\r\n\r\n") + 4
        head = data if size == len(data) else data[:size]
        known = self._memory.requests.get(head)
        if known is not None and size + known.length == len(data):
            self._again(known, data[size:])
        elif size < 4 or known is not None or not self._memory.seen(head):
            super().data_received(data)
        else:
            self._learn(head, data)

    def _learn(self, head: bytes, data: bytes) -> None:
        """Have a request read, and remember it if it is plain."""
        count, self._learns = self._count, True
        try:
            super().data_received(data)
        finally:
            found, self._found, self._learns = self._found, None, False
        if found is None or not self._between or self._count != count + 1:
            return
        scope, keep_alive = found
        headers = scope["headers"]
        lengths = [value for name, value in headers if name == b"content-length"]
        plain = scope["http_version"] == "1.1" and not self.expect_100_continue
        chunked = any(name == b"transfer-encoding" for name, _ in headers)
        length = int(lengths[0]) if lengths else 0
        if plain and not chunked and len(head) + length == len(data):
            self._memory.requests[head] = RepeatedRequest(scope, length, keep_alive)

    def _again(self, known: RepeatedRequest, body: bytes) -> None:
        """Begin a request as uvicorn's `on_headers_complete` does, and end it."""
        scope: Any = known.scope.copy()
        scope["asgi"] = scope["asgi"].copy()
        self.headers = scope["headers"] = [*scope["headers"]]
        scope["server"], scope["client"], scope["scheme"] = self.server, self.client, self.scheme
        scope["state"] = self.app_state.copy()
        self.scope = scope
        self.expect_100_continue = False
        self.cycle = cycle = _Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=known.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.memory = self._memory
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        self._start_asgi_task(cycle, self.app)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if self._learns:  # before the application can change it
            scope = cycle.scope
            changing = {"asgi": scope["asgi"].copy(), "headers": tuple(scope["headers"])}
            self._found = {**scope, **changing}, cycle.keep_alive
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        """Take note that a request begins, for httptools."""
        self._between = False
        self._count += 1
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Take note that a request is whole, for httptools."""
        self._between = True
        super().on_message_complete()

    # A timer that is set lasts over the requests that are remembered.

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._answered = self.loop.time()
        if self.timeout_keep_alive_task is None or self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def timeout_keep_alive_handler(self) -> None:
        """Close if no request has come since the last response, for as long as one may wait."""
        self.timeout_keep_alive_task = None
        if not (self._between and self.cycle.response_complete):
            return  # the end of that response begins anew
        left = self._answered + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(
                left, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()


class _Cycle(RequestResponseCycle):
    """
    A request that was remembered, and its response.

    :ivar memory: as the protocol has it.
    """

    memory: Memory

    async def send(self, message: Any) -> None:
        """Send a part of the response; what is not usual is uvicorn's to send."""
        usual = not (self.flow.write_paused or self.disconnected or self.access_log)
        if usual and not self.response_started:
            if message["type"] == "http.response.start" and self._begin(message):
                return
        elif usual and self.chunked_encoding is False and not self.response_complete:
            body = message.get("body", b"")
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if (
                last
                and len(body) == self.expected_content_length
                and self.scope["method"] != "HEAD"
            ):
                self.expected_content_length = 0
                self.transport.write(body)
                self.response_complete = True
                self.message_event.set()
                if not self.keep_alive:
                    self.transport.close()
                self.on_response()
                return
        await super().send(message)

    def _begin(self, message: Any) -> bool:
        """Send the head; returns whether it was, which it is not if anything about it is wrong."""
        status = message["status"]
        try:
            lines, length, chunked, closes = self.memory.lines(message.get("headers", ()))
            content = [STATUS_LINE[status], self.memory.default_lines(self.default_headers), lines]
        except (TypeError, ValueError, LookupError):
            return False
        self.response_started = True
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            content.append(_CLOSE)
        self.expected_content_length, self.chunked_encoding = length, chunked
        bare = self.scope["method"] == "HEAD" or status in (204, 304)
        if chunked is None and not bare:
            self.chunked_encoding = True
            content.append(_CHUNKED)
        content.append(b"\r\n")
        self.transport.write(b"".join(content))
        return True


def _read(headers: Headers) -> Lines:
    """
    Read the header lines of a response as uvicorn's `send` does.

    :raises ValueError: one is not well formed.
    """
    lines: list[bytes] = []
    length, closes = 0, False
    chunked: bool | None = None
    for name, value in headers:
        if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
            raise ValueError("This is no header line.")
        name = name.lower()
        if name == b"content-length" and chunked is None:
            length, chunked = int(value.decode()), False
        elif name == b"transfer-encoding" and value.lower() == b"chunked":
            length, chunked = 0, True
        elif name == b"connection":
            closes = closes or b"close" in [each.lower().strip() for each in value.split(b",")]
        lines += (name, b": ", value, b"\r\n")
    return b"".join(lines), length, chunked, closes


def protocol_class(found: Any) -> Any:
    """
    Make what makes the protocols of one application, which share a memory.

    :param found: uvicorn's protocol, which is taken as it is if it is not the one that is known
        here.
    """
    cycle = inspect.signature(RequestResponseCycle.__init__).parameters.keys()
    known = found is HttpToolsProtocol and all(hasattr(found, name) for name in _PROTOCOL)
    return partial(RememberingProtocol, Memory()) if known and cycle == _CYCLE else found
