"""What contributors go by: news fragments, checks before a commit, sessions, CONTRIBUTING.rst."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.__main__ import choose, modules
from tests.test_readme import blocks

ROOT = Path(__file__).resolve().parent.parent
FRAGMENTS = ROOT / "newsfragments"


def text(name: str) -> str:
    """A file of the project."""
    return (ROOT / name).read_text()


def said_by(module: str, *arguments: str) -> str:
    """Run a tool of the environment on the project; what it prints."""
    if importlib.util.find_spec(module) is None:
        raise SkipTest(f"{module} is not installed: pip install -e '.[test]'")
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{module} {arguments}: {done.stdout}{done.stderr}")
    return done.stdout


class NewsTests(SynchronousTestCase):
    """The fragments that make CHANGES.rst."""

    def settings(self) -> dict[str, object]:
        """How towncrier is set."""
        found: dict[str, object] = tomllib.loads(text("pyproject.toml"))["tool"]["towncrier"]
        return found

    def wrong(self, names: list[str]) -> list[str]:
        """Find the names among these that no fragment may have."""
        types = "|".join(kind["directory"] for kind in self.settings()["type"])  # type: ignore[attr-defined]
        form = re.compile(rf"(?:\d+|\+[\w-]+)\.(?:{types})(?:\.\d+)?")
        ignored = self.settings()["ignore"]
        return [n for n in names if not form.fullmatch(n) and n not in ignored]  # type: ignore[operator]

    def test_types(self) -> None:
        """Every fragment has one of the types that are declared, and says something."""
        paths = list(FRAGMENTS.iterdir())
        self.assertEqual(self.wrong([path.name for path in paths]), [])
        self.assertEqual([path.name for path in paths if not path.read_text().strip()], [])

    def test_wrong_types(self) -> None:
        """A type that is not declared, or a name without one, is seen."""
        names = ["+a.feature", "12.bugfix", "+a.bug", "+a", "a.misc", "+a-b.doc.1", "+a.misc~"]
        self.assertEqual(self.wrong(names), ["+a.bug", "+a", "a.misc", "+a.misc~"])

    def test_types_are_told(self) -> None:
        """CONTRIBUTING.rst names the types that there are."""
        told = text("CONTRIBUTING.rst").partition("TYPE is one of ")[2].partition("\n\n")[0]
        declared = [kind["directory"] for kind in self.settings()["type"]]  # type: ignore[attr-defined]
        self.assertEqual(re.findall(r"``(\w+)``", told), declared)

    def test_draft(self) -> None:
        """towncrier makes a release of them, with the text of each."""
        draft = " ".join(said_by("towncrier", "build", "--draft", "--version", "9.8.7").split())
        self.assertIn("9.8.7 (", draft)
        for path in FRAGMENTS.glob("+*"):
            self.assertIn(" ".join(path.read_text().split()), draft)

    def test_place(self) -> None:
        """CHANGES.rst has the mark behind which towncrier puts it."""
        self.assertEqual(text("CHANGES.rst").count("\n.. towncrier release notes start\n"), 1)


class ChecksTests(SynchronousTestCase):
    """The checks, wherever they are started."""

    def test_before_a_commit(self) -> None:
        """What is checked before a commit is checked by .ci/run as well, by the same tools."""
        entries = re.findall(r"^ +entry: (.*)$", text(".pre-commit-config.yaml"), re.MULTILINE)
        self.assertEqual(len(entries), 3)
        checked = text(".ci/run")
        for entry in entries:
            command = entry.replace(" --force-exclude", "")
            self.assertRegex(checked, rf"(?m)^check {re.escape(command)}( \.)?$")

    def test_hooks(self) -> None:
        """pre-commit takes its configuration."""
        said_by("pre_commit", "validate-config", ".pre-commit-config.yaml")

    def test_sessions(self) -> None:
        """nox has sessions for the tests on each Python that is supported, and the other checks."""
        sessions = re.findall(r"^\* (\S+)", said_by("nox", "--list"), re.MULTILINE)
        versions = [f"tests-3.{minor}" for minor in (11, 12, 13, 14)]
        self.assertEqual(sessions, [*versions, "lint", "types", "docs", "package"])

    def test_workflow(self) -> None:
        """The public CI runs .ci/run, on the same versions of Python."""
        workflow = text(".github/workflows/ci.yml")
        self.assertIn("- run: bash .ci/run\n", workflow)
        versions = re.findall(r'"(3\.\d+)"', workflow)
        self.assertEqual(versions, re.findall(r'"(3\.\d+)"', text("noxfile.py")))

    def test_documentation(self) -> None:
        """Read the Docs builds docs/ with an extra that there is."""
        config = text(".readthedocs.yaml")
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")
        (extra,) = re.findall(r"extra_requirements: \[(\w+)\]", config)
        self.assertIn("sphinx", setup["options.extras_require"][extra])
        (path,) = re.findall(r"configuration: (\S+)", config)
        self.assertTrue((ROOT / path).is_file())


class ContributingTests(SynchronousTestCase):
    """CONTRIBUTING.rst."""

    def test_commands(self) -> None:
        """The tests and modules that its commands name are there."""
        commands = [
            line for _, block in blocks(text("CONTRIBUTING.rst")) for line in block.split("\n")
        ]
        named = [
            word
            for line in commands
            for word in line.partition("  #")[0].split()[1:]
            if re.match(r"tests[./].*test_|txsticky\.", word)
        ]
        self.assertEqual(len(named), 3)
        for word in named:
            if word.startswith("txsticky."):
                self.assertIsNotNone(importlib.util.find_spec(word))
            elif word.endswith(".py"):
                self.assertIn(choose([word])[0], modules())
            else:
                name, _, test = word.rpartition(".")
                self.assertIn(name, modules())
                self.assertIn(f"\nclass {test}(", text(name.replace(".", "/") + ".py"))

    def test_files(self) -> None:
        """The files and folders that it names are there."""
        names = re.findall(r"``([\w./]+/[\w./]*)``", text("CONTRIBUTING.rst"))
        self.assertGreater(len(names), 4)
        places = [[ROOT / name, ROOT / "txsticky" / name] for name in names]
        missing = [pair[0] for pair in places if not any(path.exists() for path in pair)]
        self.assertEqual(missing, [ROOT / "transport/gate"])  # a module, and looked for below

    def test_rooms(self) -> None:
        """The packages and modules that its picture of the house names are there, in ten lines."""
        house = text("CONTRIBUTING.rst").partition("\nThe house")[2].partition("\n\n\n")[0]
        self.assertEqual(house.count("\n* "), 10)
        rooms = re.findall(r"``([a-z]+/?(?:[a-z]+/?)?)``", house)
        self.assertGreater(len(rooms), 12)
        below = ROOT / "txsticky"
        self.assertEqual([n for n in rooms if n.endswith("/") and not (below / n).is_dir()], [])
        modules = [n for n in rooms if not n.endswith("/")]
        self.assertEqual([n for n in modules if not (below / f"{n}.py").exists()], [])
