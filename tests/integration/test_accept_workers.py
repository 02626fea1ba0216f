"""`--accept workers`: each worker accepts, and all that holds of a cluster holds all the same."""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import ClassVar, TypeVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.cluster import ROOT, START, Cluster, ServerTestCase, free_port
from tests.integration.load import UNHURRIED, Load
from tests.integration.processes import SLACK, until
from tests.integration.rawhttp import Connection, cut, payload, request, sha256
from tests.integration.secure import SecureCluster
from tests.integration.test_reload_rolling import COMPLETE
from tests.integration.test_status import StatusCluster
from tests.integration.test_supervision import TORN
from tests.integration.test_upgrade import DONE
from txsticky.worker.load_report import HEARTBEAT

WORKERS = ("--accept", "workers")
#: Heads that wait for a reload to be complete may take that long, however busy the machine.
PATIENT = ("--head-timeout", "300")
CLOSE = [("Connection", "close")]
PROXY = "127.0.0.9"
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 25)]
Counts = TypeVar("Counts")


def settled(read: Callable[[], Counts]) -> Counts:
    """Read a value until it is the same twice, so far apart that each worker has reported."""
    known = [read()]

    def same() -> bool:
        time.sleep(2 * HEARTBEAT)
        known.append(read())
        return known[-1] == known[-2]

    until(same, 10, "the counts have come to rest")
    return known[-1]


class AcceptCluster(StatusCluster):
    """A cluster whose workers accept."""

    def __init__(self, *options: str, workers: int = 2) -> None:
        super().__init__(*WORKERS, *options, workers=workers)

    def accepted(self) -> dict[int, int]:
        """Connections accepted by each worker once all have reported; clients are at rest."""
        return settled(self.accepted_so_far)

    def accepted_so_far(self) -> dict[int, int]:
        """How many connections each worker has accepted; under 0, how many the primary has."""
        state = self.state()
        found = {worker["worker"]: worker["accepted"] for worker in state["workers"]}
        return {0: state["primary"]["accepted"] - sum(found.values()), **found}

    def placed(self) -> int:
        """How many connections were routed."""
        return settled(lambda: sum(self.state()["primary"]["routes"].values()))

    def slots(self, number: int) -> collections.Counter[int]:
        """The workers that answer so many requests that nothing pins, a connection each."""
        answers = (self.get("/") for _ in range(number))
        return collections.Counter(int(answer.header("x-worker") or 0) for answer in answers)

    def suspects(self) -> bool:
        """Whether a worker gets nothing new."""
        return any(worker["suspect"] for worker in self.state()["workers"])


class Accepting(ServerTestCase):
    """Three workers that serve."""

    options: ClassVar[tuple[str, ...]] = ()

    def server(self) -> AcceptCluster:
        return AcceptCluster(*self.options, workers=3)

    @property
    def cluster(self) -> AcceptCluster:
        """The cluster under test."""
        assert isinstance(self._shared, AcceptCluster)
        return self._shared


