"""The primary's side of a worker's mailbox, alone."""

from __future__ import annotations

import os
from unittest import mock

from tests.shells import ShellCase, no_descriptors_left, open_descriptors
from txsticky.errors import MailboxFull
from txsticky.ipc.mailbox import MailboxTransport, mailbox_pair
from txsticky.primary.supervision.worker_mailbox import WorkerMailbox


class MailboxCase(ShellCase):
    """
    Two mailboxes.

    :ivar crowded: whether hand-offs wait, as the first mailbox has told, in order.
    """

    limit = 0

    def setUp(self) -> None:
        super().setUp()
        self.crowded: list[bool] = []
        self.one, self.other = (
            WorkerMailbox(
                f"worker {n}", *mailbox_pair(), self.reactor, self.limit, self.crowded.append
            )
            for n in (1, 2)
        )
        self.boxes: list[MailboxTransport] = []

    def close(self) -> None:
        """Give both mailboxes up; nothing waits in either."""
        for mailbox in (self.one, self.other):
            self.assertEqual(mailbox.close(MailboxTransport.loseConnection), [])


class CopyTests(MailboxCase):
    """Descriptors of which a worker gets a copy."""

    def fill(self) -> None:
        """Have the first mailbox take nothing more."""
        with self.assertRaises(MailboxFull):
            while True:
                self.one.box.write(bytes(10_000))

    def test_no_descriptor(self) -> None:
        """An introduction for which there is no descriptor is dropped; nothing is raised."""
        with no_descriptors_left():
            self.one.introduce(2, self.other)
            self.one.share(self.fail)
        self.close()

    def test_no_room(self) -> None:
        """An introduction for which there is no room is dropped, and leaves nothing open."""
        self.fill()
        before = open_descriptors()
        self.one.introduce(2, self.other)
        self.assertEqual(open_descriptors(), before)
        self.close()

    def test_no_room_for_a_log(self) -> None:
        """An access log for which there is no room is dropped, and that is said."""
        self.fill()
        before = open_descriptors()
        with mock.patch("txsticky.primary.supervision.worker_mailbox.log") as log:
            self.one.hand_log(0)
        self.assertEqual(log.error.call_args.kwargs, {"worker": "worker 1"})
        self.assertEqual(open_descriptors(), before)
        self.close()


class CloseTests(MailboxCase):
    """The end of a worker."""

    limit = 100

    def test_left_behind(self) -> None:
        """A mailbox that is closed gives up what waits in it, in order, and its reading end."""
        for number in range(2000):
            self.one.hand(os.dup(0), b"%d" % number + bytes(2000))
            if self.one.box.queued == 3:
                break
        self.assertEqual(self.crowded, [True])
        waiting = self.one.close(self.boxes.append)
        self.assertEqual(
            [int(m.rstrip(b"\0")) for _, m in waiting], [number - 2, number - 1, number]
        )
        for descriptor, _ in waiting:
            os.close(descriptor)
        (box,) = self.boxes
        box.protocol = protocol = mock.Mock()
        protocol.fileDescriptorReceived = os.close
        while box.read_one():
            pass
        self.assertEqual(protocol.dataReceived.call_count, number - 2)
        self.assertTrue(box.is_closed())
        self.other.close(MailboxTransport.loseConnection)
