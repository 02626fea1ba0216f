"""The bus over a stream of a real Redis."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from tests.bus.played import Shore
from tests.integration.redisserver import MISSING, RedisServer
from txsticky.core.redis_url import STREAM, parse_bus
from txsticky.ipc.outside import publish
from txsticky.system.system import System


class StreamTests(TestCase):
    """Two machines, and a Redis that comes and goes."""

    if MISSING:
        skip = MISSING

    def start(self, redis: RedisServer) -> None:
        redis.start()
        self.addCleanup(redis.stop)

    def machine(self, redis: RedisServer) -> tuple[Any, Shore]:
        """A backplane, and the hub that it tells."""
        from txsticky.bus.stream import StreamBackplane

        address, shore = parse_bus(f"{redis.stream}?length=100"), Shore()
        assert address is not None
        backplane = StreamBackplane(address, System(reactor), shore)
        self.addCleanup(backplane.stop)
        backplane.start()
        return backplane, shore

    async def until(self, shore: Shore, *kinds: str) -> list[Any]:
        """Wait until the hub has been told the last of these; returns what was told of them."""
        told: list[Any] = []
        for _ in range(1000):
            told += [news for news in shore.take() if news[0] in kinds]
            if any(news[0] == kinds[-1] for news in told):
                return told
            await deferLater(reactor, 0.02)
        raise AssertionError(f"not told after 20 s: {kinds[-1]}")

    async def ready(self, shore: Shore) -> None:
        """Wait until a machine has begun to read, and what it says goes out: in either order."""
        told: list[Any] = []
        for _ in range(1000):
            told += shore.take()
            if ("outage", None) in told and any(news[0] == "gap" for news in told):
                return
            await deferLater(reactor, 0.02)
        raise AssertionError(f"not ready after 20 s: {told}")

    async def test_outages(self) -> None:
        """Nothing is lost while Redis is away, full, or a replica; an empty one is told."""
        folder = self.mktemp()
        os.makedirs(folder)
        redis = RedisServer("pass", keeps=os.path.abspath(folder))
        self.start(redis)
        (one, _), (two, shore) = self.machine(redis), self.machine(redis)
        await self.ready(shore)
        one.publish(b"t", b"1")
        self.assertEqual(await self.until(shore, "gap", "arrived"), [("arrived", b"t", b"1")])

        with capturedLogs() as events:
            redis.stop()
            await self.until(shore, "outage")
            one.publish(b"t", b"2")
            redis.start()
            self.assertEqual(await self.until(shore, "gap", "arrived"), [("arrived", b"t", b"2")])

            with redis.client() as client:
                client.config_set("maxmemory", 1)
                one.publish(b"t", b"3")
                while "OOM" not in "".join(map(formatEvent, events)):
                    await deferLater(reactor, 0.02)
                client.config_set("maxmemory", 0)
                told = await self.until(shore, "gap", "arrived")
                self.assertEqual(told, [("arrived", b"t", b"3")])

                client.replicaof("127.0.0.1", redis.port)
                one.publish(b"t", b"4")
                while "READONLY" not in "".join(map(formatEvent, events)):
                    await deferLater(reactor, 0.02)
                client.replicaof("NO", "ONE")
                told = await self.until(shore, "gap", "arrived")
                self.assertEqual(told, [("arrived", b"t", b"4")])
        self.assertEqual((one.lost, two.lost), (0, 0))

        redis.keeps = None
        redis.stop()
        redis.start()
        self.assertEqual([news[0] for news in await self.until(shore, "arrived", "gap")], ["gap"])
        publish("t", b"5", bus=redis.stream)
        self.assertEqual(await self.until(shore, "gap", "arrived"), [("arrived", b"t", b"5")])

    async def test_trimmed(self) -> None:
        """A machine that was away for longer than the stream is long is told, and goes on."""
        redis = RedisServer()
        self.start(redis)
        (one, _), (two, shore) = self.machine(redis), self.machine(redis)
        await self.ready(shore)
        transport = two._in.redis.transport
        transport.pauseProducing()  # it reads no more
        with redis.client() as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(500):
                entry = {b"outsider": b'{"number": 0}', b"t": b"%d" % number}
                pipeline.xadd(STREAM, entry, maxlen=100, approximate=True)
            pipeline.execute()
            self.assertLess(client.xlen(STREAM), 300)
        transport.resumeProducing()
        heard: list[Any] = []
        while not heard or heard[-1][-1] != b"499":
            heard += await self.until(shore, "gap", "arrived")
        gaps = [news[1:] for news in heard if news[0] == "gap"]
        self.assertTrue(gaps)  # of two reads that were cut off, each tells its own
        for since, until in gaps:
            self.assertLessEqual(since, until)
        one.publish(b"t", b"on")
        self.assertEqual(await self.until(shore, "gap", "arrived"), [("arrived", b"t", b"on")])
