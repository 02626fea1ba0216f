"""The request policy: where a request is served, and what goes with its response."""

from __future__ import annotations

import collections
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
from txsticky.core.routing.verdict import FRONT_DESK, Give, GiveBack, Keep, Verdict, place_of
from txsticky.testing import FakeSystem
from txsticky.worker.bindings import Bindings
from txsticky.worker.fast_path import MEMORY, FastPath
from txsticky.worker.policy import PolicySettings, RequestPolicy
from txsticky.worker.view import ClusterView

CLIENT = "192.0.2.7"


def head(target: str = "/", *headers: str, method: str = "GET") -> Head:
    """A request's head."""
    lines = [f"{method} {target} HTTP/1.1", "Host: example", *headers, "", ""]
    parsed = parse_head("\r\n".join(lines).encode(), 65536)
    assert isinstance(parsed, Head)
    return parsed


class PolicyCase(SynchronousTestCase):
    """The policy of worker 2, in a cluster of three whose workers are ready."""

    options: dict[str, Any] = {}
    others = (1, 3)

    def setUp(self) -> None:
        config = Config(**self.options)
        self.pool = Pool()
        for id in sorted((2, *self.others)):
            self.pool.add(id, id)
            self.pool.set_ready(id)
        self.fast_path = FastPath(Inside(absolute=False))
        self.system = FakeSystem()
        self.view = ClusterView(
            id=2,
            slot=5,
            router=config.router(b"s" * 16),
            pool=self.pool,
            table=Table(100, 3600),
            changed=self.fast_path.clear,
        )
        self.bindings = Bindings(self.view, mock.Mock(), self.system.clock)
        self.peers = {FRONT_DESK, 1, 3}
        self.live: set[object] = {"this connection"}
        self.read_now = mock.Mock()
        self.done = mock.Mock()
        self.policy = RequestPolicy(
            self.view,
            self.bindings,
            self.fast_path,
            peers=self.peers,
            live=self.live,
            read_now=self.read_now,
            request_done=self.done,
            settings=PolicySettings(balance=config.balance, debug_headers=config.debug_headers),
            system=self.system,
        )

    def tag(self, worker: int) -> str:
        """A value that names a worker."""
        return self.view.router.signer.mint(worker, "sid")

    def whose(self, target: str = "/", *headers: str, **options: Any) -> Verdict:
        """Where a request is served."""
        return self.policy.whose(head(target, *headers), CLIENT, **options)

    def bind(self, key: bytes, worker: int) -> None:
        """A worker has bound a key."""
        self.view.table.bind(key, worker, self.system.clock())

    def missed(self, *owners: int) -> str:
        """A key that is not known and that leads to one of these workers."""
        for number in range(100):
            if place_of(self.whose(f"/?sid=unknown{number}"), 2) in owners:
                return f"unknown{number}"
        raise AssertionError(f"nothing leads to {owners}")


class HeadlessTests(PolicyCase):
    """Whose a connection is whose head cannot be read."""

    options = {"sticky": "ip"}

    def test_balanced(self) -> None:
        """Nothing pins it without an address: it stays where it is."""
        self.assertEqual(self.policy.whose(None, "", settled=True), Keep(How.NEW))
        self.assertEqual(self.policy.known, {})

    def test_by_address(self) -> None:
        """By its address it belongs to one worker, and the others say the same."""
        verdicts = [self.policy.whose(None, f"192.0.2.{n}", settled=True) for n in range(64)]
        self.assertEqual({place_of(verdict, 2) for verdict in verdicts}, {1, 2, 3})

    def test_draining(self) -> None:
        """What nothing pins is no draining worker's."""
        self.view.drain()
        self.assertEqual(self.policy.whose(None, "", settled=True), GiveBack(How.NEW))


