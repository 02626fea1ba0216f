"""
The PROXY protocol, versions 1 and 2: the client's address (haproxy.org, proxy-protocol.txt).

A proxy sends the header before the first byte of the stream. What follows it is left untouched.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final, Literal

import attrs

from ..addresses import unmapped
from .head import NEED_DATA, Malformed, NeedData


@attrs.frozen
class ProxyHeader:
    """
    What a PROXY header says.

    :param source: (host, port) of the client; None if the proxy does not name it (``LOCAL``,
        ``UNKNOWN``, UNIX sockets): the connection's own address counts then.
    :param size: bytes that the header takes; the stream begins behind them.
    """

    source: tuple[str, int] | None
    size: int


_Found = ProxyHeader | Literal[NeedData.NEED_DATA] | Malformed

_V1_BEGINS: Final = b"PROXY "
_V1_LONGEST: Final = 107  # section 2.1, the CR LF included
_V1: Final = re.compile(
    r"(?:UNKNOWN(?: [ -~]*)?|(TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (PORT) (PORT))".replace(
        "PORT", "0|[1-9][0-9]{0,4}"
    )
)
_V2_BEGINS: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2: Final = struct.Struct("!12sBBH")
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_INET: Final = (0x11, 0x12)
_INET6: Final = (0x21, 0x22)
#: Families that name no host: unspecified, and UNIX sockets.
_NAMELESS: Final = {0x00: 0, 0x31: 216, 0x32: 216}
_ADDRESSES_4: Final = struct.Struct("!4s4sHH")
_ADDRESSES_6: Final = struct.Struct("!16s16sHH")


def parse(data: bytes) -> _Found:
    """
    Look for a PROXY header at the beginning of `data`.

    :param data: everything that the connection has sent so far.
    :returns: the header; or `NEED_DATA`; or `Malformed` as soon as the bytes can no longer become
        one.
    """
    if data.startswith(_V1_BEGINS):
        return _version_1(data)
    if data.startswith(_V2_BEGINS):
        return _version_2(data)
    if _V1_BEGINS.startswith(data) or _V2_BEGINS.startswith(data):
        return NEED_DATA
    return _malformed("The connection does not begin with a PROXY header, which this port demands.")


def _malformed(reason: str) -> Malformed:
    return Malformed(400, reason)


def _version_1(data: bytes) -> _Found:
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) < _V1_LONGEST:
            return NEED_DATA
        return _malformed(f"The PROXY line is longer than {_V1_LONGEST} bytes.")
    match = _V1.fullmatch(data[len(_V1_BEGINS) : end].decode("latin-1"))
    if match is None:
        return _malformed("The PROXY line is not of a form that version 1 knows.")
    family, source, destination, source_port, destination_port = match.groups()
    if family is None:
        return ProxyHeader(None, end + 2)
    address = ipaddress.IPv4Address if family == "TCP4" else ipaddress.IPv6Address
    try:
        address(destination)
        host = str(unmapped(address(source)))
    except ValueError:
        return _malformed(f"An address in the PROXY line is not one of {family}.")
    ports = int(source_port), int(destination_port)
    if max(ports) > 65535:
        return _malformed("A port in the PROXY line is above 65535.")
    return ProxyHeader((host, ports[0]), end + 2)


def _version_2(data: bytes) -> _Found:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        return _malformed(f"The PROXY header has the unknown version or command {data[12]:#04x}.")
    if len(data) < _V2.size:
        return NEED_DATA
    _, command, family, length = _V2.unpack_from(data)
    size = _V2.size + length
    addresses = None
    if command == _PROXY:
        if family in _INET:
            addresses = _ADDRESSES_4
        elif family in _INET6:
            addresses = _ADDRESSES_6
        elif family not in _NAMELESS:
            return _malformed(f"The PROXY header has the unknown address family {family:#04x}.")
        if length < (addresses.size if addresses else _NAMELESS[family]):
            return _malformed(f"The PROXY header is too short for its addresses: {length} bytes.")
    if len(data) < size:
        return NEED_DATA
    if addresses is None:
        return ProxyHeader(None, size)
    source, _, port, _ = addresses.unpack_from(data, _V2.size)
    # What lies behind the addresses (TLVs, section 2.2) is skipped.
    return ProxyHeader((str(unmapped(ipaddress.ip_address(source))), port), size)
