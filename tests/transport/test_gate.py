"""The gate: at each request boundary keep or give away, and answer what is owed an answer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.cases import GET, OK, SWITCHING, UPGRADE, GateCase, to
from txsticky.core.how import How
from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.steps import known
from txsticky.core.routing.verdict import KEEP, Give
from txsticky.transport import ending


class BoundaryTests(GateCase):
    """Keep or give away."""

    def test_first(self) -> None:
        """The first request was routed here: it is delivered without asking."""
        self.arrive(to(2))
        self.assertEqual((self.got, self.policy.asked), (to(2), []))

    def test_ours(self) -> None:
        """A later request that belongs here is delivered."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(1, 7))
        self.assertEqual((self.host.delivered, self.policy.asked), ([to(1), to(1, 7)], [b"/7"]))

    def test_foreign(self) -> None:
        """A request that belongs elsewhere takes the connection along, unseen by the protocol."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(3, 7, b"body"))
        self.assertEqual(self.host.departed, (3, to(3, 7, b"body")))
        self.assertEqual((self.host.delivered, self.host.reading), ([to(1)], False))

    def test_front_desk(self) -> None:
        """A request whose worker is not known here goes to the front desk."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(0))
        self.assertEqual(self.host.departed, (0, to(0)))

    def test_half_a_head(self) -> None:
        """A head is asked about when it is complete, and not a byte of it is delivered before."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(3)[:20])
        self.assertEqual((self.policy.asked, self.host.departed), ([], None))
        self.arrive(to(3)[20:])
        self.assertEqual(self.host.departed, (3, to(3)))

    def test_body_in_pieces(self) -> None:
        """A body is passed on as it comes; behind it is the boundary."""
        request = to(1, 1, b"x" * 50)
        for at in range(0, len(request), 30):
            self.arrive(request[at : at + 30])
        self.assertEqual(self.got, request)
        self.answer()
        self.arrive(to(3))
        self.assertEqual(self.host.departed, (3, to(3)))

    def test_pipelined(self) -> None:
        """The protocol gets request N + 1 when it has answered request N, and not before."""
        self.arrive(to(1, 1) + to(1, 2) + to(1, 3))
        for number in (1, 2, 3):
            self.assertEqual(self.got, b"".join(to(1, n) for n in range(1, number + 1)))
            self.answer()
        self.assertEqual((self.host.sent, self.policy.done), (3 * OK, 3))

    def test_pipelined_foreign(self) -> None:
        """A foreign request leaves when the one before it is answered, with all that follows."""
        self.arrive(to(1, 1) + to(3, 2) + to(1, 3))
        self.assertIsNone(self.host.departed)
        self.answer(OK[:-1])
        self.assertIsNone(self.host.departed)
        self.answer(OK[-1:])
        self.assertEqual(self.host.departed, (3, to(3, 2) + to(1, 3)))

    def test_answered_while_delivered(self) -> None:
        """A protocol that answers while it is given the request gets the next one after it."""
        self.host.react = lambda data: self.write(OK)
        self.arrive(to(1, 1) + to(1, 2) + to(3, 3))
        self.assertEqual(self.host.delivered, [to(1, 1), to(1, 2)])
        self.assertEqual((self.host.sent, self.host.departed), (2 * OK, (3, to(3, 3))))

    def test_never_inside_a_write(self) -> None:
        """Nothing is delivered or given away inside the protocol's own write."""
        self.arrive(to(1, 1) + to(1, 2))
        self.write(OK)
        self.assertEqual(self.got, to(1, 1))
        self.turn()
        self.write(OK)
        self.arrive(to(3))
        self.assertEqual((self.got, self.host.departed), (to(1, 1) + to(1, 2), (3, to(3))))

    def test_headers(self) -> None:
        """Header lines of the policy go into the response, the first one's as well."""
        self.policy.added = b"Set-Cookie: a=b\r\n"
        self.arrive(to(1))
        self.answer()
        head, _, rest = OK.partition(b"\r\n")
        self.assertEqual(self.host.sent, head + b"\r\nSet-Cookie: a=b\r\n" + rest)

    def test_who_gets_the_lines(self) -> None:
        """The lines are made for the client's address, and for how it is connected."""
        for secure in (False, True):
            self.make(secure=secure)
            self.arrive(to(1))
            self.assertEqual(self.policy.told, [("192.0.2.7", secure)])

    def test_how(self) -> None:
        """Each request has its own reason to be here, the first one that of its hand-off."""
        self.policy.added = b"How: HOW\r\n"
        hows = []
        for request in (to(1), to(1), GET):
            self.host.sent = b""
            self.arrive(request)
            self.answer()
            hows.append((self.host.how, self.host.sent.split(b"\r\n")[1]))
        self.assertEqual(
            hows, [(How.MISS, b"How: MISS"), (How.TAG, b"How: TAG"), (How.NEW, b"How: NEW")]
        )

    def test_flush(self) -> None:
        """The connection leaves when the last byte of output is in the kernel."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        self.arrive(to(3))
        self.assertEqual((self.host.departed, self.host.reading), (None, False))
        self.host.drained()
        self.assertEqual(self.host.departed, (3, to(3)))

    def test_lost_before_it_is_flushed(self) -> None:
        """If the connection is lost before its output is sent, nothing more happens."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        self.arrive(to(3))
        self.host.end()
        self.clock.advance(100)
        self.assertIsNone(self.host.departed)

    def test_written_while_it_leaves(self) -> None:
        """What the protocol writes unasked while the connection leaves is cut off."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        self.arrive(to(3))
        self.write(b"unasked")
        self.host.drained()
        self.turn()
        self.assertEqual(self.host.departed, (3, to(3)))
        self.assertEqual((self.got, self.host.sent), (to(1), OK))

    def test_speaks_first_while_it_leaves(self) -> None:
        """If the protocol speaks before it was asked anything, the connection stays."""
        self.policy.draining = True
        self.host.buffered = 1000
        self.gate.drain()
        self.write(b"220 hello")
        self.host.drained()
        self.turn()
        self.assertIsNone(self.host.departed)
        self.arrive(b"EHLO")
        self.assertEqual((self.got, self.host.reading), (b"EHLO", True))

    def test_speaks_first_and_pauses_while_it_leaves(self) -> None:
        """A protocol that speaks first, and has paused its input, stays paused."""
        self.host.buffered = 1000
        self.gate.drain()
        self.write(b"220 hello")
        self.gate.pause()
        self.host.drained()
        self.turn()
        self.assertEqual((self.host.departed, self.host.reading), (None, False))
        self.gate.resume()
        self.arrive(b"EHLO")
        self.assertEqual((self.got, self.host.reading), (b"EHLO", True))

    def test_upgrade(self) -> None:
        """Bytes behind an upgrade request are held until the 101, and nothing is asked then."""
        self.arrive(UPGRADE + b"frame")
        self.assertEqual(self.got, UPGRADE)
        self.answer(SWITCHING)
        self.assertEqual(self.got, UPGRADE + b"frame")
        self.arrive(to(3))
        self.assertEqual((self.got, self.policy.asked), (UPGRADE + b"frame" + to(3), []))

    def test_connection_close(self) -> None:
        """Behind a request that says Connection: close nothing is asked."""
        self.arrive(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.answer()
        self.arrive(to(3))
        self.assertEqual((self.policy.asked, self.host.departed), ([], None))

    def test_protocol_fails(self) -> None:
        """A failure of the protocol is the caller's business."""
        self.host.react = lambda data: 1 / 0
        self.assertRaises(ZeroDivisionError, self.gate.arrived, to(1))

    def test_closed_while_delivered(self) -> None:
        """A protocol that closes gets nothing more of what is here."""
        self.host.buffered = 1
        self.host.react = lambda data: (self.write(OK), self.close())
        self.arrive(to(1, 1) + to(1, 2))
        self.assertEqual(self.got, to(1, 1))

    def test_requests_counted(self) -> None:
        """Each response counts once, however it is written."""
        for _ in range(3):
            self.arrive(to(1))
            for byte in OK:
                self.answer(bytes([byte]))
        self.arrive(UPGRADE)
        self.answer(SWITCHING)
        self.answer(b"frame")
        self.answer(b"frame")
        self.assertEqual(self.policy.done, 4)

    def test_served(self) -> None:
        """The gate knows whether a request was served here."""
        self.assertFalse(self.gate.served)
        self.arrive(to(1))
        self.assertTrue(self.gate.served)


