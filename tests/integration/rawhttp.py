"""A raw HTTP/1.1 client for tests: it sends exactly the bytes it is given, and reads strictly.

Nothing here repairs or guesses: a response that is not plain RFC 9112 raises :class:`Fault`.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from types import TracebackType

from attrs import define, field, frozen

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) ([\t\x20-\x7e]*)")
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[\t\x20-\x7e\x80-\xff]*[!-~\x80-\xff])?)[ \t]*"
)
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_BLOCK = 1 << 16


class Fault(AssertionError):
    """What came back is not the well-formed answer that was to come."""


# ------------------------------------------------------------------------------------- building


def payload(size: int, seed: int = 0) -> bytes:
    """`size` bytes that differ from block to block, so that a lost or repeated block shows."""
    return b"".join(blocks(size, seed))


def blocks(size: int, seed: int = 0) -> Iterator[bytes]:
    """Yield the bytes of :func:`payload`, 64 KiB at a time."""
    noise = hashlib.shake_128(b"%d" % seed).digest(min(size, _BLOCK))
    for start in range(0, size, _BLOCK):
        yield (struct.pack("!QQ", seed, start) + noise[16:])[: size - start]


def sha256(pieces: Iterable[bytes]) -> str:
    """The digest of the pieces put together, in hex."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def request(
    method: str,
    target: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    chunks: Iterable[bytes] | None = None,
) -> bytes:
    """One request as bytes; `body` goes by Content-Length, `chunks` one by one, chunked."""
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: cluster.test",
        *(f"{n}: {v}" for n, v in headers),
    ]
    content = b""
    if chunks is not None:
        lines.append("Transfer-Encoding: chunked")
        content = b"".join(chunk(piece) for piece in chunks if piece) + b"0\r\n\r\n"
    elif body is not None:
        lines.append(f"Content-Length: {len(body)}")
        content = body
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def chunk(data: bytes) -> bytes:
    """One chunk in chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def cut(data: bytes, *offsets: int) -> list[bytes]:
    """The data in pieces, cut at the offsets; empty pieces are left out."""
    edges = [0, *sorted(offsets), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


# -------------------------------------------------------------------------------------- reading


@frozen
class Response:
    """One final response, with its body's length and sha256, and the 1xx that came before it."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int
    sha256: str
    interim: tuple[int, ...]
    to_end: bool

    def header(self, name: str) -> str | None:
        """The value of the one header field of this name; None if there is none."""
        values = [value for known, value in self.headers if known == name.lower()]
        if len(values) > 1:
            raise Fault(f"{len(values)} header fields {name}: {values}")
        return values[0] if values else None