class WhoseTests(PolicyCase):
    """Whose a request is."""

    def test_own_tag(self) -> None:
        """A request with this worker's tag stays."""
        self.assertEqual(self.whose(f"/?sid={self.tag(2)}"), Keep(How.TAG))

    def test_tag(self) -> None:
        """One with the tag of another goes there."""
        self.assertEqual(self.whose(f"/?sid={self.tag(3)}"), Give(3, How.TAG))

    def test_no_mailbox(self) -> None:
        """If that one's mailbox is not known here, it goes by the front desk."""
        self.peers.remove(3)
        self.assertEqual(self.whose(f"/?sid={self.tag(3)}"), GiveBack(How.TAG))

    def test_gone(self) -> None:
        """The tag of a worker that is gone is a key like any other that is not known."""
        self.pool.set_gone(3)
        self.assertIs(self.whose(f"/?sid={self.tag(3)}").how, How.MISS)

    def test_nothing(self) -> None:
        """A request without a key stays where its connection is."""
        self.assertEqual(self.whose(), Keep(How.NEW))

    def test_bound(self) -> None:
        """A key that is bound leads to whom it is bound to."""
        self.bind(b"mine", 2)
        self.bind(b"theirs", 1)
        self.assertEqual(self.whose("/?sid=mine"), Keep(How.HIT))
        self.assertEqual(self.whose("/?sid=theirs"), Give(1, How.HIT))

    def test_unknown(self) -> None:
        """A key that is not known leads where it leads in every process."""
        self.assertEqual(self.whose(f"/?sid={self.missed(2)}"), Keep(How.MISS))
        other = self.missed(1, 3)
        self.assertEqual(self.whose(f"/?sid={other}"), self.whose(f"/?sid={other}"))

    def test_just_bound(self) -> None:
        """Before it counts as unknown, what the primary has told by now is taken in."""
        self.read_now.side_effect = lambda: self.bind(b"new", 3)
        self.assertEqual(self.whose("/?sid=new"), Give(3, How.HIT))

    def test_known_without_the_channel(self) -> None:
        """For what is known the channel is left alone."""
        self.bind(b"mine", 2)
        for target in ("/", "/?sid=mine", f"/?sid={self.tag(1)}"):
            self.whose(target)
        self.assertEqual(self.read_now.call_count, 0)

    def test_new_session(self) -> None:
        """A new Engine.IO session on a kept connection goes to the worker with the least load."""
        for id, live in ((1, 5), (3, 4)):
            self.pool.report(id, live, 0, 0.0)
        self.live.update(range(8))
        self.assertEqual(self.whose("/?EIO=4&transport=polling"), Give(3, How.NEW))
        self.peers.remove(1)
        self.assertEqual(self.whose("/?EIO=4&transport=polling"), GiveBack(How.NEW))

    def test_new_session_stays(self) -> None:
        """That may be this one: the connection itself is no reason to send it away."""
        for id in (1, 3):
            self.pool.report(id, 1, 0, 0.0)
        self.assertEqual(self.whose("/?EIO=4&transport=polling"), Keep(How.NEW))

    def test_new_sessions(self) -> None:
        """Many of them spread, also those over the very connection."""
        for id in (1, 3):
            self.pool.report(id, 8, 0, 0.0)
        self.live.update(range(8))
        places = collections.Counter(place_of(self.whose("/?EIO=4"), 2) for _ in range(30))
        self.assertEqual(places, {2: 10, 1: 10, 3: 10})

    def test_new_session_on_a_settled_connection(self) -> None:
        """Unless the connection cannot move any more."""
        self.assertEqual(self.whose("/?EIO=4", settled=True), Keep(How.NEW))

    def test_nobody(self) -> None:
        """If no worker is ready, the request is served here."""
        for id in (1, 2, 3):
            self.pool.set_draining(id)
        self.assertEqual(self.whose(), Keep(How.NEW))
        self.assertEqual(self.whose("/?sid=unknown"), Keep(How.NEW))


class AloneTests(PolicyCase):
    """The only worker."""

    others = ()

    def test_new_session(self) -> None:
        """A new session stays."""
        self.assertEqual(self.whose("/?EIO=4"), Keep(How.NEW))

    def test_draining(self) -> None:
        """And so does everything when it leaves and no successor has come yet."""
        self.view.drain()
        self.pool.set_draining(2)
        self.assertEqual(self.whose(), Keep(How.NEW))
        self.assertEqual(self.whose("/?sid=unknown"), Keep(How.NEW))


