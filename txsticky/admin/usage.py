"""What processes use, as the system tells in /proc (Linux; elsewhere nothing is known)."""

from __future__ import annotations

import os
import resource

import attrs

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen
class Usage:
    """
    What a process uses.

    :param memory: its resident set, in bytes.
    :param cpu: processor time so far, of user and system, in seconds.
    """

    memory: int
    cpu: float


def usage_of(pid: int) -> Usage | None:
    """Read what a process uses (proc(5), /proc/pid/stat); None if it cannot be known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # What follows the name, which may itself contain anything: field 3, the state, and on.
            fields = stat.read().rpartition(b")")[2].split()
        user, system, pages = int(fields[11]), int(fields[12]), int(fields[21])
    except (OSError, ValueError, IndexError):
        return None
    return Usage(pages * _PAGE, (user + system) / _TICKS)


def proportional_memory(pid: int) -> int | None:
    """
    Read the proportional set of a process, in bytes: of what several share, each has its part.

    The kernel walks through all of the process's memory for that, which takes some milliseconds
    (proc(5), /proc/pid/smaps_rollup; only the same user and root may look).
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            for line in rollup:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return None


def open_descriptors() -> int | None:
    """How many descriptors this process has open; None if it cannot be known."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # less the one that lists them
    except OSError:
        return None


def descriptor_limit() -> int:
    """How many descriptors this process may have (getrlimit(2))."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
