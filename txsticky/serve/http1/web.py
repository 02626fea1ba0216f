"""
The channel of twisted.web's requests: what its `HTTPChannel` is to them, behind a gate that parses.

`twisted.web.http.Request` and its subclasses ask of their channel what `RequestChannel` has. The
names with an underscore are those that twisted.web calls.
"""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES
from twisted.web.http_headers import Headers
from twisted.web.iweb import INonQueuedRequestFactory

from ...core.http.refusal import refusal
from ...core.http.steps import Begin
from ...system.system import http_date
from . import quick
from .channel import HttpChannel
from .fields import ParsedHeaders, fields_of, head_of, untouched
from .idle import Idle

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_FORM = "The form that was posted is not of the form that its type says."
_VERSIONS = {b"1.1": b"HTTP/1.1", b"1.0": b"HTTP/1.0"}


@attrs.define(eq=False)
class RequestChannels:
    """
    Makes the channels of one Site.

    :param site: the Site, whose `requestFactory` makes the requests and whose `log` is told of
        them.
    :param first: where connections wait for their first requests.
    :param idle: where they wait for later ones.
    :param keeps: whether a connection has more than one request.
    """

    site: Any
    first: Idle
    idle: Idle
    keeps: bool
    #: Whether requests are made with the channel alone.
    alone: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.alone = bool(INonQueuedRequestFactory.providedBy(self.site.requestFactory))

    def __call__(self, addr: object) -> RequestChannel:
        """Make the channel of a new connection (`IProtocolFactory.buildProtocol`)."""
        return RequestChannel(self)


class RequestChannel(HttpChannel):
    """
    One connection whose requests are twisted.web's.

    :param channels: what all channels of the Site share.
    :ivar site: the Site.
    :ivar timeOut: seconds that the connection may be without a request.
    """

    abortTimeout = None
    _request: Any = None
    _timer: Any = None

    def __init__(self, channels: RequestChannels) -> None:
        HttpChannel.__init__(self, channels.first, channels.idle)
        self._channels = channels
        self.site = self.factory = channels.site
        self.requestFactory = channels.site.requestFactory

    # ----------------------------------------------------------------------- requests

    def begin(self, step: Begin) -> None:
        """Make the request, and tell it what came before its content."""
        head = step.head
        make = self.requestFactory
        self._request = request = make(self) if self._channels.alone else make(self, 0)
        fields = fields_of(head)
        if untouched(request.requestHeaders):
            request.requestHeaders = ParsedHeaders(fields)
        else:
            for name, values in fields:
                for value in values:
                    request.requestHeaders.addRawHeader(name, value)
        if untouched(request.responseHeaders):
            request.responseHeaders = ParsedHeaders()
        if not self._channels.keeps:
            self.persistent = False
        quick.parse_cookies(request)
        recent = head.version == b"1.1"
        # The gate adds it to a response to CONNECT, unless that is a 2xx: then HTTP ends.
        if not self.persistent and recent and head.method != b"CONNECT":
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        request.gotLength(step.length)
        if recent:
            expected = head.header(b"expect")
            if expected is not None and expected.lower() == b"100-continue":
                self.transport.write(_CONTINUE)
        self._line = head.method, head.target, _VERSIONS[head.version]

    def content(self, data: bytes) -> None:
        """Give the request content."""
        self._request.handleContentChunk(data)

    def complete(self) -> None:
        """Have the request processed."""
        quick.receive(self._request, self, *self._line)

    def lost(self, reason: Failure) -> None:
        """Tell the request that its client has left."""
        request, self._request = self._request, None
        self.setTimeout(None)
        request.connectionLost(reason)

    @property
    def requests(self) -> list[Any]:
        """The open request, if there is one."""
        return [] if self._request is None else [self._request]

    # ---------------------------------------------------------------------- responses

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """
        Write the head of the response.

        :param version: e.g. ``HTTP/1.1``.
        :param code: the status.
        :param reason: the reason phrase.
        :param headers: `Headers`, or pairs of a name and a value.
        """
        if not isinstance(headers, Headers):
            pairs, headers = headers, Headers()
            for name, value in pairs:
                headers.addRawHeader(name, value)
        length = None
        values = headers.getRawHeaders(b"Content-Length", ())
        if len(values) == 1 and values[0].isdigit():
            request = self._request
            if request is not None and request.method != b"HEAD" and int(code) not in NO_BODY_CODES:
                length = int(values[0])
        self.begin_response(head_of(version, code, reason, headers), length)
        self.flush()

    def writeSequence(self, iovec: Any) -> None:
        """Write parts of the response."""
        self.write(b"".join(iovec))

    def requestDone(self, request: Any) -> None:
        """
        Take note that a request has been answered.

        :raises TypeError: it is not the open one.
        """
        if request != self._request:
            raise TypeError("This request is not the open one.")
        self._request = None
        if self._timer is not None:
            self.setTimeout(None)
        self._end_response()

    # ----------------------------------------------------------- what requests ask for

    def getPeer(self) -> Any:
        """Return the address of the client (`ITransport`)."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """Return the address that the client connected to (`ITransport`)."""
        return self.transport.getHost()

    def isSecure(self) -> bool:
        """Whether the client came over TLS."""
        return ISSLTransport(self.transport, None) is not None

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse the open request: its form is none."""
        self.transport.write(refusal(400, _BAD_FORM, http_date()))
        self.loseConnection()

    def _protocolUpgradeForWebsockets(self, protocol: Any) -> None:
        """Let a WebSocket have the connection."""
        self.dataReceived = protocol.dataReceived
        self.connectionLost = protocol.connectionLost  # type: ignore[method-assign]
        protocol.makeConnection(self.transport)

    # -------------------------------------------------------------------------- time

    @property
    def timeOut(self) -> float | None:
        """Seconds that the connection may be without a request; None is without end."""
        return self._channels.idle.seconds

    def setTimeout(self, period: float | None) -> None:
        """Close the connection when `period` seconds have passed; None to let it be."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if period is not None:
            self._timer = self.transport.gate.host.later(period, self.timeoutConnection)

    def resetTimeout(self) -> None:
        """Do nothing: only the time until the next request is counted."""

    def timeoutConnection(self) -> None:
        """Close the connection, for the time that a request has set is over."""
        self._timer = None
        self.loseConnection()

    def forceAbortClient(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()
