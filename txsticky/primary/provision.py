"""
What root reads and opens for workers that run as another user: the keys of ``--tls-key`` and the
access log may be root's alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from ..config import Config
from ..system.logs.shared import SharedLog
from ..system.trust import Identity
from ..tls.certificates import read_files


class TakesLog(Protocol):
    """A worker, as far as it matters here."""

    def hand_log(self, descriptor: int) -> None:
        """Give it the access log, opened anew; the descriptor stays the caller's."""


class Provision:
    """
    What workers are given. Where they run as this process's own user it is nothing.

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

    def boot(self) -> dict[str, Any]:
        """What belongs into a worker's first frame."""
        return {"files": read_files(self._keys)}

    def rotate(self, workers: Iterable[TakesLog]) -> None:
        """Go over to a new access log, with these workers."""
        if self._log is not None and self._log.reopen():
            for worker in workers:
                worker.hand_log(self._log.descriptor)

    def close(self) -> None:
        """Close what is open here."""
        if self._log is not None:
            self._log.close()
