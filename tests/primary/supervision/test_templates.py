"""Which template workers are forked from, with templates that the test plays."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any
from unittest import mock

from twisted.logger import Logger

from tests.fakes import FakeProcess, FakeSystem
from tests.shells import ShellCase
from txsticky.config import Config
from txsticky.core.messages.forks import (
    FORK_LIMIT,
    TO_TEMPLATE,
    Fork,
    Forked,
    Prepare,
    Prepared,
    Unforked,
    Unprepared,
)
from txsticky.core.messages.frames import Frame, FrameReader, encode
from txsticky.primary.supervision import template as module
from txsticky.primary.supervision.provision import Provision
from txsticky.primary.supervision.templates import LOOK_EVERY, RETRY, Templates, wants_template
from txsticky.primary.upgrade.packing import Descriptors
from txsticky.system.process import REAP_EVERY


class PlayedTemplate:
    """A template that the test plays."""

    def __init__(self, process: FakeProcess) -> None:
        self.process = process
        number, told = map(int, process.arguments[3:5])
        self.socket = process.socket(number)
        with open(process.inherited.pop(told), "rb") as file:
            file.seek(0)
            data = file.read()
        (self.prepare,) = FrameReader(TO_TEMPLATE, len(data)).feed(data)
        assert isinstance(self.prepare, Prepare)

    def say(self, frame: Frame) -> None:
        """Tell the primary."""
        self.socket.send(encode(frame))

    def asked(self) -> tuple[Fork, list[int]]:
        """What the template was asked for last, with the descriptors."""
        message, descriptors, _, _ = socket.recv_fds(self.socket, FORK_LIMIT, 100)
        (fork,) = FrameReader(TO_TEMPLATE, FORK_LIMIT).feed(message)
        assert isinstance(fork, Fork)
        return fork, descriptors

    def die(self, status: int = -9) -> None:
        """End the process."""
        self.socket.close()
        self.process.exit(status)


class TemplatesCase(ShellCase):
    """
    Templates.

    :ivar settled: how often workers were told to go on.
    """

    options: dict[str, Any] = {}

    def setUp(self) -> None:
        super().setUp()
        self.system = FakeSystem(reactor=self.reactor, adopts=True)
        self.config = Config(app="some:app", **self.options)
        self.settled = mock.Mock()
        self.log = mock.Mock(spec=Logger)
        self.stopped: set[int] = set()
        self.patch(module, "is_stopped", self.stopped.__contains__)
        self.patch(module, "is_child", lambda pid: pid > 0)
        self.templates = self.make()
        self.addCleanup(self.end)

    def make(self) -> Templates:
        """Templates of a program."""
        provision = Provision(self.config, None)
        return Templates(self.system, self.config, provision, lambda: "web", self.settled, self.log)

    def end(self) -> None:
        """End all templates; nothing is left then."""
        self.templates.close()
        for process in self.system.processes:
            process.close()
        self.reactor.advance(REAP_EVERY)
        self.assertEqual(self.reactor.getReaders() + self.reactor.getDelayedCalls(), [])

    def played(self) -> PlayedTemplate:
        """The template that was started last."""
        played = PlayedTemplate(self.system.processes[-1])
        self.owned(played.socket)
        return played

    def ready(self, generation: int = 1) -> PlayedTemplate:
        """A template of a generation that is ready."""
        self.templates.settled(generation)
        played = self.played()
        played.say(Prepared(preloaded=played.prepare.preload))
        self.reactor.settle()
        return played

    def fork(self, played: PlayedTemplate, answer: Frame, generation: int = 1) -> Any:
        """Have a worker forked; the template answers so."""
        played.say(answer)
        one, _ = self.pair()
        return self.templates.fork(generation, [one.fileno()], print, print)


class StartTests(TemplatesCase):
    """The start."""

    def test_waits(self) -> None:
        """The first worker of a generation starts the template, and all wait for it."""
        self.assertFalse(self.templates.settled(1))
        self.assertFalse(self.templates.settled(1))
        (process,) = self.system.processes
        self.assertEqual(process.arguments[:3], ["-P", "-m", "txsticky.template.process"])
        played = self.played()
        self.assertEqual(played.prepare.interface, "web")
        self.assertEqual(Config.from_json(played.prepare.config), self.config)
        played.say(Prepared())
        self.reactor.settle()
        self.assertEqual(self.settled.call_count, 1)
        self.assertTrue(self.templates.settled(1))

    def test_dies_as_it_starts(self) -> None:
        """If a template ends before it is ready, workers go on without; another starts later."""
        self.templates.settled(1)
        self.played().die()
        self.assertEqual(self.settled.call_count, 1)
        self.assertTrue(self.templates.settled(1))
        self.assertIsNone(self.templates.fork(1, [], print, print))
        self.assertEqual(len(self.system.processes), 1)
        self.reactor.advance(RETRY)
        self.assertEqual(len(self.system.processes), 2)
        self.assertTrue(self.templates.settled(1), "nothing waits for that one")

    def test_stopped_as_it_starts(self) -> None:
        """A template that is stopped before it is ready is killed."""
        self.templates.settled(1)
        process = self.system.processes[0]
        self.reactor.advance(LOOK_EVERY)
        self.assertEqual(process.signals, [])
        self.stopped.add(process.pid)
        self.reactor.advance(LOOK_EVERY)
        self.assertEqual(process.signals, [signal.SIGKILL])

    def test_cannot_start(self) -> None:
        """If a template's process cannot be started, workers go on without."""
        self.system.refusing = OSError("no more processes")
        self.assertTrue(self.templates.settled(1))
        self.assertIn("no more processes", str(self.log.error.call_args))

    def test_unwanted(self) -> None:
        """There is no template where orphans cannot be adopted, or the operator wants none."""
        self.system.adopts = False
        self.templates = self.make()
        self.assertTrue(self.templates.settled(1))
        self.assertEqual(self.system.processes, [])
        self.assertTrue(wants_template({}))
        self.assertFalse(wants_template({"TXSTICKY_TEMPLATE": "0"}))


