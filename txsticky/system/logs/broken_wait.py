"""
The end of a process whose reactor can no longer wait for anything.

An application that closes descriptors it does not own closes the one that the reactor waits with,
too. Twisted logs that and tries again, for ever and without a pause: a core is busy, the log fills,
and timers go on as if the process lived.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

#: What epoll_wait(2) says of a descriptor that is closed, or has become another.
_CANNOT_WAIT = frozenset({errno.EBADF, errno.EINVAL})
#: What Twisted logs the errors of its main loop as. Errors of what it calls are logged elsewhere.
_LOOP = ("twisted.internet.base", "Unexpected error in main loop")


@implementer(ILogObserver)
class BrokenWait:
    """
    Ends the process when its reactor says that it cannot wait.

    :param end: ends the process at once, with this exit code.
    """

    def __init__(self, end: Callable[[int], object] = os._exit) -> None:
        self._end = end

    def __call__(self, event: LogEvent) -> None:
        """Look at what is logged, after it was written."""
        if event.get("log_failure") is None or event.get("log_namespace") != _LOOP[0]:
            return
        error = event["log_failure"].value
        if (
            event.get("log_format") == _LOOP[1]
            and isinstance(error, OSError)
            and error.errno in _CANNOT_WAIT
        ):
            self._end(os.EX_OSERR)
