"""What a balancer in front of several machines has to know."""

from __future__ import annotations

import shlex

from twisted.trial.unittest import SynchronousTestCase

from txsticky.cli.options import CommandOptions
from txsticky.core.machines.settings import BalancerSettings, Machine
from txsticky.errors import ConfigError

A, B = Machine("a", "10.0.0.1", 8080), Machine("b", "[fd00::2]", 80)


class MachineTests(SynchronousTestCase):
    """A machine."""

    def test_read(self) -> None:
        """A machine is a name, an address or a host's name, and a port."""
        self.assertEqual(Machine.read("a=10.0.0.1:8080"), A)
        self.assertEqual(Machine.read("b=[fd00::2]:80"), B)
        self.assertEqual(Machine.read("c-1=app.internal:9000").place, "app.internal:9000")

    def test_refused(self) -> None:
        """A text that is no machine is refused, and the sentence says how to write one."""
        for text in (
            "10.0.0.1:8080",
            "a=8080",
            "a=10.0.0.1",
            "a=10.0.0.1:0",
            "a=10.0.0.1:65536",
            "a.b=10.0.0.1:8080",
            "=10.0.0.1:8080",
            "a=10.0.0.1:8080;",
            "a=fd00::2:80",
            "a=x y:80",
            "a=10.0.0.1:8080\nglobal",
        ):
            error = str(self.assertRaises(ConfigError, Machine.read, text))
            self.assertIn("write NAME=ADDRESS:PORT, as a=10.0.0.1:8080", error)


class SettingsTests(SynchronousTestCase):
    """The settings."""

    def refused(self, **settings: object) -> str:
        """The sentence with which settings are refused."""
        fields = {"machines": (A, B), **settings}
        return str(self.assertRaises(ConfigError, BalancerSettings, **fields))

    def test_one_name(self) -> None:
        """Two machines of one name are refused."""
        self.assertIn("two machines have this name", self.refused(machines=(A, B, A)))

    def test_nothing_to_quote(self) -> None:
        """A value that could add a line to the configuration is refused."""
        for name in ("bind", "tls_cert", "tls_key", "machines_tls", "machines_ca", "cookie"):
            for value in ("a b", "a\nb", "a;b", 'a"b', "a#b", "a{b", "$a", ""):
                self.assertIn("--" + name.replace("_", "-"), self.refused(**{name: value}))

    def test_status_port(self) -> None:
        """The port of the status pages is one that there is."""
        for port in (0, 65536, 9090.5, "http"):
            self.assertIn("--status-port", self.refused(status_port=port))
        for port in (1, 65535):
            settings = BalancerSettings(machines=(A,), status_port=port)
            self.assertEqual(settings.status_port, port)

    def test_half(self) -> None:
        """The certificates of machines have a name and an authority, or neither."""
        self.assertIn("--machines-ca", self.refused(machines_tls="app.internal"))
        self.assertIn("--machines-ca", self.refused(machines_ca="/ca.pem"))

    def test_listen(self) -> None:
        """The balancer listens where it is told to, else on the port of HTTP or HTTPS."""
        for settings, listen in (
            ({}, "80"),
            ({"tls_cert": "c"}, "443"),
            ({"tls_cert": "c", "bind": "10.0.0.9:8443"}, "10.0.0.9:8443"),
        ):
            self.assertEqual(BalancerSettings(machines=(A,), **settings).listen, listen)

    def test_command(self) -> None:
        """How each machine is started is told by a command that the program accepts."""
        named = Machine.read("c=app.internal:9000")
        for settings, options in (
            ({}, ("--secret-file", "--lame-duck")),
            ({"proxy_protocol": True}, ("--proxy-protocol",)),
            ({"machines_tls": "app", "machines_ca": "/ca.pem"}, ("--tls-cert", "--tls-key")),
            ({"cookie": "mine"}, ("insert:mine",)),
        ):
            for machine in (A, B, named):
                told = BalancerSettings(machines=(A, B, named), status_port=9191, **settings)
                command = told.command(machine)
                for option in options:
                    self.assertIn(option, command)
                words = shlex.split(command.replace("THIS-HOST", "10.0.0.9"))[1:]
                made = CommandOptions()
                made.parseOptions(words)
                self.assertEqual(made.config.machine, machine.name)
                self.assertIn("9191", str(made.config.status))
                self.assertIn(str(machine.port), made.config.listen[0])
