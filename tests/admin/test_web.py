"""The status site in one process: what it answers, and what it shows over its WebSockets."""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from txaio import tx

from tests.integration import rawws
from tests.watched import WatchedCase
from txsticky.admin.history import SERIES
from txsticky.admin.metrics import expose
from txsticky.admin.web import (
    ASK_FOR_PORT,
    NOT_ALLOWED,
    REFUSAL,
    Viewers,
    make_site,
    status_endpoint,
)
from txsticky.core.http.hosts import Hosts
from txsticky.errors import ConfigError
from txsticky.primary.supervision.suspicion import CROWDED, MUTE, SHORT, STUCK


class Client:
    """One connection to the site, its transport a string."""

    host = "localhost:9090"

    def __init__(self, site: Any) -> None:
        self.transport = StringTransport()
        # As real transports have it; it changes when the connection becomes a WebSocket.
        self.transport.protocol = site.buildProtocol(None)  # type: ignore[attr-defined]
        self.protocol.makeConnection(self.transport)

    @property
    def protocol(self) -> Any:
        """What the bytes go to."""
        return self.transport.protocol  # type: ignore[attr-defined]

    def send(self, data: bytes) -> bytes:
        """What is answered at once."""
        self.transport.clear()
        self.protocol.dataReceived(data)
        return self.transport.value()

    def ask(self, start: str, body: bytes = b"") -> tuple[int, str, bytes]:
        """Status, head and body of the answer; `start` is `GET /path`."""
        lines = [f"{start} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}", "", ""]
        answer = self.send("\r\n".join(lines).encode() + body)
        head, content = answer.split(b"\r\n\r\n", 1)
        return int(head.split()[1]), head.decode(), content

    def join(self, *headers: tuple[str, str]) -> bytes:
        """Ask for a WebSocket; returns the status line, and leaves the rest to `messages`."""
        data = self.send(rawws.handshake("/ws", *headers))
        head, rest = data.split(b"\r\n\r\n", 1)
        self.transport.clear()
        self.transport.write(rest)
        return head.split(b"\r\n")[0]

    def messages(self) -> list[dict[str, Any]]:
        """What was shown since the last call; of a close frame its code."""
        data, found = self.transport.value(), []
        self.transport.clear()
        while data:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            payload = data[start : start + size]
            if data[0] & 0x0F == rawws.TEXT:
                found.append(json.loads(payload))
            else:
                found.append({"code": int.from_bytes(payload[:2], "big")})
            data = data[start + size :]
        return found

    def close(self) -> None:
        """The client leaves."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class EndpointTests(TestCase):
    """What `--status` takes."""

    def test_loopback(self) -> None:
        """Without an address it is the loopback interface, however the port is written."""
        for text in ("8081", "tcp:8081", "tcp4:8081", "127.0.0.1:8081", "localhost:8081"):
            self.assertIn(":8081:interface=127.0.0.1", status_endpoint(text))
        self.assertEqual(status_endpoint("tcp6:8081"), r"tcp6:8081:interface=\:\:1")

    def test_told_otherwise(self) -> None:
        """An address that is named is taken, and so is any other kind of endpoint."""
        self.assertIn("tcp:8081:interface=0.0.0.0", status_endpoint("0.0.0.0:8081"))
        for text in (
            "tcp:8081:interface=0.0.0.0",
            "unix:/run/status.sock",
            "systemd:domain=INET:index=1",
        ):
            self.assertEqual(status_endpoint(text), text)

    def test_wrong(self) -> None:
        """A name that is no address is refused."""
        self.assertRaises(ConfigError, status_endpoint, "example.com:8081")


class SiteCase(WatchedCase):
    """The site of a cluster."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(tx.config, "loop", self.reactor)  # autobahn's timers
        self.viewers = Viewers(self.reactor, self.history, self.look)
        self.wishes: list[bool] = []
        self.leaves = False
        self.site = make_site(self.viewers, self.look, Hosts(["cluster.test"]), self.give_up)

    def give_up(self) -> bool:
        """Give the port up for a successor."""
        self.wishes.append(self.leaves)
        return self.leaves

    def connect(self) -> Client:
        client = Client(self.site)
        self.addCleanup(client.close)
        return client

    def ask(self, start: str, body: bytes = b"") -> tuple[int, str, bytes]:
        return self.connect().ask(start, body)


