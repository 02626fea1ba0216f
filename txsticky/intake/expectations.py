"""What clients are expected to send first, by the configuration and by the application."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ..config import Config
from ..core.routing.forwarded import Trusted


@attrs.frozen
class Expectations:
    """
    What clients are expected to send first.

    :param waits: whether a connection waits for its client's first bytes; if not, it is handed off
        as it is.
    :param parses: whether HTTP in the clear is expected, so that a connection waits for a head.
    :param only_http: whether what is not HTTP is refused.
    :param proxies: says of a peer's host whether its connections have to begin with a PROXY
        protocol header; None if no connection has to.
    """

    waits: bool = True
    parses: bool = True
    only_http: bool = True
    proxies: Callable[[str], bool] | None = None


def expectations_for(config: Config, needs_head: bool, http: bool | None) -> Expectations:
    """
    Tell what clients send first.

    :param needs_head: whether a request's head can matter to where it goes (`Router.needs_head`).
    :param http: whether the application speaks HTTP; None if that is not known yet.
    """
    # Only HTTP has a session of Engine.IO: to wait for one by default would keep a server of
    # another protocol from speaking first.
    wanted = needs_head and not config.sticky_by_default
    parses = not config.tls and (http is not False or wanted)
    return Expectations(
        waits=config.tls or parses,
        parses=parses,
        only_http=bool(http),
        proxies=_trusted(config).__contains__ if config.proxy_protocol else None,
    )


def _trusted(config: Config) -> Trusted:
    """The peers that send a PROXY protocol header; the local ones if the operator names none."""
    return Trusted.parse(config.forwarded_allow_ips or "127.0.0.1,::1,unix")
