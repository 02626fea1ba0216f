"""Requests of twisted.web through trusted proxies: the client's address and scheme."""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.http import Request
from twisted.web.http_headers import Headers

from ...core.routing.forwarded import client_address, client_secure
from .. import ServeSettings


class ForwardedRequest(Request):
    """
    A request whose client is told by its proxy, if the transport's peer is trusted.

    `getClientAddress`, `getClientIP` and `client` then tell the address from X-Forwarded-For, with
    port 0, and `isSecure` what X-Forwarded-Proto says.
    """

    txsticky: ServeSettings
    #: What the proxy says of the client's TLS, if that is not so on this connection.
    _secure_outside: bool | None = None

    def process(self) -> None:
        peer = getattr(self.client, "host", "")  # a UNIX socket's peer has none
        trusted = self.txsticky.trusted
        if peer in trusted:
            head = _Headers(self.requestHeaders)
            client = client_address(head, peer, trusted)
            if client != peer:
                kind = IPv6Address if ":" in client else IPv4Address
                self.client = kind("TCP", client, 0)
            own = bool(super().isSecure())
            if client_secure(head, peer, own, trusted) is not own:
                self._secure_outside = not own
        super().process()

    def isSecure(self) -> bool:
        if self._secure_outside is None:
            return bool(super().isSecure())
        return self._secure_outside


@attrs.frozen
class _Headers:
    """
    Headers of twisted.web (`core.routing.forwarded.HasHeaders`).

    :param _headers: those of the request.
    """

    _headers: Headers

    def headers(self, name: bytes) -> tuple[bytes, ...]:
        return tuple(self._headers.getRawHeaders(name) or ())
