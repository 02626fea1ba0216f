"""ASGI applications in real workers: routed, moved, drained, and compared with uvicorn alone."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import processes, rawws
from tests.integration.cluster import (
    POOL,
    ROOT,
    START,
    Cluster,
    ClusterTestCase,
    Server,
    ServerTestCase,
    free_port,
)
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Response, chunk, payload, request, sha256

APPS = "tests.integration.asgi_apps"
PURE = {"UVICORN_LOOP": "asyncio", "UVICORN_HTTP": "h11", "UVICORN_WS": "wsproto"}


class AsgiTestCase(ClusterTestCase):
    """A cluster of two for FastAPI, with uvloop and httptools."""

    app = f"{APPS}:app"
    environment: ClassVar[dict[str, str]] = {}

    def server(self) -> Cluster:
        options = ("--debug-headers", *self.options)
        return Cluster(
            self.app, *options, workers=2, probe=self.probe, environment=self.environment
        )


def said(response: Response) -> tuple[str | None, str | None]:
    """Which worker the debugging headers tell, and why."""
    return response.header("x-txsticky-worker"), response.header("x-txsticky-route")


class RoutingTests(AsgiTestCase):
    """Which worker serves what."""

    def test_one_connection_two_workers(self) -> None:
        """Each request on a kept-alive connection is served by the worker that its id names."""
        tags = self.cluster.tags()
        with self.cluster.connect() as connection:
            first = connection.ask(request("GET", "/state"))
            self.assertEqual(said(first)[1], "NEW")
            for slot in (1, 2, 2, 1, 2, 1):
                response = connection.ask(request("GET", f"/state?sid={tags[slot]}"))
                self.assertEqual(said(response), (str(slot), "TAG"))
                self.assertEqual(response.header("x-worker"), str(slot))

    def test_pipelined(self) -> None:
        """Each of many requests that are sent at once, bodies included, is served by its worker."""
        tags = self.cluster.tags()
        slots = [1, 2, 1, 1, 2, 2, 1, 2]
        with self.cluster.connect() as connection:
            connection.send(b"".join(request("GET", f"/state?sid={tags[slot]}") for slot in slots))
            found = [connection.response().header("x-worker") for _ in slots]
        self.assertEqual(found, [str(slot) for slot in slots])

    def test_websocket(self) -> None:
        """A WebSocket goes where its id leads, its handshake tells so, and it stays there."""
        for slot, tag in self.cluster.tags().items():
            with self.cluster.connect() as connection:
                connection.ask(request("GET", "/state"))
                accepted = rawws.join(connection, f"/ws?sid={tag}")
                self.assertEqual(said(accepted), (str(slot), "TAG"))
                for text in (b"", b"a", payload(70_000).hex().encode()):
                    connection.send(rawws.frame(text))
                    got = rawws.message(connection.reader)
                    self.assertEqual(got, (rawws.TEXT, b"%d:" % slot + text))

    def test_glued_to_the_handshake(self) -> None:
        """Messages sent along with the handshake, to another worker even, are not lost."""
        for slot, tag in self.cluster.tags().items():
            with self.cluster.connect() as connection:
                connection.ask(request("GET", "/state"))
                shake = rawws.handshake(f"/ws?sid={tag}")
                connection.send(shake + rawws.frame(b"early"))
                rawws.accepted(connection.response())
                self.assertEqual(rawws.message(connection.reader)[1], b"%d:early" % slot)

    def test_state(self) -> None:
        """What the lifespan of a worker left is in the requests of that worker."""
        for slot, tag in self.cluster.tags().items():
            answer = json.loads(self.cluster.get(f"/state?sid={tag}").body)
            self.assertEqual(answer["told"], answer["pid"])
            self.assertEqual(answer["worker"], str(slot))

    def test_failure(self) -> None:
        """A request that fails is a 500, and its traceback is in the log, with its worker."""
        self.assertEqual(self.cluster.get("/boom").status, 500)
        until(lambda: "LookupError: nothing is here" in self.cluster.log())
        self.assertRegex(self.cluster.log(), r"#error\] worker \d: Exception in ASGI application")

    def test_client_leaves(self) -> None:
        """The stream of a client that has left ends, though nothing is written to it."""
        tag = self.cluster.tag(1)
        with self.cluster.connect() as connection:
            connection.send(request("GET", f"/events?name={tag[:8]}&sid={tag}"))
            until(lambda: b"hello" in connection.socket.recv(4096))
        until(lambda: tag[:8] in self.cluster.told(f"/left?sid={tag}"), 10, "the stream ends")

    def test_half_close(self) -> None:
        """A client that sends no more gets its answer, also a slow one, and the end."""
        with self.cluster.connect() as connection:
            connection.send(request("GET", "/slow?seconds=0.5"))
            connection.half_close()
            self.assertEqual(connection.response().status, 200)
            connection.end()

    def test_long_wait(self) -> None:
        """A client that sends no more is asked in a long wait, and then gets its answer."""
        with self.cluster.connect() as connection:
            connection.send(request("GET", "/slow?seconds=4"))
            connection.half_close()
            response = connection.response()
            self.assertEqual((response.status, set(response.interim)), (200, {100}))
            connection.end()

    def test_flood(self) -> None:
        """A WebSocket that floods a deaf application costs the worker little memory."""
        tag = self.cluster.tag(2)
        pid = self.cluster.workers()[2]
        before = processes.memory(pid)
        with self.cluster.connect() as connection:
            rawws.join(connection, f"/ws?deaf=1&sid={tag}")
            flood = rawws.frame(b"x" * 1000) * 1000
            connection.socket.settimeout(0.3)
            sent = 0
            try:
                while sent < 200 * len(flood):
                    sent += connection.socket.send(flood)
            except TimeoutError:
                pass
            self.assertLess(sent, 200 * len(flood))
            self.assertLess(processes.memory(pid) - before, 32 << 20)
            self.assertEqual(self.cluster.get(f"/state?sid={tag}").status, 200)


class PureRoutingTests(RoutingTests):
    """Routing on asyncio's own loop, with h11 and wsproto."""

    environment = PURE


