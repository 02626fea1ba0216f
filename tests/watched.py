"""A cluster whose workers are played, for the tests of what looks at it and steers it."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from tests.fakes import FakeReactor, FakeSystem
from tests.raw_frames import Kind
from tests.shells import PlayedWorker, ShellCase
from txsticky.admin import history, state
from txsticky.admin.history import History
from txsticky.admin.journal import Journal
from txsticky.admin.state import ClusterState, look
from txsticky.admin.usage import Usage
from txsticky.config import Config
from txsticky.primary.events import Events
from txsticky.primary.primary import Primary, Seed
from txsticky.primary.supervision.provision import Provision

#: Seconds since the epoch at which everything begins.
EPOCH = 1_700_000_000.0


class Watched:
    """
    What `state.Managed` asks for.

    :ivar stops: what `stop` was called with.
    """

    accepted = 12
    lame_duck = False

    def __init__(self, reactor: FakeReactor, config: Config) -> None:
        self.system = FakeSystem(reactor=reactor, wall=lambda: EPOCH + reactor.seconds())
        self.config = config
        self.journal = Journal()
        self.primary = Primary(
            self.system,
            config,
            Seed.new(self.system, config),
            Events(),
            self.journal.log,
            Provision(config, None),
        )
        self.supervisor = self.primary.supervisor
        self.stops: list[bool] = []

    def addresses(self) -> list[Any]:
        return [IPv4Address("TCP", "127.0.0.1", 8080)]

    def stop(self, graceful: bool) -> Deferred[None]:
        self.stops.append(graceful)
        return self.supervisor.stop(graceful)


class WatchedCase(ShellCase):
    """
    A cluster and its history.

    :ivar workers: those that were started and not yet ended, by their ids.
    :ivar usages: what processes use, by pid.
    """

    count = 2

    def setUp(self) -> None:
        super().setUp()
        self.usages: dict[int, Usage] = {}
        for module in (history, state):
            self.patch(module, "usage_of", lambda pid: self.usages.get(pid))
        config = Config(workers=self.count, app="shop:site", worker_timeout=0)
        self.cluster = Watched(self.reactor, config)
        self.system, self.primary = self.cluster.system, self.cluster.primary
        self.history = History(self.system, self.primary)
        self.workers: dict[int, PlayedWorker] = {}
        self.primary.open()
        self.cluster.supervisor.start()
        self.meet()
        self.addCleanup(self.end)

    def end(self) -> None:
        """End everything."""
        self.history.stop()
        self.cluster.supervisor.stop(graceful=False)
        self.meet()
        for id in list(self.workers):
            self.workers.pop(id).die()
        self.reactor.settle()
        self.primary.close()
        self.reactor.settle()

    def meet(self) -> None:
        """Get to know the workers that were started."""
        for process in self.system.processes:
            if process.inherited and process.pid - 1000 not in self.workers:
                worker = PlayedWorker(process)
                self.workers[worker.id] = worker

    def start(self, *ids: int) -> None:
        """Have workers ready: these, or all."""
        self.reactor.settle()
        self.meet()
        for id in ids or tuple(self.workers):
            self.workers[id].ready()
        self.reactor.settle()

    def report(self, id: int, **counters: Any) -> None:
        """Have a worker report."""
        fields = {"live": 0, "taken": 0, "lag": 0.0, "requests": 0, "adopted": 0, "given": 0}
        self.workers[id].send_json(Kind.LOAD, **{**fields, **counters})
        self.reactor.settle()

    def die(self, id: int, status: int) -> None:
        """Have a worker end."""
        self.workers.pop(id).die(status)
        self.reactor.settle()

    def die_twice(self, status: int) -> None:
        """Have worker 2 end, and its successor, so that the next one is not started at once."""
        self.die(2, status)
        self.start(3)
        self.die(3, status)

    def look(self) -> ClusterState:
        """The cluster, now."""
        return look(self.cluster, self.history)
