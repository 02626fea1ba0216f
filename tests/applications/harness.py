"""What the tests of applications share: the cluster that serves one, and the row of the table."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration import chromium
from tests.integration.cluster import Server, free_port
from tests.integration.processes import until

WORKERS = 3
#: Seconds that an application may take to be ready in all workers, or to be reloaded.
READY = 120.0
#: The variable that names the file to which each application that works adds its row.
RECORD = "TXSTICKY_RECORD"


class Served(Server):
    """Three workers that serve an application, with the default options."""

    probe = ""

    def __init__(self, app: str, *options: str, environment: dict[str, str] | None = None) -> None:
        port = free_port()
        listen = f"127.0.0.1:{port}"
        arguments = ["-m", "txsticky", "-l", listen, "-w", str(WORKERS), *options, app]
        super().__init__(arguments, port, environment)

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.spawn()
        until(lambda: self._said("is ready.", WORKERS), READY, "all workers are ready")

    def _said(self, words: str, times: int) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"exit code {self.process.returncode}:\n{self.log()}")
        return self.log().count(words) >= times

    def reload(self) -> None:
        """Replace all workers, as a deployment of the application does; returns when that is done.

        Clients that hold connections are told to go, by the application's own protocol.
        """
        before = self._ended()
        self.signal(signal.SIGHUP)
        until(lambda: self._ended() >= before + WORKERS, READY, "the old workers have ended")

    def _ended(self) -> int:
        """How many workers have ended: by themselves, or at the end of the graceful timeout."""
        return self.log().count("has left") + self.log().count("and was killed")


class ApplicationTestCase(SynchronousTestCase):
    """One application.

    :cvar application: as the table calls it.
    :cvar packages: the distributions that it needs, as pip takes them; the first has its version.
    :cvar served: what is served, below this package.
    :cvar options: what the operator has to say; with none, the defaults.
    :cvar browser: whether Chromium drives it.
    :cvar module: a command of Node's packages that the client needs.
    :cvar heavy: whether it has an environment of its own, made by the runner.
    :cvar done: what the test does, for the table.
    """

    application: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    served: ClassVar[str] = ""
    options: ClassVar[tuple[str, ...]] = ()
    environment: ClassVar[dict[str, str]] = {}
    browser: ClassVar[bool] = False
    heavy: ClassVar[bool] = False
    done: ClassVar[str] = ""

    def setUp(self) -> None:
        for package in self.packages:
            name = distribution(package)
            try:
                importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                raise SkipTest(f"{name} is not installed") from None
        if self.browser and (why := chromium.missing()):
            raise SkipTest(why)
        self.cluster = Served(
            f"tests.applications.served.{self.served}",
            *self.options,
            environment=self.environment,
        )
        self.addCleanup(self.cluster.stop)
        try:
            self.cluster.start()
        except AssertionError as error:
            error.add_note(self.cluster.log()[-6000:])
            raise

    def proved(self) -> None:
        """Add the application's row to the table: all that it says was done."""
        if record := os.environ.get(RECORD):
            row = {
                "application": self.application,
                "version": importlib.metadata.version(distribution(self.packages[0])),
                "done": self.done,
                "needs": " ".join(self.options) or "nothing",
            }
            with open(record, "a") as file:
                file.write(json.dumps(row) + "\n")


def distribution(package: str) -> str:
    """The name in what pip takes for a package, without extras and versions."""
    return re.split(r"[\[<>=~!;]", package)[0].strip()


def one(values: object) -> object:
    """The one value that all of some are; raises AssertionError if they differ."""
    found = set(values)  # type: ignore[call-overload]
    assert len(found) == 1, found
    return found.pop()


def node_modules(package: str) -> Path:
    """Where npm has installed a package; skips the test if nowhere."""
    for folder in filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep)):
        if (Path(folder) / package).is_dir():
            return Path(folder)
    raise SkipTest(f"{package} is not installed: npm install {package}, and name it in NODE_PATH")
