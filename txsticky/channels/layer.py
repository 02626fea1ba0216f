"""The channel layer (https://channels.readthedocs.io/en/stable/channel_layer_spec.html)."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgpack
from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer
from twisted.internet.threads import blockingCallFromThread
from twisted.python.threadable import isInIOThread

from ..api import Here, current
from ..errors import BusOverrun, CannotReceive
from ..ipc import outside
from ..system.system import monotonic
from .post import PostOffice, owner_of, topic_of
from .stock import Stock

#: Seconds until the next try when the bus is full.
_PAUSE: Final = 0.02


class ChannelLayer(BaseChannelLayer):  # type: ignore[misc]
    """
    A channel layer over the bus of the cluster.

    Messages are delivered at most once. `ChannelFull` is raised where this process knows that a
    channel is full: for its own channels, and for those without a ``!``. What comes for a full
    channel of another process is dropped there, as what is sent to a group is by specification.

    In a process that is no worker, a layer that is told of a cluster can send to it, and not
    receive; one that is not serves its process alone, as Channels' `InMemoryChannelLayer` does.

    :param expiry: seconds after which a message that was not received is dropped.
    :param group_expiry: seconds after which a channel leaves a group.
    :param capacity: messages that may wait in a channel.
    :param channel_capacity: the same for channels whose names match a pattern.
    :param prefix: layers with the same prefix share their channels and groups.
    :param control: for a process outside: the cluster's control socket.
    :param bus: for a process outside: the URL of the Redis between the machines.
    """

    extensions = ("groups", "flush")

    def __init__(
        self,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: dict[Any, int] | None = None,
        prefix: str = "channels",
        control: str | None = None,
        bus: str | None = None,
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self._prefix = prefix
        self._outside = (
            functools.partial(outside.publish, control=control, bus=bus) if control or bus else None
        )
        self._name = uuid.uuid4().hex
        self._group_expiry = group_expiry
        self._office: PostOffice | None = None
        self._here: Here | None = None

    # -------------------------------------------------------------- the specification

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """
        Send a message to a channel.

        :raises ChannelFull: so many messages wait in it already.
        """
        assert isinstance(message, dict), "message is not a dict"
        self.require_valid_channel_name(channel)
        packed = msgpack.packb(message)
        if self._is_outside:
            if not owner_of(channel):
                raise CannotReceive(what=f"What waits in the channel {channel}")
            await self._tell(("layer", owner_of(channel)), ["put", channel, packed, self.expiry])
        elif not await self._do("send", channel, packed, self.expiry):
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        """
        Return the first message of a channel; wait for one if there is none.

        :raises AssertionError: the channel is another process's: its messages never come here.
        """
        self.require_valid_channel_name(channel)
        assert owner_of(channel) in ("", self._name), f"{channel} is another process's channel"
        loop = asyncio.get_running_loop()
        while True:
            future: asyncio.Future[None] = loop.create_future()
            wake = functools.partial(loop.call_soon_threadsafe, _wake, future)
            packed = await self._do("take", channel, wake)
            if packed is not None:
                message: dict[str, Any] = msgpack.unpackb(packed, strict_map_key=False)
                return message
            try:
                await future
            except BaseException:
                await asyncio.shield(self._do("forget", channel, wake))
                raise

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return the name of a new channel of this process."""
        return f"{prefix}{self._name}!{uuid.uuid4().hex[:12]}"

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group. What is sent to the group from now on reaches it."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._do("add", group, channel)
        await self._settled()

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        self.require_valid_channel_name(channel)
        self.require_valid_group_name(group)
        await self._do("discard", group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to all channels of a group; those that are full do not get it."""
        assert isinstance(message, dict), "Message is not a dict"
        self.require_valid_group_name(group)
        packed = msgpack.packb(message)
        if self._is_outside:
            await self._tell(("group", group), [packed, self.expiry])
        else:
            await self._do("group_send", group, packed, self.expiry)

    async def flush(self) -> None:
        """Drop all messages and groups, in every process."""
        await self._do("flush")
        await self._settled()

    async def close(self) -> None:
        """Listen no more."""
        if self._office is not None:
            await self._do("close")
            self._office = None

    # ------------------------------------------------------------------------ the bus

    @property
    def _is_outside(self) -> bool:
        return self._outside is not None and current() is None

    async def _tell(self, topic: tuple[str, ...], told: list[Any]) -> None:
        """Publish from outside; where no worker listens it is an error (`NoListener`)."""
        assert self._outside is not None
        name = topic_of(self._prefix, *topic)
        await asyncio.to_thread(self._outside, name, msgpack.packb(told))

    async def _settled(self) -> None:
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[None] = loop.create_future()
        wake = functools.partial(loop.call_soon_threadsafe, _wake, settled)
        await self._do("when_settled", wake)
        await settled

    async def _do(self, what: str, *arguments: Any) -> Any:
        """Have the post office do something, in the thread of the bus; wait while that is full."""
        if self._is_outside:
            raise CannotReceive(what="txsticky.channels.ChannelLayer")
        if self._office is None:
            self._here = current()
        while True:
            try:
                return await self._run(what, *arguments)
            except BusOverrun:
                await asyncio.sleep(_PAUSE)

    async def _run(self, what: str, *arguments: Any) -> Any:
        if self._here is None or isInIOThread():
            return self._act(what, *arguments)
        from twisted.internet import reactor

        threads: Any = reactor
        act = functools.partial(blockingCallFromThread, threads, self._act, what, *arguments)
        return await asyncio.to_thread(act)

    def _act(self, what: str, *arguments: Any) -> Any:
        if self._office is None:
            bus: Here | Loopback = self._here or Loopback()
            self._office = PostOffice(
                self._name,
                self._prefix,
                Stock(self._group_expiry),
                bus.publish,
                bus.subscribe,
                monotonic,
                self.get_capacity,
            )
        return getattr(self._office, what)(*arguments)


class Loopback:
    """The bus of a process alone: what is published comes back, and goes nowhere else."""

    def __init__(self) -> None:
        self._heard: dict[str, list[Callable[[bytes], object]]] = {}

    def publish(self, topic: str, message: bytes) -> None:
        """Call what listens."""
        for heard in list(self._heard.get(topic, ())):
            heard(message)

    def subscribe(self, topic: str, heard: Callable[[bytes], object]) -> Callable[[], None]:
        """Listen; returns what ends that."""
        self._heard.setdefault(topic, []).append(heard)
        return lambda: self._heard[topic].remove(heard)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
