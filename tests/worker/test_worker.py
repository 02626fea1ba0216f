"""The worker: adopts, serves, gives away, reports, drains and leaves."""

from __future__ import annotations

import os
from typing import Any, ClassVar
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.raw_frames import Kind, decode_json, pack_message
from tests.shells import ended, open_descriptors, received
from txsticky import api
from txsticky.core.lifecycle.timing import QUIET
from txsticky.core.messages.handoff import pack_log
from txsticky.core.routing.table import KEY_LIMIT
from txsticky.core.routing.verdict import FRONT_DESK
from txsticky.errors import ChannelFull
from txsticky.ipc.channel import FULL
from txsticky.system.logs.shared import HandedLog
from txsticky.worker.load_report import HEARTBEAT, REPORT_SOON

from .cases import OK, Box, FakeServing, WorkerCase, get


class StartTests(WorkerCase):
    """The start."""

    def test_ready(self) -> None:
        """When its application is started a worker says READY and what it serves."""
        self.begin()
        (body,) = self.heard(Kind.READY)
        self.assertEqual(
            decode_json(body),
            {
                "interface": "protocol",
                "http": True,
                "moves": True,
                "appointable": True,
                "told": True,
            },
        )

    def test_slow(self) -> None:
        """Before its application has started a worker says nothing and takes no mail."""
        self.serving.started = Deferred()
        self.worker.start()
        client = self.hand()
        self.assertEqual((self.heard(Kind.READY), self.worker.inbox.taken), ([], 0))
        self.serving.started.callback(None)
        self.reactor.settle()
        self.assertEqual((len(self.heard(Kind.READY)), received(client)), (1, OK))

    def test_fails(self) -> None:
        """If the application does not start, the worker says why and exits with 3."""
        self.serving.started = Deferred()
        self.worker.start()
        self.serving.started.errback(Failure(ZeroDivisionError("no database")))
        self.reactor.settle()
        (body,) = self.heard(Kind.FAILED)
        self.assertIn("no database", decode_json(body)["reason"])
        self.assertEqual((self.reactor.running, self.worker.end.status), (False, 3))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_current(self) -> None:
        """The application finds the worker."""
        self.begin()
        here = api.current()
        assert here is not None
        self.assertEqual((here.id, here.slot), (2, 2))


