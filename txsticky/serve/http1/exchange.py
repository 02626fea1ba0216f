"""
What answers an HTTP/1.1 request, and what it may do: the interface of the channel.

The gate has parsed the head and found the ends of the request. For each request the channel calls
the application's `Answering` with an `Exchange`, and gets a `Respondent`, which is told what comes.
Everything is called in the reactor's thread, and nothing is called again from inside a call.

What comes is told in this order: ``body`` any number of times, and then ``complete`` once; and at
any time, once, ``lost``, behind which nothing comes and nothing may be done. What answers calls
`Exchange.respond` once, then `Exchange.write` any number of times, then `Exchange.finish`; it may
do so before the request is complete. The next request of the connection begins when this one is
complete and `finish` has been called.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.python.failure import Failure

from ...core.how import How
from ...core.http.head import Head


class Respondent(Protocol):
    """What answers one request: it is told what comes from the client."""

    def body(self, data: bytes) -> None:
        """
        Take a piece of the request's content, out of its chunks if it came in chunks.

        After a response with the status 101 it is what came, of whatever protocol.

        :param data: at least one byte.
        """

    def complete(self) -> None:
        """Take note that the request is here whole; trailers are dropped (RFC 9110, 6.5.1)."""

    def lost(self, reason: Failure) -> None:
        """
        Take note that the connection is over: nothing can be sent any more.

        It is not called after `Exchange.finish`, `Exchange.abort` or `Exchange.detach`.

        :param reason: why the connection ended.
        """

    def leave(self) -> bool:
        """
        End soon, as a WebSocket can: the worker is leaving.

        :returns: whether it will; if not, nothing was done.
        """


class Exchange(Protocol):
    """
    One request and its response.

    After `finish`, `abort`, `detach` and `Respondent.lost`, every method does nothing.

    :ivar head: the request's head, as the application is to see it: in origin form, its Host the
        authority of an absolute target, without folded lines and offers that are ignored.
    :ivar length: of the content in bytes; None if it comes in chunks, 0 if there is none.
    :ivar transport: the connection (`ITransport`), for what the methods here do not offer.
    :ivar open: whether the exchange is under way still.
    :ivar expects: whether the client waits for a ``100 Continue`` before it sends the content
        (RFC 9110, section 10.1.1) and has not got one: see `proceed`.
    """

    head: Head
    length: int | None
    transport: Any
    open: bool
    expects: bool

    @property
    def peer(self) -> Any:
        """The address of the client (`IAddress`), as the peer of its connection."""

    @property
    def host(self) -> Any:
        """The address that the client connected to (`IAddress`)."""

    @property
    def secure(self) -> bool:
        """Whether the client came over TLS."""

    @property
    def how(self) -> How:
        """How the request was routed."""

    # ------------------------------------------------------------------ the request

    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Return the request's header lines in the order sent: names as sent, values stripped."""

    def proceed(self) -> None:
        """Send ``100 Continue`` if the client waits for it; nothing sends it else."""

    def pause(self) -> None:
        """
        Take no more of the request's content: at most what is read already comes still.

        Then the client is not read, so that it is not seen to leave before something is written.
        """

    def resume(self) -> None:
        """Take the content again."""

    # ----------------------------------------------------------------- the response

    def respond(self, status: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """
        Begin the response. Its head leaves with what is written first, or with `finish`.

        The channel decides about the framing: from a ``Content-Length`` it knows the length, and
        holds the response to it. Where there is none it adds ``Transfer-Encoding: chunked`` and
        encodes what is written; to HTTP/1.0 the connection is closed behind the response. To HEAD,
        and with a status that has no content, what is written is dropped. It adds the sticky
        cookie and ``Connection: close``. Header lines ``Connection``, ``Transfer-Encoding`` and
        ``Keep-Alive`` are the channel's: given ones are dropped, but for a ``close``, and but for
        a status of 101. It adds no ``Date`` and no ``Server``.

        :param status: 101, or 200 to 599.
        :param reason: the reason phrase, which may be empty.
        :param headers: the header lines; names and values have no CR, LF or NUL.
        :raises ValueError: a header line is not well formed, or there are two lengths.
        """

    def write(self, data: bytes) -> None:
        """Send a piece of the response's content; what is more than its length is cut off."""

    def finish(self) -> None:
        """
        End the response. If it is shorter than its length, the connection is closed.

        :raises RuntimeError: `respond` has not been called.
        """

    def send_file(self, file: int, offset: int, count: int, sent: Callable[[], None]) -> None:
        """
        Send a part of a file as content, with sendfile(2) where that is possible.

        Nothing may be written before `sent` is called.

        :param file: a descriptor of a regular file, open until `sent` is called or the
            `Respondent` is told that the connection is lost.
        :param offset: of the first byte, in bytes.
        :param count: how many bytes; a file that is shorter ends the connection.
        :param sent: called once all of it is in the kernel; never if the connection is lost.
        """

    def register_producer(self, producer: Any, streaming: bool) -> None:
        """
        Have the client's pace set that of `producer`, until it is unregistered or `finish`.

        :param producer: an `IPushProducer`, or an `IPullProducer` if not `streaming`.
        """

    def unregister_producer(self) -> None:
        """Let the producer go."""

    def abort(self) -> None:
        """Close the connection at once; its `Respondent` is not told."""

    # ------------------------------------------------------------------ the upgrade

    @property
    def can_detach(self) -> bool:
        """Whether the bare socket can be taken: not over TLS, nor of a WebSocket that may move."""

    def stay_while(self, busy: Callable[[], bool]) -> None:
        """
        Have a WebSocket that may move stay while what answers is at work.

        It is to be called before the response.

        :param busy: asked again and again, in intervals, while the worker leaves.
        """

    @property
    def more(self) -> bool:
        """Whether bytes behind the request are here, or some in front of its response."""

    def detach(self, owner: SocketOwner, taken: Callable[[socket.socket, bytes], None]) -> None:
        """
        Take the bare socket, behind a response with the status 101, once its head has left.

        It can also be taken in the place of a response, if nothing else is under way (`more`):
        then it is before this returns.

        The exchange is over then; the connection counts as open still, until `SocketOwner.over`
        has been fulfilled.

        :param owner: what has the socket from then on: the worker asks it to end.
        :param taken: called with the socket, which does not block, and with the bytes behind the
            request that were read already.
        :raises RuntimeError: the socket cannot be taken.
        """


class SocketOwner(Protocol):
    """
    What has a socket that was detached from its transport. Called in the reactor's thread.

    :ivar over: set by `Exchange.detach`: to be called, in the reactor's thread, once the socket is
        closed.
    """

    over: Callable[[], None]

    def close(self) -> None:
        """End politely, soon: the worker is leaving, for example with a close frame of 1001."""

    def abort(self) -> None:
        """Close the socket at once."""


class Answering(Protocol):
    """The application's side of the channel."""

    def __call__(self, exchange: Exchange) -> Respondent:
        """
        Begin to answer a request, whose head has come.

        What this raises is logged, and answered with a status of 500.
        """
