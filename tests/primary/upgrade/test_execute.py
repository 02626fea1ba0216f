"""The upgrade in place: the trial, the state that is left, and what is taken up."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.shells import ShellCase, open_descriptors, received
from tests.test_cluster import ClusterCase
from txsticky.errors import UpgradeError
from txsticky.intake.arrival import Arrival
from txsticky.primary.upgrade import execute as upgrade
from txsticky.primary.upgrade.execute import (
    FORM,
    PASSED,
    STATE,
    TRIAL,
    TRIAL_TIME,
    InheritedPort,
    Trial,
)
from txsticky.system.trust import Identity
from txsticky.testing import FakeProcess, FakeSystem


class TrialTests(ShellCase):
    """The process that shows whether the new program starts."""

    def setUp(self) -> None:
        super().setUp()
        self.system = FakeSystem(reactor=self.reactor)
        self.problems: list[str] = []
        self.trial = Trial(self.system, self.problems.append)

    @property
    def process(self) -> FakeProcess:
        """The process."""
        (process,) = self.system.processes
        return process

    def test_command(self) -> None:
        """It is this program with its arguments; it inherits nothing, and is told what it is."""
        self.assertEqual(self.process.arguments, sys.orig_argv[1:])
        self.assertEqual(self.process.inherited, {})
        self.assertEqual(self.process.environ, {TRIAL: str(FORM)})

    def test_passed(self) -> None:
        """If it says that it starts, nothing is wrong."""
        self.process.exit(PASSED)
        self.assertEqual(self.problems, [""])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_distrusted(self) -> None:
        """Where the workers are another user, it looks for nothing where this user may write."""
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": "relative:/"})
        identity = mock.Mock(spec=Identity)
        identity.may_write.side_effect = lambda path: path == "relative"
        Trial(self.system, self.problems.append, identity)
        process = self.system.processes[-1]
        self.assertEqual(process.environ, {TRIAL: str(FORM), "PYTHONPATH": "/"})
        self.assertIsNone(process.identity)
        process.exit(PASSED)

    def test_clean_exit(self) -> None:
        """A program that merely ends has shown nothing."""
        self.process.exit(0)
        self.assertEqual(self.problems, ["it exited with code 0"])

    def test_unclean_exit(self) -> None:
        """How it ended is told."""
        self.process.exit(-11)
        self.assertEqual(self.problems, ["it was ended by signal 11"])

    def test_time_out(self) -> None:
        """One that does not come to an end is killed, and nothing happens before it has gone."""
        self.reactor.advance(TRIAL_TIME - 1)
        self.assertEqual(self.process.signals, [])
        self.reactor.advance(1)
        self.assertEqual((self.process.signals, self.problems), ([signal.SIGKILL], []))
        self.process.exit(-9)
        self.assertEqual(self.problems, ["it takes too long to start"])

    def test_too_late(self) -> None:
        """One that passes after its time has not passed."""
        self.reactor.advance(TRIAL_TIME)
        self.process.exit(PASSED)
        self.assertEqual(self.problems, ["it takes too long to start"])

    def test_cancel(self) -> None:
        """One that is not wanted any more is killed, and nobody is told."""
        self.trial.cancel()
        self.assertEqual(self.process.signals, [signal.SIGKILL])
        self.process.exit(PASSED)
        self.assertEqual((self.problems, self.reactor.getDelayedCalls()), ([], []))

    def test_output(self) -> None:
        """What it says is logged."""
        with mock.patch.object(upgrade, "log") as log:
            self.process.say("SyntaxError: invalid syntax")
        self.assertEqual(log.warn.call_args.kwargs, {"line": "SyntaxError: invalid syntax"})

    def test_form(self) -> None:
        """A program that would not understand the state says so."""
        upgrade.check_form({TRIAL: str(FORM)})
        error = self.assertRaises(UpgradeError, upgrade.check_form, {TRIAL: "0"})
        self.assertEqual(
            str(error),
            f"The running program hands over a state of form 0; this one knows form {FORM}.",
        )


class ExecuteTests(ShellCase):
    """Becoming the new program."""

    def execute(self, state: dict[str, Any], *descriptors: int, fails: bool = False) -> Any:
        """What would be executed: the program, its arguments and its environment."""
        with mock.patch.object(os, "execve") as execve:
            if fails:
                execve.side_effect = OSError("no such file")
                self.assertRaises(OSError, upgrade.execute, state, list(descriptors))
                return None
            execve.side_effect = lambda *call: self.look(call[2])
            upgrade.execute(state, list(descriptors))
        return execve.call_args.args

    def look(self, environ: dict[str, str]) -> None:
        """Be the new program for a moment."""
        self.inheritable = {n for n in open_descriptors() if os.get_inheritable(n)}
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        copy = dict(environ)
        copy[STATE] = str(os.dup(int(copy[STATE])))
        self.state = upgrade.inherited_state(copy)
        self.assertNotIn(STATE, copy)
        self.found = copy

    def test_program(self) -> None:
        """The program and its arguments are the same."""
        program, arguments, environ = self.execute({})
        self.assertEqual(
            (program, arguments), (sys.executable, [sys.executable, *sys.orig_argv[1:]])
        )
        self.assertEqual({**environ, STATE: ""}, {**os.environ, STATE: ""})

    def test_state(self) -> None:
        """The new program finds the state, of any size."""
        state = {"text": "ü" * 300_000, "numbers": [1, 2.5, None]}
        self.execute(state)
        self.assertEqual(self.state, {**state, "form": FORM, "inherited": [], "environ": {}})

    def test_descriptors(self) -> None:
        """It inherits what is named, and nothing else."""
        one, other = self.pair()
        before = {n for n in open_descriptors() if os.get_inheritable(n)}
        self.execute({}, one.fileno())
        self.assertIn(one.fileno(), self.inheritable - before)
        self.assertNotIn(other.fileno(), self.inheritable)
        self.assertEqual(len(self.inheritable - before), 2)  # and the state

    def test_not_any_further(self) -> None:
        """In the new program none of them is inheritable, from the first moment on."""
        one, _ = self.pair()
        self.execute({}, one.fileno())
        self.assertFalse(os.get_inheritable(one.fileno()))
        self.assertEqual(self.state["inherited"], [one.fileno()])

    def test_distrusted(self) -> None:
        """Where the workers are another user, the new program imports nothing from folders that
        this user may write; and the workers have the whole PYTHONPATH again.
        """
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": "relative:/"})
        identity = mock.Mock(spec=Identity)
        identity.may_write.side_effect = lambda path: path == "relative"
        with mock.patch.object(os, "execve") as execve:
            execve.side_effect = lambda *call: self.look(call[2])
            upgrade.execute({}, [], identity)
        self.assertEqual(execve.call_args.args[2]["PYTHONPATH"], "/")
        self.assertEqual(self.found["PYTHONPATH"], "relative:/")

    def test_signals(self) -> None:
        """Signals that come meanwhile wait for it."""
        self.execute({})
        waiting = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1}
        self.assertEqual(waiting - self.blocked, set())

    def test_failure(self) -> None:
        """If it cannot be executed, everything is as it was."""
        one, _ = self.pair()
        before = open_descriptors()
        self.execute({}, one.fileno(), fails=True)
        self.assertEqual(open_descriptors(), before)
        self.assertFalse(os.get_inheritable(one.fileno()))
        self.assertNotIn(signal.SIGTERM, signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    def test_failure_for_a_descriptor(self) -> None:
        """So it is when a descriptor that was to be inherited is not there."""
        one, _ = self.pair()
        nothing = max(open_descriptors()) + 100
        with mock.patch.object(os, "execve") as execve:
            self.assertRaises(OSError, upgrade.execute, {}, [one.fileno(), nothing])
        execve.assert_not_called()
        self.assertFalse(os.get_inheritable(one.fileno()))
        self.assertNotIn(signal.SIGTERM, signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    def test_no_state(self) -> None:
        """A program that was started in the usual way has nothing to take up."""
        self.assertIsNone(upgrade.inherited_state({}))

    def test_foreign_state(self) -> None:
        """A state that it does not know is refused."""
        memory = os.memfd_create("state")
        os.write(memory, json.dumps({"form": 0}).encode())
        self.assertRaises(UpgradeError, upgrade.inherited_state, {STATE: str(memory)})

    def test_take_signals(self) -> None:
        """Signals that came during the execution are delivered when the program is ready."""
        got: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(got, [])
        upgrade.take_signals()
        self.assertEqual(got, [signal.SIGUSR1])


class ArrivalTests(ShellCase):
    """Connections that travel."""

    def test_round_trip(self) -> None:
        """All that is known of a connection comes back, less its head, which is looked for anew."""
        server, client = self.pair()
        arrival = Arrival(
            server,
            ("192.0.2.7", 50000),
            ("192.0.2.1", 80),
            listener=2,
            data=b"GET / HT\xff",
            hops=3,
            secure=True,
            idle=True,
            server_name="example",
            proxied=True,
        )
        fields = json.loads(json.dumps(upgrade.pack_arrival(arrival)))
        os.set_inheritable(server.fileno(), True)
        server.detach()
        again = upgrade.unpack_arrival(fields)
        self.owned(again.sock)
        self.assertFalse(os.get_inheritable(again.sock.fileno()))
        again.sock.send(b"it lives")
        self.assertEqual(received(client), b"it lives")
        for name in ("peer", "host", "listener", "data", "hops", "secure", "idle", "server_name"):
            self.assertEqual(getattr(again, name), getattr(arrival, name), name)
        self.assertTrue(again.proxied)
        self.assertIsNone(again.head)


class InheritedPortTests(ShellCase):
    """Listening sockets that the program before had opened."""

    def inherit(self, sock: socket.socket) -> InheritedPort:
        """One of them."""
        os.set_inheritable(sock.fileno(), True)
        return InheritedPort(sock.detach())

    def test_addresses(self) -> None:
        """Its address is the socket's, in each family."""
        for family, kind in ((socket.AF_INET, IPv4Address), (socket.AF_INET6, IPv6Address)):
            sock = self.listening(family)
            name = sock.getsockname()
            port = self.inherit(sock)
            self.assertEqual(port.getHost(), kind("TCP", *name))
            self.assertFalse(os.get_inheritable(port.fileno()))
            port.stopListening()

    def unix(self, name: str) -> InheritedPort:
        """A UNIX socket of that name."""
        sock = self.owned(socket.socket(socket.AF_UNIX))
        sock.bind(name)
        sock.listen()
        return self.inherit(sock)

    def test_unix(self) -> None:
        """A UNIX socket's file goes when it is closed."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "socket")
        port = self.unix(path)
        self.assertEqual(port.getHost(), UNIXAddress(path))
        port.stopListening()
        self.assertEqual(os.listdir(folder), [])

    def test_unix_replaced(self) -> None:
        """The file of another socket that took its place stays."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "socket")
        port = self.unix(path)
        os.unlink(path)
        other = self.unix(path)
        port.stopListening()
        self.assertEqual(os.listdir(folder), ["socket"])
        other.stopListening()

    def test_unix_already_gone(self) -> None:
        """That somebody removed the file is no error."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        port = self.unix(os.path.join(folder, "socket"))
        os.unlink(os.path.join(folder, "socket"))
        port.stopListening()

    def test_abstract(self) -> None:
        """An abstract name has no file."""
        port = self.unix(f"\0txsticky-test-{os.getpid()}")
        self.assertEqual(port.getHost().name[:1], b"\0")
        port.stopListening()


class ClusterTests(ClusterCase):
    """What a cluster does with it."""

    def setUp(self) -> None:
        super().setUp()
        patcher = mock.patch("txsticky.cluster.execute")
        self.execute = patcher.start()
        self.addCleanup(patcher.stop)

    def trial(self) -> FakeProcess:
        """Send for an upgrade; the process of its trial."""
        self.cluster.upgrade()
        return self.system.processes[-1]

    def test_upgrade(self) -> None:
        """When the new program has shown that it starts it is executed, with all descriptors."""
        self.start(workers=2)
        trial = self.trial()
        self.assertEqual(self.execute.mock_calls, [])
        trial.exit(PASSED)
        ((state, descriptors, _),) = [call.args for call in self.execute.mock_calls]
        self.assertEqual(len(state["handles"]), 2)
        self.assertTrue(set(descriptors) <= open_descriptors())

    def test_does_not_start(self) -> None:
        """If it does not start, it is said why, and the old one goes on."""
        self.start()
        with mock.patch("txsticky.cluster.log") as log:
            self.trial().exit(1)
        self.assertEqual(log.error.call_args.kwargs, {"why": "it exited with code 1"})
        self.assertEqual(self.execute.mock_calls, [])
        self.connect()
        self.taken()

    def test_cannot_be_tried(self) -> None:
        """Likewise if its process cannot be started; a later upgrade is possible."""
        self.start()
        self.system.refusing = OSError("no more processes")
        self.cluster.upgrade()
        self.system.refusing = None
        self.trial().exit(PASSED)
        self.assertEqual(len(self.execute.mock_calls), 1)

    def test_cannot_be_executed(self) -> None:
        """If the execution fails, the old one goes on."""
        self.start()
        self.execute.side_effect = OSError("no such file")
        self.trial().exit(PASSED)
        self.connect()
        self.taken()

    def test_one_at_a_time(self) -> None:
        """During an upgrade there is no second one."""
        self.start()
        trial = self.trial()
        count = len(self.system.processes)
        self.cluster.upgrade()
        self.assertEqual(len(self.system.processes), count)
        trial.exit(PASSED)
        self.assertEqual(len(self.execute.mock_calls), 1)

    def test_stop_calls_it_off(self) -> None:
        """To stop calls the upgrade off; and there is none from then on."""
        self.start()
        trial = self.trial()
        self.cluster.stop(graceful=True)
        self.assertEqual(trial.signals, [signal.SIGKILL])
        trial.exit(PASSED)
        count = len(self.system.processes)
        self.cluster.upgrade()
        self.assertEqual((len(self.system.processes), self.execute.mock_calls), (count, []))


class PackTests(SynchronousTestCase):
    """Bytes in JSON."""

    def test_round_trip(self) -> None:
        """Any bytes come back."""
        data = bytes(range(256))
        self.assertEqual(upgrade.unpack(json.loads(json.dumps(upgrade.pack(data)))), data)
