"""The environment of a WSGI application: what it says, and that it says what others say."""

from __future__ import annotations

import io
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.forwarded import Trusted
from txsticky.serve.wsgi.environ import ErrorStream, environ_of_head

from .cases import HOST, PEER, CallCase, head_of


class HeadTests(SynchronousTestCase):
    """What the head of a request says."""

    def of(self, *head: str, version: str = "1.1") -> dict[str, Any]:
        """The environment of a head."""
        return environ_of_head(head_of(*head, version=version))

    def test_request_line(self) -> None:
        """Method, path, query and version; the path is decoded, the query is not."""
        environ = self.of("PUT", "/a/b%20c%2Fd%C3%A9?x=%20&y?", version="1.0")
        names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL")
        self.assertEqual(
            [environ[name] for name in names],
            ["PUT", "/a/b c/d\xc3\xa9", "x=%20&y?", "HTTP/1.0"],
        )
        for method, target, path in (
            ("OPTIONS", "*", "/"),
            ("CONNECT", "example:443", "/example:443"),
            ("GET", "a/b", "/a/b"),
        ):
            self.assertEqual(self.of(method, target)["PATH_INFO"], path)
        self.assertEqual(self.of("GET", "//a/../b")["PATH_INFO"], "//a/../b")
        self.assertEqual(self.of("GET", "/%zz%2")["PATH_INFO"], "/%zz%2")

    def test_headers(self) -> None:
        """Every header is a variable; several of one name are one, with commas."""
        environ = self.of("GET", "/", "X-a: 1 ", "Host:h", "x-A:\t2\xe9", "Empty:")
        self.assertEqual(environ["HTTP_X_A"], "1,2\xe9")
        self.assertEqual((environ["HTTP_HOST"], environ["HTTP_EMPTY"]), ("h", ""))

    def test_content(self) -> None:
        """Type and length of the content have names of their own."""
        environ = self.of("POST", "/", "Content-Type: text/plain", "Content-Length: 3")
        self.assertEqual((environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]), ("text/plain", "3"))
        self.assertFalse([name for name in environ if name.startswith("HTTP_CONTENT")])
        environ = self.of()
        self.assertEqual((environ["CONTENT_TYPE"], environ.get("CONTENT_LENGTH")), ("", None))

    def test_transfer_encoding(self) -> None:
        """The coding of a chunked body is undone, and not told."""
        self.assertNotIn(
            "HTTP_TRANSFER_ENCODING", self.of("POST", "/", "Transfer-Encoding: chunked")
        )

    def test_underscore(self) -> None:
        """A client cannot pass X_Forwarded_For for a variable that its proxy guards."""
        environ = self.of("GET", "/", "X_Real_IP: 1", "X-Other: 2", "X-Real_IP: 3")
        self.assertEqual([name for name in environ if "REAL" in name], [])

    def test_host(self) -> None:
        """The name of the server is the one in Host, without port; empty if there is none."""
        for host, name in (
            ("example:8080", "example"), ("example", "example"), ("[::1]:80", "::1"),
            ("[::1]", "::1"), ("192.0.2.1:1", "192.0.2.1"), ("", ""),
        ):  # fmt: skip
            self.assertEqual(self.of("GET", "/", f"Host: {host}")["SERVER_NAME"], name)
        self.assertEqual(self.of("GET", "/", "X: y")["SERVER_NAME"], "")

    def test_own_copy(self) -> None:
        """What an application does to its environment, no other sees."""
        self.of()["PATH_INFO"] = "spoilt"
        self.assertEqual(self.of()["PATH_INFO"], "/")

    def test_long_head(self) -> None:
        """A head that is too long to be remembered is read as well."""
        self.assertEqual(self.of("GET", "/", f"X: {'y' * 5000}")["HTTP_X"], "y" * 5000)


class Wsgiref(WSGIRequestHandler):
    """A request of the standard library's server, of which only the environment is asked."""

    seen: dict[str, Any]

    def handle(self) -> None:
        """Read one request."""
        self.raw_requestline = self.rfile.readline(65537)
        if self.parse_request():
            type(self).seen = self.get_environ()

    def address_string(self) -> str:
        """Tell the client's address."""
        return "192.0.2.7"


_PATHS = st.text("ab/%20.;é", max_size=8).map(lambda text: "/" + text.replace("é", "%C3%A9"))
_QUERIES = st.text("a=&%20+", max_size=8)
_TEXT = st.text("ab c,;\xe9", max_size=8).map(str.strip)
_FIELDS = st.dictionaries(
    st.sampled_from(["Accept", "Cookie", "X-Some-Name", "Content-Type", "Authorization"]), _TEXT
)


