"""
What root reads and opens for workers that run as another user: the keys of ``--tls-key`` and the
access log may be root's alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...config import Config
from ...system.logs.shared import SharedLog
from ...system.trust import Identity
from ...tls.certificates import read_files


class TakesLog(Protocol):
    """A worker's mailbox, as far as provision has to do with it."""

    def hand_log(self, descriptor: int) -> None:
        """Put the access log in, opened anew; the descriptor stays the caller's."""


class Provision:
    """
    What workers are given; nothing where they run as this process's own user.

    :param config: names the files.
    :param identity: the user that workers are executed as, if it is another than this process's.
    """

    def __init__(self, config: Config, identity: Identity | None) -> None:
        self.identity = identity
        self._keys = (*config.tls_cert, *config.tls_key) if identity is not None else ()
        self._log: SharedLog | None = None
        if identity is not None and config.access_log not in (None, "-"):
            self._log = SharedLog(str(config.access_log), identity)

    def open(self) -> None:
        """
        Open the access log.

        :raises ConfigError: it cannot be opened.
        """
        if self._log is not None:
            self._log.open()

    @property
    def log(self) -> int:
        """The access log; -1 if workers open it themselves."""
        return self._log.descriptor if self._log is not None else -1

    def files(self) -> dict[str, str]:
        """The texts of files that workers may not read, by their names."""
        return read_files(self._keys)

    def rotate(self, mailboxes: Iterable[TakesLog]) -> None:
        """Open the access log anew, and give it to the workers of these mailboxes."""
        if self._log is not None and self._log.reopen():
            for mailbox in mailboxes:
                mailbox.hand_log(self._log.descriptor)

    def close(self) -> None:
        """Close what is open here."""
        if self._log is not None:
            self._log.close()
