"""
One request in a WSGI application: what happens in its thread.

The output goes into a buffer (`pending`), from which the reactor's thread sends it at the client's
pace. So a thread is free as soon as the application has returned its last piece, whether the client
has read it or not. If the buffer is full, the thread waits; if the client has gone, the application
is ended.

Nothing is held back (PEP 3333, "Buffering and Streaming"), but the reactor is not woken more often
than it has to be: a response that is whole with its first piece, because of its length or because
it is a list, is sent in one wake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from wsgiref.util import FileWrapper

from attrs import frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from ...core.http.head import Head
from ...core.http.steps import line_of
from ...transport.ending import tell_surplus
from ..loading import describe
from .calls import Calls
from .environ import Environ
from .files import part_of, regular_file
from .pending import SLICE, Buffers, FilePart, Pending
from .sockets import Offer, Sockets
from .start import ResponseHead, response_head
from .threads import Threads
from .tries import Tries

log = Logger()

Start = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, Start], Iterable[bytes]]


@frozen
class Shared:
    """
    What all requests of an application share.

    :ivar app: the application.
    :ivar threads: the threads that it runs in.
    :ivar calls: calls functions in the reactor's thread.
    :ivar buffers: counts the bytes that wait for all clients.
    :ivar tries: logs errors at WebSocket handshakes.
    :ivar sockets: those that the application has taken; None if it is offered none.
    """

    app: Application
    threads: Threads
    calls: Calls
    buffers: Buffers
    tries: Tries
    sockets: Sockets | None = None


class Run:
    """
    Runs the application for one request, in a thread.

    :param shared: what all requests share.
    :param environ: the environment of the request.
    :param head: the request's head.
    :param offers: whether the client offers to open a WebSocket.
    :param drain: called in the reactor's thread when there is something to send, or the end.
    :param offer: the socket, for the application to take; then it has no response here.
    :ivar pending: what is to be sent.
    :ivar head: the head of the response; not changed any more once there is a piece in `pending`.
    """

    def __init__(
        self,
        shared: Shared,
        environ: Environ,
        head: Head,
        offers: bool,
        drain: Callable[[], object],
        offer: Offer | None = None,
    ) -> None:
        self._offer = offer
        self.pending = Pending(shared.buffers)
        self.head: ResponseHead | None = None
        self._shared = shared
        self._environ = environ
        self._errors = environ["wsgi.errors"]
        self._line = line_of(head)
        self._offers = offers
        #: Whether the response has no content.
        self._bare = head.method == b"HEAD"
        self._drain = drain
        self._begun = False
        #: Bytes that the response may still have; None for an unknown length.
        self._left: int | None = None
        self._surplus = False

    def __call__(self) -> None:
        """Run the application to its end."""
        failed = False
        try:
            self._iterate()
        except BaseException as error:
            failed = True
            # Logged here, because nothing is sent any more if the client has gone.
            if self._offers and not (self._begun or self._has_taken()):
                self._shared.tries.caught(error)
            # By StopIteration libraries tell gunicorn that there is no response.
            elif not (self._has_taken() and isinstance(error, StopIteration | ConnectionError)):
                self._shared.calls.add(partial(log.failure, "The application failed.", Failure()))
        finally:
            self._errors.flush()
        if self._has_taken():
            assert self._offer is not None
            self._shared.calls.add(self._offer.end)
        elif self.pending.end(failed):
            self._shared.calls.add(self._drain)

    def _has_taken(self) -> bool:
        """Whether the application has taken the socket: a response of its own is dropped."""
        return self._offer is not None and self._offer.taken

    def _iterate(self) -> None:
        result = self._shared.app(self._environ, self._start_response)
        try:
            kind = type(result)
            if self._has_taken():
                return
            if kind is list or kind is tuple:
                self._put_all(result)  # type: ignore[arg-type]
            elif kind is not FileWrapper or not self._put_file(result):  # type: ignore[arg-type]
                for piece in result:
                    if self._has_taken():
                        return
                    self._put(piece)
                    if self.pending.gone or self._surplus or (self._bare and self._begun):
                        return
            if self.head is None:
                raise RuntimeError("the application did not call start_response")
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        try:
            if exc_info is None and self.head is not None:
                raise RuntimeError("start_response was called again, without exc_info")
            if exc_info is not None and self._begun:
                raise exc_info[1].with_traceback(exc_info[2])
        finally:
            exc_info = None  # it holds this frame
        self.head = response_head(status, headers)
        return self._put

    # ---------------------------------------------------------------------- pieces

    def _put_all(self, pieces: list[bytes] | tuple[bytes, ...]) -> None:
        """
        Send the whole content, which is in memory already: to wait for room would save nothing.

        So its length is known as well (PEP 3333, "Handling the Content-Length Header").
        """
        for piece in pieces:
            self._check(piece)
        size = sum(map(len, pieces))
        head = self.head
        if head is None:
            raise RuntimeError("the application did not call start_response")
        # The answer to a HEAD may leave its content out: then it tells nothing of its length.
        if not (self._begun or head.no_content) and (size or not self._bare):
            self.head = head.with_length(size)
        if not size:
            return
        self._begin()
        if size <= SLICE:
            self._send(pieces[0] if len(pieces) == 1 else b"".join(pieces), last=True)
            return
        filled = [piece for piece in pieces if piece]
        for piece in filled[:-1]:
            self._send(piece, now=False)
        self._send(filled[-1], last=True)

    def _put_file(self, wrapper: FileWrapper) -> bool:
        """
        Have the kernel send a file.

        :returns: whether it will; if not, the file is to be read.
        """
        found = regular_file(wrapper)
        head = self.head
        if found is None or head is None or self._begun:
            return False
        raw, at, count = found
        if not head.no_content:
            self.head = head.with_length(count)
        self._begin()
        if self._left is not None:
            count = min(count, self._left)
        if self._bare or not count:
            return True
        part = part_of(raw, at, count)
        if part is None:
            return False
        self._send(part, last=True)
        return True

    def _put(self, piece: bytes) -> None:
        """Send a piece, and wait if there is no room (also what `start_response` returns)."""
        if self._has_taken():
            return
        self._check(piece)
        if piece:
            self._begin()
            self._send(piece)

    @staticmethod
    def _check(piece: object) -> None:
        if piece.__class__ is not bytes and not isinstance(piece, bytes):
            raise TypeError(f"the application yielded {describe(piece)}, not bytes")

    def _begin(self) -> None:
        """Take the head as it is: the first piece follows."""
        if not self._begun:
            head = self.head
            if head is None:
                raise RuntimeError("the application did not call start_response")
            self._begun = True
            if self._offer is not None:
                self._offer.answered()
            self._bare = self._bare or head.no_content
            self._left = None if self._bare else head.length

    def _send(self, piece: bytes | FilePart, last: bool = False, now: bool = True) -> None:
        """
        Give a piece to the reactor.

        :param last: the response is whole with it.
        :param now: send it before the next comes, and wait if there is no room.
        """
        if self._bare:
            return
        if piece.__class__ is not FilePart:
            piece, last = self._cut(piece, last)  # type: ignore[arg-type]
            if not piece:
                return
        call, full = self.pending.put(piece, now, last)
        if call:
            self._shared.calls.add(self._drain)
        if full:
            self._shared.threads.aside(self.pending.wait)

    def _cut(self, piece: bytes, last: bool) -> tuple[bytes, bool]:
        """
        Hold the response to its length.

        :returns: what of the piece belongs to it, and whether that is the last of it.
        """
        left = self._left
        if left is None:
            return piece, last
        size = len(piece)
        if size > left:
            if not self._surplus:
                self._surplus = True
                self._shared.calls.add(partial(tell_surplus, self._line))
            piece, size = piece[:left], left
        self._left = left - size
        return piece, last or size == left
