"""A raw WebSocket client (RFC 6455) on a :class:`rawhttp.Connection`: as much as is needed."""

from __future__ import annotations

import base64
import hashlib
import struct

from tests.integration.rawhttp import Connection, Fault, Reader, Response, request

TEXT, BINARY, CLOSE = 1, 2, 8
_KEY = base64.b64encode(b"sixteen bytes ok").decode()
_ACCEPT = base64.b64encode(
    hashlib.sha1(_KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
).decode()


def handshake(target: str = "/ws", *headers: tuple[str, str]) -> bytes:
    """The upgrade request as bytes, with further header fields."""
    return request(
        "GET",
        target,
        headers=[
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", _KEY),
            ("Sec-WebSocket-Version", "13"),
            *headers,
        ],
    )


def frame(data: bytes, opcode: int = TEXT) -> bytes:
    """One whole message as a client sends it, masked."""
    mask = b"\x1f\x2e\x3d\x4c"
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big") if size else b""
    return head + mask + masked


def accepted(response: Response) -> None:
    """Raises Fault unless the response completes the handshake."""
    if response.status != 101 or response.header("sec-websocket-accept") != _ACCEPT:
        raise Fault(f"no WebSocket: {response}")


def message(reader: Reader) -> tuple[int, bytes]:
    """The next message's opcode and data; the server may send it in several frames."""
    opcode, data = 0, b""
    while True:
        first, size = reader.exactly(2)
        if size & 0x80:
            raise Fault("the server masks its frames")
        if size >= 126:
            (size,) = struct.unpack(
                "!H" if size == 126 else "!Q", reader.exactly(2 if size == 126 else 8)
            )
        opcode = opcode or first & 0x0F
        data += reader.exactly(size)
        if first & 0x80:
            return opcode, data


def join(connection: Connection, target: str = "/ws") -> Response:
    """Upgrades the connection; returns the 101."""
    response = connection.ask(handshake(target))
    accepted(response)
    return response
