"""Listening on Twisted's endpoints, at once or not at all."""

from __future__ import annotations

from typing import Any

from . import activation  # noqa: F401 - it names sockets before Twisted looks for them

# isort: split
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint

from ..errors import ListenError
from .unix_port import UNIXReactor


def open_port(reactor: Any, endpoint: str, factory: IProtocolFactory, shown: str) -> IListeningPort:
    """
    Listen on an endpoint.

    :param endpoint: an endpoint string (`twisted.internet.endpoints.serverFromString`).
    :param shown: what the operator wrote.
    :raises ListenError: it cannot be listened on; its field `place` is the port's number or the
        path of the UNIX socket, where that is known, and its field `interface` the address.
    """
    failures: list[Any] = []
    ports: list[Any] = []
    made = read_endpoint(reactor, endpoint, shown)
    try:
        listening = made.listen(factory)
        listening.addCallbacks(ports.append, failures.append)
    except Exception as error:
        raise ListenError(endpoint=shown, reason=_reason(error)) from None
    if failures:
        why = failures[0].value
        raise ListenError(
            endpoint=shown,
            reason=_reason(why),
            place=getattr(why, "port", None),
            interface=getattr(why, "interface", None),
        )
    if not ports:
        raise ListenError(endpoint=shown, reason="this kind of endpoint does not listen at once")
    port: IListeningPort = ports[0]
    return port


def read_endpoint(reactor: Any, endpoint: str, shown: str) -> IStreamServerEndpoint:
    """
    Read an endpoint string.

    :param endpoint: the string.
    :param shown: what the operator wrote.
    :raises ListenError: it is none that Twisted knows.
    """
    try:
        made: IStreamServerEndpoint = serverFromString(UNIXReactor(reactor), endpoint)
    except Exception as error:
        reason = f"write a port, address:port, or a Twisted endpoint string ({_reason(error)})"
        if endpoint.startswith("systemd:") and isinstance(error, LookupError):
            reason = "the service manager has passed no such socket (LISTEN_FDS, LISTEN_FDNAMES)"
        raise ListenError(endpoint=shown, reason=reason) from None
    return made


def _reason(error: BaseException) -> str:
    cause = getattr(error, "socketError", error)
    # The text of an OSError names files that only Twisted knows: locks.
    return str(getattr(cause, "strerror", None) or cause) or type(error).__name__