class Everyday(Accepting):
    """Which process accepts, and which serves."""

    def test_each_accepts(self) -> None:
        """New connections are accepted and served by all workers, and none by the primary."""
        before, placed = self.cluster.accepted(), self.cluster.placed()
        served = self.cluster.slots(90)
        after = self.cluster.accepted()
        self.assertEqual(after[0], before[0])
        accepted = {slot: after[slot] - before[slot] for slot in (1, 2, 3)}
        self.assertEqual(accepted, dict(served))
        self.assertGreater(min(accepted.values()), 10)
        self.assertEqual(self.cluster.placed(), placed + 90)

    def test_tags(self) -> None:
        """A session's connection reaches its own worker, whichever accepts it; so it is counted."""
        tags, before = self.cluster.tags(), self.cluster.placed()
        for slot, sid in tags.items():
            told = {self.cluster.get(f"/?sid={sid}").header("x-worker") for _ in range(25)}
            self.assertEqual(told, {str(slot)})
        self.assertEqual(self.cluster.placed(), before + 75)

    def test_bound(self) -> None:
        """What an application has bound leads to its worker at once, from every entrance."""
        for number in range(10):
            key = f"key-{number}"
            with self.cluster.connect() as connection:
                answer = connection.ask(request("GET", f"/cluster/bind?key={key}"))
                owner = answer.header("x-worker")
                told = {self.cluster.get(f"/?sid={key}").header("x-worker") for _ in range(8)}
            self.assertEqual(told, {owner})

    def test_unknown(self) -> None:
        """A session that is not known gets one worker, wherever it comes in."""
        for number in range(10):
            told = {self.cluster.get(f"/?sid=x{number}").header("x-worker") for _ in range(8)}
            self.assertEqual(len(told), 1)

    def test_kept(self) -> None:
        """Requests of different sessions on one connection each reach their own worker."""
        with self.cluster.connect() as connection:
            for number in range(60):
                slot, body = number % 3 + 1, payload(number * 1000, number)
                sid = self.cluster.tag(slot)
                answer = connection.ask(request("POST", f"/?sid={sid}", body=body))
                seen = (answer.header("x-worker"), answer.header("x-sha256"))
                self.assertEqual(seen, (str(slot), sha256([body])))

    def test_pieces(self) -> None:
        """However a request is cut, it arrives to the byte at whose it is, with the one behind."""
        draw = random.Random(7)
        for number in range(40):
            slot, body = draw.randint(1, 3), payload(draw.choice((1, 700, 70_000, 300_000)), number)
            first = request("POST", f"/?sid={self.cluster.tag(slot)}&n=1", body=body)
            stream = first + request("GET", "/?n=2", headers=CLOSE)
            pieces = cut(stream, *(draw.randrange(len(first)) for _ in range(draw.randint(0, 4))))
            if number % 2:
                pieces = [*cut(pieces[0], draw.randrange(60)), *pieces[1:]]
            with self.cluster.connect() as connection:
                connection.send(*pieces, gap=0.01)
                answer = connection.response()
                seen = (answer.header("x-worker"), answer.header("x-sha256"))
                self.assertEqual(seen, (str(slot), sha256([body])))
                self.assertEqual(connection.response().header("x-n"), "2")
                connection.end()

    def test_refused(self) -> None:
        """Nonsense and heads that are too long are refused, and counted."""

        def refused() -> int:
            return sum(self.cluster.state()["primary"]["refusals"].values())

        before = refused()
        for stream, status in (
            (b"nonsense\r\n\r\n", 400),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request("GET", "/"), 400),
            (request("GET", "/" + 70_000 * "a"), 431),
        ):
            for _ in range(4):
                with self.cluster.connect() as connection:
                    connection.send(stream)
                    answer = connection.response()
                    seen = (answer.status, answer.header("connection"))
                    self.assertEqual(seen, (status, "close"))
        until(lambda: refused() == before + 12, 5, "all are counted")


class Cookies(Accepting):
    """A cookie that the cluster sets."""

    options = ("--sticky", "insert:worker")

    def test_cookie(self) -> None:
        """A client is served by the same worker on every connection."""
        for _ in range(12):
            first = self.cluster.get("/")
            cookie = (first.header("set-cookie") or "").partition(";")[0]
            told = {self.cluster.get("/", ("Cookie", cookie)).header("x-worker") for _ in range(6)}
            self.assertEqual(told, {first.header("x-worker")})


class Hashed(Accepting):
    """A key by its hash."""

    options = ("--sticky", "hash:header:X-Room")

    def test_rooms(self) -> None:
        """All connections with one value reach one worker, and the values are spread."""
        found = set()
        for number in range(12):
            told = {self.cluster.get("/", ("X-Room", f"{number}")).header("x-worker")
                    for _ in range(6)}  # fmt: skip
            self.assertEqual(len(told), 1)
            found |= told
        self.assertEqual(len(found), 3)


class Proxied(Accepting):
    """The PROXY protocol."""

    options = ("--proxy-protocol", "--forwarded-allow-ips", PROXY, *PATIENT)

    def connect(self) -> Connection:
        """A connection of the proxy."""
        return self.cluster.connect(source=PROXY)

    def proxied(self, number: int) -> bytes:
        """The header for a client of this port."""
        return b"PROXY TCP4 203.0.113.9 192.0.2.1 %d 80\r\n" % number

    def test_the_client_is_named(self) -> None:
        """The application sees the client that the proxy names, though the connection moved."""
        tags = self.cluster.tags()
        for number in range(30):
            slot = number % 3 + 1
            stream = self.proxied(number) + request("GET", f"/?sid={tags[slot]}")
            with self.connect() as connection:
                connection.send(*cut(stream, number * 2), gap=0.005)
                told = json.loads(connection.response().body)
                self.assertEqual(told["peer"], f"203.0.113.9:{number}")
                self.assertEqual(told["worker"], str(slot))

    def test_half_a_header(self) -> None:
        """A PROXY header may be complete only after its worker has left."""
        halves = []
        for number in range(20):
            connection = self.connect()
            connection.send(self.proxied(number)[: 10 * (number % 5)])
            halves.append(connection)
        time.sleep(1.5)  # so that the kernel has handed over those that say nothing
        self.cluster.signal(signal.SIGHUP)
        until(lambda: COMPLETE in self.cluster.log(), 30, COMPLETE)
        for number, connection in enumerate(halves):
            rest = self.proxied(number)[10 * (number % 5) :]
            connection.send(rest + request("GET", "/"))
            told = json.loads(connection.response().body)
            self.assertEqual(told["peer"], f"203.0.113.9:{number}")
            connection.close()


