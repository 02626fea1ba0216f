"""TLS that ends in the workers: every interface, every worker, over one connection."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import shutil
import ssl
import subprocess
import time
from typing import Any
from unittest import SkipTest

import aiohttp
import socketio

from tests.integration import processes, rawws
from tests.integration.cluster import ClusterTestCase
from tests.integration.processes import until
from tests.integration.rawhttp import (
    Connection,
    payload,
    request,
    sha256,
)
from tests.integration.secure import NAME, SecureCluster

BIG = 64 << 20


class SecureTestCase(ClusterTestCase):
    """Tests that share one cluster that ends TLS."""

    workers = 3

    def server(self) -> SecureCluster:
        return SecureCluster(self.app, *self.options, workers=self.workers, probe=self.probe)

    @property
    def cluster(self) -> SecureCluster:
        """The cluster under test."""
        assert isinstance(self._shared, SecureCluster)
        return self._shared


class Interfaces:
    """What each interface has to tell of a client that came over TLS."""

    cluster: SecureCluster
    assertEqual: Any

    def sids(self) -> dict[str, str]:
        """A session id of each worker."""
        found: dict[str, str] = {}

        def asked() -> bool:
            answer = json.loads(self.cluster.get().body)
            found[answer["worker"]] = answer["told"]
            return len(found) == 3

        until(asked, 20, "every worker has answered")
        return found

    def test_alternating(self) -> None:
        """One connection's requests, by turns for each worker: each is served by the right one."""
        sids = sorted(self.sids().items())
        draw = random.Random(1)
        client = http.client.HTTPSConnection(
            "localhost", self.cluster.port, context=self.cluster.context(), timeout=60
        )
        client.connect()
        port = client.sock.getsockname()[1]
        for turn in range(60):
            slot, sid = sids[turn % 3] if turn < 30 else draw.choice(sids)
            body = payload(draw.choice((0, 10, 100_000)), turn)
            client.request("POST", f"/?sid={sid}", body=body)
            response = client.getresponse()
            told = json.loads(response.read())
            self.assertEqual((response.status, told["worker"]), (200, slot))
            self.assertEqual(told["scheme"], "https")
            self.assertEqual(told["sha256"], sha256([body]))
            self.assertEqual(told["client"][0], "127.0.0.1")
            self.assertEqual(told["server"][1], self.cluster.port)
            if told["client"][1]:  # WSGI has no word for it
                self.assertEqual(told["client"][1], port)
        self.assertEqual(client.sock.getsockname()[1], port, "it was one connection")
        client.close()


class Web(Interfaces, SecureTestCase):
    """twisted.web."""

    app = ":web"
    probe = "/"

    def test_url(self) -> None:
        """twisted.web makes URLs with the scheme and port that the client used."""
        for sid in self.sids().values():
            told = json.loads(self.cluster.get(f"/?sid={sid}").body)
            self.assertEqual(told["url"], f"https://cluster.test:{self.cluster.port}/")


class Wsgi(Interfaces, SecureTestCase):
    """WSGI."""

    app = ":wsgi"
    probe = "/"


class Asgi(Interfaces, SecureTestCase):
    """ASGI, on uvicorn's protocols."""

    app = ":asgi"
    probe = "/"

    def test_websockets(self) -> None:
        """aiohttp speaks wss with every worker, by way of whichever worker it met first."""
        sids = self.sids()

        async def converse() -> list[tuple[str, Any, bytes]]:
            seen = []
            async with aiohttp.ClientSession() as session:
                for slot, sid in list(sids.items()) * 3:
                    url = f"wss://localhost:{self.cluster.port}/ws?sid={sid}"
                    async with session.ws_connect(url, ssl=self.cluster.context()) as websocket:
                        greeting = json.loads(await websocket.receive_str())
                        await websocket.send_bytes(payload(70_000))
                        echoed = await websocket.receive_bytes()
                        seen.append((slot, greeting, echoed))
            return seen

        for slot, greeting, echoed in asyncio.run(converse()):
            self.assertEqual((greeting["worker"], greeting["scheme"]), (slot, "wss"))
            self.assertEqual(greeting["client"][0], "127.0.0.1")
            self.assertEqual(echoed, slot.encode() + b":" + payload(70_000))

    def test_slow_readers(self) -> None:
        """A long response to a client that is slow to read comes whole, here and relayed."""
        for sid in self.sids().values():
            with self.cluster.connect(window=8192) as connection:
                connection.send(request("GET", f"/?sid={sid}", headers=[("X-Size", str(BIG))]))
                time.sleep(0.2)
                self.assertEqual(connection.response(keep=False).length, BIG)


