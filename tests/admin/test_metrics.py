"""The metrics, as Prometheus's own library reads them."""

from __future__ import annotations

from unittest import mock

import attrs
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import TestCase

from tests.watched import EPOCH, WatchedCase
from txsticky.admin.metrics import CONTENT_TYPE, Metric, expose
from txsticky.admin.state import ClusterState
from txsticky.admin.usage import Usage
from txsticky.core.how import How
from txsticky.primary.kernel_routes import IN_KERNEL


def read(state: ClusterState) -> dict[str, float]:
    """Every sample by its name with its labels, as the parser finds them."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(expose(state).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, f"{name} is told twice"
            found[name] = sample.value
    return found


class MetricsTests(WatchedCase):
    """The metrics of a cluster."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_names(self) -> None:
        """Each metric has a type and a help, counters end in _total, and all names are ours."""
        families = list(text_string_to_metric_families(expose(self.look()).decode()))
        self.assertGreater(len(families), 20)
        for family in families:
            self.assertTrue(family.name.startswith(("txsticky_", "process_")), family.name)
            self.assertIn(family.type, ("counter", "gauge"))
            self.assertTrue(family.documentation.endswith("."), family)
            total = all(sample.name.endswith("_total") for sample in family.samples)
            self.assertEqual((family.type == "counter", bool(family.samples)), (total, True))

    def test_workers(self) -> None:
        """Workers are told by their numbers."""
        self.report(1, live=3, requests=40, adopted=9, given=2, moved=5, lag=0.25)
        told = read(self.look())
        self.assertEqual(told["txsticky_worker_ready{worker=2}"], 1)
        self.assertEqual(told["txsticky_worker_connections{worker=1}"], 3)
        self.assertEqual(told["txsticky_worker_requests_total{worker=1}"], 40)
        self.assertEqual(told["txsticky_worker_handoffs_total{worker=1}"], 9)
        self.assertEqual(told["txsticky_worker_given_total{worker=1}"], 2)
        self.assertEqual(told["txsticky_worker_websockets_moved_total{worker=1}"], 5)
        self.assertEqual(told["txsticky_worker_event_loop_lag_seconds{worker=1}"], 0.25)
        self.assertEqual(told["txsticky_workers{state=ready}"], 2)
        self.assertEqual(told["txsticky_workers_wanted"], 2)

    def test_leader(self) -> None:
        """The number of the worker that leads is told."""
        self.primary.leader.ready(2, True)
        told = read(self.look())
        leads = [told[f"txsticky_worker_leader{{worker={number}}}"] for number in (1, 2)]
        self.assertEqual(leads, [0, 1])

    def test_two_of_one_number(self) -> None:
        """In a reload a number has the load of both workers, and the memory of the new one."""
        self.cluster.supervisor.reload()
        self.start(3)
        self.usages = {1001: Usage(500, 1.0), 1003: Usage(700, 2.0)}
        self.history.look()
        self.report(1, live=3, lag=0.5)
        self.report(3, live=1, lag=0.125)
        told = read(self.look())
        self.assertEqual(told["txsticky_worker_connections{worker=1}"], 4)
        self.assertEqual(told["txsticky_worker_event_loop_lag_seconds{worker=1}"], 0.5)
        self.assertEqual(told["txsticky_worker_resident_memory_bytes{worker=1}"], 700)
        self.assertEqual(told["txsticky_passing_resident_memory_bytes"], 500)
        self.assertEqual(told["txsticky_worker_cpu_seconds_total{worker=1}"], 3.0)
        self.assertEqual(told["txsticky_workers{state=draining}"], 1)
        self.assertEqual((told["txsticky_reloading"], told["txsticky_reloads_total"]), (1, 1))

    def test_memory_by_state(self) -> None:
        """A number's memory is that of the ready worker, else of the youngest that stays."""
        one, two = self.look().workers
        for states, present in (
            (("ready", "starting", "draining"), 1),
            (("draining", "ready", "starting"), 2),
            (("draining", "starting", "starting"), 3),
            (("draining", "gone", "draining"), 3),
        ):
            workers = tuple(
                attrs.evolve(one, id=id, state=state, memory=id)
                for id, state in enumerate(states, 1)
            )
            told = read(attrs.evolve(self.look(), workers=(*workers, two)))
            self.assertEqual(told["txsticky_worker_resident_memory_bytes{worker=1}"], present)
            self.assertEqual(told["txsticky_passing_resident_memory_bytes"], 6 - present)

    def test_a_dead_worker(self) -> None:
        """A number without a worker is told as not ready; what it counted stays."""
        self.history.look()
        self.report(2, live=3, requests=40)
        self.die(2, -9)
        told = read(self.look())
        self.assertEqual(told["txsticky_worker_ready{worker=2}"], 0)
        self.assertEqual(told["txsticky_worker_connections{worker=2}"], 0)
        self.assertEqual(told["txsticky_worker_requests_total{worker=2}"], 40)
        self.assertEqual(told["txsticky_worker_exits_total{status=-9}"], 1)

    def test_primary(self) -> None:
        """Routes and refusals are told by kind; those that there may be from the start."""
        self.primary.dispatcher.routes[How.MISS] = 5
        self.primary.reception.refusals[503] = 2
        told = read(self.look())
        self.assertEqual(told["txsticky_routes_total{how=MISS}"], 5)
        self.assertEqual(told["txsticky_routes_total{how=TAG}"], 0)
        self.assertEqual(told["txsticky_refusals_total{status=503}"], 2)
        self.assertEqual(told["txsticky_refusals_total{status=408}"], 0)
        self.assertEqual(told["txsticky_connections_accepted_total"], 12)
        self.assertEqual(told["process_start_time_seconds"], EPOCH)

    def test_entrance(self) -> None:
        """What workers accepted themselves is told, also when they have gone."""
        self.history.look()
        entrance = {"accepted": 7, "waiting": 0, "routes": [0, 0, 0, 7, 0], "refusals": []}
        self.report(2, entrance={**entrance, "short": False})
        self.die(2, -9)
        told = read(self.look())
        self.assertEqual(told["txsticky_worker_accepted_total{worker=2}"], 7)
        self.assertEqual(told["txsticky_routes_total{how=NEW}"], 7)

    def test_kernel_routes(self) -> None:
        """Whether the kernel chooses the workers is told as 1 or 0."""
        found = []
        for told in ("", "not in the kernel: it is old", IN_KERNEL):
            self.primary.listeners.routes.told = told
            found.append(read(self.look())["txsticky_kernel_routes"])
        self.assertEqual(found, [0, 0, 1])

    def test_bus(self) -> None:
        """What became of the bus's messages is told."""
        bus = self.primary.bus
        bus.published, bus.delivered, bus.lost = 5, 9, 2
        bus.backplane = mock.Mock(lost=3)
        told = read(self.look())
        bus.backplane = None
        counts = {"published": 5, "delivered": 9, "lost": 2, "not relayed": 3}
        for what, count in counts.items():
            self.assertEqual(told[f"txsticky_bus_messages_total{{what={what}}}"], count)

    def test_bus_up(self) -> None:
        """Whether messages leave this machine is told as 1 or 0."""
        found = [read(self.look())["txsticky_bus_up"]]
        self.primary.bus.outage(5.0)
        found.append(read(self.look())["txsticky_bus_up"])
        self.assertEqual(found, [1, 0])

    def test_unknown(self) -> None:
        """What the system does not tell is left out."""
        state = self.look()
        primary = attrs.evolve(state.primary, memory=None, cpu=None, descriptors=None)
        told = read(attrs.evolve(state, primary=primary))
        self.assertEqual({name for name in told if name.startswith("process_")}, {
            "process_start_time_seconds", "process_max_fds",
        })  # fmt: skip

    def test_version(self) -> None:
        """The content type names the version of the format."""
        self.assertIn(b"version=0.0.4", CONTENT_TYPE)


class LabelTests(TestCase):
    """The values of labels."""

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
    def test_any_text(self, text: str) -> None:
        """Any text comes back."""
        lines = Metric("a", "gauge", "Something.", (({"label": text}, 1),)).lines()
        (family,) = text_string_to_metric_families("".join(f"{line}\n" for line in lines))
        (sample,) = family.samples
        self.assertEqual(sample.labels, {"label": text})
