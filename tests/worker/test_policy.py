"""The request policy: where a request is served."""

from __future__ import annotations

import collections

from tests.worker.policies import CLIENT, PolicyCase, head
from txsticky.core.how import How
from txsticky.core.http.steps import MEMORABLE
from txsticky.core.routing.verdict import Give, GiveBack, Keep, place_of
from txsticky.worker.fast_path import MEMORY


class HeadlessTests(PolicyCase):
    """Whose a connection is whose head cannot be read."""

    options = {"sticky": "ip"}

    def test_balanced(self) -> None:
        """A connection without an address stays where it is: nothing pins it."""
        self.assertEqual(self.policy.whose(None, "", settled=True), Keep(How.NEW))
        self.assertEqual(self.policy.known, {})

    def test_by_address(self) -> None:
        """A connection belongs to one worker by its address, and all workers agree."""
        verdicts = [self.policy.whose(None, f"192.0.2.{n}", settled=True) for n in range(64)]
        self.assertEqual({place_of(verdict, 2) for verdict in verdicts}, {1, 2, 3})

    def test_draining(self) -> None:
        """A connection that nothing pins is no draining worker's."""
        self.view.drain()
        self.assertEqual(self.policy.whose(None, "", settled=True), GiveBack(How.NEW))


class WhoseTests(PolicyCase):
    """Whose a request is."""

    def test_own_tag(self) -> None:
        """A request with this worker's tag stays."""
        self.assertEqual(self.whose(f"/?sid={self.tag(2)}"), Keep(How.TAG))

    def test_tag(self) -> None:
        """A request with the tag of another worker goes there."""
        self.assertEqual(self.whose(f"/?sid={self.tag(3)}"), Give(3, How.TAG))

    def test_no_mailbox(self) -> None:
        """If the other worker's mailbox is not known here, the request goes by the front desk."""
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
        """A key that is bound leads to the worker that it is bound to."""
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
        """Before a key counts as unknown, what the primary has told by now is taken in."""
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
        """A new session stays if this worker has the least load."""
        for id in (1, 3):
            self.pool.report(id, 1, 0, 0.0)
        self.assertEqual(self.whose("/?EIO=4&transport=polling"), Keep(How.NEW))

    def test_new_sessions(self) -> None:
        """Many new sessions spread, also those over the very connection."""
        for id in (1, 3):
            self.pool.report(id, 8, 0, 0.0)
        self.live.update(range(8))
        places = collections.Counter(place_of(self.whose("/?EIO=4"), 2) for _ in range(30))
        self.assertEqual(places, {2: 10, 1: 10, 3: 10})

    def test_new_session_on_a_settled_connection(self) -> None:
        """A new session stays where its connection cannot move any more."""
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
        """A new session stays at the only worker."""
        self.assertEqual(self.whose("/?EIO=4"), Keep(How.NEW))

    def test_draining(self) -> None:
        """Everything stays at the only worker when it leaves and no successor has come yet."""
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
        """What is pinned to a draining worker stays."""
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
        """A draining worker inserts no cookie any more."""
        self.options = {"sticky": "insert:where"}
        super().setUp()
        self.view.drain()
        self.assertEqual(self.answer(head()), b"")


class LameDuckTests(PolicyCase):
    """The cluster is to stop in a while."""

    options = {"sticky": "insert:where"}

    def test_last(self) -> None:
        """Each response is the last on its connection, whatever else goes with it."""
        self.view.serve_on()
        self.assertEqual(self.answer(head(), How.TAG), b"Connection: close\r\n")
        line, last = self.answer(head()).splitlines()
        self.assertTrue(line.startswith(b"Set-Cookie: where="), line)
        self.assertEqual(last, b"Connection: close")

    def test_upgrade(self) -> None:
        """A handshake is left alone: the WebSocket may last as long as the time does."""
        self.view.serve_on()
        asked = head("/", "Connection: upgrade", "Upgrade: websocket")
        self.assertEqual(self.answer(asked, How.TAG), b"")

    def test_not_remembered(self) -> None:
        """What was remembered is forgotten, and nothing is remembered."""
        self.serve(f"/?sid={self.tag(2)}")
        self.view.serve_on()
        self.serve(f"/?sid={self.tag(2)}")
        self.assertEqual(self.policy.known, {})

    def test_draining(self) -> None:
        """A lame duck that drains calls each response the last; TLS says so by itself."""
        self.view.serve_on()
        self.view.drain()
        self.assertEqual(self.answer(head(), How.TAG), b"Connection: close\r\n")
        self.assertEqual(self.answer(head(), How.TAG, secure=True), b"")