class PagesTests(SiteCase):
    """What can be read."""

    def test_page(self) -> None:
        """The root is the page; it loads nothing, and the browser is told to load nothing."""
        status, head, page = self.ask("GET /")
        self.assertEqual(status, 200)
        self.assertIn("Content-Type: text/html; charset=utf-8", head)
        self.assertIn("default-src 'none'", head)
        addresses = set(re.findall(r"""(?:https?:)?//[\w.-]+[^'"\s]*""", page.decode()))
        self.assertEqual(addresses, {"http://www.w3.org/2000/svg"})

    def test_json(self) -> None:
        """`/status.json` is the state."""
        status, head, content = self.ask("GET /status.json")
        expected = json.loads(json.dumps(self.look().to_json()))
        self.assertEqual((status, json.loads(content)), (200, expected))
        self.assertIn("Content-Type: application/json", head)

    def test_yield(self) -> None:
        """A successor gets the port by `/yield`, if the cluster leaves; no web page does."""
        asked = self.connect().send(ASK_FOR_PORT)
        self.assertIn(b" 409 ", asked.splitlines()[0])
        self.leaves = True
        self.assertEqual(self.ask("POST /yield")[0], 409)  # without the header
        self.assertEqual(self.ask("GET /yield")[0], 405)
        self.assertEqual(self.wishes, [False])
        self.assertIn(b" 200 ", self.connect().send(ASK_FOR_PORT).splitlines()[0])
        self.assertEqual(self.wishes, [False, True])

    def test_metrics(self) -> None:
        """`/metrics` is the metrics, with the content type that Prometheus expects."""
        status, head, content = self.ask("GET /metrics")
        self.assertEqual(status, 200)
        self.assertIn("Content-Type: text/plain; version=0.0.4", head)
        self.assertEqual(content.splitlines()[0], expose(self.look()).splitlines()[0])

    def test_health(self) -> None:
        """`/healthz` is 503 until a worker is ready, and says why."""
        self.assertEqual(self.ask("GET /healthz")[::2], (503, b"No worker is ready.\n"))
        self.start(1)
        self.assertEqual(self.ask("GET /healthz")[::2], (200, b"ok\n"))

    def test_health_of_the_stuck(self) -> None:
        """`/healthz` is 503 when every ready worker is silent or takes nothing."""
        self.start()
        for id, why in ((1, STUCK), (2, MUTE)):
            self.primary.workers.suspect(id, True, why)
        why = b"The workers that are ready take no connections.\n"
        self.assertEqual(self.ask("GET /healthz")[::2], (503, why))
        self.primary.workers.suspect(1, False, STUCK)
        self.assertEqual(self.ask("GET /healthz")[0], 200)

    def test_health_of_the_busy(self) -> None:
        """Workers that have too much to do live, but should get nothing more."""
        self.start()
        for id, why in ((1, CROWDED), (2, SHORT)):
            self.primary.workers.suspect(id, True, why)
        self.assertEqual((self.ask("GET /healthz")[0], self.ask("GET /readyz")[0]), (200, 503))
        self.primary.workers.suspect(1, False, CROWDED)
        self.assertEqual(self.ask("GET /readyz")[0], 200)

    def test_readiness(self) -> None:
        """`/readyz` is 503 before the first start is over, and from the moment of the stop."""
        self.start(1)
        status, _, why = self.ask("GET /readyz")
        self.assertEqual((status, why), (503, b"1 of 2 workers are ready; the phase is running.\n"))
        self.start(2)
        self.assertEqual(self.ask("GET /readyz")[0], 200)
        self.report(1, live=1)
        self.cluster.stop(graceful=True)
        self.assertEqual(self.ask("GET /readyz")[0], 503)

    def test_head(self) -> None:
        """HEAD is answered as GET is, without the content, and nothing is logged of it."""
        for path in ("/", "/healthz", "/metrics", "/status.json"):
            with capturedLogs() as events:
                status, head, content = self.ask(f"HEAD {path}")
            wanted, _, full = self.ask(f"GET {path}")
            self.assertEqual((status, content), (wanted, b""))
            self.assertIn(f"Content-Length: {len(full)}", head)
            self.assertEqual(events, [])

    def test_read_only(self) -> None:
        """Every other method is refused, and changes nothing."""
        before = self.look().to_json()
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            status, head, _ = self.ask(f"{method} /status.json", b"verb=stop")
            self.assertEqual(status, 405)
            self.assertIn("Allow: GET, HEAD", head)
        self.assertEqual(self.look().to_json(), before)

    def test_body(self) -> None:
        """A body is thrown away, however large, and the connection goes on."""
        client = self.connect()
        self.assertEqual(client.ask("GET /healthz", bytes(300_000))[0], 503)
        self.assertEqual(client.ask("GET /status.json")[0], 200)
        chunked = b"GET /healthz HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertIn(b" 503 ", client.send(chunked + b"3\r\nabc\r\n0\r\n\r\n").splitlines()[0])

    def test_elsewhere(self) -> None:
        """Any other path is not found."""
        self.assertEqual(self.ask("GET /other")[0], 404)
        self.assertEqual(self.ask("GET /healthz/deeper")[0], 404)


