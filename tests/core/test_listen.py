"""What ``--listen`` takes, as a Twisted endpoint string."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.listen import bound_to, endpoint_string, host_and_port
from txsticky.errors import ConfigError


class ListenTests(SynchronousTestCase):
    """Ports, addresses and endpoint strings."""

    def test_taken(self) -> None:
        """A port, an address with a port and an endpoint string are taken."""
        for listen, expected in (
            ("8080", "tcp:8080:backlog=9"),
            ("65535", "tcp:65535:backlog=9"),
            ("192.0.2.1:80", "tcp:80:interface=192.0.2.1:backlog=9"),
            ("localhost:80", "tcp:80:interface=127.0.0.1:backlog=9"),
            ("[::1]:80", r"tcp6:80:interface=\:\:1:backlog=9"),
            ("unix:80", "unix:80"),
            ("tcp:80:interface=192.0.2.1", "tcp:80:interface=192.0.2.1"),
        ):
            self.assertEqual(endpoint_string(listen, 9), expected)

    def refused(self, listen: str) -> str:
        """The sentence with which it is refused."""
        return str(self.assertRaises(ConfigError, endpoint_string, listen, 9))

    def test_refused(self) -> None:
        """No port is above 65535, and no address has a number above 255."""
        for listen in ("65536", "192.0.2.256:80"):
            self.assertNotIn("is a name", self.refused(listen))

    def test_name(self) -> None:
        """Of a name the sentence says that an address is needed."""
        self.assertIn("app.internal is a name", self.refused("app.internal:80"))

    def test_of_others(self) -> None:
        """What other programs take is turned into it."""
        self.assertEqual([bound_to(":80"), bound_to("a:80")], ["80", "a:80"])
        self.assertEqual(host_and_port("192.0.2.1", "80"), "192.0.2.1:80")
        self.assertEqual(host_and_port("::1", "80"), "[::1]:80")
