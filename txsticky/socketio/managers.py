"""
Client managers for python-socketio over the bus of the cluster.

They inherit from python-socketio's managers for publish and subscribe, and add how a message is
published and received.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from socketio import PubSubManager
from socketio.async_pubsub_manager import AsyncPubSubManager
from socketio.packet import Packet
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger
from twisted.python.threadable import isInIOThread

from ..api import current
from ..errors import BusOverrun, NotInWorker
from ..ipc import outside

log = Logger()

#: Bytes of messages that may wait for python-socketio; beyond, messages are dropped.
WAITING_LIMIT = 32 << 20
#: Seconds until the next try when the bus is full.
_PAUSE = 0.02


class Inbox:
    """
    Messages of other workers that wait for python-socketio.

    :param host: the manager's id (`host_id`); messages that carry it are the manager's own, and are
        dropped.
    :param put: puts a message into a queue.
    """

    def __init__(self, host: str, put: Callable[[bytes], object]) -> None:
        self._host = host.encode()
        self._put = put
        # Two counts, each changed in one thread only.
        self._in = 0
        self._out = 0
        self._lossy = False

    def sealed(self, data: dict[str, Any], json: Any) -> bytes:
        """Encode a message of this manager."""
        if data["method"] == "callback" and Packet.data_is_binary(list(data["args"])):
            # python-socketio takes care of the bytes in what is emitted, not in what is answered.
            args, attachments = Packet.deconstruct_binary(list(data["args"]))
            encoded = [base64.b64encode(attachment).decode() for attachment in attachments]
            data = {**data, "args": args, "attachments": encoded}
        text: str = json.dumps(data)
        return self._host + text.encode()

    def arrived(self, message: bytes) -> None:
        """Queue a message of the bus."""
        if message.startswith(self._host):
            return
        if self._in - self._out > WAITING_LIMIT:
            self.lost(1)
            return
        self._in += len(message)
        self._put(message)

    def opened(self, message: bytes, json: Any) -> dict[str, Any]:
        """Decode a message that leaves the queue."""
        self._out += len(message)
        data: dict[str, Any] = json.loads(message[len(self._host) :])
        if "attachments" in data:
            attachments = [base64.b64decode(attachment) for attachment in data["attachments"]]
            data["args"] = Packet.reconstruct_binary(data["args"], attachments)
        return data

    def lost(self, count: int) -> None:
        """Log, once, that messages are lost."""
        if not self._lossy:
            self._lossy = True
            log.warn(
                "python-socketio does not keep up with the other workers: {count} of their messages"
                " are lost. Further losses are not logged.",
                count=count,
            )

    def subscribe(self, topic: str) -> None:
        """Receive messages from now on; outside of a worker, do nothing."""
        here = current()
        if here is not None:
            here.subscribe(topic, self.arrived, self.lost)


class AsyncManager(AsyncPubSubManager):  # type: ignore[misc]
    """
    The client manager of an `AsyncServer` whose clients are on several workers.

    Outside of a worker it manages the clients of its process, like python-socketio's own
    `AsyncManager`; a `write_only` manager emits into a running cluster there, as `Manager` does.

    :param channel: servers with the same name share their clients.
    :param control: as for `Manager`; so is `bus`.
    :param options: as for python-socketio's `AsyncPubSubManager`.
    """

    name = "txsticky"

    def __init__(
        self,
        channel: str = "socketio",
        *,
        control: str | None = None,
        bus: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(channel=channel, **options)
        self._topic = f"socketio:{channel}"
        self._outside = functools.partial(outside.publish, control=control, bus=bus)
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._inbox = Inbox(self.host_id, self._queue.put_nowait)
        self._turn = asyncio.Lock()

    def initialize(self) -> None:
        """Subscribe (python-socketio calls it at the first client)."""
        self._inbox.subscribe(self._topic)
        super().initialize()

    async def _publish(self, data: dict[str, Any]) -> None:
        here = current()
        if here is None:
            if self.write_only:
                message = self._inbox.sealed(data, self.json)
                await asyncio.to_thread(self._outside, self._topic, message)
            return
        message = self._inbox.sealed(data, self.json)
        async with self._turn:  # so that no message overtakes one that waits
            while True:
                try:
                    here.publish(self._topic, message)
                except BusOverrun:
                    await asyncio.sleep(_PAUSE)
                else:
                    return

    async def _listen(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield self._inbox.opened(await self._queue.get(), self.json)


class Manager(PubSubManager):  # type: ignore[misc]
    """
    The client manager of a `Server` (threads) whose clients are on several workers.

    It can be made anywhere, so that an application can be imported. Outside of a worker, or before
    the worker has started, the first client and `emit` raise `NotInWorker`.

    With ``write_only=True`` it emits from outside of a worker, such as from a Celery task, cron or
    a shell, into a running cluster. `emit` raises `WhichCluster` if no cluster is named, and
    `NoListener` or `Unanswered` if the message has reached none.

    :param channel: servers with the same name share their clients.
    :param control: from outside: the cluster's control socket, by default $TXSTICKY_CONTROL.
    :param bus: from outside: the URL of the Redis that the clusters' ``--bus`` names, by default
        $TXSTICKY_BUS.
    :param options: as for python-socketio's `PubSubManager`.
    """

    name = "txsticky"

    def __init__(
        self,
        channel: str = "socketio",
        *,
        control: str | None = None,
        bus: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(channel=channel, **options)
        self._topic = f"socketio:{channel}"
        self._outside = functools.partial(outside.publish, control=control, bus=bus)
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._inbox = Inbox(self.host_id, self._queue.put)

    def initialize(self) -> None:
        """
        Subscribe (python-socketio calls it at the first client).

        :raises NotInWorker: this process is no worker, and has no bus.
        """
        if current() is None:
            raise NotInWorker(what="txsticky.socketio.Manager")
        self._inbox.subscribe(self._topic)
        super().initialize()

    def _publish(self, data: dict[str, Any]) -> None:
        here = current()
        if here is None and not self.write_only:
            raise NotInWorker(what="txsticky.socketio.Manager")
        message = self._inbox.sealed(data, self.json)
        if here is None:
            self._outside(self._topic, message)
            return
        while True:
            try:
                here.publish(self._topic, message)
            except BusOverrun:
                if isInIOThread():
                    raise
                _pause()
            else:
                return

    def _listen(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self._inbox.opened(self._queue.get(), self.json)


def _pause() -> None:
    """Wait for `_PAUSE`, by the reactor's clock, in a thread that is not the reactor's."""
    from twisted.internet import reactor

    threads: Any = reactor
    blockingCallFromThread(threads, deferLater, threads, _PAUSE)
