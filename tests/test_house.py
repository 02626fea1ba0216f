"""The house keeps its order: imports flow one way, decisions do no I/O, parts stay small."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import runpy
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs
from twisted.internet import abstract, asyncioreactor, tcp, unix
from twisted.trial.unittest import TestCase
from twisted.web import http, http_headers, server

from txsticky.config import Config

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "txsticky"
#: The one table of the import order (docs/house.txt).
HOUSES: dict[str, list[list[str]]] = runpy.run_path(str(ROOT / "docs/_extensions/house.py"))[
    "houses"
]()

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

#: What only system/ imports: clocks and chance are arguments everywhere else.
CHANCE = {"random", "secrets", "time"}
#: Modules that may import them all the same, and why.
CHANCE_ELSEWHERE: dict[str, str] = {}

#: Modules of Twisted whose attributes with an underscore are private, and who uses which all the
#: same, beside transport.movable. Each is tested (tests/serve/http1/test_private_names.py).
TWISTED = (asyncioreactor, http, http_headers, server)
PRIVATE_NAMES = {
    "serve.asgi.serving": {"_asyncioEventloop"},
    "serve.http1.fields": {"_rawHeaders"},
    "serve.http1.quick": {"_IEncodingResource", "_cleanup", "_encoder", "_rawHeaders"},
}

#: The thermometer: how large a thing may be, and what is larger, with the reason.
MODULE_LINES, CLASS_LINES, FUNCTION_LINES = 400, 250, 45
ATTRIBUTES, PACKAGE_MODULES, TOP_ENTRIES, TEST_LINES = 15, 14, 25, 600
LARGE_MODULES: dict[str, str] = {}
LARGE_CLASSES: dict[str, str] = {
    "config.Config": "the table of options: each is declared in it once",
    "core.lifecycle.fleet.Fleet": "one machine: a method for each event, as its table lists them",
}
LARGE_FUNCTIONS: dict[str, str] = {
    "primary.primary.__init__": "the map of the primary: each part is made once, in one place",
}
MANY_ATTRIBUTES: dict[str, str] = {
    "admin.state.WorkerState": "a value: what the status page shows of a worker",
    "admin.state.ClusterState": "a value: what the status page shows of a cluster",
    "worker.worker.Worker": "the map of the worker: each part is made once, in one place",
    "primary.primary.Primary": "the map of the primary: each part is made once, in one place",
    "primary.upgrade.state.UpgradeState": "a value: all that one program leaves to the next",
    "core.messages.from_primary.Boot": "a message: all that a worker is told when it begins",
}
LARGE_TESTS: dict[str, str] = {}
#: How a docstring begins that cannot be read without the one before it.
NEEDS_ITS_NEIGHBOUR = re.compile(
    r"(It|They|He|She|Its|Their|Them|Those|These|That|Likewise|And|But|Or|Nor|Then|Else|Also)\b"
    r"|(This|Such) (is|are|was|were|may|can|has|does|holds)\b"
    r"|So (is|are|was|were|it|they|may|can|has|have|does|do|if|that)\b"
    r"|The same(?= (for|as|over|with|where|when|on|in|under|if|by)\b|[,.:;])"
)
#: Class names that stand in more than one module, and why.
HOMONYMS: dict[str, str] = {}


@functools.cache
def modules() -> tuple[tuple[str, Path, ast.Module], ...]:
    """Every module of the package: dotted name below txsticky, path, syntax tree."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found.append((name, path, ast.parse(path.read_text(), str(path))))
    return tuple(found)


def sources(*found: ModuleType) -> str:
    """The text of modules."""
    return "".join(inspect.getsource(module) for module in found)


def foreign(node: ast.Attribute) -> bool:
    """Whether an attribute may be another object's than the one that a method is of."""
    own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    return not own or bool(re.search("[A-Z]", node.attr))


def imports(name: str, tree: ast.Module, *, late: bool = True) -> Iterator[str]:
    """The absolute dotted names that a module imports, those for type hints included.

    Without `late` only those that it imports when it is itself imported, not in its functions.
    """
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not late:
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


def room_of(imported: str, house: str) -> str | None:
    """The room of a house that an import names; None if it names none.

    Every room may import the version.
    """
    prefix = "txsticky." if house == "txsticky" else f"txsticky.{house}."
    if not imported.startswith(prefix):
        return None
    room = imported.removeprefix(prefix).split(".")[0]
    folder = PACKAGE if house == "txsticky" else PACKAGE / house
    if room == "__version__":
        return None
    return room if (folder / f"{room}.py").exists() or (folder / room).is_dir() else "__init__"