class DeafTests(WorkerCase):
    """The mailbox ends, though the worker was not told to leave."""

    def test_leaves(self) -> None:
        """A worker whose mailbox ends says so, serves what it holds, and exits with a code."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.worker.inbox.box._lose()
        self.reactor.settle()
        self.assertEqual((len(self.heard(Kind.DEAF)), self.reactor.running), (1, True))
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual((received(client), self.worker.connections.live), (OK, {}))
        self.beat(QUIET + 2 * HEARTBEAT)
        self.say(Kind.GO)
        self.reactor.settle()
        self.assertEqual((self.reactor.running, self.worker.end.status), (False, 1))

    def test_the_primary_is_gone(self) -> None:
        """A mailbox that ends because the primary has gone does not make a worker deaf."""
        self.patch(os, "dup2", mock.Mock())
        self.begin()
        self.hand()
        self.primary.close()
        self.sender.loseConnection()
        self.worker.inbox.box.doRead()
        self.assertTrue(self.worker.inbox.box.is_closed())
        self.assertEqual(self.worker.end.status, 0)

    def test_not_at_the_end(self) -> None:
        """A worker that ends has nothing to say of its mailbox."""
        self.begin()
        self.worker.leave(0)
        self.worker.inbox.box._lose()
        self.reactor.settle()
        self.assertEqual((self.heard(Kind.DEAF), self.worker.end.status), ([], 0))


class PoolTests(WorkerCase):
    """What the primary tells of the cluster."""

    def test_gone_before_it_was_introduced(self) -> None:
        """A mailbox that comes after its worker has gone does not stay open."""
        self.begin()
        self.boxes[4] = Box(self)
        self.introduce(4)
        self.reactor.settle()
        self.assertIn(4, self.worker.outbox.boxes)
        self.say_pool()
        self.assertIn(4, self.worker.outbox.boxes)  # it may be one that is still to be told of
        self.pool.add(5, 1)
        self.say_pool()
        self.assertNotIn(4, self.worker.outbox.boxes)
        self.assertEqual(set(self.worker.outbox.boxes), {FRONT_DESK, 1, 3})

    def test_free(self) -> None:
        """A key can be freed from elsewhere."""
        self.begin()
        self.say(Kind.BIND, b"3 a key")
        self.say(Kind.FREE, b"a key")
        self.assertEqual(len(self.worker.view.table), 0)

    def test_decided_anew(self) -> None:
        """What was remembered is forgotten when the pool or the table changes, not by a view."""
        self.begin()
        changes = (
            lambda: self.say(Kind.BIND, b"3 key"),
            lambda: self.say(Kind.FREE, b"key"),
            lambda: (self.pool.set_draining(3), self.say_pool()),
            lambda: self.worker.bindings.bind(b"key"),
        )
        for change in changes:
            self.worker.connections.policy.known[b"x"] = mock.Mock()
            self.say_pool()
            self.assertEqual(len(self.worker.connections.policy.known), 1)
            change()
            self.assertEqual(len(self.worker.connections.policy.known), 0)

    def test_lame_duck(self) -> None:
        """Once the cluster is to stop what was remembered is forgotten, and the view stays so."""
        self.begin()
        self.worker.connections.policy.known[b"x"] = mock.Mock()
        self.say_json(Kind.POOL, pool=self.pool.view(), lame_duck=True)
        self.assertEqual(len(self.worker.connections.policy.known), 0)
        self.say_pool()
        self.assertTrue(self.worker.view.lame_duck)

    def test_rotate(self) -> None:
        """The logs are reopened."""
        self.begin()
        self.say(Kind.ROTATE)
        self.assertEqual(self.serving.reopened, 1)

    def give_log(self, path: str) -> None:
        """Have the primary give the worker an access log."""
        self.sender.sendFileDescriptor(os.open(path, os.O_WRONLY | os.O_CREAT))
        self.sender.write(pack_log())
        self.reactor.settle()

    def test_log_comes(self) -> None:
        """Where the primary opens the log, a new one is gone over to when it comes."""
        old, new = self.mktemp(), self.mktemp()
        self.worker._handed_log = HandedLog(os.open(old, os.O_WRONLY | os.O_CREAT))
        self.begin()
        self.give_log(new)
        self.assertEqual(self.serving.reopened, 1)
        copy = self.worker._handed_log.open()
        self.assertTrue(os.path.samestat(os.fstat(copy), os.stat(new)))
        os.close(copy)
        os.close(self.worker._handed_log._descriptor)

    def test_log_that_is_not_needed(self) -> None:
        """Where the worker has opened the log itself, one that comes is closed."""
        self.begin()
        before = open_descriptors()
        self.give_log(self.mktemp())
        self.assertEqual((self.serving.reopened, open_descriptors()), (0, before))

    def test_reopened_by_hand(self) -> None:
        """USR1 reopens the logs; one that the primary has opened is asked for."""
        self.begin()
        self.worker.reopen_logs()
        self.assertEqual((self.serving.reopened, self.heard(Kind.ROTATE)), (1, []))
        self.worker._handed_log = HandedLog(-1)
        self.worker.reopen_logs()
        self.assertEqual((self.serving.reopened, self.heard(Kind.ROTATE)), (2, [b""]))

    def test_message(self) -> None:
        """Bus messages reach the subscribers."""
        self.begin()
        got: list[bytes] = []
        self.worker.bus.subscribe("news", got.append)
        self.say(Kind.MESSAGE, pack_message(b"news", b"hello"))
        self.assertEqual((self.heard(Kind.SUBSCRIBE), got), ([b"news"], [b"hello"]))

    def test_lost_messages(self) -> None:
        """The number of lost messages reaches the subscribers."""
        self.begin()
        lost: list[int] = []
        self.worker.bus.subscribe("news", lambda message: None, lost.append)
        self.say_json(Kind.LOST, topic="news", count=3)
        self.assertEqual(lost, [3])


class BindTests(WorkerCase):
    """Keys that the application binds."""

    def test_primary_does_not_read(self) -> None:
        """What waits for a primary that does not read has a bound: then a binding is an error."""
        self.begin()
        key = b"k" * KEY_LIMIT
        bound = 0
        for _ in range(2 * FULL // KEY_LIMIT):
            try:
                self.worker.bindings.bind(key)
            except ChannelFull:
                break
            bound += 1
        self.assertRaises(ChannelFull, self.worker.bindings.bind, key)
        for _ in range(100):
            self.worker.bindings.free(key)
            self.worker.report.send()
        self.assertLess(self.worker.channel.waiting, FULL + 2 * KEY_LIMIT)
        self.assertEqual(self.worker.bindings.unconfirmed, bound)

    def test_anew(self) -> None:
        """With a pool that begins anew the table is forgotten: what is bound follows."""
        self.begin()
        self.say(Kind.BIND, b"1 old")
        self.say_json(Kind.POOL, pool=self.pool.view(), anew=True)
        self.say(Kind.BIND, b"3 new")
        self.assertEqual(self.worker.view.table.items(), [(b"new", 3)])
        self.say_pool()
        self.assertEqual(self.worker.view.table.items(), [(b"new", 3)])

    def test_response_waits(self) -> None:
        """A response that is written behind a binding waits for it."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.worker.bindings.bind(b"key")
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertIsNone(received(client))
        self.say(Kind.BOUND)
        self.assertEqual(received(client), OK)

    def test_free(self) -> None:
        """A key that is freed is forgotten here, and told."""
        self.begin()
        self.worker.bindings.bind(b"key")
        self.worker.bindings.free(b"key")
        self.assertEqual(len(self.worker.view.table), 0)
        self.assertEqual(self.heard(Kind.BIND, Kind.FREE), [b"key", b"key"])


