"""Socket.IO clients that poll: sessions that open, talk, and are checked at every answer."""

from __future__ import annotations

import json
import selectors
import socket
import time
from typing import Any

from attrs import define, field, frozen

from .measure import WrongAnswer


@frozen
class Answer:
    """A response that has come whole."""

    status: int
    fields: dict[str, str]
    body: str


def parse_answer(data: bytes) -> Answer | None:
    """The response, if it is whole; its body ends by length, or in chunks."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    fields = {name.lower(): value.strip() for name, _, value in pairs}
    if "chunked" in fields.get("transfer-encoding", ""):
        if not body.endswith(b"0\r\n\r\n"):
            return None
        whole = b""
        while size := int(body[: body.index(b"\r\n")], 16):
            start = body.index(b"\r\n") + 2
            whole, body = whole + body[start : start + size], body[start + size + 2 :]
        body = whole
    elif len(body) < int(fields.get("content-length", 0)):
        return None
    return Answer(int(first.split()[1]), fields, body.decode())


@define(eq=False)
class Client:
    """
    One browser: opens a session, then sends an event and polls for its echo, again and again, on a
    kept-alive connection. After `talks` echoes it begins a new session.

    :ivar polls: polls that were answered.
    :ivar unknown: answers "Session ID unknown", after which it begins anew.
    """

    port: int
    address: str
    talks: int = 20
    polls: int = 0
    unknown: int = 0
    opened: int = 0
    sock: Any = None
    _data: bytes = b""
    _cookies: dict[str, str] = field(factory=dict)
    _sid: str = ""
    _said: int = 0
    _step: str = ""
    _answer: Answer | None = None

    def connect(self) -> socket.socket:
        """A new connection, from an address of this client's own."""
        self.sock = socket.socket()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.bind((self.address, 0))
        self.sock.connect(("127.0.0.1", self.port))
        self._data = b""
        return self.sock  # type: ignore[no-any-return]

    def begin(self) -> None:
        """Open a session."""
        self._sid, self._said = "", 0
        self._cookies.clear()
        self._ask("open")

    def _ask(self, step: str, body: str | None = None) -> None:
        self._step = step
        target = "/socket.io/?EIO=4&transport=polling" + (self._sid and f"&sid={self._sid}")
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        lines = [
            f"{'GET' if body is None else 'POST'} {target} HTTP/1.1",
            "Host: 127.0.0.1",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
            "Accept: */*",
        ]
        if cookies:
            lines.append(f"Cookie: {cookies}")
        if body is not None:
            lines += ["Content-Type: text/plain;charset=UTF-8", f"Content-Length: {len(body)}"]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n" + (body or "")).encode())

    def readable(self) -> bool:
        """Bytes have come. False if the answer is whole and the server closes the connection."""
        data = self.sock.recv(65536)
        self._data += data
        answer = parse_answer(self._data)
        if answer is None:
            if not data:
                raise WrongAnswer("the connection was closed inside of an answer")
            return True
        self._data = b""
        if answer.fields.get("connection", "").lower() == "close":
            self._answer = answer
            return False
        self._answered(answer)
        return True

    def reconnected(self) -> None:
        """A new connection is open: go on where the old one ended."""
        assert self._answer is not None
        self._answered(self._answer)

    def _answered(self, answer: Answer) -> None:
        body = answer.body
        if "set-cookie" in answer.fields:
            name, _, value = answer.fields["set-cookie"].partition(";")[0].partition("=")
            self._cookies[name] = value
        if answer.status != 200:
            if answer.status != 400:
                raise WrongAnswer(f"{answer.status} {body!r}")
            self.unknown += 1
            self.begin()
        elif self._step == "open":
            self._sid = json.loads(body[1:])["sid"]
            self.opened += 1
            self._ask("enter", "40")
        elif self._step == "enter" or self._step == "talk":
            self._ask("poll")
        else:
            self.polls += 1
            if '42["echo"' in body:
                self._said += 1
            if self._said >= self.talks:
                self.begin()
            elif "42[" in body or "40{" in body:
                self._ask("talk", '42["echo","hello"]')
            else:
                self._ask("poll")


def poll(port: int, count: int, seconds: float) -> tuple[int, int, int]:
    """Polls answered, sessions opened, answers "Session ID unknown", by so many clients."""
    clients = [Client(port, f"127.0.{1 + i // 250}.{1 + i % 250}") for i in range(count)]
    with selectors.EpollSelector() as selector:
        for client in clients:
            selector.register(client.connect(), selectors.EVENT_READ, client)
            client.begin()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in selector.select(0.1):
                client = key.data
                if not client.readable():
                    selector.unregister(client.sock)
                    client.sock.close()
                    selector.register(client.connect(), selectors.EVENT_READ, client)
                    client.reconnected()
    for client in clients:
        client.sock.close()
    return tuple(  # type: ignore[return-value]
        sum(getattr(client, name) for client in clients) for name in ("polls", "opened", "unknown")
    )
