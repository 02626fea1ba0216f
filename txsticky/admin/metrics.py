"""
The metrics in the text format of Prometheus, version 0.0.4.

The format is that of https://prometheus.io/docs/instrumenting/exposition_formats/.

Workers are told apart by their number, which a successor inherits, so that a reload makes no new
series; what they count goes on across it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from ..core.routing.pool import MemberState
from ..primary.kernel_routes import IN_KERNEL
from .state import ClusterState, WorkerState

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
#: The refusals that there may be; each is told from the start, so that its first one shows.
REFUSALS: Final = (400, 408, 431, 503, 505)

Labels = Mapping[str, object]
Sample = tuple[Labels, float]


@attrs.frozen
class Metric:
    """
    One metric with its samples.

    :param kind: `counter` or `gauge`.
    """

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]

    def lines(self) -> Iterator[str]:
        """The metric as it is exposed."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            pairs = ",".join(f'{name}="{_escaped(str(text))}"' for name, text in labels.items())
            yield f"{self.name}{{{pairs}}} {value!r}" if pairs else f"{self.name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def expose(state: ClusterState) -> bytes:
    """All metrics of the cluster."""
    metrics = [
        *_cluster(state),
        *_primary(state),
        *_bus(state),
        *_workers(state),
        *_totals(state),
        *_templates(state),
        *_process(state),
    ]
    known = (metric for metric in metrics if metric.samples)
    return "".join(f"{line}\n" for metric in known for line in metric.lines()).encode(
        errors="backslashreplace"  # an argument of the command may have been no text
    )


def _one(name: str, kind: str, help: str, value: float | None) -> Metric:
    return Metric(name, kind, help, () if value is None else (({}, value),))


def _by(label: str, values: Iterable[tuple[object, float]]) -> tuple[Sample, ...]:
    return tuple(({label: name}, value) for name, value in values)


def _cluster(state: ClusterState) -> Iterator[Metric]:
    about = {name: getattr(state, name) for name in ("version", "interface", "sticky", "balance")}
    yield Metric("txsticky_info", "gauge", "What runs here.", ((about, 1),))
    yield _one(
        "txsticky_kernel_routes",
        "gauge",
        "Whether the kernel chooses the worker by the client's address.",
        int(state.kernel_routes == IN_KERNEL),
    )
    in_state = dict.fromkeys((s.value for s in MemberState if s is not MemberState.GONE), 0)
    for worker in state.workers:
        if worker.state in in_state:
            in_state[worker.state] += 1
    yield Metric(
        "txsticky_workers", "gauge", "Worker processes, by state.", _by("state", in_state.items())
    )
    yield _one("txsticky_workers_wanted", "gauge", "How many there are to be.", state.wanted)
    yield _one("txsticky_worker_starts_total", "counter", "Worker processes started.", state.starts)
    yield Metric(
        "txsticky_worker_exits_total",
        "counter",
        "Worker processes ended, by exit code or the negative number of a signal.",
        _by("status", ({0: 0} | state.exits).items()),
    )
    yield _one("txsticky_reloads_total", "counter", "Rolling reloads begun.", state.reloads)
    yield _one(
        "txsticky_reloading", "gauge", "Whether a reload is under way.", int(state.reloading)
    )


def _primary(state: ClusterState) -> Iterator[Metric]:
    primary = state.primary
    yield _one(
        "txsticky_connections_accepted_total", "counter", "Connections accepted.", primary.accepted
    )
    yield Metric(
        "txsticky_connections_waiting",
        "gauge",
        "Connections that wait for their first request, or for a worker.",
        _by("what", (("request", primary.waiting), ("worker", primary.parked))),
    )
    yield Metric(
        "txsticky_routes_total",
        "counter",
        "Connections placed, by what decided.",
        _by("how", primary.routes.items()),
    )
    yield Metric(
        "txsticky_refusals_total",
        "counter",
        "Connections refused, by status code.",
        _by("status", (dict.fromkeys(REFUSALS, 0) | primary.refusals).items()),
    )
    yield _one("txsticky_bound_keys", "gauge", "Keys that the application bound.", primary.bound)


def _bus(state: ClusterState) -> Iterator[Metric]:
    yield Metric(
        "txsticky_bus_messages_total",
        "counter",
        "Messages published by the workers, delivered to them, lost on the way to them, or not"
        " relayed to other machines.",
        _by("what", state.primary.bus.items()),
    )
    yield _one(
        "txsticky_bus_up",
        "gauge",
        "Whether messages leave this machine, as 1 or 0; 1 if the bus spans no others.",
        int(state.primary.bus_up),
    )


