"""A worker that is none."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

import txsticky
from tests.test_readme import ROOT, blocks
from txsticky import api
from txsticky.errors import BusOverrun, KeyTooLong, MessageTooLarge
from txsticky.testing import FakeWorker


class FakeWorkerTests(SynchronousTestCase):
    """A fake worker behaves as a worker does, and keeps what it is asked."""

    def setUp(self) -> None:
        self.worker = self.enterContext(FakeWorker(id=7, slot=2, workers=3))

    @property
    def here(self) -> api.Here:
        """The worker, as the application asks for it."""
        here = txsticky.current()
        assert here is not None
        return here

    def test_within(self) -> None:
        """Within a fake worker there is a worker; outside there is what was before."""
        self.assertIs(self.here, self.worker.here)
        with FakeWorker() as other:
            self.assertIs(self.here, other.here)
        self.assertIs(self.here, self.worker.here)

    def test_who(self) -> None:
        """A fake worker has an id, a number, and others beside it."""
        self.assertEqual((self.here.id, self.here.slot), (7, 2))
        pool = [(member["id"], member["slot"], member["state"]) for member in self.here.pool()]
        self.assertEqual(pool, [(8, 1, "ready"), (7, 2, "ready"), (9, 3, "ready")])

    def test_tags(self) -> None:
        """A fake worker mints ids that name it."""
        self.assertEqual(self.here.owner(self.here.mint("a")), 7)
        self.assertIsNone(self.here.owner("a"))

    def test_bindings(self) -> None:
        """A fake worker binds keys, which the test sees, and frees them; a bad key is refused."""
        self.successResultOf(self.here.bind("one"))
        self.successResultOf(self.here.bind(b"two"))
        self.here.free("one")
        self.assertEqual(self.worker.bound, {b"two"})
        self.assertRaises(KeyTooLong, self.here.bind, "x" * 5000)

    def test_bus(self) -> None:
        """What is published is kept, and reaches those that listen here, in order."""
        got: list[bytes] = []

        def heard(message: bytes) -> None:
            got.append(message)
            if message == b"1":
                self.here.publish("t", b"2")
                got.append(b"published")

        end = self.here.subscribe("t", heard)
        self.here.publish("t", b"1")
        self.here.publish("u", b"x")
        self.assertEqual(got, [b"1", b"published", b"2"])
        self.assertEqual(self.worker.published, [("t", b"1"), ("t", b"2"), ("u", b"x")])
        end()
        self.here.publish("t", b"3")
        self.assertEqual(len(got), 3)

    def test_from_others(self) -> None:
        """Messages come from other workers, or are lost on the way."""
        got: list[Any] = []
        self.here.subscribe("t", got.append, got.append)
        self.worker.deliver("t", b"hello")
        self.worker.lose("t", 5)
        self.assertEqual((got, self.worker.published), ([b"hello", 5], []))

    def test_outage(self) -> None:
        """Messages stay on this machine; those of others may be missing."""
        got: list[Any] = []
        self.here.subscribe("t", got.append, gap=lambda *times: got.append(times))
        self.worker.cut_off(5.0)
        self.assertEqual(self.here.outage, 5.0)
        self.worker.cut_off(None)
        self.worker.miss(5.0, 6.0)
        self.assertEqual((self.here.outage, got), (None, [(5.0, 6.0)]))

    def test_refusals(self) -> None:
        """The bus refuses what it refuses in a worker, and when the test has it full."""
        self.assertRaises(MessageTooLarge, self.here.publish, "t", bytes(api.MESSAGE_LIMIT))
        self.worker.overrun = True
        self.assertRaises(BusOverrun, self.here.publish, "t", b"")
        self.assertEqual(self.worker.published, [])

    def test_leader(self) -> None:
        """A fake worker leads when it is told to, again and again, and no longer than the test."""
        done: list[str] = []
        self.patch(api, "_duties", [])
        with FakeWorker() as worker:
            txsticky.on_leader(lambda: done.append("start"), lambda: done.append("stop"))
            self.assertEqual((worker.here.leader, done), (False, []))
            worker.lead()
            self.assertEqual((worker.here.leader, done), (True, ["start"]))
            worker.resign()
            self.assertEqual((worker.here.leader, done), (False, ["start", "stop"]))
            worker.lead()
        self.assertEqual(done, ["start", "stop"] * 2)

    def test_embedding(self) -> None:
        """What docs/embedding.rst shows in a worker runs here."""
        page = (ROOT / "docs" / "embedding.rst").read_text()
        (text,) = [t for kind, t in blocks(page) if kind == "python" and "here.mint" in t]
        with mock.patch("builtins.print") as printed:
            exec(text, names := {"print": printed})
        self.assertEqual(self.here.owner(names["session_id"]), 7)
        printed.assert_called_once_with(b"one more")

    def test_the_rest(self) -> None:
        """A fake worker keeps what is left for WebSockets, and counts reloads it is asked for."""
        self.here.leave("3", "at 92")
        self.assertTrue(self.here.reload())
        self.assertEqual((self.worker.left, self.worker.reloads), ({3: b"at 92"}, 1))