class NamesTests(SiteCase):
    """Which client is answered: no page of another site, whose name was made to lead here."""

    PATHS = ("/", "/status.json", "/metrics", "/healthz", "/readyz", "/other")

    def status(self, head: str, client: Client | None = None) -> int:
        """The status of the answer to a request with these lines."""
        client = client or self.connect()
        return int(client.send(head.replace("\n", "\r\n").encode() + b"\r\n\r\n").split()[1])

    def test_other_names(self) -> None:
        """By another name nothing is told, whatever is asked for; the connection goes on."""
        for path in self.PATHS:
            client = self.connect()
            client.host = "evil.example"
            for method in ("GET", "HEAD", "POST"):
                status, head, content = client.ask(f"{method} {path}")
                self.assertEqual(status, 403, path)
                self.assertIn("Content-Type: text/plain", head)
                self.assertEqual(content, REFUSAL if method != "HEAD" else b"")
            client.host = "127.0.0.1"
            self.assertNotEqual(client.ask(f"GET {path}")[0], 403, path)

    def test_our_names(self) -> None:
        """An address, localhost and a given name are answered in full."""
        for host in ("127.0.0.1:9090", "[::1]:9090", "localhost", "cluster.test:9090"):
            self.assertEqual(self.status(f"GET /status.json HTTP/1.1\nHost: {host}"), 200)

    def test_two(self) -> None:
        """Of two names in a request both have to be the site's."""
        start = "GET /status.json HTTP/1.1\nHost: "
        self.assertNotEqual(self.status(f"{start}localhost\nHost: evil.example"), 200)
        self.assertNotEqual(self.status(f"{start}evil.example\nHost: localhost"), 200)

    def test_none(self) -> None:
        """A health check of HTTP/1.0, without a name, is answered."""
        self.assertEqual(self.status("GET /status.json HTTP/1.0"), 200)

    def test_websocket(self) -> None:
        """A WebSocket by another name is refused, also from a page of that name."""
        request = rawws.handshake("/ws", ("Origin", "http://evil.example"))
        self.assertIn(b"Host: cluster.test\r\n", request)
        for name, status in ((b"evil.example", b" 403 "), (b"cluster.test", b" 101 ")):
            named = request.replace(b"cluster.test", name).replace(b"evil.example", name)
            self.assertIn(status, self.connect().send(named).splitlines()[0])
        self.assertEqual(len(self.viewers.viewers), 1)

    def test_unix_socket(self) -> None:
        """On a UNIX socket every name is answered: a browser does not reach it by itself."""
        client = self.connect()
        client.transport.hostAddr = UNIXAddress(b"/run/status")
        client.host = "status.example"
        self.assertEqual(client.ask("GET /status.json")[0], 200)
        client = self.connect()
        client.transport.hostAddr = UNIXAddress(b"/run/status")
        named = rawws.handshake().replace(b"cluster.test", b"status.example")
        self.assertIn(b" 101 ", client.send(named).splitlines()[0])


class ViewerTests(SiteCase):
    """What an open page is shown."""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.history._looked = self.viewers.show

    def join(self) -> Client:
        client = self.connect()
        self.assertIn(b" 101 ", client.join())
        return client

    def look_once(self) -> None:
        """What happens each second."""
        self.reactor.advance(1)
        self.history.look()
        self.viewers.show()

    def test_first(self) -> None:
        """First comes the state, with what is known of the past."""
        for _ in range(3):
            self.look_once()
        (first,) = self.join().messages()
        self.assertEqual(first["state"], json.loads(json.dumps(self.look().to_json())))
        self.assertEqual(first["series"], list(SERIES))
        self.assertEqual(first["points"], list(self.history.points))

    def test_then(self) -> None:
        """With each look come the new state and one point, to every page."""
        pages = [self.join(), self.join()]
        for page in pages:
            page.messages()
        self.report(1, live=5)
        self.look_once()
        for page in pages:
            (shown,) = page.messages()
            self.assertEqual(shown["state"]["workers"][0]["connections"], 5)
            self.assertEqual(shown["points"], [self.history.points[-1]])
            self.assertNotIn("series", shown)

    def test_slow(self) -> None:
        """A page that does not keep up misses views, instead of having them pile up here."""
        page = self.join()
        page.messages()
        producer = page.transport.producer
        assert producer is not None
        producer.pauseProducing()
        self.look_once()
        self.assertEqual(page.messages(), [])
        producer.resumeProducing()
        self.look_once()
        self.assertEqual(len(page.messages()), 1)

    def test_speaking(self) -> None:
        """A page that says anything is closed: there is nothing to say."""
        page = self.join()
        page.messages()
        page.send(rawws.frame(b'{"verb": "stop"}'))
        self.assertEqual(page.messages(), [{"code": NOT_ALLOWED}])
        self.assertEqual(self.cluster.stops, [])

    def test_other_sites(self) -> None:
        """A script of another site gets nothing; the site's own page and a plain client do."""
        for origin in ("http://evil.example", "http://cluster.test:81", "null"):
            answer = self.connect().join(("Origin", origin))
            self.assertRegex(answer, b" 40[03] ")
        for headers in (
            [("Origin", "http://cluster.test")],
            [("Origin", "https://CLUSTER.test")],
            [],
        ):
            self.assertIn(b" 101 ", self.connect().join(*headers), headers)
        self.assertEqual(len(self.viewers.viewers), 3)

    def test_gone(self) -> None:
        """A page that was closed is shown nothing more, and is forgotten."""
        page = Client(self.site)
        page.join()
        page.close()
        self.assertEqual(self.viewers.viewers, set())
        self.look_once()

    def test_bounded(self) -> None:
        """There is a limit to the open pages."""
        self.viewers.setProtocolOptions(maxConnections=2)
        self.join()
        self.join()
        self.assertIn(b" 503 ", self.connect().join())