class Changes(SynchronousTestCase):
    """What happens to a cluster, under load."""

    clients: ClassVar = {"kept": 4, "short": 4, "upload": 2, "poll": 3, "slow": 2}

    def test_reloads(self) -> None:
        """Rolling reloads: no request fails."""
        with AcceptCluster(*UNHURRIED) as cluster:
            before = cluster.workers()
            with Load(cluster, self.clients) as load:
                load.wait(100)
                for number in range(1, 4):
                    cluster.signal(signal.SIGHUP)
                    until(lambda: cluster.log().count(COMPLETE) == number, 30, COMPLETE)  # noqa: B023
                load.wait(100)
            self.assertEqual(load.failures, [])
            self.assertFalse(set(before.values()) & set(cluster.workers().values()))
            self.assertEqual(set(cluster.slots(60)), {1, 2})

    def test_half_heads(self) -> None:
        """Heads that are not complete when a worker leaves are complete with another one."""
        with AcceptCluster(*PATIENT) as cluster:
            stream = request("POST", "/", body=payload(50_000))
            halves = [cluster.connect() for _ in range(30)]
            for number, connection in enumerate(halves):
                connection.send(stream[: number * 2])
            time.sleep(1.5)  # so that the kernel has handed over those that say nothing
            cluster.signal(signal.SIGHUP)
            until(lambda: COMPLETE in cluster.log(), 30, COMPLETE)
            for number, connection in enumerate(halves):
                connection.send(stream[number * 2 :])
                answer = connection.response()
                self.assertEqual(answer.header("x-sha256"), sha256([payload(50_000)]))
                connection.close()

    def test_upgrades(self) -> None:
        """The primary executes itself anew: no request fails, and the same workers accept."""
        with AcceptCluster() as cluster:
            cluster.signal(signal.SIGUSR2)
            until(lambda: DONE in cluster.log(), 30, DONE)
            before, workers = cluster.settled(), cluster.workers()
            with Load(cluster, self.clients) as load:
                load.wait(100)
                for number in range(2, 5):
                    cluster.signal(signal.SIGUSR2)
                    until(lambda: cluster.log().count(DONE) == number, 30, DONE)  # noqa: B023
                    load.wait(60)
            self.assertEqual((load.failures, cluster.workers()), ([], workers))
            until(lambda: cluster.descriptors() == before, 10, f"{before} descriptors again")
            self.assertEqual(set(cluster.slots(60)), {1, 2})
            self.assertEqual(cluster.accepted()[0], 0)
            pid = cluster.kill_worker(2)
            until(lambda: cluster.workers().get(2, pid) != pid, 20, "the worker is back")
            cluster.wait_ready()
            self.assertEqual(set(cluster.slots(60)), {1, 2})

    def test_more_and_less(self) -> None:
        """A worker that is added accepts; when one is taken away, no client waits in vain."""
        with AcceptCluster(*UNHURRIED) as cluster, Load(cluster, self.clients) as load:
            load.wait(60)
            cluster.signal(signal.SIGTTIN)
            cluster.size = 3
            cluster.wait_ready()
            self.assertGreater(cluster.slots(90)[3], 10)
            until(lambda: cluster.accepted_so_far()[3] > 10, 10, "the third accepts")
            for left in ({1, 2}, {1}):
                cluster.signal(signal.SIGTTOU)
                until(lambda: set(cluster.workers()) == left, 30, f"{left} are left")  # noqa: B023
            self.assertEqual(cluster.slots(60), {1: 60})
            load.stop()
            self.assertEqual(load.failures, [])

    def test_stop(self) -> None:
        """Stopped gracefully, every client that asked by then is answered, and the port is free."""
        with AcceptCluster() as cluster:
            asking = [cluster.connect() for _ in range(40)]
            for connection in asking:
                connection.send(request("GET", "/?delay=0.5"))
            cluster.signal(signal.SIGTERM)
            for connection in asking:
                self.assertEqual(connection.response().status, 200)
                connection.close()
            self.assertEqual(cluster.wait(), 0)
            with socket.create_server(("127.0.0.1", cluster.port)):
                pass

    def test_stop_under_load(self) -> None:
        """Clients who come back as soon as they are answered do not keep it from stopping."""
        with AcceptCluster("--graceful-timeout", "300") as cluster:
            with Load(cluster, {"short": 12}, pause=0.0) as load:
                load.wait(300)
                cluster.signal(signal.SIGTERM)
                self.assertEqual(cluster.wait(), 0)
            wrong = [f for f in load.failures if "Refused" not in f and "Reset" not in f]
            self.assertEqual(wrong, [])


