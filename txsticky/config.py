"""
The configuration: one frozen value, checked when it is made, that also travels to the workers.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from .core.balance import BALANCERS, balancer
from .core.forwarded import Trusted
from .core.hosts import is_name
from .core.keys import parse_chain
from .core.redisurl import parse_bus
from .core.route import Router
from .core.tag import Signer
from .errors import ConfigError

INTERFACES = ("auto", "web", "wsgi", "asgi", "protocol")
#: What may be logged, the least first; uvicorn's and gunicorn's names.
LOG_LEVELS = ("critical", "error", "warning", "info", "debug")
#: Who may accept connections.
ACCEPTORS = ("primary", "workers")
#: The kinds of endpoint whose address several sockets can share.
_SHARABLE = ("tcp", "tcp4", "tcp6")
#: The application that is served when none is named; a function makes it.
DEMO = "txsticky.demo:resource"
#: What identifies a client when nothing is said.
DEFAULT_STICKY = "sid"


def _number(
    low: float, high: float, zero: str = ""
) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        whole = isinstance(attribute.default, int)
        number = isinstance(value, int if whole else int | float)
        if not (number and (low <= value <= high or (zero and value == 0))):
            kind = "a whole number" if whole else "a number"
            hint = f"{kind} from {low:g} to {high:g}{zero}"
            raise ConfigError(option=_option(attribute), value=value, hint=hint)

    return check


def _several(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _one_of(*names: str) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: str) -> None:
        if value not in names:
            raise ConfigError(
                option=_option(attribute), value=value, hint="one of " + " ".join(names)
            )

    return check


def _parsed_by(parse: Callable[[str], object]) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: str) -> None:
        try:
            parse(value)
        except ValueError as error:
            raise ConfigError(option=_option(attribute), value=value, hint=str(error)) from None

    return check


def _host_names(instance: Any, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for name in value:
        if not is_name(name):
            hint = "a host's name, without scheme or port; addresses are always taken"
            raise ConfigError(option=_option(attribute), value=name, hint=hint)


def _path(instance: Any, attribute: attrs.Attribute[Any], value: str) -> None:
    if value and not re.fullmatch(r"(/[^/?#\s\x00-\x1f\x7f-\U0010ffff]+)+", value):
        raise ConfigError(
            option=_option(attribute),
            value=value,
            hint="an ASCII path as /app, without / at its end",
        )


def _option(attribute: attrs.Attribute[Any]) -> str:
    return "--" + attribute.name.replace("_", "-")


def default_workers(environ: Mapping[str, str]) -> int:
    """
    How many workers when nobody says: $WEB_CONCURRENCY (the platforms' variable), else one a core.

    :raises ConfigError: the variable is not a number of workers.
    """
    text = environ.get("WEB_CONCURRENCY", "")
    if text:
        if not text.isdecimal() or not 1 <= int(text) <= 512:
            raise ConfigError(
                option="WEB_CONCURRENCY", value=text, hint="a whole number from 1 to 512"
            )
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]:|([\w.-]+):)?(\d+)", re.ASCII)


def endpoint_string(listen: str, backlog: int) -> str:
    """
    Turn what `--listen` takes into a Twisted endpoint string
    (`twisted.internet.endpoints.serverFromString`).

    :param listen: `8080`, `host:8080`, `[::1]:8080`, or an endpoint string, which stays as it is.
    :raises ConfigError: the port or the address cannot be, or is a name.
    """
    found = _ADDRESS.fullmatch(listen)
    if found is None or found[2] in ("tcp", "tcp4", "tcp6", "unix", "systemd"):
        return listen
    six, four, port = found.groups()
    four = "127.0.0.1" if four == "localhost" else four
    try:
        ipaddress.ip_address(six or four or "0.0.0.0")
        if int(port) > 65535:
            raise ValueError
    except ValueError:
        hint = "a port, address:port, or a Twisted endpoint string"
        raise ConfigError(option="--listen", value=listen, hint=hint) from None
    kind, host = ("tcp6", six.replace(":", r"\:")) if six else ("tcp", four)
    interface = f":interface={host}" if host else ""
    return f"{kind}:{port}{interface}:backlog={backlog}"


@attrs.frozen(kw_only=True)
class Config:
    """
    What a cluster is to be.  The fields carry the names of the command's options.

    Times are in seconds, sizes in bytes.

    :raises ConfigError: a value is out of range; the sentence names the option.
    """

    app: str = DEMO
    listen: tuple[str, ...] = attrs.field(default=("tcp:8080",), converter=_several)
    workers: int = attrs.field(default=1, validator=_number(1, 512))
    interface: str = attrs.field(default="auto", validator=_one_of(*INTERFACES))
    factory: bool = False
    sticky: str = attrs.field(default=DEFAULT_STICKY, validator=_parsed_by(parse_chain))
    balance: str = attrs.field(default="leastconn", validator=_one_of(*BALANCERS))
    accept: str = attrs.field(default="primary", validator=_one_of(*ACCEPTORS))
    tls_cert: tuple[str, ...] = attrs.field(default=(), converter=_several)
    tls_key: tuple[str, ...] = attrs.field(default=(), converter=_several)
    proxy_protocol: bool = False
    forwarded_allow_ips: str = attrs.field(default="", validator=_parsed_by(Trusted.parse))
    root_path: str = attrs.field(default="", validator=_path)
    head_timeout: float = attrs.field(default=10.0, validator=_number(0.05, 3600))
    head_limit: int = attrs.field(
        default=65536,
        validator=_number(1024, 131072),
    )
    graceful_timeout: float = attrs.field(default=30.0, validator=_number(0, 86400))
    worker_timeout: float = attrs.field(
        # A heart beats twice a second: less than a few beats would be chance.
        default=30.0,
        validator=_number(2, 86400, zero=", or 0 for never"),
    )
    max_requests: int = attrs.field(default=0, validator=_number(0, 1e9))
    max_requests_jitter: int = attrs.field(default=0, validator=_number(0, 1e9))
    keep_alive: float = attrs.field(default=60.0, validator=_number(0, 86400))
    backlog: int = attrs.field(default=2048, validator=_number(1, 65535))
    status: str | None = None
    status_host: tuple[str, ...] = attrs.field(
        default=(), converter=_several, validator=_host_names
    )
    control: str | None = None
    bus: str = attrs.field(default="local", validator=_parsed_by(parse_bus))
    access_log: str | None = None
    log_level: str = attrs.field(default="info", validator=_one_of(*LOG_LEVELS))
    log_config: str | None = None
    debug_headers: bool = False
    reload: bool = False
    user: str | None = None
    group: str | None = None

    def __attrs_post_init__(self) -> None:
        if len(self.tls_cert) != len(self.tls_key):
            raise ConfigError(
                option="--tls-key",
                value=len(self.tls_key),
                hint="one key for each --tls-cert, in the same order",
            )
        if not self.listen:
            raise ConfigError(option="--listen", value="", hint="at least one endpoint")
        for listen in self.listen:
            endpoint_string(listen, self.backlog)

    @property
    def tls(self) -> bool:
        """Whether the workers end TLS."""
        return bool(self.tls_cert)

    def shares(self, listen: str) -> bool:
        """Whether the workers accept on this one of `listen`, each on a socket of its own."""
        endpoint = endpoint_string(listen, self.backlog)
        return self.accept == "workers" and endpoint.partition(":")[0] in _SHARABLE

    def router(self, secret: bytes) -> Router:
        """The one decision, as this configuration wants it; `secret` signs the tags."""
        return Router(
            chain=parse_chain(self.sticky),
            signer=Signer(secret),
            balancer=balancer(self.balance),
            trusted=Trusted.parse(self.forwarded_allow_ips),
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Config:
        """Undo `to_json`."""
        return cls(**fields)
