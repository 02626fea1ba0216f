"""The worker's desk: whose a request is, what goes with its response, and what is remembered."""

from __future__ import annotations

import collections
import time
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txsticky.config import Config
from txsticky.core.how import How
from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.inside import Inside
from txsticky.core.http.steps import MEMORABLE
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.table import Table
from txsticky.worker.policy import FRONT_DESK, MEMORY, WorkerDesk

CLIENT = "192.0.2.7"


def head(target: str = "/", *headers: str, method: str = "GET") -> Head:
    """A request's head."""
    lines = [f"{method} {target} HTTP/1.1", "Host: example", *headers, "", ""]
    parsed = parse_head("\r\n".join(lines).encode(), 65536)
    assert isinstance(parsed, Head)
    return parsed


class DeskCase(SynchronousTestCase):
    """Worker 2's desk, in a cluster of three whose workers are ready."""

    options: dict[str, Any] = {}
    others = (1, 3)

    def setUp(self) -> None:
        config = Config(**self.options)
        pool = Pool()
        for id in sorted((2, *self.others)):
            pool.add(id, id)
            pool.set_ready(id)
        self.worker = SimpleNamespace(
            id=2,
            slot=5,
            config=config,
            router=config.router(b"s" * 16),
            pool=pool,
            table=Table(100, 3600),
            places={FRONT_DESK: "front desk", 1: "one", 3: "three"},
            channel=mock.Mock(),
            live={"this connection"},
            final=False,
            request_done=mock.Mock(),
            serving=SimpleNamespace(inside=Inside(absolute=False)),
        )
        self.desk = WorkerDesk(self.worker)  # type: ignore[arg-type]

    def tag(self, worker: int) -> str:
        """A value that names a worker."""
        return self.worker.router.signer.mint(worker, "sid")

    def whose(self, target: str = "/", *headers: str, **options: Any) -> tuple[int | None, How]:
        """Whose a request is."""
        return self.desk.whose(head(target, *headers), CLIENT, **options)

    def bind(self, key: bytes, worker: int) -> None:
        """A worker has bound a key."""
        self.worker.table.bind(key, worker, time.monotonic())

    def missed(self, *owners: int) -> str:
        """A key that nobody knows and that leads to one of these workers."""
        for number in range(100):
            self.worker.channel.reset_mock()
            place, _ = self.whose(f"/?sid=unknown{number}")
            if (place or 2) in owners:
                return f"unknown{number}"
        raise AssertionError(f"nothing leads to {owners}")


class HeadlessTests(DeskCase):
    """Whose a connection is whose head cannot be read."""

    options = {"sticky": "ip"}

    def test_balanced(self) -> None:
        """Nothing pins it without an address: it stays where it is."""
        self.assertEqual(self.desk.whose(None, "", settled=True), (None, How.NEW))
        self.assertEqual(self.desk.known, {})

    def test_by_address(self) -> None:
        """By its address it is somebody's, and the others say the same."""
        places = {self.desk.whose(None, f"192.0.2.{n}", settled=True)[0] for n in range(64)}
        self.assertEqual(places, {None, 1, 3})

    def test_draining(self) -> None:
        """What nothing pins is no draining worker's."""
        self.desk.draining = True
        self.assertEqual(self.desk.whose(None, "", settled=True), (FRONT_DESK, How.NEW))