class LeavingTests(SynchronousTestCase):
    """Rolling reloads, and the end."""

    def cluster(self) -> Cluster:
        """A cluster of two, ended with the test."""
        cluster = Cluster(f"{APPS}:app", workers=2, probe=POOL)
        cluster.__enter__()
        self.addCleanup(cluster.stop)
        return cluster

    def reload(self, cluster: Cluster) -> None:
        """Replace the workers, and wait until the old ones have gone."""
        old = set(cluster.workers().values())
        cluster.signal(signal.SIGHUP)
        until(
            lambda: not old & {process.pid for process in cluster.living()}, 30, "the old have gone"
        )

    def test_reload(self) -> None:
        """Idle connections go on, WebSockets get 1001, what is under way is finished."""
        cluster = self.cluster()
        tag = cluster.tag(1)
        idle = [cluster.connect() for _ in range(8)]
        before = {c.ask(request("GET", "/state")).header("x-pid") for c in idle}
        size = 3 << 20
        with cluster.connect() as joined, cluster.connect() as loading, cluster.connect() as last:
            rawws.join(joined, f"/ws?sid={tag}")
            loading.send(request("GET", f"/download?size={size}&sid={tag}"))
            last.ask(request("GET", f"/later?seconds=1.5&sid={tag}"))
            self.reload(cluster)
            self.assertEqual(rawws.message(joined.reader)[1][:2], (1001).to_bytes(2, "big"))
            self.assertEqual(loading.response(keep=False).sha256, sha256([payload(size)]))
        after = {c.ask(request("GET", "/state")).header("x-pid") for c in idle}
        for connection in idle:
            connection.close()
        self.assertFalse(before & after)
        log = cluster.log()
        self.assertIn("The work behind a response is done.", log)
        self.assertIn("A WebSocket has ended with 1001.", log)
        self.assertEqual(log.count("The lifespan begins."), 4)
        self.assertEqual(log.count("The lifespan ends."), 2)

    def test_stop(self) -> None:
        """At TERM requests are answered, WebSockets hear it, and the lifespans end."""
        cluster = self.cluster()
        with cluster.connect() as waiting, cluster.connect() as joined, cluster.connect() as idle:
            rawws.join(joined)
            idle.ask(request("GET", "/state"))
            waiting.send(request("GET", "/slow?seconds=1"))
            time.sleep(0.3)
            cluster.signal(signal.SIGTERM)
            self.assertEqual(rawws.message(joined.reader)[1][:2], (1001).to_bytes(2, "big"))
            self.assertEqual(waiting.response().status, 200)
            idle.end()
        self.assertEqual(cluster.wait(), 0)
        self.assertEqual(cluster.log().count("The lifespan ends."), 2)