class SocketIo(SecureTestCase):
    """python-socketio."""

    app = "tests.integration.socketio_app:plain"
    options = ("--factory",)
    probe = "/socket.io/?EIO=4&transport=polling"

    def test_clients(self) -> None:
        """Clients of every transport, which share their connections, each keep to one worker."""
        until(lambda: self.cluster.log().count(" is ready.") == 3, 30, "all are ready")
        transports = [["polling"], ["websocket"], ["polling", "websocket"]] * 3

        async def talk(http: aiohttp.ClientSession, number: int) -> set[str]:
            client = socketio.AsyncClient(reconnection=False, http_session=http)
            await client.connect(
                f"https://localhost:{self.cluster.port}",
                transports=transports[number],
                wait_timeout=60,
            )
            workers = set()
            for turn in range(6):
                answer = await client.call("echo", f"{number} {turn}", timeout=60)
                self.assertEqual(answer["data"], f"{number} {turn}")
                workers.add(answer["worker"])
            await client.eio.disconnect(abort=True)  # a goodbye of polling takes 30 s
            return workers

        async def all_talk() -> list[set[str]]:
            connector = aiohttp.TCPConnector(ssl=self.cluster.context())
            async with aiohttp.ClientSession(connector=connector) as http:
                return await asyncio.gather(*(talk(http, n) for n in range(len(transports))))

        homes = asyncio.run(all_talk())
        self.assertEqual([len(workers) for workers in homes], [1] * len(transports))
        self.assertEqual(set().union(*homes), {"1", "2", "3"})