class WhoseTests(DeskCase):
    """Whose a request is."""

    def test_own_tag(self) -> None:
        """A request with this worker's tag stays."""
        self.assertEqual(self.whose(f"/?sid={self.tag(2)}"), (None, How.TAG))

    def test_tag(self) -> None:
        """One with the tag of another goes there."""
        self.assertEqual(self.whose(f"/?sid={self.tag(3)}"), (3, How.TAG))

    def test_no_mailbox(self) -> None:
        """If that one's mailbox is not known here, it goes by the front desk."""
        del self.worker.places[3]
        self.assertEqual(self.whose(f"/?sid={self.tag(3)}"), (FRONT_DESK, How.TAG))

    def test_gone(self) -> None:
        """The tag of a worker that is gone is a key like any other that nobody knows."""
        self.worker.pool.set_gone(3)
        self.assertIs(self.whose(f"/?sid={self.tag(3)}")[1], How.MISS)

    def test_nothing(self) -> None:
        """A request without a key stays where its connection is."""
        self.assertEqual(self.whose(), (None, How.NEW))

    def test_bound(self) -> None:
        """A key that is bound leads to whom it is bound to."""
        self.bind(b"mine", 2)
        self.bind(b"theirs", 1)
        self.assertEqual(self.whose("/?sid=mine"), (None, How.HIT))
        self.assertEqual(self.whose("/?sid=theirs"), (1, How.HIT))

    def test_unknown(self) -> None:
        """A key that nobody knows leads where it leads in every process."""
        self.assertEqual(self.whose(f"/?sid={self.missed(2)}"), (None, How.MISS))
        other = self.missed(1, 3)
        self.assertEqual(self.whose(f"/?sid={other}"), self.whose(f"/?sid={other}"))

    def test_just_bound(self) -> None:
        """Before it counts as unknown, what the primary has told by now is taken in."""
        self.worker.channel.read_now.side_effect = lambda: self.bind(b"new", 3)
        self.assertEqual(self.whose("/?sid=new"), (3, How.HIT))

    def test_known_without_the_channel(self) -> None:
        """For what is known the channel is left alone."""
        self.bind(b"mine", 2)
        for target in ("/", "/?sid=mine", f"/?sid={self.tag(1)}"):
            self.whose(target)
        self.assertEqual(self.worker.channel.method_calls, [])

    def test_new_session(self) -> None:
        """A new Engine.IO session on a kept connection goes to the worker with the least load."""
        for id, live in ((1, 5), (3, 4)):
            self.worker.pool.report(id, live, 0, 0.0)
        self.worker.live = set(range(9))
        self.assertEqual(self.whose("/?EIO=4&transport=polling"), (3, How.NEW))
        del self.worker.places[1]
        self.assertEqual(self.whose("/?EIO=4&transport=polling"), (FRONT_DESK, How.NEW))

    def test_new_session_stays(self) -> None:
        """That may be this one: the connection itself is no reason to send it away."""
        for id in (1, 3):
            self.worker.pool.report(id, 1, 0, 0.0)
        self.assertEqual(self.whose("/?EIO=4&transport=polling"), (None, How.NEW))

    def test_new_sessions(self) -> None:
        """Many of them spread, also those over the very connection."""
        for id in (1, 3):
            self.worker.pool.report(id, 8, 0, 0.0)
        self.worker.live = set(range(9))
        places = collections.Counter(self.whose("/?EIO=4")[0] for _ in range(30))
        self.assertEqual(places, {None: 10, 1: 10, 3: 10})

    def test_new_session_on_a_settled_connection(self) -> None:
        """Unless the connection cannot move any more."""
        self.assertEqual(self.whose("/?EIO=4", settled=True), (None, How.NEW))

    def test_nobody(self) -> None:
        """If nobody is ready, the request is served here."""
        for id in (1, 2, 3):
            self.worker.pool.set_draining(id)
        self.assertEqual(self.whose(), (None, How.NEW))
        self.assertEqual(self.whose("/?sid=unknown"), (None, How.NEW))


class AloneTests(DeskCase):
    """The only worker."""

    others = ()

    def test_new_session(self) -> None:
        """A new session stays."""
        self.assertEqual(self.whose("/?EIO=4"), (None, How.NEW))

    def test_draining(self) -> None:
        """And so does everything when it leaves and nobody has come yet."""
        self.desk.draining = True
        self.worker.pool.set_draining(2)
        self.assertEqual(self.whose(), (None, How.NEW))
        self.assertEqual(self.whose("/?sid=unknown"), (None, How.NEW))


class DrainTests(DeskCase):
    """A worker that leaves."""

    def setUp(self) -> None:
        super().setUp()
        self.desk.draining = True
        self.worker.pool.set_draining(2)

    def test_pinned(self) -> None:
        """What is pinned to it stays."""
        self.bind(b"mine", 2)
        self.assertEqual(self.whose(f"/?sid={self.tag(2)}"), (None, How.TAG))
        self.assertEqual(self.whose("/?sid=mine"), (None, How.HIT))

    def test_new(self) -> None:
        """What nothing pins goes to the front desk."""
        self.assertEqual(self.whose(), (FRONT_DESK, How.NEW))
        self.assertEqual(self.whose("/?EIO=4", settled=True), (FRONT_DESK, How.NEW))

    def test_unknown(self) -> None:
        """A key that nobody knows leads to another worker."""
        self.assertEqual({self.whose(f"/?sid={n}")[0] for n in range(20)}, {1, 3})

    def test_final(self) -> None:
        """When the whole cluster stops, what nothing pins is served here: nobody else would."""
        self.worker.final = True
        self.assertEqual(self.whose(), (None, How.NEW))
        self.assertEqual(self.whose("/?EIO=4"), (None, How.NEW))

    def test_no_cookie(self) -> None:
        """It inserts no cookie any more."""
        self.options = {"sticky": "insert:where"}
        super().setUp()
        self.desk.draining = True
        self.assertEqual(self.desk.extra_headers(head(), CLIENT, False, How.NEW), b"")