class HashTests(PolicyCase):
    """Keys that are hashed."""

    options = {"sticky": "ip"}

    def test_address(self) -> None:
        """The client's address decides, the same way in every process."""
        verdicts = [self.policy.whose(head(), host) for host in map(str, range(20))]
        self.assertEqual({place_of(verdict, 2) for verdict in verdicts}, {1, 2, 3})
        self.assertEqual({verdict.how for verdict in verdicts}, {How.HASH})

    def test_address_again(self) -> None:
        """Where an address leads is remembered until a key is bound or the cluster changes."""
        hosts = [f"192.0.2.{number}" for number in range(20)]
        first = [self.policy.whose(head(), host) for host in hosts]
        decide = self.patch(self.policy, "_decide", None)
        self.assertEqual([self.policy.whose(None, host) for host in hosts], first)
        decide.restore()
        self.bind(hosts[0].encode(), 3)
        self.assertEqual(self.policy.whose(head(), hosts[0]), Give(3, How.HIT))
        self.view.free(hosts[0].encode())
        self.assertEqual(self.policy.whose(head(), hosts[0]), first[0])
        self.fast_path.clear()
        self.assertEqual(self.fast_path.hosts, {})

    def test_given_back(self) -> None:
        """An address is not remembered while the way to its worker is not known."""
        self.peers.clear()
        hosts = [f"192.0.2.{number}" for number in range(20)]
        verdicts = [self.policy.whose(None, host) for host in hosts]
        self.assertIn(GiveBack(How.HASH), verdicts)
        self.assertEqual(set(self.fast_path.hosts.values()), {Keep(How.HASH)})

    def test_many_addresses(self) -> None:
        """The memory of addresses is bounded, and no long text enters it."""
        for number in range(5000):
            self.policy.whose(None, f"10.0.{number >> 8}.{number & 255}")
        self.policy.whose(None, "x" * 100)
        self.assertTrue(0 < len(self.fast_path.hosts) <= 4096)

    def test_remembered(self) -> None:
        """A request whose address decides is remembered as such; a first one if repeated."""
        for first, times in ((False, 1), (True, 2)):
            for time in range(times):
                self.assertEqual(len(self.policy.known), 0, time)
                self.policy.additions(head(), "192.0.2.7", False, How.HASH, first)
            self.assertEqual([memo.how for memo in self.policy.known.values()], [How.HASH])
            self.fast_path.clear()

    def test_not_remembered(self) -> None:
        """A request whose address decides is not remembered while a key is bound."""
        self.bind(b"192.0.2.9", 3)
        self.policy.additions(head(), "192.0.2.7", False, How.HASH, False)
        self.assertEqual(self.policy.known, {})


class HashOfAddressTests(PolicyCase):
    """Keys of which the client's address is one."""

    def test_not_remembered(self) -> None:
        """A request is not remembered by its address where something else decides as well."""
        for options in ({"sticky": "sid,ip"}, {"sticky": "hash:cookie:a"}):
            self.options = options
            self.setUp()
            for how in (How.HASH, How.NEW):
                self.policy.additions(head(), "192.0.2.7", False, how, False)
            self.assertNotIn(How.HASH, [memo.how for memo in self.policy.known.values()])

    def test_with_debugging_headers(self) -> None:
        """A request whose address decides is not remembered where each response says why."""
        self.options = {"sticky": "ip", "debug_headers": True}
        self.setUp()
        self.policy.additions(head(), "192.0.2.7", False, How.HASH, False)
        self.assertEqual(self.policy.known, {})


