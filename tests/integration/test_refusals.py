"""What the primary refuses, how it says so, and that it is unharmed afterwards."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import APPS, ROOT, START, Cluster, ClusterTestCase, free_port
from tests.integration.converse import Outcome, Script, converse
from tests.integration.processes import SLACK, until
from tests.integration.rawhttp import Connection, Reader, Response, cut, request


def client_hello() -> bytes:
    """What a TLS client says first."""
    said = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), said, server_hostname="cluster.test"
    )
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return said.read()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

#: What is answered with 400 at once, wherever it is cut.
MALFORMED = {
    "no target": b"GET\r\n\r\n",
    "no version": b"GET /\r\n",
    "garbage": b"\xff\xfe\x00\x01garbage\r\n\r\n",
    "binary": bytes(range(128, 256)) + b"\r\n\r\n",
    "NUL in a field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare CR in a field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF in the head": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "no method": b" / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a PROXY line": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


class Refusing(ClusterTestCase):
    """Refusals with the default bounds."""

    def refused(self, outcome: Outcome, status: int, name: str = "") -> Response:
        """One complete refusal, and then the connection closed."""
        told = f"{name}: {outcome}"
        self.assertIn(b"\r\n\r\n", outcome.data, told)
        reader = Reader.over(outcome.data)
        response = reader.response()
        self.assertEqual((response.status, reader.buffered), (status, b""), told)
        self.assertEqual((response.header("connection") or "").lower(), "close", told)
        self.assertIn(outcome.end, ("closed", "reset"), told)
        self.assertEqual(self.cluster.get().status, 200)
        return response

    def one(self, *pieces: bytes, gap: float = 0.01) -> Outcome:
        """What one connection gets that sends these pieces."""
        return converse(self.cluster.port, [Script(pieces, gap)])[0]

    def test_malformed(self) -> None:
        """A malformed head is answered with 400 and the connection closed."""
        for name, data in MALFORMED.items():
            self.refused(self.one(data), 400, name)

    def test_malformed_in_pieces(self) -> None:
        """A malformed head is answered with 400 in two pieces as well, and byte by byte."""
        for name, data in MALFORMED.items():
            self.refused(self.one(*cut(data, len(data) // 2)), 400, name)
            pieces = cut(data, *range(1, len(data)))
            self.refused(self.one(*pieces, gap=0.0002), 400, f"{name}, byte by byte")

    def test_a_bad_first_line_is_enough(self) -> None:
        """The refusal does not wait for a head that never ends."""
        for line in (b"GET /\r\n", b"HELO mail.test\r\n", b"\x00\x01\x02\x03"):
            self.refused(self.one(line), 400)

    def test_too_large(self) -> None:
        """A head above the limit is answered with 431, in any pieces, with or without an end."""
        head = request("GET", "/", headers=[("X-Fill", "x" * 70_000)])
        endless = b"GET /?" + b"a" * 70_000
        self.refused(self.one(head), 431)
        self.refused(self.one(*cut(head, *range(5000, 70_000, 5000))), 431)
        self.refused(self.one(endless), 431)

    def test_large_but_fine(self) -> None:
        """A head of 15 KiB is served."""
        self.assertEqual(self.cluster.get("/", ("X-Fill", "x" * 15_000)).status, 200)

    def test_tls(self) -> None:
        """A TLS ClientHello on a plain port is refused in clear text at once, and logged."""
        self.refused(self.one(client_hello()), 400)
        until(lambda: "TLS" in self.cluster.log(), 5, "the log speaks of TLS")

    def test_http2(self) -> None:
        """An HTTP/2 preface on a plain port is refused at once."""
        self.refused(self.one(PREFACE), 505)

    def test_leading_empty_lines(self) -> None:
        """Empty lines before the request line are skipped (RFC 9112 2.2)."""
        for lines in (b"\r\n", b"\r\n\r\n"):
            with self.cluster.connect() as connection:
                self.assertEqual(connection.ask(lines + request("GET", "/"), "GET").status, 200)

    def test_absolute_form(self) -> None:
        """A target in absolute form is served."""
        self.assertEqual(self.cluster.get("http://cluster.test/x").status, 200)

    def test_host(self) -> None:
        """No Host or two are the application server's affair: the answer is its own."""
        for head in (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
            with self.cluster.connect() as connection:
                self.assertIn(connection.ask(head).status, (200, 400))

    def test_half_a_head_and_away(self) -> None:
        """A client that ends its side inside a head is let go, at once."""
        outcome = converse(self.cluster.port, [Script((b"GET / HT",), half_close=True)])[0]
        self.assertIn(outcome.end, ("closed", "reset"))
        self.assertIn(outcome.data[:12], (b"", b"HTTP/1.1 400"))

    def test_clients_that_reset(self) -> None:
        """Clients that reset at any moment of the hand-off harm no other."""
        stream = request("POST", "/", body=b"x" * 50_000)
        for pause in (0.0, 0.0003, 0.001, 0.003):
            for size in (0, 1, 30, len(stream) // 2, len(stream)):
                for _ in range(5):
                    connection = self.cluster.connect()
                    connection.send(stream[:size])
                    time.sleep(pause)
                    connection.reset()
        for _ in range(10):
            self.assertEqual(self.cluster.get().status, 200)


class Bounds(ClusterTestCase):
    """`--head-timeout 1 --head-limit 8192`."""

    options = ("--head-timeout", "1", "--head-limit", "8192")

    def one(self, *pieces: bytes, gap: float = 0.1) -> Outcome:
        """What a connection gets that sends these pieces."""
        return converse(self.cluster.port, [Script(pieces, gap)])[0]

    def test_half_a_head(self) -> None:
        """A head that does not come to its end is answered with 408 at the deadline."""
        start = time.monotonic()
        outcome = self.one(b"GET / HTTP/1.1\r\nHost: a\r\n")
        response = Reader.over(outcome.data).response()
        self.assertEqual((response.status, response.header("connection")), (408, "close"))
        self.assertEqual(outcome.end, "closed")
        self.assertGreater(time.monotonic() - start, 0.8)

    def test_a_trickle(self) -> None:
        """Single bytes do not put the deadline off."""
        head = request("GET", "/", headers=[("X-Fill", "x" * 100)])
        outcome = self.one(*cut(head, *range(1, len(head))))
        self.assertEqual(Reader.over(outcome.data).response().status, 408)

    def test_silence(self) -> None:
        """A client that says nothing is let go at the deadline."""
        outcome = self.one(b"")
        self.assertEqual(outcome.end, "closed")
        self.assertIn(outcome.data[:12], (b"", b"HTTP/1.1 408"))

    def test_a_hundred_slow_ones(self) -> None:
        """A hundred slow heads are gone after the deadline; a healthy client does not notice."""
        slow = [Connection(self.cluster.port) for _ in range(100)]
        for connection in slow:
            connection.send(b"GET /")
        self.assertEqual(self.cluster.get().status, 200)
        for connection in slow:
            self.assertEqual(connection.response().status, 408)
            connection.end()
            connection.close()

    def test_only_heads(self) -> None:
        """Slow bodies, slow handlers and idle kept-alive connections have no such deadline."""
        with self.cluster.connect() as connection:
            stream = request("POST", "/?delay=1.3", body=b"hello")
            connection.send(*cut(stream, len(stream) - 3), gap=1.3)
            self.assertEqual(connection.response().header("x-length"), "5")
            time.sleep(1.3)
            self.assertEqual(connection.ask(request("GET", "/")).status, 200)

    def test_limit(self) -> None:
        """The head's bound is the one that was given."""
        self.assertEqual(self.cluster.get("/", ("X-Fill", "x" * 7000)).status, 200)
        outcome = self.one(request("GET", "/", headers=[("X-Fill", "x" * 8200)]))
        self.assertEqual(Reader.over(outcome.data).response().status, 431)


class NobodyReady(SynchronousTestCase):
    """An application that takes its time."""

    def test_service_unavailable(self) -> None:
        """While no worker is ready a client waits a little, then gets 503 with Retry-After."""
        options = ("--factory", "--queue-timeout", "2")
        with Cluster("never_ready", *options, workers=1, probe="") as cluster:
            answer = cluster.get()
            self.assertEqual((answer.status, answer.header("connection")), (503, "close"))
            self.assertGreater(int(answer.header("retry-after") or 0), 0)
            with cluster.connect() as connection:
                connection.send(client_hello())
                self.assertEqual(connection.response().status, 400)


class Command(SynchronousTestCase):
    """What an operator reads when the command cannot do what it was told."""

    app: ClassVar[str] = f"{APPS}:echo"

    def run_command(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of the command, which is to end by itself."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "txsticky", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SLACK * START,
            start_new_session=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def serve(self, *arguments: str) -> tuple[int, str]:
        """Run the command, listening on a free port with one worker."""
        listen = f"tcp:{free_port()}:interface=127.0.0.1"
        return self.run_command("--listen", listen, "-w", "1", *arguments)

    def refused(self, *arguments: str) -> tuple[int, str]:
        """Run the command, where not even a worker has a traceback to show."""
        code, output = self.serve(*arguments)
        self.assertNotIn("Traceback", output)
        return code, output

    def test_an_application_that_does_not_load(self) -> None:
        """Exit code 3 and one line that names the application and what is wrong."""
        for app, said, *options in (
            ("no_such_module:app", "no_such_module"),
            (f"{APPS}:nothing", "nothing"),
            (f"{APPS}:does_not_load", "the settings of this application are missing", "--factory"),
            ("tests.integration.rawhttp:_BLOCK", "_BLOCK"),
        ):
            code, output = self.refused(*options, app)
            self.assertEqual(code, 3, output)
            lines = [line for line in output.splitlines() if said in line and app in line]
            self.assertTrue(lines, output)
            self.assertLess(len(output.splitlines()), 9, output)

    def test_the_reason_is_the_last_line(self) -> None:
        """Whatever keeps a cluster from serving is told in the last line that is printed."""
        absent = ("--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key")
        failing = "tests.integration.asgi_apps:cannot_start"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            for said, *arguments in (
                ("no_such_module", "no_such_module:app"),
                ("no_such_module", "--preload", "no_such_module:app"),
                ("no database", failing),
                ("no database", "--preload", failing),
                ("no database", "--accept", "workers", failing),
                ("in use", "--listen", f"127.0.0.1:{taken.getsockname()[1]}", self.app),
                ("--balance", "--balance", "fairly", self.app),
                ("--nonsense", "--nonsense", self.app),
                ("nowhere.pem", *absent, self.app),
            ):
                code, output = self.serve(*arguments)
                last = output.splitlines()[-1]
                self.assertRegex(last, f"^txsticky: .*{said}", output)
                self.assertTrue(code, output)

    def test_wrong_options(self) -> None:
        """A wrong option is named, with what it may be; the exit code is not 0, nor 3."""
        for name, *options in (
            ("--nonsense", "--nonsense"),
            ("--workers", "--workers", "many"),
            ("--workers", "--workers", "0"),
            ("--balance", "--balance", "fairly"),
            ("--sticky", "--sticky", "star"),
            ("--sticky", "--sticky", "path:("),
            ("--interface", "--interface", "cgi"),
            ("--listen", "--listen", "carrier-pigeon:7"),
            ("--head-timeout", "--head-timeout", "soon"),
            ("--forwarded-allow-ips", "--forwarded-allow-ips", "everyone"),
        ):
            code, output = self.refused(*options, self.app)
            self.assertNotIn(code, (0, 3), output)
            self.assertIn(name.lstrip("-"), output)

    def test_a_port_in_use(self) -> None:
        """A port in use is named; the exit code is not 0, nor 3."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            listen = f"tcp:{port}:interface=127.0.0.1"
            code, output = self.run_command("--listen", listen, "-w", "1", self.app)
        self.assertNotIn(code, (0, 3), output)
        self.assertNotIn("Traceback", output)
        self.assertIn(str(port), output)
        self.assertRegex(output.lower(), "in use")

    def test_help(self) -> None:
        """--help lists the options and --version says which this is."""
        code, output = self.run_command("--help")
        self.assertEqual(code, 0)
        for option in (
            "--listen",
            "--workers",
            "--sticky",
            "--balance",
            "--interface",
            "--factory",
        ):
            self.assertIn(option, output)
        self.assertEqual(self.run_command("--version")[0], 0)

    def test_check_config(self) -> None:
        """--check-config says whether this would start, without starting it."""
        self.assertEqual(self.serve("--check-config", self.app)[0], 0)
        self.assertNotEqual(self.serve("--check-config", "--balance", "fairly", self.app)[0], 0)
