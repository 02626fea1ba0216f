"""The closing handshake of a WebSocket is over at once, on either side (RFC 6455, section 7).

Every engine, over TLS and in the clear; served by the worker that has the connection and, over TLS,
by another.
"""

from __future__ import annotations

import struct
from typing import Any

from tests.integration import rawws
from tests.integration.ending_apps import BIG
from tests.integration.endings import INTERFACES, Interface, asgi, cases, ending, tcp_ends
from tests.integration.processes import until
from tests.integration.rawhttp import Connection

INTERFACES |= {
    "Autobahn": Interface("bare_autobahn", ("--factory",)),
    "Websockets": asgi("httptools", "uvloop", "websockets"),
    "Sansio": asgi("h11", "uvloop", "websockets-sansio"),
    "Wsproto": asgi("httptools", "asyncio", "wsproto"),
}


def code(frame: tuple[int, bytes]) -> int:
    """The code of a close frame."""
    opcode, data = frame
    if opcode != rawws.CLOSE:
        raise AssertionError(f"not a close frame: {frame}")
    return int(struct.unpack("!H", data[:2])[0])


def close(number: int = 1000) -> bytes:
    """A client's close frame."""
    return rawws.frame(struct.pack("!H", number), rawws.CLOSE)


class Handshake:
    """The closing handshake."""

    def over_each(self: Any, **options: Any) -> list[Connection]:
        """Upgraded connections, one to each worker and kind of WebSocket; over TLS all by one."""
        targets = ("/ws", "/other") if self.interface.app == "web" else ("/ws",)
        found = []
        for target in targets:
            for tag in self.tags():
                cluster = self.cluster
                connection = cluster.connect_by(1, **options) if tag else cluster.connect(**options)
                self.addCleanup(connection.close)
                rawws.join(connection, f"{target}?sid={tag}" if tag else target)
                found.append(connection)
        return found

    def tags(self: Any) -> list[str]:
        """A tag of each worker; a bare factory of autobahn's has no page that tells them."""
        if self.interface.app == "bare_autobahn":
            return ["", ""]
        return list(self.cluster.tags().values())

    def talk(self: Any, connection: Connection, *lines: bytes) -> tuple[Any, str]:
        """Send the lines; the last message that comes in front of the close, and how it ends."""
        connection.send(*(rawws.frame(line) for line in lines[:-1]))
        received = [rawws.message(connection.reader) for line in lines[:-1]]
        connection.send(lines[-1])
        while not received or received[-1][0] != rawws.CLOSE:
            received.append(rawws.message(connection.reader))
        if lines[-1] != close():
            connection.send(close(4000))
        end = ending(connection)
        self.assertEqual(end.data, b"")
        return [code(received[-1]), *(len(data) for _, data in received[:-1])], end.how

    def same(self: Any, *lines: bytes, **options: Any) -> Any:
        """Assert that what comes is as from the bare server, and its end as clean, or better."""
        with self.alone.connect(**options) as connection:
            rawws.join(connection)
            expected, how = self.talk(connection, *lines)
        for connection in self.over_each(**options):
            received, ours = self.talk(connection, *lines)
            self.assertEqual(received, expected)
            self.assertIn(ours, {"closed", how} - {"open"})
            self.assertTrue(ours != "closed" or tcp_ends(connection))
        return expected

    def test_client(self: Any) -> None:
        """The client closes: it gets its code back, and the connection is closed at once."""
        self.assertEqual(self.same(b"hello", close()), [1000, 5])

    def test_server(self: Any) -> None:
        """The application closes: when the client has answered, the connection is closed."""
        self.assertEqual(self.same(rawws.frame(b"close")), [4000])

    def test_behind_a_big_message(self: Any) -> None:
        """What was sent before it comes first, however slowly the client reads."""
        self.assertEqual(self.same(rawws.frame(b"big"), window=4096), [4000, BIG])

    def test_nothing_stays(self: Any) -> None:
        """Clients that leave in any way leave no descriptor behind."""
        self.leave_all()  # what is opened once, and kept, is open now
        before = self.cluster.settled()
        self.leave_all()
        until(lambda: self.cluster.descriptors() == before, 20, f"{before} again")

    def leave_all(self: Any) -> None:
        """Leave in all ways."""
        for last in (b"", rawws.frame(b"big"), rawws.frame(b"close"), close()):
            for leave in (Connection.close, Connection.reset):
                for connection in self.over_each():
                    connection.send(last)
                    leave(connection)


cases(
    Handshake,
    globals(),
    *("Web", "Autobahn", "Websockets", "Sansio", "Wsproto"),
    accept=False,
)
