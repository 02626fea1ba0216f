"""python-socketio in a worker: tagged ids, managers over the bus, sessions that end in a drain."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import engineio
import socketio
from engineio.async_socket import AsyncSocket
from engineio.base_server import BaseServer
from engineio.packet import NOOP
from engineio.socket import Socket
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

import txsticky.socketio
from txsticky import api
from txsticky.core.routing.tag import Signer
from txsticky.errors import BusOverrun, MessageTooLarge, NotInWorker
from txsticky.socketio import managers, sessions


class FakeHere:
    """A worker whose bus leads back to itself."""

    id = 7

    def __init__(self) -> None:
        self.signer = Signer(bytes(16))
        self.subscribers: dict[str, list[Callable[[bytes], object]]] = defaultdict(list)
        self.refusals = 0
        self.lost: list[Callable[[int], object]] = []

    def mint(self, ident: str) -> str:
        return self.signer.mint(self.id, ident)

    def owner(self, value: str) -> int | None:
        return self.signer.read(value)

    def publish(self, topic: str, message: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise BusOverrun(waiting=5_000_000)
        if len(message) > api.MESSAGE_LIMIT:
            raise MessageTooLarge(size=len(message), limit=api.MESSAGE_LIMIT)
        for subscriber in self.subscribers[topic]:
            subscriber(message)

    def subscribe(self, topic: str, callback: Any, lost: Any = None) -> None:
        self.subscribers[topic].append(callback)
        self.lost.append(lost)


class WorkerTests(SynchronousTestCase):
    """Tests in what looks like a worker."""

    def setUp(self) -> None:
        self.here = FakeHere()
        api.install(self.here)
        self.addCleanup(api.install, None)
        sessions._servers.clear()


class TagTests(WorkerTests):
    """Session ids."""

    def owner(self, server: Any) -> int | None:
        return self.here.owner(server.generate_id())

    def test_kinds(self) -> None:
        """Servers of python-socketio and python-engineio make tagged ids, asyncio or threads."""
        for server in (
            socketio.AsyncServer(async_mode="asgi"),
            socketio.Server(async_mode="threading"),
            engineio.AsyncServer(async_mode="asgi"),
            engineio.Server(async_mode="threading"),
        ):
            txsticky.socketio.tag(server)
            self.assertEqual(self.owner(getattr(server, "eio", server)), 7)

    def test_socketio_ids(self) -> None:
        """The ids of Socket.IO, which clients and rooms are known by, carry the tag as well."""
        server = socketio.Server(async_mode="threading")
        txsticky.socketio.tag(server)
        self.assertEqual(self.here.owner(server.manager.connect("eio", "/")), 7)

    def test_flask(self) -> None:
        """Flask-SocketIO's object, which holds a server, will do."""
        flask = type("SocketIO", (), {"server": socketio.Server(async_mode="threading")})()
        txsticky.socketio.tag(flask)
        self.assertEqual(self.owner(flask.server.eio), 7)

    def test_own_ids(self) -> None:
        """Ids that the application makes are tagged, and still its own to read."""
        server = engineio.Server(async_mode="threading")
        server.generate_id = lambda: "user-1"
        txsticky.socketio.tag(server)
        ident = server.generate_id()
        self.assertEqual((self.here.owner(ident), ident.split(".")[0]), (7, "user-1"))

    def test_unfit_ids(self) -> None:
        """Ids of other characters are an error that says which may be used."""
        server = engineio.Server(async_mode="threading")
        server.generate_id = lambda: "user 1"
        txsticky.socketio.tag(server)
        self.assertIn("letters", str(self.assertRaises(ValueError, server.generate_id)))

    def test_once(self) -> None:
        """However often a server is tagged, its ids are tagged once."""
        self.addCleanup(setattr, BaseServer, "generate_id", BaseServer.generate_id)
        server = engineio.Server(async_mode="threading")
        for _ in range(2):
            txsticky.socketio.tag(server)
            sessions.tag_all()
        self.assertEqual(server.generate_id().count("."), 2)

    def test_all(self) -> None:
        """In a worker the ids of every server are tagged, of those made before too."""
        self.addCleanup(setattr, BaseServer, "generate_id", BaseServer.generate_id)
        before = engineio.Server(async_mode="threading")
        sessions.tag_all()
        after = socketio.AsyncServer(async_mode="asgi")
        self.assertEqual((self.owner(before), self.owner(after.eio)), (7, 7))
        self.assertNotEqual(before.generate_id(), before.generate_id())

    def test_without_engineio(self) -> None:
        """Where python-engineio was not imported, nothing is done."""
        make = BaseServer.generate_id
        self.patch(sys, "modules", {})
        sessions.tag_all()
        self.assertIs(BaseServer.generate_id, make)

    def test_alone(self) -> None:
        """Outside of a worker ids are as they always were."""
        api.install(None)
        server = engineio.Server(async_mode="threading")
        txsticky.socketio.tag(server)
        self.assertEqual(len(server.generate_id()), 20)


