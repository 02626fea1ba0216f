"""
Mutants run against tests: each in a process forked from this one, in a copy of the tree.

This process has loaded what tests need beside the package, which takes most of the time that a
test run takes to begin. A child loads the package with one module changed and stops at the first
test that fails, or that takes much longer than on the clean source.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from . import witnesses
from .mutations import Mutant
from .witnesses import Witness

ROOT = Path(__file__).resolve().parent.parent.parent

#: The file in a copy that holds what the last child there has printed.
SAID = "said.log"
#: Exit codes of a child.
PASSED, FAILED = 0, 1
#: Seconds that a test has: so many times those that it takes on the clean source, and these.
_TIMES, _MORE = 10, 5
#: Bytes of memory that a mutant may use: some never stop to collect.
_MEMORY = 4 << 30
_PAUSE = 0.01
#: What tests use beside the package. The reactor is not to be loaded: children would share it.
_PRELOADED = (
    "asyncio", "attrs", "h11", "hypothesis.strategies", "json", "uvicorn.protocols.http.h11_impl",
    "OpenSSL.SSL", "cryptography.x509", "zope.interface", "service_identity", "txaio",
    "twisted.internet.abstract", "twisted.internet.base", "twisted.internet.defer",
    "twisted.internet.epollreactor", "twisted.internet.task", "twisted.internet.testing",
    "twisted.internet.endpoints", "twisted.internet.ssl", "twisted.protocols.tls",
    "twisted.trial.reporter", "twisted.trial.runner", "twisted.trial.unittest",
    "twisted.web.resource", "twisted.web.server", "twisted.web.wsgi", "autobahn.twisted.websocket",
)  # fmt: skip


def preload() -> None:
    """Load what the tests need beside the package and its tests, but for the reactor."""
    reactor = "twisted.internet.reactor"
    if reactor in sys.modules:
        raise RuntimeError("A reactor is installed: children would share its descriptors.")
    sys.modules[reactor] = None  # type: ignore[assignment]  # importing it is an error meanwhile
    for name in _PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    del sys.modules[reactor]


@contextlib.contextmanager
def copies(number: int, root: Path) -> Iterator[list[Path]]:
    """Make so many copies of the tree, to be changed at will."""
    unwanted = shutil.ignore_patterns(
        ".git", ".venv", "__pycache__", "_trial_temp*", ".hypothesis", ".*_cache", "_build"
    )
    with tempfile.TemporaryDirectory(prefix="txsticky-mutants-") as folder:
        places = [Path(folder, str(at)) for at in range(number)]
        for place in places:
            shutil.copytree(root, place, ignore=unwanted, symlinks=True)
        yield places


def run_tests(
    tree: Path,
    tests: list[str],
    hook: Callable[[str, bool], None],
    order: dict[str, int],
) -> int:
    """
    Run tests of the package in `tree`, in this process; its exit code. For a child.

    :param hook: is told of each test when it begins and ends.
    :param order: the places of the tests by their ids; those of place 0, and those that are not in
        it, such as one that tells that a module cannot be loaded, come first, as in `tests`;
        those below 0 are not run.
    """
    from hypothesis import Phase, settings
    from twisted.trial.runner import TestLoader, TestSuite, TrialRunner

    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "txsticky")]:
        del sys.modules[name]
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
    os.chdir(tree)
    importlib.invalidate_caches()
    # The same examples each time, or the same mutant would now be caught and now not.
    settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=[Phase.generate]
    )
    settings.load_profile("mutants")
    reporter = witnesses.reporter(hook)
    runner = TrialRunner(reporter, exitFirst=True, workingDirectory=str(tree / "_trial_temp"))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # for the processes that tests start
    found = list(witnesses.cases(TestLoader().loadByNames(tests)))
    found = [case for case in found if order.get(case.id(), 0) >= 0]
    found.sort(key=lambda case: order.get(case.id(), 0))
    result = runner.run(TestSuite(found))
    return PASSED if result.wasSuccessful() and result.testsRun else FAILED


@attrs.define
class _Child:
    """A forked process, the place that it occupies and when its time is over."""

    process: int
    place: Path
    ends: float
    done: Callable[[int | None], None]

    def look(self) -> bool:
        """Whether it has ended, or has been ended because its time was over."""
        ended, status = os.waitpid(self.process, os.WNOHANG)
        if not ended and time.monotonic() < self.ends:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)  # what it has started as well
        if not ended:
            os.waitpid(self.process, 0)
        self.done(os.waitstatus_to_exitcode(status) if ended else None)
        return True


def fork(
    tree: Path, work: Callable[[], int], seconds: float, done: Callable[[int | None], None]
) -> _Child:
    """
    Do some work in a child.

    :param work: returns its exit code; what it prints goes to a file in `tree`.
    :param done: is told that exit code, or None if the child had to be ended after `seconds`.
    """
    sys.stdout.flush()
    process = os.fork()
    if not process:
        code = FAILED
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            said = os.open(tree / SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            code = work()
        except BaseException:  # a mutant may do anything; it is caught then
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    with contextlib.suppress(OSError):  # either may be the first
        os.setpgid(process, process)
    return _Child(process, tree, time.monotonic() + seconds, done)


def clean(tree: Path, tests: list[str], file: Path) -> list[Witness]:
    """
    Run tests on the clean source, and see what each does; leave the bytecode of what they import.

    :raises RuntimeError: they fail on it.
    """

    def work() -> int:
        watch = witnesses.Watch(tree / file)
        code = run_tests(tree, tests, watch.hook, {})
        watch.write(tree / witnesses.SEEN)
        return code

    codes: list[int | None] = []
    child = fork(tree, work, 600, codes.append)
    while not child.look():
        time.sleep(_PAUSE)
    if codes != [PASSED]:
        said = (tree / SAID).read_text(errors="replace")
        raise RuntimeError(f"{' '.join(tests)}: they fail on the clean source.\n{said}")
    return witnesses.read(tree / witnesses.SEEN)


def attempt(
    place: Path,
    mutant: Mutant,
    tests: list[str],
    seen: list[Witness],
    told: Callable[[Mutant, bool], None],
) -> _Child:
    """
    Run tests against a mutant that has been written to a copy of the tree.

    :param seen: what they did on the clean source.
    """
    limits = witnesses.Limits(seen, _TIMES, _MORE)
    order = witnesses.order(seen, mutant.number, mutant.at_call)
    seconds = sum(witness.seconds for witness in seen) * _TIMES + 2 * _MORE
    return fork(
        place,
        lambda: run_tests(place, tests, limits.hook, order),
        seconds,
        lambda code: told(mutant, code != PASSED),
    )


def _copy_bytecode(tree: Path, other: Path) -> None:
    """Give another copy of the tree the bytecode of the first."""
    for folder in tree.rglob("__pycache__"):
        shutil.copytree(folder, other / folder.relative_to(tree), dirs_exist_ok=True)


def hunt(
    mutants: list[Mutant],
    tests: list[str],
    file: Path,
    places: list[Path],
) -> list[Mutant]:
    """
    Run each mutant of a module against tests.

    :param file: the module's, below the root.
    :param places: copies of the tree; so many mutants are run side by side.
    :returns: those that were not caught. One that dies or hangs is caught.
    :raises RuntimeError: the tests fail on the clean source.
    """
    survivors = []

    def told(mutant: Mutant, caught: bool) -> None:
        if not caught:
            survivors.append(mutant)

    sys.dont_write_bytecode = False
    seen = clean(places[0], tests, file)
    sys.dont_write_bytecode = True
    original = (places[0] / file).read_bytes()
    for place in places:
        if place is not places[0]:
            _copy_bytecode(places[0], place)
        for path in (place / file).parent.glob(f"__pycache__/{file.stem}.*"):
            path.unlink()  # it might be taken for that of a mutant of the same second and size
    waiting, free, running = list(reversed(mutants)), list(places), []
    try:
        while waiting or running:
            while waiting and free:
                mutant, place = waiting.pop(), free.pop()
                (place / file).write_text(mutant.render())
                running.append(attempt(place, mutant, tests, seen, told))
            for child in [child for child in running if child.look()]:
                running.remove(child)
                free.append(child.place)
            time.sleep(_PAUSE)
    finally:
        for child in running:
            child.ends = 0
            child.look()
        for place in places:
            (place / file).write_bytes(original)
    return survivors
