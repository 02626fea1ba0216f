"""
An access log that only root may write: the primary opens it, and hands it to the workers.

It does so where the workers' user may not write the folder.  Where that user may, a worker opens
the file itself: root would otherwise follow a link that this user has put there.
"""

from __future__ import annotations

import os
import stat

from twisted.logger import Logger

from ...errors import ConfigError
from ..trust import Identity

log = Logger()

#: Owner writes, group reads: the log names clients.
MODE = 0o640
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


def open_log(path: str, flags: int = os.O_CREAT) -> int:
    """
    Open an access log, to append to it.

    :param flags: further flags of open(2); by default it is made if it is missing.
    :raises ConfigError: it cannot be opened.
    """
    try:
        return os.open(path, _FLAGS | flags, MODE)
    except OSError as error:
        raise ConfigError(
            option="--access-log",
            value=path,
            hint=f"a file that can be written ({error.strerror})",
        ) from error


class SharedLog:
    """
    The access log, opened for workers that run as another user.

    :param path: its file.
    :param identity: that user.
    :ivar descriptor: what to hand over; -1 if the workers are to open it themselves.
    """

    def __init__(self, path: str, identity: Identity) -> None:
        self._path = os.path.abspath(path)
        self._identity = identity
        self.descriptor = -1

    def open(self) -> None:
        """
        Open the file, or go over to a new one of the same name.

        :raises ConfigError: it cannot be opened; what was open stays so.
        """
        others = self._identity.may_write(os.path.dirname(self._path))
        fresh = self._open_own() if others else open_log(self._path)
        self.close()
        self.descriptor = fresh

    def _open_own(self) -> int:
        """
        Open a file that is root's own in a folder where other users may write.

        :returns: its descriptor; -1 if it is none.
        """
        if self._identity.may_write(os.path.dirname(os.path.dirname(self._path))):
            return -1
        try:
            descriptor = os.open(self._path, _FLAGS | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return -1
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1:
            os.set_blocking(descriptor, True)
            return descriptor
        os.close(descriptor)
        return -1

    def reopen(self) -> bool:
        """
        Go over to a new file.

        :returns: whether it is to be handed to the workers.
        """
        try:
            self.open()
        except ConfigError as error:
            log.error("The old access log stays open: {error}", error=error)
            return False
        return self.descriptor >= 0

    def close(self) -> None:
        """Close the file in this process."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class HandedLog:
    """
    The access log in a worker, as the primary has opened it.

    :param descriptor: the file, open; owned from here on.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def take(self, descriptor: int) -> None:
        """Take a new file, which is owned from here on."""
        os.close(self._descriptor)
        self._descriptor = descriptor

    def open(self) -> int:
        """Return a descriptor of the file that came last, for the caller to close."""
        return os.dup(self._descriptor)
