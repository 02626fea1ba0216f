"""What a conversation tells, and which requests are remembered."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.http.heads import head_of
from tests.core.http.talk import CHUNKED, GET, POST, UPGRADE
from txsticky.core.how import How
from txsticky.core.http.inside import Inside
from txsticky.core.http.steps import Begin, Content, known


class Told:
    """An inner protocol that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def begun(self, step: Begin) -> None:
        """Note that a request has begun."""
        self.told.append(("begun", step))

    def continued(self, step: Content) -> None:
        """Note that more of a request has come."""
        self.told.append(("continued", step))


class TellTests(SynchronousTestCase):
    """Steps that tell an inner protocol."""

    def test_told(self) -> None:
        """A request's beginning and what comes behind it are each told once, as they are."""
        inner = Told()
        begin, content = Begin(head_of(POST), 5, False, b"he", False), Content(b"llo", True)
        begin.tell(inner)
        content.tell(inner)
        self.assertEqual(inner.told, [("begun", begin), ("continued", content)])


class KnownTests(SynchronousTestCase):
    """What is remembered of a request."""

    def test_remembered(self) -> None:
        """Of a plain request its end is remembered, and what goes for the request."""
        for data in (GET, POST):
            found = known(head_of(data), How.TAG)
            assert found is not None
            self.assertEqual((found.size, found.how, found.last), (len(data), How.TAG, False))
            self.assertEqual(found.line, data[: data.index(b"\r\n")])
            self.assertTrue(found.begin.whole)

    def test_not_remembered(self) -> None:
        """A request is not remembered whose end its head does not tell, or not plain HTTP/1.1."""
        for data in (
            CHUNKED,
            b"\r\n" + GET,
            GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
            UPGRADE,
            POST.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"),
        ):
            self.assertIsNone(known(head_of(data), How.NEW), data)

    def test_changed(self) -> None:
        """A request is not remembered that the server inside is to see otherwise than it came."""
        head = head_of(GET.replace(b"GET /", b"GET http://a/"))
        self.assertIsNotNone(known(head, How.NEW))
        self.assertIsNone(known(head, How.NEW, Inside(absolute=False)))
