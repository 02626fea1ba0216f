"""The runner of applications: which there are, their environments, and the table."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.applications import runner
from tests.applications.harness import RECORD, ApplicationTestCase


class Light(ApplicationTestCase):
    """An application that needs what is here."""

    application = "Light"
    packages = ("twisted",)


class Heavy(ApplicationTestCase):
    """An application that has an environment of its own."""

    application = "Heavy: and more"
    packages = ("weighty[all]>=1", "other")
    heavy = True


def row(name: str) -> dict[str, str]:
    """What an application adds when it works."""
    return {"application": name, "version": "1", "done": "all, and more", "needs": "nothing"}


class CasesTests(SynchronousTestCase):
    """Which applications there are."""

    def test_complete(self) -> None:
        """Each has a name of its own, packages, something to serve, and says what it does."""
        cases = list(runner.cases())
        names = [case.application for case in cases]
        self.assertEqual(len(set(names)), len(names))
        for case in cases:
            self.assertTrue(case.packages and case.done, case)
            module = case.served.partition(":")[0]
            path = Path(runner.__file__).parent / "served" / f"{module}.py"
            self.assertTrue(path.exists(), path)

    def test_chosen(self) -> None:
        """Applications are chosen by the beginnings of their names."""
        self.patch(runner, "cases", lambda: iter([Light, Heavy]))
        self.assertEqual(runner.chosen([]), [Light, Heavy])
        self.assertEqual(runner.chosen(["hea"]), [Heavy])
        self.assertEqual(runner.chosen(["x"]), [])


class EnvironmentTests(SynchronousTestCase):
    """Where an application runs."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.patch(os, "environ", {**os.environ, "TXSTICKY_APPLICATIONS": str(self.folder)})

    def commands(self, **result: Any) -> list[list[str]]:
        """What is executed to make the environment of Heavy."""
        done: list[list[str]] = []

        def run(command: list[str], **options: Any) -> Any:
            done.append(command)
            if "venv" in command:
                Path(command[-1]).mkdir(parents=True, exist_ok=True)
            return mock.Mock(**{"returncode": 0, "stderr": "", **result})

        self.patch(subprocess, "run", run)
        self.python = runner.environment(Heavy)
        return done

    def test_light(self) -> None:
        """A light application runs where the tests do."""
        self.assertEqual(runner.environment(Light), sys.executable)

    def test_heavy(self) -> None:
        """A heavy application gets its packages and txsticky, once."""
        venv, pip = self.commands()
        self.assertEqual(venv[1:3], ["-m", "venv"])
        self.assertEqual(pip[-4:], [f"{runner.ROOT}[asgi]", *runner.TESTS, *Heavy.packages])
        self.assertTrue(self.python.startswith(str(self.folder)), self.python)
        self.assertEqual(self.commands(), [])

    def test_cannot(self) -> None:
        """If packages cannot be installed, pip's last line says why, and it is tried again."""
        for _ in range(2):
            said = "much\nNo matching distribution\n"
            error = self.assertRaises(
                runner.CannotInstall, self.commands, returncode=1, stderr=said
            )
            self.assertEqual(str(error), "No matching distribution")


class RunTests(SynchronousTestCase):
    """Running them, and the table."""

    def setUp(self) -> None:
        self.table = Path(self.mktemp())
        self.patch(runner, "TABLE", self.table)
        self.patch(runner, "cases", lambda: iter([Light, Heavy]))
        self.patch(runner, "environment", lambda case: "python")
        self.patch(os, "environ", dict(os.environ))
        printing = mock.patch.object(runner, "print", create=True)
        self.printed = printing.start()
        self.addCleanup(printing.stop)

    def rows(self) -> list[list[str]]:
        """The table."""
        with self.table.open(newline="") as file:
            return list(csv.reader(file))

    def test_works(self) -> None:
        """An application that works has a row; the order is that of the names."""

        def trial(tests: list[str], folder: str, python: str) -> tuple[bool, str]:
            name = "Light" if tests == ["tests.test_applications.Light"] else "Heavy: and more"
            Path(os.environ[RECORD]).write_text(json.dumps(row(name)) + "\n")
            return True, "said"

        self.assertEqual(runner.run([], trial), (2, 0, 0))
        self.assertEqual(
            self.rows(),
            [
                runner.HEADER,
                ["Heavy: and more", "1", "all, and more", "nothing"],
                ["Light", "1", "all, and more", "nothing"],
            ],
        )

    def test_skipped_and_failed(self) -> None:
        """An application that is skipped or fails has no row, and is told with its reason."""
        runner.write([row("Light"), row("Gone")], self.table)
        self.assertEqual(runner.run(["heavy"], lambda *_: (True, "no browser")), (0, 0, 1))
        self.assertIn("no browser", str(self.printed.call_args))
        self.assertEqual(runner.run(["heavy"], lambda *_: (False, "it broke")), (0, 1, 0))
        self.assertIn("it broke", str(self.printed.call_args_list))
        self.assertEqual([line[0] for line in self.rows()], ["Application", "Light"])

    def test_cannot_install(self) -> None:
        """An application that cannot be installed is skipped with the reason."""
        self.patch(runner, "environment", mock.Mock(side_effect=runner.CannotInstall("no wheel")))
        self.assertEqual(runner.run(["heavy"], mock.Mock()), (0, 0, 1))
        self.assertIn("no wheel", str(self.printed.call_args))


class TableTests(SynchronousTestCase):
    """The table of the documentation."""

    def test_names(self) -> None:
        """The table tells of applications that are tested, and of nothing else."""
        with runner.TABLE.open(newline="") as file:
            header, *rows = csv.reader(file)
        self.assertEqual(header, runner.HEADER)
        names = {case.application for case in runner.cases()}
        self.assertEqual({row[0] for row in rows} - names, set())
        self.assertTrue(rows)
