"""The channel layer, by its specification; alone, in a worker and outside of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgpack
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import ChannelLayerManager
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from txsticky import api
from txsticky.channels import ChannelLayer
from txsticky.channels import layer as layers
from txsticky.channels.layer import Loopback
from txsticky.errors import BusOverrun, CannotReceive, NoListener
from txsticky.ipc import outside


class FakeHere(Loopback):
    """A worker whose bus leads back to itself, and is full at first."""

    def __init__(self) -> None:
        super().__init__()
        self.fulls = 0

    def publish(self, topic: str, message: bytes) -> None:
        """Publish."""
        if self.fulls:
            self.fulls -= 1
            raise BusOverrun(waiting=9)
        super().publish(topic, message)


class LayerCase(SynchronousTestCase):
    """A layer in a process alone."""

    def setUp(self) -> None:
        self.layer = ChannelLayer(capacity=3)
        self.now = 0.0
        self.patch(layers, "monotonic", lambda: self.now)

    async def received(self, channel: str) -> Any:
        """What is received, or None where nothing is."""
        try:
            return await asyncio.wait_for(self.layer.receive(channel), 0.05)
        except TimeoutError:
            return None

    def run_async(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario."""
        asyncio.run(scenario())


class SpecificationTests(LayerCase):
    """What the specification of channel layers says."""

    def test_send_and_receive(self) -> None:
        """A message arrives as it was: text, bytes, numbers, lists, dictionaries, None."""
        message = {"type": "a.b", "b": b"\0", "n": [1, 2.5, None, True], "d": {"ü": {"x": -1}}}

        async def scenario() -> None:
            await self.layer.send("channel", message)
            got = await self.layer.receive("channel")
            self.assertEqual(got, message)
            self.assertIsNot(got, message)

        self.run_async(scenario)

    def test_capacity(self) -> None:
        """A channel takes as many messages as its capacity, by its name if that is told."""
        self.layer = ChannelLayer(capacity=3, channel_capacity={"small.*": 1})

        async def scenario() -> None:
            for channel, capacity in (("channel", 3), ("small.one", 1)):
                for _ in range(capacity):
                    await self.layer.send(channel, {"type": "x"})
                with self.assertRaises(ChannelFull):
                    await self.layer.send(channel, {"type": "x"})

        self.run_async(scenario)

    def test_expiry(self) -> None:
        """A message that was not received in time is not received any more."""

        async def scenario() -> None:
            await self.layer.send("channel", {"type": "old"})
            self.now = 59.0
            await self.layer.send("channel", {"type": "new"})
            self.now = 60.0
            self.assertEqual(await self.received("channel"), {"type": "new"})
            self.assertIsNone(await self.received("channel"))

        self.run_async(scenario)

    def test_anothers(self) -> None:
        """What another process's channel holds is not received here, and not waited for."""

        async def scenario() -> None:
            channel = await ChannelLayer().new_channel()
            with self.assertRaises(AssertionError):
                await self.layer.receive(channel)

        self.run_async(scenario)

    def test_waiting(self) -> None:
        """What waits gets the message that comes; each of two gets one."""

        async def scenario() -> None:
            waiting = [asyncio.create_task(self.layer.receive("channel")) for _ in range(2)]
            await asyncio.sleep(0)
            for number in (1, 2):
                await self.layer.send("channel", {"n": number})
            got = [(await each)["n"] for each in waiting]
            self.assertEqual(sorted(got), [1, 2])

        self.run_async(scenario)

    def test_cancelled(self) -> None:
        """No message is lost to a receive that was cancelled."""

        async def scenario() -> None:
            waiting = asyncio.create_task(self.layer.receive("channel"))
            await asyncio.sleep(0)
            await self.layer.send("channel", {"n": 1})
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            self.assertEqual(await self.received("channel"), {"n": 1})

        self.run_async(scenario)

    def test_new_channel(self) -> None:
        """A new channel belongs to the process, has a name of its own, and is a valid one."""

        async def scenario() -> None:
            one, two = [await self.layer.new_channel() for _ in range(2)]
            self.assertRegex(one, r"^specific\.[0-9a-f]{32}![0-9a-f]{12}$")
            self.assertNotEqual(one, two)
            self.assertTrue(self.layer.require_valid_channel_name(one))
            self.assertTrue((await self.layer.new_channel("mine.")).startswith("mine."))
            await self.layer.send(two, {"n": 2})
            await self.layer.send(one, {"n": 1})
            self.assertEqual(await self.received(one), {"n": 1})
            self.assertEqual(await self.received(two), {"n": 2})

        self.run_async(scenario)

    def test_groups(self) -> None:
        """What is sent to a group reaches its channels until they are taken out."""

        async def scenario() -> None:
            channels = [await self.layer.new_channel() for _ in range(3)]
            for channel in channels:
                await self.layer.group_add("group", channel)
            await self.layer.group_discard("group", channels[1])
            await self.layer.group_discard("group", channels[1])
            await self.layer.group_send("group", {"n": 1})
            got = [await self.received(channel) for channel in channels]
            self.assertEqual(got, [{"n": 1}, None, {"n": 1}])

        self.run_async(scenario)

    def test_group_of_full_channels(self) -> None:
        """To send to a group whose channels are full is no error."""

        async def scenario() -> None:
            channel = await self.layer.new_channel()
            await self.layer.group_add("group", channel)
            for number in range(5):
                await self.layer.group_send("group", {"n": number})
            got = [await self.received(channel) for _ in range(4)]
            self.assertEqual(got, [{"n": 0}, {"n": 1}, {"n": 2}, None])

        self.run_async(scenario)

    def test_flush(self) -> None:
        """After a flush there is no message and no group."""

        async def scenario() -> None:
            await self.layer.send("channel", {"n": 1})
            await self.layer.group_add("group", "channel")
            await self.layer.flush()
            await self.layer.group_send("group", {"n": 2})
            self.assertIsNone(await self.received("channel"))
            await self.layer.close()

        self.run_async(scenario)

    def test_names(self) -> None:
        """Names that are none are refused, and so is what is no dictionary."""
        for call in (
            self.layer.send("ü", {}),
            self.layer.receive("a b"),
            self.layer.group_add("a!b", "c"),
            self.layer.group_add("a", "c d"),
            self.layer.group_discard("a b", "c"),
            self.layer.group_send("x" * 101, {}),
        ):
            self.assertRaises(TypeError, asyncio.run, call)
        self.assertRaises(AssertionError, asyncio.run, self.layer.send("a", []))  # type: ignore[arg-type]
        self.assertRaises(AssertionError, asyncio.run, self.layer.group_send("a", []))  # type: ignore[arg-type]
        self.assertEqual(self.layer.extensions, ("groups", "flush"))

    def test_by_settings(self) -> None:
        """Django's settings make a layer."""
        backend = {"BACKEND": "txsticky.channels.ChannelLayer", "CONFIG": {"capacity": 7}}
        self.patch(ChannelLayerManager, "configs", {"default": backend})
        made = ChannelLayerManager()["default"]
        self.assertIsInstance(made, ChannelLayer)
        self.assertEqual(made.capacity, 7)