def rooms(house: str) -> Iterator[tuple[str, str, ast.Module]]:
    """The modules of a house: room, dotted name, syntax tree."""
    for name, _, tree in modules():
        parts = name.split(".")
        if house == "txsticky":
            yield parts[0], name, tree
        elif parts[0] == house and len(parts) > 1 and parts[1] != "__init__":
            yield parts[1], name, tree


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class of the package, with the dotted name of its module."""
    for name, _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield name, node


def lines(node: ast.stmt) -> int:
    """How many lines a class or a function has."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def attributes(node: ast.ClassDef) -> set[str]:
    """The names that a class assigns on itself: in its body with a type, or to ``self``."""
    found = {
        part.target.id
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and "ClassVar" not in ast.unparse(part.annotation)
    }
    for part in ast.walk(node):
        if (
            isinstance(part, ast.Attribute)
            and isinstance(part.ctx, ast.Store)
            and isinstance(part.value, ast.Name)
            and part.value.id == "self"
        ):
            found.add(part.attr)
    return found


class OrderTests(TestCase):
    """Which module imports which."""

    def test_every_room_has_a_floor(self) -> None:
        """Every module stands on exactly one floor of the table, and the table names no other."""
        for house, floors in HOUSES.items():
            placed = [room for floor in floors for room in floor]
            self.assertEqual(len(placed), len(set(placed)))
            self.assertEqual({room for room, _, _ in rooms(house)}, set(placed), house)

    def test_imports_flow_one_way(self) -> None:
        """A module imports only from the floors below its own, hints and functions included."""
        upward = []
        for house, floors in HOUSES.items():
            level = {room: number for number, floor in enumerate(floors) for room in floor}
            upward += [
                f"{name} imports {imported}"
                for room, name, tree in rooms(house)
                for imported in imports(name, tree)
                if (other := room_of(imported, house)) not in (None, room)
                and level[other] >= level[room]
            ]
        self.assertEqual(upward, [])

    def test_no_cycles(self) -> None:
        """No module needs itself to be imported, by way of others, hints included."""
        graph = {
            f"txsticky.{name}".removesuffix(".__init__"): set(imports(name, tree))
            for name, _, tree in modules()
            if name != "__init__"  # which names everything, and imports it when it is used
        }

        def module(imported: str) -> str:
            while imported and imported not in graph:
                imported = imported.rpartition(".")[0]
            return imported

        leads = {name: set(map(module, reached)) - {name, ""} for name, reached in graph.items()}
        while leaves := {name for name, targets in leads.items() if not targets & leads.keys()}:
            leads = {name: targets for name, targets in leads.items() if name not in leaves}
        self.assertEqual(leads, {})

    def test_messages_know_little(self) -> None:
        """What processes tell each other needs of routing only why a worker was chosen."""
        foreign = {
            imported
            for name, _, tree in modules()
            if name.startswith("core.messages.")
            for imported in imports(name, tree)
            if imported.startswith("txsticky.core.")
            and not imported.startswith(
                ("txsticky.core.messages.", "txsticky.core.how.", "txsticky.core.replay.")
            )
        }
        self.assertEqual(foreign, set())

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

    def test_clock_and_chance(self) -> None:
        """Clocks and chance are imported in system/ and handed on from there."""
        found = {
            name
            for name, _, tree in modules()
            if not name.startswith("system.")
            for imported in imports(name, tree)
            if imported.split(".")[0] in CHANCE
        }
        self.assertEqual(found, set(CHANCE_ELSEWHERE))

    def test_the_primary_loads_no_application(self) -> None:
        """The command line's process imports nothing of serve/ and no worker, nor autobahn."""
        script = "import sys, txsticky.cli.command; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        loaded = set(done.stdout.split())
        self.assertIn("txsticky.primary.primary", loaded)
        self.assertEqual(
            {"txsticky.serve", "txsticky.worker", "txsticky.demo", "autobahn"} & loaded, set()
        )

    def test_private_names_of_twisted(self) -> None:
        """Private names of Twisted are used in the modules that are listed, and in no other."""
        theirs = set(re.findall(r"\b_[a-z]+[A-Z]\w*", sources(abstract, tcp, unix)))
        theirs |= set(re.findall(r"\bself\.(_[a-z]\w*)", sources(*TWISTED)))
        self.assertLessEqual(set().union(*PRIVATE_NAMES.values()) - {"_IEncodingResource"}, theirs)
        found = defaultdict(set)
        for name, _, tree in modules():
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twisted"):
                    found[name] |= {each.name for each in node.names if each.name[0] == "_"}
                elif isinstance(node, ast.Attribute) and node.attr in theirs and foreign(node):
                    found[name].add(node.attr)
        del found["transport.movable"], found["transport.flush"]
        self.assertEqual({name: used for name, used in found.items() if used}, PRIVATE_NAMES)