class HashTests(DeskCase):
    """Keys that are hashed."""

    options = {"sticky": "ip"}

    def test_address(self) -> None:
        """The client's address decides, the same way in every process."""
        places = {host: self.desk.whose(head(), host) for host in map(str, range(20))}
        self.assertEqual({place for place, _ in places.values()}, {None, 1, 3})
        self.assertEqual({how for _, how in places.values()}, {How.HASH})

    def test_not_remembered(self) -> None:
        """It is not remembered: the same request of another client belongs elsewhere."""
        for host in map(str, range(20)):
            self.desk.whose(head(), host)
        self.assertEqual(self.desk.known, {})


class CookieTests(DeskCase):
    """The cookie that is inserted."""

    options = {"sticky": "insert:where", "forwarded_allow_ips": "192.0.2.9"}

    def cookie(self, *headers: str, host: str = CLIENT, secure: bool = False) -> bytes:
        """What goes with the response to a request."""
        return self.desk.extra_headers(head("/", *headers), host, secure, How.NEW)

    def test_inserted(self) -> None:
        """A client without the cookie gets one that leads here."""
        line = self.cookie().decode()
        self.assertTrue(line.startswith("Set-Cookie: where="), line)
        value = line.partition("=")[2].partition(";")[0]
        self.assertEqual(self.worker.router.signer.read(value), 2)
        self.assertNotIn("Secure", line)

    def test_each_another(self) -> None:
        """No two clients get the same one."""
        self.assertNotEqual(self.cookie(), self.cookie())

    def test_secure(self) -> None:
        """Over TLS it is one that never leaves TLS."""
        self.assertIn(b"; Secure", self.cookie(secure=True))

    def test_secure_outside(self) -> None:
        """So it is if a proxy ends TLS and says so, and is trusted."""
        told = "X-Forwarded-Proto: https"
        self.assertNotIn(b"Secure", self.cookie(told))
        self.assertIn(b"; Secure", self.cookie(told, host="192.0.2.9"))

    def test_has_one(self) -> None:
        """A client that has one of this worker gets none."""
        self.assertEqual(self.cookie(f"Cookie: a=b; where={self.tag(2)}"), b"")

    def test_has_another(self) -> None:
        """One that has that of another worker, which must be gone, gets a new one."""
        self.assertIn(b"Set-Cookie: where=", self.cookie(f"Cookie: where={self.tag(9)}"))

    def test_forged(self) -> None:
        """So does one that has made its own."""
        forged = self.tag(2)[:-1] + ("A" if self.tag(2)[-1] != "A" else "B")
        self.assertIn(b"Set-Cookie: where=", self.cookie(f"Cookie: where={forged}"))

    def test_remembered_only_with_it(self) -> None:
        """A request is remembered only if nothing is to be added to its response."""
        self.whose("/")
        self.assertEqual(self.desk.known, {})
        self.whose("/", f"Cookie: where={self.tag(2)}")
        self.assertEqual(len(self.desk.known), 1)


class NoCookieTests(DeskCase):
    """Without an inserted cookie."""

    def test_nothing(self) -> None:
        """Nothing goes with the response."""
        self.assertEqual(self.desk.extra_headers(head(), CLIENT, False, How.NEW), b"")


class DebugTests(DeskCase):
    """Debugging headers."""

    options = {"debug_headers": True, "sticky": "insert:where"}

    def test_headers(self) -> None:
        """They say the worker's slot and the reason, beside the cookie."""
        lines = self.desk.extra_headers(head(), CLIENT, False, How.HIT).split(b"\r\n")
        self.assertEqual(lines[:2], [b"X-Txsticky-Worker: 5", b"X-Txsticky-Route: HIT"])
        self.assertTrue(lines[2].startswith(b"Set-Cookie: "))
        self.assertEqual(lines[3:], [b""])

    def test_not_remembered(self) -> None:
        """With them nothing is remembered."""
        self.whose(f"/?sid={self.tag(2)}", f"Cookie: where={self.tag(2)}")
        self.assertEqual(self.desk.known, {})


