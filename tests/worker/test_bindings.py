"""The bindings: made here, learnt from the primary, confirmed, and what waits for that."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from tests.worker.cases import view
from txsticky.core.messages.from_worker import Bind, Free
from txsticky.core.routing.table import KEY_LIMIT
from txsticky.errors import ChannelFull, KeyTooLong
from txsticky.worker.bindings import Bindings, Expiry


class BindingsCase(SynchronousTestCase):
    """The bindings of worker 2."""

    def setUp(self) -> None:
        self.changed = mock.Mock()
        self.view = view(self.changed)
        self.channel: Any = mock.Mock(full=False, connected=True, waiting=0)
        self.bindings = Bindings(self.view, self.channel, lambda: 0.0)

    def sent(self) -> list[object]:
        """What the primary was told."""
        return [call.args[0] for call in self.channel.send.call_args_list]


class BindTests(BindingsCase):
    """Keys that the application binds."""

    def test_told(self) -> None:
        """A key that is bound is known here at once, and told."""
        self.bindings.bind(b"key")
        self.assertEqual(self.view.table.find(b"key", 0.0), 2)
        self.assertEqual((self.sent(), self.changed.call_count), ([Bind(b"key")], 1))

    def test_too_long(self) -> None:
        """A key that is too long is a ValueError that says how long it may be, and goes nowhere."""
        longest = b"k" * KEY_LIMIT
        self.bindings.bind(longest)
        error = self.assertRaises(KeyTooLong, self.bindings.bind, longest + b"k")
        self.assertIn(f"{KEY_LIMIT + 1} bytes is too long", str(error))
        self.assertIsInstance(error, ValueError)
        self.bindings.free(longest + b"k")
        self.assertEqual((self.sent(), len(self.view.table)), ([Bind(longest)], 1))
        self.assertEqual(self.bindings.unconfirmed, 1)

    def test_primary_does_not_read(self) -> None:
        """While the channel is full a key is not bound, and one that is freed is not told."""
        self.channel.full = True
        self.assertRaises(ChannelFull, self.bindings.bind, b"key")
        self.bindings.free(b"key")
        self.assertEqual((self.sent(), self.bindings.unconfirmed), ([], 0))

    def test_primary_is_gone(self) -> None:
        """Without a primary a binding is confirmed at once."""
        self.channel.connected = False
        self.assertIsNone(self.successResultOf(self.bindings.bind(b"key")))
        self.assertEqual((self.sent(), self.bindings.unconfirmed), ([], 0))

    def test_confirmed(self) -> None:
        """The Deferreds fire in order, as the primary confirms."""
        first, second = self.bindings.bind(b"1"), self.bindings.bind(b"2")
        self.bindings.confirmed()
        self.assertIsNone(self.successResultOf(first))
        self.assertNoResult(second)
        self.bindings.confirmed()
        self.assertIsNone(self.successResultOf(second))

    def test_canceled(self) -> None:
        """A Deferred that is canceled confuses nothing."""
        canceled, other = self.bindings.bind(b"1"), self.bindings.bind(b"2")
        canceled.addErrback(lambda failure: None)
        canceled.cancel()
        self.bindings.confirmed()
        self.bindings.confirmed()
        self.assertIsNone(self.successResultOf(other))
        self.assertEqual(self.bindings.unconfirmed, 0)

    def test_free(self) -> None:
        """A key that is freed is forgotten here, and told."""
        self.bindings.bind(b"key")
        self.bindings.free(b"key")
        self.assertEqual((len(self.view.table), self.changed.call_count), (0, 2))
        self.assertEqual(self.sent(), [Bind(b"key"), Free(b"key")])

    def test_learn(self) -> None:
        """A binding of another worker is taken in, and told nowhere."""
        self.bindings.learn(b"key", 3)
        self.assertEqual((self.view.table.find(b"key", 0.0), self.sent()), (3, []))

    def test_learn_all(self) -> None:
        """Many bindings of another worker are taken in together."""
        self.bindings.learn_all([b"a", b"b"], 3)
        self.assertEqual([self.view.table.find(key, 0.0) for key in (b"a", b"b")], [3, 3])


class ConfirmTests(BindingsCase):
    """Waiting for bindings."""

    def bind(self, number: int) -> None:
        """Make so many bindings."""
        for _ in range(number):
            self.bindings.bind(b"key")

    def test_nothing_to_wait_for(self) -> None:
        """With nothing unconfirmed, an action is called at once."""
        action = mock.Mock()
        self.bindings.when_confirmed(action)
        self.assertEqual(action.call_count, 1)

    def test_all(self) -> None:
        """Actions are called in order, once, when all bindings are confirmed."""
        order: list[int] = []
        self.bind(2)
        for number in range(3):
            self.bindings.when_confirmed(lambda number=number: order.append(number))
        self.bindings.confirmed()
        self.assertEqual(order, [])
        self.bindings.confirmed()
        self.assertEqual(order, [0, 1, 2])

    def test_action_that_fails(self) -> None:
        """An action that fails keeps no other waiting."""
        self.bind(1)
        after = mock.Mock()
        self.bindings.when_confirmed(mock.Mock(side_effect=ZeroDivisionError))
        self.bindings.when_confirmed(after)
        self.bindings.confirmed()
        self.assertEqual(after.call_count, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_more_meanwhile(self) -> None:
        """An action that waits for a binding that is made meanwhile waits for that binding."""
        order = []

        def first() -> None:
            order.append("first")
            self.bind(1)
            self.bindings.when_confirmed(lambda: order.append("second"))

        self.bind(1)
        self.bindings.when_confirmed(first)
        self.bindings.confirmed()
        self.assertEqual(order, ["first"])
        self.bindings.confirmed()
        self.assertEqual(order, ["first", "second"])

    def test_orphaned(self) -> None:
        """When the primary is gone, everything counts as confirmed."""
        done = self.bindings.bind(b"key")
        action = mock.Mock()
        self.bindings.when_confirmed(action)
        self.bindings.orphaned()
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual((action.call_count, self.bindings.unconfirmed), (1, 0))


class ExpiryTests(SynchronousTestCase):
    """When worker 2 frees keys by itself."""

    def setUp(self) -> None:
        self.system = FakeSystem()
        self.reactor = self.system.reactor
        self.view = view()
        self.freed: list[tuple[bytes, float]] = []
        self.expiry = Expiry(self.view, self.free, self.system)

    def free(self, key: bytes) -> None:
        """Note which key was freed, and when."""
        self.freed.append((key, self.reactor.seconds()))

    def set(self, key: bytes, seconds: float | None, owner: int = 2) -> None:
        """Have a key that is bound to a worker end after some time."""
        self.view.bind(key, owner, self.reactor.seconds())
        self.expiry.set(key, seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        for _ in range(round(seconds * 8)):
            self.reactor.advance(0.125)

    def test_end(self) -> None:
        """A key is freed when its time is over."""
        self.set(b"key", 5.0)
        self.wait(20.0)
        self.assertEqual(self.freed, [(b"key", 5.0)])

    def test_sooner(self) -> None:
        """A key that ends before those that were set is freed in time, and so are they."""
        self.set(b"late", 9.0)
        self.wait(1.0)
        self.set(b"early", 3.0)
        self.wait(20.0)
        self.assertEqual(self.freed, [(b"early", 4.0), (b"late", 9.0)])

    def test_later(self) -> None:
        """A key that is set shortly before another ends does not put that one off."""
        self.set(b"first", 1.5)
        self.wait(1.0)
        self.set(b"second", 9.0)
        self.wait(20.0)
        self.assertEqual(self.freed, [(b"first", 1.5), (b"second", 10.0)])

    def test_after_the_last(self) -> None:
        """A key that is set when no other is left is freed as well."""
        self.set(b"first", 2.0)
        self.wait(4.0)
        self.set(b"second", 2.0)
        self.wait(20.0)
        self.assertEqual(self.freed, [(b"first", 2.0), (b"second", 6.0)])

    def test_at_most_each_second(self) -> None:
        """Keys that end within a second are freed together at its end: each look costs."""
        self.set(b"a", 0.25)
        self.set(b"b", 0.5)
        self.wait(20.0)
        self.assertEqual(self.freed, [(b"a", 1.0), (b"b", 1.0)])

    def test_no_end(self) -> None:
        """A key that does not end by itself is not freed, whatever was said of it before."""
        self.set(b"key", None)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.set(b"other", 5.0)
        self.set(b"other", None)
        self.wait(20.0)
        self.assertEqual(self.freed, [])

    def test_of_another_worker(self) -> None:
        """A key that another worker has bound since is not this worker's to free."""
        self.set(b"key", 5.0)
        self.view.bind(b"key", 3, 1.0)
        self.wait(20.0)
        self.assertEqual(self.freed, [])