class OptionTests(SynchronousTestCase):
    """Options that concern an ASGI application."""

    def test_access_log(self) -> None:
        """The log has a line a request, with the worker and the route of each."""
        path = Path(self.mktemp()).resolve()
        with Cluster(f"{APPS}:app", "--access-log", str(path), workers=2) as cluster:
            tags = cluster.tags()
            with cluster.connect() as connection:
                for slot in (1, 2):
                    headers = [("User-Agent", "me"), ("Referer", "there")]
                    target = f"/who?n=x&sid={tags[slot]}"
                    connection.ask(request("GET", target, headers=headers))
                rawws.join(connection, f"/ws?n=x&sid={tags[1]}")
            until(lambda: "/ws" in path.read_text())
        lines = [line for line in path.read_text().splitlines() if "n=x" in line]
        pattern = re.compile(
            r'127\.0\.0\.1 - - \[[^]]+\] "GET /(who|ws)\?\S+ HTTP/1\.1" '
            r'(\d+) \S+ "(.*)" "(.*)" (.*)'
        )
        found = [pattern.fullmatch(line).groups() for line in lines]
        self.assertEqual(
            found,
            [
                ("who", "200", "there", "me", "1 TAG"),
                ("who", "200", "there", "me", "2 TAG"),
                ("ws", "101", "-", "-", "1 TAG"),
            ],
        )

    def test_proxy_in_front(self) -> None:
        """A trusted proxy may name client and scheme; the root path is the operator's."""
        headers = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")]
        options = ("--forwarded-allow-ips", "127.0.0.0/30", "--root-path", "/app")
        with Cluster(f"{APPS}:app", *options, workers=1, probe="/who") as cluster:
            answer = cluster.get("/who", *headers)
            self.assertEqual(json.loads(answer.body)["told"], ["203.0.113.9", "https", "/app"])
            answer = cluster.get("/who", *headers, source="127.0.0.9")
            self.assertEqual(json.loads(answer.body)["told"], ["127.0.0.9", "http", "/app"])

    def test_unix_socket(self) -> None:
        """Clients over a UNIX socket are served and moved, and have no address."""
        path = os.path.join("/tmp", f"txsticky-asgi-{os.getpid()}")
        with Cluster(f"{APPS}:app", "--listen", f"unix:{path}", workers=2) as cluster:
            tags = cluster.tags()
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            connection = Connection.over(sock)
            for slot in (1, 2, 1):
                response = connection.ask(request("GET", f"/who?sid={tags[slot]}"))
                self.assertEqual(response.header("x-worker"), str(slot))
                self.assertEqual(json.loads(response.body)["told"][0], None)
            connection.close()

    def test_reactor_imported(self) -> None:
        """An application that imports Twisted's reactor is ASGI all the same."""
        for options in ((), ("--interface", "asgi")):
            with Cluster("tests.integration.asgi_on_twisted:app", *options, probe="/") as cluster:
                self.assertEqual(cluster.get("/").body, b"AsyncioSelectorReactor")
                self.assertEqual("once more" in cluster.log(), not options)

    def test_check_config(self) -> None:
        """--check-config loads an ASGI application also under twist, which has a reactor."""
        for app in (f"{APPS}:app", "tests.integration.asgi_on_twisted:app"):
            for program in ("twisted", "txsticky"):
                words = ["txsticky"] if program == "twisted" else []
                command = [sys.executable, "-m", program, *words, "--check-config", app]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, cwd=ROOT
                )
                self.assertIn(f"{app} is fine (asgi, ", done.stdout, done.stderr)

    def test_no_lifespan(self) -> None:
        """An application that raises at its lifespan is served, and the log says so once."""
        with Cluster(f"{APPS}:lazy", workers=1, probe="/") as cluster:
            self.assertEqual(cluster.get("/").body, b"1")
            self.assertEqual(cluster.log().count("has no lifespan, and is served"), 1)
            self.assertNotIn("Traceback", cluster.log())

    def test_cannot_start(self) -> None:
        """An application that cannot start ends the cluster with one sentence and exit code 3."""
        cluster = Cluster(f"{APPS}:cannot_start", workers=2)
        cluster.spawn()
        try:
            self.assertEqual(cluster.wait(START), 3)
            sentence = (
                "The application did not start: its lifespan failed: ConnectionError: no database"
            )
            self.assertIn(sentence, cluster.log())
        finally:
            cluster.stop()


