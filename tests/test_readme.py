"""What README and documentation tell to type is what the program takes."""

from __future__ import annotations

import ast
import inspect
import json
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import TestCase

from tests.test_house import HOUSES
from txsticky.admin import ctl
from txsticky.admin.verbs import VERBS
from txsticky.cli import balancer
from txsticky.cli.aliases import HINTS
from txsticky.cli.options import CommandOptions, Options
from txsticky.cluster import signals_of
from txsticky.core.how import How
from txsticky.core.http.head import Head, parse_head
from txsticky.core.lifecycle.states import WorkerStage
from txsticky.core.messages.from_primary import FROM_PRIMARY
from txsticky.core.messages.from_worker import FROM_WORKER
from txsticky.core.routing.keys import found, parse_chain
from txsticky.serve.asgi.engine import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.rst", *(ROOT / "docs").rglob("*.rst")])
EXTRAS = re.compile(r"txsticky\[([a-z,]+)\]")
PROGRAM = re.compile(r"(?:\S*/)?(?:twist txsticky|python3? -m txsticky|txsticky)(?= |$)")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Each literal block of a page: what it is and its text.

    What it is, is its caption, else its language, else "" (after a plain ``::``).
    """
    kind: str | None = None
    block: list[str] = []
    depth = 0  # of the first line of the block
    for line in [*text.splitlines(), "the end"]:
        indent = len(line) - len(line.lstrip())
        if kind is not None:
            if caption := re.match(r" +:caption: (.*)", line):
                kind = caption[1]
                continue
            depth = depth or indent
            if not line or (indent and indent >= depth):
                block.append(line)
                continue
            yield kind, textwrap.dedent("\n".join(block))
            kind, block, depth = None, [], 0
        if directive := re.match(r" *\.\. code-block:: *(\w*)", line):
            kind = directive[1]
        elif line.endswith("::") and not line.lstrip().startswith(".."):
            kind = ""


def shell_lines() -> Iterator[tuple[str, str]]:
    """Each line of a literal block that looks like a shell command: page and command."""
    for page in PAGES:
        for kind, block in blocks(page.read_text()):
            if not kind:
                for line in block.splitlines():
                    yield page.name, line.removeprefix("$ ").strip()


def arguments() -> Iterator[tuple[str, list[str]]]:
    """What each command that runs txsticky gives it: the whole command and the arguments."""
    for page, line in shell_lines():
        for command in line.split(" && "):
            if found := PROGRAM.match(command):
                yield f"{page}: {command}", shlex.split(command[found.end() :])


def the_command(needle: str) -> str:
    """The one command line of the README that contains `needle`."""
    (command,) = [line for page, line in shell_lines() if page == "README.rst" and needle in line]
    return command


class CommandTests(TestCase):
    """Commands are what the program takes."""

    def test_options_are_taken(self) -> None:
        """Every txsticky command in README and documentation is one that the program accepts."""
        commands = [
            (shown, words)
            for shown, words in arguments()
            if words[:1] not in (["ctl"], ["balancer"])
        ]
        self.assertGreater(len(commands), 5)
        for shown, words in commands:
            try:
                (Options if "twist txsticky" in shown else CommandOptions)().parseOptions(words)
            except SystemExit as end:  # --version
                self.assertFalse(end.code, shown)
            except Exception as error:
                self.fail(f"{shown}: {error}")

    def test_verbs_are_taken(self) -> None:
        """Every `txsticky ctl` command is one that its command line accepts."""
        commands = [words[1:] for _, words in arguments() if words[:1] == ["ctl"]]
        self.assertGreater(len(commands), 0)
        for words in commands:
            parser = ctl.parser()
            ctl.request_of(parser, parser.parse_args(words))

    def test_balancers(self) -> None:
        """Every `txsticky balancer` command is one that its command line accepts."""
        commands = [words[1:] for _, words in arguments() if words[:1] == ["balancer"]]
        told = [words[: words.index(">")] for words in commands if ">" in words]
        self.assertGreater(len(told), 1)
        for words in told:
            balancer.settings_of(balancer.parser().parse_args(words))

    def test_help(self) -> None:
        """The help begins with how the command is written."""
        self.assertEqual(
            str(Options()).splitlines()[0], "Usage: txsticky [options] [MODULE:ATTRIBUTE]"
        )

    def test_signals(self) -> None:
        """The table of signals names those that the command takes and no other."""
        page = (ROOT / "docs" / "operate" / "signals.rst").read_text()
        table = page[: page.index("\nThe processes have")]
        rows = re.findall(r"^([A-Z0-9, ]+?)  ", table, re.MULTILINE)
        source = inspect.getsource(signals_of)
        self.assertEqual(
            {f"SIG{name}" for row in rows for name in row.split(", ")},
            set(re.findall(r'"(SIG\w+)"', source)),
        )

    def test_verbs(self) -> None:
        """The table of `txsticky ctl` says of each verb what the program says of it."""
        page = (ROOT / "docs" / "operate" / "ctl.rst").read_text()
        rows = re.findall(r"^``([a-z]+)( N)?`` +(.*)$", page, re.MULTILINE)
        told = [(verb, bool(number), text) for verb, number, text in rows]
        self.assertEqual(told, [(verb.name, verb.worker, verb.help) for verb in VERBS])

    def test_keys(self) -> None:
        """Every sticky key that a page writes out is one that the program takes."""
        word = r"``'?((?:hash:)?(?:query|cookie|insert|header|path):[^`]+?)'?``"
        texts = [text for page in PAGES for text in re.findall(word, page.read_text())]
        self.assertGreater(len(texts), 10)
        for text in texts:
            parse_chain(text)

    def test_recipes(self) -> None:
        """The recipes for paths find the session where the client puts it."""
        page = (ROOT / "docs" / "cookbook.rst").read_text()
        for start, target, key in (
            ("path:^/[^/]+/", "/echo/000/abc1/xhr_send", b"abc1"),
            ("path:/lp/", "/wamp/lp/abc2/receive", b"abc2"),
            ("path:^/room/", "/room/abc3?a=b", b"abc3"),
        ):
            (text,) = set(re.findall(rf"``({re.escape(start)}[^`]*)``", page))
            head = parse_head(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 1024)
            assert isinstance(head, Head)
            self.assertEqual([k.value for k in found(parse_chain(text), head, "")], [key])

    def test_the_test_command(self) -> None:
        """The checks of CI run the README's test command as it is written."""
        script = (ROOT / ".ci" / "run").read_text()
        (extraction,) = re.findall(r"^command=\$\((sed .*) README\.rst\)$", script, re.MULTILINE)
        found = subprocess.run(
            ["bash", "-c", f"{extraction} README.rst"], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual(found.stdout.strip(), the_command("-m tests"))

    def test_set_up(self) -> None:
        """The README's commands install the tree itself and run scripts of the environment."""
        for command in (the_command("-m tests"), the_command(".venv/bin/twist")):
            self.assertTrue(
                command.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e "), command
            )


class PageTests(TestCase):
    """Pages name what exists."""

    def test_paths(self) -> None:
        """Every file and folder of the tree that a page names is there."""
        pattern = re.compile(r"``((?:docs|examples|benchmarks|tests|txsticky|\.ci)/[\w./-]*)``")
        missing = [
            f"{page.name}: {path}"
            for page in PAGES
            for path in pattern.findall(page.read_text())
            if not ((ROOT / path).exists() or (ROOT / "txsticky" / path).exists())
        ]
        self.assertEqual(missing, [])

    def test_extras(self) -> None:
        """Every extra that a page names can be installed."""
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")
        lists = [extras for page in PAGES for extras in EXTRAS.findall(page.read_text())]
        named = {extra for extras in lists for extra in extras.split(",")}
        self.assertEqual(named - set(setup["options.extras_require"]), set())
        self.assertIn("tls", named)

    def test_python(self) -> None:
        """Every Python example compiles."""
        for page in PAGES:
            for kind, block in blocks(page.read_text()):
                if kind == "python":
                    ast.parse(block, page.name)

    def test_containers(self) -> None:
        """What the containers' files start is what the program accepts."""
        found = [
            words
            for page in PAGES
            for kind, block in blocks(page.read_text())
            if kind in ("Dockerfile", "container.yaml")
            for words in re.findall(r"^(?:CMD|args:) (\[.*?\])", block, re.MULTILINE | re.DOTALL)
        ]
        self.assertEqual(len(found), 2)
        for words in found:
            CommandOptions().parseOptions([w for w in json.loads(words) if w != "txsticky"])

    def test_migrating(self) -> None:
        """The tables that translate other programs' options name options of this one."""
        page = (ROOT / "docs" / "migrating.rst").read_text()
        rows = re.findall(r"^``-.*?``  +(``-.*?``)(?:  .*)?$", page, re.MULTILINE)
        self.assertGreater(len(rows), 25)
        named = set(re.findall(r"--[a-z-]+", " ".join(rows)))
        self.assertEqual(named - {f"--{name.rstrip('=')}" for name in Options().longOpt}, set())

    def test_settings_of_uvicorn(self) -> None:
        """The environment variables that stand for uvicorn's options are read."""
        page = (ROOT / "docs" / "migrating.rst").read_text()
        named = set(re.findall(r"UVICORN_(\w+)", " ".join([page, *HINTS.values()])))
        self.assertGreater(len(named), 4)
        self.assertEqual(named - {name.upper() for name in (*SETTINGS, "loop")}, set())

    def test_drawings(self) -> None:
        """The pictures show every row of the tables that they are drawn from."""
        path = str(ROOT / "docs" / "_extensions" / "drawings.py")
        self.patch(sys, "path", [*sys.path, str(ROOT / "docs" / "_extensions")])
        pictures = runpy.run_path(path)["PICTURES"]
        rooms = {room for floor in HOUSES["txsticky"] for room in floor}
        frames = (*FROM_PRIMARY.values(), *FROM_WORKER.values())
        for name, words in (
            ("stages", {stage.value for stage in WorkerStage}),
            (
                "frames",
                {frame.__name__ for frame in frames},
            ),
            ("routes", {how.name for how in How}),
            ("floors", rooms),
            ("core", {room for floor in HOUSES["core"] for room in floor}),
        ):
            picture = pictures[name]()
            shown = {element.text for element in ElementTree.fromstring(picture.svg()).iter()}
            self.assertEqual(words - shown, set())
            self.assertEqual(words - set(re.findall(r"\w+", picture.text)), set())