class ComparedTests(SynchronousTestCase):
    """The environment, compared with the standard library's."""

    @given(st.sampled_from(["GET", "POST", "PATCH"]), _PATHS, _QUERIES, _FIELDS)
    def test_as_wsgiref(self, method: str, path: str, query: str, fields: dict[str, str]) -> None:
        """For whatever head, wsgiref's server makes the same of it, but for what it leaves out."""
        if path.startswith("//"):
            return  # http.server reduces these slashes to one
        target = f"{path}?{query}"
        lines = ["Host: example", *(f"{name}: {value}" for name, value in fields.items())]
        head = head_of(method, target, *lines)
        theirs = self.wsgiref(head.raw)
        ours = environ_of_head(head)
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_NAME"):
            theirs.pop(name, None)  # a default of text/plain, and the host's own name
            ours.pop(name, None)
        kept = {name: value for name, value in theirs.items() if name in ours}
        self.assertEqual(ours, kept)
        self.assertEqual(
            {name for name in theirs if name.startswith("HTTP_")},
            {name for name in ours if name.startswith("HTTP_")},
        )

    def wsgiref(self, raw: bytes) -> dict[str, Any]:
        """What the standard library's server makes of a head."""

        class Made(Wsgiref):
            def setup(self) -> None:
                self.rfile, self.wfile = io.BytesIO(raw), io.BytesIO()

            def finish(self) -> None:
                pass

        server = WSGIServer.__new__(WSGIServer)
        server.base_environ = {}
        Made(None, ("192.0.2.7", 1), server)
        return Made.seen


class ServerTests(CallCase):
    """What is said of client and server."""

    def of(self, *headers: str, **values: Any) -> dict[str, Any]:
        """The environment that an application gets."""
        seen: list[dict[str, Any]] = []

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            seen.append(environ)
            start_response("200 OK", [])
            return []

        self.ask(app, head_of("GET", "/", *headers), **values)
        return seen[0]

    def test_addresses(self) -> None:
        """The client's address and the server's port."""
        environ = self.of()
        self.assertEqual((environ["REMOTE_ADDR"], environ["REMOTE_PORT"]), (PEER.host, "50000"))
        self.assertEqual(
            (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["wsgi.url_scheme"]),
            ("example", "8080", "http"),
        )

    def test_no_host(self) -> None:
        """Without a Host the server is named by its address."""
        self.assertEqual(self.of("X: y")["SERVER_NAME"], HOST.host)

    def test_ipv6(self) -> None:
        """An IPv6 address is told like another."""
        environ = self.of(peer=IPv6Address("TCP", "2001:db8::7", 5))
        self.assertEqual(environ["REMOTE_ADDR"], "2001:db8::7")

    def test_secure(self) -> None:
        """Over TLS the scheme is https."""
        self.assertEqual(self.of(secure=True)["wsgi.url_scheme"], "https")

    def test_unix_socket(self) -> None:
        """A client on a UNIX socket has no address, and the server the port of its scheme."""
        for secure, port in ((False, "80"), (True, "443")):
            address = UNIXAddress(None)
            environ = self.of("X: y", peer=address, host=address, secure=secure)
            self.assertEqual((environ["REMOTE_ADDR"], environ["REMOTE_PORT"]), ("", "0"))
            self.assertEqual((environ["SERVER_NAME"], environ["SERVER_PORT"]), ("localhost", port))

    def test_trusted_proxy(self) -> None:
        """A trusted proxy names the client and its scheme; what another says is only a header."""
        lines = ("X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https")
        for trusted, expected in (
            (PEER.host, ("198.51.100.9", "0", "https")),
            ("192.0.2.99", (PEER.host, "50000", "http")),
        ):
            environ = self.of(*lines, trusted=Trusted.parse(trusted))
            names = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme")
            self.assertEqual(tuple(environ[name] for name in names), expected)

    def test_proxy_on_a_unix_socket(self) -> None:
        """A proxy that comes through a UNIX socket names the client, if these are trusted."""
        address = UNIXAddress(None)
        line = "X-Forwarded-For: 198.51.100.9"
        environ = self.of(line, peer=address, host=address, trusted=Trusted.parse("unix"))
        self.assertEqual((environ["REMOTE_ADDR"], environ["SERVER_PORT"]), ("198.51.100.9", "80"))

    def test_kind_of_server(self) -> None:
        """The environment says that there are threads and other processes, and that input ends."""
        for threads in (1, 64):
            environ = self.of(threads=threads)
            self.assertEqual(environ["wsgi.multithread"], threads > 1)
        for name, value in (
            ("version", (1, 0)), ("multiprocess", True), ("run_once", False),
            ("input_terminated", True),
        ):  # fmt: skip
            self.assertEqual(environ[f"wsgi.{name}"], value)

    def test_root_path(self) -> None:
        """The path under which a proxy mounts the application is its SCRIPT_NAME."""
        environ = self.of(root_path="/app")
        self.assertEqual((environ["SCRIPT_NAME"], environ["PATH_INFO"]), ("/app", "/"))


class ErrorStreamTests(SynchronousTestCase):
    """wsgi.errors."""

    def test_text_with_braces_is_logged_as_it_is(self) -> None:
        """What is written to wsgi.errors is no format string, and is logged in lines."""
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        stream = ErrorStream()
        print("a {dict}", "and", file=stream)
        stream.writelines(["more {0}\n", "rest"])
        stream.flush()
        stream.flush()
        self.assertEqual(
            [formatEvent(event) for event in events], ["a {dict} and", "more {0}", "rest"]
        )
