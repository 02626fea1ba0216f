"""What the primary and a template agree on, whichever version either is of."""

from __future__ import annotations

import os
import socket

import attrs
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.messages.forks import (
    FORK_LIMIT,
    FROM_TEMPLATE,
    MOST_DESCRIPTORS,
    TO_TEMPLATE,
    Forked,
    Prepare,
    Prepared,
    Unforked,
    Unprepared,
)


class KindTests(SynchronousTestCase):
    """The number of each kind of frame, which never changes."""

    def test_to_a_template(self) -> None:
        """The kinds of frames that a template gets have their numbers."""
        kinds = {number: kind.__name__ for number, kind in TO_TEMPLATE.items()}
        self.assertEqual(kinds, {1: "Prepare", 2: "Fork"})

    def test_from_a_template(self) -> None:
        """The kinds of frames that a template sends have their numbers."""
        self.assertEqual(
            {number: kind.__name__ for number, kind in FROM_TEMPLATE.items()},
            {1: "Prepared", 2: "Unprepared", 3: "Forked", 4: "Unforked"},
        )


class DefaultsTests(SynchronousTestCase):
    """The meaning of a frame that leaves fields out."""

    def test_prepare(self) -> None:
        """A template that is told the configuration alone imports no application."""
        told = attrs.astuple(Prepare.of(b'{"config":{}}'))
        self.assertEqual(told, ({}, "auto", False, {}))

    def test_prepared(self) -> None:
        """A template that does not tell has no application, and speaks the first protocol."""
        self.assertEqual(attrs.astuple(Prepared.of(b"{}")), (False, 1))

    def test_read(self) -> None:
        """The pid of a worker, and why there is none, come as they were sent."""
        for frame in (Forked(7), Unforked("why"), Unprepared()):
            self.assertEqual(type(frame).of(frame.body()), frame)


class LimitTests(SynchronousTestCase):
    """What one message has room for."""

    def test_bytes(self) -> None:
        """Both ends make room for frames of 64 KiB."""
        self.assertEqual(FORK_LIMIT, 65536)

    def test_descriptors(self) -> None:
        """The kernel takes as many descriptors with one message as are meant, and no more."""
        here, there = socket.socketpair()
        self.addCleanup(here.close)
        self.addCleanup(there.close)
        one = here.fileno()
        socket.send_fds(here, [b"x"], [one] * MOST_DESCRIPTORS)
        _, got, _, _ = socket.recv_fds(there, 1, MOST_DESCRIPTORS)
        for descriptor in got:
            os.close(descriptor)
        self.assertEqual(len(got), MOST_DESCRIPTORS)
        more = [one] * (MOST_DESCRIPTORS + 1)
        self.assertRaises(OSError, socket.send_fds, here, [b"x"], more)