class Bytes(SecureTestCase):
    """What goes through a relay, and what need not."""

    app = "mixed"
    options = ("--factory",)

    def over_each(self) -> list[tuple[str, str, Connection]]:
        """For each worker: its number, its tag, and a connection that some worker keeps."""
        kept = []
        for slot, tag in sorted(self.cluster.tags().items()):
            connection = self.cluster.connect()
            self.addCleanup(connection.close)
            kept.append((str(slot), tag, connection))
        return kept

    def test_large_uploads(self) -> None:
        """64 MiB go up and down with every worker over one connection, not a byte lost."""
        body = payload(BIG)
        digest = sha256([body])
        with self.cluster.connect() as connection:
            for slot, tag in self.cluster.tags().items():
                connection.send(request("POST", f"/?sid={tag}", body=body))
                posted = connection.response()
                self.assertEqual(posted.header("x-sha256"), digest)
                self.assertEqual(posted.header("x-worker"), str(slot))
                connection.send(request("GET", f"/?sid={tag}&size={BIG}"))
                answer = connection.response(keep=False)
                self.assertEqual((answer.length, answer.sha256), (BIG, digest))

    def test_chunked(self) -> None:
        """Chunked bodies arrive whole, and requests pipelined behind them stay in order."""
        asked, expected = [], []
        draw = random.Random(7)
        tags = sorted(self.cluster.tags().items())
        for number in range(40):
            slot, tag = draw.choice(tags)
            body = payload(draw.choice((0, 1, 20_000)), number)
            form: dict[str, Any] = draw.choice(({"chunks": [body]}, {"body": body}))
            asked.append(request("POST", f"/?sid={tag}&n={number}", **form))
            expected.append((str(slot), str(number), sha256([body])))
        with self.cluster.connect() as connection:
            connection.send(b"".join(asked))
            for slot, number, digest in expected:
                answer = connection.response("POST")
                seen = [answer.header(name) for name in ("x-worker", "x-n", "x-sha256")]
                self.assertEqual(seen, [slot, number, digest])

    def test_expect_continue(self) -> None:
        """A client that waits for 100 Continue gets it from the worker that will answer."""
        body = payload(50_000)
        for slot, tag, connection in self.over_each():
            head = request("POST", f"/?sid={tag}", headers=[("Expect", "100-continue")], body=body)
            connection.send(head[: -len(body)])
            self.assertEqual(connection.reader.interim(), 100)
            connection.send(body)
            answer = connection.response()
            self.assertEqual(answer.header("x-worker"), slot)
            self.assertEqual(answer.header("x-sha256"), sha256([body]))

    def test_head(self) -> None:
        """After the response to a HEAD the connection goes on, wherever it was served."""
        for slot, tag, connection in self.over_each():
            connection.ask(request("HEAD", f"/?sid={tag}&size=1000"))
            self.assertEqual(
                connection.ask(request("GET", f"/?sid={tag}")).header("x-worker"), slot
            )

    def test_websockets(self) -> None:
        """autobahn's WebSockets work here and relayed, with a frame glued to the handshake."""
        for slot, tag, connection in self.over_each():
            glued = rawws.frame(b"glued", rawws.BINARY)
            connection.send(rawws.handshake(f"/ws?sid={tag}") + glued)
            rawws.accepted(connection.response())
            self.assertEqual(rawws.message(connection.reader)[1], f"{slot}:glued".encode())
            connection.send(rawws.frame(payload(300_000), rawws.BINARY))
            self.assertEqual(rawws.message(connection.reader)[1][2:], payload(300_000))

    def test_a_blocked_worker_holds_its_clients_back(self) -> None:
        """What a worker does not read does not pile up in the worker that relays to it."""
        tags = self.cluster.tags()
        with self.cluster.connect() as first:
            here = first.ask(request("GET", "/")).header("x-worker")
            slot, tag = next(item for item in tags.items() if str(item[0]) != here)
            pid = self.cluster.workers()[int(here or "0")]
            before = processes.memory(pid)
            with self.cluster.connect() as blocking:
                blocking.send(request("GET", f"/cluster/block?seconds=3&sid={tag}"))
                body = payload(BIG)
                first.send(request("POST", f"/?sid={tag}", body=body)[: -len(body)])
                first.socket.settimeout(1.0)
                sent = 0
                try:
                    while sent < BIG:
                        sent += first.socket.send(body[sent : sent + 65536])
                except TimeoutError:
                    pass
                self.assertLess(sent, BIG)
                self.assertLess(processes.memory(pid) - before, BIG // 4)
                self.assertEqual(blocking.response().header("x-worker"), str(slot))
            first.socket.settimeout(60)

    def test_clients_that_vanish(self) -> None:
        """Clients that leave in the middle of anything leave no descriptor behind."""
        tags = self.cluster.tags()
        self.assertEqual(self.cluster.get().status, 200)
        before = self.cluster.settled()
        for number, tag in enumerate(list(tags.values()) * 10):
            connection = self.cluster.connect()
            data = request("POST", f"/?sid={tag}", body=payload(300_000))
            connection.send((data[:100], data[:200_000], data)[number % 3])
            if number % 2:
                connection.reset()
            else:
                connection.close()
            slow = self.cluster.connect()
            slow.send(request("GET", f"/?sid={tag}&delay=30"))
            slow.close()
        until(lambda: self.cluster.descriptors() == before, 10, f"{before} again")

    def test_curl(self) -> None:
        """curl, several URLs over one connection."""
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        tags = dict(sorted(self.cluster.tags().items()))
        base = f"https://localhost:{self.cluster.port}/"
        urls = [f"{base}?sid={tag}" for tag in tags.values()]
        done = subprocess.run(
            [
                curl, "-sS", "--cacert", self.cluster.pairs[NAME].certificate,
                "-w", "\n%{http_code} %{num_connects}\n", *urls, *urls,
            ],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        self.assertEqual([json.loads(line)["worker"] for line in lines[::2]], list("123") * 2)
        self.assertEqual(lines[1::2], ["200 1"] + ["200 0"] * 5)


class Sessions(SecureTestCase):
    """What identifies a client, inside TLS."""

    options = ("--sticky", "sid,insert:SRV")

    def test_new_sessions_are_not_relayed(self) -> None:
        """A new Engine.IO session begins in the worker that has the connection."""
        with self.cluster.connect() as connection:
            here = connection.ask(request("GET", "/")).header("x-worker")
            for _ in range(10):
                opened = connection.ask(request("GET", "/?EIO=4&transport=polling"))
                self.assertEqual(opened.header("x-worker"), here)

    def test_inserted_cookie(self) -> None:
        """An inserted cookie is Secure, and leads back from any connection."""
        first = self.cluster.get()
        cookie = first.header("set-cookie") or ""
        self.assertIn("; Secure", cookie)
        sent = ("Cookie", cookie.partition(";")[0])
        for _ in range(6):
            again = self.cluster.get("/", sent)
            self.assertEqual(again.header("x-worker"), first.header("x-worker"))
            self.assertIsNone(again.header("set-cookie"))


class Names(SecureTestCase):
    """Several certificates."""

    def server(self) -> SecureCluster:
        names = ((NAME, "localhost"), ("second.test", "*.wild.test"))
        return SecureCluster("echo", names=names, workers=2)

    def shown(self, name: str) -> tuple[str, ...]:
        """The names in the certificate that is shown to a client which asks for this one."""
        context = self.cluster.context()
        context.check_hostname = False
        with self.cluster.connect(name=name, context=context) as connection:
            assert isinstance(connection.socket, ssl.SSLSocket)
            certificate = connection.socket.getpeercert() or {}
            self.assertEqual(connection.ask(request("GET", "/")).status, 200)
        return tuple(str(value) for _, value in certificate["subjectAltName"])

    def test_names(self) -> None:
        """A client gets the certificate for the name it asks for, else the first."""
        first, second = (NAME, "localhost"), ("second.test", "*.wild.test")
        for name in (NAME, "localhost", "a.b.wild.test", "wild.test", "unknown.test", "127.0.0.1"):
            self.assertEqual(self.shown(name), first, name)
        for name in ("second.test", "SECOND.test", "a.wild.test"):
            self.assertEqual(self.shown(name), second, name)

    def test_verified(self) -> None:
        """A client that verifies the name is served under every one of them."""
        for name in (NAME, "localhost", "second.test", "b.wild.test"):
            self.assertEqual(self.cluster.get("/", name=name).status, 200)

    def test_protocols(self) -> None:
        """TLS 1.2 and 1.3 are spoken, 1.1 is not; HTTP/1.1 is agreed on, never HTTP/2."""
        for version, name in (
            (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
            (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ):
            context = self.cluster.context()
            context.minimum_version = context.maximum_version = version
            context.set_alpn_protocols(["h2", "http/1.1"])
            with self.cluster.connect(context=context) as connection:
                assert isinstance(connection.socket, ssl.SSLSocket)
                self.assertEqual(connection.socket.version(), name)
                self.assertEqual(connection.socket.selected_alpn_protocol(), "http/1.1")
        context = self.cluster.context()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            self.cluster.connect(context=context)


class BadClients(SecureTestCase):
    """Clients that do not do their part."""

    workers = 2
    options = ("--head-timeout", "0.5")

    def test_plain_http(self) -> None:
        """Plain HTTP on the TLS port ends the connection, with nothing but that in the log."""
        said = len(self.cluster.log())
        for data in (request("GET", "/"), b"\x16\x03\x01\x00\x05nonsense", b"\0" * 100):
            with self.cluster.plain() as connection:
                connection.send(data)
                try:
                    received = connection.socket.recv(65536)
                except ConnectionResetError:
                    received = b""
                self.assertFalse(received.startswith(b"HTTP"), received)
        self.assertEqual(self.cluster.get().status, 200)
        self.assertNotIn("Traceback", self.cluster.log()[said:])

    def test_stalled_handshakes(self) -> None:
        """A client that stops in the handshake is let go after the head timeout."""
        outgoing = ssl.MemoryBIO()
        stalling = self.cluster.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=NAME)
        with self.assertRaises(ssl.SSLWantReadError):
            stalling.do_handshake()
        hello = outgoing.read()
        for part in (hello, hello[:20]):
            with self.cluster.plain() as connection:
                connection.send(part)
                try:
                    while connection.socket.recv(65536):
                        pass
                except ConnectionResetError:
                    pass

    def test_silent_after_the_handshake(self) -> None:
        """A client that sends no request is let go after the head timeout."""
        with self.cluster.connect() as connection:
            connection.end()

    def test_slow_heads(self) -> None:
        """A client whose first head does not come to its end is answered with 408."""
        with self.cluster.connect() as connection:
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            self.assertEqual(connection.response().status, 408)
            connection.end()

    def test_malformed(self) -> None:
        """A malformed request is answered with 400, here and relayed."""
        tags = self.cluster.tags()
        with self.cluster.connect() as connection:
            connection.send(b"GET / HTTP/9.9 nonsense\r\n\r\n")
            self.assertEqual(connection.response().status, 400)
            connection.end()
        for tag in tags.values():
            with self.cluster.connect() as connection:
                connection.ask(request("GET", f"/?sid={tag}"))
                connection.send(b"nonsense\r\n\r\n")
                self.assertEqual(connection.response().status, 400)
                connection.end()

    def test_kept_alive(self) -> None:
        """The head timeout is for the first request alone."""
        for tag in self.cluster.tags().values():
            with self.cluster.connect() as connection:
                connection.ask(request("GET", f"/?sid={tag}"))
                time.sleep(1.0)
                self.assertEqual(connection.ask(request("GET", f"/?sid={tag}")).status, 200)
