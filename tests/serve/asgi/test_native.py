"""asyncio's transports with a gate in them, on asyncio and on uvloop."""

from __future__ import annotations

import gc
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

from tests.asgi import PATIENCE
from txsticky.core.how import How
from txsticky.serve.asgi.native import NativeHost
from txsticky.serve.asgi.writing import MOST_WAITING
from txsticky.transport import half_close

from .native import ELSEWHERE, GET, OK, SEEN, SWITCHING, UPGRADE, Inner, NativeCase


class AsyncioTests(NativeCase):
    """On asyncio's own loop."""

    def test_conversation(self) -> None:
        """Bytes come and go, the first from elsewhere; the protocol hears how it was routed."""
        self.connect(GET[:9])
        self.send(GET[9:])
        self.assertEqual(self.inner.got, GET)
        self.inner.transport.write(bytearray(OK))
        self.assertEqual(self.received(len(SEEN)), SEEN)
        self.assertEqual((self.entered, self.desk.done), ([How.NEW], 1))

    def test_writelines(self) -> None:
        """Pieces go out in one send."""
        self.connect(GET)
        self.inner.transport.writelines([OK[:9], memoryview(OK)[9:]])
        self.assertEqual(self.received(len(SEEN)), SEEN)

    def now(self) -> bytes:
        """What the client gets next, without the loop's running on."""
        self.client.settimeout(PATIENCE)
        data = self.client.recv(1 << 20)
        self.client.setblocking(False)
        return data

    def test_together(self) -> None:
        """What is written in one turn of the loop leaves at its end, in one send."""
        self.connect(GET)
        head, body = OK[:-2], OK[-2:]
        self.inner.transport.write(head)
        self.inner.transport.write(body)
        self.assertEqual(self.inner.transport.get_write_buffer_size(), len(OK))
        self.assertRaises(BlockingIOError, self.client.recv, 1)
        self.turn()
        self.assertEqual(self.now(), SEEN)

    def test_head_before_the_body(self) -> None:
        """A response's head does not wait for its body longer than the loop takes to turn."""
        self.connect(GET)
        self.inner.transport.write(OK[:-2])
        self.turn()
        self.assertEqual(self.now(), SEEN[:-2])
        self.inner.transport.write(OK[-2:])
        self.turn()
        self.assertEqual(self.now(), OK[-2:])

    def test_head_with_a_big_body(self) -> None:
        """A big body is not copied behind its head, and not kept."""
        self.connect(GET)
        body = bytes(MOST_WAITING + 1)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.inner.transport.write(head)
        with mock.patch.object(NativeHost, "_follow", autospec=True) as follow:
            self.inner.transport.write(body)
        self.assertIs(follow.call_args_list[1].args[1], body)

    def test_much_in_pieces(self) -> None:
        """A protocol that writes on and on is told in the same turn that its client is behind."""
        self.connect(UPGRADE)
        self.inner.transport.write(SWITCHING)
        for _ in range(20_000):
            self.inner.transport.write(bytes(1000))
            if "pause" in self.inner.calls:
                break
        self.assertIn("pause", self.inner.calls)

    def test_head_and_the_end(self) -> None:
        """A head goes out when the protocol closes or aborts behind it."""
        self.connect(GET)
        self.inner.transport.write(OK[:-2])
        self.inner.transport.close()
        self.assertEqual(self.received(len(SEEN) - 2), SEEN[:-2])
        self.until(self.ended)

    def test_interim_response(self) -> None:
        """A response that is not the final one goes out although more is to come."""
        self.connect(GET)
        self.inner.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(self.received(25), b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_route_of_each_request(self) -> None:
        """From the second request on, the route is what the desk says."""
        host = self.connect(GET)
        self.inner.transport.write(OK)
        self.turn()
        self.send(GET)
        self.assertEqual((host.how, self.entered), (How.HIT, [How.NEW, How.HIT]))

    def test_addresses_are_given(self) -> None:
        """What the protocol may ask of its transport was given; the socket is not for it."""
        self.connect()
        transport = self.inner.transport
        self.assertEqual(transport.get_extra_info("peername"), ("a", 1))
        self.assertIsNone(transport.get_extra_info("socket"))

    def test_client_leaves(self) -> None:
        """The protocol hears once that its client has left."""
        self.connect(GET)
        self.inner.transport.write(OK)
        self.received(len(SEEN))
        self.client.close()
        self.until(lambda: self.kept.ends)
        self.turn()
        self.assertEqual((self.inner.calls[-1], self.kept.ends), ("lost", 1))

    def test_client_resets(self) -> None:
        """A reset ends the connection once."""
        self.connect(GET[:9])
        self.send_reset()
        self.until(lambda: self.kept.ends)
        self.turn()
        self.assertIn(self.inner.calls[-1], ("lost", "broken"))
        self.assertEqual(self.kept.ends, 1)

    def send_reset(self) -> None:
        """Close the client's end with a RST, where there is such a thing."""
        if self.family != socket.AF_UNIX:
            linger = (1).to_bytes(4, "little") + bytes(4)
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.client.close()

    def test_gone_before_the_transport(self) -> None:
        """A client that has gone before the transport is made is counted once."""
        host = self.adopt(GET)
        self.send_reset()
        self.take(host)
        self.until(lambda: self.kept.ends or self.inner.got)
        self.inner.transport.write(OK)
        self.inner.transport.write(OK)
        self.inner.transport.abort()
        self.until(lambda: self.kept.ends)
        self.turn()
        self.assertEqual((self.inner.calls[0], self.kept.ends), ("made", 1))

    def test_half_close(self) -> None:
        """A client that sends no more gets its answer, and then the end."""
        self.connect(GET)
        self.client.shutdown(socket.SHUT_WR)
        self.turn()
        self.assertEqual(self.kept.ends, 0)
        self.inner.transport.write(OK)
        self.assertEqual(self.received(len(SEEN)), SEEN)
        self.until(self.ended)
        self.assertEqual(self.kept.ends, 1)

    def test_waiting_client(self) -> None:
        """A client that sends no more and waits for long is asked if it is there, and answered."""
        self.patch(half_close, "HALF_CLOSE_GRACE", 0.02)
        self.connect(GET)
        self.client.shutdown(socket.SHUT_WR)
        asked = b"HTTP/1.1 100 Continue\r\n\r\n"
        self.assertEqual(self.received(2 * len(asked)), 2 * asked)
        self.inner.transport.write(OK)
        self.until(lambda: self.kept.ends)
        self.assertIn(SEEN, self.received(len(SEEN)) + (self.client.recv(1000) or b""))

    def test_gone(self) -> None:
        """A client that has left while it waited is noticed, though nothing is written to it."""
        self.patch(half_close, "HALF_CLOSE_GRACE", 0.2)
        self.connect(GET)
        self.client.close()
        self.until(lambda: self.kept.ends)
        self.assertEqual((self.inner.calls[-1], self.kept.ends), ("lost", 1))

    def test_protocol_closes(self) -> None:
        """What was written is sent before the connection is closed."""
        host = self.connect(UPGRADE)
        self.inner.transport.write(SWITCHING)
        self.received(len(SWITCHING) + len(b"X-How: NEW\r\n"))
        size = 1 << 24
        self.inner.transport.write(bytes(size))
        self.inner.transport.close()
        self.assertTrue(self.inner.transport.is_closing())
        self.assertTrue(host.unsent())
        self.assertEqual(len(self.received(size)), size)
        self.until(self.ended)
        self.until(lambda: self.kept.ends)

    def test_protocol_aborts(self) -> None:
        """An abort ends the connection at once; the protocol hears it."""
        self.connect(GET)
        self.inner.transport.abort()
        self.assertTrue(self.inner.transport.is_closing())
        self.until(lambda: self.kept.ends)
        self.assertEqual(self.inner.calls, ["made", "lost"])

    def test_passed(self) -> None:
        """What has entered the kernel is counted; what waits in a buffer is not."""
        host = self.connect(GET)
        size = self.answer_much()
        self.turn()
        self.assertEqual(host.passed(), size - host.unsent())
        self.assertGreater(host.unsent(), 0)
        self.received(size)
        self.until(lambda: not host.unsent())
        self.assertEqual(host.passed(), size)
        host.send(b"more")
        self.assertEqual(host.passed(), size + 4)

    def test_calls_after_the_end(self) -> None:
        """Whatever a protocol does with a transport that is over is harmless."""
        self.connect(GET)
        self.inner.transport.abort()
        self.until(lambda: self.kept.ends)
        transport = self.inner.transport
        transport.write(b"late")
        transport.pause_reading()
        transport.resume_reading()
        transport.set_write_buffer_limits(1)
        transport.close()
        transport.abort()
        self.turn()
        self.assertEqual((transport.get_write_buffer_size(), self.kept.ends), (0, 1))
        self.assertEqual(self.complaints, [])

    def test_backpressure_on_the_protocol(self) -> None:
        """A protocol that writes faster than its client reads is told to pause, and to resume."""
        self.connect(UPGRADE)
        self.inner.transport.write(SWITCHING)
        size = 1 << 24
        self.inner.transport.write(bytes(size))
        self.until(lambda: "pause" in self.inner.calls)
        self.received(len(SWITCHING) + len(b"X-How: NEW\r\n") + size)
        self.until(lambda: "resume" in self.inner.calls)

    def test_backpressure_on_the_client(self) -> None:
        """What a paused protocol does not want stays in the kernel, and comes later."""
        self.connect(UPGRADE)
        transport = self.inner.transport
        transport.write(SWITCHING)
        self.turn()
        transport.pause_reading()
        self.assertFalse(transport.is_reading())
        self.client.send(b"more")
        self.turn()
        self.assertEqual(self.inner.got, UPGRADE)
        transport.resume_reading()
        self.until(lambda: self.inner.got == UPGRADE + b"more")

    def test_pause_in_connection_made(self) -> None:
        """A protocol that pauses when it is connected gets nothing, from elsewhere or not."""
        self.inner.on["made"] = lambda: self.inner.transport.pause_reading()
        self.client.send(GET[9:])
        self.connect(GET[:9])
        self.turn()
        self.assertEqual(self.inner.got, b"")
        self.inner.transport.resume_reading()
        self.until(lambda: self.inner.got == GET)

    def test_pause_in_the_first_data(self) -> None:
        """A protocol that pauses at what was read elsewhere gets nothing after it."""
        self.inner.on["data"] = lambda: self.inner.transport.pause_reading()
        self.connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nthis")
        self.until(lambda: bool(self.inner.got))
        self.client.send(b"and this")
        self.turn()
        self.assertEqual(self.inner.got[-8:], b"\r\n\r\nthis")
        self.inner.transport.resume_reading()
        self.until(lambda: self.inner.got.endswith(b"thisand this"))

    def test_leaves_as_it_begins(self) -> None:
        """What the socket has by then goes along when the first bytes take the connection away."""
        self.inner.on["data"] = lambda: self.inner.transport.write(OK)
        self.client.send(b"GET / more")
        self.connect(GET + ELSEWHERE)
        self.until(lambda: self.kept.left)
        assert self.kept.left is not None
        sock, place, held = self.kept.left
        with sock:
            sock.setblocking(True)
            held += b"" if held.endswith(b"more") else sock.recv(100)
        self.assertEqual((place, held, self.inner.got), (3, ELSEWHERE + b"GET / more", GET))

    def test_prefix_comes_first(self) -> None:
        """What was read elsewhere comes before what the socket has, however the loop turns."""
        body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n"
        self.client.send(b"b" * 2000)
        self.connect(body + b"a" * 1000)
        self.until(lambda: len(self.inner.got) == len(body) + 3000)
        self.assertEqual(self.inner.got, body + b"a" * 1000 + b"b" * 2000)

    def test_failure_in_connection_made(self) -> None:
        """A protocol that raises when it is connected costs the connection, not a descriptor."""
        self.inner.on["made"] = lambda: 1 / 0
        host = self.adopt(GET)
        self.take(host)
        self.until(lambda: self.kept.ends)
        self.until(self.ended_somehow)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failure_in_the_first_data(self) -> None:
        """A protocol that raises at what was read elsewhere costs the connection."""
        self.inner.on["data"] = lambda: 1 / 0
        self.connect(GET)
        self.until(lambda: self.kept.ends)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failure_in_a_held_request(self) -> None:
        """A protocol that raises at a request that was held back costs the connection."""
        self.connect(GET + GET)
        self.inner.on["data"] = lambda: 1 / 0
        self.inner.transport.write(OK)
        self.until(lambda: self.kept.ends)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failure_in_later_data(self) -> None:
        """A protocol that raises at later bytes costs the connection."""
        self.connect(GET[:9])
        self.inner.on["data"] = lambda: 1 / 0
        self.client.send(GET[9:])
        self.until(lambda: self.kept.ends)
        self.assertEqual((len(self.complaints), self.kept.ends), (1, 1))

    def ended_somehow(self) -> bool:
        """Whether the client sees the end, by FIN or RST."""
        try:
            return self.ended()
        except ConnectionResetError:
            return True

    def test_departs(self) -> None:
        """A request for another place takes the connection there; the client notices nothing."""
        self.connect(GET)
        self.inner.transport.write(OK)
        self.received(len(SEEN))
        self.client.send(ELSEWHERE)
        self.until(lambda: self.kept.left)
        sock, place, held = self.kept.left
        with sock:
            self.assertEqual((place, held), (3, ELSEWHERE))
            self.assertEqual((self.inner.calls, self.kept.ends), (["made", "eof", "lost"], 1))
            self.turn()
            sock.setblocking(True)
            sock.sendall(b"hello")
            self.assertEqual(self.received(5), b"hello")
            self.client.send(b"and back")
            self.assertEqual(sock.recv(100), b"and back")

    def test_departed_is_not_watched(self) -> None:
        """The loop does not see what happens on a connection that has left."""
        self.connect(GET)
        self.inner.transport.write(OK)
        self.received(len(SEEN))
        self.client.send(ELSEWHERE)
        self.until(lambda: self.kept.left)
        self.turn()
        sock = self.kept.left[0]
        with sock:
            inode = os.fstat(sock.fileno()).st_ino
            self.client.send(b"x")
            self.turn()
            self.assertNotIn(f"ino:{inode:x} ", watched())
        self.assertEqual(self.complaints, [])

    def leave_behind_much(self) -> int:
        """A request for another place, behind a response of this size that takes a while."""
        self.connect(GET)
        size = self.answer_much()
        self.client.send(ELSEWHERE)
        self.turn()
        return size

    def test_departs_when_flushed(self) -> None:
        """A connection leaves only when its response is in the kernel, whole."""
        size = self.leave_behind_much()
        self.assertIsNone(self.kept.left)
        self.assertEqual(len(self.received(size)), size)
        self.until(lambda: self.kept.left)
        self.kept.left[0].close()

    def test_unasked_while_flushed(self) -> None:
        """What the protocol writes unasked while its connection leaves is cut off."""
        size = self.leave_behind_much()
        self.inner.transport.write(b"unasked")
        self.received(size)
        self.until(lambda: self.kept.left)
        self.assertEqual(self.kept.left[2], ELSEWHERE)
        self.assertRaises(BlockingIOError, self.client.recv, 1)
        self.kept.left[0].close()

    def test_unasked_at_the_last_moment(self) -> None:
        """What the protocol writes when all is sent, and before it leaves, is cut off."""
        size = self.leave_behind_much()
        write = self.inner.transport.write
        self.inner.on["resume"] = lambda: self.loop.call_soon(write, b"unasked")
        self.received(size)
        self.until(lambda: self.kept.left)
        self.assertRaises(BlockingIOError, self.client.recv, 1)
        self.kept.left[0].close()

    def test_refused(self) -> None:
        """A head that is none is refused; the client reads that, and may take its time to close."""
        self.connect(GET)
        self.inner.transport.write(OK)
        self.turn()
        self.client.send(b"GET / HTTP/1.1\r\nno colon\r\n" + bytes(1 << 16))
        self.received(len(SEEN))
        self.until(self.ended_behind(b"HTTP/1.1 400 "))
        self.assertNotIn("lost", self.inner.calls)
        self.client.close()
        self.until(lambda: "lost" in self.inner.calls)
        self.assertEqual(self.complaints, [])

    def ended_behind(self, begin: bytes) -> Callable[[], bool]:
        """Whether the client has got what begins like this, and then the end."""
        data = bytearray()

        def ended() -> bool:
            try:
                piece = self.client.recv(1 << 16)
            except BlockingIOError:
                return False
            data.extend(piece)
            return not piece and data.startswith(begin)

        return ended

    def test_lost_before_flushed(self) -> None:
        """A client that goes before its response is in the kernel is lost, once."""
        self.leave_behind_much()
        self.send_reset()
        self.until(lambda: self.kept.ends)
        self.turn()
        self.assertEqual((self.kept.left, self.kept.ends), (None, 1))

    def test_drain_before_the_transport(self) -> None:
        """An idle connection can go on as soon as it has begun, and is not lost."""
        host = self.adopt()
        self.desk.draining = True
        self.assertFalse(host.gate.drain())
        self.patch(self.kept, "delivered", host.gate.drain)
        self.take(host)
        self.until(lambda: self.kept.left)
        self.assertEqual(self.kept.left[1:], (0, b""))
        self.kept.left[0].close()

    def test_drain_with_a_request(self) -> None:
        """A request that comes to a draining worker is served before the connection goes on."""
        self.desk.draining = True
        self.connect(GET)
        self.assertEqual(self.inner.got, GET)
        self.inner.transport.write(OK)
        self.until(lambda: self.kept.left)
        self.assertEqual(self.kept.left[1:], (0, b""))
        self.kept.left[0].close()

    def test_upgrade(self) -> None:
        """A protocol may put another in its place; what follows goes to that one."""
        self.connect(UPGRADE)
        successor = Inner()
        self.inner.transport.set_protocol(successor)
        self.inner.transport.write(SWITCHING)
        self.received(len(SWITCHING) + len(b"X-How: NEW\r\n"))
        self.client.send(b"frames")
        self.until(lambda: successor.got == b"frames")
        self.client.close()
        self.until(lambda: self.kept.ends)
        self.assertEqual(successor.calls[-1], "lost")

    def test_leaves_nothing_behind(self) -> None:
        """Of a connection that is over, the collector leaves no host and no protocol."""
        host: Any = self.connect(GET)
        self.inner.transport.write(OK)
        self.client.close()
        self.until(lambda: self.kept.ends)
        self.turn()
        gone = [weakref.ref(host), weakref.ref(self.inner)]
        self.kept.transport = host = None
        self.inner = Inner()
        gc.collect()
        self.assertEqual([ref() for ref in gone], [None, None])


def watched() -> str:
    """What the epoll descriptors of this process watch (proc(5), fdinfo)."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}") == "anon_inode:[eventpoll]":
                with open(f"/proc/self/fdinfo/{number}") as info:
                    found.append(info.read())
        except OSError:
            continue
    return "".join(found)


class UvloopTests(AsyncioTests):
    """On uvloop."""

    loop_name = "uvloop"


class AsyncioUNIXTests(AsyncioTests):
    """Over UNIX sockets."""

    family = socket.AF_UNIX


class UvloopUNIXTests(UvloopTests):
    """Over UNIX sockets, on uvloop."""

    family = socket.AF_UNIX
