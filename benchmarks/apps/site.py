"""A twisted.web site: hello, session ids, uploads that are checked, large downloads."""

from __future__ import annotations

import os
import zlib

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.web import http, resource, server, static

ME = b"%d" % os.getpid()
HELLO = ME + b" says hello\n"
LARGE = 32 * 1024 * 1024


class Digest:
    """Takes the place of the temporary file that twisted.web keeps an upload in."""

    def __init__(self) -> None:
        self.size = self.crc = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)

    def seek(self, offset: int, whence: int) -> None:
        pass

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        pass


class Request(server.Request):
    """A request whose body is counted and not kept."""

    def gotLength(self, length: int | None) -> None:
        if length:
            self.content = Digest()
        else:
            super().gotLength(length)


class Hello(resource.Resource):
    """Says which process it is."""

    isLeaf = True

    def render_GET(self, request: server.Request) -> bytes:
        return HELLO


class Mint(resource.Resource):
    """A new session of this process: its pid and a session id."""

    isLeaf = True

    def render_GET(self, request: server.Request) -> bytes:
        # Only in a worker there is one, and a server without workers imports nothing of it.
        if "TXSTICKY_WORKER" not in os.environ:
            return ME + b" none\n"
        from txsticky import current

        here = current()
        assert here is not None
        return b"%b %b\n" % (ME, here.mint(os.urandom(6).hex()).encode())


class Upload(resource.Resource):
    """Answers with what came: its size and its CRC-32."""

    isLeaf = True

    def render_PUT(self, request: server.Request) -> bytes:
        return b"%d %d %d\n" % (os.getpid(), request.content.size, request.content.crc)


class Site(server.Site):
    """The site without an access log."""

    requestFactory = Request

    def log(self, request: http.Request) -> None:
        pass


class Plain(Factory):
    """The same protocols from a factory that is not recognized as HTTP: there is no gate then."""

    def buildProtocol(self, addr: object) -> IProtocol | None:
        return site.buildProtocol(addr)

    def doStart(self) -> None:
        site.doStart()

    def doStop(self) -> None:
        site.doStop()


root = resource.Resource()
root.putChild(b"hello", Hello())
root.putChild(b"mint", Mint())
root.putChild(b"upload", Upload())
root.putChild(b"large", static.Data(bytes(LARGE), "application/octet-stream"))
site = Site(root)
site.displayTracebacks = False
ungated = Plain()
