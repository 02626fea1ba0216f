"""The whole cluster as one service: real sockets, and workers that the test plays."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Any
from unittest import mock

from twisted.application.service import Application, IService, IServiceCollection
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.fakes import FakeSystem
from tests.raw_frames import Kind, decode_json
from tests.shells import PlayedWorker, ReactorCase, ended, open_descriptors, received
from txsticky.admin.history import History
from txsticky.admin.state import look
from txsticky.cluster import Cluster
from txsticky.config import Config
from txsticky.core.lifecycle.states import LAME_DUCK
from txsticky.errors import ConfigError, ListenError, TlsError

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class ClusterCase(ReactorCase):
    """
    A cluster on a real reactor.

    :ivar on_ended: what the cluster is given; it keeps what it is called with in `ended`.
    """

    def setUp(self) -> None:
        super().setUp()
        self.ended: list[tuple[int, str]] = []
        self.on_ended: Any = lambda *ended: self.ended.append(ended)
        self.workers: list[PlayedWorker] = []
        self.addCleanup(self.end)

    def make(self, **options: Any) -> Cluster:
        """Make a cluster."""
        options = {"listen": ["tcp:0:interface=127.0.0.1"], "workers": 1, **options}
        self.on_ready = mock.Mock()
        self.reloads: list[bool] = []
        self.cluster = Cluster(
            Config(**options),
            self.reactor,
            self.on_ended,
            on_ready=self.on_ready,
            on_reloading=self.reloads.append,
        )
        self.system = FakeSystem(reactor=self.reactor, clock=self.reactor.seconds)
        self.cluster.system = self.system
        return self.cluster

    def start(self, **options: Any) -> Cluster:
        """Make one, start it, and have its workers ready."""
        self.make(**options).startService()
        self.play()
        return self.cluster

    def play(self) -> None:
        """Have the workers ready that have been spawned."""
        for process in self.system.processes[len(self.workers) :]:
            self.workers.append(PlayedWorker(process))
            self.workers[-1].ready()
        self.until(
            lambda: all(handle.ready for handle in self.cluster.primary.workers.handles.values())
        )

    def end(self) -> None:
        """Stop it, if it runs."""
        if getattr(self, "cluster", None) is not None and self.cluster.running:
            stopped = self.cluster.stopService()
            self.die()
            self.until(lambda: stopped.called)
        self.settle()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def die(self) -> None:
        """Have all workers end."""
        for worker in self.workers:
            if worker.id in self.cluster.primary.workers.handles:
                worker.die()
        for process in self.system.processes[len(self.workers) :]:
            process.exit(0)

    def settle(self) -> None:
        """Let the reactor do what is due."""
        for _ in range(5):
            self.reactor.iterate(0)

    def connect(self, number: int = 0, data: bytes = GET) -> socket.socket:
        """Connect to an endpoint, and send something."""
        address = self.cluster.addresses()[number]
        if hasattr(address, "name"):
            client = self.owned(socket.socket(socket.AF_UNIX))
            client.connect(address.name)
        else:
            client = self.owned(socket.create_connection((address.host, address.port)))
        client.sendall(data)
        return client  # type: ignore[no-any-return]

    def served_by_the_next(self, client: socket.socket) -> None:
        """Have the only worker die; the one in its place serves this client, which has asked."""
        self.workers[0].die(-9)
        self.until(lambda: len(self.system.processes) == 2)
        self.play()
        self.assertEqual(self.taken().prefix, GET)
        self.workers[1].hands[0][0].send(b"served")
        self.until(lambda: received(client) == b"served")

    def taken(self) -> Any:
        """The hand-off of the connection that a worker has got."""
        taken: list[Any] = []
        self.until(lambda: any(taken.extend(w.take()) or taken for w in self.workers))
        return taken[0]

    def not_loading(self) -> None:
        """Start, with an application that does not load, and wait for the end."""
        self.make().startService()
        worker = PlayedWorker(self.system.processes[0])
        self.workers.append(worker)
        worker.send_json(Kind.FAILED, reason="no such module")
        worker.die(3)
        self.until(lambda: not self.cluster.primary.workers.handles)
        self.settle()

    def told(self, worker: PlayedWorker, kind: Kind) -> bytes:
        """Wait until a worker is told something; returns it."""
        told: list[bytes] = []
        self.until(lambda: told.extend(worker.told(kind)) or told)
        return told[0]


class StartTests(ClusterCase):
    """The start."""

    def test_service(self) -> None:
        """A cluster is a service, and can stand in an application."""
        cluster = self.make()
        self.assertTrue(verifyObject(IService, cluster))
        application = Application("chat")
        cluster.setServiceParent(application)
        self.assertEqual(list(IServiceCollection(application)), [cluster])

    def test_serves(self) -> None:
        """A cluster listens, starts its workers, and hands connections to them."""
        self.start(workers=2)
        self.assertEqual(len(self.workers), 2)
        client = self.connect()
        handoff = self.taken()
        self.assertEqual((handoff.prefix, handoff.origin.peer), (GET, client.getsockname()))
        self.assertEqual(self.cluster.accepted, 1)

    def test_several_endpoints(self) -> None:
        """A cluster listens on several endpoints."""
        path = self.mktemp()
        self.start(listen=["tcp:0:interface=127.0.0.1", "[::1]:0", f"unix:{path}"])
        for number in (2, 1, 0):
            self.connect(number)
            self.assertEqual(self.taken().hops, 0)
        self.assertTrue(os.path.exists(path))
        self.end()
        self.assertFalse(os.path.exists(path))

    def test_backlog(self) -> None:
        """As many connections as the backlog says may wait before they are accepted."""
        backlogs: list[int] = []
        self.patch(socket.socket, "listen", lambda sock, backlog: backlogs.append(backlog))
        self.make(backlog=7).startService()
        self.assertEqual(backlogs[-1], 7)

    def test_ready(self) -> None:
        """A program that wants to know is told when it serves."""
        cluster = self.make()
        cluster.startService()
        self.assertEqual(self.on_ready.call_count, 0)
        self.play()
        self.until(lambda: self.on_ready.call_count)
        self.assertEqual(self.on_ready.call_count, 1)

    def test_log(self) -> None:
        """The log says that the cluster listens when it does, and that it serves when it does."""
        with mock.patch("txsticky.cluster.log") as log:

            def said() -> list[str]:
                return [call.args[0].format(**call.kwargs) for call in log.info.call_args_list]

            self.make(workers=2).startService()
            port = self.cluster.addresses()[0].port
            self.assertEqual(said(), [f"txsticky listens on 127.0.0.1:{port}."])
            self.play()
            self.until(lambda: len(said()) > 1)
        app = "txsticky.demo:resource"
        self.assertEqual(said()[1:], [f"txsticky serves {app} on 127.0.0.1:{port} with 2 workers."])

    def test_log_of_a_part(self) -> None:
        """The log says how many workers serve if it is a part of them."""
        with (
            mock.patch("txsticky.cluster.log") as log,
            mock.patch("txsticky.primary.beginning.OTHERS", 0.01),
        ):
            self.make(workers=2).startService()
            self.workers.append(PlayedWorker(self.system.processes[0]))
            self.workers[0].ready()
            self.until(lambda: log.info.call_count > 1)
            call = log.info.call_args
        self.assertIn("with 1 of 2 workers.", call.args[0].format(**call.kwargs))

    def test_stopped_before_it_serves(self) -> None:
        """A cluster that is stopped before it serves does not say that it serves."""
        cluster = self.make(workers=2)
        cluster.startService()
        self.workers.append(PlayedWorker(self.system.processes[0]))
        self.workers[0].ready()
        self.until(lambda: self.cluster.primary.workers.handles[1].ready)
        cluster.stop(graceful=True)
        self.assertEqual(
            (self.on_ready.call_count, cluster.primary.beginning.under_way), (0, False)
        )

    def test_deferred_accept(self) -> None:
        """The kernel holds silent connections back once the application is known to be HTTP."""
        self.make().startService()
        option = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
        (acceptor,) = self.cluster.primary.listeners.acceptors
        self.assertEqual(acceptor.sock.getsockopt(*option), 0)
        self.play()
        self.until(lambda: acceptor.sock.getsockopt(*option))

    def test_again(self) -> None:
        """A cluster that was stopped can be started again."""
        self.start()
        self.end()
        self.workers = []
        self.cluster.system = self.system = FakeSystem(
            reactor=self.reactor, clock=self.reactor.seconds
        )
        self.cluster.startService()
        self.play()
        self.connect()
        self.assertEqual(self.taken().prefix, GET)


class EntranceTests(ClusterCase):
    """Workers that accept themselves."""

    def sockets(self, worker: PlayedWorker) -> list[socket.socket]:
        """The listening sockets that a worker has inherited."""
        listeners = worker.boot["listeners"]
        socks = [self.owned(worker.process.socket(descriptor)) for _, descriptor in listeners]
        for sock in socks:
            sock.setblocking(False)
        return socks

    def waiting(self, sock: socket.socket) -> list[socket.socket]:
        """Accept what waits at a socket."""
        accepted = []
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted.append(self.owned(sock.accept()[0]))
        return accepted

    def test_spread(self) -> None:
        """Each worker has a socket of its own, at which connections come in."""
        self.start(accept="workers", workers=2)
        clients = [self.connect() for _ in range(40)]
        self.settle()
        found = [len(self.waiting(sock)) for w in self.workers for sock in self.sockets(w)]
        self.assertEqual((len(found), sum(found), min(found) > 0), (2, 40, True))
        self.assertEqual(self.cluster.accepted, 0)
        self.assertEqual(len(clients), 40)

    def test_what_cannot_be_shared(self) -> None:
        """At a UNIX socket the primary accepts, beside a TCP port at which the workers do."""
        path = self.mktemp()
        with mock.patch("txsticky.cluster.log") as log:
            self.start(accept="workers", listen=[f"unix:{path}", "tcp:0:interface=127.0.0.1"])
        said = [call.args[0].format(**call.kwargs) for call in log.info.call_args_list]
        self.assertEqual(said[1], f"The primary accepts on unix:{path}.")
        ((number, _),) = self.workers[0].boot["listeners"]
        self.assertEqual(number, 1)
        self.connect(0)
        self.assertEqual(self.taken().hops, 0)

    def test_default(self) -> None:
        """By default no worker has a listening socket."""
        self.start()
        self.assertEqual(self.workers[0].boot.get("listeners", []), [])

    def test_port_in_use(self) -> None:
        """A port at which another cluster's workers accept is in use."""
        self.start(accept="workers", workers=2)
        address = self.cluster.addresses()[0]
        listen = [f"{address.host}:{address.port}"]
        other = Cluster(Config(accept="workers", listen=listen), self.reactor)
        error = self.assertRaises(ListenError, other.startService)
        self.assertIn("in use", str(error))
        self.settle()

    def test_one_more(self) -> None:
        """A worker that is added has a socket, too."""
        self.start(accept="workers")
        self.cluster.scale(1)
        self.play()
        sock, more = (self.sockets(worker)[0] for worker in self.workers)
        self.assertEqual(sock.getsockname(), more.getsockname())
        self.assertNotEqual(os.fstat(sock.fileno()).st_ino, os.fstat(more.fileno()).st_ino)

    def test_respawn(self) -> None:
        """When a worker dies, clients at its socket are served; its successor gets it."""
        self.start(accept="workers")
        (sock,) = self.sockets(self.workers[0])
        client = self.connect()
        self.settle()
        self.assertEqual(self.cluster.accepted, 0)
        inode = os.fstat(sock.fileno()).st_ino
        self.served_by_the_next(client)
        (sock,) = self.sockets(self.workers[1])
        self.assertEqual(os.fstat(sock.fileno()).st_ino, inode)

    def test_last_ones(self) -> None:
        """Clients are refused though a worker has not closed its socket yet."""
        self.start(accept="workers")
        (sock,) = self.sockets(self.workers[0])
        address = self.cluster.addresses()[0]
        self.cluster.stop(graceful=True)
        self.settle()
        with self.assertRaises(ConnectionRefusedError):
            self.owned(socket.create_connection((address.host, address.port)))
        self.assertRaises(OSError, sock.accept)

    def test_stop(self) -> None:
        """When the cluster stops, clients that wait at any socket by then are served."""
        self.start(accept="workers", workers=2)
        for _ in range(20):
            self.connect()
        self.cluster.stop(graceful=True)
        self.until(lambda: sum(w.take() is None or len(w.hands) for w in self.workers) == 20)


