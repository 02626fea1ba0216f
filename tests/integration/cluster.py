"""Starts `python -m txsticky`, or a bare server to compare with, and ends it without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self
from unittest import TestResult

from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.trial.itrial import IReporter
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import processes
from tests.integration.processes import SLACK, Process, until
from tests.integration.rawhttp import Connection, Fault, Response, request

ROOT = Path(__file__).resolve().parents[2]
APPS = "tests.integration.apps"
POOL = "/cluster/pool"
START = 30.0
STOP = 20.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no program listens on.

    It is none of those that the kernel gives to clients: tests run side by side, and one of their
    many connections could have taken it before the server does.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A server process in a session of its own, its output in a file. A context manager.

    It serves when a GET of `probe` is answered with 200; with an empty probe, when it accepts
    connections.
    """

    probe = "/"
    #: Where it is started.
    folder = ROOT
    #: What runs it.
    command: tuple[str, ...] = (sys.executable,)
    #: Descriptors of this process that it inherits.
    inherits: tuple[int, ...] = ()

    def __init__(
        self, arguments: list[str], port: int, environment: dict[str, str] | None = None
    ) -> None:
        self.arguments = arguments
        self.port = port
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._environment.pop("WEB_CONCURRENCY", None)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.log())
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, which for a cluster is the primary."""
        if self._process is None:
            raise AssertionError("the server was not started")
        return self._process

    @property
    def pid(self) -> int:
        """The process id of the server, and of its session."""
        return self.process.pid

    def log(self) -> str:
        """All that the server has said so far, on both streams."""
        if self._output is None:
            return ""
        return Path(self._output.name).read_text(errors="replace")

    def spawn(self) -> None:
        """Starts the process and returns at once."""
        self._output = tempfile.NamedTemporaryFile(prefix="txsticky-test-")  # noqa: SIM115
        self._process = subprocess.Popen(
            [*self.command, *self.arguments],
            cwd=self.folder,
            pass_fds=self.inherits,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.port == 0 else self._output,
            stderr=self._output,
            start_new_session=True,
        )

    def start(self) -> None:
        """Starts the process and returns when it serves."""
        self.spawn()
        until(self._serves, START, f"{' '.join(self.arguments)} serves")

    def _serves(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"exit code {self.process.returncode}:\n{self.log()}")
        return self.answers(self.probe) if self.probe else self.listens()

    def answers(self, target: str = "/") -> bool:
        """Whether a GET is answered with 200 at this moment."""
        try:
            return self.get(target, timeout=2.0).status == 200
        except (OSError, Fault):
            return False

    def listens(self) -> bool:
        """Whether the port accepts connections."""
        try:
            Connection(self.port).close()
        except OSError:
            return False
        return True

    def connect(self, **options: Any) -> Connection:
        """A new connection; the options are those of :class:`Connection`."""
        return Connection(self.port, **options)

    def get(self, target: str = "/", *headers: tuple[str, str], **options: Any) -> Response:
        """The answer to a GET on a connection of its own, which is closed afterwards."""
        with self.connect(**options) as connection:
            return connection.ask(
                request("GET", target, headers=[*headers, ("Connection", "close")])
            )

    def told(self, target: str) -> Any:
        """What the application told at that path of :class:`apps.Cluster`."""
        response = self.get(target)
        if response.status != 200:
            raise Fault(f"{target}: {response.status} {response.body!r}")
        return json.loads(response.body)["told"]

    def signal(self, number: int) -> None:
        """Sends the process a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = STOP) -> int:
        """Waits for the process to end, as :func:`until` waits; returns its exit code."""
        return self.process.wait(SLACK * seconds)

    def living(self) -> list[Process]:
        """The processes of the session that still live."""
        return processes.of_session(self.pid)

    def stop(self) -> None:
        """End the server with TERM. Raises AssertionError if that leaves a process behind."""
        if self._process is None:
            return
        faults = []
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                faults.append("did not end at TERM")
        try:
            until(lambda: not self.living(), 5.0 if not faults else 0.0)
        except AssertionError:
            faults.append(f"left over: {self.living()}")
            for process in self.living():
                _kill(process.pid)
        self.wait()
        said = self.log()
        self._process, output = None, self._output
        if output is not None:
            output.close()
        if faults:
            raise AssertionError(f"{'; '.join(faults)}\n{said[-4000:]}")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class Bare(Server):
    """An application under twisted.web alone."""

    def __init__(self, app: str = "echo") -> None:
        super().__init__(["-m", APPS, app], 0)

    def start(self) -> None:
        self.spawn()
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            self.port = int(stream.readline())