class DrainTests(PolicyCase):
    """A worker that leaves."""

    def setUp(self) -> None:
        super().setUp()
        self.view.drain()
        self.pool.set_draining(2)

    def test_pinned(self) -> None:
        """What is pinned to it stays."""
        self.bind(b"mine", 2)
        self.assertEqual(self.whose(f"/?sid={self.tag(2)}"), Keep(How.TAG))
        self.assertEqual(self.whose("/?sid=mine"), Keep(How.HIT))

    def test_new(self) -> None:
        """What nothing pins goes to the front desk."""
        self.assertEqual(self.whose(), GiveBack(How.NEW))
        self.assertEqual(self.whose("/?EIO=4", settled=True), GiveBack(How.NEW))

    def test_unknown(self) -> None:
        """A key that is not known leads to another worker."""
        self.assertEqual({place_of(self.whose(f"/?sid={n}"), 2) for n in range(20)}, {1, 3})

    def test_final(self) -> None:
        """When the whole cluster stops, what nothing pins is served here: no other would."""
        self.view.final = True
        self.assertEqual(self.whose(), Keep(How.NEW))
        self.assertEqual(self.whose("/?EIO=4"), Keep(How.NEW))

    def test_no_cookie(self) -> None:
        """It inserts no cookie any more."""
        self.options = {"sticky": "insert:where"}
        super().setUp()
        self.view.drain()
        self.assertEqual(self.policy.extra_headers(head(), CLIENT, False, How.NEW), b"")


class HashTests(PolicyCase):
    """Keys that are hashed."""

    options = {"sticky": "ip"}

    def test_address(self) -> None:
        """The client's address decides, the same way in every process."""
        verdicts = [self.policy.whose(head(), host) for host in map(str, range(20))]
        self.assertEqual({place_of(verdict, 2) for verdict in verdicts}, {1, 2, 3})
        self.assertEqual({verdict.how for verdict in verdicts}, {How.HASH})

    def test_not_remembered(self) -> None:
        """It is not remembered: the same request of another client belongs elsewhere."""
        for host in map(str, range(20)):
            self.policy.whose(head(), host)
        self.assertEqual(self.policy.known, {})


class CookieTests(PolicyCase):
    """The cookie that is inserted."""

    options = {"sticky": "insert:where", "forwarded_allow_ips": "192.0.2.9"}

    def cookie(self, *headers: str, host: str = CLIENT, secure: bool = False) -> bytes:
        """What goes with the response to a request."""
        return self.policy.extra_headers(head("/", *headers), host, secure, How.NEW)

    def test_inserted(self) -> None:
        """A client without the cookie gets one that leads here."""
        line = self.cookie().decode()
        self.assertTrue(line.startswith("Set-Cookie: where="), line)
        value = line.partition("=")[2].partition(";")[0]
        self.assertEqual(self.view.router.signer.read(value), 2)
        self.assertNotIn("Secure", line)

    def test_each_another(self) -> None:
        """No two clients get the same one."""
        self.assertNotEqual(self.cookie(), self.cookie())

    def test_secure(self) -> None:
        """Over TLS it is one that never leaves TLS."""
        self.assertIn(b"; Secure", self.cookie(secure=True))

    def test_secure_outside(self) -> None:
        """The cookie is Secure if a trusted proxy says that it ends TLS."""
        told = "X-Forwarded-Proto: https"
        self.assertNotIn(b"Secure", self.cookie(told))
        self.assertIn(b"; Secure", self.cookie(told, host="192.0.2.9"))

    def test_has_one(self) -> None:
        """A client that has one of this worker gets none."""
        self.assertEqual(self.cookie(f"Cookie: a=b; where={self.tag(2)}"), b"")

    def test_has_another(self) -> None:
        """A client with the cookie of another worker, which must be gone, gets a new one."""
        self.assertIn(b"Set-Cookie: where=", self.cookie(f"Cookie: where={self.tag(9)}"))

    def test_forged(self) -> None:
        """A client that has made a cookie of its own gets a new one."""
        forged = self.tag(2)[:-1] + ("A" if self.tag(2)[-1] != "A" else "B")
        self.assertIn(b"Set-Cookie: where=", self.cookie(f"Cookie: where={forged}"))

    def test_remembered_only_with_it(self) -> None:
        """A request is remembered only if nothing is to be added to its response."""
        self.whose("/")
        self.assertEqual(self.policy.known, {})
        self.whose("/", f"Cookie: where={self.tag(2)}")
        self.assertEqual(len(self.policy.known), 1)


