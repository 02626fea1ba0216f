"""What a primary hands over to the program that takes its place, and how that takes it up."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ...core.lifecycle.snapshot import restore, snapshot
from ...core.routing.pool import MemberState
from ...system.descriptors import own
from ..primary import Primary, Seed
from .packing import Descriptors, pack, pack_arrival, unpack, unpack_arrival


@attrs.frozen(kw_only=True)
class UpgradeState:
    """
    Everything that a new program needs to go on, as JSON values.

    :param fleet: the fleet, as `core.lifecycle.snapshot` has it.
    :param folder: the name of the working directory, as `System.folder` has it; empty if the
        program before did not know any.
    :param secret: what signs the tags, in hexadecimal.
    :param in_words: how addresses are hashed (`Seed`).
    :param beginning: whether the first start is under way.
    :param speaks: what the application is, and whether that speaks HTTP.
    :param members: of the pool: id, slot, state, sent, taken, live.
    :param table: (key, worker's id) of each bound key.
    :param topics: (worker's id, topic) of each subscription.
    :param handles: the workers, as `WorkerHandle.snapshot` has them.
    :param front_desk: the descriptors of the front desk's two ends.
    :param leftovers: the descriptors of mailboxes that dead workers left behind.
    :param arrivals: the connections that are in the primary's hands.
    :param listeners: (`--listen`, descriptor) of each endpoint's socket; -1 if there is none.
    :param siblings: (slot, number, descriptor) of each other listening socket.
    :param templates: what workers are forked from, as `Templates.snapshot` has it.
    :param bus: the way to other machines, as `Bus.snapshot` has it; empty if that was not known.
    :param leader: who leads, as `Appointing.snapshot` has it; empty if that was not known.
    """

    fleet: dict[str, Any]
    folder: str | None = ""
    secret: str
    in_words: bool = True
    beginning: bool
    speaks: Sequence[Any]
    members: Sequence[Sequence[Any]]
    table: Sequence[Sequence[Any]]
    topics: Sequence[Sequence[Any]]
    handles: Sequence[Mapping[str, Any]]
    front_desk: Sequence[int]
    leftovers: Sequence[int]
    arrivals: Sequence[Mapping[str, Any]]
    listeners: Sequence[Sequence[Any]]
    siblings: Sequence[Sequence[int]]
    templates: Mapping[str, Any] = attrs.field(factory=dict)
    bus: Mapping[str, Any] = attrs.Factory(dict)
    leader: Mapping[str, Any] = attrs.Factory(dict)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> UpgradeState:
        """Make the state of what the program before wrote, in one of the `KNOWN_FORMS`."""
        known = {field.name for field in attrs.fields(cls)}
        if fields.get("form") == 2:
            fleet = _fleet_of_form_2(fields["fleet"])
            fields = {"beginning": False, "in_words": False, **fields, "fleet": fleet}
        return cls(**{name: value for name, value in fields.items() if name in known})

    def write(self) -> dict[str, Any]:
        """The fields, as JSON values."""
        return {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}

    def seed(self) -> Seed:
        """What the primary begins with that goes on where the one before stopped."""
        sending, reading = (socket.socket(fileno=own(number)) for number in self.front_desk)
        return Seed(
            secret=bytes.fromhex(self.secret),
            fleet=restore(self.fleet),
            front_desk=(sending, reading),
            in_words=self.in_words,
        )


def _fleet_of_form_2(fleet: Mapping[str, Any]) -> dict[str, Any]:
    """The fleet as version 0.1.0 wrote it, with the names of today."""
    return {
        ("start_timeout" if name == "boot_timeout" else name): value
        for name, value in fleet.items()
    }


def state_of(
    primary: Primary, folder: str | None, listeners: Sequence[tuple[str, int]]
) -> tuple[UpgradeState, list[int]]:
    """
    Look at everything that a new program needs; nothing is changed by that.

    What is left of tables that are on their way to workers is sent before.

    :param folder: the name of the working directory.
    :param listeners: `--listen` and descriptor of each endpoint's socket; -1 if there is none.
    :returns: the state, and the descriptors in it.
    """
    primary.replication.finish()
    kept = Descriptors()
    waiting = (*primary.room.arrivals(), *primary.reception.arrivals())
    state = UpgradeState(
        fleet=snapshot(primary.supervisor.fleet),
        folder=folder,
        secret=primary.seed.secret.hex(),
        in_words=primary.seed.in_words,
        beginning=primary.beginning.under_way,
        speaks=[primary.spoken.interface, primary.spoken.http],
        members=[
            [m.id, m.slot, m.state.value, m.sent, m.taken, m.live] for m in primary.pool.members
        ],
        table=[[pack(key), worker] for key, worker in primary.replication.table.items()],
        topics=[[id, pack(topic)] for id, topic in primary.bus.subscriptions()],
        handles=primary.workers.snapshot(kept),
        front_desk=primary.returns.ends(kept),
        leftovers=primary.returns.snapshot(kept),
        arrivals=[pack_arrival(arrival, kept) for arrival in waiting],
        listeners=[[listen, kept.keep(descriptor)] for listen, descriptor in listeners],
        siblings=primary.listeners.snapshot(kept),
        templates=primary.workers.spawner.templates.snapshot(kept),
        bus=primary.bus.snapshot(),
        leader=primary.leader.snapshot(),
    )
    return state, kept.kept


def restore_members(primary: Primary, state: UpgradeState) -> None:
    """Take up the pool and the table, before anything is open."""
    primary.beginning.under_way = state.beginning
    for id, slot, name, sent, taken, live in state.members:
        member = primary.pool.add(id, slot)
        member.sent, member.taken, member.live = sent, taken, live
        if name == MemberState.READY.value:
            primary.pool.set_ready(id)
        elif name == MemberState.DRAINING.value:
            primary.pool.set_draining(id)
    primary.leader.restore(state.leader)
    primary.bus.restore(state.bus)
    primary.replication.restore((unpack(key), worker) for key, worker in state.table)


def restore_workers(primary: Primary, state: UpgradeState) -> None:
    """Take up the workers, once the primary is open."""
    interface, http = state.speaks
    primary.spoken.tell(interface, http)
    primary.workers.spawner.templates.restore(state.templates)
    primary.supervisor.hold({handle["id"] for handle in state.handles})
    for handle in primary.workers.restore(state.handles):
        primary.supervisor.resume(handle.id)
        primary.reports.resume(handle)
    for id, topic in state.topics:
        if id in primary.workers.handles:
            handle = primary.workers.handles[id]
            primary.bus.subscribe(id, handle.name, handle.channel, unpack(topic))
    for id in state.bus.get("told", ()):
        if id in primary.workers.handles:
            handle = primary.workers.handles[id]
            primary.bus.outages.join(id, handle.channel, handle.started)


def restore_connections(primary: Primary, state: UpgradeState) -> None:
    """
    Take up the connections that were in the primary's hands.

    Before that it has to be known which workers are to come: some connections wait for one.
    """
    primary.returns.restore(state.leftovers)
    for fields in state.arrivals:
        primary.reception.receive(unpack_arrival(fields))