class Client:
    """A client of a server, as far as the server knows."""

    def __init__(self, server: Any, number: int) -> None:
        self.server = server
        self.eio_sid = f"eio{number}"
        self.sid = ""
        self.got: list[Any] = []


class AsyncManagerTests(WorkerTests):
    """What `AsyncManager` does that a manager of one process does not."""

    def setUp(self) -> None:
        super().setUp()
        self.sent: dict[str, list[str | bytes]] = defaultdict(list)

    def server(self, **options: Any) -> Any:
        """A server that has begun; what it sends to its clients is in `sent`."""
        server = socketio.AsyncServer(
            async_mode="asgi", client_manager=txsticky.socketio.AsyncManager(**options)
        )

        async def send(eio_sid: str, packet: Any) -> None:
            self.sent[eio_sid].append(packet.data)

        server.eio.send_packet = send
        server.manager.initialize()
        return server

    async def client(self, server: Any, eio_sid: str) -> str:
        """A client of the server; returns its Socket.IO id."""
        server.environ[eio_sid] = {}
        sid: str = await server.manager.connect(eio_sid, "/")
        return sid

    async def settled(self) -> None:
        """All that was published has been dealt with."""
        for _ in range(50):
            await asyncio.sleep(0)

    def run_async(self, scenario: Callable[[Any, Any, str, str], Any], **options: Any) -> None:
        """Run a scenario with two servers and a client of each: `eio1` and `eio2`."""

        async def main() -> None:
            one, two = self.server(**options), self.server(**options)
            await scenario(one, two, await self.client(one, "eio1"), await self.client(two, "eio2"))
            await self.settled()
            for server in (one, two):
                server.manager.thread.cancel()

        asyncio.run(main())

    def test_broadcast(self) -> None:
        """What is emitted to all reaches the clients of both servers, once each."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            await one.emit("news", {"a": 1})

        self.run_async(scenario)
        said = ['2["news",{"a":1}]']
        self.assertEqual(self.sent, {"eio1": said, "eio2": said})

    def test_to_one(self) -> None:
        """What is emitted to a client of the other server reaches that one alone."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            await one.emit("news", "x", to=second)

        self.run_async(scenario)
        self.assertEqual(self.sent, {"eio2": ['2["news","x"]']})

    def test_binary(self) -> None:
        """Bytes stay bytes."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            await one.emit("news", b"\xff\x00", to=second)

        self.run_async(scenario)
        self.assertEqual(self.sent["eio2"][1], b"\xff\x00")

    def test_rooms(self) -> None:
        """A server puts another's client into a room and takes it out, and may close the room."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            await one.enter_room(first, "den")
            await one.enter_room(second, "den")
            await self.settled()
            await two.emit("both", room="den")
            await two.emit("not first", room="den", skip_sid=first)
            await one.leave_room(second, "den")
            await self.settled()
            await two.emit("first", room="den")
            await two.close_room("den")
            await self.settled()
            await one.emit("nobody", room="den")

        self.run_async(scenario)
        self.assertEqual(
            self.sent,
            {"eio1": ['2["both"]', '2["first"]'], "eio2": ['2["both"]', '2["not first"]']},
        )

    def call(self, answer: list[Any]) -> Any:
        """What `call()` returns when a client of the other server answers like that."""
        returned: list[Any] = []

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            called = asyncio.ensure_future(one.call("question", 5, to=second, timeout=60))
            await self.settled()
            self.assertRegex(self.sent["eio2"][0], r'^2\d+\["question",5\]$')
            number = int(self.sent["eio2"][0][1:].split("[")[0])
            await two._handle_ack("eio2", "/", number, answer)
            returned.append(await called)

        self.run_async(scenario)
        return returned[0]

    def test_call(self) -> None:
        """A client of the other server is asked, and its answer comes back."""
        self.assertEqual(self.call(["yes"]), "yes")
        self.assertEqual(self.call([]), None)

    def test_call_binary(self) -> None:
        """An answer may have bytes in it."""
        self.sent.clear()
        self.assertEqual(self.call([{"a": [b"\xff", 1]}, b"\x00"]), ({"a": [b"\xff", 1]}, b"\x00"))

    def test_disconnect(self) -> None:
        """A client of the other server is disconnected."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            await one.disconnect(second)
            await self.settled()
            self.assertFalse(two.manager.is_connected(second, "/"))
            self.assertTrue(one.manager.is_connected(first, "/"))

        self.run_async(scenario)

    def test_channels(self) -> None:
        """Servers whose managers have other channels do not hear it."""

        async def main() -> None:
            one, two = self.server(channel="a"), self.server(channel="b")
            await self.client(one, "eio1")
            await self.client(two, "eio2")
            await one.emit("news")
            await self.settled()
            one.manager.thread.cancel()
            two.manager.thread.cancel()

        asyncio.run(main())
        self.assertEqual(list(self.sent), ["eio1"])

    def test_order(self) -> None:
        """When the bus is full, emits wait for their turn."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            self.patch(managers, "_PAUSE", 0)
            self.here.refusals = 5
            await asyncio.gather(*(one.emit(f"n{number}", to=second) for number in range(10)))

        self.run_async(scenario)
        self.assertEqual(self.sent["eio2"], [f'2["n{number}"]' for number in range(10)])

    def test_too_large(self) -> None:
        """An emit that the bus cannot carry is an error to the one who emits."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            with self.assertRaises(MessageTooLarge):
                await one.emit("news", "x" * api.MESSAGE_LIMIT, to=second)

        self.run_async(scenario)

    def test_garbage(self) -> None:
        """A message that is none does not stop the listener."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            one.logger.disabled = True
            self.addCleanup(setattr, one.logger, "disabled", False)
            for garbage in (b"", b"x" * 40, b"x" * 32 + b"[]", b"x" * 32 + b'{"a":1}'):
                self.here.publish("socketio:socketio", garbage)
            await self.settled()
            await one.emit("news", to=second)

        self.run_async(scenario)
        self.assertEqual(self.sent["eio2"], ['2["news"]'])

    def test_alone(self) -> None:
        """Outside of a worker it manages the clients of its process."""
        api.install(None)

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            await one.emit("news")

        self.run_async(scenario)
        self.assertEqual(self.sent, {"eio1": ['2["news"]']})

    def test_backlog(self) -> None:
        """What python-socketio does not keep up with is dropped beyond a bound, and told once."""
        self.patch(managers, "WAITING_LIMIT", 100)
        queue: list[bytes] = []
        inbox = managers.Inbox("me", queue.append)
        with capturedLogs() as events:
            for number in range(10):
                inbox.arrived(b"%d" % number + b"." * 49)
            inbox.arrived(b"me: own")
        self.assertEqual([message[:1] for message in queue], [b"0", b"1", b"2"])
        self.assertEqual(["are lost" in formatEvent(event) for event in events], [True])

    def test_loss(self) -> None:
        """What the bus lost is told."""

        async def scenario(one: Any, two: Any, first: str, second: str) -> None:
            with capturedLogs() as events:
                self.here.lost[0](3)
            self.assertIn("3 of their messages", formatEvent(events[0]))

        self.run_async(scenario)