class RefusedTests(ClusterCase):
    """Clusters that cannot be started."""

    def refused(self, kind: type[Exception], **options: Any) -> str:
        """Why a cluster does not start; nothing is left of the attempt."""
        before = open_descriptors()
        self.make(**options)
        error = self.assertRaises(kind, self.cluster.startService)
        self.settle()
        self.assertEqual(self.system.processes, [])
        self.assertEqual(open_descriptors(), before)
        self.assertEqual(self.cluster.running, 0)
        return str(error)

    def test_port_in_use(self) -> None:
        """A port that is in use is named, with the system's reason."""
        port = self.listening().getsockname()[1]
        sentence = self.refused(ListenError, listen=[f"127.0.0.1:{port}"])
        self.assertIn(f"127.0.0.1:{port}", sentence)
        self.assertIn("in use", sentence)

    def test_one_of_several(self) -> None:
        """If one endpoint of several cannot be, the others are closed again."""
        port = self.listening().getsockname()[1]
        self.refused(ListenError, listen=["tcp:0:interface=127.0.0.1", f"127.0.0.1:{port}"])

    def test_unknown_endpoint(self) -> None:
        """An endpoint that Twisted does not know is named."""
        self.assertIn("carrier:pigeon", self.refused(ListenError, listen=["carrier:pigeon"]))

    def test_wrapping_endpoint(self) -> None:
        """An endpoint that wraps its connections is refused with what to use instead."""
        sentence = self.refused(ListenError, listen=["haproxy:tcp:0:interface=127.0.0.1"])
        self.assertIn("--proxy-protocol", sentence)
        self.assertIn("--tls-cert", sentence)

    def test_certificate(self) -> None:
        """A certificate that is not there is said before anything is opened."""
        self.refused(TlsError, tls_cert=["/no/cert.pem"], tls_key=["/no/key.pem"])

    def test_user(self) -> None:
        """A user that does not exist is told before anything is opened."""
        self.assertIn("nobody-knows", self.refused(ConfigError, user="nobody-knows"))


