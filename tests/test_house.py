"""The house keeps its order: imports flow one way, decisions do no I/O, modules stay small."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.internet import abstract, tcp, unix
from twisted.trial.unittest import TestCase

from txsticky.config import Config

PACKAGE = Path(__file__).resolve().parent.parent / "txsticky"

#: The floors, lowest first.  A module imports from lower floors, and a package from within itself.
#: docs/design.rst draws them.
FLOORS = (
    {"printable", "startup", "trust", "activation"},
    {"errors"},
    {"core"},
    {"config", "process", "sharedlog", "tls", "unixport"},
    {"ports"},
    {
        "nowhere",
        "system",
        "logs",
        "logconfig",
        "refusal",
        "relay",
        "reload",
        "surplus",
        "turn",
        "ending",
    },
    {"descriptor", "gate", "mailbox", "channel", "deadlines"},
    {"peek", "gated", "connection", "api", "bus", "desk", "replica", "suspicion"},
    {"acceptor", "frontdesk", "room", "secure", "pipe", "provision", "upgrade", "stalls"},
    {"handle", "intake", "listeners", "entrance", "door", "serve", "socketio", "demo"},
    {"drain"},
    {"primary", "worker"},
    {"supervisor", "handover", "boot", "signals", "notify"},
    {"admin"},
    {"cluster"},
    {"check"},
    {"options"},
    {"plugin"},
    {"__init__", "__main__", "testing"},
)

#: What core/ is not to know: the reactor, the system, the clock, shared randomness.
IMPURE = {
    "asyncio",
    "datetime",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "twisted",
    "uuid",
}


@functools.cache
def modules() -> tuple[tuple[str, Path, ast.Module], ...]:
    """Every module of the package: dotted name below txsticky, path, syntax tree."""
    return tuple(
        (
            ".".join(path.relative_to(PACKAGE).with_suffix("").parts),
            path,
            ast.parse(path.read_text(), str(path)),
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    )


def hints_only(node: ast.AST) -> bool:
    """Whether a statement is ``if TYPE_CHECKING:``, whose body never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(name: str, tree: ast.Module, *, late: bool = True) -> Iterator[str]:
    """The absolute dotted names that a module imports when it runs.

    Without `late` only those that it imports when it is itself imported, not in its functions.
    """
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if hints_only(node) or (function and not late):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = ["txsticky", *name.split(".")]
                base = ".".join([*parts[: len(parts) - node.level], *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))


def ours(imported: str) -> str | None:
    """The room of the house that an import names: the first name below txsticky.

    The version is everybody's.
    """
    parts = imported.split(".")
    if parts[0] != "txsticky" or len(parts) < 2 or parts[1] == "__version__":
        return None
    is_module = (PACKAGE / f"{parts[1]}.py").exists() or (PACKAGE / parts[1]).is_dir()
    return parts[1] if is_module else "__init__"


class HouseTests(TestCase):
    """What a look at the sources shows."""

    def test_every_room_has_a_floor(self) -> None:
        """Every module stands on exactly one floor."""
        rooms = {name.split(".")[0] for name, _, _ in modules()}
        placed = [room for floor in FLOORS for room in floor]
        self.assertEqual(len(placed), len(set(placed)))
        self.assertEqual(rooms - set(placed), set())

    def test_imports_flow_one_way(self) -> None:
        """A module imports only from the floors below its own, functions included."""
        level = {room: number for number, floor in enumerate(FLOORS) for room in floor}
        upward = [
            f"{name} imports {imported}"
            for name, _, tree in modules()
            for imported in imports(name, tree)
            if (room := ours(imported)) not in (None, name.split(".")[0])
            and level[room] >= level[name.split(".")[0]]
        ]
        self.assertEqual(upward, [])

    def test_packages_have_no_cycles(self) -> None:
        """Inside a package as well, no module needs itself to be imported, by way of others."""
        graph = {
            f"txsticky.{name}".removesuffix(".__init__"): set(imports(name, tree, late=False))
            for name, _, tree in modules()
        }

        def module(imported: str) -> str:
            while imported and imported not in graph:
                imported = imported.rpartition(".")[0]
            return imported

        leads = {name: set(map(module, reached)) - {name} for name, reached in graph.items()}
        while leaves := {name for name, targets in leads.items() if not targets & leads.keys()}:
            leads = {name: targets for name, targets in leads.items() if name not in leaves}
        self.assertEqual(leads, {})

    def test_core_is_free_of_io(self) -> None:
        """core/ imports no reactor, socket, system, clock or shared randomness, opens no file."""
        impure = [
            f"{name} imports {imported}"
            for name, _, tree in modules()
            if name.startswith("core.")
            for imported in imports(name, tree)
            if imported.split(".")[0] in IMPURE
        ]
        opening = [
            f"{name} opens a file in line {node.lineno}"
            for name, _, tree in modules()
            if name.startswith("core.")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "open"
        ]
        self.assertEqual(impure + opening, [])

    def test_the_primary_loads_no_application(self) -> None:
        """The command line's process imports nothing of serve/ and no worker, nor autobahn."""
        script = "import sys, txsticky.cli.command; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=PACKAGE.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        loaded = set(done.stdout.split())
        self.assertIn("txsticky.primary.primary", loaded)
        self.assertEqual(
            {"txsticky.serve", "txsticky.worker.worker", "txsticky.demo", "autobahn"} & loaded,
            set(),
        )

    def test_private_names_of_twisted(self) -> None:
        """Only descriptor uses private names of Twisted's transports, known by their camelCase."""
        sources = "".join(inspect.getsource(module) for module in (abstract, tcp, unix))
        theirs = set(re.findall(r"\b_[a-z]+[A-Z]\w*", sources))
        self.assertIn("_tempDataBuffer", theirs)
        foreign = [
            f"{name} uses {node.attr} in line {node.lineno}"
            for name, _, tree in modules()
            if name != "descriptor"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in theirs
        ]
        self.assertEqual(foreign, [])

    def test_no_dead_options(self) -> None:
        """Every field of the configuration is read somewhere: no option is taken and ignored."""
        read = {
            node.attr
            for name, _, tree in modules()
            if name not in ("config", "options", "plugin")
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and ast.unparse(node.value).endswith(("config", "limits"))
        }
        properties = {
            node.attr
            for name, _, tree in modules()
            if name == "config"
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef) and function.name in read
            for node in ast.walk(function)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
        }
        fields = {field.name for field in attrs.fields(Config)}
        self.assertEqual(fields - read - properties, set())

    def test_docstrings(self) -> None:
        """Every module says in its first line what it is for."""
        silent = [name for name, _, tree in modules() if not ast.get_docstring(tree)]
        self.assertEqual(silent, [])

    def test_size(self) -> None:
        """No module is longer than 520 lines."""
        long = [name for name, path, _ in modules() if len(path.read_text().splitlines()) > 520]
        self.assertEqual(long, [])