class NowhereTests(SynchronousTestCase):
    """Managers in a process that is no worker: no reactor runs, and there is no bus."""

    SENTENCE = "works in a worker of txsticky that has started, and this process is none"

    def test_first_client(self) -> None:
        """The first client of a `Manager` raises a sentence, and does not hang."""
        server = socketio.Server(async_mode="threading", client_manager=txsticky.socketio.Manager())
        error = self.assertRaises(NotInWorker, server._handle_eio_connect, "eio1", {})
        self.assertIn(f"txsticky.socketio.Manager {self.SENTENCE}", str(error))

    def test_emit(self) -> None:
        """An emit outside of a worker raises a sentence, and does not vanish."""
        manager = txsticky.socketio.Manager()
        error = self.assertRaises(NotInWorker, manager.emit, "hello", 1, to="room")
        self.assertIn(self.SENTENCE, str(error))

    def test_in_a_worker(self) -> None:
        """In a worker managers for emitting alone emit."""
        here = FakeHere()
        api.install(here)
        self.addCleanup(api.install, None)
        got: list[bytes] = []
        here.subscribe("socketio:socketio", got.append)
        asyncio.run(txsticky.socketio.AsyncManager(write_only=True).emit("hello", 1))
        self.patch(managers, "isInIOThread", lambda: True)
        txsticky.socketio.Manager(write_only=True).emit("hello", 2)
        self.assertEqual([b'"data": [%d]' % n in m for n, m in enumerate(got, 1)], [True, True])

    def test_process(self) -> None:
        """In a process of its own the first client logs the sentence, and nothing hangs."""
        script = (
            "import socketio, txsticky.socketio\n"
            "sio = socketio.Server(async_mode='threading',"
            " client_manager=txsticky.socketio.Manager())\n"
            "app = socketio.WSGIApp(sio)\n"
            "from werkzeug.test import Client\n"
            "client = Client(app)\n"
            "sid = client.get('/socket.io/?EIO=4&transport=polling').json\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script + "print('ended')"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.assertIn(self.SENTENCE, done.stderr)
        self.assertEqual(done.stdout, "ended\n")


class ManagerTests(TestCase):
    """`Manager`, for servers of threads."""

    def setUp(self) -> Deferred[None]:
        self.here = FakeHere()
        api.install(self.here)
        self.addCleanup(api.install, None)
        self.sent: dict[str, list[Any]] = defaultdict(list)
        return deferLater(reactor, 0)  # from here on this is the reactor's thread

    def server(self) -> Any:
        server = socketio.Server(async_mode="threading", client_manager=txsticky.socketio.Manager())
        server.eio.send_packet = lambda eio_sid, packet: self.sent[eio_sid].append(packet.data)
        server.manager.initialize()
        return server

    async def eventually(self, fact: Callable[[], object]) -> None:
        while not fact():  # trial ends a test that lasts too long
            await deferLater(reactor, 0.01)

    async def test_emit(self) -> None:
        """A thread emits to a client of another server, and to all."""
        one, two = self.server(), self.server()
        second = two.manager.connect("eio2", "/")
        one.manager.connect("eio1", "/")
        await deferToThread(one.emit, "hello", b"\xff", to=second)
        await self.eventually(lambda: len(self.sent["eio2"]) == 2)
        await deferToThread(two.emit, "all")
        await self.eventually(lambda: len(self.sent["eio2"]) == 3 and self.sent["eio1"])
        self.assertEqual(self.sent["eio1"], ['2["all"]'])
        self.assertEqual(self.sent["eio2"][1], b"\xff")

    async def test_call(self) -> None:
        """A thread asks a client of another server."""
        one, two = self.server(), self.server()
        second = two.manager.connect("eio2", "/")
        called = deferToThread(one.call, "question", to=second, timeout=60)
        await self.eventually(lambda: self.sent["eio2"])
        two._handle_ack("eio2", "/", int(self.sent["eio2"][0][1:].split("[")[0]), [b"\x00"])
        self.assertEqual(await called, b"\x00")

    async def test_reactor_thread(self) -> None:
        """The reactor's own thread may emit too."""
        one, two = self.server(), self.server()
        second = two.manager.connect("eio2", "/")
        one.emit("hello", to=second)
        await self.eventually(lambda: self.sent["eio2"] == ['2["hello"]'])

    async def test_full(self) -> None:
        """When the bus is full, a thread waits, and the reactor's thread is told."""
        one, two = self.server(), self.server()
        second = two.manager.connect("eio2", "/")
        self.here.refusals = 3
        await deferToThread(one.emit, "hello", to=second)
        self.here.refusals = 1
        self.assertRaises(BusOverrun, one.emit, "lost", to=second)
        await self.eventually(lambda: self.sent["eio2"] == ['2["hello"]'])

    async def test_too_large(self) -> None:
        """An emit that the bus cannot carry is an error to the thread."""
        server = self.server()
        with self.assertRaises(MessageTooLarge):
            await deferToThread(server.emit, "x", "y" * api.MESSAGE_LIMIT)


class DrainTests(WorkerTests):
    """The end of the sessions of a worker that drains."""

    def drained(self, prepare: Callable[[Any], Any], seconds: float = 0.0) -> tuple[Any, list[Any]]:
        """Drain a server with these sessions; returns what they say of it, and who left."""
        left: list[Any] = []

        async def main() -> Any:
            server = engineio.AsyncServer(async_mode="asgi")
            server.on("disconnect", lambda sid, reason: left.append((sid, reason)))
            txsticky.socketio.tag(server)
            for name in ("a", "b"):
                server.generate_id()
                server.sockets[name] = AsyncSocket(server, name)
            results = asyncio.ensure_future(prepare(server))
            await asyncio.sleep(0)
            sessions.drain(seconds)
            results = await asyncio.wait_for(results, 60)
            await asyncio.gather(*sessions._drains)
            return results, dict(server.sockets)

        return asyncio.run(main()), left

    def test_polling(self) -> None:
        """A poll that waits is answered with nothing, and the session is gone for the next one."""

        async def poll(server: Any) -> Any:
            return [packet.packet_type for packet in await server.sockets["a"].poll()]

        (packets, left_over), left = self.drained(poll)
        self.assertEqual((packets, left_over), ([NOOP], {}))
        self.assertEqual(left, [("a", "server disconnect"), ("b", "server disconnect")])

    def test_websocket(self) -> None:
        """The writer of a WebSocket learns that it is over, and closes it."""

        async def write(server: Any) -> Any:
            server.sockets["b"].upgraded = True
            return await server.sockets["b"].poll()

        (packets, left_over), left = self.drained(write)
        self.assertEqual((packets, list(left_over)), ([], ["b"]))
        self.assertEqual(left, [("a", "server disconnect")])

    def test_one_fails(self) -> None:
        """A session that cannot be ended does not keep the next one."""

        async def fail(server: Any) -> None:
            server.sockets["a"].send = None

        (_, left_over), left = self.drained(fail)
        self.assertEqual((list(left_over), len(left)), (["a"], 1))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_spread(self) -> None:
        """Sessions end one after the other over the time that is given."""
        moments: list[float] = []

        async def watch(server: Any) -> None:
            async def sleep(seconds: float) -> None:
                moments.append(seconds)

            server.sleep = sleep

        self.drained(watch, seconds=10.0)
        self.assertEqual(moments, [5.0, 5.0])

    def test_threads(self) -> None:
        """The sessions of a server of threads end as well."""
        left: list[Any] = []
        server = engineio.Server(async_mode="threading")
        server.on("disconnect", lambda sid, reason: left.append(sid))
        txsticky.socketio.tag(server)
        server.generate_id()
        polling, websocket = Socket(server, "a"), Socket(server, "b")
        websocket.upgraded = True
        server.sockets.update(a=polling, b=websocket)
        started: list[Any] = []
        server.start_background_task = lambda *task: started.append(task)
        sessions.drain(0.0)
        [(target, *arguments)] = started
        target(*arguments)
        self.assertEqual([packet.packet_type for packet in polling.poll()], [NOOP])
        self.assertEqual((websocket.poll(), left, list(server.sockets)), ([], ["a"], ["b"]))

    def test_no_sessions(self) -> None:
        """A worker without any server of python-socketio has nothing to end."""
        sessions.drain(10.0)
        self.assertEqual(sessions._drains, set())
