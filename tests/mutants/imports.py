"""Which unit tests are to notice a change in a module: those that import it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from tests.__main__ import CLUSTERS

#: Tests that read the sources or start whole programs: slow, and not what a module is tested by.
NOT_UNIT = {
    "test_benchmarks",
    "test_house",
    "test_mutants",
    "test_project",
    "test_readme",
    "test_runner",
}


def sources(root: Path) -> dict[str, Path]:
    """The modules of the package and of its tests, by their dotted names."""
    found = {}
    for folder in ("txsticky", "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if not set(CLUSTERS) & set(parts):
                found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported(name: str, path: Path) -> Iterator[str]:
    """The absolute dotted names that a module imports, wherever in it."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def tests_for(module: str, root: Path) -> list[str]:
    """
    The unit tests that import a module, those that are named after it first.

    Where tests of its own package (``tests/core`` for ``txsticky/core``) are among them, they are
    all: a fact is to be told where the module is, and tests of far parts take most of the time.
    The module's namesake in the tests is asked as well, whatever it imports itself, and so are
    those of modules of its package that import it, and those that share a module of the tests that
    imports it; if there are none at all, those that import what imports it, and so on. Last come
    those in the module's own folder of tests that reach it by whatever imports.
    """
    importers = _importers(root)
    package, _, last = module.rpartition(".")
    own = f"tests.{'.'.join(module.split('.')[1:2])}."
    namesake = f"tests{package.removeprefix('txsticky')}.test_{last}"
    kin = {namesake} & importers.keys()
    kin |= {
        test
        for name in importers[module]
        if name.rpartition(".")[0] == package
        for test in importers[name]
        if test.endswith(f".test_{name.rpartition('.')[2]}")
    }
    seen, frontier = {module}, {module}
    while frontier:
        frontier = {name for target in frontier for name in importers[target]} - seen
        frontier, kin = frontier | kin, set()
        shared = {name for name in frontier if name.startswith("tests.")}
        while shared:
            frontier |= shared
            shared = {n for name in shared for n in importers[name]} - seen - frontier
        seen |= frontier
        tests = [name for name in frontier if _is_unit_test(name)]
        if tests:
            tests = [name for name in tests if name.startswith(own)] or tests
            beside = [n for n in _reach(module, importers) - {*tests} if _is_unit_test(n)]
            here = namesake.rpartition(".")[0]
            beside = sorted(n for n in beside if n.rpartition(".")[0] == here)
            ends = f".test_{last}", f"_{last}"
            tests.sort(key=lambda name: (*[not name.endswith(e) for e in ends], name))
            return [*tests, *beside]
    return []


def _reach(module: str, importers: dict[str, set[str]]) -> set[str]:
    """The modules that import a module, or one that does, and so on."""
    found, new = set[str](), {module}
    while new:
        found |= new
        new = {name for target in new for name in importers[target]} - found
    return found


@functools.cache
def _importers(root: Path) -> dict[str, set[str]]:
    """The modules that import each module."""
    found = sources(root)
    importers: dict[str, set[str]] = {name: set() for name in found}
    for name, path in found.items():
        for target in imported(name, path):
            if target in importers:
                importers[target].add(name)
    return importers


def _is_unit_test(name: str) -> bool:
    last = name.rpartition(".")[2]
    return name.startswith("tests.") and last.startswith("test_") and last not in NOT_UNIT
