"""Client managers that emit into a cluster, in a process that is no worker."""

from __future__ import annotations

import asyncio
import functools

from twisted.trial.unittest import SynchronousTestCase

import txsticky.socketio
from txsticky.errors import WhichCluster
from txsticky.ipc import outside


class OutsideTests(SynchronousTestCase):
    """Managers for emitting alone."""

    def test_emit_alone(self) -> None:
        """A manager for emitting alone that knows no cluster raises a sentence."""
        self.patch(outside, "publish", functools.partial(outside.publish, environ={}))
        manager = txsticky.socketio.Manager(write_only=True)
        error = self.assertRaises(WhichCluster, manager.emit, "hello", 1, to="room")
        self.assertIn("no cluster is named", str(error))
        emitting = txsticky.socketio.AsyncManager(write_only=True).emit("hello", 1, to="room")
        self.assertRaises(WhichCluster, asyncio.run, emitting)

    def test_emit_outside(self) -> None:
        """A manager for emitting alone publishes into the cluster that it was told of."""
        told: list[tuple[str, bytes, dict[str, str | None]]] = []

        def publish(topic: str, message: bytes, **where: str | None) -> int:
            told.append((topic, message, where))
            return 1

        self.patch(outside, "publish", publish)
        txsticky.socketio.Manager("chat", write_only=True, control="/run/app").emit("hello", 1)
        manager = txsticky.socketio.AsyncManager(write_only=True, bus="redis://here")
        asyncio.run(manager.emit("hello", 2))
        self.assertEqual(
            [(topic, where) for topic, _, where in told],
            [
                ("socketio:chat", {"control": "/run/app", "bus": None}),
                ("socketio:socketio", {"control": None, "bus": "redis://here"}),
            ],
        )
        self.assertEqual(
            [b'"data": [%d]' % n in m for n, (_, m, _) in enumerate(told, 1)], [True] * 2
        )
