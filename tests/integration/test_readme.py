"""What README and documentation tell to type is typed here, and what they claim is compared."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import urllib.request
from typing import ClassVar

from twisted.trial.unittest import SkipTest

from tests.integration.cluster import START, Server, ServerTestCase, free_port, until
from tests.test_readme import ROOT, shell_lines


class Demo(Server):
    """The demo, as the pages start it, on a free port."""

    probe = "/whoami"

    def __init__(self, *arguments: str) -> None:
        port = free_port()
        words = [word.replace("PORT", str(port)) for word in arguments]
        super().__init__(words, port, {"PYTHONPATH": str(ROOT)})


class ProofTests(ServerTestCase):
    """The proof that the pages give, typed against the demo."""

    status: ClassVar[int]

    def server(self) -> Server:
        type(self).status = free_port()
        words = ["-m", "txsticky", "-l", "127.0.0.1:PORT", "-w", "4"]
        return Demo(*words, "--status", str(self.status))

    def setUp(self) -> None:
        if not shutil.which("curl"):
            raise SkipTest("curl is not installed")
        super().setUp()
        until(self.complete, START, "all workers are ready")

    def complete(self) -> bool:
        """Whether all workers are ready: one is enough for the demo to answer."""
        try:
            page = f"http://127.0.0.1:{self.status}/status.json"
            with urllib.request.urlopen(page, timeout=60) as answer:
                state = json.load(answer)
        except OSError:
            return False
        return bool(state["ready"] == state["wanted"] == 4)

    def typed(self, command: str) -> list[str]:
        """What a curl command of a page prints, line by line."""
        assert self._shared is not None
        command = command.replace("localhost:8080", f"127.0.0.1:{self._shared.port}")
        command = command.replace("localhost:9090", f"127.0.0.1:{self.status}")
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.splitlines()

    def test_readme(self) -> None:
        """Three requests with one key, on three connections, reach one worker."""
        commands = [c for page, c in shell_lines() if page == "README.rst" and c.startswith("curl")]
        self.assertEqual(len(commands), 3)
        answers = [line for command in commands for line in self.typed(command)]
        self.assertEqual(len(answers), 3)
        self.assertRegex(answers[0], r"^worker [1-4] pid [0-9]+$")
        self.assertEqual(len(set(answers)), 1)

    def test_log(self) -> None:
        """One line of the log says what is served where, by how many."""
        assert self._shared is not None
        told = f" txsticky serves txsticky.demo:resource on 127.0.0.1:{self._shared.port} with 4"
        lines = [line for line in self._shared.log().splitlines() if told in line]
        self.assertEqual(len(lines), 1)

    def test_many_keys(self) -> None:
        """Sixteen keys do not all reach one worker, and each reaches the same one again."""
        keys = [f"key-{number}" for number in range(16)]
        answers = [
            [self.typed(f"curl -s 'http://localhost:8080/whoami?sid={key}'")[0] for key in keys]
            for _ in range(2)
        ]
        self.assertEqual(answers[0], answers[1])
        self.assertGreater(len(set(answers[0])), 1)

    def test_health(self) -> None:
        """The command that asks for the cluster's health gets an answer."""
        commands = [c for _, c in shell_lines() if c.startswith("curl") and ":9090/" in c]
        self.assertEqual(len(commands), 1)
        for command in commands:
            self.assertNotEqual(self.typed(f"{command} --fail"), [])

    def test_quickstart(self) -> None:
        """Two keys on one connection are each answered by the worker that has the key."""
        (command,) = [
            c
            for page, c in shell_lines()
            if page == "quickstart.rst" and c.startswith("curl") and "bob" in c
        ]
        apart = [self.typed(f"curl -s {url}")[0] for url in command.split()[1:]]
        self.assertEqual(self.typed(command), apart)