class Uvicorn(Server):
    """uvicorn alone."""

    def __init__(self, app: str, environment: dict[str, str]) -> None:
        port = free_port()
        arguments = ["-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port)]
        super().__init__([*arguments, "--timeout-keep-alive", "60"], port, environment)


#: What is sent on one connection each; methods first.
CONVERSATIONS: dict[str, list[bytes]] = {
    "page": [request("GET", "/")],
    "HEAD": [request("HEAD", "/")],
    "OPTIONS": [request("OPTIONS", "/")],
    "kept alive": [request("GET", "/"), request("GET", "/items/7?q=%C3%A9"), request("GET", "/")],
    "close": [request("GET", "/", headers=[("Connection", "close")])],
    "version 1.0": [request("GET", "/").replace(b"HTTP/1.1", b"HTTP/1.0")],
    "not found": [request("GET", "/nowhere")],
    "not allowed": [request("DELETE", "/")],
    "not a number": [request("GET", "/items/seven")],
    "redirect": [request("GET", "/elsewhere"), request("GET", "/body/")],
    "no content": [request("GET", "/empty"), request("GET", "/")],
    "cookies": [request("GET", "/cookies")],
    "failure": [request("GET", "/fails")],
    "JSON": [
        request(
            "POST",
            "/items",
            headers=[("Content-Type", "application/json")],
            body=b'{"name": "a", "count": 3}',
        )
    ],
    "wrong JSON": [
        request("POST", "/items", headers=[("Content-Type", "application/json")], body=b'{"na')
    ],
    "body": [request("PUT", "/body", body=payload(300_000))],
    "empty body": [request("POST", "/body", body=b""), request("POST", "/body")],
    "chunked body": [
        request("PATCH", "/body", chunks=[payload(1), payload(70_000), payload(9)]),
        request("POST", "/body", chunks=[]),
    ],
    "trailer": [
        request("POST", "/body", headers=[("Transfer-Encoding", "chunked")])
        + chunk(b"abc")
        + b"0\r\nX-Sum: 1\r\n\r\n"
    ],
    "expect": [request("POST", "/body", headers=[("Expect", "100-continue")], body=b"abc")],
    "odd headers": [
        request(
            "GET",
            "/body",
            headers=[("X-A", ""), ("X-A", "two"), ("X-B", "\xe9\xff"), ("x_c", "under")],
        )
    ],
    "absolute target": [request("GET", "http://other.test/items/1")],
    "odd targets": [
        request("GET", "/items/1?"),
        request("GET", "//items//1"),
        request("GET", "/%2e"),
    ],
    "asterisk": [request("OPTIONS", "*")],
    "streams": [request("GET", "/stream?size=200000"), request("GET", "/stream?size=0")],
    "upload": [
        request(
            "POST",
            "/upload",
            headers=[("Content-Type", "multipart/form-data; boundary=edge")],
            body=b'--edge\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n'
            b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            + payload(100_000)
            + b"\r\n--edge--\r\n",
        )
    ],
    "upgrade to nothing": [
        request("GET", "/", headers=[("Connection", "Upgrade"), ("Upgrade", "x")])
    ],
    "websocket to a page": [rawws.handshake("/")],
    "websocket": [rawws.handshake("/ws", ("Sec-WebSocket-Protocol", "a, b"))],
}


class SameAsUvicorn(ServerTestCase):
    """A conversation gets the same answers from uvicorn alone and through a cluster."""

    environment: ClassVar[dict[str, str]] = {}

    def server(self) -> Server:
        return Cluster(f"{APPS}:shy", probe="/", environment=self.environment)

    def setUp(self) -> None:
        super().setUp()
        self.bare = Uvicorn(f"{APPS}:shy", self.environment)
        self.bare.__enter__()
        self.addCleanup(self.bare.stop)

    def converse(self, port: int, requests: list[bytes]) -> list[object]:
        """Status, headers but for the date, body and its framing of each response."""
        found: list[object] = []
        with Connection(port) as connection:
            for data in requests:
                response = connection.ask(data)
                headers = sorted(pair for pair in response.headers if pair[0] != "date")
                body = (response.length, response.sha256, response.to_end)
                found.append((response.status, response.reason, response.interim, headers, body))
        return found

    def test_conversations(self) -> None:
        """Requests of every kind.

        uvicorn with h11 takes a target in absolute form for a path, and is asked in origin form.
        """
        for name, requests in CONVERSATIONS.items():
            plain = [data.replace(b" http://other.test/", b" /") for data in requests]
            alone = self.converse(self.bare.port, plain)
            clustered = self.converse(self._shared.port, requests)
            self.assertEqual(clustered, alone, name)

    def test_order_of_headers(self) -> None:
        """Not even the order of the headers differs."""
        orders = []
        for port in (self.bare.port, self._shared.port):
            with Connection(port) as connection:
                response = connection.ask(request("GET", "/cookies"))
                orders.append([name for name, _ in response.headers])
        self.assertEqual(orders[0], orders[1])

    def test_websocket_messages(self) -> None:
        """Messages and the end of a WebSocket."""
        found = []
        for port in (self.bare.port, self._shared.port):
            with Connection(port) as connection:
                rawws.join(connection)
                for text in (b"", b"one", b"x" * 70_000, b"close it"):
                    connection.send(rawws.frame(text))
                found.append([rawws.message(connection.reader) for _ in range(4)])
        self.assertEqual(found[0], found[1])


class SameAsPureUvicorn(SameAsUvicorn):
    """A conversation gets uvicorn's answers with h11 and wsproto on asyncio's own loop."""

    environment = PURE
