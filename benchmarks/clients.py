"""The clients: sessions to send, the load generator in C, bursts, uploads, slow readers."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import ssl
import struct
import subprocess
import time
import zlib
from collections.abc import Callable
from typing import Any

from attrs import frozen

from .contenders import Running, compiled
from .measure import WrongAnswer

_CONNECTIONS_A_WORKER = 8
#: Every server gets the same query: to parse it would count against those alone that stick by it.
_TARGET = "/hello?EIO=4&transport=polling&sid="
_ANY = _TARGET + "0" * 25


@frozen
class Ticket:
    """A session: its path, its cookie if any, and the word that its answers begin with."""

    path: str
    cookie: str = ""
    expect: str = "-"

    def line(self) -> str:
        """As the load generator reads it."""
        return " ".join(filter(None, (self.expect, self.path, self.cookie)))

    def request(self, close: bool = False) -> bytes:
        """As a browser sends it."""
        return (
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: */*\r\n"
            "Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n"
            f"Cookie: {self.cookie or 'a=b'}\r\n"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
        ).encode()


def ask(port: int, request: bytes, timeout: float = 30) -> tuple[bytes, bytes]:
    """One request on a connection of its own: head and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        sock.sendall(request)
        return read_answer(sock)


def read_answer(sock: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of an answer with Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += _some(sock)
    return head, body


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise WrongAnswer("the connection was closed inside of an answer")
    return data


def sessions(server: Running, each: int = _CONNECTIONS_A_WORKER) -> list[Ticket]:
    """
    As many sessions for every worker, in turn between the workers.

    :raises WrongAnswer: the server does not stick to them.
    """
    if server.key == "none":
        return [Ticket(_ANY)]
    found: dict[str, list[Ticket]] = {}
    for number in range(each * 50):
        ticket = _session(server, number)
        mine = found.setdefault(ticket.expect, [])
        if len(mine) < each:
            mine.append(ticket)
        if len(found) == len(server.workers) and all(len(m) == each for m in found.values()):
            break
    else:
        raise WrongAnswer(f"{server.name} uses {len(found)} of {len(server.workers)} workers")
    tickets = [ticket for together in zip(*found.values(), strict=True) for ticket in together]
    for ticket in tickets:
        _, body = ask(server.port, ticket.request(close=True))
        if body.split()[0].decode() != ticket.expect:
            raise WrongAnswer(f"{server.name} does not stick to {ticket}")
    return tickets


def _session(server: Running, number: int) -> Ticket:
    if server.key == "sid":
        _, body = ask(server.port, Ticket("/mint").request(close=True))
        pid, sid = body.decode().split()
        return Ticket(_TARGET + sid, expect=pid)
    if server.key == "cookie":
        head, body = ask(server.port, Ticket(_ANY).request(close=True))
        cookie = head.lower().decode().partition("set-cookie: ")[2].split(";")[0]
        return Ticket(_ANY, cookie.replace("srv=", "SRV="), body.split()[0].decode())
    ticket = Ticket(f"{_TARGET}{number:025d}")
    _, body = ask(server.port, ticket.request(close=True))
    return Ticket(ticket.path, expect=body.split()[0].decode())


@frozen
class Load:
    """What the load generator counted."""

    requests: int
    wrong: int
    refused: int
    broken: int
    connections: int
    seconds: float
    cpu: float


def load(
    port: int,
    tickets: list[Ticket],
    mode: str,
    seconds: float,
    connections: int,
    sources: int = 0,
) -> Load:
    """
    Run the load generator (native/load.c).

    :param mode: ``close``, ``keep`` or ``turns``.
    :param sources: the addresses that the connections come from, in turn; 0 is one.
    :raises WrongAnswer: an answer came from the wrong worker, or was none.
    """
    done = subprocess.run(
        [compiled("load"), str(port), str(connections), str(seconds), mode, str(sources)],
        input="\n".join(ticket.line() for ticket in tickets),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise WrongAnswer(done.stderr.strip())
    counted = Load(**json.loads(done.stdout))
    if counted.wrong or counted.refused or not counted.requests:
        raise WrongAnswer(str(counted))
    return counted


def burst(server: Running, request: bytes, count: int) -> float:
    """
    Microseconds of the front's CPU for each of `count` connections that wait with their request.

    The front is stopped while they connect, so that nothing but their passing on is measured.
    """
    before = server.cpu()[0]
    for pid in server.front:
        os.kill(pid, signal.SIGSTOP)
    clients = []
    try:
        for _ in range(count):
            client = socket.socket()
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(("127.0.0.1", server.port))
            clients.append(client)
        for client in clients:
            client.send(request)
        before = server.cpu()[0]
    finally:
        for pid in server.front:
            os.kill(pid, signal.SIGCONT)
    for client in clients:
        client.setblocking(True)
        client.settimeout(20)
        if not client.recv(65536).startswith(b"HTTP/1.1 200"):
            raise WrongAnswer(f"{server.name} did not answer a request of a burst")
    time.sleep(0.05)
    used = server.cpu()[0] - before
    for client in clients:
        hard_close(client)
    time.sleep(0.2)
    return used / count


def hard_close(sock: socket.socket) -> None:
    """Close without leaving the port in TIME_WAIT."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


_BLOCK = bytes(range(256)) * 1024


def upload(port: int, size: int) -> float:
    """
    Send `size` bytes; the seconds until the answer.

    :raises WrongAnswer: the bytes that came were others.
    """
    whole, rest = divmod(size, len(_BLOCK))
    crc = 0
    for _ in range(whole):
        crc = zlib.crc32(_BLOCK, crc)
    crc = zlib.crc32(_BLOCK[:rest], crc)
    head = (
        f"PUT /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 120) as sock:
        sock.sendall(head)
        for _ in range(whole):
            sock.sendall(_BLOCK)
        sock.sendall(_BLOCK[:rest])
        _, body = read_answer(sock)
    seconds = time.monotonic() - start
    if body.split()[1:] != [b"%d" % size, b"%d" % crc]:
        raise WrongAnswer(f"of {size} bytes with CRC {crc} came {body!r}")
    return seconds


def by_address(server: Running, seconds: float, ask: Callable[[socket.socket], bytes]) -> int:
    """
    Connect from 64 addresses in turn, for so long.

    :param ask: does with a connection what is measured, and returns the server's first words.
    :returns: how many connections there were.
    :raises WrongAnswer: a server that sticks had another worker answer an address than before.
    """
    found: dict[str, bytes] = {}
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        host = f"127.1.0.{count % 64 + 1}"
        with socket.create_connection(("127.0.0.1", server.port), 20, (host, 0)) as client:
            worker = ask(client).split()[0]
        if found.setdefault(host, worker) != worker and server.key != "none":
            raise WrongAnswer(f"{host} was at {found[host]!r}, and then at {worker!r}")
        count += 1
    return count


def greeting(client: socket.socket) -> bytes:
    """Hear what a server says that speaks first."""
    return _some(client)


def over_tls(client: socket.socket) -> bytes:
    """Shake hands and ask once; returns the body."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(client) as secured:
        secured.sendall(Ticket("/hello").request(close=True))
        return read_answer(secured)[1]


def slow_readers(port: int, count: int) -> list[socket.socket]:
    """Clients that ask for a large download and do not read it."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", port))
        client.sendall(Ticket("/large").request())
        clients.append(client)
    return clients


_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: A masked text frame of 32 bytes, its mask being 0, and its echo.
_FRAME = b"\x81\xa0" + bytes(4) + b"x" * 32
_ECHO = b"\x81\x20" + b"x" * 32


def websocket(port: int) -> socket.socket:
    """An open WebSocket that has told who serves it."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(_UPGRADE)
    data = b""
    while True:
        data += _some(sock)
        head, end, frame = data.partition(b"\r\n\r\n")
        if end and not head.startswith(b"HTTP/1.1 101"):
            raise WrongAnswer(f"no WebSocket: {head!r}")
        if len(frame) > 1 and len(frame) >= 2 + frame[1]:
            return sock


def echoes(sockets: list[socket.socket], seconds: float) -> int:
    """One message at a time on each WebSocket, for so long: how many came back."""
    with selectors.EpollSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(_FRAME)
        count = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in selector.select(0.1):
                sock: Any = key.fileobj
                if sock.recv(4096) != _ECHO:
                    raise WrongAnswer("not the echo of the message")
                count += 1
                sock.sendall(_FRAME)
        for sock in sockets:
            sock.recv(4096)
    return count


def broadcasts(sockets: list[socket.socket], seconds: float) -> int:
    """
    One of the WebSockets says something, all hear it, then it says the next thing, for so long: how
    many messages were heard.

    :raises WrongAnswer: one heard something else.
    """
    heard, number = 0, 0
    with selectors.EpollSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            number += 1
            word = b"%016d" % number
            sockets[0].sendall(b"\x81\x90" + bytes(4) + word)
            waiting = set(sockets)
            while waiting:
                ready = selector.select(30)
                if not ready:
                    raise WrongAnswer(f"{len(waiting)} of {len(sockets)} did not hear it")
                for key, _ in ready:
                    sock: Any = key.fileobj
                    if sock.recv(4096) != b"\x81\x10" + word:
                        raise WrongAnswer("a WebSocket heard something else")
                    waiting.discard(sock)
            heard += len(sockets)
    return heard
