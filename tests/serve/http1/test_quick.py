"""The usual way of a twisted.web request ends as the request's own methods do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.error import UnsupportedMethod
from twisted.web.http_headers import Headers
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory, Request, Site

from tests.gated import Transport
from tests.serving import Connection, Page
from txsticky.serve import ServeSettings, serving_for
from txsticky.serve.http1 import quick

PIECES = st.sampled_from([each.encode() for each in ("a", "b=", "=c", *"&;+%/*? ", "%2F")])
TEXTS = st.lists(PIECES, max_size=8).map(b"".join)


def _raising(make: Callable[[], BaseException]) -> Callable[[Request], bytes]:
    def answer(request: Request) -> bytes:
        raise make()

    return answer


def _made(*changes: Callable[[Request], object], body: Any = b"body") -> Callable[[Request], Any]:
    def answer(request: Request) -> Any:
        for change in changes:
            change(request)
        return body

    return answer


def _finished(request: Request) -> int:
    request.write(b"written")
    request.finish()
    return NOT_DONE_YET


def _upper(request: Request) -> bytes:
    write = request.write
    request.write = lambda data: write(data.upper())
    return b"body"


def _noting(request: Request) -> bytes:
    set_header = request.setHeader
    request.setHeader = lambda name, value: (set_header(name, value), set_header(b"x-set", name))
    return b"body"


def _untyped(request: Request) -> bytes:
    request.defaultContentType = None
    return b"body"


#: Pages, by their names.
PAGES: dict[str, Callable[[Request], Any]] = {
    "plain": _made(),
    "empty": _made(body=b""),
    "text": _made(body="text"),
    "nothing": _made(body=None),
    "typed": _made(lambda request: request.setHeader("content-type", "a/b")),
    "untyped": _untyped,
    "dated": _made(lambda request: request.setHeader(b"server", b"\xff\r\nx: y")),
    "length": _made(lambda request: request.setHeader(b"Content-Length", b"2")),
    "cookie": _made(lambda request: request.addCookie(b"a", b"b")),
    "etag": _made(lambda request: request.setETag(b'"e"')),
    "modified": _made(lambda request: request.setLastModified(1e9)),
    "no-content": _made(lambda request: request.setResponseCode(204)),
    "teapot": _made(lambda request: request.setResponseCode(418, b"Teapot")),
    "moved": _made(lambda request: request.redirect(b"/x")),
    "renamed": _made(lambda request: setattr(request, "method", b"HEAD")),
    "headers": _made(lambda request: setattr(request, "responseHeaders", Headers({b"a": [b"b"]}))),
    "finished": _finished,
    "upper": _upper,
    "noting": _noting,
    "unsupported": _raising(lambda: UnsupportedMethod([b"GET", b"POST"])),
    "fails": _raising(ZeroDivisionError),
    "stops": _raising(KeyboardInterrupt),
    "asked": lambda request: repr(
        (request.method, request.uri, request.path, request.args, request.prepath, request.postpath)
    ).encode(),
}


class QuickCase(SynchronousTestCase):
    """A site behind our channel and behind twisted.web's."""

    def setUp(self) -> None:
        self.clock = Clock()

    def site(self, request: type[Request] = Request) -> Site:
        """A site of all pages."""
        root = Resource()
        for name, page in PAGES.items():
            root.putChild(name.encode(), Page(page))
        encoded = EncodingResourceWrapper(Page(_made()), [GzipEncoderFactory()])
        root.putChild(b"encoded", encoded)
        return Site(root, requestFactory=request, reactor=self.clock)

    def both(self, data: bytes, request: type[Request] = Request) -> tuple[bytes, bytes]:
        """What our channel answers, and what twisted.web's does."""
        serving = serving_for(self.site(request), "auto", ServeSettings(), self.clock)
        ours = Connection(serving.factory).send(data)
        theirs: Any = self.site(request).buildProtocol(None)
        transport = Transport()
        theirs.makeConnection(transport)
        theirs.dataReceived(data)
        self.flushLoggedErrors()
        return _undated(ours), _undated(transport.value())


