"""What the service manager is told."""

from __future__ import annotations

import os
import socket
import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsticky.system.systemd import Notifier, watchdog_interval


class NotifyCase(SynchronousTestCase):
    """A fake service manager."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.setblocking(False)
        directory = tempfile.TemporaryDirectory()  # short: a path has 107 bytes at most
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "notify")

    def notifier(self, address: str | None = None, **environ: str) -> Notifier:
        """Listen at the address, the path by default, and make a notifier that knows it."""
        address = address or self.path
        self.manager.bind("\0" + address[1:] if address[0] == "@" else address)
        return Notifier(self.clock, {"NOTIFY_SOCKET": address, **environ}, lambda: 12.345678)

    def heard(self) -> list[bytes]:
        """The datagrams that have come."""
        messages = []
        while True:
            try:
                messages.append(self.manager.recv(4096))
            except BlockingIOError:
                return messages


class MessageTests(NotifyCase):
    """The messages of sd_notify(3)."""

    def test_ready(self) -> None:
        """A program that is ready says READY=1."""
        self.notifier().ready()
        self.assertEqual(self.heard(), [b"READY=1"])

    def test_ready_with_status(self) -> None:
        """A status goes along in the same datagram."""
        self.notifier().ready("Two workers serve.")
        self.assertEqual(self.heard(), [b"READY=1\nSTATUS=Two workers serve."])

    def test_reloading(self) -> None:
        """RELOADING=1 carries the monotonic time in microseconds, as Type=notify-reload demands."""
        self.notifier().reloading()
        self.assertEqual(self.heard(), [b"RELOADING=1\nMONOTONIC_USEC=12345678"])

    def test_stopping(self) -> None:
        """A program that stops says STOPPING=1."""
        self.notifier().stopping()
        self.assertEqual(self.heard(), [b"STOPPING=1"])

    def test_status(self) -> None:
        """A status is STATUS alone; it cannot smuggle another line in."""
        self.notifier().status("one\nREADY=1 \udce9")
        self.assertEqual(self.heard(), [b"STATUS=one READY=1 ?"])

    def test_abstract(self) -> None:
        """A name that begins with @ is in the abstract namespace (unix(7))."""
        self.notifier(f"@txsticky-test-{os.getpid()}").ready()
        self.assertEqual(self.heard(), [b"READY=1"])


class NobodyTests(SynchronousTestCase):
    """No service manager, or none that listens."""

    def say_all(self, environ: dict[str, str]) -> None:
        """Use every method."""
        notifier = Notifier(Clock(), environ)
        notifier.ready("x")
        notifier.reloading()
        notifier.status("x")
        notifier.stopping()
        notifier.close()

    def test_without_the_variable(self) -> None:
        """Without NOTIFY_SOCKET nothing happens, not even a watchdog."""
        clock = Clock()
        notifier = Notifier(clock, {"WATCHDOG_USEC": "1000000"})
        notifier.ready()
        self.assertEqual(clock.getDelayedCalls(), [])
        self.say_all({})
        self.say_all({"NOTIFY_SOCKET": ""})

    def test_bad_address(self) -> None:
        """An address that leads nowhere, is too long or of another kind raises nothing."""
        for address in ("/nonexistent/socket", "/x" * 200, "vsock:2:1234", "@", "relative"):
            self.say_all({"NOTIFY_SOCKET": address})


class BusyTests(NotifyCase):
    """A service manager that does not read."""

    def test_full(self) -> None:
        """When its queue is full the message is dropped; the program goes on."""
        notifier = self.notifier()
        for _ in range(3000):
            notifier.status("x")
        self.assertLess(len(self.heard()), 3000)


class WatchdogTests(NotifyCase):
    """WATCHDOG=1 in time."""

    def test_half_of_the_limit(self) -> None:
        """The watchdog is fed at half of the limit, from READY on."""
        notifier = self.notifier(WATCHDOG_USEC="4000000")
        self.clock.advance(10)
        self.assertEqual(self.heard(), [])
        notifier.ready()
        self.clock.pump([1.0] * 4)
        self.assertEqual(self.heard(), [b"READY=1", *[b"WATCHDOG=1"] * 3])

    def test_ready_again(self) -> None:
        """READY after a reload does not feed the watchdog twice."""
        notifier = self.notifier(WATCHDOG_USEC="4000000")
        notifier.ready()
        notifier.ready()
        self.assertEqual(self.heard().count(b"WATCHDOG=1"), 1)

    def test_close(self) -> None:
        """After close the watchdog is fed no longer, and no delayed call is left."""
        notifier = self.notifier(WATCHDOG_USEC="4000000")
        notifier.ready()
        notifier.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_interval(self) -> None:
        """The limit counts if it is a number and meant for this process."""
        for environ, interval in (
            ({"WATCHDOG_USEC": "3000000"}, 1.5),
            ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "42"}, 1.5),
            ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "43"}, 0.0),
            ({"WATCHDOG_USEC": "often"}, 0.0),
            ({"WATCHDOG_USEC": ""}, 0.0),
            ({}, 0.0),
        ):
            self.assertEqual(watchdog_interval(environ, 42), interval, environ)
