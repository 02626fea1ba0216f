"""The bus between real workers, and between clusters over a real Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlencode

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.certificates import pair
from tests.integration import processes
from tests.integration.cluster import ROOT, Cluster, ClusterTestCase
from tests.integration.processes import until
from tests.integration.redisserver import MISSING, RedisServer
from txsticky.api import MESSAGE_LIMIT
from txsticky.bus.backplane import Shore
from txsticky.core.redis_url import parse_bus
from txsticky.system.system import System

APP = "tests.integration.bus_app:app"


def tell(cluster: Cluster, slot: int, action: str, topic: str, **arguments: object) -> Any:
    """What the worker answers to that command of `bus_app`."""
    query = urlencode({"sid": cluster.tag(slot), "topic": topic, **arguments})
    return json.loads(cluster.get(f"/bus/{action}?{query}").body)["told"]


def heard(cluster: Cluster, slot: int, topic: str) -> list[str]:
    """What the worker has heard of the topic."""
    told: list[str] = tell(cluster, slot, "heard", topic)["heard"]
    return told


class OutsideTests(SynchronousTestCase):
    """A process that is no worker."""

    def publish(self, path: str, topic: str, message: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return subprocess.run(
            [sys.executable, "-m", "txsticky", "publish", "--control", path, topic, message],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_command(self) -> None:
        """The workers that listen get what the command publishes; where none does it fails."""
        folder = tempfile.TemporaryDirectory(prefix="txsticky-")
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name, "ctl"))
        with Cluster(APP, "--control", path) as cluster:
            done = self.publish(path, "t", "too early")
            self.assertEqual(done.returncode, 1)
            self.assertIn("No worker listens to the topic 't'", done.stderr)
            for slot in (1, 2):
                tell(cluster, slot, "listen", "t")
            done = self.publish(path, "t", "hello")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            until(lambda: [heard(cluster, n, "t") for n in (1, 2)] == [["hello"]] * 2, 10, "heard")


class WorkersTests(ClusterTestCase):
    """Three workers of one cluster."""

    app = APP
    workers = 3

    def listen(self, topic: str) -> None:
        for slot in (1, 2, 3):
            tell(self.cluster, slot, "listen", topic)

    def test_every_worker(self) -> None:
        """A message reaches all three workers once, whichever publishes it."""
        self.listen("all")
        for slot in (1, 2, 3):
            tell(self.cluster, slot, "publish", "all", message=f"from {slot}")
        for slot in (1, 2, 3):
            until(lambda slot=slot: len(heard(self.cluster, slot, "all")) == 3, what="three come")
            self.assertEqual(
                sorted(heard(self.cluster, slot, "all")), ["from 1 0", "from 2 0", "from 3 0"]
            )

    def test_left(self) -> None:
        """A worker that has left a topic hears no more of it."""
        self.listen("left")
        tell(self.cluster, 2, "leave", "left")
        tell(self.cluster, 2, "publish", "left", message="x", times=3)
        until(lambda: len(heard(self.cluster, 1, "left")) == 3)
        self.assertEqual(heard(self.cluster, 2, "left"), [])

    def test_order(self) -> None:
        """Messages of one publisher arrive in their order, all of them."""
        self.listen("order")
        with self.cluster.connect() as one, self.cluster.connect() as two:
            for connection, slot in ((one, 1), (two, 2)):
                query = urlencode(
                    {
                        "sid": self.cluster.tag(slot),
                        "topic": "order",
                        "message": slot,
                        "times": 3000,
                    }
                )
                connection.send(f"GET /bus/publish?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            one.response()
            two.response()
        for slot in (1, 2, 3):
            until(lambda slot=slot: len(heard(self.cluster, slot, "order")) == 6000)
            said = heard(self.cluster, slot, "order")
            for publisher in ("1", "2"):
                mine = [text for text in said if text.startswith(publisher)]
                self.assertEqual(mine, [f"{publisher} {number}" for number in range(3000)])

    def test_size(self) -> None:
        """A message at the bound arrives; one over it is an error to its sender."""
        self.listen("big")
        largest = MESSAGE_LIMIT - len("big")
        self.assertIsNone(tell(self.cluster, 1, "publish", "big", message="x", size=largest))
        told = tell(self.cluster, 1, "publish", "big", message="y", size=largest + 1)
        self.assertIn("MessageTooLarge", told["error"])
        self.assertIn(str(MESSAGE_LIMIT), told["error"])
        for slot in (1, 2, 3):
            until(lambda slot=slot: heard(self.cluster, slot, "big") == ["x 0"], 20)

    def test_slow_worker(self) -> None:
        """A worker that does not listen for a while loses, knows it, and grows no other process."""
        self.listen("slow")
        before = processes.memory(self.cluster.pid)
        stopped = self.cluster.workers()[3]
        os.kill(stopped, signal.SIGSTOP)
        try:
            for number in range(30):
                tell(self.cluster, 1, "publish", "slow", message=number, times=4, size=500_000)
                due = 4 * (number + 1)
                for slot in (1, 2):
                    until(lambda s=slot, n=due: len(heard(self.cluster, s, "slow")) == n, 20)
            grown = processes.memory(self.cluster.pid) - before
        finally:
            os.kill(stopped, signal.SIGCONT)
        self.assertLess(grown, 30_000_000)  # of 60 MB
        until(lambda: tell(self.cluster, 3, "heard", "slow")["lost"], 20, "the loss is told")
        told = tell(self.cluster, 3, "heard", "slow")
        self.assertEqual(len(told["heard"]) + sum(told["lost"]), 120)
        tell(self.cluster, 1, "publish", "slow", message="after")
        until(lambda: heard(self.cluster, 3, "slow")[-1] == "after 0", what="it hears again")
        self.assertEqual(self.cluster.log().count("worker 3 does not keep up with the bus"), 1)


class LifeTests(SynchronousTestCase):
    """Workers that come and go."""

    def test_replaced(self) -> None:
        """The bus goes on without a worker that dies or reloads, and with its successor."""
        with Cluster(APP) as cluster:
            for slot in (1, 2):
                tell(cluster, slot, "listen", "t")
            dead = cluster.kill_worker(2)
            tell(cluster, 1, "publish", "t", message="alone")
            until(lambda: heard(cluster, 1, "t") == ["alone 0"])
            cluster.forget_tags()
            until(lambda: cluster.workers().get(2, dead) != dead, 30, "worker 2 is replaced")
            cluster.wait_ready()
            tell(cluster, 2, "listen", "t")
            tell(cluster, 2, "publish", "t", message="again")
            for slot, expected in ((1, ["alone 0", "again 0"]), (2, ["again 0"])):
                until(lambda s=slot, e=expected: heard(cluster, s, "t") == e)


class RedisTests(SynchronousTestCase):
    """Two clusters that share a Redis."""

    if MISSING:
        skip = MISSING

    def listen(self, *clusters: Cluster) -> None:
        for cluster in clusters:
            for slot in (1, 2):
                tell(cluster, slot, "listen", "t")

    def all_hear(self, clusters: tuple[Cluster, ...], expected: list[str]) -> None:
        for cluster in clusters:
            for slot in (1, 2):
                until(lambda c=cluster, s=slot: len(heard(c, s, "t")) >= len(expected), 10)
                self.assertEqual(heard(cluster, slot, "t"), expected)

    def test_two_clusters(self) -> None:
        """Messages reach the workers of both, once, in order; without Redis, those of their own."""
        with (
            RedisServer("pa/ss") as redis,
            Cluster(APP, "--bus", redis.url.replace("pa/ss", "pa%2Fss")) as one,
            Cluster(APP, "--bus", redis.url.replace("pa/ss", "pa%2Fss")) as two,
        ):
            both = (one, two)
            self.listen(*both)
            until(lambda: redis.subscribers() == 4, 10, "both have subscribed, and to notices")
            tell(one, 1, "publish", "t", message="a", times=200)
            expected = [f"a {number}" for number in range(200)]
            self.all_hear(both, expected)
            tell(two, 2, "publish", "t", message="big", size=3_000_000)
            self.all_hear(both, [*expected, "big 0"])

            redis.stop()
            until(lambda: all("does not reach Redis" in cluster.log() for cluster in both))
            tell(one, 2, "publish", "t", message="here")
            self.all_hear((one,), [*expected, "big 0", "here 0"])

            for slot in (1, 2):
                until(lambda s=slot: tell(one, s, "outage", "t"), 10, "the publisher can know")
            cut = time.time()

            redis.start()
            until(lambda: all("reaches Redis again" in cluster.log() for cluster in both), 20)
            until(lambda: redis.subscribers() == 4, 10, "both have subscribed, and to notices")
            for cluster in both:
                until(lambda c=cluster: tell(c, 1, "heard", "t")["gaps"], 10, "the gap is told")
                ((since, till),) = tell(cluster, 1, "heard", "t")["gaps"]
                self.assertTrue(since < cut < till, (since, cut, till))
                self.assertIsNone(tell(cluster, 1, "outage", "t"))
            tell(two, 1, "publish", "t", message="back")
            self.all_hear((one,), [*expected, "big 0", "here 0", "back 0"])
            self.all_hear((two,), [*expected, "big 0", "back 0"])
            for cluster in both:
                self.assertEqual(cluster.log().count("(the connection was lost: "), 1)
                self.assertLessEqual(cluster.log().count("does not reach Redis"), 2)
                self.assertNotIn("pa/ss", cluster.log())
            self.assertIn("Messages that have stayed on this machine: 1.", one.log())


class BackplaneTests(TestCase):
    """The backplane alone, with a real Redis."""

    if MISSING:
        skip = MISSING

    def redis(self, password: str = "") -> RedisServer:
        redis = RedisServer(password)
        redis.start()
        self.addCleanup(redis.stop)
        return redis

    def backplane(self, redis: RedisServer, heard: list[Any]) -> Any:
        from txsticky.bus.redis import RedisBackplane

        address, shore = parse_bus(redis.url), mock.Mock(spec=Shore)
        assert address is not None
        shore.arrived = lambda *message: heard.append(message)
        backplane = RedisBackplane(address, System(reactor), shore)
        self.addCleanup(backplane.stop)
        backplane.start()
        return backplane

    async def eventually(self, fact: Callable[[], object]) -> None:
        for _ in range(1000):
            if fact():
                return
            await pause(0.02)
        self.fail("not so after 20 s")

    async def test_topics(self) -> None:
        """A topic is heard while a client listens; bytes stay bytes; one's own are not heard."""
        redis, heard = self.redis(), []
        one, two = self.backplane(redis, heard), self.backplane(redis, [])
        topics = [b"%d" % number for number in range(50)]
        for topic in topics:
            one.subscribe(topic)
        await self.eventually(lambda: heard or two.publish(b"49", b"ready"))
        for topic in topics[::2]:
            one.unsubscribe(topic)
        await pause(0.2)
        heard.clear()
        for topic in topics:
            two.publish(topic, b"\xff 1\r\n" + topic)
            two.publish(topic, b"12")
            one.publish(topic, b"own")
        await self.eventually(lambda: len(heard) >= 50)
        expected = [[(topic, b"\xff 1\r\n" + topic), (topic, b"12")] for topic in topics[1::2]]
        self.assertEqual(heard, list(chain.from_iterable(expected)))

    async def test_wrong_password(self) -> None:
        """A password that is refused is told, without it, and tried again: it may be set right."""
        redis, heard = self.redis("right"), []
        redis.password = "hushhush"
        with capturedLogs() as events:
            backplane = self.backplane(redis, heard)
            backplane.subscribe(b"t")
            await self.eventually(lambda: "could not auth" in said(events))
            redis.stop()
            redis.start()
            await self.eventually(lambda: "reaches Redis again" in said(events))
        other = self.backplane(redis, [])
        await self.eventually(lambda: heard or other.publish(b"t", b"x"))
        self.assertEqual(heard[0], (b"t", b"x"))
        self.assertNotIn("hushhush", said(events))
        self.flushLoggedErrors()

    async def test_tls(self) -> None:
        """rediss:// is TLS: a Redis whose certificate is not trusted is not spoken to."""
        certificate = pair(Path(self.mktemp()).resolve().parent, "localhost")
        redis = RedisServer("pw", certificate)
        redis.start()
        self.addCleanup(redis.stop)
        heard: list[Any] = []
        with capturedLogs() as events:
            self.backplane(redis, []).subscribe(b"t")
            await self.eventually(lambda: "certificate verify failed" in said(events))
        os.putenv("SSL_CERT_FILE", certificate.certificate)
        self.addCleanup(os.unsetenv, "SSL_CERT_FILE")
        one, two = self.backplane(redis, heard), self.backplane(redis, [])
        one.subscribe(b"t")
        await self.eventually(lambda: heard or two.publish(b"t", b"x"))
        self.assertEqual(heard[0], (b"t", b"x"))

    async def test_full_or_a_replica(self) -> None:
        """A Redis that is full, or a replica of itself, still passes messages on."""
        redis, heard = self.redis(), []
        one, two = self.backplane(redis, []), self.backplane(redis, heard)
        two.subscribe(b"t")
        await self.eventually(lambda: heard or one.publish(b"t", b"ready"))
        lost, expected = one.lost, [(b"t", b"full"), (b"t", b"replica")]
        heard.clear()
        with redis.client() as client:
            client.config_set("maxmemory", 1)
            one.publish(b"t", b"full")
            await self.eventually(lambda: heard == expected[:1])
            client.config_set("maxmemory", 0)
            client.replicaof("127.0.0.1", redis.port)
            one.publish(b"t", b"replica")
            await self.eventually(lambda: heard == expected)
        self.assertEqual(one.lost, lost)

    async def test_redis_hangs(self) -> None:
        """What a Redis that hangs does not take is dropped beyond a bound, and told once."""
        redis, heard = self.redis(), []
        backplane, other = (
            self.backplane(redis, []),
            self.backplane(redis, heard),
        )
        other.subscribe(b"t")
        await self.eventually(lambda: heard or backplane.publish(b"t", b"ready"))
        lost = backplane.lost
        heard.clear()
        with capturedLogs() as events:
            redis.signal(signal.SIGSTOP)
            for number in range(40):
                backplane.publish(b"t", b"%02d" % number + bytes(1_000_000))
            redis.signal(signal.SIGCONT)
            await self.eventually(lambda: len(heard) + backplane.lost - lost == 40)
            await self.eventually(lambda: "reaches Redis again" in said(events))
        self.assertGreater(backplane.lost, lost + 10)
        self.assertEqual([message[:2] for _, message in heard], [b"%02d" % n for n in range(17)])
        self.assertEqual(said(events).count("it does not keep up"), 1)


def said(events: list[LogEvent]) -> str:
    """What the log says, a line an event."""
    return "\n".join(map(formatEvent, events))


def pause(seconds: float) -> Deferred[None]:
    """Fires after that time."""
    return deferLater(reactor, seconds)


class CommandTests(SynchronousTestCase):
    """The command line."""

    def test_nonsense(self) -> None:
        """A bus that cannot be is told in one line."""
        arguments = [sys.executable, "-m", "txsticky", "--bus", "redis://nowhere:port", APP]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--bus cannot be 'redis://nowhere:port'", done.stderr)