class ThermometerTests(TestCase):
    """How large things are. What is larger than it should be is listed above, with the reason."""

    def check(self, found: dict[str, int], limit: int, listed: dict[str, str]) -> None:
        """What exceeds a limit is listed, and nothing is listed that does not."""
        large = {name: size for name, size in found.items() if size > limit}
        self.assertEqual(set(large), set(listed), large)

    def test_modules(self) -> None:
        """A module has one theme."""
        sizes = {name: len(path.read_text().splitlines()) for name, path, _ in modules()}
        self.check(sizes, MODULE_LINES, LARGE_MODULES)

    def test_classes(self) -> None:
        """A class can be read in one go."""
        sizes = {f"{name}.{node.name}": lines(node) for name, node in classes()}
        self.check(sizes, CLASS_LINES, LARGE_CLASSES)

    def test_attributes(self) -> None:
        """A class does not hold everything."""
        counts = {f"{name}.{node.name}": len(attributes(node)) for name, node in classes()}
        settings = {"config.Config"}  # an attribute is an option there
        counts = {name: count for name, count in counts.items() if name not in settings}
        self.check(counts, ATTRIBUTES, MANY_ATTRIBUTES)

    def test_functions(self) -> None:
        """A function fits a screen."""
        sizes = {
            f"{name}.{node.name}": lines(node)
            for name, _, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        self.check(sizes, FUNCTION_LINES, LARGE_FUNCTIONS)

    def test_packages(self) -> None:
        """A package can be seen at a glance."""
        counts: dict[str, int] = defaultdict(int)
        for name, _, _ in modules():
            if name.rpartition(".")[2] != "__init__":
                counts[name.rpartition(".")[0]] += 1
        self.check(counts, PACKAGE_MODULES, {})
        # py.typed is no room: it tells type checkers that there are hints (PEP 561).
        top = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "py.typed"}
        self.assertLessEqual(len(top), TOP_ENTRIES)

    def test_tests(self) -> None:
        """Tests are as easy to find as what they test."""
        sizes = {
            ".".join(path.relative_to(ROOT / "tests").with_suffix("").parts): len(
                path.read_text().splitlines()
            )
            for path in (ROOT / "tests").rglob("*.py")
        }
        self.check(sizes, TEST_LINES, LARGE_TESTS)

    def test_homonyms(self) -> None:
        """A class name stands for one thing."""
        homes: dict[str, set[str]] = defaultdict(set)
        for name, node in classes():
            homes[node.name].add(name)
        self.assertEqual({name for name, found in homes.items() if len(found) > 1}, set(HOMONYMS))


class SettingsTests(TestCase):
    """Options and words."""

    def test_no_dead_options(self) -> None:
        """Every field of the configuration is read somewhere: no option is taken and ignored."""
        read = {
            node.attr
            for name, _, tree in modules()
            if name != "config" and not name.startswith("cli.")
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

    def test_no_person_for_a_thing(self) -> None:
        """A process or a connection is never called somebody, nor a worker anybody."""
        person = re.compile(
            r"\b(some|any|no|every)(body|one)\b|\bwhoever\b|\bno one\b", re.IGNORECASE
        )
        found = [
            f"{name}:{number} {line.strip()}"
            for name, path, _ in modules()
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if person.search(line)
        ]
        self.assertEqual(found, [])

    def test_docstrings_stand_alone(self) -> None:
        """No docstring begins with a word that stands for something in another one."""
        leaning = [
            f"{path.relative_to(ROOT)}:{node.body[0].lineno} {docstring.splitlines()[0]}"
            for folder in ("txsticky", "tests", "benchmarks", "examples")
            for path in sorted((ROOT / folder).rglob("*.py"))
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and (docstring := ast.get_docstring(node))
            and NEEDS_ITS_NEIGHBOUR.match(docstring)
        ]
        self.assertEqual(leaning, [])

    def test_docstrings(self) -> None:
        """Every module says in its first line what it is for."""
        silent = [name for name, _, tree in modules() if not ast.get_docstring(tree)]
        self.assertEqual(silent, [])
