"""A template and its workers in processes of their own, the test being their primary."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SkipTest

from tests.certificates import pair
from tests.raw_frames import FrameReader, Kind, encode_json
from tests.shells import ShellCase
from txsticky.config import Config
from txsticky.core.how import How
from txsticky.core.messages.forks import Prepare
from txsticky.core.messages.handoff import Handoff, pack_handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.pool import Pool
from txsticky.ipc.channel import channel_pair
from txsticky.ipc.mailbox import MailboxTransport, mailbox_pair
from txsticky.primary.supervision.template import Template
from txsticky.system.process import Process, can_adopt
from txsticky.system.system import System

ROOT = Path(__file__).resolve().parents[2]
TELLER = """
import json, os, random, signal, sys, uuid
import txsticky
from twisted.internet.protocol import Factory, Protocol

IMPORTED, CALLED = os.getpid(), []
txsticky.after_fork(lambda: CALLED.append(os.getpid()))

def told():
    with open("/proc/self/status") as file:
        status = dict(line.rstrip().split(":", 1) for line in file)
    files = [os.readlink(f"/proc/self/fd/{n}") for n in range(3)]
    return {
        "kept": {
            "status": {n: status[n] for n in ("Umask", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs")},
            "group": os.getpgid(0) == os.getpgid(os.getppid()),
            "session": os.getsid(0) == os.getsid(os.getppid()),
            "folder": os.getcwd(),
            "path": sys.path,
            "arguments": [sys.argv[0], len(sys.argv), sys.orig_argv[1:4], len(sys.orig_argv)],
            "environ": dict(os.environ),
            "files": [files[0], files[1][:5], files[1] == files[2]],
            "oom": open("/proc/self/oom_score_adj").read(),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "parent": os.getppid(),
        },
        "pid": os.getpid(), "imported": IMPORTED, "called": CALLED,
        "chance": [random.random(), str(uuid.uuid4())],
    }

class Teller(Protocol):
    def dataReceived(self, data):
        self.transport.write(json.dumps(told()).encode())
        self.transport.loseConnection()

app = Factory.forProtocol(Teller)
"""


IMPORTED = """
import json, os, sys
HERE, BEFORE = os.getpid(), set(sys.modules)
def told():
    later = sorted(set(sys.modules) - BEFORE)
    return json.dumps({"imported": HERE, "pid": os.getpid(), "later": later}).encode()
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    headers = [(b"content-length", str(len(told())).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told()})
"""


class ForkCase(ShellCase):
    """
    A template, and workers.

    :ivar said: what they have said.
    :ivar ends: how the workers have ended.
    """

    def setUp(self) -> None:
        super().setUp()
        if not can_adopt():
            raise SkipTest("orphans cannot be adopted here")
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": str(ROOT)})
        self.system = System(self.reactor, folder=str(self.folder))
        self.fresh()
        self.addCleanup(self.end)

    def fresh(self) -> None:
        """Make a template that is not started yet."""
        self.said: list[str] = []
        self.ends: list[int] = []
        self.workers: list[Process] = []
        self.changes: list[Template] = []
        self.template = Template(self.system, 1, self.changes.append)
        self.template._said = self.said.append  # type: ignore[method-assign]

    def end(self) -> None:
        """No process survives the test."""
        for worker in self.workers:
            worker.send_signal(signal.SIGKILL)
        if hasattr(self.template, "process"):
            self.template.end()
            self.until(lambda: not self.template.alive)
        self.until(lambda: len(self.ends) == len(self.workers))

    def start(
        self,
        application: str = TELLER,
        preload: bool = False,
        interface: str = "protocol",
        **options: Any,
    ) -> None:
        """Start the template, and wait until it is ready or has ended."""
        (self.folder / "told.py").write_text(application)
        self.config = Config(app="told:app", interface=interface, **options)
        prepare = Prepare(config=self.config.to_json(), interface=interface, preload=preload)
        self.template.start(prepare, None)
        self.until(lambda: self.changes)

    def executed(
        self, numbers: list[int], said: Callable[[str], None], exited: Callable[[int], None]
    ) -> Process:
        """Start a worker that is an interpreter of its own, as `Template.fork` starts one."""
        command = ["-P", "-m", "txsticky.worker.process", str(numbers[0]), " " * 16]
        return self.system.spawn(command, numbers, {}, said, exited)

    def worker(
        self, start: Callable[..., Process] | None = None, ask: bytes = b"tell"
    ) -> dict[str, Any]:
        """Have a worker; returns what its application tells."""
        mailbox = self.begin(start)
        with self.connection(mailbox, ask) as client, client.makefile("rb") as stream:
            told: dict[str, Any] = json.loads(stream.read().rpartition(b"\r\n\r\n")[2])
        return told

    def connection(self, mailbox: MailboxTransport, prefix: bytes = b"") -> socket.socket:
        """Hand a worker a connection with some bytes read; returns the client's end."""
        server, client = socket.socketpair()
        self.owned(client)
        client.settimeout(60)
        mailbox.sendFileDescriptor(server.detach())
        origin = Origin(("", 0))
        handoff = Handoff(family=socket.AF_UNIX, origin=origin, how=How.NEW, prefix=prefix)
        mailbox.write(pack_handoff(attrs.evolve(handoff, fresh=not prefix)))
        return client

    def begin(self, start: Callable[..., Process] | None = None) -> MailboxTransport:
        """Have a worker that is ready; returns its mailbox."""
        sending, reading = mailbox_pair()
        desk, desk_reading = mailbox_pair()
        ours, theirs = channel_pair()
        self.owned(desk_reading)
        self.channel = self.owned(ours)
        mailbox = MailboxTransport(sending, self.reactor)
        self.addCleanup(mailbox.loseConnection)
        numbers = [theirs.fileno(), reading.fileno(), desk.fileno()]
        begin = start or self.template.fork
        self.workers.append(begin(numbers, self.said.append, self.ends.append))
        pool = Pool()
        pool.add(1, 4)
        ours.settimeout(60)
        ours.sendall(
            encode_json(
                Kind.BOOT,
                id=1,
                slot=4,
                generation=1,
                config=self.config.to_json(),
                secret="00" * 16,
                pool=pool.view(),
                table_limit=100,
                table_ttl=60.0,
                mailbox=numbers[1],
                front_desk=numbers[2],
            )
        )
        for end in (theirs, reading, desk):
            end.close()
        self.assertIs(self.first_word(), Kind.READY, self.said)
        return mailbox

    def first_word(self) -> Kind:
        """What kind of frame the worker says first."""
        reader, frames = FrameReader(1 << 22), []
        while not frames:
            data = self.channel.recv(65536)
            self.assertTrue(data, self.said)
            frames = reader.feed(data)
        kind: Kind = frames[0][0]
        return kind


class LikenessTests(ForkCase):
    """What a worker has of its parents."""

    def test_like(self) -> None:
        """A forked worker has what an executed one has; its parent is the primary."""
        self.start()
        executed = self.worker(self.executed)
        forked, other = self.worker(), self.worker()
        self.maxDiff = None
        self.assertEqual(forked["kept"], executed["kept"])
        self.assertEqual(other["kept"], executed["kept"])
        self.assertEqual(forked["kept"]["parent"], os.getpid())
        self.assertNotEqual(forked["chance"], other["chance"])
        self.assertEqual(forked["imported"], forked["pid"])

    def test_preloaded(self) -> None:
        """With the application imported before, its function is called in each worker."""
        self.start(preload=True)
        one, other = self.worker(), self.worker()
        self.assertEqual({one["imported"], other["imported"]}, {self.template.process.pid})
        for each in (one, other):
            self.assertEqual(each["called"], [each["pid"]])
        for first, second in zip(one["chance"], other["chance"], strict=True):
            self.assertNotEqual(first, second)

    def test_title(self) -> None:
        """Template and workers each show themselves under their own name."""
        self.start()
        self.worker()
        titles = [
            Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0")
            for process in (self.template.process, self.workers[0])
        ]
        self.assertEqual(titles, [b"txsticky: template", b"txsticky: worker 4"])

    def test_descriptors(self) -> None:
        """The template keeps nothing of what its workers have."""
        self.start()
        before = len(os.listdir(f"/proc/{self.template.process.pid}/fd"))
        self.worker()
        self.assertEqual(len(os.listdir(f"/proc/{self.template.process.pid}/fd")), before)

    def test_handlers(self) -> None:
        """Signals that the application handles are its workers', and nothing to the template."""
        self.start(
            "import signal\n"
            "signal.signal(signal.SIGUSR1, lambda *_: print('a signal', flush=True))\n"
            "signal.signal(signal.SIGCHLD, lambda *_: print('a child', flush=True))\n" + TELLER,
            preload=True,
        )
        self.worker()
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGHUP):
            self.template.process.send_signal(number)
        self.worker()
        self.workers[0].send_signal(signal.SIGUSR1)
        self.until(lambda: "a signal" in self.said)
        self.assertEqual(self.said.count("a signal") + self.said.count("a child"), 1)


class InterfaceTests(ForkCase):
    """Every interface, with the application imported before the fork and after it."""

    def serves(self, application: str, interface: str, preload: bool) -> int:
        """Assert that it serves; returns the process that the application was imported in."""
        self.start(IMPORTED + application, preload, interface)
        request = b"GET / HTTP/1.1\r\nHost: cluster.test\r\nConnection: close\r\n\r\n"
        told = self.worker(ask=request)
        self.assertEqual(told["pid"], self.workers[0].pid)
        if preload:
            self.assertLessEqual(set(told["later"]), {"twisted.internet.reactor"}, "not shared")
        imported: int = told["imported"]
        return imported

    def each_way(self, application: str, interface: str) -> None:
        """Serve with --preload, where the interface is detected, and without, where it is told."""
        for preload in (False, True):
            imported = self.serves(application, "auto" if preload else interface, preload)
            expected = (self.template.process if preload else self.workers[0]).pid
            self.assertEqual(imported, expected, (interface, preload))
            self.end()
            self.fresh()

    def test_web(self) -> None:
        """A twisted.web application is served, imported before the fork and after it."""
        self.each_way(
            "from twisted.web.resource import Resource\n"
            "class App(Resource):\n"
            "    isLeaf = True\n"
            "    def render_GET(self, request): return told()\n"
            "app = App()\n",
            "web",
        )

    def test_wsgi(self) -> None:
        """A WSGI application is served, imported before the fork and after it."""
        self.each_way(
            "def app(environ, start_response):\n"
            "    start_response('200 OK', [('Content-Length', str(len(told())))])\n"
            "    return [told()]\n",
            "wsgi",
        )

    def test_asgi(self) -> None:
        """An ASGI application is served, imported before the fork and after it."""
        self.each_way(ASGI, "asgi")

    def test_two_reactors(self) -> None:
        """A worker of an ASGI application that imports a reactor is executed anew."""
        application = "from twisted.internet import reactor\n" + ASGI
        self.assertEqual(self.serves(application, "auto", False), self.workers[0].pid)


class ResumptionTests(ForkCase):
    """Sessions of TLS."""

    def test_any_worker(self) -> None:
        """A session that began in one worker goes on in another, for any version and name."""
        pairs = [pair(self.folder, name) for name in ("one.test", "two.test")]
        self.start(
            tls_cert=[each.certificate for each in pairs], tls_key=[each.key for each in pairs]
        )
        mailboxes = [self.begin(), self.begin()]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for each in pairs:
            context.load_verify_locations(each.certificate)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.minimum_version = context.maximum_version = version
            for name in ("one.test", "two.test"):
                session, resumed, pids = None, [], []
                for number in range(6):
                    plain = self.connection(mailboxes[number % 2])
                    with context.wrap_socket(
                        plain, server_hostname=name, session=session
                    ) as client:
                        client.sendall(b"tell")
                        with client.makefile("rb") as stream:
                            pids.append(json.loads(stream.read())["pid"])
                        resumed.append(client.session_reused)
                        session = client.session
                self.assertEqual(resumed, [False] + [True] * 5, (version, name))
                self.assertEqual(pids, [worker.pid for worker in self.workers] * 3)


class FaultTests(ForkCase):
    """Templates with a fault."""

    def test_output_is_its_own(self) -> None:
        """What the application prints as it is imported is printed once, by the template."""
        self.start("print('imported')\n" + TELLER, preload=True)
        self.worker()
        self.template.end()
        self.workers[0].send_signal(signal.SIGQUIT)
        self.until(lambda: self.ends and not self.template.alive)
        self.assertEqual(self.said.count("imported"), 1)

    def test_function_fails(self) -> None:
        """If a function of `after_fork` fails, the worker says so and ends with 3."""
        self.start("import txsticky\ntxsticky.after_fork(lambda: 1 / 0)\n" + TELLER, preload=True)
        with self.assertRaises(self.failureException):
            self.worker()
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [3])

    def test_stopped(self) -> None:
        """A template that is stopped forks nothing, and is ended."""
        self.start()
        self.template.process.send_signal(signal.SIGSTOP)
        with self.assertRaises(OSError):
            self.until(lambda: self.template.fork([0], print, print))
        self.until(lambda: not self.template.alive)

    def test_no_descriptors(self) -> None:
        """A template that has no descriptors left says so, and goes on."""
        self.start(
            "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))\n" + TELLER,
            preload=True,
        )
        one, other = self.pair()
        for _ in range(2):
            error = self.assertRaises(
                OSError, self.template.fork, [one.fileno(), other.fileno()] * 3, print, print
            )
            self.assertIn("no descriptors left", str(error))
        self.assertTrue(self.template.ready)

    def test_no_processes(self) -> None:
        """A template that cannot fork says so, and goes on."""
        self.start(
            "import os\nos.fork = lambda: (_ for _ in ()).throw(OSError(11, 'full'))\n" + TELLER,
            preload=True,
        )
        one, _ = self.pair()
        error = self.assertRaises(OSError, self.template.fork, [one.fileno()], print, print)
        self.assertIn("full", str(error))
        self.assertTrue(self.template.ready)

    def test_primary_has_gone(self) -> None:
        """A template ends when the other end of its socket is closed."""
        self.start()
        assert self.template._socket is not None
        self.template._socket.shutdown(socket.SHUT_RDWR)
        self.until(lambda: not self.template.alive)
        self.assertEqual(self.template.status, 0)
