"""The workers as the primary has them: the supervisor's hands, and what becomes of each worker."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from ...bus.hub import Bus
from ...core.lifecycle.timing import SILENT
from ...core.messages.frames import Frame
from ...core.messages.from_primary import BeginDrain, Rotate
from ...core.messages.from_worker import Ready
from ...core.routing.pool import MemberState, Pool
from ...system.system import System
from ..beginning import Beginning
from ..listeners import Listeners
from ..replicas.replication import Replication
from ..upgrade.packing import Descriptors
from .spawner import Spawner
from .suspicion import CROWDED, MUTE, Suspicions
from .worker_handle import WorkerHandle


class Workers:
    """
    A handle for each worker whose process has not ended (`supervisor.Hands`, `HandleOwner`).

    :param system: the operating system.
    :param pool: the workers as the router sees them.
    :param spawner: starts the processes.
    :param suspicions: what is held against the workers.
    :param replication: keeps the replicas of the workers that are ready.
    :param beginning: until it is over, the workers do not accept.
    :param listeners: accept where no worker does.
    :param queue_limit: hand-offs that may wait here for each worker whose mailbox is full.
    :param handles: the workers' handles by their ids, empty; only this object changes it.
    :param heard: called with a handle and each frame from its worker.
    :param bus: told which workers leave, and to which nothing is routed any more.
    :param leaving: called with the id of a worker that serves no more, though nothing told it to.
    :param exited: called with a handle and how its process ended; nothing else has the handle then.
    :ivar spawner: as it was given.
    :ivar exits: how often workers ended, by exit code or the negative number of a signal.
    """

    def __init__(
        self,
        system: System,
        pool: Pool,
        spawner: Spawner,
        suspicions: Suspicions,
        replication: Replication,
        beginning: Beginning,
        listeners: Listeners,
        queue_limit: int,
        handles: dict[int, WorkerHandle],
        *,
        heard: Callable[[WorkerHandle, Frame], None],
        bus: Bus,
        leaving: Callable[[int], object],
        exited: Callable[[WorkerHandle, int], object],
    ) -> None:
        self._system = system
        self._pool = pool
        self.spawner = spawner
        self._replication = replication
        self._beginning = beginning
        self._listeners = listeners
        self._queue_limit = queue_limit
        self._bus = bus
        self._leaving = leaving
        self._exited = exited
        self._last_calls: dict[int, IDelayedCall] = {}
        self.heard = heard
        self.suspicions = suspicions
        self.handles = handles
        self.exits: Counter[int] = Counter()

    # --------------------------------------------------- hands of the supervisor

    def spawn(self, id: int, slot: int, generation: int) -> None:
        """
        Start a worker.

        :raises OSError: its process cannot be started; nothing of it is left then.
        """
        handle = self._make(id, slot, generation)
        self._pool.add(id, slot)
        try:
            self.spawner.start(handle)
        except BaseException:
            self._pool.set_gone(id)
            raise
        self.handles[id] = handle

    def _make(self, id: int, slot: int, generation: int) -> WorkerHandle:
        return WorkerHandle(self._system, self, id, slot, generation, self._queue_limit)

    def retire(self, id: int, seconds: float, final: bool) -> None:
        """Route nothing new to a worker, and tell it to finish and leave."""
        handle = self.handles.get(id)
        if handle is not None:
            self._pool.set_draining(id)
            self._replication.tell_pool(id)
            self._bus.remember(id)
            handle.channel.send(BeginDrain(seconds, final))
            self.attend()

    def kill(self, id: int, hard: bool) -> None:
        """End a worker's process: with SIGKILL if `hard`, else with SIGQUIT."""
        handle = self.handles.get(id)
        if handle is not None:
            handle.send_signal(signal.SIGKILL if hard else signal.SIGQUIT)

    def suspect(self, id: int, flag: bool, why: str = MUTE) -> None:
        """Let new connections avoid a worker, or no longer."""
        self.suspicions.set(id, flag, why)

    # --------------------------------------------------- from one stage to the next

    def ready(self, handle: WorkerHandle, frame: Ready, done: Callable[[], object]) -> None:
        """
        Have a worker get connections, as soon as it has the table.

        :param frame: what it said of itself.
        :param done: called when it gets them.
        """

        def joined() -> None:
            self._pool.set_ready(handle.id)
            if frame.moves:
                self._pool.let_move(handle.id)
            if frame.told:
                self._bus.outages.join(handle.id, handle.channel, handle.started)
            self._replication.tell_pool(handle.id)
            self.attend()
            done()

        handle.ready = True
        self._replication.join(handle, frame.told, joined)

    def has_ready(self, generation: int) -> bool:
        """Whether a worker of this generation is ready."""
        return any(each.ready and each.generation == generation for each in self.handles.values())

    def attend(self) -> None:
        """
        Have the ready workers accept, once connections are routed.

        The primary accepts in place of all other workers, and beside those that are suspect.
        """
        if self._beginning.under_way:
            return
        slots = set()
        for handle in self.handles.values():
            member = self._pool.get(handle.id)
            if member is None or member.state is not MemberState.READY or not handle.listens:
                continue
            handle.accept()
            if not member.suspect:
                slots.add(handle.slot)
        self._listeners.attend(slots)

    def withdraw(self, handle: WorkerHandle) -> None:
        """Route nothing to a worker any more, and tell it nothing."""
        handle.ready = False
        self._pool.set_gone(handle.id)
        self.suspicions.forget(handle.id)
        self._replication.leave(handle.id)
        self._replication.tell_pool()
        self._bus.forget(handle.id)
        self.attend()

    def rotate_logs(self) -> None:
        """Tell the workers to reopen their logs, and give them those that only root may open."""
        for handle in self.handles.values():
            handle.channel.send(Rotate())
        self.spawner.provision.rotate(handle.mailbox for handle in self.handles.values())

    def renew_log(self, handle: WorkerHandle) -> None:
        """Give a worker the access log anew, as it asks for it."""
        self.spawner.provision.rotate((handle.mailbox,))

    # ------------------------------------------------------------- what handles tell

    def caught_up(self, handle: WorkerHandle) -> None:
        """Send a worker, which has read all that waited, what it was not sent (`HandleOwner`)."""
        self._replication.caught_up(handle.id)

    def crowded(self, handle: WorkerHandle, flag: bool) -> None:
        """Suspect a worker whose mailbox is full, until it has room again (`HandleOwner`)."""
        self.suspicions.set(handle.id, flag, CROWDED)

    def fell_silent(self, handle: WorkerHandle) -> None:
        """Route nothing to a worker whose channel has ended, and end it soon (`HandleOwner`)."""
        if self.handles.get(handle.id) is handle and handle.ready:
            self.withdraw(handle)
            self._end_soon(handle)

    def _end_soon(self, handle: WorkerHandle) -> None:
        """Take a worker for one that serves no more, unless its process ends in a moment."""
        call = self._system.reactor.callLater(SILENT, self._give_up, handle.id)
        self._last_calls[handle.id] = call

    def _give_up(self, id: int) -> None:
        del self._last_calls[id]
        self._leaving(id)

    def exited(self, handle: WorkerHandle, status: int) -> None:
        """Forget a worker whose process has ended, and count how it has (`HandleOwner`)."""
        self.withdraw(handle)
        self.exits[status] += 1
        del self.handles[handle.id]
        if handle.id in self._last_calls:
            self._last_calls.pop(handle.id).cancel()
        self._exited(handle, status)

    # ----------------------------------------------------------------- upgrade and end

    def snapshot(self, descriptors: Descriptors) -> list[dict[str, Any]]:
        """The workers as JSON values, for `restore`."""
        movers = {member.id for member in self._pool.members if member.moves}
        return [
            {**handle.snapshot(descriptors), "moves": handle.id in movers}
            for handle in self.handles.values()
        ]

    def restore(self, states: Iterable[Mapping[str, Any]]) -> list[WorkerHandle]:
        """
        Take up the workers of the program before; the pool has them already.

        :returns: those that are ready.
        """
        for state in states:
            handle = self._make(state["id"], state["slot"], state["generation"])
            self.handles[handle.id] = handle
            if state.get("moves"):  # a program of another version may not tell it
                self._pool.let_move(handle.id)
            handle.resume(state)
            if handle.ready:
                self._replication.rejoin(handle)
            if not handle.channel.connected:
                self._end_soon(handle)
        self.attend()
        return [handle for handle in self.handles.values() if handle.ready]

    def close(self) -> None:
        """Close what the workers were given, end the templates, and leave no call behind."""
        self.spawner.templates.close()
        for call in self._last_calls.values():
            call.cancel()
        self._last_calls.clear()
        self.spawner.provision.close()
