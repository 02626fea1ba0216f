"""Clients that have closed their sending side."""

from __future__ import annotations

from tests.transport.cases import CONTINUE, GET, OK, SWITCHING, UPGRADE, GateCase, to
from txsticky.transport.half_close import HALF_CLOSE_GRACE


class HalfCloseTests(GateCase):
    """A client that has closed its sending side."""

    def test_answered_first(self) -> None:
        """A request that is wholly here is answered; then the connection is closed."""
        self.arrive(to(1))
        self.assertFalse(self.end())
        self.assertFalse(self.host.lost)
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_whole_response(self) -> None:
        """The connection is closed behind the last byte of the response, once that is sent."""
        self.arrive(to(1))
        self.end()
        self.host.buffered = 100
        self.answer(OK[:-1])
        self.assertFalse(self.host.closing)
        self.answer(OK[-1:])
        self.assertEqual((self.host.closing, self.host.lost), (True, False))
        self.host.drained()
        self.assertTrue(self.host.lost)

    def test_nothing_owed(self) -> None:
        """Where nothing is owed the connection is lost at once."""
        self.assertTrue(self.end())

    def test_idle(self) -> None:
        """Between two requests the connection is lost at once."""
        self.arrive(to(1))
        self.answer()
        self.assertTrue(self.end())

    def test_half_a_head(self) -> None:
        """Half a head is never answered."""
        self.arrive(to(1)[:10])
        self.assertTrue(self.end())

    def test_half_a_body(self) -> None:
        """The protocol that waits for the rest of a body hears that none will come."""
        self.arrive(to(1, 1, b"body")[:-1])
        self.assertTrue(self.end())

    def test_pipelined(self) -> None:
        """All requests that are wholly here are answered."""
        self.arrive(to(1, 1) + to(1, 2))
        self.assertFalse(self.end())
        self.answer()
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (2 * OK, True))

    def test_request_and_a_half(self) -> None:
        """Half a head behind the last request does not keep the connection open."""
        self.arrive(to(1, 1) + to(1, 2)[:10])
        self.assertFalse(self.end())
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_request_and_half_a_body(self) -> None:
        """Half a body does not keep the connection open; what was answered before is sent."""
        self.arrive(to(1, 1) + to(1, 2, b"body")[:-1])
        self.assertFalse(self.end())
        self.host.buffered = 100
        self.answer()
        self.assertEqual((self.host.closing, self.host.lost), (True, False))
        self.host.drained()
        self.assertTrue(self.host.lost)

    def test_pipelined_foreign(self) -> None:
        """A foreign request that is wholly here takes the connection along."""
        self.arrive(to(1, 1) + to(3, 2))
        self.end()
        self.answer()
        self.assertEqual((self.host.sent, self.host.departed), (OK, (3, to(3, 2))))

    def test_draining(self) -> None:
        """While the worker leaves the connection is closed, not given away: no more will come."""
        self.arrive(to(1))
        self.end()
        self.policy.draining = True
        self.answer()
        self.assertEqual((self.host.lost, self.host.departed), (True, None))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, step by step."""
        self.clock.pump([0.025] * round(seconds / 0.025))

    def test_still_there(self) -> None:
        """A client that waits is asked whether it is there, ever more seldom, and is answered."""
        self.arrive(to(1))
        self.end()
        self.pass_time(HALF_CLOSE_GRACE / 2 - 0.1)
        self.assertEqual(self.host.sent, b"")
        self.pass_time(0.2)
        self.assertEqual(self.host.sent, CONTINUE)
        self.pass_time(20 * HALF_CLOSE_GRACE)
        self.assertEqual((self.host.sent, self.host.lost), (6 * CONTINUE, False))
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (6 * CONTINUE + OK, True))

    def test_gone(self) -> None:
        """The protocol hears of a client that has gone as soon as a reset answers the question."""
        self.arrive(to(1))
        self.end()
        self.pass_time(HALF_CLOSE_GRACE / 2 + 0.05)
        self.assertEqual((self.host.sent, self.host.lost), (CONTINUE, False))
        self.host.reset = True
        self.pass_time(HALF_CLOSE_GRACE / 16)
        self.assertTrue(self.host.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_known_to_be_gone(self) -> None:
        """A client whom the kernel knows to have gone is not waited for."""
        self.arrive(to(1))
        self.host.reset = True
        self.assertTrue(self.end())

    def test_not_asked(self) -> None:
        """A client of HTTP/1.0 cannot be asked: if nothing is written for a while, it has left."""
        self.arrive(GET.replace(b"1.1", b"1.0"))
        self.end()
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.assertEqual((self.host.sent, self.host.lost), (b"", False))
        self.pass_time(0.2)
        self.assertTrue(self.host.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_when(self) -> None:
        """A quarter of the grace lies between two looks, and a 32nd between question and look."""
        self.arrive(to(1))
        self.end()
        looks: list[float] = []
        self.host.severed = lambda: bool(looks.append(self.clock.seconds()))  # type: ignore[method-assign]
        self.clock.pump([HALF_CLOSE_GRACE / 64] * 64)
        self.assertEqual([look / HALF_CLOSE_GRACE * 32 for look in looks], [8, 16, 17, 25, 26])

    def test_counted_anew(self) -> None:
        """The time of silence begins when all that was written has left."""
        self.arrive(GET.replace(b"1.1", b"1.0"))
        self.end()
        self.host.buffered = 10
        self.clock.advance(HALF_CLOSE_GRACE / 4)
        self.host.buffered = 0
        self.clock.pump([HALF_CLOSE_GRACE / 64] * 63)
        self.assertFalse(self.host.lost)
        self.clock.advance(HALF_CLOSE_GRACE / 64)
        self.assertTrue(self.host.lost)

    def test_not_asked_in_a_response(self) -> None:
        """A client whose response has begun is not asked."""
        self.arrive(to(1))
        self.end()
        self.answer(b"HTTP/1.1 200")
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.assertEqual((self.host.sent, self.host.lost), (b"HTTP/1.1 200", False))

    def test_slow_answer(self) -> None:
        """A response that goes on may take its time, and so may a client that reads slowly."""
        self.arrive(to(1))
        self.end()
        self.answer(OK[:-2])
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.answer(OK[-2:-1])
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.host.buffered = 100
        self.pass_time(5 * HALF_CLOSE_GRACE)
        self.assertFalse(self.host.lost)
        self.host.buffered = 0
        self.answer(OK[-1:])
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_withheld(self) -> None:
        """A client whose response waits for a binding is not taken for gone."""
        self.arrive(to(1))
        self.policy.unconfirmed = 1
        self.end()
        self.answer(OK[:-1])
        self.pass_time(3 * HALF_CLOSE_GRACE)
        self.assertFalse(self.host.lost)
        self.policy.confirm()
        self.answer(OK[-1:])
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_silent_stream(self) -> None:
        """A stream that has begun and then is silent hears of its client as well."""
        self.arrive(to(1))
        self.end()
        self.answer(OK[:-1])
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.assertFalse(self.host.lost)
        self.pass_time(HALF_CLOSE_GRACE / 4 + 0.2)
        self.assertTrue(self.host.lost)

    def test_unsent(self) -> None:
        """A response that was written but is not in the kernel is sent."""
        self.arrive(to(1))
        self.host.buffered = 100
        self.answer()
        self.assertFalse(self.end())
        self.assertEqual((self.host.closing, self.host.lost), (True, False))

    def test_protocol_closes(self) -> None:
        """If the protocol closes by itself behind its response, that is that."""
        self.arrive(to(1))
        self.end()
        self.write(OK)
        self.close()
        self.clock.advance(10 * HALF_CLOSE_GRACE)
        self.assertTrue(self.host.lost)

    def test_paused(self) -> None:
        """A request that waits for a paused protocol is delivered and answered."""
        self.arrive(to(1, 1))
        self.host.react = lambda data: self.gate.pause()
        self.answer()
        self.arrive(to(1, 2) + to(1, 3))
        self.write(OK)
        self.assertEqual(self.got, to(1, 1) + to(1, 2))
        self.assertFalse(self.gate.ended())
        self.turn()
        self.gate.resume()
        self.turn()
        self.assertEqual(self.got, to(1, 1) + to(1, 2) + to(1, 3))
        self.gate.resume()
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (3 * OK, True))

    def test_upgrade(self) -> None:
        """A client that closes its side behind an upgrade gets the 101, and then the end."""
        self.arrive(UPGRADE)
        self.end()
        self.answer(SWITCHING)
        self.assertEqual((self.host.sent, self.host.lost), (SWITCHING, True))
