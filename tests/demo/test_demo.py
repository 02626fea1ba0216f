"""The demo's resources, in one process and without a browser."""

from __future__ import annotations

import hashlib
import json
import os
import re
from io import BytesIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.integration import rawws
from tests.serving import Transport
from txsticky import demo
from txsticky.demo import Reloader, here, live, upload


class Cluster:
    """What `txsticky.current()` is in worker 3, as far as the demo asks."""

    id = 7
    slot = 3

    def __init__(self) -> None:
        self.workers: list[dict[str, Any]] = [{"id": 7, "slot": 3, "state": "ready", "live": 1}]
        self.bus = here.Alone()
        self.publish, self.subscribe = self.bus.publish, self.bus.subscribe
        self.left: list[tuple[str, str]] = []
        self.reloads = 0

    def leave(self, websocket: str, state: str) -> None:
        self.left.append((websocket, state))

    def reload(self) -> bool:
        self.reloads += 1
        return True

    def pool(self) -> list[dict[str, Any]]:
        return self.workers


class Client:
    """One connection to the demo's Site, its transport a string."""

    def __init__(self, site: Site) -> None:
        self.transport = StringTransport()
        self.protocol = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """What is answered at once."""
        self.transport.clear()
        self.protocol.dataReceived(data)
        return self.transport.value()

    def ask(self, start: str, body: bytes = b"", *headers: str) -> tuple[int, str, bytes]:
        """Status, head and body of the answer; `start` is `GET /path`."""
        lines = [f"{start} HTTP/1.1", "Host: demo", f"Content-Length: {len(body)}", *headers]
        answer = self.send("\r\n".join([*lines, "", ""]).encode() + body)
        head, body = answer.split(b"\r\n\r\n", 1)
        return int(head.split()[1]), head.decode(), body

    def close(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class DemoTestCase(SynchronousTestCase):
    """A Site with the demo, in worker 3 of a cluster."""

    def setUp(self) -> None:
        self.cluster: Cluster | None = Cluster()
        self.patch(here, "current", lambda: self.cluster)
        self.patch(upload, "deferToThread", execute)
        self.site = Site(demo.resource())
        self.client = self.connect()

    def connect(self) -> Client:
        client = Client(self.site)
        self.addCleanup(client.close)
        return client


class WhoAmITests(DemoTestCase):
    """`/whoami`, `/status.json` and the count of requests on a connection."""

    def test_worker(self) -> None:
        """The demo tells the slot of its worker, and the process."""
        self.assertEqual(
            self.client.ask("GET /whoami")[2], f"worker 3 pid {os.getpid()}\n".encode()
        )

    def test_alone(self) -> None:
        """Without a cluster the demo is worker 1."""
        self.cluster = None
        self.assertEqual(self.client.ask("GET /whoami?sid=x")[2].split()[1], b"1")

    def test_status(self) -> None:
        """The status is the worker and the pool as it sees it."""
        found = json.loads(self.client.ask("GET /status.json")[2])
        self.assertEqual(
            found,
            {
                "worker": {"id": 7, "slot": 3, "pid": os.getpid()},
                "workers": [{"id": 7, "slot": 3, "state": "ready", "live": 1}],
            },
        )

    def test_never_cached(self) -> None:
        """Which worker answers is asked anew each time."""
        self.assertIn("cache-control: no-store", self.client.ask("GET /whoami")[1].lower())

    def test_requests_are_counted_by_connection(self) -> None:
        """The first request on a connection is number 1, whatever other connections did."""
        counts = [
            re.findall("x-request-on-connection: ([0-9]+)", client.ask("GET /whoami")[1].lower())
            for client in (self.client, self.client, self.connect())
        ]
        self.assertEqual(counts, [["1"], ["2"], ["1"]])


class PageTests(DemoTestCase):
    """The page."""

    def setUp(self) -> None:
        super().setUp()
        self.status, self.head, body = self.client.ask("GET /")
        self.page = body.decode()

    def test_served(self) -> None:
        """The root is the page, as UTF-8."""
        self.assertEqual(self.status, 200)
        self.assertIn("content-type: text/html; charset=utf-8", self.head.lower())

    def test_self_contained(self) -> None:
        """The page loads nothing: no address in it but its own ones and the SVG namespace."""
        addresses = set(re.findall(r"""(?:https?:)?//[\w.-]+[^'"\s]*""", self.page))
        self.assertEqual(addresses, {"http://www.w3.org/2000/svg"})

    def test_policy(self) -> None:
        """The browser is told to load nothing from elsewhere either."""
        self.assertIn("default-src 'none'", self.head)

    def test_every_id_is_there(self) -> None:
        """Each element that the script asks for by id is in the page, once."""
        asked = set(re.findall(r"""\$\("([\w-]+)"\)""", self.page))
        there = re.findall(r'<[^>]*\bid="([\w-]+)"', self.page)
        self.assertEqual((asked - set(there), len(there)), (set(), len(set(there))))


class UploadTests(DemoTestCase):
    """`/upload`."""

    def confirmed(self, data: bytes) -> dict[str, object]:
        return {"worker": 3, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def test_plain_body(self) -> None:
        """The body is measured as it is."""
        status, _, answer = self.client.ask("POST /upload?sid=x", b"a\r\n\0b")
        self.assertEqual((status, json.loads(answer)), (200, self.confirmed(b"a\r\n\0b")))

    def test_put(self) -> None:
        """PUT, as by `curl -T`, is the same."""
        self.assertEqual(
            json.loads(self.client.ask("PUT /upload", b"abc")[2]), self.confirmed(b"abc")
        )

    def test_empty(self) -> None:
        """An empty file is a file."""
        self.assertEqual(json.loads(self.client.ask("POST /upload")[2]), self.confirmed(b""))

    def test_urlencoded_is_not_decoded(self) -> None:
        """What `curl -d` calls a form is measured as it is."""
        kind = "Content-Type: application/x-www-form-urlencoded"
        answer = self.client.ask("POST /upload", b"a=%20&b", kind)[2]
        self.assertEqual(json.loads(answer), self.confirmed(b"a=%20&b"))

    def form(self, name: str, data: bytes) -> tuple[int, Any]:
        body = (
            f'--edge\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        status, _, answer = self.client.ask(
            "POST /upload",
            body + data + b"\r\n--edge--\r\n",
            "Content-Type: multipart/form-data; boundary=edge",
        )
        return status, json.loads(answer)

    @settings(deadline=None, max_examples=50)
    @given(st.binary(max_size=300).filter(lambda data: b"--edge" not in data))
    def test_form(self, data: bytes) -> None:
        """Of a form, exactly the part called `file` is measured."""
        self.assertEqual(self.form("file", data), (200, self.confirmed(data)))

    def test_form_without_file(self) -> None:
        """A form without that part is refused, and told why."""
        status, answer = self.form("other", b"abc")
        self.assertEqual(status, 400)
        self.assertIn("'file'", answer["error"])

    def test_get(self) -> None:
        """There is nothing to GET."""
        self.assertEqual(self.client.ask("GET /upload")[0], 405)

    def test_client_leaves(self) -> None:
        """A client that leaves while its file is hashed is no error."""
        measured: Deferred[tuple[int, str]] = Deferred()
        self.patch(upload, "deferToThread", lambda *_: measured)
        client = Client(self.site)
        client.send(b"POST /upload HTTP/1.1\r\nHost: demo\r\nContent-Length: 1\r\n\r\nx")
        client.close()
        measured.errback(ValueError("read of closed file"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_fault(self) -> None:
        """If the hashing itself fails, the client is told so."""
        measured: Deferred[tuple[int, str]] = Deferred()
        self.patch(upload, "deferToThread", lambda *_: measured)
        self.client.send(b"POST /upload HTTP/1.1\r\nHost: demo\r\nContent-Length: 1\r\n\r\nx")
        measured.errback(OSError("the disk is gone"))
        self.assertIn(b" 500 ", self.client.transport.value().splitlines()[0])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    @settings(deadline=None, max_examples=20)
    @given(st.binary(max_size=5000), st.integers(1, 500))
    def test_measured_in_pieces(self, data: bytes, piece: int) -> None:
        """The sum does not depend on how much is read at once."""
        self.patch(upload, "PIECE", piece)
        expected = self.confirmed(data)
        self.assertEqual(upload.measure(BytesIO(data)), (expected["size"], expected["sha256"]))


class ChatMessageTests(SynchronousTestCase):
    """What may be said."""

    @settings(deadline=None, max_examples=50)
    @given(st.text(min_size=1, max_size=24), st.text(min_size=1, max_size=500))
    def test_kept(self, name: str, text: str) -> None:
        """Name and text arrive as they were typed; markup is text like any other."""
        payload = json.dumps({"name": name, "text": text}).encode()
        self.assertEqual(
            json.loads(live.chat_message(payload, 2)),
            {"type": "chat", "slot": 2, "name": name, "text": text},
        )

    def test_fits(self) -> None:
        """The longest name and text fit into the longest message the WebSocket takes."""
        said = {"name": "\N{GRINNING FACE}" * 24, "text": "\N{GRINNING FACE}" * 500}
        self.assertLess(len(json.dumps(said, ensure_ascii=False).encode()), live.LONGEST_MESSAGE)

    def test_refused(self) -> None:
        """Anything else is a ValueError."""
        for payload in (
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b'{"name": "a"}',
            b'{"name": 1, "text": "b"}',
            b'{"name": "", "text": "b"}',
            b'{"name": "a", "text": "%s"}' % (b"b" * 501),
        ):
            self.assertRaises(ValueError, live.chat_message, payload, 1)


class Tab:
    """A browser tab's WebSocket, as bytes."""

    def __init__(self, visitors: live.Visitors, *headers: tuple[str, str]) -> None:
        self.transport = Transport()  # as a real one, it lets go of a producer that it has not
        self.protocol = visitors.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.protocol.dataReceived(rawws.handshake("/ws", *headers))
        self.read = len(self.transport.value().split(b"\r\n\r\n", 1)[0]) + 4

    def say(self, payload: bytes) -> None:
        self.protocol.dataReceived(rawws.frame(payload))

    def messages(self) -> list[dict[str, Any]]:
        """All that was sent since the last call. (No message of these tests fills 64 KiB.)"""
        data, found = self.transport.value()[self.read :], []
        self.read += len(data)
        while data:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            if data[0] & 0x0F == rawws.TEXT:
                found.append(json.loads(data[start : start + size]))
            else:
                found.append(
                    {"type": "close", "code": int.from_bytes(data[start : start + 2], "big")}
                )
            data = data[start + size :]
        return found

    def close(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class VisitorsTests(SynchronousTestCase):
    """The WebSocket."""

    def setUp(self) -> None:
        self.cluster = Cluster()
        self.clock = Clock()
        self.visitors = live.Visitors(lambda: self.cluster, self.clock)

    def join(self) -> Tab:
        tab = Tab(self.visitors)
        self.addCleanup(tab.close)
        return tab

    def test_greeting(self) -> None:
        """A tab is told which worker holds its WebSocket, and the pool."""
        hello, pool = self.join().messages()
        place = {"id": 7, "slot": 3, "pid": os.getpid()}
        self.assertEqual(hello, {"type": "hello", "moved": 0, **place})
        self.assertEqual(pool, {"type": "pool", "workers": self.cluster.pool()})

    def test_second_tab(self) -> None:
        """A tab that comes later is told the same."""
        first = self.join().messages()
        self.assertEqual(self.join().messages(), first)

    def test_tab_that_does_not_read(self) -> None:
        """A tab that does not read is told nothing, so that nothing piles up for it."""
        tab = self.join()
        tab.messages()
        producer = tab.transport.producer
        producer.pauseProducing()
        self.cluster.publish(live.TOPIC, b"{}")
        self.assertEqual(tab.messages(), [])
        producer.resumeProducing()
        self.cluster.publish(live.TOPIC, b"{}")
        self.assertEqual(tab.messages(), [{}])

    def test_pool_when_it_changes(self) -> None:
        """A change is shown within the period, and shown once."""
        tab = self.join()
        tab.messages()
        self.clock.advance(live.POOL_PERIOD)
        self.assertEqual(tab.messages(), [])
        self.cluster.workers[0]["live"] = 2
        self.clock.advance(live.POOL_PERIOD)
        self.clock.advance(live.POOL_PERIOD)
        (pool,) = tab.messages()
        self.assertEqual(pool["workers"][0]["live"], 2)

    def test_chat_reaches_everybody(self) -> None:
        """What is said in one tab reaches all tabs, its own too, with the worker's number."""
        tabs = [self.join(), self.join()]
        for tab in tabs:
            tab.messages()
        tabs[0].say(b'{"name": "Ann", "text": "<b>hi</b>"}')
        said = {"type": "chat", "slot": 3, "name": "Ann", "text": "<b>hi</b>"}
        self.assertEqual([tab.messages() for tab in tabs], [[said], [said]])

    def test_chat_comes_from_the_bus(self) -> None:
        """What is said at another worker comes as that worker put it."""
        tab = self.join()
        tab.messages()
        self.cluster.publish(live.TOPIC, live.chat_message(b'{"name": "Bob", "text": "x"}', 9))
        self.assertEqual([m["slot"] for m in tab.messages()], [9])

    def test_bad_message(self) -> None:
        """A tab that sends something else is closed; deep nesting is something else, too."""
        for payload in (b"no", b"[" * 4000):
            tab = self.join()
            tab.messages()
            tab.say(payload)
            self.assertEqual(tab.messages(), [{"type": "close", "code": live.BAD_MESSAGE}])

    def test_closing(self) -> None:
        """A tab that is on its way out is told nothing more, and the others are."""
        tabs = [self.join(), self.join()]
        tabs[0].protocol.sendClose()
        for tab in tabs:
            tab.messages()
        self.cluster.workers[0]["live"] = 2
        self.clock.advance(live.POOL_PERIOD)
        self.cluster.publish(live.TOPIC, live.chat_message(b'{"name": "Bob", "text": "x"}', 9))
        self.assertEqual(
            [[m["type"] for m in tab.messages()] for tab in tabs], [[], ["pool", "chat"]]
        )

    def test_moved(self) -> None:
        """A tab whose WebSocket has moved goes on counting, and its counter moves on."""
        tab = Tab(
            self.visitors,
            ("Txsticky-Websocket", "15"),
            ("Txsticky-Moved", "2"),
            ("Txsticky-State", "40"),
        )
        self.addCleanup(tab.close)
        self.assertIn(b"Txsticky-Websocket: move\r\n", tab.transport.value())
        self.assertEqual(tab.messages()[0]["moved"], 2)
        tab.say(live.COUNT)
        self.assertEqual(tab.messages(), [{"type": "count", "value": 41}])
        self.assertEqual(self.cluster.left, [("15", "40"), ("15", "41")])

    def test_counts_alone(self) -> None:
        """Without a cluster there is nothing to leave a counter to."""
        tab = self.join()
        tab.messages()
        tab.say(live.COUNT)
        self.assertEqual(tab.messages(), [{"type": "count", "value": 1}])
        self.assertEqual(self.cluster.left, [])

    def test_nobody_left(self) -> None:
        """When the last tab has gone, nothing is subscribed and no clock ticks."""
        tabs = [Tab(self.visitors), Tab(self.visitors)]
        for tab in tabs:
            tab.close()
        self.assertEqual(self.cluster.bus.pool()[0]["live"], 0)
        self.assertFalse(self.visitors.ticker.running)

    def test_failed_handshake(self) -> None:
        """A connection that never became a WebSocket leaves as quietly as it came."""
        protocol = self.visitors.buildProtocol(None)
        transport = StringTransport()
        transport.registerProducer(protocol, True)  # as a real one can: unregister it twice
        protocol.makeConnection(transport)
        protocol.dataReceived(b"GET /ws HTTP/1.1\r\nHost: demo\r\nUpgrade: nonsense\r\n\r\n")
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.visitors.visitors, set())


class ReloadTests(SynchronousTestCase):
    """The button that reloads the cluster."""

    def ask(self, place: Any, *headers: str) -> int:
        """The status of the answer."""
        root = Resource()
        root.putChild(b"reload", Reloader(lambda: place))
        return Client(Site(root)).ask("POST /reload", b"", *headers)[0]

    def test_reload(self) -> None:
        """The demo's page reloads the cluster; another site's page cannot."""
        cluster = Cluster()
        self.assertEqual(self.ask(cluster), 403)
        self.assertEqual((self.ask(cluster, "X-Demo: reload"), cluster.reloads), (202, 1))

    def test_alone(self) -> None:
        """Without a cluster there is nothing to reload."""
        self.assertEqual(self.ask(here.Alone(), "X-Demo: reload"), 501)


class AloneTests(SynchronousTestCase):
    """The cluster of one."""

    def test_topics(self) -> None:
        """Only the subscribers of a topic are called, and only until they leave."""
        alone, heard = here.Alone(), []
        leave = alone.subscribe("a", heard.append)
        alone.publish("a", b"1")
        alone.publish("b", b"2")
        leave()
        alone.publish("a", b"3")
        self.assertEqual(heard, [b"1"])