class MemoryTests(DeskCase):
    """Requests that are remembered to the letter."""

    def test_what(self) -> None:
        """What stays for good reason is remembered, with the reason."""
        self.whose("/plain")
        self.whose(f"/?sid={self.tag(2)}")
        self.assertEqual([memo.how for memo in self.desk.known.values()], [How.NEW, How.TAG])
        self.assertIn(head("/plain").raw, self.desk.known)

    def test_body(self) -> None:
        """Of a request with a body it is remembered how long it is."""
        request = head("/", "Content-Length: 3", method="POST")
        self.desk.whose(request, CLIENT)
        (memo,) = self.desk.known.values()
        self.assertEqual(memo.size, len(request.raw) + 3)

    def test_what_not(self) -> None:
        """What may belong elsewhere a moment later, or has a body of unknown length, is not."""
        self.bind(b"mine", 2)
        self.whose("/?sid=mine")
        self.whose(f"/?sid={self.tag(3)}")
        self.missed(2)
        self.whose("/?EIO=4")
        self.whose("/?EIO=4", settled=True)
        self.desk.whose(head("/", "Transfer-Encoding: chunked", method="POST"), CLIENT)
        self.whose("/", "X: " + "x" * MEMORABLE)
        self.assertEqual(self.desk.known, {})

    def test_what_is_shown_otherwise(self) -> None:
        """Nor is a head that the server inside is not to see as it came."""
        self.whose("/", "Upgrade: h2c")
        self.whose("http://a/")
        self.whose("/", "A: \x01")
        self.assertEqual(self.desk.known, {})

    def test_close(self) -> None:
        """It is remembered whether a request was the last."""
        self.whose("/", "Connection: close")
        (memo,) = self.desk.known.values()
        self.assertTrue(memo.last)

    def test_change(self) -> None:
        """When the cluster changes, all is decided anew."""
        self.whose()
        self.desk.changed()
        self.assertEqual(self.desk.known, {})

    def test_bound(self) -> None:
        """The memory is bounded."""
        for number in range(MEMORY + 1):
            self.whose(f"/{number}")
        self.assertEqual(len(self.desk.known), 1)


class ConfirmTests(DeskCase):
    """Waiting for bindings."""

    def confirm(self) -> None:
        """One binding is confirmed."""
        self.desk.unconfirmed -= 1
        self.desk.confirmed()

    def test_nothing_to_wait_for(self) -> None:
        """With nothing unconfirmed, at once."""
        action = mock.Mock()
        self.desk.when_confirmed(action)
        self.assertEqual(action.call_count, 1)

    def test_all(self) -> None:
        """Else when all are confirmed, in order, once."""
        order: list[int] = []
        self.desk.unconfirmed = 2
        for number in range(3):
            self.desk.when_confirmed(lambda number=number: order.append(number))
        self.confirm()
        self.assertEqual(order, [])
        self.confirm()
        self.confirm()
        self.assertEqual(order, [0, 1, 2])

    def test_one_that_fails(self) -> None:
        """One that fails keeps no other waiting."""
        self.desk.unconfirmed = 1
        after = mock.Mock()
        self.desk.when_confirmed(mock.Mock(side_effect=ZeroDivisionError))
        self.desk.when_confirmed(after)
        self.confirm()
        self.assertEqual(after.call_count, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_more_meanwhile(self) -> None:
        """What waits for a binding that is made meanwhile waits for that one."""
        order = []

        def first() -> None:
            order.append("first")
            self.desk.unconfirmed = 1
            self.desk.when_confirmed(lambda: order.append("second"))

        self.desk.unconfirmed = 1
        self.desk.when_confirmed(first)
        self.confirm()
        self.assertEqual(order, ["first"])
        self.confirm()
        self.assertEqual(order, ["first", "second"])

    def test_request_done(self) -> None:
        """The worker is told of each complete response."""
        self.desk.request_done()
        self.assertEqual(self.worker.request_done.call_count, 1)
