"""The numbers and defaults that processes of two versions agree on."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.messages.from_primary import FROM_PRIMARY, Boot, View
from txsticky.core.messages.from_worker import FROM_WORKER, ListeningLoad, Load, Ready


class KindTests(SynchronousTestCase):
    """The number of each kind of frame, which never changes."""

    def test_from_a_worker(self) -> None:
        """The kinds of frames of a worker have their numbers."""
        self.assertEqual(
            {number: kind.__name__ for number, kind in FROM_WORKER.items()},
            {
                2: "Ready",
                3: "Failed",
                4: "Load",
                6: "Bind",
                8: "Free",
                10: "Withdraw",
                12: "WantLog",
                13: "Publish",
                14: "Subscribe",
                15: "Unsubscribe",
                17: "Replace",
                20: "Deaf",
                31: "Resign",
                40: "Used",
                41: "Beat",
                42: "WantPeer",
                50: "Follow",
                51: "Reload",
            },
        )

    def test_from_the_primary(self) -> None:
        """The kinds of frames of the primary have their numbers."""
        self.assertEqual(
            {number: kind.__name__ for number, kind in FROM_PRIMARY.items()},
            {
                1: "Boot",
                5: "View",
                6: "Bound",
                7: "Confirmed",
                8: "Freed",
                9: "BeginDrain",
                11: "Withdrawn",
                12: "Rotate",
                16: "Message",
                18: "Lost",
                50: "Missed",
                51: "CaughtUp",
                52: "Outage",
                53: "Gap",
                19: "Accept",
                30: "Lead",
                41: "BoundAll",
            },
        )


class DefaultsTests(SynchronousTestCase):
    """The meaning of a frame that leaves fields out."""

    def test_load(self) -> None:
        """A worker that tells nothing does nothing."""
        self.assertEqual(attrs.astuple(Load()), (0, 0, 0.0, 0, 0, 0, 0, False, None))
        self.assertEqual(attrs.astuple(ListeningLoad()), (0, 0, [], []))

    def test_ready(self) -> None:
        """A worker that does not tell its protocol speaks the first."""
        self.assertEqual((Ready("web", True).sources, Ready("web", True).protocol), ([], 1))

    def test_older_ones(self) -> None:
        """A worker that does not tell cannot be appointed, and such a primary appoints none."""
        self.assertFalse(Ready("web", True).appointable)
        self.assertFalse(Ready("web", True).told)
        self.assertFalse(attrs.fields(Boot).appoints.default)

    def test_boot(self) -> None:
        """A primary that does not tell its protocol speaks the first, and has no access log."""
        fields = attrs.fields(Boot)
        self.assertEqual((fields.protocol.default, fields.access_log.default), (1, -1))

    def test_view(self) -> None:
        """A view of the pool tells nothing about bindings."""
        self.assertFalse(View(None).anew)


class MovedTests(SynchronousTestCase):
    """The first frame of a worker whose descriptors have come under other numbers."""

    BOOT = Boot(
        id=1,
        slot=1,
        generation=1,
        mailbox=0,
        front_desk=4,
        listeners=[["tcp:80", 5]],
        config={},
        secret="",
        pool=None,
        table_limit=1,
        table_ttl=1.0,
    )

    def test_moved(self) -> None:
        """The frame has the numbers that the descriptors have there, and the rest as it was."""
        boot = attrs.evolve(self.BOOT, access_log=0)
        moved = boot.moved({0: 10, 4: 14, 5: 15})
        expected = {"mailbox": 10, "front_desk": 14, "listeners": [["tcp:80", 15]]}
        self.assertEqual(moved, attrs.evolve(boot, access_log=10, **expected))

    def test_no_access_log(self) -> None:
        """A worker without an access log has none there."""
        self.assertEqual(self.BOOT.moved({0: 10, 4: 14, 5: 15}).access_log, -1)

    def test_in_words(self) -> None:
        """A primary that does not say how addresses are hashed hashes them as version 0.1.0 did."""
        self.assertIs(self.BOOT.in_words, False)