class ForkTests(TemplatesCase):
    """Forks."""

    def test_worker(self) -> None:
        """A fork gets the descriptors, the one for the output first; its process is watched."""
        played = self.ready()
        process = self.fork(played, Forked(4711))
        fork, (output, channel) = played.asked()
        self.assertEqual((process.pid, fork.primary), (4711, os.getpid()))
        self.assertEqual(len(fork.numbers), 1)
        for descriptor in (output, channel):
            os.close(descriptor)

    def refused(self, played: PlayedTemplate, answer: Frame) -> list[int]:
        """Assert that no worker is forked; returns the signals that the template gets."""
        self.assertIsNone(self.fork(played, answer))
        for descriptor in played.asked()[1]:
            os.close(descriptor)
        return played.process.signals

    def test_refused(self) -> None:
        """If the template cannot fork just now, that is said, and the template stays."""
        self.assertEqual(self.refused(self.ready(), Unforked("out of memory")), [])
        self.assertIn("out of memory", str(self.log.warn.call_args))

    def test_no_child(self) -> None:
        """If the worker is no child of the primary, the template is of no use."""
        self.assertEqual(self.refused(self.ready(), Forked(-1)), [signal.SIGKILL])

    def test_silent(self) -> None:
        """A template that does not answer is killed."""
        self.patch(module, "FORK_TIME", 0.01)
        played = self.ready()
        one, _ = self.pair()
        self.assertIsNone(self.templates.fork(1, [one.fileno()], print, print))
        for descriptor in played.asked()[1]:
            os.close(descriptor)
        self.assertEqual(played.process.signals, [signal.SIGKILL])

    def test_stopped_meanwhile(self) -> None:
        """A template that is stopped while it is asked is not waited for any longer."""
        played = self.ready()
        one, _ = self.pair()
        seen = iter((False, True))
        self.patch(module, "is_stopped", lambda pid: next(seen))
        self.assertIsNone(self.templates.fork(1, [one.fileno()], print, print))
        for descriptor in played.asked()[1]:
            os.close(descriptor)
        self.assertIn("it is stopped", str(self.log.warn.call_args))

    def test_stopped(self) -> None:
        """A template that is stopped is not even asked."""
        played = self.ready()
        self.stopped.add(played.process.pid)
        self.assertIsNone(self.templates.fork(1, [], print, print))
        self.assertEqual(played.process.signals, [signal.SIGKILL])

    def test_stopped_before_it_was_ready(self) -> None:
        """A template that was stopped before it was ready ends when a worker is wanted."""
        self.templates.settled(1)
        process = self.system.processes[0]
        self.reactor.advance(1000.0)  # it is awaited no more
        self.stopped.add(process.pid)
        self.assertIsNone(self.templates.fork(1, [], print, print))
        self.assertEqual(process.signals, [signal.SIGKILL])

    def test_dead(self) -> None:
        """A template that has ended, though that was not told yet, is not asked."""
        played = self.ready()
        played.socket.close()
        one, _ = self.pair()
        self.assertIsNone(self.templates.fork(1, [one.fileno()], print, print))


