"""What ``--listen`` takes, as a Twisted endpoint string; and what other programs write there."""

from __future__ import annotations

import ipaddress
import re

from ..errors import ConfigError

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]:|([\w.-]+):)?(\d+)", re.ASCII)


def endpoint_string(listen: str, backlog: int) -> str:
    """
    Turn what `--listen` takes into a Twisted endpoint string.

    Such a string is for `twisted.internet.endpoints.serverFromString`.

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
        if four and not four.replace(".", "").isdigit():
            hint += f"; {four} is a name, and an address is needed: 0.0.0.0:{port} for all of them"
        raise ConfigError(option="--listen", value=listen, hint=hint) from None
    kind, host = ("tcp6", six.replace(":", r"\:")) if six else ("tcp", four)
    interface = f":interface={host}" if host else ""
    return f"{kind}:{port}{interface}:backlog={backlog}"


def bound_to(text: str) -> str:
    """Turn what gunicorn's ``--bind`` takes into what `--listen` takes."""
    return text.removeprefix(":")


def host_and_port(host: str, port: str) -> str:
    """Turn a host and a port into what `--listen` takes."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
