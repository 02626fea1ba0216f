"""The applications that the documentation writes out: they load, and the first one is served."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import START, Server, ServerTestCase, free_port
from tests.integration.processes import until
from tests.test_readme import PAGES, blocks, shell_lines

#: Pages that write out a whole application.
GUIDES = ("quickstart", "flask-socketio", "socketio", "mcp", "moving-websockets")


def written(page: str, kind: str = "app.py") -> str:
    """The block of a page that has this caption."""
    (path,) = [path for path in PAGES if path.stem == page]
    (text,) = [text for found, text in blocks(path.read_text()) if found == kind]
    return text.strip("\n")


class ApplicationTests(SynchronousTestCase):
    """Applications in guides."""

    def test_all_are_known(self) -> None:
        """Every page with a whole application is among those that are tried here."""
        found = {p.stem for p in PAGES for kind, _ in blocks(p.read_text()) if kind == "app.py"}
        self.assertEqual(found, set(GUIDES))

    def check(self, page: str) -> None:
        """Try the command of the page, as --check-config does."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        (folder / "app.py").write_text(written(page))
        (line,) = {
            line for name, line in shell_lines() if name == f"{page}.rst" and " app:app" in line
        }
        words = shlex.split(line)[1:]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "txsticky", "--check-config", *words],
            cwd=folder, capture_output=True, text=True, timeout=START, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("app:app is fine", done.stdout)

    def test_flask_socketio(self) -> None:
        """Flask-SocketIO with the client manager loads."""
        self.check("flask-socketio")

    def test_socketio(self) -> None:
        """python-socketio beside FastAPI loads."""
        self.check("socketio")

    def test_moving_websockets(self) -> None:
        """The application whose WebSockets move loads."""
        self.check("moving-websockets")

    def test_mcp(self) -> None:
        """The server of MCP loads."""
        self.check("mcp")


class First(Server):
    """The application of the first page, as the page starts it, on a free port."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        (folder / "app.py").write_text(written("quickstart"))
        words = ["-P", "-m", "txsticky", "-l", f"127.0.0.1:{port}", "-w", "4", "app:app"]
        super().__init__(words, port)
        self.folder = folder


class QuickstartTests(ServerTestCase):
    """The first application, served and visited as its page tells; and the log of that."""

    def server(self) -> Server:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        return First(folder)

    def test_visits(self) -> None:
        """The same client comes to the same worker, and is counted there."""
        jar = self.mktemp()
        session = written("quickstart", "console").splitlines()
        commands = [line.removeprefix("$ ") for line in session if line.startswith("$ ")]
        self.assertEqual(len(commands), 3)
        told = [self.typed(command.replace("jar", jar)) for command in commands]
        self.assertEqual(len({answer["worker"] for answer in told}), 1)
        first = told[0]["visits"]
        self.assertEqual([answer["visits"] for answer in told], [first, first + 1, first + 2])
        self.assertEqual(set(told[0]), set(json.loads(session[1])))

    def typed(self, command: str) -> dict[str, int]:
        """What a command of the page answers."""
        command = command.replace("localhost:8080", f"127.0.0.1:{self._shared.port}")
        done = subprocess.run(
            [*shlex.split(command), "-s"], capture_output=True, text=True, timeout=60, check=True
        )
        answer: dict[str, int] = json.loads(done.stdout)
        return answer

    def test_logs(self) -> None:
        """A start and a reload are logged by the lines that the page shows."""
        until(lambda: "txsticky serves" in self._shared.log(), START, "the cluster serves")
        self.shown("log: start", self._shared.log())
        before = len(self._shared.log())
        self._shared.signal(signal.SIGHUP)
        until(
            lambda: {"reload is complete", ") has left"} <= self.said(before), START, "it is over"
        )
        self.shown("log: reload", self._shared.log()[before:])

    def said(self, before: int) -> set[str]:
        """What the end of a reload is known by, as far as the log has it."""
        log = self._shared.log()[before:]
        return {words for words in ("reload is complete", ") has left") if words in log}

    def shown(self, caption: str, log: str) -> None:
        """Assert that the log has each line that the page shows."""
        for line in written("logs", caption).splitlines():
            form = re.sub(r"\d+", r"\\d+", re.escape(line))
            self.assertRegex(log, form)

    def test_failure(self) -> None:
        """A start that fails is logged as the page shows, and ends with 3."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        (folder / "broken.py").write_text("import nothing_there\n")
        address = f"127.0.0.1:{free_port()}"
        done = subprocess.run(
            [sys.executable, "-P", "-m", "txsticky", "-l", address, "-w", "2", "broken:app"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=START,
            check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 3)
        self.shown("log: failure", done.stdout.replace(f"{folder}/", ""))
