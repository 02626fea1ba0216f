"""Listening on Twisted's endpoints, at once or not at all."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from .errors import ListenError


def open_port(reactor: Any, endpoint: str, factory: IProtocolFactory, shown: str) -> IListeningPort:
    """
    Listen on an endpoint.

    :param endpoint: an endpoint string (`twisted.internet.endpoints.serverFromString`).
    :param shown: what the operator wrote.
    :raises ListenError: it cannot be listened on.
    """
    failures: list[Any] = []
    ports: list[Any] = []
    try:
        listening = serverFromString(reactor, endpoint).listen(factory)
        listening.addCallbacks(ports.append, failures.append)
    except Exception as error:
        raise ListenError(endpoint=shown, reason=_reason(error)) from None
    if failures:
        raise ListenError(endpoint=shown, reason=_reason(failures[0].value))
    if not ports:
        raise ListenError(endpoint=shown, reason="this kind of endpoint does not listen at once")
    port: IListeningPort = ports[0]
    return port


def _reason(error: BaseException) -> str:
    if isinstance(error, CannotListenError):
        return str(getattr(error.socketError, "strerror", None) or error.socketError)
    return str(error) or type(error).__name__
