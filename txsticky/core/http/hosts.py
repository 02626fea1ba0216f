"""
Which host a request is for, and whether it may be asked for by that name.

A browser names the host in the address bar (RFC 9110, 7.2), so that a page whose own name was made
to lead here, by DNS rebinding, is told by its Host: a name that is not ours. An address cannot be
made to lead elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

#: uri-host [":" port] (RFC 9110, 7.2), the address of IPv6 in brackets (RFC 3986, 3.2.2).
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]*)?", re.ASCII)
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)


class Hosts:
    """
    The names of a site.

    :param names: the names of hosts, besides `localhost` and every address.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(map(_folded, names))

    def answers(self, host: str) -> bool:
        """
        Whether a request is for this site.

        :param host: the value of a Host header.
        """
        found = _HOST.fullmatch(host.strip(" \t"))
        if found is None:
            return False
        six, name = found.groups()
        if six is not None:
            return _is_address(six, 6)
        return _is_address(name, 4) or _folded(name) in self._names | {"localhost"}


def is_of(origin: str, host: str) -> bool:
    """
    Whether an origin (RFC 6454, 7) is of the host and port that a request is for.

    :param host: the value of the request's Host header.
    """
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:  # an IPv6 address that is none
        return False
    return bool(netloc) and netloc.lower() == host.strip(" \t").lower()


def is_name(text: str) -> bool:
    """Whether a text is the name of a host (RFC 1123, 2.1, and with underscores)."""
    return len(text) <= 255 and _NAME.fullmatch(text) is not None


def _folded(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
