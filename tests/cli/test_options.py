"""Options: what is typed, the environment, a configuration file, and the settings made of them."""

from __future__ import annotations

import io
import os
from unittest import mock

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from txsticky import __version__
from txsticky.cli.options import CommandOptions, CommandSettings, Options, config_of
from txsticky.config import Config, default_workers
from txsticky.core.option import Flag, Number, Several, declared, default_shown, key
from txsticky.errors import ConfigError

from ..options_table import README, in_readme, table

#: What a file may hold.
VALUES = st.one_of(st.integers(), st.text(max_size=9), st.lists(st.text(max_size=9), max_size=3))


class OptionsTests(SynchronousTestCase):
    """What is typed, and the configuration that it makes."""

    def setUp(self) -> None:
        unsaid = {"WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"}
        self.patch(os, "environ", {k: v for k, v in os.environ.items() if k not in unsaid})

    def parse(self, *arguments: str, **environ: str) -> Config:
        """The configuration of a command line."""
        self.patch(os, "environ", {**os.environ, **environ})
        options = Options()
        options.parseOptions(list(arguments))
        return options.config

    def refused(self, *arguments: str, **environ: str) -> str:
        """Why a command line is refused."""
        return str(self.assertRaises(usage.UsageError, self.parse, *arguments, **environ))

    def test_nothing(self) -> None:
        """With nothing said each option is what `Config` has by default, in any environment."""
        for environ in ({}, {"WEB_CONCURRENCY": "7", "FORWARDED_ALLOW_IPS": "10.0.0.1"}):
            config = self.parse(**environ)
            for field, _ in declared(Config):
                self.assertEqual(
                    getattr(config, field.name), getattr(Config(), field.name), field.name
                )
            self.assertEqual(config.workers, default_workers(environ))
            self.assertEqual(config.forwarded_allow_ips, environ.get("FORWARDED_ALLOW_IPS", ""))

    def test_application(self) -> None:
        """The application may stand before the options, or behind them."""
        for arguments in (["chat:app", "-w", "3"], ["-w", "3", "chat:app"]):
            config = self.parse(*arguments)
            self.assertEqual((config.app, config.workers), ("chat:app", 3))

    def test_between(self) -> None:
        """The application may stand between the options."""
        config = self.parse("-w", "3", "chat:app", "--balance", "random", "--factory")
        self.assertEqual(
            (config.app, config.workers, config.balance, config.factory),
            ("chat:app", 3, "random", True),
        )

    def test_one_application(self) -> None:
        """There is one application."""
        for arguments in (["a:b", "c:d"], ["a:b", "-w", "3", "c:d"]):
            sentence = self.refused(*arguments)
            self.assertIn("'a:b'", sentence)
            self.assertIn("'c:d'", sentence)

    def test_every_option(self) -> None:
        """Each option becomes the field of its name, with that field's type."""
        said = {
            "workers": ("3", 3),
            "interface": ("web", "web"),
            "sticky": ("cookie:a", "cookie:a"),
            "balance": ("roundrobin", "roundrobin"),
            "accept": ("workers", "workers"),
            "machine": ("a1", "a1"),
            "secret_file": ("/etc/secret", "/etc/secret"),
            "forwarded_allow_ips": ("10.0.0.0/8", "10.0.0.0/8"),
            "root_path": ("/app", "/app"),
            "head_timeout": ("2.5", 2.5),
            "head_limit": ("2048", 2048),
            "head_backlog": ("100", 100),
            "graceful_timeout": ("5", 5.0),
            "lame_duck": ("5", 5.0),
            "worker_timeout": ("7.5", 7.5),
            "start_timeout": ("600", 600.0),
            "start_at_a_time": ("4", 4),
            "queue_timeout": ("2.5", 2.5),
            "max_requests": ("100", 100),
            "max_requests_jitter": ("10", 10),
            "keep_alive": ("0", 0.0),
            "stall_timeout": ("0", 0.0),
            "websockets": ("move", "move"),
            "threads": ("200", 200),
            "response_buffer": ("65536", 65536),
            "backlog": ("64", 64),
            "status": ("8081", "8081"),
            "control": ("/run/x", "/run/x"),
            "bus": ("redis://localhost", "redis://localhost"),
            "access_log": ("-", "-"),
            "log_level": ("debug", "debug"),
            "log_config": ("/etc/log", "/etc/log"),
            "user": ("www", "www"),
            "group": ("web", "web"),
        }
        for name, (text, value) in said.items():
            config = self.parse("--" + name.replace("_", "-"), text)
            got = getattr(config, name)
            self.assertEqual((got, type(got)), (value, type(value)), name)
        flags = {"factory", "proxy_protocol", "debug_headers", "preload", "reload"}
        for name in flags:
            self.assertIs(getattr(self.parse("--" + name.replace("_", "-")), name), True)
            self.assertIs(getattr(self.parse(), name), False)
        others = {"app", "listen", "tls_cert", "tls_key", "status_host"}
        self.assertEqual(set(said) | flags | others, {f.name for f in attrs.fields(Config)})

    def test_repeatable(self) -> None:
        """Endpoints and certificates may be several, in their order."""
        config = self.parse(
            *("-l", "8080", "--listen", "unix:/run/x"),
            *("--tls-cert", "a", "--tls-key", "b", "--tls-cert", "c", "--tls-key", "d"),
        )
        self.assertEqual(config.listen, ("8080", "unix:/run/x"))
        self.assertEqual((config.tls_cert, config.tls_key), (("a", "c"), ("b", "d")))

    def test_environment(self) -> None:
        """The platforms' variables count where nothing is typed."""
        said = {"WEB_CONCURRENCY": "5", "FORWARDED_ALLOW_IPS": "10.0.0.1"}
        config = self.parse(**said)
        self.assertEqual((config.workers, config.forwarded_allow_ips), (5, "10.0.0.1"))
        config = self.parse("-w", "2", "--forwarded-allow-ips", "*", **said)
        self.assertEqual((config.workers, config.forwarded_allow_ips), (2, "*"))

    def test_nonsense(self) -> None:
        """What cannot be is refused under the option's name, before anything starts."""
        for arguments in (
            ["--workers", "many"],
            ["--workers", "1.5"],
            ["--head-timeout", "soon"],
            ["--sticky", "cookies"],
            ["--balance", "best"],
            ["--listen", "example.org:80"],
        ):
            self.assertIn(arguments[0], self.refused(*arguments))
        self.assertIn("WEB_CONCURRENCY", self.refused(WEB_CONCURRENCY="x"))
        self.refused("--no-such-option")

    def test_empty(self) -> None:
        """An empty value on the command line is a value, which an option may refuse."""
        self.assertIn("--interface cannot be ''", self.refused("--interface", ""))

    def test_defaults_in_the_help(self) -> None:
        """The help tells the default of every option that takes a value."""
        text = " ".join(str(Options()).split())
        for field, told in declared(Config):
            if field.name != "app" and not isinstance(told.kind, Flag):
                self.assertIn(f"[{default_shown(field)}]", text, field.name)

    def test_help(self) -> None:
        """The help begins with the command, and names every option."""
        text = str(Options())
        self.assertTrue(text.startswith("Usage: txsticky [options] [MODULE:ATTRIBUTE]"), text)
        for field in attrs.fields(Config):
            if field.name != "app":
                self.assertIn("--" + field.name.replace("_", "-"), text)

    def test_version(self) -> None:
        """The version can be asked for."""
        with mock.patch("sys.stdout", io.StringIO()) as out:
            self.assertRaises(SystemExit, Options().parseOptions, ["--version"])
        self.assertEqual(out.getvalue(), f"txsticky {__version__}\n")

    def test_from_a_program(self) -> None:
        """The configuration can be made of any mapping, in any environment."""
        self.assertEqual(
            config_of({"workers": "2", "app": "a:b"}, {}), Config(workers=2, app="a:b")
        )


