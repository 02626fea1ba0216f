"""``--reload``: see when an application's source files change, while it is being developed."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

#: Seconds between two looks at the files.
INTERVAL = 0.5
#: Folders whose files are not the application's own.
FOREIGN = {"__pycache__", "node_modules", "site-packages"}

Stamp = tuple[int, int]


class SourceWatch:
    """
    Watches the Python files under a folder, and files that were named.

    Changes come from watchfiles where that is installed; otherwise the watch looks twice a second.
    Both happen in a thread.

    :param reactor: whose thread `changed` is called in.
    :param folder: the folder, whose hidden and foreign folders are left out.
    :param changed: called with the files that have changed, come or gone, in their order.
    """

    def __init__(self, reactor: Any, folder: str, changed: Callable[[list[str]], object]) -> None:
        self._reactor = reactor
        self._folder = folder
        self._changed = changed
        self._others: dict[str, Stamp | None] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to watch: what changes from now on is told."""
        begun = threading.Event()
        threading.Thread(target=self._run, args=(begun,), name="reload", daemon=True).start()
        begun.wait()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def add(self, files: Iterable[str]) -> None:
        """Watch these files, too."""
        for file in files:
            self._others.setdefault(file, _stamp(file))

    def _run(self, begun: threading.Event) -> None:
        try:
            from watchfiles import watch
        except ImportError:
            rounds = self._looked(begun)
        else:
            rounds = self._notified(watch, begun)
        for changed in rounds:
            changed |= self._other_changes()
            if changed and not self._stop.is_set():
                self._reactor.callFromThread(self._changed, sorted(changed))

    def _notified(self, watch: Any, begun: threading.Event) -> Iterator[set[str]]:
        """What watchfiles tells; at least an empty set each interval."""
        rounds = watch(
            self._folder,
            watch_filter=lambda change, path: self._is_own(path),
            debounce=200,
            step=50,
            stop_event=self._stop,
            rust_timeout=round(1000 * INTERVAL),
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        begun.set()
        for changes in rounds:
            yield {path for _, path in changes}

    def _is_own(self, path: str) -> bool:
        parts = Path(os.path.relpath(path, self._folder)).parts
        folders = parts[:-1]
        return path.endswith(".py") and not any(
            name in FOREIGN or name.startswith(".") for name in folders
        )

    def _looked(self, begun: threading.Event) -> Iterator[set[str]]:
        """What differs from the last look."""
        before = dict(_tree(self._folder))
        begun.set()
        while not self._stop.wait(INTERVAL):
            now = dict(_tree(self._folder))
            yield {file for file in before.keys() | now.keys() if before.get(file) != now.get(file)}
            before = now

    def _other_changes(self) -> set[str]:
        changed = set()
        for file, before in list(self._others.items()):
            now = _stamp(file)
            if now != before:
                self._others[file] = now
                changed.add(file)
        return changed


def _stamp(file: str) -> Stamp | None:
    """What changes with a file; None if it is not there."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _tree(folder: str) -> Iterator[tuple[str, Stamp | None]]:
    """The Python files under a folder, and their stamps."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return  # it has gone meanwhile, or is not ours to read
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in FOREIGN and not entry.name.startswith("."):
                yield from _tree(entry.path)
        elif entry.name.endswith(".py"):
            yield entry.path, _stamp(entry.path)


def loaded_sources() -> list[str]:
    """The files of the modules that this process has imported, but for installed ones."""
    paths = sysconfig.get_paths()
    installed = {paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return sorted(
        file
        for file in files
        if file and file.endswith(".py") and not file.startswith(tuple(installed))
    )
