"""
The cluster at one moment, as plain values.

They are all that the status page, the metrics and the control socket tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from .. import __version__
from ..config import Config
from ..core.lifecycle.states import LAME_DUCK, Phase
from ..core.routing.pool import MemberState
from ..primary.primary import Primary
from ..primary.supervision.supervisor import Supervisor
from ..primary.supervision.suspicion import ILL
from ..primary.supervision.template import Template
from ..primary.supervision.worker_handle import WorkerHandle
from ..system.system import System
from .history import History
from .journal import Journal, JournalEntry
from .usage import descriptor_limit, open_descriptors, usage_of


class Managed(Protocol):
    """The cluster, as far as it is looked at and steered here."""

    config: Config
    system: System
    primary: Primary
    journal: Journal

    @property
    def supervisor(self) -> Supervisor:
        """What keeps the workers running."""

    @property
    def accepted(self) -> int:
        """How many connections were accepted."""

    @property
    def lame_duck(self) -> bool:
        """Whether the cluster is told to stop, and serves on for a while."""

    def addresses(self) -> Sequence[Any]:
        """What is listened on."""

    def stop(self, graceful: bool) -> Deferred[None]:
        """End the cluster."""


@attrs.frozen(kw_only=True)
class WorkerState:
    """
    One worker process.

    :param worker: its number, 1 to N (``TXSTICKY_WORKER``); its successor has the same.
    :param id: unique for the life of the cluster.
    :param state: a `core.routing.pool.MemberState`: starting, ready, draining or gone.
    :param suspect: the worker gets nothing new as long as other workers can take it.
    :param suspicions: why, in the words of `primary.supervision.suspicion`.
    :param leads: whether it is the leader.
    :param age: seconds since it was started.
    :param connections: that it holds.
    :param coming: connections on their way to it.
    :param requests: answered so far.
    :param rate: requests in a second, lately.
    :param handoffs: connections taken in hand so far.
    :param accepted: connections that it accepted itself so far.
    :param given: connections given away so far: to the worker whose request came, or back.
    :param moved: WebSockets that have moved to it so far.
    :param lag: how late its event loop ran, in seconds.
    :param memory: its resident set in bytes; None if it cannot be known.
    :param proportion: its proportional set, likewise: of memory that several processes share, each
        has its part.
    :param load: the share of one processor that it used lately; None if it cannot be known.
    """

    worker: int
    id: int
    generation: int
    state: str
    suspect: bool
    suspicions: tuple[str, ...]
    pid: int
    leads: bool
    age: float
    connections: int
    coming: int
    requests: int
    rate: float
    handoffs: int
    accepted: int
    given: int
    moved: int
    lag: float
    memory: int | None
    proportion: int | None
    load: float | None


@attrs.frozen(kw_only=True)
class TemplateState:
    """
    A process that workers are forked from.

    :param ready: whether they can be.
    :param preloaded: whether it has imported the application.
    :param memory: as a worker's, and `proportion`.
    """

    pid: int
    generation: int
    ready: bool
    preloaded: bool
    memory: int | None
    proportion: int | None


@attrs.frozen(kw_only=True)
class SlotTotals:
    """
    What all workers of one number did since the cluster was started; it never gets less.

    :param cpu: processor time, in seconds.
    """

    worker: int
    requests: int
    handoffs: int
    accepted: int
    given: int
    moved: int
    cpu: float


@attrs.frozen
class Pause:
    """A worker died, and the next of its number is started in so many seconds."""

    worker: int
    seconds: float


@attrs.frozen(kw_only=True)
class PrimaryState:
    """
    The primary's process.

    :param memory: its resident set in bytes; None if it cannot be known.
    :param cpu: processor time so far in seconds, likewise.
    :param load: the share of one processor that it used lately, likewise.
    :param descriptors: how many it has open, likewise.
    :param descriptor_limit: how many it may have.
    :param accepted: connections accepted so far, in the primary and in workers.
    :param waiting: connections whose first request is not complete, in workers as well.
    :param parked: connections that wait for a worker to be ready.
    :param routes: connections placed so far, by `core.how.How`.
    :param refusals: responses of its own so far, by status code.
    :param bound: keys that the application bound to workers.
    :param bus: messages so far: published by workers here, delivered to workers, lost on the way to
        workers, and lost on the way to other machines.
    :param bus_up: whether messages leave this machine now, if the bus spans others.
    """

    pid: int
    memory: int | None
    cpu: float | None
    load: float | None
    descriptors: int | None
    descriptor_limit: int
    accepted: int
    waiting: int
    parked: int
    routes: dict[str, int]
    refusals: dict[int, int]
    bound: int
    bus: dict[str, int]
    bus_up: bool


@attrs.frozen(kw_only=True)
class ClusterState:
    """
    The cluster.

    :param time: seconds since the epoch.
    :param started: likewise.
    :param machine: the name of the machine; None if it has none.
    :param app: what is served, `module:attribute`.
    :param interface: what that is; `auto` until the first worker has said.
    :param kernel_routes: whether the kernel chooses the worker by the client's address, in words;
        empty if it is not to (`KernelRoutes.told`).
    :param phase: a `core.lifecycle.states.Phase`: new, running, draining, quitting or ended; or
        `core.lifecycle.states.LAME_DUCK`.
    :param routing: whether connections are routed yet.
    :param wanted: how many workers there are to be.
    :param reloads: begun so far.
    :param starts: worker processes started so far.
    :param exits: how often they ended, by exit code or the negative number of a signal.
    :param workers: by number and age.
    :param templates: that the workers are forked from, by age; none where each is started alone.
    :param pauses: numbers without a worker.
    :param totals: by number.
    :param events: the last ones, the latest first.
    """

    version: str
    machine: str | None
    time: float
    started: float
    app: str
    interface: str
    sticky: str
    balance: str
    kernel_routes: str
    listen: tuple[str, ...]
    phase: str
    routing: bool
    generation: int
    reloading: bool
    wanted: int
    reloads: int
    starts: int
    exits: dict[int, int]
    primary: PrimaryState
    workers: tuple[WorkerState, ...]
    templates: tuple[TemplateState, ...]
    pauses: tuple[Pause, ...]
    totals: tuple[SlotTotals, ...]
    events: tuple[JournalEntry, ...]

    @property
    def ready(self) -> int:
        """How many workers are ready."""
        return sum(worker.state == MemberState.READY.value for worker in self.workers)

    @property
    def healthy(self) -> bool:
        """Whether a worker is ready, and takes connections or will by itself."""
        return any(
            worker.state == MemberState.READY.value and ILL.isdisjoint(worker.suspicions)
            for worker in self.workers
        )

    @property
    def leaves(self) -> bool:
        """Whether the cluster is told to stop, so that a successor may take its places."""
        return self.phase not in (Phase.NEW.value, Phase.RUNNING.value)

    @property
    def takes_traffic(self) -> bool:
        """Whether a balancer in front should send connections here."""
        takes = any(
            worker.state == MemberState.READY.value and not worker.suspect
            for worker in self.workers
        )
        return takes and self.routing and self.phase == Phase.RUNNING.value

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, and `ready`."""
        return {**attrs.asdict(self), "ready": self.ready}


