"""A connection ends when it would end under the bare server, and with the same bytes.

Every interface, over TLS and in the clear, in both accept modes; served by the worker that has the
connection and, over TLS, by another. How WebSockets end, and what a reload and a stop end, is in
`test_endings_websocket` and `test_endings_leaving`.
"""

from __future__ import annotations

import ssl
import time
from typing import Any
from unittest import SkipTest

from tests.integration.ending_apps import BIG, HALF
from tests.integration.endings import Ending, cases, ending, tcp_ends
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, payload, request

CLOSE = [("Connection", "close")]


def http10(target: str) -> bytes:
    """A request of HTTP/1.0."""
    return request("GET", target).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)


class Http:
    """Endings of HTTP."""

    def ended(self: Any, data: bytes, path: str = "/", page: bool = True) -> Ending:
        """
        Assert that a connection ends after this as under the bare server.

        :param data: where `TARGET` stands for the target.
        :param page: whether the bare server's own content is expected.
        """
        wsgi = self.interface.app == "wsgi"  # served in another way than Twisted does

        def seen(end: Ending) -> Ending:
            return end.normal(page) if wsgi else end

        with self.alone.connect() as connection:
            connection.ask(request("GET", "/"))
            connection.send(data.replace(b"TARGET", path.encode()))
            expected = ending(connection)
        for tag, connection in self.over_each():
            connection.send(data.replace(b"TARGET", f"{path}?sid={tag}".encode()))
            self.assertEqual(seen(ending(connection)), seen(expected))
        return expected

    def test_keep_alive(self: Any) -> None:
        """A connection stays open from request to request."""
        for tag, connection in self.over_each():
            for path, body in (("/", b"hello"), ("/chunked", HALF * 2), ("/later", HALF)):
                answer = connection.ask(request("GET", f"{path}?sid={tag}"))
                self.assertEqual((answer.status, answer.body), (200, body))

    def test_close(self: Any) -> None:
        """After `Connection: close` the response comes whole, and the connection is closed."""
        for path in ("/", "/chunked", "/later"):
            end = self.ended(request("GET", "TARGET", headers=CLOSE), path)
            self.assertEqual((end.how, end.data[:15]), ("closed", b"HTTP/1.1 200 OK"))

    def test_close_of_tcp(self: Any) -> None:
        """TCP ends as well, at once, though the client leaves the close of TLS unanswered."""
        for tag, connection in self.over_each():
            connection.send(request("GET", f"/?sid={tag}", headers=CLOSE))
            self.assertEqual(ending(connection).how, "closed")
            self.assertTrue(tcp_ends(connection))

    def test_big(self: Any) -> None:
        """The connection is closed behind a response that its client is slow to read."""
        for tag, connection in self.over_each(window=4096):
            connection.send(request("GET", f"/big?sid={tag}", headers=CLOSE))
            time.sleep(0.2)
            end = ending(connection)
            self.assertEqual((end.how, len(end.data.partition(b"\r\n\r\n")[2])), ("closed", BIG))

    def test_http10(self: Any) -> None:
        """The connection is closed behind a response to HTTP/1.0."""
        for path in ("/", "/chunked"):
            end = self.ended(http10("TARGET"), path)
            self.assertEqual((end.how, end.data[9:12]), ("closed", b"200"))

    def test_pipelined_behind_the_last(self: Any) -> None:
        """What follows the last request is not answered."""
        both = request("GET", "TARGET", headers=CLOSE) + request("GET", "TARGET")
        self.assertEqual(self.ended(both).data.count(b"HTTP/1.1 "), 1)

    def test_error(self: Any) -> None:
        """An application that fails before its response began: 500, and open or closed as bare."""
        end = self.ended(request("GET", "TARGET", headers=CLOSE), "/fails", page=False)
        self.assertEqual((end.how, end.data[9:12]), ("closed", b"500"))

    def test_error_in_a_response(self: Any) -> None:
        """An application that fails in a response: it stops short, and the connection too."""
        if self.interface.app == "web":
            raise SkipTest("twisted.web goes on with its error page")
        with self.alone.connect() as connection:
            connection.send(request("GET", "/breaks"))
            expected = ending(connection)
        for tag, connection in self.over_each():
            connection.send(request("GET", f"/breaks?sid={tag}"))
            end = ending(connection)
            self.assertEqual(end.normal().data, expected.normal().data)
            self.assertIn(end.how, ("closed", "cut", "reset"))

    def test_nonsense(self: Any) -> None:
        """What is no HTTP is refused as by the bare server, and the connection closed."""
        nonsense = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"
        connections = [connection for _, connection in self.over_each()]
        with self.alone.connect() as alone:
            alone.ask(request("GET", "/"))
            # The words may differ: the request may be the first that its parser sees.
            for connection in (alone, *connections):
                connection.send(nonsense)
                end = ending(connection)
                self.assertEqual((end.how, end.data[9:12]), ("closed", b"400"))

    def test_early_answer(self: Any) -> None:
        """An answer to a body that is not read reaches a client that is still sending it."""
        if self.interface.app != "asgi" or not self.tls:
            raise SkipTest("twisted.web reads first; in the clear the close resets, as bare")
        for tag, connection in self.over_each():
            data = request("POST", f"/fails?sid={tag}", headers=CLOSE, body=payload(1_000_000))
            connection.send(data[:300_000])
            self.assertEqual(connection.response().status, 500)
            self.assertIn(ending(connection).how, ("closed", "cut"))

    def test_half_close(self: Any) -> None:
        """A client that sends no more gets its answer, and the end; over TLS it has left."""
        for tag, connection in self.over_each():
            connection.send(request("GET", f"/later?seconds=0.3&sid={tag}"))
            if self.tls:
                self.assertEqual(self.unwrapped(connection), b"")
            else:
                connection.half_close()
                self.assertEqual(connection.response().body, HALF)
                connection.end()

    def unwrapped(self: Any, connection: Connection) -> bytes:
        """Closes TLS; what TCP has left to say when the server has done so as well."""
        secured: Any = connection.socket
        plain = secured.unwrap()
        self.addCleanup(plain.close)
        plain.settimeout(60)
        return bytes(plain.recv(100))

    def test_nothing_stays(self: Any) -> None:
        """Clients that leave in any way leave no descriptor behind."""
        self.cluster.tags()
        before = self.cluster.settled()
        for number in range(12):
            for tag, connection in self.over_each():
                self.leave(connection, tag, number)
        until(lambda: self.cluster.descriptors() == before, 20, f"{before} again")

    def leave(self: Any, connection: Connection, tag: str, number: int) -> None:
        """Leave in one of the ways."""
        path = ("/", "/big", "/later?seconds=3", "/slow?seconds=3")[number % 4]
        sid = f"{'&' if '?' in path else '?'}sid={tag}"
        connection.send(request("GET", path + sid, body=payload(number * 1000)))
        if number % 3 == 0:
            connection.reset()
        elif number % 3 == 1 and self.tls:
            try:
                self.unwrapped(connection)
            except ssl.SSLError:  # there is data in front of the server's close
                connection.close()
        else:
            connection.close()


cases(Http, globals())
