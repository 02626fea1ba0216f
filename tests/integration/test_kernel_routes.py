"""`--accept workers --sticky ip`: the kernel brings each connection to the worker it belongs to."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration import refusing_kernel
from tests.integration.cluster import Cluster, ServerTestCase, free_port
from tests.integration.processes import until
from tests.integration.rawhttp import payload, request, sha256
from tests.integration.secure import SecureCluster
from tests.integration.test_accept_workers import WORKERS, AcceptCluster, settled
from tests.integration.test_reload_rolling import COMPLETE
from tests.integration.test_upgrade import DONE
from txsticky.core.routing.address_hash import address_word, heaviest

ADDRESSES = [f"127.0.{number % 5}.{number * 3 + 2}" for number in range(64)]
BY_ADDRESS = ("--sticky", "ip")
IN_KERNEL = "The kernel itself routes connections"
NOT_IN_KERNEL = "The kernel cannot route connections by address"


def hashed(source: str, slots: range) -> int:
    """The worker that the hash chooses for an address."""
    word = address_word(source.encode())
    assert word is not None
    return heaviest(word, slots)


def counted(state: Callable[[], Any]) -> Counter[str]:
    """`KernelCluster.counted`, by what returns the cluster's state."""

    def read() -> Counter[str]:
        told = state()
        counts: Counter[str] = Counter(all=told["primary"]["accepted"])
        for totals in told["totals"]:
            counts.update({name: totals[name] for name in ("accepted", "handoffs", "given")})
        return counts

    return settled(read)


class KernelCluster(AcceptCluster):
    """A cluster whose clients are told apart by their addresses."""

    def __init__(self, *options: str, workers: int = 3) -> None:
        super().__init__(*BY_ADDRESS, *options, workers=workers)

    def worker_of(self, source: str, **options: Any) -> int:
        """The worker that answers an address."""
        return int(self.get("/", source=source, **options).header("x-worker") or 0)

    def owners(self, rounds: int = 2) -> dict[str, int]:
        """The worker that answers each address, in every round the same."""
        found: dict[str, int] = {}
        for source in ADDRESSES * rounds:
            slot = self.worker_of(source)
            if found.setdefault(source, slot) != slot:
                raise AssertionError(f"{source} was at worker {found[source]}, and is at {slot}")
        return found

    def counted(self) -> Counter[str]:
        """Connections so far: accepted in all, accepted by workers, handed over and given away."""
        return counted(self.state)


class RefusedCluster(KernelCluster):
    """A cluster under a kernel that knows no programs for shared ports."""

    command = (sys.executable, refusing_kernel.__file__)


class KernelCase(SynchronousTestCase):
    """A kernel that routes."""

    def check(self, cluster: KernelCluster, slots: range) -> None:
        """Assert that each connection is accepted by the worker that the hash chooses."""
        if NOT_IN_KERNEL in cluster.log():
            raise SkipTest("this kernel takes no programs")
        before = cluster.counted()
        wanted = {source: hashed(source, slots) for source in ADDRESSES}
        self.assertEqual(cluster.owners(), wanted)
        self.assertEqual(set(wanted.values()), set(slots))
        after = cluster.counted()
        after.subtract(before)
        number = 2 * len(ADDRESSES)
        self.assertEqual(
            dict(after), {"all": number, "accepted": number, "handoffs": number, "given": 0}
        )


class Everyday(KernelCase, ServerTestCase):
    """Three workers."""

    options: ClassVar[tuple[str, ...]] = ()

    def server(self) -> KernelCluster:
        return KernelCluster()

    @property
    def cluster(self) -> KernelCluster:
        """The cluster under test."""
        assert isinstance(self._shared, KernelCluster)
        return self._shared

    def test_each_at_its_own(self) -> None:
        """From 64 addresses nothing is handed over, and the log and the status say why."""
        self.check(self.cluster, range(1, 4))
        self.assertEqual(self.cluster.log().count(IN_KERNEL), 1)
        self.assertEqual(self.cluster.state()["kernel_routes"], "in the kernel")

    def test_kept_alive(self) -> None:
        """Request after request stays where its connection came in."""
        for source in ADDRESSES[:10]:
            with self.cluster.connect(source=source) as connection:
                for _ in range(5):
                    answer = connection.ask(request("GET", "/"))
                    self.assertEqual(answer.header("x-worker"), str(hashed(source, range(1, 4))))


