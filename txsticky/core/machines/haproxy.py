"""
HAProxy's configuration for several machines.

The words are those of its manual (https://docs.haproxy.org/2.6/configuration.html); all of them are
known from version 2.6 on.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import ConfigError
from ..lifecycle.states import LAME_DUCK, Phase
from .settings import BalancerSettings

_DEFAULTS = """\
defaults
    mode http
    timeout connect 2s
    timeout http-request 10s
    timeout http-keep-alive 60s
    timeout client 60s
    # The machines bound requests (--stall-timeout), and may answer late.
    timeout server 1h
    timeout tunnel 1h
"""

_BACKEND = """\
backend machines
    balance leastconn
    # A machine that takes no connection is passed over at once. A request that has reached a
    # machine is sent to another one only if it may be repeated.
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
    http-request disable-l7-retry unless METH_GET
    # A machine that is told to stop keeps its sessions, and gets no new clients. One that does not
    # serve, or does not answer, has neither.
    option httpchk
    http-check send meth GET uri /readyz
    http-check expect ! rstring "phase is ({leaving})" error-status L7OKC
    http-check expect status 200
    default-server {server}
    # A session's id begins with its machine, and so does the cookie of a client without a session.
    # If the machine is gone, another one serves the client and gives it a new cookie.
{choice}
    # The ids of MCP sessions are the application's own: they are learned.
    stick-table type string len 128 size 1m expire 1h
    stick store-response res.hdr(Mcp-Session-Id)
    stick match req.hdr(Mcp-Session-Id)
"""


def configure(settings: BalancerSettings) -> str:
    """
    Write the configuration, the whole file.

    :raises ConfigError: HAProxy cannot be what the settings say.
    """
    if settings.tls_key is not None:
        hint = "HAProxy reads the key from the file of --tls-cert, or from FILE.key beside it"
        raise ConfigError(option="--tls-key", value=settings.tls_key, hint=hint)
    if settings.proxy_protocol and settings.tls_cert is not None:
        hint = "it does not tell the machines that clients speak TLS, as X-Forwarded-Proto does"
        raise ConfigError(option="--proxy-protocol", value="given with --tls-cert", hint=hint)
    return "\n".join(_lines(settings)) + "\n"


def _lines(settings: BalancerSettings) -> Iterator[str]:
    yield "# HAProxy in front of txsticky on several machines, of which each runs"
    yield "#"
    for machine in settings.machines:
        yield f"#     {settings.command(machine)}"
    yield ""
    yield _DEFAULTS
    yield from _frontend(settings)
    yield ""
    choice = [
        f"    use-server {machine.name} if {{ {found} -m beg {machine.name}. }}"
        for found in ("urlp(sid)", "req.hdr(Mcp-Session-Id)", f"req.cook({settings.cookie})")
        for machine in settings.machines
    ]
    yield _BACKEND.format(
        server=_server(settings),
        choice="\n".join(choice),
        leaving=f"{LAME_DUCK}|{Phase.DRAINING.value}",
    ).rstrip("\n")
    for machine in settings.machines:
        yield f"    server {machine.name} {machine.place}"


def _frontend(settings: BalancerSettings) -> Iterator[str]:
    yield "frontend web"
    place = settings.listen if ":" in settings.listen else f":{settings.listen}"
    tls = f" ssl crt {settings.tls_cert} alpn h2,http/1.1" if settings.tls_cert is not None else ""
    yield f"    bind {place}{tls}"
    if not settings.proxy_protocol:
        yield "    option forwardfor"
    # Whatever a client says of itself is overwritten.
    proto = "https" if settings.tls_cert is not None else "http"
    yield f"    http-request set-header X-Forwarded-Proto {proto}"
    yield "    default_backend machines"


def _server(settings: BalancerSettings) -> str:
    """Write what all machines have in common."""
    words = [
        f"check port {settings.status_port} inter 1s fall 2 rise 1",
        # What an unplugged machine holds would last until its timeouts.
        "on-marked-down shutdown-sessions",
    ]
    if settings.proxy_protocol:
        words.append("send-proxy-v2")
    if settings.machines_tls is not None:
        name = settings.machines_tls
        words.append(
            f"ssl verify required ca-file {settings.machines_ca} sni str({name}) verifyhost {name}"
            " no-check-ssl"
        )
    return " ".join(words)
