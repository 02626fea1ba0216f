"""What of a mailbox is lost, and what is said of it."""

from __future__ import annotations

import os
from unittest import mock

from tests.ipc.cases import MailboxCase
from tests.shells import no_descriptors_left
from txsticky.ipc.mailbox import MailboxTransport


class LostDescriptorTests(MailboxCase):
    """A message comes without its descriptor, for this process has no more."""

    def lose(self, times: int = 1) -> None:
        """Lose so many descriptors."""
        for _ in range(times):
            self.send(b"lost")
            with no_descriptors_left():
                self.receiver.read_one()

    def test_looks_for_room(self) -> None:
        """Once a descriptor was lost there has to be room before the next is taken."""
        self.lose()
        self.receiver._headroom.ceiling = 0
        self.send(b"next")
        self.receiver.doRead()
        self.assertEqual((self.receiver.resting, self.reader.got), (True, []))

    def test_logged(self) -> None:
        """The log tells the first, the second, the fourth loss and so on, not each of thousands."""
        with mock.patch.object(MailboxTransport, "_log") as log:
            self.lose(7)
        self.assertEqual([call.kwargs["lost"] for call in log.error.call_args_list], [1, 2, 4])


class EndTests(MailboxCase):
    """The other end is gone."""

    def test_waiting(self) -> None:
        """Descriptors that wait are closed; messages without one are let go."""
        self.fill()
        descriptor, _ = self.send(b"with")
        self.sender.write(b"without")
        queued = self.sender.queue
        self.assertEqual(queued[-2:], [(descriptor, b"with"), (-1, b"without")])
        self.receiver.loseConnection()
        self.assertFalse(self.sender.read_one())
        self.assertTrue(self.sender.is_closed())
        self.assertRaises(OSError, os.fstat, descriptor)

    def test_nothing_to_take(self) -> None:
        """There is nothing to take of an empty mailbox, nor of a closed one."""
        self.assertFalse(self.receiver.read_one())
        self.receiver.loseConnection()
        self.assertFalse(self.receiver.read_one())