@define
class _Body:
    """Takes in a body: its length and digest always, its bytes only if they are to be kept."""

    keep: bool
    length: int = 0
    _digest: hashlib._Hash = field(factory=hashlib.sha256)
    _pieces: list[bytes] = field(factory=list)

    def add(self, data: bytes) -> None:
        self.length += len(data)
        self._digest.update(data)
        if self.keep:
            self._pieces.append(data)

    @property
    def data(self) -> bytes:
        return b"".join(self._pieces)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Reader:
    """Reads responses, strictly, from any `receive(size) -> bytes` (b"" at the end)."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buffer = b""

    @classmethod
    def over(cls, data: bytes) -> Reader:
        """A reader of bytes that have all arrived."""
        rest = [data]
        return cls(lambda size: rest.pop() if rest else b"")

    @property
    def buffered(self) -> bytes:
        """What came behind the last response that was read."""
        return self._buffer

    def line(self) -> bytes:
        """The next line without its CRLF. Raises Fault for a bare CR or LF."""
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > 65536:
                raise Fault(f"a line that does not end: {self._buffer[:80]!r}")
            self._more()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        if b"\r" in line or b"\n" in line:
            raise Fault(f"a bare CR or LF in {line!r}")
        return line

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        body = _Body(keep=True)
        self._copy(size, body)
        return body.data

    def response(self, method: str = "GET", keep: bool = True) -> Response:
        """The next final response to such a request. With keep=False its body is not kept."""
        interim: list[int] = []
        while True:
            status, reason, headers = self._head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        body = _Body(keep=keep)
        to_end = self._body(method, status, dict(headers), body)
        return Response(
            status,
            reason,
            tuple(headers),
            body.data,
            body.length,
            body.sha256,
            tuple(interim),
            to_end,
        )

    def interim(self) -> int:
        """The next 1xx response's status."""
        status, _, headers = self._head()
        if status >= 200 or headers:
            raise Fault(f"{status} {headers} where a bare 1xx was to come")
        return status

    def end(self) -> None:
        """Nothing more comes: the other side closed. Raises Fault if bytes come instead."""
        rest = self._buffer or self._receive(_BLOCK)
        if rest:
            raise Fault(f"bytes behind the last response: {rest[:200]!r}")

    def _more(self) -> None:
        data = self._receive(_BLOCK)
        if not data:
            raise Fault(f"the connection ended inside a response, after {self._buffer[:200]!r}")
        self._buffer += data

    def _head(self) -> tuple[int, str, list[tuple[str, str]]]:
        start = self.line()
        match = _STATUS_LINE.fullmatch(start)
        if match is None:
            raise Fault(f"not a status line: {start!r}")
        headers: list[tuple[str, str]] = []
        while line := self.line():
            known = _FIELD.fullmatch(line)
            if known is None:
                raise Fault(f"not a header field: {line!r}")
            headers.append((known[1].decode().lower(), known[2].decode("latin-1")))
        framing = [name for name, _ in headers if name in ("content-length", "transfer-encoding")]
        if len(framing) > 1:
            raise Fault(f"a response framed twice: {headers}")
        return int(match[1]), match[2].decode("latin-1"), headers

    def _body(self, method: str, status: int, headers: dict[str, str], body: _Body) -> bool:
        """Reads the body (RFC 9112 6.3); tells whether it ran to the end of the connection."""
        if method == "HEAD" or status in (101, 204, 304):
            return False
        if headers.get("transfer-encoding") == "chunked":
            self._chunked(body)
        elif "content-length" in headers:
            if not headers["content-length"].isdecimal():
                raise Fault(f"Content-Length: {headers['content-length']!r}")
            self._copy(int(headers["content-length"]), body)
        else:
            body.add(self._buffer)
            self._buffer = b""
            while data := self._receive(_BLOCK):
                body.add(data)
            return True
        return False

    def _chunked(self, body: _Body) -> None:
        while True:
            line = self.line()
            if not _CHUNK_SIZE.fullmatch(line):
                raise Fault(f"not a chunk size: {line!r}")
            size = int(line, 16)
            self._copy(size, body)
            if self.line():
                raise Fault("a chunk longer than its size, or a trailer field")
            if not size:
                return

    def _copy(self, size: int, body: _Body) -> None:
        while size:
            if not self._buffer:
                self._more()
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(data)
            body.add(data)


# ----------------------------------------------------------------------------------- connecting


class Connection:
    """One blocking TCP connection to 127.0.0.1, with a strict reader. A context manager."""

    def __init__(
        self, port: int, *, timeout: float = 45.0, source: str = "127.0.0.1", window: int = 0
    ) -> None:
        """
        :param timeout: seconds that any one send or receive may take.
        :param source: the client's address; any of 127.0.0.0/8.
        :param window: bytes of the receive buffer, 0 for the system's choice.
        """
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        if source != "127.0.0.1":
            self.socket.bind((source, 0))
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.reader = Reader(self.socket.recv)

    @classmethod
    def over(cls, connected: socket.socket) -> Connection:
        """Make a connection over a socket of any kind that is connected already."""
        connection = cls.__new__(cls)
        connected.settimeout(45.0)
        connection.socket, connection.reader = connected, Reader(connected.recv)
        return connection

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, *pieces: bytes, gap: float = 0.0) -> None:
        """Sends each piece as its own segment, with `gap` seconds after each but the last."""
        for number, piece in enumerate(pieces):
            if number and gap:
                time.sleep(gap)
            self.socket.sendall(piece)

    def response(self, method: str = "GET", keep: bool = True) -> Response:
        """The next response; see :meth:`Reader.response`."""
        return self.reader.response(method, keep)

    def ask(self, data: bytes, method: str | None = None) -> Response:
        """Sends one request and reads its response."""
        self.socket.sendall(data)
        return self.response(method or data.split(b" ", 1)[0].decode("latin-1"))

    def half_close(self) -> None:
        """Says that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """The other side closes without another byte; a reset counts as closed."""
        try:
            self.reader.end()
        except ConnectionResetError:
            return

    def close(self) -> None:
        """Closes this side."""
        self.socket.close()

    def reset(self) -> None:
        """Closes this side with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