class SteerTests(ClusterCase):
    """Orders to a cluster that runs."""

    def test_reload(self) -> None:
        """A reload starts a successor, and retires the old worker when that is ready."""
        self.start()
        begun = self.reloads
        self.cluster.reload()
        self.assertEqual((len(self.system.processes), begun), (2, [True]))
        self.play()
        self.told(self.workers[0], Kind.DRAIN)
        self.connect()
        self.taken()
        self.assertEqual((len(self.workers[1].hands), begun), (1, [True, False]))

    def test_scale(self) -> None:
        """A cluster runs one more worker, or one less."""
        self.start()
        self.cluster.scale(1)
        self.play()
        self.assertEqual(len(self.workers), 2)
        self.cluster.scale(-1)
        self.told(self.workers[1], Kind.DRAIN)

    def test_rotate(self) -> None:
        """A cluster has the workers reopen their logs."""
        self.start()
        self.cluster.rotate_logs()
        self.told(self.workers[0], Kind.ROTATE)

    def test_respawn(self) -> None:
        """A worker that dies is replaced, and what it had not taken is served."""
        self.start()
        client = self.connect()
        self.until(lambda: self.cluster.accepted)
        self.served_by_the_next(client)


class StopTests(ClusterCase):
    """The end."""

    def test_graceful(self) -> None:
        """The workers get their time, and the system refuses clients that connect from then on."""
        self.start(graceful_timeout=12.0)
        address = self.cluster.addresses()[0]
        stopped = self.cluster.stop(graceful=True)
        fields = decode_json(self.told(self.workers[0], Kind.DRAIN))
        self.assertEqual((fields["final"], round(fields["seconds"])), (True, 12))
        self.settle()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((address.host, address.port))
        self.assertNoResult(stopped)
        self.workers[0].die()
        self.successResultOf(stopped)
        self.assertEqual([code for code, _ in self.ended], [0])

    def test_quick(self) -> None:
        """In a hurry the workers get a signal."""
        self.start()
        self.cluster.stop(graceful=False)
        self.assertEqual(self.workers[0].process.signals, [signal.SIGQUIT])

    def test_hurry(self) -> None:
        """A second call hurries the first."""
        self.start()
        self.cluster.stop(graceful=True)
        self.cluster.stop(graceful=False)
        self.assertEqual(self.workers[0].process.signals, [signal.SIGQUIT])

    def test_in_the_backlog(self) -> None:
        """A client that is connected by then, and was not yet accepted, is served."""
        self.start()
        client = self.connect()
        self.cluster.stop(graceful=True)
        self.assertEqual(self.taken().prefix, GET)
        self.workers[0].hands[0][0].send(b"served")
        self.until(lambda: received(client) == b"served")

    def test_service(self) -> None:
        """A cluster that is stopped as a service stops gracefully; nothing of it is left."""
        before = open_descriptors()
        self.start()
        waits = self.connect(data=GET[:9])
        self.until(lambda: self.cluster.accepted)
        stopped = self.cluster.stopService()
        self.assertIsInstance(stopped, Deferred)
        self.told(self.workers[0], Kind.DRAIN)
        self.assertNoResult(stopped)
        self.workers[0].die()
        self.until(lambda: stopped.called)
        self.settle()
        self.assertTrue(ended(waits))
        self.assertEqual(open_descriptors() - before, {waits.fileno()})
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_while_starting(self) -> None:
        """A cluster that is stopped before its workers are ready ends them."""
        self.make().startService()
        self.cluster.stop(graceful=True)
        self.assertEqual(self.system.processes[0].signals, [signal.SIGKILL])

    def test_application_does_not_load(self) -> None:
        """If the application does not load, the cluster ends with exit code 3 and the reason."""
        self.not_loading()
        self.assertEqual(self.ended, [(3, "no such module")])


