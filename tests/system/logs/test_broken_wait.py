"""The end of a process whose reactor can no longer wait."""

from __future__ import annotations

import errno
import os

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.system.cases import ProcessCase
from txsticky.system.logs.broken_wait import BrokenWait


class BrokenWaitTests(SynchronousTestCase):
    """What ends the process."""

    def ended(
        self,
        error: Exception,
        namespace: str = "twisted.internet.base",
        text: str = "Unexpected error in main loop",
    ) -> list[int]:
        """The exit codes with which it is ended when this is logged."""
        codes: list[int] = []
        log = Logger(namespace=namespace, observer=BrokenWait(codes.append))
        log.failure(text, Failure(error))
        log.info(text)
        return codes

    def test_cannot_wait(self) -> None:
        """A reactor that cannot wait ends it."""
        for number in (errno.EBADF, errno.EINVAL):
            self.assertEqual(self.ended(OSError(number, "")), [os.EX_OSERR])

    def test_other_errors(self) -> None:
        """No other error of the loop does, nor what is logged elsewhere."""
        self.assertEqual(self.ended(OSError(errno.ENOMEM, "")), [])
        self.assertEqual(self.ended(ValueError()), [])
        self.assertEqual(self.ended(OSError(errno.EBADF, ""), namespace="app"), [])
        self.assertEqual(self.ended(OSError(errno.EBADF, ""), text="other"), [])


class ReactorTests(ProcessCase):
    """Twisted's own reactor."""

    def test_epoll(self) -> None:
        """A process whose epoll descriptor is closed, or another, ends, and has told why."""
        acts = ("os.close(fd)", "os.dup2(0, fd)")
        for act in acts:
            self.run_child(
                "import os, sys\n"
                "from twisted.internet import epollreactor; epollreactor.install()\n"
                "from twisted.internet import reactor\n"
                "from twisted.logger import globalLogBeginner\n"
                "from txsticky.system.logs.broken_wait import BrokenWait\n"
                "def end(code):\n"
                "    print(code, flush=True)\n"
                "    os._exit(0)\n"
                "observers = [lambda event: None, BrokenWait(end)]\n"
                "globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)\n"
                "fd = reactor._poller.fileno()\n"
                f"reactor.callWhenRunning(lambda: {act})\n"
                "reactor.run()\n"
            )
        self.assertEqual(self.said, [str(os.EX_OSERR)] * len(acts))
