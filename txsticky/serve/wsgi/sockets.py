"""
The socket of a WebSocket handshake, for applications that speak WebSocket themselves.

WSGI has no WebSockets (PEP 3333). Libraries such as simple-websocket, which flask-sock and
python-socketio use, take the connection itself, blocking, by the names that werkzeug and gunicorn
have for it in the environment. What they find here is an `AppSocket`: the connection is taken away
from the reactor when it is first used, and not before, for the application may answer the handshake
as any request. Where bytes came behind the handshake, and over TLS, it is one end of a pair, and
the reactor carries the bytes (`relay`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from threading import Condition, Event, Lock, Thread
from typing import Any, Final

from twisted.logger import Logger

from ...core.lifecycle.timing import CLOSE_HANDSHAKE
from ..http1.exchange import Exchange
from .calls import Calls
from .relay import SocketRelay

log = Logger()

#: The names by which libraries look for the socket in the environment.
NAMES: Final = ("werkzeug.socket", "gunicorn.socket")
#: A close frame of a server that goes away: 1001 (RFC 6455, 5.5.1 and 7.4.1).
GOING_AWAY: Final = b"\x88\x02\x03\xe9"
#: WebSockets that a worker has at a time; each is a thread, and mostly another one of its library.
MOST: Final = 1000
#: Seconds for which the application's library may close a socket when its request has ended.
LINGER: Final = 1.0


class Sockets:
    """
    The sockets that the application of a worker has taken.

    :param calls: calls functions in the reactor's thread.
    :param reactor: the reactor.
    """

    def __init__(self, calls: Calls, reactor: Any) -> None:
        self.calls = calls
        self.reactor = reactor
        self._lock = Condition()
        self._open: set[Offer] = set()
        self._running = 0
        self._last: Any = None

    @property
    def busy(self) -> bool:
        """Whether the application runs for a WebSocket, or one is still being closed."""
        return bool(self._running or self._open)

    def run(self, action: Callable[[], object]) -> bool:
        """
        Run a handshake's request in a thread of its own, for it may last as long as a WebSocket.

        :returns: False, with nothing done, if there are too many of them.
        """
        with self._lock:
            if self._running >= MOST:
                return False
            self._running += 1
        try:
            Thread(target=self._live, args=(action,), name="wsgi-websocket", daemon=True).start()
        except RuntimeError:  # the kernel grants no more
            self._ended()
            return False
        return True

    def _live(self, action: Callable[[], object]) -> None:
        try:
            action()
        finally:
            self._ended()

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1
            self._lock.notify_all()

    def join(self) -> None:
        """Wait until the application runs for no WebSocket any more; in any other thread."""
        with self._lock:
            while self._running:
                self._lock.wait()

    def taken(self, offer: Offer) -> None:
        """Take note of a socket that was taken; in the reactor's thread, as the others."""
        self._open.add(offer)

    def over(self, offer: Offer) -> None:
        """Take note that it is closed."""
        self._open.discard(offer)
        if not self._open and self._last is not None and self._last.active():
            self._last.cancel()

    def stop(self, seconds: float) -> None:
        """Have all sockets closed, politely, and after so many seconds at once."""
        for offer in list(self._open):
            offer.close()
        if self._open:
            self._last = self.reactor.callLater(seconds, self._abort)

    def _abort(self) -> None:
        for offer in list(self._open):
            offer.abort()