def _workers(state: ClusterState) -> Iterator[Metric]:
    def gauge(name: str, help: str, values: Iterable[tuple[object, float]]) -> Metric:
        return Metric(f"txsticky_worker_{name}", "gauge", help, _by("worker", values))

    numbers: dict[int, list[WorkerState]] = {n: [] for n in range(1, state.wanted + 1)}
    for worker in state.workers:
        numbers.setdefault(worker.worker, []).append(worker)
    each = sorted(numbers.items())
    yield gauge(
        "ready",
        "Whether a worker of this number is ready.",
        ((n, int(any(w.state == MemberState.READY.value for w in them))) for n, them in each),
    )
    yield gauge(
        "leader",
        "Whether a worker of this number is the leader.",
        ((n, int(any(w.leads for w in them))) for n, them in each),
    )
    yield gauge(
        "connections",
        "Connections held.",
        ((n, sum(w.connections for w in them)) for n, them in each),
    )
    yield gauge(
        "event_loop_lag_seconds",
        "How late the event loop ran.",
        ((n, max((w.lag for w in them), default=0.0)) for n, them in each),
    )
    yield from _memory(each)


def _memory(each: Iterable[tuple[int, list[WorkerState]]]) -> Iterator[Metric]:
    """
    The memory of the workers, by number and, of those beside them, in one.

    In a reload a number has two workers: their sum would look like a leak.
    """
    present: dict[int, WorkerState | None] = {}
    beside: list[WorkerState] = []
    for number, them in each:
        present[number] = max(them, key=_presence, default=None)
        beside += (worker for worker in them if worker is not present[number])
    for name, help, field in (
        ("resident_memory_bytes", "Resident memory", "memory"),
        (
            "proportional_memory_bytes",
            "Resident memory, of which a part is counted where several processes share it,",
            "proportion",
        ),
    ):
        values = ((number, getattr(w, field, None) or 0) for number, w in present.items())
        told = f"{help} of the worker that serves under this number."
        yield Metric(f"txsticky_worker_{name}", "gauge", told, _by("worker", values))
        yield _one(
            f"txsticky_passing_{name}",
            "gauge",
            f"{help} of workers that start or drain beside the one of their number.",
            sum(getattr(w, field) or 0 for w in beside),
        )


def _presence(worker: WorkerState) -> tuple[bool, bool, int]:
    """How much a worker is the one of its number: ready, or the youngest that does not leave."""
    state = worker.state
    return state == MemberState.READY.value, state == MemberState.STARTING.value, worker.id


def _totals(state: ClusterState) -> Iterator[Metric]:
    """What all workers of a number have done."""

    def total(name: str, help: str, field: str) -> Metric:
        values = ((totals.worker, getattr(totals, field)) for totals in state.totals)
        return Metric(f"txsticky_worker_{name}", "counter", help, _by("worker", values))

    yield total("requests_total", "Requests answered.", "requests")
    yield total("handoffs_total", "Connections taken in hand.", "handoffs")
    yield total("accepted_total", "Connections that it accepted itself.", "accepted")
    yield total("given_total", "Connections given to another worker, or back.", "given")
    yield total("websockets_moved_total", "WebSockets that have moved to it.", "moved")
    yield total("cpu_seconds_total", "Processor time, of user and system.", "cpu")


def _templates(state: ClusterState) -> Iterator[Metric]:
    """What the workers are forked from."""
    them = state.templates
    for name, help, value in (
        ("templates", "Templates of which workers can be forked.", sum(t.ready for t in them)),
        (
            "template_resident_memory_bytes",
            "Resident memory of the templates.",
            sum(t.memory or 0 for t in them),
        ),
        (
            "template_proportional_memory_bytes",
            "Likewise, of which a part is counted where several processes share it.",
            sum(t.proportion or 0 for t in them),
        ),
    ):
        yield _one(f"txsticky_{name}", "gauge", help, value)


def _process(state: ClusterState) -> Iterator[Metric]:
    """What every client library tells of its process; here, of the primary."""
    primary = state.primary
    start = "Start time of the process since the epoch in seconds."
    yield _one("process_start_time_seconds", "gauge", start, round(state.started, 2))
    cpu = "Processor time of the primary, of user and system, in seconds."
    yield _one("process_cpu_seconds_total", "counter", cpu, primary.cpu)
    memory = "Resident memory of the primary in bytes."
    yield _one("process_resident_memory_bytes", "gauge", memory, primary.memory)
    yield _one("process_open_fds", "gauge", "Open descriptors.", primary.descriptors)
    yield _one("process_max_fds", "gauge", "How many there may be.", primary.descriptor_limit)