class SameTests(QuickCase):
    """Our channel's answers are twisted.web's to the byte, but for what names an object."""

    def test_pages(self) -> None:
        """Every kind of answer, to every method, is twisted.web's."""
        for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"):
            for name in PAGES:
                ours, theirs = self.both(_asking(method, b"/%b" % name.encode()))
                if name != "length":  # which HTTPChannel does not hold a response to
                    self.assertEqual(ours, theirs, (method, name))

    @given(TEXTS)
    def test_targets(self, text: bytes) -> None:
        """A target is taken apart as twisted.web does it, twice with the same result."""
        target = b"/asked/" + text.replace(b" ", b"")
        ours, theirs = self.both(_asking(b"GET", target) * 2)
        self.assertEqual(ours, theirs)

    def test_long_target(self) -> None:
        """A target that is too long to be remembered is taken apart as twisted.web does it."""
        ours, theirs = self.both(_asking(b"GET", b"/asked/x?" + b"a=b&" * 500))
        self.assertEqual(ours, theirs)

    def test_form(self) -> None:
        """The fields of a form are arguments."""
        lines = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n"
        ours, theirs = self.both(_asking(b"POST", b"/asked", lines) + b"a=b")
        self.assertIn(b"{b'a': [b'b']}", ours)
        self.assertEqual(ours, theirs)

    def test_encoded(self) -> None:
        """A resource that encodes what it answers does so."""
        ours, theirs = self.both(_asking(b"GET", b"/encoded", b"Accept-Encoding: gzip\r\n"))
        self.assertIn(b"Content-Encoding: gzip", ours)
        self.assertEqual(ours, theirs)

    @given(TEXTS)
    def test_cookies(self, text: bytes) -> None:
        """A Cookie line is read as twisted.web does it."""
        seen: list[dict[bytes, bytes]] = []

        class Noting(Request):
            def process(self) -> None:
                seen.append(dict(self.received_cookies))
                super().process()

        for cookie in (text, b"x=y; " + text * 300):
            self.both(_asking(b"GET", b"/plain", b"Cookie: %b\r\n" % cookie), Noting)
            ours, theirs = seen[-2:]
            self.assertEqual(list(ours.items()), list(theirs.items()))

    def test_changes_stay_here(self) -> None:
        """What one request does to its arguments and path is not seen by the next of the same."""

        def spoil(request: Request) -> bytes:
            found = repr((request.args, request.postpath, request.received_cookies)).encode()
            request.args[b"a"].append(b"more")
            request.args[b"more"] = [b"x"]
            request.postpath.append(b"more")
            request.received_cookies[b"more"] = b"x"
            request.responseHeaders.getRawHeaders(b"Server").append(b"more")
            request.requestHeaders.getRawHeaders(b"Cookie").append(b"more")
            return found

        serving = serving_for(Page(spoil), "auto", ServeSettings(), self.clock)
        connection = Connection(serving.factory)
        one, two = (
            _undated(connection.send(_asking(b"GET", b"/p?a=b", b"Cookie: c=d\r\n")))
            for _ in range(2)
        )
        self.assertEqual(one, two)


class UsualTests(QuickCase):
    """What is usual goes the usual way."""

    def test_taken(self) -> None:
        """A usual request is answered in one go, and its cookies are remembered."""
        with (
            mock.patch.object(quick, "_answer", wraps=quick._answer) as answered,
            mock.patch.object(quick, "_cookies", wraps=quick._cookies) as read,
        ):
            self.both(_asking(b"GET", b"/plain", b"Cookie: a=b\r\n"))
        self.assertEqual((answered.call_count, read.call_count), (1, 1))


class LeftTests(QuickCase):
    """What an application does itself stays its own."""

    def test_site(self) -> None:
        """A site that finds its resources in its own way is asked."""

        class Own(Site):
            def getResourceFor(self, request: Request) -> Resource:
                return Page(_made(body=b"own"))

        serving = serving_for(
            Own(Resource(), reactor=self.clock), "auto", ServeSettings(), self.clock
        )
        answer = Connection(serving.factory).send(_asking(b"GET", b"/none"))
        self.assertTrue(answer.endswith(b"own"), answer)

    def test_overridden(self) -> None:
        """A step that a subclass of Request has is called."""
        for name in (
            *("requestReceived", "process", "render", "write", "finish"),
            *("setHeader", "parseCookies"),
        ):
            called: list[str] = []

            def step(self: Any, *given: Any, name: str = name, called: list[str] = called) -> None:
                called.append(name)
                getattr(Request, name)(self, *given)

            kind = type("Own", (Request,), {name: step})
            ours, theirs = self.both(_asking(b"GET", b"/plain"), kind)
            self.assertEqual(ours, theirs)
            self.assertTrue(called and len(called) % 2 == 0, name)

    def test_instrument(self) -> None:
        """A step that something has put in the place of twisted.web's is called."""
        called: list[object] = []
        original = Request.finish

        def finish(self: Any) -> None:
            called.append(self)
            original(self)

        self.patch(Request, "finish", finish)
        self.both(_asking(b"GET", b"/plain"))
        self.assertEqual(len(called), 2)


def _asking(method: bytes, target: bytes, lines: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, target, lines)


def _undated(answer: bytes) -> bytes:
    answer = re.sub(rb"Date: [^\r]*", b"Date: now", answer)
    return re.sub(rb"0x[0-9a-f]+|Content-Length: \d+", b"0x0", answer)