class Cluster(Server):
    """A cluster of workers that serve one of :mod:`apps`.

    Where no option says otherwise a session id is the only key: most tests look at what the
    application alone answers, and want no cookie added.
    """

    def __init__(
        self,
        app: str = "echo",
        *options: str,
        workers: int = 2,
        probe: str = POOL,
        environment: dict[str, str] | None = None,
    ) -> None:
        """
        :param app: a name in apps.py, or `module:attribute`.
        :param options: further options of the command line.
        :param probe: as for :class:`Server`; with POOL, all workers are waited for.
        """
        port = free_port()
        target = app if ":" in app else f"{APPS}:{app}"
        listen = f"tcp:{port}:interface=127.0.0.1"
        arguments = [
            "-m",
            "txsticky",
            "--listen",
            listen,
            "-w",
            str(workers),
            "--graceful-timeout",
            "3",
        ]
        if "--sticky" not in options:
            arguments += ["--sticky", "sid"]
        super().__init__([*arguments, *options, target], port, environment)
        self.size, self.probe = workers, probe
        self._tags: dict[int, str] = {}

    def start(self) -> None:
        super().start()
        if self.probe == POOL:
            self.wait_ready()

    def wait_ready(self, seconds: float = START) -> None:
        """Waits until every worker serves."""
        until(lambda: len(self.ready()) == self.size, seconds, f"{self.size} workers are ready")

    def ready(self) -> set[int]:
        """The numbers of the workers that are ready, as the workers see it."""
        try:
            pool = self.told(POOL)
        except (OSError, Fault):
            return set()
        return {member["slot"] for member in pool if str(member["state"]).lower() == "ready"}

    def workers(self) -> dict[int, int]:
        """The process id of each worker by its number; of two with one number, the younger."""
        return {process.slot: process.pid for process in self.living() if process.slot}

    def others(self) -> list[Process]:
        """The processes that are neither the primary, nor a template, nor one of `workers`."""
        known = {self.pid, *self.workers().values()}
        return [
            each
            for each in self.living()
            if each.pid not in known and each.title != "txsticky: template"
        ]

    def kill_worker(self, slot: int, number: int = signal.SIGKILL) -> int:
        """Sends the worker a signal; returns its process id."""
        pid = self.workers()[slot]
        os.kill(pid, number)
        return pid

    def tag(self, slot: int) -> str:
        """A session id that carries the tag of this worker, as it is at this moment minted."""
        return self.tags()[slot]

    def tags(self) -> dict[int, str]:
        """A session id for each worker, minted once: a replaced worker has a new tag."""
        for _ in range(100 * self.size):
            if len(self._tags) == self.size:
                return dict(self._tags)
            answer = json.loads(self.get("/cluster/mint").body)
            self._tags[int(answer["worker"])] = answer["told"]
        raise AssertionError(f"only workers {sorted(self._tags)} ever answered")

    def forget_tags(self) -> None:
        """Mints anew at the next call, because a worker was replaced."""
        self._tags.clear()

    def descriptors(self) -> dict[str, int]:
        """How many descriptors the primary and each worker have open."""
        return {
            p.title: processes.descriptors(p.pid)
            for p in self.living()
            if p.slot or p.pid == self.pid
        }

    def settled(self) -> dict[str, int]:
        """The open descriptors of primary and workers, once unchanged for half a second."""
        known: list[dict[str, int]] = []

        def steady() -> bool:
            known.append(self.descriptors())
            return len(known) > 25 and all(each == known[-1] for each in known[-25:])

        until(steady, 20, "the number of descriptors stays")
        return known[-1]


class _Watched(proxyForInterface(IReporter)):  # type: ignore[misc]
    """trial's reporter, and whether it heard of a failure."""

    failed = False

    def addError(self, test: object, failure: object) -> None:
        self.failed = True
        self.original.addError(test, failure)

    def addFailure(self, test: object, failure: object) -> None:
        self.failed = True
        self.original.addFailure(test, failure)


class ServerTestCase(SynchronousTestCase):
    """Tests that share one server: it is started for the first of them and ended after the last.

    (trial knows no setUpClass.) What the server said during a test that failed is printed.
    """

    _waiting: ClassVar[set[str]]
    _shared: ClassVar[Server | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._waiting, cls._shared = set(), None

    def __init__(self, methodName: str = "runTest") -> None:
        super().__init__(methodName)
        self._waiting.add(methodName)

    def server(self) -> Server:
        """The server to start; each class says which."""
        raise NotImplementedError

    def setUp(self) -> None:
        cls = type(self)
        if cls._shared is None:
            cls._shared = self.server().__enter__()

    def run(self, result: TestResult) -> None:
        said = len(self._shared.log()) if self._shared else 0
        watched = _Watched(result)
        super().run(watched)
        if self._shared and watched.failed and (log := self._shared.log()[said:]):
            print(f"--- during {self.id()} the server said\n{log[-8000:]}", file=sys.stderr)
        self._waiting.discard(self._testMethodName)
        if not self._waiting:
            self._end(result)

    def _end(self, result: TestResult) -> None:
        cls = type(self)
        server, cls._shared = cls._shared, None
        try:
            if server is not None:
                server.stop()
        except AssertionError:
            result.addFailure(self, Failure())


class ClusterTestCase(ServerTestCase):
    """Tests that share one cluster."""

    app: ClassVar[str] = "echo"
    options: ClassVar[tuple[str, ...]] = ()
    workers: ClassVar[int] = 2
    probe: ClassVar[str] = POOL

    def server(self) -> Cluster:
        return Cluster(self.app, *self.options, workers=self.workers, probe=self.probe)

    @property
    def cluster(self) -> Cluster:
        """The cluster under test."""
        assert isinstance(self._shared, Cluster)
        return self._shared
