"""Scrapyd's web service, as ``~/.scrapyd.conf`` has it, which its runners read as well."""

from __future__ import annotations

from typing import Any

from scrapyd.app import application
from scrapyd.config import Config
from twisted.application.internet import TCPServer
from twisted.application.service import IServiceCollection


def site() -> Any:
    """The Site that Scrapyd would serve at a port of its own."""
    services = IServiceCollection(application(Config()))
    (server,) = (each for each in services if isinstance(each, TCPServer))
    return server.args[1]
