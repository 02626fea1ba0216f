"""What a primary hands over to the program that takes its place, and how that takes it up."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from ...core.lifecycle.fleet import Fleet
from ...core.lifecycle.snapshot import restore, snapshot
from ...core.routing.pool import State
from ...ipc.mailbox import MailboxTransport
from ...system.descriptors import own
from ..primary import Primary
from ..worker_handle import WorkerHandle
from .packing import pack, pack_arrival, unpack, unpack_arrival

if TYPE_CHECKING:
    from ...cluster import Cluster


def state_of(cluster: Cluster) -> tuple[dict[str, Any], list[int]]:
    """Everything that a new program needs to go on, and the descriptors in it. Changes nothing."""
    primary = cluster.primary
    descriptors = [primary.front_desk.fileno(), primary.desk_box.fileno()]
    handles = []
    for handle in primary.handles.values():
        state, owned = handle.state()
        handles.append(state)
        descriptors += owned
    leftovers = [box.fileno() for box in primary.leftovers]
    arrivals = [pack_arrival(a) for a in (*primary.room.arrivals(), *primary.reception.arrivals())]
    listeners = [
        [listen, port.fileno()]
        for listen, port in zip(cluster.config.listen, cluster.ports, strict=True)
    ]
    descriptors += leftovers
    descriptors += [fields["sock"] for fields in arrivals]
    siblings = primary.listeners.siblings()
    descriptors += [descriptor for _, descriptor in listeners]
    descriptors += [descriptor for _, _, descriptor in siblings]
    state = {
        "fleet": snapshot(cluster.supervisor.fleet),
        "folder": cluster.system.folder,
        "secret": primary.secret.hex(),
        "beginning": primary.beginning,
        "speaks": [primary.interface, primary.http],
        "front_desk": [primary.front_desk.fileno(), primary.desk_box.fileno()],
        "members": [
            [m.id, m.slot, m.state.value, m.sent, m.taken, m.live] for m in primary.pool.members
        ],
        "table": [[pack(key), worker] for key, worker in primary.table.items()],
        "topics": [[id, pack(topic)] for id, topic in primary.bus.subscriptions()],
        "handles": handles,
        "leftovers": leftovers,
        "arrivals": arrivals,
        "listeners": listeners,
        "siblings": siblings,
    }
    return state, descriptors


def take_primary(cluster: Cluster, state: dict[str, Any]) -> Primary:
    """Make the primary that goes on where the one before stopped, with its workers."""
    sending, reading = (socket.socket(fileno=own(number)) for number in state["front_desk"])
    secret = bytes.fromhex(state["secret"])
    # The name of the working directory may lead elsewhere by now, and still be the one to go by.
    cluster.system.folder = state.get("folder", cluster.system.folder)
    primary = Primary(cluster.system, cluster.config, secret, (sending, reading))
    primary.beginning = state["beginning"]
    for id, slot, name, sent, taken, live in state["members"]:
        member = primary.pool.add(id, slot)
        member.sent, member.taken, member.live = sent, taken, live
        if name == State.READY.value:
            primary.pool.set_ready(id)
        elif name == State.DRAINING.value:
            primary.pool.set_draining(id)
    for key, worker in state["table"]:
        primary.table.bind(unpack(key), worker, cluster.system.clock())
    return primary


def take_siblings(primary: Primary, state: dict[str, Any]) -> None:
    """Take up the listening sockets that no endpoint has opened."""
    for slot, number, descriptor in state["siblings"]:
        primary.listeners.add(slot, number, socket.socket(fileno=own(descriptor)))


def take_fleet(state: dict[str, Any]) -> Fleet:
    """The fleet that has the workers already."""
    return restore(state["fleet"])


def take_workers(primary: Primary, state: dict[str, Any]) -> None:
    """Take up the workers."""
    primary.speaks(*state["speaks"])
    for fields in state["handles"]:
        limit = primary.config.backlog
        handle = WorkerHandle(
            primary.system, primary, fields["id"], fields["slot"], fields["generation"], limit
        )
        primary.handles[handle.id] = handle
        handle.resume(fields)
        if not handle.channel.connected:
            primary.end_soon(handle)
        if handle.ready:
            primary.supervisor.resume(handle.id)
    primary.attend()
    for id, topic in state["topics"]:
        if id in primary.handles:
            handle = primary.handles[id]
            primary.bus.subscribe(id, handle.name, handle.channel, unpack(topic))


def take_connections(primary: Primary, state: dict[str, Any]) -> None:
    """
    Take up the connections that were in the primary's hands, once it is known who is to come: some
    wait for a worker.
    """
    for descriptor in state["leftovers"]:
        sock = socket.socket(fileno=own(descriptor))
        primary.adopt_leftovers(MailboxTransport(sock, primary.system.reactor))
    for fields in state["arrivals"]:
        primary.reception.receive(unpack_arrival(fields))
