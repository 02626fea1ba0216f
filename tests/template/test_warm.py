"""What a template has ready, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from txsticky.config import Config
from txsticky.core.messages.forks import Prepare
from txsticky.template.warm import Unfit, warm
from txsticky.worker.process import begin_logging
config = Config(app="told:app", interface=sys.argv[1])
begin_logging("debug")
try:
    made = warm(config, Prepare(config={}, interface=sys.argv[1], preload=len(sys.argv) > 2))
    print("app", made.app)
except Unfit:
    print("unfit")
print("reactor", "twisted.internet.reactor" in sys.modules)
print("autobahn", "autobahn.twisted" in sys.modules, "uvicorn", "uvicorn" in sys.modules)
"""


class WarmTests(SynchronousTestCase):
    """Importing."""

    def warm(self, application: str = "app = 'it'", *arguments: str) -> list[str]:
        """Warm a process; returns what was said."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "told.py").write_text(application)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout.splitlines()

    def test_no_reactor(self) -> None:
        """Whatever the interface, no reactor is imported, and autobahn is bound to no framework."""
        for interface in ("auto", "web", "wsgi", "asgi", "protocol"):
            said = self.warm("app = 'it'", interface)
            self.assertEqual(said[:2], ["app None", "reactor False"])
            self.assertEqual(said[2], f"autobahn False uvicorn {interface in ('auto', 'asgi')}")

    def test_preload(self) -> None:
        """The application is imported if that is wished."""
        self.assertEqual(self.warm("app = 'it'", "web", "preload")[0], "app it")

    def test_reactor(self) -> None:
        """An application that imports a reactor is not preloaded; the sentence says what to do."""
        said = self.warm("from twisted.internet import reactor\napp = 1", "web", "preload")
        self.assertIn("the application imports Twisted's reactor while it is imported", said[0])
        self.assertIn("leave --preload out", said[0])
        self.assertEqual(said[1], "unfit")

    def test_event_loop(self) -> None:
        """An application that makes an event loop is not preloaded."""
        said = self.warm("import asyncio\napp = asyncio.new_event_loop()", "asgi", "preload")
        self.assertIn("the application makes an event loop while it is imported", said[1])
        self.assertEqual(said[2], "unfit")

    def test_threads(self) -> None:
        """Threads that the application leaves running are told by their names."""
        said = self.warm(
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(3,), name='pump', daemon=True).start()\n"
            "app = 2",
            "web",
            "preload",
        )
        self.assertIn("do not run in the workers", said[0])
        self.assertIn("(pump)", said[0])
        self.assertEqual(said[1], "app 2")

    def test_broken(self) -> None:
        """An application that does not load is left to a worker to tell."""
        said = self.warm("1 / 0", "web", "preload")
        self.assertIn("[debug]", said[0])
        self.assertEqual(said[1], "unfit")

    def test_forks(self) -> None:
        """A process that the application forks, and that goes on as the template would, ends."""
        said = self.warm("import os\nos.fork()\napp = 'it'", "web", "preload")
        self.assertEqual(said.count("app it"), 1)
