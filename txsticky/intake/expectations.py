"""What clients are expected to send first, by the configuration and by the application."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ..config import DEFAULT_STICKY, Config
from ..core.routing.forwarded import Trusted


@attrs.define
class Manners:
    """
    What the clients are expected to say first.

    :param waits: whether there is anything to wait for; if not, a connection is handed off as it
        is.
    :param parses: whether it is HTTP in the clear, so that there is a head to wait for.
    :param only_http: whether what is not HTTP is refused.
    :param proxies: says of a peer's host whether it has to begin with a PROXY protocol header.
    """

    waits: bool = True
    parses: bool = True
    only_http: bool = True
    proxies: Callable[[str], bool] | None = None


def manners_for(config: Config, needs_head: bool, http: bool | None) -> Manners:
    """
    What clients say first, by the configuration.

    :param needs_head: whether a request's head can matter to where it goes (`Router.needs_head`).
    :param http: whether the application speaks HTTP; None if that is not known yet.
    """
    manners = Manners()
    # What is not HTTP has no session of Engine.IO: to wait for one, as the default would have it,
    # is to keep a server that speaks first from speaking.
    wanted = config.sticky != DEFAULT_STICKY and needs_head
    manners.parses = not config.tls and (http is not False or wanted)
    manners.waits = config.tls or manners.parses
    manners.only_http = bool(http)
    if config.proxy_protocol:
        trusted = Trusted.parse(config.forwarded_allow_ips or "127.0.0.1,::1,unix")
        manners.proxies = lambda host: host in trusted
    return manners
