"""Source files are watched, with watchfiles and without."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txsticky.system import source_watch as reload
from txsticky.system.source_watch import SourceWatch, loaded_sources

#: Seconds after which a change has been missed.
PATIENCE = 60.0


class FakeReactor:
    """Calls from the thread that watches are put into a queue."""

    def __init__(self) -> None:
        self.calls: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        """Take a call."""
        self.calls.put((function, *arguments))


class LookingTests(SynchronousTestCase):
    """The watch without watchfiles."""

    def setUp(self) -> None:
        modules = mock.patch.dict(sys.modules, self.modules())
        modules.start()
        self.addCleanup(modules.stop)
        self.patch(reload, "INTERVAL", 0.02)
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.write("app.py", "one")
        self.write("package/deep/part.py", "one")
        self.write("package/page.html", "one")
        self.reactor = FakeReactor()

    def modules(self) -> dict[str, Any]:
        """What is to be found in place of modules."""
        return {"watchfiles": None}

    def write(self, name: str, text: str) -> str:
        """Write a file of the folder, at one stroke; returns its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name("scratch").write_text(text)
        os.replace(path.with_name("scratch"), path)
        return str(path)

    def watch(self) -> SourceWatch:
        """Watch the folder until the end of the test."""
        watch = SourceWatch(self.reactor, str(self.folder), print)
        watch.start()
        self.addCleanup(self.stop, watch)
        return watch

    def stop(self, watch: SourceWatch) -> None:
        """Stop, and wait until it has."""
        watch.stop()
        for thread in threading.enumerate():
            if thread.name == "reload":
                thread.join(PATIENCE)
                self.assertFalse(thread.is_alive())

    def told(self) -> list[str]:
        """The next files that are told, relative to the folder."""
        _, files = self.reactor.calls.get(timeout=PATIENCE)
        return [os.path.relpath(file, self.folder) for file in files]

    def test_change(self) -> None:
        """A file that changes is told, in whatever depth."""
        self.watch()
        for name in ("app.py", "package/deep/part.py"):
            self.write(name, "two, and longer")
            self.assertEqual(self.told(), [name])

    def test_comes_and_goes(self) -> None:
        """Files that come and files that go are told."""
        self.watch()
        path = self.write("new.py", "one")
        self.assertEqual(self.told(), ["new.py"])
        os.unlink(path)
        self.assertEqual(self.told(), ["new.py"])

    def test_written_in_place(self) -> None:
        """An editor that writes into the old file is seen as well as one that replaces it."""
        self.watch()
        (self.folder / "app.py").write_text("two, and longer")
        self.assertEqual(self.told(), ["app.py"])

    def test_nothing_else(self) -> None:
        """Pages, caches, hidden and installed files are not watched."""
        foreign = [".git/hook.py", "__pycache__/a.py", "x/site-packages/a.py", "node_modules/a.py"]
        for name in foreign:
            self.write(name, "one")
        self.watch()
        for name in (*foreign, "package/page.html"):
            self.write(name, "two, and longer")
        self.write("app.py", "two, and longer")
        self.assertEqual(self.told(), ["app.py"])

    def test_others(self) -> None:
        """Files elsewhere are watched if they were named, from then on."""
        elsewhere = Path(self.mktemp()).resolve()
        elsewhere.mkdir()
        library = elsewhere / "library.py"
        library.write_text("one")
        watch = self.watch()
        watch.add([str(library)])
        library.write_text("two, and longer")
        watch.add([str(library)])
        self.assertEqual(self.told(), [os.path.relpath(library, self.folder)])
        library.unlink()
        self.assertEqual(self.told(), [os.path.relpath(library, self.folder)])

    def test_stopped(self) -> None:
        """After the watch was stopped nothing is told."""
        watch = self.watch()
        self.stop(watch)
        self.write("app.py", "two, and longer")
        self.assertTrue(self.reactor.calls.empty())


class NotifiedTests(LookingTests):
    """The watch with watchfiles."""

    def modules(self) -> dict[str, Any]:
        import watchfiles

        return {"watchfiles": watchfiles}


class TreeTests(SynchronousTestCase):
    """What is looked at."""

    def test_virtual_environment(self) -> None:
        """A virtual environment in the folder is left out."""
        folder = Path(self.mktemp())
        for name in ("app.py", "env/pyvenv.cfg", "env/tool.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("")
        found = [file for file, _ in reload._tree(str(folder))]
        self.assertEqual(found, [str(folder / "app.py")])

    def test_gone(self) -> None:
        """A folder that is gone has nothing in it."""
        self.assertEqual(list(reload._tree(self.mktemp())), [])

    def test_loaded(self) -> None:
        """Of the modules that are loaded, those count that are not installed."""
        found = loaded_sources()
        self.assertIn(__file__, found)
        self.assertEqual([file for file in found if "site-packages" in file], [])
        self.assertNotIn(os.__file__, found)