class WorkerTests(LayerCase):
    """A layer in a worker."""

    def setUp(self) -> None:
        super().setUp()
        self.here = FakeHere()
        api.install(self.here)  # type: ignore[arg-type]
        self.addCleanup(api.install, None)
        self.patch(layers, "isInIOThread", lambda: True)

    def test_two_layers(self) -> None:
        """Two layers with the same prefix share channels and groups; one with another does not."""
        other, stranger = ChannelLayer(), ChannelLayer(prefix="else")

        async def scenario() -> None:
            channel = await self.layer.new_channel()
            await self.layer.group_add("group", channel)
            await stranger.group_send("group", {"n": 0})
            await other.group_send("group", {"n": 1})
            await other.send(channel, {"n": 2})
            got = [await self.received(channel) for _ in range(3)]
            self.assertEqual(got, [{"n": 1}, {"n": 2}, None])
            await other.send("channel", {"n": 3})
            self.assertEqual(await self.received("channel"), {"n": 3})

        self.run_async(scenario)

    def test_full_bus(self) -> None:
        """A bus that is full is waited for."""

        async def scenario() -> None:
            await self.layer.group_add("group", "channel")
            self.here.fulls = 2
            await self.layer.group_send("group", {"n": 1})
            self.assertEqual((await self.received("channel"), self.here.fulls), ({"n": 1}, 0))

        self.run_async(scenario)


class ThreadTests(TestCase):
    """A layer in threads, as Django's synchronous views use it."""

    def test_threads(self) -> None:
        """Sent and received in a thread, while the bus is the reactor thread's."""
        api.install(FakeHere())  # type: ignore[arg-type]
        self.addCleanup(api.install, None)
        layer = ChannelLayer()

        def work() -> Any:
            async_to_sync(layer.group_add)("group", "channel")
            async_to_sync(layer.group_send)("group", {"n": 1})
            return async_to_sync(layer.receive)("channel")

        return deferToThread(work).addCallback(self.assertEqual, {"n": 1})


class OutsideTests(LayerCase):
    """In a process that is no worker and is told of a cluster."""

    def setUp(self) -> None:
        super().setUp()
        self.told: list[tuple[str, Any, dict[str, Any]]] = []

        def publish(topic: str, message: bytes, **where: Any) -> int:
            if topic.endswith("nobody"):
                raise NoListener(topic=topic)
            self.told.append((topic, msgpack.unpackb(message), where))
            return 1

        self.patch(outside, "publish", publish)
        self.layer = ChannelLayer(control="/run/app")

    def test_sends(self) -> None:
        """A layer outside of a worker sends to groups and to channels of processes."""
        channel = "specific." + "a" * 32 + "!x"

        async def scenario() -> None:
            await self.layer.group_send("group", {"n": 1})
            await self.layer.send(channel, {"n": 2})

        self.run_async(scenario)
        where = {"control": "/run/app", "bus": None}
        packed = [msgpack.packb({"n": number}) for number in (1, 2)]
        self.assertEqual(
            self.told,
            [
                ("channels:group:group", [packed[0], 60], where),
                ("channels:layer:" + "a" * 32, ["put", channel, packed[1], 60], where),
            ],
        )

    def test_refused(self) -> None:
        """A layer outside neither receives nor sends what would have to wait; it says so."""
        for call in (
            self.layer.receive("channel"),
            self.layer.send("channel", {}),
            self.layer.group_add("group", "channel"),
        ):
            error = self.assertRaises(CannotReceive, asyncio.run, call)
            self.assertIn("this process is none", str(error))

    def test_nobody(self) -> None:
        """A group in which no channel is is an error."""
        self.assertRaises(NoListener, asyncio.run, self.layer.group_send("nobody", {}))