def look(cluster: Managed, history: History) -> ClusterState:
    """
    Look at the cluster.

    :param history: knows what a moment cannot show: rates and totals.
    """
    primary, fleet = cluster.primary, cluster.supervisor.fleet
    clock, reactor_time = cluster.system.clock(), cluster.system.reactor.seconds()
    handles = sorted(primary.workers.handles.values(), key=lambda handle: (handle.slot, handle.id))
    return ClusterState(
        version=__version__,
        machine=cluster.config.machine,
        time=history.wall(),
        started=history.started,
        app=cluster.config.app,
        interface=primary.spoken.interface,
        sticky=cluster.config.sticky,
        balance=cluster.config.balance,
        kernel_routes=primary.listeners.routes.told,
        listen=tuple(map(shown, cluster.addresses())),
        phase=LAME_DUCK if cluster.lame_duck else fleet.phase.value,
        routing=not primary.beginning.under_way,
        generation=fleet.generation,
        reloading=fleet.reloading,
        wanted=len(fleet.slots),
        reloads=fleet.generation - 1,
        starts=fleet.next_id - 1,
        exits=dict(sorted(primary.workers.exits.items())),
        primary=_primary(cluster, history),
        workers=tuple(_worker(handle, primary, history, clock) for handle in handles),
        templates=tuple(_template(each, history) for each in primary.workers.spawner.templates.all),
        pauses=tuple(
            Pause(slot.number, max(0.0, slot.due - reactor_time))
            for slot in fleet.slots.values()
            if slot.current is None and slot.due is not None
        ),
        totals=tuple(
            SlotTotals(worker=slot, **attrs.asdict(totals))
            for slot, totals in sorted(history.totals().items())
        ),
        events=tuple(reversed(cluster.journal.entries)),
    )


def _primary(cluster: Managed, history: History) -> PrimaryState:
    primary = cluster.primary
    usage, bus = usage_of(history.pid), primary.bus
    return PrimaryState(
        pid=history.pid,
        memory=usage.memory if usage else None,
        cpu=usage.cpu if usage else None,
        load=history.load,
        descriptors=open_descriptors(),
        descriptor_limit=descriptor_limit(),
        accepted=cluster.accepted,
        waiting=primary.reception.waiting
        + sum(handle.listening.waiting for handle in primary.workers.handles.values()),
        parked=len(primary.room),
        routes={how.name: count for how, count in primary.dispatcher.routes.items()},
        refusals=dict(sorted(primary.reception.refusals.items())),
        bound=len(primary.replication.table),
        bus={
            "published": bus.published,
            "delivered": bus.delivered,
            "lost": bus.lost,
            "not relayed": bus.backplane.lost if bus.backplane is not None else 0,
        },
        bus_up=bus.outages.since is None,
    )


def _worker(handle: WorkerHandle, primary: Primary, history: History, clock: float) -> WorkerState:
    member = primary.pool.get(handle.id)
    load, pace = handle.load, history.pace(handle.id)
    return WorkerState(
        worker=handle.slot,
        id=handle.id,
        generation=handle.generation,
        state=(member.state if member else MemberState.GONE).value,
        suspect=bool(member and member.suspect),
        suspicions=primary.workers.suspicions.of(handle.id),
        pid=handle.process.pid,
        leads=primary.leader.id == handle.id,
        age=clock - handle.started,
        connections=load.live,
        coming=max(0, member.sent - member.taken) if member else 0,
        requests=load.requests,
        rate=pace.requests,
        handoffs=load.adopted,
        accepted=handle.listening.accepted,
        given=load.given,
        moved=load.moved,
        lag=load.lag,
        memory=pace.usage.memory if pace.usage else None,
        proportion=history.proportion(handle.process.pid),
        load=pace.load,
    )


def _template(template: Template, history: History) -> TemplateState:
    usage = usage_of(template.process.pid)
    return TemplateState(
        pid=template.process.pid,
        generation=template.generation,
        ready=template.ready,
        preloaded=template.preloaded,
        memory=usage.memory if usage else None,
        proportion=history.proportion(template.process.pid),
    )


def shown(address: Any) -> str:
    """An `IAddress` as it is written: `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/app.sock`."""
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", None)
        return f"unix:{name.decode(errors='replace')}" if name else str(address)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
