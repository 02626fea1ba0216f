"""``txsticky balancer``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txsticky.cli import balancer
from txsticky.core.machines import haproxy, nginx
from txsticky.core.machines.settings import BalancerSettings, Machine

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MACHINES = ("a=10.0.0.2:8080", "b=10.0.0.3:8080")


def settings(*words: str) -> BalancerSettings:
    """The settings of a command line."""
    return balancer.settings_of(balancer.parser().parse_args(["haproxy", *MACHINES, *words]))


class BalancerTests(SynchronousTestCase):
    """The command."""

    def run_it(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        command = [sys.executable, "-m", "txsticky", "balancer", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_options(self) -> None:
        """Each option is a field of the settings; what is not given has its default."""
        machines = tuple(map(Machine.read, MACHINES))
        self.assertEqual(settings(), BalancerSettings(machines=machines))
        told = settings("--status-port", "9191", "--proxy-protocol", "--bind", "8080")
        self.assertEqual((told.status_port, told.proxy_protocol, told.bind), (9191, True, "8080"))

    def test_prints(self) -> None:
        """The configuration is printed, and nothing else is."""
        self.assertEqual(self.run_it("nginx", *MACHINES), (0, nginx.configure(settings()), ""))

    def test_refused(self) -> None:
        """What cannot be is one sentence."""
        for words in (
            ("haproxy", "a=10.0.0.2"),
            ("haproxy", *MACHINES, "--status-port", "many"),
            ("haproxy", *MACHINES, "--status-port", "0"),
        ):
            code, out, error = self.run_it(*words)
            self.assertEqual((code, out, error.count("\n")), (1, "", 1))
            self.assertTrue(error.startswith("txsticky: "), error)

    def test_examples(self) -> None:
        """The examples are what is printed for their machines."""
        for path, configure in (
            ("haproxy/machines.cfg", haproxy.configure),
            ("nginx/machines.conf", nginx.configure),
        ):
            self.assertEqual((EXAMPLES / path).read_text(), configure(settings()), path)
