"""What is logged: levels, Python's logging and Twisted's, under every interface and program."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import ROOT, START, Cluster
from tests.integration.processes import SLACK, until

APPS = "tests.integration.log_apps"
INTERFACES = ("asgi", "wsgi", "web", "protocol")
LEVELS = ("debug", "info", "warning", "error")


class TwistCluster(Cluster):
    """A cluster under ``twist``."""

    def __init__(self, app: str, *options: str) -> None:
        super().__init__(app, *options, workers=1, probe="/")
        self.arguments[:2] = ["-m", "twisted", "txsticky"]


def told(log: str, part: str) -> list[str]:
    """The levels of the lines that end so."""
    return [level for level in LEVELS if f"{level} {part}\n" in log]


class LevelTests(SynchronousTestCase):
    """--log-level."""

    def said(self, cluster: Cluster) -> str:
        """The log, once the application has said all."""
        with cluster:
            until(lambda: "printed" in cluster.log(), START, "the application has printed")
            return cluster.log()

    def test_interfaces(self) -> None:
        """Information is logged by default, however it is told, under every interface."""
        for interface in INTERFACES:
            log = self.said(Cluster(f"{APPS}:{interface}", workers=1, probe="/"))
            for name in ("shop", "uvicorn", "uvicorn.error"):
                part = f"of {name} by logging"
                self.assertEqual(told(log, part), ["info", "warning", "error"], interface)
            self.assertEqual(told(log, "by Twisted"), ["info", "warning", "error"], interface)
            self.assertIn("is ready.", log)

    def test_levels(self) -> None:
        """A level holds for the primary, for Twisted's log and for Python's; not for prints."""
        for number, level in enumerate((*LEVELS, "critical")):
            log = self.said(Cluster(f"{APPS}:asgi", "--log-level", level, workers=1, probe="/"))
            for part in ("of uvicorn.error by logging", "of shop by logging", "by Twisted"):
                self.assertEqual(told(log, part), list(LEVELS[number:]), (level, part))
            self.assertEqual("is ready." in log, number < 2)

    def test_twist(self) -> None:
        """Under twist the levels hold as well, and the log is text though it goes to a file."""
        log = self.said(TwistCluster(f"{APPS}:asgi"))
        self.assertEqual(told(log, "of shop by logging"), ["info", "warning", "error"])
        self.assertIn("[txsticky.cluster#info] txsticky ", log)
        log = self.said(TwistCluster(f"{APPS}:asgi", "--log-level", "error"))
        self.assertEqual(told(log, "by Twisted"), ["error"])

    def test_printable(self) -> None:
        """What a client chose does nothing to the terminal that shows the log."""
        plain = Cluster(f"{APPS}:wsgi", workers=1, probe="/")
        for cluster in (plain, TwistCluster(f"{APPS}:wsgi")):
            log = self.said(cluster)
            for start in ("key", "printed"):
                self.assertIn(f"{start} \\x1b[2J\\x0dforged\\x9b1m\n", log)
            self.assertEqual({"\x1b", "\x9b", "\r"} & set(log), set())


class ConfigTests(SynchronousTestCase):
    """--log-config."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def config(self, **handler: object) -> str:
        """A file that takes the logger `shop` elsewhere, from warnings on."""
        path = self.folder / "log.json"
        fields = {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"file": handler},
            "loggers": {"shop": {"level": "WARNING", "handlers": ["file"], "propagate": False}},
        }
        path.write_text(json.dumps(fields))
        return str(path)

    def test_worker(self) -> None:
        """The workers log as the file says, under every interface; the rest is as without it."""
        for interface in INTERFACES:
            out = self.folder / interface
            path = self.config(**{"class": "logging.FileHandler", "filename": str(out)})
            with Cluster(
                f"{APPS}:{interface}", "--log-config", path, workers=1, probe="/"
            ) as cluster:
                until(lambda out=out: "error of shop" in out.read_text(), START, "it is written")
                until(lambda: "printed" in cluster.log(), START, "all is said")
                log = cluster.log()
            self.assertEqual(told(out.read_text(), "of shop by logging"), ["warning", "error"])
            self.assertEqual(told(log, "of shop by logging"), [])
            self.assertEqual(told(log, "of uvicorn.error by logging"), ["info", "warning", "error"])

    def refused(self, *options: str) -> tuple[int, str]:
        """The exit code of a cluster that cannot start, and what it said."""
        cluster = Cluster(f"{APPS}:asgi", *options, workers=1, probe="")
        cluster.spawn()
        try:
            return cluster.wait(START), cluster.log()
        finally:
            cluster.stop()

    def test_wrong(self) -> None:
        """A file that cannot be read ends the program before anything is started, in one line."""
        path = self.folder / "log.json"
        path.write_text('{"version": 1,\n}')
        code, log = self.refused("--log-config", str(path))
        self.assertEqual(
            (code, log),
            (
                1,
                f"txsticky: --log-config cannot be {str(path)!r}: line 2, column 1: Expecting"
                " property name enclosed in double quotes.\n",
            ),
        )

    def test_cannot_be_done(self) -> None:
        """A file that cannot be applied ends the program with the name of what cannot."""
        path = self.config(**{"class": "logging.FileHandler", "filename": "/none/log"})
        code, log = self.refused("--log-config", path)
        self.assertEqual(code, 3)
        self.assertIn("Unable to configure handler 'file': FileNotFoundError", log)
        self.assertNotIn("Traceback", log)

    def test_check_config(self) -> None:
        """--check-config tells what is wrong with a file, and refuses a level that there is not."""
        path = self.config(**{"class": "logging.FileHandler", "filename": "/none/log"})
        broken = self.folder / "broken.json"
        broken.write_text('{"version": 1,\n}')
        fine = self.folder / "log.ini"
        fine.write_text(
            "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n"
            "[logger_root]\nhandlers=\n"
        )
        for options, code, part in (
            (["--log-config", path], 1, "Unable to configure handler 'file'"),
            (["--log-config", str(broken)], 1, "line 2, column 1"),
            (["--log-config", str(fine), "--log-level", "debug"], 0, "is fine"),
            (["--log-level", "loud"], 64, "one of critical error warning info debug"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "txsticky", "--check-config", *options, f"{APPS}:asgi"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=SLACK * START,
                check=False,
            )
            said = done.stdout + done.stderr
            self.assertEqual((done.returncode, part in said), (code, True), said)
            self.assertNotIn("Traceback", said)
