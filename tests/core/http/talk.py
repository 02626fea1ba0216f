"""A conversation that a test plays, and what its two sides send."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.conversation import Conversation
from txsticky.core.http.response import Additions
from txsticky.core.http.steps import Ask, Refuse

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OLD = b"GET /old HTTP/1.0\r\n\r\n"
ODD = b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nsome"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
COOKIE = b"Set-Cookie: a=b\r\n"
LAST = b"Connection: close\r\n"
#: What the inner protocol gets of `ODD`, and what the client gets of `OK` then.
SHOWN = ODD.replace(b"1.1\r\n", b"1.1\r\n" + LAST)
OK_LAST = OK.replace(b"OK\r\n", b"OK\r\n" + LAST)


def adding(lines: bytes) -> Additions | None:
    """What adds these lines to whatever response; nothing, if there are none."""
    return (lambda status, fields: lines) if lines else None


class Talk:
    """
    A conversation between a client and a server that the test plays, keeping every request.

    :ivar asked: the targets that were asked about.
    :ivar delivered: what the inner protocol got.
    :ivar refused: the status that the client is refused with; 0 for none, -1 for an end without
        one.
    """

    def __init__(self, inject: bytes = b"", **arguments: Any) -> None:
        self.conversation = Conversation(**arguments)
        self.inject = inject
        self.asked: list[bytes] = []
        self.delivered = b""
        self.refused = 0

    def client(self, data: bytes) -> None:
        """Have the client send."""
        self.conversation.feed(data)
        self.pull()

    def server(self, data: bytes) -> bytes:
        """Have the inner protocol write; returns what the client gets."""
        sent = self.conversation.wrote(data)
        self.pull()
        return sent

    def pull(self) -> None:
        """Do what the conversation says, until it waits."""
        while (step := self.conversation.next()) is not None:
            if isinstance(step, Ask):
                self.asked.append(step.head.target)
                self.conversation.keep(adding(self.inject))
            elif isinstance(step, Refuse):
                assert not self.refused
                self.refused = step.fault.status if step.fault else -1
            else:
                self.delivered += step.data


class OverCase(SynchronousTestCase):
    """What the tests of a connection's end share."""

    def assert_over(self, talk: Talk, delivered: bytes) -> None:
        """Assert that this was delivered, that nothing more will be, and that the end is due."""
        for _ in range(2):
            conversation = talk.conversation
            self.assertEqual(talk.delivered, delivered)
            self.assertTrue(conversation.over)
            self.assertEqual(
                (conversation.tunnel, conversation.idle, conversation.held), (False, False, 0)
            )
            self.assertFalse(conversation.request_open or conversation.unfinished)
            self.assertRaises(RuntimeError, conversation.remainder)
            asked = len(talk.asked)
            talk.client(GET)
            self.assertEqual(talk.server(OK), b"")
            self.assertEqual(len(talk.asked), asked)