class LameDuckTests(ClusterCase):
    """The time for which a cluster serves on that is told to stop."""

    def phase(self) -> tuple[str, bool]:
        """The phase that is shown, and whether a balancer is to send connections."""
        state = look(self.cluster, self.history)
        return state.phase, state.takes_traffic

    def duck(self, seconds: float) -> Deferred[None]:
        """Start a cluster, and tell it to stop."""
        self.start(lame_duck=seconds)
        self.history = History(self.cluster.system, self.cluster.primary)
        self.assertEqual(self.phase(), ("running", True))
        return self.cluster.stop(graceful=True)

    def said(self) -> list[str]:
        """What the journal tells of the lame duck."""
        return [e.text for e in self.cluster.journal.entries if "lame duck" in e.text]

    def test_serves_on(self) -> None:
        """The port stays open and is served, the phase tells it, and no traffic is wanted."""
        stopped = self.duck(600)
        self.assertEqual(self.phase(), (LAME_DUCK, False))
        client = self.connect()
        self.assertEqual(self.taken().prefix, GET)
        self.workers[0].hands[0][0].send(b"served")
        self.until(lambda: received(client) == b"served")
        self.assertNoResult(stopped)
        self.assertIn("serves for 600 more seconds", self.said()[0])

    def test_over(self) -> None:
        """When the time of a lame duck is over the usual end begins, and both say so."""
        stopped = self.duck(0.05)
        self.told(self.workers[0], Kind.DRAIN)
        self.assertEqual(self.cluster.addresses(), [])
        self.assertEqual(self.phase(), ("draining", False))
        self.assertEqual(self.said()[1:], ["The time of the lame duck is over: the cluster stops."])
        self.workers[0].die()
        self.successResultOf(stopped)

    def test_cut_short(self) -> None:
        """A second order ends the time, and is no order to hurry; a third one is."""
        stopped = self.duck(600)
        self.cluster.stop(graceful=True)
        self.assertTrue(decode_json(self.told(self.workers[0], Kind.DRAIN))["final"])
        self.assertIn("cut short", self.said()[1])
        self.assertEqual(self.workers[0].process.signals, [])
        self.cluster.stop(graceful=True)
        self.assertEqual(self.workers[0].process.signals, [signal.SIGQUIT])
        self.workers[0].die()
        self.successResultOf(stopped)

    def test_quick(self) -> None:
        """An order that is not graceful ends a lame duck at once, or lets none begin."""
        self.duck(600)
        self.cluster.stop(graceful=False)
        self.assertEqual(self.workers[0].process.signals, [signal.SIGQUIT])

    def test_a_worker_dies(self) -> None:
        """A worker that dies meanwhile is replaced; nothing else begins."""
        self.duck(600)
        self.cluster.reload()
        self.cluster.scale(1)
        self.cluster.upgrade()
        self.assertEqual(len(self.system.processes), 1)
        self.served_by_the_next(self.connect())

    def test_nothing_serves(self) -> None:
        """A cluster whose first start is not over ends at once."""
        self.make(lame_duck=600).startService()
        self.cluster.stop(graceful=True)
        self.assertEqual(self.system.processes[0].signals, [signal.SIGKILL])

    def test_service(self) -> None:
        """A lame duck that is a service stops when its time is over; nothing of it is left."""
        self.start(lame_duck=0.05)
        stopped = self.cluster.stopService()
        self.assertNoResult(stopped)
        self.told(self.workers[0], Kind.DRAIN)
        self.workers[0].die()
        self.until(lambda: stopped.called)