class Faults(SynchronousTestCase):
    """Workers that cannot accept."""

    def test_killed(self) -> None:
        """kill -9 under load: only what the dead worker held is lost."""
        with AcceptCluster(workers=3) as cluster:
            with Load(cluster, {"kept": 12, "short": 3}, pause=0.005) as load:
                load.wait(300)
                pid = cluster.workers()[2]
                held = sum(client.pid == str(pid) for client in load.members)
                os.kill(pid, signal.SIGKILL)
                until(lambda: cluster.workers().get(2, pid) != pid, 30, "another worker 2")
                cluster.wait_ready()
                load.wait(300)
            self.assertEqual([f for f in load.failures if not any(w in f for w in TORN)], [])
            self.assertLessEqual(len(load.failures), held + 3)
            self.assertGreater(cluster.slots(90)[2], 10)

    def test_stopped_and_killed(self) -> None:
        """Clients at a worker that never comes to accept are served by others, all of them."""
        with AcceptCluster("--worker-timeout", "0") as cluster:
            cluster.kill_worker(2, signal.SIGSTOP)
            asking = [cluster.connect() for _ in range(40)]
            for number, connection in enumerate(asking):
                connection.send(request("POST", f"/?n={number}", body=payload(30_000)))
            time.sleep(0.5)
            cluster.kill_worker(2)
            for number, connection in enumerate(asking):
                answer = connection.response()
                self.assertEqual(answer.header("x-n"), str(number))
                self.assertEqual(answer.header("x-sha256"), sha256([payload(30_000)]))
                connection.close()

    def test_stopped(self) -> None:
        """As long as a worker is stopped, the primary accepts for it; afterwards it does again."""
        with AcceptCluster("--worker-timeout", "0") as cluster:
            pid = cluster.kill_worker(2, signal.SIGSTOP)
            asking = [cluster.connect() for _ in range(40)]
            for connection in asking:
                connection.send(request("GET", "/"))
            for connection in asking:
                self.assertEqual(connection.response().header("x-worker"), "1")
                connection.close()
            self.assertEqual(cluster.slots(30), {1: 30})
            os.kill(pid, signal.SIGCONT)
            until(lambda: not cluster.suspects(), 5, "it is back")
            before = cluster.accepted()
            self.assertGreater(cluster.slots(60)[2], 10)
            self.assertEqual(cluster.accepted()[0], before[0])

    def test_primary_killed(self) -> None:
        """Without a primary the workers finish what they have, leave, and the port is free."""
        with AcceptCluster() as cluster:
            asking = [cluster.connect() for _ in range(20)]
            for connection in asking:
                connection.send(request("GET", "/?delay=0.5"))
            time.sleep(0.2)
            cluster.signal(signal.SIGKILL)
            for connection in asking:
                self.assertEqual(connection.response().status, 200)
                connection.close()
            until(lambda: not cluster.living(), 10, "all have left")
            with socket.create_server(("127.0.0.1", cluster.port)):
                pass


