"""The configuration of each balancer, as text; that balancers take it is an integration test's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.machines import haproxy, nginx
from txsticky.core.machines.settings import BalancerSettings, Machine
from txsticky.errors import ConfigError

MACHINES = tuple(map(Machine.read, ("a=10.0.0.2:8080", "b=10.0.0.3:8081", "c=10.0.0.4:8080")))


class ConfigurationCase(SynchronousTestCase):
    """The lines of a configuration."""

    configure: Any

    def lines(self, **settings: Any) -> list[str]:
        """The lines, without comments and blanks."""
        text = self.configure(BalancerSettings(machines=MACHINES, **settings))
        lines = [line.strip() for line in text.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]

    def whole(self, name: str) -> None:
        """Compare a whole configuration with one that was read over, line by line."""
        expected = Path(__file__).with_name("expected") / name
        settings = BalancerSettings(
            machines=MACHINES, machines_tls="app.internal", machines_ca="/ca.pem"
        )
        self.assertEqual(self.configure(settings).splitlines(), expected.read_text().splitlines())

    def refused(self, **settings: Any) -> str:
        """The sentence with which settings are refused."""
        return str(self.assertRaises(ConfigError, self.lines, **settings))


class HaproxyTests(ConfigurationCase):
    """HAProxy."""

    configure = staticmethod(haproxy.configure)

    def test_whole(self) -> None:
        """A configuration for HAProxy has all its lines, comments among them."""
        self.whole("haproxy.cfg")

    def test_choice(self) -> None:
        """A machine's name and a dot, in the session's id first and then in the cookie, choose."""
        rules = [line for line in self.lines(cookie="mine") if line.startswith("use-server")]
        for rule in rules:
            self.assertRegex(rule, r"^use-server (\w) if \{ \S+ -m beg \1\. \}$")
        order = [re.sub(r"use-server (\w) if \{ (\S+).*", r"\2 \1", rule) for rule in rules]
        sources = ("urlp(sid)", "req.hdr(Mcp-Session-Id)", "req.cook(mine)")
        self.assertEqual(order, [f"{source} {name}" for source in sources for name in "abc"])

    def test_servers(self) -> None:
        """Each machine is a server of its name, checked at its status port."""
        lines = self.lines(status_port=9191)
        servers = [line for line in lines if line.startswith("server ")]
        self.assertEqual(servers, [f"server {m.name} {m.place}" for m in MACHINES])
        (common,) = [line for line in lines if line.startswith("default-server ")]
        self.assertIn("check port 9191 ", common)

    def test_leaving(self) -> None:
        """What a machine says that is told to stop, and no other answer, keeps its sessions."""
        (line,) = [line for line in self.lines() if "rstring" in line]
        found = re.search(r'! rstring "(.+)" error-status L7OKC', line)
        assert found is not None
        said = "2 of 2 workers are ready; the phase is {}.\n"
        for phase, keeps in (
            ("lame duck", True),
            ("draining", True),
            ("running", False),
            ("quitting", False),
        ):
            self.assertEqual(bool(re.search(found[1], said.format(phase))), keeps, phase)

    def test_client(self) -> None:
        """The machines are told the client's address, by X-Forwarded-For or by PROXY."""
        lines = self.lines()
        self.assertIn("option forwardfor", lines)
        self.assertNotIn("send-proxy", " ".join(lines))
        lines = self.lines(proxy_protocol=True)
        self.assertNotIn("option forwardfor", lines)
        self.assertIn(" send-proxy-v2", " ".join(lines))

    def test_tls(self) -> None:
        """TLS ends at the balancer, and the machines are told so; clients cannot say it."""
        self.assertIn("http-request set-header X-Forwarded-Proto http", self.lines())
        lines = self.lines(tls_cert="/both.pem")
        self.assertIn("bind :443 ssl crt /both.pem alpn h2,http/1.1", lines)
        self.assertIn("http-request set-header X-Forwarded-Proto https", lines)

    def test_machines_tls(self) -> None:
        """The machines' certificates are verified, and checks are in the clear."""
        lines = " ".join(self.lines(machines_tls="app.internal", machines_ca="/ca.pem"))
        for word in ("verify required ca-file /ca.pem", "verifyhost app.internal", "no-check-ssl"):
            self.assertIn(word, lines)

    def test_refused(self) -> None:
        """What HAProxy has no word for is refused."""
        self.assertIn("FILE.key", self.refused(tls_cert="c", tls_key="k"))
        self.assertIn("X-Forwarded-Proto", self.refused(tls_cert="c", proxy_protocol=True))


class NginxTests(ConfigurationCase):
    """nginx."""

    configure = staticmethod(nginx.configure)

    def test_whole(self) -> None:
        """A configuration for nginx has all its lines, comments among them."""
        self.whole("nginx.conf")

    def test_choice(self) -> None:
        """A machine's name and a dot, in the session's id first and then in the cookie, choose."""
        text = " ".join(self.lines(cookie="mine"))
        maps = dict(re.findall(r"map (\S+) (\S+) \{ default \S+; \"~", text))
        self.assertEqual(
            maps,
            {
                "$cookie_mine": "$txsticky_by_cookie",
                "$http_mcp_session_id": "$txsticky_by_header",
                "$arg_sid": "$txsticky_machine",
            },
        )
        defaults = re.findall(r"map (\S+) \S+ \{ default (\S+); \"~", text)
        self.assertEqual(
            defaults,
            [
                ("$cookie_mine", "txsticky"),
                ("$http_mcp_session_id", "$txsticky_by_cookie"),
                ("$arg_sid", "$txsticky_by_header"),
            ],
        )
        self.assertEqual(text.count(r'"~^b\." txsticky_b;'), 3)
        self.assertIn("proxy_pass http://$txsticky_machine;", text)

    def test_upstreams(self) -> None:
        """A machine's clients go to the others if it is gone; other clients go to any."""
        text = " ".join(self.lines())
        for name, backups in (("txsticky_b", 2), ("txsticky", 0)):
            (inner,) = re.findall(rf"upstream {name} \{{(.*?)\}}", text)
            self.assertEqual((inner.count("server "), inner.count(" backup;")), (3, backups))
        self.assertRegex(text, r"upstream txsticky_b \{[^}]*server 10.0.0.3:8081 \S+ \S+;")

    def test_tls(self) -> None:
        """TLS ends at the balancer."""
        lines = self.lines(tls_cert="/c.pem", tls_key="/k.pem")
        for line in ("listen 443 ssl;", "ssl_certificate /c.pem;", "ssl_certificate_key /k.pem;"):
            self.assertIn(line, lines)

    def test_machines_tls(self) -> None:
        """The machines' certificates are verified."""
        lines = self.lines(machines_tls="app.internal", machines_ca="/ca.pem")
        for line in (
            "proxy_pass https://$txsticky_machine;",
            "proxy_ssl_verify on;",
            "proxy_ssl_trusted_certificate /ca.pem;",
            "proxy_ssl_name app.internal;",
        ):
            self.assertIn(line, lines)

    def test_refused(self) -> None:
        """What nginx has no word for is refused."""
        self.assertIn("take HAProxy", self.refused(proxy_protocol=True))
        self.assertIn("--tls-key", self.refused(tls_cert="c"))
        self.assertIn("--tls-key", self.refused(tls_key="k"))
