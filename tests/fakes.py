"""
Fakes for tests.

There is a reactor that moves only when it is told to, and an operating system whose processes are
played by the test.
"""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet import error, main
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsticky.system.system import System
from txsticky.system.trust import Identity

log = Logger()

_IN = select.POLLIN | select.POLLHUP | select.POLLERR


class FakeReactor(Clock):
    """
    A reactor without a loop of its own.

    Time moves by `advance`, as in `twisted.internet.task.Clock`. Descriptors are real, and `turn`
    looks at them once, without waiting, and calls their owners as a reactor does; so what a test
    does to real sockets comes in an order that the test decides.

    :ivar readers: the selectables that wait for input, in the order in which they came.
    :ivar writers: the selectables that wait for room for output, likewise.
    :ivar triggers: what `addSystemEventTrigger` was given: (phase, event, callable, arguments).
    :ivar running: whether `stop` has not been called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[Any, None] = {}
        self.writers: dict[Any, None] = {}
        self.triggers: list[tuple[str, str, Callable[..., Any], tuple[Any, ...]]] = []
        self.running = True

    # ------------------------------------------------------------ IReactorFDSet

    def addReader(self, reader: Any) -> None:
        """Begin to watch for input."""
        self.readers[reader] = None

    def removeReader(self, reader: Any) -> None:
        """Watch for input no more."""
        self.readers.pop(reader, None)

    def addWriter(self, writer: Any) -> None:
        """Begin to watch for room for output."""
        self.writers[writer] = None

    def removeWriter(self, writer: Any) -> None:
        """Watch for room for output no more."""
        self.writers.pop(writer, None)

    def getReaders(self) -> list[Any]:
        """List the selectables that wait for input."""
        return list(self.readers)

    def getWriters(self) -> list[Any]:
        """List the selectables that wait for room for output."""
        return list(self.writers)

    def removeAll(self) -> list[Any]:
        """Stop watching; returns the selectables that were watched."""
        watched = list({**self.readers, **self.writers})
        self.readers.clear()
        self.writers.clear()
        return watched

    # -------------------------------------------------------------- IReactorTime

    def callLater(self, delay: float, what: Callable[..., object], *args: Any, **kw: Any) -> Any:
        """
        Call after some time.

        :raises AssertionError: that time is before now, which a real reactor refuses as well.
        """
        assert delay >= 0, f"{delay} is before now"
        return super().callLater(delay, what, *args, **kw)

    # -------------------------------------------------------------- IReactorCore

    def callWhenRunning(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call at once: it runs."""
        action(*args, **kwargs)

    def callFromThread(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call at the next turn."""
        self.callLater(0, action, *args, **kwargs)

    def addSystemEventTrigger(
        self, phase: str, event: str, action: Callable[..., Any], *args: Any
    ) -> None:
        """Write it down in `triggers`."""
        self.triggers.append((phase, event, action, args))

    def stop(self) -> None:
        """
        Run no more.

        :raises error.ReactorNotRunning: it was stopped before.
        """
        if not self.running:
            raise error.ReactorNotRunning("it was stopped before")
        self.running = False

    # ------------------------------------------------------------------- moving

    def turn(self) -> int:
        """
        Do what a reactor does in one turn: the calls that are due, then input and output.

        :returns: how many calls and descriptors there were.
        :raises AssertionError: a watched descriptor is closed, which a real reactor cannot mend.
        """
        due = [call for call in self.getDelayedCalls() if call.getTime() <= self.seconds()]
        self.advance(0)
        watched: dict[int, Any] = {}
        poll = select.poll()
        for selectable in {**self.readers, **self.writers}:
            descriptor = selectable.fileno()
            assert descriptor >= 0, f"{selectable} was closed while it was watched"
            assert descriptor not in watched, f"{selectable} and {watched[descriptor]} are one"
            watched[descriptor] = selectable
            poll.register(
                descriptor,
                (select.POLLIN if selectable in self.readers else 0)
                | (select.POLLOUT if selectable in self.writers else 0),
            )
        ready = poll.poll(0)
        for descriptor, event in ready:
            assert not event & select.POLLNVAL, f"{watched[descriptor]} has a closed descriptor"
            self._act(watched[descriptor], event)
        return len(due) + len(ready)

    def settle(self, turns: int = 1000) -> None:
        """
        Turn until nothing more happens by itself.

        :raises AssertionError: that was not within so many turns: a selectable spins.
        """
        for _ in range(turns):
            if not self.turn():
                return
        raise AssertionError(f"no rest after {turns} turns: {self.readers} {self.writers}")

    def _act(self, selectable: Any, event: int) -> None:
        for actor, watched, happened in (
            (lambda: selectable.doRead(), self.readers, event & _IN),
            (lambda: selectable.doWrite(), self.writers, event & ~select.POLLIN),
        ):
            if not happened or selectable not in watched:
                continue
            try:
                why = actor()
            except Exception as raised:
                log.failure("{selectable} failed", selectable=selectable)
                why = raised
            if why is not None:
                self._disconnectSelectable(selectable, why, watched is self.readers)

    def _disconnectSelectable(self, selectable: Any, why: BaseException, isRead: bool) -> None:
        """End a connection for a reason, as the reactors of Twisted do."""
        self.removeReader(selectable)
        if isRead and why.__class__ is error.ConnectionDone:
            half_close = getattr(selectable, "readConnectionLost", None)
            if half_close is not None:
                half_close(Failure(main.CONNECTION_DONE))
                return
        self.removeWriter(selectable)
        selectable.connectionLost(Failure(why))


class FakeProcess:
    """
    A child process that the test plays (see `txsticky.system.process.Process`).

    :ivar arguments: what it was started with.
    :ivar environ: what was added to its environment.
    :ivar inherited: its own copies of the descriptors that it inherited, by their numbers in the
        parent.
    :ivar signals: the signals that it got.
    :ivar identity: the user that it is executed as, if it is another than the parent's.
    """

    def __init__(
        self,
        pid: int,
        arguments: Sequence[str],
        descriptors: Sequence[int],
        environ: Mapping[str, str],
        said: Callable[[str], None],
        exited: Callable[[int], None],
        output: int = -1,
    ) -> None:
        self.pid = pid
        self.arguments = list(arguments)
        self.environ = dict(environ)
        self.inherited = {number: os.dup(number) for number in descriptors}
        self.signals: list[int] = []
        self.identity: Identity | None = None
        self.say = said
        self._output = output
        self._exited = exited

    def send_signal(self, number: int) -> None:
        """Write the signal down; nothing else happens."""
        self.signals.append(number)

    @property
    def output(self) -> int:
        """The reading end of a pipe that stays empty."""
        if self._output < 0:
            self._output = os.open(os.devnull, os.O_RDONLY)
        return self._output

    def socket(self, number: int) -> socket.socket:
        """Take an inherited socket, by its number in the parent."""
        return socket.socket(fileno=self.inherited.pop(number))

    def exit(self, status: int) -> None:
        """End: as the kernel does, close what was inherited and not taken, then tell the parent."""
        self.close()
        self._exited(status)

    def close(self) -> None:
        """Close what was inherited and not taken."""
        while self.inherited:
            os.close(self.inherited.popitem()[1])
        if self._output >= 0:
            os.close(self._output)
            self._output = -1


@attrs.define
class FakeSystem(System):
    """
    A `System` on a `FakeReactor`, with its clock, and with chance that repeats itself.

    :ivar processes: what was spawned.
    :ivar refusing: what `spawn` raises, or None.
    """

    reactor: FakeReactor = attrs.field(factory=FakeReactor)
    clock: Callable[[], float] = attrs.field(
        default=attrs.Factory(lambda self: self.reactor.seconds, takes_self=True)
    )
    rng: random.Random = attrs.field(factory=lambda: random.Random(0))
    processes: list[FakeProcess] = attrs.field(factory=list)
    refusing: Exception | None = None

    def spawn(  # type: ignore[override]
        self,
        arguments: Sequence[str],
        descriptors: Sequence[int],
        environ: Mapping[str, str],
        said: Callable[[str], None],
        exited: Callable[[int], None],
        identity: Identity | None = None,
    ) -> FakeProcess:
        """Start a process that the test plays."""
        if self.refusing is not None:
            raise self.refusing
        pid = 1001 + len(self.processes)
        process = FakeProcess(pid, arguments, descriptors, environ, said, exited)
        process.identity = identity
        self.processes.append(process)
        return process

    def watch(  # type: ignore[override]
        self,
        pid: int,
        output: int,
        said: Callable[[str], None],
        exited: Callable[[int], None],
    ) -> FakeProcess:
        """Take up a process that the test plays; it is a new object, with the same pid."""
        process = FakeProcess(pid, (), (), {}, said, exited, output)
        self.processes.append(process)
        return process

    def random_bytes(self, size: int) -> bytes:
        """Bytes that repeat themselves."""
        return self.rng.randbytes(size)
