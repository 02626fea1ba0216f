"""``python -m tests --applications``: every application, and the table of what was done.

Those that are heavy get an environment of their own, in a folder outside of the tree
(``$TXSTICKY_APPLICATIONS``, else in the user's cache), which stays for the next run. What cannot be
installed, or has no browser, is skipped with the reason. The table, ``docs/tested.csv``, has a row
for each application that worked; rows of those that were not run stay as they are.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.applications.harness import RECORD, ApplicationTestCase, distribution

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "tested.csv"
HEADER = ["Application", "Version", "What was done", "``--sticky``"]
#: What the tests themselves need there.
TESTS = ["hypothesis"]
#: Seconds that an installation may take.
INSTALL = 1200


def cases() -> Iterator[type[ApplicationTestCase]]:
    """Every application that is tested."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.applications.{path.stem}")
        for value in vars(module).values():
            case = isinstance(value, type) and issubclass(value, ApplicationTestCase)
            if case and value.application and value.__module__ == module.__name__:
                yield value


def chosen(names: Iterable[str]) -> list[type[ApplicationTestCase]]:
    """The applications whose names begin like one of these, in any case; all if there is none."""
    wanted = [name.lower() for name in names]
    return [
        case
        for case in cases()
        if not wanted or any(case.application.lower().startswith(name) for name in wanted)
    ]


def cache() -> Path:
    """Where environments are kept."""
    chosen = os.environ.get("TXSTICKY_APPLICATIONS")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "txsticky-applications"


class CannotInstall(Exception):
    """An environment cannot be made; the argument says why."""


def environment(case: type[ApplicationTestCase]) -> str:
    """The interpreter that an application runs under, with its packages.

    :raises CannotInstall: they cannot be installed here.
    """
    if not case.heavy:
        return sys.executable
    packages = [f"{ROOT}[asgi]", *TESTS, *case.packages]
    told = hashlib.sha256(repr((sys.version, packages)).encode()).hexdigest()[:12]
    folder = cache() / f"{distribution(case.packages[0])}-{told}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"{case.application}: installs {' '.join(case.packages)} in {folder}", flush=True)
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "-q", "-e", *packages],
        ):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise CannotInstall(str(error)) from None
            if done.returncode:
                raise CannotInstall((done.stderr.strip().splitlines() or ["pip failed"])[-1])
        (folder / "complete").touch()
    return str(python)


def run(
    names: Iterable[str], trial: Callable[[list[str], str, str], tuple[bool, str]]
) -> tuple[int, int, int]:
    """Run applications, tell how each went, and write the table.

    :param names: the beginnings of their names; all if there is none.
    :param trial: runs a test in a folder under an interpreter: whether all went well, and what was
        said.
    :returns: how many worked, failed, were skipped.
    """
    rows: list[dict[str, str]] = []
    failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix="txsticky-") as folder:
        record = Path(folder) / "rows"
        os.environ[RECORD] = str(record)
        for case in chosen(names):
            test = f"{case.__module__}.{case.__name__}"
            record.write_text("")
            try:
                well, said = trial([test], folder, environment(case))
            except CannotInstall as why:
                well, said = True, f"it cannot be installed: {why}"
            found = [json.loads(line) for line in record.read_text().splitlines()]
            rows += found
            if not well:
                failed += 1
                print(said)
            elif not found:
                skipped += 1
            verdict = "works" if found and well else f"skipped\n{said}" if well else "fails"
            print(f"{case.application}: {verdict}", flush=True)
    write(rows, TABLE)
    return len(rows), failed, skipped


def write(rows: Iterable[dict[str, str]], table: Path) -> None:
    """Write these rows into the table; others stay, but for those of applications that are gone."""
    known: dict[str, list[str]] = {}
    if table.exists():
        with table.open(newline="") as file:
            known = {row[0]: row for row in list(csv.reader(file))[1:]}
    for row in rows:
        known[row["application"]] = [row[k] for k in ("application", "version", "done", "needs")]
    order = [case.application for case in cases() if case.application in known]
    with table.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(known[name] for name in sorted(order, key=str.lower))
