"""Parts of files that the kernel sends behind what a protocol wrote, on real sockets."""

from __future__ import annotations

import os
import socket
from typing import Any
from unittest import mock

from twisted.internet import error
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tests.shells import received
from tests.transport.cases import GET
from tests.transport.test_gated import TransportCase
from txsticky.transport.gated import SentFile

CONTENT = os.urandom(1 << 16) * 40
SKIPPED = 1000


def head(size: int, padding: int = 0) -> bytes:
    """The head of a response, as long as is wanted."""
    start = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX: " % size
    return start + b"x" * padding + b"\r\n\r\n"


class SentFileTests(TransportCase):
    """A response whose content is a part of a file."""

    def setUp(self) -> None:
        super().setUp()
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(CONTENT)
        self.file = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, self.file)
        self.told: list[str] = []

    def part(self, size: int = len(CONTENT) - SKIPPED) -> SentFile:
        """A part of the file, behind its first bytes."""
        sent, short = (lambda word=word: self.told.append(word) for word in ("sent", "short"))
        return SentFile(self.file, SKIPPED, size, sent, short)

    def answer(self, part: SentFile, padding: int = 0) -> Any:
        """Answer a request with a part of the file while the request is delivered."""

        class Inner(Protocol):
            def dataReceived(self, data: bytes) -> None:
                transport: Any = self.transport
                transport.write(head(part.left, padding))
                transport.send_file(part)

        return self.serve(Factory.forProtocol(Inner), GET)

    def get_all(self, size: int) -> bytes:
        """Read so many bytes."""
        got = bytearray()
        self.until(lambda: got.extend(received(self.client) or b"") or len(got) >= size)
        return bytes(got)

    def test_whole(self) -> None:
        """The client gets the head and then the part, and its sender is told once."""
        part = self.part()
        expected = head(part.left) + CONTENT[SKIPPED:]
        self.answer(part)
        self.assertTrue(self.get_all(len(expected)) == expected)
        self.assertEqual((self.told, self.policy.done), (["sent"], 1))

    def test_short_part(self) -> None:
        """A part that the kernel takes at once is sent within the delivery, and no more."""
        transport = self.answer(self.part(10))
        self.assertEqual(received(self.client), head(10) + CONTENT[SKIPPED : SKIPPED + 10])
        self.assertEqual((self.told, transport.unsent()), (["sent"], 0))
        self.assertEqual(self.reactor.getWriters(), [])

    def test_behind_what_was_written(self) -> None:
        """No byte of the file is sent before all that was written is in the kernel."""
        server, self.client = self.pair_of_sockets()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        part = self.part(100_000)
        expected = head(part.left, 1_000_000) + CONTENT[SKIPPED : SKIPPED + 100_000]
        with mock.patch.object(self, "pair_of_sockets", lambda: (server, self.client)):
            self.answer(part, 1_000_000)
        self.assertTrue(self.get_all(len(expected)) == expected)

    def test_in_pieces(self) -> None:
        """Other connections have their turn behind each MiB."""
        with mock.patch("os.sendfile", side_effect=lambda out, file, at, count: count) as sends:
            transport = self.answer(self.part())
            self.assertEqual(sends.call_count, 1)
            self.until(lambda: self.told)
        number, mib = transport.fileno(), 1 << 20
        rest = len(CONTENT) - SKIPPED - 2 * mib
        self.assertEqual(
            [call.args for call in sends.mock_calls],
            [
                (number, self.file, SKIPPED, mib),
                (number, self.file, SKIPPED + mib, mib),
                (number, self.file, SKIPPED + 2 * mib, rest),
            ],
        )

    def test_file_that_is_shorter(self) -> None:
        """A file that has come to its end before the part's end is told of as short."""
        self.answer(self.part(len(CONTENT)))
        self.get_all(len(CONTENT) - SKIPPED)
        self.until(lambda: self.told)
        self.assertEqual((self.told, self.policy.done), (["short"], 0))

    def test_unsent(self) -> None:
        """What is left of the part counts as unsent, and the connection cannot leave."""
        with mock.patch("os.sendfile", side_effect=BlockingIOError):
            transport = self.answer(self.part(70))
            self.assertEqual((transport.unsent(), transport.can_leave()), (70, False))
            self.assertIn(transport, self.reactor.getWriters())
        self.get_all(70)
        self.until(lambda: self.told)
        self.assertEqual((transport.unsent(), transport.can_leave()), (0, True))
        self.assertEqual(transport.passed(), len(head(70)) + 70)

    def test_failed(self) -> None:
        """A client that has reset the connection ends it; the part is told of no more."""
        with mock.patch("os.sendfile", side_effect=OSError):
            self.answer(self.part())
        self.assertEqual((self.told, self.kept.closings), ([], 1))

    def test_lost(self) -> None:
        """A connection that is lost lets go of the part."""
        with mock.patch("os.sendfile", side_effect=BlockingIOError):
            transport = self.answer(self.part(70))
        transport.connectionLost(Failure(error.ConnectionLost()))
        self.assertEqual((transport.unsent(), self.told), (0, []))