class Endpoints(SynchronousTestCase):
    """What is listened on."""

    def test_unix(self) -> None:
        """At a UNIX socket the primary accepts, and connections move between workers as ever."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "socket")
        with AcceptCluster("--listen", f"unix:{path}") as cluster:
            tags, before = cluster.tags(), cluster.accepted()[0]
            with socket.socket(socket.AF_UNIX) as local:
                local.connect(path)
                with Connection.over(local) as connection:
                    for number in range(10):
                        slot = number % 2 + 1
                        answer = connection.ask(request("GET", f"/?sid={tags[slot]}"))
                        self.assertEqual(answer.header("x-worker"), str(slot))
            self.assertEqual(cluster.accepted()[0], before + 1)

    def test_ipv6(self) -> None:
        """Over IPv6 as over IPv4."""
        port = free_port()
        try:
            socket.create_server(("::1", port), family=socket.AF_INET6).close()
        except OSError:
            raise SkipTest("this machine has no IPv6") from None
        with AcceptCluster("--listen", f"[::1]:{port}") as cluster:
            tags, before = cluster.tags(), cluster.accepted()
            found = set()
            for number in range(60):
                with Connection.over(socket.create_connection(("::1", port))) as connection:
                    name = connection.socket.getsockname()
                    told = json.loads(connection.ask(request("GET", "/")).body)
                    self.assertEqual(told["peer"], f"::1:{name[1]}")
                    found.add(told["worker"])
                    slot = number % 2 + 1
                    answer = connection.ask(request("GET", f"/?sid={tags[slot]}"))
                    self.assertEqual(answer.header("x-worker"), str(slot))
            self.assertEqual((found, cluster.accepted()[0]), ({"1", "2"}, before[0]))

    def test_port_in_use(self) -> None:
        """A port at which another cluster's workers accept is in use: one line, and not code 0."""
        with AcceptCluster() as cluster:
            listen = f"127.0.0.1:{cluster.port}"
            done = subprocess.run(
                [sys.executable, "-m", "txsticky", "-l", listen, *WORKERS, "-w", "2"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=SLACK * START,
            )
            self.assertNotEqual(done.returncode, 0)
            (line,) = done.stderr.splitlines()
            self.assertIn(listen, line)
            self.assertIn("in use", line)
            self.assertEqual(set(cluster.slots(40)), {1, 2})

    def test_tls(self) -> None:
        """Over TLS a connection stays where it came in; each request is served where it belongs."""
        with SecureCluster("echo", *WORKERS) as cluster:
            context = cluster.context()
            found = {cluster.get("/", context=context).header("x-worker") for _ in range(40)}
            self.assertEqual(found, {"1", "2"})
            for slot, sid in cluster.tags().items():
                for number in range(6):
                    body = payload(100_000, number)
                    with cluster.connect(context=context) as connection:
                        answer = connection.ask(request("POST", f"/?sid={sid}", body=body))
                    seen = (answer.header("x-worker"), answer.header("x-sha256"))
                    self.assertEqual(seen, (str(slot), sha256([body])))

    def test_tls_by_address(self) -> None:
        """By its address a client's TLS connection reaches its worker before it is decrypted."""
        with SecureCluster("echo", *WORKERS, "--sticky", "ip") as cluster:
            context, found = cluster.context(), set()
            for address in ADDRESSES:
                told = {
                    cluster.get("/", context=context, source=address).header("x-worker")
                    for _ in range(4)
                }
                self.assertEqual(len(told), 1, address)
                found |= told
            self.assertEqual(found, {"1", "2"})

    def test_asgi(self) -> None:
        """An ASGI application's workers accept on asyncio's loop."""
        app = "tests.integration.asgi_apps:shy"
        with Cluster(app, *WORKERS, "--debug-headers", probe="/") as cluster:
            until(lambda: self.both(cluster), 20, "both have answered")
            body = payload(100_000)
            stream = request("POST", "/body", body=body)
            for number in range(40):
                with cluster.connect() as connection:
                    connection.send(*cut(stream, number * 4), gap=0.005)
                    answer = connection.response()
                self.assertEqual(json.loads(answer.body)["sha256"], sha256([body]))

    def both(self, cluster: Cluster) -> bool:
        """Whether both workers answer."""
        return {cluster.get("/").header("x-txsticky-worker") for _ in range(30)} == {"1", "2"}

    def test_lines(self) -> None:
        """A server that speaks first greets at once, from both workers."""
        with Cluster("lines", *WORKERS, "--sticky", "auto", probe="") as cluster:

            def greeting() -> bytes:
                with cluster.connect() as connection:
                    return connection.socket.recv(64)

            until(lambda: {greeting() for _ in range(20)} == {b"worker 1\n", b"worker 2\n"}, 20)
