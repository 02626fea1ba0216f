"""The private names of twisted.web and of the asyncio reactor mean what serve/ takes them for."""

from __future__ import annotations

from asyncio import new_event_loop

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.resource import EncodingResourceWrapper, Resource, _IEncodingResource
from twisted.web.server import GzipEncoderFactory, Request
from twisted.web.test.requesthelper import DummyChannel


class NameTests(SynchronousTestCase):
    """Each name, with the behaviour that is needed."""

    def request(self) -> Request:
        """A request on a channel that plays one."""
        return Request(DummyChannel(), False)

    def test_raw_headers(self) -> None:
        """Headers._rawHeaders has the values of each name, under its usual spelling, in order."""
        headers = Headers({"x-a": ["1"]})
        headers.addRawHeader(b"content-type", b"a/b")
        headers.addRawHeader(b"X-A", b"2")
        self.assertEqual(headers._rawHeaders, {b"X-A": [b"1", b"2"], b"Content-Type": [b"a/b"]})

    def test_what_is_put_into_raw_headers(self) -> None:
        """What is put into Headers._rawHeaders is what the headers say."""
        headers = Headers()
        headers._rawHeaders[b"X-A"] = [b"1"]
        self.assertEqual([*headers.getAllRawHeaders()], [(b"X-A", [b"1"])])
        self.assertEqual(headers.getRawHeaders("x-a"), ["1"])

    def test_encoder(self) -> None:
        """Request._encoder is None, or encodes what a request writes and ends with it."""
        request = self.request()
        self.assertIsNone(request._encoder)

        class Upper:
            def encode(self, data: bytes) -> bytes:
                return data.upper()

            def finish(self) -> bytes:
                return b"END"

        request._encoder = Upper()
        request.gotLength(0)
        request.clientproto, request.method = b"HTTP/1.1", b"GET"
        request.write(b"body")
        request.finish()
        written = request.transport.written.getvalue()
        self.assertIn(b"BODY", written)
        self.assertIn(b"END", written)

    def test_cleanup(self) -> None:
        """Request._cleanup fires notifyFinish, and tells the channel that the request is done."""
        request = self.request()
        done: list[object] = []
        request.channel.requestDone = done.append
        finished: Deferred[None] = request.notifyFinish()
        request._cleanup()
        self.assertIsNone(self.successResultOf(finished))
        self.assertEqual(done, [request])

    def test_encoding_resource(self) -> None:
        """_IEncodingResource is what a resource with encoders provides, and no other."""
        wrapped = EncodingResourceWrapper(Resource(), [GzipEncoderFactory()])
        self.assertTrue(_IEncodingResource.providedBy(wrapped))
        self.assertFalse(_IEncodingResource.providedBy(Resource()))

    def test_event_loop(self) -> None:
        """AsyncioSelectorReactor._asyncioEventloop is the loop that the reactor runs on."""
        loop = new_event_loop()
        self.addCleanup(loop.close)
        reactor = AsyncioSelectorReactor(loop)
        self.addCleanup(reactor.removeAll)
        self.assertIs(reactor._asyncioEventloop, loop)