class PauseTests(GateCase):
    """Flow control."""

    def test_inner(self) -> None:
        """A protocol that pauses its input gets nothing, and nothing is read."""
        self.host.react = lambda data: (self.write(OK), self.gate.pause())
        self.arrive(to(1, 1) + to(1, 2))
        self.assertEqual((self.got, self.host.reading), (to(1, 1), False))

    def test_inner_resumes(self) -> None:
        """When the protocol resumes, it gets what is here, but not inside its own call."""
        self.host.react = lambda data: (self.write(OK), self.gate.pause())
        self.arrive(to(1, 1) + to(1, 2))
        self.host.react = lambda data: None
        self.gate.resume()
        self.assertEqual((self.got, self.host.reading), (to(1, 1), True))
        self.turn()
        self.assertEqual(self.got, to(1, 1) + to(1, 2))

    def test_resumed_while_delivered(self) -> None:
        """A protocol that pauses and resumes over a request goes on with the next."""
        self.host.react = lambda data: (self.gate.pause(), self.write(OK), self.gate.resume())
        self.arrive(to(1, 1) + to(1, 2))
        self.assertEqual((self.got, self.host.reading), (to(1, 1) + to(1, 2), True))

    def test_too_much_held(self) -> None:
        """When too much is held back nothing is read, until some of it is released."""
        self.make(hold_limit=1000)
        self.arrive(to(1, 1) + 20 * to(1, 2))
        self.assertFalse(self.host.reading)
        for _ in range(20):
            self.answer()
        self.assertTrue(self.host.reading)
        self.answer()
        self.assertEqual(self.got, to(1, 1) + 20 * to(1, 2))
        self.assertTrue(self.gate.reads)
        self.arrive(21 * to(1, 3))
        self.assertFalse(self.host.reading, "it is too much again")

    def test_too_much_held_and_paused(self) -> None:
        """If too much is held and the protocol has paused, nothing is read until it resumes."""
        self.make(hold_limit=1000)
        self.arrive(to(1, 1) + 30 * to(1, 2))
        self.gate.pause()
        for _ in range(3):
            self.gate.resume()
            self.answer()
            self.gate.pause()
        self.assertFalse(self.host.reading)
        self.gate.resume()
        self.assertFalse(self.host.reading)  # still too much
        for _ in range(28):
            self.answer()
        self.assertTrue(self.host.reading)

    def test_while_leaving(self) -> None:
        """A protocol that resumes while the connection leaves does not make it read."""
        self.arrive(to(1))
        self.host.buffered = 10
        self.answer()
        self.gate.pause()
        self.gate.resume()
        self.arrive(to(3))
        self.gate.resume()
        self.turn()
        self.assertFalse(self.host.reading)
        self.host.drained()
        self.assertEqual(self.host.departed, (3, to(3)))