class MemoryTests(PolicyCase):
    """Requests that are remembered to the letter."""

    def test_what(self) -> None:
        """A request that stays for good reason is remembered, with the reason."""
        self.serve("/plain")
        self.serve(f"/?sid={self.tag(2)}")
        self.assertEqual([memo.how for memo in self.policy.known.values()], [How.NEW, How.TAG])
        self.assertIn(head("/plain").raw, self.policy.known)

    def test_body(self) -> None:
        """A request with a body is remembered with the body's length."""
        request = head("/", "Content-Length: 3", method="POST")
        self.serve("/", "Content-Length: 3", method="POST")
        (memo,) = self.policy.known.values()
        self.assertEqual(memo.size, len(request.raw) + 3)

    def test_what_not(self) -> None:
        """A request that may belong elsewhere later, or of unknown length, is not remembered."""
        self.bind(b"mine", 2)
        self.serve("/?sid=mine")
        self.serve(f"/?sid={self.tag(3)}")
        self.missed(2)
        self.serve("/?EIO=4")
        self.serve("/?EIO=4", settled=True)
        self.serve("/", "Transfer-Encoding: chunked", method="POST")
        self.serve("/", "X: " + "x" * MEMORABLE)
        self.assertEqual(self.policy.known, {})

    def test_what_is_shown_otherwise(self) -> None:
        """A head that the server inside is not to see as it came is not remembered."""
        self.serve("/", "Upgrade: h2c")
        self.serve("http://a/")
        self.serve("/", "A: \x01")
        self.assertEqual(self.policy.known, {})

    def test_the_first(self) -> None:
        """A connection's first request is not remembered: another connection seldom repeats it."""
        self.policy.additions(head(), CLIENT, False, How.NEW, True)
        self.policy.additions(head(), CLIENT, False, How.NEW, True)
        self.assertEqual(self.policy.known, {})

    def test_the_first_again(self) -> None:
        """A connection's first request is remembered by its tag when it comes again."""
        tagged = head(f"/?sid={self.tag(2)}")
        for remembered in (0, 1):
            self.policy.additions(tagged, CLIENT, False, How.TAG, True)
            self.assertEqual(len(self.policy.known), remembered)

    def test_given(self) -> None:
        """A request that is another worker's by its tag is remembered until the cluster changes."""
        self.bind(b"theirs", 3)
        verdict = self.whose(f"/?sid={self.tag(3)}")
        self.whose("/?sid=theirs")
        self.whose(f"/?sid={self.tag(3)}", "X: " + "x" * MEMORABLE)
        self.missed(3)
        self.assertEqual(self.policy.given, {head(f"/?sid={self.tag(3)}").raw: verdict})
        given = self.policy.given
        self.fast_path.clear()
        self.assertEqual(given, {})

    def test_close(self) -> None:
        """Whether a request is its connection's last is remembered with it."""
        self.serve("/", "Connection: close")
        (memo,) = self.policy.known.values()
        self.assertTrue(memo.last)

    def test_change(self) -> None:
        """When the cluster changes, all is decided anew."""
        self.serve()
        self.view.bind(b"key", 3, 0.0)
        self.assertEqual(self.policy.known, {})

    def test_bound(self) -> None:
        """The memory of requests is bounded."""
        for number in range(MEMORY + 1):
            self.serve(f"/{number}")
        self.assertEqual(len(self.policy.known), 1)


class GateTests(PolicyCase):
    """The policy's other answers to the gates."""

    def test_request_done(self) -> None:
        """Each complete response is told."""
        self.policy.request_done()
        self.assertEqual(self.done.call_count, 1)

    def test_draining(self) -> None:
        """The policy says that the worker drains if its view says so."""
        self.assertFalse(self.policy.draining)
        self.view.drain()
        self.assertTrue(self.policy.draining)

    def test_bindings(self) -> None:
        """Responses wait for the bindings of this worker."""
        self.assertIs(self.policy.bindings, self.bindings)
