"""The configuration: one frozen value, checked when it is made, that travels to the workers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from .core.http.hosts import is_name
from .core.lifecycle.states import MOST_WORKERS
from .core.listen import bound_to, endpoint_string, host_and_port
from .core.option import Alias, Choice, Flag, Number, OptionType, Several, Text, option
from .core.redis_url import parse_bus
from .core.routing.balance import BALANCERS, balancer
from .core.routing.forwarded import Trusted
from .core.routing.keys import parse_chain
from .core.routing.router import Router
from .core.routing.tag import Signer, check_machine
from .errors import ConfigError, UnpairedKeys

INTERFACES = ("auto", "web", "wsgi", "asgi", "protocol")
#: What may be logged, the least first; uvicorn's and gunicorn's names.
LOG_LEVELS = ("critical", "error", "warning", "info", "debug")
#: Which processes may accept connections.
ACCEPTORS = ("primary", "workers")
#: The kinds of endpoint whose address several sockets can share.
_SHARABLE = ("tcp", "tcp4", "tcp6")
#: The application that is served when none is named; a function makes it.
DEMO = "txsticky.demo:resource"
#: What identifies a client if ``--sticky`` is not given.
DEFAULT_STICKY = "auto"
#: What identifies a session of the demo: with a cookie, all of one browser would be one client's.
DEMO_STICKY = "sid"
OFF = Text(none="off")


def _prefix(path: str) -> None:
    """
    Check a path under which an application is mounted.

    :raises ValueError: it cannot be one.
    """
    if path and not re.fullmatch(r"(/[^/?#\s\x00-\x1f\x7f-\U0010ffff]+)+", path):
        raise ValueError("an ASCII path as /app, without / at its end")


def _host_name(name: str) -> None:
    """
    Check the name of a host.

    :raises ValueError: it is none.
    """
    if not is_name(name):
        raise ValueError("a host's name, without scheme or port; addresses are always taken")


def default_workers(environ: Mapping[str, str]) -> int:
    """
    Tell how many workers a cluster has by default: $WEB_CONCURRENCY, else one for each core.

    Hosting platforms set the variable.

    :raises ConfigError: the variable is not a number of workers.
    """
    text = environ.get("WEB_CONCURRENCY", "")
    if text:
        if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
            hint = f"a whole number from 1 to {MOST_WORKERS}"
            raise ConfigError(option="WEB_CONCURRENCY", value=text, hint=hint)
        return int(text)
    return cores()


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _trusted_proxies(environ: Mapping[str, str]) -> str:
    """Tell which proxies are trusted by default: those that uvicorn and gunicorn would trust."""
    return environ.get("FORWARDED_ALLOW_IPS", "")


def _option_found(found: Callable[[Mapping[str, str]], Any], kind: OptionType, **words: Any) -> Any:
    """Declare an option whose default stands in the environment."""
    return option(attrs.Factory(lambda: found(os.environ)), kind, found=found, **words)


@attrs.frozen(kw_only=True)
class Config:
    """
    The settings of a cluster. The fields carry the names of the command's options.

    Times are in seconds, sizes in bytes.

    :raises ConfigError: a value is out of range; the sentence names the option.
    """

    app: str = option(
        DEMO, Text(), help="The application, as module:attribute; without it a demo is served"
    )
    listen: tuple[str, ...] = option(
        ("tcp:8080",),
        Several(),
        short="l",
        help="Where to listen, repeatable: PORT, ADDRESS:PORT, or a Twisted endpoint string such as"
        " unix:/run/app.sock or systemd:domain=INET:index=0",
        aliases=(
            Alias("gunicorn", {"bind": ""}, bound_to),
            Alias("uvicorn", {"host": "127.0.0.1", "port": "8000"}, host_and_port),
            Alias("uvicorn", {"uds": ""}, "unix:{}".format),
        ),
    )
    workers: int = _option_found(
        default_workers,
        Number(1, MOST_WORKERS, whole=True),
        short="w",
        help="Number of worker processes",
        shown="$WEB_CONCURRENCY, else one a core",
    )
    interface: str = option(
        "auto", Choice(INTERFACES), help="What APP is: auto, web, wsgi, asgi or protocol"
    )
    factory: bool = option(False, Flag(), help="APP is a callable that returns the application")
    preload: bool = option(
        False,
        Flag(),
        help="Import the application once, before workers are forked: they share its memory",
    )
    sticky: str = option(
        DEFAULT_STICKY,
        Text(parse_chain),
        help="What identifies a client: a chain of sid, query:NAME, cookie:NAME, insert[:NAME],"
        " header:NAME, path:REGEX, ip, none, with commas between; with hash: before a source, its"
        " value alone chooses the worker; auto is sid,header:Mcp-Session-Id,insert",
    )
    machine: str | None = option(
        None,
        Text(check_machine),
        help="Name of this machine, in front of its tags, so that a balancer routes by it",
    )
    secret_file: str | None = option(
        None,
        Text(),
        help="File with the secret that signs tags: they outlive a restart, and machines that share"
        " it know each other's",
        shown="drawn at each start",
    )
    balance: str = option(
        "leastconn",
        Choice(tuple(BALANCERS)),
        help="Load balancing for clients without a sticky key: leastconn, roundrobin, random or"
        " random2",
    )
    accept: str = option(
        "primary",
        Choice(ACCEPTORS),
        help="Which processes accept connections: the primary, or the workers",
        aliases=(
            Alias(
                "gunicorn",
                {"reuse-port": ""},
                gives="workers",
                remark="a port in use stays an error; a reload loses no connection",
            ),
        ),
    )
    tls_cert: tuple[str, ...] = option(
        (),
        Several(),
        help="PEM file of a TLS certificate and its chain; repeatable, chosen by server name",
        aliases=(Alias("gunicorn", {"certfile": ""}), Alias("uvicorn", {"ssl-certfile": ""})),
    )
    tls_key: tuple[str, ...] = option(
        (),
        Several(),
        help="PEM file of a private key; one for each --tls-cert, in the same order",
        aliases=(Alias("gunicorn", {"keyfile": ""}), Alias("uvicorn", {"ssl-keyfile": ""})),
    )
    proxy_protocol: bool = option(
        False,
        Flag(),
        help="Connections from --forwarded-allow-ips (by default this host) begin with a PROXY"
        " protocol header, v1 or v2",
    )
    forwarded_allow_ips: str = _option_found(
        _trusted_proxies,
        Text(Trusted.parse),
        help="Proxies that may name the client's address: addresses and networks with commas"
        " between, or *",
        shown="$FORWARDED_ALLOW_IPS, else none",
    )
    root_path: str = option(
        "",
        Text(_prefix),
        help="Path under which a proxy mounts the application, and which the proxy strips",
    )
    head_timeout: float = option(
        10.0, Number(0.05, 3600, unit="s"), help="Seconds within which a request head has to arrive"
    )
    head_limit: int = option(
        65536,
        Number(1024, 131072, whole=True, unit="bytes"),
        help="The largest request head, in bytes",
    )
    head_backlog: int = option(
        10_000,
        Number(1, 1_000_000, whole=True),
        help="Connections whose first request is awaited; one more makes the oldest leave",
    )
    graceful_timeout: float = option(
        30.0,
        Number(0, 86400, unit="s"),
        help="Seconds that a worker has to finish its requests and to shut down",
        aliases=(Alias("uvicorn", {"timeout-graceful-shutdown": ""}),),
    )
    lame_duck: float = option(
        0.0,
        Number(0, 86400, unit="s"),
        help="Seconds for which TERM lets the cluster serve on, while /readyz says no",
    )
    worker_timeout: float = option(
        # Workers send a heartbeat at least once in a quarter of it (`worker.load_report`).
        30.0,
        Number(2, 86400, zero="never", unit="s"),
        help="Seconds without a heartbeat after which a worker is replaced, or 0 for never",
        aliases=(
            Alias("gunicorn", {"timeout": ""}, remark="a request may take as long as it likes"),
        ),
    )
    start_timeout: float = option(
        300.0,
        Number(0.1, 86400, zero="never", unit="s"),
        help="Seconds that a worker has to get ready, or 0 for no limit",
    )
    start_at_a_time: int = option(
        0,
        Number(0, MOST_WORKERS, whole=True, zero="one a core"),
        help="Workers that may be starting at a time, or 0 for one a core",
    )
    queue_timeout: float = option(
        60.0,
        Number(0, 86400, unit="s"),
        help="Seconds that a request waits for a worker while none is ready",
    )
    max_requests: int = option(
        0,
        Number(0, 1e9, whole=True, zero="never"),
        help="Requests after which a worker is replaced, or 0 for never",
        aliases=(
            Alias("uvicorn", {"limit-max-requests": ""}, remark="the successor starts first"),
        ),
    )
    max_requests_jitter: int = option(
        0,
        Number(0, 1e9, whole=True),
        help="Upper bound of a random number that is added to --max-requests",
    )
    keep_alive: float = option(
        60.0,
        Number(0, 86400, unit="s"),
        help="Seconds that a connection may be idle between requests",
        aliases=(Alias("uvicorn", {"timeout-keep-alive": ""}, remark="60 s by default, not 5 s"),),
    )
    stall_timeout: float = option(
        300.0,
        Number(1, 86400, zero="never", unit="s"),
        help="Seconds that a client may pause within a request or a response, or 0 for no limit",
    )
    websockets: str = option(
        "close",
        Choice(("close", "move")),
        help="What becomes of WebSockets whose worker leaves: close, with code 1001, unless the"
        " application lets them move; or move, to another worker between two messages",
    )
    threads: int = option(
        64, Number(1, 10_000, whole=True), help="WSGI requests that a worker runs at the same time"
    )
    response_buffer: int = option(
        1 << 20,
        Number(0, 1 << 30, whole=True, unit="bytes"),
        help="Bytes of a WSGI response that may wait for its client before its thread waits",
    )
    backlog: int = option(
        2048,
        Number(1, 65535, whole=True),
        help="Connections that may wait to be accepted, or for a worker",
    )
    status: str | None = option(
        None, OFF, help="Endpoint of the status page, /metrics and /healthz"
    )
    status_host: tuple[str, ...] = option(
        (),
        Several(_host_name),
        help="Host name under which the status page may be requested, repeatable; localhost and"
        " addresses are always allowed",
    )
    control: str | None = option(None, OFF, help="Path of the control socket, for txsticky ctl")
    bus: str = option(
        "local",
        Text(parse_bus),
        help="Where publications go: local, or between machines redis://HOST:PORT/DB, or"
        " redis-stream://HOST:PORT/DB, which keeps them over an outage",
    )
    access_log: str | None = option(
        None,
        OFF,
        help="File of the access log; - is the standard output",
        aliases=(Alias("gunicorn", {"access-logfile": ""}),),
    )
    log_level: str = option(
        "info",
        Choice(LOG_LEVELS),
        help="Least severe level that is logged: critical, error, warning, info or debug",
    )
    log_config: str | None = option(
        None,
        Text(),
        help="File that configures Python's logging in the workers: JSON, YAML or INI",
    )
    debug_headers: bool = option(
        False, Flag(), help="Add response headers that name the worker, and why it was chosen"
    )
    reload: bool = option(
        False, Flag(), help="For development: restart the workers when a source file changes"
    )
    user: str | None = option(
        None,
        Text(),
        help="The user that the workers run as; the primary stays root",
        shown="that of the command",
    )
    group: str | None = option(
        None, Text(), help="The group that the workers run as", shown="that of the user"
    )

    def __attrs_post_init__(self) -> None:
        if len(self.tls_cert) != len(self.tls_key):
            raise UnpairedKeys(certificates=len(self.tls_cert), keys=len(self.tls_key))
        if not self.listen:
            raise ConfigError(option="--listen", value="", hint="at least one endpoint")
        for listen in self.listen:
            endpoint_string(listen, self.backlog)

    @property
    def tls(self) -> bool:
        """Whether the workers end TLS."""
        return bool(self.tls_cert)

    @property
    def sticky_by_default(self) -> bool:
        """Whether the sticky keys are the default's, which only HTTP has."""
        return self.sticky == DEFAULT_STICKY

    def shares(self, listen: str) -> bool:
        """Whether the workers accept on this one of `listen`, each on a socket of its own."""
        return self.accept == "workers" and self.opens(listen)

    def opens(self, listen: str) -> bool:
        """Whether this one of `listen` is a TCP port that this program opens itself."""
        return endpoint_string(listen, self.backlog).partition(":")[0] in _SHARABLE

    def router(self, secret: bytes, in_words: bool = True) -> Router:
        """
        Make the router of this configuration.

        :param secret: signs the tags.
        :param in_words: see `Router`.
        """
        of_demo = self.app == DEMO and self.sticky_by_default
        return Router(
            chain=parse_chain(
                DEMO_STICKY if of_demo else self.sticky, None if self.machine else self.listen
            ),
            signer=Signer(secret, self.machine or ""),
            balancer=balancer(self.balance),
            trusted=Trusted.parse(self.forwarded_allow_ips),
            in_words=in_words,
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Config:
        """Undo `to_json`; what another version adds is dropped."""
        known = {field.name for field in attrs.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in known})