class Changes(KernelCase):
    """What happens to a cluster."""

    def test_reload(self) -> None:
        """After a rolling reload every address is where it was."""
        with KernelCluster() as cluster:
            cluster.signal(signal.SIGHUP)
            until(lambda: COMPLETE in cluster.log(), 30, COMPLETE)
            self.check(cluster, range(1, 4))

    def test_upgrade(self) -> None:
        """After upgrades every address is where it was, also with workers of before and after."""
        with KernelCluster() as cluster:
            for number in (1, 2):
                cluster.signal(signal.SIGUSR2)
                until(lambda: cluster.log().count(DONE) == number, 30, DONE)  # noqa: B023
                self.check(cluster, range(1, 4))
                cluster.signal(signal.SIGTTIN)
                cluster.size = 4
                cluster.wait_ready()
                self.check(cluster, range(1, 5))
                cluster.signal(signal.SIGTTOU)
                until(lambda: len(cluster.workers()) == 3, 30, "three are left")
            self.check(cluster, range(1, 4))

    def test_more_and_less(self) -> None:
        """A worker more takes its own addresses only; a worker less gives up its own only."""
        with KernelCluster(workers=2) as cluster:
            for size in (3, 4, 3, 2, 1, 2):
                more = size > cluster.size
                cluster.signal(signal.SIGTTIN if more else signal.SIGTTOU)
                cluster.size = size
                if more:
                    cluster.wait_ready()
                else:
                    until(lambda: len(cluster.workers()) == size, 30, f"{size} are left")  # noqa: B023
                self.check(cluster, range(1, size + 1))

    def test_killed(self) -> None:
        """Connections that wait at a worker when it is killed are answered, all of them."""
        with KernelCluster("--worker-timeout", "0", workers=2) as cluster:
            self.check(cluster, range(1, 3))
            of_two = [source for source in ADDRESSES if hashed(source, range(1, 3)) == 2]
            pid = cluster.kill_worker(2, signal.SIGSTOP)
            asking = [cluster.connect(source=source) for source in of_two]
            for number, connection in enumerate(asking):
                connection.send(request("POST", f"/?n={number}", body=payload(30_000)))
            time.sleep(0.5)
            os.kill(pid, signal.SIGKILL)
            for number, connection in enumerate(asking):
                answer = connection.response()
                self.assertEqual(answer.header("x-n"), str(number))
                self.assertEqual(answer.header("x-sha256"), sha256([payload(30_000)]))
                connection.close()
            until(lambda: cluster.workers().get(2, pid) != pid, 30, "another worker 2")
            cluster.wait_ready()
            self.check(cluster, range(1, 3))

    def test_stopped(self) -> None:
        """While a worker says nothing its addresses are at others, and theirs stay there."""
        with KernelCluster("--worker-timeout", "0") as cluster:
            before = cluster.owners()
            pid = cluster.kill_worker(2, signal.SIGSTOP)
            until(cluster.suspects, 10, "it is suspect")
            during = cluster.owners()
            self.assertEqual(set(during.values()), {1, 3})
            for source, slot in before.items():
                if slot != 2:
                    self.assertEqual(during[source], slot)
            os.kill(pid, signal.SIGCONT)
            until(lambda: not cluster.suspects(), 10, "it is back")
            self.check(cluster, range(1, 4))


