"""
nginx's configuration for several machines.

The words are those of its manual (https://nginx.org/en/docs/http/ngx_http_upstream_module.html);
all of them are known from version 1.22 on.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import ConfigError
from .settings import BalancerSettings, Machine

_LOCATION = """\
    location / {
        proxy_pass {scheme}://$txsticky_machine;
        # A request that has reached a machine is sent to another one only if it may be repeated.
        proxy_next_upstream error timeout;
        proxy_connect_timeout 2s;
        # The machines bound requests (--stall-timeout), and may answer late.
        proxy_read_timeout 1h;
        proxy_send_timeout 1h;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $txsticky_connection;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_buffering off;
        proxy_request_buffering off;
"""


def configure(settings: BalancerSettings) -> str:
    """
    Write the configuration: what stands in nginx's block ``http``.

    :raises ConfigError: nginx cannot be what the settings say.
    """
    if settings.proxy_protocol:
        hint = "nginx sends PROXY for streams alone, in which it sees no sid; take HAProxy"
        raise ConfigError(option="--proxy-protocol", value="given", hint=hint)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        hint = "nginx wants --tls-cert and --tls-key"
        raise ConfigError(option="--tls-key", value=settings.tls_key, hint=hint)
    return "\n".join(_lines(settings)) + "\n"


def _lines(settings: BalancerSettings) -> Iterator[str]:
    yield "# nginx in front of txsticky on several machines, of which each runs"
    yield "#"
    for machine in settings.machines:
        yield f"#     {settings.command(machine)}"
    yield "#"
    yield "# A file for conf.d: it is included in the block http."
    yield ""
    yield from _choice(settings)
    for machine in settings.machines:
        yield ""
        yield from _upstream(f"txsticky_{machine.name}", settings, machine)
    yield ""
    yield from _upstream("txsticky", settings)
    yield ""
    yield from _site(settings)


def _choice(settings: BalancerSettings) -> Iterator[str]:
    """Write the maps from a request to its upstream."""
    yield "# A session's id begins with its machine, and so does the cookie of other clients."
    cookie = f"$cookie_{settings.cookie}"
    by_cookie, by_header = "$txsticky_by_cookie", "$txsticky_by_header"
    for source, target, default in (
        (cookie, by_cookie, "txsticky"),
        ("$http_mcp_session_id", by_header, by_cookie),
        ("$arg_sid", "$txsticky_machine", by_header),
    ):
        yield f"map {source} {target} {{"
        yield f"    default {default};"
        for machine in settings.machines:
            yield f'    "~^{machine.name}\\." txsticky_{machine.name};'
        yield "}"
    yield "map $http_upgrade $txsticky_connection {"
    yield "    default upgrade;"
    yield '    "" "";'
    yield "}"


def _upstream(
    name: str, settings: BalancerSettings, pinned: Machine | None = None
) -> Iterator[str]:
    """
    Write an upstream.

    :param pinned: the machine that gets all, as long as it is there.
    """
    if pinned is not None:
        yield f"# The clients of {pinned.name}; if it is gone, the others give them new cookies."
    yield f"upstream {name} {{"
    yield f"    zone {name} 64k;"
    yield "    least_conn;"
    for machine in settings.machines:
        backup = " backup" if pinned not in (None, machine) else ""
        yield f"    server {machine.place} max_fails=1 fail_timeout=5s{backup};"
    yield "    keepalive 64;"
    yield "}"


def _site(settings: BalancerSettings) -> Iterator[str]:
    yield "server {"
    yield f"    listen {settings.listen}{' ssl' if settings.tls_cert is not None else ''};"
    if settings.tls_cert is not None:
        yield f"    ssl_certificate {settings.tls_cert};"
        yield f"    ssl_certificate_key {settings.tls_key};"
    yield "    client_max_body_size 0;"
    yield ""
    tls = settings.machines_tls is not None
    yield _LOCATION.replace("{scheme}", "https" if tls else "http").rstrip("\n")
    if tls:
        yield "        proxy_ssl_verify on;"
        yield f"        proxy_ssl_trusted_certificate {settings.machines_ca};"
        yield f"        proxy_ssl_name {settings.machines_tls};"
        yield "        proxy_ssl_server_name on;"
    yield "    }"
    yield "}"
