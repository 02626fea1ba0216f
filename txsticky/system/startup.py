"""
The first things that the program does, before it imports what is not yet there.

The working directory leaves the path, and the standard streams are made fit for use.

Nothing is imported here that the interpreter has not imported by itself.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

#: The folder that this package is in.
HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def leave_working_folder() -> None:
    """
    Import nothing from the working directory.

    It is the application's, which the primary does not load, and with ``--user`` other users may
    write there.

    Where this package is in it, as in a checkout that is not installed, it stays.
    """
    try:
        here = os.getcwd()
    except OSError:
        return  # it is gone
    if here != HOME:
        sys.path[:] = [entry for entry in sys.path if entry not in ("", ".", here)]


def hold_signals() -> None:
    """
    Keep signals that may come to all processes from ending a program without handlers.

    The program takes them when it has its handlers (`upgrade.execute.take_signals`).
    """
    import signal  # not before the working directory has left the path

    names = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.Signals[name] for name in names})


class _Tolerant(io.FileIO):
    """A stream on which writing never fails: what cannot be written is dropped."""

    def write(self, data: object) -> int:
        """Write, or drop it: a full disk and a reader that has gone are no reason to fail."""
        try:
            written = super().write(data)  # type: ignore[arg-type]
        except OSError:
            written = None
        return len(memoryview(data)) if written is None else written  # type: ignore[arg-type]


def mend_streams() -> None:
    """
    Make the standard streams fit for use, whatever they are.

    One that is closed becomes the null device: its number would otherwise go to the next file or
    connection. And no error in writing to one reaches the program or its exit code.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or (_number(stream) == number and not _is_tolerant(stream)):
            setattr(sys, name, _tolerant(number, stream))


def _tolerant(number: int, old: io.TextIOWrapper | None) -> io.TextIOWrapper:
    flush_streams()
    return io.TextIOWrapper(
        io.BufferedWriter(_Tolerant(number, "w", closefd=False)),
        encoding=getattr(old, "encoding", None),
        errors="backslashreplace",
        line_buffering=number == 2 or getattr(old, "line_buffering", False),
        write_through=getattr(old, "write_through", False),
    )


def _number(stream: object) -> int:
    """The descriptor of a stream; -1 if it has none."""
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return -1


def _is_tolerant(stream: object) -> bool:
    return isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _Tolerant)


def flush_streams() -> None:
    """Write out what the standard streams still hold, as far as that can be."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # there is none; it cannot be written to; it is closed


def tell_operator(sentence: str, stream: TextIO | None = None) -> None:
    """
    Print why the program ends, behind all that the standard streams hold.

    :param sentence: the reason, for the operator.
    :param stream: where to; by default standard error.
    """
    flush_streams()
    try:
        print(f"txsticky: {sentence}", file=stream or sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # it cannot be written to, or is closed
