"""What pages show is run: pieces of Python, in a worker that is none; commands are looked at."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.test_readme import PAGES, PROGRAM, ROOT, blocks, shell_lines
from txsticky.testing import FakeWorker

#: Pages of which other tests run the Python: tests.test_readme and tests.testing.
ELSEWHERE = {"embedding", "testing"}
#: Programs, beside our own, that a page may tell to type.
PROGRAMS = {
    ".", "(umask", ".venv/bin/pip", ".venv/bin/python", "curl", "dmesg", "haproxy", "kill", "nc",
    "pip", "python3", "sphinx-build", "systemctl",
}  # fmt: skip


class PythonTests(SynchronousTestCase):
    """Pieces of Python that are no whole application."""

    def setUp(self) -> None:
        scheduler = types.ModuleType("apscheduler.schedulers.background")
        scheduler.BackgroundScheduler = mock.Mock()  # type: ignore[attr-defined]
        modules = {scheduler.__name__: scheduler}
        patcher = mock.patch.dict(sys.modules, modules)
        patcher.start()
        self.addCleanup(patcher.stop)
        for patch in (mock.patch("django.db.connections"), mock.patch("builtins.print")):
            patch.start()
            self.addCleanup(patch.stop)

    def run_page(self, page: Path) -> int:
        """Run the pieces of a page, one after the other; how many there are."""
        names: dict[str, Any] = {"reload_history": mock.Mock()}
        pieces = [text for kind, text in blocks(page.read_text()) if kind == "python"]
        outside = [text for text in pieces if "write_only" in text]
        with FakeWorker():
            for text in pieces:
                if text not in outside:
                    exec(compile(text, str(page), "exec", dont_inherit=True), names)
        for text in outside:
            with mock.patch("txsticky.ipc.outside.publish") as publish:
                exec(compile(text, str(page), "exec", dont_inherit=True), {})
            publish.assert_called_once()
        return len(pieces)

    def test_pieces(self) -> None:
        """Each piece does what it says without an exception."""
        counts = {page.stem: self.run_page(page) for page in PAGES if page.stem not in ELSEWHERE}
        self.assertGreater(sum(counts.values()), 8)
        self.assertGreater(counts["bus"], 1)


class CommandTests(SynchronousTestCase):
    """What is to be typed in a shell."""

    def test_programs(self) -> None:
        """Each line of a block of commands begins with a program that a reader knows."""
        unknown = {
            f"{page}: {line}"
            for page, line in shell_lines()
            if page != "README.rst" and not is_output(line)
            for command in line.split(" && ")
            if not PROGRAM.match(command) and command.split()[0] not in PROGRAMS
        }
        self.assertEqual(unknown, set())

    def test_examples(self) -> None:
        """Every example has a page that shows it, or names it."""
        told = " ".join(page.read_text() for page in PAGES)
        folders = [path.name for path in (ROOT / "examples").iterdir() if path.is_dir()]
        self.assertEqual([name for name in folders if f"examples/{name}" not in told], [])


def is_output(line: str) -> bool:
    """Whether a line is what a program answers, or nothing."""
    return not line or line.startswith(("worker ", "{", "#"))