class Endpoints(KernelCase):
    """What is served, and at which sockets."""

    def test_one_worker(self) -> None:
        """One worker has all."""
        with KernelCluster(workers=1) as cluster:
            self.check(cluster, range(1, 2))

    def test_both_families(self) -> None:
        """IPv4 clients of an IPv6 socket are at the same workers as those of an IPv4 one."""
        port = free_port()
        with KernelCluster("--listen", f"tcp6:{port}:interface=\\:\\:") as cluster:
            cluster.port, first = port, cluster.port
            self.check(cluster, range(1, 4))
            cluster.port = first
            self.check(cluster, range(1, 4))

    def test_tls(self) -> None:
        """Over TLS each connection comes in where it is served: none is relayed."""
        status = f"127.0.0.1:{free_port()}"

        def state() -> Any:
            with urllib.request.urlopen(f"http://{status}/status.json", timeout=60) as answer:
                return json.load(answer)

        options = (*WORKERS, *BY_ADDRESS, "--status", status)
        with SecureCluster("echo", *options, workers=3) as cluster:
            until(lambda: IN_KERNEL in cluster.log(), 10, IN_KERNEL)
            context, found, before = cluster.context(), set(), counted(state)
            for source in ADDRESSES[:32]:
                answers = [cluster.get("/", context=context, source=source) for _ in range(3)]
                told = {answer.header("x-worker") for answer in answers}
                self.assertEqual(told, {str(hashed(source, range(1, 4)))}, source)
                found |= told
            self.assertEqual(len(found), 3)
            after = counted(state)
            after.subtract(before)
            self.assertEqual(dict(after), {"all": 96, "accepted": 96, "handoffs": 96, "given": 0})

    def test_speaks_first(self) -> None:
        """A server that speaks first greets each address from its worker."""
        with Cluster("lines", *WORKERS, *BY_ADDRESS, workers=3, probe="") as cluster:
            until(lambda: IN_KERNEL in cluster.log(), 20, IN_KERNEL)
            for source in ADDRESSES:
                with cluster.connect(source=source) as connection:
                    greeting = connection.socket.recv(64)
                self.assertEqual(greeting, b"worker %d\n" % hashed(source, range(1, 4)))


class Otherwise(SynchronousTestCase):
    """Where the kernel cannot choose."""

    def check(self, cluster: KernelCluster, why: str) -> None:
        """Assert that the log says so once, and each address has its worker all the same."""
        owners = cluster.owners()
        self.assertEqual(owners, {source: hashed(source, range(1, 4)) for source in ADDRESSES})
        self.assertEqual(cluster.log().count(NOT_IN_KERNEL), 1)
        self.assertIn(why, cluster.state()["kernel_routes"])

    def test_proxies(self) -> None:
        """Behind a proxy the workers decide, by the address that it names, with the same hash."""
        with KernelCluster("--forwarded-allow-ips", "127.0.9.9") as cluster:
            self.check(cluster, "--forwarded-allow-ips")
            for source in ADDRESSES[:20]:
                answer = cluster.get("/", ("X-Forwarded-For", source), source="127.0.9.9")
                self.assertEqual(answer.header("x-worker"), str(hashed(source, range(1, 4))))

    def test_refused(self) -> None:
        """A kernel that knows no such programs leaves it to the workers, also after an upgrade."""
        with RefusedCluster() as cluster:
            self.check(cluster, "knows no programs")
            cluster.signal(signal.SIGUSR2)
            until(lambda: DONE in cluster.log(), 30, DONE)
            self.assertEqual(set(cluster.owners().values()), {1, 2, 3})
            self.assertNotIn("Traceback", cluster.log())

    def test_further_down(self) -> None:
        """With an address further down the chain the workers decide, and nothing is said of it."""
        with AcceptCluster("--sticky", "cookie:a,ip", workers=3) as cluster:
            for source in ADDRESSES[:20]:
                told = cluster.get("/", source=source).header("x-worker")
                self.assertEqual(told, str(hashed(source, range(1, 4))))
            self.assertNotIn("routes connections", cluster.log())
            self.assertNotIn(NOT_IN_KERNEL, cluster.log())
            self.assertEqual(cluster.state()["kernel_routes"], "")
