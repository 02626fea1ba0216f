"""The supervisor: a thin shell that gives the fleet its clock, its log and its hands."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

from ..core.lifecycle.fleet import Fleet
from ..core.lifecycle.states import Effect, Ended, Kill, Phase, Reloading, Retire, Say, Spawn

#: A worker that was silent for this many seconds, or for half of the worker timeout, is suspect.
SUSPECT_AFTER: Final = 2.0
#: Seconds between two looks at the signs of life, at most; a quarter of the worker timeout.
LOOK_EVERY: Final = 1.0


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

    def ended(self, exit_code: int, reason: str) -> None:
        """No worker is left and none will come."""


class Supervisor:
    """
    Keeps the workers running.  Methods take what happened; the hands get what is to be done.

    :param fleet: the machine that decides; this object alone speaks to it.
    :param worker_timeout: seconds without a `heartbeat` after which a worker that was ready is
        killed; 0 = never.
    :param reloading: called with True when a rolling reload begins, with False when it is over.
    :param wary: whether the silent are suspect even if they are never killed.
    """

    def __init__(
        self,
        fleet: Fleet,
        hands: Hands,
        clock: IReactorTime,
        log: Logger,
        worker_timeout: float = 30.0,
        reloading: Callable[[bool], object] = lambda under_way: None,
        wary: bool = False,
    ) -> None:
        self.fleet = fleet
        self._hands = hands
        self._clock = clock
        self._log = log
        self._timeout = worker_timeout
        self._looks = wary or worker_timeout > 0
        self._period = min(LOOK_EVERY, worker_timeout / 4 or LOOK_EVERY)
        self._suspect_after = min(SUSPECT_AFTER, worker_timeout / 2 or SUSPECT_AFTER)
        self._reloading = reloading
        self._queue: deque[Effect] = deque()
        self._busy = False
        self._timer: IDelayedCall | None = None
        self._look_timer: IDelayedCall | None = None
        self._look_due = 0.0
        self._heard: dict[int, float] = {}
        self._suspects: set[int] = set()
        self._stuck: set[int] = set()
        self._waiting: list[Deferred[None]] = []
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
        if self._looks:
            self._look_later()
        self._run(self.fleet.start(self._now()))

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
        if self._over:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._waiting.append(stopped)
        self._run(self.fleet.stop(graceful, self._now()))
        return stopped

    # ---------------------------------------------------------------------- from the workers

    def ready(self, id: int) -> None:
        """A worker's application is started; from now on it has to give signs of life."""
        self._heard[id] = self._now()
        self._run(self.fleet.ready(id, self._now()))

    def resume(self, id: int) -> None:
        """A worker that was ready before this program began goes on giving signs of life."""
        self._heard[id] = self._now()

    def load_failed(self, id: int, reason: str) -> None:
        """A worker says that its application does not load."""
        self._run(self.fleet.load_failed(id, reason, self._now()))

    def retire_request(self, id: int) -> None:
        """A worker asks to be replaced."""
        self._run(self.fleet.retire_request(id, self._now()))

    def heartbeat(self, id: int, takes: bool = True) -> None:
        """
        A worker has given a sign of life.

        :param takes: whether it takes what waits for it; if not, it is as good as silent.
        """
        (self._stuck.discard if takes else self._stuck.add)(id)
        if takes and id in self._heard:
            self._heard[id] = self._now()
            if id in self._suspects:
                self._suspects.remove(id)
                self._hands.suspect(id, False)

    def leaving(self, id: int) -> None:
        """A worker serves no more and shuts down, and gives no more signs of life."""
        self._heard.pop(id, None)
        self._suspects.discard(id)
        self._run(self.fleet.leaving(id, self._now()))

    def exited(self, id: int, status: int) -> None:
        """
        A worker's process has ended.  Tell what it had said before (`load_failed`) first.

        :param status: its exit code, or the negative number of the signal that ended it.
        """
        self._heard.pop(id, None)
        self._suspects.discard(id)
        self._stuck.discard(id)
        self._run(self.fleet.exited(id, status, self._now()))

    # ------------------------------------------------------------------------------- effects

    def _run(self, effects: list[Effect]) -> None:
        """Bring effects about, one after the other even if one of them causes more."""
        self._queue.extend(effects)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                self._perform(self._queue.popleft())
        finally:
            self._busy = False
        self._schedule()

    def _perform(self, effect: Effect) -> None:
        try:
            match effect:
                case Spawn(id, slot, generation):
                    self._spawn(id, slot, generation)
                case Retire(id, seconds, final):
                    self._hands.retire(id, seconds, final)
                case Kill(id, hard):
                    self._hands.kill(id, hard)
                case Reloading(under_way):
                    self._reloading(under_way)
                case Say(level, text, fields):
                    self._log.emit(LogLevel.levelWithName(level), text, **fields)
                case Ended(exit_code, reason):
                    self._ended(exit_code, reason)
        except Exception:
            # The fleet's deadlines see to it that a worker which missed this is killed.
            self._log.failure("{effect} failed.", effect=effect)

    def _spawn(self, id: int, slot: int, generation: int) -> None:
        try:
            self._hands.spawn(id, slot, generation)
        except Exception as error:
            reason = f"its process cannot be started: {error}"
            self._run(self.fleet.not_spawned(id, reason, self._now()))

    def _ended(self, exit_code: int, reason: str) -> None:
        self._over = True
        for timer in (self._timer, self._look_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._hands.ended(exit_code, reason)
        waiting, self._waiting = self._waiting, []
        for stopped in waiting:
            stopped.callback(None)

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
        Something is due.  A reactor calls this before it looks at its descriptors, so a primary
        that was itself held up takes in first what the workers have said meanwhile.
        """
        self._timer = self._clock.callLater(0, self._tick)

    def _tick(self) -> None:
        self._run(self.fleet.tick(self._now()))

    # -------------------------------------------------------------------------- signs of life

    def _look_later(self) -> None:
        self._look_due = self._now() + self._period
        self._look_timer = self._clock.callLater(self._period, self._look)

    def _look(self) -> None:
        """Kill the silent, suspect those who may become so."""
        now = self._now()
        self._excuse(now)
        self._look_later()
        for id, heard in list(self._heard.items()):
            silence = now - heard
            if self._timeout and silence >= self._timeout:
                self._run(self.fleet.silent(id, now, takes=id not in self._stuck))
            elif silence >= self._suspect_after and id not in self._suspects:
                self._suspects.add(id)
                self._hands.suspect(id, True)

    def _excuse(self, now: float) -> None:
        """Do not hold against the workers a time when the primary itself did not run."""
        late = now - self._look_due
        if late > self._period:
            for id, heard in self._heard.items():
                self._heard[id] = min(now, heard + late)