class Offer:
    """
    The socket of one handshake (`http1.exchange.SocketOwner`).

    :param sockets: has all that were taken.
    :param exchange: the handshake.
    :ivar socket: what the application finds in its environment.
    :ivar taken: whether the application has used the socket; then its response is dropped.
    :ivar relay: carries the bytes, if the application has one end of a pair.
    """

    def __init__(self, sockets: Sockets, exchange: Exchange) -> None:
        self.socket = AppSocket(self._take)
        self.taken = False
        self.relay: SocketRelay | None = None
        self.over: Callable[[], None] = lambda: None
        self._sockets = sockets
        self._exchange = exchange
        self._there = Event()
        self._sock: socket.socket | None = None
        self._last: Any = None
        self._linger: Any = None
        self._cut = False
        self._answered = False

    # ------------------------------------------------- the application's thread

    def answered(self) -> None:
        """Take note that the application answers the handshake as any request."""
        self._answered = True

    def _take(self) -> socket.socket:
        """
        Take the socket, which blocks from then on.

        :raises ConnectionError: the client has left, or a response has begun.
        """
        if self._answered:
            raise ConnectionError("a response has begun: the client does not speak WebSocket here")
        self._sockets.calls.add(self._hand_over)
        self._there.wait()
        if self._sock is None:
            raise ConnectionError("the client has left before its WebSocket was opened")
        return self._sock

    # ------------------------------------------------------ the reactor's thread

    def _hand_over(self) -> None:
        exchange = self._exchange
        try:
            if not exchange.open:
                return
            if exchange.can_detach and not exchange.more:
                exchange.detach(self, self._got)
            else:
                ours, theirs = socket.socketpair()
                self.relay = SocketRelay(exchange, ours, self._sockets.reactor)
                self._got(theirs, b"")
        finally:
            self._there.set()

    def _got(self, sock: socket.socket, _: bytes) -> None:
        sock.setblocking(True)
        self._sock = sock
        self.taken = True
        self._sockets.taken(self)

    def lost(self) -> None:
        """Take note that the client has left, whose bytes are relayed."""
        if self.relay is not None:
            self.relay.lost()

    def end(self) -> None:
        """
        Have the socket closed soon: the application has returned.

        A thread of its library may be about to answer the client's close frame, and closes it then.
        """
        if self._linger is None:
            seconds = 0.0 if self._cut else LINGER
            self._linger = self._sockets.reactor.callLater(seconds, self._finish)
            self.socket.when_closed(lambda: self._sockets.calls.add(self._closed))

    def _closed(self) -> None:
        if self._linger.active():
            self._linger.reset(0)

    def _finish(self) -> None:
        self._sockets.over(self)
        if self._last is not None and self._last.active():
            self._last.cancel()
        self.abort()
        self.socket.close()
        self.over()

    def close(self) -> None:
        """Tell the client to go (1001), and end when it has gone, or soon (`SocketOwner`)."""
        if self._last is not None:
            return
        # Not in the reactor's thread: the application may be sending, to a client that is slow.
        Thread(target=self.socket.go_away, name="wsgi-websocket-close", daemon=True).start()
        self._last = self._sockets.reactor.callLater(CLOSE_HANDSHAKE, self.abort)

    def abort(self) -> None:
        """End the connection: the application reads its end (`SocketOwner`)."""
        self._cut = True
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client has left, or the application has closed it


class AppSocket:
    """
    A socket that is taken when it is first used, and whose output ends with a close frame.

    It has all that a `socket.socket` has. What is sent is sent as a whole, and the close frame of a
    worker that leaves between two sends; what is sent after that is dropped (RFC 6455, 5.5.1).

    :param take: takes the socket.
    """

    def __init__(self, take: Callable[[], socket.socket]) -> None:
        self._take = take
        self._sending = Lock()
        self._sock: socket.socket | None = None
        self._begun = self._gone = False
        self._closed = False
        self._told: Callable[[], object] = lambda: None

    def _taken(self) -> socket.socket:
        if self._sock is None:
            self._sock = self._take()
        return self._sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._taken(), name)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all of the data (`socket.socket.send`)."""
        self.sendall(data, flags)
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of the data (`socket.socket.sendall`)."""
        sock = self._taken()
        with self._sending:
            if not self._gone:
                self._begun = True
                sock.sendall(data, flags)

    def go_away(self) -> None:
        """Send a close frame, once nothing else is being sent, if there was a response."""
        if self._sock is None:
            return
        with self._sending:
            if self._begun and not self._gone:
                self._gone = True
                try:
                    self._sock.sendall(GOING_AWAY)
                except OSError:
                    pass  # the client has left

    def close(self) -> None:
        """Close the socket, if it was taken (`socket.socket.close`)."""
        if self._sock is not None:
            self._sock.close()
            self._closed = True
            self._told()

    def when_closed(self, action: Callable[[], object]) -> None:
        """Call `action` once the socket is closed, in whatever thread; perhaps more than once."""
        self._told = action
        if self._closed:
            action()
