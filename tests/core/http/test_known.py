"""The short cut for a request that came alone and whole, and is known."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.http.heads import known_of
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.steps import Ask, Deliver

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /b HTTP/1.1\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def told(conversation: Conversation) -> tuple[object, ...]:
    """All that a conversation tells of itself."""
    names = (
        *("request_line", "request_open", "finished_request", "last", "over", "idle", "held"),
        *("interim", "response_started", "body_due", "tunnel", "surplus", "unfinished"),
    )
    return tuple(getattr(conversation, name) for name in names)


class BeginTests(SynchronousTestCase):
    """The short cut, compared with the long way."""

    def begun(self) -> Conversation:
        """A conversation whose first request was answered."""
        conversation = Conversation()
        conversation.feed(GET)
        self.keep(conversation)
        conversation.wrote(OK)
        return conversation

    def keep(self, conversation: Conversation) -> None:
        """Serve the next request here."""
        self.assertIsInstance(conversation.next(), Ask)
        conversation.keep()
        conversation.next()

    def test_same(self) -> None:
        """The conversation tells the same at each step, whichever way it went."""
        for data, response in ((GET, OK), (HEAD, OK[:-2]), (LAST, OK)):
            short, long = self.begun(), self.begun()
            self.assertEqual(short.begin(known_of(data), data), Deliver(data))
            long.feed(data)
            self.keep(long)
            self.assertEqual(told(short), told(long), data)
            for written in (response[:20], response[20:]):
                self.assertEqual(short.wrote(written), long.wrote(written))
                self.assertEqual(told(short), told(long), data)

    def test_first(self) -> None:
        """The first request of a connection does not take the short cut: it was routed before."""
        conversation = Conversation()
        self.assertIsNone(conversation.begin(known_of(GET), GET))
        self.assertTrue(conversation.idle)

    def test_first_of_the_same(self) -> None:
        """The first request takes the short cut if that is allowed; the next is asked about."""
        conversation = Conversation()
        self.assertTrue(conversation.first_is_ours)
        self.assertEqual(conversation.begin(known_of(GET), GET, True), Deliver(GET))
        self.assertFalse(conversation.first_is_ours)
        conversation.wrote(OK)
        conversation.feed(GET)
        ask = conversation.next()
        self.assertEqual(isinstance(ask, Ask) and ask.first, False)

    def test_held(self) -> None:
        """No request takes the short cut behind the beginning of another request."""
        conversation = self.begun()
        conversation.feed(b"GE")
        self.assertIsNone(conversation.begin(known_of(GET), GET))

    def test_open(self) -> None:
        """No request takes the short cut while a response is due."""
        conversation = self.begun()
        self.assertEqual(conversation.begin(known_of(GET), GET), Deliver(GET))
        self.assertIsNone(conversation.begin(known_of(GET), GET))
