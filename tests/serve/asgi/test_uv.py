"""uvloop's watches on descriptors, after an error."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from tests.asgi import LoopCase, pair

DATA = b"x" * 5000


class WatchTests(LoopCase):
    """A descriptor that its owner watches as Twisted does."""

    loop_name = "uvloop"

    def setUp(self) -> None:
        super().setUp()
        self.ours, self.client = pair()
        self.ours.setblocking(False)
        self.got: list[Any] = []
        self.addCleanup(self.ours.close)
        self.addCleanup(self.client.close)

    def read(self) -> None:
        """Read a part at a time, and stop at the end."""
        try:
            data = self.ours.recv(1000)
        except OSError as error:
            self.got.append(error.errno)
            data = b""
        else:
            self.got.append(len(data))
        if not data:
            self.loop.remove_reader(self.ours)

    def reset(self) -> None:
        """Have the client send, and reset the connection."""
        self.client.sendall(DATA)
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()

    def test_data_in_front_of_a_reset(self) -> None:
        """All bytes in front of a reset are read, and then the reset."""
        self.reset()
        self.loop.add_reader(self.ours, self.read)
        self.until(lambda: len(self.got) == 6)
        self.assertEqual(self.got, [1000] * 5 + [104])

    def test_watched_for_both(self) -> None:
        """What came before a reset is read also where output is watched for."""
        written: list[int] = []
        self.loop.add_writer(self.ours, written.append, 1)
        self.reset()
        self.loop.add_reader(self.ours, self.read)
        self.until(lambda: len(self.got) == 6)
        self.assertEqual(self.got, [1000] * 5 + [104])
        self.assertTrue(written)
        self.loop.remove_writer(self.ours)

    def test_watched_meanwhile(self) -> None:
        """Output can be watched for in between, which is no error."""
        written: list[int] = []

        def read() -> None:
            self.read()
            if len(self.got) == 1:
                self.loop.call_soon(self.loop.add_writer, self.ours, written.append, 1)

        self.reset()
        self.loop.add_reader(self.ours, read)
        self.until(lambda: written)
        self.loop.remove_writer(self.ours)
        self.until(lambda: len(self.got) == 6)
        self.assertEqual(self.complaints, [])

    def test_let_go(self) -> None:
        """What is let go of is not watched again."""

        def read() -> None:
            self.read()
            self.loop.remove_reader(self.ours)

        self.reset()
        self.loop.add_reader(self.ours, read)
        self.until(lambda: self.got)
        self.wait(asyncio.sleep(0.05))
        self.assertEqual(self.got, [1000])

    def test_no_error(self) -> None:
        """Without an error watches are as ever: by number or object, with arguments."""
        seen: list[str] = []
        number = self.ours.fileno()
        self.loop.add_reader(number, lambda word: (seen.append(word), self.ours.recv(9)), "word")
        for count in (1, 2):
            self.client.sendall(b"data")
            self.until(lambda count=count: len(seen) == count)
        self.loop.remove_reader(number)
        self.loop.remove_reader(number)
        self.client.sendall(b"more")
        self.wait(asyncio.sleep(0.05))
        self.assertEqual(seen, ["word", "word"])
