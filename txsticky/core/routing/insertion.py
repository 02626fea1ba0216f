"""The cookie that is inserted: its name, and its lines as ready bytes."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from ..memo import entries
from .cookies import cookie_line

#: What ``--listen`` takes that has a port: an endpoint of TCP, or 8080, host:8080, [::1]:8080.
_LISTENS: Final = re.compile(
    r"(?:tcp[46]?|ssl|tls):(?:(?:port=)?|.*:port=)([0-9]{1,5})(?::.*)?"
    r"|(?:[\w.-]+:|\[[0-9A-Fa-f:.]+\]:)?([0-9]{1,5})",
    re.ASCII,
)
#: What stands behind the name for the clients of a port that the cluster does not listen on.
SUFFIX: Final = rb"(?:_[0-9]{1,5})?"
#: Seconds that a value serves all clients without a cookie.
MINUTE: Final = 60.0
#: How many lines are kept ready; they differ by the port that a client names, and by TLS.
_READY: Final = entries(64, 512)


@attrs.frozen
class PlaceName:
    """
    The name of a cookie that says where its cluster listens.

    No port separates cookies (RFC 6265, section 8.5): two clusters on one host would overwrite each
    other's. So the name has the port that the cluster listens on, or a hash of its socket's path;
    and the port that the client has connected to, as its Host header says, where the cluster does
    not listen on that one, which then is a proxy's, or a container's.

    :param name: without the client's port.
    :param ports: those that the cluster listens on.
    """

    name: str
    ports: frozenset[bytes]

    @classmethod
    def of(cls, listen: Sequence[str]) -> PlaceName:
        """
        Name the cookie of a cluster that listens at these places.

        :param listen: as ``--listen`` takes them, at least one. The first that has a port names the
            cookie, so that there is one for all of them; if none has, the first place does.
        """
        matches = [match for match in map(_LISTENS.fullmatch, listen) if match is not None]
        ports = [match[1] or match[2] for match in matches]
        place = ports[0] if ports else f"{zlib.crc32(listen[0].encode()):08x}"
        return cls(f"txsticky_{place}", frozenset(port.encode() for port in ports))

    def suffix(self, host: bytes | None) -> bytes:
        """
        Tell what stands behind the name for a client; empty if nothing does.

        :param host: the Host header of its request.
        """
        _, colon, port = (host or b"").rpartition(b":")
        if not colon or port in self.ports or not (port.isdigit() and len(port) <= 5):
            return b""
        return b"_" + port


class InsertedCookie:
    """
    The lines that insert the cookie of one worker.

    All clients that get one within a minute get the same: it says nothing but which worker is
    theirs.

    :param name: of the cookie, without what a client's port adds to it.
    :param attributes: of the cookie, in the order and spelling in which they are sent.
    :param mint: makes a value that leads to the worker.
    :param clock: seconds, monotonic.
    :ivar clock: the same.
    :ivar until: when another value is minted, by the clock.
    """

    def __init__(
        self,
        name: str,
        attributes: Sequence[str],
        mint: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._attributes = attributes
        self._mint = mint
        self.clock = clock
        self._value = ""
        self.until = float("-inf")
        self._lines: dict[tuple[bytes, bool], bytes] = {}

    def line(self, variant: tuple[bytes, bool]) -> bytes:
        """
        Return the header line, with its CR LF.

        :param variant: what stands behind the name (`PlaceName.suffix`), and whether the client
            speaks TLS.
        """
        now = self.clock()
        if now >= self.until or len(self._lines) >= _READY:
            self.until = now + MINUTE
            self._value = self._mint()
            self._lines.clear()
        line = self._lines.get(variant)
        if line is None:
            suffix, secure = variant
            name = self._name + suffix.decode()
            line = cookie_line(name, self._attributes, self._value, secure)
            self._lines[variant] = line
        return line


def may_be_shared(fields: bytes) -> bool:
    """
    Tell whether a shared cache may store a response and give it to others, cookie and all.

    :param fields: the header lines, with a CR LF before the first.
    """
    lowered = fields.lower()
    at = lowered.find(_CACHE_CONTROL)
    while at >= 0:
        end = lowered.find(b"\r\n", at + 2)
        if _SHARED.search(lowered, at, end if end >= 0 else len(lowered)):
            return True
        at = lowered.find(_CACHE_CONTROL, at + 2)
    return False


_CACHE_CONTROL: Final = b"\r\ncache-control:"
# RFC 9111, sections 5.2.2.9 and 5.2.2.10: a directive ends at a comma, a blank or its value.
_SHARED: Final = re.compile(rb"[:,][ \t]*(?:public[ \t]*(?:,|$)|s-maxage[ \t]*=)")