class LoadTests(WorkerCase):
    """Reports."""

    def test_lag(self) -> None:
        """A report says how late the worker's event loop runs."""
        self.begin()
        self.assertEqual(self.load()["lag"], 0.0)
        self.reactor.advance(HEARTBEAT + 1.0)
        self.assertEqual(self.load()["lag"], 1.0 + REPORT_SOON)


class OrphanTests(WorkerCase):
    """When the primary has died."""

    def setUp(self) -> None:
        super().setUp()
        self.dup2 = mock.Mock()
        self.patch(os, "dup2", self.dup2)

    def orphan(self) -> None:
        """Have the primary die, and with it the front desk."""
        self.boxes[FRONT_DESK].close()
        self.primary.close()
        self.reactor.settle()

    def test_idle(self) -> None:
        """An orphaned worker without connections leaves at once, in order."""
        self.begin()
        self.orphan()
        self.assertEqual((self.serving.stops, self.reactor.running), (1, False))

    def test_busy(self) -> None:
        """An orphaned worker finishes what it serves first."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.orphan()
        self.assertTrue(self.reactor.running)
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(received(client), OK)
        self.assertTrue(ended(client))
        self.beat(2 * HEARTBEAT)
        self.assertFalse(self.reactor.running)

    def test_in_the_mailbox(self) -> None:
        """What is in an orphaned worker's mailbox is served: no other worker could."""
        self.begin()
        self.reactor.removeReader(self.worker.inbox.box)
        clients = [self.hand(get(f"/{n}")) for n in range(20)]
        self.orphan()
        self.assertEqual([received(client) for client in clients], [OK] * 20)

    def test_given_afterwards(self) -> None:
        """What another worker gives to an orphaned one is served as long as it is there."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.orphan()
        self.serving.waits = False
        self.assertEqual(received(self.hand()), OK)

    def test_bound(self) -> None:
        """An orphan's responses that wait for a binding leave; later ones wait for nothing."""
        self.serving.waits = True
        self.begin()
        client, other = self.hand(), self.hand()
        first = self.worker.bindings.bind(b"1")
        self.serving.protocols[0].transport.write(OK)
        self.orphan()
        self.assertIsNone(self.successResultOf(first))
        self.assertEqual(received(client), OK)
        self.assertIsNone(self.successResultOf(self.worker.bindings.bind(b"2")))
        self.serving.protocols[1].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(received(other), OK)

    def test_output(self) -> None:
        """The output of an orphan is not read any more: it goes nowhere, instead of raising."""
        self.begin()
        self.orphan()
        self.assertEqual([call.args[1] for call in self.dup2.call_args_list], [1, 2])

    def test_deadline(self) -> None:
        """After the graceful timeout an orphan leaves, whatever it serves."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.orphan()
        self.beat(26.875)
        self.assertTrue(self.reactor.running)
        self.beat(0.125)
        self.assertFalse(self.reactor.running)

    def test_own_end(self) -> None:
        """When its own reactor closes the channel, a worker does not take its primary for dead."""
        self.begin()
        self.drain(final=True)
        self.worker.channel.connectionLost(Failure(OSError()))
        self.reactor.settle()
        self.assertEqual(self.dup2.call_count, 0)


class StallTests(WorkerCase):
    """Clients that pause."""

    options: ClassVar[dict[str, Any]] = {"stall_timeout": 8.0}
    interface = "web"

    def setUp(self) -> None:
        self.patch(FakeServing, "interface", self.interface)
        super().setUp()
        self.serving.waits = True
        self.begin()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
        self.client = self.hand(head + b"part")

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        for _ in range(4 * seconds):
            self.reactor.advance(0.25)
            self.reactor.settle()

    def test_upload(self) -> None:
        """An upload that pauses is answered in time, and its application told."""
        self.wait(7)
        self.assertIsNone(received(self.client))
        self.wait(5)
        answer = received(self.client) or b""
        self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)
        self.assertTrue(ended(self.client))
        self.assertEqual([each.lost for each in self.serving.protocols], [1])
        self.assertEqual(self.worker.connections.live, {})

    def test_download(self) -> None:
        """A response that is not taken is cut off in time."""
        self.client.sendall(b"12345")
        self.reactor.settle()
        self.serving.protocols[0].transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000)
        )
        self.wait(7)
        self.assertEqual(len(self.worker.connections.live), 1)
        self.wait(5)
        self.assertEqual(self.worker.connections.live, {})
        self.assertLess(len(received(self.client) or b""), 9_000_000)

    def test_taken_little_by_little(self) -> None:
        """A response that is taken, however slowly, is not cut off."""
        self.client.sendall(b"12345")
        self.reactor.settle()
        self.serving.protocols[0].transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000)
        )
        for _ in range(10):
            self.wait(4)
            self.client.recv(300_000)
        self.assertEqual(len(self.worker.connections.live), 1)


class ProtocolStallTests(StallTests):
    """Protocol factories, which see to their connections themselves."""

    interface = "protocol"

    def test_upload(self) -> None:
        """An upload that has paused is not ended."""
        self.wait(60)
        self.assertIsNone(received(self.client))
        self.assertEqual(len(self.worker.connections.live), 1)

    def test_download(self) -> None:
        """A connection whose output is not taken is not ended."""
        self.serving.protocols[0].transport.write(bytes(9_000_000))
        self.wait(60)
        self.assertEqual(len(self.worker.connections.live), 1)
