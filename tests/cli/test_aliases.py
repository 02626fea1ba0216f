"""What other programs call options."""

from __future__ import annotations

import os
import re

from twisted.application.twist import _options as twist
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from txsticky.cli import aliases
from txsticky.cli.options import CommandOptions, Options
from txsticky.config import Config
from txsticky.core.option import declared, key, switch


class AliasCase(SynchronousTestCase):
    """Command lines with the names of gunicorn and uvicorn."""

    def setUp(self) -> None:
        self.patch(os, "environ", {"WEB_CONCURRENCY": "1"})

    def parse(self, *arguments: str) -> Config:
        """The configuration of a command line."""
        options = Options()
        options.parseOptions(list(arguments))
        return options.config

    def refused(self, *arguments: str) -> str:
        """Why a command line is refused."""
        return str(self.assertRaises(usage.UsageError, self.parse, *arguments))


class TakenTests(AliasCase):
    """Names that are taken."""

    def test_listen(self) -> None:
        """gunicorn's and uvicorn's ways to say where to listen, with uvicorn's defaults."""
        for words, listen in (
            (["--bind", ":8001"], ("8001",)),
            (["--bind", "0.0.0.0:80", "--bind=unix:/run/x"], ("0.0.0.0:80", "unix:/run/x")),
            (["--host", "10.0.0.1", "--port", "81"], ("10.0.0.1:81",)),
            (["--host", "::1"], ("[::1]:8000",)),
            (["--port=81"], ("127.0.0.1:81",)),
            (["--uds", "/run/x"], ("unix:/run/x",)),
        ):
            self.assertEqual(self.parse(*words).listen, listen)

    def test_others(self) -> None:
        """Each other alias is the option that it names, before and behind the application."""
        for words, same in (
            (["--timeout", "40"], ["--worker-timeout", "40"]),
            (["--timeout-keep-alive", "5"], ["--keep-alive", "5"]),
            (["--timeout-graceful-shutdown", "5"], ["--graceful-timeout", "5"]),
            (["--limit-max-requests", "9"], ["--max-requests", "9"]),
            (["--access-logfile", "-"], ["--access-log", "-"]),
            (["--reuse-port"], ["--accept", "workers"]),
            (["--certfile=a", "--keyfile=b"], ["--tls-cert=a", "--tls-key=b"]),
            (["--ssl-certfile=a", "--ssl-keyfile=b"], ["--tls-cert=a", "--tls-key=b"]),
        ):
            told = self.parse(*same, "a:b")
            self.assertNotEqual(told, self.parse("a:b"))
            self.assertEqual(self.parse(*words, "a:b"), told)
            self.assertEqual(self.parse("a:b", *words), told)

    def test_every_command(self) -> None:
        """`txsticky` takes them, and so does `twist txsticky`."""
        options = CommandOptions()
        options.parseOptions(["--bind", "8001"])
        self.assertEqual(options.config.listen, ("8001",))
        outer = twist.TwistOptions()
        outer.parseOptions(["txsticky", "--bind", "8002"])
        self.assertEqual(outer.subOptions.config.listen, ("8002",))

    def test_values_are_checked(self) -> None:
        """What is wrong with a value is told as for the option."""
        self.assertIn("--worker-timeout cannot be 'x'", self.refused("--timeout", "x"))

    def test_contradictions(self) -> None:
        """To give an option by two of its names is refused, whatever the values."""
        for words, names in (
            (["--bind", "80", "--listen", "80"], "--listen and --bind"),
            (["--host", "::1", "--uds", "/x"], "--host --port and --uds"),
            (["--timeout", "9", "--worker-timeout", "9"], "--worker-timeout and --timeout"),
            (["--reuse-port", "--accept", "primary"], "--accept and --reuse-port"),
            (["--certfile=a", "--ssl-certfile=a"], "--certfile and --ssl-certfile"),
        ):
            said = f"{names} say the same thing: give one of them."
            self.assertEqual(self.refused(*words), said)
            self.assertEqual(self.refused(words[0], *words[1:], "a:b"), said)

    def test_no_option_of_their_own(self) -> None:
        """No alias has the name of an option."""
        options = {key(field) for field, _ in declared(Config)}
        names = [name for _, alias in aliases.known() for name in alias.names]
        self.assertEqual((len(set(names)), set(names) & options), (len(names), set()))
        self.assertEqual((set(names) | options) & set(aliases.HINTS), set())

    def test_help(self) -> None:
        """The help has the aliases under one heading, and nowhere else."""
        text = str(Options())
        options, _, others = text.partition("Names of other programs, which mean the same:")
        for field, alias in aliases.known():
            told = rf"{alias.switches} +{alias.program}'s name for {switch(field)}\b"
            self.assertRegex(others, told)
            for name in alias.names:
                self.assertIsNone(re.search(rf"--{name}\b(?!-)", options), name)


class HintTests(AliasCase):
    """Names that are not taken."""

    def test_theirs(self) -> None:
        """An option without a like is told with what to do in its place."""
        for words in (["--worker-class", "x"], ["-k", "x"], ["a:b", "-k", "x"]):
            said = self.refused(*words)
            self.assertIn(f"There is no option {words[-2]}: what APP is, is detected", said)
        self.assertIn("UVICORN_LOOP", self.refused("--loop", "uvloop"))

    def test_misspelt(self) -> None:
        """A misspelt option is told with what may be meant; a short name with its long one."""
        said = "There is no option --wrokers: there is --workers."
        self.assertEqual(self.refused("--wrokers", "2"), said)
        self.assertIn("-b: write --bind.", self.refused("-b", ":80"))
        self.assertIn("--help tells", self.refused("--qqqqq"))

    def test_other_faults(self) -> None:
        """Other faults are told as they are."""
        self.assertIn("requires argument", self.refused("--bind"))

    def test_in_a_file(self) -> None:
        """In a file there is one name, which is told."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write('bind = "8080"\n')
        said = self.refused("--config", path)
        self.assertIn("there is no such option; there is listen.", said)