class ReloadTests(TemplatesCase):
    """Generations."""

    def test_proven(self) -> None:
        """Once the reload has brought a ready worker and is over, the old template ends."""
        old, new = self.ready(1), self.ready(2)
        self.assertEqual(old.process.signals, [])
        self.templates.reloaded(proven=True)
        self.assertEqual((old.process.signals, new.process.signals), ([signal.SIGKILL], []))

    def test_in_vain(self) -> None:
        """If a reload has brought no ready worker, its template ends, and the old one serves."""
        old, new = self.ready(1), self.ready(2)
        self.templates.reloaded(proven=False)
        self.assertEqual((old.process.signals, new.process.signals), ([], [signal.SIGKILL]))
        new.die()
        self.assertEqual(self.fork(old, Forked(5), generation=2).pid, 5)
        for descriptor in old.asked()[1]:
            os.close(descriptor)
        self.ready(3)

    def test_not_of_the_old(self) -> None:
        """While a reload is under way, no new worker is forked from the old template."""
        self.ready(1)
        self.templates.settled(2)
        self.played().die()
        self.assertIsNone(self.templates.fork(2, [], print, print))

    def test_upgrade(self) -> None:
        """The next program takes the templates up; those that speak otherwise end."""
        self.ready(1)
        for protocol, works in ((None, True), (99, False)):
            kept = Descriptors()
            state = self.templates.snapshot(kept)
            state["protocol"] = protocol or state["protocol"]
            copies = {number: os.dup(number) for number in kept.kept}
            for fields in state["all"]:
                for name in ("output", "socket"):
                    fields[name] = copies[fields[name]]
            before, self.templates = self.templates, self.make()
            self.templates.restore(state)
            self.assertEqual([t.ready for t in self.templates.all], [works])
            self.assertEqual(self.templates.settled(1), works)
            before.close()


class PreloadTests(TemplatesCase):
    """--preload."""

    options = {"preload": True}

    def test_asked(self) -> None:
        """The template is told to import the application."""
        self.assertTrue(self.ready().prepare.preload)

    def test_unfit(self) -> None:
        """If the application cannot be preloaded, workers wait for a template without it."""
        self.templates.settled(1)
        played = self.played()
        played.say(Unprepared())
        self.reactor.settle()
        played.die()
        self.assertFalse(self.templates.settled(1))
        self.assertFalse(self.ready().prepare.preload)
        self.assertTrue(self.templates.settled(1))
        self.assertEqual(self.log.error.call_count, 0)