class NoCookieTests(PolicyCase):
    """Without an inserted cookie."""

    def test_nothing(self) -> None:
        """Nothing goes with the response."""
        self.assertEqual(self.policy.extra_headers(head(), CLIENT, False, How.NEW), b"")


class DebugTests(PolicyCase):
    """Debugging headers."""

    options = {"debug_headers": True, "sticky": "insert:where"}

    def test_headers(self) -> None:
        """They say the worker's slot and the reason, beside the cookie."""
        lines = self.policy.extra_headers(head(), CLIENT, False, How.HIT).split(b"\r\n")
        self.assertEqual(lines[:2], [b"X-Txsticky-Worker: 5", b"X-Txsticky-Route: HIT"])
        self.assertTrue(lines[2].startswith(b"Set-Cookie: "))
        self.assertEqual(lines[3:], [b""])

    def test_not_remembered(self) -> None:
        """With them nothing is remembered."""
        self.whose(f"/?sid={self.tag(2)}", f"Cookie: where={self.tag(2)}")
        self.assertEqual(self.policy.known, {})


class MemoryTests(PolicyCase):
    """Requests that are remembered to the letter."""

    def test_what(self) -> None:
        """What stays for good reason is remembered, with the reason."""
        self.whose("/plain")
        self.whose(f"/?sid={self.tag(2)}")
        self.assertEqual([memo.how for memo in self.policy.known.values()], [How.NEW, How.TAG])
        self.assertIn(head("/plain").raw, self.policy.known)

    def test_body(self) -> None:
        """Of a request with a body it is remembered how long it is."""
        request = head("/", "Content-Length: 3", method="POST")
        self.policy.whose(request, CLIENT)
        (memo,) = self.policy.known.values()
        self.assertEqual(memo.size, len(request.raw) + 3)

    def test_what_not(self) -> None:
        """What may belong elsewhere a moment later, or has a body of unknown length, is not."""
        self.bind(b"mine", 2)
        self.whose("/?sid=mine")
        self.whose(f"/?sid={self.tag(3)}")
        self.missed(2)
        self.whose("/?EIO=4")
        self.whose("/?EIO=4", settled=True)
        self.policy.whose(head("/", "Transfer-Encoding: chunked", method="POST"), CLIENT)
        self.whose("/", "X: " + "x" * MEMORABLE)
        self.assertEqual(self.policy.known, {})

    def test_what_is_shown_otherwise(self) -> None:
        """A head that the server inside is not to see as it came is not remembered."""
        self.whose("/", "Upgrade: h2c")
        self.whose("http://a/")
        self.whose("/", "A: \x01")
        self.assertEqual(self.policy.known, {})

    def test_close(self) -> None:
        """It is remembered whether a request was the last."""
        self.whose("/", "Connection: close")
        (memo,) = self.policy.known.values()
        self.assertTrue(memo.last)

    def test_change(self) -> None:
        """When the cluster changes, all is decided anew."""
        self.whose()
        self.view.bind(b"key", 3, 0.0)
        self.assertEqual(self.policy.known, {})

    def test_bound(self) -> None:
        """The memory is bounded."""
        for number in range(MEMORY + 1):
            self.whose(f"/{number}")
        self.assertEqual(len(self.policy.known), 1)


class GateTests(PolicyCase):
    """What else the gates ask."""

    def test_request_done(self) -> None:
        """Each complete response is told."""
        self.policy.request_done()
        self.assertEqual(self.done.call_count, 1)

    def test_draining(self) -> None:
        """Whether the worker drains is what its view says."""
        self.assertFalse(self.policy.draining)
        self.view.drain()
        self.assertTrue(self.policy.draining)

    def test_bindings(self) -> None:
        """Responses wait for the bindings of this worker."""
        self.assertIs(self.policy.bindings, self.bindings)