class SourcesTests(SynchronousTestCase):
    """The command line, the environment and a file, and which of them wins."""

    def setUp(self) -> None:
        self.path = self.mktemp()

    def settle(self, typed: dict[str, object], environ: dict[str, str], toml: str = "") -> Config:
        """The configuration of options, variables, and the text of a file."""
        with open(self.path, "w") as file:
            file.write(toml)
        return config_of({"config": self.path, **typed}, environ)

    def refused(self, environ: dict[str, str], toml: str = "") -> str:
        """Why an environment or a file is refused."""
        return str(self.assertRaises(ConfigError, self.settle, {}, environ, toml))

    def test_order(self) -> None:
        """The command line wins over the environment, and that over the file."""
        environ, toml = {"TXSTICKY_KEEP_ALIVE": "20"}, "keep-alive = 10"
        self.assertEqual(self.settle({}, {}, toml).keep_alive, 10)
        self.assertEqual(self.settle({}, environ, toml).keep_alive, 20)
        self.assertEqual(self.settle({"keep-alive": "30"}, environ, toml).keep_alive, 30)

    def test_platform(self) -> None:
        """The platforms' variables count where nothing else is said."""
        environ = {"WEB_CONCURRENCY": "5", "FORWARDED_ALLOW_IPS": "10.0.0.1"}
        config = self.settle({}, environ)
        self.assertEqual((config.workers, config.forwarded_allow_ips), (5, "10.0.0.1"))
        config = self.settle({}, environ, "workers = 2\nforwarded-allow-ips = '*'")
        self.assertEqual((config.workers, config.forwarded_allow_ips), (2, "*"))

    def test_every_option(self) -> None:
        """Each option can be said in the environment and in a file, with the same outcome."""
        for field, told in declared(Config):
            text, value = {
                "app": ("a:b", '"a:b"'),
                "listen": ("8080 unix:/run/x", '["8080", "unix:/run/x"]'),
                "interface": ("web", '"web"'),
                "balance": ("random", '"random"'),
                "websockets": ("move", '"move"'),
                "log_level": ("debug", '"debug"'),
                "status_host": ("a.example", '"a.example"'),
                "accept": ("workers", '"workers"'),
                "sticky": ("cookie:a", '"cookie:a"'),
                "forwarded_allow_ips": ("10.0.0.0/8", '"10.0.0.0/8"'),
                "bus": ("redis://localhost", '"redis://localhost"'),
                "machine": ("a1", '"a1"'),
            }.get(field.name, ("/x", '"/x"'))
            if isinstance(told.kind, Number):
                text = value = f"{told.kind.high:g}" if told.kind.whole else f"{told.kind.high}"
                if told.kind.whole:
                    text = value = str(int(told.kind.high))
            elif isinstance(told.kind, Flag):
                text, value = "yes", "true"
            elif field.name.startswith("tls"):
                continue  # one without the other is refused
            from_environ = self.settle({}, {"TXSTICKY_" + field.name.upper(): text})
            from_file = self.settle({}, {}, f"{key(field)} = {value}")
            self.assertEqual(from_environ, from_file, field.name)
            usual = getattr(Config(), field.name)
            self.assertNotEqual(getattr(from_file, field.name), usual, field.name)

    def test_lists(self) -> None:
        """A repeatable option is a list in a file, or one text; in the environment blanks part."""
        pair = {"TXSTICKY_TLS_CERT": "a b", "TXSTICKY_TLS_KEY": "c d"}
        self.assertEqual(self.settle({}, pair).tls_cert, ("a", "b"))
        self.assertEqual(self.settle({}, {}, 'listen = "8080"').listen, ("8080",))

    def test_flags(self) -> None:
        """A flag is yes or no, in the environment in the usual words."""
        for text, flag in (("1", True), ("on", True), ("TRUE", True), ("no", False), ("0", False)):
            self.assertIs(self.settle({}, {"TXSTICKY_RELOAD": text}).reload, flag)
        self.assertIs(self.settle({}, {}, "reload = false").reload, False)

    def test_empty_variable(self) -> None:
        """An empty variable says nothing."""
        self.assertEqual(self.settle({}, {"TXSTICKY_WORKERS": ""}, "workers = 3").workers, 3)

    def test_underscores(self) -> None:
        """In a file underscores do for dashes."""
        self.assertEqual(self.settle({}, {}, "keep_alive = 5").keep_alive, 5)

    def test_wrong_value(self) -> None:
        """A wrong value is told with its place."""
        self.assertEqual(
            self.refused({"TXSTICKY_KEEP_ALIVE": "long"}),
            "TXSTICKY_KEEP_ALIVE cannot be 'long': a number from 0 to 86400.",
        )
        self.assertEqual(
            self.refused({}, 'keep-alive = "10"'),
            f"keep-alive in {self.path} cannot be '10': a number from 0 to 86400.",
        )
        self.assertIn("RELOAD cannot be 'maybe'", self.refused({"TXSTICKY_RELOAD": "maybe"}))
        for toml in ("reload = 1", "workers = true", "listen = 8080", "sticky = ['ip']"):
            self.assertIn(f"in {self.path} cannot be", self.refused({}, toml))

    def test_wrong_name(self) -> None:
        """A wrong name is told with its place and the name that may be meant."""
        sentence = self.refused({}, "keep-alvie = 10")
        self.assertIn(f"keep-alvie in {self.path}", sentence)
        self.assertIn("; there is keep-alive.", sentence)
        self.assertIn("; there is TXSTICKY_WORKERS.", self.refused({"TXSTICKY_WROKERS": "2"}))

    def test_foreign_variables(self) -> None:
        """Variables of a container platform and of the program itself are none of the options."""
        foreign = {
            "TXSTICKY_SERVICE_HOST": "10.0.0.1",
            "TXSTICKY_PORT": "tcp://10.0.0.1:80",
            "TXSTICKY_PORT_80_TCP_ADDR": "10.0.0.1",
            "TXSTICKY_WORKER": "2",
        }
        self.assertEqual(self.settle({}, foreign), Config(workers=default_workers({})))

    def test_file(self) -> None:
        """A file that is missing, or no TOML, is told with its name and the place of the fault."""
        gone = config_of, {"config": "/none/x.toml"}, {}
        self.assertIn(
            "--config cannot be '/none/x.toml'", str(self.assertRaises(ConfigError, *gone))
        )
        self.assertIn("line 2", self.refused({}, "workers = 2\nworkers = \nreload = true"))
        with open(self.path, "wb") as file:
            file.write(b"\xff\xfe")
        environ = {"TXSTICKY_CONFIG": self.path}
        sentence = str(self.assertRaises(ConfigError, config_of, {}, environ))
        self.assertIn(f"TXSTICKY_CONFIG cannot be '{self.path}'", sentence)

    @given(st.dictionaries(st.text(max_size=9), VALUES, max_size=9))
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_anything(self, values: dict[str, object]) -> None:
        """Whatever a file holds, it makes a configuration or a sentence."""
        names = [key(field) for field, _ in declared(Config)]
        stored = dict(zip(names, values.values(), strict=False)) | values
        from txsticky.cli.options import Stored, check_names, said_of

        try:
            check_names({}, Stored("x.toml", stored))
            Config(**said_of(Config, {}, {}, Stored("x.toml", stored)))
        except ConfigError as error:
            self.assertIn("cannot be", str(error))


class CommandSettingsTests(SynchronousTestCase):
    """What the command itself takes."""

    def test_log_format(self) -> None:
        """The log's format can be said as every option can."""
        options = CommandOptions()
        options.parseOptions([])
        self.assertEqual(options.settings, CommandSettings())
        self.patch(os, "environ", {**os.environ, "TXSTICKY_LOG_FORMAT": "json"})
        options = CommandOptions()
        options.parseOptions([])
        self.assertEqual(options.settings.log_format, "json")


class TableTests(SynchronousTestCase):
    """The README's table."""

    def test_readme(self) -> None:
        """The table of options in the README is the one that the declarations make."""
        self.assertEqual(
            in_readme(README.read_text()), table(), "run python -m tests.options_table"
        )

    def test_all(self) -> None:
        """Every option stands in the table, repeatable ones and flags included."""
        for field, told in declared(Config):
            if field.name != "app":
                self.assertIn(f"--{key(field)}``", table())
            self.assertFalse(told.help.endswith("."), field.name)
            self.assertTrue(isinstance(told.kind, Several) or told.help[0].isupper(), field.name)
