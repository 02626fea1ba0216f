"""What /proc says of the processes of a cluster (Linux)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

_WORKER = re.compile(r"txsticky: worker (\d+)")
#: How much longer than on a machine of its own anything may take on one that is busy.
SLACK = 4


@frozen
class Process:
    """One process: `title` is its command line, `slot` its worker number (0: not a worker)."""

    pid: int
    parent: int
    started: int
    title: str

    @property
    def slot(self) -> int:
        found = _WORKER.match(self.title)
        return int(found[1]) if found else 0


def of_session(session: int) -> list[Process]:
    """All living processes of a session, oldest first; zombies do not count."""
    found = []
    for name in os.listdir("/proc"):
        try:
            # Tests ask this again and again: of the others no file is read.
            if not name.isdecimal() or os.getsid(int(name)) != session:
                continue
            folder = Path("/proc", name)
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent, started = fields[0], fields[1], fields[19]
        if state not in "ZX":
            title = words.decode(errors="replace").strip()
            found.append(Process(int(name), int(parent), int(started), title))
    return sorted(found, key=lambda process: (process.started, process.pid))


def descriptors(pid: int) -> int:
    """How many descriptors the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid: int) -> int:
    """The process's resident set, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu(pid: int) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(fact: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Waits until the fact is true. Raises AssertionError when it is not so in time.

    :param seconds: that it takes at most where nothing else runs; SLACK times as many are waited.
    """
    end = time.monotonic() + SLACK * seconds
    while not fact():
        if time.monotonic() > end:
            raise AssertionError(f"not so after {SLACK * seconds:g} s: {what or fact}")
        time.sleep(0.02)
