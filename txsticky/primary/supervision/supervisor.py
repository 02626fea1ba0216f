"""The supervisor: a thin shell that gives the fleet its clock, its log and its hands."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Container
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

from ...core.lifecycle.fleet import Fleet
from ...core.lifecycle.states import (
    MOST_WORKERS,
    Effect,
    Ended,
    Kill,
    Phase,
    Reloading,
    Retire,
    Say,
    Spawn,
)
from ...core.lifecycle.turns import Turns
from .heartbeats import Heartbeats


class Hands(Protocol):
    """What the supervisor cannot do itself."""

    def spawn(self, id: int, slot: int, generation: int) -> None:
        """
        Start a worker process.

        :raises Exception: it cannot be started; then nothing of it is left, and no exit follows.
        """

    def retire(self, id: int, seconds: float, final: bool) -> None:
        """Route nothing new to a worker and tell it to finish within so many seconds."""

    def kill(self, id: int, hard: bool) -> None:
        """Send a worker SIGKILL if `hard`, else SIGQUIT."""

    def suspect(self, id: int, flag: bool) -> None:
        """Let new connections avoid a worker, or no longer."""


class Supervisor:
    """
    Keeps the workers running.  Methods take what happened; the hands get what is to be done.

    :param fleet: the machine that decides; the supervisor alone speaks to it.
    :param hands: do what the fleet decides.
    :param clock: tells the time, in seconds, and calls at a time.
    :param log: gets the fleet's sentences.
    :param ended: called with (exit code, reason) when no worker is left and none will come.
    :param worker_timeout: seconds without a `heartbeat` after which a worker that was ready is
        killed; 0 = never.
    :param reloading: called with True when a rolling reload begins, with False when it is over.
    :param wary: whether silent workers are suspect even if they are never killed.
    :param settled: whether a worker of a generation can be started now; if not, `go_on` is to be
        called when one can be.
    :param at_a_time: how many workers may be starting at a time.
    """

    def __init__(
        self,
        fleet: Fleet,
        hands: Hands,
        clock: IReactorTime,
        log: Logger,
        *,
        ended: Callable[[int, str], object],
        reloading: Callable[[bool], object],
        worker_timeout: float = 30.0,
        wary: bool = False,
        settled: Callable[[int], bool] = lambda generation: True,
        at_a_time: int = MOST_WORKERS,
    ) -> None:
        self.fleet = fleet
        self._hands = hands
        self._clock = clock
        self._log = log
        self._ended = ended
        self._reloading = reloading
        self._queue: deque[Effect] = deque()
        self._busy = False
        self._timer: IDelayedCall | None = None
        self._heartbeats = Heartbeats(clock, worker_timeout, wary, hands.suspect, self._silent)
        self._waiting: list[Deferred[None]] = []
        self._settled = settled
        self._turns = Turns(at_a_time)
        self._over = False

    def expects(self, seconds: float) -> bool:
        """Whether a worker may get ready within so many seconds, though none may be now."""
        soon = self._now() + seconds
        return self.fleet.phase is Phase.RUNNING and any(
            slot.due is None or slot.due <= soon for slot in self.fleet.slots.values()
        )

    # --------------------------------------------------------------------- from the operator

    def start(self) -> None:
        """Start the workers."""
        self._heartbeats.start()
        self._run(self.fleet.start(self._now()))
        self.go_on()

    def reload(self) -> None:
        """Replace the workers one by one, each only when its successor is ready."""
        self._run(self.fleet.reload(self._now()))

    def scale(self, delta: int) -> None:
        """Run so many workers more or, if negative, less; one stays."""
        self._run(self.fleet.scale(delta, self._now()))

    def drain(self, id: int) -> None:
        """Replace one worker."""
        self._run(self.fleet.drain(id, self._now()))

    def stop(self, graceful: bool) -> Deferred[None]:
        """
        End the workers.  A second call hurries.

        :param graceful: let them finish what they hold.
        :returns: fires when all have gone.
        """
        gone = self.gone()
        if not self._over:
            self._run(self.fleet.stop(graceful, self._now()))
        return gone

    def gone(self) -> Deferred[None]:
        """Wait until no worker is left and none will come."""
        if self._over:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        return gone

    # ---------------------------------------------------------------------- from the workers

    def ready(self, id: int) -> None:
        """Take in that a worker's application is started: from now on it gives signs of life."""
        self._heartbeats.expect(id)
        self._run(self.fleet.ready(id, self._now()))

    def resume(self, id: int) -> None:
        """Expect signs of life of a worker that was ready before this program began."""
        self._heartbeats.expect(id)

    def hold(self, there: Container[int]) -> None:
        """
        Start, at `start`, the workers that the program before had not started yet.

        :param there: the ids of those that it had.
        """
        for worker in self.fleet.instances.values():
            if worker.id not in there:
                self._turns.add(Spawn(worker.id, worker.slot, worker.generation))

    def load_failed(self, id: int, reason: str) -> None:
        """Take in that a worker's application does not load."""
        self._run(self.fleet.load_failed(id, reason, self._now()))

    def retire_request(self, id: int) -> None:
        """Replace a worker, as it asks."""
        self._run(self.fleet.retire_request(id, self._now()))

    def heartbeat(self, id: int, takes: bool = True) -> None:
        """
        A worker has given a sign of life.

        :param takes: whether the worker takes what waits for it; if not, it counts as silent.
        """
        self._heartbeats.beat(id, takes)

    def leaving(self, id: int) -> None:
        """Take in that a worker shuts down: it gives no more signs of life."""
        self._heartbeats.forget(id)
        self._run(self.fleet.leaving(id, self._now()))

    def exited(self, id: int, status: int) -> None:
        """
        A worker's process has ended.  Tell what it had said before (`load_failed`) first.

        :param status: its exit code, or the negative number of the signal that ended it.
        """
        self._heartbeats.forget(id)
        self._run(self.fleet.exited(id, status, self._now()))

    # ------------------------------------------------------------------------------- effects

    def _run(self, effects: list[Effect]) -> None:
        """Bring effects about, one after the other even if one of them causes more."""
        self._queue.extend(effects)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue or self._start_next():
                if self._queue:
                    self._perform(self._queue.popleft())
        finally:
            self._busy = False
        self._schedule()

    def _perform(self, effect: Effect) -> None:
        try:
            match effect:
                case Spawn():
                    self._turns.add(effect)
                case Retire(id, seconds, final):
                    self._hands.retire(id, seconds, final)
                case Kill(id) if id in self._turns:
                    self._turns.drop(id)
                    self._run(self.fleet.exited(id, -signal.SIGKILL, self._now()))
                case Kill(id, hard):
                    self._hands.kill(id, hard)
                case Reloading(under_way):
                    self._reloading(under_way)
                case Say(level, text, fields):
                    self._log.emit(LogLevel.levelWithName(level), text, **fields)
                case Ended(exit_code, reason):
                    self._finish(exit_code, reason)
        except Exception:
            # The fleet's deadlines see to it that a worker which missed this is killed.
            self._log.failure("{effect} failed.", effect=effect)

    def go_on(self) -> None:
        """Start those workers that can be started now."""
        self._run([])

    def _start_next(self) -> bool:
        """
        Start one of the workers that are to be started, if it can be now.

        :returns: whether one was started, or could not be.
        """
        try:
            spawn = self._turns.next(self.fleet.starting, self._settled, self.fleet.queue)
        except Exception:
            self._log.failure("A worker could not be started.")
            return False
        if spawn is not None:
            self._spawn(spawn.id, spawn.slot, spawn.generation)
        return spawn is not None

    def _spawn(self, id: int, slot: int, generation: int) -> None:
        try:
            self._hands.spawn(id, slot, generation)
        except Exception as error:
            reason = f"its process cannot be started: {error}"
            self._run(self.fleet.not_spawned(id, reason, self._now()))
        else:
            self.fleet.begun(id, self._now())

    def _finish(self, exit_code: int, reason: str) -> None:
        self._over = True
        self._heartbeats.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._ended(exit_code, reason)
        while self._waiting:
            self._waiting.pop(0).callback(None)

    # ---------------------------------------------------------------------------------- time

    def _now(self) -> float:
        return self._clock.seconds()

    def _schedule(self) -> None:
        """Have the fleet's next tick at the time that it wants."""
        wake = self.fleet.wake()
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() == wake:
                return
            self._timer.cancel()
        self._timer = None
        if wake is not None:
            self._timer = self._clock.callLater(max(0.0, wake - self._now()), self._due)

    def _due(self) -> None:
        """
        Do what is due, in the next turn of the reactor.

        A reactor calls this before it looks at its descriptors, so a primary that was itself held
        up takes in first what the workers have said meanwhile.
        """
        self._timer = self._clock.callLater(0, self._tick)

    def _tick(self) -> None:
        self._run(self.fleet.tick(self._now()))

    def _silent(self, id: int, takes: bool) -> None:
        self._run(self.fleet.silent(id, self._now(), takes=takes))