class ClosedTests(GateCase):
    """Calls that were to come when the connection is over."""

    def test_no_call(self) -> None:
        """No call that was to come later comes any more."""
        self.arrive(to(1, 1) + to(1, 2))
        self.gate.pump_soon()
        self.write(OK)
        self.host.end()
        self.clock.advance(100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_grace(self) -> None:
        """The call for a client that has closed its side comes no more."""
        self.arrive(to(1))
        self.end()
        self.host.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_departed(self) -> None:
        """No call comes for a connection that was given away."""
        self.arrive(to(1, 1) + to(3, 2))
        self.end()
        self.answer()
        self.assertIsNotNone(self.host.departed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class KnownTests(GateCase):
    """The short cut for a request that was seen before."""

    def setUp(self) -> None:
        super().setUp()
        # Answers are compared, between which a second may pass.
        self.patch(ending, "http_date", lambda: "Thu, 01 Jan 1970 00:00:00 GMT")

    def remember(self, *requests: bytes, how: How | None = None) -> None:
        """Have the policy know these."""
        for data in requests:
            head = parse_head(data, 65536)
            assert isinstance(head, Head)
            memo = known(head, how or (How.TAG if head.header(b"place") else How.NEW))
            assert memo is not None
            self.policy.known[head.raw] = memo

    def test_not_asked(self) -> None:
        """A known request is delivered without asking."""
        self.remember(GET)
        self.arrive(to(1))
        self.answer()
        self.arrive(GET)
        self.assertEqual((self.host.delivered, self.policy.asked), ([to(1), GET], []))
        self.answer()
        self.assertEqual((self.host.sent, self.policy.done), (2 * OK, 2))

    def test_with_a_body(self) -> None:
        """A request whose body comes with it is delivered without asking, whatever the body."""
        self.remember(to(1, 1, b"body"))
        self.arrive(to(1))
        self.answer()
        self.arrive(to(1, 1, b"BODY"))
        self.assertEqual((self.got, self.policy.asked), (to(1) + to(1, 1, b"BODY"), []))
        self.answer()
        self.assertEqual((self.host.sent, self.policy.done), (2 * OK, 2))

    def test_with_a_part_of_a_body(self) -> None:
        """If only a part of the body comes with it, or more than the body, the policy is asked."""
        for data in (to(1, 1, b"body")[:-1], to(1, 1, b"body") + GET):
            self.make()
            self.remember(to(1, 1, b"body"))
            self.arrive(to(1))
            self.answer()
            self.arrive(data)
            self.assertEqual(self.policy.asked, [b"/1"])

    def test_while_another_is_open(self) -> None:
        """A known request waits its turn like any other."""
        self.remember(GET)
        self.arrive(to(1))
        self.arrive(GET)
        self.assertEqual(self.got, to(1))
        self.answer()
        self.assertEqual(self.got, to(1) + GET)

    def test_first(self) -> None:
        """A first request takes the short cut if it is known and came by its tag."""
        for how, told in ((How.TAG, []), (How.HIT, [True])):
            self.make()
            self.host.how = how
            self.remember(to(1))
            self.arrive(to(1))
            self.assertEqual((self.got, self.policy.first), (to(1), told))
            self.answer()
            self.arrive(to(3))
            self.assertEqual(self.host.departed, (3, to(3)))

    def test_first_by_address(self) -> None:
        """The first is delivered without asking if it is known by the address by which it came."""
        self.host.how = How.HASH
        self.remember(GET, how=How.HASH)
        self.arrive(GET)
        self.assertEqual((self.got, self.policy.first), (GET, []))

    def test_by_address(self) -> None:
        """A known request whose address decides is asked about unless this address leads here."""
        for hosts, asked in (
            ({"192.0.2.7": KEEP[How.HASH]}, []),
            ({"192.0.2.7": Give(3, How.HASH)}, [b"/"]),
            ({"192.0.2.8": KEEP[How.HASH]}, [b"/"]),
        ):
            self.make()
            self.policy.hosts = hosts
            self.remember(GET, how=How.HASH)
            self.arrive(to(1))
            self.answer()
            self.arrive(GET)
            self.assertEqual((self.got, self.policy.asked), (to(1) + GET, asked))

    def test_given(self) -> None:
        """A request known to be another worker's leaves without asking, with what follows it."""
        self.policy.given[to(3, 7)] = Give(3, How.TAG)
        self.arrive(to(1))
        self.answer()
        self.arrive(to(3, 7) + GET)
        self.assertEqual((self.host.departed, self.policy.asked), ((3, to(3, 7) + GET), []))
        self.assertIs(self.host.how, How.TAG)

    def test_given_at_first(self) -> None:
        """A first request stays, whatever is known of it: it was routed here."""
        self.policy.given[to(3)] = Give(3, How.TAG)
        self.arrive(to(3))
        self.assertEqual((self.got, self.host.departed), (to(3), None))

    def test_given_behind_another(self) -> None:
        """A known request of another worker waits until the one before is answered."""
        self.policy.given[to(3)] = Give(3, How.TAG)
        self.arrive(to(1))
        self.arrive(to(3))
        self.assertIsNone(self.host.departed)
        self.answer()
        self.assertEqual(self.host.departed, (3, to(3)))

    def test_behind_the_close(self) -> None:
        """A known request is not delivered to a protocol that has closed."""
        self.remember(GET)
        self.arrive(to(1))
        self.answer()
        self.host.buffered = 1
        self.close()
        self.gate.arrived(GET)
        self.assertEqual(self.got, to(1))

    def test_behind_half_a_head(self) -> None:
        """Behind half a head the bytes of a known request are not that request."""
        self.remember(GET)
        self.arrive(to(1))
        self.answer()
        half = b"POST /7 HTTP/1.1\r\nContent-Length: %d\r\nX: " % len(GET)
        self.arrive(half)
        self.arrive(GET)
        self.assertEqual(self.policy.asked, [b"/7"])
        self.assertEqual(self.got, to(1) + half + GET)

    @settings(deadline=None, max_examples=150)
    @given(
        steps=st.lists(
            st.sampled_from(
                [
                    *("get", "post", "half", "rest", "head", "body"),
                    *("both", "foreign", "answer", "part", "drain"),
                ]
            ),
            max_size=25,
        ),
        at_once=st.booleans(),
    )
    def test_the_same(self, steps: list[str], at_once: bool) -> None:
        """With and without the short cut every course of events comes to the same."""
        results = []
        for short in (False, True):
            self.make()
            if short:
                self.remember(GET, to(1, 1, b"body"))
                self.policy.given[to(3)] = Give(3, How.TAG)
            if at_once:
                self.host.react = lambda data: self.write(OK)
            for step in steps:
                self.step(step)
            results.append(
                (
                    self.got,
                    self.host.sent,
                    self.host.departed,
                    self.host.how,
                    self.policy.done,
                    self.host.reading,
                    self.gate.served,
                )
            )
        self.assertEqual(results[0], results[1])

    def step(self, step: str) -> None:
        """Have something happen, if it can."""
        data = {
            "get": GET,
            "post": to(1, 1, b"body"),
            "half": GET[:10],
            "rest": GET[10:],
            "head": to(1, 1, b"body")[:-4],
            "body": b"body",
            "both": to(1, 1, b"body") + GET,
            "foreign": to(3),
        }.get(step)
        if data is not None:
            if self.host.reading and self.host.live():
                self.arrive(data)
        elif step == "drain":
            self.policy.draining = True
            self.policy.known.clear()
            self.policy.given.clear()
            self.gate.drain()
        elif self.host.live() and self.gate.exchange.request_open:
            self.answer(OK if step == "answer" else OK.replace(b"200", b"404"))
