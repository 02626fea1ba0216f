"""The cluster in other people's programs, as docs/embedding.rst shows it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import ROOT, START, Server, free_port
from tests.integration.processes import until
from tests.test_readme import blocks
from txsticky.primary.supervision.templates import wants_template

TWISTD = ("-c", "from twisted.scripts.twistd import run; run()", "--nodaemon")
#: What begins each of the two examples that run.
TAC, PROGRAM = "application = Application(", "reactor.run()"
READY = "txsticky serves"
#: The templates of a cluster, in whichever way these tests are run.
FORKED = int(wants_template(os.environ))


class Embedded(Server):
    """A program of the page."""

    probe = ""


class EmbeddingCase(SynchronousTestCase):
    """Programs of the page, which serve the demo."""

    runner: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str]

    def shown(self, start: str) -> str:
        """The one example of the page that has this in it."""
        page = (ROOT / "docs" / "embedding.rst").read_text()
        (text,) = [t for kind, t in blocks(page) if kind == "python" and start in t]
        return text

    def program(
        self, app: str = "txsticky.demo:resource", *options: str, ended: bool = False
    ) -> Embedded:
        """
        One of the page's examples, with two workers on a free port.

        :param ended: with what the page shows for the end.
        """
        text, port = self.shown(self.example), free_port()
        if ended:
            made = 'cluster = Cluster(Config(app="chat:resource"'
            before, _, behind = self.shown("def ended(").partition(made)
            text = text.replace(made, before + made).replace('8080"]))', '8080"]' + behind.strip())
        self.assertIn('app="chat:resource", listen=["tcp:8080"]', text)
        text = text.replace("chat:resource", app).replace(
            "tcp:8080", f"tcp:{port}:interface=127.0.0.1"
        )
        path = Path(self.mktemp()).resolve()
        path.write_text(text)
        runner = [*self.runner, *options, "--python"] if self.runner else []
        environment = {"PYTHONPATH": str(ROOT)}
        program = Embedded([*runner, str(path)], port, environment)
        program._environment["WEB_CONCURRENCY"] = "2"
        return program

    def workers(self, program: Embedded) -> set[int]:
        """The process ids of the workers."""
        return {process.pid for process in program.living() if process.slot}

    def templates(self, program: Embedded) -> int:
        """How many processes workers can be forked from."""
        return sum(process.title == "txsticky: template" for process in program.living())


class LifeTests(EmbeddingCase):
    """The whole life of a program: it serves, reloads, is upgraded, and ends."""

    def lives(self, *options: str) -> None:
        """Assert that a program does all that the command does."""
        with self.program("txsticky.demo:resource", *options) as program:
            until(lambda: READY in program.log(), START, READY)
            self.assertEqual(program.get("/whoami").status, 200)
            before = self.workers(program)
            self.assertEqual(len(before), 2)
            self.assertEqual(self.templates(program), FORKED, "the workers are forked")
            program.signal(signal.SIGHUP)
            until(lambda: len(now := self.workers(program)) == 2 and not now & before, START)
            after = self.workers(program)
            program.signal(signal.SIGUSR2)
            taken = "The new program has taken over."
            until(lambda: taken in program.log(), START, taken)
            self.assertEqual(program.get("/whoami").status, 200)
            self.assertEqual(self.workers(program), after)
            self.assertEqual(self.templates(program), FORKED, "it has gone on as well")
            program.signal(signal.SIGTERM)
            self.assertEqual(program.wait(), 0)

    def test_tac(self) -> None:
        """A program under twistd does all that the command does."""
        self.runner, self.example = TWISTD, TAC  # type: ignore[misc]
        self.lives("--pidfile=")

    def test_program(self) -> None:
        """A program of its own does all that the command does."""
        self.example = PROGRAM  # type: ignore[misc]
        self.lives()

    def test_pid_file(self) -> None:
        """With a pid file twistd is not upgraded, says why, and goes on."""
        self.runner, self.example = TWISTD, TAC  # type: ignore[misc]
        pid_file = os.path.abspath(self.mktemp())
        with self.program("txsticky.demo:resource", f"--pidfile={pid_file}") as program:
            until(lambda: READY in program.log(), START, READY)
            program.signal(signal.SIGUSR2)
            goes_on = "This one goes on."
            until(lambda: goes_on in program.log(), START, goes_on)
            self.assertIn("Another twistd server is running", program.log())
            self.assertEqual(program.get("/whoami").status, 200)

    def test_ended(self) -> None:
        """A program can say itself what happens then."""
        self.example = PROGRAM  # type: ignore[misc]
        program = self.program("txsticky.nothing:here", ended=True)
        program.spawn()
        self.addCleanup(program.stop)
        self.assertEqual(program.wait(START), 0, program.log())
        self.assertIn("The cluster has ended with 3: The application", program.log())

    def test_does_not_load(self) -> None:
        """A program whose application does not load ends with exit code 3 and the reason."""
        pid_file = os.path.abspath(self.mktemp())
        for runner, example, options in (
            (TWISTD, TAC, [f"--pidfile={pid_file}"]),
            ((), PROGRAM, []),
        ):
            self.runner, self.example = runner, example  # type: ignore[misc]
            program = self.program("txsticky.nothing:here", *options)
            program.spawn()
            self.addCleanup(program.stop)
            self.assertEqual(program.wait(START), 3, program.log())
            last = program.log().splitlines()[-1]
            self.assertIn("txsticky: The application txsticky.nothing:here does not load", last)
        self.assertFalse(os.path.exists(pid_file))
